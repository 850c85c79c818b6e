//! The recordings, reduced.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// The routes of the chains for HTTP, by `HOST:PORT`.
pub(super) fn chains(base: &Value, case: &Value, ours: &BTreeMap<String, Value>) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    let known = |name: &str| {
        let is_there = |all: &Value| all["clusters"].get(name).is_some() || all["chains"].get(name).is_some();
        is_there(base) || is_there(case) || ours.contains_key(name)
    };
    for all in [base, case] {
        for (name, chain) in all["chains"].as_object().into_iter().flatten() {
            let is_service = (name.contains(".shop:") || name.contains(".example:")) && !name.ends_with(" tcp");
            if !is_service || chain.is_null() {
                continue;
            }
            let routes = match chain.get("routes") {
                Some(routes) => routes
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|entry| route(entry, &known))
                    .collect(),
                None => vec![default(name)],
            };
            found.insert(name.clone(), json!({"*": routes}));
        }
    }
    found
}

/// A Service without a route.
fn default(name: &str) -> Value {
    json!({"match": {"prefix": "/"}, "to": {
        "clusters": [[name, 1]], "timeout": 0.0, "retry": default_retry(),
    }})
}

fn default_retry() -> Value {
    json!({"on": RETRY_ON, "attempts": 2})
}

const RETRY_ON: &str = "connect-failure,refused-stream,unavailable,cancelled";

fn route(entry: &Value, known: &impl Fn(&str) -> bool) -> Value {
    let matched = reduce_match(&entry["match"]);
    if let Some(status) = entry["directResponse"]["status"].as_u64() {
        let mut to = json!({"fail": status});
        if let Some(body) = entry["directResponse"].get("body") {
            to["body"] = body.clone();
        }
        return json!({"match": matched, "to": to});
    }
    if let Some(redirect) = entry.get("redirect") {
        let redirect = json!({
            "host": redirect["hostRedirect"].as_str().unwrap_or_default(), "path": redirect["pathRedirect"],
            "scheme": redirect["schemeRedirect"], "code": redirect["responseCode"],
        });
        return json!({"match": matched, "to": {"redirect": redirect}});
    }
    let from = &entry["route"];
    let cluster = |name: &Value| {
        let name = name
            .as_str()
            .unwrap()
            .trim_start_matches("outbound ")
            .trim_end_matches(" tcp");
        if known(name) || known(&format!("outbound {name}")) {
            name.to_owned()
        } else {
            "missing".to_owned()
        }
    };
    let mut to = Map::new();
    let clusters: Vec<Value> = match &from["weightedClusters"] {
        Value::Array(all) => all
            .iter()
            .map(|one| {
                let mut made = json!([cluster(&one["cluster"]), one["weight"]]);
                headers(one, |key, value| made.as_array_mut().unwrap().push(json!({key: value})));
                made
            })
            .collect(),
        _ => vec![json!([cluster(&from["cluster"]), 1])],
    };
    to.insert("clusters".to_owned(), clusters.into());
    to.insert("timeout".to_owned(), seconds(&from["timeout"]));
    to.insert("retry".to_owned(), retry(&from["retryPolicy"]));
    if let Some(rewrite) = from.get("prefixRewrite") {
        to.insert("prefixRewrite".to_owned(), rewrite.clone());
    }
    if let Some(rewrite) = from.get("regexRewrite") {
        // Written in another way, it means the same.
        let pattern = rewrite["pattern"]["regex"]
            .as_str()
            .unwrap()
            .replace("(/?)(.*)", "/?(.*)");
        let substitution = rewrite["substitution"].as_str().unwrap().replace(r"\2", r"\1");
        to.insert("regexRewrite".to_owned(), json!([pattern, substitution]));
    }
    if let Some(host) = from.get("hostRewriteLiteral") {
        to.insert("host".to_owned(), host.clone());
    }
    if let Some(mirrors) = from["requestMirrorPolicies"].as_array() {
        let mirror = |one: &Value| {
            let (part, whole) = one["runtimeFraction"].as_str().unwrap().split_once('/').unwrap();
            let share = part.parse::<u64>().unwrap() * 1_000_000 / whole.parse::<u64>().unwrap();
            json!([cluster(&one["cluster"]), share])
        };
        to.insert("mirrors".to_owned(), mirrors.iter().map(mirror).collect());
    }
    headers(entry, |key, value| drop(to.insert(key.to_owned(), value)));
    if let Some(all) = from["hashPolicy"].as_array() {
        to.insert("hash".to_owned(), all.iter().map(hash).collect());
    }
    if let Some(fault) = entry["filters"].get("fault") {
        let share = |part: &Value| {
            let share = part["percentage"].as_str().unwrap().trim_end_matches("/1000000");
            share.parse::<u64>().unwrap()
        };
        let delay = fault.get("delay");
        let delay = delay.map(|delay| json!([seconds(&delay["fixedDelay"]), share(delay)]));
        let abort = fault.get("abort");
        let abort = abort.map(|abort| json!([abort["httpStatus"], share(abort)]));
        to.insert("fault".to_owned(), json!({"delay": delay, "abort": abort}));
    }
    if let Some(cors) = entry["filters"].get("cors") {
        to.insert("cors".to_owned(), reduce_cors(cors));
    }
    json!({"match": matched, "to": to})
}

fn headers(from: &Value, mut put: impl FnMut(&str, Value)) {
    for (theirs, key) in [
        ("requestHeadersToAdd", "request"),
        ("responseHeadersToAdd", "response"),
        ("requestHeadersToRemove", "requestRemove"),
        ("responseHeadersToRemove", "responseRemove"),
    ] {
        if let Some(all) = from[theirs].as_array() {
            let lower = |value: &Value| value.as_str().unwrap().to_ascii_lowercase();
            put(key, all.iter().map(lower).collect());
        }
    }
}

fn seconds(value: &Value) -> Value {
    let text = value.as_str().unwrap_or("0s").trim_end_matches('s');
    json!(text.parse::<f64>().unwrap())
}

fn retry(policy: &Value) -> Value {
    if policy.is_null() {
        return Value::Null;
    }
    if policy == "default" {
        return default_retry();
    }
    let mut made = json!({"on": policy["retryOn"], "attempts": policy["numRetries"]});
    if let Some(codes) = policy.get("retriableStatusCodes") {
        made["codes"] = codes.clone();
    }
    if let Some(timeout) = policy.get("perTryTimeout") {
        made["perTry"] = seconds(timeout);
    }
    if let Some(backoff) = policy.get("retryBackOff") {
        made["backoff"] = seconds(&backoff["baseInterval"]);
    }
    made
}

fn reduce_match(from: &Value) -> Value {
    let mut made = Map::new();
    for key in ["path", "prefix", "pathSeparatedPrefix"] {
        if let Some(value) = from.get(key) {
            made.insert(key.to_owned(), value.clone());
        }
    }
    if let Some(regex) = from.get("safeRegex") {
        made.insert("regex".to_owned(), regex["regex"].clone());
    }
    if from["caseSensitive"] == false {
        made.insert("ignoresCase".to_owned(), true.into());
    }
    for (theirs, key) in [("headers", "headers"), ("queryParameters", "query")] {
        if let Some(all) = from[theirs].as_array() {
            let one = |entry: &Value| {
                let name = entry["name"].as_str().unwrap();
                let name = if key == "headers" {
                    name.to_ascii_lowercase()
                } else {
                    name.to_owned()
                };
                let value = &entry["stringMatch"];
                let text = match (value.get("exact"), value.get("prefix")) {
                    (Some(exact), _) => json!([name, "exact", exact]),
                    (None, Some(prefix)) => json!([name, "prefix", prefix]),
                    _ if entry["presentMatch"] == true => json!([name]),
                    _ => json!([name, "regex", value["safeRegex"]["regex"]]),
                };
                if entry["invertMatch"] == true {
                    return json!({"not": text});
                }
                text
            };
            made.insert(key.to_owned(), all.iter().map(one).collect());
        }
    }
    made.into()
}

fn hash(from: &Value) -> Value {
    if let Some(header) = from.get("header") {
        return json!(["header", header["headerName"]]);
    }
    if let Some(query) = from.get("queryParameter") {
        return json!(["query", query["name"]]);
    }
    if let Some(cookie) = from.get("cookie") {
        return json!(["cookie", cookie["name"], cookie["path"], seconds(&cookie["ttl"])]);
    }
    json!(["source"])
}

fn reduce_cors(from: &Value) -> Value {
    let text = |key: &str| from[key].as_str().unwrap_or_default().to_owned();
    let origins = from["allowOriginStringMatch"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|origin| match origin.get("exact") {
            Some(exact) => json!(["exact", exact]),
            None => json!(["regex", origin["safeRegex"]["regex"]]),
        });
    json!({
        "origins": origins.collect::<Vec<_>>(),
        "methods": text("allowMethods"), "headers": text("allowHeaders"), "expose": text("exposeHeaders"),
        "maxAge": text("maxAge"), "credentials": from["allowCredentials"].as_bool().unwrap_or(false),
    })
}

/// Addresses of endpoints with their localities, by `HOST:PORT`.
pub(super) fn endpoints(base: &Value, case: &Value) -> BTreeMap<String, Vec<String>> {
    let mut found = BTreeMap::new();
    for all in [base, case] {
        for (name, cluster) in all["clusters"].as_object().into_iter().flatten() {
            let Some(list) = cluster["endpoints"].as_array() else {
                continue;
            };
            // Whether a pod is in the mesh is told of by others: Istio's agent here, ours there.
            let plain = |text: &Value| text.as_str().unwrap().replace(" via connect_originate", "");
            let mut list: Vec<String> = list.iter().map(plain).collect();
            list.sort();
            let name = name.trim_start_matches("outbound ").trim_end_matches(" tcp");
            found.insert(name.to_owned(), list);
        }
    }
    found
}
