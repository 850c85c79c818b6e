use std::net::{IpAddr, SocketAddr};

use culvert_proto::security::{
    Action, Authorization, Clause, Match, Rule, Scope, ServiceAccountMatch, StringMatch, string_match::MatchType,
};
use proptest::prelude::*;

use super::Strictness;
use crate::{
    Connection, Policy, Verdict, evaluate,
    istio::{Mode, Mtls},
};

fn presence() -> StringMatch {
    StringMatch {
        match_type: Some(MatchType::Presence(())),
    }
}

fn deny(rules: Vec<Rule>) -> Policy {
    let wire = Authorization {
        name: "policy".to_owned(),
        namespace: "ns".to_owned(),
        scope: Scope::WorkloadSelector.into(),
        action: Action::Deny.into(),
        rules,
        ..Authorization::default()
    };
    Policy::from_proto(&wire).expect("well-formed")
}

fn rule(clauses: impl IntoIterator<Item = Match>) -> Rule {
    let clause = |one| Clause { matches: vec![one] };
    Rule {
        clauses: clauses.into_iter().map(clause).collect(),
    }
}

fn anonymous() -> Match {
    Match {
        not_principals: vec![presence()],
        ..Match::default()
    }
}

fn of_policies(policies: &[Policy]) -> (bool, Vec<u16>) {
    let found = Strictness::of(policies);
    (found.strict, found.exceptions.into_iter().collect())
}

#[test]
fn what_peer_authentication_becomes_is_read_off() {
    for (mode, exceptions, expected) in [
        (Mode::Strict, vec![], (true, vec![])),
        (Mode::Strict, vec![80, 81], (true, vec![80, 81])),
        (Mode::Permissive, vec![80], (false, vec![80])),
    ] {
        let mtls = Mtls {
            mode,
            exceptions: exceptions.into_iter().collect(),
        };
        let wire = mtls.policy("ns", "converted").expect("it asks for something");
        let policy = Policy::from_proto(&wire).expect("well-formed");
        assert_eq!(of_policies(&[policy]), expected);
    }
    assert_eq!(of_policies(&[]), (false, vec![]));
}

/// `istio_converted_static_strict` and `converted_peer_authentication_NAME` as Istio's control plane sends them.
#[test]
fn what_istios_control_plane_sends_is_read_off() {
    let ports = |ports: &[u32]| Match {
        destination_ports: ports.to_vec(),
        ..Match::default()
    };
    let not_ports = |ports: &[u32]| Match {
        not_destination_ports: ports.to_vec(),
        ..Match::default()
    };
    assert_eq!(of_policies(&[deny(vec![rule([anonymous()])])]), (true, vec![]));
    let but = deny(vec![rule([not_ports(&[9090]), anonymous()])]);
    assert_eq!(of_policies(&[but]), (true, vec![9090]));
    let only = deny(vec![rule([anonymous(), ports(&[9090, 9091])])]);
    assert_eq!(of_policies(std::slice::from_ref(&only)), (false, vec![9090, 9091]));
    // Together they are as strict as any of them.
    let others = deny(vec![rule([not_ports(&[9090, 80]), anonymous()])]);
    assert_eq!(of_policies(&[only, others]), (true, vec![80]));
}

#[test]
fn what_refuses_only_some_without_a_certificate_is_not_strict() {
    let from_somewhere = Match {
        source_ips: vec![culvert_proto::security::Address {
            address: vec![198, 18, 0, 0],
            length: 16,
        }],
        ..anonymous()
    };
    let with_identity = Match {
        principals: vec![presence()],
        ..Match::default()
    };
    let of_account = Match {
        service_accounts: vec![ServiceAccountMatch {
            namespace: "ns".to_owned(),
            service_account: "a".to_owned(),
        }],
        ..Match::default()
    };
    for one in [from_somewhere, with_identity, of_account, Match::default()] {
        assert_eq!(of_policies(&[deny(vec![rule([anonymous(), one])])]), (false, vec![]));
    }
    let dry = Policy {
        purpose: crate::Purpose::DryRun,
        ..deny(vec![rule([anonymous()])])
    };
    assert_eq!(of_policies(&[dry]), (false, vec![]));
    // Matches everybody, and so the anonymous.
    assert_eq!(of_policies(&[deny(vec![Rule::default()])]), (true, vec![]));
    assert_eq!(of_policies(&[deny(vec![])]), (false, vec![]));
}

fn some_match() -> impl Strategy<Value = Match> {
    let ports = || prop::collection::vec(1_u32..5, 0..3);
    let texts = || prop::collection::vec(Just(presence()), 0..2);
    (ports(), ports(), texts(), texts(), any::<bool>()).prop_map(|(any, none, principals, not, from)| Match {
        destination_ports: any,
        not_destination_ports: none,
        principals,
        not_principals: not,
        source_ips: from
            .then(|| culvert_proto::security::Address {
                address: vec![198, 18, 1, 1],
                length: 32,
            })
            .into_iter()
            .collect(),
        ..Match::default()
    })
}

fn some_policy() -> impl Strategy<Value = Policy> {
    let clause = prop::collection::vec(some_match(), 0..3).prop_map(|matches| Clause { matches });
    let rule = prop::collection::vec(clause, 0..3).prop_map(|clauses| Rule { clauses });
    prop::collection::vec(rule, 0..3).prop_map(deny)
}

proptest! {
    /// With one address to come from, the only one that a condition names, nothing is left to be unsure of but conditions on it.
    #[test]
    fn a_strict_port_refuses_whoever_has_no_certificate(policies in prop::collection::vec(some_policy(), 0..3)) {
        let strictness = Strictness::of(&policies);
        let refuses = |source: [u8; 4], port| {
            let connection = Connection {
                identity: None,
                source: IpAddr::from(source),
                destination: SocketAddr::from(([198, 18, 2, 2], port)),
            };
            evaluate(&policies, &connection) != Verdict::Allow
        };
        for port in 0..7 {
            let always = [[198, 18, 1, 1], [198, 18, 1, 2]].into_iter().all(|source| refuses(source, port));
            // No more than is so, and all that is so of peers that no condition names.
            prop_assert!(!strictness.contains(port) || always, "{port}");
            prop_assert_eq!(strictness.contains(port), refuses([198, 18, 1, 2], port), "{}", port);
        }
    }
}
