//! Which service is asked, and how.

use std::time::Duration;

use culvert_envoy::pb::envoy::config::core::v3::grpc_service::{EnvoyGrpc, TargetSpecifier};
use culvert_envoy::pb::envoy::config::core::v3::http_uri::HttpUpstreamType;
use culvert_envoy::pb::envoy::config::core::v3::{GrpcService, HeaderValue as PbHeaderValue, HttpUri};
use culvert_envoy::pb::envoy::extensions::filters::http::ext_authz::v3::ext_authz::Services;
use culvert_envoy::pb::envoy::extensions::filters::http::ext_authz::v3::{
    AuthorizationRequest, AuthorizationResponse, BufferSettings, HttpService,
};
use culvert_envoy::pb::envoy::r#type::matcher::v3::ListStringMatcher;
use http::{HeaderName, HeaderValue};

use crate::error::{CompileError, Within as _, take};
use crate::matching::text::Text;
use crate::value::optional_duration;

/// How the service is asked.
#[derive(Debug)]
pub(super) enum Service {
    Http(Box<Http>),
    Grpc(Grpc),
}

/// A service that gets the request's head, and whose status decides.
#[derive(Debug)]
pub(super) struct Http {
    /// In front of the request's path.
    pub(super) path_prefix: String,
    pub(super) add: Vec<(HeaderName, HeaderValue)>,
    /// Headers of its answer that an allowed request goes on with, in the place of those it has.
    pub(super) upstream: Vec<Text>,
    /// The same, beside those it has.
    pub(super) upstream_append: Vec<Text>,
    /// Headers of its answer that a refused client gets; none where nothing is said: then it gets all.
    pub(super) client: Option<Vec<Text>>,
    /// Headers of its answer that an allowed client gets.
    pub(super) client_on_success: Vec<Text>,
}

/// A service of Envoy's `envoy.service.auth.v3.Authorization`.
#[derive(Debug)]
pub(super) struct Grpc {
    pub(super) authority: String,
    pub(super) metadata: Vec<(HeaderName, HeaderValue)>,
}

/// How much of a request's body the service sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Body {
    /// At most so many bytes.
    pub max_bytes: usize,
    /// Whether it sees the beginning of a longer one; else such a request is answered with 413.
    pub allow_partial: bool,
    /// Whether gRPC gets bytes rather than text.
    pub as_bytes: bool,
}

impl Body {
    pub(super) fn compile(message: &BufferSettings) -> Result<Self, CompileError> {
        take!(message => BufferSettings { max_request_bytes, allow_partial_message, pack_as_bytes } unserved {});
        if *max_request_bytes == 0 {
            return Err(CompileError::invalid(
                "with_request_body.max_request_bytes",
                "is not above 0",
            ));
        }
        Ok(Self {
            max_bytes: *max_request_bytes as usize,
            allow_partial: *allow_partial_message,
            as_bytes: *pack_as_bytes,
        })
    }
}

impl Service {
    /// The service, its cluster, and how long it may take.
    pub(super) fn compile(services: &Services) -> Result<(Self, String, Option<Duration>), CompileError> {
        match services {
            Services::HttpService(http) => self::http(http).within(|| "http_service".into()),
            Services::GrpcService(grpc) => self::grpc(grpc).within(|| "grpc_service".into()),
        }
    }
}

fn http(message: &HttpService) -> Result<(Service, String, Option<Duration>), CompileError> {
    take!(message => HttpService { server_uri, path_prefix, authorization_request, authorization_response } unserved {
        path_override, retry_policy,
    });
    let uri = server_uri.as_ref().ok_or_else(|| CompileError::missing("server_uri"))?;
    take!(uri => HttpUri { uri, timeout, http_upstream_type } unserved {});
    // The cluster says where it is, and the request's own host is what it is asked about.
    let _ = uri;
    let Some(HttpUpstreamType::Cluster(cluster)) = http_upstream_type else {
        return Err(CompileError::missing("server_uri.cluster"));
    };
    let add = match authorization_request {
        Some(request) => {
            take!(request => AuthorizationRequest { headers_to_add } unserved { allowed_headers });
            fields(headers_to_add)?
        }
        None => Vec::new(),
    };
    let response = authorization_response.clone().unwrap_or_default();
    take!(&response => AuthorizationResponse {
        allowed_upstream_headers, allowed_upstream_headers_to_append, allowed_client_headers, allowed_client_headers_on_success,
    } unserved { dynamic_metadata_from_headers });
    let list = |list: &Option<ListStringMatcher>, field: &str| match list {
        Some(list) => matchers(list, field),
        None => Ok(Vec::new()),
    };
    let http = Http {
        path_prefix: path_prefix.clone(),
        add,
        upstream: list(allowed_upstream_headers, "allowed_upstream_headers")?,
        upstream_append: list(allowed_upstream_headers_to_append, "allowed_upstream_headers_to_append")?,
        client: allowed_client_headers
            .as_ref()
            .map(|list| matchers(list, "allowed_client_headers"))
            .transpose()?,
        client_on_success: list(allowed_client_headers_on_success, "allowed_client_headers_on_success")?,
    };
    let timeout = optional_duration("server_uri.timeout", timeout)?;
    Ok((Service::Http(Box::new(http)), cluster.clone(), timeout))
}

fn grpc(message: &GrpcService) -> Result<(Service, String, Option<Duration>), CompileError> {
    take!(message => GrpcService { timeout, initial_metadata, target_specifier } unserved { retry_policy });
    let Some(TargetSpecifier::EnvoyGrpc(envoy)) = target_specifier else {
        return Err(CompileError::missing("envoy_grpc"));
    };
    take!(envoy => EnvoyGrpc { cluster_name, authority, skip_envoy_headers } unserved {
        retry_policy, max_receive_message_length,
    });
    let _ = skip_envoy_headers;
    let grpc = Grpc {
        authority: if authority.is_empty() {
            cluster_name.clone()
        } else {
            authority.clone()
        },
        metadata: fields(initial_metadata)?,
    };
    let timeout = optional_duration("timeout", timeout)?;
    Ok((Service::Grpc(grpc), cluster_name.clone(), timeout))
}

fn fields(all: &[PbHeaderValue]) -> Result<Vec<(HeaderName, HeaderValue)>, CompileError> {
    let one = |field: &PbHeaderValue| {
        take!(field => PbHeaderValue { key, value } unserved { raw_value });
        let name = HeaderName::from_bytes(key.as_bytes());
        let value = HeaderValue::from_str(value);
        match (name, value) {
            (Ok(name), Ok(value)) => Ok((name, value)),
            _ => Err(CompileError::invalid(
                "headers",
                format_args!("{key:?} or its value is no header field"),
            )),
        }
    };
    all.iter().map(one).collect()
}

/// Matchers for names of headers.
pub(super) fn matchers(list: &ListStringMatcher, field: &str) -> Result<Vec<Text>, CompileError> {
    let compile = |(index, matcher)| Text::compile(matcher).within(|| format!("{field}.patterns[{index}]"));
    list.patterns.iter().enumerate().map(compile).collect()
}

/// Whether one of these is for a header of this name.
pub(super) fn matches(matchers: &[Text], name: &HeaderName) -> bool {
    matchers.iter().any(|matcher| matcher.matches(name.as_str().as_bytes()))
}
