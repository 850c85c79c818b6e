//! DNS queries over UDP: turned to the proxy's sockets, and their answers shown as the resolver's.

use crate::support::{
    node,
    pod::{PEER4, PEER6, POD4, POD6, World, restart},
    sock::{PATIENCE, mapped},
};
use culvert_abi::Serving;
use culvert_net::dns;
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    os::fd::AsFd as _,
};

const RESOLVER4: SocketAddr = SocketAddr::new(PEER4, 53);
const RESOLVER6: SocketAddr = SocketAddr::new(PEER6, 53);

/// A resolver, and the socket that an application may use for it.
#[derive(Clone, Copy, Debug)]
struct Case {
    resolver: SocketAddr,
    v6: bool,
}

/// The last one is an IPv4-mapped address on an IPv6 socket.
const CASES: [Case; 3] = [
    Case {
        resolver: RESOLVER4,
        v6: false,
    },
    Case {
        resolver: RESOLVER6,
        v6: true,
    },
    Case {
        resolver: RESOLVER4,
        v6: true,
    },
];

impl Case {
    /// As the application writes it.
    fn address(&self) -> SocketAddr {
        if self.v6 { mapped(self.resolver) } else { self.resolver }
    }
}

/// A UDP socket of an application, unbound.
fn datagram(v6: bool) -> UdpSocket {
    let domain = if v6 { Domain::IPV6 } else { Domain::IPV4 };
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP)).expect("socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("timeout");
    socket.into()
}

/// What the proxy gets: from which slot, what, and from whom.
fn take(world: &World, slot: usize) -> (Vec<u8>, SocketAddr) {
    let socket = proxys(world, slot);
    socket.set_nonblocking(false).expect("blocking");
    socket.set_read_timeout(Some(PATIENCE)).expect("timeout");
    let mut query = [0; 512];
    let (length, client) = world.node.as_proxy(|| socket.recv_from(&mut query)).expect("a query");
    (query[..length].to_vec(), client)
}

fn answer(world: &World, slot: usize, client: SocketAddr) {
    let socket = proxys(world, slot);
    world
        .node
        .as_proxy(|| socket.send_to(b"answer", client))
        .expect("answer");
}

/// Whether nothing waits for the proxy.
fn has_nothing(world: &World) -> bool {
    (0..dns::SLOTS).all(|slot| {
        let socket = proxys(world, slot);
        socket.set_nonblocking(true).expect("non-blocking");
        let found = socket.recv_from(&mut [0; 512]);
        found.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    })
}

fn proxys(world: &World, slot: usize) -> UdpSocket {
    let sockets = world.listeners.as_ref().and_then(|listeners| listeners.dns.as_ref());
    let socket = &sockets.expect("sockets for DNS")[slot];
    UdpSocket::from(socket.try_clone().expect("a copy"))
}

/// What the kernel programs say of a socket of the proxy's.
fn resolver(world: &World, slot: usize) -> io::Result<SocketAddr> {
    let socket = proxys(world, slot);
    world.node.as_proxy(|| dns::resolver(socket.as_fd()))
}

fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// As musl asks: the answer must come from whom it was asked.
#[test]
fn what_is_sent_to_a_resolver_reaches_the_proxy_and_its_answer_comes_from_the_resolver() {
    let world = World::asking();
    for case in CASES {
        let client = world.pod.run(move || {
            let socket = datagram(case.v6);
            socket.send_to(b"query", case.address()).map(|_| socket)
        });
        let client = client.expect("send");
        let slot = usize::from(case.resolver.is_ipv6());
        let (query, from) = take(&world, slot);
        assert_eq!(query, b"query");
        let pod = if case.resolver.is_ipv6() { POD6 } else { POD4 };
        assert_eq!(from.ip().to_canonical(), pod, "the proxy sees the pod");
        assert_eq!(resolver(&world, slot).expect("a resolver"), case.resolver);
        answer(&world, slot, from);
        let mut text = [0; 16];
        let (length, from) = client.recv_from(&mut text).expect("an answer");
        assert_eq!((&text[..length], from), (b"answer".as_slice(), case.address()));
    }
    assert!(resolver(&world, 2).is_err(), "nobody has the third slot");
    assert_eq!(world.count("dns", "captured"), 3);
}

/// As glibc, Go and Java ask: a connected socket takes answers from its peer alone.
#[test]
fn a_socket_that_is_connected_to_a_resolver_is_connected_to_the_proxy_and_does_not_see_it() {
    let world = World::asking();
    for case in CASES {
        let client = world.pod.run(move || {
            let socket = datagram(case.v6);
            socket.connect(case.address())?;
            socket.send(b"query").map(|_| socket)
        });
        let client = client.expect("connect");
        let slot = usize::from(case.resolver.is_ipv6());
        let (_, from) = take(&world, slot);
        assert_eq!(client.peer_addr().expect("getpeername"), case.address());
        answer(&world, slot, from);
        let (length, from) = client.recv_from(&mut [0; 16]).expect("an answer");
        assert_eq!((length, from), (6, case.address()));
        // As Java reconnects its socket.
        client.connect(case.address()).expect("connect again");
        client.send(b"query").expect("send");
        assert_eq!(take(&world, slot).0, b"query");
    }
}

#[test]
fn each_of_three_resolvers_has_its_socket_and_a_fourth_is_left_alone() {
    let world = World::asking();
    let resolvers: Vec<SocketAddr> = (1..=4).map(|last| SocketAddr::from(([198, 18, 8, last], 53))).collect();
    let asked = resolvers.clone();
    let client = world.pod.run(move || {
        let socket = datagram(false);
        for (index, resolver) in asked.iter().enumerate() {
            // The fourth is sent for real, to where there is nobody.
            let sent = socket.send_to(&[index as u8], resolver);
            assert!(sent.is_ok() || index == 3, "{resolver}: {sent:?}");
        }
        socket
    });
    for slot in [2, 0, 1] {
        let (query, from) = take(&world, slot);
        assert_eq!(query, [slot as u8]);
        assert_eq!(resolver(&world, slot).expect("a resolver"), resolvers[slot]);
        answer(&world, slot, from);
        assert_eq!(client.recv_from(&mut [0; 16]).expect("an answer").1, resolvers[slot]);
    }
    assert_eq!(world.count("dns", "other_resolver"), 1);
    assert!(has_nothing(&world));
}

/// A proxy says so itself a quarter of a second later, and a pod may be captured at once.
#[test]
fn a_proxy_that_has_just_come_gets_queries_before_it_says_that_it_serves() {
    let mut world = World::asking();
    world.kernel.set_serving(Serving::GONE).expect("say so");
    world.kernel.expect_serving().expect("say so");
    let send = || datagram(false).send_to(b"query", RESOLVER4);
    world.pod.run(send).expect("send");
    assert_eq!(take(&world, 0).0, b"query");
    // It takes nothing from what was said already.
    world.kernel.set_serving(Serving::UNTIL_TOLD).expect("say so");
    world.kernel.expect_serving().expect("say so");
    assert!(world.kernel.is_serving().expect("look"));
    assert_eq!(world.count("dns", "no_proxy"), 0);
}

#[test]
fn a_query_is_left_alone_where_it_cannot_or_must_not_be_turned() {
    let mut world = World::asking();
    let outside = world.peer.run(|| {
        let socket = UdpSocket::bind(("0.0.0.0", 53)).expect("bind");
        socket.set_read_timeout(Some(PATIENCE)).expect("timeout");
        socket
    });
    let reaches = |world: &World, what: &str| {
        world
            .pod
            .run(|| datagram(false).send_to(b"query", RESOLVER4))
            .expect("send");
        let (_, from) = outside
            .recv_from(&mut [0; 16])
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(from.ip(), POD4, "{what}");
        assert!(has_nothing(world), "{what}");
    };
    // Nobody serves.
    world.kernel.set_serving(Serving::GONE).expect("say so");
    reaches(&world, "no proxy");
    assert_eq!(world.count("dns", "no_proxy"), 1);
    world.kernel.set_serving(Serving::UNTIL_TOLD).expect("say so");
    // The proxy itself.
    world.node.enter("proxy/worker");
    reaches(&world, "a proxy");
    world.node.enter(node::PODS);
    assert_eq!(world.count("dns", "proxy"), 1);
    // From an address that is not the pod's in the mesh.
    world.pod.add_address(IpAddr::V4(Ipv4Addr::new(198, 18, 7, 9)));
    world.pod.run(|| {
        let socket = UdpSocket::bind(("198.18.7.9", 0)).expect("bind");
        socket.send_to(b"query", RESOLVER4).expect("send");
    });
    let (_, from) = outside.recv_from(&mut [0; 16]).expect("a query");
    assert_eq!(from.ip(), IpAddr::V4(Ipv4Addr::new(198, 18, 7, 9)));
    assert_eq!(world.count("dns", "other_source"), 1);
    // Something else in the pod, and another port.
    let (own, other) = world.pod.run(|| {
        let own = UdpSocket::bind((Ipv4Addr::LOCALHOST, 53)).expect("bind");
        let other = UdpSocket::bind((POD4, 53)).expect("bind");
        let client = datagram(false);
        for to in [SocketAddr::from((Ipv4Addr::LOCALHOST, 53)), SocketAddr::new(POD4, 53)] {
            client.send_to(b"query", to).expect("send");
        }
        (own, other)
    });
    for socket in [own, other] {
        socket.set_read_timeout(Some(PATIENCE)).expect("timeout");
        socket.recv_from(&mut [0; 16]).expect("a query");
    }
    assert_eq!(
        (world.count("dns", "loopback"), world.count("dns", "own_address")),
        (1, 1)
    );
    // Nobody holds the proxy's sockets.
    world.listeners.as_mut().expect("not closed").dns = None;
    world
        .pod
        .run(|| datagram(false).send_to(b"query", RESOLVER4))
        .expect("send");
    outside.recv_from(&mut [0; 16]).expect("a query");
    assert_eq!(world.count("dns", "no_listener"), 1);
}

#[test]
fn a_pod_that_leaves_asks_its_resolvers_itself_and_nothing_is_remembered_of_them() {
    let mut world = World::asking();
    world
        .pod
        .run(|| datagram(false).send_to(b"query", RESOLVER4))
        .expect("send");
    take(&world, 0);
    let resolvers = |world: &World| {
        let maps = world.kernel.occupancy().expect("occupancy");
        maps.into_iter()
            .find(|(name, ..)| *name == "resolvers")
            .expect("a map of resolvers")
            .1
    };
    assert_eq!(resolvers(&world), 1);
    let cookie = world.pod.cookie();
    // The first half of leaving is enough.
    world.kernel.withdraw_outbound(cookie).expect("withdraw");
    let outside = world.peer.run(|| UdpSocket::bind(("0.0.0.0", 53)).expect("bind"));
    outside.set_read_timeout(Some(PATIENCE)).expect("timeout");
    world
        .pod
        .run(|| datagram(false).send_to(b"query", RESOLVER4))
        .expect("send");
    outside.recv_from(&mut [0; 16]).expect("a query");
    world.kernel.withdraw(cookie).expect("withdraw");
    assert_eq!(resolvers(&world), 0);
    assert!(resolver(&world, 0).is_err());
}

/// The agent ends and another begins; the sockets are the proxy's as well.
#[test]
fn queries_go_on_over_an_agents_restart_with_the_same_resolvers() {
    let mut world = World::asking();
    let client = world.pod.run(|| {
        let socket = datagram(false);
        socket.connect(RESOLVER4).map(|()| socket)
    });
    let client = client.expect("connect");
    restart(&mut world);
    client.send(b"query").expect("send");
    let (_, from) = take(&world, 0);
    assert_eq!(resolver(&world, 0).expect("a resolver"), RESOLVER4);
    answer(&world, 0, from);
    assert_eq!(client.recv_from(&mut [0; 16]).expect("an answer").1, RESOLVER4);
    assert_eq!(client.peer_addr().expect("getpeername"), RESOLVER4);
}

/// A stranger, or an application that binds a socket of its own beside the proxy's.
#[test]
fn nobody_but_the_pod_reaches_the_proxys_sockets_and_nobody_takes_its_queries() {
    let world = World::asking();
    let stranger = world.peer.run(|| {
        let socket = datagram(false);
        socket.connect(SocketAddr::new(POD4, 15053)).expect("connect");
        socket.send(b"query").expect("send");
        socket
    });
    let refused = stranger.recv(&mut [0; 16]).expect_err("an answer");
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    assert_eq!(world.count("sk_lookup", "denied_dns"), 1);
    let thief = world.pod.run(|| {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).expect("socket");
        socket.set_reuse_port(true).expect("SO_REUSEPORT");
        socket.bind(&SocketAddr::new(POD4, 15053).into()).map(|()| socket)
    });
    world
        .pod
        .run(|| datagram(false).send_to(b"query", RESOLVER4))
        .expect("send");
    let (query, from) = take(&world, 0);
    assert_eq!((query.as_slice(), plain(from).ip()), (b"query".as_slice(), POD4));
    drop(thief);
}
