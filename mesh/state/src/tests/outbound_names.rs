//! Where a connection goes to a Service whose endpoints are DNS names.

use std::{collections::HashMap, net::IpAddr};

use culvert_proto::workload as proto;

use super::{World, client, member, service, workload};
use crate::{Awaited, Mesh, Outbound, Tried};

#[test]
fn an_endpoint_that_is_known_by_its_name_is_resolved_and_who_has_its_address_decides_how_it_is_reached() {
    let named = |host: &str, weight: u32, health: i32| {
        let wire = member(workload(host, &[]), "db", &[(80, 8080)]);
        proto::Workload {
            hostname: host.to_owned(),
            tunnel_protocol: proto::TunnelProtocol::None as i32,
            capacity: Some(weight),
            status: health,
            ..wire
        }
    };
    let services = [service("db", &["198.19.0.2"], &[(80, 80), (90, 90)])];
    let endpoints = [
        named("one.example.com", 3, 0),
        named("two.example.com", 1, 0),
        named("sick.example.com", 9, 1),
    ];
    let mut world = World::new(false).with(&endpoints, &services);
    let mut counts = HashMap::new();
    for _ in 0..4000 {
        let Outbound::Resolve(named) = world.outbound("198.19.0.2:80") else {
            panic!("not resolved")
        };
        assert_eq!(named.port, 8080);
        assert_eq!(&*named.service.name, "shop/db.shop.svc.cluster.local");
        *counts.entry(named.host.to_string()).or_insert(0) += 1;
    }
    assert_eq!(counts.len(), 2, "{counts:?}");
    assert!(
        (2700..3300).contains(&counts["one.example.com"]),
        "by weight: {counts:?}"
    );
    assert!(world.denial("198.19.0.2:81").contains("has no port 81"));

    // What it turns out to have is reached there; and whoever has this address in the mesh, in the tunnel.
    let Outbound::Resolve(one) = world.outbound("198.19.0.2:80") else {
        panic!("not resolved")
    };
    let mesh = world.mesh();
    let resolved =
        |mesh: &Mesh, address: &str| mesh.resolved(&client(), &one, address.parse().unwrap(), Tried::default());
    match resolved(&mesh, "203.0.113.5") {
        Outbound::Direct {
            destination,
            workload,
            service,
        } => {
            assert_eq!(destination, "203.0.113.5:8080".parse().unwrap());
            assert_eq!(workload.unwrap().name, one.workload.name);
            assert_eq!(service.as_deref(), Some("shop/db.shop.svc.cluster.local"));
        }
        other => panic!("{other:?}"),
    }
    world.put(workload("pod", &["198.18.0.7"]));
    let mesh = world.mesh();
    match resolved(&mesh, "::ffff:198.18.0.7") {
        Outbound::Tunnel { endpoint, .. } => assert_eq!(endpoint.target(), "198.18.0.7:8080".parse().unwrap()),
        other => panic!("{other:?}"),
    }
    // A pod that is on its way, or gone.
    match resolved(&mesh, "10.0.0.9") {
        Outbound::Pending(Awaited::OwnerOrRanges(address)) => {
            assert_eq!(address, "10.0.0.9".parse::<IpAddr>().unwrap())
        }
        other => panic!("{other:?}"),
    }
    // The name of a service of the mesh, and one that leads back.
    world.put(member(workload("pod", &["198.18.0.7"]), "cart", &[(8080, 80)]));
    world.put_service(service("cart", &["198.19.0.3"], &[(8080, 80)]));
    let mesh = world.mesh();
    match resolved(&mesh, "198.19.0.3") {
        Outbound::Tunnel { endpoint, .. } => assert_eq!(endpoint.target(), "198.18.0.7:80".parse().unwrap()),
        other => panic!("{other:?}"),
    }
    world.put_service(service("db", &["198.19.0.2"], &[(80, 80), (8080, 80)]));
    let mesh = world.mesh();
    match resolved(&mesh, "198.19.0.2") {
        Outbound::Deny(denial) => assert!(denial.to_string().contains("known by their DNS names"), "{denial}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn endpoints_with_addresses_and_with_names_share_by_weight_and_what_has_failed_comes_last() {
    let of = |name: &str, addresses: &[&str], weight: u32| proto::Workload {
        hostname: if addresses.is_empty() {
            format!("{name}.example.com")
        } else {
            String::new()
        },
        capacity: Some(weight),
        ..member(workload(name, addresses), "db", &[(80, 8080)])
    };
    let endpoints = [of("a", &["198.18.0.2"], 1), of("b", &[], 2), of("c", &[], 1)];
    let services = [service("db", &["198.19.0.2"], &[(80, 80)])];
    let mut world = World::new(false).with(&endpoints, &services);
    let mesh = world.mesh();
    let choose = |tried: Tried<'_>| match mesh.outbound_past(&client(), "198.19.0.2:80".parse().unwrap(), tried) {
        Outbound::Resolve(named) => named.host.to_string(),
        Outbound::Tunnel { endpoint, .. } => endpoint.target().to_string(),
        other => panic!("{other:?}"),
    };
    let mut counts = HashMap::new();
    for _ in 0..4000 {
        *counts.entry(choose(Tried::default())).or_insert(0) += 1;
    }
    for (target, share) in [
        ("198.18.0.2:8080", 1000),
        ("b.example.com", 2000),
        ("c.example.com", 1000),
    ] {
        assert!(
            (share - 250..share + 250).contains(&counts[target]),
            "{target}: {counts:?}"
        );
    }
    let (names, all) = (
        ["b.example.com".into()],
        ["b.example.com".into(), "c.example.com".into()],
    );
    let target = ["198.18.0.2:8080".parse().unwrap()];
    for _ in 0..100 {
        assert_ne!(
            choose(Tried {
                targets: &[],
                names: &names
            }),
            "b.example.com"
        );
        assert_eq!(
            choose(Tried {
                targets: &target,
                names: &names
            }),
            "c.example.com"
        );
        assert_eq!(
            choose(Tried {
                targets: &[],
                names: &all
            }),
            "198.18.0.2:8080"
        );
        // There is nothing else.
        choose(Tried {
            targets: &target,
            names: &all,
        });
    }
}
