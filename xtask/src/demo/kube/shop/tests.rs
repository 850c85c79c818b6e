use super::{Pod, is_crowd, pods_in, restarted, tally_in};
use serde_json::json;

#[test]
fn the_visitors_last_line_is_its_result() {
    let printed = "a warning\n{\"sent\": 5, \"succeeded\": 4, \"failed\": 1, \"reviews\": {\"v1\": 1, \"v2\": 3}, \
                   \"slowest_seconds\": 0.1, \"failures\": [\"visit 3: timed out\"]}\n";
    let tally = tally_in(printed).unwrap();
    assert_eq!((tally.sent, tally.succeeded), (5, 4));
    assert_eq!(tally.reviews["v2"], 3);
    assert_eq!(tally.failures, ["visit 3: timed out"]);
}

#[test]
fn a_visitor_without_a_result_is_an_error() {
    for printed in ["", "error: Internal error\n", "{\"sent\": 5}\n"] {
        assert!(tally_in(printed).is_err(), "{printed:?}");
    }
}

#[test]
fn only_the_visitors_without_end_are_the_crowd() {
    assert!(is_crowd(b"/usr/bin/python3.11\0/app/visitor.py\0--parallel\x004\0"));
    assert!(!is_crowd(b"/usr/bin/python3.11\0/app/visitor.py\0--interval\x000.5\0"));
    assert!(!is_crowd(
        b"/usr/bin/python3.11\0/app/visitor.py\0--count\x002\0--parallel\x004\0"
    ));
    assert!(!is_crowd(b"/usr/bin/python3.11\0/app/details.py\0"));
}

#[test]
fn pods_are_read_with_the_restarts_of_all_their_containers() {
    let list = json!({ "items": [{
        "metadata": { "name": "visitor-1", "uid": "u" },
        "status": {
            "podIPs": [{ "ip": "198.19.2.9" }, { "ip": "fd00::9" }],
            "containerStatuses": [{ "restartCount": 1 }, { "restartCount": 2 }],
        },
    }] });
    let pods = pods_in(&list).unwrap();
    assert_eq!(
        (pods[0].name.as_str(), pods[0].restarts, pods[0].addresses.len()),
        ("visitor-1", 3, 2)
    );
    assert!(pods_in(&json!({})).is_err());
}

#[test]
fn a_replaced_pod_and_a_restarted_container_count_once_each() {
    let pod = |uid: &str, restarts| Pod {
        name: uid.to_owned(),
        uid: uid.to_owned(),
        addresses: Vec::new(),
        restarts,
    };
    let before = [pod("a", 0), pod("b", 2), pod("c", 0)];
    assert_eq!(restarted(&before, &before), 0);
    assert_eq!(restarted(&before, &[pod("a", 0), pod("b", 3), pod("c", 0)]), 1);
    assert_eq!(restarted(&before, &[pod("a", 0), pod("b", 2), pod("d", 0)]), 1);
}
