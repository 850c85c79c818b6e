use std::collections::HashMap;

use std::{
    net::{IpAddr, SocketAddr},
    sync::atomic::Ordering,
};

use culvert_proto::workload as proto;

use super::{World, balancing::preferring, client, client_workload, member, service, workload};
use crate::{Awaited, Endpoint, Mesh, Outbound, Tried};

/// An endpoint that an object names by an address alone.
fn by_hand(name: &str, address: &str) -> proto::Workload {
    proto::Workload {
        uid: format!("Kubernetes/discovery.k8s.io/EndpointSlice/shop/{name}"),
        tunnel_protocol: 0,
        ..workload(name, &[address])
    }
}

#[test]
fn who_has_an_address_decides_how_it_is_reached_whatever_led_to_it() {
    let pod = workload("db", &["198.18.0.2"]);
    let slice = member(by_hand("db-man", "198.18.0.2"), "man", &[(80, 9000)]);
    let man = service("man", &["198.19.0.1"], &[(80, 9000)]);
    for order in [[pod.clone(), slice.clone()], [slice.clone(), pod.clone()]] {
        let mut world = World::new(false).with(&order, std::slice::from_ref(&man));
        for destination in ["198.19.0.1:80", "198.18.0.2:9000"] {
            let Outbound::Tunnel { endpoint, .. } = world.outbound(destination) else {
                panic!("{destination} in plaintext to a pod of the mesh");
            };
            assert_eq!(&*endpoint.workload.name, "db");
            assert_eq!(endpoint.identities[0].as_str(), "spiffe://cluster.local/ns/shop/sa/web");
        }
        // A pod that is not ready does not lose its address.
        let mut unready = pod.clone();
        unready.status = proto::WorkloadStatus::Unhealthy as i32;
        world.put(unready);
        assert!(matches!(world.outbound("198.19.0.1:80"), Outbound::Tunnel { .. }));
    }
    // Where the pod may not have been asked for yet, it is.
    let mut world = World::new(true).with(&[slice], &[man]);
    assert!(matches!(
        world.outbound("198.19.0.1:80"),
        Outbound::Pending(Awaited::Answer(_))
    ));
    world.store.set_answered("198.18.0.2".parse().unwrap());
    assert!(matches!(world.outbound("198.19.0.1:80"), Outbound::Direct { .. }));
    world.put(pod);
    assert!(matches!(world.outbound("198.19.0.1:80"), Outbound::Tunnel { .. }));
}

#[test]
fn an_endpoint_that_failed_is_chosen_again_only_where_there_is_no_other() {
    let endpoint = |name: &str, address: &str| member(workload(name, &[address]), "cart", &[(80, 8080)]);
    let mut world = World::new(false).with(
        &[endpoint("a", "198.18.0.2"), endpoint("b", "198.18.0.3")],
        &[service("cart", &["198.19.0.1"], &[(80, 8080)])],
    );
    let mesh = world.mesh();
    let [a, b] = ["198.18.0.2:8080", "198.18.0.3:8080"].map(|target| target.parse().unwrap());
    let choose = |tried: &[SocketAddr]| match mesh.outbound(&client(), "198.19.0.1:80".parse().unwrap(), tried) {
        Outbound::Tunnel { endpoint, .. } => endpoint.target(),
        other => panic!("{other:?}"),
    };
    assert!((0..50).all(|_| choose(&[a]) == b) && (0..50).all(|_| choose(&[b]) == a));
    choose(&[a, b]);
    // For other connections, it is the second choice for a while, though it has no connection open.
    let workload_at = |target: SocketAddr| mesh.workload_at(target.ip()).unwrap();
    workload_at(b).open.store(100, Ordering::Relaxed);
    workload_at(a).trouble.note();
    assert!((0..100).all(|_| choose(&[]) == b));
    assert!((0..100).all(|_| choose(&[b]) == a), "there is no other");
    workload_at(a).trouble.clear();
    let chosen = (0..1000).filter(|_| choose(&[]) == a).count();
    assert!(chosen > 600, "{chosen} of 1000");
}

#[test]
fn an_endpoint_that_ends_and_still_serves_is_used_where_there_is_no_other() {
    let health = |mut workload: proto::Workload, state: Option<&str>| {
        workload.status = proto::WorkloadStatus::Unhealthy as i32;
        workload.extensions.extend(state.map(|state| proto::Extension {
            name: culvert_proto::HEALTH.to_owned(),
            config: Some(prost_types::Any {
                type_url: culvert_proto::TEXT_TYPE.to_owned(),
                value: prost::Message::encode_to_vec(&state.to_owned()),
            }),
        }));
        workload
    };
    let endpoint = |name: &str, address: &str| member(workload(name, &[address]), "cart", &[(80, 8080)]);
    let mut world = World::new(false).with(
        &[
            health(endpoint("going", "198.18.0.2"), Some(culvert_proto::TERMINATING)),
            health(endpoint("down", "198.18.0.3"), None),
            health(endpoint("later", "198.18.0.4"), Some("a state of the future")),
        ],
        &[service("cart", &["198.19.0.1"], &[(80, 8080)])],
    );
    assert!((0..50).all(|_| world.target("198.19.0.1:80").0 == "going"));
    world.put(endpoint("ready", "198.18.0.5"));
    assert!((0..50).all(|_| world.target("198.19.0.1:80").0 == "ready"));
}

#[test]
fn a_pod_that_the_controller_does_not_know_yet_has_its_nodes_endpoints() {
    use proto::load_balancing::Scope;
    let local = |scopes: &[Scope]| proto::Service {
        load_balancing: Some(proto::LoadBalancing {
            routing_preference: scopes.iter().map(|scope| *scope as i32).collect(),
            mode: proto::load_balancing::Mode::Strict as i32,
            ..Default::default()
        }),
        ..service("cart", &["198.19.0.1"], &[(80, 8080)])
    };
    let endpoint = |name: &str, address: &str, node: &str| proto::Workload {
        node: node.into(),
        ..member(workload(name, &[address]), "cart", &[(80, 8080)])
    };
    let mut world = World::new(false).with(
        &[
            endpoint("near", "198.18.0.2", "node-a"),
            endpoint("far", "198.18.0.3", "node-b"),
        ],
        &[local(&[Scope::Node])],
    );
    assert!((0..50).all(|_| world.target("198.19.0.1:80").0 == "near"));
    world.put_service(local(&[Scope::Zone]));
    assert!(
        matches!(world.outbound("198.19.0.1:80"), Outbound::Pending(Awaited::Own(_))),
        "its zone is not known"
    );
}

#[test]
fn who_is_meant_at_a_nodes_address_is_not_guessed() {
    let shares = |name: &str| proto::Workload {
        network_mode: proto::NetworkMode::HostNetwork as i32,
        tunnel_protocol: 0,
        ..workload(name, &["198.18.0.2"])
    };
    let mut world = World::new(false).with(&[shares("hn-a"), shares("hn-b")], &[]);
    assert!(matches!(
        world.outbound("198.18.0.2:7777"),
        Outbound::Direct { workload: None, .. }
    ));
    assert!(world.mesh().workload_at("198.18.0.2".parse().unwrap()).is_none());
}

#[test]
fn endpoints_that_are_asked_for_the_same_are_told_apart_by_their_listeners() {
    let mut world = World::new(false).with(&[workload("a", &["198.18.0.2"])], &[]);
    let Outbound::Tunnel { endpoint, .. } = world.outbound("198.18.0.2:8080") else {
        panic!("an enrolled pod is reached through the tunnel");
    };
    // As two pods of one waypoint would be.
    for authority in ["cart.shop.svc.cluster.local:80", "198.19.0.1:80"] {
        let [one, other] = ["198.18.0.8:15008", "198.18.0.9:15008"].map(|tunnel| Endpoint {
            tunnel: tunnel.parse().unwrap(),
            authority: authority.parse().unwrap(),
            ..endpoint.clone()
        });
        assert_eq!((one.target(), other.target()), (one.tunnel, other.tunnel));
    }
}

#[test]
fn a_pod_is_reached_by_its_address_in_the_tunnel_or_in_clear() {
    let outside = proto::Workload {
        tunnel_protocol: 0,
        ..workload("plain", &["198.18.0.3"])
    };
    let mut world = World::new(false).with(&[workload("a", &["198.18.0.2"]), outside], &[]);
    let Outbound::Tunnel { endpoint, service } = world.outbound("198.18.0.2:8080") else {
        panic!("an enrolled pod is reached through the tunnel");
    };
    assert_eq!(endpoint.tunnel.to_string(), "198.18.0.2:15008");
    assert_eq!(endpoint.authority.to_string(), "198.18.0.2:8080");
    assert_eq!(endpoint.target().to_string(), "198.18.0.2:8080");
    let identities: Vec<&str> = endpoint.identities.iter().map(|id| id.as_str()).collect();
    assert_eq!(identities, ["spiffe://cluster.local/ns/shop/sa/web"]);
    assert_eq!((&*endpoint.workload.uid, service), ("Kubernetes//Pod/shop/a", None));
    assert!(matches!(
        world.outbound("198.18.0.3:80"),
        Outbound::Direct { workload: Some(_), .. }
    ));
    assert!(matches!(
        world.outbound("198.18.0.4:80"),
        Outbound::Direct { workload: None, .. }
    ));
    // A mapped address is the IPv4 one.
    assert_eq!(world.target("[::ffff:198.18.0.2]:80").0, "a");
}

#[test]
fn an_unknown_address_is_asked_for_on_demand_and_passed_through_once_answered() {
    let mut world = World::new(true);
    assert!(matches!(world.outbound("198.18.9.9:80"), Outbound::Pending(_)));
    let address = "198.18.9.9".parse().unwrap();
    assert_eq!(world.asked.try_recv(), Ok(address));
    world.store.set_answered(address);
    assert_eq!(
        world.target("198.18.9.9:80"),
        (String::new(), "198.18.9.9:80".parse().unwrap())
    );
    assert!(
        world.asked.try_recv().is_err(),
        "an answered address is not asked for again"
    );
    world.store.forget_answer(address);
    assert!(matches!(world.outbound("198.18.9.9:80"), Outbound::Pending(_)));
}

#[test]
fn a_service_leads_to_the_port_where_the_workload_serves_it() {
    let endpoint = member(workload("a", &["198.18.0.2"]), "cart", &[(80, 8080), (81, 9191)]);
    let mut world = World::new(false).with(
        &[endpoint],
        &[service(
            "cart",
            &["198.19.0.1"],
            &[(80, 8080), (81, 0), (82, 0), (83, 7)],
        )],
    );
    assert_eq!(world.target("198.19.0.1:80").1.to_string(), "198.18.0.2:8080");
    assert_eq!(world.target("198.19.0.1:81").1.to_string(), "198.18.0.2:9191");
    assert_eq!(
        world.denial("198.19.0.1:82"),
        "service shop/cart.shop.svc.cluster.local has no healthy endpoint"
    );
    assert_eq!(world.target("198.19.0.1:83").1.to_string(), "198.18.0.2:7");
    assert_eq!(
        world.denial("198.19.0.1:84"),
        "service shop/cart.shop.svc.cluster.local has no port 84"
    );
}

#[test]
fn a_services_own_identities_may_answer_too() {
    let mut cart = service("cart", &["198.19.0.1"], &[(80, 8080)]);
    cart.subject_alt_names = vec![
        "spiffe://cluster.local/ns/shop/sa/other".into(),
        "cart.example.com".into(),
    ];
    let mut world = World::new(false).with(
        &[member(workload("a", &["198.18.0.2"]), "cart", &[(80, 8080)])],
        &[cart],
    );
    let Outbound::Tunnel { endpoint, .. } = world.outbound("198.19.0.1:80") else {
        panic!()
    };
    let accounts: Vec<&str> = endpoint.identities.iter().map(|id| id.service_account()).collect();
    assert_eq!(accounts, ["web", "other"]);
}

#[test]
fn the_endpoints_address_is_of_the_clients_family_if_there_is_one() {
    let both = member(workload("both", &["198.18.0.2", "fd00:c01e::2"]), "both", &[(80, 80)]);
    let one = member(workload("one", &["198.18.0.3"]), "one", &[(80, 80)]);
    let services = [
        service("both", &["198.19.0.1", "fd00:c01e:1::1"], &[(80, 80)]),
        service("one", &["198.19.0.2", "fd00:c01e:1::2"], &[(80, 80)]),
    ];
    let mut world = World::new(false).with(&[both, one], &services);
    assert_eq!(world.target("198.19.0.1:80").1.to_string(), "198.18.0.2:80");
    assert_eq!(world.target("[fd00:c01e:1::1]:80").1.to_string(), "[fd00:c01e::2]:80");
    assert_eq!(world.target("[fd00:c01e:1::2]:80").1.to_string(), "198.18.0.3:80");
}

#[test]
fn endpoints_that_are_not_ready_get_nothing_unless_the_service_says_so() {
    let endpoint = |name: &str, address: &str, healthy: bool| {
        let status = i32::from(!healthy);
        proto::Workload {
            status,
            ..member(workload(name, &[address]), "cart", &[(80, 80)])
        }
    };
    let cart = service("cart", &["198.19.0.1"], &[(80, 80)]);
    let endpoints = [endpoint("a", "198.18.0.2", false), endpoint("b", "198.18.0.3", true)];
    let mut world = World::new(false).with(&endpoints, std::slice::from_ref(&cart));
    for _ in 0..50 {
        assert_eq!(world.target("198.19.0.1:80").0, "b");
    }
    world.put(endpoint("b", "198.18.0.3", false));
    assert_eq!(
        world.denial("198.19.0.1:80"),
        "service shop/cart.shop.svc.cluster.local has no healthy endpoint"
    );
    let load_balancing = proto::LoadBalancing {
        health_policy: 1,
        ..Default::default()
    };
    world.put_service(proto::Service {
        load_balancing: Some(load_balancing),
        ..cart
    });
    world.target("198.19.0.1:80");
}

#[test]
fn a_service_that_passes_through_is_no_way_past_the_question_who_is_there() {
    use proto::load_balancing::Mode;
    let mut world = World::new(true).with(&[], &[preferring(Mode::Passthrough)]);
    assert!(matches!(world.outbound("198.19.0.1:80"), Outbound::Pending(_)));
    assert!(world.asked.try_recv().is_ok(), "somebody of the mesh may be there");
    world.put(workload("a", &["198.19.0.1"]));
    assert!(matches!(world.outbound("198.19.0.1:80"), Outbound::Tunnel { .. }));
}

#[test]
fn what_needs_a_gateway_is_refused_with_the_reason() {
    let gateway = proto::GatewayAddress {
        destination: Some(proto::gateway_address::Destination::Hostname(
            proto::NamespacedHostname {
                namespace: "shop".into(),
                hostname: "way.shop.svc.cluster.local".into(),
            },
        )),
        hbone_mtls_port: 15008,
    };
    let there = proto::Workload {
        network: "far".into(),
        network_gateway: Some(gateway),
        ..member(workload("there", &["198.18.0.3"]), "cart", &[(80, 80)])
    };
    let dns = proto::Workload {
        hostname: "db.example.com".into(),
        ..member(workload("dns", &[]), "db", &[(80, 80)])
    };
    let services = [
        service("cart", &["198.19.0.1"], &[(80, 80)]),
        service("db", &["198.19.0.2"], &[(80, 80)]),
    ];
    let mut world = World::new(false).with(&[there, dns], &services);
    assert!(
        world
            .denial("198.19.0.1:80")
            .contains("is in network far, reached through gateway")
    );
    let Outbound::Resolve(named) = world.outbound("198.19.0.2:80") else {
        panic!("{:?}", world.outbound("198.19.0.2:80"))
    };
    assert_eq!(&*named.host, "db.example.com");
}

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

#[test]
fn of_several_owners_of_an_address_the_likeliest_counts() {
    let shared = |name: &str| proto::Workload {
        network_mode: proto::NetworkMode::HostNetwork as i32,
        tunnel_protocol: 0,
        ..workload(name, &["198.18.0.9"])
    };
    // One of its own, though that is a node's too.
    let own = proto::Workload {
        tunnel_protocol: 0,
        ..workload("own", &["198.18.0.9"])
    };
    let mut world = World::new(false).with(&[shared("a"), own], &[]);
    assert_eq!(world.target("198.18.0.9:80").0, "own");
    // An address that went over to a new pod, while the old one is still known as not ready.
    let leaving = proto::Workload {
        status: 1,
        ..workload("a", &["198.18.0.5"])
    };
    let mut world = World::new(false).with(&[leaving, workload("z", &["198.18.0.5"])], &[]);
    assert_eq!(world.target("198.18.0.5:80").0, "z");
    world.store.remove_address("Kubernetes//Pod/shop/z");
    assert_eq!(world.target("198.18.0.5:80").0, "a");
}

#[test]
fn a_shared_virtual_address_belongs_to_the_clients_namespace_and_ranges_to_the_longest_prefix() {
    let elsewhere = |mut service: proto::Service| {
        service.namespace = "bank".into();
        service.hostname = service.hostname.replace(".shop.", ".bank.");
        service
    };
    let range = |name: &str, length| {
        let mut service = service(name, &["198.19.7.0"], &[(80, 80)]);
        service.addresses[0].length = Some(length);
        service.load_balancing = preferring(proto::load_balancing::Mode::Passthrough).load_balancing;
        service
    };
    let private = proto::Service {
        visibility: 1,
        ..elsewhere(service("secret", &["198.19.0.2"], &[(80, 80)]))
    };
    let services = [
        elsewhere(service("a", &["198.19.0.1"], &[(80, 80)])),
        service("b", &["198.19.0.1"], &[(80, 80)]),
        range("wide", 24),
        range("narrow", 28),
        private,
    ];
    let mut world = World::new(false).with(&[], &services);
    assert!(world.denial("198.19.0.1:80").contains("shop/b.shop"));
    for (address, expected) in [("198.19.7.1:80", "shop/narrow"), ("198.19.7.100:80", "shop/wide")] {
        match world.outbound(address) {
            Outbound::Direct {
                service: Some(service), ..
            } => assert!(service.starts_with(expected), "{service}"),
            other => panic!("{other:?}"),
        }
    }
    assert!(
        matches!(world.outbound("198.19.0.2:80"), Outbound::Direct { service: None, .. }),
        "not visible from here"
    );
}

#[test]
fn a_pod_may_dial_its_own_service() {
    let own = member(client_workload(), "cart", &[(80, 8080)]);
    let mut world = World::new(false).with(&[own], &[service("cart", &["198.19.0.1"], &[(80, 8080)])]);
    assert_eq!(
        world.target("198.19.0.1:80"),
        ("client".into(), "198.18.0.1:8080".parse().unwrap())
    );
    assert!(world.mesh().workload_of(&client()).is_some());
}
