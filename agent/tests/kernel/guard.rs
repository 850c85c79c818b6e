//! The guard on a pod's link: what is dropped there, whatever became of the other programs.

use crate::support::{
    frame::{ACK, DESTINATION, Frame, HOP_BY_HOP, SYN, TCP, UDP, extension, fragment, segment},
    node::{self, Node, detach},
    pod::{PEER4, POD4, POD6, World, restart},
    sock::{accept, listen, local, stream},
    space::Space,
};
use culvert_agent::kernel::{GuardHook, Kernel, Kind, NewlyDropped, PodCapture, Strictness};
use socket2::Socket;
use std::{
    collections::{BTreeSet, HashSet},
    io,
    net::{IpAddr, SocketAddr},
    os::fd::AsFd,
    time::Duration,
};

const STRICT: Strictness = Strictness {
    strict: true,
    exceptions: BTreeSet::new(),
};
const PERMISSIVE: Strictness = Strictness {
    strict: false,
    exceptions: BTreeSet::new(),
};

/// Shorter than it takes a SYN to come again, so that each attempt is one packet.
const AT_ONCE: Duration = Duration::from_millis(700);

/// A pod, guarded and captured. Its peer is the node that the other end of its link is on.
fn guarded(hook: GuardHook) -> World {
    guarded_with(|node| node.config.guard_hook = hook)
}

fn guarded_with(change: impl FnOnce(&mut Node)) -> World {
    let mut world = World::new(change);
    world.see_node();
    world.guarded = true;
    world.enrol(true, true);
    world
}

/// The ways to attach a guard that the kernel has. That it has no tcx is said by whoever knows which kernel it is
/// (`cargo xtask test --kernel`); nothing else leaves it out.
fn hooks() -> Vec<GuardHook> {
    match has_tcx() {
        true => vec![GuardHook::Tcx, GuardHook::Clsact],
        false => vec![GuardHook::Clsact],
    }
}

fn has_tcx() -> bool {
    std::env::var_os("CULVERT_TEST_WITHOUT_TCX").is_none()
}

fn dial(from: &Space, to: SocketAddr) -> io::Result<Socket> {
    from.run(move || {
        let socket = stream(to.is_ipv6(), None);
        socket.connect_timeout(&to.into(), AT_ONCE).map(|()| socket)
    })
}

fn reaches(world: &World, to: SocketAddr) -> bool {
    may_reach(&world.peer, to)
}

fn may_reach(from: &Space, to: SocketAddr) -> bool {
    match dial(from, to) {
        Ok(_) => true,
        Err(error) => {
            assert_eq!(error.kind(), io::ErrorKind::TimedOut, "dropped, not refused: {error}");
            false
        }
    }
}

fn tell(world: &mut World, strictness: &Strictness) {
    let cookie = world.pod.cookie();
    world.kernel.set_strictness(cookie, strictness).expect("tell the guard");
}

fn but(strict: bool, ports: &[u16]) -> Strictness {
    Strictness {
        strict,
        exceptions: ports.iter().copied().collect(),
    }
}

fn dropped(world: &World) -> u64 {
    world.kernel.guard_status(world.pod.cookie()).expect("status").dropped
}

/// That these are the packets of so many attempts: on a busy machine an attempt lasts until the kernel has repeated its SYN.
#[track_caller]
fn assert_syns(packets: u64, attempts: u64) {
    assert!((attempts..=3 * attempts).contains(&packets), "{packets} for {attempts}");
}

#[test]
fn only_the_tunnel_reaches_a_strict_pod_until_the_proxy_says_otherwise() {
    for hook in hooks() {
        let mut world = guarded(hook);
        let status = world.kernel.guard_status(world.pod.cookie()).expect("status");
        assert_eq!(
            (status.interfaces, status.strictness, status.problem),
            (1, Some(STRICT), None)
        );
        for address in [POD4, POD6] {
            assert!(!reaches(&world, SocketAddr::new(address, 80)), "{hook:?}");
            assert!(reaches(&world, SocketAddr::new(address, 15008)), "{hook:?}");
        }
        let counted = dropped(&world);
        assert_syns(counted, 2);
        assert_eq!(world.count("guard", "denied_strict"), counted);
        tell(&mut world, &PERMISSIVE);
        for address in [POD4, POD6] {
            assert!(reaches(&world, SocketAddr::new(address, 80)), "{hook:?}");
        }
        tell(&mut world, &but(true, &[80]));
        let of_port = |world: &World, port| reaches(world, SocketAddr::new(POD4, port));
        assert!(of_port(&world, 80) && !of_port(&world, 81), "{hook:?}");
        tell(&mut world, &but(false, &[80]));
        assert!(!of_port(&world, 80) && of_port(&world, 81), "{hook:?}");
        tell(&mut world, &STRICT);
        assert!(!of_port(&world, 80) && !of_port(&world, 81), "{hook:?}");
        let told = world
            .kernel
            .guard_status(world.pod.cookie())
            .expect("status")
            .strictness;
        assert_eq!(told, Some(STRICT));
    }
}

#[test]
fn what_a_guard_dropped_is_told_once_with_its_source() {
    let mut world = guarded(GuardHook::Auto);
    assert_eq!(world.kernel.newly_dropped().expect("ask"), []);
    assert!(!reaches(&world, SocketAddr::new(POD4, 80)));
    assert!(!reaches(&world, SocketAddr::new(POD4, 81)));
    let told = world.kernel.newly_dropped().expect("ask");
    let [NewlyDropped { pod, count, last }] = &told[..] else {
        panic!("{told:?}")
    };
    let (source, port) = last.expect("it could be read");
    assert_eq!((&**pod, source.ip(), port), ("pod shop/pod", PEER4, 81));
    assert_syns(*count, 2);
    assert_eq!(world.kernel.newly_dropped().expect("ask"), []);
    // The next agent does not tell it again, and tells what nobody was there to tell.
    restart(&mut world);
    assert!(!reaches(&world, SocketAddr::new(POD4, 80)));
    world.enrol(true, true);
    let told = world.kernel.newly_dropped().expect("ask");
    assert_syns(told.iter().map(|told| told.count).sum(), 1);
    assert_syns(dropped(&world), 3);
}

#[test]
fn the_guard_holds_when_nothing_else_does_and_is_gone_when_the_pod_has_left() {
    for hook in hooks() {
        let mut world = guarded(hook);
        let application = world.serve(&world.pod, "[::]:80".parse().expect("an address"));
        let cookie = world.pod.cookie();
        // The steering is gone, and so are the proxy's sockets.
        detach(&world.node.version().join("links").join(format!("pod-{cookie}")));
        world.listeners = None;
        assert!(!world.kernel.is_attached_to(cookie).expect("look"), "detached");
        for address in [POD4, POD6] {
            assert!(!reaches(&world, SocketAddr::new(address, 80)), "{hook:?}");
        }
        world.kernel.withdraw(cookie).expect("withdraw");
        assert!(reaches(&world, SocketAddr::new(POD4, 80)), "{hook:?}");
        drop(accept(&application));
    }
}

#[test]
fn the_guard_is_there_before_the_pod_is_captured() {
    let mut world = World::new(|_| {});
    world.see_node();
    world.guarded = true;
    let application = world.serve(&world.pod, "[::]:80".parse().expect("an address"));
    world.enrol(false, false);
    assert!(!world.kernel.is_captured(world.pod.cookie()).expect("look"));
    assert!(!reaches(&world, SocketAddr::new(POD4, 80)));
    application.set_nonblocking(true).expect("non-blocking");
    assert!(application.accept().is_err());
}

#[test]
fn every_address_of_the_link_is_guarded_also_one_that_the_mesh_does_not_know() {
    let world = guarded(GuardHook::Auto);
    let second: IpAddr = "198.18.7.77".parse().expect("an address");
    world.pod.add_address(second);
    let _application = world.serve(&world.pod, "[::]:80".parse().expect("an address"));
    assert!(!reaches(&world, SocketAddr::new(second, 80)));
    assert_syns(dropped(&world), 1);
}

#[test]
fn what_the_node_itself_opens_passes_and_so_do_excluded_ports() {
    let mut world = guarded_with(|node| node.config.exclusions.ports = vec![9090]);
    let application = world.serve(&world.pod, "[::]:80".parse().expect("an address"));
    let excluded = world.serve(&world.pod, "[::]:9090".parse().expect("an address"));
    let cookie = world.peer.cookie();
    world.kernel.exempt_node(cookie).expect("exempt the node");
    for address in [POD4, POD6] {
        let (open, closed) = (SocketAddr::new(address, 80), SocketAddr::new(address, 81));
        assert!(!reaches(&world, open), "a pod on the node's network is a stranger");
        world.node.enter("agent");
        let kubelet = dial(&world.peer, open).expect("connect to the application");
        assert_eq!(accept(&application).1, local(&kubelet));
        let refused = dial(&world.peer, closed).expect_err("nobody listens there");
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        world.node.enter(node::PODS);
        let stranger = dial(&world.peer, SocketAddr::new(address, 9090)).expect("an excluded port");
        assert_eq!(accept(&excluded).1, local(&stranger));
    }
    assert_eq!(world.count("guard", "node"), 4);
    assert_eq!(world.count("guard", "excluded"), 2);
    assert_syns(dropped(&world), 2);
}

#[test]
fn what_is_known_of_a_pod_outlives_agents_and_layouts() {
    for hook in hooks() {
        let mut world = guarded(hook);
        tell(&mut world, &but(true, &[80]));
        let holds = |world: &World| {
            let of_port = |port| reaches(world, SocketAddr::new(POD4, port));
            of_port(80) && !of_port(81)
        };
        restart(&mut world);
        assert!(holds(&world), "{hook:?}: before the pod is enrolled anew");
        world.enrol(true, true);
        assert!(holds(&world), "{hook:?}");
        world.node.config.sizes.flows = 128;
        restart(&mut world);
        assert!(holds(&world), "{hook:?}: by the programs of another layout");
        world.enrol(true, true);
        assert!(holds(&world), "{hook:?}: by both");
        world.kernel.remove_other_versions().expect("remove");
        assert!(holds(&world), "{hook:?}: by these alone");
        world.kernel.collect(&HashSet::new()).expect("collect");
        assert_eq!(
            world
                .kernel
                .guard_status(world.pod.cookie())
                .expect("status")
                .interfaces,
            0
        );
        let _application = world.serve(&world.pod, "[::]:81".parse().expect("an address"));
        assert!(
            reaches(&world, SocketAddr::new(POD4, 81)),
            "{hook:?}: not wanted any more"
        );
    }
}

#[test]
fn a_guard_goes_from_one_hook_to_the_other() {
    let mut world = guarded(GuardHook::Clsact);
    for hook in hooks() {
        world.node.config.guard_hook = hook;
        restart(&mut world);
        world.enrol(true, true);
        let before = dropped(&world);
        assert!(!reaches(&world, SocketAddr::new(POD4, 80)));
        assert_syns(dropped(&world) - before, 1);
        let is_link = fs_has_guard(&world);
        assert_eq!(is_link, hook == GuardHook::Tcx);
    }
    let cookie = world.pod.cookie();
    world.kernel.withdraw(cookie).expect("withdraw");
    let _application = world.serve(&world.pod, "[::]:80".parse().expect("an address"));
    assert!(reaches(&world, SocketAddr::new(POD4, 80)), "neither is left");
}

fn fs_has_guard(world: &World) -> bool {
    let links = std::fs::read_dir(world.node.version().join("links")).expect("read");
    links
        .flatten()
        .any(|entry| entry.file_name().to_string_lossy().starts_with("guard-"))
}

#[test]
fn a_guard_that_was_taken_off_is_found_missing_and_put_back() {
    for hook in hooks() {
        let mut world = guarded(hook);
        assert!(world.kernel.audit().pods.is_empty());
        match hook {
            GuardHook::Clsact => drop(world.peer.tc("qdisc del dev eth0 clsact")),
            _ => {
                let links = std::fs::read_dir(world.node.version().join("links")).expect("read");
                let mut guards = links.flatten().map(|entry| entry.path());
                let guard = guards.find(|path| path.to_string_lossy().contains("/guard-"));
                detach(&guard.expect("a guard"));
            }
        }
        assert!(reaches(&world, SocketAddr::new(POD4, 80)), "{hook:?}");
        assert_eq!(
            world.kernel.audit().pods,
            [(world.pod.cookie(), Kind::Link)],
            "{hook:?}"
        );
        world.enrol(true, true);
        assert!(!reaches(&world, SocketAddr::new(POD4, 80)), "{hook:?}");
        assert!(world.kernel.audit().pods.is_empty());
    }
}

#[test]
fn a_hook_that_the_kernel_lacks_is_refused_by_name_with_the_kernel_and_replaced_where_it_may_be() {
    let status = |hook| {
        let world = guarded(hook);
        world.kernel.guard_status(world.pod.cookie()).expect("status")
    };
    let asked_for = status(GuardHook::Tcx);
    match asked_for.problem {
        None => assert!(has_tcx() && asked_for.interfaces == 1, "{asked_for:?}"),
        Some(problem) => {
            let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("read");
            assert!(!has_tcx() && asked_for.interfaces == 0, "{problem}");
            for word in ["no tcx", "since 6.6", kernel.trim()] {
                assert!(problem.contains(word), "{word}: {problem}");
            }
        }
    }
    let automatic = status(GuardHook::Auto);
    assert_eq!((automatic.interfaces, automatic.problem), (1, None));
}

/// As with macvlan, or where somebody has moved the other end to elsewhere.
#[test]
fn a_pod_whose_link_has_no_end_on_the_node_is_guarded_inside() {
    let mut node = Node::new();
    let (host, pod, client) = (Space::new(), Space::new(), Space::new());
    node.config.node_network = host.path();
    let [own, peer]: [IpAddr; 2] = ["198.18.8.1", "198.18.8.2"].map(|text| text.parse().expect("an address"));
    pod.join(&[own], &client, &[peer]);
    // Of the same indices as both ends, and another pair.
    host.ip("link add other index 11 type veth peer name again index 10");
    let server = pod.run(|| listen("198.18.8.1:80".parse().expect("an address"), None));
    let enrol = |kernel: &mut Kernel| {
        let capture = PodCapture {
            name: "shop/pod",
            cookie: pod.cookie(),
            netns: pod.as_fd(),
            addresses: &[own],
            listeners: None,
            outbound: false,
            inbound: false,
            hold: &culvert_objects::Hold::None,
            fallback: false,
            dns: false,
            guard: true,
        };
        kernel.enrol(&capture).expect("enrol");
        kernel.guard_status(pod.cookie()).expect("status")
    };
    let mut kernel = node.open();
    let status = enrol(&mut kernel);
    if !has_tcx() {
        let problem = status.problem.expect("no way");
        assert!(
            status.interfaces == 0 && problem.contains("takes tcx (Linux 6.6"),
            "{problem}"
        );
        return;
    }
    assert_eq!((status.interfaces, status.problem), (1, None));
    let to = SocketAddr::new(own, 80);
    assert!(!may_reach(&client, to));
    kernel = node.open();
    assert!(!may_reach(&client, to), "adopted");
    assert_eq!(enrol(&mut kernel).dropped, 2);
    kernel.set_strictness(pod.cookie(), &PERMISSIVE).expect("tell");
    assert!(may_reach(&client, to));
    drop(accept(&server));
    drop(kernel);

    node.config.guard_hook = GuardHook::Clsact;
    let mut kernel = node.open();
    let status = enrol(&mut kernel);
    let problem = status.problem.expect("no way");
    assert!(problem.contains("not on the node"), "{problem}");
}

/// What no ordinary program sends, and whether it is taken for what opens a connection.
#[test]
fn a_syn_is_found_behind_what_may_stand_before_it_and_what_hides_one_is_dropped() {
    let mut world = guarded(GuardHook::Auto);
    let (pass, strict, hidden) = ((0, 0), (1, 0), (0, 1));
    let syn = segment(SYN);
    let chain = |count| vec![extension(DESTINATION, 1); count];
    let cases = [
        ("a SYN", Frame::v4(TCP, 0, 0, true, &syn), strict),
        ("a SYN behind options", Frame::v4(TCP, 10, 0, true, &syn), strict),
        ("a SYN with ACK", Frame::v4(TCP, 0, 0, true, &segment(SYN | ACK)), pass),
        ("an ACK", Frame::v4(TCP, 0, 0, true, &segment(ACK)), pass),
        ("a datagram", Frame::v4(UDP, 0, 0, true, &syn), pass),
        (
            "a first fragment with the flags",
            Frame::v4(TCP, 0, 0, false, &syn[..16]),
            strict,
        ),
        (
            "a first fragment without",
            Frame::v4(TCP, 0, 0, false, &syn[..8]),
            hidden,
        ),
        (
            "flags behind a first fragment's end",
            Frame::v4(TCP, 0, 0, false, &syn[..8]).padded(&segment(ACK)[8..]),
            hidden,
        ),
        ("a later fragment", Frame::v4(TCP, 0, 1, true, &syn), pass),
        ("a SYN by IPv6", Frame::v6(&[], TCP, &syn), strict),
        ("an ACK by IPv6", Frame::v6(&[], TCP, &segment(ACK)), pass),
        ("a datagram by IPv6", Frame::v6(&chain(1), UDP, &syn), pass),
        (
            "a SYN behind headers",
            Frame::v6(&[extension(HOP_BY_HOP, 1), extension(DESTINATION, 4)], TCP, &syn),
            strict,
        ),
        (
            "a SYN behind as many as may be",
            Frame::v6(&chain(8), TCP, &syn),
            strict,
        ),
        ("a chain that is too long", Frame::v6(&chain(9), TCP, &syn), hidden),
        (
            "a chain that breaks off",
            Frame::v6(&chain(1), DESTINATION, &[TCP]),
            hidden,
        ),
        (
            "a first fragment by IPv6",
            Frame::v6(&[fragment(0, false)], TCP, &syn[..16]),
            strict,
        ),
        (
            "one without the flags",
            Frame::v6(&[fragment(0, false)], TCP, &syn[..8]),
            hidden,
        ),
        (
            "flags behind its end",
            Frame::v6(&[fragment(0, false)], TCP, &syn[..8]).padded(&segment(ACK)[8..]),
            hidden,
        ),
        (
            "a later fragment by IPv6",
            Frame::v6(&[fragment(2, true)], TCP, &syn),
            pass,
        ),
        ("a VLAN", Frame::v4(TCP, 0, 0, true, &segment(ACK)).tagged(7), hidden),
        ("neither", Frame::of(0x88cc, vec![0; 40]), pass),
    ];
    let counts = |world: &World| ["denied_strict", "denied_hidden"].map(|outcome| world.count("guard", outcome));
    for (what, frame, expected) in &cases {
        let before = counts(&world);
        frame.send(&world.peer);
        let now = counts(&world);
        assert_eq!((now[0] - before[0], now[1] - before[1]), *expected, "{what}: {frame:?}");
    }
    tell(&mut world, &PERMISSIVE);
    let before = counts(&world);
    for (_, frame, _) in &cases {
        frame.send(&world.peer);
    }
    assert_eq!(counts(&world), before, "nothing is dropped where no port is strict");
}
