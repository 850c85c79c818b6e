//! Pods, certificates and loops come and go.

use super::*;

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
        // How many come is not known.
        let limit = |patience: Duration| {
            let app = socket2::SockRef::from(&scene.app);
            app.set_read_timeout(Some(patience)).unwrap();
        };
        limit(PATIENCE);
        while let Ok((mut stream, _)) = scene.app.accept() {
            stream.read_exact(&mut [0]).unwrap();
            served += 1;
            limit(Duration::from_secs(1));
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
