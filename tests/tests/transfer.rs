//! Every byte arrives, once, in order, in both directions, whichever side ends first.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

use culvert_tests::{PATIENCE, Town, accept, lab, probe, town::PORT};
use std::{
    io::{Read, Write},
    net::{IpAddr, Shutdown, SocketAddr},
    time::{Duration, Instant},
};

/// Sizes around every boundary that matters (a byte, a TLS record, a stream window), and some that mean nothing.
const SIZES: [&str; 10] = [
    "0:0",
    "1:0",
    "0:1",
    "16384:16385",
    "16383:65536",
    "1000003:17",
    "5:999983",
    "4194304:4194305",
    "9876543:1234567",
    "7654321:20000003",
];

fn transfers(name: &str, order: &str) {
    let lab = lab(name);
    let town = Town::meshed(&lab);
    let mut arguments = vec!["--order", order, "--timeout", "60"];
    for size in SIZES {
        arguments.extend(["--transfer", size]);
    }
    let [server4, server6] = town.server.addresses();
    let [neighbour4, _] = town.neighbour.addresses();
    for (seed, to) in [(1, server4), (2, server6), (3, neighbour4)] {
        let seed = (seed * 1000).to_string();
        let arguments: Vec<&str> = arguments.iter().copied().chain(["--seed", &seed]).collect();
        let found = probe::dial(&town.client, (to, PORT), &arguments).unwrap_or_else(|error| panic!("{to}: {error}"));
        assert_eq!(found["transfers"], SIZES.len());
    }
    for server in &town.processes {
        assert!(
            !server.log().contains("\"ok\":false"),
            "a server missed bytes: {}",
            server.log()
        );
    }
}

#[test]
fn both_directions_at_once_keep_every_byte() {
    transfers("tr_both", "together");
}

#[test]
fn an_answer_after_the_clients_half_close_keeps_every_byte() {
    transfers("tr_client", "client-first");
}

#[test]
fn a_request_after_the_servers_half_close_keeps_every_byte() {
    transfers("tr_server", "server-first");
}

#[test]
fn many_transfers_side_by_side_do_not_mix() {
    let lab = lab("tr_many");
    let town = Town::meshed(&lab);
    let to = SocketAddr::new(town.server.ip4().into(), PORT);
    std::thread::scope(|scope| {
        for number in 0..12u32 {
            let client = &town.client;
            scope.spawn(move || {
                let size = format!("{}:{}", 300_000 + number * 77_777, 2_000_000 - number * 99_999);
                let seed = (number * 31).to_string();
                let arguments = [
                    "--transfer",
                    &size,
                    "--transfer",
                    &size,
                    "--seed",
                    &seed,
                    "--timeout",
                    "60",
                ];
                probe::dial(client, to, &arguments).unwrap_or_else(|error| panic!("{number}: {error}"));
            });
        }
    });
}

#[test]
fn a_reader_that_stops_holds_the_writer_back_and_nobody_else() {
    let lab = lab("tr_back");
    let mut town = Town::meshed(&lab);
    let listener = town.server.listen((IpAddr::from([0, 0, 0, 0]), 8090)).unwrap();
    let mut client = town.client.connect((town.server.ip4(), 8090), PATIENCE).unwrap();
    let (mut server, _) = accept(&listener);
    let proxies = |town: &mut Town<'_>| -> u64 {
        [1, 2]
            .map(|node| resident(town.mesh.worker_pid(node).unwrap()))
            .iter()
            .sum()
    };
    let before = proxies(&mut town);

    // Nobody reads: after the buffers on the way are full, writing must stall.
    client.set_nonblocking(true).unwrap();
    let chunk = vec![7u8; 1 << 20];
    let mut written = 0u64;
    let mut last_progress = Instant::now();
    culvert_lab::wait_until("the writer is held back", PATIENCE, || {
        while let Ok(count) = client.write(&chunk) {
            written += count as u64;
            last_progress = Instant::now();
            assert!(written < 256 << 20, "{written} bytes were taken though nobody reads");
        }
        last_progress.elapsed() > Duration::from_secs(2)
    })
    .unwrap();
    let grown = proxies(&mut town).saturating_sub(before);
    assert!(grown < 64 << 20, "the proxies hold {grown} bytes more");

    // Others of the same pair of pods, on the same tunnel connection, go on meanwhile.
    town.assert_works();

    // And when the reader reads, everything is there.
    client.set_nonblocking(false).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut buffer = vec![0u8; 1 << 20];
    let mut received = 0u64;
    loop {
        match server.read(&mut buffer).unwrap() {
            0 => break,
            count => {
                assert!(buffer[..count].iter().all(|byte| *byte == 7));
                received += count as u64;
            }
        }
    }
    assert_eq!(received, written);
}

/// An abort (SO_LINGER 0) at one end is a reset at the other, never an end: what was to follow is missing, and must not be taken for
/// all there was.
fn aborts(name: &str, client_aborts: bool) {
    let lab = lab(name);
    let town = Town::meshed(&lab);
    let any = IpAddr::from([0u16; 8]);
    for pod in [&town.server, &town.neighbour] {
        let listener = pod.listen((any, 8091)).unwrap();
        for to in pod.addresses() {
            let mut client = town.client.connect((to, 8091), PATIENCE).unwrap();
            client.write_all(b"begin").unwrap();
            let (mut server, _) = accept(&listener);
            server.read_exact(&mut [0u8; 5]).unwrap();
            let (aborting, mut other) = if client_aborts {
                (client, server)
            } else {
                (server, client)
            };
            other.set_read_timeout(Some(PATIENCE)).unwrap();
            socket2::SockRef::from(&aborting)
                .set_linger(Some(Duration::ZERO))
                .unwrap();
            drop(aborting);
            let error = other.read(&mut [0u8; 5]).map_err(|error| error.kind());
            assert_eq!(error, Err(std::io::ErrorKind::ConnectionReset), "{to}");
        }
    }
}

#[test]
fn a_clients_reset_reaches_the_server_as_one() {
    aborts("tr_rst_client", true);
}

#[test]
fn a_servers_reset_reaches_the_client_as_one() {
    aborts("tr_rst_server", false);
}

/// Resident memory of a process, bytes.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
}

#[test]
fn several_loops_and_the_whole_configuration_carry_the_same() {
    let lab = lab("tr_loops");
    let ztunnel_args = ["--loops", "2", "--config-mode", "wildcard"]
        .map(ToOwned::to_owned)
        .into();
    let town = Town::with(
        &lab,
        culvert_lab::MeshOptions {
            ztunnel_args,
            ..Default::default()
        },
    );
    std::thread::scope(|scope| {
        for seed in ["1", "2", "3", "4", "5", "6"] {
            let town = &town;
            scope.spawn(move || {
                let arguments = [
                    "--transfer",
                    "1500000:2500000",
                    "--transfer",
                    "3:4000001",
                    "--seed",
                    seed,
                    "--timeout",
                    "60",
                ];
                let to = (town.server.ip4(), PORT);
                probe::dial(&town.client, to, &arguments).unwrap_or_else(|error| panic!("{seed}: {error}"));
            });
        }
    });
    town.assert_works();
}
