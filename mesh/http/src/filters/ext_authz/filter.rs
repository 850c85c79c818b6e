//! The filter's configuration.

use std::collections::BTreeMap;
use std::time::Duration;

use culvert_envoy::pb::envoy::extensions::filters::http::ext_authz::v3::ExtAuthz as Message;
use culvert_envoy::pb::envoy::r#type::matcher::v3::{MetadataMatcher, metadata_matcher::path_segment::Segment};
use http::StatusCode;

use super::rules::Rules;
use super::service::{Body, Service, matchers};
use crate::error::{CompileError, Within as _, take};
use crate::matching::json::Json;
use crate::matching::text::Text;

/// The namespace of what the access policies in front of the filter leave.
const RBAC: &str = "envoy.filters.http.rbac";

/// The filter.
#[derive(Debug)]
pub struct ExtAuthz {
    pub(super) service: Service,
    cluster: String,
    pub(super) timeout: Option<Duration>,
    pub(super) fail_open: bool,
    pub(super) status_on_error: StatusCode,
    pub(super) body: Option<Body>,
    clear_route_cache: bool,
    /// What the access policies in front of it must have left under a name.
    enabled_by: Option<(String, Json)>,
    /// Headers of the request that the service sees beside those that it always does; none where nothing is said.
    pub(super) allowed: Option<Vec<Text>>,
    pub(super) disallowed: Vec<Text>,
    /// Which headers the service may change of a request; none where nothing is said.
    pub(super) rules: Option<Rules>,
}

/// What access policies that are only looked at leave for this filter: the policy that each matched, by the key of the
/// metadata.
pub type Shadow = BTreeMap<String, String>;

impl ExtAuthz {
    /// Reads the filter's configuration.
    ///
    /// # Errors
    /// Where it is not valid, or has something set that is not served.
    pub fn compile(message: &Message) -> Result<Self, CompileError> {
        take!(message => Message {
            transport_api_version, failure_mode_allow, with_request_body, clear_route_cache, status_on_error, stat_prefix,
            filter_enabled_metadata, allowed_headers, disallowed_headers, services, validate_mutations,
            charge_cluster_response_stats, decoder_header_mutation_rules,
        } unserved {
            failure_mode_allow_header_add, metadata_context_namespaces, typed_metadata_context_namespaces,
            route_metadata_context_namespaces, route_typed_metadata_context_namespaces, filter_enabled, deny_at_disable,
            include_peer_certificate, bootstrap_metadata_labels_key, include_tls_session, encode_raw_headers,
            enable_dynamic_metadata_ingestion, filter_metadata, emit_filter_state_stats,
            max_denied_response_body_bytes, enforce_response_header_limits, shadow_mode, emit_client_span,
        });
        // What is changed is looked at in any case; names of statistics and which there are.
        let _ = (validate_mutations, stat_prefix, charge_cluster_response_stats);
        // 0 is AUTO, 2 is V3.
        if ![0, 2].contains(transport_api_version) {
            return Err(CompileError::invalid("transport_api_version", "only V3 is served"));
        }
        let services = services.as_ref().ok_or_else(|| CompileError::missing("services"))?;
        let (service, cluster, timeout) = Service::compile(services)?;
        let status = status_on_error.as_ref().map_or(403, |status| status.code);
        let status = u16::try_from(status)
            .ok()
            .and_then(|status| StatusCode::from_u16(status).ok());
        Ok(Self {
            service,
            cluster,
            timeout,
            fail_open: *failure_mode_allow,
            status_on_error: status.ok_or_else(|| CompileError::invalid("status_on_error", "is no HTTP status"))?,
            body: with_request_body.as_ref().map(Body::compile).transpose()?,
            clear_route_cache: *clear_route_cache,
            enabled_by: filter_enabled_metadata
                .as_ref()
                .map(enabled_by)
                .transpose()
                .within(|| "filter_enabled_metadata".into())?,
            allowed: allowed_headers
                .as_ref()
                .map(|list| matchers(list, "allowed_headers"))
                .transpose()?,
            disallowed: match disallowed_headers {
                Some(list) => matchers(list, "disallowed_headers")?,
                None => Vec::new(),
            },
            rules: decoder_header_mutation_rules
                .as_ref()
                .map(Rules::compile)
                .transpose()
                .within(|| "decoder_header_mutation_rules".into())?,
        })
    }

    /// Whether the service is asked about a request of which the access policies in front of it left this.
    pub fn asks(&self, shadow: &Shadow) -> bool {
        self.enabled_by.as_ref().is_none_or(|(key, value)| {
            let found = shadow.get(key).map(|text| serde_json::Value::String(text.clone()));
            value.matches(found.as_ref())
        })
    }

    /// The cluster of the service.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// Whether it is asked over HTTP/2 whatever its cluster says.
    pub fn is_grpc(&self) -> bool {
        matches!(self.service, Service::Grpc(_))
    }

    /// How long an answer may take; none: any time.
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// How much of a request's body the service sees.
    pub fn body(&self) -> Option<Body> {
        self.body
    }

    /// Whether the route is chosen anew after the request was changed.
    pub fn clears_route_cache(&self) -> bool {
        self.clear_route_cache
    }
}

/// The key and the value of one text that is left by access policies.
fn enabled_by(matcher: &MetadataMatcher) -> Result<(String, Json), CompileError> {
    take!(matcher => MetadataMatcher { filter, path, value } unserved { invert });
    if filter != RBAC {
        return Err(CompileError::invalid(
            "filter",
            format_args!("only {RBAC} leaves anything"),
        ));
    }
    let key = match path.as_slice() {
        [one] => match &one.segment {
            Some(Segment::Key(key)) => key.clone(),
            None => return Err(CompileError::missing("path")),
        },
        _ => return Err(CompileError::invalid("path", "has not one segment")),
    };
    let value = value.as_ref().ok_or_else(|| CompileError::missing("value"))?;
    Ok((key, Json::compile(value).within(|| "value".into())?))
}
