//! `culvert.dev/fallback: direct`: while its node's proxy is gone, a pod's new connections go direct, unless it is strict.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

use culvert_lab::{Lab, MeshOptions, Pod, PodSpec, wait_until};
use culvert_tests::{PATIENCE, Town, lab, probe, town::PORT};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::{
    io::{ErrorKind, Read as _},
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

/// Longer than a proxy may be silent before it counts as gone.
const WAIT: Duration = Duration::from_secs(3);

/// What threads of a storm may have in flight at the moment of a kill.
const IN_FLIGHT: u64 = 4;

fn annotate(lab: &Lab, value: &str) {
    let object = json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {
            "name": "town",
            "labels": { "culvert.dev/mesh": "ambient" },
            "annotations": { "culvert.dev/fallback": value },
        },
    });
    lab.apply(&object).unwrap();
}

fn strict(lab: &Lab) {
    let object = json!({
        "apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
        "metadata": { "name": "default", "namespace": "town" },
        "spec": { "mtls": { "mode": "STRICT" } },
    });
    lab.apply(&object).unwrap();
}

/// A mesh with the annotation, in which the agents know which ports are strict.
fn town(lab: &Lab, is_strict: bool) -> Town<'_> {
    let town = Town::meshed(lab);
    annotate(lab, "direct");
    if is_strict {
        strict(lab);
    }
    for pod in [&town.client, &town.server, &town.neighbour] {
        let is_told = || state(&town, pod)["guard"]["strict"] == is_strict && state(&town, pod)["fallback"] == "direct";
        wait_until("the agent knows", PATIENCE, is_told).unwrap_or_else(|error| panic!("{error:#}\n{}", lab.logs(30)));
    }
    town
}

/// What an agent shows of a pod.
fn state(town: &Town<'_>, pod: &Pod) -> Value {
    let page = town.mesh.get(pod.node(), 15022, "/pods").map(|answer| answer.body);
    let page: Value = serde_json::from_str(&page.unwrap_or_default()).unwrap_or_default();
    let mut pods = page["pods"].as_array().into_iter().flatten();
    pods.find(|shown| shown["name"] == pod.name())
        .cloned()
        .unwrap_or_default()
}

/// Whether a new connection of the client's to the server goes direct.
fn is_direct(town: &Town<'_>) -> bool {
    let dial = || probe::dial(&town.client, (town.server.ip4(), PORT), &["--timeout", "3"]);
    let (answer, seen) = town.on_the_wire(dial);
    answer.is_ok_and(|found| {
        // The client's own socket, or one that its proxy made for it.
        let from = probe::address(&found, "server", "accept");
        seen.clear_flows
            .keys()
            .any(|(one, other)| *one == from || *other == from)
    })
}

/// Asserts that the client's connections go direct and succeed, each of them.
#[track_caller]
fn assert_direct(town: &Town<'_>, when: &str) {
    for to in town.server.addresses().into_iter().chain(town.neighbour.addresses()) {
        let answer = probe::dial(&town.client, (to, PORT), &["--timeout", "10"]);
        assert!(answer.is_ok(), "{when}, {to}: {answer:?}\n{}", town.lab.logs(30));
    }
    assert!(is_direct(town), "{when}: not seen on the wire\n{}", town.lab.logs(30));
}

#[track_caller]
fn wait_direct(town: &Town<'_>, when: &str) {
    let begun = Instant::now();
    let waited = wait_until(when, PATIENCE, || is_direct(town));
    waited.unwrap_or_else(|error| panic!("{error:#}\n{}", town.lab.logs(40)));
    eprintln!(
        "{when}: the first connection was direct after {:?} at most",
        begun.elapsed()
    );
}

/// Waits until a new connection does not go direct. A proxy that had no processor for a second counts as one that hangs, and the next
/// connection goes past it.
#[track_caller]
fn wait_in_the_tunnel(town: &Town<'_>) {
    let waited = wait_until("connections are in the tunnel", PATIENCE, || !is_direct(town));
    waited.unwrap_or_else(|error| panic!("{error:#}\n{}", town.lab.logs(40)));
}

/// Waits until twenty new connections in a row are in the tunnel, and what counts those that go direct stays as it is meanwhile.
#[track_caller]
fn wait_for_twenty_in_the_tunnel(town: &Town<'_>, counted: impl Fn() -> f64) {
    let waited = wait_until("twenty in a row are in the tunnel", PATIENCE, || {
        let before = counted();
        (0..20).all(|_| is_in_the_tunnel(town)) && (counted() - before).abs() < 0.5
    });
    waited.unwrap_or_else(|error| panic!("{error:#}\n{}", town.lab.logs(40)));
}

/// Whether a new connection of the client's to the server is in the tunnel, whatever else is on the wire.
fn is_in_the_tunnel(town: &Town<'_>) -> bool {
    let (answer, seen) = town.on_the_wire(|| probe::dial(&town.client, (town.server.ip4(), PORT), &[]));
    let own = probe::address(&answer.unwrap(), "client", "getsockname");
    let is_clear = seen.clear_flows.keys().any(|(from, to)| *from == own || *to == own);
    !is_clear && seen.encrypted_bytes > 0
}

fn total(town: &Town<'_>, pod: &Pod, direction: &str) -> f64 {
    let metrics = town.mesh.get(pod.node(), 15022, "/metrics").unwrap().body;
    let labels = format!("namespace=\"town\",pod=\"{}\",direction=\"{direction}\"", pod.name());
    let start = format!("culvert_agent_fallback_connections_total{{{labels}}}");
    let line = metrics.lines().find(|line| line.starts_with(&start));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok())
        .unwrap_or(0.0)
}

#[test]
fn without_a_proxy_new_connections_go_direct_and_return_to_the_tunnel_with_it() {
    let lab = lab("fb_gone");
    let mut town = town(&lab, false);
    let to = (town.server.ip4(), PORT);
    let storm = probe::storm(&town.client, to);
    let neighbours = probe::storm(&town.client, (town.neighbour.ip6(), PORT));
    wait_in_the_tunnel(&town);
    town.mesh.ztunnel(1).unwrap().kill().unwrap();
    wait_direct(&town, "killed");
    assert_direct(&town, "killed");
    assert!(total(&town, &town.client, "outbound") > 0.0);
    assert!(total(&town, &town.neighbour, "inbound") > 0.0);
    wait_until("the agent says so", PATIENCE, || {
        let notices = town.mesh.get(1, 15022, "/pods").unwrap().body;
        notices.contains("no proxy serves this node") && state(&town, &town.client)["direct_seconds"].is_u64()
    })
    .unwrap();

    town.mesh.start_ztunnel(1).unwrap();
    town.mesh.wait_for_ztunnel(1).unwrap();
    town.wait_in_the_tunnel(&town.server, PORT);
    wait_for_twenty_in_the_tunnel(&town, || total(&town, &town.client, "outbound"));
    for (storm, what) in [(storm, "across nodes"), (neighbours, "on one node")] {
        let outcome = storm.stop();
        eprintln!("{what}: {outcome:?}");
        // What the dead proxy carried dies with it; every later attempt must succeed.
        assert!(outcome.done > 0 && outcome.failed <= IN_FLIGHT, "{what}: {outcome:?}");
    }
    for line in ["the pod's new connections go direct", "go direct no longer"] {
        town.mesh.agent(1).unwrap().wait_for_log(line, PATIENCE).unwrap();
    }
}

/// Neither process ends, and nothing is closed: only time tells.
#[test]
fn a_proxy_that_hangs_counts_as_gone_within_a_second() {
    let lab = lab("fb_hang");
    let mut town = town(&lab, false);
    let monitor = town.mesh.ztunnel(1).unwrap().pid();
    let worker = town.mesh.worker_pid(1).unwrap();
    for (stopped, what) in [
        (vec![worker], "worker stopped"),
        (vec![monitor, worker], "monitor and worker stopped"),
    ] {
        wait_in_the_tunnel(&town);
        let begun = Instant::now();
        stopped.iter().for_each(|pid| signal(*pid, Signal::STOP));
        // What is opened before that is accepted by the kernel, and waits for the proxy.
        wait_until(what, PATIENCE, || is_silent(&town, &town.client)).unwrap();
        eprintln!("{what}: direct after {:?}", begun.elapsed());
        assert_direct(&town, what);
        stopped.iter().rev().for_each(|pid| signal(*pid, Signal::CONT));
        wait_until("the tunnel is back", PATIENCE, || !is_direct(&town)).unwrap();
        town.wait_in_the_tunnel(&town.server, PORT);
    }
}

/// Whether a connection of a pod's is not answered by its proxy's listener: a look every few milliseconds costs nobody anything.
fn is_silent(town: &Town<'_>, pod: &Pod) -> bool {
    let to = SocketAddr::from((town.server.ip4(), PORT));
    let direct = total(town, pod, "outbound");
    drop(pod.connect(to, PATIENCE));
    total(town, pod, "outbound") > direct
}

fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

#[test]
fn without_a_proxy_what_arrives_from_outside_the_tunnel_reaches_the_application() {
    let lab = lab("fb_in");
    let mut town = town(&lab, false);
    let stranger = lab.pod(PodSpec::new("outside", "stranger").on(1)).unwrap();
    town.mesh.ztunnel(2).unwrap().kill().unwrap();
    wait_until("arrivals", PATIENCE, || {
        probe::dial(&stranger, (town.server.ip4(), PORT), &["--timeout", "3"]).is_ok()
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", lab.logs(30)));
    for to in town.server.addresses() {
        let found = probe::dial(&stranger, (to, PORT), &["--timeout", "10"]).unwrap();
        assert_eq!(
            probe::address(&found, "server", "accept"),
            probe::address(&found, "client", "getsockname")
        );
    }
    // The tunnel's port refuses, so that a peer need not wait.
    let refused = stranger.connect((town.server.ip4(), 15008), PATIENCE).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{refused}");
    assert!(total(&town, &town.server, "inbound") > 0.0);
}

/// How many connections the proxy of node 1 has sent direct for want of another one.
fn sent_direct(town: &Town<'_>) -> f64 {
    let metrics = town.mesh.get(1, 15020, "/metrics").unwrap().body;
    let line = metrics
        .lines()
        .find(|line| line.starts_with("culvert_ztunnel_fallback_connections_total "));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok())
        .unwrap_or(0.0)
}

#[test]
fn a_peer_whose_node_has_no_proxy_is_reached_direct_and_in_the_tunnel_when_it_is_back() {
    let lab = lab("fb_peer");
    let mut town = town(&lab, false);
    let storm = probe::storm(&town.client, (town.server.ip4(), PORT));
    assert!(sent_direct(&town) < 0.5);
    town.mesh.ztunnel(2).unwrap().kill().unwrap();
    wait_direct(&town, "the peer's proxy killed");
    assert_direct(&town, "the peer's proxy killed");
    assert!(sent_direct(&town) > 0.0);
    assert!(
        total(&town, &town.client, "outbound") < 0.5,
        "the client's own proxy serves"
    );
    let ztunnel = town.mesh.ztunnel(1).unwrap();
    ztunnel
        .wait_for_log("the connection goes direct, in plaintext", PATIENCE)
        .unwrap();
    // What the peer's application refuses is refused, and not tried for as long as a connection may take.
    let begun = Instant::now();
    probe::dial(&town.client, (town.server.ip4(), PORT + 1), &["--timeout", "10"]).unwrap_err();
    assert!(begun.elapsed() < PATIENCE / 2, "{:?}", begun.elapsed());

    town.mesh.start_ztunnel(2).unwrap();
    town.mesh.wait_for_ztunnel(2).unwrap();
    town.wait_in_the_tunnel(&town.server, PORT);
    wait_for_twenty_in_the_tunnel(&town, || sent_direct(&town));
    let outcome = storm.stop();
    assert!(outcome.done > 0 && outcome.failed <= IN_FLIGHT, "{outcome:?}");
}

#[test]
fn a_peer_without_a_proxy_is_not_reached_direct_unless_both_ends_want_it_and_none_is_strict() {
    let lab = lab("fb_peers");
    let mut town = town(&lab, false);
    let object = json!({
        "apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
        "metadata": { "name": "server", "namespace": "town" },
        "spec": { "selector": { "matchLabels": { "app": "server" } }, "mtls": { "mode": "STRICT" } },
    });
    lab.apply(&object).unwrap();
    let lenient = lab.pod(PodSpec::new("town", "lenient").on(2)).unwrap();
    let _serving = probe::serve(&lenient, PORT);
    wait_until("the agent knows", PATIENCE, || {
        let strict = |pod: &Pod| state(&town, pod)["guard"]["strict"].as_bool();
        strict(&town.server) == Some(true) && strict(&lenient) == Some(false)
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", lab.logs(30)));
    let loner = PodSpec::new("town", "loner")
        .on(1)
        .annotation("culvert.dev/fallback", "none");
    let loner = lab.pod(loner).unwrap();
    town.mesh.wait_enrolled(&[&loner], true, PATIENCE).unwrap();
    let to = |ip: IpAddr| SocketAddr::from((ip, PORT));
    for from in [&town.client, &loner] {
        for peer in [&town.server, &lenient] {
            probe::dial(from, to(peer.ip4().into()), &["--timeout", "10"]).unwrap();
        }
    }
    let capture = culvert_lab::Capture::start(lab.node(1).namespace(), "wire", &[]).unwrap();
    town.mesh.ztunnel(2).unwrap().kill().unwrap();
    for (from, peer, why) in [
        (&town.client, &town.server, "a strict peer"),
        (&loner, &lenient, "a client that does not want it"),
    ] {
        let answer = probe::dial(from, to(peer.ip4().into()), &["--timeout", "3"]);
        assert!(answer.is_err(), "{why}: {answer:?}");
    }
    let seen = capture.take();
    assert_eq!(seen.clear_bytes, 0, "{:?}", seen.clear_flows);
    assert!(sent_direct(&town) < 0.5);
    // The same peer takes what another client sends.
    probe::dial(&town.client, to(lenient.ip4().into()), &["--timeout", "10"]).unwrap();
    assert!(sent_direct(&town) > 0.5);
}

#[test]
fn without_agent_and_proxy_new_connections_go_direct() {
    let lab = lab("fb_both");
    let mut town = town(&lab, false);
    town.mesh.agent(1).unwrap().kill().unwrap();
    wait_for_twenty_in_the_tunnel(&town, || 0.0);
    town.mesh.ztunnel(1).unwrap().kill().unwrap();
    wait_direct(&town, "both killed");
    assert_direct(&town, "both killed");
    town.mesh.start_agent(1).unwrap();
    town.mesh.wait_for_agent(1).unwrap();
    wait_direct(&town, "another agent, and no proxy");
    town.mesh.start_ztunnel(1).unwrap();
    town.mesh.wait_for_ztunnel(1).unwrap();
    town.wait_in_the_tunnel(&town.server, PORT);
}

#[test]
fn nothing_goes_direct_while_agent_or_worker_alone_are_replaced() {
    let lab = lab("fb_part");
    let mut town = town(&lab, false);
    let storm = probe::storm(&town.client, (town.server.ip4(), PORT));
    let mut killed = 0;
    let mut last = None;
    // A new worker has a second to begin, which a busy machine may need for something else: then once more.
    let waited = wait_until("nothing goes direct while three workers are replaced", PATIENCE, || {
        let before = total(&town, &town.client, "outbound");
        let capture = culvert_lab::Capture::start(lab.node(1).namespace(), "wire", &[]).unwrap();
        for _ in 0..3 {
            let old = town.mesh.kill_worker(1).unwrap();
            killed += 1;
            wait_until("a new worker", PATIENCE, || {
                town.mesh.worker_pid(1).is_ok_and(|pid| pid != old)
            })
            .unwrap();
            probe::dial(&town.client, (town.server.ip4(), PORT), &[]).unwrap();
        }
        let (counted, seen) = (total(&town, &town.client, "outbound") - before, capture.take());
        let is_none = seen.clear_bytes == 0 && counted.abs() < 0.5;
        last = Some((counted, seen));
        is_none
    });
    waited.unwrap_or_else(|error| panic!("{error:#}: {last:?}"));
    let waited = wait_until("nothing goes direct while the agent is replaced", PATIENCE, || {
        let before = total(&town, &town.client, "outbound");
        let capture = culvert_lab::Capture::start(lab.node(1).namespace(), "wire", &[]).unwrap();
        town.mesh.restart_agent(1).unwrap();
        probe::dial(&town.client, (town.server.ip4(), PORT), &[]).unwrap();
        capture.take().clear_bytes == 0 && (total(&town, &town.client, "outbound") - before).abs() < 0.5
    });
    waited.unwrap_or_else(|error| panic!("{error:#}\n{}", lab.logs(40)));
    let outcome = storm.stop();
    assert!(outcome.done > 0 && outcome.failed <= killed * IN_FLIGHT, "{outcome:?}");
}

#[test]
fn a_strict_pod_never_goes_direct() {
    let lab = lab("fb_strict");
    let mut town = town(&lab, true);
    let stranger = lab.pod(PodSpec::new("outside", "stranger").on(1)).unwrap();
    let to = (town.server.ip4(), PORT);
    for node in [1, 2] {
        let capture = culvert_lab::Capture::start(lab.node(1).namespace(), "wire", &[]).unwrap();
        town.mesh.ztunnel(node).unwrap().kill().unwrap();
        wait_until("the agent has noticed", PATIENCE, || {
            let page = town.mesh.get(node, 15022, "/pods").unwrap().body;
            serde_json::from_str::<Value>(&page).unwrap()["proxies"] == json!([])
        })
        .unwrap();
        let answer = probe::dial(&town.client, to, &["--timeout", "3"]);
        assert!(answer.is_err(), "{answer:?}");
        if node == 2 {
            let answer = stranger.connect(to, WAIT).unwrap_err();
            assert_eq!(answer.kind(), ErrorKind::TimedOut, "{answer}");
        }
        assert_eq!(capture.take().clear_bytes, 0);
        for pod in [&town.client, &town.server] {
            assert!(total(&town, pod, "outbound") + total(&town, pod, "inbound") < 0.5);
        }
        town.mesh.start_ztunnel(node).unwrap();
        town.mesh.wait_for_ztunnel(node).unwrap();
        wait_until("the tunnel is back", PATIENCE, || {
            probe::dial(&town.client, to, &["--timeout", "3"]).is_ok()
        })
        .unwrap();
    }
}

#[test]
fn without_the_annotation_nothing_goes_direct_and_a_bad_one_is_a_notice() {
    let lab = lab("fb_none");
    let mut town = town(&lab, false);
    annotate(&lab, "plaintext");
    let is_noted = || {
        let page = town.mesh.get(1, 15022, "/pods").unwrap().body;
        page.contains("neither \\\"direct\\\" nor \\\"none\\\"")
    };
    wait_until("a notice", PATIENCE, is_noted).unwrap_or_else(|error| panic!("{error:#}\n{}", lab.logs(30)));
    town.mesh.ztunnel(1).unwrap().kill().unwrap();
    let (answer, seen) = town.on_the_wire(|| probe::dial(&town.client, (town.server.ip4(), PORT), &["--timeout", "3"]));
    assert!(answer.is_err(), "{answer:?}");
    assert_eq!(seen.clear_bytes, 0, "{:?}", seen.clear_flows);
}

#[test]
fn a_connection_for_which_no_proxy_comes_waits_and_is_reset_with_a_reason() {
    let lab = lab("fb_reset");
    let wait = Duration::from_secs(3);
    let options = MeshOptions {
        agent_args: vec!["--connection-wait".to_owned(), "3s".to_owned()],
        ..MeshOptions::default()
    };
    let mut town = Town::with(&lab, options);
    town.mesh.ztunnel(1).unwrap().kill().unwrap();
    let begun = Instant::now();
    let mut waiting = town.client.connect((town.server.ip4(), PORT), PATIENCE).unwrap();
    waiting.set_read_timeout(Some(PATIENCE)).unwrap();
    let ended = waiting.read(&mut [0]).unwrap_err();
    assert_eq!(ended.kind(), ErrorKind::ConnectionReset, "{ended}");
    assert!(begun.elapsed() >= wait, "reset after {:?}", begun.elapsed());
    let agent = town.mesh.agent(1).unwrap();
    agent
        .wait_for_log("reset connections for which no proxy has come", PATIENCE)
        .unwrap();
    let page = town.mesh.get(1, 15022, "/pods").unwrap().body;
    assert!(page.contains("because no proxy came in time"), "{page}");
}
