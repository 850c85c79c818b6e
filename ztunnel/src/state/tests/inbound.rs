use culvert_identity::SpiffeId;
use culvert_proto::{
    security::{self as proto, Action, Scope},
    workload,
};
use prost::Message as _;

use super::{World, client, client_workload, denied, policy};
use crate::seam::{Ask, Inbound};

fn ask(world: &mut World, account: Option<&str>) -> Result<(), String> {
    let identity = account.map(|account| SpiffeId::new("cluster.local", "shop", account).unwrap());
    let (source, destination) = ("198.18.0.7:40000".parse().unwrap(), "198.18.0.1:8080".parse().unwrap());
    match world.mesh().inbound(&client(), source, identity.as_ref(), destination) {
        Inbound::Allow => Ok(()),
        Inbound::Deny(denial) => Err(denied(denial)),
        Inbound::Pending => Err("pending".into()),
    }
}

fn accounts(names: &[&str]) -> Vec<proto::Rule> {
    let account = |name: &&str| proto::ServiceAccountMatch {
        namespace: "shop".into(),
        service_account: (*name).into(),
    };
    let one = proto::Match {
        service_accounts: names.iter().map(account).collect(),
        ..Default::default()
    };
    vec![proto::Rule {
        clauses: vec![proto::Clause { matches: vec![one] }],
    }]
}

#[test]
fn a_pod_that_the_mesh_does_not_know_yet_waits() {
    let mut world = World::new(false);
    assert_eq!(ask(&mut world, None), Err("pending".into()));
    // Another pod that had the address before is not this one.
    world.put(super::workload("former", &["198.18.0.1"]));
    assert_eq!(ask(&mut world, None), Err("pending".into()));
    world.put(client_workload());
    assert_eq!(ask(&mut world, None), Ok(()));
}

#[test]
fn policies_bind_by_mesh_by_namespace_and_by_name() {
    let mut world = World::new(false).with(&[client_workload()], &[]);
    let mut elsewhere = policy("nobody", Scope::Namespace, Action::Allow, vec![]);
    elsewhere.namespace = "bank".into();
    world.put_policy(&elsewhere);
    world.put_policy(&policy("unbound", Scope::WorkloadSelector, Action::Allow, vec![]));
    assert_eq!(ask(&mut world, Some("web")), Ok(()), "none of these binds the pod");

    world.put_policy(&policy(
        "readers",
        Scope::Namespace,
        Action::Allow,
        accounts(&["web", "db"]),
    ));
    assert_eq!(ask(&mut world, Some("web")), Ok(()));
    assert_eq!(ask(&mut world, Some("spy")), Err("no ALLOW policy matches".into()));
    assert_eq!(ask(&mut world, None), Err("no ALLOW policy matches".into()));

    let mut everywhere = policy("no-web", Scope::Global, Action::Deny, accounts(&["web"]));
    everywhere.namespace = "istio-system".into();
    world.put_policy(&everywhere);
    assert_eq!(
        ask(&mut world, Some("web")),
        Err("denied by policy istio-system/no-web".into())
    );
    assert_eq!(ask(&mut world, Some("db")), Ok(()));

    world.store.remove_policy("istio-system/no-web");
    world.store.remove_policy("shop/readers");
    assert_eq!(ask(&mut world, Some("spy")), Ok(()));
}

#[test]
fn a_policy_that_is_named_and_was_never_received_denies() {
    let mut own = client_workload();
    own.authorization_policies = vec!["shop/late".into()];
    let mut world = World::new(false).with(&[own], &[]);
    assert_eq!(
        ask(&mut world, Some("web")),
        Err("policy shop/late is referenced but has not been received".into())
    );
    world.put_policy(&policy(
        "late",
        Scope::WorkloadSelector,
        Action::Allow,
        accounts(&["web"]),
    ));
    assert_eq!(ask(&mut world, Some("web")), Ok(()));
    world.store.remove_policy("shop/late");
    assert!(ask(&mut world, Some("web")).is_err());
}

#[test]
fn a_refused_policy_denies_whom_it_would_bind_unless_there_is_an_earlier_version() {
    let mut world = World::new(false).with(&[client_workload()], &[]);
    let mut broken = policy("readers", Scope::Namespace, Action::Allow, accounts(&["web"]));
    broken.rules[0].clauses[0].matches[0].destination_ports = vec![70_000];
    let refused = world
        .store
        .put_policy("shop/readers", &broken.encode_to_vec())
        .unwrap_err();
    assert_eq!(refused.to_string(), "port 70000 is beyond 65535");
    assert!(ask(&mut world, Some("web")).unwrap_err().contains("shop/readers"));

    world.put_policy(&policy("readers", Scope::Namespace, Action::Allow, accounts(&["web"])));
    assert_eq!(ask(&mut world, Some("web")), Ok(()));
    world
        .store
        .put_policy("shop/readers", &broken.encode_to_vec())
        .unwrap_err();
    assert_eq!(
        ask(&mut world, Some("web")),
        Ok(()),
        "the last good version stays in force"
    );
    assert!(ask(&mut world, Some("spy")).is_err());

    world.store.put_policy("shop/garbage", b"\xff\xff").unwrap_err();
    assert!(
        ask(&mut world, Some("web")).is_err(),
        "what does not decode may bind anybody"
    );
    world.store.remove_policy("shop/garbage");
    assert_eq!(ask(&mut world, Some("web")), Ok(()));
}

#[test]
fn an_application_that_expects_another_protocol_is_not_connected_to() {
    let application_tunnel = Some(workload::ApplicationTunnel::default());
    let own = workload::Workload {
        application_tunnel,
        ..client_workload()
    };
    let mut world = World::new(false).with(&[own], &[]);
    assert!(ask(&mut world, None).unwrap_err().contains("PROXY protocol"));
}

#[test]
fn an_unknown_source_is_asked_for_once_the_mesh_is_known_and_on_demand_alone() {
    for (on_demand, asked) in [
        (true, Ok(Ask::Address("198.18.0.7".parse().unwrap()))),
        (false, Err(())),
    ] {
        let mut world = World::new(on_demand);
        let mesh = world.store.snapshot();
        assert!(mesh.source("::ffff:198.18.0.7".parse().unwrap(), &world.asks).is_none());
        assert_eq!(world.asked.try_recv().map_err(drop), asked, "on demand: {on_demand}");
        world.store.set_answered("198.18.0.7".parse().unwrap());
        world
            .store
            .snapshot()
            .source("198.18.0.7".parse().unwrap(), &world.asks);
        assert!(
            world.asked.try_recv().is_err(),
            "what was answered must not be asked again"
        );
    }
}
