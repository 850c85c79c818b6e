//! Connections by another interface, of another family, or to addresses of one link.

use crate::support::{
    pod::{PEER4, PEER6, POD4, POD6, World},
    sock::{accept, local, peer, stream},
};
use std::{
    net::{IpAddr, SocketAddr},
    os::fd::AsFd,
};

/// A pod may have an interface beside the mesh's, such as one that Multus gave it.
#[test]
fn leaves_a_socket_bound_to_another_interface_alone() {
    let mut world = World::new(|_| {});
    let [own, other]: [IpAddr; 2] = ["198.18.9.1", "198.18.9.2"].map(|text| text.parse().expect("an address"));
    world.pod.join_by("net1", 20, &[own], &world.peer, &[other]);
    world.enrol(true, true);
    let direct = world.serve(&world.peer, "[::]:80".parse().expect("an address"));
    let connect = |device: &'static [u8], to: IpAddr| {
        let application = world.pod.run(move || {
            let socket = stream(false, None);
            socket.bind_device(Some(device)).expect("SO_BINDTODEVICE");
            socket.connect(&SocketAddr::new(to, 80).into()).map(|()| socket)
        });
        application.expect("connect")
    };
    let application = connect(b"net1", other);
    assert_eq!(accept(&direct).1, local(&application));
    assert_eq!(local(&application).ip(), own);
    assert_eq!(world.count("connect", "other_interface"), 1);

    let application = connect(b"eth0", PEER4);
    let (_proxy, taken) = world.take(false);
    assert_eq!(
        taken,
        peer(&application),
        "the mesh's own interface takes nothing out of the mesh"
    );
}

/// The index of the pod's interface.
const ETH0: u32 = 10;

#[test]
fn leaves_link_local_destinations_alone() {
    let world = World::enrolled();
    let server = world.serve(&world.peer, "[::]:80".parse().expect("an address"));
    let (from, to) = (world.pod.link_local(), world.peer.link_local());
    let application = world.pod.run(move || {
        let socket = stream(true, None);
        let to = std::net::SocketAddrV6::new(to, 80, 0, ETH0);
        socket.connect(&SocketAddr::from(to).into()).map(|()| socket)
    });
    let application = application.expect("connect");
    assert_eq!(accept(&server).1.ip(), IpAddr::V6(from));
    assert_eq!(peer(&application).ip(), IpAddr::V6(to));
    // Without the interface it means nothing, and the kernel says so.
    let unscoped = world
        .pod
        .run(move || stream(true, None).connect(&SocketAddr::new(to.into(), 80).into()));
    assert_eq!(unscoped.expect_err("which link?").raw_os_error(), Some(libc::EINVAL));
    assert_eq!(world.count("connect", "link_local"), 2);
}

/// The pod with this address alone, which it also has on `eth0`.
fn enrol_alone(world: &mut World, address: IpAddr) {
    let cookie = world.pod.cookie();
    world.enrol(true, false);
    let capture = culvert_agent::kernel::PodCapture {
        name: "shop/pod",
        cookie,
        netns: world.pod.as_fd(),
        addresses: &[address],
        listeners: None,
        outbound: true,
        inbound: false,
        hold: &culvert_objects::Hold::None,
        fallback: false,
        dns: false,
        guard: false,
    };
    world.kernel.enrol(&capture).expect("enrol");
}

#[test]
fn a_family_that_the_mesh_does_not_know_of_on_its_own_interface_is_unreachable() {
    for (known, to) in [(POD4, PEER6), (POD6, PEER4)] {
        let mut world = World::new(|_| {});
        enrol_alone(&mut world, known);
        let direct = world.serve(&world.peer, "[::]:80".parse().expect("an address"));
        let denied = world
            .pod
            .run(move || stream(to.is_ipv6(), None).connect(&SocketAddr::new(to, 80).into()));
        // Not EPERM: applications try the next address then.
        assert_eq!(
            denied.expect_err("not captured").raw_os_error(),
            Some(libc::ENETUNREACH)
        );
        assert_eq!(world.count("connect", "denied_family"), 1);
        direct.set_nonblocking(true).expect("non-blocking");
        assert!(direct.accept().is_err(), "nothing went out in clear");
    }
}

#[test]
fn a_family_that_the_pod_does_not_have_fails_as_without_a_mesh() {
    let mut world = World::new(|_| {});
    world.pod.ip("-6 addr flush dev eth0");
    let connect = |world: &World| {
        let denied = world
            .pod
            .run(|| stream(true, None).connect(&SocketAddr::new(PEER6, 80).into()));
        denied.expect_err("no IPv6 here").raw_os_error()
    };
    let without = connect(&world);
    enrol_alone(&mut world, POD4);
    assert_eq!(connect(&world), without);
    assert_eq!(without, Some(libc::ENETUNREACH));
    assert_eq!(world.count("connect", "other_family"), 1);
}

/// As where IPv6 pods have a side interface for what is IPv4 outside of the cluster.
#[test]
fn a_family_that_only_a_side_interface_has_is_left_alone() {
    let mut world = World::new(|_| {});
    world.pod.ip("-6 addr flush dev eth0");
    let [own, other]: [IpAddr; 2] = ["fd00:c01e:9::1", "fd00:c01e:9::2"].map(|text| text.parse().expect("an address"));
    world.pod.join_by("net1", 20, &[own], &world.peer, &[other]);
    enrol_alone(&mut world, POD4);
    let direct = world.serve(&world.peer, "[::]:80".parse().expect("an address"));
    let application = world.pod.run(move || {
        let socket = stream(true, None);
        socket.connect(&SocketAddr::new(other, 80).into()).map(|()| socket)
    });
    assert_eq!(accept(&direct).1, local(&application.expect("connect")));
}
