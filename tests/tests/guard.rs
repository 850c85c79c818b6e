//! The guard on pods' links: what reaches a strict pod past the tunnel is dropped there, whatever else has ended.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

use culvert_lab::{MeshOptions, Pod, PodSpec, wait_until};
use culvert_tests::{PATIENCE, Town, echo, guard_hooks, lab, probe, town::PORT};
use serde_json::{Value, json};
use std::{
    io::ErrorKind,
    net::SocketAddr,
    time::{Duration, Instant},
};

/// Longer than it takes a SYN to come again.
const SYNS: Duration = Duration::from_millis(1500);

/// Where the echo is, beside the town's own servers.
const ECHO: u16 = PORT + 1;

fn strict(town: &Town<'_>, is_strict: bool) {
    let object = json!({
        "apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
        "metadata": { "name": "default", "namespace": "town" },
        "spec": { "mtls": { "mode": if is_strict { "STRICT" } else { "PERMISSIVE" } } },
    });
    town.lab.apply(&object).unwrap();
}

/// A pod of no mesh, on the other node than the server.
fn stranger(town: &Town<'_>) -> Pod {
    town.lab.namespace("outside").unwrap();
    town.lab.pod(PodSpec::new("outside", "stranger").on(1)).unwrap()
}

/// Asserts that SYNs are lost: neither accepted nor refused.
#[track_caller]
fn assert_dropped(town: &Town<'_>, from: &Pod, when: &str) {
    for to in town.server.addresses() {
        let answer = from.connect((to, PORT), SYNS);
        let kind = answer.as_ref().map_err(std::io::Error::kind).err();
        let logs = || town.lab.logs(20);
        assert_eq!(kind, Some(ErrorKind::TimedOut), "{when}, {to}: {answer:?}\n{}", logs());
    }
}

/// What the agent of node 2 shows of the server's guard.
fn guard(town: &Town<'_>) -> Value {
    let page = town
        .mesh
        .get(2, 15022, "/pods")
        .map(|answer| answer.body)
        .unwrap_or_default();
    let page: Value = serde_json::from_str(&page).unwrap_or_default();
    let mut pods = page["pods"].as_array().into_iter().flatten();
    pods.find(|pod| pod["name"] == "server")
        .map_or(Value::Null, |pod| pod["guard"].clone())
}

#[track_caller]
fn wait_guard(town: &Town<'_>, is_strict: bool) {
    let mut last = Value::Null;
    let waited = wait_until(&format!("strict: {is_strict}"), PATIENCE, || {
        last = guard(town);
        last["strict"] == is_strict && last["interfaces"] == 1
    });
    waited.unwrap_or_else(|error| panic!("{error:#}: {last}\n{}", town.lab.logs(20)));
}

fn drops(town: &Town<'_>) -> f64 {
    let metrics = town.mesh.get(2, 15022, "/metrics").unwrap().body;
    let start = "culvert_agent_guard_drops_total{namespace=\"town\",pod=\"server\"}";
    let line = metrics.lines().find(|line| line.starts_with(start));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok())
        .unwrap_or(0.0)
}

/// Both ways in strict mode, during each fault: what is lost is lost, and nothing is readable.
#[test]
fn nothing_but_the_tunnel_reaches_a_strict_pod_whatever_is_killed() {
    for hook in guard_hooks() {
        let lab = lab(&format!("gd_{hook}"));
        let options = MeshOptions {
            agent_args: vec!["--guard-hook".to_owned(), hook.to_owned()],
            ..MeshOptions::default()
        };
        let mut town = Town::with(&lab, options);
        let stranger = stranger(&town);
        let tunnel = SocketAddr::from((town.server.ip4(), PORT));
        wait_guard(&town, false);
        strict(&town, true);
        wait_guard(&town, true);
        let wire = culvert_lab::Capture::start(lab.node(1).namespace(), "wire", &[]).unwrap();
        let dial = |town: &Town<'_>| probe::dial(&town.client, tunnel, &["--timeout", "20"]).unwrap();

        assert_dropped(&town, &stranger, "with everything there");
        dial(&town);
        town.mesh.agent(2).unwrap().kill().unwrap();
        assert_dropped(&town, &stranger, "without the agent");
        dial(&town);
        town.mesh.kill_worker(2).unwrap();
        assert_dropped(&town, &stranger, "without a worker");
        dial(&town);
        town.mesh.ztunnel(2).unwrap().kill().unwrap();
        assert_dropped(&town, &stranger, "without agent and proxy");
        town.mesh.start_agent(2).unwrap();
        town.mesh.wait_for_agent(2).unwrap();
        assert_dropped(&town, &stranger, "with another agent and no proxy");
        town.mesh.start_ztunnel(2).unwrap();
        town.mesh.wait_for_ztunnel(2).unwrap();
        wait_guard(&town, true);
        assert_dropped(&town, &stranger, "with all of them new");
        dial(&town);
        let seen = wire.take();
        assert!(seen.encrypted_bytes > 0, "nothing crossed the link");
        assert_eq!(seen.clear_bytes, 0, "in clear: {:?}", seen.clear_flows);
        assert_eq!(seen.missed, 0);
    }
}

#[test]
fn what_is_dropped_is_counted_by_pod_and_logged_at_a_bounded_rate() {
    let lab = lab("gd_count");
    let mut town = Town::meshed(&lab);
    let stranger = stranger(&town);
    strict(&town, true);
    wait_guard(&town, true);
    assert_eq!(drops(&town), 0.0);
    let (attempts, begun) = (20, Instant::now());
    let dialling = std::thread::spawn({
        let (stranger, to) = (stranger.clone(), town.server.ip4());
        move || (0..attempts).for_each(|_| drop(stranger.connect((to, PORT), Duration::from_millis(100))))
    });
    dialling.join().unwrap();
    wait_until("all to be counted", PATIENCE, || drops(&town) >= f64::from(attempts)).unwrap();
    assert_eq!(guard(&town)["dropped"].as_f64().unwrap(), drops(&town));
    let line = "dropped connections past the tunnel";
    let mut log = String::new();
    wait_until("a line in the log", PATIENCE, || {
        log = town.mesh.agent(2).unwrap().log();
        log.contains(line)
    })
    .unwrap();
    let lines: Vec<&str> = log.lines().filter(|one| one.contains(line)).collect();
    for word in ["town/server", &stranger.ip4().to_string(), &PORT.to_string()] {
        assert!(lines[0].contains(word), "{word}: {lines:?}");
    }
    // One for each look, which is every two seconds, as long as that took.
    let most = 2 + begun.elapsed().as_secs() as usize / 2;
    assert!(lines.len() <= most, "{lines:#?}");
}

#[test]
fn a_pod_is_guarded_as_strict_until_a_proxy_knows_better_and_stays_as_it_is_without_one() {
    let lab = lab("gd_unknown");
    let options = MeshOptions {
        without_ztunnels: true,
        ..MeshOptions::default()
    };
    let mut town = Town::unlabelled(&lab, options);
    let stranger = stranger(&town);
    echo::serve(&town.server, ECHO);
    lab.label("town", Some("ambient")).unwrap();
    town.wait_enrolled(true);
    wait_guard(&town, true);
    assert_dropped(&town, &stranger, "before any proxy");
    town.mesh.start_ztunnel(2).unwrap();
    town.mesh.wait_for_ztunnel(2).unwrap();
    wait_guard(&town, false);
    echo::connect(&stranger, (town.server.ip4(), ECHO).into(), PATIENCE).unwrap();
    // What was known stays known, to the next agent as well, while there is no proxy that could say it again.
    town.mesh.ztunnel(2).unwrap().kill().unwrap();
    town.mesh.restart_agent(2).unwrap();
    town.wait_enrolled(true);
    wait_guard(&town, false);
    let waits = stranger.connect((town.server.ip4(), ECHO), PATIENCE);
    waits.expect("it is accepted, and waits for a proxy");
}

#[test]
fn a_port_may_be_an_exception_and_changes_take_effect() {
    let lab = lab("gd_ports");
    let town = Town::meshed(&lab);
    let stranger = stranger(&town);
    echo::serve(&town.server, ECHO);
    strict(&town, true);
    wait_guard(&town, true);
    let but_one = json!({
        "apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
        "metadata": { "name": "one", "namespace": "town" },
        "spec": {
            "selector": { "matchLabels": { "app": "server" } },
            "portLevelMtls": { ECHO.to_string(): { "mode": "PERMISSIVE" } },
        },
    });
    lab.apply(&but_one).unwrap();
    let is_told = || guard(&town)["exceptions"] == json!([ECHO]);
    wait_until("the exception to be told", PATIENCE, is_told).unwrap();
    echo::connect(&stranger, (town.server.ip4(), ECHO).into(), PATIENCE).unwrap();
    assert_dropped(&town, &stranger, "to another port");
    strict(&town, false);
    wait_guard(&town, false);
    stranger
        .connect((town.server.ip4(), PORT), PATIENCE)
        .expect("permissive again");
}

#[test]
fn a_pod_that_has_left_is_not_guarded() {
    for hook in guard_hooks() {
        let lab = lab(&format!("gd_left_{hook}"));
        let options = MeshOptions {
            agent_args: vec!["--guard-hook".to_owned(), hook.to_owned()],
            ..MeshOptions::default()
        };
        let town = Town::with(&lab, options);
        let stranger = stranger(&town);
        strict(&town, true);
        wait_guard(&town, true);
        town.leave();
        probe::dial(&stranger, (town.server.ip4(), PORT), &[]).expect("as without a mesh");
    }
}
