//! Tunnels do not outlive what opened them.

use super::*;

/// How long a certificate holds that runs out within a test: a tunnel can be opened with it, however busy the machine is.
const SHORT: Duration = Duration::from_secs(5);

/// Nodes that look often, and cut soon.
fn watchful(grace: Duration) -> Scene {
    Scene::with(|config| {
        config.sweep = Duration::from_millis(50);
        config.limits.stale_grace = grace;
    })
}

fn given_up(node: &Node, reason: &'static str) -> u64 {
    let metrics = &node.shared.telemetry.proxy().tunnels_given_up;
    metrics.get_or_create(&[("reason", reason)]).get()
}

/// The bytes of a few letters pass.
fn passes(mut from: &TcpStream, mut to: &TcpStream) {
    from.write_all(b"still").unwrap();
    let mut got = [0; 5];
    to.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"still");
}

#[test]
fn an_expired_certificate_ends_its_tunnel_for_new_connections_and_breaks_none() {
    let scene = watchful(Duration::from_millis(50));
    scene.server.certify(&scene.authority.credentials(SERVER));
    scene.client.certify(&scene.authority.short_credentials(CLIENT, SHORT));
    let stream = dial(scene.front);
    let app = accept(&scene.app);
    passes(&stream, &app);
    // A new certificate comes in time; the tunnel was opened with the old one.
    scene.client.certify(&scene.authority.credentials(CLIENT));
    wait_until("both ends have seen that it expired", || {
        given_up(&scene.client, "certificate") > 0 && given_up(&scene.server, "certificate") > 0
    });
    // What is open goes on, however short the grace is, and new connections have a new tunnel.
    passes(&stream, &app);
    both_ways(scene.front, &scene.app, 1000, 1000, 5);
    // Many looks, and several times the grace: nothing comes of it.
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(300) {
        passes(&app, &stream);
    }
}

#[test]
fn a_tunnel_of_an_identity_that_gets_no_certificate_any_more_is_cut_after_the_grace() {
    let scene = watchful(Duration::from_millis(300));
    scene.server.certify(&scene.authority.credentials(SERVER));
    scene.client.certify(&scene.authority.short_credentials(CLIENT, SHORT));
    let stream = dial(scene.front);
    let app = accept(&scene.app);
    passes(&stream, &app);
    // Nobody signs any more: the client keeps this tunnel as long as it can.
    assert_reset(&stream);
    assert_reset(&app);
}

#[test]
fn roots_that_no_longer_vouch_for_a_peer_end_its_tunnel() {
    let scene = watchful(Duration::from_millis(300));
    scene.server.certify(&scene.authority.credentials(SERVER));
    scene.client.certify(&scene.authority.credentials(CLIENT));
    let stream = dial(scene.front);
    let app = accept(&scene.app);
    passes(&stream, &app);
    let next = Authority::new();
    scene
        .server
        .certify(&scene.authority.credentials_that_trust(SERVER, &next));
    assert_reset(&stream);
    assert_reset(&app);
    assert_refused(scene.front);
}

#[test]
fn an_old_tunnel_makes_room_for_a_new_one_and_nobody_notices() {
    let scene = Scene::with(|config| {
        config.sweep = Duration::from_millis(20);
        config.limits.most_age = Duration::from_millis(100);
    });
    scene.client.certify(&scene.authority.credentials(CLIENT));
    scene.server.certify(&scene.authority.credentials(SERVER));
    let stream = dial(scene.front);
    let app = accept(&scene.app);
    let began = Instant::now();
    for seed in 0.. {
        both_ways(scene.front, &scene.app, 10_000, 10_000, seed);
        passes(&stream, &app);
        if began.elapsed() > Duration::from_secs(1) {
            break;
        }
    }
}
