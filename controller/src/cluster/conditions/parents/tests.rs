use super::*;
use crate::model::Condition;

fn parent(name: &str, accepted: bool) -> ParentStatus {
    ParentStatus {
        group: String::new(),
        kind: "Service".to_owned(),
        namespace: None,
        name: name.to_owned(),
        section: None,
        port: None,
        conditions: vec![Condition {
            kind: "Accepted",
            holds: accepted,
            reason: if accepted { "Accepted" } else { "NoMatchingParent" },
            message: "why".to_owned(),
        }],
    }
}

fn status(generation: i64, parents: Vec<ParentStatus>) -> RouteStatus {
    RouteStatus {
        generation: Some(generation),
        parents,
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

#[test]
fn an_entry_is_written_once_and_those_of_other_controllers_stay() {
    let other = json!({ "parentRef": { "name": "edge" }, "controllerName": "example.com/gateway", "conditions": [] });
    let before = json!({ "parents": [other] });
    let said = status(1, vec![parent("web", true)]);
    let first = due(&before, PARENTS, &said, at(10)).unwrap();
    assert_eq!(first["parents"][0], other);
    let ours = &first["parents"][1];
    assert_eq!(
        (&ours["parentRef"], &ours["controllerName"]),
        (
            &json!({ "group": "", "kind": "Service", "name": "web" }),
            &json!("culvert.dev/controller")
        )
    );
    assert_eq!(
        ours["conditions"][0],
        json!({ "type": "Accepted", "status": "True", "reason": "Accepted", "message": "why",
            "observedGeneration": 1, "lastTransitionTime": "1970-01-01T00:00:10Z" })
    );
    assert_eq!(due(&first, PARENTS, &said, at(20)), None, "nothing changed");
}

#[test]
fn a_time_changes_with_the_status_alone_and_the_generation_always() {
    let first = due(&Value::Null, PARENTS, &status(1, vec![parent("web", true)]), at(10)).unwrap();
    let second = due(&first, PARENTS, &status(2, vec![parent("web", true)]), at(20)).unwrap();
    let condition = &second["parents"][0]["conditions"][0];
    assert_eq!(
        (&condition["observedGeneration"], &condition["lastTransitionTime"]),
        (&json!(2), &json!("1970-01-01T00:00:10Z"))
    );
    let third = due(&second, PARENTS, &status(3, vec![parent("web", false)]), at(30)).unwrap();
    assert_eq!(
        third["parents"][0]["conditions"][0]["lastTransitionTime"],
        "1970-01-01T00:00:30Z"
    );
}

#[test]
fn an_entry_goes_with_its_parent_and_one_of_another_controller_does_not() {
    let first = due(
        &Value::Null,
        PARENTS,
        &status(1, vec![parent("web", true), parent("old", true)]),
        at(10),
    )
    .unwrap();
    let mut both = first["parents"].as_array().unwrap().clone();
    both.push(json!({ "parentRef": { "name": "old", "kind": "Service", "group": "" }, "controllerName": "x", "conditions": [] }));
    let before = json!({ "parents": both });
    let second = due(&before, PARENTS, &status(2, vec![parent("web", true)]), at(20)).unwrap();
    let names: Vec<_> = second["parents"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| (&entry["parentRef"]["name"], &entry["controllerName"]))
        .collect();
    assert_eq!(names.len(), 2, "{second}");
    assert!(names.contains(&(&json!("old"), &json!("x"))) && names.contains(&(&json!("web"), &json!(CONTROLLER))));
    assert_eq!(
        due(
            &json!({ "parents": [first["parents"][0]] }),
            PARENTS,
            &RouteStatus::default(),
            at(30)
        ),
        Some(json!({ "parents": [] })),
        "all are gone"
    );
}

#[test]
fn what_an_api_server_fills_in_or_leaves_out_of_a_reference_makes_no_other_parent() {
    let said = status(1, vec![parent("web", true)]);
    let mut first = due(&Value::Null, PARENTS, &said, at(10)).unwrap();
    let reference = first["parents"][0]["parentRef"].as_object_mut().unwrap();
    reference.insert("namespace".to_owned(), Value::Null);
    assert_eq!(due(&first, PARENTS, &said, at(20)), None);
}

#[test]
fn more_parents_than_the_api_allows_and_longer_messages_are_cut_rather_than_refused() {
    let mut many: Vec<_> = (0..40).map(|index| parent(&format!("s{index}"), true)).collect();
    many[0].conditions[0].message = "x".repeat(40_000);
    let written = due(&Value::Null, PARENTS, &status(1, many), at(10)).unwrap();
    let parents = written["parents"].as_array().unwrap();
    assert_eq!(parents.len(), 32);
    assert_eq!(parents[0]["conditions"][0]["message"].as_str().unwrap().len(), 32_768);
}

#[test]
fn a_policy_has_ancestors_sixteen_at_most_and_those_of_other_controllers_stay() {
    let other = json!({ "ancestorRef": { "name": "edge" }, "controllerName": "example.com/gateway", "conditions": [] });
    let before = json!({ "ancestors": [other] });
    let many = (0..20).map(|index| parent(&format!("web-{index}"), true)).collect();
    let said = status(3, many);
    let first = due(&before, ANCESTORS, &said, at(10)).unwrap();
    let entries = first["ancestors"].as_array().unwrap();
    assert_eq!((entries.len(), &entries[0]), (16, &other));
    let reference = json!({ "group": "", "kind": "Service", "name": "web-0" });
    assert_eq!(entries[1]["ancestorRef"], reference);
    assert_eq!(entries[1]["conditions"][0]["observedGeneration"], 3);
    assert_eq!(due(&first, ANCESTORS, &said, at(20)), None, "nothing changed");
    let gone = due(&first, ANCESTORS, &status(4, Vec::new()), at(30)).unwrap();
    assert_eq!(gone["ancestors"], json!([other]));
}

/// Those of a ListenerSet, which the CRD fills with some that are not decided.
#[test]
fn conditions_of_an_object_as_a_whole_take_the_place_of_those_of_their_type_alone() {
    let pending = json!({ "type": "Accepted", "status": "Unknown", "reason": "Pending", "message": "Waiting" });
    let other = json!({ "type": "example.com/Seen", "status": "True" });
    let before = json!({ "conditions": [pending, other] });
    let said = status(3, vec![parent("wp", false)]);
    let first = due_of_object(&before, &said, at(10)).unwrap();
    assert_eq!(first["conditions"][0], other);
    assert_eq!(
        first["conditions"][1],
        json!({ "type": "Accepted", "status": "False", "reason": "NoMatchingParent", "message": "why",
            "observedGeneration": 3, "lastTransitionTime": "1970-01-01T00:00:10Z" })
    );
    assert_eq!(due_of_object(&first, &said, at(20)), None, "nothing changed");
    assert_eq!(
        due_of_object(&before, &status(3, Vec::new()), at(10)),
        None,
        "its parent is not ours"
    );
}
