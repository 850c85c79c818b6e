//! Who is refused, and how.

use super::*;

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

/// As where a pod's range of local ports is used up, and its proxy cannot take its connections' addresses elsewhere.
#[test]
fn connections_that_fail_for_want_of_a_local_port_are_counted_as_such() {
    let scene = Scene::with(|config| {
        config.calls.set_client_address = |_, _| Err(ErrorKind::Unsupported.into());
        config.calls.connect = |fd, to| match to.port() {
            15008 => crate::engine::socket::connect(fd, SocketAddr::new(local(to.ip()), to.port())),
            _ => Err(rustix::io::Errno::ADDRNOTAVAIL.into()),
        };
    });
    scene.client.certify(&scene.authority.credentials(CLIENT));
    scene.server.certify(&scene.authority.credentials(SERVER));
    let counted = || scene.server.shared.telemetry.proxy().local_ports_exhausted.get();
    assert_eq!(counted(), 0);
    assert_refused(scene.front);
    assert!(counted() > 0);
}

/// Nodes, without certificates, that give up what is final, and nothing because it takes too long.
fn never_late() -> Scene {
    Scene::with(|config| config.connect_timeout = Duration::from_secs(3600))
}

#[test]
fn a_peer_with_another_identity_is_not_spoken_to() {
    let scene = never_late();
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
    assert_refused(scene.front);
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
fn an_authority_that_is_not_this_pod_is_refused() {
    let scene = never_late();
    scene.client.certify(&scene.authority.credentials(CLIENT));
    scene.server.certify(&scene.authority.credentials(SERVER));
    // The pod has another address than the mesh believes.
    let (_, elsewhere) = addresses();
    scene
        .server
        .move_pod("cart", SERVER, elsewhere, local(scene.server_address));
    assert_refused(scene.front);
    scene.app.set_nonblocking(true).unwrap();
    assert_eq!(scene.app.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn a_peer_that_allows_no_stream_is_not_dialled_again_and_again() {
    static DIALS: AtomicUsize = AtomicUsize::new(0);
    let scene = Scene::with(|config| {
        config.hbone.max_streams = 0;
        config.connect_timeout = Duration::from_secs(1);
        config.calls.connect = |fd, to| {
            DIALS.fetch_add(1, Ordering::Relaxed);
            crate::engine::socket::connect(fd, SocketAddr::new(local(to.ip()), to.port()))
        };
    });
    scene.client.certify(&scene.authority.credentials(CLIENT));
    scene.server.certify(&scene.authority.credentials(SERVER));
    // The connect timeout ends it.
    assert_refused(scene.front);
    assert_eq!(DIALS.load(Ordering::Relaxed), 1);
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
