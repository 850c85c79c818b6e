//! The agent is restarted or replaced while connections are made: capture goes on.

use crate::support::{
    node,
    pod::{Listeners, PEER4, POD4, World, dial, reach, restart},
    sock::{PATIENCE, accept, local, peer, stream},
};
use std::{
    collections::HashSet,
    fs,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

#[test]
fn capture_outlives_the_agent_and_is_adopted() {
    let mut world = World::enrolled();
    let early = dial(&world.pod).expect("connect");
    restart(&mut world);
    assert_eq!(world.take(false).1, peer(&early), "asked for after the restart");
    let cookie = world.pod.cookie();
    assert_eq!(world.kernel.enrolled().expect("enrolled"), [cookie]);
    assert!(world.kernel.listening(cookie).expect("listening"));
    let late = dial(&world.pod).expect("connect");
    assert_eq!(world.take(false).1, peer(&late));
    assert_eq!(world.count("connect", "captured"), 2, "counted on");
    assert_eq!(reach(&world).expect("connect").1, "proxy");

    world.listeners = None;
    assert!(
        !world.kernel.listening(cookie).expect("listening"),
        "closed listeners are noticed"
    );
}

#[test]
fn no_connection_fails_while_programs_are_replaced() {
    let mut world = World::enrolled();
    let stop = Arc::new(AtomicBool::new(false));
    let listener = world
        .listeners
        .as_ref()
        .expect("open")
        .outbound4
        .try_clone()
        .expect("clone");
    let proxy = std::thread::spawn(move || while accept(&listener).1.ip() == POD4 {});
    let stopped = Arc::clone(&stop);
    let (done, is_done) = std::sync::mpsc::channel();
    let thread = std::thread::scope(|scope| {
        let pod = &world.pod;
        scope.spawn(move || {
            let dialled = pod.run(move || {
                let mut dialled = 0_u64;
                while !stopped.load(Ordering::Relaxed) {
                    let socket = stream(false, None);
                    // Leave no port behind in TIME_WAIT: there are not enough of them for a fast machine.
                    socket.set_linger(Some(std::time::Duration::ZERO)).expect("linger");
                    socket.connect(&SocketAddr::new(PEER4, 80).into()).expect("connect");
                    assert_eq!(peer(&socket), SocketAddr::new(PEER4, 80));
                    dialled += 1;
                }
                dialled
            });
            done.send(dialled).expect("the test waits");
        });
        for _ in 0..5 {
            world.node.enter("agent");
            world.kernel = world.node.open();
        }
        stop.store(true, Ordering::Relaxed);
        is_done.recv().expect("no connect failed")
    });
    assert!(thread > 0);
    assert_eq!(world.count("connect", "captured"), thread);
    // The proxy's thread ends with the process.
    drop(proxy);
}

#[test]
fn another_layout_takes_over_without_a_gap() {
    let mut world = World::enrolled();
    let before = dial(&world.pod).expect("connect");
    world.node.config.sizes.flows = 128;
    restart(&mut world);
    assert!(
        world.kernel.enrolled().expect("enrolled").is_empty(),
        "the new maps are empty"
    );
    let meanwhile = dial(&world.pod).expect("still captured by the old programs");
    world.node.enter("agent");
    world.enrol(true, true);
    world.node.enter(node::PODS);
    world
        .kernel
        .collect(&HashSet::from([world.pod.cookie()]))
        .expect("collect");
    assert!(world.kernel.is_captured_by_others(world.pod.cookie()).expect("others"));
    world.kernel.remove_other_versions().expect("remove");
    assert_eq!(world.kernel.other_versions().expect("others"), 0);
    let after = dial(&world.pod).expect("captured by the new programs");
    for socket in [&before, &meanwhile, &after] {
        let (proxy, destination) = world.take(false);
        assert_eq!((destination, peer(&proxy)), (SocketAddr::new(PEER4, 80), local(socket)));
        assert_eq!(peer(socket), destination);
    }
    let folders = fs::read_dir(&world.node.config.bpffs).expect("read").count();
    assert_eq!(
        folders, 13,
        "one version, the notes of sockets that all share, what guards know, what goes past the proxy, and whether a proxy serves"
    );
}

/// An agent of another layout, in place of the one before; the pod is enrolled anew with the listeners that there are.
fn upgrade(world: &mut World, flows: u32) {
    world.node.config.sizes.flows = flows;
    restart(world);
    world.enrol(true, true);
    world.kernel.remove_other_versions().expect("remove");
}

/// Listeners are handed from agent to agent, and stay in the cgroup of the one that made them.
#[test]
fn sockets_of_an_agent_whose_cgroup_is_gone_are_answered_after_two_upgrades() {
    let mut world = World::new(|_| {});
    let first = world.node.folder("first");
    fs::create_dir(&first).expect("make a cgroup");
    world.node.enter("first");
    world.kernel = world.node.open();
    world.listeners = None;
    world.listeners = Some(Listeners::open(&world.pod));
    world.enrol(true, true);
    world.node.enter(node::PODS);
    fs::remove_dir(&first).expect("nobody is in it any more");
    for flows in [128, 256] {
        upgrade(&mut world, flows);
        let socket = dial(&world.pod).expect("connect");
        let (proxy, destination) = world.take(false);
        assert_eq!((destination, peer(&proxy)), (peer(&socket), local(&socket)));
        assert_eq!(destination, SocketAddr::new(PEER4, 80));
    }
    assert!(world.kernel.audit().failed.is_empty());
    // Nor do they keep it for ever.
    world.listeners = None;
    let pin = |world: &World| {
        let folders = fs::read_dir(&world.node.config.bpffs).expect("read");
        let mut links = folders.flatten().map(|folder| folder.path().join("links"));
        let links = links.find(|links| links.exists()).expect("one version");
        let files = fs::read_dir(links).expect("read").flatten();
        files
            .filter(|file| file.file_name().to_string_lossy().starts_with("getsockopt-"))
            .count()
    };
    let begun = Instant::now();
    while pin(&world) > 2 {
        assert!(begun.elapsed() < PATIENCE, "the pin of the cgroup that is gone stays");
        let cookie = world.pod.cookie();
        world.kernel.collect(&HashSet::from([cookie])).expect("collect");
    }
}

#[test]
fn a_proxy_that_has_not_connected_to_the_next_version_yet_is_not_captured_by_it() {
    let mut world = World::new(|node| node.config.proxy_cgroup = None);
    world.node.enter("proxy/worker");
    world.kernel.admit_proxy(std::process::id()).expect("admit");
    world.node.enter(node::PODS);
    world.enrol(true, true);
    upgrade(&mut world, 128);
    let server = world.serve(&world.peer, SocketAddr::new(PEER4, 80));
    let proxys = world.node.as_proxy(|| dial(&world.pod)).expect("connect");
    assert_eq!(accept(&server).1, local(&proxys));
    assert_eq!(world.count("connect", "proxy"), 1);
}

#[test]
fn a_pod_that_leaves_is_let_go_by_programs_of_another_version_too() {
    let mut world = World::enrolled();
    world.node.config.sizes.flows = 128;
    restart(&mut world);
    let cookie = world.pod.cookie();
    world.enrol(true, true);
    world.kernel.withdraw(cookie).expect("withdraw");
    assert!(!world.kernel.is_captured_by_others(cookie).expect("others"));
    let server = world.serve(&world.peer, SocketAddr::new(PEER4, 80));
    let direct = dial(&world.pod).expect("connect");
    assert_eq!(accept(&server).1, local(&direct));
    assert_eq!(reach(&world).expect("connect").1, "application");
}
