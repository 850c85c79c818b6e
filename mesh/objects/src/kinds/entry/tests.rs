//! Entries as they are written, and what is said of those that are wrong in places.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::kinds::{Kind, KindSpec as _, Object};

fn entry(spec: Value) -> Arc<ServiceEntry> {
    match read("ServiceEntry", &spec) {
        Object::ServiceEntry(entry) => entry,
        other => panic!("{other:?}"),
    }
}

fn workload(spec: Value) -> Arc<WorkloadEntry> {
    match read("WorkloadEntry", &spec) {
        Object::WorkloadEntry(entry) => entry,
        other => panic!("{other:?}"),
    }
}

fn read(kind: &str, spec: &Value) -> Object {
    let kind = Kind::named(kind).unwrap().descriptor();
    let object = json!({"metadata": {"name": "e", "namespace": "vm", "labels": {"app": "own"}}, "spec": spec});
    kind.read(object).unwrap()
}

/// The fields of which something is said.
fn fields(problems: &[crate::Problem]) -> Vec<&str> {
    problems.iter().filter_map(|problem| problem.field.as_deref()).collect()
}

#[test]
fn an_entry_that_is_right_has_nothing_said_of_it() {
    let entry = entry(json!({
        "hosts": ["Ledger.VM.internal."], "addresses": ["198.51.100.20", "198.51.100.130/28", "2001:db8::/64", "192.0.2.1/32"],
        "ports": [{"number": 80, "name": "http", "protocol": "HTTP", "targetPort": 8080}, {"number": 90, "name": "raw"}],
        "location": "MESH_INTERNAL", "resolution": "STATIC", "exportTo": [".", "shop"],
        "endpoints": [{"address": "172.21.0.1", "ports": {"http": 81}, "locality": "north/n-1", "weight": 3, "serviceAccount": "a"}],
        "subjectAltNames": ["spiffe://cluster.local/ns/vm/sa/a"],
    }));
    assert!(entry.problems().is_empty(), "{:?}", entry.problems());
    assert_eq!(&*entry.hosts[0].1, "ledger.vm.internal");
    let ranges: Vec<String> = entry.addresses.iter().map(|(_, range)| range.to_string()).collect();
    assert_eq!(
        ranges,
        ["198.51.100.20/32", "198.51.100.128/28", "2001:db8::/64", "192.0.2.1/32"]
    );
    let endpoint = &entry.endpoints[0];
    assert_eq!(
        (endpoint.port("http"), endpoint.port("raw"), endpoint.weight),
        (Some(81), None, Some(3))
    );
    assert_eq!((&*endpoint.locality.region, &*endpoint.locality.zone), ("north", "n-1"));
    assert_eq!(entry.export, Export::Only(["shop".into(), "vm".into()].into()));
}

#[test]
fn what_is_wrong_in_one_place_is_named_and_the_rest_of_the_entry_holds() {
    let entry = entry(json!({
        "hosts": ["a.example", "a.example", "b/c", "*", 7],
        "addresses": ["10.0.0.1", "10.0.0.1", "127.0.0.1", "::ffff:10.0.0.2", "10.0.0.0/33", "nine"],
        "ports": [
            {"number": 80, "name": "http"}, {"number": 80, "name": "again"}, {"number": 81, "name": "http"},
            {"number": 0, "name": "none"}, {"name": "nothing"}, {"number": 82, "name": "far", "targetPort": 70000},
            {"number": 53, "name": "dns", "protocol": "UDP"}, {"number": 83, "name": "odd", "protocol": "GOPHER"},
        ],
        "resolution": "STATIC",
        "endpoints": [
            {"address": "172.21.0.1"}, {"address": "172.21.0.1"}, {"address": "db.example"}, {"network": "far"},
            {"address": "unix:///run/a"}, {"address": "0.0.0.0"}, {"address": "172.21.0.2", "ports": {"http": 0}},
            {"address": "172.21.0.3", "serviceAccount": "a/b"},
            {"address": "172.21.0.4", "ports": {"what": 1}, "weight": -1, "locality": "a/b/c/d"},
        ],
        "colour": "red",
    }));
    assert_eq!(
        fields(entry.problems()),
        [
            "spec.colour",
            "spec.endpoints[3].network",
            "spec.ports[1].number",
            "spec.ports[2].name",
            "spec.ports[3].number",
            "spec.ports[4].number",
            "spec.ports[5].targetPort",
            "spec.ports[6].protocol",
            "spec.ports[7].protocol",
            "spec.hosts[4]",
            "spec.hosts[1]",
            "spec.hosts[2]",
            "spec.hosts[3]",
            "spec.addresses[1]",
            "spec.addresses[2]",
            "spec.addresses[3]",
            "spec.addresses[4]",
            "spec.addresses[5]",
            "spec.endpoints[1].address",
            "spec.endpoints[2].address",
            "spec.endpoints[3].address",
            "spec.endpoints[4].address",
            "spec.endpoints[5].address",
            "spec.endpoints[6].ports[http]",
            "spec.endpoints[7].serviceAccount",
            "spec.endpoints[8].locality",
            "spec.endpoints[8].weight",
            "spec.endpoints[8].ports[what]",
        ]
    );
    let hosts: Vec<&str> = entry.hosts.iter().map(|(_, host)| &**host).collect();
    assert_eq!(
        (hosts, entry.addresses.len(), entry.ports.len()),
        (vec!["a.example"], 1, 2)
    );
    let places: Vec<_> = entry.endpoints.iter().map(|endpoint| endpoint.place).collect();
    assert_eq!(places, [Some(0), Some(8)]);
}

#[test]
fn a_resolution_that_is_not_understood_has_no_endpoints_and_is_named() {
    for word in [json!("DYNAMIC_DNS"), json!("STATICK"), json!(3)] {
        let entry = entry(json!({"hosts": ["a.example"], "resolution": word}));
        assert_eq!(
            (entry.resolution, fields(entry.problems())),
            (Resolution::Unserved, vec!["spec.resolution"])
        );
    }
    let missing = entry(json!({"hosts": ["a.example"]}));
    assert_eq!((missing.resolution, missing.problems().len()), (Resolution::None, 0));
}

#[test]
fn a_selector_that_is_not_understood_selects_nobody() {
    let own = |entry: &ServiceEntry| entry.selects(&entry.labels);
    assert!(own(&entry(
        json!({"hosts": ["a.b"], "workloadSelector": {"labels": {"app": "own"}}})
    )));
    for selector in [
        json!({}),
        json!({"labels": {}}),
        json!({"labels": {"app": 1}}),
        json!({"labels": {"app": "o*"}}),
        json!("x"),
    ] {
        let entry = entry(json!({"hosts": ["a.b"], "workloadSelector": selector}));
        assert!(entry.has_selector() && !own(&entry), "{entry:?}");
        assert!(
            fields(entry.problems()).contains(&"spec.workloadSelector.labels"),
            "{entry:?}"
        );
    }
}

#[test]
fn what_is_exported_to_nobody_or_to_no_namespace_is_seen_by_nobody() {
    for (to, nobody) in [
        (json!(["~"]), true),
        (json!(["No"]), true),
        (json!("*"), true),
        (json!(["."]), false),
        (json!(["a", "*"]), false),
        (json!([]), false),
    ] {
        let entry = entry(json!({"hosts": ["a.b"], "exportTo": to}));
        assert_eq!(entry.export.is_nobody(), nobody, "{to}");
    }
}

#[test]
fn the_labels_of_a_workload_are_its_own_before_those_in_its_spec() {
    let entry = workload(json!({"address": "db.example", "labels": {"app": "spec", "tier": "back"}}));
    assert_eq!(
        (entry.labels.get("app"), entry.labels.get("tier")),
        (Some("own"), Some("back"))
    );
    assert!(entry.problems().is_empty(), "{:?}", entry.problems());
    let nowhere = workload(json!({"network": "far"}));
    assert!(nowhere.endpoint.is_none() && fields(nowhere.problems()) == ["spec.network", "spec.address"]);
}

/// Nobody reaches it, which whoever applies it must hear.
#[test]
fn a_network_is_named_wherever_an_entry_says_one_and_its_endpoint_is_in_that() {
    let label = json!({"topology.istio.io/network": "far"});
    let listed = entry(json!({"hosts": ["a.example"], "resolution": "STATIC", "endpoints": [
        {"address": "172.21.0.1"}, {"address": "172.21.0.2", "network": "far"}, {"address": "172.21.0.3", "network": ""},
        {"address": "172.21.0.4", "labels": label},
    ]}));
    let said = fields(listed.problems());
    assert!(said.contains(&"spec.endpoints[1].network"), "{said:?}");
    assert!(
        said.contains(&"spec.endpoints[3].labels[topology.istio.io/network]"),
        "{said:?}"
    );
    assert!(
        !said.iter().any(|field| field.contains("[0]") || field.contains("[2]")),
        "{said:?}"
    );
    let networks: Vec<&str> = listed.endpoints.iter().map(|endpoint| &*endpoint.network).collect();
    assert_eq!(networks, ["", "far", "", "far"]);
    let far = workload(json!({"address": "172.21.0.1", "network": "far"}));
    assert_eq!(fields(far.problems()), ["spec.network"]);
    let labelled = workload(json!({"address": "172.21.0.1", "labels": label}));
    assert_eq!(fields(labelled.problems()), ["spec.labels[topology.istio.io/network]"]);
    assert_eq!(labelled.endpoint.as_ref().unwrap().address(), None);
}

/// A key is what finds an object again: an address in another network is another one.
#[test]
fn an_endpoint_of_another_network_has_no_address_in_this_one() {
    let near = workload(json!({"address": "172.21.0.1"}));
    let far = workload(json!({"address": "172.21.0.1", "network": "far"}));
    assert_eq!((near.keys(&near.name).len(), far.keys(&far.name).len()), (1, 0));
}

proptest! {
    #[test]
    fn no_spec_panics_and_what_holds_of_it_is_valid(text in "\\PC{0,12}", number in any::<i64>(), which in 0_usize..9) {
        let values = [json!(text), json!(number), json!([text, number]), json!({"a": text}), json!(null)];
        let odd = values[which % values.len()].clone();
        let spec = json!({
            "hosts": [text, odd], "addresses": [text, odd, format!("{text}/8")],
            "ports": [{"number": number, "name": text, "targetPort": odd, "protocol": odd}, odd],
            "resolution": odd, "exportTo": odd, "workloadSelector": odd, "subjectAltNames": odd,
            "endpoints": [{"address": text, "ports": odd, "weight": number, "locality": odd, "network": odd}, odd],
        });
        let read = entry(spec);
        prop_assert!(read.hosts.iter().all(|(_, host)| !host.is_empty() && !host.contains('/')));
        prop_assert!(read.ports.iter().all(|port| port.number != 0));
        prop_assert!(read.problems().iter().all(|problem| !problem.message.is_empty() && problem.field.is_some()));
        workload(json!({"address": odd, "labels": odd, "ports": odd, "weight": odd, "serviceAccount": odd}));
    }
}
