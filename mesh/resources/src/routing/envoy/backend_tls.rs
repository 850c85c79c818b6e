//! TLS of their own that endpoints speak.

use culvert_envoy::cluster::SYSTEM_ROOTS;
use culvert_envoy::pb::envoy::config::core::v3::{DataSource, TransportSocket, data_source::Specifier};
use culvert_envoy::pb::envoy::extensions::transport_sockets::tls::v3::common_tls_context::ValidationContextType;
use culvert_envoy::pb::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, CommonTlsContext, SubjectAltNameMatcher, TlsParameters, UpstreamTlsContext,
    subject_alt_name_matcher::SanType, tls_parameters::TlsProtocol,
};
use culvert_envoy::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;

use super::super::backend_tls::{AltName, BackendTls, Trust};
use super::super::protocol::Protocol;
use super::parts;

/// The client's end of it, for a port of this protocol.
pub(super) fn socket(tls: &BackendTls, protocol: Protocol) -> TransportSocket {
    // Where the client decides what is spoken, each connection says it by itself.
    let protocols: &[&str] = match protocol {
        Protocol::Http1 => &["http/1.1"],
        Protocol::Http2 => &["h2"],
        Protocol::Tcp | Protocol::Unknown => &[],
    };
    let context = UpstreamTlsContext {
        common_tls_context: Some(CommonTlsContext {
            // Envoy's clients end at 1.2 where nothing is said.
            tls_params: Some(TlsParameters {
                tls_minimum_protocol_version: TlsProtocol::TlSv12.into(),
                tls_maximum_protocol_version: TlsProtocol::TlSv13.into(),
                ..TlsParameters::default()
            }),
            alpn_protocols: protocols.iter().map(|protocol| (*protocol).to_owned()).collect(),
            validation_context_type: validation(tls).map(ValidationContextType::ValidationContext),
            ..CommonTlsContext::default()
        }),
        sni: tls.server_name.clone().unwrap_or_default(),
        ..UpstreamTlsContext::default()
    };
    parts::transport("envoy.transport_sockets.tls", &context)
}

fn validation(tls: &BackendTls) -> Option<CertificateValidationContext> {
    let roots = match &tls.trust {
        Trust::Anybody => return None,
        Trust::Bundle(pem) => Specifier::InlineString(pem.to_string()),
        Trust::System => Specifier::Filename(SYSTEM_ROOTS.to_owned()),
    };
    Some(CertificateValidationContext {
        trusted_ca: Some(DataSource {
            specifier: Some(roots),
            ..DataSource::default()
        }),
        match_typed_subject_alt_names: tls.names.iter().map(matcher).collect(),
        ..CertificateValidationContext::default()
    })
}

fn matcher(name: &AltName) -> SubjectAltNameMatcher {
    let (kind, text) = match name {
        AltName::Dns(name) => (SanType::Dns, name.clone()),
        AltName::Uri(name) => (SanType::Uri, name.clone()),
        AltName::Address(address) => (SanType::IpAddress, address.to_string()),
    };
    SubjectAltNameMatcher {
        san_type: kind.into(),
        matcher: Some(parts::text(MatchPattern::Exact(text))),
        ..SubjectAltNameMatcher::default()
    }
}
