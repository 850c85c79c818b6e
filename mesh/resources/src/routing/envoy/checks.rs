//! Services that are asked about requests: Envoy's ext_authz filter, each behind access policies that are only looked at and say
//! whether it is asked, as Istio has it.

use std::time::Duration;

use culvert_envoy::pb::envoy::config::core::v3::grpc_service::{EnvoyGrpc, TargetSpecifier};
use culvert_envoy::pb::envoy::config::core::v3::http_uri::HttpUpstreamType;
use culvert_envoy::pb::envoy::config::core::v3::{ApiVersion, GrpcService, HeaderValue, HttpUri};
use culvert_envoy::pb::envoy::config::rbac::v3::{Rbac as Rules, rbac::Action};
use culvert_envoy::pb::envoy::extensions::filters::http::ext_authz::v3::ext_authz::Services;
use culvert_envoy::pb::envoy::extensions::filters::http::ext_authz::v3::{
    AuthorizationRequest, AuthorizationResponse, BufferSettings, ExtAuthz, HttpService,
};
use culvert_envoy::pb::envoy::extensions::filters::http::rbac::v3::Rbac;
use culvert_envoy::pb::envoy::extensions::filters::network::http_connection_manager::v3::{HttpFilter, http_filter};
use culvert_envoy::pb::envoy::r#type::matcher::v3::metadata_matcher::{PathSegment, path_segment::Segment};
use culvert_envoy::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use culvert_envoy::pb::envoy::r#type::matcher::v3::{
    ListStringMatcher, MetadataMatcher, StringMatcher, ValueMatcher, value_matcher,
};
use culvert_envoy::pb::envoy::r#type::v3::HttpStatus;
use culvert_envoy::pb::google::protobuf::Any;
use culvert_envoy::{pack, type_url};
use culvert_objects::mesh_config::{AuthzGrpc, AuthzHttp, BodyInCheck, ProviderKind};
use prost::Message as _;

use super::super::model::{Backend, Check};
use super::access;
use super::parts::{self, cluster_name};

const NAME: &str = "envoy.filters.http.ext_authz";
/// What the key begins with under which the policies leave who is asked.
const PREFIX: &str = "istio_ext_authz_";

/// The filters: for each service the policies by which it is asked, and then it.
pub(super) fn filters(scope: &str, checks: &[Check]) -> Vec<HttpFilter> {
    checks
        .iter()
        .flat_map(|check| [policies(check), service(scope, check)])
        .flatten()
        .collect()
}

/// What the names of policies begin with by which a provider is asked, and no others do.
fn prefix(provider: &str) -> String {
    format!("istio-ext-authz-{provider}-ns[")
}

fn policies(check: &Check) -> Option<HttpFilter> {
    let named = check.policies.iter().flat_map(|policy| {
        let rules = policy.policy.rules.iter();
        rules.map(move |rule| (policy.name.split_once('/').unwrap_or(("", &policy.name)), rule))
    });
    // One rule in each message: one behind the other they are one message, whose bytes are the same every time.
    let messages = named.map(|((namespace, name), rule)| {
        let name = format!(
            "{}{namespace}]-policy[{name}]-rule[{}]",
            prefix(&check.provider.name),
            rule.index
        );
        Rbac {
            shadow_rules: Some(Rules {
                action: Action::Deny.into(),
                policies: [(name, access::message(rule))].into(),
                ..Rules::default()
            }),
            shadow_rules_stat_prefix: PREFIX.to_owned(),
            ..Rbac::default()
        }
    });
    let value: Vec<u8> = messages.flat_map(|message| message.encode_to_vec()).collect();
    // Without a rule nothing is matched, and nobody asked.
    (!value.is_empty()).then(|| HttpFilter {
        name: access::HTTP.to_owned(),
        config_type: Some(http_filter::ConfigType::TypedConfig(Any {
            type_url: type_url::<Rbac>(),
            value,
        })),
        ..HttpFilter::default()
    })
}

fn service(scope: &str, check: &Check) -> Option<HttpFilter> {
    let filter = match &check.provider.kind {
        ProviderKind::AuthzHttp(http) => ExtAuthz {
            services: Some(Services::HttpService(self::http(scope, http, &check.backend))),
            allowed_headers: list(&http.request_headers),
            ..common(&http.common)
        },
        ProviderKind::AuthzGrpc(grpc) => ExtAuthz {
            services: Some(Services::GrpcService(self::grpc(scope, grpc, &check.backend))),
            ..common(grpc)
        },
        _ => return None,
    };
    let filter = ExtAuthz {
        filter_enabled_metadata: Some(MetadataMatcher {
            filter: access::HTTP.to_owned(),
            path: vec![PathSegment {
                segment: Some(Segment::Key(format!("{PREFIX}shadow_effective_policy_id"))),
            }],
            value: Some(ValueMatcher {
                match_pattern: Some(value_matcher::MatchPattern::StringMatch(parts::text(
                    MatchPattern::Prefix(prefix(&check.provider.name)),
                ))),
            }),
            ..MetadataMatcher::default()
        }),
        ..filter
    };
    Some(HttpFilter {
        name: NAME.to_owned(),
        config_type: Some(http_filter::ConfigType::TypedConfig(pack(&filter))),
        ..HttpFilter::default()
    })
}

fn common(common: &AuthzGrpc) -> ExtAuthz {
    let body = |body: BodyInCheck| BufferSettings {
        max_request_bytes: body.max_bytes,
        allow_partial_message: body.allow_partial,
        pack_as_bytes: body.as_bytes,
    };
    ExtAuthz {
        transport_api_version: ApiVersion::V3.into(),
        failure_mode_allow: common.fail_open,
        clear_route_cache: common.clear_route_cache,
        status_on_error: common.status_on_error.map(|status| HttpStatus { code: status.into() }),
        with_request_body: common.body.map(body),
        ..ExtAuthz::default()
    }
}

fn http(scope: &str, http: &AuthzHttp, backend: &Backend) -> HttpService {
    let add = |(key, value): &(String, String)| HeaderValue {
        key: key.clone(),
        value: value.clone(),
        ..HeaderValue::default()
    };
    HttpService {
        server_uri: Some(HttpUri {
            uri: format!("http://{}", host(&http.common.service)),
            timeout: Some(parts::duration(timeout(&http.common))),
            http_upstream_type: Some(HttpUpstreamType::Cluster(cluster_name(scope, Some(backend)))),
        }),
        path_prefix: http.path_prefix.clone(),
        authorization_request: (!http.additional_headers.is_empty()).then(|| AuthorizationRequest {
            headers_to_add: http.additional_headers.iter().map(add).collect(),
            ..AuthorizationRequest::default()
        }),
        authorization_response: Some(AuthorizationResponse {
            allowed_upstream_headers: list(&http.upstream_on_allow),
            allowed_client_headers: list(&http.downstream_on_deny),
            allowed_client_headers_on_success: list(&http.downstream_on_allow),
            ..AuthorizationResponse::default()
        }),
        ..HttpService::default()
    }
}

fn grpc(scope: &str, grpc: &AuthzGrpc, backend: &Backend) -> GrpcService {
    GrpcService {
        timeout: Some(parts::duration(timeout(grpc))),
        target_specifier: Some(TargetSpecifier::EnvoyGrpc(EnvoyGrpc {
            cluster_name: cluster_name(scope, Some(backend)),
            authority: host(&grpc.service).to_owned(),
            ..EnvoyGrpc::default()
        })),
        ..GrpcService::default()
    }
}

/// The host of `[NAMESPACE/]HOST`.
fn host(service: &str) -> &str {
    service.split_once('/').map_or(service, |(_, host)| host)
}

/// Envoy takes no time at all for no limit.
fn timeout(common: &AuthzGrpc) -> Duration {
    common.timeout.max(Duration::from_millis(1))
}

/// Names of headers; none where nothing is said, which is not the same as no header.
fn list(names: &[String]) -> Option<ListStringMatcher> {
    let one = |name: &String| {
        let pattern = match (name.strip_prefix('*'), name.strip_suffix('*')) {
            (Some(""), _) => return parts::text(MatchPattern::SafeRegex(parts::regex(".+"))),
            (Some(suffix), _) => MatchPattern::Suffix(suffix.to_owned()),
            (None, Some(prefix)) => MatchPattern::Prefix(prefix.to_owned()),
            (None, None) => MatchPattern::Exact(name.clone()),
        };
        StringMatcher {
            ignore_case: true,
            ..parts::text(pattern)
        }
    };
    (!names.is_empty()).then(|| ListStringMatcher {
        patterns: names.iter().map(one).collect(),
    })
}
