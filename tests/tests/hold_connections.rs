//! `culvert.dev/hold-connections`: an application's `connect` ends when the far side is there, or with its refusal.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

use culvert_lab::{Pod, PodSpec, wait_until};
use culvert_tests::{PATIENCE, Town, accept, echo, lab, probe, town::PORT};
use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::SocketAddr,
    time::Duration,
};

const ANNOTATION: &str = "culvert.dev/hold-connections";

/// Where nobody listens.
const CLOSED: u16 = 9;

const WAYS: [&str; 8] = [
    "plain",
    "mptcp",
    "v4-mapped",
    "fast-open",
    "fast-open-connect",
    "non-blocking",
    "io-uring",
    "bound",
];

/// A pod beside the client that wants connections held.
fn holder(town: &Town<'_>, ports: &str) -> Pod {
    let spec = PodSpec::new("town", "holder")
        .on(1)
        .service_account("holder")
        .annotation(ANNOTATION, ports);
    let pod = town.lab.pod(spec).unwrap();
    town.mesh.wait_enrolled(&[&pod], true, PATIENCE).unwrap();
    wait_until("the mesh knows the pod", PATIENCE, || {
        probe::dial(&pod, (town.server.ip4(), PORT), &["--timeout", "15"]).is_ok()
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", town.lab.logs(40)));
    pod
}

fn count(town: &Town<'_>, port: u16, line: &str) -> f64 {
    let metrics = town.mesh.get(1, port, "/metrics").unwrap().body;
    let found = metrics.lines().find_map(|found| found.strip_prefix(line));
    found.and_then(|value| value.trim().parse().ok()).unwrap_or(0.0)
}

fn answers(town: &Town<'_>, outcome: &str) -> f64 {
    count(
        town,
        15020,
        &format!("culvert_ztunnel_held_connections_total{{outcome=\"{outcome}\"}}"),
    )
}

/// That a connection which is refused at its far end is accepted by the proxy, and reset.
///
/// A program that had no processor in between hears of both at once, as a reset of `connect`.
#[track_caller]
fn assert_accepted_first(pod: &Pod, to: SocketAddr) {
    let ended = pod.connect(to, PATIENCE).and_then(|mut stream| {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.read(&mut [0])
    });
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::ConnectionReset, "{to}");
}

#[test]
fn every_way_to_connect_is_held_and_met() {
    let lab = lab("hold_ways");
    let town = Town::meshed(&lab);
    let pod = holder(&town, "true");
    let before = answers(&town, "met");
    for to in town.server.addresses().into_iter().chain(town.neighbour.addresses()) {
        for how in WAYS.into_iter().filter(|how| to.is_ipv4() || *how != "v4-mapped") {
            let found = probe::dial(&pod, (to, PORT), &["--how", how, "--transfer", "100000:100000"]);
            found.unwrap_or_else(|error| panic!("{how} to {to}: {error}"));
            let found = probe::dial(&pod, (to, PORT), &["--how", how]).unwrap();
            assert_eq!(
                probe::address(&found, "client", "getpeername"),
                SocketAddr::new(to, PORT)
            );
        }
    }
    // All but MPTCP, which is accepted first.
    let held = 2.0 * (2.0 * 7.0 + 2.0 * 6.0);
    wait_until("all to be counted", PATIENCE, || answers(&town, "met") >= before + held).unwrap();
    town.in_the_tunnel(|| probe::dial(&pod, (town.server.ip4(), PORT), &[]).unwrap());
}

#[test]
fn a_refusal_is_the_answer_to_connect() {
    let lab = lab("hold_refuse");
    let town = Town::meshed(&lab);
    let pod = holder(&town, "true");
    for to in town.server.addresses().into_iter().chain(town.neighbour.addresses()) {
        let refused = pod.connect((to, CLOSED), PATIENCE).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{to}: {refused}");
    }
    // An address of the mesh's that nobody has.
    let nobody = SocketAddr::from(([198, 18, 2, 250], PORT));
    let refused = pod.connect(nobody, PATIENCE).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{refused}");
    wait_until("refusals to be counted", PATIENCE, || answers(&town, "refused") >= 5.0).unwrap();
    // The others are as ever.
    assert_accepted_first(&town.client, (town.server.ip4(), CLOSED).into());
}

/// Outside the mesh nobody answers for the far side, so its silence is the application's to bear.
#[test]
fn a_silent_far_side_is_silent_to_the_application() {
    let lab = lab("hold_silent");
    let town = Town::meshed(&lab);
    let pod = holder(&town, "true");
    let stranger = lab.pod(PodSpec::new("outside", "stranger").on(2)).unwrap();
    let to = SocketAddr::from((stranger.ip4(), PORT));
    // A listener whose queue is full drops SYNs.
    let socket = stranger.tcp_socket(to).unwrap();
    socket.bind(&to.into()).unwrap();
    socket.listen(0).unwrap();
    let _first = pod.connect(to, PATIENCE).unwrap();
    let silent = pod.connect(to, Duration::from_secs(3)).unwrap_err();
    assert_eq!(silent.kind(), ErrorKind::TimedOut, "{silent}");
    // One that begins while it is silent succeeds when it is not any more.
    let held = || {
        let name = "culvert_agent_kernel_events_total{hook=\"sk_lookup\",outcome=\"held\"}";
        count(&town, 15022, name)
    };
    let before = held();
    socket.set_nonblocking(true).unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| pod.connect(to, PATIENCE));
        wait_until("it has been tried", PATIENCE, || held() > before).unwrap();
        // How many come is not known: the proxy may still try for the one that has given up.
        wait_until("it has its answer", 2 * PATIENCE, || {
            let _ = socket.accept();
            waiting.is_finished()
        })
        .unwrap();
        let stream = waiting.join().unwrap();
        assert!(stream.is_ok(), "{stream:?}");
    });
}

#[test]
fn a_server_that_speaks_first_is_heard() {
    let lab = lab("hold_first");
    let town = Town::meshed(&lab);
    let pod = holder(&town, "true");
    for server in [&town.server, &town.neighbour] {
        let to = SocketAddr::from((server.ip4(), 9001));
        let listener = server.listen(to).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..50 {
                    let (mut stream, _) = accept(&listener);
                    stream.write_all(b"220 welcome").unwrap();
                }
            });
            for _ in 0..50 {
                let mut stream = pod.connect(to, PATIENCE).unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                let mut greeting = String::new();
                stream.read_to_string(&mut greeting).unwrap();
                assert_eq!(greeting, "220 welcome");
            }
        });
    }
}

#[test]
fn only_the_ports_that_are_named_are_held() {
    let lab = lab("hold_ports");
    let town = Town::meshed(&lab);
    let pod = holder(&town, &format!("{PORT},{CLOSED}"));
    let refused = pod.connect((town.server.ip4(), CLOSED), PATIENCE).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    assert_accepted_first(&pod, (town.server.ip4(), CLOSED + 1).into());
}

#[test]
fn held_connections_outlive_the_agent_and_wait_for_a_proxy() {
    let lab = lab("hold_away");
    let mut town = Town::meshed(&lab);
    let pod = holder(&town, "true");
    let closed = SocketAddr::from((town.server.ip4(), CLOSED));
    let open = SocketAddr::from((town.server.ip4(), PORT));
    let is_held = |town: &Town<'_>, when: &str| {
        let refused = pod.connect(closed, PATIENCE).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{when}: {refused}");
        probe::dial(&pod, open, &[]).unwrap_or_else(|error| panic!("{when}: {error}\n{}", town.lab.logs(20)));
    };
    town.mesh.agent(1).unwrap().kill().unwrap();
    is_held(&town, "without an agent");
    town.mesh.start_agent(1).unwrap();
    town.mesh.wait_for_agent(1).unwrap();
    is_held(&town, "with another agent");
    for round in 0..3 {
        town.mesh.kill_worker(1).unwrap();
        is_held(&town, &format!("after a worker's death, {round}"));
    }
    town.mesh.restart_ztunnel(1).unwrap();
    is_held(&town, "with another proxy");
}

#[test]
fn an_annotation_that_means_nothing_holds_nothing_and_is_named() {
    let lab = lab("hold_bad");
    let town = Town::meshed(&lab);
    let pod = holder(&town, "yes please");
    assert_accepted_first(&pod, (town.server.ip4(), CLOSED).into());
    wait_until("the agent says so", PATIENCE, || {
        town.mesh
            .get(1, 15022, "/pods")
            .is_ok_and(|page| page.body.contains("yes please"))
    })
    .unwrap();
}

/// The figures of `docs/connections-that-fail.md`: run it alone on a quiet machine, with `--release`, `--ignored` and `--nocapture`.
#[test]
#[ignore = "measures, and asserts nothing"]
fn what_holding_costs() {
    let lab = lab("hold_cost");
    let mut town = Town::meshed(&lab);
    let pod = holder(&town, "true");
    let stranger = lab.pod(PodSpec::new("outside", "stranger").on(2)).unwrap();
    let full = SocketAddr::from((stranger.ip4(), PORT));
    let socket = stranger.tcp_socket(full).unwrap();
    socket.bind(&full.into()).unwrap();
    socket.listen(0).unwrap();
    let _first = stranger.connect(full, PATIENCE);
    let good = echo::serve(&town.server, 9000);
    let near = echo::serve(&town.neighbour, 9000);
    let cases = [
        ("good, other node", good, vec!["--count", "4000"]),
        ("good, same node", near, vec!["--count", "4000"]),
        ("good, 8 at a time", good, vec!["--count", "8000", "--parallel", "8"]),
        (
            "open, 1 byte round trips",
            good,
            vec!["--count", "1", "--trips", "40000"],
        ),
        ("refusing", (town.server.ip4(), CLOSED).into(), vec!["--count", "1000"]),
        (
            "missing",
            ([198, 18, 2, 250], PORT).into(),
            vec!["--count", "3", "--timeout", "15000"],
        ),
        ("silent", full, vec!["--count", "2", "--timeout", "15000"]),
    ];
    let workers = [1, 2].map(|node| town.mesh.worker_pid(node).unwrap());
    let cpu = || workers.into_iter().map(cpu_us).sum::<u64>();
    for round in 0..3 {
        for (what, to, options) in &cases {
            for (how, from) in [("accepted first", &town.client), ("held", &pod)] {
                let before = cpu();
                let to = to.to_string();
                let output = from
                    .output(probe::command().args(["time", "--to", &to]).args(options))
                    .unwrap();
                let used = cpu() - before;
                let text = String::from_utf8_lossy(&output.stdout);
                println!("{round} {what}, {how}: proxies' CPU {used} us; {}", text.trim());
            }
        }
    }
}

/// User and system time of a process, microseconds, in steps of 10 ms.
fn cpu_us(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    [11, 12]
        .iter()
        .map(|index| fields[*index].parse::<u64>().unwrap() * 10_000)
        .sum()
}
