//! `culvert.dev/same-node: kernel`: connections between two pods of one node go past the proxy, where it lets them, and no others.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use culvert_lab::{Lab, MeshOptions, Pod, PodSpec, wait_until};
use culvert_tests::{PATIENCE, Town, echo, lab, probe, town::PORT};
use serde_json::{Value, json};

/// Where the echo is, beside the town's own servers.
const ECHO: u16 = PORT + 1;

/// What the proxy counts, of those that it has carried (which are encrypted) and of those that it has not.
const OPENED: &str = "istio_tcp_connections_opened_total";

/// How long an attempt may take that is lost on a strict pod's link.
const ATTEMPT: Duration = Duration::from_secs(5);

fn annotate(lab: &Lab, value: Option<&str>) {
    let object = json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {
            "name": "town",
            "labels": { "culvert.dev/mesh": "ambient" },
            "annotations": value.map(|value| json!({ "culvert.dev/same-node": value })).unwrap_or(json!({})),
        },
    });
    lab.apply(&object).unwrap();
}

fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "security.istio.io/v1", "kind": kind,
        "metadata": { "name": name, "namespace": "town" }, "spec": spec,
    })
}

/// A mesh in which the neighbour asks for it, and has an echo.
fn town(lab: &Lab) -> Town<'_> {
    let town = Town::meshed(lab);
    annotate(lab, Some("kernel"));
    echo::serve(&town.neighbour, ECHO);
    town
}

fn neighbour(town: &Town<'_>) -> SocketAddr {
    (town.neighbour.ip4(), ECHO).into()
}

/// A number of an agent's metrics, all series with these words together.
fn total(town: &Town<'_>, port: u16, words: &[&str]) -> f64 {
    let metrics = town.mesh.get(1, port, "/metrics").unwrap().body;
    let lines = metrics
        .lines()
        .filter(|line| words.iter().all(|word| line.contains(word)));
    lines
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

/// How many series the agent has of what goes past the proxy to a pod.
fn series(town: &Town<'_>, server: &str) -> usize {
    let metrics = town.mesh.get(1, 15022, "/metrics").unwrap().body;
    let words = ["culvert_agent_same_node_", &format!("server=\"{server}\"")];
    let is_one = |line: &&str| words.iter().all(|word| line.contains(word));
    metrics.lines().filter(is_one).count()
}

/// How many connections the kernel has let past the proxy.
fn past(town: &Town<'_>) -> f64 {
    total(town, 15022, &["hook=\"sk_lookup\"", "outcome=\"same_node\""])
}

/// Whether a new connection of `from` works, and whether it went past the proxy; `past` is asked before and after.
fn goes_past(town: &Town<'_>, from: &Pod, to: SocketAddr) -> (bool, bool) {
    let before = past(town);
    let works = echo::connect(from, to, ATTEMPT).is_ok();
    (works, past(town) > before)
}

/// Waits until new connections work and go past the proxy, or until they work and do not.
#[track_caller]
fn wait_for(town: &Town<'_>, from: &Pod, to: SocketAddr, wanted: (bool, bool)) {
    let mut last = None;
    let waited = wait_until("connections go as they should", PATIENCE, || {
        last = Some(goes_past(town, from, to));
        last == Some(wanted)
    });
    waited.unwrap_or_else(|error| panic!("{error:#}: {last:?}, not {wanted:?}\n{}", town.lab.logs(40)));
}

/// Opens one that goes past the proxy.
#[track_caller]
fn open_past(town: &Town<'_>, from: &Pod, to: SocketAddr) -> TcpStream {
    wait_for(town, from, to, (true, true));
    let before = past(town);
    let open = echo::connect(from, to, PATIENCE).unwrap();
    assert!(past(town) > before, "it went through the proxy\n{}", town.lab.logs(40));
    open
}

/// Waits for the end of an open connection.
#[track_caller]
fn wait_for_end(mut stream: TcpStream) {
    match stream.read(&mut [0]) {
        Ok(0) => {}
        Ok(_) => panic!("bytes that nobody sent"),
        Err(error) => assert!(
            [ErrorKind::ConnectionReset, ErrorKind::ConnectionAborted].contains(&error.kind()),
            "{error}"
        ),
    }
}

fn only(name: &str) -> Value {
    let principal = format!("cluster.local/ns/town/sa/{name}");
    let rules = json!([{ "from": [{ "source": { "principals": [principal] } }] }]);
    let spec = json!({ "selector": { "matchLabels": { "app": "neighbour" } }, "rules": rules });
    object("AuthorizationPolicy", "only", spec)
}

fn strict(lab: &Lab) {
    lab.apply(&object(
        "PeerAuthentication",
        "default",
        json!({ "mtls": { "mode": "STRICT" } }),
    ))
    .unwrap();
}

#[test]
fn the_second_connection_of_an_allowed_pair_goes_past_the_proxy_and_both_ends_see_the_truth() {
    let lab = lab("sn_past");
    let town = town(&lab);
    for to in town.neighbour.addresses() {
        let to = SocketAddr::new(to, PORT);
        let client = town
            .client
            .addresses()
            .into_iter()
            .find(|own| own.is_ipv4() == to.is_ipv4());
        wait_until("a connection goes past the proxy", PATIENCE, || {
            let before = past(&town);
            let found = probe::dial(&town.client, to, &[]).unwrap();
            assert_eq!(probe::address(&found, "client", "getpeername"), to);
            assert_eq!(Some(probe::address(&found, "server", "accept").ip()), client);
            assert_eq!(probe::address(&found, "server", "getsockname"), to);
            past(&town) > before
        })
        .unwrap_or_else(|error| panic!("{error:#}\n{}", lab.logs(40)));
    }
    // From then on, the proxy does not notice.
    let to = neighbour(&town);
    wait_for(&town, &town.client, to, (true, true));
    let opened = || {
        let words = [OPENED, "connection_security_policy=\"mutual_tls\""];
        total(&town, 15020, &words)
    };
    let before = opened();
    for _ in 0..20 {
        assert_eq!(goes_past(&town, &town.client, to), (true, true));
    }
    assert!((opened() - before).abs() < 0.5, "the proxy has carried some");
    // To the other node nothing has changed.
    town.in_the_tunnel(|| probe::dial(&town.client, (town.server.ip4(), PORT), &[]))
        .unwrap();
    assert_eq!(
        goes_past(&town, &town.neighbour, neighbour(&town)),
        (true, false),
        "to itself"
    );
}

#[test]
fn a_policy_that_begins_to_deny_closes_what_is_open_and_lets_nothing_in_and_strict_pods_are_served() {
    let lab = lab("sn_deny");
    let town = town(&lab);
    strict(&lab);
    let to = neighbour(&town);
    let mut open = open_past(&town, &town.client, to);
    echo::round_trip(&mut open).unwrap();
    lab.apply(&only("somebody-else")).unwrap();
    wait_for_end(open);
    for _ in 0..5 {
        assert_eq!(goes_past(&town, &town.client, to), (false, false), "denied");
    }
    lab.delete("AuthorizationPolicy", "town", "only").unwrap();
    wait_for(&town, &town.client, to, (true, true));
    // A policy that allows it changes nothing.
    let mut open = open_past(&town, &town.client, to);
    lab.apply(&only("client")).unwrap();
    wait_for(&town, &town.client, to, (true, true));
    echo::round_trip(&mut open).unwrap();
}

#[test]
fn who_has_no_entry_goes_by_the_proxy_and_a_stranger_is_refused() {
    let lab = lab("sn_others");
    let town = town(&lab);
    lab.apply(&only("client")).unwrap();
    lab.namespace("outside").unwrap();
    let stranger = lab.pod(PodSpec::new("outside", "stranger").on(1)).unwrap();
    let other = lab
        .pod(PodSpec::new("town", "other").on(1).service_account("other"))
        .unwrap();
    town.mesh.wait_enrolled(&[&other], true, PATIENCE).unwrap();
    let to = neighbour(&town);
    wait_for(&town, &other, to, (false, false));
    let _open = open_past(&town, &town.client, to);
    for _ in 0..5 {
        assert_eq!(goes_past(&town, &other, to), (false, false));
        assert_eq!(goes_past(&town, &stranger, to), (false, false));
    }
    wait_for(&town, &town.client, to, (true, true));
}

#[test]
fn without_the_annotation_nothing_goes_past_the_proxy_and_what_did_is_closed() {
    let lab = lab("sn_ask");
    let town = Town::meshed(&lab);
    echo::serve(&town.neighbour, ECHO);
    let to = neighbour(&town);
    for _ in 0..5 {
        assert_eq!(goes_past(&town, &town.client, to), (true, false));
    }
    annotate(&lab, Some("kernel"));
    let open = open_past(&town, &town.client, to);
    annotate(&lab, None);
    wait_for_end(open);
    assert_eq!(goes_past(&town, &town.client, to), (true, false));
    annotate(&lab, Some("direct"));
    wait_until("a mistake is shown", PATIENCE, || {
        town.mesh
            .get(1, 15022, "/pods")
            .unwrap()
            .body
            .contains("neither \\\"kernel\\\" nor \\\"proxy\\\"")
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", lab.logs(20)));
    assert_eq!(goes_past(&town, &town.client, to), (true, false));
}

#[test]
fn without_the_proxy_nothing_goes_past_it() {
    let lab = lab("sn_gone");
    let mut town = town(&lab);
    let to = neighbour(&town);
    let open = open_past(&town, &town.client, to);
    town.mesh.ztunnel(1).unwrap().kill().unwrap();
    wait_for_end(open);
    let mut waiting = town.client.connect(to, PATIENCE).unwrap();
    let before = past(&town);
    town.mesh.start_ztunnel(1).unwrap();
    town.mesh.wait_for_ztunnel(1).unwrap();
    waiting.set_read_timeout(Some(PATIENCE)).unwrap();
    waiting.write_all(&[7]).unwrap();
    waiting.read_exact(&mut [0]).unwrap();
    assert!((past(&town) - before).abs() < 0.5, "what waits for a proxy gets one");
    wait_for(&town, &town.client, to, (true, true));
}

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

/// The line of a connection that comes from this address and port.
fn access_line(town: &mut Town<'_>, direction: &str, source: SocketAddr) -> Option<Value> {
    let log = town.mesh.ztunnel(1).unwrap().log();
    let words = [
        format!("\"direction\":\"{direction}\""),
        format!("\"src.addr\":\"{source}\""),
    ];
    let mut lines = log.lines().filter(|line| words.iter().all(|word| line.contains(word)));
    lines.find_map(|line| serde_json::from_str(line).ok())
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
fn a_pair_that_nobody_uses_goes_through_the_proxy_again_and_one_with_an_open_connection_stays() {
    let lab = lab("sn_age");
    let options = MeshOptions {
        agent_args: vec!["--same-node-idle".to_owned(), "2s".to_owned()],
        ..MeshOptions::default()
    };
    let town = Town::with(&lab, options);
    annotate(&lab, Some("kernel"));
    echo::serve(&town.neighbour, ECHO);
    let to = neighbour(&town);
    let unused = || total(&town, 15022, &["culvert_agent_same_node_pairs_unused_total"]);
    let pairs = || town.mesh.get(1, 15022, "/pods").unwrap().body;
    let mut open = open_past(&town, &town.client, to);
    // Of another port, to see that time has passed.
    let other = SocketAddr::from((town.neighbour.ip4(), PORT));
    for expected in 1..=2 {
        wait_until("another pair goes past the proxy", PATIENCE, || {
            let before = past(&town);
            probe::dial(&town.client, other, &[]).unwrap();
            past(&town) > before
        })
        .unwrap_or_else(|error| panic!("{error:#}\n{}", lab.logs(40)));
        wait_until("nobody uses it", PATIENCE, || unused() > f64::from(expected) - 0.5)
            .unwrap_or_else(|error| panic!("{error:#}\n{}\n{}", pairs(), lab.logs(40)));
    }
    echo::round_trip(&mut open).unwrap();
    drop(open);
    wait_until("nobody uses it", PATIENCE, || unused() > 2.5).unwrap();
    wait_until("there are none", PATIENCE, || {
        serde_json::from_str::<Value>(&pairs()).unwrap()["same_node"]["pairs"] == 0
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}\n{}", pairs(), lab.logs(40)));
}

#[test]
fn without_the_agent_nothing_new_goes_past_the_proxy_and_the_next_agent_closes_what_is_denied() {
    let lab = lab("sn_agent");
    let mut town = town(&lab);
    let to = neighbour(&town);
    let mut kept = open_past(&town, &town.client, to);
    // The next agent leaves alone what the proxy vouches for.
    town.mesh.restart_agent(1).unwrap();
    wait_for(&town, &town.client, to, (true, true));
    echo::round_trip(&mut kept).unwrap();

    town.mesh.agent(1).unwrap().kill().unwrap();
    let opened = || {
        let words = [
            OPENED,
            "reporter=\"source\"",
            "connection_security_policy=\"mutual_tls\"",
        ];
        total(&town, 15020, &words)
    };
    wait_until("connections go by the proxy", PATIENCE, || {
        let before = opened();
        echo::connect(&town.client, to, ATTEMPT).is_ok() && opened() > before + 0.5
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", lab.logs(40)));
    lab.apply(&only("somebody-else")).unwrap();
    wait_until("it is denied", PATIENCE, || {
        echo::connect(&town.client, to, ATTEMPT).is_err()
    })
    .unwrap();
    town.mesh.start_agent(1).unwrap();
    town.mesh.wait_for_agent(1).unwrap();
    wait_for_end(kept);
    assert_eq!(goes_past(&town, &town.client, to), (false, false));
}

#[test]
fn a_worker_that_dies_takes_along_what_it_vouched_for_and_the_next_decides_anew() {
    let lab = lab("sn_worker");
    let mut town = town(&lab);
    let to = neighbour(&town);
    let open = open_past(&town, &town.client, to);
    town.mesh.kill_worker(1).unwrap();
    wait_for_end(open);
    wait_for(&town, &town.client, to, (true, true));
}

#[test]
fn a_client_whose_resets_do_not_get_out_gains_nothing_by_that() {
    let lab = lab("sn_deaf");
    let town = town(&lab);
    let to = SocketAddr::from((town.neighbour.ip4(), ECHO + 1));
    let listener = town.neighbour.listen(to).unwrap();
    let dial = || {
        let before = past(&town);
        let client = town.client.connect(to, PATIENCE).unwrap();
        let (server, _) = listener.accept().unwrap();
        (client, server, past(&town) > before)
    };
    let mut found = None;
    wait_until("a connection goes past the proxy", PATIENCE, || {
        let (client, server, is_past) = dial();
        found = is_past.then_some((client, server));
        is_past
    })
    .unwrap();
    let (client, server) = found.unwrap();
    let route = format!("{}/32", town.neighbour.ip4());
    let blocked = town
        .client
        .run(|| {
            std::process::Command::new("ip")
                .args(["route", "add", "blackhole", &route])
                .status()
        })
        .unwrap();
    assert!(blocked.unwrap().success());
    lab.apply(&only("somebody-else")).unwrap();
    for stream in [server, client] {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        wait_for_end(stream);
    }
}

#[test]
fn a_pod_that_goes_takes_along_what_is_open_to_it() {
    let lab = lab("sn_pod");
    let town = town(&lab);
    let visitor = lab.pod(PodSpec::new("town", "visitor").on(1)).unwrap();
    town.mesh.wait_enrolled(&[&visitor], true, PATIENCE).unwrap();
    let to = echo::serve(&visitor, ECHO);
    let open = open_past(&town, &town.client, to);
    assert_eq!(series(&town, "town/visitor"), 4);
    lab.remove_pod(&visitor).unwrap();
    wait_for_end(open);
    wait_until("its series are gone", PATIENCE, || series(&town, "town/visitor") == 0).unwrap();
    // Of others, nothing has changed.
    wait_for(&town, &town.client, neighbour(&town), (true, true));
}
