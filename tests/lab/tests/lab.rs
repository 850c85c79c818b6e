//! The lab without a mesh: addresses, services, captures and leaving nothing behind. Needs root.

#![allow(clippy::unwrap_used, reason = "a test and its helpers")]

use culvert_lab::{Capture, Lab, PodSpec, ServiceSpec, netfilter, wait_until};
use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener},
    process::Command,
    thread,
    time::Duration,
};

const PATIENCE: Duration = Duration::from_secs(5);

/// Answers every connection with the server's name and the peer's address.
fn serve(name: String, listener: TcpListener) {
    thread::spawn(move || {
        while let Ok((mut stream, peer)) = listener.accept() {
            let _client_may_be_gone = stream.write_all(format!("{name} {peer}").as_bytes());
        }
    });
}

fn ask(client: &culvert_lab::Pod, server: IpAddr, port: u16) -> String {
    let mut stream = client
        .connect((server, port), PATIENCE)
        .unwrap_or_else(|error| panic!("{server}: {error}"));
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn pods_reach_pods_and_services_in_both_families() {
    let lab = Lab::unique("reach").unwrap();
    let web = |name, node| PodSpec::new("shop", name).on(node).label("app", "web");
    let service = lab
        .service(ServiceSpec::new("shop", "web").port(8080).selector("app", "web"))
        .unwrap();
    let near = lab.pod(web("near", 1)).unwrap();
    let far = lab.pod(web("far", 2)).unwrap();
    let clients = [1, 2].map(|node| {
        lab.pod(PodSpec::new("shop", &format!("client{node}")).on(node))
            .unwrap()
    });
    let capture = Capture::start(lab.node(1).namespace(), "wire", &["198.18.1."]).unwrap();
    for pod in [&near, &far] {
        serve(
            pod.name().to_owned(),
            pod.listen("[::]:8080".parse::<SocketAddr>().unwrap()).unwrap(),
        );
    }
    for client in &clients {
        for server in near.addresses().into_iter().chain(far.addresses()) {
            let answer = ask(client, server, 8080);
            let peer: SocketAddr = answer.split_once(' ').unwrap().1.parse().unwrap();
            let own = client.addresses()[usize::from(server.is_ipv6())];
            assert_eq!(peer.ip().to_canonical(), own, "{server} from {}", client.name());
        }
        for server in service.addresses() {
            let names: BTreeSet<String> = (0..4)
                .map(|_| ask(client, server, 8080).split_once(' ').unwrap().0.to_owned())
                .collect();
            assert_eq!(names.len(), 2, "{server} from {}: {names:?}", client.name());
        }
    }
    wait_until("the capture has seen what client1 was told", PATIENCE, || {
        capture.seen().marked_packets >= 1
    })
    .unwrap();
    let seen = capture.take();
    assert!(seen.clear_bytes > 40, "{seen:?}");
    assert_eq!((seen.encrypted_bytes, seen.missed), (0, 0));

    // A backing pod that goes gets no more connections.
    lab.remove_pod(&near).unwrap();
    for address in service.addresses() {
        for _ in 0..3 {
            ask(&clients[0], address, 8080);
        }
    }
}

#[test]
fn rules_are_counted_and_there_are_none() {
    let lab = Lab::unique("rules").unwrap();
    lab.pod(PodSpec::new("shop", "web")).unwrap();
    let counts = lab.namespaces_do(netfilter::rules).unwrap();
    assert_eq!(counts, [0, 0, 0, 0]);
    // The count itself must work: where there is a tool to make rules, make some.
    let node = lab.node(1);
    let mut expected = 0;
    for (program, lines) in [
        (
            "nft",
            &[
                "add table inet t",
                "add chain inet t c",
                "add rule inet t c accept",
                "add rule inet t c drop",
            ][..],
        ),
        ("iptables-legacy", &["-A INPUT -j ACCEPT"]),
        (
            "ip6tables-legacy",
            &["-A INPUT -j ACCEPT", "-t mangle -A OUTPUT -j ACCEPT"],
        ),
    ] {
        let done = lines.iter().all(|line| {
            node.output(Command::new(program).args(line.split(' ')))
                .is_ok_and(|output| output.status.success())
        });
        if done {
            expected += if program == "nft" { 2 } else { lines.len() as u64 };
        }
    }
    assert_eq!(netfilter::rules(node.namespace()).unwrap(), expected);
    eprintln!("{expected} rules were made and counted");
}

#[test]
fn a_dropped_lab_leaves_nothing() {
    let lab = Lab::unique("gone").unwrap();
    let name = lab.name().to_owned();
    let pod = lab.pod(PodSpec::new("shop", "web")).unwrap();
    let mut process = pod.spawn("sleep", Command::new("sleep").arg("1000")).unwrap();
    let folder = lab.dir().to_owned();
    assert!(process.is_running());
    drop(lab);
    process.wait(PATIENCE).unwrap();
    assert!(!folder.exists());
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&name), "{mounts}");
    let namespaces = Command::new("ip").args(["netns", "list"]).output().unwrap();
    assert!(!String::from_utf8_lossy(&namespaces.stdout).contains(&name));
}
