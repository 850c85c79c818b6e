use culvert_identity::SpiffeId;
use culvert_proto::security::Scope;
use serde_json::{Value, json};

use super::{Mode, Mtls, PeerAuthentication, Source, Translation, authorization};
use crate::{Connection, Policy, Purpose, Verdict, evaluate};

pub(super) fn translated(spec: &Value) -> Translation {
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

#[test]
fn a_trust_domain_is_that_of_the_identity_and_nothing_that_begins_so() {
    let asks = |source: Value| json!({"rules": [{"from": [{"source": source}]}]});
    for (source, wanted) in [
        (json!({"trustDomains": ["cluster.local"]}), true),
        (json!({"trustDomains": ["cluster"]}), false),
        (json!({"trustDomains": ["cluster*"]}), true),
        (json!({"trustDomains": ["other", "*"]}), true),
        (json!({"notTrustDomains": ["cluster.local"]}), false),
        (json!({"notTrustDomains": ["cluster"]}), true),
        (
            json!({"trustDomains": ["cluster.local"], "principals": ["cluster.local/ns/z/sa/web"]}),
            true,
        ),
        (
            json!({"trustDomains": ["other"], "principals": ["cluster.local/ns/z/sa/web"]}),
            false,
        ),
        (
            json!({"trustDomains": ["other", "cluster.local"], "principals": ["cluster.local/ns/*", "x"]}),
            true,
        ),
        (
            json!({"trustDomains": ["cluster.local"], "principals": ["clus*"]}),
            true,
        ),
        (json!({"trustDomains": ["cluster.local"], "principals": ["*"]}), true),
        (
            json!({"trustDomains": ["cluster.local"], "notPrincipals": ["cluster.local/ns/z/sa/web"]}),
            false,
        ),
    ] {
        let spec = asks(source);
        assert_eq!(lets_in(&spec, Some("web")), wanted, "{spec}");
        let mut denied = spec.clone();
        denied["action"] = json!("DENY");
        assert_eq!(lets_in(&denied, Some("web")), !wanted, "{denied}");
        assert!(fields(&spec).is_empty(), "{spec}");
    }
    // Nobody without an identity has one.
    assert!(!lets_in(&asks(json!({"trustDomains": ["*"]})), None));
    assert!(lets_in(&asks(json!({"notTrustDomains": ["cluster.local"]})), None));
    let when = |key: &str, value: &str| json!({"rules": [{"when": [{"key": key, "values": [value]}]}]});
    assert!(lets_in(&when("source.trustDomain", "cluster.local"), Some("web")));
    assert!(!lets_in(&when("source.trustDomain", "local"), Some("web")));
    assert!(lets_in(&when("source.serviceAccount", "z/web"), Some("web")));
    assert!(!lets_in(&when("source.serviceAccount", "web"), Some("other")));
}

#[test]
fn what_a_trust_domain_ends_in_and_what_is_none_let_nobody_past_and_are_named() {
    for (source, field) in [
        (json!({"trustDomains": ["*.local"]}), "trustDomains[0]"),
        (json!({"trustDomains": ["cluster.local/ns"]}), "trustDomains[0]"),
        (
            json!({"trustDomains": ["cluster.local"], "principals": ["*/sa/web"]}),
            "principals",
        ),
    ] {
        for action in ["ALLOW", "DENY"] {
            let spec = json!({"action": action, "rules": [{"from": [{"source": source}]}]});
            assert!(!lets_in(&spec, Some("web")), "{spec}");
            assert_eq!(
                fields(&spec),
                [format!("spec.rules[0].from[0].source.{field}")],
                "{spec}"
            );
        }
    }
}

#[test]
fn of_ten_thousand_rules_the_one_that_is_wrong_is_named_and_decides_for_the_worst_and_the_rest_hold() {
    const RULES: usize = 10_000;
    const WRONG: usize = 5_000;
    let rules = |word: &str| -> Vec<Value> {
        let rule = |n: usize| match n {
            WRONG => json!({"from": [{"source": {"serviceAccounts": [format!("a{n}")], word: ["x"]}}]}),
            _ => json!({"from": [{"source": {"serviceAccounts": [format!("a{n}")]}}]}),
        };
        (0..RULES).map(rule).collect()
    };
    let allow = json!({"rules": rules("planets")});
    assert_eq!(fields(&allow), ["spec.rules[5000].from[0].source.planets"]);
    assert!(lets_in(&allow, Some("a0")) && lets_in(&allow, Some("a9999")));
    assert!(!lets_in(&allow, Some("a5000")) && !lets_in(&allow, Some("a10000")) && !lets_in(&allow, None));
    let deny = json!({"action": "DENY", "rules": rules("requestPrincipals")});
    assert_eq!(fields(&deny), ["spec.rules[5000].from[0].source.requestPrincipals"]);
    assert!(
        ["a0", "a5000", "a9999"]
            .iter()
            .all(|account| !lets_in(&deny, Some(account)))
    );
    assert!(lets_in(&deny, Some("a10000")), "nobody else is denied");
}
