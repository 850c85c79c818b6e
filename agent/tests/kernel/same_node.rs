//! What goes past the proxy, seen by the socket that opens it: the other pod is a namespace that is not in the mesh here.

use crate::support::{
    pod::{PEER4, PEER6, POD4, POD6, World},
    sock::{accept, mapped, peer, stream},
};
use culvert_abi::{Endpoint, SameNodeEnded, SameNodePair, SameNodePeer, Serving};
use culvert_agent::kernel::SameNodeEntries;
use socket2::Socket;
use std::{
    io,
    mem::size_of,
    net::{IpAddr, SocketAddr},
};

/// A service's address, to which there is no route.
fn service(v6: bool) -> SocketAddr {
    let address: IpAddr = if v6 { "fd00:c01e:99::1" } else { "198.18.99.1" }
        .parse()
        .expect("an address");
    SocketAddr::new(address, 8080)
}

fn at(v6: bool) -> SocketAddr {
    SocketAddr::new(if v6 { PEER6 } else { PEER4 }, 80)
}

/// In which what the pod opens to its peer's port 80 goes past the proxy.
fn world() -> World {
    let mut world = World::enrolled();
    world.kernel.set_serving(Serving::UNTIL_TOLD).expect("serve");
    let entries = entries(&world);
    world.kernel.set_same_node(&entries).expect("enter");
    world
}

fn entries(world: &World) -> SameNodeEntries {
    let client = world.pod.cookie();
    let mut entries = SameNodeEntries::default();
    for v6 in [false, true] {
        let peer = SameNodePeer {
            server: world.peer.cookie(),
            source: (if v6 { POD6 } else { POD4 }).into(),
        };
        let destination = Endpoint::from(at(v6));
        entries.pairs.insert(SameNodePair::new(client, destination), peer);
    }
    entries
}

/// From a socket of this family, in the pod.
fn dial(world: &World, v6: bool, to: SocketAddr) -> io::Result<Socket> {
    world.pod.run(move || {
        let socket = stream(v6, None);
        socket.connect(&to.into()).map(|()| socket)
    })
}

#[test]
fn a_service_leads_to_the_pair_and_the_application_sees_the_service() {
    let mut world = world();
    let mut entries = entries(&world);
    for v6 in [false, true] {
        let service = SameNodePair::new(world.pod.cookie(), service(v6).into());
        entries.add_service(service, at(v6).into());
    }
    world.kernel.set_same_node(&entries).expect("enter");
    let server = world.serve(&world.peer, "[::]:80".parse().expect("an address"));
    // The last by a socket that is IPv6.
    for (v6, to) in [
        (false, service(false)),
        (true, service(true)),
        (true, mapped(service(false))),
    ] {
        world.kernel.confirm_same_node().expect("confirm");
        let application = dial(&world, v6, to).expect("connect");
        let (accepted, _) = accept(&server);
        assert_eq!(mapped(peer(&application)), mapped(to), "what it asked for");
        drop((application, accepted));
    }
    // To the pair itself, as ever.
    let application = dial(&world, false, at(false)).expect("connect");
    assert_eq!(peer(&application), at(false));
    drop((application, accept(&server)));
    let outcomes = ["same_node_service", "same_node", "captured"];
    assert_eq!(outcomes.map(|outcome| world.count("connect", outcome)), [3, 1, 0]);
    let ended = world.kernel.same_node_ended();
    let told: Vec<(SocketAddr, SocketAddr)> = ended
        .iter()
        .map(|ended| {
            let remote = Endpoint {
                address: ended.flow.remote,
                port: ended.flow.remote_port.into(),
            };
            (ended.dialled.into(), remote.into())
        })
        .collect();
    let plain = [
        (service(false), at(false)),
        (service(true), at(true)),
        (service(false), at(false)),
        (at(false), at(false)),
    ];
    assert_eq!(told, plain);
}

/// Whatever is missing: the address of the service, or the pair that it leads to.
#[test]
fn without_its_pair_or_its_entry_a_service_leads_to_the_proxy() {
    let mut world = world();
    let whole = {
        let mut entries = entries(&world);
        entries.add_service(
            SameNodePair::new(world.pod.cookie(), service(false).into()),
            at(false).into(),
        );
        entries
    };
    let mut pairless = whole.clone();
    pairless
        .pairs
        .retain(|pair, _| SocketAddr::from(pair.destination) != at(false));
    let _server = world.serve(&world.peer, "[::]:80".parse().expect("an address"));
    let mut expected = [0, 0];
    for (is_past, entries) in [
        (true, whole.clone()),
        (false, pairless),
        (true, whole.clone()),
        (false, entries(&world)),
        (true, whole),
        (false, SameNodeEntries::default()),
    ] {
        world.kernel.set_same_node(&entries).expect("enter");
        let application = dial(&world, false, service(false)).expect("connect");
        assert_eq!(peer(&application), service(false));
        expected[usize::from(!is_past)] += 1;
        let counted = ["same_node_service", "captured"].map(|outcome| world.count("connect", outcome));
        assert_eq!(counted, expected);
        if !is_past {
            assert_eq!(world.take(false).1, service(false));
        }
    }
}

/// Nothing waits for the agent, which may be away.
#[test]
fn what_the_ring_has_no_room_for_is_counted_and_the_ring_is_read_on() {
    let mut world = world();
    let unsaid = |world: &World| world.count("sock_ops", "same_node_unsaid");
    let is_refused = || {
        let socket = stream(false, None);
        socket.connect(&at(false).into()).is_err()
    };
    let mut ended = 0;
    while unsaid(&world) == 0 {
        world.kernel.confirm_same_node().expect("confirm");
        let refused = world.pod.run(move || (0..500).filter(|_| is_refused()).count() as u64);
        assert_eq!(refused, 500);
        ended += refused;
    }
    let told = world.kernel.same_node_ended();
    assert_eq!(told.len() as u64 + unsaid(&world), ended, "each is told of or counted");
    // Each has a header of eight bytes.
    let room = SameNodeEnded::RING as usize / (size_of::<SameNodeEnded>() + 8);
    assert!(told.len().abs_diff(room) <= 1, "{} of {room}", told.len());
    assert!(told.iter().all(|ended| ended.how == SameNodeEnded::FAILED));
    let before = unsaid(&world);
    world.kernel.confirm_same_node().expect("confirm");
    assert!(world.pod.run(is_refused));
    assert_eq!(world.kernel.same_node_ended().len(), 1, "there is room again");
    assert_eq!(unsaid(&world), before);
}
