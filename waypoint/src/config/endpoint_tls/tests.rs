use culvert_envoy::{
    pack,
    pb::envoy::{
        config::core::v3::DataSource,
        extensions::transport_sockets::tls::v3::{CommonTlsContext, SdsSecretConfig},
        r#type::matcher::v3::StringMatcher,
    },
};

use super::*;

fn context(source: Specifier) -> UpstreamTlsContext {
    let validation = CertificateValidationContext {
        trusted_ca: Some(DataSource {
            specifier: Some(source),
            ..DataSource::default()
        }),
        match_typed_subject_alt_names: vec![SubjectAltNameMatcher {
            san_type: SanType::Uri.into(),
            matcher: Some(StringMatcher {
                match_pattern: Some(MatchPattern::Exact("spiffe://a/b".to_owned())),
                ..StringMatcher::default()
            }),
            ..SubjectAltNameMatcher::default()
        }],
        ..CertificateValidationContext::default()
    };
    UpstreamTlsContext {
        common_tls_context: Some(CommonTlsContext {
            tls_params: Some(TlsParameters {
                tls_minimum_protocol_version: TlsProtocol::TlSv12.into(),
                tls_maximum_protocol_version: TlsProtocol::TlSv13.into(),
                ..TlsParameters::default()
            }),
            alpn_protocols: vec!["h2".to_owned()],
            validation_context_type: Some(ValidationContextType::ValidationContext(validation)),
            ..CommonTlsContext::default()
        }),
        sni: "a.example".to_owned(),
        ..UpstreamTlsContext::default()
    }
}

fn system() -> UpstreamTlsContext {
    context(Specifier::Filename(SYSTEM_ROOTS.to_owned()))
}

fn refused(context: &UpstreamTlsContext) -> String {
    read(&pack(context)).unwrap_err().to_string()
}

/// A transport that was passed over would send in clear, or to whom nobody has verified.
#[test]
fn what_is_not_served_of_tls_is_refused_by_name() {
    let other = Any {
        type_url: "type.googleapis.com/a.B".to_owned(),
        value: Vec::new(),
    };
    let refusal = read(&other).unwrap_err().to_string();
    assert_eq!(refusal, "transport_socket: type.googleapis.com/a.B is not served here");
    let refusal = refused(&context(Specifier::Filename("/etc/certs/mine.pem".to_owned())));
    assert!(refusal.contains("trusted_ca: must be inline"), "{refusal}");
    let refusal = refused(&context(Specifier::InlineString("no certificate".to_owned())));
    assert!(refusal.contains("trusted_ca: has no certificate"), "{refusal}");
    let refusal = refused(&UpstreamTlsContext {
        allow_renegotiation: true,
        ..system()
    });
    assert!(refusal.contains("allow_renegotiation"), "{refusal}");
    let mut with_certificate = system();
    let common = with_certificate.common_tls_context.as_mut().unwrap();
    common.tls_certificate_sds_secret_configs = vec![SdsSecretConfig::default()];
    let refusal = refused(&with_certificate);
    assert!(refusal.contains("tls_certificate_sds_secret_configs"), "{refusal}");
    let mut old = system();
    let params = old.common_tls_context.as_mut().unwrap().tls_params.as_mut().unwrap();
    params.tls_maximum_protocol_version = TlsProtocol::TlSv12.into();
    assert!(refused(&old).contains("tls_params"));
}
