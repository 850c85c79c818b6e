//! What the mesh answers to which names, as a table; and what holds for any bytes.

mod properties;
mod resolving;
mod table;

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use culvert_proto::{WILDCARDS_ALIAS, workload as proto};
use culvert_state::{Mesh, Store};
use hickory_proto::{
    op::{Edns, Message, OpCode, Query, ResponseCode},
    rr::{DNSClass, Name, RData, RecordType},
};
use prost::Message as _;

use crate::{Client, Decision, Outcome, Transport, decide};

/// A pod of namespace `shop`.
pub(crate) const CLIENT: Client<'_> = Client {
    namespace: "shop",
    cluster_domain: "cluster.local",
};

/// A mesh under construction.
pub(crate) struct World(Store);

impl World {
    pub(crate) fn new(on_demand: bool) -> Self {
        let mut store = Store::new("", "cluster.local", on_demand);
        store.set_synced();
        Self(store)
    }

    /// A service of a host name, with virtual addresses.
    pub(crate) fn service(mut self, namespace: &str, host: &str, addresses: &[&str]) -> Self {
        self.put(service(namespace, host, addresses));
        self
    }

    pub(crate) fn put(&mut self, service: proto::Service) {
        let name = format!("{}/{}", service.namespace, service.hostname);
        let kind = proto::address::Type::Service(service);
        let address = proto::Address { r#type: Some(kind) };
        self.0.put_address(&name, &address.encode_to_vec()).unwrap();
    }

    /// An endpoint of services, by their resource names.
    fn workload(mut self, name: &str, addresses: &[&str], is_ready: bool, services: &[&str]) -> Self {
        let services = services
            .iter()
            .map(|name| ((*name).to_owned(), proto::PortList::default()));
        let workload = proto::Workload {
            uid: format!("Kubernetes//Pod/db/{name}"),
            name: name.to_owned(),
            namespace: "db".to_owned(),
            addresses: addresses.iter().map(|address| bytes(address)).collect(),
            status: i32::from(!is_ready),
            services: services.collect(),
            ..Default::default()
        };
        let (uid, kind) = (workload.uid.clone(), proto::address::Type::Workload(workload));
        let address = proto::Address { r#type: Some(kind) };
        self.0.put_address(&uid, &address.encode_to_vec()).unwrap();
        self
    }

    fn answered(mut self, hosts: &[&str]) -> Self {
        for host in hosts {
            self.0.set_host_answered(&Arc::from(*host));
        }
        self
    }

    pub(crate) fn mesh(&mut self) -> Arc<Mesh> {
        self.0.snapshot()
    }
}

fn service(namespace: &str, host: &str, addresses: &[&str]) -> proto::Service {
    let address = |address: &&str| proto::NetworkAddress {
        address: bytes(address),
        ..Default::default()
    };
    proto::Service {
        name: host.split('.').next().unwrap().to_owned(),
        namespace: namespace.to_owned(),
        hostname: host.to_owned(),
        addresses: addresses.iter().map(address).collect(),
        ..Default::default()
    }
}

fn bytes(address: &str) -> Vec<u8> {
    match address.parse().unwrap() {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

fn query(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(0x1234, hickory_proto::op::MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    let labels = name.split('.').filter(|label| !label.is_empty());
    let mut name = Name::from_labels(labels.map(str::as_bytes)).unwrap();
    name.set_fqdn(true);
    message.add_query(Query::query(name, kind));
    message
}

/// An answer, checked to be one to the question, as its records in words, each group sorted.
fn ask(mesh: &Mesh, message: &Message, transport: Transport) -> Result<Message, Decision> {
    match decide(&message.to_vec().unwrap(), transport, &CLIENT, mesh) {
        Decision::Answer { message: bytes, .. } => {
            let answer = Message::from_vec(&bytes).unwrap();
            assert_eq!(answer.metadata.id, message.metadata.id);
            assert_eq!(answer.queries.len(), 1);
            assert!(
                answer.queries[0].name.eq_case(&message.queries[0].name),
                "in the case that was asked"
            );
            assert!(answer.metadata.recursion_available && answer.metadata.recursion_desired);
            assert_eq!(answer.edns.is_some(), message.edns.is_some());
            Ok(answer)
        }
        other => Err(other),
    }
}

/// What is decided about a name, in words: addresses, `owner -> name` for an alias, `none` for an answer without records.
fn said(mesh: &Mesh, name: &str, kind: RecordType) -> String {
    let answer = match ask(mesh, &query(name, kind), Transport::Tcp) {
        Ok(answer) => answer,
        Err(Decision::Forward) => return "forward".to_owned(),
        Err(Decision::Ask(hosts)) => return format!("ask {}", hosts.join(" ")),
        Err(other) => panic!("{other:?}"),
    };
    assert!(answer.metadata.authoritative && !answer.metadata.truncation);
    assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
    let mut owner = answer.queries[0].name.clone();
    let mut words = Vec::new();
    for record in &answer.answers {
        assert_eq!(record.name, owner);
        assert_eq!(record.ttl, 30);
        match &record.data {
            RData::CNAME(name) => {
                owner = name.0.clone();
                words.push(format!("0-> {owner}"));
            }
            RData::A(address) => words.push(address.to_string()),
            RData::AAAA(address) => words.push(address.to_string()),
            other => panic!("{other:?}"),
        }
    }
    words.sort();
    match words.is_empty() {
        true => "none".to_owned(),
        false => words.join(" ").replace("0->", "->"),
    }
}

#[test]
fn what_is_no_query_is_dropped_and_what_is_not_understood_goes_on() {
    let mesh = World::new(false)
        .service("shop", "cart.shop.svc.cluster.local", &["198.19.0.1"])
        .mesh();
    let good = query("cart.shop.svc.cluster.local", RecordType::A);
    let decided = |message: &Message| ask(&mesh, message, Transport::Udp).map(|_| ());
    assert_eq!(decided(&good), Ok(()));
    let bytes = good.to_vec().unwrap();
    let of_bytes = |bytes: &[u8]| decide(bytes, Transport::Udp, &CLIENT, &mesh);
    assert_eq!(of_bytes(&bytes[..11]), Decision::Drop, "shorter than a header");
    assert_eq!(of_bytes(&[]), Decision::Drop);
    let mut response = bytes.clone();
    response[2] |= 0x80;
    assert_eq!(of_bytes(&response), Decision::Drop, "an answer");
    assert_eq!(of_bytes(&bytes[..bytes.len() - 1]), Decision::Forward, "cut off");
    let mut two = good.clone();
    two.add_query(good.queries[0].clone());
    assert_eq!(decided(&two), Err(Decision::Forward), "two questions");
    let mut none = good.clone();
    none.queries.clear();
    assert_eq!(decided(&none), Err(Decision::Forward), "no question");
    let mut status = good.clone();
    status.metadata.op_code = OpCode::Status;
    assert_eq!(decided(&status), Err(Decision::Forward), "another operation");
    let mut chaos = good.clone();
    chaos.queries[0].set_query_class(DNSClass::CH);
    assert_eq!(decided(&chaos), Err(Decision::Forward), "another class");
    for kind in [
        RecordType::MX,
        RecordType::SRV,
        RecordType::ANY,
        RecordType::HTTPS,
        RecordType::Unknown(9999),
    ] {
        let other = query("cart.shop.svc.cluster.local", kind);
        assert_eq!(decided(&other), Err(Decision::Forward), "{kind}");
    }
    for name in [
        "",
        "*.shop.svc.cluster.local",
        "a\\000b.example.com",
        "\\195\\188.example.com",
    ] {
        let odd = query(name, RecordType::A);
        assert_eq!(
            decided(&odd),
            Err(Decision::Forward),
            "{name:?}: no host has such a name"
        );
    }
}

#[test]
fn a_version_of_edns_that_is_unknown_is_answered_so() {
    let mesh = World::new(false)
        .service("shop", "cart.shop.svc.cluster.local", &["198.19.0.1"])
        .mesh();
    let mut message = query("cart.shop.svc.cluster.local", RecordType::A);
    let mut edns = Edns::new();
    edns.set_version(1).set_dnssec_ok(true);
    message.set_edns(edns);
    let answer = ask(&mesh, &message, Transport::Udp).unwrap();
    assert_eq!(u16::from(answer.metadata.response_code), 16, "BADVERS");
    assert!(answer.answers.is_empty());
    let edns = answer.edns.unwrap();
    assert_eq!((edns.version(), edns.flags().dnssec_ok), (0, true));
    let mut other = query("example.com", RecordType::A);
    other.edns = message.edns.clone();
    assert_eq!(
        ask(&mesh, &other, Transport::Udp),
        Err(Decision::Forward),
        "its resolver may know it"
    );
}

#[test]
fn an_answer_is_as_long_as_the_client_takes_and_says_where_it_was_cut() {
    let addresses: Vec<String> = (0..2000)
        .map(|host| Ipv4Addr::from(0xc612_0000 + host).to_string())
        .collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let host = "many.shop.svc.cluster.local";
    let mesh = World::new(false).service("shop", host, &addresses).mesh();
    let few = World::new(false).service("shop", host, &addresses[..3]).mesh();
    let length = |mesh: &Mesh, name: &str, payload: Option<u16>, transport: Transport| {
        let mut message = query(name, RecordType::A);
        if let Some(payload) = payload {
            let mut edns = Edns::new();
            edns.set_max_payload(payload);
            message.set_edns(edns);
        }
        let bytes = message.to_vec().unwrap();
        let Decision::Answer { message, outcome } = decide(&bytes, transport, &CLIENT, mesh) else {
            panic!("no answer")
        };
        assert!(matches!(outcome, Outcome::Found { .. }));
        let answer = Message::from_vec(&message).unwrap();
        (message.len(), answer.metadata.truncation, answer.answers.len())
    };
    let short = "many.shop.svc";
    for (payload, most) in [(None, 512), (Some(512), 512), (Some(900), 900), (Some(4096), 1232)] {
        for name in [host, short, "many.shop.shop.svc.cluster.local"] {
            let (length, is_cut, count) = length(&mesh, name, payload, Transport::Udp);
            assert!(is_cut && count > 10, "{payload:?} {name}: {count}");
            assert!((most - 16..=most).contains(&length), "{payload:?} {name}: {length}");
        }
        let (_, is_cut, count) = length(&few, host, payload, Transport::Udp);
        assert_eq!((is_cut, count), (false, 3));
    }
    let (_, is_cut, count) = length(&mesh, host, None, Transport::Tcp);
    assert_eq!((is_cut, count), (false, 2000));
}

#[test]
fn questions_that_differ_come_to_different_addresses_first() {
    let addresses = ["198.19.0.1", "198.19.0.2", "198.19.0.3", "198.19.0.4"];
    let mesh = World::new(false)
        .service("shop", "cart.shop.svc.cluster.local", &addresses)
        .mesh();
    let first = |id: u16| {
        let mut message = query("cart.shop.svc.cluster.local", RecordType::A);
        message.metadata.id = id;
        ask(&mesh, &message, Transport::Udp).unwrap().answers[0]
            .data
            .to_string()
    };
    let mut counts = std::collections::BTreeMap::new();
    for id in 0..4000 {
        assert_eq!(first(id), first(id), "the same question, the same answer");
        *counts.entry(first(id)).or_insert(0) += 1;
    }
    assert_eq!(counts.len(), 4);
    assert!(counts.values().all(|count| (800..1200).contains(count)), "{counts:?}");
}
