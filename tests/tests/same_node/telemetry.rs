//! What is said of connections that go past the proxy.

use std::net::SocketAddr;

use culvert_lab::wait_until;
use culvert_tests::{PATIENCE, culvert, echo, lab, probe, town::PORT};
use serde_json::{Value, json};

use super::support::{ECHO, OPENED, access_line, neighbour, open_past, past, series, total, town};

#[test]
fn what_goes_past_the_proxy_is_counted() {
    let lab = lab("sn_count");
    let town = town(&lab);
    let to = neighbour(&town);
    drop(open_past(&town, &town.client, to));
    let words = ["client=\"town/client\"", "server=\"town/neighbour\""];
    let counted = |name: &str| total(&town, 15022, &[name, words[0], words[1]]);
    let all = || {
        [
            counted("culvert_agent_same_node_connections_opened_total"),
            counted("culvert_agent_same_node_connections_closed_total"),
            counted("culvert_agent_same_node_sent_bytes_total"),
            counted("culvert_agent_same_node_received_bytes_total"),
        ]
    };
    wait_until("all are closed", PATIENCE, || {
        let [opened, closed, ..] = all();
        opened > 0.5 && (opened - closed).abs() < 0.5
    })
    .unwrap();
    let before = all();
    let mut open = open_past(&town, &town.client, to);
    for _ in 0..99 {
        echo::round_trip(&mut open).unwrap();
    }
    let opened = counted("culvert_agent_same_node_connections_opened_total") - before[0];
    drop(open);
    wait_until("it is closed", PATIENCE, || all()[1] - before[1] > opened - 0.5).unwrap();
    let bytes = 99.0 + opened;
    let now = all();
    assert!((now[2] - before[2] - bytes).abs() < 0.5, "{before:?} {now:?} {bytes}");
    assert!((now[3] - before[3] - bytes).abs() < 0.5, "{before:?} {now:?} {bytes}");
    // Another port is another pair of the same pods.
    let opened = now[0];
    wait_until("another port is counted", PATIENCE, || {
        probe::dial(&town.client, (town.neighbour.ip4(), PORT), &[]).unwrap();
        all()[0] > opened + 0.5
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", lab.logs(40)));
    assert_eq!(series(&town, "town/neighbour"), 4, "one of each metric");
}

#[test]
fn the_proxys_log_and_metrics_have_what_went_past_it_from_both_ends() {
    let lab = lab("sn_log");
    let mut town = town(&lab);
    let to = neighbour(&town);
    let mut open = open_past(&town, &town.client, to);
    let source = open.local_addr().unwrap();
    for _ in 0..99 {
        echo::round_trip(&mut open).unwrap();
    }
    drop(open);
    for direction in ["outbound", "inbound"] {
        let mut found = None;
        wait_until("the access log has its line", PATIENCE, || {
            found = access_line(&mut town, direction, source);
            found.is_some()
        })
        .unwrap_or_else(|error| panic!("{error:#}\n{}", lab.logs(40)));
        let found = found.unwrap();
        assert_eq!(found["message"], "connection closed", "{found}");
        assert_eq!(found["via"], "kernel", "{found}");
        assert_eq!(found["dst.addr"], to.to_string(), "{found}");
        assert_eq!(
            (&found["src.workload"], &found["dst.workload"]),
            (&json!("client"), &json!("neighbour")),
            "{found}"
        );
        assert_eq!(
            (&found["bytes_sent"], &found["bytes_recv"]),
            (&json!(100), &json!(100)),
            "{found}"
        );
        assert_eq!(found["encrypted"], false, "{found}");
        assert_eq!(found.get("error"), None, "{found}");
        assert!(found["duration_ms"].as_f64().is_some_and(|ms| ms > 0.0), "{found}");
    }
    // Each connection is counted once, by both reporters.
    let kernel = || total(&town, 15022, &["culvert_agent_same_node_connections_closed_total"]);
    for reporter in ["reporter=\"source\"", "reporter=\"destination\""] {
        let words = [
            reporter,
            "connection_security_policy=\"none\"",
            "source_workload=\"client\"",
        ];
        let counted = |name: &str| total(&town, 15020, &[&[name], &words[..]].concat());
        wait_until("all are counted", PATIENCE, || (counted(OPENED) - kernel()).abs() < 0.5)
            .unwrap_or_else(|error| panic!("{error:#}: {} {}\n{}", counted(OPENED), kernel(), lab.logs(40)));
        assert!((counted("istio_tcp_connections_closed_total") - counted(OPENED)).abs() < 0.5);
        let [sent, received] = ["istio_tcp_sent_bytes_total", "istio_tcp_received_bytes_total"].map(counted);
        assert!(sent > 99.5 && (sent - received).abs() < 0.5, "{sent} {received}");
    }
    assert!(total(&town, 15022, &["culvert_agent_same_node_connections_unreported_total"]) < 0.5);
}

#[test]
fn culvert_lists_what_is_open_past_the_proxy_until_it_ends() {
    let lab = lab("sn_cli");
    let town = town(&lab);
    let to = neighbour(&town);
    let mut open = open_past(&town, &town.client, to);
    let source = open.local_addr().unwrap();
    for _ in 0..99 {
        echo::round_trip(&mut open).unwrap();
    }
    let found = || {
        let (well, page) = culvert(&town, &["connections", "--output", "json"]);
        assert!(well, "{page}");
        let page: Value = serde_json::from_str(&page).unwrap();
        let all = page["connections"].as_array().unwrap().clone();
        all.into_iter().find(|one| one["source"] == source.to_string())
    };
    let mut shown = Value::Null;
    // The kernel counts what the other end has acknowledged.
    wait_until("all bytes are counted", PATIENCE, || {
        shown = found().unwrap_or_default();
        shown["bytes_sent"] == 100
    })
    .unwrap_or_else(|error| panic!("{error:#}: {shown}\n{}", lab.logs(40)));
    let expected = [
        ("via", json!("kernel")),
        ("direction", json!("outbound")),
        ("source_workload", json!("town/client")),
        ("destination", json!(to.to_string())),
        ("destination_workload", json!("town/neighbour")),
        ("bytes_received", json!(100)),
        ("encrypted", json!(false)),
    ];
    for (field, value) in expected {
        assert_eq!(shown[field], value, "{field}: {shown}");
    }
    assert!(shown["seconds"].as_u64().is_some_and(|age| age < 120), "{shown}");
    let (well, table) = culvert(&town, &["connections"]);
    let line = table.lines().find(|line| line.contains(&source.to_string()));
    let words = ["kernel", "town/client", "town/neighbour"];
    let is_shown = line.is_some_and(|line| words.iter().all(|word| line.contains(word)));
    assert!(well && is_shown, "{table}");
    drop(open);
    wait_until("it is listed no longer", PATIENCE, || found().is_none()).unwrap();
    // Without the agent the proxy's are shown, and it is said that others may be missing.
    let (well, table) = culvert(&town, &["connections", "--agent", "http://127.0.0.1:1"]);
    assert!(!well && table.contains("past the proxy"), "{table}");
}

#[test]
fn a_connection_past_the_proxy_that_is_refused_is_said_to_have_failed() {
    let lab = lab("sn_refused");
    let mut town = town(&lab);
    let to = SocketAddr::from((town.neighbour.ip4(), ECHO + 1));
    let listener = town.neighbour.listen(to).unwrap();
    wait_until("a connection goes past the proxy", PATIENCE, || {
        let before = past(&town);
        let client = town.client.connect(to, PATIENCE).unwrap();
        drop((listener.accept().unwrap(), client));
        past(&town) > before
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", lab.logs(40)));
    drop(listener);
    let refused = town.client.connect(to, PATIENCE).unwrap_err();
    let words = [
        "connection failed",
        "\"via\":\"kernel\"",
        &format!("\"dst.addr\":\"{to}\""),
    ];
    wait_until("the access log has its line", PATIENCE, || {
        let log = town.mesh.ztunnel(1).unwrap().log();
        log.lines().any(|line| words.iter().all(|word| line.contains(word)))
    })
    .unwrap_or_else(|error| panic!("{error:#}: {refused:#}\n{}", lab.logs(40)));
}

#[test]
fn what_ends_while_no_agent_is_there_is_told_by_the_next() {
    let lab = lab("sn_late");
    let mut town = town(&lab);
    let to = neighbour(&town);
    let open = open_past(&town, &town.client, to);
    let source = open.local_addr().unwrap();
    town.mesh.agent(1).unwrap().kill().unwrap();
    drop(open);
    town.mesh.start_agent(1).unwrap();
    town.mesh.wait_for_agent(1).unwrap();
    for direction in ["outbound", "inbound"] {
        wait_until("the access log has its line", PATIENCE, || {
            access_line(&mut town, direction, source).is_some_and(|line| line["via"] == "kernel")
        })
        .unwrap_or_else(|error| panic!("{error:#}\n{}", lab.logs(40)));
    }
}
