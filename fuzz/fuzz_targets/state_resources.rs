//! Workloads, services and policies as a controller may send them, in any order; what the proxy makes of them; and what it then
//! decides about connections.
//!
//! A step is a byte that says what is done, a length of two bytes, and so many bytes of a resource.
#![no_main]

use std::net::{IpAddr, SocketAddr};

use culvert_identity::SpiffeId;
use culvert_proto::{security::Authorization, workload as proto};
use culvert_state::{Outbound, Pod, Store};
use libfuzzer_sys::fuzz_target;
use prost::Message as _;

/// The name under which an honest controller sends a resource.
fn name(bytes: &[u8], policy: bool) -> String {
    if policy {
        return Authorization::decode(bytes)
            .map(|wire| format!("{}/{}", wire.namespace, wire.name))
            .unwrap_or_default();
    }
    match proto::Address::decode(bytes).ok().and_then(|wire| wire.r#type) {
        Some(proto::address::Type::Workload(workload)) => workload.uid,
        Some(proto::address::Type::Service(service)) => format!("{}/{}", service.namespace, service.hostname),
        None => String::new(),
    }
}

fn pod_of(name: &str, namespace: &str, identity: SpiffeId, addresses: &[IpAddr]) -> Pod {
    Pod {
        uid: "uid".into(),
        name: name.into(),
        namespace: namespace.into(),
        identity,
        addresses: addresses.to_vec(),
        node: "node".into(),
    }
}

fuzz_target!(|input: &[u8]| {
    let mut store = Store::new("", "cluster.local", input.len() % 2 == 0);
    store.set_synced();
    let (mut addresses, mut policies) = (Vec::new(), Vec::new());
    let mut rest = input;
    while let [kind, low, high, more @ ..] = rest {
        let (bytes, after) = more.split_at(usize::from(u16::from_le_bytes([*low, *high])).min(more.len()));
        rest = after;
        if kind & 8 == 8 {
            // What holds for the mesh as a whole comes the same way.
            let _ = culvert_state::MeshSettings::decode(bytes);
        }
        let policy = kind & 1 == 1;
        let name = if kind & 2 == 2 {
            "shop/other".to_owned()
        } else {
            name(bytes, policy)
        };
        let before = store.snapshot();
        match (policy, kind & 4 == 4) {
            (false, false) => {
                if store.put_address(&name, bytes).is_err() {
                    assert_eq!(
                        store.snapshot().sizes(),
                        before.sizes(),
                        "a refused resource changes nothing"
                    );
                }
                addresses.push(name);
            }
            (true, false) => {
                let _ = store.put_policy(&name, bytes);
                policies.push(name);
            }
            (false, true) => store.remove_address(&name),
            (true, true) => store.remove_policy(&name),
        }
    }
    let mesh = store.snapshot();
    let client = SpiffeId::new("cluster.local", "shop", "web").expect("well-formed");
    let mut dialled: Vec<SocketAddr> = vec![([198, 18, 0, 1], 80).into()];
    for workload in mesh.workloads() {
        let own = pod_of(
            &workload.name,
            &workload.namespace,
            workload.identity.clone(),
            &workload.addresses,
        );
        for &address in &*workload.addresses {
            assert!(!address.is_unspecified() && !address.is_loopback() && !address.is_multicast());
            dialled.push((address, 8080).into());
            for identity in [None, Some(&client)] {
                mesh.inbound(&own, ([198, 18, 0, 1], 4000).into(), identity, (address, 8080).into());
            }
        }
    }
    for (service, _) in mesh.services() {
        for (_, range) in &*service.addresses {
            let ports = service.ports.iter().map(|port| port.port).chain([1]);
            dialled.extend(ports.map(|port| SocketAddr::new(range.addr(), port)));
        }
    }
    let own = pod_of("client", "shop", client, &[[198, 18, 0, 1].into()]);
    for destination in dialled {
        if let Outbound::Tunnel { endpoint, .. } = mesh.outbound(&own, destination, &[]) {
            let (tunnel, target) = (endpoint.tunnel, endpoint.target());
            assert_eq!(
                (tunnel.port(), tunnel.ip(), endpoint.authority),
                (15008, target.ip(), target.into())
            );
            assert!(!endpoint.identities.is_empty() && target.port() != 0);
        }
    }
    for name in &addresses {
        store.remove_address(name);
    }
    for name in &policies {
        store.remove_policy(name);
    }
    let empty = store.snapshot();
    assert_eq!(empty.sizes(), [0, 0, 0], "what was removed is gone");
    for workload in mesh.workloads() {
        assert!(
            workload
                .addresses
                .iter()
                .all(|&address| empty.workload_at(address).is_none())
        );
    }
});
