use std::{net::UdpSocket, sync::Arc};

use culvert_identity::SpiffeId;
use culvert_state::Pod;

use super::lane::{SHARE, TERM};
use super::*;

fn pod() -> Rc<LocalPod> {
    let pod = Pod {
        uid: "uid".into(),
        name: "cart".into(),
        namespace: "shop".into(),
        identity: SpiffeId::parse("spiffe://cluster.local/ns/shop/sa/cart").unwrap(),
        addresses: vec![[127, 0, 0, 1].into()],
        node: "node-a".into(),
    };
    Rc::new(LocalPod::new(Arc::new(pod), Vec::new(), None))
}

/// A pod's lane with its sockets, and a resolver.
struct Scene {
    resolvers: Resolvers,
    pod: Rc<LocalPod>,
    lane: LaneKey,
    resolver: UdpSocket,
    now: Instant,
}

impl Scene {
    fn new() -> Self {
        let (now, pod) = (Instant::now(), pod());
        let socket = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
        let mut resolvers = Resolvers::default();
        let lane = resolvers.open(&pod, Rc::new(socket.into()), now);
        Self {
            resolvers,
            pod,
            lane,
            resolver: UdpSocket::bind(("127.0.0.1", 0)).unwrap(),
            now,
        }
    }

    fn with_sockets() -> Self {
        let mut scene = Self::new();
        assert!(matches!(scene.route(), Route::Request(SOCKETS)));
        let sockets = (0..SOCKETS).map(|_| culvert_net::dns::upstream_socket().unwrap());
        assert_eq!(scene.resolvers.take_in("uid", sockets.collect()).len(), 2);
        scene
    }

    fn route(&mut self) -> Route {
        let to = self.resolver.local_addr().unwrap();
        self.resolvers.route(self.lane, to, self.now)
    }

    fn asker(&self, id: u16) -> Asker {
        Asker::new(&query(id), From::Client(([127, 0, 0, 1], 1).into()), self.now).unwrap()
    }

    /// Sends a query; by which socket, and under which identifier.
    fn send(&mut self, id: u16) -> (UpstreamKey, u16) {
        let Route::Socket(upstream, own) = self.route() else {
            panic!("no way")
        };
        let asker = self.asker(id);
        self.resolvers.sent(upstream, own, asker);
        (upstream, own)
    }

    fn port(&self, key: UpstreamKey) -> u16 {
        let upstream = self.resolvers.upstreams.get(key).unwrap();
        let address = rustix::net::getsockname(&upstream.fd).unwrap();
        SocketAddr::try_from(address).unwrap().port()
    }
}

fn query(id: u16) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    message.extend(b"\x01\0\0\x01\0\0\0\0\0\0\x04cart\0\0\x01\0\x01");
    message
}

fn reply(id: u16) -> Vec<u8> {
    let mut message = query(id);
    message[2] |= 0x80;
    message
}

#[test]
fn an_answer_finds_who_asked_once_and_only_under_its_identifier_and_question() {
    let mut scene = Scene::with_sockets();
    let (socket, own) = scene.send(7);
    assert!(scene.resolvers.is_busy() && scene.pod.queries.get() == 1);
    let wrong = own.wrapping_add(1);
    assert!(scene.resolvers.answered(socket, wrong, &reply(wrong)).is_none());
    let mut other = reply(own);
    other[14] = b'x';
    assert!(scene.resolvers.answered(socket, own, &other).is_none());
    assert!(scene.resolvers.answered(socket, own, &query(own)).is_none());
    let (_, asker) = scene.resolvers.answered(socket, own, &reply(own)).unwrap();
    assert_eq!(asker.head.id(), 7);
    assert!(scene.resolvers.answered(socket, own, &reply(own)).is_none());
    assert!(!scene.resolvers.is_busy() && scene.pod.queries.get() == 0);
}

#[test]
fn a_pod_may_have_so_many_queries_waiting_and_they_are_forgotten_in_time() {
    let mut scene = Scene::with_sockets();
    for id in 0..PER_POD {
        assert!(scene.resolvers.has_room(&scene.pod));
        scene.send(id as u16);
    }
    assert!(!scene.resolvers.has_room(&scene.pod));
    assert!(scene.resolvers.has_room(&pod()), "another pod");
    let end = scene.now + PATIENCE;
    assert_eq!(scene.resolvers.expire(end - Duration::from_millis(1)), (0, 0));
    assert_eq!(scene.resolvers.expire(end), (u64::from(PER_POD), 0));
    assert!(scene.resolvers.has_room(&scene.pod) && !scene.resolvers.is_busy());
}

/// The same identifier may be in use again when the time of its first query comes.
#[test]
fn an_earlier_querys_time_does_not_end_a_later_one() {
    let mut scene = Scene::with_sockets();
    let (socket, own) = scene.send(1);
    scene.resolvers.answered(socket, own, &reply(own)).unwrap();
    let first = scene.now;
    scene.now += Duration::from_secs(5);
    let asker = scene.asker(2);
    scene.resolvers.sent(socket, own, asker);
    assert_eq!(scene.resolvers.expire(first + PATIENCE), (0, 0));
    assert_eq!(
        scene.resolvers.answered(socket, own, &reply(own)).unwrap().1.head.id(),
        2
    );
}

#[test]
fn queries_leave_from_another_port_after_a_while_but_never_from_one_whose_answers_are_awaited() {
    let mut scene = Scene::with_sockets();
    let (first, own) = scene.send(1);
    let port = scene.port(first);
    for id in 2..=SHARE {
        let (socket, own) = scene.send(id as u16);
        assert_eq!(socket, first);
        scene.resolvers.answered(socket, own, &reply(own)).unwrap();
    }
    let (second, _) = scene.send(0);
    assert_ne!(second, first, "the first has had its share");
    // Both have had their time, and somebody waits on both.
    scene.now += TERM;
    let (third, _) = scene.send(0);
    assert!(scene.port(first) == port && (third == first || third == second));
    if third == first {
        return;
    }
    scene.resolvers.answered(first, own, &reply(own)).unwrap();
    let (fourth, _) = scene.send(0);
    assert_eq!(fourth, first);
    assert_ne!(scene.port(first), port);
}

#[test]
fn what_waits_for_a_socket_gets_it_or_is_forgotten_and_a_closed_lane_goes_with_its_last_answer() {
    let mut scene = Scene::new();
    let to = scene.resolver.local_addr().unwrap();
    assert!(matches!(scene.route(), Route::Request(SOCKETS)));
    let asker = scene.asker(1);
    scene.resolvers.wait(scene.lane, asker, to, &query(1));
    assert!(matches!(scene.route(), Route::Wait));
    assert_eq!(scene.resolvers.expire(scene.now + PATIENCE), (0, 1));
    scene.now += PATIENCE;
    assert!(matches!(scene.route(), Route::Request(SOCKETS)), "they never came");
    let asker = scene.asker(2);
    scene.resolvers.wait(scene.lane, asker, to, &query(2));
    let sockets = vec![culvert_net::dns::upstream_socket().unwrap()];
    scene.resolvers.take_in("uid", sockets);
    let waiting = scene.resolvers.take_waiting("uid");
    assert!(matches!(&waiting[..], [(_, (asker, _, message))] if asker.head.id() == 2 && *message == query(2)));
    assert_eq!(scene.pod.queries.get(), 0, "it is counted again when it is sent");
    let (socket, own) = scene.send(2);
    scene.resolvers.close(scene.lane);
    assert!(scene.resolvers.lanes.get(scene.lane).is_some());
    scene.resolvers.answered(socket, own, &reply(own)).unwrap();
    assert!(scene.resolvers.lanes.get(scene.lane).is_none() && scene.resolvers.upstreams.get(socket).is_none());
}
