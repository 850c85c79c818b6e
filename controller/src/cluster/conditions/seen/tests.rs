use std::time::Instant;

use culvert_objects::{Assembly, Loaded};

use super::in_force::due;
use super::*;
use crate::model::Model;

/// The message of the condition of an object of Istio's.
fn message(seen: &Seen, reference: &Reference) -> String {
    let due = seen.said(reference).due(&Value::Null, Timestamp::UNIX_EPOCH).unwrap();
    due["conditions"][0]["message"].as_str().unwrap().to_owned()
}

fn state(yaml: &str, findings: &[Finding]) -> State {
    let mut assembly = Assembly::default();
    for document in culvert_objects::parse(yaml, false).documents {
        assembly.apply(document.object);
    }
    State {
        loaded: Arc::new(Loaded {
            objects: assembly.settle().0.clone(),
            findings: findings.iter().map(|finding| (Arc::new(finding.clone()), ())).collect(),
            generation: 1,
        }),
        ..State::default()
    }
}

const POLICY: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---\n\
    apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: a, namespace: shop}\n";

#[test]
fn each_object_of_istios_is_looked_at_again_when_what_is_said_of_it_changes() {
    let name = ObjectName::new("shop", "a");
    let reference = (Kind::AuthorizationPolicy, name.clone());
    let mut seen = Seen::default();
    let fine = state(POLICY, &[]);
    assert_eq!(seen.update(&fine), BTreeSet::from([reference.clone()]));
    assert_eq!(message(&seen, &reference), "");
    assert_eq!(seen.update(&fine), BTreeSet::new());
    let finding = Finding::of_object(Kind::AuthorizationPolicy, &name, "spec.rules[0]", "denied".to_owned());
    let other = Finding::of_object(Kind::Pod, &name, "", "not its condition".to_owned());
    let found = State {
        loaded: Arc::new(Loaded {
            objects: fine.loaded.objects.clone(),
            findings: [finding, other]
                .into_iter()
                .map(|finding| (Arc::new(finding), ()))
                .collect(),
            generation: 2,
        }),
        ..State::default()
    };
    assert_eq!(seen.update(&found), BTreeSet::from([reference.clone()]));
    assert_eq!(message(&seen, &reference), "spec.rules[0]: denied");
    assert_eq!(seen.update(&fine), BTreeSet::from([reference.clone()]));
    assert_eq!((message(&seen, &reference).as_str(), seen.all().len()), ("", 1));
    let gone = state("", &[]);
    assert_eq!(seen.update(&gone), BTreeSet::new(), "what is gone has no status");
}

#[test]
fn addresses_that_were_chosen_for_hosts_are_written_as_istio_does_and_once() {
    const ENTRY: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---\n\
        apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: a, namespace: shop}\n\
        spec: {hosts: [a.example.com, '*.example.org'], resolution: DNS}\n";
    let mut model = Model::default();
    let before = state(ENTRY, &[]);
    model.update(&before.loaded.objects, Instant::now());
    let mut seen = Seen::default();
    let reference = (Kind::ServiceEntry, ObjectName::new("shop", "a"));
    assert_eq!(seen.update(&before), BTreeSet::from([reference.clone()]));
    assert_eq!(seen.addresses(&reference), Vec::<Value>::new());
    let chosen = State {
        loaded: Arc::clone(&before.loaded),
        allocations: model.allocations().clone(),
        ..State::default()
    };
    assert_eq!(
        seen.update(&chosen),
        BTreeSet::from([reference.clone()]),
        "something was chosen"
    );
    let addresses = seen.addresses(&reference);
    assert_eq!(addresses.len(), 2, "a wildcard has none");
    assert!(addresses.iter().all(|item| item["host"] == "a.example.com"));
    assert!(addresses[0]["value"].as_str().unwrap().starts_with("240.240."));

    let (now, fine) = (
        Timestamp::from_second(10).unwrap(),
        InForce::of(std::iter::empty(), false),
    );
    let first = due(&Value::Null, &fine, &addresses, now).unwrap();
    assert_eq!(first["addresses"], Value::from(addresses.clone()));
    assert_eq!(due(&first, &fine, &addresses, now), None);
    let again = due(&json!({ "conditions": first["conditions"] }), &fine, &addresses, now).unwrap();
    assert_eq!(again, json!({ "addresses": addresses }), "lost by itself");
    assert_eq!(
        due(&first, &fine, &[], now),
        None,
        "what nobody asks for any more stays"
    );
}

#[test]
fn a_route_is_looked_at_again_when_what_becomes_of_it_changes() {
    const ROUTE: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---\n\
        apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: a, namespace: shop}\n\
        spec: {parentRefs: [{group: '', kind: Service, name: web}]}\n---\n";
    const GATEWAY: &str = "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: wp, namespace: shop}\n\
        spec: {gatewayClassName: culvert-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}\n---\n\
        apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop, labels: {culvert.dev/use-waypoint: wp}}\n\
        spec: {clusterIP: 198.19.0.1, ports: [{name: http, port: 80}]}\n";
    let mut model = Model::default();
    let mut at = |yaml: &str| {
        let state = state(yaml, &[]);
        model.update(&state.loaded.objects, Instant::now());
        State {
            routes: model.routes().clone(),
            ..state
        }
    };
    let mut seen = Seen::default();
    let reference = (Kind::HTTPRoute, ObjectName::new("shop", "a"));
    let accepted = |seen: &Seen| {
        let due = seen.said(&reference).due(&Value::Null, Timestamp::UNIX_EPOCH).unwrap();
        due["parents"][0]["conditions"][0]["status"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert!(seen.update(&at(ROUTE)).contains(&reference));
    assert_eq!(accepted(&seen), "False");
    let whole = ROUTE.to_owned() + GATEWAY;
    assert!(seen.update(&at(&whole)).contains(&reference), "its parent came");
    assert_eq!(accepted(&seen), "True");
    assert!(seen.all().contains(&reference));
}
