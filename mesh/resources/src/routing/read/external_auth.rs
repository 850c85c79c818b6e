//! The filter `ExternalAuth`: who is asked whether a request may pass.

use serde::Deserialize;

use super::super::external_auth::{ExternalAuth, Protocol};
use super::notes::{Notes, Resolve};
use super::references::BackendSpec;
use super::values::{self, Bad, list};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ExternalAuthSpec {
    protocol: ProtocolSpec,
    backend_ref: BackendSpec,
    grpc: Option<GrpcSpec>,
    http: Option<HttpSpec>,
    forward_body: Option<BodySpec>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum ProtocolSpec {
    Grpc,
    Http,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct GrpcSpec {
    #[serde(default, deserialize_with = "list")]
    allowed_headers: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct HttpSpec {
    #[serde(default)]
    path: String,
    #[serde(default, deserialize_with = "list")]
    allowed_headers: Vec<String>,
    #[serde(default, deserialize_with = "list")]
    allowed_response_headers: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct BodySpec {
    #[serde(default)]
    max_size: u16,
}

/// Who is asked; `field` is the filter's place in the object.
///
/// # Errors
/// Where nobody can be asked: without an answer nothing may pass. A backend that leads nowhere is noted as such, too.
pub(super) fn read(
    spec: ExternalAuthSpec,
    field: &str,
    resolve: &dyn Resolve,
    notes: &mut Notes,
) -> Result<ExternalAuth, Bad> {
    let (protocol, allowed, at) = match (spec.protocol, spec.grpc, spec.http) {
        (ProtocolSpec::Grpc, grpc, None) => (Protocol::Grpc, grpc.unwrap_or_default().allowed_headers, "grpc"),
        (ProtocolSpec::Http, None, http) => {
            let http = http.unwrap_or_default();
            let protocol = Protocol::Http {
                prefix: prefix(&http.path)?,
                response_headers: names(&http.allowed_response_headers, "http.allowedResponseHeaders")?,
            };
            (protocol, http.allowed_headers, "http")
        }
        _ => {
            return Err(Bad::at(
                "protocol",
                "it must have what its protocol says, and nothing else",
            ));
        }
    };
    let request_headers = names(&allowed, &format!("{at}.allowedHeaders"))?;
    let reference = spec.backend_ref.reference();
    let backend = resolve.backend(&reference).map_err(|why| {
        let instead = "what the rule matches is answered with 500";
        notes.unresolved(format!("{field}.externalAuth.backendRef"), &why, instead);
        Bad::at("backendRef", "nobody can be asked")
    })?;
    let host = backend
        .service
        .split_once('/')
        .map_or(&*backend.service, |(_, host)| host);
    Ok(ExternalAuth {
        host: host.to_owned(),
        backend,
        protocol,
        request_headers,
        body: spec
            .forward_body
            .map(|body| body.max_size.into())
            .filter(|size| *size > 0),
    })
}

/// The characters are those that the API lets a path have.
fn prefix(path: &str) -> Result<String, Bad> {
    if path.is_empty() {
        return Ok(String::new());
    }
    let path = values::path(path).map_err(|message| Bad::at("http.path", message))?;
    Ok(path.trim_end_matches('/').to_owned())
}

fn names(all: &[String], field: &str) -> Result<Vec<String>, Bad> {
    let one = |(index, name): (usize, &String)| {
        values::header_name(name).map_err(|message| Bad::at(format!("{field}[{index}]"), message))
    };
    all.iter().enumerate().map(one).collect()
}
