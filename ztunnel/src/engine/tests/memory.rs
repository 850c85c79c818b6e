//! What applications that do not read make a node hold.

use super::*;

use culvert_tunnel::budget::HeldBytes;

/// A pod's share is less than the window of one stream.
const LIMIT: u64 = 8 << 20;

#[test]
fn connections_that_nobody_reads_are_bounded_and_others_go_on() {
    let scene = Scene::with(|config| config.held = Arc::new(HeldBytes::new(LIMIT)));
    scene.client.certify(&scene.authority.credentials(CLIENT));
    scene.server.certify(&scene.authority.credentials(SERVER));
    let chunk = vec![7u8; 1 << 20];
    // Another pod of the same node, with a connection of its own.
    let (_, elsewhere) = addresses();
    let mut world = World::new(scene.client_address, scene.server_address);
    world.put("other", elsewhere, "other", true);
    world.publish(&[&scene.client, &scene.server]);
    scene.server.certify(&scene.authority.credentials(OTHER));
    scene
        .server
        .add_pod("other", OTHER, elsewhere, ListenerRole::InboundHbone, 15008);
    let (quiet_app, quiet_address) = application(elsewhere);
    capture(scene.front, quiet_address);
    let witness = dial(scene.front);
    let mut witness_app = accept(&quiet_app);
    // The greedy one is never accepted from.
    capture(scene.front, scene.app_address);
    let mut greedy: Vec<TcpStream> = Vec::new();
    let held = || scene.server.shared.telemetry.proxy().shed_connections.get();
    let refused = || {
        let refused = &scene.server.shared.telemetry.proxy().refused_streams;
        refused.get_or_create(&[("reason", "memory")]).get()
    };
    wait_until("connections are reset or refused for want of memory", || {
        if greedy.len() < 60 {
            let stream = dial(scene.front);
            stream.set_nonblocking(true).unwrap();
            greedy.push(stream);
        }
        for mut stream in &greedy {
            while stream.write(&chunk).is_ok_and(|count| count > 0) {}
        }
        held() > 0 || refused() > 0
    });
    // Its share is five sixteenths.
    let limit = LIMIT / 16 * 5 + (2 << 20); // and what one read brings
    for _ in 0..20 {
        assert!(
            scene.server.held.held() <= limit,
            "{} of {limit}",
            scene.server.held.held()
        );
        for mut stream in &greedy {
            while stream.write(&chunk).is_ok_and(|count| count > 0) {}
        }
        // The other pod is served as before: the open connection, and new ones.
        (&witness).write_all(b"still").unwrap();
        let mut got = [0; 5];
        witness_app.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"still");
    }
    capture(scene.front, quiet_address);
    both_ways(scene.front, &quiet_app, 3_000_000, 3_000_000, 9);
    // What was held is given back with the connections that caused it. They end when neither side is there any more: what a
    // client sent before it closed is still owed to its application.
    drop(greedy);
    drop(scene.app);
    wait_until("nothing is held", || scene.server.held.held() == 0);
}
