//! The hosts that a VirtualService or DestinationRule names. Without a dot a host is a Service of the object's own namespace; with one it
//! is a whole name.

use std::sync::Arc;

use serde_json::Value;

use super::key::Key;
use crate::name::ObjectName;

/// Those that it is for: `spec.hosts`, or `spec.host`.
pub(super) fn of(spec: &Value) -> impl Iterator<Item = &str> {
    let one = spec["host"].as_str();
    list(&spec["hosts"]).filter_map(Value::as_str).chain(one)
}

/// Those that its routes lead to, copies of requests included.
pub(super) fn destinations(spec: &Value) -> Vec<&str> {
    let mut found = Vec::new();
    for kind in ["http", "tcp", "tls"] {
        for rule in list(&spec[kind]) {
            let routes = list(&rule["route"]).chain(list(&rule["mirrors"]));
            let destinations = routes.map(|route| &route["destination"]).chain([&rule["mirror"]]);
            found.extend(destinations.filter_map(|destination| destination["host"].as_str()));
        }
    }
    found
}

/// The VirtualServices to which rules of one of `namespace` leave the rest.
pub(super) fn delegates(spec: &Value, namespace: &Arc<str>) -> Vec<ObjectName> {
    let delegates = list(&spec["http"]).map(|rule| &rule["delegate"]);
    let named = delegates.filter_map(|delegate| {
        let text = |field: &str| delegate[field].as_str().filter(|text| !text.is_empty());
        let namespace = text("namespace").map_or_else(|| Arc::clone(namespace), Arc::from);
        Some(ObjectName::new(namespace, text("name")?))
    });
    named.collect()
}

/// The keys by which an object of `namespace` is found by its hosts and destinations.
pub(super) fn keys(spec: &Value, namespace: &str) -> Vec<Key> {
    let hosts = of(spec).map(|host| match host.starts_with('*') {
        true => Key::routed_wildcards(),
        false if host.contains('.') => Key::routed_host(host),
        false => Key::routed_name(namespace, host),
    });
    let destinations = destinations(spec).into_iter().map(|host| match host.contains('.') {
        true => Key::destination_host(host),
        false => Key::destination_name(namespace, host),
    });
    hosts.chain(destinations).collect()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use crate::kinds::Key;
    use crate::name::ObjectName;

    #[test]
    fn a_virtual_service_is_found_by_its_hosts_and_by_all_that_it_sends_requests_to() {
        let text = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: r, namespace: shop}\n\
                    spec:\n  hosts: [web, api.example, '*.example']\n  http:\n  - route: [{destination: {host: v1}}]\n    \
                    mirror: {host: v2.bank.svc.cluster.local}\n    mirrors: [{destination: {host: v3}}]\n  \
                    tcp: [{route: [{destination: {host: v4}}]}]\n";
        let parsed = crate::parse(text, false);
        assert!(parsed.faults.is_empty(), "{:?}", parsed.faults);
        let object = &parsed.documents[0].object;
        let keys = object.keys(&ObjectName::new("shop", "r"));
        for key in [
            Key::routed_name("shop", "web"),
            Key::routed_host("api.example"),
            Key::routed_wildcards(),
            Key::destination_name("shop", "v1"),
            Key::destination_host("v2.bank.svc.cluster.local"),
            Key::destination_name("shop", "v3"),
            Key::destination_name("shop", "v4"),
        ] {
            assert!(keys.contains(&key));
        }
    }

    #[test]
    fn a_destination_rule_is_found_by_its_host() {
        let text = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: r, namespace: shop}\n\
                    spec: {host: web}\n";
        let parsed = crate::parse(text, false);
        let object = &parsed.documents[0].object;
        let keys = object.keys(&ObjectName::new("shop", "r"));
        assert!(keys.contains(&Key::routed_name("shop", "web")));
        assert!(!keys.contains(&Key::routed_name("bank", "web")));
    }
}
