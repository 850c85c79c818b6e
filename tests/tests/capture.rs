//! Which connections the kernel programs turn into the tunnel, and which they leave alone.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

use culvert_lab::{MeshOptions, PodSpec, wait_until};
use culvert_tests::{PATIENCE, Town, echo, lab, probe, town::PORT};
use std::net::{IpAddr, SocketAddr, UdpSocket};

/// Dials the server on node 2 in one way and asserts that the bytes crossed the link encrypted, and that both
/// applications see each other's true addresses.
fn carried(name: &str, how: &str, pick: fn([IpAddr; 2]) -> IpAddr) {
    let lab = lab(name);
    let town = Town::meshed(&lab);
    let to = SocketAddr::new(pick(town.server.addresses()), PORT);
    let found = town
        .in_the_tunnel(|| probe::dial(&town.client, to, &["--how", how]))
        .unwrap();
    let client = pick(town.client.addresses());
    assert_eq!(
        probe::address(&found, "client", "getpeername"),
        to,
        "the client's peer is what it dialled"
    );
    assert_eq!(probe::address(&found, "client", "getsockname").ip(), client);
    assert_eq!(
        probe::address(&found, "server", "accept").ip(),
        client,
        "accept shows the true client"
    );
    assert_eq!(
        probe::address(&found, "server", "getpeername").ip(),
        client,
        "getpeername shows the true client"
    );
    assert_eq!(
        probe::address(&found, "server", "getsockname"),
        to,
        "the server's own address is what was dialled"
    );
}

fn ip4([ip4, _]: [IpAddr; 2]) -> IpAddr {
    ip4
}

fn ip6([_, ip6]: [IpAddr; 2]) -> IpAddr {
    ip6
}

#[test]
fn an_ipv4_connect_is_carried_through_the_tunnel() {
    carried("cap_v4", "plain", ip4);
}

#[test]
fn between_our_own_proxies_keys_are_exchanged_in_a_way_that_outlasts_quantum_computers_and_it_shows() {
    let lab = lab("cap_pq");
    let town = Town::meshed(&lab);
    echo::serve(&town.server, PORT + 1);
    let mut open = echo::connect(&town.client, (town.server.ip4(), PORT + 1).into(), PATIENCE).unwrap();
    for (node, role) in [(town.client.node(), "client"), (town.server.node(), "server")] {
        let opened = format!("culvert_ztunnel_tunnels_opened_total{{role=\"{role}\",key_exchange=\"X25519MLKEM768\"}}");
        let mut page = serde_json::Value::Null;
        // Others, opened in clear before the label was known, may be there for a moment.
        let waited = wait_until("metrics and page show it", PATIENCE, || {
            let shown = town.mesh.get(node, 15000, "/connections").unwrap().body;
            page = serde_json::from_str(&shown).unwrap();
            let metrics = town.mesh.get(node, 15020, "/metrics").unwrap().body;
            page["connections"][0]["key_exchange"] == "X25519MLKEM768" && metrics.contains(&opened)
        });
        waited.unwrap_or_else(|error| panic!("{error:#}: {page}"));
    }
    echo::round_trip(&mut open).unwrap();
}

#[test]
fn an_ipv6_connect_is_carried_through_the_tunnel() {
    carried("cap_v6", "plain", ip6);
}

#[test]
fn a_v4_mapped_connect_is_carried_through_the_tunnel() {
    carried("cap_mapped", "v4-mapped", ip4);
}

#[test]
fn an_mptcp_connect_is_carried_through_the_tunnel() {
    carried("cap_mptcp4", "mptcp", ip4);
}

#[test]
fn an_mptcp_connect_over_ipv6_is_carried_through_the_tunnel() {
    carried("cap_mptcp6", "mptcp", ip6);
}

#[test]
fn a_fast_open_send_is_carried_through_the_tunnel() {
    carried("cap_tfo4", "fast-open", ip4);
}

#[test]
fn a_fast_open_send_over_ipv6_is_carried_through_the_tunnel() {
    carried("cap_tfo6", "fast-open", ip6);
}

#[test]
fn a_deferred_fast_open_connect_is_carried_through_the_tunnel() {
    carried("cap_tfoc", "fast-open-connect", ip4);
}

#[test]
fn a_non_blocking_connect_is_carried_through_the_tunnel() {
    carried("cap_nb", "non-blocking", ip4);
}

#[test]
fn an_io_uring_connect_is_carried_through_the_tunnel() {
    carried("cap_uring", "io-uring", ip4);
}

#[test]
fn a_connect_from_a_bound_socket_is_carried_through_the_tunnel() {
    carried("cap_bound", "bound", ip6);
}

#[test]
fn an_mptcp_listener_is_served() {
    let lab = lab("cap_mptcpd");
    let town = Town::meshed(&lab);
    let _server = probe::serve_with(&town.server, 8081, &["--mptcp"]);
    for how in ["plain", "mptcp"] {
        town.in_the_tunnel(|| probe::dial(&town.client, (town.server.ip4(), 8081), &["--how", how]))
            .unwrap();
    }
}

#[test]
fn a_connect_on_one_node_sees_the_same_addresses() {
    let lab = lab("cap_same");
    let town = Town::meshed(&lab);
    for (to, from) in town.neighbour.addresses().into_iter().zip(town.client.addresses()) {
        let to = SocketAddr::new(to, PORT);
        let found = probe::dial(&town.client, to, &[]).unwrap();
        assert_eq!(probe::address(&found, "client", "getpeername"), to);
        assert_eq!(probe::address(&found, "server", "accept").ip(), from);
    }
}

#[test]
fn loopback_and_the_own_address_are_left_alone() {
    let lab = lab("cap_self");
    let town = Town::meshed(&lab);
    let _loopback = probe::serve(&town.client, PORT);
    let own = town.client.addresses();
    for to in ["127.0.0.1".parse().unwrap(), "::1".parse().unwrap(), own[0], own[1]] {
        let found = probe::dial(&town.client, (to, PORT), &[]).unwrap();
        let (client, server) = (
            probe::address(&found, "client", "getsockname"),
            probe::address(&found, "server", "accept"),
        );
        assert_eq!(client, server, "to {to}: one connection, so the same port at both ends");
    }
}

#[test]
fn excluded_ranges_and_ports_are_left_alone() {
    let lab = lab("cap_excl");
    let args = ["--exclude-port", "8082", "--exclude-cidr", "198.18.2.11/32"].map(ToOwned::to_owned);
    let town = Town::with(
        &lab,
        MeshOptions {
            agent_args: args.into(),
            ..MeshOptions::default()
        },
    );
    let excluded = lab.pod(PodSpec::new("town", "excluded").on(2)).unwrap();
    assert_eq!(excluded.ip4().to_string(), "198.18.2.11", "the second pod of node 2");
    town.mesh
        .wait_enrolled(&[&excluded], true, culvert_tests::PATIENCE)
        .unwrap();
    let _by_range = probe::serve(&excluded, PORT);
    let _by_port = probe::serve(&town.server, 8082);
    for to in [
        SocketAddr::from((excluded.ip4(), PORT)),
        (town.server.ip4(), 8082).into(),
        (town.server.ip6(), 8082).into(),
    ] {
        let (found, seen) = town.on_the_wire(|| probe::dial(&town.client, to, &[]));
        found.unwrap_or_else(|error| panic!("{to}: {error}"));
        assert!(seen.clear_bytes > 0, "{to} is excluded, so it goes in clear");
    }
    town.in_the_tunnel(|| probe::dial(&town.client, (town.server.ip4(), PORT), &[]))
        .unwrap();
}

#[test]
fn udp_is_left_alone() {
    let lab = lab("cap_udp");
    let town = Town::meshed(&lab);
    let udp = |pod: &culvert_lab::Pod, address: IpAddr| -> UdpSocket {
        let family = if address.is_ipv4() {
            libc::AF_INET
        } else {
            libc::AF_INET6
        };
        let socket = socket2::Socket::from(pod.socket(family, libc::SOCK_DGRAM, 0).unwrap());
        socket.bind(&SocketAddr::new(address, 0).into()).unwrap();
        socket.set_read_timeout(Some(culvert_tests::PATIENCE)).unwrap();
        socket.into()
    };
    for (from, to) in town.client.addresses().into_iter().zip(town.server.addresses()) {
        let (client, server) = (udp(&town.client, from), udp(&town.server, to));
        client.connect(server.local_addr().unwrap()).unwrap();
        client.send(b"datagram").unwrap();
        let mut buffer = [0u8; 64];
        let (length, peer) = server.recv_from(&mut buffer).unwrap();
        assert_eq!(
            (&buffer[..length], peer),
            (&b"datagram"[..], client.local_addr().unwrap())
        );
    }
}

#[test]
fn a_destination_outside_the_mesh_is_passed_through() {
    let lab = lab("cap_out");
    let town = Town::meshed(&lab);
    let outside = lab.pod(PodSpec::new("outside", "server").on(2)).unwrap();
    let _server = probe::serve(&outside, PORT);
    for (to, from) in outside.addresses().into_iter().zip(town.client.addresses()) {
        let found = probe::dial(&town.client, (to, PORT), &[]).unwrap_or_else(|error| panic!("{to}: {error}"));
        assert_eq!(
            probe::address(&found, "client", "getpeername"),
            SocketAddr::new(to, PORT)
        );
        assert_eq!(probe::address(&found, "server", "accept").ip(), from);
    }
}

#[test]
fn plaintext_from_outside_the_mesh_reaches_a_pod_inside() {
    let lab = lab("cap_in");
    let town = Town::meshed(&lab);
    let outside = lab.pod(PodSpec::new("outside", "client").on(1)).unwrap();
    for (to, from) in town.server.addresses().into_iter().zip(outside.addresses()) {
        let found = probe::dial(&outside, (to, PORT), &[]).unwrap_or_else(|error| panic!("{to}: {error}"));
        assert_eq!(
            probe::address(&found, "server", "accept").ip(),
            from,
            "the app sees the true client here, too"
        );
        assert_eq!(
            probe::address(&found, "server", "getsockname"),
            SocketAddr::new(to, PORT)
        );
    }
}

#[test]
fn a_closed_port_and_an_absent_host_end_in_an_error_in_time() {
    let lab = lab("cap_none");
    let town = Town::meshed(&lab);
    let absent: IpAddr = "198.18.2.250".parse().unwrap();
    for to in [
        SocketAddr::from((town.server.ip4(), 9)),
        (town.server.ip6(), 9).into(),
        (absent, PORT).into(),
    ] {
        probe::dial(&town.client, to, &["--timeout", "35"]).unwrap_err();
    }
    town.assert_works();
}

#[test]
fn without_a_mesh_the_witnesses_see_everything() {
    // Shows that "no byte in clear" in the other tests is not blindness.
    let lab = lab("cap_bare");
    let (client, server) = (
        lab.pod(PodSpec::new("bare", "client").on(1)).unwrap(),
        lab.pod(PodSpec::new("bare", "server").on(2)).unwrap(),
    );
    let _server = probe::serve(&server, PORT);
    for how in [
        "plain",
        "mptcp",
        "fast-open",
        "fast-open-connect",
        "non-blocking",
        "io-uring",
        "bound",
    ] {
        for to in server.addresses() {
            let capture = culvert_lab::Capture::start(lab.node(1).namespace(), "wire", &["getpeername"]).unwrap();
            let found = probe::dial(&client, (to, PORT), &["--how", how]);
            found.unwrap_or_else(|error| panic!("{how} to {to}: {error}"));
            let seen = capture.take();
            assert!(
                seen.clear_bytes > 0 && seen.encrypted_bytes == 0 && seen.marked_packets > 0,
                "{how}: {seen:?}"
            );
        }
    }
}
