//! Who may reach whom in the golden cases, beside what Istio's node proxy decides by what Istio's control plane sends.
//!
//! Policies are compared by what they decide, not by their text: every pod of a case is asked about peers that its policies
//! speak of, and about others. Ours may deny what Istio's lets in where `stricter.txt` of the case says so and why; it may
//! never let in what Istio's denies.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Instant;

use base64::Engine as _;
use culvert_controller::model::{Model, Settings};
use culvert_identity::SpiffeId;
use culvert_objects::{Directory, known};
use culvert_policy::{Connection, Policy, Scope, Verdict, evaluate, istio};
use culvert_proto::security::Authorization;
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage};
use serde_json::{Value, json};

use crate::cases;

/// A workload as far as policies are concerned.
struct Bound {
    namespace: String,
    address: IpAddr,
    policies: BTreeSet<String>,
}

fn policy_of(mut json: Value) -> Policy {
    addresses_to_base64(&mut json);
    let pool = DescriptorPool::decode(culvert_proto::DESCRIPTORS).unwrap();
    let descriptor = pool.get_message_by_name("istio.security.Authorization").unwrap();
    let message = DynamicMessage::deserialize(descriptor, json).unwrap();
    let message = Authorization::decode(message.encode_to_vec().as_slice()).unwrap();
    Policy::from_proto(&message).unwrap()
}

/// The recordings have addresses as text, protobuf's JSON has them in base64.
fn addresses_to_base64(json: &mut Value) {
    match json {
        Value::Array(items) => items.iter_mut().for_each(addresses_to_base64),
        Value::Object(members) => {
            if let Some(Value::String(text)) = members.get_mut("address") {
                let octets = match text.parse().unwrap() {
                    IpAddr::V4(address) => address.octets().to_vec(),
                    IpAddr::V6(address) => address.octets().to_vec(),
                };
                *text = base64::engine::general_purpose::STANDARD.encode(octets);
            }
            members.values_mut().for_each(addresses_to_base64);
        }
        _ => {}
    }
}

fn bound(addresses: &BTreeMap<String, Value>) -> BTreeMap<String, Bound> {
    let pods = addresses.iter().filter(|(name, _)| name.contains("//Pod/"));
    let pods = pods.filter_map(|(name, value)| Some((name, value.get("workload")?)));
    pods.map(|(name, workload)| {
        let names = workload["authorization_policies"].as_array();
        let bound = Bound {
            namespace: workload["namespace"].as_str().unwrap().to_owned(),
            address: workload["addresses"][0].as_str().unwrap().parse().unwrap(),
            policies: names
                .into_iter()
                .flatten()
                .map(|name| name.as_str().unwrap().to_owned())
                .collect(),
        };
        (name.clone(), bound)
    })
    .collect()
}

/// A policy that a workload names and that was not sent denies.
fn allows(bound: &Bound, policies: &BTreeMap<String, Policy>, connection: &Connection<'_>) -> bool {
    if !bound.policies.iter().all(|name| policies.contains_key(name)) {
        return false;
    }
    let binding = policies.iter().filter(|(name, policy)| match policy.scope() {
        Scope::Global => true,
        Scope::Namespace => *bound.namespace == **policy.namespace(),
        Scope::WorkloadSelector => bound.policies.contains(*name),
    });
    evaluate(binding.map(|(_, policy)| policy), connection) == Verdict::Allow
}

/// Peers that somebody may be: of every namespace and account that the case speaks of, and of others.
fn peers(text: &str) -> Vec<Option<SpiffeId>> {
    let words: BTreeSet<&str> = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').collect();
    let names = words.into_iter().map(|word| word.trim_matches('-'));
    let names: BTreeSet<&str> = names.filter(|word| (1..20).contains(&word.len())).collect();
    let mut peers = vec![None];
    let mut add = |namespace: &str, account: &str| {
        peers.extend(SpiffeId::new("cluster.local", namespace, account).ok().map(Some));
    };
    for name in names {
        add(name, "default");
        add("z", name);
        add("elsewhere", name);
        add(&format!("{name}-x"), "default");
        add(&format!("x-{name}"), "default");
    }
    peers
}

fn ports(text: &str) -> BTreeSet<u16> {
    let numbers = text.split(|c: char| !c.is_ascii_digit());
    let numbers = numbers.filter_map(|number| number.parse().ok());
    numbers.filter(|port| *port != 0).chain([4242]).collect()
}

fn stricter(case: &Path) -> Vec<String> {
    let text = fs::read_to_string(case.join("stricter.txt")).unwrap_or_default();
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines
        .map(|line| {
            let (name, reason) = line.split_once('#').expect("each line says why");
            assert!(!reason.trim().is_empty(), "{}: {line}", case.display());
            name.trim().to_owned()
        })
        .collect()
}

#[test]
fn whoever_is_denied_by_istio_is_denied_by_us_and_others_only_with_a_reason() {
    const SOURCES: [&str; 5] = ["10.0.0.1", "10.9.0.1", "192.0.2.7", "203.0.113.1", "2001:db8::1"];
    let mut asked = 0;
    let all = cases::cases();
    assert_eq!(all.len(), 30);
    for case in all {
        let dir = cases::directory(&case);
        let loaded = Directory::open(dir.path()).unwrap().loaded();
        let mut model = Model::new(Settings::default());
        model.update(&loaded.objects, Instant::now());
        let rendered = |(name, address): (&String, _)| (name.clone(), cases::render(address));
        let ours_bound = bound(&model.addresses().iter().map(rendered).collect());
        let ours: BTreeMap<String, Policy> = model
            .authorizations()
            .iter()
            .map(|(name, policy)| (name.clone(), Policy::from_proto(policy).unwrap()))
            .collect();
        let all: Value = serde_json::from_slice(&fs::read(case.join("expected.json")).unwrap()).unwrap();
        let theirs: BTreeMap<String, Value> = serde_json::from_value(all["authorizations"].clone()).unwrap();
        let theirs: BTreeMap<String, Policy> = theirs.into_iter().map(|(name, json)| (name, policy_of(json))).collect();
        let theirs_bound = bound(&cases::expected(&case));
        let input = fs::read_to_string(case.join("input.yaml")).unwrap();
        let (peers, ports) = (peers(&input), ports(&input));
        let stricter = stricter(&case);
        let mut used = BTreeSet::new();
        for (name, recorded) in &theirs_bound {
            let own = ours_bound.get(name).unwrap_or_else(|| panic!("{name} is not in ours"));
            for (peer, port, source) in peers
                .iter()
                .flat_map(|peer| ports.iter().map(move |port| (peer, port)))
                .flat_map(|(peer, port)| SOURCES.iter().map(move |source| (peer, port, source)))
            {
                let connection = Connection {
                    identity: peer.as_ref(),
                    source: source.parse().unwrap(),
                    destination: SocketAddr::new(recorded.address, *port),
                };
                asked += 1;
                let (we, they) = (allows(own, &ours, &connection), allows(recorded, &theirs, &connection));
                if we == they {
                    continue;
                }
                let says = format!("{}: {connection:?} to {name}: ours {we}, theirs {they}", case.display());
                assert!(they, "let in although Istio denies: {says}");
                let reason = stricter.iter().find(|known| cases::glob(&format!("*{known}"), name));
                assert!(reason.is_some(), "denied, and nothing says why: {says}");
                used.extend(reason);
            }
        }
        assert_eq!(
            used.len(),
            stricter.len(),
            "{}: a reason that is not needed",
            case.display()
        );
    }
    assert!(asked > 10_000, "{asked} questions");
}

/// The page of objects and the translation say the same of each field.
#[test]
fn each_field_that_is_said_not_to_be_served_is_named_where_it_is_used() {
    let fields = known::istio::AUTHORIZATION_POLICY.fields.iter();
    let unserved = fields.filter(|field| field.state.instead().is_some());
    // Of no meaning but with CUSTOM, which is named.
    let unserved: Vec<&str> = unserved
        .map(|field| field.path)
        .filter(|path| !path.starts_with("spec.provider"))
        .collect();
    assert!(unserved.len() > 10, "{unserved:?}");
    for path in unserved {
        let object = object_with(path.split('.'));
        let made = istio::authorization(&istio::Source {
            namespace: "z",
            name: "p",
            scope: culvert_proto::security::Scope::Namespace,
            dry_run: None,
            spec: &object["spec"],
        });
        let place = path.replace("[]", "[0]");
        let is_named = made.notes.iter().any(|note| place.starts_with(&note.field));
        assert!(is_named, "{place}: {:?}", made.notes);
    }
}

/// An object with this field, whose value is a text in a list.
fn object_with<'a>(mut path: impl Iterator<Item = &'a str>) -> Value {
    let Some(name) = path.next() else { return json!(["x"]) };
    match name.strip_suffix("[]") {
        Some(list) => json!({ list: [object_with(path)] }),
        None => json!({ name: object_with(path) }),
    }
}
