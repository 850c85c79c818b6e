//! The table by itself, and what is found in objects by it.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::kinds::{Kind, Presence};

fn unserved(known: &Known, spec: Value) -> Vec<(String, &'static str)> {
    let object =
        json!({"apiVersion": "x/v1", "kind": known.kind, "metadata": {"name": "a"}, "spec": spec, "status": {"a": 1}});
    unserved_fields(known, &object)
}

fn paths(known: &Known, spec: Value) -> Vec<String> {
    unserved(known, spec).into_iter().map(|(path, _)| path).collect()
}

/// Those of which something is served have a type of their own, which is theirs to add.
#[test]
fn every_kind_of_which_nothing_is_served_is_read_and_followed() {
    for known in ALL.iter().filter(|known| !known.is_served()) {
        let kind = Kind::named(known.title).unwrap_or_else(|| panic!("{} is not among the kinds", known.title));
        let descriptor = kind.descriptor();
        assert_eq!(descriptor.unserved, Some(known), "{}", known.title);
        assert_eq!(descriptor.presence, Presence::Optional, "{}", known.title);
    }
}

#[test]
fn a_kind_that_is_read_is_read_in_every_version_that_is_known() {
    for known in ALL {
        let Some(kind) = Kind::named(known.title) else { continue };
        let descriptor = kind.descriptor();
        let read = (
            descriptor.group,
            descriptor.name,
            descriptor.plural,
            descriptor.versions,
        );
        assert_eq!(read, (known.group, known.kind, known.plural, known.versions));
        assert_eq!(descriptor.namespaced, known.namespaced, "{}", known.title);
    }
}

#[test]
fn no_kind_or_field_is_in_the_table_twice_and_parents_stand_before_their_fields() {
    let titles: BTreeSet<&str> = ALL.iter().map(|known| known.title).collect();
    assert_eq!(titles.len(), ALL.len());
    for known in ALL {
        assert!(
            !known.versions.is_empty() && !known.instead.is_empty(),
            "{}",
            known.title
        );
        let mut before = BTreeSet::new();
        for field in known.fields {
            let parent = field
                .path
                .rsplit_once('.')
                .map(|(parent, _)| parent.trim_end_matches("[]"));
            assert!(parent.is_none_or(|parent| before.contains(parent)), "{}", field.path);
            assert!(before.insert(field.path), "{} is there twice", field.path);
        }
    }
}

#[test]
fn a_policy_of_served_fields_alone_has_nothing_to_be_said() {
    let spec = json!({
        "selector": {"matchLabels": {"app.kubernetes.io/name": "db"}}, "action": "DENY", "rules": [{
            "from": [{"source": {"principals": ["*"], "notNamespaces": ["a"], "ipBlocks": ["10.0.0.0/8"], "requestPrincipals": []}}],
            "to": [{"operation": {"ports": ["80"], "paths": null}}],
            "when": [{"key": "destination.port", "values": ["80"]}],
        }],
    });
    assert_eq!(paths(&istio::AUTHORIZATION_POLICY, spec), [""; 0]);
    let spec = json!({
        "selector": {"matchLabels": {"app": "db"}}, "mtls": {"mode": "STRICT"},
        "portLevelMtls": {"80": {"mode": "PERMISSIVE"}},
    });
    assert_eq!(paths(&istio::PEER_AUTHENTICATION, spec), [""; 0]);
}

#[test]
fn what_is_not_served_is_named_with_its_place_in_the_object() {
    let spec = json!({
        "action": "CUSTOM", "provider": {"name": "x"}, "targetRefs": [{"kind": "Gateway", "name": "wp"}],
        "rules": [{}, {
            "to": [{}, {"operation": {"ports": ["80"], "paths": ["/a"]}}],
            "when": [{"key": "request.headers[x-a]", "values": ["b"]}, {"key": "source.ip", "values": ["10.0.0.1"]}],
        }],
    });
    let mut found = paths(&istio::AUTHORIZATION_POLICY, spec);
    found.sort();
    let expected = [
        "spec.action",
        "spec.provider",
        "spec.rules[1].to[1].operation.paths",
        "spec.rules[1].when[0].key",
    ];
    assert_eq!(found, expected);
    let spec = json!({"portLevelMtls": {"80": {"mode": "SOMETIMES"}}});
    assert_eq!(
        paths(&istio::PEER_AUTHENTICATION, spec),
        ["spec.portLevelMtls[80].mode"]
    );
}

#[test]
fn a_field_that_nobody_knows_is_named_wherever_it_is() {
    let spec = json!({"rules": [{"from": [{"source": {"regions": ["a"]}}]}], "priority": {"of": {"it": 1}}});
    let object = json!({"spec": spec, "data": {}});
    let found = unserved_fields(&istio::AUTHORIZATION_POLICY, &object);
    let mut names: Vec<&str> = found.iter().map(|(path, _)| path.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["data", "spec.priority", "spec.rules[0].from[0].source.regions"]);
    assert!(found.iter().all(|(_, instead)| *instead == UNKNOWN_FIELD));
}

#[test]
fn who_decides_about_requests_restricts_and_who_only_looks_at_them_does_not() {
    let applies = |known: &Known, spec: Value| known.restricts.applies(&spec);
    assert!(applies(&istio::REQUEST_AUTHENTICATION, json!({})));
    assert!(applies(&istio::WASM_PLUGIN, json!({"phase": "AUTHZ"})));
    assert!(!applies(
        &istio::WASM_PLUGIN,
        json!({"phase": "STATS", "pluginConfig": {"a": "AUTHZ"}})
    ));
    assert!(!applies(&istio::TRAFFIC_EXTENSION, json!({})));
    let filter = |name: &str| json!({"configPatches": [{"patch": {"value": {"name": name}}}]});
    assert!(applies(&istio::ENVOY_FILTER, filter("envoy.filters.http.ext_authz")));
    assert!(!applies(&istio::ENVOY_FILTER, filter("envoy.filters.http.lua")));
    let route = |filter: &str| json!({"rules": [{"filters": [{"type": filter}]}]});
    assert!(applies(&gateway_api::HTTP_ROUTE, route("ExternalAuth")));
    assert!(!applies(&gateway_api::HTTP_ROUTE, route("URLRewrite")));
}

fn any_json() -> impl Strategy<Value = Value> {
    let name = prop::sample::select(vec![
        "apiVersion",
        "spec",
        "rules",
        "from",
        "to",
        "when",
        "source",
        "operation",
        "key",
        "paths",
        "principals",
        "selector",
        "matchLabels",
        "action",
        "targetRefs",
        "mtls",
        "mode",
        "portLevelMtls",
        "80",
        "",
        "x.y",
        "a[0]",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        name.clone().prop_map(Value::from),
        "\\PC{0,4}".prop_map(Value::from),
    ];
    leaf.prop_recursive(8, 64, 4, move |inner| {
        let fields = prop::collection::btree_map(name.clone().prop_map(str::to_owned), inner.clone(), 0..4);
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(Value::from),
            fields.prop_map(|fields| fields.into_iter().collect()),
        ]
    })
}

proptest! {
    #[test]
    fn no_object_panics_and_none_is_named_without_a_reason(object in any_json()) {
        for known in ALL {
            for (path, instead) in unserved_fields(known, &object) {
                prop_assert!(!path.is_empty() || object.get("").is_some());
                prop_assert!(!instead.is_empty());
            }
            known.restricts.applies(&object);
        }
    }
}
