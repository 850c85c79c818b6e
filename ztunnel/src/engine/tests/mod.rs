//! Two loops over loopback, with real TLS and real sockets. What needs Culvert's kernel programs is in the end-to-end
//! tests.

mod abuse;
mod carry;
mod change;
mod last_bytes;
mod memory;
mod node;
mod policies;
mod refuse;
mod sizes;
mod stale;

use std::{
    io::{self, ErrorKind, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use culvert_control::Ask;
use culvert_proto::security as policy;
use node::{
    Authority, CLIENT, Node, OTHER, PATIENCE, SERVER, Scene, World, addresses, application, capture, is_free, local,
    wait_until,
};

use crate::seam::{ListenerRole, LoopMessage};

fn dial(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&to, PATIENCE).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn accept(listener: &TcpListener) -> TcpStream {
    socket2::SockRef::from(listener)
        .set_read_timeout(Some(PATIENCE))
        .unwrap();
    let (stream, _) = listener.accept().expect("the application was not reached");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Bytes that no two positions near each other share.
fn pattern(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .collect()
}

/// Sends `bytes` in pieces of many sizes, says that this is all, and reads what comes until the other says so.
fn exchange(stream: &TcpStream, bytes: &[u8]) -> Vec<u8> {
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut writer = stream;
            let mut rest = bytes;
            let mut size = 1;
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(size.min(rest.len()));
                writer.write_all(piece).unwrap();
                rest = after;
                size = (size * 7 + 3) % 300_000;
            }
            stream.shutdown(Shutdown::Write).unwrap();
        });
        let mut got = Vec::new();
        let mut reader = stream;
        reader.read_to_end(&mut got).unwrap();
        got
    })
}

fn assert_same(got: &[u8], sent: &[u8]) {
    assert_eq!(got.len(), sent.len());
    assert!(
        got == sent,
        "bytes differ first at {:?}",
        got.iter().zip(sent).position(|(a, b)| a != b)
    );
}

/// Sends both ways at once over one connection and compares.
fn both_ways(front: SocketAddr, app: &TcpListener, up: usize, down: usize, seed: u64) {
    let (request, answer) = (pattern(up, seed), pattern(down, seed + 1));
    let stream = dial(front);
    let (at_server, at_client) = thread::scope(|scope| {
        let server = scope.spawn(|| exchange(&accept(app), &answer));
        let client = scope.spawn(|| exchange(&stream, &request));
        (server.join().unwrap(), client.join().unwrap())
    });
    assert_same(&at_server, &request);
    assert_same(&at_client, &answer);
}

/// A connection to here is reset at once, or as soon as it is used.
fn assert_refused(to: SocketAddr) {
    match TcpStream::connect_timeout(&to, PATIENCE) {
        Ok(stream) => {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            assert_reset(&stream);
        }
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
}

fn assert_reset(mut stream: &TcpStream) {
    let mut buffer = [0; 16];
    match stream.read(&mut buffer) {
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        Ok(count) => panic!("{count} bytes instead of a reset"),
    }
}
