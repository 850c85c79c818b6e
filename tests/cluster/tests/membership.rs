//! A namespace joins and leaves the mesh while its pods are at work: nobody notices, except on the wire.
#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use culvert_cluster_tests::{Load, PodSpec, Rules, Wire, World, now_ms};
use std::time::UNIX_EPOCH;

#[test]
fn a_namespace_joins_and_leaves_under_load_without_a_failed_connection() {
    let world = World::installed();
    let space = world.space("membership");
    let rules = Rules::of_nodes(&world);
    space.start(&[
        PodSpec::server("server1").on("node1"),
        PodSpec::server("server2").on("node2"),
        PodSpec::idle("later").on("node1"),
    ]);
    let loads = [
        Load::start(&space, "load1", "node1", space.address("server2")),
        Load::start(&space, "load2", "node2", space.address("server1")),
    ];
    let pods = ["server1", "server2", "load1", "load2", "later"];
    let addresses = pods.map(|pod| space.ip(pod));
    let wire = Wire::tap(&world, "node1");
    loads[0].wait_more(100);
    let before = wire.take();
    assert!(
        Wire::between_pods(&before, &addresses).clear_bytes() > 100_000,
        "the tap is blind"
    );
    assert_eq!(before.encrypted_bytes, 0);

    let labelled = now_ms();
    space.enrol();
    space.wait_captured(&pods);
    let captured = now_ms();
    for load in &loads {
        load.wait_more(200);
    }
    let joined = wire.take();
    let last = Wire::between_pods(&joined, &addresses).last_opened_in_clear();
    let last = last.map_or(0, |at| at.duration_since(UNIX_EPOCH).unwrap().as_millis() as u64);
    eprintln!(
        "labelled; the last new connection in clear was {} ms later, all pods were captured {} ms later",
        last.saturating_sub(labelled),
        captured - labelled
    );
    assert!(joined.encrypted_bytes > 100_000, "nothing is in the tunnel");

    // From now on, only the connections that were open before are in clear.
    for load in &loads {
        load.wait_more(200);
    }
    space.ask_well("later", &space.address("server2"));
    let inside = wire.take();
    let traffic = Wire::between_pods(&inside, &addresses);
    assert_eq!(traffic.opened_in_clear, [], "opened in clear inside the mesh");
    assert!(inside.encrypted_bytes > 100_000, "nothing is in the tunnel");
    assert_eq!(Rules::of_nodes(&world), rules, "rules of the nodes");
    for node in world.cluster().nodes() {
        for (netfilter, routing) in Rules::of_pods(node, "probe") {
            assert_eq!((netfilter, routing), (0, 3), "rules in a pod of {}", node.name());
        }
    }

    space.leave();
    space.wait_outside(&pods);
    for load in &loads {
        load.wait_more(200);
    }
    wire.take();
    space.ask_well("later", &space.address("server2"));
    let outside = Wire::between_pods(&wire.take(), &[space.ip("later")]);
    assert_eq!(outside.opened_in_clear.len(), 1, "in clear again: {outside:?}");
    for load in loads {
        load.stop().assert_unharmed("joining and leaving");
    }
    assert_eq!(Rules::of_nodes(&world), rules, "rules of the nodes");
}
