//! Which of several endpoints a connection goes to.

use std::{collections::BTreeMap, sync::atomic::Ordering};

use culvert_proto::workload as proto;

use super::{World, client, client_workload, member, service, session_affinity, workload};
use crate::{Outbound, Pod};

fn counts(world: &mut World, destination: &str, rounds: u32) -> BTreeMap<String, u32> {
    let mut counts = BTreeMap::new();
    for _ in 0..rounds {
        *counts.entry(world.target(destination).0).or_default() += 1;
    }
    counts
}

#[test]
fn idle_endpoints_share_by_weight_and_busy_ones_get_less() {
    let endpoint = |name: &str, address: &str, capacity| proto::Workload {
        capacity,
        ..member(workload(name, &[address]), "cart", &[(80, 80)])
    };
    let cart = service("cart", &["198.19.0.1"], &[(80, 80)]);
    let even = [endpoint("a", "198.18.0.2", None), endpoint("b", "198.18.0.3", None)];
    let mut world = World::new(false).with(&even, std::slice::from_ref(&cart));
    let even = counts(&mut world, "198.19.0.1:80", 2000);
    assert!(even.values().all(|count| (800..=1200).contains(count)), "{even:?}");

    let busy = world.mesh().workload_at("198.18.0.2".parse().unwrap()).unwrap();
    busy.open.store(10, Ordering::Relaxed);
    let one_busy = counts(&mut world, "198.19.0.1:80", 2000);
    // Drawn twice in a row is the only way to the busy one: a quarter.
    assert!((350..=650).contains(&one_busy["a"]), "{one_busy:?}");

    world.put(endpoint("a", "198.18.0.2", Some(3)));
    let again = world.mesh().workload_at("198.18.0.2".parse().unwrap()).unwrap();
    assert_eq!(again.open.load(Ordering::Relaxed), 10, "a new version goes on counting");
    again.open.store(0, Ordering::Relaxed);
    let weighted = counts(&mut world, "198.19.0.1:80", 2000);
    assert!((1350..=1650).contains(&weighted["a"]), "{weighted:?}");
    world.put(endpoint("a", "198.18.0.2", Some(0)));
    assert_eq!(
        counts(&mut world, "198.19.0.1:80", 200).len(),
        1,
        "a weight of 0 is none"
    );
}

#[test]
fn with_session_affinity_a_client_stays_where_it_is_while_others_come_and_go() {
    let endpoint = |name: &str, address: &str, capacity| proto::Workload {
        capacity,
        ..member(workload(name, &[address]), "cart", &[(80, 80)])
    };
    let cart = proto::Service {
        extensions: vec![session_affinity("ClientIP")],
        ..service("cart", &["198.19.0.1"], &[(80, 80)])
    };
    let first = ["a", "b", "c"]
        .into_iter()
        .zip(["198.18.0.2", "198.18.0.3", "198.18.0.4"]);
    let first: Vec<_> = first.map(|(name, address)| endpoint(name, address, None)).collect();
    let mut world = World::new(false).with(&first, &[cart]);
    let places = |world: &mut World| -> Vec<String> {
        let place = |number: u32| {
            let pod = Pod {
                uid: format!("uid-{number}").into(),
                ..client()
            };
            match world.outbound_of(&pod, "198.19.0.1:80") {
                Outbound::Tunnel { endpoint, .. } => endpoint.workload.name.to_string(),
                other => panic!("{other:?}"),
            }
        };
        (0..600).map(place).collect()
    };
    let at = |places: &[String], name: &str| places.iter().filter(|place| *place == name).count();
    let before = places(&mut world);
    assert_eq!(before, places(&mut world), "each client stays");
    for name in ["a", "b", "c"] {
        assert!(
            (150..=250).contains(&at(&before, name)),
            "{name}: {}",
            at(&before, name)
        );
    }

    world.put(endpoint("d", "198.18.0.5", None));
    let with_another = places(&mut world);
    let moved = before.iter().zip(&with_another).filter(|(one, other)| one != other);
    assert!(
        moved.clone().all(|(_, place)| place == "d"),
        "clients move to who came, and nowhere else"
    );
    assert!((100..=200).contains(&moved.count()));

    world.store.remove_address("Kubernetes//Pod/shop/b");
    let without = places(&mut world);
    let lost = |place: &String| place == "b";
    assert!(
        with_another
            .iter()
            .zip(&without)
            .all(|(one, other)| lost(one) || one == other)
    );
    assert_eq!(at(&without, "b"), 0);

    world.put(endpoint("a", "198.18.0.2", Some(4)));
    let weighted = places(&mut world);
    assert!(
        (350..=450).contains(&at(&weighted, "a")),
        "4 of 6: {}",
        at(&weighted, "a")
    );
    for (name, address) in [("a", "198.18.0.2"), ("c", "198.18.0.4"), ("d", "198.18.0.5")] {
        world.put(endpoint(name, address, Some(0)));
    }
    let unweighted = places(&mut world);
    assert!(at(&unweighted, "c") > 150, "without weights all are equal");
}

fn near(name: &str, address: &str, zone: &str, subzone: &str) -> proto::Workload {
    let locality = proto::Locality {
        region: "north".into(),
        zone: zone.into(),
        subzone: subzone.into(),
    };
    proto::Workload {
        locality: Some(locality),
        ..member(workload(name, &[address]), "cart", &[(80, 80)])
    }
}

pub(super) fn preferring(mode: proto::load_balancing::Mode) -> proto::Service {
    use proto::load_balancing::Scope;
    let load_balancing = proto::LoadBalancing {
        routing_preference: vec![Scope::Region as i32, Scope::Zone as i32, Scope::Subzone as i32],
        mode: mode as i32,
        ..Default::default()
    };
    proto::Service {
        load_balancing: Some(load_balancing),
        ..service("cart", &["198.19.0.1"], &[(80, 80)])
    }
}

#[test]
fn failover_takes_the_closest_there_is_and_strict_nothing_else() {
    use proto::load_balancing::Mode;
    let rack = near("rack", "198.18.0.2", "n1", "r1");
    let zone = near("zone", "198.18.0.3", "n1", "r2");
    let far = near("far", "198.18.0.4", "n2", "r1");
    let mut world = World::new(false).with(&[client_workload(), rack, zone, far], &[preferring(Mode::Failover)]);
    let only = |world: &mut World| counts(world, "198.19.0.1:80", 50).into_keys().collect::<Vec<_>>();
    assert_eq!(only(&mut world), ["rack"]);
    world.store.remove_address("Kubernetes//Pod/shop/rack");
    assert_eq!(only(&mut world), ["zone"]);
    world.store.remove_address("Kubernetes//Pod/shop/zone");
    assert_eq!(only(&mut world), ["far"]);

    world.put_service(preferring(Mode::Strict));
    assert!(world.denial("198.19.0.1:80").contains("no healthy endpoint"));
    world.put(near("rack", "198.18.0.2", "n1", "r1"));
    assert_eq!(only(&mut world), ["rack"]);
    world.put_service(preferring(Mode::Passthrough));
    assert_eq!(world.target("198.19.0.1:80").1.to_string(), "198.19.0.1:80");
}

#[test]
fn who_prefers_its_node_gets_it_also_where_nobody_says_in_which_zone_it_is() {
    use proto::load_balancing::{Mode, Scope};
    for (zone, subzone) in [("", ""), ("n1", "")] {
        let at = |node: &str, workload: proto::Workload| proto::Workload {
            node: node.to_owned(),
            ..workload
        };
        let client = proto::Workload {
            locality: near("client", "198.18.0.1", zone, subzone).locality,
            ..client_workload()
        };
        let scopes = [Scope::Network, Scope::Region, Scope::Zone, Scope::Subzone, Scope::Node];
        let mut service = preferring(Mode::Failover);
        if let Some(balancing) = &mut service.load_balancing {
            balancing.routing_preference = scopes.map(|scope| scope as i32).to_vec();
        }
        let here = at("node-a", near("here", "198.18.0.2", zone, subzone));
        let there = at("node-b", near("there", "198.18.0.3", zone, subzone));
        let mut world = World::new(false).with(&[client, here, there], &[service]);
        let found = counts(&mut world, "198.19.0.1:80", 50).into_keys().collect::<Vec<_>>();
        assert_eq!(found, ["here"], "{zone:?}");
        world.store.remove_address("Kubernetes//Pod/shop/here");
        let found = counts(&mut world, "198.19.0.1:80", 50).into_keys().collect::<Vec<_>>();
        assert_eq!(found, ["there"], "{zone:?}");
    }
}
