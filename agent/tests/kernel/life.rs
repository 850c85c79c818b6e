//! Pods and agents come and go; maps fill up.

use crate::support::{
    node::{self, Node},
    pod::{PEER4, POD4, POD6, World},
    sock::{self, PATIENCE, accept, listen_with, local, peer, stream},
    space::Space,
};
use culvert_agent::kernel::{Kernel, KernelError, MapSizes, PodCapture};
use socket2::Socket;
use std::{
    collections::HashSet,
    fs, io,
    net::{IpAddr, SocketAddr},
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

/// From the pod to the world outside.
fn dial(pod: &Space) -> io::Result<Socket> {
    pod.run(|| {
        let socket = stream(false, None);
        socket.connect(&SocketAddr::new(PEER4, 80).into()).map(|()| socket)
    })
}

/// What another process would find.
fn restart(world: &mut World) {
    world.node.enter("agent");
    let old = std::mem::replace(&mut world.kernel, world.node.open());
    drop(old);
    world.node.enter(node::PODS);
}

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
    assert!(matches!(error, KernelError::AddressInUse { address: POD6, owner } if owner == world.pod.cookie()));
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

/// From outside into the pod; who answers there.
fn reach(world: &World) -> io::Result<(Socket, &'static str)> {
    let application = world.serve(&world.pod, SocketAddr::new(POD4, 80));
    let client = world.peer.run(|| {
        let socket = stream(false, None);
        socket.connect(&SocketAddr::new(POD4, 80).into()).map(|()| socket)
    })?;
    application.set_nonblocking(true)?;
    Ok((
        client,
        if application.accept().is_ok() {
            "application"
        } else {
            "proxy"
        },
    ))
}

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
    let after = dial(&world.pod).expect("captured by the new programs");
    for socket in [&before, &meanwhile, &after] {
        let (proxy, destination) = world.take(false);
        assert_eq!((destination, peer(&proxy)), (SocketAddr::new(PEER4, 80), local(socket)));
        assert_eq!(peer(socket), destination);
    }
    let folders = fs::read_dir(&world.node.config.bpffs).expect("read").count();
    assert_eq!(folders, 2, "one version, and the notes of sockets that all share");
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
    let cookie = world.pod.cookie();
    let wanted = format!("connect of the pod with cookie {cookie} to ::ffff:198.18.7.2 port 80 denied");
    while !log
        .recv_timeout(PATIENCE)
        .expect("the denial is logged")
        .contains(&wanted)
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
        cookie,
        netns,
        addresses,
        listeners: None,
        outbound: true,
        inbound: true,
    }
}
