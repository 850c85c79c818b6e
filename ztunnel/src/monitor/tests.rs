//! The monitor between an agent and a worker that are made here.

use std::{net::TcpListener, os::fd::OwnedFd};

use culvert_net::packet::AsyncPacketSocket;
use culvert_proto::zds::{AddWorkload, SnapshotSent, SocketRole, WorkloadInfo};
use prost::Message as _;

use super::*;
use crate::wire::ToWorker;

/// A monitor without any agent, and the worker's end of its socket.
async fn monitor() -> (Monitor, Zds, Heard) {
    let (socket, worker) = Worker::attended();
    let monitor = Monitor {
        secrets: Secrets {
            token: "token".into(),
            controller_ca: vec![],
            resolvers: Vec::new(),
        },
        worker,
        pods: Pods::default(),
        synced: false,
        has_successor: false,
        ending: None,
        draining: false,
        alive: Alive::default(),
        same_node: SameNode::default(),
    };
    (monitor, Zds::new("/nonexistent/zds.sock".into()), Heard(socket))
}

/// What the worker hears.
struct Heard(AsyncPacketSocket);

impl Heard {
    /// The next order, and how many descriptors came with it. Sockets, which need privileges to be made, are passed over.
    async fn next(&self) -> (Order, usize) {
        let mut buffer = Vec::new();
        loop {
            let received = tokio::time::timeout(Duration::from_secs(20), self.0.recv(&mut buffer));
            let descriptors = received.await.expect("in time").unwrap().expect("open");
            match ToWorker::decode(buffer.as_slice()).unwrap().order.unwrap() {
                Order::Sockets(_) => {}
                order => return (order, descriptors.len()),
            }
        }
    }

    async fn pod(&self) -> (String, usize) {
        match self.next().await {
            (Order::PodAdded(pod), descriptors) => (pod.uid, descriptors),
            (other, _) => panic!("expected a pod, got {other:?}"),
        }
    }
}

fn add(uid: &str, sockets: usize) -> Packet {
    let mut descriptors: Vec<OwnedFd> = vec![std::fs::File::open("/proc/self/ns/net").unwrap().into()];
    descriptors.extend((0..sockets).map(|_| OwnedFd::from(TcpListener::bind("127.0.0.1:0").unwrap())));
    let add = AddWorkload {
        uid: uid.into(),
        workload_info: Some(WorkloadInfo::default()),
        sockets: vec![SocketRole::Outbound as i32; sockets],
        addresses: vec![],
    };
    Packet::Request(Payload::Add(add), descriptors)
}

fn snapshot_sent() -> Packet {
    Packet::Request(Payload::SnapshotSent(SnapshotSent {}), vec![])
}

#[tokio::test]
async fn pods_reach_the_worker_and_those_that_the_next_agent_does_not_name_leave_it() {
    let (mut monitor, mut zds, heard) = monitor().await;
    for packet in [
        Packet::Connected,
        add("a", 2),
        add("bad", 0),
        add("b", 1),
        snapshot_sent(),
    ] {
        monitor.on_agent(&mut zds, packet).await;
    }
    assert_eq!(heard.pod().await, ("a".to_owned(), 2));
    assert_eq!(
        heard.pod().await,
        ("b".to_owned(), 1),
        "what is wrong with one pod is its own matter"
    );
    assert_eq!(heard.next().await, (Order::Snapshot(true), 0));
    assert!(monitor.synced);

    for packet in [Packet::Connected, add("b", 1), snapshot_sent()] {
        monitor.on_agent(&mut zds, packet).await;
    }
    assert_eq!(heard.pod().await, ("b".to_owned(), 1), "the new listeners alone");
    assert_eq!(heard.next().await, (Order::PodRemoved("a".into()), 0));
}

#[tokio::test]
async fn the_next_worker_is_told_everything() {
    let (mut monitor, mut zds, _first) = monitor().await;
    for packet in [Packet::Connected, add("a", 2), add("a", 2), add("b", 1)] {
        monitor.on_agent(&mut zds, packet).await;
    }
    for synced in [false, true] {
        let (socket, worker) = Worker::attended();
        (monitor.worker, monitor.synced) = (worker, synced);
        monitor.replay().await;
        let heard = Heard(socket);
        let (Order::Secrets(secrets), 0) = heard.next().await else {
            panic!("secrets come first")
        };
        assert_eq!(secrets.token, "token");
        assert_eq!(heard.pod().await, ("a".to_owned(), 4), "earlier and later listeners");
        assert_eq!(heard.pod().await, ("b".to_owned(), 1));
        if synced {
            assert_eq!(heard.next().await, (Order::Snapshot(true), 0));
        }
    }
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named_and_do_not_replace_what_was_read_before() {
    use clap::Parser as _;
    let folder = std::env::temp_dir().join(format!("culvert-secrets-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (token, roots) = (folder.join("token"), folder.join("root.pem"));
    let words = ["ztunnel", "--node=n", "--controller=https://127.0.0.1:1"].map(String::from);
    let files =
        [("token-file", &token), ("controller-ca", &roots)].map(|(flag, path)| format!("--{flag}={}", path.display()));
    let args = Cli::try_parse_from(words.into_iter().chain(files)).unwrap().controller;

    let key = rcgen::KeyPair::generate().unwrap();
    let root = rcgen::CertificateParams::default().self_signed(&key).unwrap().pem();
    std::fs::write(&token, "first\n").unwrap();
    let error = read_secrets(&args, Vec::new()).unwrap_err().to_string();
    assert!(error.contains("root.pem"), "absent: {error}");
    std::fs::write(&roots, &root).unwrap();
    let (mut monitor, _, heard) = monitor().await;
    monitor.reread(&args).await;
    let (Order::Secrets(secrets), 0) = heard.next().await else {
        panic!("the worker must hear of them")
    };
    assert_eq!(
        (secrets.token.as_str(), secrets.controller_ca),
        ("first", root.clone().into_bytes())
    );

    for broken in [String::new(), "no PEM at all".into(), root.replace('M', "N")] {
        std::fs::write(&roots, &broken).unwrap();
        let error = read_secrets(&args, Vec::new()).unwrap_err().to_string();
        assert!(error.contains("root.pem"), "{broken:?}: {error}");
        monitor.reread(&args).await;
        assert_eq!(monitor.secrets.controller_ca, root.as_bytes(), "{broken:?}");
    }
    std::fs::write(&roots, &root).unwrap();
    std::fs::write(&token, "second").unwrap();
    monitor.reread(&args).await;
    let (Order::Secrets(secrets), 0) = heard.next().await else {
        panic!("nothing of what was broken")
    };
    assert_eq!(secrets.token, "second");
    std::fs::remove_dir_all(&folder).unwrap();
}
