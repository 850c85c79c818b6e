use culvert_identity::SpiffeId;
use culvert_policy::Strictness;
use culvert_proto::{
    security::{self as proto, Action, Scope},
    workload,
};
use prost::Message as _;

use super::{World, client, client_workload, denied, policy};
use crate::Inbound;

fn ask(world: &mut World, account: Option<&str>) -> Result<(), String> {
    let identity = account.map(|account| SpiffeId::new("cluster.local", "shop", account).unwrap());
    let (source, destination) = ("198.18.0.7:40000".parse().unwrap(), "198.18.0.1:8080".parse().unwrap());
    match world.mesh().inbound(&client(), source, identity.as_ref(), destination) {
        Inbound::Allow => Ok(()),
        Inbound::Deny(denial) => Err(denied(denial)),
        Inbound::Pending(awaited) => Err(format!("waits for {awaited}")),
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
fn what_the_node_knows_of_its_pod_is_enough_unless_a_policy_may_select_it() {
    let mut world = World::new(false);
    let waits = || Err("waits for the controller's word on the pod at 198.18.0.1".to_owned());
    assert_eq!(ask(&mut world, None), Ok(()), "no policy can bind it");
    world.put_policy(&policy("closed", Scope::Namespace, Action::Allow, accounts(&["db"])));
    assert!(ask(&mut world, Some("web")).unwrap_err().contains("no ALLOW policy"));
    world.store.remove_policy("shop/closed");
    let mut elsewhere = policy("some", Scope::WorkloadSelector, Action::Deny, vec![]);
    elsewhere.namespace = "bank".into();
    world.put_policy(&elsewhere);
    assert_eq!(ask(&mut world, None), Ok(()), "another namespace's selects none here");
    world.put_policy(&policy("some", Scope::WorkloadSelector, Action::Deny, vec![]));
    assert_eq!(ask(&mut world, None), waits());
    // Another pod that had the address before is not this one.
    world.put(super::workload("former", &["198.18.0.1"]));
    assert_eq!(ask(&mut world, None), waits());
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
fn a_policy_that_is_named_and_has_not_been_received_is_waited_for() {
    let mut own = client_workload();
    own.authorization_policies = vec!["shop/late".into()];
    let mut world = World::new(false).with(&[own], &[]);
    let waits = || Err("waits for policy shop/late, which is referenced but has not been received".to_owned());
    assert_eq!(ask(&mut world, Some("web")), waits());
    world.put_policy(&policy(
        "late",
        Scope::WorkloadSelector,
        Action::Allow,
        accounts(&["web"]),
    ));
    assert_eq!(ask(&mut world, Some("web")), Ok(()));
    world.store.remove_policy("shop/late");
    assert_eq!(ask(&mut world, Some("web")), waits());
}

#[test]
fn only_pods_that_are_bound_by_other_policies_are_judged_anew() {
    let mut own = client_workload();
    own.authorization_policies = vec!["shop/chosen".into()];
    let mut world = World::new(false).with(&[own.clone()], &[]);
    world.put_policy(&policy(
        "chosen",
        Scope::WorkloadSelector,
        Action::Allow,
        accounts(&["web"]),
    ));
    let mut last = (world.mesh().binding(&client()), world.mesh().policy_generation());
    let mut changes = |world: &mut World| {
        let mesh = world.mesh();
        let now = (mesh.binding(&client()), mesh.policy_generation());
        let before = std::mem::replace(&mut last, now);
        (before.0 != last.0, before.1 != last.1)
    };
    assert_eq!(changes(&mut world), (false, false));
    // Addresses that come and go bind nobody.
    world.put(super::workload("other", &["198.18.0.9"]));
    world.store.set_answered("198.18.0.77".parse().unwrap());
    world.store.remove_address("Kubernetes//Pod/shop/other");
    world.put(own.clone());
    assert_eq!(changes(&mut world), (false, false));
    let mut elsewhere = policy("closed", Scope::Namespace, Action::Deny, vec![]);
    elsewhere.namespace = "bank".into();
    world.put_policy(&elsewhere);
    assert_eq!(changes(&mut world), (false, true));
    for change in [
        policy("chosen", Scope::WorkloadSelector, Action::Allow, accounts(&["db"])),
        policy("closed", Scope::Namespace, Action::Deny, vec![]),
    ] {
        world.put_policy(&change);
        assert_eq!(changes(&mut world), (true, true));
    }
    own.authorization_policies.clear();
    world.put(own);
    assert_eq!(changes(&mut world), (true, true));
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
fn a_source_is_worth_a_question_in_the_meshs_ranges_or_if_it_has_proved_to_be_of_it() {
    let source = "::ffff:198.18.0.7".parse().unwrap();
    let stranger = "192.0.2.1".parse().unwrap();
    for on_demand in [true, false] {
        let mut world = World::new(on_demand);
        assert!(
            !world.store.snapshot().is_worth_asking(source, false),
            "no ranges are known"
        );
        world.store.claim(&["198.18.0.0/16".parse().unwrap()], false);
        let mesh = world.store.snapshot();
        assert_eq!(mesh.is_worth_asking(source, false), on_demand);
        assert!(
            !mesh.is_worth_asking(stranger, false),
            "strangers have as many addresses as they like"
        );
        assert_eq!(mesh.is_worth_asking(stranger, true), on_demand);
        world.store.set_answered("198.18.0.7".parse().unwrap());
        assert!(
            !world.store.snapshot().is_worth_asking(source, true),
            "what was answered must not be asked again"
        );
    }
}

#[test]
fn ports_are_strict_as_the_policies_that_bind_the_pod_say_and_all_while_one_is_missing() {
    let strictness = |world: &mut World| world.mesh().strictness(&client());
    let anonymous = proto::Match {
        not_principals: vec![proto::StringMatch {
            match_type: Some(proto::string_match::MatchType::Presence(())),
        }],
        ..Default::default()
    };
    let rules = vec![proto::Rule {
        clauses: vec![proto::Clause {
            matches: vec![anonymous],
        }],
    }];
    let strict = policy("strict", Scope::WorkloadSelector, Action::Deny, rules);
    let mut world = World::new(false);
    assert_eq!(strictness(&mut world), Some(Strictness::NO_PORT));
    world.put_policy(&strict);
    assert_eq!(strictness(&mut world), None, "it may select the pod");
    world.put(client_workload());
    assert_eq!(strictness(&mut world), Some(Strictness::NO_PORT));
    let mut own = client_workload();
    own.authorization_policies = vec!["shop/strict".into()];
    world.put(own);
    assert_eq!(strictness(&mut world), Some(Strictness::EVERY_PORT));
    world.put_policy(&policy("strict", Scope::WorkloadSelector, Action::Deny, vec![]));
    assert_eq!(strictness(&mut world), Some(Strictness::NO_PORT));
    world.store.remove_policy("shop/strict");
    assert_eq!(
        strictness(&mut world),
        Some(Strictness::EVERY_PORT),
        "named, and not here"
    );
}

#[test]
fn only_between_ends_that_both_want_it_and_from_none_that_may_be_strict_does_anything_go_direct() {
    let direct = |workload: workload::Workload, kind: &str| workload::Workload {
        extensions: vec![culvert_proto::extension_of_text(culvert_proto::FALLBACK, kind)],
        ..workload
    };
    let peer = || super::workload("peer", &["198.18.0.9"]);
    let may = |world: &mut World| {
        let mesh = world.mesh();
        let peer = mesh.workload_at("198.18.0.9".parse().unwrap()).unwrap();
        mesh.may_go_direct(&client(), &peer)
    };
    for (own, others, expected) in [
        (direct(client_workload(), "direct"), direct(peer(), "direct"), true),
        (client_workload(), direct(peer(), "direct"), false),
        (direct(client_workload(), "direct"), peer(), false),
        (direct(client_workload(), "direct"), direct(peer(), "Direct"), false),
        (direct(client_workload(), ""), direct(peer(), "direct"), false),
    ] {
        let mut world = World::new(false).with(&[own, others], &[]);
        assert_eq!(may(&mut world), expected);
    }
    let mut world = World::new(false).with(&[direct(peer(), "direct")], &[]);
    assert!(!may(&mut world), "nothing is known of the pod's own");
    world.put(direct(client_workload(), "direct"));
    assert!(may(&mut world));
    let mtls = culvert_policy::istio::Mtls {
        mode: culvert_policy::istio::Mode::Strict,
        exceptions: [].into(),
    };
    let mut strict = mtls.policy("shop", "strict").unwrap();
    strict.scope = Scope::Namespace.into();
    world.put_policy(&strict);
    assert!(!may(&mut world), "the client is strict");
    world.store.remove_policy("shop/strict");
    let mut missing = direct(client_workload(), "direct");
    missing.authorization_policies = vec!["shop/missing".into()];
    world.put(missing);
    assert!(!may(&mut world), "a policy that is not there may be strict");
}
