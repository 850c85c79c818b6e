//! Where a connection goes to a Service's address.

use culvert_proto::workload as proto;

use super::{World, balancing::preferring, client, client_workload, member, service, workload};
use crate::Outbound;

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
