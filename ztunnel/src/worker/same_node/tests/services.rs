//! Addresses of services that lead to a pair.

use culvert_proto::{
    workload::{self as wire, Port, PortList, Service},
    zds::{SameNodeConnection, same_node_connection::End},
};

use super::*;

const SERVICE: &str = "198.19.0.1:8080";

fn proposal() -> Proposal {
    Proposal {
        pair: pair(),
        service: Some(SERVICE.parse().unwrap()),
    }
}

fn ports(target: u32) -> Vec<Port> {
    vec![Port {
        service_port: 8080,
        target_port: target,
        ..Port::default()
    }]
}

fn service() -> Service {
    Service {
        name: "cart".to_owned(),
        namespace: "shop".to_owned(),
        hostname: "cart.shop.svc.cluster.local".to_owned(),
        addresses: vec![NetworkAddress {
            address: vec![198, 19, 0, 1],
            ..NetworkAddress::default()
        }],
        ports: ports(80),
        ..Service::default()
    }
}

fn endpoint(name: &str, address: &str) -> Workload {
    let mut workload = workload(name, address);
    let list = PortList { ports: ports(80) };
    workload
        .services
        .insert("shop/cart.shop.svc.cluster.local".to_owned(), list);
    workload
}

fn put_service(store: &mut Store, service: Service) {
    let bytes = Address {
        r#type: Some(Type::Service(service)),
    };
    let name = "shop/cart.shop.svc.cluster.local";
    store.put_address(name, &bytes.encode_to_vec()).unwrap();
}

/// In which the service leads to the pair.
fn world() -> World {
    let mut world = World::new();
    put(&mut world.store, endpoint("cart", SERVER));
    put_service(&mut world.store, service());
    world.same_node.propose(proposal());
    assert_eq!(services(&world.news()), [(198, 8080)]);
    world
}

/// What leads to the one pair that is said.
fn services(news: &[zds::SameNode]) -> Vec<(u8, u32)> {
    let [said] = news else { panic!("{news:?}") };
    let [pair] = &said.pairs[..] else { panic!("{said:?}") };
    assert!(!pair.open_only);
    let of = |service: &zds::SameNodeService| (service.address[0], service.port);
    pair.services.iter().map(of).collect()
}

/// What is open stays: the pair does.
#[test]
fn a_service_leads_nowhere_as_soon_as_there_is_a_choice_or_its_endpoint_is_not_the_pairs() {
    type Change = fn(&mut World);
    let changes: [(&str, Change); 6] = [
        ("another endpoint", |world| {
            put(&mut world.store, endpoint("other", "198.18.0.3"));
        }),
        ("not ready", |world| {
            let mut cart = endpoint("cart", SERVER);
            cart.status = wire::WorkloadStatus::Unhealthy.into();
            put(&mut world.store, cart);
        }),
        ("no endpoint", |world| put(&mut world.store, workload("cart", SERVER))),
        ("no service", |world| {
            world.store.remove_address("shop/cart.shop.svc.cluster.local");
        }),
        ("another port", |world| {
            put_service(
                &mut world.store,
                Service {
                    ports: vec![],
                    ..service()
                },
            );
        }),
        ("a waypoint", |world| {
            let waypoint = GatewayAddress {
                destination: Some(gateway_address::Destination::Address(NetworkAddress {
                    address: vec![198, 18, 0, 7],
                    ..NetworkAddress::default()
                })),
                hbone_mtls_port: 15008,
            };
            let waypoint = Some(waypoint);
            put_service(&mut world.store, Service { waypoint, ..service() });
        }),
    ];
    for (what, change) in changes {
        let mut world = world();
        change(&mut world);
        assert_eq!(services(&world.news()), [], "{what}");
        put(&mut world.store, endpoint("cart", SERVER));
        world.same_node.propose(proposal());
        let again = world.news();
        let is_back = again.first().is_some_and(|_| services(&again) == [(198, 8080)]);
        assert_eq!(is_back, ["not ready", "no endpoint"].contains(&what), "{what}");
    }
}

#[test]
fn a_connection_that_fails_leaves_the_next_one_to_the_proxy_until_the_endpoint_is_reached_again() {
    let mut registry = culvert_telemetry::prometheus::registry::Registry::default();
    let accounting = culvert_accounting::Accounting::register(&mut registry, Default::default());
    let mut world = world();
    let mesh = world.store.snapshot();
    let failed = SameNodeConnection {
        client: "front".to_owned(),
        source: vec![198, 18, 0, 1],
        source_port: 40000,
        address: vec![198, 18, 0, 2],
        port: 80,
        end: End::Failed.into(),
        service: Some(zds::SameNodeService {
            address: vec![198, 19, 0, 1],
            port: 8080,
        }),
        ..SameNodeConnection::default()
    };
    let connections = vec![failed];
    let ended = zds::SameNodeEnded { connections };
    world.same_node.account(ended, &mesh, &accounting);
    assert_eq!(services(&world.news()), []);
    world.same_node.propose(proposal());
    assert_eq!(world.news(), [], "it has failed lately");
    mesh.workload_at(SERVER.parse().unwrap()).unwrap().trouble.clear();
    world.same_node.propose(proposal());
    assert_eq!(services(&world.news()), [(198, 8080)]);
    // So it is when the proxy has failed.
    mesh.workload_at(SERVER.parse().unwrap()).unwrap().trouble.note();
    assert_eq!(services(&world.news()), []);
    // What is said of it has the name of its service.
    let mut text = String::new();
    culvert_telemetry::prometheus::encoding::text::encode(&mut text, &registry).unwrap();
    assert!(
        text.contains("destination_service=\"cart.shop.svc.cluster.local\""),
        "{text}"
    );
}

#[test]
fn a_service_goes_with_the_pair_that_it_leads_to() {
    let mut world = world();
    world.same_node.forget(said(Some(false)).remove(0).pairs);
    assert_eq!(world.news(), said(None));
    world.same_node.propose(super::proposal());
    assert_eq!(services(&world.news()), []);
}
