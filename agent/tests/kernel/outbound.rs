//! What a pod opens.

use crate::support::{
    pod::{PEER4, PEER6, World},
    sock::{self, local, mapped, peer, stream},
};
use socket2::{Protocol, Socket};
use std::net::{IpAddr, SocketAddr};

/// A destination, and the socket that an application may use for it.
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

/// What both ends must see, whichever way the application connects.
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
    assert_eq!(local(&proxy).port(), 15001);
    let again = world
        .node
        .as_proxy(|| sock::original_destination(&proxy, v6))
        .expect("asked twice");
    assert_eq!(again, case.destination);
    assert_eq!(world.open_flows(), 0, "only handshakes take room");
}

#[test]
fn captures_a_connect_between_two_namespaces() {
    let world = World::enrolled();
    let direct = world.serve(&world.peer, "0.0.0.0:80".parse().expect("an address"));
    for case in cases() {
        let (destination, v6) = (case.destination, case.v6);
        let application = world.pod.run(move || {
            let socket = stream(v6, None);
            let address = if v6 { mapped(destination) } else { destination };
            socket.connect(&address.into()).map(|()| socket)
        });
        check(&world, &case, &application.expect("connect"));
    }
    direct.set_nonblocking(true).expect("non-blocking");
    assert!(direct.accept().is_err(), "nothing went out in clear");
    assert_eq!(world.count("connect", "captured"), 3);
    let _ = Protocol::MPTCP;
}
