use culvert_identity::SpiffeId;
use culvert_proto::security::{Action, Scope};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Mode, Mtls, PeerAuthentication, Source, Translation, authorization};
use crate::{Connection, Policy, Purpose, Verdict, evaluate};

fn translated(spec: &Value) -> Translation {
    authorization(&Source {
        namespace: "z",
        name: "p",
        scope: Scope::Namespace,
        dry_run: None,
        spec,
    })
}

/// Whether a workload with this one policy lets a peer of `account` in namespace `z` in, at port 8080.
fn lets_in(spec: &Value, account: Option<&str>) -> bool {
    let peer = account.map(|account| SpiffeId::new("cluster.local", "z", account).unwrap());
    let connection = Connection {
        identity: peer.as_ref(),
        source: "198.18.0.1".parse().unwrap(),
        destination: "198.18.0.2:8080".parse().unwrap(),
    };
    let policy = translated(spec)
        .policy
        .map(|policy| Policy::from_proto(&policy).unwrap());
    evaluate(&policy, &connection) == Verdict::Allow
}

fn fields(spec: &Value) -> Vec<String> {
    let notes = translated(spec).notes;
    notes.into_iter().map(|note| note.field).collect()
}

#[test]
fn a_deny_rule_that_needs_layer_7_denies_whoever_meets_its_other_conditions() {
    let spec = json!({"action": "DENY", "rules": [
        {"to": [{"operation": {"paths": ["/admin"], "ports": ["8080"]}}]}
    ]});
    assert!(!lets_in(&spec, Some("web")));
    assert_eq!(fields(&spec), ["spec.rules[0].to[0].operation.paths"]);
    let elsewhere = json!({"action": "DENY", "rules": [{"to": [{"operation": {"paths": ["/a"], "ports": ["9"]}}]}]});
    assert!(lets_in(&elsewhere, Some("web")));
    let header = json!({"action": "DENY", "rules": [{"when": [{"key": "request.headers[x]", "values": ["1"]}]}]});
    assert!(!lets_in(&header, Some("web")));
    assert_eq!(fields(&header), ["spec.rules[0].when[0].key"]);
}

#[test]
fn an_allow_rule_that_needs_layer_7_allows_nobody_and_the_others_go_on() {
    let spec = json!({"rules": [
        {"to": [{"operation": {"methods": ["GET"]}}]},
        {"from": [{"source": {"serviceAccounts": ["web"]}}]}
    ]});
    assert!(lets_in(&spec, Some("web")));
    assert!(!lets_in(&spec, Some("other")));
    assert_eq!(fields(&spec), ["spec.rules[0].to[0].operation.methods"]);
}

#[test]
fn a_value_that_means_nothing_never_lets_anybody_past() {
    for (list, bad) in [
        ("ports", json!("70000")),
        ("ports", json!("0")),
        ("ports", json!("+80")),
        ("ports", json!(8080)),
        ("ports", json!("http")),
    ] {
        for (action, wanted) in [("ALLOW", false), ("DENY", false)] {
            let spec = json!({"action": action, "rules": [{"to": [{"operation": {list: [bad]}}]}]});
            assert_eq!(lets_in(&spec, Some("web")), wanted, "{spec}");
            assert_eq!(fields(&spec), [format!("spec.rules[0].to[0].operation.{list}[0]")]);
        }
    }
    for bad in ["10.0.0.0/33", "web", "*", ""] {
        let allow = json!({"rules": [{"from": [{"source": {"notIpBlocks": [bad]}}]}]});
        assert!(
            !lets_in(&allow, Some("web")),
            "an exception that nobody understands: {bad}"
        );
        let deny = json!({"action": "DENY", "rules": [{"from": [{"source": {"notIpBlocks": [bad]}}]}]});
        assert!(
            !lets_in(&deny, Some("web")),
            "an exception that nobody understands: {bad}"
        );
    }
    let among_others = json!({"rules": [{"to": [{"operation": {"ports": ["70000", "8080"]}}]}]});
    assert!(lets_in(&among_others, Some("web")));
}

#[test]
fn what_is_unknown_in_a_policy_lets_nobody_past_and_is_named() {
    for (spec, field) in [
        (json!({"action": "DENNY", "rules": []}), "spec.action"),
        (json!({"action": 1}), "spec.action"),
        (json!({"rules": [{}], "rulez": []}), "spec.rulez"),
        (json!({"action": "DENY", "rulez": [{}]}), "spec.rulez"),
        (json!({"action": "DENY", "rules": {}}), "spec.rules"),
        (json!({"rules": "all"}), "spec.rules"),
        (json!("all"), "spec"),
        (json!({"rules": [{"form": []}]}), "spec.rules[0].form"),
        (json!({"rules": [7]}), "spec.rules[0]"),
        (json!({"action": "DENY", "rules": [7]}), "spec.rules[0]"),
        (
            json!({"rules": [{"from": [{"source": {}}]}]}),
            "spec.rules[0].from[0].source",
        ),
        (
            json!({"action": "DENY", "rules": [{"from": [{"source": {"principals": []}}]}]}),
            "spec.rules[0].from[0].source",
        ),
        (
            json!({"rules": [{"from": [{"source": {"principals": ["a*b"]}}]}]}),
            "spec.rules[0].from[0].source.principals[0]",
        ),
        (
            json!({"rules": [{"from": [{"source": {"serviceAccounts": ["z/*"]}}]}]}),
            "spec.rules[0].from[0].source.serviceAccounts[0]",
        ),
        (
            json!({"rules": [{"when": [{"key": "source.ip"}]}]}),
            "spec.rules[0].when[0]",
        ),
        (
            json!({"action": "CUSTOM", "provider": {"name": "x"}, "rules": [{}]}),
            "spec.action",
        ),
    ] {
        assert!(!lets_in(&spec, Some("web")), "{spec}");
        assert!(!lets_in(&spec, None), "{spec}");
        assert_eq!(fields(&spec), [field], "{spec}");
    }
}

#[test]
fn what_is_not_for_node_proxies_is_not_sent_and_is_named() {
    for (spec, field) in [
        (
            json!({"targetRefs": [{"kind": "Service", "name": "web"}], "rules": [{}]}),
            "spec.targetRefs",
        ),
        (
            json!({"targetRef": {"kind": "Gateway", "name": "wp"}}),
            "spec.targetRef",
        ),
    ] {
        assert_eq!(translated(&spec).policy, None);
        assert!(!super::is_for_node_proxies(&spec));
        assert_eq!(fields(&spec), [field], "{spec}");
    }
    let all = [json!({"targetRefs": []}), Value::Null, json!({"action": "AUDIT"})];
    assert!(all.iter().all(super::is_for_node_proxies));
}

#[test]
fn an_audit_is_sent_as_what_nobody_enforces_and_matches_no_more_than_it_says() {
    let sent = |spec: &Value| {
        let made = translated(spec);
        (Policy::from_proto(&made.policy.unwrap()).unwrap(), made.notes.len())
    };
    let (policy, notes) = sent(&json!({"action": "AUDIT", "rules": [{}]}));
    assert_eq!((policy.purpose(), policy.rules(), notes), (Purpose::Audit, 1, 0));
    // What layer 4 cannot see, or nobody knows, is a finding and matches nothing.
    let paths = json!({"action": "AUDIT", "rules": [{"to": [{"operation": {"paths": ["/a"]}}]}]});
    for spec in [paths, json!({"action": "AUDIT", "rules": [{}], "rulez": []})] {
        let (policy, notes) = sent(&spec);
        assert_eq!((policy.rules(), notes), (0, 1), "{spec}");
    }
}

#[test]
fn a_dry_run_is_sent_as_such_and_a_word_that_is_neither_is_enforced() {
    for (word, dry_run, notes) in [("true", true, 0), ("false", false, 0), ("yes", false, 1)] {
        let made = authorization(&Source {
            namespace: "z",
            name: "p",
            scope: Scope::Global,
            dry_run: Some(word),
            spec: &json!({"action": "DENY", "rules": [{}]}),
        });
        assert_eq!((made.policy.unwrap().dry_run, made.notes.len()), (dry_run, notes));
    }
}

#[test]
fn a_name_may_be_written_as_a_whole_spiffe_id() {
    for principal in [
        "spiffe://cluster.local/ns/z/sa/web",
        "cluster.local/ns/z/sa/web",
        "*/sa/web",
        "cluster.local/ns/z/*",
        "*",
    ] {
        let spec = json!({"rules": [{"from": [{"source": {"principals": [principal]}}]}]});
        assert!(lets_in(&spec, Some("web")), "{principal}");
        assert!(!lets_in(&spec, None), "{principal}");
    }
}

const STRICT: Option<Mode> = Some(Mode::Strict);
const OPEN: Option<Mode> = Some(Mode::Permissive);

fn read(spec: &Value) -> PeerAuthentication {
    let (read, notes) = PeerAuthentication::read(spec);
    assert!(notes.is_empty(), "{notes:?}");
    read
}

#[test]
fn the_nearest_mode_that_is_set_counts_and_a_port_before_its_workload() {
    let mode = |own: Value, inherited: [Option<Mode>; 2]| {
        let own = read(&own);
        let mtls = Mtls::of(Some(&own), inherited);
        (mtls.mode, mtls.exceptions.into_iter().collect::<Vec<u16>>())
    };
    let (strict, open) = (Mode::Strict, Mode::Permissive);
    assert_eq!(mode(json!({}), [None, None]), (open, vec![]));
    assert_eq!(mode(json!({}), [None, STRICT]), (strict, vec![]));
    assert_eq!(mode(json!({"mtls": {"mode": "UNSET"}}), [OPEN, STRICT]), (open, vec![]));
    assert_eq!(
        mode(json!({"mtls": {"mode": "DISABLE"}}), [STRICT, STRICT]),
        (open, vec![])
    );
    let ports = json!({"portLevelMtls": {"80": {"mode": "PERMISSIVE"}, "81": {"mode": "DISABLE"}, "82": {}, "83": {"mode": "STRICT"}}});
    assert_eq!(mode(ports.clone(), [None, STRICT]), (strict, vec![80, 81]));
    assert_eq!(mode(ports, [None, None]), (open, vec![83]));
    // The two ways in which Istio's control plane loses STRICT.
    let exception = json!({"portLevelMtls": {"80": {"mode": "PERMISSIVE"}}});
    assert_eq!(mode(exception, [None, STRICT]), (strict, vec![80]));
    let strict_port = json!({"mtls": {"mode": "PERMISSIVE"}, "portLevelMtls": {"80": {"mode": "STRICT"}}});
    assert_eq!(mode(strict_port, [None, STRICT]), (open, vec![80]));
}

#[test]
fn what_is_unknown_in_a_peer_authentication_asks_for_certificates_and_is_named() {
    for (spec, field) in [
        (json!(1), "spec"),
        (json!({"mtls": "STRICT"}), "spec.mtls"),
        (json!({"mtls": {"mode": "STRICKT"}}), "spec.mtls.mode"),
        (json!({"mtls": {"mode": 3}}), "spec.mtls.mode"),
        (json!({"mtls": {"mode": "PERMISSIVE", "more": 1}}), "spec.mtls.more"),
        (json!({"mtlss": {"mode": "STRICT"}}), "spec.mtlss"),
        (json!({"portLevelMtls": []}), "spec.portLevelMtls"),
        (
            json!({"portLevelMtls": {"http": {"mode": "STRICT"}}}),
            "spec.portLevelMtls[http]",
        ),
    ] {
        let (read, notes) = PeerAuthentication::read(&spec);
        assert_eq!((read.mode, read.ports.len()), (STRICT, 0), "{spec}");
        assert_eq!(
            notes.iter().map(|note| note.field.as_str()).collect::<Vec<_>>(),
            [field]
        );
    }
    let (read, notes) = PeerAuthentication::read(&json!({"portLevelMtls": {"70000": {"mode": "PERMISSIVE"}}}));
    assert_eq!((read.mode, notes.len()), (None, 1));
}

/// What a policy says about a connection, read off the object itself. `unknown` is what a condition that cannot be decided
/// counts for.
mod naive {
    use super::{Connection, Value};

    pub(super) fn matches(spec: &Value, connection: &Connection<'_>, unknown: bool) -> bool {
        let rules = spec["rules"].as_array();
        rules.into_iter().flatten().any(|rule| {
            ["from", "to"].into_iter().all(|part| {
                let entries = rule[part].as_array();
                entries.is_none_or(|entries| {
                    entries.is_empty() || entries.iter().any(|entry| entry_matches(entry, connection, unknown))
                })
            })
        })
    }

    fn entry_matches(entry: &Value, connection: &Connection<'_>, unknown: bool) -> bool {
        let conditions = entry
            .get("source")
            .or(entry.get("operation"))
            .and_then(Value::as_object);
        let conditions: Vec<_> = conditions
            .into_iter()
            .flatten()
            .filter(|(_, values)| !values.as_array().unwrap().is_empty())
            .collect();
        if conditions.is_empty() {
            return unknown;
        }
        conditions
            .into_iter()
            .all(|(name, values)| holds(name, values, connection, unknown))
    }

    fn holds(name: &str, values: &Value, connection: &Connection<'_>, unknown: bool) -> bool {
        let values = values.as_array().unwrap();
        let one = |value: &Value| value_matches(name, value.as_str().unwrap(), connection);
        let answers: Vec<Option<bool>> = values.iter().map(one).collect();
        if name.starts_with("not") {
            // Whether an exception holds that nobody understands is the opposite of what it is an exception from.
            return !answers.into_iter().any(|answer| answer.unwrap_or(!unknown));
        }
        answers.into_iter().any(|answer| answer.unwrap_or(unknown))
    }

    fn value_matches(name: &str, value: &str, connection: &Connection<'_>) -> Option<bool> {
        let text = |text: Option<String>| text.is_some_and(|text| wildcard(value, &text));
        match name {
            "ports" | "notPorts" => {
                let port: u32 = value.parse().ok()?;
                (1..=65535)
                    .contains(&port)
                    .then(|| port == u32::from(connection.destination.port()))
            }
            "namespaces" | "notNamespaces" => Some(text(connection.identity.map(|id| id.namespace().to_owned()))),
            "principals" | "notPrincipals" => Some(text(connection.identity.map(|id| id.principal().to_owned()))),
            "ipBlocks" | "notIpBlocks" => {
                let net: ipnet::IpNet = value.parse().ok()?;
                Some(net.contains(&connection.source))
            }
            _ => None,
        }
    }

    fn wildcard(pattern: &str, text: &str) -> bool {
        match (pattern, pattern.strip_suffix('*'), pattern.strip_prefix('*')) {
            ("*", ..) => !text.is_empty(),
            (_, Some(prefix), _) => text.starts_with(prefix),
            (_, _, Some(suffix)) => text.ends_with(suffix),
            _ => text == pattern,
        }
    }
}

fn list(of: &'static [&'static str]) -> impl Strategy<Value = Value> {
    proptest::collection::vec(proptest::sample::select(of), 0..3).prop_map(|values| json!(values))
}

fn operation() -> impl Strategy<Value = Value> {
    let ports = || list(&["80", "8080", "70000", "0", "x"]);
    let some = |strategy| proptest::option::of(strategy);
    (some(ports()), some(ports()), some(list(&["/a"]))).prop_map(|(ports, not, paths)| {
        let all = [("ports", ports), ("notPorts", not), ("paths", paths)];
        let all = all
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?)));
        json!({"operation": all.collect::<serde_json::Map<_, _>>()})
    })
}

fn source() -> impl Strategy<Value = Value> {
    let some = |of| proptest::option::of(list(of));
    let names: &[&str] = &["z", "y", "z*", "*", "*y"];
    let ids: &[&str] = &["cluster.local/ns/z/sa/web", "cluster.local/ns/*", "*/sa/admin", "*"];
    let nets: &[&str] = &["198.18.0.0/24", "10.0.0.0/8", "10.0.0.0/99"];
    (some(names), some(names), some(ids), some(ids), some(nets), some(nets)).prop_map(|lists| {
        let (namespaces, not_namespaces, principals, not_principals, nets, not_nets) = lists;
        let all = [
            ("namespaces", namespaces),
            ("notNamespaces", not_namespaces),
            ("principals", principals),
            ("notPrincipals", not_principals),
            ("ipBlocks", nets),
            ("notIpBlocks", not_nets),
        ];
        let all = all
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?)));
        json!({"source": all.collect::<serde_json::Map<_, _>>()})
    })
}

fn rule() -> impl Strategy<Value = Value> {
    let from = proptest::option::of(proptest::collection::vec(source(), 0..3));
    let to = proptest::option::of(proptest::collection::vec(operation(), 0..3));
    (from, to).prop_map(|(from, to)| {
        let parts = [("from", from.map(Value::from)), ("to", to.map(Value::from))];
        let parts = parts
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?)));
        Value::Object(parts.collect())
    })
}

proptest! {
    #[test]
    fn a_policy_decides_as_the_object_reads_with_doubts_taken_for_the_worst(
        rules in proptest::collection::vec(rule(), 0..4),
        peer in proptest::option::of(("[yz]", "(web|admin)")),
        port in proptest::sample::select(vec![80u16, 8080, 9]),
    ) {
        let identity = peer.map(|(namespace, account)| SpiffeId::new("cluster.local", &namespace, &account).unwrap());
        let connection = Connection {
            identity: identity.as_ref(),
            source: "198.18.0.1".parse().unwrap(),
            destination: ([198, 18, 0, 2], port).into(),
        };
        for (action, unknown) in [(Action::Allow, false), (Action::Deny, true)] {
            let spec = json!({"action": action.as_str_name(), "rules": rules});
            let policy = Policy::from_proto(&translated(&spec).policy.unwrap()).unwrap();
            prop_assert_eq!(policy.matches(&connection), naive::matches(&spec, &connection, unknown), "{}", spec);
        }
    }

    #[test]
    fn whatever_is_written_there_is_a_policy_that_proxies_accept(text in "\\PC{0,64}", spec in junk()) {
        for spec in [spec, Value::String(text)] {
            if let Some(policy) = translated(&spec).policy {
                prop_assert!(Policy::from_proto(&policy).is_ok());
            }
            let (read, _) = PeerAuthentication::read(&spec);
            if let Some(policy) = Mtls::of(Some(&read), [None]).policy("z", "p") {
                prop_assert!(Policy::from_proto(&policy).is_ok());
            }
        }
    }
}

/// JSON with names that mean something in places where they need not.
fn junk() -> impl Strategy<Value = Value> {
    const NAMES: [&str; 16] = [
        "action",
        "rules",
        "from",
        "to",
        "when",
        "source",
        "operation",
        "ports",
        "notPorts",
        "key",
        "values",
        "mtls",
        "mode",
        "portLevelMtls",
        "selector",
        "DENY",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        proptest::sample::select(NAMES.to_vec()).prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(proptest::sample::select(NAMES.to_vec()), inner, 0..4).prop_map(
                |members| {
                    Value::Object(
                        members
                            .into_iter()
                            .map(|(name, value)| (name.to_owned(), value))
                            .collect(),
                    )
                }
            ),
        ]
    })
}
