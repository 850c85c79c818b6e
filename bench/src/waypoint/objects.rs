//! Kubernetes objects of one side: the same for both proxies, but for the namespace.

use super::cases::Service;
use serde_json::{Value, json};

/// The Gateway's name.
pub(super) const GATEWAY: &str = "wp";

/// Where the server application has HTTP/1.1 and HTTP/2.
pub(super) const HTTP1: u16 = 8081;
pub(super) const HTTP2: u16 = 8082;

/// Rules in one HTTPRoute: as many as its schema admits.
const RULES: usize = 16;

/// A header of answers, by which it is seen which state of a route was met.
pub(super) const GENERATION: &str = "x-generation";

/// A port 80, as a Service has it.
pub(super) fn port(service: Service) -> Value {
    let (target, protocol) = match service {
        Service::WeightedHttp2 => (HTTP2, "kubernetes.io/h2c"),
        Service::Weighted | Service::Many | Service::Guarded => (HTTP1, "http"),
    };
    json!({ "name": "http", "port": 80, "targetPort": target, "protocol": "TCP", "appProtocol": protocol })
}

/// One rule: nine requests of ten to the first, one to the second.
pub(super) fn weighted(namespace: &str, service: Service) -> Value {
    let [first, second] = match service {
        Service::WeightedHttp2 => ["v1-http2", "v2-http2"],
        Service::Weighted | Service::Many | Service::Guarded => ["v1", "v2"],
    };
    let rule = json!({ "backendRefs": [
        { "name": first, "port": 80, "weight": 90 }, { "name": second, "port": 80, "weight": 10 },
    ] });
    route(namespace, service.name(), service.name(), vec![rule])
}

/// So many rules for one service, each for a path `/rN`, in as many HTTPRoutes as that takes.
pub(super) fn many(namespace: &str, service: &str, rules: usize) -> Vec<Value> {
    let numbers: Vec<usize> = (0..rules).collect();
    let routes = numbers.chunks(RULES).map(|chunk| {
        let rules = chunk.iter().map(|number| path_rule(*number)).collect();
        route(namespace, &format!("{service}-{}", chunk[0]), service, rules)
    });
    routes.collect()
}

fn path_rule(number: usize) -> Value {
    json!({
        "matches": [{ "path": { "type": "Exact", "value": format!("/r{number}") } }],
        "backendRefs": [{ "name": "v1", "port": 80 }],
    })
}

/// The first HTTPRoute of [`many`], whose first rule says which generation it is of.
pub(super) fn generation(namespace: &str, service: &str, rules: usize, generation: u32) -> Value {
    let mut rules: Vec<Value> = (0..rules.min(RULES)).map(path_rule).collect();
    if let Some(first) = rules.first_mut() {
        first["filters"] = json!([{ "type": "ResponseHeaderModifier", "responseHeaderModifier": {
            "set": [{ "name": GENERATION, "value": generation.to_string() }],
        } }]);
    }
    route(namespace, &format!("{service}-0"), service, rules)
}

fn route(namespace: &str, name: &str, parent: &str, rules: Vec<Value>) -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": { "name": name, "namespace": namespace },
        "spec": { "parentRefs": [{ "group": "", "kind": "Service", "name": parent }], "rules": rules },
    })
}

/// Requests of [`Service::Guarded`] need a token of this issuer, and what the policy allows.
pub(super) fn guard(namespace: &str, issuer: &str, keys: &str) -> [Value; 2] {
    let target = json!([{ "group": "", "kind": "Service", "name": Service::Guarded.name() }]);
    let object = |kind: &str, mut spec: Value| {
        spec["targetRefs"] = target.clone();
        json!({
            "apiVersion": "security.istio.io/v1", "kind": kind,
            "metadata": { "name": "guard", "namespace": namespace }, "spec": spec,
        })
    };
    let rule = json!({
        "from": [{ "source": { "requestPrincipals": [format!("{issuer}/*")], "namespaces": [namespace] } }],
        "to": [{ "operation": { "methods": ["GET", "POST"], "paths": ["/r*", "/other/*"] } }],
        "when": [{ "key": "request.auth.claims[group]", "values": ["bench"] }],
    });
    [
        object(
            "RequestAuthentication",
            json!({ "jwtRules": [{ "issuer": issuer, "jwks": keys }] }),
        ),
        object("AuthorizationPolicy", json!({ "action": "ALLOW", "rules": [rule] })),
    ]
}

/// A Service behind the waypoint, with the address of its number; the server application is behind each.
pub(super) fn service(namespace: &str, name: &str, address: std::net::Ipv4Addr) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": name, "namespace": namespace, "labels": { "culvert.dev/use-waypoint": GATEWAY } },
        "spec": {
            "type": "ClusterIP", "clusterIP": address.to_string(), "clusterIPs": [address.to_string()],
            "selector": { "app": "server" }, "ports": [port(Service::Many)],
        },
    })
}
