//! What a rule says of who is asked about its requests. Envoy's ext_authz filter lets no route say which headers are shown, so the
//! chain has a filter that does nothing by itself, and a route has the whole of ext_authz for it. It is there before any route needs
//! it: a route that names a filter which is not in the chain would let everything pass.

use std::time::Duration;

use culvert_envoy::pack;
use culvert_envoy::pb::envoy::config::common::mutation_rules::v3::HeaderMutationRules;
use culvert_envoy::pb::envoy::config::core::v3::grpc_service::{EnvoyGrpc, TargetSpecifier};
use culvert_envoy::pb::envoy::config::core::v3::http_uri::HttpUpstreamType;
use culvert_envoy::pb::envoy::config::core::v3::{ApiVersion, GrpcService, HttpUri, TypedExtensionConfig};
use culvert_envoy::pb::envoy::extensions::filters::http::composite::v3::{CompositePerRoute, ExecuteFilterAction};
use culvert_envoy::pb::envoy::extensions::filters::http::ext_authz::v3::ext_authz::Services;
use culvert_envoy::pb::envoy::extensions::filters::http::ext_authz::v3::{
    AuthorizationResponse, BufferSettings, ExtAuthz, HttpService,
};
use culvert_envoy::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use culvert_envoy::pb::envoy::r#type::matcher::v3::{ListStringMatcher, StringMatcher};
use culvert_envoy::pb::xds::core::v3::TypedExtensionConfig as XdsExtension;
use culvert_envoy::pb::xds::r#type::matcher::v3::{Matcher, matcher::OnMatch, matcher::on_match};

use super::super::external_auth::{ExternalAuth, Protocol};
use super::parts::{self, cluster_name};

/// The name of the filter in the chain.
pub(super) const NAME: &str = "culvert.external_auth";
/// How long an answer may take. No field says so; then the request is refused.
const PATIENCE: Duration = Duration::from_secs(10);
/// Headers of the service's answer that belong to it alone.
const OWN: &str = "connection|content-length|keep-alive|te|trailer|transfer-encoding|upgrade";

/// What a route says to the filter.
pub(super) fn of_route(scope: &str, auth: &ExternalAuth) -> CompositePerRoute {
    let filter = ExecuteFilterAction {
        typed_config: Some(TypedExtensionConfig {
            name: "envoy.filters.http.ext_authz".to_owned(),
            typed_config: Some(pack(&asked(scope, auth))),
        }),
        ..ExecuteFilterAction::default()
    };
    let action = XdsExtension {
        name: "ask".to_owned(),
        typed_config: Some(pack(&filter)),
    };
    CompositePerRoute {
        // Whatever the request is.
        matcher: Some(Matcher {
            on_no_match: Some(Box::new(OnMatch {
                on_match: Some(on_match::OnMatch::Action(action)),
                ..OnMatch::default()
            })),
            ..Matcher::default()
        }),
    }
}

fn asked(scope: &str, auth: &ExternalAuth) -> ExtAuthz {
    let cluster = cluster_name(scope, Some(&auth.backend));
    let timeout = Some(parts::duration(PATIENCE));
    let services = match &auth.protocol {
        Protocol::Grpc => Services::GrpcService(GrpcService {
            timeout,
            target_specifier: Some(TargetSpecifier::EnvoyGrpc(EnvoyGrpc {
                cluster_name: cluster,
                authority: auth.host.clone(),
                ..EnvoyGrpc::default()
            })),
            ..GrpcService::default()
        }),
        Protocol::Http {
            prefix,
            response_headers,
        } => Services::HttpService(HttpService {
            server_uri: Some(HttpUri {
                uri: format!("http://{}", auth.host),
                timeout,
                http_upstream_type: Some(HttpUpstreamType::Cluster(cluster)),
            }),
            path_prefix: prefix.clone(),
            authorization_response: Some(AuthorizationResponse {
                allowed_upstream_headers: Some(names(response_headers).unwrap_or_else(any)),
                ..AuthorizationResponse::default()
            }),
            ..HttpService::default()
        }),
    };
    ExtAuthz {
        transport_api_version: ApiVersion::V3.into(),
        services: Some(services),
        allowed_headers: names(&auth.request_headers),
        with_request_body: auth.body.map(|max_request_bytes| BufferSettings {
            max_request_bytes,
            ..BufferSettings::default()
        }),
        decoder_header_mutation_rules: Some(HeaderMutationRules {
            disallow_expression: Some(parts::regex(OWN)),
            ..HeaderMutationRules::default()
        }),
        ..ExtAuthz::default()
    }
}

/// None where there is no name, which is not the same as no header.
fn names(names: &[String]) -> Option<ListStringMatcher> {
    let one = |name: &String| StringMatcher {
        ignore_case: true,
        ..parts::text(MatchPattern::Exact(name.clone()))
    };
    (!names.is_empty()).then(|| ListStringMatcher {
        patterns: names.iter().map(one).collect(),
    })
}

fn any() -> ListStringMatcher {
    ListStringMatcher {
        patterns: vec![parts::text(MatchPattern::SafeRegex(parts::regex(".+")))],
    }
}
