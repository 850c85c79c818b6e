use std::{collections::HashMap, sync::Arc};

use culvert_proto::workload as proto;
use proptest::prelude::*;
use prost::Message as _;

use super::{World, member, service, session_affinity, workload};
use crate::{Mesh, Outbound, ResourceError, Store, cow::CowMap};

fn refused(name: &str, address: proto::address::Type) -> ResourceError {
    let mut store = Store::new("", "cluster.local", false);
    let bytes = proto::Address { r#type: Some(address) }.encode_to_vec();
    let error = store.put_address(name, &bytes).unwrap_err();
    assert_eq!(
        store.snapshot().sizes(),
        [0, 0, 0],
        "a refused resource changes nothing"
    );
    error
}

#[test]
fn each_wrong_field_is_named() {
    let check = |expected: &str, spoil: fn(&mut proto::Workload)| {
        let mut wire = member(workload("a", &["198.18.0.2"]), "cart", &[(80, 8080)]);
        spoil(&mut wire);
        let error = refused("Kubernetes//Pod/shop/a", proto::address::Type::Workload(wire));
        assert_eq!(error.to_string(), expected);
    };
    check("calls itself `b`", |w| w.uid = "b".into());
    check("name is missing", |w| w.name.clear());
    check("namespace is missing", |w| w.namespace.clear());
    check("addresses: an address has 3 bytes, neither 4 nor 16", |w| {
        w.addresses[0].truncate(3)
    });
    check("addresses: 127.0.0.1 cannot be an address of it", |w| {
        w.addresses[0] = vec![127, 0, 0, 1]
    });
    check("addresses: 0.0.0.0 cannot be an address of it", |w| {
        w.addresses[0] = vec![0; 4]
    });
    check("tunnel_protocol: 9 is unknown", |w| w.tunnel_protocol = 9);
    check("status: -1 is unknown", |w| w.status = -1);
    check("network_mode: 5 is unknown", |w| w.network_mode = 5);
    check("gateway destination is missing", |w| {
        w.waypoint = Some(proto::GatewayAddress::default())
    });
    check("target_port: 65536 is no port", |w| {
        w.services
            .values_mut()
            .for_each(|list| list.ports[0].target_port = 65536);
    });
    check(
        "`spiffe://Upper/ns/shop/sa/web` is not a workload's SPIFFE ID: its trust domain is not made of a-z, 0-9, '.', \
         '-' and '_'",
        |w| w.trust_domain = "Upper".into(),
    );
    let check = |expected: &str, spoil: fn(&mut proto::Service)| {
        let mut wire = service("cart", &["198.19.0.1"], &[(80, 8080)]);
        spoil(&mut wire);
        let error = refused("shop/cart.shop.svc.cluster.local", proto::address::Type::Service(wire));
        assert_eq!(error.to_string(), expected);
    };
    check("calls itself `shop/x`", |s| s.hostname = "x".into());
    check("service_port: 0 is no port", |s| s.ports[0].service_port = 0);
    check("addresses: prefix length 33 is too long for 198.19.0.1", |s| {
        s.addresses[0].length = Some(33)
    });
    check("routing_preference: 0 is unknown", |s| {
        let routing_preference = vec![0];
        s.load_balancing = Some(proto::LoadBalancing {
            routing_preference,
            ..Default::default()
        });
    });
    check("visibility: 3 is unknown", |s| s.visibility = 3);
    check("session affinity `Cookie` is unknown", |s| {
        s.extensions = vec![session_affinity("Cookie")]
    });
    check("culvert.dev/session-affinity is missing", |s| {
        let config = None;
        s.extensions = vec![proto::Extension {
            config,
            ..session_affinity("ClientIP")
        }];
    });
}

#[test]
fn an_older_snapshot_does_not_change() {
    let mut world = World::new(false).with(&[workload("a", &["198.18.0.2"])], &[]);
    let before = world.mesh();
    world.put(workload("b", &["198.18.0.3"]));
    world.store.remove_address("Kubernetes//Pod/shop/a");
    let after = world.mesh();
    let name = |mesh: &Mesh, address: &str| mesh.workload_at(address.parse().unwrap()).map(|w| w.name.to_string());
    assert_eq!(name(&before, "198.18.0.2").as_deref(), Some("a"));
    assert_eq!(name(&before, "198.18.0.3"), None);
    assert_eq!(name(&after, "198.18.0.2"), None);
    assert_eq!(name(&after, "198.18.0.3").as_deref(), Some("b"));
    assert!(after.generation() > before.generation());
}

#[test]
fn a_change_of_one_workload_in_ten_thousand_shares_the_others() {
    let pod = |number: u32| {
        let address = std::net::Ipv4Addr::from(0xc612_0000 + number).to_string();
        member(
            workload(&format!("p{number}"), &[&address]),
            &format!("s{}", number % 100),
            &[(80, 80)],
        )
    };
    let mut world = World::new(false);
    (1..=10_000).for_each(|number| world.put(pod(number)));
    let before = world.mesh();
    let text_before = Arc::strong_count(&before.workload_at("198.18.0.7".parse().unwrap()).unwrap().uid);
    world.put(proto::Workload { status: 1, ..pod(8) });
    let after = world.mesh();
    assert_eq!(after.sizes()[0], 10_000);
    let same = before
        .workloads()
        .filter(|old| after.workloads.get(&*old.uid).is_some_and(|new| Arc::ptr_eq(old, new)));
    assert_eq!(same.count(), 9_999);
    let uid = after.workload_at("198.18.0.7".parse().unwrap()).unwrap().uid.clone();
    assert!(
        Arc::strong_count(&uid) <= text_before + 2,
        "no shard but the changed one was copied"
    );
}

/// What can be seen of a mesh, without generation and order.
fn seen(mesh: &Mesh) -> Vec<String> {
    let mut seen: Vec<String> = mesh
        .workloads()
        .map(|w| format!("{} {:?} {:?}", w.uid, w.addresses, w.services))
        .collect();
    for (service, mut endpoints) in mesh.services() {
        endpoints.sort();
        seen.push(format!("{} {:?} {endpoints:?}", service.name, service.addresses));
    }
    for (address, owners) in mesh.owners.iter() {
        seen.push(format!(
            "{address} {:?}",
            owners.iter().map(|w| &w.uid).collect::<Vec<_>>()
        ));
    }
    for (address, services) in mesh.virtual_addresses.iter() {
        seen.push(format!(
            "{address} {:?}",
            services.iter().map(|s| &s.name).collect::<Vec<_>>()
        ));
    }
    for (name, endpoints) in mesh.endpoints.iter() {
        let mut uids: Vec<_> = endpoints.list.iter().map(|e| (&e.workload.uid, e.slot)).collect();
        uids.sort();
        seen.push(format!("{name} {uids:?} {}", endpoints.weighted));
    }
    seen.sort();
    seen
}

#[derive(Clone, Debug)]
enum Change {
    Put {
        name: u8,
        address: u8,
        services: Vec<u8>,
        weight: u32,
    },
    PutService {
        name: u8,
        address: u8,
    },
    Remove {
        name: u8,
    },
    RemoveService {
        name: u8,
    },
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (0..6u8, 1..5u8, proptest::collection::vec(0..3u8, 0..3), 1..3u32).prop_map(
            |(name, address, services, weight)| Change::Put {
                name,
                address,
                services,
                weight
            }
        ),
        (0..3u8, 1..3u8).prop_map(|(name, address)| Change::PutService { name, address }),
        (0..6u8).prop_map(|name| Change::Remove { name }),
        (0..3u8).prop_map(|name| Change::RemoveService { name }),
    ]
}

proptest! {
    /// However a state was reached, it is the state that its resources alone would have made.
    #[test]
    fn history_leaves_no_trace(changes in proptest::collection::vec(change(), 0..40)) {
        let mut lived = World::new(false);
        let (mut workloads, mut services) = (HashMap::new(), HashMap::new());
        for change in changes {
            match change {
                Change::Put { name, address, services, weight } => {
                    let mut wire = workload(&format!("w{name}"), &[&format!("198.18.0.{address}")]);
                    for service in services {
                        wire = member(wire, &format!("s{service}"), &[(80, 80)]);
                    }
                    wire.capacity = Some(weight);
                    lived.put(wire.clone());
                    workloads.insert(name, wire);
                }
                Change::PutService { name, address } => {
                    let wire = service(&format!("s{name}"), &[&format!("198.19.0.{address}")], &[(80, 80)]);
                    lived.put_service(wire.clone());
                    services.insert(name, wire);
                }
                Change::Remove { name } => {
                    lived.store.remove_address(&format!("Kubernetes//Pod/shop/w{name}"));
                    workloads.remove(&name);
                }
                Change::RemoveService { name } => {
                    lived.store.remove_address(&format!("shop/s{name}.shop.svc.cluster.local"));
                    services.remove(&name);
                }
            }
            lived.mesh();
        }
        let (workloads, services): (Vec<_>, Vec<_>) =
            (workloads.into_values().collect(), services.into_values().collect());
        let mut born = World::new(false).with(&workloads, &services);
        prop_assert_eq!(seen(&lived.mesh()), seen(&born.mesh()));
    }

    #[test]
    fn a_cow_map_is_a_map(operations in proptest::collection::vec((any::<bool>(), 0..200u32), 0..300)) {
        let (mut ours, mut theirs) = (CowMap::default(), HashMap::new());
        for (insert, key) in operations {
            let snapshot = ours.clone();
            let before = snapshot.get(&key).copied();
            if insert {
                prop_assert_eq!(ours.insert(key, key), theirs.insert(key, key));
            } else {
                prop_assert_eq!(ours.remove(&key), theirs.remove(&key));
            }
            prop_assert_eq!(snapshot.get(&key).copied(), before);
        }
        prop_assert_eq!(ours.len(), theirs.len());
        prop_assert!(ours.iter().all(|(key, value)| theirs.get(key) == Some(value)));
    }

    #[test]
    fn garbage_is_refused_or_taken_but_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut store = Store::new("", "cluster.local", false);
        let _ = store.put_address("Kubernetes//Pod/shop/a", &bytes);
        let _ = store.put_policy("shop/a", &bytes);
    }
}

#[test]
fn where_a_refused_resource_is_nothing_goes_in_clear() {
    let put = |world: &mut World, resource: proto::address::Type| {
        let name = match &resource {
            proto::address::Type::Workload(workload) => workload.uid.clone(),
            proto::address::Type::Service(service) => format!("{}/{}", service.namespace, service.hostname),
        };
        let address = proto::Address { r#type: Some(resource) };
        world.store.put_address(&name, &address.encode_to_vec())
    };
    for on_demand in [false, true] {
        let mut world = World::new(on_demand);
        let good = workload("a", &["198.18.0.2", "fd00:c01e::2"]);
        let future = proto::Workload {
            tunnel_protocol: 99,
            ..good.clone()
        };
        put(&mut world, proto::address::Type::Workload(future.clone())).unwrap_err();
        for address in ["198.18.0.2:80", "[::ffff:198.18.0.2]:80", "[fd00:c01e::2]:80"] {
            assert!(world.denial(address).contains("Pod/shop/a was refused"), "{address}");
        }
        put(&mut world, proto::address::Type::Workload(good.clone())).unwrap();
        assert!(matches!(world.outbound("198.18.0.2:80"), Outbound::Tunnel { .. }));
        put(&mut world, proto::address::Type::Workload(future.clone())).unwrap_err();
        assert!(
            matches!(world.outbound("198.18.0.2:80"), Outbound::Tunnel { .. }),
            "the earlier version stays in force"
        );

        let bad = proto::Service {
            visibility: 99,
            ..service("cart", &["198.19.0.1"], &[(80, 80)])
        };
        put(&mut world, proto::address::Type::Service(bad)).unwrap_err();
        assert!(world.denial("198.19.0.1:80").contains("shop/cart.shop"));
        world.store.remove_address("shop/cart.shop.svc.cluster.local");
        world.store.set_answered("198.19.0.1".parse().unwrap());
        assert!(matches!(world.outbound("198.19.0.1:80"), Outbound::Direct { .. }));
    }
}

#[test]
fn a_service_is_held_as_long_as_an_address_or_its_host_name_is_subscribed() {
    let host = "cart.shop.svc.cluster.local";
    let mut world = World::new(true).with(
        &[
            member(workload("a", &["198.18.0.2"]), "cart", &[(80, 80)]),
            member(workload("b", &["198.18.0.3"]), "head", &[(80, 80)]),
        ],
        &[
            service("cart", &["198.19.0.1"], &[(80, 80)]),
            service("head", &[], &[(80, 80)]),
        ],
    );
    let wild = proto::Service {
        hostname: "*.example.com".into(),
        ..service("wild", &["198.19.0.9"], &[])
    };
    world.put_service(wild);
    let address: std::net::IpAddr = "198.19.0.1".parse().unwrap();
    let gone = |world: &World, addresses: &[&str], hosts: &[&str], still: &[&str]| {
        let addresses: Vec<_> = addresses.iter().map(|address| address.parse().unwrap()).collect();
        let hosts: Vec<Arc<str>> = hosts.iter().map(|host| Arc::from(*host)).collect();
        let names = world.store.unsubscribed(
            (&addresses, &hosts),
            |one| still.contains(&"address") && one == address,
            |one| still.contains(&one),
            |_| false,
        );
        names.iter().map(|name| name.to_string()).collect::<Vec<_>>()
    };
    let cart = ["shop/cart.shop.svc.cluster.local", "Kubernetes//Pod/shop/a"];
    let nothing: [&str; 0] = [];
    assert_eq!(gone(&world, &["198.19.0.1"], &[], &[host]), nothing);
    assert_eq!(gone(&world, &["198.19.0.1"], &[], &[]), cart);
    assert_eq!(gone(&world, &[], &[host], &["address"]), nothing);
    assert_eq!(gone(&world, &[], &[host], &[]), cart);
    assert_eq!(gone(&world, &["198.19.0.1"], &[host], &[]), cart, "once");
    let head = "head.shop.svc.cluster.local";
    assert_eq!(
        gone(&world, &[], &[head], &[]),
        ["shop/head.shop.svc.cluster.local", "Kubernetes//Pod/shop/b"]
    );
    assert_eq!(
        gone(&world, &["198.18.0.3"], &[], &[head]),
        nothing,
        "an endpoint of what is held"
    );
    assert_eq!(
        gone(&world, &["198.19.0.9"], &["*.example.com"], &[]),
        nothing,
        "always subscribed"
    );

    assert!(world.mesh().is_host_unasked(host));
    world.store.set_host_answered(&host.into());
    assert!(!world.mesh().is_host_unasked(host));
    world.store.forget_host(host);
    assert!(world.mesh().is_host_unasked(host));
}

#[test]
fn a_host_name_leads_to_its_services_whatever_case_they_write_it_in() {
    let mut world = World::new(false);
    let of = |namespace: &str, host: &str| proto::Service {
        namespace: namespace.into(),
        hostname: host.into(),
        ..service("api", &["198.19.0.1"], &[])
    };
    world.put_service(of("b", "API.example.com"));
    world.put_service(of("a", "api.Example.com"));
    let change = world.store.take_change();
    assert_eq!(
        change.hosts.iter().map(|host| &**host).collect::<Vec<_>>(),
        ["api.example.com"]
    );
    let named = |mesh: &Mesh, namespace: &str| {
        let service = mesh.service_of_host(namespace, "api.example.com", |_| true);
        service.map(|service| service.name.to_string())
    };
    let mesh = world.mesh();
    assert_eq!(named(&mesh, "b").as_deref(), Some("b/API.example.com"));
    assert_eq!(
        named(&mesh, "shop").as_deref(),
        Some("a/api.Example.com"),
        "the first by name"
    );
    world.store.remove_address("a/api.Example.com");
    assert_eq!(named(&world.mesh(), "shop").as_deref(), Some("b/API.example.com"));
    world.store.remove_address("b/API.example.com");
    assert_eq!(
        (named(&world.mesh(), "shop"), named(&mesh, "b").is_some()),
        (None, true)
    );
    assert!(!world.store.knows_host("api.example.com"));
}
