//! Connections that say nothing for long, and peers that are gone without a word.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

use culvert_lab::{Lab, MeshOptions, Pod, PodSpec, wait_until};
use culvert_tests::{PATIENCE, Town, accept, lab};
use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream},
    process::Command,
    thread,
    time::{Duration, Instant},
};

/// The proxies' timers, so short that a test can outlast them all, and an answer of a ping so long that a busy machine gives it.
const PING_INTERVAL: Duration = Duration::from_millis(300);
const PING_TIMEOUT: Duration = Duration::from_millis(2500);
const IDLE: Duration = Duration::from_millis(700);

const PORT: u16 = 9000;
const ANY: IpAddr = IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED);

fn town(lab: &Lab) -> Town<'_> {
    let flag = |name: &str, time: Duration| [format!("--{name}"), format!("{}ms", time.as_millis())];
    let flags = [
        flag("tunnel-ping-interval", PING_INTERVAL),
        flag("tunnel-ping-timeout", PING_TIMEOUT),
        flag("tunnel-idle", IDLE),
    ];
    let options = MeshOptions {
        ztunnel_args: flags.concat(),
        ..MeshOptions::default()
    };
    Town::with(lab, options)
}

/// Both ends of a connection that has carried a byte.
fn connect(from: &Pod, to: impl Into<SocketAddr>, listener: &TcpListener) -> (TcpStream, TcpStream) {
    let to = to.into();
    let mut client = from
        .connect(to, PATIENCE)
        .unwrap_or_else(|error| panic!("{to}: {error}"));
    client.write_all(b"x").unwrap();
    let (mut served, _) = accept(listener);
    for end in [&client, &served] {
        end.set_read_timeout(Some(PATIENCE)).unwrap();
        end.set_write_timeout(Some(PATIENCE)).unwrap();
    }
    served.read_exact(&mut [0]).unwrap();
    (client, served)
}

#[track_caller]
fn carry(from: &mut TcpStream, to: &mut TcpStream, how: &str) {
    let mut byte = [0];
    let carried = from.write_all(b"y").and_then(|()| to.read_exact(&mut byte));
    carried.unwrap_or_else(|error| panic!("{how}: {error}"));
    assert_eq!(&byte, b"y", "{how}");
}

#[test]
#[allow(
    clippy::disallowed_methods,
    reason = "silence is what is tested; nothing is waited for"
)]
fn a_connection_that_is_silent_for_longer_than_every_timer_is_as_good_as_before() {
    let lab = lab("ll_idle");
    let town = town(&lab);
    let outside = lab.pod(PodSpec::new("outside", "stranger").on(1)).unwrap();
    let (at_server, at_neighbour, at_outside) = (
        town.server.listen((ANY, PORT)).unwrap(),
        town.neighbour.listen((ANY, PORT)).unwrap(),
        outside.listen((ANY, PORT)).unwrap(),
    );
    let [server4, server6] = town.server.addresses();
    let ways = [
        ("through the tunnel", &town.client, server4, &at_server),
        ("through the tunnel, IPv6", &town.client, server6, &at_server),
        ("on one node", &town.client, town.neighbour.ip4().into(), &at_neighbour),
        ("from outside the mesh", &outside, server4, &at_server),
        ("to outside the mesh", &town.client, outside.ip4().into(), &at_outside),
    ];
    let mut open = ways.map(|(how, from, to, listener)| (how, connect(from, (to, PORT), listener)));
    // One direction has ended, and the other has not said anything yet.
    let mut half_closed = connect(&town.client, (server4, PORT), &at_server);
    half_closed.0.shutdown(Shutdown::Write).unwrap();
    assert_eq!(half_closed.1.read(&mut [0]).unwrap(), 0);

    thread::sleep(2 * (PING_INTERVAL + PING_TIMEOUT + IDLE));
    for (how, (client, served)) in &mut open {
        carry(client, served, how);
        carry(served, client, how);
    }
    let (mut client, mut served) = half_closed;
    carry(&mut served, &mut client, "after a half-close");
}

/// Lets every packet from and to a pod vanish, as when a node's power fails: nobody says that anything has ended.
struct Vanished<'a> {
    lab: &'a Lab,
    pod: &'a Pod,
}

impl<'a> Vanished<'a> {
    fn new(lab: &'a Lab, pod: &'a Pod) -> Self {
        let [ip4, ip6] = pod.addresses();
        let chain = format!(
            "chain x {{\ntype filter hook forward priority 0;\nip saddr {ip4} drop\nip daddr {ip4} drop\n\
             ip6 saddr {ip6} drop\nip6 daddr {ip6} drop\n}}\n"
        );
        nft(lab, pod, &format!("table inet vanished {{\n{chain}}}\n"));
        Self { lab, pod }
    }
}

impl Drop for Vanished<'_> {
    fn drop(&mut self) {
        nft(self.lab, self.pod, "delete table inet vanished\n");
    }
}

fn nft(lab: &Lab, pod: &Pod, rules: &str) {
    let output = lab.node(pod.node()).output(Command::new("nft").arg(rules)).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Reads until the connection has ended: as a reset, and not as if the other side had said all it had to say.
#[track_caller]
fn assert_reset(mut stream: &TcpStream, whose: &str) {
    let mut bytes = [0; 4096];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => panic!("{whose}: ended as if all had been said"),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return,
            Err(error) => panic!("{whose}: {error}"),
        }
    }
}

/// Open connections to this port that a node's proxy shows.
fn shown(town: &Town<'_>, node: u8) -> usize {
    let page = town.mesh.get(node, 15000, "/connections").unwrap().body;
    page.matches(&format!(":{PORT}\"")).count()
}

/// Both ends hear of it, and neither proxy keeps anything, when a pod is gone without a word.
fn vanishes(name: &str, choose: impl for<'a> Fn(&'a Town<'_>) -> &'a Pod) {
    let lab = lab(name);
    let town = town(&lab);
    let listener = town.server.listen((ANY, PORT)).unwrap();
    let connections: Vec<_> = town
        .server
        .addresses()
        .into_iter()
        .flat_map(|to| [(); 2].map(|()| connect(&town.client, (to, PORT), &listener)))
        .collect();
    assert!(shown(&town, 1) > 0 && shown(&town, 2) > 0, "the page shows them");
    let vanished = Vanished::new(&lab, choose(&town));
    let since = Instant::now();
    // On some, bytes are under way in either direction; the others are silent.
    for (client, served) in connections.iter().step_by(2) {
        (&*client).write_all(b"under way").unwrap();
        (&*served).write_all(b"under way").unwrap();
    }
    for (client, served) in &connections {
        assert_reset(client, "the client");
        assert_reset(served, "the server");
    }
    println!("noticed after {:?}", since.elapsed());
    for node in [1, 2] {
        wait_until("nothing of them is left", PATIENCE, || shown(&town, node) == 0).unwrap();
    }
    drop(vanished);
    town.assert_works();
}

#[test]
fn a_client_whose_pod_loses_its_network_leaves_nothing_open_at_either_end() {
    vanishes("ll_client", |town| &town.client);
}

#[test]
fn a_server_whose_pod_loses_its_network_leaves_nothing_open_at_either_end() {
    vanishes("ll_server", |town| &town.server);
}
