//! Two loops over loopback, with real TLS and real sockets. What needs Culvert's kernel programs is in the end-to-end
//! tests.

mod node;

use std::{
    io::{self, ErrorKind, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use culvert_proto::security as policy;
use node::{
    Authority, CLIENT, Node, OTHER, PATIENCE, SERVER, Scene, World, addresses, application, capture, is_free, local,
    wait_until,
};

use crate::seam::{Ask, ListenerRole, LoopMessage};

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

#[test]
fn every_byte_arrives_both_ways_with_half_close() {
    let scene = Scene::new();
    for (round, (up, down)) in [
        (0, 0),
        (1, 0),
        (0, 1),
        (100, 16_384),
        (16_375, 16_376),
        (1_000_000, 10),
        (3, 5_000_000),
        (9_000_000, 7_000_000),
    ]
    .into_iter()
    .enumerate()
    {
        both_ways(scene.front, &scene.app, up, down, round as u64 * 2 + 11);
    }
}

#[test]
fn many_connections_share_tunnels_and_grow_new_ones() {
    let scene = Scene::new();
    // More than one tunnel's hundred streams, all open at the same time.
    let (streams, served): (Vec<TcpStream>, Vec<TcpStream>) = thread::scope(|scope| {
        let served = scope.spawn(|| (0..250).map(|_| accept(&scene.app)).collect());
        ((0..250).map(|_| dial(scene.front)).collect(), served.join().unwrap())
    });
    thread::scope(|scope| {
        for mut stream in served {
            scope.spawn(move || {
                let mut question = [0; 8];
                stream.read_exact(&mut question).unwrap();
                stream.write_all(&question).unwrap();
            });
        }
        for (number, mut stream) in streams.into_iter().enumerate() {
            stream.write_all(&(number as u64).to_be_bytes()).unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).unwrap();
            assert_eq!(answer, (number as u64).to_be_bytes());
        }
    });
}

#[test]
fn an_application_that_does_not_read_stops_the_sender() {
    let scene = Scene::new();
    let stream = dial(scene.front);
    let mut app = accept(&scene.app);
    stream.set_nonblocking(true).unwrap();
    let mut sent = 0usize;
    let chunk = pattern(1 << 20, 5);
    let mut quiet_since = Instant::now();
    // Until nothing more was taken for a while. Windows are 4 MiB, each socket buffer some MiB.
    while quiet_since.elapsed() < Duration::from_millis(500) {
        match (&stream).write(&chunk[sent % chunk.len()..]) {
            Ok(count) => {
                sent += count;
                quiet_since = Instant::now();
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::park_timeout(Duration::from_millis(2)),
            Err(error) => panic!("{error}"),
        }
        assert!(sent < 256 << 20, "the sender is never stopped");
    }
    // Another stream of the same tunnel is not held up by it.
    both_ways(scene.front, &scene.app, 100_000, 100_000, 77);
    // And nothing was lost.
    stream.shutdown(Shutdown::Write).unwrap();
    let mut got = Vec::new();
    app.read_to_end(&mut got).unwrap();
    assert_eq!(got.len(), sent);
    assert!(got.chunks(chunk.len()).all(|piece| piece == &chunk[..piece.len()]));
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

#[test]
fn a_refusing_application_gives_a_reset() {
    let Scene {
        client,
        server,
        app,
        front,
        ..
    } = Scene::new();
    drop(app);
    assert_refused(front);
    drop((client, server));
}

#[test]
fn resets_pass_through_both_ways() {
    let scene = Scene::new();
    let stream = dial(scene.front);
    let app = accept(&scene.app);
    socket2::SockRef::from(&stream)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(stream);
    assert_reset(&app);

    let stream = dial(scene.front);
    let app = accept(&scene.app);
    socket2::SockRef::from(&app).set_linger(Some(Duration::ZERO)).unwrap();
    drop(app);
    assert_reset(&stream);
}

#[test]
fn a_peer_with_another_identity_is_not_spoken_to() {
    let scene = Scene::without_certificates();
    scene.client.certify(&scene.authority.credentials(CLIENT));
    // The mesh says that the cart is here, but who answers proves to be somebody else.
    let (_, elsewhere) = addresses();
    let mut world = World::new(scene.client_address, elsewhere);
    let impostor = Node::new(&mut world);
    impostor.certify(&scene.authority.credentials(OTHER));
    impostor.add_pod("cart", OTHER, elsewhere, ListenerRole::InboundHbone, 15008);
    world.publish(&[&scene.client]);
    let (app, address) = application(elsewhere);
    capture(scene.front, address);
    let began = Instant::now();
    assert_refused(scene.front);
    assert!(began.elapsed() < Duration::from_secs(5), "a wrong identity is final");
    app.set_nonblocking(true).unwrap();
    assert_eq!(app.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn a_client_of_another_authority_is_refused() {
    let scene = Scene::without_certificates();
    scene.server.certify(&scene.authority.credentials(SERVER));
    scene.client.certify(&Authority::new().credentials(CLIENT));
    assert_refused(scene.front);
    scene.app.set_nonblocking(true).unwrap();
    assert_eq!(scene.app.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn connections_wait_for_certificates() {
    let scene = Scene::without_certificates();
    let stream = dial(scene.front);
    let asked = |node: &Node, identity: &str| {
        let ask = Ask::Certificate(culvert_identity::SpiffeId::parse(identity).unwrap());
        wait_until("the certificate was asked for", || {
            std::iter::from_fn(|| node.asks.lock().unwrap().try_recv().ok()).any(|asked| asked == ask)
        });
    };
    asked(&scene.client, CLIENT);
    asked(&scene.server, SERVER);
    scene.client.certify(&scene.authority.credentials(CLIENT));
    scene.server.certify(&scene.authority.credentials(SERVER));
    let mut app = accept(&scene.app);
    (&stream).write_all(b"late").unwrap();
    let mut got = [0; 4];
    app.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"late");
}

#[test]
fn a_destination_outside_the_mesh_is_reached_directly() {
    let scene = Scene::new();
    let (_, outside) = addresses();
    let (app, address) = application(outside);
    capture(scene.front, address);
    both_ways(scene.front, &app, 3_000_000, 2_000_000, 3);
}

#[test]
fn plaintext_from_outside_reaches_the_application() {
    let scene = Scene::new();
    let plain = scene
        .server
        .add_pod("cart", SERVER, scene.server_address, ListenerRole::InboundPlaintext, 0);
    capture(plain, scene.app_address);
    both_ways(plain, &scene.app, 2_000_000, 3_000_000, 9);
}

#[test]
fn a_connection_that_was_not_captured_is_refused() {
    let scene = Scene::new();
    capture(scene.front, SocketAddr::new(scene.client_address, scene.front.port()));
    assert_refused(scene.front);
}

fn deny_client() -> policy::Authorization {
    policy::Authorization {
        name: "no-front".to_owned(),
        namespace: "shop".to_owned(),
        scope: policy::Scope::Namespace.into(),
        action: policy::Action::Deny.into(),
        rules: vec![policy::Rule {
            clauses: vec![policy::Clause {
                matches: vec![policy::Match {
                    principals: vec![policy::StringMatch {
                        match_type: Some(policy::string_match::MatchType::Exact(
                            CLIENT.trim_start_matches("spiffe://").to_owned(),
                        )),
                    }],
                    ..policy::Match::default()
                }],
            }],
        }],
        ..policy::Authorization::default()
    }
}

#[test]
fn a_new_policy_ends_connections_that_are_open() {
    let mut scene = Scene::new();
    let stream = dial(scene.front);
    let _app = accept(&scene.app);
    scene.world.put_policy(&deny_client());
    scene.world.publish(&[&scene.server]);
    assert_reset(&stream);
    // And new ones do not come through: 401 is final.
    assert_refused(scene.front);
}

#[test]
fn drain_lets_open_connections_end() {
    let scene = Scene::new();
    let mut stream = dial(scene.front);
    let mut app = accept(&scene.app);
    stream.write_all(b"before").unwrap();
    let mut got = [0; 6];
    app.read_exact(&mut got).unwrap();
    scene.server.send(|| LoopMessage::Drain);
    scene.client.send(|| LoopMessage::Drain);
    wait_until("nobody listens", || is_free(scene.front));
    stream.write_all(b"during").unwrap();
    app.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"during");
    assert!(!scene.client.loops[0].is_finished());
    app.write_all(b"answer").unwrap();
    drop(app);
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"answer");
    drop(stream);
    scene.client.wait_until_drained();
    scene.server.wait_until_drained();
}

/// Sends a few bytes through an open connection.
fn works(mut from: &TcpStream, mut to: &TcpStream) {
    from.write_all(b"still").unwrap();
    let mut got = [0; 5];
    to.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"still");
}

#[test]
fn a_removed_pod_keeps_its_open_connections() {
    let scene = Scene::new();
    let stream = dial(scene.front);
    let app = accept(&scene.app);
    works(&stream, &app);
    scene.server.remove_pod("cart");
    scene.client.remove_pod("front");
    wait_until("nobody listens", || is_free(scene.front));
    works(&stream, &app);
    works(&app, &stream);
    drop(app);
    let mut rest = Vec::new();
    (&stream).read_to_end(&mut rest).unwrap();
    assert!(rest.is_empty());
}

#[test]
fn an_address_that_changed_hands_gets_a_tunnel_of_its_own() {
    let mut scene = Scene::new();
    let stream = dial(scene.front);
    let app = accept(&scene.app);
    works(&stream, &app);
    // Another workload with another identity has the address now; what is open to the old one goes on.
    scene.world.remove("cart");
    scene.world.put("other", scene.server_address, "other", true);
    scene.world.publish(&[&scene.client]);
    // Over the old tunnel this would succeed. Who answers there is still the cart: refused.
    assert_refused(scene.front);
    works(&stream, &app);
}

#[test]
fn an_authority_that_is_not_this_pod_is_refused() {
    let scene = Scene::without_certificates();
    scene.client.certify(&scene.authority.credentials(CLIENT));
    scene.server.certify(&scene.authority.credentials(SERVER));
    // The pod has another address than the mesh believes.
    let (_, elsewhere) = addresses();
    scene
        .server
        .move_pod("cart", SERVER, elsewhere, local(scene.server_address));
    let began = Instant::now();
    assert_refused(scene.front);
    assert!(began.elapsed() < Duration::from_secs(5), "400 is final");
    scene.app.set_nonblocking(true).unwrap();
    assert_eq!(scene.app.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn drain_waits_for_connections_that_are_still_connecting() {
    let scene = Scene::without_certificates();
    let streams: Vec<TcpStream> = (0..150).map(|_| dial(scene.front)).collect();
    // All were accepted once their tunnels ask for certificates.
    wait_until("the certificate was asked for", || {
        scene.client.asks.lock().unwrap().try_recv().is_ok()
    });
    scene.client.send(|| LoopMessage::Drain);
    wait_until("nobody listens", || is_free(scene.front));
    scene.server.certify(&scene.authority.credentials(SERVER));
    scene.client.certify(&scene.authority.credentials(CLIENT));
    let mut served = 0;
    thread::scope(|scope| {
        scope.spawn(|| {
            // What was in the listener's backlog was reset with it; here nobody else holds the listening socket.
            for mut stream in &streams {
                let _ = stream.write_all(b"x");
            }
            for mut stream in &streams {
                let _: io::Result<usize> = stream.read_to_end(&mut Vec::new());
            }
        });
        socket2::SockRef::from(&scene.app)
            .set_read_timeout(Some(Duration::from_secs(1)))
            .unwrap();
        while let Ok((mut stream, _)) = scene.app.accept() {
            stream.read_exact(&mut [0]).unwrap();
            served += 1;
        }
    });
    assert!(served > 0, "none was served");
    assert!(!scene.client.loops[0].is_finished());
    drop(streams);
    scene.client.wait_until_drained();
}

#[test]
fn a_peer_that_comes_late_is_waited_for() {
    let (client_address, server_address) = addresses();
    let mut world = World::new(client_address, server_address);
    let authority = Authority::new();
    let client = Node::new(&mut world);
    client.certify(&authority.credentials(CLIENT));
    let front = client.add_pod("front", CLIENT, client_address, ListenerRole::Outbound, 0);
    let (app, address) = application(server_address);
    capture(front, address);
    // Nobody serves the tunnel port yet: refused.
    let stream = dial(front);
    let server = Node::new(&mut world);
    server.certify(&authority.credentials(SERVER));
    server.add_pod("cart", SERVER, server_address, ListenerRole::InboundHbone, 15008);
    let mut app = accept(&app);
    (&stream).write_all(b"x").unwrap();
    app.read_exact(&mut [0]).unwrap();
}

#[test]
fn garbage_harms_nobody() {
    let scene = Scene::new();
    let tunnel_port = SocketAddr::new(local(scene.server_address), 15008);
    for seed in 0..20 {
        let mut stream = dial(tunnel_port);
        let mut garbage = pattern(1 + (seed as usize * 997) % 40_000, seed);
        if seed % 2 == 0 {
            // Looks like a handshake record at first.
            garbage.splice(..0, [0x16, 3, 1, 0x3f, 0xff]);
        }
        let _ = stream.write_all(&garbage);
        if seed % 3 == 0 {
            let _ = stream.shutdown(Shutdown::Write);
            let _: io::Result<usize> = stream.read_to_end(&mut Vec::new());
        }
    }
    both_ways(scene.front, &scene.app, 10_000, 10_000, 1);
}

#[test]
fn rapid_connections_all_succeed() {
    let scene = Scene::new();
    let served = Arc::new(AtomicUsize::new(0));
    thread::scope(|scope| {
        let counter = Arc::clone(&served);
        let app = &scene.app;
        scope.spawn(move || {
            for _ in 0..1000 {
                let mut stream = accept(app);
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                stream.write_all(&byte).unwrap();
                counter.fetch_add(1, Ordering::Relaxed);
            }
        });
        for thread in 0..4u8 {
            let front = scene.front;
            scope.spawn(move || {
                for _ in 0..250 {
                    let mut stream = dial(front);
                    stream.write_all(&[thread]).unwrap();
                    let mut answer = Vec::new();
                    stream.read_to_end(&mut answer).unwrap();
                    assert_eq!(answer, [thread]);
                }
            });
        }
    });
    assert_eq!(served.load(Ordering::Relaxed), 1000);
}
