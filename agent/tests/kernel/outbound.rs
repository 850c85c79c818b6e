//! What a pod opens, in every way in which it can be opened.

use crate::support::{
    pod::{PEER4, PEER6, POD4, World},
    sock::{
        self, TCP_FASTOPEN, TCP_FASTOPEN_CONNECT, accept, dissolve, finish, local, mapped, peer, send_fast_open,
        set_tcp_option, stream,
    },
    uring,
};
use socket2::{Protocol, SockAddr, Socket};
use std::{
    io::{self, Read},
    net::{IpAddr, SocketAddr},
    os::fd::AsFd,
};

/// A destination, and the socket that an application may use for it.
#[derive(Clone, Copy)]
struct Case {
    destination: SocketAddr,
    /// The socket is IPv6; with an IPv4 destination that is IPv4-mapped.
    v6: bool,
}

fn cases() -> [Case; 3] {
    let at = |address: IpAddr| SocketAddr::new(address, 80);
    [
        Case {
            destination: at(PEER4),
            v6: false,
        },
        Case {
            destination: at(PEER6),
            v6: true,
        },
        Case {
            destination: at(PEER4),
            v6: true,
        },
    ]
}

impl Case {
    /// As the application writes it.
    fn address(&self) -> SocketAddr {
        if self.v6 {
            mapped(self.destination)
        } else {
            self.destination
        }
    }
}

/// Connects in one way to every destination, and checks what both ends see. `way` runs inside the pod, as an application.
fn captured(way: fn(&Case) -> io::Result<Socket>) {
    let world = World::enrolled();
    let direct = world.serve(&world.peer, "[::]:80".parse().expect("an address"));
    for case in cases() {
        let application = world.pod.run(move || way(&case)).expect("connect");
        check(&world, &case, &application);
    }
    direct.set_nonblocking(true).expect("non-blocking");
    assert!(direct.accept().is_err(), "nothing went out in clear");
    assert_eq!(world.count("connect", "captured"), 3);
}

fn check(world: &World, case: &Case, application: &Socket) {
    let v6 = case.destination.is_ipv6();
    let (proxy, destination) = world.take(v6);
    assert_eq!(destination, case.destination);
    assert_eq!(
        peer(application),
        case.destination,
        "the application sees whom it asked for"
    );
    assert_eq!(peer(&proxy), local(application), "the proxy sees the pod");
    assert_eq!(local(&proxy).ip(), peer(&proxy).ip(), "it stays in the pod");
    let again = world
        .node
        .as_proxy(|| sock::original_destination(&proxy, v6))
        .expect("asked twice");
    assert_eq!(again, case.destination);
    assert_eq!(world.open_flows(), 0, "only handshakes take room");
}

#[test]
fn captures_a_connect_between_two_namespaces() {
    captured(|case| {
        let socket = stream(case.v6, None);
        socket.connect(&case.address().into()).map(|()| socket)
    });
}

#[test]
fn captures_where_only_what_the_pod_opens_is_captured() {
    let mut world = World::new(|_| {});
    world.enrol(true, false);
    for case in cases() {
        let application = world.pod.run(move || {
            let socket = stream(case.v6, None);
            socket.connect(&case.address().into()).map(|()| socket)
        });
        check(&world, &case, &application.expect("connect"));
    }
    assert_eq!(world.count("sk_lookup", "outbound"), 0);
}

/// The machine's congestion control is for the network, which the tunnel crosses.
#[test]
fn what_stays_in_the_pod_is_not_paced_and_what_leaves_is() {
    let world = World::enrolled();
    let direct = world.serve(&world.peer, "[::]:80".parse().expect("an address"));
    let connect = |at: IpAddr| {
        let socket = stream(false, None);
        socket.set_tcp_congestion(b"bbr")?;
        socket.connect(&SocketAddr::new(at, 80).into()).map(|()| socket)
    };
    let control = |socket: &Socket| {
        let name = socket.tcp_congestion().expect("TCP_CONGESTION");
        String::from_utf8_lossy(&name).trim_end_matches('\0').to_owned()
    };
    let outside = match world.peer.run(move || connect(PEER4)) {
        Ok(socket) => socket,
        // The kernel paces nothing then.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        Err(error) => panic!("{error}"),
    };
    assert_eq!(control(&outside), "bbr");
    let (at_peer, _) = accept(&direct);
    let application = world.pod.run(move || connect(PEER4)).expect("connect");
    let (proxy, destination) = world.take(false);
    assert_eq!(destination, SocketAddr::new(PEER4, 80));
    assert_eq!(control(&application), "reno");
    assert_ne!(control(&proxy), "bbr");
    drop((at_peer, outside));
}

/// One local port serves connections to several destinations, as it does without a mesh.
#[test]
fn a_local_port_can_be_used_for_several_destinations() {
    let world = World::enrolled();
    let used: Vec<_> = (0..8_u8)
        .map(|number| {
            let destination = SocketAddr::new([198, 18, 8, number].into(), 80);
            let application = world.pod.run(move || {
                let socket = stream(false, None);
                socket.set_reuse_address(true)?;
                socket.bind(&SocketAddr::new(POD4, 40000).into())?;
                socket.connect(&destination.into()).map(|()| socket)
            });
            let application = application.expect("connect");
            let (proxy, taken) = world.take(false);
            assert_eq!(taken, destination);
            (application, proxy)
        })
        .collect();
    assert!(used.iter().all(|(application, _)| local(application).port() == 40000));
}

#[test]
fn captures_multipath_tcp() {
    captured(|case| {
        let socket = stream(case.v6, Some(Protocol::MPTCP));
        socket.connect(&case.address().into()).map(|()| socket)
    });
}

#[test]
fn captures_a_non_blocking_connect() {
    captured(|case| {
        let socket = stream(case.v6, None);
        socket.set_nonblocking(true)?;
        let begun = socket.connect(&case.address().into());
        assert_eq!(
            begun.expect_err("not there yet").raw_os_error(),
            Some(libc::EINPROGRESS)
        );
        finish(&socket).map(|()| socket)
    });
}

#[test]
fn captures_a_connect_through_io_uring() {
    captured(|case| {
        let socket = stream(case.v6, None);
        uring::connect(socket.as_fd(), &case.address().into()).map(|()| socket)
    });
}

#[test]
fn captures_a_fast_open_send() {
    captured(|case| {
        let socket = stream(case.v6, None);
        send_fast_open(&socket, b"first", case.address()).map(|_| socket)
    });
}

#[test]
fn captures_a_fast_open_send_of_multipath_tcp() {
    captured(|case| {
        let socket = stream(case.v6, Some(Protocol::MPTCP));
        send_fast_open(&socket, b"first", case.address()).map(|_| socket)
    });
}

#[test]
fn captures_a_fast_open_connect() {
    captured(|case| {
        let socket = stream(case.v6, None);
        set_tcp_option(&socket, TCP_FASTOPEN_CONNECT, 1);
        socket.connect(&case.address().into())?;
        socket.send(b"first").map(|_| socket)
    });
}

#[test]
fn captures_data_in_the_syn() {
    let world = World::enrolled();
    // Client and server, and neither waits for a cookie.
    world
        .pod
        .run(|| std::fs::write("/proc/sys/net/ipv4/tcp_fastopen", "519"))
        .expect("sysctl");
    let listeners = world.listeners.as_ref().expect("open");
    for listener in [&listeners.outbound4, &listeners.outbound6] {
        set_tcp_option(listener, TCP_FASTOPEN, 16);
    }
    for case in cases() {
        let application = world.pod.run(move || {
            let socket = stream(case.v6, None);
            send_fast_open(&socket, b"first", case.address()).map(|_| socket)
        });
        let (mut proxy, destination) = world.take(case.destination.is_ipv6());
        assert_eq!(destination, case.destination);
        let application = application.expect("send");
        assert_eq!(peer(&application), case.destination);
        assert!(sock::sent_data_in_syn(&application));
        let mut data = [0; 5];
        proxy.read_exact(&mut data).expect("read");
        assert_eq!(&data, b"first");
    }
}

#[test]
fn leaves_alone_what_stays_in_the_pod() {
    let world = World::enrolled();
    let server = world.serve(&world.pod, "[::]:8080".parse().expect("an address"));
    for to in [
        "127.0.0.1:8080",
        "[::1]:8080",
        "198.18.7.1:8080",
        "[fd00:c01e:7::1]:8080",
    ] {
        let to: SocketAddr = to.parse().expect("an address");
        let application = world.pod.run(move || {
            let socket = stream(to.is_ipv6(), None);
            socket.connect(&to.into()).map(|()| socket)
        });
        let (_served, client) = accept(&server);
        let application = application.expect("connect");
        assert_eq!(peer(&application), to);
        assert_eq!(client, local(&application));
    }
    assert_eq!(world.count("connect", "loopback"), 2);
    assert_eq!(world.count("connect", "own_address"), 2);
    assert_eq!(world.count("sk_lookup", "local"), 2);
}

#[test]
fn leaves_the_proxy_alone() {
    let world = World::enrolled();
    let server = world.serve(&world.peer, "[::]:80".parse().expect("an address"));
    for case in cases() {
        let upstream = world.node.as_proxy(|| {
            world.pod.run(move || {
                let socket = stream(case.v6, None);
                socket.connect(&case.address().into()).map(|()| socket)
            })
        });
        let (_served, client) = accept(&server);
        assert_eq!(
            client,
            local(&upstream.expect("connect")),
            "seen with the pod's own address"
        );
    }
    assert_eq!(world.count("connect", "proxy"), 3);
    assert_eq!(world.count("connect", "captured"), 0);
}

#[test]
fn leaves_excluded_destinations_alone() {
    let mut world = World::new(|node| {
        node.config.exclusions.cidrs = vec!["198.18.7.2/32".parse().expect("a CIDR")];
        node.config.exclusions.ports = vec![9090];
    });
    world.enrol(true, true);
    let direct = |to: SocketAddr| {
        let server = world.serve(&world.peer, to);
        let application = world.pod.run(move || {
            let socket = stream(to.is_ipv6(), None);
            socket.connect(&to.into()).map(|()| socket)
        });
        let (_served, client) = accept(&server);
        assert_eq!(client, local(&application.expect("connect")));
    };
    direct(SocketAddr::new(PEER4, 80));
    direct(SocketAddr::new(PEER6, 9090));
    assert_eq!(world.count("connect", "excluded"), 2);

    let captured = world.pod.run(|| {
        let socket = stream(true, None);
        socket.connect(&SocketAddr::new(PEER6, 80).into()).map(|()| socket)
    });
    captured.expect("connect");
    assert_eq!(world.take(true).1, SocketAddr::new(PEER6, 80));
}

#[test]
fn leaves_udp_alone() {
    let world = World::enrolled();
    let server = world
        .peer
        .run(|| std::net::UdpSocket::bind(SocketAddr::new(PEER4, 53)).expect("bind"));
    server.set_read_timeout(Some(sock::PATIENCE)).expect("timeout");
    world.pod.run(|| {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").expect("bind");
        socket.connect(SocketAddr::new(PEER4, 53)).expect("connect");
        socket.send(b"question").expect("send");
    });
    assert_eq!(server.recv(&mut [0; 16]).expect("receive"), 8);
}

#[test]
fn forgets_when_a_socket_connects_elsewhere() {
    let world = World::enrolled();
    let server = world.serve(&world.pod, "127.0.0.1:8080".parse().expect("an address"));
    for protocol in [None, Some(Protocol::MPTCP)] {
        let application = world.pod.run(move || {
            let socket = stream(false, protocol);
            socket.connect(&SocketAddr::new(PEER4, 80).into()).expect("connect");
            dissolve(&socket);
            let second: SockAddr = "127.0.0.1:8080".parse::<SocketAddr>().expect("an address").into();
            socket.connect(&second).map(|()| socket)
        });
        accept(&server);
        assert_eq!(peer(&application.expect("connect")), local(&server));
    }
}

#[test]
fn refuses_when_nobody_listens_and_never_goes_out_in_clear() {
    let mut world = World::enrolled();
    let direct = world.serve(&world.peer, "[::]:80".parse().expect("an address"));
    world.listeners = None;
    for case in cases() {
        let refused = world
            .pod
            .run(move || stream(case.v6, None).connect(&case.address().into()));
        assert_eq!(
            refused.expect_err("nobody listens").kind(),
            io::ErrorKind::ConnectionRefused
        );
    }
    direct.set_nonblocking(true).expect("non-blocking");
    assert!(direct.accept().is_err(), "nothing went out in clear");
    assert_eq!(world.open_flows(), 0, "failed handshakes leave nothing behind");
    assert_eq!(world.count("sock_ops", "abandoned"), 3);
}

/// Who leaves out all of IPv6 does not mean IPv4, although both are held in one trie.
#[test]
fn an_excluded_ipv6_range_leaves_ipv4_captured() {
    let mut world = World::new(|node| node.config.exclusions.cidrs = vec!["::/0".parse().expect("a CIDR")]);
    world.enrol(true, true);
    let direct = world.serve(&world.peer, "[::]:80".parse().expect("an address"));
    for case in cases() {
        let application = world.pod.run(move || {
            let socket = stream(case.v6, None);
            socket.connect(&case.address().into()).map(|()| socket)
        });
        let application = application.expect("connect");
        if case.destination.is_ipv4() {
            check(&world, &case, &application);
        } else {
            assert_eq!(accept(&direct).1, local(&application));
        }
    }
}

/// From wherever an application sends: its socket may be bound to an address that is in no list of the mesh's.
#[test]
fn captures_from_an_address_that_the_mesh_does_not_know() {
    let world = World::enrolled();
    let others: [IpAddr; 2] = ["198.18.7.77", "fd00:c01e:7::77"].map(|text| text.parse().expect("an address"));
    for (other, peer_address) in others.into_iter().zip([PEER4, PEER6]) {
        world.pod.add_address(other);
        let destination = SocketAddr::new(peer_address, 80);
        let application = world.pod.run(move || {
            let socket = stream(other.is_ipv6(), None);
            socket.bind(&SocketAddr::new(other, 0).into()).expect("bind");
            socket.connect(&destination.into()).map(|()| socket)
        });
        let application = application.expect("connect");
        let (proxy, taken) = world.take(other.is_ipv6());
        assert_eq!(taken, destination);
        assert_eq!(peer(&application), destination);
        assert_eq!(local(&application).ip(), other);
        assert_eq!(peer(&proxy), local(&application), "the proxy sees where it comes from");
    }
    assert_eq!(world.count("sk_lookup", "outbound"), 2);
    assert_eq!(world.open_flows(), 0);
}

/// Captured connections go from the pod to the pod: with the same port at both ends, a socket would meet itself.
#[test]
fn a_socket_never_connects_to_itself() {
    let world = World::enrolled();
    for case in cases() {
        let destination = case.destination;
        let first = world.pod.run(move || {
            let socket = stream(case.v6, None);
            socket.connect(&case.address().into()).map(|()| socket)
        });
        let (proxy, _) = world.take(destination.is_ipv6());
        let port = local(&proxy).port();
        drop((first, proxy));
        let application = world.pod.run(move || {
            let socket = stream(case.v6, None);
            socket.set_reuse_address(true).expect("SO_REUSEADDR");
            let own = if case.v6 { "::" } else { "0.0.0.0" }.parse().expect("an address");
            socket
                .bind(&SocketAddr::new(own, port).into())
                .expect("bind to the capture port");
            socket.connect(&case.address().into()).map(|()| socket)
        });
        let application = application.expect("connect");
        let (proxy, taken) = world.take(destination.is_ipv6());
        assert_eq!(taken, destination);
        assert_eq!(local(&application).port(), port);
        assert_ne!(local(&proxy).port(), port);
    }
}
