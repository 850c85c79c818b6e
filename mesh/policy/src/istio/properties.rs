//! What holds for every policy: decisions as the object reads, by a model that reads it anew for each connection.

use culvert_identity::SpiffeId;
use culvert_proto::security::Action;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::tests::translated;
use super::{Mtls, PeerAuthentication};
use crate::{Connection, Policy};

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
            "trustDomains" | "notTrustDomains" => {
                let ends = value.len() > 1 && value.starts_with('*');
                let domain = connection.identity.map(|id| id.trust_domain().to_owned());
                (!ends && !value.contains('/')).then(|| text(domain))
            }
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
    let domains: &[&str] = &["cluster.local", "cluster*", "cluster", "*", "*.local", "a/b"];
    let lists = (some(names), some(names), some(ids), some(ids), some(nets), some(nets));
    (lists, some(domains), some(domains)).prop_map(|(lists, trust_domains, not_trust_domains)| {
        let (namespaces, not_namespaces, mut principals, not_principals, nets, not_nets) = lists;
        if let (Some(_), Some(Value::Array(principals))) = (&trust_domains, &mut principals) {
            // What an identity ends in is not compared where trust domains are, too: a test of its own.
            principals.retain(|text| {
                text.as_str()
                    .is_none_or(|text| text.len() == 1 || !text.starts_with('*'))
            });
        }
        let all = [
            ("namespaces", namespaces),
            ("notNamespaces", not_namespaces),
            ("principals", principals),
            ("notPrincipals", not_principals),
            ("trustDomains", trust_domains),
            ("notTrustDomains", not_trust_domains),
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
