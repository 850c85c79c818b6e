//! Who may, at each port: our filters beside those that Istio recorded. Both are reduced to the same writing: of lists that mean the same in any
//! order the order goes, and matchers that mean the same by an identity's form have Istio's words.

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

use super::{cases, golden, modelled};

/// Where ours differs: case, chain, and why.
const DIFFERENCES: &[(&str, &str, &str)] = &[
    (
        "26-authz-attributes",
        "web.shop:80",
        "there is no server name inside a tunnel: the rule that denies by one denies whoever meets its other conditions; and a name with a \
         wildcard at its end ends with the name",
    ),
    (
        "27-jwt",
        "web.shop:80",
        "a wildcard behind a slash is the end of any issuer or subject that it may be",
    ),
    (
        "28-authz-custom-audit",
        "web-v2.shop:80",
        "the policy is called as others are",
    ),
];

#[test]
fn who_may_is_what_istio_recorded_or_stricter_for_a_reason() {
    let base = super::json(&golden().join("base.json"));
    let mut wrong = Vec::new();
    let mut unused: Vec<_> = DIFFERENCES.iter().map(|(case, chain, _)| (*case, *chain)).collect();
    for case in cases() {
        let name = case.file_name().unwrap().to_str().unwrap();
        let ours = chains(&case);
        let expected = super::json(&case.join("expected.json"));
        let recorded = recorded(&base, &expected);
        for (chain, made) in &ours {
            let istios = recorded.get(chain).cloned().unwrap_or_else(|| json!([]));
            if *made == istios {
                continue;
            }
            match DIFFERENCES
                .iter()
                .find(|(of, at, _)| (*of, *at) == (name, chain.as_str()))
            {
                Some((of, at, _)) => unused.retain(|entry| entry != &(*of, *at)),
                None => wrong.push(format!("{name} {chain}:\nrecorded {istios}\nours {made}")),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    assert!(unused.is_empty(), "these do not differ: {unused:?}");
}

/// Who is asked, and what nobody can be asked about, word for word where it is not what Istio makes.
#[test]
fn what_differs_denies_more_and_no_less() {
    let web = |case: &str, chain: &str| chains(&golden().join(case)).remove(chain).unwrap();
    let custom = web("28-authz-custom-audit", "web.shop:80");
    let path = |path: &str| json!({"permissions": [{"urlPath": {"path": {"exact": path}}}], "principals": ["any"]});
    assert_eq!(
        custom[0]["rbac"]["shadowRules"]["policies"]["istio-ext-authz-door-http-ns[shop]-policy[ask]-rule[0]"],
        path("/ask")
    );
    assert_eq!(custom[1]["ext_authz"]["service"], "door.bank:8000");
    assert_eq!(
        custom[2]["rbac"],
        json!({"action": "LOG", "policies": {"shop/audit[0]": path("/audited")}})
    );
    assert_eq!(
        custom[3]["rbac"],
        json!({"action": "DENY", "policies": {"shop/deny[0]": path("/denied")}})
    );
    assert_eq!(
        custom[4]["rbac"],
        json!({"action": "ALLOW", "policies": {"shop/allow[0]": path("/allowed")}})
    );
    let unknown = web("28-authz-custom-audit", "web-v2.shop:80");
    assert_eq!(
        unknown,
        json!([{"rbac": {"action": "DENY", "policies": {"shop/unknown[0]": path("/x")}}}])
    );
    let attributes = web("26-authz-attributes", "web.shop:80").to_string();
    assert!(attributes.contains("shop/when[0]") && !attributes.contains("requestedServerName"));
}

/// Filters of all chains, by chain.
fn chains(case: &Path) -> BTreeMap<String, Value> {
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

/// The same of what was recorded.
fn recorded_asked(config: &Value) -> Value {
    let number = |text: &Value| text.as_str().unwrap().trim_end_matches('s').parse::<i64>().unwrap();
    let service = |name: &Value| name.as_str().unwrap().trim_start_matches("outbound ").to_owned();
    let names = |list: &Value| {
        let all = list["patterns"].as_array().cloned().unwrap_or_default();
        let exact = |one: Value| json!({"exact": one["exact"]});
        all.into_iter().map(exact).collect::<Vec<_>>()
    };
    let status = match config["statusOnError"]["code"].as_str() {
        None => 0,
        Some("ServiceUnavailable") => 503,
        Some(other) => panic!("{other}"),
    };
    let mut made = json!({
        "provider": config["filterEnabledMetadata"]["value"]["stringMatch"]["prefix"],
        "failOpen": config["failureModeAllow"].as_bool().unwrap_or(false), "status": status,
        "allowed": names(&config["allowedHeaders"]),
    });
    if let Some(http) = config.get("httpService") {
        let add = http["authorizationRequest"]["headersToAdd"].as_array().unwrap();
        made["service"] = service(&http["serverUri"]["cluster"]).into();
        made["seconds"] = number(&http["serverUri"]["timeout"]).into();
        made["prefix"] = http["pathPrefix"].clone();
        made["add"] = add
            .iter()
            .map(|header| json!([header["key"], header["value"]]))
            .collect();
        made["upstream"] = names(&http["authorizationResponse"]["allowedUpstreamHeaders"]).into();
        made["client"] = names(&http["authorizationResponse"]["allowedClientHeaders"]).into();
    } else {
        let grpc = &config["grpcService"];
        made["service"] = service(&grpc["envoyGrpc"]["clusterName"]).into();
        made["seconds"] = number(&grpc["timeout"]).into();
        made["authority"] = grpc["envoyGrpc"]["authority"].clone();
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

fn sorted(mut all: Vec<Value>) -> Value {
    all.sort_by_key(ToString::to_string);
    all.into()
}

/// What Istio recorded, by chain.
fn recorded(base: &Value, case: &Value) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    for all in [base, case] {
        let chains = &all["chains"];
        for (name, chain) in chains.as_object().into_iter().flatten() {
            let mut chain = chain;
            while let Some(other) = chain.as_str() {
                chain = &chains[other.trim_start_matches("= ")];
            }
            let lists = [&chain["filters"], &chain["network_filters"]];
            let filters = lists.into_iter().filter_map(Value::as_array).flatten();
            let filters: Vec<Value> = filters
                .filter_map(|filter| {
                    let filter = filter.as_object()?;
                    let (kind, config) = filter.iter().next()?;
                    Some(match kind.as_str() {
                        "rbac" if config.get("rules").is_some() => {
                            json!({"rbac": normal(&config["rules"])})
                        }
                        "rbac" => json!({"rbac": {
                            "shadowRules": normal(&config["shadowRules"]), "shadowRulesStatPrefix": config["shadowRulesStatPrefix"],
                        }}),
                        "ext_authz" => json!({"ext_authz": recorded_asked(config)}),
                        "jwt_authn" => json!({"jwt_authn": recorded_tokens(config)}),
                        "connect_authority" => return None,
                        other => json!({other: config}),
                    })
                })
                .collect();
            found.insert(name.replace(" tcp", ""), filters.into());
        }
    }
    found
}

fn recorded_tokens(config: &Value) -> Value {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let providers = config["providers"].as_object().unwrap().iter().map(|(name, provider)| {
        let pairs = |field: &str, first: &str, second: &str| -> Vec<Value> {
            let all = list(&provider[field]).into_iter();
            all.map(|one| json!([one[first], text(&one[second])])).collect()
        };
        let reduced = json!({
            "issuer": provider["issuer"], "audiences": list(&provider["audiences"]),
            "forward": provider["forward"].as_bool().unwrap_or(false),
            "fromHeaders": pairs("fromHeaders", "name", "valuePrefix"), "fromParams": list(&provider["fromParams"]),
            "fromCookies": list(&provider["fromCookies"]), "payloadHeader": text(&provider["forwardPayloadHeader"]),
            "metadata": provider["payloadInMetadata"], "claims": pairs("claimToHeaders", "headerName", "claimName"),
            "spaces": provider["normalizePayloadInMetadata"]["spaceDelimitedClaims"],
        });
        (name.clone(), reduced)
    });
    json!({
        "providers": providers.collect::<Map<_, _>>(), "requires": config["rules"][0]["requires"],
        "bypass": config["bypassCorsPreflight"],
    })
}

/// Lists whose order means nothing are sorted, and templates of paths become what they stand for.
fn normal(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            if let Some(template) = fields.get("uriTemplate") {
                let template = template["uri-template"]["pathTemplate"].as_str().unwrap();
                let parts = template.split('/').map(|part| match part {
                    "*" => "[^/]+",
                    "**" => ".*",
                    other => other,
                });
                let regex = parts.collect::<Vec<_>>().join("/");
                return json!({"urlPath": {"path": {"safeRegex": {"regex": regex}}}});
            }
            let fields = fields.iter().map(|(key, value)| {
                let value = match (key.as_str(), normal(value)) {
                    ("and" | "or", Value::Array(all)) => sorted(all),
                    (_, value) => value,
                };
                (key.clone(), value)
            });
            Value::Object(fields.collect())
        }
        Value::Array(all) => all.iter().map(normal).collect(),
        other => other.clone(),
    }
}
