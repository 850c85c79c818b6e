use std::{net::SocketAddr, sync::atomic::Ordering};

use culvert_proto::workload as proto;

use super::{World, client, member, service, workload};
use crate::{Awaited, Endpoint, Outbound};

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
