//! Whatever ends a tunnel that carries connections, and whenever: every byte arrives.
#![allow(clippy::disallowed_methods, reason = "readers are slow here; nothing is waited for")]

use proptest::prelude::*;

use super::*;

/// What may happen while connections are open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// The proxy of the application's node drains: GOAWAY to the client.
    DrainServer,
    /// The proxy of the client's node drains: GOAWAY to the server.
    DrainClient,
    /// The application's pod leaves the mesh.
    RemoveServer,
    /// The client's pod leaves the mesh.
    RemoveClient,
    /// The mesh has the application's pod no more: its tunnels are retired.
    Forget,
}

/// One connection through the tunnel.
#[derive(Clone, Debug)]
struct Transfer {
    up: usize,
    down: usize,
    /// Bytes of `up` after which the application begins to answer; the whole means: after the client's half-close.
    answer_after: usize,
    /// Pauses of the two readers after each piece, microseconds: networks and applications are slow.
    client_pause: u64,
    server_pause: u64,
}

fn transfer() -> impl Strategy<Value = Transfer> {
    let size = prop_oneof![Just(0usize), 1..50_000usize, 1_000_000..7_000_000usize];
    (size.clone(), size, 0..=1usize, 0..400u64, 0..400u64).prop_map(|(up, down, late, client_pause, server_pause)| {
        Transfer {
            up,
            down,
            answer_after: up * late,
            client_pause,
            server_pause,
        }
    })
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        Just(Event::DrainServer),
        Just(Event::DrainClient),
        Just(Event::RemoveServer),
        Just(Event::RemoveClient),
        Just(Event::Forget),
    ]
}

/// Reads to the end, counting in `progress`.
fn read_all(mut stream: &TcpStream, pause: u64, progress: &AtomicUsize, mut at: impl FnMut(usize)) -> Vec<u8> {
    let mut got = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    at(0);
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return got,
            Ok(count) => got.extend_from_slice(&buffer[..count]),
            Err(error) => panic!("after {} bytes: {error}", got.len()),
        }
        progress.fetch_add(1, Ordering::Relaxed);
        at(got.len());
        thread::sleep(Duration::from_micros(pause)); // a slow reader; nothing is waited for
    }
}

fn run(transfers: &[Transfer], events: &[(Event, usize)]) {
    let scene = Mutex::new(Scene::with_small_buffers());
    let (front, pieces) = (scene.lock().unwrap().front, AtomicUsize::new(0));
    // One after the other, so that it is known which is which.
    let pairs: Vec<(TcpStream, TcpStream)> = transfers
        .iter()
        .map(|_| (dial(front), accept(&scene.lock().unwrap().app)))
        .collect();
    let done = AtomicUsize::new(0);
    thread::scope(|scope| {
        for (number, (transfer, (client, server))) in transfers.iter().zip(&pairs).enumerate() {
            let (request, answer) = (
                pattern(transfer.up, 2 * number as u64 + 11),
                pattern(transfer.down, 2 * number as u64 + 12),
            );
            let (pieces, done) = (&pieces, &done);
            scope.spawn(move || {
                thread::scope(|scope| {
                    let (sent, expected) = (&request, &answer);
                    scope.spawn(move || {
                        (&mut &*client).write_all(sent).unwrap();
                        client.shutdown(Shutdown::Write).unwrap();
                    });
                    scope.spawn(move || {
                        thread::scope(|scope| {
                            let mut answering = None;
                            let got = read_all(server, transfer.server_pause, pieces, |length| {
                                if length >= transfer.answer_after && answering.is_none() {
                                    answering = Some(scope.spawn(|| {
                                        (&mut &*server).write_all(expected).unwrap();
                                        server.shutdown(Shutdown::Write).unwrap();
                                    }));
                                }
                            });
                            assert_same(&got, sent);
                        });
                    });
                    assert_same(&read_all(client, transfer.client_pause, pieces, |_| {}), expected);
                });
                done.fetch_add(1, Ordering::Relaxed);
            });
        }
        scope.spawn(|| {
            for (event, after) in events {
                wait_until("the transfers go on", || {
                    pieces.load(Ordering::Relaxed) >= *after || done.load(Ordering::Relaxed) == transfers.len()
                });
                let mut scene = scene.lock().unwrap();
                match event {
                    Event::DrainServer => scene.server.send(|| LoopMessage::Drain),
                    Event::DrainClient => scene.client.send(|| LoopMessage::Drain),
                    Event::RemoveServer => scene.server.remove_pod("cart"),
                    Event::RemoveClient => scene.client.remove_pod("front"),
                    Event::Forget => {
                        let Scene { world, client, .. } = &mut *scene;
                        world.remove("cart");
                        world.publish(&[client]);
                    }
                }
            }
        });
    });
    // And what drains, ends.
    drop(pairs);
    let scene = scene.into_inner().unwrap();
    let has = |wanted: Event| events.iter().any(|(event, _)| *event == wanted);
    if has(Event::DrainServer) {
        scene.server.wait_until_drained();
    }
    if has(Event::DrainClient) {
        scene.client.wait_until_drained();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 20, ..ProptestConfig::default() })]
    #[test]
    fn every_byte_arrives_whatever_ends_the_tunnel_and_when(
        transfers in prop::collection::vec(transfer(), 1..4),
        mut events in prop::collection::vec((event(), 0..150usize), 1..4),
    ) {
        events.sort_by_key(|(_, after)| *after);
        run(&transfers, &events);
    }
}

#[test]
fn a_slow_reader_that_has_half_closed_gets_everything_from_a_node_that_drains() {
    let transfer = Transfer {
        up: 4,
        down: 16 << 20,
        answer_after: 4,
        client_pause: 500,
        server_pause: 0,
    };
    run(&[transfer], &[(Event::DrainServer, 1)]);
}

#[test]
fn a_server_whose_client_left_closes_the_tunnel_though_nobody_drains() {
    let scene = Scene::new();
    both_ways(scene.front, &scene.app, 10, 10, 3);
    // The client says GOAWAY and closes nothing by itself: its pod is gone, and so is what would answer.
    scene.client.remove_pod("front");
    scene.server.remove_pod("cart");
    scene.client.send(|| LoopMessage::Drain);
    scene.server.send(|| LoopMessage::Drain);
    scene.client.wait_until_drained();
    scene.server.wait_until_drained();
}
