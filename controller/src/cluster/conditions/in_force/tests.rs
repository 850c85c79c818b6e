use culvert_objects::{Kind, ObjectName, Severity};

use super::*;

fn finding(message: &str) -> Finding {
    let name = ObjectName::new("shop", "a");
    Finding::of_object(Kind::AuthorizationPolicy, &name, "spec", message.to_owned())
}

#[test]
fn a_condition_is_written_once_and_others_stay() {
    let fine = InForce::of(std::iter::empty(), false);
    let of = |message: &str| InForce::of([finding(message)].iter(), false);
    let at = |second: i64| Timestamp::from_second(second).unwrap();
    let status = json!({ "conditions": [{ "type": "ZtunnelAccepted", "status": "True" }] });
    let first = with_condition(&status, &fine, at(10)).unwrap();
    assert_eq!(first[0], status["conditions"][0]);
    assert_eq!(
        (&first[1]["status"], &first[1]["reason"]),
        (&"True".into(), &"AsWritten".into())
    );
    assert_eq!(first[1]["lastTransitionTime"], "1970-01-01T00:00:10Z");
    let status = json!({ "conditions": first });
    assert_eq!(with_condition(&status, &fine, at(20)), None);
    let second = with_condition(&status, &of("x"), at(20)).unwrap();
    assert_eq!(second[1]["lastTransitionTime"], "1970-01-01T00:00:20Z");
    let third = with_condition(&json!({ "conditions": second }), &of("y"), at(30)).unwrap();
    assert_eq!(
        (&third[1]["message"], &third[1]["lastTransitionTime"]),
        (&"spec: y".into(), &"1970-01-01T00:00:20Z".into()),
        "only another status is a transition"
    );
    assert_eq!(third.len(), 2);
}

#[test]
fn what_only_informs_is_said_and_leaves_the_object_in_force() {
    let informing = finding("left to others").of_severity(Severity::Info);
    let written = |findings: &[Finding]| {
        let in_force = InForce::of(findings.iter(), false);
        let condition = with_condition(&Value::Null, &in_force, Timestamp::UNIX_EPOCH).unwrap();
        let field = |name: &str| condition[0][name].as_str().unwrap().to_owned();
        (field("status"), field("reason"), field("message"))
    };
    let words = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
    assert_eq!(
        written(std::slice::from_ref(&informing)),
        words("True", "AsWritten", "spec: left to others")
    );
    for severity in [Severity::Warning, Severity::Error] {
        assert_eq!(
            written(&[informing.clone(), finding("no effect").of_severity(severity)]),
            words("False", "NotAsWritten", "spec: left to others; spec: no effect")
        );
    }
}

#[test]
fn what_a_proxy_refuses_has_a_reason_of_its_own_that_is_no_transition_beside_other_faults() {
    let faults = [finding("the waypoint shop/wp refuses it")];
    let at = |second: i64| Timestamp::from_second(second).unwrap();
    let before = with_condition(&Value::Null, &InForce::of(faults.iter(), false), at(10)).unwrap();
    let refused = InForce::of(faults.iter(), true);
    let after = with_condition(&json!({ "conditions": before }), &refused, at(20)).unwrap();
    assert_eq!(
        (
            &after[0]["status"],
            &after[0]["reason"],
            &after[0]["lastTransitionTime"]
        ),
        (
            &"False".into(),
            &"RefusedByProxy".into(),
            &"1970-01-01T00:00:10Z".into()
        )
    );
    assert_eq!(with_condition(&json!({ "conditions": after }), &refused, at(30)), None);
}
