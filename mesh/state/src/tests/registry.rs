//! Namespaces whose pods reach nothing but what the mesh knows.

use culvert_proto::workload as proto;

use super::{World, balancing::preferring, client, member, service, workload};
use crate::{Awaited, Denial, Outbound, Pod};

const STRANGER: &str = "203.0.113.9:443";

fn is_refused(outbound: &Outbound) -> bool {
    matches!(outbound, Outbound::Deny(Denial::NotInRegistry { namespace, .. }) if **namespace == *"shop")
}

#[test]
fn pods_of_a_registry_only_namespace_reach_what_is_known_and_nothing_else() {
    let outside = proto::Workload {
        tunnel_protocol: proto::TunnelProtocol::None as i32,
        ..workload("outside", &["203.0.113.7"])
    };
    let known = member(workload("a", &["198.18.0.2"]), "cart", &[(80, 80)]);
    let mut world = World::new(false).with(&[known, outside], &[service("cart", &["198.19.0.1"], &[(80, 80)])]);
    assert!(matches!(world.outbound(STRANGER), Outbound::Direct { .. }));
    world.store.set_registry_only(["shop".to_owned()]);
    assert!(is_refused(&world.outbound(STRANGER)));
    assert!(is_refused(&world.outbound("[2001:db8::9]:443")));
    for (known, name) in [
        ("198.18.0.2:80", "a"),
        ("198.19.0.1:80", "a"),
        ("203.0.113.7:443", "outside"),
    ] {
        assert_eq!(world.target(known).0, name);
    }
    let elsewhere = Pod {
        namespace: "play".into(),
        ..client()
    };
    assert!(matches!(
        world.outbound_of(&elsewhere, STRANGER),
        Outbound::Direct { .. }
    ));
    world.store.set_registry_only([]);
    assert!(matches!(world.outbound(STRANGER), Outbound::Direct { .. }));
}

#[test]
fn an_entry_that_resolves_nothing_lets_out_to_its_addresses_at_its_ports() {
    let mut entry = preferring(proto::load_balancing::Mode::Passthrough);
    entry.addresses[0].address = vec![203, 0, 113, 0];
    entry.addresses[0].length = Some(24);
    let mut world = World::new(false).with(&[], &[entry]);
    world.store.set_registry_only(["shop".to_owned()]);
    assert!(matches!(world.outbound("203.0.113.9:80"), Outbound::Direct { .. }));
    assert!(world.denial(STRANGER).contains("has no port 443"));
    assert!(is_refused(&world.outbound("192.0.2.9:80")));
    world.store.set_registry_only([]);
    assert!(matches!(world.outbound(STRANGER), Outbound::Direct { .. }));
}

/// Whether an address is known is not known before it was asked for.
#[test]
fn on_demand_nobody_is_refused_before_it_is_known_that_nobody_is_there() {
    let mut world = World::new(true);
    world.store.set_registry_only(["shop".to_owned()]);
    assert!(matches!(
        world.outbound(STRANGER),
        Outbound::Pending(Awaited::Answer(_))
    ));
    world.store.set_answered("203.0.113.9".parse().unwrap());
    assert!(is_refused(&world.outbound(STRANGER)));
}
