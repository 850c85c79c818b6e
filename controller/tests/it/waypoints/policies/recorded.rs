//! The filters that Istio recorded, reduced to the same.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::ours::sorted;

/// What Istio recorded, by chain.
pub(super) fn recorded(base: &Value, case: &Value) -> BTreeMap<String, Value> {
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
                        "ext_authz" => json!({"ext_authz": asked(config)}),
                        "jwt_authn" => json!({"jwt_authn": tokens(config)}),
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

fn tokens(config: &Value) -> Value {
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

/// Who is asked: what both writings have in common.
fn asked(config: &Value) -> Value {
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
