//! TLS that endpoints speak themselves, from a transport socket.

use std::sync::Arc;

use culvert_envoy::{
    cluster::SYSTEM_ROOTS,
    pb::{
        envoy::{
            config::core::v3::data_source::Specifier,
            extensions::transport_sockets::tls::v3::{
                CertificateValidationContext, SubjectAltNameMatcher, TlsParameters, UpstreamTlsContext,
                common_tls_context::ValidationContextType, subject_alt_name_matcher::SanType,
                tls_parameters::TlsProtocol,
            },
            r#type::matcher::v3::string_matcher::MatchPattern,
        },
        google::protobuf::Any,
    },
    unpack,
};
use prost::Name as _;
use rustls::pki_types::ServerName;

use super::refusal::{Refusal, malformed, nothing_else};
use crate::endpoint_tls::{Demands, EndpointTls, Name, Trust, roots};

const PLACE: &str = "transport_socket";
const VALIDATION: &str = "transport_socket.validation_context";

/// Reads it.
///
/// # Errors
/// Where it is something else, or asks for what is not served.
pub(super) fn read(config: &Any) -> Result<Arc<EndpointTls>, Refusal> {
    if config.type_url != UpstreamTlsContext::type_url() {
        return Err(Refusal::new(PLACE, format!("{} is not served here", config.type_url)));
    }
    let mut context: UpstreamTlsContext = unpack(config).map_err(malformed(PLACE))?;
    let mut common = context.common_tls_context.take().unwrap_or_default();
    let server_name = match std::mem::take(&mut context.sni) {
        name if name.is_empty() => None,
        name => Some(server_name("transport_socket.sni", name)?),
    };
    // Sessions are taken up again as rustls does it.
    context.max_session_keys = None;
    nothing_else(PLACE, &context)?;
    versions(common.tls_params.take().unwrap_or_default())?;
    // Each connection says what it is for, which is one of these.
    let protocols = std::mem::take(&mut common.alpn_protocols);
    if let Some(other) = protocols
        .iter()
        .find(|name| !["h2", "http/1.1"].contains(&name.as_str()))
    {
        let message = format!("{other:?} is not served here");
        return Err(Refusal::new("transport_socket.alpn_protocols", message));
    }
    let mut demands = Demands {
        server_name,
        trust: None,
        names: Vec::new(),
        said: config.value.clone().into(),
    };
    match common.validation_context_type.take() {
        None => {}
        Some(ValidationContextType::ValidationContext(context)) => validation(context, &mut demands)?,
        Some(_) => return Err(Refusal::new(VALIDATION, "must be inline")),
    }
    nothing_else("transport_socket.common_tls_context", &common)?;
    let made = EndpointTls::new(demands).map_err(|error| Refusal::new(PLACE, error.to_string()))?;
    Ok(Arc::new(made))
}

/// TLS 1.2 and 1.3, both.
fn versions(mut params: TlsParameters) -> Result<(), Refusal> {
    let (least, most) = (
        params.tls_minimum_protocol_version(),
        params.tls_maximum_protocol_version(),
    );
    if !matches!(least, TlsProtocol::TlsAuto | TlsProtocol::TlSv12) || most != TlsProtocol::TlSv13 {
        let message = format!("{least:?} to {most:?} is not served here: only TLS 1.2 to 1.3 is");
        return Err(Refusal::new("transport_socket.tls_params", message));
    }
    params.tls_minimum_protocol_version = 0;
    params.tls_maximum_protocol_version = 0;
    nothing_else("transport_socket.tls_params", &params)
}

fn validation(mut context: CertificateValidationContext, demands: &mut Demands) -> Result<(), Refusal> {
    let place = || format!("{VALIDATION}.trusted_ca");
    let source = context.trusted_ca.take().and_then(|source| source.specifier);
    demands.trust = Some(match source {
        Some(Specifier::InlineString(pem)) => {
            let roots = roots(&pem).map_err(|why| Refusal::new(place(), why))?;
            Trust::Roots(Arc::new(roots))
        }
        Some(Specifier::Filename(name)) if name == SYSTEM_ROOTS => Trust::System,
        Some(_) => {
            let message = format!("must be inline, or be the file {SYSTEM_ROOTS}");
            return Err(Refusal::new(place(), message));
        }
        None => return Err(Refusal::new(place(), "is missing")),
    });
    let matchers = std::mem::take(&mut context.match_typed_subject_alt_names);
    demands.names = matchers.into_iter().map(name).collect::<Result<_, _>>()?;
    nothing_else(VALIDATION, &context)
}

fn name(mut matcher: SubjectAltNameMatcher) -> Result<Name, Refusal> {
    let place = "transport_socket.validation_context.match_typed_subject_alt_names";
    let kind = matcher.san_type();
    let mut text = matcher.matcher.take().unwrap_or_default();
    let Some(MatchPattern::Exact(exact)) = text.match_pattern.take() else {
        return Err(Refusal::new(place, "must be exact"));
    };
    nothing_else(place, &text)?;
    matcher.san_type = 0;
    nothing_else(place, &matcher)?;
    match kind {
        SanType::Dns if exact.starts_with("*.") => Ok(Name::Wildcard(exact)),
        SanType::Dns | SanType::IpAddress => server_name(place, exact).map(Name::Server),
        SanType::Uri => Ok(Name::Uri(exact)),
        other => Err(Refusal::new(place, format!("{other:?} is not served here"))),
    }
}

fn server_name(place: &str, name: String) -> Result<ServerName<'static>, Refusal> {
    let message = format!("{name:?} is no name of a server");
    ServerName::try_from(name).map_err(|_| Refusal::new(place, message))
}

#[cfg(test)]
mod tests;
