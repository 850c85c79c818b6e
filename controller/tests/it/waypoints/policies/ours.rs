//! Our filters of requests and connections, reduced.

use std::collections::BTreeMap;
use std::path::Path;

use culvert_envoy::pb::envoy::config::core::v3::CidrRange;
use culvert_envoy::pb::envoy::config::core::v3::{grpc_service::TargetSpecifier, http_uri::HttpUpstreamType};
use culvert_envoy::pb::envoy::config::listener::v3::{Listener, filter::ConfigType};
use culvert_envoy::pb::envoy::config::rbac::v3::{
    Permission, Principal, Rbac as Rules, permission::Rule, principal::Identifier,
};
use culvert_envoy::pb::envoy::config::route::v3::{HeaderMatcher, header_matcher::HeaderMatchSpecifier};
use culvert_envoy::pb::envoy::extensions::filters::http::ext_authz::v3::{ExtAuthz, ext_authz::Services};
use culvert_envoy::pb::envoy::extensions::filters::http::jwt_authn::v3::{
    JwtAuthentication, JwtRequirement, jwt_requirement::RequiresType, requirement_rule::RequirementType,
};
use culvert_envoy::pb::envoy::extensions::filters::http::rbac::v3::Rbac;
use culvert_envoy::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, http_filter,
};
use culvert_envoy::pb::envoy::extensions::filters::network::rbac::v3::Rbac as NetworkRbac;
use culvert_envoy::pb::envoy::r#type::matcher::v3::metadata_matcher::path_segment::Segment;
use culvert_envoy::pb::envoy::r#type::matcher::v3::{
    ListStringMatcher, MetadataMatcher, StringMatcher, filter_state_matcher, path_matcher,
    string_matcher::MatchPattern, value_matcher,
};
use culvert_envoy::{LISTENER_TYPE, unpack};
use culvert_xds::server::Resources as _;
use prost::Message as _;
use serde_json::{Map, Value, json};

use super::super::modelled;

/// Filters of all chains, by chain.
pub(super) fn chains(case: &Path) -> BTreeMap<String, Value> {
    let model = modelled(case);
    let mut found = BTreeMap::new();
    for (_, entry) in model.snapshot().all(LISTENER_TYPE).unwrap() {
        let listener = Listener::decode(&*entry.body).unwrap();
        if !listener.name.ends_with("/inbound") {
            continue;
        }
        for chain in listener.filter_chains {
            let (_, host) = chain.name.split_once('/').unwrap();
            let mut name = host.replace(".svc.cluster.local", "");
            let mut filters = Vec::new();
            for filter in &chain.filters {
                let Some(ConfigType::TypedConfig(config)) = &filter.config_type else {
                    panic!("{filter:?}")
                };
                if let Ok(rbac) = unpack::<NetworkRbac>(config) {
                    filters.push(json!({"rbac": rules(rbac.rules.as_ref().unwrap())}));
                }
                match unpack::<HttpConnectionManager>(config) {
                    Ok(manager) => filters.extend(of_requests(&manager)),
                    Err(_) if !name.ends_with(" tcp") => name.push_str(" tcp"),
                    Err(_) => {}
                }
            }
            found.insert(name.replace(" tcp", ""), Value::from(filters));
        }
    }
    found
}

fn of_requests(manager: &HttpConnectionManager) -> Vec<Value> {
    let config =
        |filter: &culvert_envoy::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter| {
            match filter.config_type.clone().unwrap() {
                http_filter::ConfigType::TypedConfig(config) => config,
                other => panic!("{other:?}"),
            }
        };
    let mut made = Vec::new();
    for filter in &manager.http_filters {
        let config = config(filter);
        if let Ok(rbac) = unpack::<Rbac>(&config) {
            made.push(match (&rbac.rules, &rbac.shadow_rules) {
                (None, Some(shadow)) => json!({"rbac": {
                    "shadowRules": rules(shadow), "shadowRulesStatPrefix": rbac.shadow_rules_stat_prefix,
                }}),
                (found, _) => json!({"rbac": rules(found.as_ref().unwrap())}),
            });
        }
        if let Ok(authz) = unpack::<ExtAuthz>(&config) {
            made.push(json!({"ext_authz": asked(&authz)}));
        }
        if let Ok(jwt) = unpack::<JwtAuthentication>(&config) {
            made.push(json!({"jwt_authn": tokens(&jwt)}));
        }
    }
    made
}

/// Who is asked: what both writings have in common.
fn asked(authz: &ExtAuthz) -> Value {
    let enabled = authz.filter_enabled_metadata.as_ref().unwrap();
    let Some(value_matcher::MatchPattern::StringMatch(provider)) = &enabled.value.as_ref().unwrap().match_pattern
    else {
        panic!("{enabled:?}")
    };
    let Some(MatchPattern::Prefix(provider)) = &provider.match_pattern else {
        panic!("{provider:?}")
    };
    let service = |cluster: &str| {
        let (_, host) = cluster.rsplit_once('/').unwrap();
        host.replace(".svc.cluster.local", "")
    };
    let names = |list: &Option<ListStringMatcher>| -> Vec<Value> {
        let all = list.iter().flat_map(|list| &list.patterns);
        all.map(text).collect()
    };
    let mut made = json!({
        "provider": provider.trim_end_matches("-ns["), "failOpen": authz.failure_mode_allow,
        "status": authz.status_on_error.as_ref().map_or(0, |status| status.code), "allowed": names(&authz.allowed_headers),
    });
    match authz.services.as_ref().unwrap() {
        Services::HttpService(http) => {
            let uri = http.server_uri.as_ref().unwrap();
            let Some(HttpUpstreamType::Cluster(cluster)) = &uri.http_upstream_type else {
                panic!("{uri:?}")
            };
            let response = http.authorization_response.as_ref().unwrap();
            let add = http
                .authorization_request
                .iter()
                .flat_map(|request| &request.headers_to_add);
            made["service"] = service(cluster).into();
            made["seconds"] = uri.timeout.as_ref().unwrap().seconds.into();
            made["prefix"] = http.path_prefix.clone().into();
            made["add"] = add.map(|header| json!([header.key, header.value])).collect();
            made["upstream"] = names(&response.allowed_upstream_headers).into();
            made["client"] = names(&response.allowed_client_headers).into();
        }
        Services::GrpcService(grpc) => {
            let Some(TargetSpecifier::EnvoyGrpc(envoy)) = &grpc.target_specifier else {
                panic!("{grpc:?}")
            };
            made["service"] = service(&envoy.cluster_name).into();
            made["seconds"] = grpc.timeout.as_ref().unwrap().seconds.into();
            made["authority"] = envoy.authority.clone().into();
        }
    }
    made
}

fn tokens(jwt: &JwtAuthentication) -> Value {
    let providers: Map<String, Value> = jwt
        .providers
        .iter()
        .map(|(name, provider)| {
            let claims = provider.claim_to_headers.iter();
            let claims: Vec<_> = claims
                .map(|claim| json!([claim.header_name, claim.claim_name]))
                .collect();
            let headers = provider.from_headers.iter();
            let headers: Vec<_> = headers
                .map(|header| json!([header.name, header.value_prefix]))
                .collect();
            let spaces = provider.normalize_payload_in_metadata.as_ref().unwrap();
            let reduced = json!({
                "issuer": provider.issuer, "audiences": provider.audiences, "forward": provider.forward,
                "fromHeaders": headers, "fromParams": provider.from_params, "fromCookies": provider.from_cookies,
                "payloadHeader": provider.forward_payload_header, "metadata": provider.payload_in_metadata,
                "claims": claims, "spaces": spaces.space_delimited_claims,
            });
            (name.clone(), reduced)
        })
        .collect();
    let Some(RequirementType::Requires(requirement)) = &jwt.rules[0].requirement_type else {
        panic!("{jwt:?}")
    };
    json!({"providers": providers, "requires": requirement_of(requirement), "bypass": jwt.bypass_cors_preflight})
}

fn requirement_of(requirement: &JwtRequirement) -> Value {
    let list = |all: &[JwtRequirement]| Value::from(all.iter().map(requirement_of).collect::<Vec<_>>());
    match requirement.requires_type.as_ref().unwrap() {
        RequiresType::ProviderName(name) => json!({"providerName": name}),
        RequiresType::AllowMissing(_) => json!({"allowMissing": {}}),
        RequiresType::RequiresAny(any) => json!({"requiresAny": {"requirements": list(&any.requirements)}}),
        RequiresType::RequiresAll(all) => json!({"requiresAll": {"requirements": list(&all.requirements)}}),
        other => panic!("{other:?}"),
    }
}

fn rules(rules: &Rules) -> Value {
    let policies: Map<String, Value> = rules
        .policies
        .iter()
        .map(|(name, policy)| {
            let permissions: Vec<_> = policy.permissions.iter().map(permission).collect();
            let principals: Vec<_> = policy.principals.iter().map(principal).collect();
            (
                name.clone(),
                json!({"permissions": permissions, "principals": principals}),
            )
        })
        .collect();
    json!({"action": rules.action().as_str_name(), "policies": policies})
}

fn permission(permission: &Permission) -> Value {
    let list = |all: &[Permission]| sorted(all.iter().map(self::permission).collect());
    #[allow(deprecated, reason = "what is made")]
    match permission.rule.as_ref().unwrap() {
        Rule::Any(_) => json!("any"),
        Rule::AndRules(set) => json!({"and": list(&set.rules)}),
        Rule::OrRules(set) => json!({"or": list(&set.rules)}),
        Rule::NotRule(rule) => json!({"not": self::permission(rule)}),
        Rule::Header(header) => header_of(header),
        Rule::UrlPath(path) => {
            let Some(path_matcher::Rule::Path(path)) = &path.rule else {
                panic!()
            };
            json!({"urlPath": {"path": text(path)}})
        }
        Rule::DestinationPort(port) => json!({"destinationPort": port}),
        Rule::DestinationIp(range) => json!({"destinationIp": network(range)}),
        other => panic!("{other:?}"),
    }
}

fn principal(principal: &Principal) -> Value {
    let list = |all: &[Principal]| sorted(all.iter().map(self::principal).collect());
    #[allow(deprecated, reason = "what is made")]
    match principal.identifier.as_ref().unwrap() {
        Identifier::Any(_) => json!("any"),
        Identifier::AndIds(set) => json!({"and": list(&set.ids)}),
        Identifier::OrIds(set) => json!({"or": list(&set.ids)}),
        Identifier::NotId(id) => json!({"not": self::principal(id)}),
        Identifier::Header(header) => header_of(header),
        Identifier::DirectRemoteIp(range) => json!({"directRemoteIp": network(range)}),
        Identifier::RemoteIp(range) => json!({"remoteIp": network(range)}),
        Identifier::FilterState(state) => {
            let Some(filter_state_matcher::Matcher::StringMatch(matcher)) = &state.matcher else {
                panic!("{state:?}")
            };
            json!({"filterState": {"key": state.key, "stringMatch": text(matcher)}})
        }
        Identifier::Metadata(matcher) => metadata(matcher),
        other => panic!("{other:?}"),
    }
}

fn metadata(matcher: &MetadataMatcher) -> Value {
    let path = matcher
        .path
        .iter()
        .map(|segment| match segment.segment.as_ref().unwrap() {
            Segment::Key(key) => json!({"key": key}),
        });
    let path: Vec<_> = path.collect();
    let Some(value_matcher::MatchPattern::StringMatch(value)) = &matcher.value.as_ref().unwrap().match_pattern else {
        panic!("{matcher:?}")
    };
    json!({"metadata": {"filter": matcher.filter, "path": path, "value": {"stringMatch": text(value)}}})
}

fn header_of(header: &HeaderMatcher) -> Value {
    match header.header_match_specifier.as_ref().unwrap() {
        HeaderMatchSpecifier::StringMatch(matcher) => {
            json!({"header": {"name": header.name, "stringMatch": text(matcher)}})
        }
        other => panic!("{other:?}"),
    }
}

fn network(range: &CidrRange) -> Value {
    json!({"addressPrefix": range.address_prefix, "prefixLen": range.prefix_len.as_ref().unwrap().value})
}

/// A matcher in Istio's words, where ours means the same: of hosts ours take any port.
fn text(matcher: &StringMatcher) -> Value {
    let regex = |regex: String| json!({"safeRegex": {"regex": regex}});
    match matcher.match_pattern.as_ref().unwrap() {
        MatchPattern::Exact(text) => json!({"exact": text}),
        MatchPattern::Prefix(text) if matcher.ignore_case => json!({"prefix": text, "ignoreCase": true}),
        MatchPattern::Prefix(text) => json!({"prefix": text}),
        MatchPattern::Suffix(text) => match text.strip_prefix("/ns/").and_then(|rest| rest.split_once("/sa/")) {
            Some((namespace, name)) => regex(format!("spiffe://.+/ns/{namespace}/(.+/|)sa/{name}(/.+)?")),
            None => json!({"suffix": text}),
        },
        MatchPattern::Contains(text) => regex(format!(".*{}.*", text.strip_suffix("sa/").unwrap())),
        MatchPattern::SafeRegex(found) => match found.regex.strip_prefix("(?i)") {
            Some(host) => {
                let host = host.strip_suffix("(:[0-9]+)?").unwrap().replace('\\', "");
                match host.strip_prefix(".*") {
                    Some(suffix) => json!({"suffix": suffix, "ignoreCase": true}),
                    None => json!({"exact": host, "ignoreCase": true}),
                }
            }
            None => regex(found.regex.clone()),
        },
        other => panic!("{other:?}"),
    }
}

/// A list whose order means nothing.
pub(super) fn sorted(mut all: Vec<Value>) -> Value {
    all.sort_by_key(ToString::to_string);
    all.into()
}
