//! Connections that share a tunnel share the network, too.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "the pace at which a client asks; nothing is waited for"
)]

use culvert_tests::{PATIENCE, Town, lab};
use std::{
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// Connections that send without end.
const BULK: usize = 7;

/// Echoes of one measurement, and the time between two.
const ECHOES: usize = 100;
const PACE: Duration = Duration::from_millis(20);

/// An echo that takes no longer than this is quick enough, however short an idle one is: the queue of the link alone is
/// 50 ms, and the machine may be busy. Without turns, an echo waits for seconds, until the others have ended.
const FLOOR: Duration = Duration::from_millis(300);

/// A busy machine spoils a measurement now and then. Without turns, each is beyond the limit.
const ATTEMPTS: usize = 5;

/// The 99th percentile of the times of 64-byte echoes.
fn p99(mut stream: &TcpStream) -> Duration {
    let mut times: Vec<Duration> = (0..ECHOES)
        .map(|number| {
            let message = [number as u8; 64];
            let mut answer = [0u8; 64];
            let began = Instant::now();
            stream.write_all(&message).unwrap();
            stream
                .read_exact(&mut answer)
                .unwrap_or_else(|error| panic!("echo {number} after {:?}: {error}", began.elapsed()));
            assert_eq!(answer, message);
            let taken = began.elapsed();
            thread::sleep(PACE.saturating_sub(taken)); // the pace at which a client asks
            taken
        })
        .collect();
    times.sort_unstable();
    times[ECHOES * 99 / 100 - 1]
}

/// Answers each connection: with what it sends, or not at all, counting bytes.
fn serve(listener: TcpListener, echo: bool, counts: Arc<[AtomicU64; BULK]>) {
    thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let counts = Arc::clone(&counts);
            thread::spawn(move || {
                let mut buffer = vec![0u8; 256 << 10];
                while let Ok(count @ 1..) = stream.read(&mut buffer) {
                    if echo {
                        if stream.write_all(&buffer[..count]).is_err() {
                            return;
                        }
                    } else {
                        counts[usize::from(buffer[0]) % BULK].fetch_add(count as u64, Ordering::Relaxed);
                    }
                }
            });
        }
    });
}

/// Sends one byte value without end until told to stop, then resets.
fn send(stream: TcpStream, number: usize, stop: &AtomicBool) {
    socket2::SockRef::from(&stream)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    stream.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
    let chunk = vec![number as u8; 256 << 10];
    while !stop.load(Ordering::Relaxed) {
        let _ = (&stream).write(&chunk);
    }
}

#[test]
fn seven_bulk_streams_of_a_tunnel_leave_an_echo_quick_in_every_order_of_opening() {
    let lab = lab("fa_echo");
    let town = Town::meshed(&lab);
    let counts: Arc<[AtomicU64; BULK]> = Arc::default();
    let any = IpAddr::from([0, 0, 0, 0]);
    serve(town.server.listen((any, 8093)).unwrap(), true, Arc::clone(&counts));
    serve(town.server.listen((any, 8094)).unwrap(), false, Arc::clone(&counts));
    for node in lab.nodes() {
        let mut limit = Command::new("tc");
        limit.args("qdisc add dev wire root tbf rate 100mbit burst 64k latency 50ms".split(' '));
        let output = node.output(&mut limit).unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let connect = |port: u16| {
        let to: SocketAddr = (town.server.ip4(), port).into();
        let stream = town.client.connect(to, PATIENCE).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    };
    let idle = p99(&connect(8093));
    let limit = (idle * 3).max(FLOOR);
    let mut seen = Vec::new();
    for before in 0..=BULK {
        let measured = (0..ATTEMPTS).map(|_| {
            let stop = AtomicBool::new(false);
            thread::scope(|scope| {
                let bulk = |number: usize| {
                    let stream = connect(8094);
                    let stop = &stop;
                    scope.spawn(move || send(stream, number, stop));
                };
                (0..before).for_each(bulk);
                let echo = connect(8093);
                (before..BULK).for_each(bulk);
                let loaded = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| p99(&echo)));
                stop.store(true, Ordering::Relaxed);
                loaded.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
        });
        let mut best = Duration::MAX;
        // No more attempts than it takes.
        for loaded in measured {
            best = best.min(loaded);
            if best <= limit {
                break;
            }
        }
        seen.push(best);
    }
    println!("idle {idle:?}, loaded {seen:?}, bytes {counts:?}");
    assert!(
        seen.iter().all(|loaded| *loaded <= limit),
        "idle {idle:?}, loaded, by the number of bulk streams opened before: {seen:?}"
    );
    let counts: Vec<u64> = counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
    let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
    assert!(least * 3 >= *most, "bulk streams among themselves: {counts:?}");
}
