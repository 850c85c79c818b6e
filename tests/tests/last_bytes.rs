//! A tunnel that ends for whatever reason leaves no byte behind.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]
#![allow(clippy::disallowed_methods, reason = "the reader is slow; nothing is waited for")]

use culvert_tests::{PATIENCE, Town, accept, lab};
use std::{
    io::{Read, Write},
    net::{IpAddr, Shutdown, TcpStream},
    thread,
    time::Duration,
};

/// More than a stream's window and the sockets' buffers together.
const BYTES: usize = 8 << 20;

/// What a pause of 8 ms per 16 KiB comes to: 2 MB/s.
const PIECE: usize = 16 << 10;

fn read_slowly(mut stream: &TcpStream) -> usize {
    let mut buffer = vec![0u8; PIECE];
    let mut total = 0;
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return total,
            Ok(count) => {
                assert!(buffer[..count].iter().all(|byte| *byte == 7));
                total += count;
            }
            Err(error) => panic!("after {total} of {BYTES} bytes: {error}"),
        }
        // This reader is slow: that is what is tested. Nothing is waited for.
        thread::sleep(Duration::from_millis(8));
    }
}

/// The client has said all it has to say and reads slowly while `node`'s proxy is asked to end.
fn drained(name: &str, node: u8) {
    let lab = lab(name);
    let mut town = Town::meshed(&lab);
    let listener = town.server.listen((IpAddr::from([0, 0, 0, 0]), 8092)).unwrap();
    let mut client = town.client.connect((town.server.ip4(), 8092), PATIENCE).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(b"give").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let (mut server, _) = accept(&listener);
    server.read_to_end(&mut Vec::new()).unwrap();
    town.mesh.ztunnel(node).unwrap().signal(libc::SIGTERM).unwrap();
    town.mesh
        .ztunnel(node)
        .unwrap()
        .wait_for_log("draining", PATIENCE)
        .unwrap();
    thread::scope(|scope| {
        scope.spawn(move || {
            server.write_all(&vec![7u8; BYTES]).unwrap();
        });
        assert_eq!(read_slowly(&client), BYTES);
    });
    // And the proxy ends by itself.
    let status = town.mesh.ztunnel(node).unwrap().wait(PATIENCE);
    let status = status.unwrap_or_else(|error| panic!("{error:#}\n{}", lab.logs(20)));
    assert!(status.success(), "{status}");
}

#[test]
fn a_drain_of_the_senders_node_loses_nothing_of_what_a_slow_reader_gets() {
    drained("lb_sender", 2);
}

#[test]
fn a_drain_of_the_readers_node_loses_nothing_of_what_a_slow_reader_gets() {
    drained("lb_reader", 1);
}
