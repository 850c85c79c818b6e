//! Names and what is said of them.

use super::*;

const CART: &str = "cart.shop.svc.cluster.local";

fn world() -> World {
    let mut world = World::new(false)
        .service("shop", CART, &["198.19.0.1"])
        .service(
            "shop",
            "dual.shop.svc.cluster.local",
            &["198.19.0.2", "fd00:c01e:96::2"],
        )
        .service("bank", "ledger.bank.svc.cluster.local", &["198.19.0.3"])
        .service("com", "google.com.svc.cluster.local", &["198.19.0.4"])
        .service("db", "pg.db.svc.cluster.local", &[])
        .service("shop", "web.shop.svc.cluster.local", &[])
        .service("ext", "api.example.com", &["240.240.0.1", "2001:2::1"])
        .service("ext", "plain.example.com", &[])
        .service("ext", "*.wild.example.com", &["240.240.0.2"])
        .service("ext", "*.deep.wild.example.com", &["240.240.0.3"])
        .service("ext", "*.nothing.example.com", &[])
        .service("ext", "Mixed.Example.com", &["240.240.0.4"])
        .workload(
            "pg-0",
            &["198.18.0.1", "fd00:c01e::1"],
            true,
            &["db/pg.db.svc.cluster.local"],
        )
        .workload(
            "pg-1",
            &["198.18.0.2"],
            false,
            &["db/pg.db.svc.cluster.local", "db/all.db.svc.cluster.local"],
        )
        .workload("pg-2", &["198.18.0.3"], true, &["db/pg.db.svc.cluster.local"])
        .workload("pg-3", &["198.18.0.3"], true, &["db/pg.db.svc.cluster.local"]);
    world.put(proto::Service {
        load_balancing: Some(proto::LoadBalancing {
            health_policy: proto::load_balancing::HealthPolicy::AllowAll.into(),
            ..Default::default()
        }),
        ip_families: proto::IpFamilies::Ipv4Only.into(),
        ..service("db", "all.db.svc.cluster.local", &[])
    });
    let range = proto::NetworkAddress {
        address: bytes("198.51.100.0"),
        length: Some(24),
        ..Default::default()
    };
    world.put(proto::Service {
        addresses: vec![range],
        ..service("ext", "range.example.com", &[])
    });
    let elsewhere = proto::NetworkAddress {
        address: bytes("198.19.0.9"),
        network: "far".to_owned(),
        ..Default::default()
    };
    world.put(proto::Service {
        addresses: vec![elsewhere],
        ..service("ext", "far.example.com", &[])
    });
    world
}

#[test]
fn names_of_services_lead_to_their_addresses() {
    let mesh = world().mesh();
    for (name, v4, v6) in [
        // As they are.
        (CART, "198.19.0.1", "none"),
        ("CART.Shop.svc.cluster.LOCAL", "198.19.0.1", "none"),
        ("dual.shop.svc.cluster.local", "198.19.0.2", "fd00:c01e:96::2"),
        ("ledger.bank.svc.cluster.local", "198.19.0.3", "none"),
        ("none.bank.svc.cluster.local", "forward", "forward"),
        // Short.
        ("cart", "198.19.0.1", "none"),
        ("ledger", "forward", "forward"),
        ("ledger.bank.svc", "198.19.0.3", "none"),
        ("ledger.bank", "forward", "forward"),
        ("google.com", "forward", "forward"),
        // With search domains.
        ("cart.svc.cluster.local", "-> cart. 198.19.0.1", "none"),
        ("cart.cluster.local", "-> cart. 198.19.0.1", "none"),
        (
            "ledger.bank.shop.svc.cluster.local",
            "-> ledger.bank. 198.19.0.3",
            "none",
        ),
        (
            "ledger.bank.svc.shop.svc.cluster.local",
            "-> ledger.bank.svc. 198.19.0.3",
            "none",
        ),
        (
            "ledger.bank.svc.svc.cluster.local",
            "-> ledger.bank.svc. 198.19.0.3",
            "none",
        ),
        ("google.com.shop.svc.cluster.local", "-> google.com. 198.19.0.4", "none"),
        ("ledger.shop.svc.cluster.local", "forward", "forward"),
        ("cart.bank.svc.cluster.local", "forward", "forward"),
        // Kubernetes' own domains.
        ("svc.cluster.local", "forward", "forward"),
        ("cluster.local", "forward", "forward"),
        ("shop.svc.cluster.local", "forward", "forward"),
        ("10-1-0-5.shop.pod.cluster.local", "forward", "forward"),
        ("kubernetes.default.svc.cluster.local", "forward", "forward"),
    ] {
        assert_eq!(said(&mesh, name, RecordType::A), v4, "A {name}");
        assert_eq!(said(&mesh, name, RecordType::AAAA), v6, "AAAA {name}");
    }
}

#[test]
fn names_without_a_virtual_address_lead_to_endpoints() {
    let mesh = world().mesh();
    for (name, v4, v6) in [
        ("pg.db.svc.cluster.local", "198.18.0.1 198.18.0.3", "fd00:c01e::1"),
        (
            "pg.db.shop.svc.cluster.local",
            "-> pg.db. 198.18.0.1 198.18.0.3",
            "-> pg.db. fd00:c01e::1",
        ),
        // Those that are not ready, where the Service says so, and of its families alone.
        ("all.db.svc.cluster.local", "198.18.0.2", "none"),
        // Nobody is there.
        ("web.shop.svc.cluster.local", "none", "none"),
        // Endpoints.
        ("pg-0.pg.db.svc.cluster.local", "198.18.0.1", "fd00:c01e::1"),
        ("pg-0.pg.db.svc", "198.18.0.1", "fd00:c01e::1"),
        ("pg-1.all.db.svc.cluster.local", "198.18.0.2", "none"),
        ("pg-1.pg.db.svc.cluster.local", "forward", "forward"),
        ("pg-9.pg.db.svc.cluster.local", "forward", "forward"),
        ("pg-0.cart.shop.svc.cluster.local", "forward", "forward"),
    ] {
        assert_eq!(said(&mesh, name, RecordType::A), v4, "A {name}");
        assert_eq!(said(&mesh, name, RecordType::AAAA), v6, "AAAA {name}");
    }
}

#[test]
fn hosts_outside_the_cluster_lead_to_their_virtual_addresses() {
    let mesh = world().mesh();
    for (name, v4, v6) in [
        ("api.example.com", "240.240.0.1", "2001:2::1"),
        ("mixed.example.COM", "240.240.0.4", "none"),
        (
            "api.example.com.shop.svc.cluster.local",
            "-> api.example.com. 240.240.0.1",
            "-> api.example.com. 2001:2::1",
        ),
        (
            "api.example.com.svc.cluster.local",
            "-> api.example.com. 240.240.0.1",
            "-> api.example.com. 2001:2::1",
        ),
        (
            "api.example.com.cluster.local",
            "-> api.example.com. 240.240.0.1",
            "-> api.example.com. 2001:2::1",
        ),
        // Search domains of other namespaces' pods are none of this one's.
        ("api.example.com.bank.svc.cluster.local", "forward", "forward"),
        // No address, a range of them, or one elsewhere.
        ("plain.example.com", "forward", "forward"),
        ("range.example.com", "forward", "forward"),
        ("far.example.com", "forward", "forward"),
        ("example.com", "forward", "forward"),
        // Wildcards, the most specific first, at any depth, without the name itself.
        ("a.wild.example.com", "240.240.0.2", "none"),
        ("a.b.wild.example.com", "240.240.0.2", "none"),
        ("a.deep.wild.example.com", "240.240.0.3", "none"),
        ("wild.example.com", "forward", "forward"),
        ("a.nothing.example.com", "forward", "forward"),
        ("a.wild.example.com.shop.svc.cluster.local", "240.240.0.2", "none"),
    ] {
        assert_eq!(said(&mesh, name, RecordType::A), v4, "A {name}");
        assert_eq!(said(&mesh, name, RecordType::AAAA), v6, "AAAA {name}");
    }
}

/// Connections to such a service are refused as long as nobody resolves the name; what the name leads to elsewhere may be reached.
#[test]
fn a_service_whose_endpoints_are_names_alone_has_its_addresses() {
    let mut world = World::new(false).service("ext", "api.example.com", &["240.240.0.1"]);
    let named = proto::Workload {
        uid: "w".to_owned(),
        name: "api".to_owned(),
        namespace: "ext".to_owned(),
        hostname: "api.example.com".to_owned(),
        services: [("ext/api.example.com".to_owned(), proto::PortList::default())].into(),
        ..Default::default()
    };
    assert_eq!(said(&world.mesh(), "api.example.com", RecordType::A), "240.240.0.1");
    let kind = proto::address::Type::Workload(named);
    let address = proto::Address { r#type: Some(kind) };
    world.0.put_address("w", &address.encode_to_vec()).unwrap();
    assert_eq!(said(&world.mesh(), "api.example.com", RecordType::A), "240.240.0.1");
}

#[test]
fn of_several_with_one_name_ones_own_comes_first_and_what_is_not_seen_never() {
    let of = |canonical: bool, seen: Option<&str>, service: proto::Service| proto::Service {
        canonical,
        extensions: seen
            .map(|names| culvert_proto::extension_of_text(culvert_proto::EXPORT_TO, names))
            .into_iter()
            .collect(),
        ..service
    };
    let host = "api.example.com";
    let services = [
        of(true, None, service("ext", host, &["240.240.0.1"])),
        of(false, None, service("bank", host, &["240.240.0.2"])),
        of(false, None, service("shop", host, &["240.240.0.3"])),
        of(
            true,
            Some("bank,ext"),
            service("ext", "hidden.example.com", &["240.240.0.4"]),
        ),
        of(
            true,
            Some("shop"),
            service("ext", "shown.example.com", &["240.240.0.5"]),
        ),
        of(false, None, service("bank", "empty.example.com", &["240.240.0.6"])),
        of(true, None, service("ext", "empty.example.com", &[])),
    ];
    let mut world = World::new(false);
    services.iter().rev().for_each(|service| world.put(service.clone()));
    let mesh = world.mesh();
    assert_eq!(said(&mesh, host, RecordType::A), "240.240.0.3", "one's own");
    assert_eq!(said(&mesh, "hidden.example.com", RecordType::A), "forward");
    assert_eq!(said(&mesh, "shown.example.com", RecordType::A), "240.240.0.5");
    assert_eq!(
        said(&mesh, "empty.example.com", RecordType::A),
        "240.240.0.6",
        "the one that has an address"
    );
    let mut world = World::new(false);
    services[..2].iter().for_each(|service| world.put(service.clone()));
    assert_eq!(said(&world.mesh(), host, RecordType::A), "240.240.0.1", "the owner");
}

#[test]
fn on_demand_hosts_are_asked_for_before_anything_is_said_of_them() {
    let world = || {
        World::new(true)
            .service("shop", CART, &["198.19.0.1"])
            .service("ext", "*.example.com", &["240.240.0.2"])
    };
    let asked = |name: &str| said(&world().mesh(), name, RecordType::A);
    assert_eq!(
        asked(CART),
        format!("ask {CART} cart"),
        "what is known of it may not be all"
    );
    assert_eq!(
        asked("www.example.com"),
        "ask www.example.com",
        "a wildcard is what is meant last"
    );
    assert_eq!(
        asked("www.example.com.shop.svc.cluster.local"),
        "ask www.example.com",
        "no name that a stub resolver has made"
    );
    assert_eq!(
        asked("google.com.shop.svc.cluster.local"),
        "ask com.shop.svc.cluster.local google.com google.com.svc.cluster.local"
    );
    assert_eq!(asked("pg-0.pg.db.svc"), "ask pg-0.pg.db.svc pg.db.svc.cluster.local");
    assert_eq!(asked("cart"), format!("ask cart {CART}"));
    for (answered, name, expected) in [
        (&[CART][..], CART, "198.19.0.1"),
        (&["www.example.com"], "www.example.com", "240.240.0.2"),
        (
            &["www.example.com"],
            "www.example.com.shop.svc.cluster.local",
            "240.240.0.2",
        ),
        (&["www.example.org"], "www.example.org", "forward"),
    ] {
        assert_eq!(
            said(&world().answered(answered).mesh(), name, RecordType::A),
            expected,
            "{name}"
        );
    }
    assert!(WILDCARDS_ALIAS.starts_with("culvert.dev/"), "all wildcards are known");
}

#[test]
fn until_there_is_configuration_names_are_waited_for() {
    let mut store = Store::new("", "cluster.local", false);
    assert_eq!(said(&store.snapshot(), CART, RecordType::A), format!("ask {CART} cart"));
    let message = query(CART, RecordType::MX);
    assert_eq!(ask(&store.snapshot(), &message, Transport::Udp), Err(Decision::Forward));
    store.set_synced();
    assert_eq!(said(&store.snapshot(), CART, RecordType::A), "forward");
}
