//! TLS towards endpoints, as a DestinationRule writes it.

use super::super::super::backend_tls::{AltName, BackendTls, Said, Trust};
use super::super::values::{self, Bad};
use super::traffic_spec::{TlsMode, TlsSpec};

/// The certificates of the proxy's own system, in Istio's words.
const SYSTEM: &str = "system";

/// What it says. None where it asks for what a waypoint does not have: the table of fields says what that is.
///
/// # Errors
/// Where a value is none that proxies take.
pub(super) fn tls(spec: Option<&TlsSpec>) -> Result<Option<Said>, Bad> {
    let Some(spec) = spec else {
        return Ok(Some(Said::Nothing));
    };
    match spec.mode {
        TlsMode::Disable | TlsMode::IstioMutual => return Ok(Some(Said::None)),
        TlsMode::Mutual => return Ok(None),
        TlsMode::Simple => {}
    }
    let elsewhere = [
        &spec.ca_cert_credential_name,
        &spec.ca_crl,
        &spec.client_certificate,
        &spec.credential_name,
        &spec.private_key,
    ];
    let is_said = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
    if elsewhere.into_iter().any(is_said) || is_said(&spec.ca_certificates) && authorities(spec) != SYSTEM {
        return Ok(None);
    }
    let server_name = spec.sni.as_deref().filter(|name| !name.is_empty());
    let server_name = server_name.map(values::server_name).transpose();
    let names = spec.subject_alt_names.iter().enumerate().map(|(index, name)| {
        let name = AltName::of(name);
        if let AltName::Dns(name) = &name {
            let read = values::server_name(name);
            read.map_err(|message| Bad::at(format!("subjectAltNames[{index}]"), message))?;
        }
        Ok(name)
    });
    Ok(Some(Said::Tls(BackendTls {
        server_name: server_name.map_err(|message| Bad::at("sni", message))?,
        trust: if spec.insecure_skip_verify == Some(true) {
            Trust::Anybody
        } else {
            Trust::System
        },
        names: names.collect::<Result<_, _>>()?,
    })))
}

/// The fields that say nothing in the mode that is asked for.
pub(super) fn idle_fields(spec: &TlsSpec) -> Vec<&'static str> {
    let is_skipping = spec.insecure_skip_verify == Some(true);
    let names = !spec.subject_alt_names.is_empty();
    match spec.mode {
        TlsMode::Simple if is_skipping && names => vec!["subjectAltNames"],
        TlsMode::Simple | TlsMode::Mutual => Vec::new(),
        TlsMode::Disable | TlsMode::IstioMutual => [
            (spec.sni.is_some(), "sni"),
            (names, "subjectAltNames"),
            (is_skipping, "insecureSkipVerify"),
            (authorities(spec) == SYSTEM, "caCertificates"),
        ]
        .into_iter()
        .filter_map(|(is_said, field)| is_said.then_some(field))
        .collect(),
    }
}

fn authorities(spec: &TlsSpec) -> &str {
    spec.ca_certificates.as_deref().unwrap_or_default()
}
