//! What reaches a pod, and what the application there sees of it.

use crate::support::{
    node,
    pod::{PEER4, PEER6, POD4, POD6, World},
    sock::{self, accept, listen, local, mapped, peer, set_client, stream},
};
use culvert_net::sockopt;
use socket2::{Protocol, Socket};
use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::AsFd as _,
};

const PODS: [IpAddr; 2] = [POD4, POD6];

/// From outside.
fn reach(world: &World, to: SocketAddr) -> io::Result<Socket> {
    world.peer.run(move || {
        let socket = stream(to.is_ipv6(), None);
        socket.connect(&to.into()).map(|()| socket)
    })
}

#[test]
fn steers_every_port_to_the_proxy() {
    let world = World::enrolled();
    let application = world.serve(&world.pod, "[::]:80".parse().expect("an address"));
    let listeners = world.listeners.as_ref().expect("open");
    for address in PODS {
        for (port, listener) in [
            (80, &listeners.plaintext),
            (81, &listeners.plaintext),
            (15008, &listeners.hbone),
        ] {
            let to = SocketAddr::new(address, port);
            let client = reach(&world, to).expect("connect");
            let (proxy, from) = accept(listener);
            assert_eq!(local(&proxy), to, "the original destination");
            assert_eq!(from, local(&client), "the true client");
            assert_eq!(peer(&client), to);
        }
    }
    application.set_nonblocking(true).expect("non-blocking");
    assert!(
        application.accept().is_err(),
        "nothing reached the application directly"
    );
    assert_eq!(world.count("sk_lookup", "plaintext"), 4);
    assert_eq!(world.count("sk_lookup", "hbone"), 2);
}

#[test]
fn leaves_what_the_node_itself_opens_alone_and_nobody_elses() {
    let mut world = World::enrolled();
    let application = world.serve(&world.pod, "[::]:80".parse().expect("an address"));
    let cookie = world.peer.cookie();
    world.kernel.exempt_node(cookie).expect("exempt the node");
    let plaintext = &world.listeners.as_ref().expect("open").plaintext;
    for address in PODS {
        let (open, closed) = (SocketAddr::new(address, 80), SocketAddr::new(address, 81));
        // A pod may share the node's network namespace, and is a stranger all the same.
        let stranger = reach(&world, open).expect("connect to the proxy");
        assert_eq!(accept(plaintext).1, local(&stranger));

        world.node.enter("agent");
        let kubelet = reach(&world, open).expect("connect to the application");
        assert_eq!(accept(&application).1, local(&kubelet));
        let refused = reach(&world, closed).expect_err("nobody listens there");
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        let reserved = reach(&world, SocketAddr::new(address, 15006)).expect_err("the proxy's own");
        assert_eq!(reserved.kind(), io::ErrorKind::ConnectionRefused);
        world.node.enter(node::PODS);
    }
    assert_eq!(world.count("sk_lookup", "node"), 4);
    assert_eq!(world.open_flows(), 0, "what the node opened is forgotten");
}

#[test]
fn an_application_gets_no_share_of_the_proxys_arrivals() {
    let mut world = World::new(|_| {});
    let beside = || {
        let socket = stream(true, None);
        socket.set_reuse_port(true).expect("reuse the port");
        let address: SocketAddr = "[::]:15006".parse().expect("an address");
        socket.bind(&address.into()).expect("bind");
        socket.listen(128).expect("listen");
        socket
    };
    // The agent's listeners can be bound beside those of an agent before it, and so by any process of the same user.
    if let Some(listeners) = &mut world.listeners {
        listeners.plaintext = stream(true, None); // closes the first
        listeners.plaintext = world.pod.run(beside);
    }
    let greedy = [world.pod.run(beside), world.pod.run(beside)];
    world.enrol(true, true);
    let clients: Vec<Socket> = (0..32)
        .map(|_| reach(&world, SocketAddr::new(POD4, 80)).expect("connect"))
        .collect();
    let listener = &world.listeners.as_ref().expect("open").plaintext;
    for _ in &clients {
        accept(listener);
    }
    for socket in greedy {
        socket.set_nonblocking(true).expect("non-blocking");
        assert!(socket.accept().is_err(), "reached the application unseen by the proxy");
    }
}

/// The proxy connects to an application, naming a client.
fn forward(world: &World, client: SocketAddr, to: SocketAddr) -> Socket {
    world.node.as_proxy(|| {
        world.pod.run(move || {
            // As Culvert's proxy does it: one kind of socket for both families.
            let socket = stream(true, None);
            set_client(&socket, client).expect("name the client");
            socket.connect(&mapped(to).into()).expect("connect");
            socket
        })
    })
}

#[test]
fn shows_the_true_client_to_the_application() {
    let world = World::enrolled();
    let clients: [SocketAddr; 2] = [SocketAddr::new(PEER4, 40001), SocketAddr::new(PEER6, 40002)];
    for (port, protocol) in [(80, None), (81, Some(Protocol::MPTCP))] {
        let application = world
            .pod
            .run(move || listen(SocketAddr::new("::".parse().expect("any"), port), protocol));
        for (to, client) in PODS.into_iter().zip(clients) {
            let upstream = forward(&world, client, SocketAddr::new(to, port));
            let (served, from) = accept(&application);
            assert_eq!(from, client, "what accept says");
            assert_eq!(peer(&served), client, "what getpeername says");
            assert_eq!(local(&served), SocketAddr::new(to, port));
            assert_eq!(
                peer(&upstream),
                SocketAddr::new(to, port),
                "the proxy sees the application"
            );
        }
    }
    assert_eq!(world.open_flows(), 0);
    assert_eq!(world.count("setsockopt", "client"), 4);
    assert_eq!(world.count("sk_lookup", "local"), 4, "the proxy does not meet itself");
}

/// As the proxy does it: from where it takes no port of the pod's.
fn forward_from_aside(world: &World, client: Option<SocketAddr>, to: SocketAddr) -> io::Result<Socket> {
    world.node.as_proxy(|| {
        world.pod.run(move || {
            let socket = Socket::from(sockopt::tcp_stream_socket().expect("socket"));
            socket.set_nonblocking(false).expect("blocking");
            sockopt::allow_forwarding_prefix(socket.as_fd()).expect("IPV6_FREEBIND");
            if let Some(client) = client {
                set_client(&socket, client).expect("name the client");
            }
            sockopt::bind_forwarding(socket.as_fd(), to.ip()).expect("bind");
            socket.connect(&mapped(to).into()).map(|()| socket)
        })
    })
}

fn make_prefix_local(world: &World) {
    let (prefix, length) = sockopt::FORWARDING_PREFIX;
    world
        .pod
        .run(move || culvert_net::interfaces::make_local(prefix, length))
        .expect("a local prefix");
}

/// As many as there are clients, and no port that an application could want.
#[test]
fn connections_of_the_proxy_to_applications_take_no_ports() {
    const MANY: u16 = 250;
    let world = World::enrolled();
    make_prefix_local(&world);
    let range = "/proc/sys/net/ipv4/ip_local_port_range";
    world
        .pod
        .run(move || std::fs::write(range, "40000 40099"))
        .expect("sysctl");
    let application = world.serve(&world.pod, "[::]:80".parse().expect("an address"));
    let mut open = Vec::new();
    for (to, client) in PODS.into_iter().zip([PEER4, PEER6]) {
        for number in 1..=MANY {
            let client = SocketAddr::new(client, number);
            open.push(forward_from_aside(&world, Some(client), SocketAddr::new(to, 80)).expect("connect"));
            let (served, from) = accept(&application);
            assert_eq!(
                (from, peer(&served)),
                (client, client),
                "the application sees the true client"
            );
            open.push(served);
        }
    }
    let busy = world.pod.run(|| {
        let listen = |address: &str, port: u16| {
            let socket = stream(address.contains(':'), None);
            let address = SocketAddr::new(address.parse().expect("an address"), port);
            socket.bind(&address.into()).and_then(|()| socket.listen(1))
        };
        let ports = 40000..40100_u16;
        ports
            .filter(|port| listen("0.0.0.0", *port).is_err() || listen("::", *port).is_err())
            .count()
    });
    assert_eq!(busy, 0, "ports that an application cannot have");
    assert_eq!(world.open_flows(), 0);
}

/// An application may trust what comes from a loopback address.
#[test]
fn the_proxy_never_looks_like_the_pod_itself() {
    let mut world = World::enrolled();
    make_prefix_local(&world);
    let application = world.serve(&world.pod, "[::]:80".parse().expect("an address"));
    for to in PODS {
        let unnamed = forward_from_aside(&world, None, SocketAddr::new(to, 80));
        assert_eq!(unnamed.expect_err("whose?").kind(), io::ErrorKind::ConnectionRefused);
    }
    assert_eq!(world.count("sk_lookup", "denied_source"), 2);
    application.set_nonblocking(true).expect("non-blocking");
    assert!(application.accept().is_err());

    // An IPv6 client cannot be shown to an IPv4 socket.
    let narrow = world.serve(&world.pod, SocketAddr::new(POD4, 81));
    let client = SocketAddr::new(PEER6, 40002);
    let _upstream = forward_from_aside(&world, Some(client), SocketAddr::new(POD4, 81)).expect("connect");
    let (served, from) = accept(&narrow);
    assert_eq!((from.ip(), peer(&served).ip()), (POD4, POD4));
    assert_eq!(world.count("getpeername", "hidden"), 2);

    // Nor once the pod has left.
    let wide = world.serve(&world.pod, "[::]:82".parse().expect("an address"));
    world.kernel.withdraw(world.pod.cookie()).expect("withdraw");
    for to in PODS {
        let _upstream = forward_from_aside(&world, None, SocketAddr::new(to, 82)).expect("connect");
        assert_eq!(accept(&wide).1.ip(), to);
    }
}

#[test]
fn shows_what_it_can_to_an_application_of_the_other_family() {
    let world = World::enrolled();
    let (v4, v6) = (SocketAddr::new(PEER4, 40001), SocketAddr::new(PEER6, 40002));
    // An IPv4 client that reached the pod's IPv6 address can be shown, IPv4-mapped.
    let wide = world.serve(&world.pod, SocketAddr::new(POD6, 80));
    let _upstream = forward(&world, v4, SocketAddr::new(POD6, 80));
    assert_eq!(accept(&wide).1, v4);
    // An IPv6 client cannot be shown to an IPv4 socket.
    let narrow = world.serve(&world.pod, SocketAddr::new(POD4, 81));
    let upstream = forward(&world, v6, SocketAddr::new(POD4, 81));
    assert_eq!(accept(&narrow).1, local(&upstream));
    assert_eq!(world.count("getpeername", "wrong_family"), 1);
}

#[test]
fn refuses_the_proxys_own_ports_from_outside() {
    let world = World::enrolled();
    for port in [15001, 15006] {
        for address in PODS {
            let refused = reach(&world, SocketAddr::new(address, port));
            assert_eq!(refused.expect_err("reserved").kind(), io::ErrorKind::ConnectionRefused);
        }
    }
    assert_eq!(world.count("sk_lookup", "denied_reserved"), 4);
}

/// That of a second interface, of a bridge, or one that moves between pods: as without a mesh.
#[test]
fn leaves_an_address_that_the_mesh_does_not_know_alone() {
    let world = World::enrolled();
    for unknown in ["198.18.7.77", "fd00:c01e:7::77"] {
        let unknown: IpAddr = unknown.parse().expect("an address");
        world.pod.add_address(unknown);
        let application = world.serve(&world.pod, SocketAddr::new(unknown, 80));
        let client = reach(&world, SocketAddr::new(unknown, 80)).expect("connect");
        assert_eq!(accept(&application).1, local(&client));
    }
    assert_eq!(world.count("sk_lookup", "other_address"), 2);
}

/// Every interface has one: a neighbour would reach the application past the proxy.
#[test]
fn refuses_a_link_local_address() {
    let world = World::enrolled();
    let _application = world.serve(&world.pod, "[::]:80".parse().expect("an address"));
    let to = std::net::SocketAddrV6::new(world.pod.link_local(), 80, 0, 11);
    world.peer.link_local();
    let refused = reach(&world, to.into());
    assert_eq!(
        refused.expect_err("past the proxy").kind(),
        io::ErrorKind::ConnectionRefused
    );
    assert_eq!(world.count("sk_lookup", "denied_address"), 1);
}

#[test]
fn refuses_when_nobody_listens_for_the_proxy() {
    let mut world = World::enrolled();
    let _application = world.serve(&world.pod, "[::]:80".parse().expect("an address"));
    world.listeners = None;
    for address in PODS {
        for port in [80, 15008] {
            let refused = reach(&world, SocketAddr::new(address, port));
            assert_eq!(
                refused.expect_err("nobody listens").kind(),
                io::ErrorKind::ConnectionRefused
            );
        }
    }
    assert_eq!(world.count("sk_lookup", "denied_listener"), 4);
}

#[test]
fn leaves_excluded_ports_alone() {
    let mut world = World::new(|node| node.config.exclusions.ports = vec![9090]);
    world.enrol(true, true);
    let application = world.serve(&world.pod, "[::]:9090".parse().expect("an address"));
    for address in PODS {
        let client = reach(&world, SocketAddr::new(address, 9090)).expect("connect");
        assert_eq!(accept(&application).1, local(&client));
    }
}

#[test]
fn finds_the_listeners_of_a_proxy_that_opens_them_by_itself() {
    let mut world = World::new(|_| {});
    world.listeners = None;
    let cookie = world.pod.cookie();
    let mut capture = culvert_agent::kernel::PodCapture {
        name: "shop/pod",
        cookie,
        netns: std::os::fd::AsFd::as_fd(&world.pod),
        addresses: &PODS,
        listeners: None,
        outbound: false,
        inbound: false,
        hold: &culvert_objects::Hold::None,
        fallback: false,
        dns: false,
        guard: false,
    };
    world.kernel.enrol(&capture).expect("enrol");
    assert!(!world.kernel.listening(cookie).expect("listening"));
    let sockets = world.node.as_proxy(|| {
        world
            .pod
            .run(|| [15001, 15006, 15008].map(|port| listen(SocketAddr::new("::".parse().expect("any"), port), None)))
    });
    // What runs the tests on another kernel says so (`cargo xtask test --kernel`): there the agent has to open them.
    let is_noticed = std::env::var_os("CULVERT_TEST_WITHOUT_CGROUP_IN_SOCK_OPS").is_none();
    assert_eq!(world.kernel.listening(cookie).expect("listening"), is_noticed);
    if !is_noticed {
        return;
    }
    (capture.outbound, capture.inbound) = (true, true);
    world.kernel.enrol(&capture).expect("enrol");

    let client = reach(&world, SocketAddr::new(POD4, 80)).expect("connect");
    assert_eq!(accept(&sockets[1]).1, local(&client));
    let application = world.pod.run(|| {
        let socket = stream(false, None);
        socket.connect(&SocketAddr::new(PEER4, 80).into()).map(|()| socket)
    });
    let (proxy, _) = accept(&sockets[0]);
    let destination = world
        .node
        .as_proxy(|| sock::original_destination(&proxy, false))
        .expect("original destination");
    assert_eq!(destination, peer(&application.expect("connect")));
}

#[test]
fn takes_a_client_address_from_the_proxy_alone() {
    let world = World::enrolled();
    let client = SocketAddr::new(PEER4, 40001);
    let denied = world.pod.run(move || set_client(&stream(true, None), client));
    assert_eq!(denied.expect_err("not a proxy").raw_os_error(), Some(libc::ENOPROTOOPT));
}
