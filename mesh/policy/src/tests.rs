use culvert_identity::SpiffeId;
use culvert_proto::security::{self as proto, string_match::MatchType};
use proptest::prelude::*;

use crate::{AUDIT, Connection, Policy, PolicyError, Purpose, Remarks, Trial, Verdict, evaluate, remarks};

fn text(match_type: MatchType) -> proto::StringMatch {
    proto::StringMatch {
        match_type: Some(match_type),
    }
}

fn exact(value: &str) -> proto::StringMatch {
    text(MatchType::Exact(value.to_owned()))
}

fn presence() -> proto::StringMatch {
    text(MatchType::Presence(()))
}

fn net(address: [u8; 4], length: u32) -> proto::Address {
    proto::Address {
        address: address.to_vec(),
        length,
    }
}

fn one_clause(matches: Vec<proto::Match>) -> proto::Rule {
    proto::Rule {
        clauses: vec![proto::Clause { matches }],
    }
}

fn wire(name: &str, action: proto::Action, rules: Vec<proto::Rule>) -> proto::Authorization {
    proto::Authorization {
        name: name.to_owned(),
        namespace: "shop".to_owned(),
        action: action as i32,
        rules,
        ..Default::default()
    }
}

fn policy(name: &str, action: proto::Action, rules: Vec<proto::Rule>) -> Policy {
    Policy::from_proto(&wire(name, action, rules)).unwrap()
}

fn id(namespace: &str, account: &str) -> SpiffeId {
    SpiffeId::new("cluster.local", namespace, account).unwrap()
}

fn from(identity: Option<&SpiffeId>) -> Connection<'_> {
    Connection {
        identity,
        source: "198.18.1.7".parse().unwrap(),
        destination: "198.18.2.9:8080".parse().unwrap(),
    }
}

const ALLOW: proto::Action = proto::Action::Allow;
const DENY: proto::Action = proto::Action::Deny;

fn allows(m: proto::Match, connection: &Connection<'_>) -> bool {
    let policy = policy("p", ALLOW, vec![one_clause(vec![m])]);
    evaluate([&policy], connection) == Verdict::Allow
}

#[test]
fn without_policies_everything_passes() {
    assert_eq!(evaluate([], &from(None)), Verdict::Allow);
}

#[test]
fn deny_comes_before_allow_in_any_order() {
    let everything = policy("all", ALLOW, vec![proto::Rule::default()]);
    let port = one_clause(vec![proto::Match {
        destination_ports: vec![8080],
        ..Default::default()
    }]);
    let denial = policy("no", DENY, vec![port]);
    for order in [[&everything, &denial], [&denial, &everything]] {
        assert_eq!(evaluate(order, &from(None)), Verdict::Deny { policy: denial.name() });
    }
}

#[test]
fn an_allow_policy_without_rules_lets_nobody_in_and_a_deny_policy_without_rules_nobody_out() {
    let nobody = policy("p", ALLOW, vec![]);
    assert_eq!(evaluate([&nobody], &from(None)), Verdict::NotAllowed);
    let inert = policy("p", DENY, vec![]);
    assert_eq!(evaluate([&inert], &from(None)), Verdict::Allow);
}

#[test]
fn an_empty_rule_matches_all_and_an_empty_clause_or_match_nothing() {
    assert!(policy("p", DENY, vec![proto::Rule::default()]).matches(&from(None)));
    assert!(!policy("p", DENY, vec![one_clause(vec![])]).matches(&from(None)));
    assert!(!policy("p", DENY, vec![one_clause(vec![proto::Match::default()])]).matches(&from(None)));
    let peer = id("shop", "web");
    assert!(!policy("p", DENY, vec![one_clause(vec![proto::Match::default()])]).matches(&from(Some(&peer))));
}

fn tried(name: &str, action: proto::Action, rules: Vec<proto::Rule>) -> Policy {
    Policy::from_proto(&proto::Authorization {
        dry_run: true,
        ..wire(name, action, rules)
    })
    .unwrap()
}

fn auditing(name: &str, rules: Vec<proto::Rule>) -> proto::Authorization {
    proto::Authorization {
        dry_run: true,
        extensions: vec![culvert_proto::workload::Extension {
            name: AUDIT.to_owned(),
            ..Default::default()
        }],
        ..wire(name, DENY, rules)
    }
}

#[test]
fn a_dry_run_says_what_it_would_change_and_nothing_where_it_changes_nothing() {
    let everybody = || vec![proto::Rule::default()];
    let all = policy("all", ALLOW, everybody());
    let nobody = policy("nobody", ALLOW, vec![]);
    let trial = |policies: &[&Policy]| remarks(policies.iter().copied(), &from(None)).and_then(|found| found.dry_run);
    let denial = tried("no", DENY, everybody());
    assert_eq!(trial(&[&denial]), Some(Trial::Denied("shop/no".into())));
    assert_eq!(trial(&[&tried("others", ALLOW, vec![])]), Some(Trial::NotAllowed));
    assert_eq!(
        trial(&[&nobody, &tried("more", ALLOW, everybody())]),
        Some(Trial::Allowed)
    );
    // Those that would change nothing: it is refused, or let in, already.
    assert_eq!(trial(&[&policy("yes", DENY, everybody()), &denial]), None);
    assert_eq!(trial(&[&all, &tried("others", ALLOW, vec![])]), None);
    assert_eq!(trial(&[&all]), None);
}

#[test]
fn an_audit_names_what_matches_and_never_decides() {
    let port = |port| {
        one_clause(vec![proto::Match {
            destination_ports: vec![port],
            ..Default::default()
        }])
    };
    let [here, elsewhere] = [("here", 8080), ("elsewhere", 81)]
        .map(|(name, number)| Policy::from_proto(&auditing(name, vec![port(number)])).unwrap());
    assert_eq!(here.purpose(), Purpose::Audit);
    assert_eq!(evaluate([&here], &from(None)), Verdict::Allow);
    let expected = Remarks {
        dry_run: None,
        audited: ["shop/here".into()].into(),
    };
    assert_eq!(remarks([&here, &elsewhere], &from(None)), Some(expected));
    assert_eq!(remarks([&elsewhere], &from(None)), None);
    // It would be enforced by whoever does not know the extension.
    let enforced = proto::Authorization {
        dry_run: false,
        ..auditing("p", vec![])
    };
    assert_eq!(Policy::from_proto(&enforced), Err(PolicyError::EnforcedAudit));
}

#[test]
fn dry_run_is_never_enforced() {
    let mut denial = wire("p", DENY, vec![proto::Rule::default()]);
    denial.dry_run = true;
    let denial = Policy::from_proto(&denial).unwrap();
    let mut nobody = wire("q", ALLOW, vec![]);
    nobody.dry_run = true;
    let nobody = Policy::from_proto(&nobody).unwrap();
    assert_eq!(evaluate([&denial, &nobody], &from(None)), Verdict::Allow);
}

#[test]
fn strict_mutual_tls_is_a_denial_of_peers_without_identity() {
    let strict = policy(
        "strict",
        DENY,
        vec![one_clause(vec![proto::Match {
            not_principals: vec![presence()],
            ..Default::default()
        }])],
    );
    assert_eq!(
        evaluate([&strict], &from(None)),
        Verdict::Deny { policy: strict.name() }
    );
    assert_eq!(evaluate([&strict], &from(Some(&id("shop", "web")))), Verdict::Allow);
}

#[test]
fn texts_compare_exactly_by_prefix_by_suffix_and_by_presence() {
    let peer = id("shop", "web");
    let principals = |t| proto::Match {
        principals: vec![t],
        ..Default::default()
    };
    for (matcher, expected) in [
        (exact("cluster.local/ns/shop/sa/web"), true),
        (exact("spiffe://cluster.local/ns/shop/sa/web"), false),
        (exact("cluster.local/ns/shop/sa/we"), false),
        (text(MatchType::Prefix("cluster.local/ns/shop/".to_owned())), true),
        (text(MatchType::Prefix("cluster.local/ns/shoe/".to_owned())), false),
        (text(MatchType::Suffix("/sa/web".to_owned())), true),
        (text(MatchType::Suffix("/sa/we".to_owned())), false),
        (presence(), true),
    ] {
        assert_eq!(
            allows(principals(matcher.clone()), &from(Some(&peer))),
            expected,
            "{matcher:?}"
        );
        assert!(!allows(principals(matcher), &from(None)));
    }
}

#[test]
fn each_field_is_asked() {
    let peer = id("shop", "web");
    let yes = |m: proto::Match| assert!(allows(m.clone(), &from(Some(&peer))), "{m:?}");
    let no = |m: proto::Match| assert!(!allows(m.clone(), &from(Some(&peer))), "{m:?}");
    let account = |namespace: &str, name: &str| proto::ServiceAccountMatch {
        namespace: namespace.to_owned(),
        service_account: name.to_owned(),
    };
    macro_rules! field {
        ($positive:ident, $negative:ident, $hit:expr, $miss:expr) => {
            yes(proto::Match {
                $positive: vec![$miss, $hit],
                ..Default::default()
            });
            no(proto::Match {
                $positive: vec![$miss],
                ..Default::default()
            });
            no(proto::Match {
                $negative: vec![$miss, $hit],
                ..Default::default()
            });
            yes(proto::Match {
                $negative: vec![$miss],
                ..Default::default()
            });
            no(proto::Match {
                $positive: vec![$hit],
                $negative: vec![$hit],
                ..Default::default()
            });
        };
    }
    field!(namespaces, not_namespaces, exact("shop"), exact("bank"));
    field!(
        service_accounts,
        not_service_accounts,
        account("shop", "web"),
        account("shop", "db")
    );
    field!(
        principals,
        not_principals,
        exact("cluster.local/ns/shop/sa/web"),
        exact("other/ns/shop/sa/web")
    );
    field!(
        source_ips,
        not_source_ips,
        net([198, 18, 1, 0], 24),
        net([198, 18, 2, 0], 24)
    );
    field!(
        destination_ips,
        not_destination_ips,
        net([198, 18, 2, 9], 32),
        net([198, 18, 2, 8], 32)
    );
    field!(destination_ports, not_destination_ports, 8080, 80);
}

#[test]
fn ranges_lose_the_bits_beyond_their_prefix_and_mapped_addresses_are_ipv4() {
    let peer = Connection {
        identity: None,
        source: "::ffff:198.18.1.7".parse().unwrap(),
        destination: "[::ffff:198.18.2.9]:80".parse().unwrap(),
    };
    let m = proto::Match {
        source_ips: vec![net([198, 18, 1, 99], 24)],
        destination_ips: vec![net([0, 0, 0, 0], 0)],
        ..Default::default()
    };
    assert!(allows(m, &peer));
}

#[test]
fn what_cannot_be_expressed_is_refused() {
    let refused = |m: proto::Match| Policy::from_proto(&wire("p", DENY, vec![one_clause(vec![m])])).unwrap_err();
    let port = proto::Match {
        destination_ports: vec![65536],
        ..Default::default()
    };
    assert_eq!(refused(port), PolicyError::Port(65536));
    let prefix = proto::Match {
        source_ips: vec![net([198, 18, 0, 0], 33)],
        ..Default::default()
    };
    assert_eq!(
        refused(prefix).to_string(),
        "source_ips: prefix length 33 is too long for 198.18.0.0"
    );
    let address = proto::Match {
        source_ips: vec![proto::Address {
            address: vec![1, 2, 3],
            length: 8,
        }],
        ..Default::default()
    };
    assert_eq!(
        refused(address),
        PolicyError::Address {
            field: "source_ips",
            bytes: 3
        }
    );
    let comparison = proto::Match {
        namespaces: vec![proto::StringMatch::default()],
        ..Default::default()
    };
    assert_eq!(refused(comparison), PolicyError::Comparison("namespaces"));
    let mut unknown = wire("p", DENY, vec![]);
    unknown.action = 7;
    assert_eq!(
        Policy::from_proto(&unknown),
        Err(PolicyError::UnknownValue {
            field: "action",
            value: 7
        })
    );
    let mut unknown = wire("p", DENY, vec![]);
    unknown.scope = -1;
    assert_eq!(
        Policy::from_proto(&unknown),
        Err(PolicyError::UnknownValue {
            field: "scope",
            value: -1
        })
    );
    assert_eq!(
        Policy::from_proto(&wire("", DENY, vec![])),
        Err(PolicyError::Unnamed("name"))
    );
    let mut extended = wire("p", ALLOW, vec![]);
    extended.extensions = vec![culvert_proto::workload::Extension {
        name: "x".to_owned(),
        config: None,
    }];
    assert_eq!(
        Policy::from_proto(&extended),
        Err(PolicyError::Extension("x".to_owned()))
    );
}

prop_compose! {
    fn any_match()(
        namespaces in proptest::collection::vec("[a-c]", 0..3), not_namespaces in proptest::collection::vec("[a-c]", 0..2),
        ports in proptest::collection::vec(1u32..5, 0..3), not_ports in proptest::collection::vec(1u32..5, 0..2),
        sources in proptest::collection::vec((0u8..4, 30u32..33), 0..2),
        principals in proptest::collection::vec(("[a-c]", any::<bool>()), 0..3),
    ) -> proto::Match {
        let principal = |(namespace, is_whole): (String, bool)| match is_whole {
            true => exact(id(&namespace, "web").principal()),
            false => text(MatchType::Prefix(format!("cluster.local/ns/{namespace}/"))),
        };
        proto::Match {
            principals: principals.into_iter().map(principal).collect(),
            namespaces: namespaces.iter().map(|n| exact(n)).collect(),
            not_namespaces: not_namespaces.iter().map(|n| exact(n)).collect(),
            destination_ports: ports,
            not_destination_ports: not_ports,
            source_ips: sources.into_iter().map(|(last, length)| net([198, 18, 0, last], length)).collect(),
            ..Default::default()
        }
    }
}

prop_compose! {
    fn any_policy()(
        deny: bool, dry_run in proptest::bool::weighted(0.1),
        rules in proptest::collection::vec(proptest::collection::vec(proptest::collection::vec(any_match(), 0..3), 0..3), 0..3),
    ) -> proto::Authorization {
        let rules = rules.into_iter().map(|clauses| proto::Rule {
            clauses: clauses.into_iter().map(|matches| proto::Clause { matches }).collect(),
        }).collect();
        proto::Authorization { dry_run, ..wire("p", if deny { DENY } else { ALLOW }, rules) }
    }
}

/// The semantics again, spelled out on the wire form for the fields that `any_match` fills.
fn oracle(policies: &[proto::Authorization], namespace: Option<&str>, source: u8, port: u32) -> bool {
    let matches = |m: &proto::Match| {
        let named = |list: &[proto::StringMatch]| list.iter().any(|s| namespace.is_some_and(|n| *s == exact(n)));
        let is_principal = |s: &proto::StringMatch| {
            namespace.is_some_and(|n| match s.match_type.as_ref().unwrap() {
                MatchType::Exact(whole) => *whole == format!("cluster.local/ns/{n}/sa/web"),
                MatchType::Prefix(begin) => format!("cluster.local/ns/{n}/sa/web").starts_with(begin.as_str()),
                _ => false,
            })
        };
        let conditions = m.principals.len() + m.namespaces.len() + m.not_namespaces.len() + m.destination_ports.len();
        conditions + m.not_destination_ports.len() + m.source_ips.len() > 0
            && (m.namespaces.is_empty() || named(&m.namespaces))
            && (m.principals.is_empty() || m.principals.iter().any(is_principal))
            && !named(&m.not_namespaces)
            && (m.destination_ports.is_empty() || m.destination_ports.contains(&port))
            && !m.not_destination_ports.contains(&port)
            && (m.source_ips.is_empty()
                || m.source_ips.iter().any(|net| {
                    let shift = 32 - net.length;
                    net.address[3] >> shift == source >> shift
                }))
    };
    let covers = |p: &proto::Authorization| {
        p.rules
            .iter()
            .any(|r| r.clauses.iter().all(|c| c.matches.iter().any(&matches)))
    };
    let live = || policies.iter().filter(|p| !p.dry_run);
    let denied = live().any(|p| p.action == DENY as i32 && covers(p));
    let mut allow = live().filter(|p| p.action == ALLOW as i32).peekable();
    !denied && (allow.peek().is_none() || allow.any(covers))
}

proptest! {
    #[test]
    fn verdicts_agree_with_the_semantics_spelled_out(
        policies in proptest::collection::vec(any_policy(), 0..5),
        namespace in proptest::option::of("[a-c]"), source in 0u8..4, port in 1u16..5,
    ) {
        let parsed: Vec<Policy> = policies.iter().map(|p| Policy::from_proto(p).unwrap()).collect();
        let identity = namespace.as_deref().map(|n| id(n, "web"));
        let connection = Connection {
            identity: identity.as_ref(),
            source: [198, 18, 0, source].into(),
            destination: ([198, 18, 2, 9], port).into(),
        };
        let verdict = evaluate(&parsed, &connection);
        prop_assert_eq!(verdict == Verdict::Allow, oracle(&policies, namespace.as_deref(), source, u32::from(port)));
    }

    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        use prost::Message as _;
        if let Ok(wire) = proto::Authorization::decode(bytes.as_slice()) {
            let _ = Policy::from_proto(&wire);
        }
    }
}
