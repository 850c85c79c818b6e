//! What the programs show of themselves: privileges, logs, metrics, the `culvert` command, and no netfilter.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

use culvert_lab::{ServiceSpec, netfilter, wait_until};
use culvert_tests::{PATIENCE, Town, culvert, lab, probe, town::PORT};
use serde_json::Value;
use std::{collections::BTreeSet, net::SocketAddr, process::Command};

#[test]
fn the_worker_holds_no_privilege() {
    let lab = lab("in_priv");
    let mut town = Town::meshed(&lab);
    for node in [1, 2] {
        let worker = town.mesh.worker_pid(node).unwrap();
        for task in std::fs::read_dir(format!("/proc/{worker}/task")).unwrap() {
            let status = std::fs::read_to_string(task.unwrap().path().join("status")).unwrap();
            let field = |name: &str| {
                let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
                line.trim_start_matches(':').split_whitespace().collect::<Vec<_>>()
            };
            for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
                assert_eq!(field(set), ["0000000000000000"], "{set} of the worker of node {node}");
            }
            assert_eq!(field("NoNewPrivs"), ["1"]);
            assert_eq!(field("Seccomp"), ["2"], "a filter is in force");
            assert!(!field("Uid").contains(&"0"), "{:?}", field("Uid"));
            assert!(!field("Gid").contains(&"0"), "{:?}", field("Gid"));
        }
    }
}

#[test]
fn nothing_is_written_to_netfilter() {
    let lab = lab("in_nf");
    let town = Town::meshed(&lab);
    town.assert_works();
    let rules: u64 = lab.namespaces_do(netfilter::rules).unwrap().into_iter().sum();
    assert_eq!(rules, 0);
    for pod in lab.pods() {
        let output = pod.output(Command::new("ip").args(["rule", "list"])).unwrap();
        let rules = String::from_utf8_lossy(&output.stdout);
        assert_eq!(rules.lines().count(), 3, "only the kernel's own routing rules: {rules}");
    }
}

#[test]
fn every_connection_leaves_one_line_at_each_end() {
    let lab = lab("in_log");
    let mut town = Town::meshed(&lab);
    // A port of its own, to tell these connections from others.
    let _server = probe::serve(&town.server, 8086);
    for _ in 0..5 {
        probe::dial(&town.client, (town.server.ip4(), 8086), &["--transfer", "1000:2000"]).unwrap();
    }
    // One that fails is logged, too.
    probe::dial(&town.client, (town.server.ip4(), 9), &[]).unwrap_err();
    for (node, direction) in [(1, "outbound"), (2, "inbound")] {
        let ztunnel = town.mesh.ztunnel(node).unwrap();
        let lines = || -> Vec<String> {
            let log = ztunnel.log();
            let is_access = |line: &&str| {
                line.contains("duration_ms")
                    && line.contains(direction)
                    && (line.contains(":8086\"") || line.contains(":9\""))
            };
            log.lines().filter(is_access).map(ToOwned::to_owned).collect()
        };
        let is_good = |line: &&String| !line.contains("\"error\"");
        wait_until("all lines", PATIENCE, || {
            lines().iter().filter(is_good).count() >= 5 && lines().len() >= 6
        })
        .unwrap_or_else(|error| panic!("{error:#}: {:#?}", lines()));
        let lines = lines();
        let (failed, good): (Vec<_>, Vec<_>) = lines.iter().partition(|line| line.contains("\"error\""));
        assert_eq!(good.len(), 5, "{lines:#?}");
        // The source tries a refused destination again, which is another connection for the destination.
        let attempts = if node == 1 { 1..=1 } else { 1..=8 };
        assert!(attempts.contains(&failed.len()), "{lines:#?}");
        for line in good {
            for part in [&town.client.identity(), &town.server.identity()] {
                assert!(line.contains(part.as_str()), "{part} is missing in {line}");
            }
            assert!(line.contains("2000"), "the bytes are missing in {line}");
        }
    }
}

#[test]
fn connections_move_the_metrics() {
    let lab = lab("in_metrics");
    let town = Town::meshed(&lab);
    town.assert_works();
    let names = [
        "istio_tcp_connections_opened_total",
        "istio_tcp_connections_closed_total",
        "istio_tcp_sent_bytes_total",
    ];
    let mut last = String::new();
    let moved = wait_until("the metrics move", PATIENCE, || {
        last = town
            .mesh
            .get(1, 15020, "/metrics")
            .map(|response| response.body)
            .unwrap_or_default();
        names.iter().all(|name| last.lines().any(|line| counted(line, name)))
    });
    moved.unwrap_or_else(|error| panic!("{error:#}: {last}"));
    assert!(last.contains("connection_security_policy=\"mutual_tls\""), "{last}");
    let agent = town.mesh.get(1, 15022, "/metrics").unwrap().body;
    assert!(
        agent
            .lines()
            .any(|line| counted(line, "hook=\"connect\",outcome=\"captured\"")),
        "the kernel programs' counters are missing: {agent}"
    );
}

/// Whether a line of metrics has this in its name or labels, and a value above 0.
fn counted(line: &str, part: &str) -> bool {
    let value = line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok());
    line.contains(part) && value.is_some_and(|value| value > 0.0)
}

#[test]
fn a_service_leads_to_all_its_pods_in_both_families() {
    let lab = lab("in_svc");
    let town = Town::meshed(&lab);
    let service = lab
        .service(ServiceSpec::new("town", "both").port(8085).selector("tier", "back"))
        .unwrap();
    let mut servers = Vec::new();
    for number in 0..3u8 {
        let spec = culvert_lab::PodSpec::new("town", &format!("back-{number}"))
            .on(1 + number % 2)
            .label("tier", "back");
        let pod = lab.pod(spec).unwrap();
        servers.push(probe::serve(&pod, 8085));
        town.mesh.wait_enrolled(&[&pod], true, PATIENCE).unwrap();
    }
    for to in service.addresses() {
        let to = SocketAddr::new(to, 8085);
        let mut seen = BTreeSet::new();
        wait_until("the service is known", PATIENCE, || {
            probe::dial(&town.client, to, &["--timeout", "5"]).is_ok()
        })
        .unwrap();
        wait_until("every pod of the service is used", PATIENCE, || {
            let found = probe::dial(&town.client, to, &[]).unwrap_or_else(|error| panic!("{to}: {error}"));
            assert_eq!(
                probe::address(&found, "client", "getpeername"),
                to,
                "the client sees the service it dialled"
            );
            seen.insert(probe::address(&found, "server", "getsockname").ip());
            seen.len() == 3
        })
        .unwrap_or_else(|error| panic!("{to}: {error:#}: {seen:?}"));
    }
}

#[test]
fn culvert_shows_what_the_node_knows() {
    let lab = lab("in_cli");
    let town = Town::meshed(&lab);
    let service = lab
        .service(ServiceSpec::new("town", "shown").port(PORT).selector("app", "server"))
        .unwrap();
    let to = SocketAddr::new(service.ip4().into(), PORT);
    wait_until("the proxy knows the service", PATIENCE, || {
        probe::dial(&town.client, to, &["--timeout", "5"]).is_ok() && culvert(&town, &["services"]).1.contains("shown")
    })
    .unwrap();
    let hold = probe::hold(&town.client, to);

    let (well, status) = culvert(&town, &["status"]);
    assert!(
        well && status.contains("client") && status.contains("neighbour"),
        "{status}"
    );
    let (well, workloads) = culvert(&town, &["workloads"]);
    assert!(
        well && workloads.contains("server") && workloads.contains(&town.server.ip4().to_string()),
        "{workloads}"
    );
    let (well, services) = culvert(&town, &["services"]);
    assert!(
        well && services.contains("shown") && services.contains(&service.ip4().to_string()),
        "{services}"
    );
    let (well, connections) = culvert(&town, &["connections"]);
    assert!(well && connections.contains(&town.server.identity()), "{connections}");
    for question in ["status", "workloads", "services", "connections"] {
        let (well, json) = culvert(&town, &[question, "--output", "json"]);
        assert!(
            well && serde_json::from_str::<Value>(&json).is_ok(),
            "{question}: {json}"
        );
    }
    hold.stop().assert_unharmed("the connection that was shown");

    let (well, error) = culvert(&town, &["workloads", "--ztunnel", "http://127.0.0.1:1"]);
    assert!(!well && error.contains("http://127.0.0.1:1/workloads"), "{error}");
}
