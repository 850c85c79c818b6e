//! Pods and agents come and go; maps fill up.

use crate::support::{
    node::{self, Node, detach},
    pod::{PEER4, POD4, POD6, World, dial, reach, restart},
    sock::{self, PATIENCE, accept, listen_with, local, peer, stream},
    space::Space,
};
use culvert_agent::kernel::{Found, Kernel, KernelError, Kind, MapSizes, PodCapture};
use socket2::Socket;
use std::{
    collections::HashSet,
    fs, io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, AsRawFd},
    time::Instant,
};

#[test]
fn a_full_map_denies_and_counts() {
    let mut world = World::new(|node| node.config.sizes.flows = 2);
    // One connection fits into the backlog; the SYNs of others are dropped, so their handshakes stay open.
    world.listeners.as_mut().expect("open").outbound4 = stream(false, None);
    let outbound = world.pod.run(|| listen_with(SocketAddr::new(POD4, 15001), None, 0));
    world.listeners.as_mut().expect("open").outbound4 = outbound;
    world.enrol(true, true);
    let begin = || {
        world.pod.run(|| {
            let socket = stream(false, None);
            socket.set_nonblocking(true).expect("non-blocking");
            match socket.connect(&SocketAddr::new(PEER4, 80).into()) {
                Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok(socket),
                Err(error) => Err(error),
                Ok(()) => Ok(socket),
            }
        })
    };
    let mut open = vec![begin().expect("into the backlog")];
    sock::finish(&open[0]).expect("established");
    open.extend([begin().expect("first"), begin().expect("second")]);
    assert_eq!(world.open_flows(), 2);
    assert_eq!(begin().expect_err("full").raw_os_error(), Some(libc::ENOBUFS));
    assert_eq!(world.count("connect", "denied_full"), 1);
    // Giving up makes room.
    open.pop();
    assert_eq!(world.open_flows(), 1);
    open.push(begin().expect("room again"));
    drop(open);
    assert_eq!(world.open_flows(), 0);
}

#[test]
fn a_full_map_of_pods_is_an_error_that_names_it() {
    let mut world = World::new(|node| {
        node.config.sizes = MapSizes {
            pods: 1,
            addresses: 2,
            flows: 2,
            flows_per_pod: 2,
            exclusions: 1,
        }
    });
    world.enrol(true, true);
    let second = Space::new();
    let addresses: [IpAddr; 1] = ["198.18.7.9".parse().expect("an address")];
    let error = world.kernel.enrol(&capture(&second, &addresses));
    assert!(
        matches!(
            error,
            Err(KernelError::Full {
                map: "ADDRESSES",
                size: 2
            })
        ),
        "{error:?}"
    );
    assert_eq!(
        world.kernel.enrolled().expect("enrolled"),
        [world.pod.cookie()],
        "as if nothing had been asked"
    );
}

#[test]
fn an_address_belongs_to_one_pod() {
    let mut world = World::enrolled();
    let second = Space::new();
    let error = world.kernel.enrol(&capture(&second, &[POD6])).expect_err("in use");
    assert!(
        matches!(&error, KernelError::AddressInUse { address: POD6, owner, .. } if *owner == world.pod.cookie()),
        "{error}"
    );
    assert!(error.to_string().contains("shop/pod"), "{error}");
    world.kernel.withdraw(world.pod.cookie()).expect("withdraw");
    world.kernel.enrol(&capture(&second, &[POD6])).expect("free now");

    let third = Space::new();
    drop(second);
    let begun = Instant::now();
    while world.kernel.enrol(&capture(&third, &[POD6])).is_err() {
        assert!(
            begun.elapsed() < PATIENCE,
            "a pod whose namespace is gone keeps its address"
        );
        std::thread::yield_now();
    }
}

#[test]
fn leaving_takes_two_steps() {
    let mut world = World::enrolled();
    let server = world.serve(&world.peer, SocketAddr::new(PEER4, 80));
    let captured = dial(&world.pod).expect("connect");
    let cookie = world.pod.cookie();

    world.kernel.withdraw_outbound(cookie).expect("withdraw outbound");
    let direct = dial(&world.pod).expect("connect");
    assert_eq!(accept(&server).1, local(&direct));
    let (proxy, destination) = world.take(false);
    assert_eq!(
        (destination, peer(&proxy)),
        (peer(&captured), local(&captured)),
        "captured before, and still"
    );
    assert_eq!(reach(&world).expect("connect").1, "proxy");

    world.kernel.withdraw(cookie).expect("withdraw");
    assert_eq!(reach(&world).expect("connect").1, "application");
    assert_eq!(peer(&captured), SocketAddr::new(PEER4, 80));
    assert!(world.kernel.enrolled().expect("enrolled").is_empty());
    world.kernel.withdraw(cookie).expect("twice is no error");
}

#[test]
fn a_pod_has_its_share_of_the_flows_and_others_have_theirs() {
    let mut world = World::new(|node| node.config.sizes.flows_per_pod = 2);
    world.enrol(true, true);
    let second = Space::new();
    let addresses: [IpAddr; 1] = ["198.18.7.9".parse().expect("an address")];
    world.kernel.enrol(&capture(&second, &addresses)).expect("enrol");
    let begin = |world: &World| {
        world.pod.run(|| {
            let socket = stream(false, None);
            socket.set_nonblocking(true).expect("non-blocking");
            never_answered(&socket);
            match socket.connect(&SocketAddr::new(PEER4, 80).into()) {
                Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok(socket),
                outcome => outcome.map(|()| socket),
            }
        })
    };
    let open = [begin(&world).expect("first"), begin(&world).expect("second")];
    begin(&world).expect_err("over the share");
    let cookie = world.pod.cookie();
    let usage = world.kernel.usage(cookie).expect("usage");
    assert_eq!((usage.opening, usage.denied), (2, 1));
    assert_eq!(world.count("connect", "denied_share"), 1);
    // The other pod is none the worse: nobody listens for it, so that its connection is refused by the kernel, not denied.
    let other = second.run(move || {
        let socket = stream(false, None);
        socket.connect(&SocketAddr::new(PEER4, 80).into()).map(|()| socket)
    });
    let refused = other.expect_err("nobody listens").raw_os_error();
    assert_ne!(refused, Some(libc::EPERM));
    assert_eq!(world.count("connect", "denied_share"), 1);

    // What is still being opened counts on when the pod leaves and comes back.
    world.kernel.withdraw(cookie).expect("withdraw");
    world.enrol(true, true);
    begin(&world).expect_err("still over the share");
    drop(open);
    assert_eq!(world.kernel.usage(cookie).expect("usage").opening, 0);
    begin(&world).expect("room again");
}

/// Lets no answer to this socket's SYN through: `IP_MINTTL`, as no answer from the same machine has.
fn never_answered(socket: &Socket) {
    let (value, length) = (255, size_of::<libc::c_int>() as u32);
    // SAFETY: the option is an int.
    let result = unsafe {
        let value = std::ptr::from_ref::<libc::c_int>(&value).cast();
        libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_IP, libc::IP_MINTTL, value, length)
    };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
}

/// As a clean-up script, or somebody with `bpftool`.
#[test]
fn what_is_unpinned_stays_in_force_and_what_is_detached_is_brought_back() {
    let mut world = World::enrolled();
    let nothing = world.kernel.audit();
    assert!(
        nothing.repaired.is_empty() && nothing.failed.is_empty() && nothing.pods.is_empty(),
        "{nothing:?}"
    );
    let version = world.node.version();
    fs::remove_dir_all(&version).expect("remove the pins");
    let captured = dial(&world.pod).expect("connect");
    assert_eq!(world.take(false).1, peer(&captured), "captured without pins");
    assert_eq!(reach(&world).expect("connect").1, "proxy");
    let found = world.kernel.audit();
    assert!(found.failed.is_empty() && found.pods.is_empty(), "{found:?}");
    let links = [
        "culvert_connect4",
        "culvert_sock_ops",
        &format!("pod-{}", world.pod.cookie()),
    ]
    .map(|name| format!("links/{name}"));
    for path in links.iter().map(String::as_str).chain(["maps/PODS", "maps/FLOWS"]) {
        assert!(version.join(path).exists(), "{path} is pinned again");
        let named = |found: &Found| found.kind == Kind::Pin && found.what.ends_with(path);
        assert!(found.repaired.iter().any(named), "{path}: {found:?}");
    }

    for name in ["culvert_connect4", &format!("pod-{}", world.pod.cookie())] {
        detach(&version.join("links").join(name));
    }
    let found = world.kernel.audit();
    assert!(found.repaired.iter().any(|found| found.kind == Kind::Link), "{found:?}");
    assert_eq!(found.pods, [(world.pod.cookie(), Kind::Link)]);
    world.enrol(true, true);
    let captured = dial(&world.pod).expect("connect");
    assert_eq!(world.take(false).1, peer(&captured));
    assert_eq!(reach(&world).expect("connect").1, "proxy");
    assert!(world.kernel.audit().repaired.is_empty());

    // What an agent finds that starts afterwards is whole.
    restart(&mut world);
    let captured = dial(&world.pod).expect("connect");
    assert_eq!(world.take(false).1, peer(&captured));
}

#[test]
fn pods_that_are_gone_are_collected() {
    let mut world = World::enrolled();
    let doomed = Space::new();
    let address: IpAddr = "198.18.7.9".parse().expect("an address");
    let pod = capture(&doomed, std::slice::from_ref(&address));
    let cookie = pod.cookie;
    world.kernel.enrol(&pod).expect("enrol");
    let keep = HashSet::from([world.pod.cookie(), cookie]);
    assert!(world.kernel.collect(&keep).expect("collect").is_empty());
    drop(doomed);
    // The kernel takes namespaces apart in its own time.
    let begun = Instant::now();
    while world.kernel.collect(&keep).expect("collect") != [cookie] {
        assert!(begun.elapsed() < PATIENCE, "the namespace stays");
        std::thread::yield_now();
    }
    assert_eq!(world.kernel.enrolled().expect("enrolled"), [world.pod.cookie()]);
    assert_eq!(
        world.kernel.collect(&HashSet::new()).expect("collect"),
        [world.pod.cookie()],
        "not kept"
    );
}

/// A denied connection, in words, where the agent's log goes.
#[test]
fn denials_reach_the_log() {
    let (lines, log) = std::sync::mpsc::channel();
    let writer = move || Lines(lines.clone());
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(writer).finish();
    tracing::subscriber::set_global_default(subscriber).expect("the first");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .expect("a runtime");
    let handle = runtime.handle().clone();
    std::thread::spawn(move || runtime.block_on(std::future::pending::<()>()));

    let mut world = World::new(|_| {});
    let guard = handle.enter();
    world.kernel.spawn_log().expect("log");
    world.kernel.spawn_log().expect("twice is no error");
    drop(guard);
    world.kernel.enrol(&capture(&world.pod, &[POD6])).expect("enrol");
    let denied = dial(&world.pod).expect_err("no IPv4 there");
    assert_eq!(denied.raw_os_error(), Some(libc::ENETUNREACH));
    let wanted = "connect of pod shop/other to 198.18.7.2 port 80 denied";
    while !log
        .recv_timeout(PATIENCE)
        .expect("the denial is logged")
        .contains(wanted)
    {}
}

struct Lines(std::sync::mpsc::Sender<String>);

impl io::Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let _ = self.0.send(String::from_utf8_lossy(line).into_owned());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What else runs in its cgroup would be exempt, too: on some nodes all containers.
#[test]
fn a_proxy_in_no_pods_cgroup_is_refused_where_proxies_are_in_pods() {
    let mut world = World::new(|node| {
        node.config.proxy_cgroup = None;
        node.config.proxies_in_pods = true;
    });
    world.node.enter("proxy/worker");
    let refused = world.kernel.admit_proxy(std::process::id());
    world.node.enter(node::PODS);
    assert!(matches!(refused, Err(KernelError::NoPodOfProxy { .. })), "{refused:?}");
    let pod = format!("{}/pod0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0", node::PODS);
    let container = format!("{pod}/container");
    fs::create_dir_all(world.node.folder(&container)).expect("make cgroups");
    world.node.enter(&container);
    let admitted = world.kernel.admit_proxy(std::process::id());
    world.node.enter(node::PODS);
    for folder in [&container, &pod] {
        fs::remove_dir(world.node.folder(folder)).expect("nobody is in it");
    }
    admitted.expect("in a pod");
}

#[test]
fn bad_configuration_is_named() {
    let mut node = Node::new();
    let error = |node: &Node| Kernel::open(&node.config).err().expect("refused").to_string();
    let good = node.config.clone();
    node.config.proxy_cgroup = node.config.cgroup.clone();
    assert!(error(&node).contains("the proxy's cgroup"), "{}", error(&node));
    node.config.proxy_cgroup = Some("/tmp".into());
    assert!(error(&node).contains("cgroup2"), "{}", error(&node));
    node.config = good.clone();
    node.config.bpffs = std::env::temp_dir().join(format!("cvk-not-bpf-{}", std::process::id()));
    assert!(error(&node).contains("not on a bpf file system"), "{}", error(&node));
    fs::remove_dir(&node.config.bpffs).expect("nothing was left in it");
    node.config = good;
    node.config.sizes.pods = 0;
    assert!(error(&node).contains("at least one"), "{}", error(&node));
}

/// Both ways, without listeners.
fn capture<'a>(space: &'a Space, addresses: &'a [IpAddr]) -> PodCapture<'a> {
    let (cookie, netns) = (space.cookie(), space.as_fd());
    PodCapture {
        name: "shop/other",
        cookie,
        netns,
        addresses,
        listeners: None,
        outbound: true,
        inbound: true,
        hold: &culvert_objects::Hold::None,
        fallback: false,
        dns: false,
        guard: false,
    }
}
