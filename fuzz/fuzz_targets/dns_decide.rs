//! Messages to a pod's resolver, decided about beside a mesh that has something to say; and answers to the mesh's own queries.
//!
//! The first byte says how the message comes and whether the mesh is told on demand.
#![no_main]

use std::sync::{Arc, LazyLock};

use culvert_dns::{Client, Decision, Lookup, Transport, decide};
use culvert_proto::workload as proto;
use culvert_state::{Mesh, Store};
use libfuzzer_sys::fuzz_target;
use prost::Message as _;

const CLIENT: Client<'_> = Client {
    namespace: "shop",
    cluster_domain: "cluster.local",
};

/// The length of a message without OPT in a datagram, and of one with it.
const LONGEST: [usize; 2] = [512, 1232];

static MESHES: LazyLock<[Arc<Mesh>; 2]> = LazyLock::new(|| [mesh(false), mesh(true)]);

fn put(store: &mut Store, name: &str, kind: proto::address::Type) {
    let address = proto::Address { r#type: Some(kind) };
    store.put_address(name, &address.encode_to_vec()).expect("well-formed");
}

fn mesh(on_demand: bool) -> Arc<Mesh> {
    let mut store = Store::new("", "cluster.local", on_demand);
    store.set_synced();
    for (namespace, host, addresses) in [
        ("shop", "a.shop.svc.cluster.local", 1..2),
        ("shop", "many.shop.svc.cluster.local", 2..200),
        ("db", "pg.db.svc.cluster.local", 0..0),
        ("ext", "*.com", 200..201),
    ] {
        let address = |host: u8| proto::NetworkAddress {
            address: vec![198, 19, 0, host],
            ..Default::default()
        };
        let service = proto::Service {
            namespace: namespace.to_owned(),
            hostname: host.to_owned(),
            addresses: addresses.map(address).collect(),
            ..Default::default()
        };
        put(
            &mut store,
            &format!("{namespace}/{host}"),
            proto::address::Type::Service(service),
        );
    }
    let pod = proto::Workload {
        uid: "pg-0".to_owned(),
        name: "pg-0".to_owned(),
        namespace: "db".to_owned(),
        addresses: vec![vec![198, 18, 0, 1]],
        services: [("db/pg.db.svc.cluster.local".to_owned(), proto::PortList::default())].into(),
        ..Default::default()
    };
    put(&mut store, "pg-0", proto::address::Type::Workload(pod));
    store.snapshot()
}

fuzz_target!(|input: &[u8]| {
    let Some((kind, message)) = input.split_first() else {
        return;
    };
    let transport = if kind & 1 == 1 { Transport::Tcp } else { Transport::Udp };
    let mesh = &MESHES[usize::from(kind & 2 == 2)];
    match decide(message, transport, &CLIENT, mesh) {
        Decision::Answer { message: answer, .. } => {
            assert_eq!(answer[..2], message[..2], "the id of the question");
            assert_eq!(answer[2] & 0x80, 0x80, "an answer");
            assert_eq!(answer[4..6], [0, 1], "to one question");
            let has_edns = answer[11] == 1;
            assert!(transport == Transport::Tcp || answer.len() <= LONGEST[usize::from(has_edns)]);
            // Its own answer is none to be asked about.
            assert_eq!(decide(&answer, transport, &CLIENT, mesh), Decision::Drop);
        }
        Decision::Ask(hosts) => {
            assert!(kind & 2 == 2 && !hosts.is_empty() && hosts.len() <= 5);
            assert!(
                hosts
                    .iter()
                    .all(|host| host.len() <= 300 && **host == *host.to_ascii_lowercase())
            );
        }
        Decision::Forward | Decision::Drop => {}
    }
    if let Some(lookup) = Lookup::new("db.example.com", kind & 4 == 4, 7) {
        let _ = lookup.read(message);
        // As an answer to the very question, with what was fed behind it.
        let mut close = lookup.message();
        close[2] |= 0x80;
        close[7] = *kind >> 3;
        close.truncate(12 + 16 + 4);
        close[11] = 0;
        close.extend(message);
        let _ = lookup.read(&close);
    }
});
