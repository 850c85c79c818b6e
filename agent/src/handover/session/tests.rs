use std::{net::IpAddr, sync::Arc};

use culvert_net::{Netns, packet::PacketSocket};
use culvert_proto::zds::{Ack, SocketRole};
use tokio::sync::mpsc::UnboundedReceiver;

use super::*;
use crate::{
    handover::listeners::{Extras, Listeners, Problems},
    source::{PodName, PodSpec},
};

/// A proxy's end of a session, and what the agent hears of it.
struct Peer {
    socket: AsyncPacketSocket,
    events: UnboundedReceiver<Event>,
    buffer: Vec<u8>,
}

impl Peer {
    fn new() -> Self {
        let (ours, theirs) = PacketSocket::pair().expect("pair");
        let (events, heard) = mpsc::unbounded_channel();
        let cred = theirs.peer().expect("credentials");
        tokio::spawn(serve(
            7,
            AsyncPacketSocket::new(theirs).expect("register"),
            cred,
            events,
        ));
        Self {
            socket: AsyncPacketSocket::new(ours).expect("register"),
            events: heard,
            buffer: Vec::new(),
        }
    }

    async fn hello(version: i32) -> Self {
        let peer = Self::new();
        let hello = ZdsHello {
            version,
            holds: true,
            guards: true,
            serves: true,
            resolves: true,
            same_node: true,
            same_node_reports: true,
        };
        peer.say(&hello.encode_to_vec()).await;
        peer
    }

    async fn say(&self, message: &[u8]) {
        self.socket.send(message, &[]).await.expect("send");
    }

    async fn connected(&mut self) -> Proxy {
        match self.events.recv().await {
            Some(Event::Connected(proxy)) => proxy,
            other => panic!("expected a connection, got {other:?}"),
        }
    }

    async fn request(&mut self) -> (Payload, usize) {
        let descriptors = self.socket.recv(&mut self.buffer).await.expect("recv").expect("open");
        let request = WorkloadRequest::decode(self.buffer.as_slice()).expect("parse");
        (request.payload.expect("payload"), descriptors.len())
    }

    async fn ack(&self, error: &str) {
        let ack = workload_response::Payload::Ack(Ack { error: error.into() });
        self.say(&WorkloadResponse { payload: Some(ack) }.encode_to_vec()).await;
    }

    async fn certified(&self, uid: &str) {
        let certified = workload_response::Payload::Certified(Certified { uid: uid.into() });
        let payload = Some(certified);
        self.say(&WorkloadResponse { payload }.encode_to_vec()).await;
    }

    async fn ending(&self) {
        let payload = Some(workload_response::Payload::Ending(culvert_proto::zds::Ending {}));
        self.say(&WorkloadResponse { payload }.encode_to_vec()).await;
    }

    async fn expect_closed(mut self) -> Option<Event> {
        assert!(
            self.socket.recv(&mut self.buffer).await.expect("recv").is_none(),
            "the agent must close"
        );
        self.events.recv().await
    }
}

/// A pod in a namespace of its own, which has the loopback interface alone. Needs root.
fn offer() -> Offer {
    let netns = std::thread::spawn(|| {
        // SAFETY: only this thread's network namespace changes.
        unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }.expect("needs root");
        Netns::current().expect("proc is mounted")
    });
    let netns = netns.join().expect("no panic");
    let addresses = vec![IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2])];
    let listeners = netns.run(|| {
        std::process::Command::new("ip")
            .args(["link", "set", "lo", "up"])
            .status()
    });
    assert!(listeners.expect("enter").expect("ip").success());
    let (listeners, _) = Listeners::open(&netns, &addresses, Extras::NONE).expect("listen");
    Offer {
        spec: PodSpec {
            uid: "uid-1".into(),
            name: PodName {
                namespace: "shop".into(),
                name: "a".into(),
            },
            service_account: "sa".into(),
            addresses,
            netns: "/run/netns/a".into(),
            hold: culvert_objects::Hold::None,
            hold_problem: None,
            fallback: culvert_objects::Fallback::None,
            fallback_problem: None,
            same_node: culvert_objects::SameNode::Proxy,
            same_node_problem: None,
            dns: None,
            dns_problem: None,
        },
        netns: Arc::new(netns),
        extras: Extras::ALL,
        listeners: Some(Arc::new(listeners)),
    }
}

#[tokio::test]
async fn certificates_and_the_wish_to_end_are_heard_of_whether_the_proxy_is_asked_or_not() {
    let mut peer = Peer::hello(Version::CulvertV1 as i32).await;
    let proxy = peer.connected().await;
    peer.certified("idle").await;
    assert!(matches!(peer.events.recv().await, Some(Event::Certified(uid)) if &*uid == "idle"));
    proxy.tell(Order::Keep("kept".into()));
    peer.request().await;
    peer.certified("busy").await;
    peer.ack("").await;
    assert!(matches!(peer.events.recv().await, Some(Event::Certified(uid)) if &*uid == "busy"));
    assert!(matches!(
        peer.events.recv().await,
        Some(Event::Answered {
            error: None,
            kept: true,
            ..
        })
    ));
    peer.ending().await;
    assert!(matches!(peer.events.recv().await, Some(Event::Ending(7))));
    // An answer to nothing is still a fault.
    peer.ack("").await;
    assert!(matches!(peer.expect_closed().await, Some(Event::Disconnected(7))));
}

#[tokio::test]
async fn a_pod_travels_with_its_namespace_and_listeners_and_the_answer_comes_back() {
    let mut peer = Peer::hello(Version::CulvertV1 as i32).await;
    let proxy = peer.connected().await;
    assert!(proxy.takes_listeners() && proxy.pid == std::process::id());
    proxy.tell(Order::Add(Box::new(offer())));
    proxy.tell(Order::SnapshotSent);
    let (Payload::Add(add), descriptors) = peer.request().await else {
        panic!("expected Add")
    };
    let roles = [
        SocketRole::Outbound,
        SocketRole::Outbound,
        SocketRole::InboundPlaintext,
        SocketRole::InboundHbone,
    ];
    assert_eq!(
        (add.uid.as_str(), add.sockets.as_slice()),
        ("uid-1", roles.map(i32::from).as_slice())
    );
    assert_eq!(
        (descriptors, add.addresses),
        (5, vec![vec![127, 0, 0, 1], vec![127, 0, 0, 2]])
    );
    peer.ack("no room").await;
    match peer.events.recv().await {
        Some(Event::Answered {
            proxy: 7,
            uid,
            kept: false,
            error: Some(error),
        }) => {
            assert_eq!((&*uid, error.as_str()), ("uid-1", "no room"));
        }
        other => panic!("expected the refusal, got {other:?}"),
    }
    assert!(matches!(peer.request().await, (Payload::SnapshotSent(_), 0)));
    peer.ack("").await;
    assert!(matches!(peer.events.recv().await, Some(Event::Synced(7))));
    proxy.tell(Order::Remove("uid-1".into()));
    assert!(matches!(peer.request().await, (Payload::Del(_), 0)));
    assert!(peer.events.try_recv().is_err(), "it has not answered yet");
    peer.ack("").await;
    assert!(matches!(peer.events.recv().await, Some(Event::LetGo { proxy: 7, uid }) if &*uid == "uid-1"));
    drop(peer.socket);
    assert!(matches!(peer.events.recv().await, Some(Event::Disconnected(7))));
}

#[tokio::test]
async fn a_proxy_that_opens_its_own_listeners_gets_the_namespace_alone() {
    let mut peer = Peer::hello(Version::V1 as i32).await;
    let proxy = peer.connected().await;
    assert!(!proxy.takes_listeners());
    proxy.tell(Order::Add(Box::new(Offer {
        listeners: None,
        ..offer()
    })));
    let (Payload::Add(add), descriptors) = peer.request().await else {
        panic!("expected Add")
    };
    assert_eq!((add.sockets.len(), add.addresses.len(), descriptors), (0, 0, 1));
    assert_eq!(add.workload_info.expect("info").service_account, "sa");
}

#[tokio::test]
async fn strangers_and_babblers_are_shown_out() {
    for version in [0, 2, 1000, -1] {
        if version == 0 {
            // The default value: an empty message, which cannot be sent; spelled out it can.
            let peer = Peer::new();
            peer.say(&[0x08, 0x00]).await;
            assert!(peer.expect_closed().await.is_none(), "no proxy may appear");
            continue;
        }
        assert!(
            Peer::hello(version).await.expect_closed().await.is_none(),
            "version {version}"
        );
    }
    let garbage = Peer::new();
    garbage.say(b"GET / HTTP/1.1\r\n\r\n").await;
    assert!(garbage.expect_closed().await.is_none());

    let mut chatty = Peer::hello(1).await;
    let _proxy = chatty.connected().await;
    chatty.ack("").await;
    assert!(
        matches!(chatty.expect_closed().await, Some(Event::Disconnected(7))),
        "an answer to no question"
    );

    let mut muddled = Peer::hello(1).await;
    let proxy = muddled.connected().await;
    proxy.tell(Order::SnapshotSent);
    muddled.request().await;
    muddled.say(&[0xff; 100]).await;
    assert!(
        matches!(muddled.expect_closed().await, Some(Event::Disconnected(7))),
        "an answer that does not parse"
    );
}

#[tokio::test]
async fn listeners_are_found_again_in_the_process_that_holds_them() {
    use crate::handover::recover;
    let offer = offer();
    let cookie = offer.netns.cookie().expect("cookie");
    let ours = offer.listeners.expect("listeners");
    let mut found = recover::listening(std::process::id()).expect("own process");
    assert!(ours.are_among(&found));
    let recovered = Listeners::recovered(&offer.spec.addresses, cookie, Extras::NONE, &mut found).expect("complete");
    assert_eq!(recovered.roles(Extras::ALL), ours.roles(Extras::ALL));
    assert!(Listeners::recovered(&offer.spec.addresses, cookie, Extras::NONE, &mut Vec::new()).is_none());
    let elsewhere = [IpAddr::from([127, 0, 0, 3])];
    let mut again = recover::listening(std::process::id()).expect("own process");
    assert!(
        Listeners::recovered(&elsewhere, cookie, Extras::NONE, &mut again).is_none(),
        "another address needs another listener"
    );
    let (holding, problem) = Listeners::open(&offer.netns, &offer.spec.addresses, Extras::ALL).expect("listen");
    assert_eq!(problem, Problems::default(), "needs root");
    let mut found = recover::listening(std::process::id()).expect("own process");
    let recovered = Listeners::recovered(&offer.spec.addresses, cookie, Extras::ALL, &mut found).expect("complete");
    assert_eq!(
        recovered.roles(Extras::ALL).len(),
        holding.roles(Extras::NONE).len() + 5,
        "a tap for the family, the silent listener, and three for DNS"
    );
    assert!(recover::listening(u32::MAX).is_err() && recover::listening(0).is_err());
}

#[tokio::test]
async fn which_ports_are_strict_is_heard_of_and_what_is_no_port_is_no_exception() {
    let mut peer = Peer::hello(Version::CulvertV1 as i32).await;
    let proxy = peer.connected().await;
    assert!(proxy.guards);
    let guard = Guard {
        uid: "a".into(),
        strict: true,
        exceptions: vec![80, 70_000, 443],
    };
    let payload = Some(workload_response::Payload::Guard(guard));
    peer.say(&WorkloadResponse { payload }.encode_to_vec()).await;
    let Some(Event::Guarded(uid, strictness)) = peer.events.recv().await else {
        panic!("the agent must hear of it")
    };
    assert_eq!((&*uid, strictness.strict), ("a", true));
    assert_eq!(Vec::from_iter(strictness.exceptions), [80, 443]);
}
