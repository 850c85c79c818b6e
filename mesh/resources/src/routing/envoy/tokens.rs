//! Tokens of people: Envoy's JWT filter.

use culvert_envoy::pb::envoy::config::core::v3::{DataSource, data_source};
use culvert_envoy::pb::envoy::config::route::v3::{RouteMatch, route_match::PathSpecifier};
use culvert_envoy::pb::envoy::extensions::filters::http::jwt_authn::v3::jwt_provider::{
    JwksSourceSpecifier, NormalizePayload,
};
use culvert_envoy::pb::envoy::extensions::filters::http::jwt_authn::v3::jwt_requirement::RequiresType;
use culvert_envoy::pb::envoy::extensions::filters::http::jwt_authn::v3::{
    JwtAuthentication, JwtClaimToHeader, JwtHeader, JwtProvider, JwtRequirement, JwtRequirementAndList,
    JwtRequirementOrList, RequirementRule, requirement_rule::RequirementType,
};
use culvert_envoy::pb::envoy::extensions::filters::network::http_connection_manager::v3::{HttpFilter, http_filter};
use culvert_envoy::pb::google::protobuf::{Any, Empty};
use culvert_envoy::type_url;
use prost::Message as _;

use super::super::model::TokenRule;
use super::texts::{JWT, PAYLOAD};

/// The filter; none without rules.
pub(super) fn filter(rules: &[TokenRule]) -> Option<HttpFilter> {
    if rules.is_empty() {
        return None;
    }
    // One provider in each message: one behind the other they are one message, whose bytes are the same every time.
    let providers = rules.iter().enumerate().map(|(index, rule)| JwtAuthentication {
        providers: [(name(index), provider(rule))].into(),
        ..JwtAuthentication::default()
    });
    let rest = JwtAuthentication {
        rules: vec![RequirementRule {
            r#match: Some(RouteMatch {
                path_specifier: Some(PathSpecifier::Prefix("/".to_owned())),
                ..RouteMatch::default()
            }),
            requirement_type: Some(RequirementType::Requires(requirement(rules))),
        }],
        bypass_cors_preflight: true,
        ..JwtAuthentication::default()
    };
    let messages = providers.chain([rest]);
    Some(HttpFilter {
        name: JWT.to_owned(),
        config_type: Some(http_filter::ConfigType::TypedConfig(Any {
            type_url: type_url::<JwtAuthentication>(),
            value: messages.flat_map(|message| message.encode_to_vec()).collect(),
        })),
        ..HttpFilter::default()
    })
}

fn name(index: usize) -> String {
    format!("origins-{index}")
}

/// A token of one of the providers is enough; without any all goes on, unless a token is required.
fn requirement(rules: &[TokenRule]) -> JwtRequirement {
    let one = |index: usize| requires(RequiresType::ProviderName(name(index)));
    let missing = || requires(RequiresType::AllowMissing(Empty {}));
    let optional = |index: usize| any(vec![one(index), missing()]);
    if let [rule] = rules {
        return if rule.required { one(0) } else { optional(0) };
    }
    let indices = rules.iter().enumerate();
    let all = indices
        .map(|(index, rule)| if rule.required { one(index) } else { optional(index) })
        .collect();
    let all = requires(RequiresType::RequiresAll(JwtRequirementAndList { requirements: all }));
    if rules.iter().any(|rule| rule.required) {
        return all;
    }
    any((0..rules.len()).map(one).chain([all]).collect())
}

fn any(requirements: Vec<JwtRequirement>) -> JwtRequirement {
    requires(RequiresType::RequiresAny(JwtRequirementOrList { requirements }))
}

fn requires(requirement: RequiresType) -> JwtRequirement {
    JwtRequirement {
        requires_type: Some(requirement),
    }
}

fn provider(rule: &TokenRule) -> JwtProvider {
    let header = |(name, value_prefix): &(String, String)| JwtHeader {
        name: name.clone(),
        value_prefix: value_prefix.clone(),
    };
    let claim = |(header_name, claim_name): &(String, String)| JwtClaimToHeader {
        header_name: header_name.clone(),
        claim_name: claim_name.clone(),
        ..JwtClaimToHeader::default()
    };
    let mut lists = vec!["permission".to_owned(), "scope".to_owned()];
    lists.extend(
        rule.space_delimited
            .iter()
            .filter(|name| !lists.contains(name))
            .cloned()
            .collect::<Vec<_>>(),
    );
    JwtProvider {
        issuer: rule.issuer.clone(),
        audiences: rule.audiences.clone(),
        jwks_source_specifier: Some(JwksSourceSpecifier::LocalJwks(DataSource {
            specifier: Some(data_source::Specifier::InlineString(rule.keys.clone())),
            ..DataSource::default()
        })),
        forward: rule.forward,
        from_headers: rule.from_headers.iter().map(header).collect(),
        from_params: rule.from_parameters.clone(),
        from_cookies: rule.from_cookies.clone(),
        forward_payload_header: rule.payload_header.clone().unwrap_or_default(),
        payload_in_metadata: PAYLOAD.to_owned(),
        normalize_payload_in_metadata: Some(NormalizePayload {
            space_delimited_claims: lists,
        }),
        claim_to_headers: rule.claim_headers.iter().map(claim).collect(),
        clear_route_cache: true,
        ..JwtProvider::default()
    }
}
