//! Services with virtual ranges, which workloads and services with addresses of their own may lie in, and who sees a service.

use culvert_proto::{EXPORT_TO, extension_of_text, workload as proto};

use super::{World, client, member, service, workload};
use crate::{Awaited, Outbound, Pod};

/// A service around 198.19.7.0/24, with an endpoint outside of it.
fn around() -> (proto::Workload, proto::Service) {
    let mut around = service("around", &["198.19.7.0"], &[(80, 80)]);
    around.addresses[0].length = Some(24);
    (
        member(workload("egress", &["198.18.0.7"]), "around", &[(80, 80)]),
        around,
    )
}

/// Connections to a pod would otherwise arrive elsewhere because somebody wrote a ServiceEntry.
#[test]
fn a_range_leads_no_connection_past_the_owner_of_an_address_in_it() {
    let (egress, around) = around();
    let own = service("own", &["198.19.7.9"], &[(80, 80)]);
    let mut world = World::new(false).with(&[egress, workload("a", &["198.19.7.2"])], &[around, own]);
    assert_eq!(world.target("198.19.7.2:80").0, "a");
    assert_eq!(world.target("198.19.7.3:80").0, "egress");
    assert!(world.denial("198.19.7.9:80").contains("shop/own.shop"));

    // One that may be a pod's is waited for as if there were no service.
    world.store.claim(&["198.19.7.128/25".parse().unwrap()], true);
    assert!(matches!(
        world.outbound("198.19.7.200:80"),
        Outbound::Pending(Awaited::Owner(_))
    ));
    assert_eq!(world.target("198.19.7.3:80").0, "egress");
}

#[test]
fn on_demand_it_is_asked_first_who_has_an_address_in_a_range() {
    let (egress, around) = around();
    let mut world = World::new(true).with(&[egress], &[around]);
    assert!(matches!(
        world.outbound("198.19.7.3:80"),
        Outbound::Pending(Awaited::Answer(_))
    ));
    assert_eq!(world.asked.try_recv().unwrap().to_string(), "198.19.7.3");
    for answered in ["198.19.7.3", "198.18.0.7"] {
        world.store.set_answered(answered.parse().unwrap());
    }
    assert_eq!(world.target("198.19.7.3:80").0, "egress");
}

#[test]
fn of_two_services_with_one_range_that_of_the_clients_namespace_counts() {
    let (egress, ours) = around();
    let mut theirs = ours.clone();
    theirs.namespace = "bank".into();
    theirs.hostname = "a.bank.svc.cluster.local".into();
    theirs.canonical = true;
    let mut world = World::new(false).with(&[egress], &[theirs, ours]);
    assert_eq!(world.target("198.19.7.3:80").0, "egress");
    let elsewhere = Pod {
        namespace: "play".into(),
        ..client()
    };
    let Outbound::Deny(denial) = world.outbound_of(&elsewhere, "198.19.7.3:80") else {
        panic!("the owner of its hostname counts, which has no endpoint");
    };
    assert!(denial.to_string().contains("bank/a.bank"), "{denial}");
}

#[test]
fn a_service_that_is_exported_to_some_namespaces_is_seen_there_alone() {
    let (egress, around) = around();
    for (to, is_seen) in [("bank,shop", true), ("bank", false), ("", false)] {
        let exported = proto::Service {
            extensions: vec![extension_of_text(EXPORT_TO, to)],
            ..around.clone()
        };
        let mut world = World::new(false).with(std::slice::from_ref(&egress), &[exported]);
        let found = world.target("198.19.7.3:80").0;
        assert_eq!(found == "egress", is_seen, "{to:?}: {found:?}");
    }
}
