//! DNS queries of pods: through the proxy to the pod's own resolver and back as they are, and past it while it is gone.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

use culvert_lab::{Lab, MeshOptions, Pod, PodSpec, Service, ServiceSpec, wait_until};
use culvert_tests::{
    PATIENCE, Town, accept, dns,
    dns::{A, AAAA, Resolver},
    lab,
    town::PORT,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

/// A pod outside the mesh, on the other node.
fn outside(lab: &Lab, name: &str) -> Pod {
    lab.pod(PodSpec::new("outside", name).on(2)).unwrap()
}

/// A mesh whose queries are captured on node 1.
fn town(lab: &Lab) -> Town<'_> {
    let options = MeshOptions {
        log: Some("info,culvert_ztunnel=debug".to_owned()),
        ..MeshOptions::default()
    };
    Town::with(lab, options)
}

fn at(address: impl Into<IpAddr>) -> SocketAddr {
    SocketAddr::new(address.into(), 53)
}

/// The sum of a metric's series that contain this.
fn metric(town: &Town<'_>, port: u16, series: &str) -> f64 {
    let page = town.mesh.get(1, port, "/metrics").unwrap().body;
    let lines = page.lines().filter(|line| line.starts_with(series));
    lines
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

/// What no library would write: a reserved bit, two additional records, one of them before OPT, and bytes after all of it.
fn odd_query(id: u16) -> Vec<u8> {
    let mut message = dns::query(id, "OdD_.test", 65_280);
    message[3] |= 0x40;
    message[11] = 2;
    message.extend([0, 255, 1, 0, 1, 0, 0, 0, 0, 0, 0]);
    message.extend([0, 0, 41, 0x10, 0, 0, 0, 0, 0, 0, 7, 255, 254, 0, 3, 1, 2, 3]);
    message.extend(b"trailing bytes");
    message
}

/// As odd, and long: it takes many packets.
fn odd_answer(query: &[u8]) -> Option<Vec<u8>> {
    let mut answer = query.to_vec();
    answer[2] |= 0x80;
    answer.extend((0..20_000_u32).map(|byte| (byte % 251) as u8));
    Some(answer)
}

#[test]
fn whatever_is_asked_reaches_the_pods_own_resolver_as_it_is_and_its_answer_comes_back_as_it_is() {
    let lab = lab("dns_bytes");
    let pod = outside(&lab, "resolver");
    let resolver = Resolver::start(&pod, odd_answer);
    let town = town(&lab);
    let client = &town.client;
    let mapped = at(pod.ip4().to_ipv6_mapped());
    for (to, v6) in [(at(pod.ip4()), false), (at(pod.ip6()), true), (mapped, true)] {
        for is_connected in [true, false] {
            resolver.take();
            let query = odd_query(0x4711);
            let socket = dns::socket(client, v6);
            if is_connected {
                socket.connect(to).unwrap();
                socket.send(&query).unwrap();
                assert_eq!(socket.peer_addr().unwrap(), to);
            } else {
                socket.send_to(&query, to).unwrap();
            }
            let (answer, from) =
                dns::receive(&socket).unwrap_or_else(|error| panic!("{to}: {error}\n{}", lab.logs(40)));
            assert_eq!(from, to, "the answer comes from the resolver");
            assert!(answer == odd_answer(&query).unwrap(), "{to}: {} bytes", answer.len());
            let [(seen, by)] = &resolver.take()[..] else {
                panic!("asked once")
            };
            assert_eq!(seen[2..], query[2..], "all but the identifier");
            assert!(client.addresses().contains(&by.ip()), "asked by {by}");
        }
    }
    // A query goes past a proxy that had no processor for a second (see below), so a few more may be needed.
    for (port, series) in [
        (
            15022,
            "culvert_agent_kernel_events_total{hook=\"dns\",outcome=\"captured\"}",
        ),
        (15020, "istio_dns_requests_total"),
        (15020, "istio_dns_upstream_requests_total"),
        (15020, "istio_dns_upstream_request_duration_seconds_count"),
    ] {
        wait_until(series, PATIENCE, || {
            let is_enough = metric(&town, port, series) >= 6.0;
            is_enough || dns::ask(client, at(pod.ip4()), &odd_query(0x4712), PATIENCE).is_err()
        })
        .unwrap();
    }
}

/// Many at once from one socket, as resolving libraries do, and with `sendmmsg`, as glibc sends A and AAAA.
#[test]
fn answers_find_who_asked_whatever_their_order() {
    let lab = lab("dns_many");
    let pod = outside(&lab, "resolver");
    let _resolver = Resolver::start(&pod, dns::no_such_name);
    let town = town(&lab);
    let sockets: Vec<_> = (0..8).map(|_| dns::socket(&town.client, false)).collect();
    for round in 0..20_u16 {
        for (index, socket) in sockets.iter().enumerate() {
            let id = round * 100 + index as u16;
            let query = dns::query(id, &format!("name-{index}-{round}.test"), A);
            socket.send_to(&query, at(pod.ip4())).unwrap();
            let query = dns::query(id + 50, &format!("name-{index}-{round}.test"), AAAA);
            socket.send_to(&query, at(pod.ip4())).unwrap();
        }
        for (index, socket) in sockets.iter().enumerate() {
            let mut answers = [dns::receive(socket).unwrap().0, dns::receive(socket).unwrap().0];
            answers.sort();
            for (kind, answer) in [A, AAAA].into_iter().zip(answers) {
                let id = round * 100 + index as u16 + if kind == A { 0 } else { 50 };
                let query = dns::query(id, &format!("name-{index}-{round}.test"), kind);
                assert_eq!(answer, dns::no_such_name(&query).unwrap());
            }
        }
    }
}

#[test]
fn a_resolver_that_is_not_there_is_known_at_once() {
    let lab = lab("dns_refused");
    let pod = outside(&lab, "nobody");
    let town = town(&lab);
    let query = dns::query(7, "cart.test", A);
    for to in [at(pod.ip4()), at(pod.ip6())] {
        let refused = || metric(&town, 15020, "istio_dns_upstream_failures_total{reason=\"refused\"}");
        let before = refused();
        let answer = dns::ask(&town.client, to, &query, PATIENCE).unwrap();
        assert_eq!(dns::code(&answer), 2, "SERVFAIL");
        assert_eq!(answer[..2], query[..2]);
        // By the refusal, and not because its time was up.
        wait_until("the refusal to be counted", PATIENCE, || refused() > before).unwrap();
    }
}

/// A query that the proxy forwards has another identifier.
fn is_captured(client: &Pod, resolver: &Resolver, to: SocketAddr) -> bool {
    // One of 65,536 pairs is the same by chance.
    let ids: [u16; 2] = [0x1234, 0x4321];
    let query = |id| dns::query(id, "is-captured.test", A);
    resolver.take();
    for id in ids {
        dns::ask(client, to, &query(id), PATIENCE).unwrap();
    }
    // An earlier query may come late, and one that was lost with a proxy was asked again.
    let mut seen = resolver.take();
    seen.retain(|(seen, _)| seen[2..] == query(0)[2..]);
    assert!(seen.len() >= 2);
    seen.iter()
        .any(|(query, _)| !ids.contains(&u16::from_be_bytes([query[0], query[1]])))
}

/// A proxy that had no processor for a second counts as one that hangs, and queries go past it.
#[track_caller]
fn wait_until_captured(town: &Town<'_>, resolver: &Resolver, to: SocketAddr) {
    let waited = wait_until("queries are captured", PATIENCE, || {
        is_captured(&town.client, resolver, to)
    });
    waited.unwrap_or_else(|error| panic!("{error:#}\n{}", town.lab.logs(30)));
}

#[test]
fn names_resolve_directly_while_the_proxy_is_gone_and_queries_wait_while_its_worker_is_replaced() {
    let lab = lab("dns_restart");
    let pod = outside(&lab, "resolver");
    let resolver = Resolver::start(&pod, dns::no_such_name);
    let mut town = town(&lab);
    let to = at(pod.ip4());
    wait_until_captured(&town, &resolver, to);
    // A socket that was connected before goes on with the next worker.
    let early = dns::socket(&town.client, false);
    early.connect(to).unwrap();
    for round in 0..3 {
        town.mesh.kill_worker(1).unwrap();
        early.send(&dns::query(round, "early.test", A)).unwrap();
        dns::ask(&town.client, to, &dns::query(round, "late.test", A), PATIENCE).unwrap();
        assert_eq!(dns::receive(&early).unwrap().0[..2], round.to_be_bytes());
    }
    // Where a worker takes a moment too long on a busy machine, a query goes direct.
    let is_captured_again = || is_captured(&town.client, &resolver, to);
    wait_until("queries are captured again", PATIENCE, is_captured_again).unwrap();
    town.mesh.restart_agent(1).unwrap();
    wait_until("queries are captured still", PATIENCE, is_captured_again).unwrap();
    town.mesh.ztunnel(1).unwrap().kill().unwrap();
    wait_until("queries go direct", PATIENCE, || {
        let asked = dns::ask(&town.client, to, &dns::query(9, "cart.test", A), Duration::from_secs(1));
        asked.is_ok() && !is_captured(&town.client, &resolver, to)
    })
    .unwrap();
    town.mesh.start_ztunnel(1).unwrap();
    town.mesh.wait_for_ztunnel(1).unwrap();
    wait_until_captured(&town, &resolver, to);
}

/// Neither its process nor its sockets are gone, so only its silence tells.
#[test]
fn names_resolve_directly_while_the_proxy_hangs() {
    let lab = lab("dns_hang");
    let pod = outside(&lab, "resolver");
    let resolver = Resolver::start(&pod, dns::no_such_name);
    let mut town = town(&lab);
    let to = at(pod.ip6());
    wait_until_captured(&town, &resolver, to);
    let pids = [town.mesh.ztunnel(1).unwrap().pid(), town.mesh.worker_pid(1).unwrap()];
    let signal = |signal| {
        for pid in pids {
            kill_process(Pid::from_raw(pid as i32).unwrap(), signal).unwrap();
        }
    };
    signal(Signal::STOP);
    let waited = wait_until("queries go direct", PATIENCE, || {
        let asked = dns::ask(
            &town.client,
            to,
            &dns::query(9, "cart.test", A),
            Duration::from_millis(500),
        );
        asked.is_ok()
    });
    signal(Signal::CONT);
    waited.unwrap();
    wait_until_captured(&town, &resolver, to);
}

#[test]
fn a_pod_that_leaves_or_does_not_want_it_asks_its_resolver_itself() {
    let lab = lab("dns_leave");
    let pod = outside(&lab, "resolver");
    let resolver = Resolver::start(&pod, dns::no_such_name);
    let town = town(&lab);
    let to = at(pod.ip4());
    wait_until_captured(&town, &resolver, to);
    let annotate = |annotation: &str, value: &str| {
        let object = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {
                "name": "town",
                "labels": { "culvert.dev/mesh": "ambient" },
                "annotations": { annotation: value },
            },
        });
        lab.apply(&object).unwrap();
    };
    for (annotation, value, expected) in [
        ("culvert.dev/dns-capture", "disabled", false),
        ("culvert.dev/dns-capture", "enabled", true),
        ("ambient.istio.io/dns-capture", "false", false),
        ("ambient.istio.io/dns-capture", "nonsense", true),
    ] {
        annotate(annotation, value);
        let waited = wait_until("the annotation is followed", PATIENCE, || {
            is_captured(&town.client, &resolver, to) == expected
        });
        waited.unwrap_or_else(|error| panic!("{annotation}: {value}: {error:#}\n{}", lab.logs(30)));
    }
    town.leave();
    assert!(!is_captured(&town.client, &resolver, to));
}

#[test]
fn a_flood_of_one_pods_queries_leaves_anothers_alone_and_a_stranger_gets_nothing() {
    let lab = lab("dns_flood");
    let (silent, pod) = (outside(&lab, "silent"), outside(&lab, "resolver"));
    let black_hole = Resolver::start(&silent, |_| None);
    let resolver = Resolver::start(&pod, dns::no_such_name);
    let town = town(&lab);
    let (flood, begun) = (dns::socket(&town.neighbour, false), Instant::now());
    let dropped = || metric(&town, 15020, "culvert_ztunnel_dns_dropped_total{reason=\"overflow\"}");
    wait_until("the proxy has had enough", PATIENCE, || {
        for id in 0..1000 {
            flood
                .send_to(&dns::query(id, "cart.test", A), at(silent.ip4()))
                .unwrap();
        }
        dropped() > 0.0
    })
    .unwrap();
    for id in 0..20 {
        // Asked once: none of them is lost.
        let socket = dns::socket(&town.client, false);
        socket.connect(at(pod.ip4())).unwrap();
        socket.send(&dns::query(id, "cart.test", A)).unwrap();
        let (answer, _) = dns::receive(&socket).unwrap_or_else(|error| panic!("query {id}: {error}"));
        assert_eq!(dns::code(&answer), 3);
    }
    // What may wait in each of two loops, and again when that is forgotten. What the kernel lets past a proxy that had no processor for a
    // second comes from the flood's own port.
    let own = flood.local_addr().unwrap().port();
    let forwarded = black_hole.take().into_iter().filter(|(_, by)| by.port() != own).count() as u64;
    let most = 2 * 1024 * (1 + begun.elapsed().as_secs() / 10);
    assert!(forwarded <= most + 8, "{forwarded}");
    // From outside, the proxy's sockets are not there.
    for to in town.client.addresses() {
        let stranger = dns::socket(&pod, true);
        let to = match to {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        assert_nothing_from(&stranger, to);
    }
    drop(resolver);
}

fn assert_nothing_from(stranger: &std::net::UdpSocket, to: Ipv6Addr) {
    stranger.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    stranger.connect(SocketAddr::from((to, 15053))).unwrap();
    stranger.send(&dns::query(1, "cart.test", A)).unwrap();
    assert!(dns::receive(stranger).is_err());
}

/// A service that has its name in the mesh alone, and its addresses.
fn service(lab: &Lab) -> Service {
    let spec = ServiceSpec::new("town", "web").port(PORT).selector("app", "server");
    lab.service(spec).unwrap()
}

#[test]
fn a_service_is_found_by_its_name_although_the_resolver_does_not_know_it() {
    for mode in ["wildcard", "on-demand"] {
        let lab = lab("dns_names");
        let pod = outside(&lab, "resolver");
        let resolver = Resolver::start(&pod, dns::no_such_name);
        let web = service(&lab);
        let town = Town::with(
            &lab,
            MeshOptions {
                ztunnel_args: vec!["--config-mode".to_owned(), mode.to_owned()],
                log: Some("info,culvert_ztunnel=debug".to_owned()),
                ..MeshOptions::default()
            },
        );
        let name = "web.town.svc.cluster.local";
        for to in [at(pod.ip4()), at(pod.ip6())] {
            for (kind, address) in [(A, IpAddr::from(web.ip4())), (AAAA, IpAddr::from(web.ip6()))] {
                let asked = dns::query(7, name, kind);
                let mut answer = Vec::new();
                let waited = wait_until("the mesh answers", PATIENCE, || {
                    answer = dns::ask(&town.client, to, &asked, PATIENCE).unwrap();
                    dns::code(&answer) == 0
                });
                waited.unwrap_or_else(|error| panic!("{mode}: {error:#}\n{}", lab.logs(30)));
                assert_eq!(dns::addresses(&answer), [address], "{mode}");
                // More than once where the kernel let it past a proxy that had no processor for a second.
                let alone = wait_until("the mesh answers alone", PATIENCE, || {
                    resolver.take();
                    assert_eq!(dns::ask(&town.client, to, &asked, PATIENCE).unwrap()[..2], asked[..2]);
                    resolver.take().is_empty()
                });
                alone.unwrap_or_else(|error| panic!("{mode}: the resolver was asked: {error:#}"));
            }
        }
        let asked = dns::query(8, "elsewhere.test", A);
        assert_eq!(
            dns::code(&dns::ask(&town.client, at(pod.ip4()), &asked, PATIENCE).unwrap()),
            3
        );
        assert!(!resolver.take().is_empty(), "{mode}: the resolver was not asked");
    }
}

/// One message of a DNS connection.
fn receive_on(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message).map(|()| message)
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes(), message].concat()
}

#[test]
fn over_tcp_the_mesh_answers_what_it_knows_and_the_resolver_gets_the_rest_as_it_is() {
    let lab = lab("dns_tcp");
    let pod = outside(&lab, "resolver");
    let web = service(&lab);
    let wildcard = ["--config-mode", "wildcard"].map(ToOwned::to_owned);
    let town = Town::with(
        &lab,
        MeshOptions {
            ztunnel_args: wildcard.into(),
            ..MeshOptions::default()
        },
    );
    let listener = pod.listen(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 53))).unwrap();
    let known = dns::query(7, "web.town.svc.cluster.local", A);
    let odd = odd_query(9);
    for to in [at(pod.ip4()), at(pod.ip6())] {
        let mut client = town.client.connect(to, PATIENCE).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        // Two at once, and a third in pieces.
        client.write_all(&[framed(&known), framed(&known)].concat()).unwrap();
        let framed_known = framed(&known);
        for piece in framed_known.chunks(5) {
            client.write_all(piece).unwrap();
        }
        for _ in 0..3 {
            let answer = receive_on(&mut client).unwrap();
            assert_eq!(dns::addresses(&answer), [IpAddr::from(web.ip4())]);
        }
        // From the first that is not the mesh's, all of it is the resolver's, also what the mesh would know.
        let rest = [framed(&odd), framed(&known), b"\0\x01garbage".to_vec()].concat();
        client.write_all(&rest).unwrap();
        let (mut seen, _) = accept(&listener);
        let mut bytes = vec![0; rest.len()];
        seen.read_exact(&mut bytes).unwrap();
        assert!(bytes == rest, "{bytes:?}");
        let reply = odd_answer(&odd).unwrap();
        seen.write_all(&framed(&reply)).unwrap();
        assert!(receive_on(&mut client).unwrap() == reply);
        drop(seen);
        assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
    }
    // Nothing but what the mesh knows, and then the end.
    let mut client = town.client.connect(at(pod.ip4()), PATIENCE).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(&framed(&known)).unwrap();
    receive_on(&mut client).unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
}
