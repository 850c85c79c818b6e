//! Names of a mesh with 10,000 services: how long a decision takes, bytes to bytes. No system call is in it.
//!
//! The goal is 50,000 answers a second on one core: 20 µs.
//!
//! | case | what happens |
//! |---|---|
//! | service | the name is a Service's, the first candidate |
//! | searched | a host outside the cluster with a search domain behind it: an alias and two addresses |
//! | headless | a Service without virtual address over 100 pods, of which a datagram takes 28 |
//! | forward | a name of nobody's: all candidates are looked up in vain |
//! | mail | a type that the mesh does not answer |

use std::{hint::black_box, net::Ipv4Addr, sync::Arc};

use culvert_bench_cases::{Cases, Throughput};
use culvert_dns::{Client, Transport, decide};
use culvert_proto::workload as proto;
use culvert_state::{Mesh, Store};
use hickory_proto::{
    op::{Message, MessageType, OpCode, Query},
    rr::{Name, RecordType},
};
use prost::Message as _;

const SERVICES: usize = 10_000;
const CLIENT: Client<'_> = Client {
    namespace: "shop",
    cluster_domain: "cluster.local",
};

fn put(store: &mut Store, name: &str, kind: proto::address::Type) {
    let address = proto::Address { r#type: Some(kind) };
    if let Err(error) = store.put_address(name, &address.encode_to_vec()) {
        eprintln!("{name}: {error}");
    }
}

fn put_service(store: &mut Store, namespace: &str, host: &str, addresses: &[Vec<u8>]) {
    let address = |octets: &Vec<u8>| proto::NetworkAddress {
        address: octets.clone(),
        ..Default::default()
    };
    let service = proto::Service {
        namespace: namespace.to_owned(),
        hostname: host.to_owned(),
        addresses: addresses.iter().map(address).collect(),
        ..Default::default()
    };
    put(
        store,
        &format!("{namespace}/{host}"),
        proto::address::Type::Service(service),
    );
}

fn mesh(services: usize) -> Arc<Mesh> {
    let mut store = Store::new("", "cluster.local", false);
    store.set_synced();
    let address = |number: u32| (0xc613_0000 + number).to_be_bytes().to_vec();
    for number in 0..services as u32 {
        let namespace = format!("team-{}", number % 100);
        let host = format!("service-{number}.{namespace}.svc.cluster.local");
        put_service(&mut store, &namespace, &host, &[address(number)]);
    }
    put_service(
        &mut store,
        "ext",
        "api.example.com",
        &[address(20_000), address(20_001)],
    );
    put_service(&mut store, "ext", "*.wild.example.com", &[address(20_002)]);
    put_service(&mut store, "db", "pg.db.svc.cluster.local", &[]);
    for number in 0..100 {
        let workload = proto::Workload {
            uid: format!("Kubernetes//Pod/db/pg-{number}"),
            name: format!("pg-{number}"),
            namespace: "db".to_owned(),
            addresses: vec![Ipv4Addr::from(0xc612_0000 + number).octets().to_vec()],
            services: [("db/pg.db.svc.cluster.local".to_owned(), proto::PortList::default())].into(),
            ..Default::default()
        };
        put(
            &mut store,
            &workload.uid.clone(),
            proto::address::Type::Workload(workload),
        );
    }
    store.snapshot()
}

fn query(name: &str, kind: RecordType) -> Vec<u8> {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    if let Ok(mut name) = Name::from_ascii(name) {
        name.set_fqdn(true);
        message.add_query(Query::query(name, kind));
    }
    message.to_vec().unwrap_or_default()
}

fn decisions(cases: &mut Cases) {
    let services = cases.size(SERVICES);
    let mesh = mesh(services);
    for (case, name, kind) in [
        ("dns/service", "service-777.team-77.svc.cluster.local", RecordType::A),
        ("dns/searched", "api.example.com.shop.svc.cluster.local", RecordType::A),
        ("dns/headless", "pg.db.svc.cluster.local", RecordType::A),
        ("dns/forward", "www.example.org.shop.svc.cluster.local", RecordType::A),
        ("dns/mail", "example.org", RecordType::MX),
    ] {
        let query = query(name, kind);
        cases.case_of(case, Throughput::Elements(1), || {
            decide(black_box(&query), Transport::Udp, &CLIENT, &mesh)
        });
    }
}

fn main() {
    culvert_bench_cases::main(&[decisions]);
}
