//! What the protocol costs without a network. Run with `cargo bench -p culvert-hbone`.
//!
//! - `bulk`: 1 MiB of application data is put into the output buffer (as `readv` would, here a copy), framed and sealed, then opened and
//!   followed by the peer, which counts it; both ends in one thread. `seal` and `open` are the halves. With `plaintext` the same without
//!   TLS: the difference is the cipher, which should be nearly all there is.
//! - `request`: 1 KiB there and back on an open stream, each with a flush of its own: what a small request costs beside system calls.
//! - `connect`: a stream is opened with baggage, answered, and ended in both directions.
//! - `handshake`: mutual TLS, both ends, and what is made for it.
#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{End, configs_with, server_name, shake};
use culvert_bench_cases::{Cases, Throughput};
use culvert_hbone::{
    Authority, BadRequest, Config, ConnectRequest, Connection, ErrorCode, Fill, Handshake, Response, Role, Sink,
    StreamId,
};
use rustls::crypto::aws_lc_rs::cipher_suite::{
    TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
};

const BATCH: usize = 1 << 20;

/// Counts data and notes who asks.
#[derive(Default)]
struct Counter {
    bytes: usize,
    asked: Option<StreamId>,
}

impl<'b> Sink<'b> for Counter {
    fn connect(&mut self, id: StreamId, _: Result<ConnectRequest, BadRequest>) {
        self.asked = Some(id);
    }
    fn response(&mut self, _: StreamId, _: Response) {}
    fn data(&mut self, _: StreamId, data: &'b [u8]) {
        self.bytes += black_box(data).len();
    }
    fn end(&mut self, _: StreamId) {}
    fn reset(&mut self, _: StreamId, _: ErrorCode) {}
    fn writable(&mut self, _: StreamId) {}
    fn all_writable(&mut self) {}
    fn pong(&mut self, _: [u8; 8]) {}
    fn go_away(&mut self, _: StreamId, _: ErrorCode) {}
}

/// Two ends and the wire between them.
struct Pair {
    client: Connection,
    server: Connection,
    wire: Vec<u8>,
}

impl Pair {
    fn new(client: Connection, server: Connection) -> Self {
        let mut pair = Self {
            client,
            server,
            wire: Vec::with_capacity(2 * BATCH),
        };
        for _ in 0..2 {
            pair.at_server();
            pair.at_client();
        }
        pair
    }

    fn plaintext() -> Self {
        let config = Config::default();
        Self::new(
            Connection::plaintext(Role::Client, &config),
            Connection::plaintext(Role::Server, &config),
        )
    }

    fn tls(suite: rustls::SupportedCipherSuite) -> Self {
        let (client, server) = configs_with(&[suite]);
        let client = Handshake::client(Arc::new(client), server_name()).unwrap();
        let server = Handshake::server(Arc::new(server)).unwrap();
        let (client, server) = shake(client, server, usize::MAX, &Config::default());
        let [client, server] = [client, server].map(
            |End {
                 mut connection,
                 mut inbox,
             }| {
                // The server's session tickets.
                receive(&mut connection, &mut inbox);
                connection
            },
        );
        Self::new(client, server)
    }

    fn at_server(&mut self) -> Counter {
        carry(&mut self.client, &mut self.server, &mut self.wire)
    }

    fn at_client(&mut self) -> Counter {
        carry(&mut self.server, &mut self.client, &mut self.wire)
    }

    fn open(&mut self, authority: &Authority, headers: &[(&str, &str)]) -> StreamId {
        let id = self.client.open(authority, headers).unwrap();
        let asked = self.at_server().asked.unwrap();
        self.server.respond(asked, 200, headers, false);
        self.at_client();
        id
    }

    fn put(&mut self, id: StreamId, size: usize, data: &[u8]) {
        put(&mut self.client, id, size, data);
    }
}

fn put(connection: &mut Connection, id: StreamId, size: usize, data: &[u8]) {
    let filled = connection.fill(id, size, |slices| {
        let mut n = 0;
        for slice in slices {
            let size = slice.len();
            slice.copy_from_slice(&data[..size]);
            n += size;
        }
        Ok(n)
    });
    assert_eq!(filled.unwrap(), Fill::Bytes(size));
}

fn carry(from: &mut Connection, to: &mut Connection, wire: &mut Vec<u8>) -> Counter {
    wire.clear();
    wire.extend_from_slice(from.output());
    from.written(wire.len());
    receive(to, wire)
}

fn receive(to: &mut Connection, wire: &mut [u8]) -> Counter {
    let mut counter = Counter::default();
    let whole = wire.len();
    assert_eq!(to.receive(wire, &mut counter), Ok(whole));
    counter
}

fn bulk(cases: &mut Cases) {
    let data = vec![0x5a; 16_375];
    let pairs = [
        ("plaintext", Pair::plaintext()),
        ("aes-128-gcm", Pair::tls(TLS13_AES_128_GCM_SHA256)),
        ("aes-256-gcm", Pair::tls(TLS13_AES_256_GCM_SHA384)),
        ("chacha20-poly1305", Pair::tls(TLS13_CHACHA20_POLY1305_SHA256)),
    ];
    let authority = "198.18.0.1:80".parse().unwrap();
    for (name, mut pair) in pairs {
        let id = pair.open(&authority, &[]);
        for half in ["seal", "open"] {
            cases.timed(
                &format!("bulk/{name}/{half}"),
                Throughput::Bytes(BATCH as u64),
                |rounds| {
                    let mut total = Duration::ZERO;
                    for _ in 0..rounds {
                        let start = Instant::now();
                        pair.put(id, BATCH, &data);
                        let bytes = pair.client.output();
                        let sealed = start.elapsed();
                        pair.wire.clear();
                        pair.wire.extend_from_slice(bytes);
                        pair.client.written(pair.wire.len());
                        let start = Instant::now();
                        assert_eq!(receive(&mut pair.server, &mut pair.wire).bytes, BATCH);
                        pair.server.release(id, BATCH);
                        let opened = start.elapsed();
                        pair.at_client();
                        total += if half == "seal" { sealed } else { opened };
                    }
                    total
                },
            );
        }
    }
}

fn small(cases: &mut Cases) {
    let data = vec![0x5a; 1024];
    let authority = "198.18.0.1:80".parse().unwrap();
    let headers = [(
        "baggage",
        "k8s.cluster.name=Kubernetes,k8s.namespace.name=shop,k8s.deployment.name=cart,service.name=cart",
    )];
    for (name, mut pair) in [
        ("plaintext", Pair::plaintext()),
        ("aes-256-gcm", Pair::tls(TLS13_AES_256_GCM_SHA384)),
    ] {
        let id = pair.open(&authority, &headers);
        cases.case(&format!("request/{name}"), || {
            pair.put(id, 1024, &data);
            pair.at_server();
            pair.server.release(id, 1024);
            put(&mut pair.server, id, 1024, &data);
            pair.at_client();
            pair.client.release(id, 1024);
        });
        cases.case(&format!("connect/{name}"), || {
            let id = pair.open(&authority, &headers);
            pair.client.finish(id);
            pair.at_server();
            pair.server.finish(id);
            pair.at_client();
        });
    }
}

fn handshake(cases: &mut Cases) {
    let (client, server) = configs_with(&[TLS13_AES_256_GCM_SHA384]);
    let (client, server) = (Arc::new(client), Arc::new(server));
    cases.case("handshake", || {
        let client = Handshake::client(client.clone(), server_name()).unwrap();
        let server = Handshake::server(server.clone()).unwrap();
        shake(client, server, usize::MAX, &Config::default())
    });
}

fn main() {
    culvert_bench_cases::main(&[bulk, small, handshake]);
}
