//! How endpoints are spoken to inside of the tunnel: in clear, or in TLS of their own, behind a head of the PROXY protocol or without. From
//! the transport socket of a Cluster.

use std::sync::Arc;

use super::{
    endpoint_tls,
    refusal::{Refusal, malformed, nothing_else},
};
use crate::endpoint_tls::EndpointTls;
use culvert_envoy::{
    pb::{
        envoy::{
            config::core::v3::{TransportSocket, proxy_protocol_config::Version, transport_socket::ConfigType},
            extensions::transport_sockets::{
                internal_upstream::v3::InternalUpstreamTransport, proxy_protocol::v3::ProxyProtocolUpstreamTransport,
                raw_buffer::v3::RawBuffer,
            },
        },
        google::protobuf::Any,
    },
    unpack,
};

const PLACE: &str = "transport_socket";
const PROXY_PROTOCOL: &str = "transport_socket.proxy_protocol";

/// A version of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// Text.
    V1,
    /// Binary.
    V2,
}

/// What is spoken before what a connection is for.
#[derive(Debug, Default)]
pub(super) struct Spoken {
    pub(super) proxy_protocol: Option<ProxyProtocol>,
    /// Behind that.
    pub(super) tls: Option<Arc<EndpointTls>>,
}

/// Reads a transport socket.
///
/// # Errors
/// Where it asks for what is not served.
pub(super) fn read(socket: Option<TransportSocket>) -> Result<Spoken, Refusal> {
    let mut config = socket.and_then(typed);
    if let Some(outer) = config.as_ref().filter(|config| is::<InternalUpstreamTransport>(config)) {
        let transport: InternalUpstreamTransport = unpack(outer).map_err(malformed(PLACE))?;
        config = transport.transport_socket.and_then(typed);
    }
    let mut proxy_protocol = None;
    if let Some(outer) = config
        .as_ref()
        .filter(|config| is::<ProxyProtocolUpstreamTransport>(config))
    {
        let mut transport: ProxyProtocolUpstreamTransport = unpack(outer).map_err(malformed(PLACE))?;
        config = transport.transport_socket.take().and_then(typed);
        let mut of_head = transport.config.take().unwrap_or_default();
        proxy_protocol = Some(match of_head.version() {
            Version::V1 => ProxyProtocol::V1,
            Version::V2 => ProxyProtocol::V2,
        });
        of_head.version = 0;
        nothing_else("transport_socket.proxy_protocol.config", &of_head)?;
        nothing_else(PROXY_PROTOCOL, &transport)?;
    }
    let inner = config.filter(|inner| !is::<RawBuffer>(inner));
    Ok(Spoken {
        proxy_protocol,
        tls: inner.map(|inner| endpoint_tls::read(&inner)).transpose()?,
    })
}

fn is<M: prost::Name>(config: &Any) -> bool {
    config.type_url == M::type_url()
}

fn typed(socket: TransportSocket) -> Option<Any> {
    socket.config_type.map(|ConfigType::TypedConfig(config)| config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use culvert_envoy::{
        cluster::SYSTEM_ROOTS,
        pack,
        pb::envoy::{
            config::core::v3::{DataSource, ProxyProtocolConfig, ProxyProtocolPassThroughTlVs, data_source::Specifier},
            extensions::transport_sockets::tls::v3::{
                CertificateValidationContext, CommonTlsContext, TlsParameters, UpstreamTlsContext,
                common_tls_context::ValidationContextType, tls_parameters::TlsProtocol,
            },
        },
    };

    fn socket(config: &impl prost::Name) -> TransportSocket {
        TransportSocket {
            name: "any".to_owned(),
            config_type: Some(ConfigType::TypedConfig(pack(config))),
        }
    }

    fn tls() -> TransportSocket {
        let validation = CertificateValidationContext {
            trusted_ca: Some(DataSource {
                specifier: Some(Specifier::Filename(SYSTEM_ROOTS.to_owned())),
                ..DataSource::default()
            }),
            ..CertificateValidationContext::default()
        };
        socket(&UpstreamTlsContext {
            common_tls_context: Some(CommonTlsContext {
                tls_params: Some(TlsParameters {
                    tls_maximum_protocol_version: TlsProtocol::TlSv13.into(),
                    ..TlsParameters::default()
                }),
                validation_context_type: Some(ValidationContextType::ValidationContext(validation)),
                ..CommonTlsContext::default()
            }),
            sni: "a.example".to_owned(),
            ..UpstreamTlsContext::default()
        })
    }

    fn inside(inner: TransportSocket) -> TransportSocket {
        socket(&InternalUpstreamTransport {
            transport_socket: Some(inner),
            ..InternalUpstreamTransport::default()
        })
    }

    fn headed(version: Version, inner: TransportSocket) -> ProxyProtocolUpstreamTransport {
        ProxyProtocolUpstreamTransport {
            config: Some(ProxyProtocolConfig {
                version: version.into(),
                ..ProxyProtocolConfig::default()
            }),
            transport_socket: Some(inner),
            ..ProxyProtocolUpstreamTransport::default()
        }
    }

    #[test]
    fn tls_and_the_proxy_protocol_are_read_inside_of_the_tunnels_transport_and_by_themselves() {
        let clear = || socket(&RawBuffer {});
        let v1 = || socket(&headed(Version::V1, clear()));
        let v2 = || socket(&headed(Version::V2, tls()));
        let all: Vec<_> = [clear(), tls(), v1(), v2()].into_iter().collect();
        let expected = [
            (None, false),
            (None, true),
            (Some(ProxyProtocol::V1), false),
            (Some(ProxyProtocol::V2), true),
        ];
        for (one, expected) in all.into_iter().zip(expected) {
            for one in [one.clone(), inside(one)] {
                let found = read(Some(one)).unwrap();
                assert_eq!((found.proxy_protocol, found.tls.is_some()), expected);
            }
        }
        let nothing = read(None).unwrap();
        assert!(nothing.tls.is_none() && nothing.proxy_protocol.is_none());
    }

    #[test]
    fn what_is_not_served_of_the_proxy_protocol_is_refused_by_name() {
        let mut more = headed(Version::V2, tls());
        more.config.as_mut().unwrap().pass_through_tlvs = Some(ProxyProtocolPassThroughTlVs::default());
        let refusal = read(Some(socket(&more))).unwrap_err().to_string();
        assert!(refusal.contains("pass_through_tlvs"), "{refusal}");
        let twice = headed(Version::V1, socket(&headed(Version::V1, tls())));
        let refusal = read(Some(socket(&twice))).unwrap_err().to_string();
        assert!(
            refusal.contains("ProxyProtocolUpstreamTransport is not served here"),
            "{refusal}"
        );
    }
}
