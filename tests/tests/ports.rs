//! A pod's ports and addresses stay its own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

use culvert_lab::{Pod, PodSpec, wait_until};
use culvert_tests::{PATIENCE, Town, accept, lab};
use std::{
    fs, io,
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    ops::Range,
    process::Command,
};

/// All that the kernel may choose from in a pod whose range is narrow.
const NARROW: Range<u16> = 40000..40100;
/// More than that.
const MANY: usize = 130;
const PORT: u16 = 9000;

fn narrow(pod: &Pod) {
    let range = format!("{} {}", NARROW.start, NARROW.end - 1);
    let set = move || fs::write("/proc/sys/net/ipv4/ip_local_port_range", range);
    pod.run(set).unwrap().unwrap();
}

/// A connection that carries a byte, both ends of it.
fn connect(from: &Pod, to: SocketAddr, listener: &TcpListener) -> (TcpStream, TcpStream) {
    let mut client = from
        .connect(to, PATIENCE)
        .unwrap_or_else(|error| panic!("{to}: {error}"));
    client.write_all(b"x").unwrap();
    let (mut served, peer) = accept(listener);
    served
        .read_exact(&mut [0])
        .unwrap_or_else(|error| panic!("{to}: {error}"));
    let own = client.local_addr().unwrap();
    assert_eq!(
        SocketAddr::new(peer.ip().to_canonical(), peer.port()),
        own,
        "the application sees the true client"
    );
    (client, served)
}

/// The ports of the narrow range on which an application of the pod cannot listen.
fn taken(pod: &Pod) -> Vec<u16> {
    let listen = |address: SocketAddr| -> io::Result<()> {
        let socket = pod.tcp_socket(address)?;
        socket.bind(&address.into())?;
        socket.listen(1)
    };
    let any: [IpAddr; 2] = ["0.0.0.0".parse().unwrap(), "::".parse().unwrap()];
    let is_taken = |port: &u16| any.into_iter().any(|any| listen(SocketAddr::new(any, *port)).is_err());
    NARROW.filter(is_taken).collect()
}

/// As many connections as there are clients, and no port taken from the application, whichever side ends them.
#[test]
fn a_server_has_as_many_connections_and_ports_as_without_a_mesh() {
    let lab = lab("ports_in");
    let town = Town::meshed(&lab);
    narrow(&town.server);
    let listener = town
        .server
        .listen(SocketAddr::new("::".parse().unwrap(), PORT))
        .unwrap();
    for address in town.server.addresses() {
        let to = SocketAddr::new(address, PORT);
        for client_ends_first in [true, false] {
            let open: Vec<_> = [&town.client, &town.neighbour]
                .into_iter()
                .flat_map(|from| (0..MANY).map(|_| connect(from, to, &listener)).collect::<Vec<_>>())
                .collect();
            assert_eq!(
                taken(&town.server),
                [0; 0],
                "{to}: while {} connections are open",
                open.len()
            );
            for (client, served) in open {
                let (mut first, mut second) = if client_ends_first {
                    (client, served)
                } else {
                    (served, client)
                };
                drop(second.set_read_timeout(Some(PATIENCE)));
                first.shutdown(std::net::Shutdown::Write).unwrap();
                assert_eq!(second.read(&mut [0]).unwrap(), 0);
                drop(second);
                assert_eq!(first.read(&mut [0]).unwrap(), 0);
            }
            assert_eq!(taken(&town.server), [0; 0], "{to}: after they ended");
        }
    }
}

/// What the application does not read and does not close stays open on the mesh's side: without a port of the pod's.
#[test]
fn connections_that_an_application_never_closes_hinder_nobody() {
    let lab = lab("ports_cw");
    let town = Town::meshed(&lab);
    narrow(&town.server);
    let listener = town
        .server
        .listen(SocketAddr::new("::".parse().unwrap(), PORT))
        .unwrap();
    let to = SocketAddr::from((town.server.ip4(), PORT));
    let mut kept = Vec::new();
    for _ in 0..3 {
        for _ in 0..MANY {
            let (client, mut served) = connect(&town.client, to, &listener);
            drop(client);
            assert_eq!(served.read(&mut [0]).unwrap(), 0);
            kept.push(served); // in CLOSE_WAIT
        }
        assert_eq!(taken(&town.server), [0; 0], "with {} in CLOSE_WAIT", kept.len());
    }
}

/// One of a few local ports serves connections to several destinations.
#[test]
fn a_client_has_as_many_connections_as_without_a_mesh() {
    let lab = lab("ports_out");
    let town = Town::meshed(&lab);
    narrow(&town.client);
    let mut open = Vec::new();
    for port in PORT..PORT + 3 {
        let listener = town
            .server
            .listen(SocketAddr::new("::".parse().unwrap(), port))
            .unwrap();
        for address in town.server.addresses() {
            let to = SocketAddr::new(address, port);
            // An IPv6 and an IPv4 connection may have the same port.
            open.extend((0..40).map(|_| connect(&town.client, to, &listener)));
        }
    }
    assert_eq!(open.len(), 240);
}

/// A client that has used up its ports towards one destination hears of it at once, as without a mesh, and not by a reset or by
/// silence; other destinations are there meanwhile, and this one is again once a connection has ended.
#[test]
fn a_client_without_ports_for_one_destination_is_told_and_reaches_all_others() {
    let lab = lab("ports_used_up");
    let town = Town::meshed(&lab);
    narrow(&town.client);
    let any: IpAddr = "::".parse().unwrap();
    let listener = town.server.listen((any, PORT)).unwrap();
    for address in town.server.addresses() {
        let to = SocketAddr::new(address, PORT);
        let mut open = Vec::new();
        let error = loop {
            match town.client.connect(to, PATIENCE) {
                Ok(client) => open.push((client, accept(&listener).0)),
                Err(error) => break error,
            }
            assert!(open.len() <= NARROW.len(), "more connections than ports");
        };
        assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable, "{to}: {error}");
        // The mesh's own tunnels take a port or two.
        assert!(open.len() >= NARROW.len() - 10, "{to}: no port after {}", open.len());
        let other = town.server.listen((any, PORT + 1)).unwrap();
        for address in town.server.addresses() {
            connect(&town.client, SocketAddr::new(address, PORT + 1), &other);
        }
        for (client, served) in &mut open {
            client.write_all(b"x").unwrap();
            served.read_exact(&mut [0]).unwrap();
        }
        open.truncate(1);
        let mut again = None;
        wait_until("ports are free again", PATIENCE, || {
            again = town.client.connect(to, PATIENCE).ok();
            again.is_some()
        })
        .unwrap();
        accept(&listener);
    }
}

/// The kernel gives no port of the mesh to a socket of the pod while it is in the mesh, and the pod has back what it had
/// afterwards.
#[test]
fn the_meshs_ports_are_reserved_and_given_back() {
    let lab = lab("ports_res");
    let town = Town::unlabelled(&lab, culvert_lab::MeshOptions::default());
    let settings = |pod: &Pod| {
        let read = |name: &str| {
            let mut text = [0; 4096];
            let count = fs::File::open(format!("/proc/sys/net/ipv4/{name}"))
                .unwrap()
                .read(&mut text)
                .unwrap();
            String::from_utf8_lossy(&text[..count]).trim().to_owned()
        };
        pod.run(|| ["ip_local_reserved_ports", "tcp_tw_reuse", "tcp_no_metrics_save"].map(read))
            .unwrap()
    };
    let set = || fs::write("/proc/sys/net/ipv4/ip_local_reserved_ports", "7000-7009");
    town.client.run(set).unwrap().unwrap();
    let before = [&town.client, &town.server].map(settings);
    town.join();
    let during = [&town.client, &town.server].map(settings);
    assert_eq!(during[0][0], "7000-7009,15001-15006,15008,15053-15055,15360-16383");
    assert_eq!(during[1][0], "15001-15006,15008,15053-15055,15360-16383");
    town.leave();
    let mut after = Default::default();
    let restored = wait_until("the settings are as before", PATIENCE, || {
        after = [&town.client, &town.server].map(settings);
        after == before
    });
    restored.unwrap_or_else(|error| panic!("{error:#}: {after:?}"));
}

fn ip(arguments: &str) {
    let done = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(
        done.status.success(),
        "ip {arguments}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
}

/// Another network for two pods, as Multus would give them.
fn join_by_net1(one: &Pod, other: &Pod) -> [IpAddr; 2] {
    let (a, b) = (one.netns().name(), other.netns().name());
    ip(&format!("-n {a} link add net1 type veth peer name net1 netns {b}"));
    for (netns, address) in [(a, "192.0.2.1"), (b, "192.0.2.2")] {
        ip(&format!("-n {netns} addr add {address}/24 dev net1"));
        ip(&format!("-n {netns} link set net1 up"));
    }
    ["192.0.2.1", "192.0.2.2"].map(|text| text.parse().unwrap())
}

#[test]
fn a_second_interface_works_as_without_a_mesh() {
    let lab = lab("ports_net1");
    let town = Town::meshed(&lab);
    let outside = lab.pod(PodSpec::new("outside", "beside").on(1)).unwrap();
    let [own, other] = join_by_net1(&town.client, &outside);
    let any: IpAddr = "::".parse().unwrap();
    let (there, here) = (
        outside.listen((any, PORT)).unwrap(),
        town.client.listen((any, PORT)).unwrap(),
    );
    let to = SocketAddr::new(other, PORT);

    let check = |how: &str, prepare: &dyn Fn(&socket2::Socket) -> io::Result<()>| {
        let socket = town.client.tcp_socket(to).unwrap();
        prepare(&socket).unwrap_or_else(|error| panic!("{how}: {error}"));
        socket
            .connect_timeout(&to.into(), PATIENCE)
            .unwrap_or_else(|error| panic!("{how}: {error}"));
        let (_served, peer) = accept(&there);
        assert_eq!(peer.ip().to_canonical(), own, "{how}");
    };
    check("by its route", &|_| Ok(()));
    check("from its address", &|socket| {
        socket.bind(&SocketAddr::new(own, 0).into())
    });
    check("by its name", &|socket| socket.bind_device(Some(b"net1")));

    let client = outside.connect((own, PORT), PATIENCE).unwrap();
    let (_served, peer) = accept(&here);
    assert_eq!(peer.ip().to_canonical(), other);
    drop(client);
    wait_for_notice(&town, &town.client, &format!("{own} (net1)"));
}

/// Waits until the agent's status page says something about a pod.
fn wait_for_notice(town: &Town<'_>, pod: &Pod, wanted: &str) {
    let mut last = String::new();
    let said = wait_until("the agent says it", PATIENCE, || {
        let page = town.mesh.get(pod.node(), 15022, "/pods").map(|answer| answer.body);
        last = page.unwrap_or_default();
        let page: serde_json::Value = serde_json::from_str(&last).unwrap_or_default();
        let pods = page["pods"].as_array().cloned().unwrap_or_default();
        let own = pods.iter().filter(|one| one["name"] == pod.name());
        own.filter_map(|one| one["notices"].as_array())
            .flatten()
            .any(|one| one.as_str().is_some_and(|notice| notice.contains(wanted)))
    });
    said.unwrap_or_else(|error| panic!("{error:#}: {wanted}: {last}"));
}

/// A router is one whatever it forwards: said, because it is not carried.
#[test]
fn a_pod_that_forwards_is_said_to_and_its_own_traffic_is_carried() {
    let lab = lab("ports_router");
    let town = Town::meshed(&lab);
    let guest = lab.pod(PodSpec::new("outside", "guest").on(1)).unwrap();
    let [inside, _] = join_by_net1(&town.client, &guest);
    let forward = || fs::write("/proc/sys/net/ipv4/ip_forward", "1");
    town.client.run(forward).unwrap().unwrap();
    wait_for_notice(&town, &town.client, "forwards packets");
    // What is inside reaches the pod itself.
    let listener = town.client.listen((IpAddr::from([0, 0, 0, 0]), PORT)).unwrap();
    let _client = guest.connect((inside, PORT), PATIENCE).unwrap();
    accept(&listener);
    town.in_the_tunnel(|| culvert_tests::probe::dial(&town.client, (town.server.ip4(), 8080), &[]))
        .unwrap();
}

/// An application may be first on a port of the mesh's; the pod then does with fewer ports, and it is said.
#[test]
fn an_application_on_the_port_that_the_mesh_connects_from_is_said_and_served() {
    let lab = lab("ports_15002");
    let town = Town::meshed(&lab);
    // Without SO_REUSEADDR, so that nobody shares it.
    let any = SocketAddr::new("::".parse().unwrap(), 15002);
    let socket = town.server.tcp_socket(any).unwrap();
    socket.bind(&any.into()).unwrap();
    socket.listen(16).unwrap();
    let own = TcpListener::from(socket);
    let listener = town.server.listen((any.ip(), PORT)).unwrap();
    for address in town.server.addresses() {
        connect(&town.client, SocketAddr::new(address, PORT), &listener);
        connect(&town.client, SocketAddr::new(address, 15002), &own);
    }
    wait_for_notice(&town, &town.server, "listens on port 15002");
}

/// Where an application sends from does not decide whether it is encrypted.
#[test]
fn what_comes_from_an_address_that_the_mesh_does_not_know_is_carried() {
    let lab = lab("ports_vip");
    let town = Town::meshed(&lab);
    let extra: IpAddr = "198.19.201.1".parse().unwrap();
    ip(&format!(
        "-n {} addr add {extra}/32 dev eth0",
        town.client.netns().name()
    ));
    let listener = town
        .server
        .listen(SocketAddr::new("::".parse().unwrap(), PORT))
        .unwrap();
    let to = SocketAddr::from((town.server.ip4(), PORT));
    town.in_the_tunnel(|| {
        let socket = town.client.tcp_socket(to).unwrap();
        socket.bind(&SocketAddr::new(extra, 0).into()).unwrap();
        socket.connect_timeout(&to.into(), PATIENCE).unwrap();
        let mut client = TcpStream::from(socket);
        client.write_all(b"x").unwrap();
        let (mut served, peer) = accept(&listener);
        served.read_exact(&mut [0]).unwrap();
        assert_eq!(
            peer.ip().to_canonical(),
            IpAddr::from(town.client.ip4()),
            "the pod's address in the mesh"
        );
        assert_eq!(client.local_addr().unwrap().ip(), extra);
    });
}
