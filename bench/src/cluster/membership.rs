//! A namespace joins the mesh and leaves it again, under load.

use super::{
    bench::Bench,
    judge,
    table::{LABEL_CLEAR, LABEL_LOAD, LABEL_REOPENED, Outcome, UNLABEL},
};
use culvert_cluster_tests::{Load, PodSpec, Space, Traffic, Wire, now_ms};
use std::{
    io::{BufRead as _, BufReader},
    net::{IpAddr, SocketAddr},
    process::{Child, Stdio},
    time::{SystemTime, UNIX_EPOCH},
};

/// Connections that are opened while the namespace is being labelled, one every 100 ms.
const DURING: usize = 5;
/// How long connections may still open in clear after the command began: what the first line is to reach.
const AIM_MS: u64 = 300;
/// Requests of the load that are 20 s long.
const TWENTY_SECONDS: u64 = 20 * 50;

pub(super) fn measure(bench: &mut Bench) {
    let rows = [&LABEL_CLEAR, &LABEL_LOAD, &LABEL_REOPENED, &UNLABEL];
    bench.lines(rows, joining_and_leaving);
}

fn joining_and_leaving(bench: &Bench) -> [Outcome; 4] {
    let space = bench.world.space("label");
    space.start(&[PodSpec::server("server").on("node2"), PodSpec::idle("late").on("node1")]);
    let to = space.address("server");
    let load = five_open(&space, "joins", &to);
    let pods = ["server", "joins", "late"];
    let addresses = pods.map(|pod| space.ip(pod));
    let wire = Wire::tap(&bench.world, "node1");

    let during = During::begin(&space, "late", &to);
    let began = now_ms();
    space.enrol();
    load.wait_more(TWENTY_SECONDS);
    let switched = wire.take();
    let switch = Wire::between_pods(&switched, &addresses);
    let last = switch.last_opened_in_clear();
    let last = last.map(milliseconds).filter(|at| *at >= began);
    // What is in clear now, of those that opened during the switch, stays in clear.
    load.wait_more(100);
    let still = clear_connections_of(&wire, space.ip("late"));
    let late = still.iter().filter(|source| opened(&switch, **source) > began + AIM_MS);
    let late = late.count();
    during.end();
    let rest = bench.requests(1500).saturating_sub(TWENTY_SECONDS + 100);
    load.wait_more(rest);
    let joined = load.stop();

    space.wait_captured(&["server", "late"]);
    let load = five_open(&space, "leaves", &to);
    space.wait_captured(&["leaves"]);
    space.leave();
    load.wait_more(bench.requests(1250));
    let left = load.stop();
    [
        judge::clear_for(last.map(|at| at - began)),
        judge::unharmed(&joined),
        judge::reopened(DURING, still.len(), late),
        judge::unharmed(&left),
    ]
}

fn five_open(space: &Space<'_>, name: &str, to: &str) -> Load {
    Load::start_with(
        space,
        PodSpec::new(name, &["load", "--to", to, "--open", "5"]).on("node1"),
    )
}

fn milliseconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64)
}

/// The connections from a pod that had bytes in clear since the tap was read last, by their own end.
fn clear_connections_of(wire: &Wire, pod: IpAddr) -> Vec<SocketAddr> {
    let seen = wire.take();
    let traffic = Wire::between_pods(&seen, &[pod]);
    let sources = traffic.clear.iter().map(|(source, _, _)| *source);
    sources.filter(|source| source.ip() == pod).collect()
}

/// When a connection was opened in clear, milliseconds since 1970; 0 when nobody saw it.
fn opened(switch: &Traffic, connection: SocketAddr) -> u64 {
    let mut all = switch.opened_in_clear.iter();
    let found = all.find(|(_, source, _)| *source == connection);
    found.map_or(0, |(at, _, _)| milliseconds(*at))
}

/// Connections that a pod opens one after the other and keeps in use, told to begin just before the namespace is labelled.
struct During(Child);

impl During {
    /// Returns when the first is about to be opened.
    fn begin(space: &Space<'_>, pod: &str, to: &str) -> Self {
        let one = format!("/probe load --rate 0 --open 1 --to {to} >/dev/null & sleep 0.1;");
        let script = format!("echo begins; {} wait", one.repeat(DURING));
        let mut command = space.world().cluster().kubectl();
        command.args(["exec", pod, "-n", space.name(), "--", "/bin/sh", "-c", &script]);
        let mut child = match command.stdout(Stdio::piped()).spawn() {
            Ok(child) => child,
            Err(error) => panic!("kubectl exec: {error}"),
        };
        let mut first = String::new();
        if let Some(stdout) = child.stdout.take() {
            let _ = BufReader::new(stdout).read_line(&mut first);
        }
        assert_eq!(first.trim(), "begins", "kubectl exec in {pod}");
        Self(child)
    }

    /// The connections themselves end with their pod.
    fn end(mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
