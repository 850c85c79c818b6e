//! Services and workloads that are reached through a waypoint, and never past it.

use std::{collections::BTreeMap, net::SocketAddr};

use culvert_identity::SpiffeId;
use culvert_proto::workload as proto;

use super::{World, bytes, client, member, service, workload};
use crate::{Awaited, Endpoint, MeshChange, Outbound, Pod};

const HOST: &str = "way.shop.svc.cluster.local";

fn by_host(name: &str) -> proto::GatewayAddress {
    proto::GatewayAddress {
        destination: Some(proto::gateway_address::Destination::Hostname(
            proto::NamespacedHostname {
                namespace: "shop".into(),
                hostname: format!("{name}.shop.svc.cluster.local"),
            },
        )),
        hbone_mtls_port: 15008,
    }
}

fn by_address(address: &str) -> proto::GatewayAddress {
    proto::GatewayAddress {
        destination: Some(proto::gateway_address::Destination::Address(proto::NetworkAddress {
            address: bytes(address),
            ..Default::default()
        })),
        hbone_mtls_port: 15008,
    }
}

/// Of account `way`, an endpoint of the waypoint's service.
fn of_waypoint(name: &str, service: &str, addresses: &[&str]) -> proto::Workload {
    let pod = proto::Workload {
        service_account: "way".into(),
        native_tunnel: true,
        ..workload(name, addresses)
    };
    member(pod, service, &[(15008, 15008)])
}

fn behind(waypoint: proto::GatewayAddress) -> proto::Service {
    proto::Service {
        waypoint: Some(waypoint),
        ..service("web", &["198.19.0.1", "fd00:c01e:f::1"], &[(80, 8080)])
    }
}

fn web() -> proto::Workload {
    member(workload("web", &["198.18.0.2"]), "web", &[(80, 8080)])
}

/// A service with an endpoint, behind a waypoint with two.
fn world() -> World {
    World::new(false).with(
        &[
            web(),
            of_waypoint("way-1", "way", &["198.18.0.8", "fd00:c01e::8"]),
            of_waypoint("way-2", "way", &["198.18.0.9", "fd00:c01e::9"]),
        ],
        &[
            behind(by_host("way")),
            service("way", &["198.19.0.9"], &[(15008, 15008)]),
        ],
    )
}

#[track_caller]
fn tunnel(outbound: Outbound) -> (Endpoint, String) {
    match outbound {
        Outbound::Tunnel { endpoint, service } => {
            (endpoint, service.map(|service| service.to_string()).unwrap_or_default())
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_service_is_reached_through_an_endpoint_of_its_waypoint_which_is_told_what_was_dialled() {
    let mut world = world();
    let mut seen = BTreeMap::new();
    for _ in 0..200 {
        let (endpoint, service) = tunnel(world.outbound("198.19.0.1:80"));
        assert_eq!(
            endpoint.authority,
            "198.19.0.1:80".parse::<SocketAddr>().unwrap().into()
        );
        assert_eq!(service, "shop/web.shop.svc.cluster.local");
        let way = SpiffeId::new("cluster.local", "shop", "way").unwrap();
        assert_eq!(*endpoint.identities, [way]);
        let host = endpoint.waypoint.as_ref().and_then(|waypoint| waypoint.host());
        assert_eq!(host.map(|host| &**host), Some(HOST));
        assert_eq!(
            endpoint.target(),
            endpoint.tunnel,
            "an attempt is known by the waypoint's address"
        );
        *seen.entry(endpoint.tunnel.to_string()).or_insert(0) += 1;
    }
    assert!(seen.len() == 2 && seen.values().all(|times| *times > 50), "{seen:?}");
    // The address family is kept where the waypoint has it.
    let (endpoint, _) = tunnel(world.outbound("[fd00:c01e:f::1]:80"));
    assert!(endpoint.tunnel.is_ipv6(), "{endpoint:?}");
    // No port of the service: as without a waypoint.
    assert_eq!(
        world.denial("198.19.0.1:81"),
        "service shop/web.shop.svc.cluster.local has no port 81"
    );
    // The waypoint's own service is reached as any other.
    let (endpoint, _) = tunnel(world.outbound("198.19.0.9:15008"));
    assert_eq!(endpoint.waypoint, None);
}

#[test]
fn what_failed_at_one_endpoint_of_a_waypoint_is_tried_at_another_and_never_past_it() {
    let mut world = world();
    let mesh = world.mesh();
    let (one, other) = ("198.18.0.8:15008".parse().unwrap(), "198.18.0.9:15008".parse().unwrap());
    for _ in 0..50 {
        let again = mesh.outbound(&client(), "198.19.0.1:80".parse().unwrap(), &[one]);
        assert_eq!(tunnel(again).0.tunnel, other);
    }
    let again = mesh.outbound(&client(), "198.19.0.1:80".parse().unwrap(), &[one, other]);
    assert_eq!(
        tunnel(again).0.tunnel.port(),
        15008,
        "there is nothing better than to try again"
    );
}

#[test]
fn an_endpoint_of_a_waypoint_that_is_not_ready_or_takes_no_tunnels_in_is_not_used() {
    let mut world = world();
    let sick = proto::Workload {
        status: proto::WorkloadStatus::Unhealthy as i32,
        ..of_waypoint("way-1", "way", &["198.18.0.8"])
    };
    world.put(sick);
    let plain = proto::Workload {
        tunnel_protocol: proto::TunnelProtocol::None as i32,
        ..of_waypoint("way-3", "way", &["198.18.0.7"])
    };
    world.put(plain);
    for _ in 0..50 {
        assert_eq!(
            tunnel(world.outbound("198.19.0.1:80")).0.tunnel,
            "198.18.0.9:15008".parse().unwrap()
        );
    }
}

#[test]
fn a_waypoint_that_is_missing_denies_and_is_named() {
    let through = "shop/web.shop.svc.cluster.local is reached through waypoint shop/way.shop.svc.cluster.local";
    let mut world = World::new(false).with(&[web()], &[behind(by_host("way"))]);
    assert_eq!(world.denial("198.19.0.1:80"), format!("{through}, which is not known"));
    world.put_service(service("way", &["198.19.0.9"], &[(15008, 15008)]));
    assert_eq!(
        world.denial("198.19.0.1:80"),
        format!("{through}, which has no healthy endpoint")
    );
    world.put_service(service("way", &["198.19.0.9"], &[(80, 80)]));
    assert_eq!(
        world.denial("198.19.0.1:80"),
        format!("{through}, whose service has no port 15008")
    );
    let Outbound::Deny(denial) = world.outbound("198.19.0.1:80") else {
        panic!("not denied")
    };
    assert_eq!(denial.reason(), "no_waypoint");
    // It comes, and is used.
    world.put_service(service("way", &["198.19.0.9"], &[(15008, 15008)]));
    world.put(of_waypoint("way-1", "way", &["198.18.0.8"]));
    tunnel(world.outbound("198.19.0.1:80"));
}

#[test]
fn on_demand_a_waypoint_is_asked_for_and_waited_for() {
    let mut world = World::new(true).with(&[web()], &[behind(by_host("way"))]);
    match world.outbound("198.19.0.1:80") {
        Outbound::Pending(Awaited::Host(host)) => assert_eq!(&*host, HOST),
        other => panic!("{other:?}"),
    }
    // The answer is a change by which those are woken who wait.
    let _ = world.store.take_change();
    world.put(of_waypoint("way-1", "way", &["198.18.0.8"]));
    world.put_service(service("way", &["198.19.0.9"], &[(15008, 15008)]));
    let MeshChange { hosts, .. } = world.store.take_change();
    assert!(hosts.contains(HOST), "{hosts:?}");
    tunnel(world.outbound("198.19.0.1:80"));
    // Nobody has the name: that is an answer, too.
    let mut world = World::new(true).with(&[web()], &[behind(by_host("way"))]);
    world.store.set_host_answered(&HOST.into());
    assert!(world.denial("198.19.0.1:80").ends_with("which is not known"));
}

#[test]
fn a_waypoint_may_be_named_by_the_address_of_its_service_or_its_own() {
    for address in ["198.19.0.9", "198.18.0.8"] {
        let mut world = World::new(true).with(&[web()], &[behind(by_address(address))]);
        match world.outbound("198.19.0.1:80") {
            Outbound::Pending(Awaited::Answer(asked)) => assert_eq!(asked.to_string(), address),
            other => panic!("{other:?}"),
        }
        world.store.set_answered(address.parse().unwrap());
        assert_eq!(
            world.denial("198.19.0.1:80"),
            format!("shop/web.shop.svc.cluster.local is reached through waypoint {address}, which is not known")
        );
        world.put(of_waypoint("way-1", "way", &["198.18.0.8"]));
        world.put_service(service("way", &["198.19.0.9"], &[(15008, 15008)]));
        let (endpoint, _) = tunnel(world.outbound("198.19.0.1:80"));
        assert_eq!(endpoint.tunnel, "198.18.0.8:15008".parse().unwrap());
        assert_eq!(
            endpoint.authority,
            "198.19.0.1:80".parse::<SocketAddr>().unwrap().into()
        );
    }
    let far = proto::GatewayAddress {
        destination: Some(proto::gateway_address::Destination::Address(proto::NetworkAddress {
            network: "far".into(),
            address: bytes("198.18.0.8"),
            length: None,
        })),
        hbone_mtls_port: 0,
    };
    let mut world = World::new(false).with(&[web()], &[behind(far)]);
    assert!(world.denial("198.19.0.1:80").ends_with("which is in another network"));
}

#[test]
fn several_waypoints_share_connections_by_weight_and_stand_in_for_one_another() {
    let weighted = |name: &str, weight| proto::WeightedWaypoint {
        destination: Some(by_host(name)),
        weight,
    };
    let web_service = |weights: [u32; 3]| proto::Service {
        weighted_waypoints: ["way", "other", "none"]
            .iter()
            .zip(weights)
            .map(|(name, weight)| weighted(name, weight))
            .collect(),
        ..behind(by_host("ignored"))
    };
    let mut world = world();
    world.put(of_waypoint("other-1", "other", &["198.18.0.10"]));
    world.put_service(service("other", &["198.19.0.10"], &[(15008, 15008)]));
    world.put_service(web_service([90, 10, 0]));
    let others = (0..1000)
        .filter(|_| tunnel(world.outbound("198.19.0.1:80")).0.tunnel.ip().to_string() == "198.18.0.10")
        .count();
    assert!(
        (40..200).contains(&others),
        "{others} of 1000, with a tenth of the weight"
    );
    // One that is not there leaves its share to the other.
    world.put_service(web_service([0, 1, 99]));
    for _ in 0..50 {
        assert_eq!(
            tunnel(world.outbound("198.19.0.1:80")).0.tunnel.ip().to_string(),
            "198.18.0.10"
        );
    }
    world.put_service(web_service([0, 0, 0]));
    assert!(world.denial("198.19.0.1:80").ends_with("has the weight 0"));
}

#[test]
fn a_workload_behind_a_waypoint_is_reached_through_it_at_its_own_address() {
    let pod = proto::Workload {
        waypoint: Some(by_host("way")),
        ..workload("db", &["198.18.0.3"])
    };
    let mut world = world().with(
        &[member(pod, "db", &[(80, 5432)])],
        &[service("db", &["198.19.0.3"], &[(80, 80)])],
    );
    let (endpoint, service) = tunnel(world.outbound("198.18.0.3:5432"));
    assert_eq!(
        endpoint.authority,
        "198.18.0.3:5432".parse::<SocketAddr>().unwrap().into()
    );
    assert_eq!((endpoint.tunnel.port(), &*service), (15008, ""));
    assert_ne!(endpoint.tunnel.ip().to_string(), "198.18.0.3");
    // By a service that has none it is an endpoint as any other.
    let (endpoint, _) = tunnel(world.outbound("198.19.0.3:80"));
    assert_eq!(endpoint.tunnel.ip().to_string(), "198.18.0.3");
    let mut world = World::new(false).with(
        &[proto::Workload {
            waypoint: Some(by_host("way")),
            ..workload("db", &["198.18.0.3"])
        }],
        &[],
    );
    assert_eq!(
        world.denial("198.18.0.3:5432"),
        "Kubernetes//Pod/shop/db is reached through waypoint shop/way.shop.svc.cluster.local, which is not known"
    );
}

/// As a pod of a Service without a virtual address has it.
#[test]
fn a_workloads_waypoint_may_be_for_some_of_its_ports() {
    let behind = |ports: &str| proto::Workload {
        waypoint: Some(by_host("way")),
        extensions: vec![culvert_proto::extension_of_text(culvert_proto::WAYPOINT_PORTS, ports)],
        ..workload("db", &["198.18.0.3"])
    };
    let mut world = world().with(&[behind("5432,5433")], &[]);
    let waypoint = |world: &mut World, to: &str| tunnel(world.outbound(to)).0.waypoint.is_some();
    assert!(waypoint(&mut world, "198.18.0.3:5432") && waypoint(&mut world, "198.18.0.3:5433"));
    assert!(!waypoint(&mut world, "198.18.0.3:80"));
    // What is not understood opens no way past it.
    world.put(behind("5432,all"));
    assert!(waypoint(&mut world, "198.18.0.3:80"));
}

#[test]
fn what_a_waypoint_opens_itself_goes_straight_to_the_endpoints() {
    let mut world = world();
    let waypoint = Pod {
        name: "way-1".into(),
        addresses: vec!["198.18.0.8".parse().unwrap()],
        ..client()
    };
    let (endpoint, _) = tunnel(world.outbound_of(&waypoint, "198.19.0.1:80"));
    assert_eq!(
        endpoint.authority,
        "198.18.0.2:8080".parse::<SocketAddr>().unwrap().into()
    );
    for address in ["198.19.0.9", "198.18.0.8"] {
        world.put_service(behind(by_address(address)));
        let (endpoint, _) = tunnel(world.outbound_of(&waypoint, "198.19.0.1:80"));
        assert_eq!(endpoint.tunnel.ip().to_string(), "198.18.0.2", "{address}");
    }
}

#[test]
fn a_gateway_address_that_is_none_refuses_the_resource() {
    let mut world = World::new(false);
    let mut put = |service: proto::Service| {
        use prost::Message as _;
        let name = format!("{}/{}", service.namespace, service.hostname);
        let address = proto::Address {
            r#type: Some(proto::address::Type::Service(service)),
        };
        world.store.put_address(&name, &address.encode_to_vec()).is_err()
    };
    assert!(put(behind(proto::GatewayAddress::default())), "no destination");
    let port = proto::GatewayAddress {
        hbone_mtls_port: 70_000,
        ..by_host("way")
    };
    assert!(put(behind(port)), "no port");
    let weighted = proto::Service {
        weighted_waypoints: vec![proto::WeightedWaypoint::default()],
        ..service("web", &["198.19.0.1"], &[])
    };
    assert!(put(weighted), "no destination with a weight");
}
