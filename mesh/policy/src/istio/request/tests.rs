use serde_json::json;

use super::*;
use crate::Purpose;

fn read(spec: &Value, layer: Layer) -> Reached {
    requests("shop", spec, None, layer)
}

fn rule(action: &str, rule: Value) -> (Vec<Rule>, Vec<String>) {
    let reached = read(&json!({"action": action, "rules": [rule]}), Layer::Requests);
    let fields = reached.notes.into_iter().map(|note| note.field).collect();
    (reached.policy.unwrap().rules, fields)
}

fn paths(list: &[&str]) -> Value {
    json!({"to": [{"operation": {"paths": list}}]})
}

#[test]
fn what_is_not_understood_allows_nobody_and_denies_no_less() {
    for bad in [
        json!({"to": [{"operation": {"colours": ["red"]}}]}),
        json!({"from": [{"source": {"trustDomains": ["a/b"]}}]}),
        json!({"when": [{"key": "connection.sni", "values": ["a"]}]}),
        json!({"when": [{"key": "request.headers[a b]", "values": ["a"]}]}),
        json!({"to": [{"operation": {"paths": "/a"}}]}),
        json!({"to": [{"operation": {"notPaths": ["/a/{**}/{*}"]}}]}),
        json!({"unless": true}),
        json!(7),
    ] {
        let (allowing, notes) = rule("ALLOW", bad.clone());
        assert!(allowing.is_empty() && !notes.is_empty(), "{bad}");
        let (denying, notes) = rule("DENY", bad.clone());
        assert_eq!(denying.len(), 1, "{bad}");
        assert!(
            denying[0].operation.is_empty() && denying[0].source.is_empty(),
            "{bad}: {denying:?}"
        );
        assert!(notes[0].starts_with("spec.rules[0]"), "{notes:?}");
    }
}

#[test]
fn a_deny_rule_keeps_its_other_conditions_where_one_is_not_understood() {
    let (rules, notes) = rule(
        "DENY",
        json!({"to": [{"operation": {"paths": ["/a"], "colours": ["red"]}}], "when": [{"key": "connection.sni", "values": ["a"]}]}),
    );
    assert_eq!(rules[0].operation, [Test::Path(Pattern::Exact("/a".to_owned()))]);
    assert_eq!(
        notes,
        ["spec.rules[0].to[0].operation.colours", "spec.rules[0].when[0].key"]
    );
}

#[test]
fn on_a_port_that_is_not_http_a_rule_about_requests_allows_nobody_and_denies_everybody() {
    let spec = |action: &str| json!({"action": action, "rules": [paths(&["/a"]), {}]});
    let allow = read(&spec("ALLOW"), Layer::Connections);
    let indices: Vec<usize> = allow.policy.unwrap().rules.iter().map(|rule| rule.index).collect();
    assert_eq!(indices, [1]);
    let deny = read(&spec("DENY"), Layer::Connections);
    assert_eq!(deny.policy.unwrap().rules.len(), 2);
    assert!(allow.needs_requests && deny.needs_requests);
    assert!(!read(&spec("DENY"), Layer::Requests).needs_requests);
}

#[test]
fn a_request_principal_is_every_issuer_and_subject_that_may_be_meant() {
    let claims = |text: &str| Test::request_principal(text).unwrap();
    let claim = |name: &str, pattern| Test::Claim(vec![name.to_owned()], pattern);
    let both = |issuer, subject| Test::All(vec![claim("iss", issuer), claim("sub", subject)]);
    let exact = |text: &str| Pattern::Exact(text.to_owned());
    assert_eq!(
        claims("https://id.example/ann"),
        both(exact("https://id.example"), exact("ann"))
    );
    assert_eq!(
        claims("id/a*"),
        Test::Any(vec![
            both(exact("id"), Pattern::Prefix("a".to_owned())),
            both(Pattern::Prefix("id/a".to_owned()), Pattern::Present),
        ])
    );
    assert_eq!(
        claims("*/ann"),
        Test::Any(vec![
            both(Pattern::Present, exact("ann")),
            both(Pattern::Present, Pattern::Suffix("/ann".to_owned())),
        ])
    );
    assert_eq!(claims("*"), both(Pattern::Present, Pattern::Present));
    assert_eq!(Test::request_principal("ann"), None);
}

#[test]
fn templates_of_paths_are_read_by_their_segments() {
    let exact = |text: &str| Segment::Exact(text.to_owned());
    assert_eq!(
        Test::path("/a/{*}/{**}/b"),
        Some(Test::Template(vec![
            exact("a"),
            Segment::One,
            Segment::Many,
            exact("b")
        ]))
    );
    for bad in ["/a/{x}", "/a/b{*}", "/{**}/{**}", "a/{*}", "/*/{*}"] {
        assert_eq!(Test::path(bad), None, "{bad}");
    }
}

#[test]
fn an_unknown_action_denies_everybody_and_what_is_tried_out_or_audits_says_so() {
    let denied = read(&json!({"action": "PERHAPS"}), Layer::Requests).policy.unwrap();
    assert!(denied.side == Side::Over && denied.rules.len() == 1);
    let tried = |spec: &Value| requests("shop", spec, Some("true"), Layer::Requests);
    let denial = tried(&json!({"action": "DENY", "rules": [{}]}));
    assert!(denial.policy.unwrap().purpose == Purpose::DryRun && denial.notes.is_empty());
    let unknown = tried(&json!({"action": "DENY", "rulez": []})).policy.unwrap();
    assert!(unknown.purpose == Purpose::DryRun && unknown.rules.len() == 1);
    // Nobody is asked for a trial.
    let asking = tried(&json!({"action": "CUSTOM", "provider": {"name": "door"}, "rules": [{}]}));
    assert!(asking.policy.is_none() && asking.notes.len() == 1);
    let audit = read(&json!({"action": "AUDIT", "rules": [paths(&["/a"])]}), Layer::Requests);
    assert!(audit.notes.is_empty());
    let audit = audit.policy.unwrap();
    assert!(audit.purpose == Purpose::Audit && audit.rules.len() == 1);
    let custom = read(&json!({"action": "CUSTOM", "rules": [paths(&["/a"])]}), Layer::Requests);
    assert!(custom.policy.unwrap().side == Side::Over && custom.notes[0].field == "spec.provider.name");
    let asking = json!({"action": "CUSTOM", "provider": {"name": "door"}, "rules": [paths(&["/a"])]});
    let asking = read(&asking, Layer::Requests);
    assert_eq!(asking.policy.unwrap().asks.as_deref(), Some("door"));
    assert!(asking.notes.is_empty(), "{:?}", asking.notes);
}
