//! What is waited for, rather than guessed or reached in plaintext.

use super::{World, workload};
use crate::{Awaited, Outbound};

#[test]
fn nothing_is_decided_before_the_first_answers() {
    let mut world = World::new(false);
    world.store = crate::Store::new("", "cluster.local", false);
    assert!(matches!(world.outbound("198.18.9.9:80"), Outbound::Pending(_)));
    assert!(world.asked.try_recv().is_err());
}

#[test]
fn what_is_unknown_in_the_meshs_own_ranges_is_waited_for_and_never_reached_in_clear() {
    for on_demand in [false, true] {
        let mut world = World::new(on_demand).with(&[workload("a", &["198.18.0.2"])], &[]);
        world
            .store
            .claim(&["198.18.0.0/16".parse().unwrap(), "fd00::/16".parse().unwrap()], false);
        for unknown in ["198.18.0.9:80", "[fd00::9]:80", "[::ffff:198.18.0.9]:80"] {
            let address: std::net::SocketAddr = unknown.parse().unwrap();
            world.store.set_answered(address.ip().to_canonical());
            assert!(
                matches!(world.outbound(unknown), Outbound::Pending(_)),
                "{unknown} must not be dialled in clear"
            );
        }
        assert!(matches!(world.outbound("198.18.0.2:80"), Outbound::Tunnel { .. }));
        let outside = "198.19.0.9".parse().unwrap();
        world.store.set_answered(outside);
        assert!(matches!(world.outbound("198.19.0.9:80"), Outbound::Direct { .. }));
    }
}

#[test]
fn without_any_range_nothing_goes_in_plaintext_to_an_unknown_private_address() {
    let mut world = World::new(false);
    for private in [
        "10.1.2.3:80",
        "172.16.0.1:80",
        "172.31.255.1:80",
        "192.168.1.1:80",
        "100.64.0.1:80",
        "100.127.0.1:80",
        "[fd12::1]:80",
    ] {
        assert!(
            matches!(world.outbound(private), Outbound::Pending(Awaited::OwnerOrRanges(_))),
            "{private} must be waited for"
        );
    }
    for outside in [
        "192.0.2.1:80",
        "172.32.0.1:80",
        "100.128.0.1:80",
        "169.254.169.254:80",
        "[2001:db8::1]:80",
    ] {
        assert!(matches!(world.outbound(outside), Outbound::Direct { .. }), "{outside}");
    }
    // The controller says where the mesh is; what is private elsewhere is reached.
    world.store.claim(&["10.0.0.0/8".parse().unwrap()], true);
    assert!(matches!(
        world.outbound("10.1.2.3:80"),
        Outbound::Pending(Awaited::Owner(_))
    ));
    assert!(matches!(world.outbound("192.168.1.1:80"), Outbound::Direct { .. }));
    // What is outside of them is asked for all the same: pods may have addresses that the controller finds in no range.
    let mut world = World::new(true);
    world.store.claim(&["10.0.0.0/8".parse().unwrap()], true);
    for destination in ["192.0.2.1:80", "10.1.2.3:80"] {
        assert!(matches!(
            world.outbound(destination),
            Outbound::Pending(Awaited::Answer(_))
        ));
    }
}

#[test]
fn what_the_controller_may_need_is_reached_before_it_has_answered() {
    let mut world = World::new(true);
    world.store = crate::Store::new("", "cluster.local", true);
    world.store.set_bootstrap(Some("10.96.0.1:443".parse().unwrap()));
    assert!(
        matches!(world.outbound("10.96.0.1:443"), Outbound::Direct { .. }),
        "the API server"
    );
    assert!(matches!(world.outbound("10.96.0.1:444"), Outbound::Pending(_)));
    assert!(
        matches!(world.outbound("192.0.2.53:53"), Outbound::Pending(_)),
        "no ranges are known"
    );
    world.store.claim(&["10.0.0.0/8".parse().unwrap()], false);
    assert!(matches!(world.outbound("192.0.2.53:53"), Outbound::Direct { .. }));
    assert!(matches!(world.outbound("10.1.2.3:80"), Outbound::Pending(_)));
    assert!(matches!(world.outbound("192.168.0.1:80"), Outbound::Pending(_)));
}
