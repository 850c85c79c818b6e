//! Nearly as many connections as descriptors allow through one node: each is carried when it is opened, and still when all are.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

use culvert_lab::{Pod, PodSpec, Process, wait_until};
use culvert_tests::{PATIENCE, Town, lab, memory::footprint, probe};
use std::time::Duration;

/// Of each client. Two of them take 19,000 of the 20,000 descriptors that a container has where its runtime sets no other limit.
const EACH: usize = 9_500;
const PORT: u16 = 9000;

/// How long a connection or its answer may take beside all the others.
const TIMEOUT: &str = "60";

/// What a node's proxy may hold for each, bytes; 1,200 were seen.
const MEMORY: u64 = 4 << 10;

struct Pair {
    server: Pod,
    client: Process,
    _reflecting: Process,
}

impl Pair {
    /// A client on node 1 that opens all its connections to a server on node 2, which nobody else uses.
    fn open(town: &Town<'_>, client: Pod, name: &str) -> Self {
        let spec = PodSpec::new("town", name).on(2).service_account(name);
        let server = town.lab.pod(spec).unwrap();
        let mut reflect = probe::command();
        reflect.args(["reflect", "--listen", &format!("0.0.0.0:{PORT}")]);
        let mut reflecting = server.spawn("reflect", &mut reflect).unwrap();
        reflecting.wait_for_log("listening", PATIENCE).unwrap();
        town.mesh.wait_enrolled(&[&server, &client], true, PATIENCE).unwrap();
        let to = format!("{}:{PORT}", server.ip4());
        let mut many = probe::command();
        many.args(["many", "--to", &to, "--count", &EACH.to_string(), "--timeout", TIMEOUT]);
        // Enough of a client's own ports.
        client
            .netns()
            .sysctl("net/ipv4/ip_local_port_range", "16000 65000")
            .unwrap();
        let client = client.spawn("many", &mut many).unwrap();
        Self {
            server,
            client,
            _reflecting: reflecting,
        }
    }

    /// Waits for a line of the client's that begins so, beyond those that were there.
    fn wait(&mut self, town: &Town<'_>, what: &str, lines: usize) -> String {
        let waited = wait_until(what, Duration::from_secs(120), || {
            !self.client.is_running() || self.client.log().lines().count() >= lines
        });
        let said = self.client.log();
        let place = format!("{}: {what}: {said}", self.server.name());
        waited.unwrap_or_else(|error| panic!("{error:#}: {place}\n{}", town.lab.logs(10)));
        assert!(self.client.is_running(), "{place}\n{}", town.lab.logs(10));
        said.lines().next_back().unwrap_or_default().to_owned()
    }
}

#[test]
fn nineteen_thousand_connections_of_one_node_are_all_carried() {
    let lab = lab("many");
    let mut town = Town::meshed(&lab);
    let workers = [1, 2].map(|node| town.mesh.worker_pid(node).unwrap());
    let before = workers.map(|pid| footprint(pid).anonymous);
    let second = PodSpec::new("town", "second").on(1).service_account("second");
    let second = lab.pod(second).unwrap();
    let mut pairs =
        [(town.client.clone(), "one"), (second, "two")].map(|(client, name)| Pair::open(&town, client, name));
    for pair in &mut pairs {
        assert_eq!(pair.wait(&town, "all are open", 1), "open");
    }
    for round in 1..=2 {
        for pair in &pairs {
            pair.client.signal(libc::SIGUSR1).unwrap();
        }
        for pair in &mut pairs {
            let said = pair.wait(&town, "all are asked", 1 + round);
            assert_eq!(
                said,
                format!("{{\"answered\":{EACH},\"silent\":[]}}"),
                "{}",
                town.lab.logs(10)
            );
        }
    }
    let held = workers.map(|pid| footprint(pid).anonymous);
    let more = [0, 1].map(|node| held[node].saturating_sub(before[node]));
    println!("{more:?} bytes for {} connections", 2 * EACH);
    assert!(
        more.iter().all(|more| *more < 2 * EACH as u64 * MEMORY),
        "{more:?} bytes"
    );
}
