//! What endpoints are spoken to in, beside the tunnel: a head of the PROXY protocol, and behind it TLS of their own.

use culvert_envoy::pb::envoy::config::core::v3::{
    ProxyProtocolConfig, TransportSocket, proxy_protocol_config::Version,
};
use culvert_envoy::pb::envoy::extensions::transport_sockets::proxy_protocol::v3::ProxyProtocolUpstreamTransport;
use culvert_envoy::pb::envoy::extensions::transport_sockets::raw_buffer::v3::RawBuffer;

use super::super::backend_tls::BackendTls;
use super::super::protocol::Protocol;
use super::super::traffic::ProxyProtocol;
use super::{backend_tls, parts};

/// The client's end of it, for a port of this protocol; none where nothing is to be added.
pub(super) fn socket(
    tls: Option<&BackendTls>,
    proxy_protocol: Option<ProxyProtocol>,
    protocol: Protocol,
) -> Option<TransportSocket> {
    let tls = tls.map(|tls| backend_tls::socket(tls, protocol));
    let Some(version) = proxy_protocol else { return tls };
    let clear = || parts::transport("envoy.transport_sockets.raw_buffer", &RawBuffer {});
    let config = ProxyProtocolUpstreamTransport {
        config: Some(ProxyProtocolConfig {
            version: match version {
                ProxyProtocol::V1 => Version::V1.into(),
                ProxyProtocol::V2 => Version::V2.into(),
            },
            ..ProxyProtocolConfig::default()
        }),
        transport_socket: Some(tls.unwrap_or_else(clear)),
        ..ProxyProtocolUpstreamTransport::default()
    };
    Some(parts::transport(
        "envoy.transport_sockets.upstream_proxy_protocol",
        &config,
    ))
}
