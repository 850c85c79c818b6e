//! Bytes arrive.

use super::*;

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
