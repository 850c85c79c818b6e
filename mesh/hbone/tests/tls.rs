//! The TLS half: handshakes cut anywhere, our own peer and rustls' as the other end, new keys, alerts, garbage.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::io::{Read, Write};
use std::sync::Arc;

use common::{End, Event, configs, configs_with, configs_with_groups, server_name, shake, shake_limited};
use culvert_hbone::{
    Config, Connection, ErrorCode, Handshake, HandshakeError, Progress, ProtocolError, Role, StreamId, TlsError,
};
use rustls::crypto::aws_lc_rs::cipher_suite::{
    TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
};
use rustls::crypto::aws_lc_rs::kx_group;
use rustls::{ClientConfig, ServerConfig, ServerConnection};

fn pair(configs: (ClientConfig, ServerConfig), chunk: usize, config: &Config) -> (End, End) {
    let client = Handshake::client(Arc::new(configs.0), server_name()).unwrap();
    let server = Handshake::server(Arc::new(configs.1)).unwrap();
    shake(client, server, chunk, config)
}

fn carry(from: &mut End, to: &mut End) -> Vec<Event> {
    let bytes = from.take_output();
    to.receive(&bytes).unwrap()
}

/// Opens a stream and has it answered.
fn open(client: &mut End, server: &mut End) -> StreamId {
    let id = client
        .connection
        .open(&"198.18.0.1:80".parse().unwrap(), &[("baggage", "service.name=a")])
        .unwrap();
    assert!(matches!(carry(client, server)[..], [.., Event::Connect(opened, Ok(_))] if opened == id));
    server.connection.respond(id, 200, &[], false);
    assert!(matches!(carry(server, client)[..], [.., Event::Response(answered, _)] if answered == id));
    id
}

/// Sends `data`, has it acknowledged, and checks that it arrives.
fn transfer(from: &mut End, to: &mut End, id: StreamId, data: &[u8]) {
    let (mut sent, mut received) = (0, Vec::new());
    while received.len() < data.len() {
        sent += from.connection.send(id, &data[sent..]);
        for event in carry(from, to) {
            if let Event::Data(id, bytes) = event {
                to.connection.release(id, bytes.len());
                received.extend(bytes);
            }
        }
        carry(to, from);
    }
    assert!(received == data);
}

fn pattern(size: usize) -> Vec<u8> {
    (0..size).map(|n| (n * 7 / 5) as u8).collect()
}

#[test]
fn every_suite_and_every_cut() {
    for suite in [
        TLS13_AES_128_GCM_SHA256,
        TLS13_AES_256_GCM_SHA384,
        TLS13_CHACHA20_POLY1305_SHA256,
    ] {
        for chunk in [1, 7, 500, usize::MAX] {
            let (mut client, mut server) = pair(configs_with(&[suite]), chunk, &Config::default());
            let id = open(&mut client, &mut server);
            transfer(&mut client, &mut server, id, &pattern(200_000));
            transfer(&mut server, &mut client, id, &pattern(200_000));
        }
    }
}

#[test]
fn the_group_by_which_keys_were_exchanged_is_told() {
    for (groups, expected) in [
        (&[kx_group::X25519MLKEM768, kx_group::X25519][..], "X25519MLKEM768"),
        (&[kx_group::X25519], "X25519"),
        (&[kx_group::SECP256R1], "secp256r1"),
    ] {
        let (client, server) = configs_with_groups(groups);
        let mut client = Handshake::client(Arc::new(client), server_name()).unwrap();
        let mut server = Handshake::server(Arc::new(server)).unwrap();
        let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
        while client.advance(&mut to_client, &mut to_server).unwrap() == Progress::Waiting {
            server.advance(&mut to_server, &mut to_client).unwrap();
        }
        assert_eq!(server.advance(&mut to_server, &mut to_client).unwrap(), Progress::Done);
        for side in [client, server] {
            assert_eq!(side.finish().unwrap().key_exchange, expected);
        }
    }
}

#[test]
fn records_may_be_cut_anywhere() {
    let (mut client, mut server) = pair(configs(), usize::MAX, &Config::default());
    let id = open(&mut client, &mut server);
    let data = pattern(100_000);
    assert_eq!(client.connection.send(id, &data), data.len());
    let bytes = client.take_output();
    let mut received = Vec::new();
    for piece in bytes.chunks(777) {
        for event in server.receive(piece).unwrap() {
            let Event::Data(_, data) = event else {
                panic!("{event:?}")
            };
            received.extend(data);
        }
        assert!(server.inbox.len() < 16_645);
    }
    assert!(received == data);
}

/// Data that follows the handshake in the same packet reaches the connection.
#[test]
fn data_right_behind_the_handshake() {
    let (client_config, server_config) = configs();
    let mut client = Handshake::client(Arc::new(client_config), server_name()).unwrap();
    let mut server = Handshake::server(Arc::new(server_config)).unwrap();
    let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
    assert_eq!(
        client.advance(&mut Vec::new(), &mut to_server).unwrap(),
        Progress::Waiting
    );
    assert_eq!(
        server.advance(&mut to_server, &mut to_client).unwrap(),
        Progress::Waiting
    );
    assert_eq!(client.advance(&mut to_client, &mut to_server).unwrap(), Progress::Done);
    let keys = client.finish().unwrap().keys;
    let mut client = Connection::new(Role::Client, keys, &Config::default());
    let id = client.open(&"a.example:80".parse().unwrap(), &[]).unwrap();
    client.send(id, b"early bird");
    to_server.extend_from_slice(client.output());
    assert_eq!(server.advance(&mut to_server, &mut to_client).unwrap(), Progress::Done);
    let connection = Connection::new(Role::Server, server.finish().unwrap().keys, &Config::default());
    let mut server = End {
        connection,
        inbox: to_server,
    };
    let events = server.receive(&[]).unwrap();
    assert!(matches!(&events[..], [Event::Connect(..), Event::Data(_, data)] if data == b"early bird"));
    assert!(server.inbox.is_empty());
}

#[test]
fn keys_are_changed_in_time() {
    let (client, server) = configs();
    let client = Handshake::client(Arc::new(client), server_name()).unwrap();
    let server = Handshake::server(Arc::new(server)).unwrap();
    let (mut client, mut server) = shake_limited(client, server, usize::MAX, &Config::default(), 5);
    let id = open(&mut client, &mut server);
    for _ in 0..5 {
        transfer(&mut client, &mut server, id, &pattern(300_000));
        transfer(&mut server, &mut client, id, &pattern(300_000));
    }
}

#[test]
fn a_clean_end_is_told_from_a_cut() {
    let (mut client, mut server) = pair(configs(), usize::MAX, &Config::default());
    let id = open(&mut client, &mut server);
    client.connection.send(id, b"last words");
    client.connection.close();
    client.connection.send(id, b"too late");
    assert_eq!(
        carry(&mut client, &mut server),
        [Event::Data(id, b"last words".to_vec())]
    );
    assert!(server.connection.is_closed() && !client.connection.is_closed());
}

#[test]
fn altered_records_are_refused() {
    let (mut client, mut server) = pair(configs(), usize::MAX, &Config::default());
    let id = open(&mut client, &mut server);
    client.connection.send(id, b"hello");
    let mut bytes = client.take_output();
    bytes[10] ^= 1;
    assert_eq!(server.receive(&bytes), Err(ProtocolError::Tls(TlsError::Decrypt)));
    // The peer hears of it: bad_record_mac.
    let alert = server.take_output();
    assert_eq!(client.receive(&alert), Err(ProtocolError::Tls(TlsError::Alert(20))));
}

#[test]
fn records_of_impossible_shape_are_refused() {
    let cases: [(&[u8], TlsError); 4] = [
        (&[0x16, 3, 3, 0, 1, 0], TlsError::RecordType(0x16)),
        (&[0x17, 3, 3, 0xff, 0xff], TlsError::RecordLength(0xffff)),
        (&[0x17, 3, 3, 0, 3, 0, 0, 0], TlsError::RecordLength(3)),
        (b"GET / HTTP/1.1\r\n", TlsError::RecordType(b'G')),
    ];
    for (bytes, error) in cases {
        let (_, mut server) = pair(configs(), usize::MAX, &Config::default());
        assert_eq!(server.receive(bytes), Err(ProtocolError::Tls(error)));
    }
}

#[test]
fn protocol_errors_reach_the_peer() {
    let config = Config {
        stream_window: 70_000,
        ..Config::default()
    };
    let (client_config, server_config) = configs();
    let client = Handshake::client(Arc::new(client_config), server_name()).unwrap();
    let server = Handshake::server(Arc::new(server_config)).unwrap();
    let (mut client, mut server) = shake(client, server, usize::MAX, &config);
    let id = open(&mut client, &mut server);
    client.connection.go_away();
    for event in carry(&mut client, &mut server) {
        assert!(matches!(event, Event::GoAway(_, ErrorCode::NoError)));
    }
    assert!(server.connection.is_going_away());
    client.connection.reset(id, ErrorCode::Cancel);
    assert_eq!(carry(&mut client, &mut server), [Event::Reset(id, ErrorCode::Cancel)]);
    assert!(client.connection.is_drained());
}

/// rustls itself as the peer of our client: session tickets, its key updates and ours, its close.
#[test]
fn rustls_as_a_server() {
    let (client_config, server_config) = configs();
    let mut handshake = Handshake::client(Arc::new(client_config), server_name()).unwrap();
    let mut peer = ServerConnection::new(Arc::new(server_config)).unwrap();
    let (mut inbox, mut outbox) = (Vec::new(), Vec::new());
    while handshake.advance(&mut inbox, &mut outbox).unwrap() == Progress::Waiting {
        give(&mut peer, &mut outbox);
        while peer.wants_write() {
            peer.write_tls(&mut inbox).unwrap();
        }
    }
    let mut keys = handshake.finish().unwrap().keys;
    keys.limit_records(3);
    let mut client = End {
        connection: Connection::new(Role::Client, keys, &Config::default()),
        inbox,
    };
    give(&mut peer, &mut outbox);
    assert!(!peer.is_handshaking());
    // SETTINGS of the server, by hand; PING acknowledgements show that both directions go on.
    peer.writer().write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).unwrap();
    for round in 0..10u8 {
        peer.refresh_traffic_keys().unwrap();
        peer.writer()
            .write_all(&[0, 0, 8, 6, 0, 0, 0, 0, 0, round, 0, 0, 0, 0, 0, 0, 0])
            .unwrap();
        let mut bytes = Vec::new();
        while peer.wants_write() {
            peer.write_tls(&mut bytes).unwrap();
        }
        assert_eq!(client.receive(&bytes).unwrap(), []);
        give(&mut peer, &mut client.take_output());
        let mut plaintext = vec![0; 1000];
        let n = peer.reader().read(&mut plaintext).unwrap();
        assert!(
            plaintext[..n].ends_with(&[6, 1, 0, 0, 0, 0, round, 0, 0, 0, 0, 0, 0, 0]),
            "round {round}"
        );
    }
    peer.send_close_notify();
    let mut bytes = Vec::new();
    peer.write_tls(&mut bytes).unwrap();
    client.receive(&bytes).unwrap();
    assert!(client.connection.is_closed());
}

/// Has rustls take all of `bytes`.
fn give(peer: &mut ServerConnection, bytes: &mut Vec<u8>) {
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        peer.read_tls(&mut rest).unwrap();
        peer.process_new_packets().unwrap();
    }
    bytes.clear();
}

/// What the client and the server think of a handshake, and what the client thinks of what the server says last.
fn verdicts(configs: (ClientConfig, ServerConfig)) -> (Result<(), HandshakeError>, Result<(), HandshakeError>) {
    let mut client = Handshake::client(Arc::new(configs.0), server_name()).unwrap();
    let mut server = Handshake::server(Arc::new(configs.1)).unwrap();
    let (mut to_client, mut to_server) = (Vec::new(), Vec::new());
    let (mut a, mut b) = (Ok(Progress::Waiting), Ok(Progress::Waiting));
    for _ in 0..5 {
        if matches!(a, Ok(Progress::Waiting)) {
            a = client.advance(&mut to_client, &mut to_server);
        }
        if matches!(b, Ok(Progress::Waiting)) {
            b = server.advance(&mut to_server, &mut to_client);
        }
    }
    let end = |progress: Result<Progress, HandshakeError>, handshake: Handshake| match progress? {
        Progress::Done => handshake.finish().map(drop),
        Progress::Waiting => panic!("stuck"),
    };
    (end(a, client), end(b, server))
}

#[test]
fn handshakes_that_must_fail() {
    let other = configs().1;
    let (client, server) = verdicts((configs().0, other));
    // Neither trusts the other; the client says so first, and the server hears it.
    assert!(
        matches!(client, Err(HandshakeError::Tls(rustls::Error::InvalidCertificate(_)))),
        "{client:?}"
    );
    assert!(
        matches!(server, Err(HandshakeError::Tls(rustls::Error::AlertReceived(_)))),
        "{server:?}"
    );

    let (client, mut server) = configs();
    server.alpn_protocols = vec![];
    let (client, server) = verdicts((client, server));
    assert!(matches!(
        (client, server),
        (Err(HandshakeError::Alpn), Err(HandshakeError::Alpn))
    ));

    let (mut client, server) = configs();
    client.client_auth_cert_resolver = Arc::new(NoCertificate);
    let (_, server) = verdicts((client, server));
    assert!(
        matches!(server, Err(HandshakeError::Tls(rustls::Error::NoCertificatesPresented))),
        "{server:?}"
    );
}

#[derive(Debug)]
struct NoCertificate;

impl rustls::client::ResolvesClientCert for NoCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<rustls::sign::CertifiedKey>> {
        None
    }
    fn has_certs(&self) -> bool {
        false
    }
}

#[test]
fn garbage_ends_a_handshake() {
    let garbage: [&[u8]; 4] = [
        b"GET / HTTP/1.1\r\n\r\n",
        &[0; 100],
        &[0x16, 3, 1, 0, 5, 1, 2, 3, 4, 5],
        &[0x17, 3, 3, 0, 2, 1, 1],
    ];
    for bytes in garbage {
        let mut server = Handshake::server(Arc::new(configs().1)).unwrap();
        let mut outgoing = Vec::new();
        let result = server.advance(&mut bytes.to_vec(), &mut outgoing);
        assert!(matches!(result, Err(HandshakeError::Tls(_))), "{bytes:x?}: {result:?}");
        // An alert at most: rustls has none for what is no TLS at all.
        assert!(matches!(outgoing.first(), None | Some(21)));
        assert!(
            server.advance(&mut bytes.to_vec(), &mut outgoing).is_err(),
            "there is no way back"
        );
    }
    // Records without end: bounded.
    let mut server = Handshake::server(Arc::new(configs().1)).unwrap();
    let (mut incoming, mut outgoing) = (Vec::new(), Vec::new());
    let refused = (0..1000).any(|_| {
        incoming.extend_from_slice(&[0x16, 3, 1, 0x3f, 0xff]);
        incoming.extend_from_slice(&[1; 0x3fff]);
        server.advance(&mut incoming, &mut outgoing).is_err()
    });
    // Of one who has proved nothing: three records.
    assert!(refused && incoming.len() < 50_000, "{}", incoming.len());
}
