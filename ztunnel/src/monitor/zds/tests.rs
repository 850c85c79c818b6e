//! The client against an agent made here, over a real socket.

use std::{os::fd::AsFd, path::Path, time::Duration};

use culvert_net::packet::{AsyncPacketListener, PacketListener};
use culvert_proto::zds::{AddWorkload, KeepWorkload, SnapshotSent};
use tokio::time::timeout;

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

/// Where the agent listens, or does not yet; gone with the test.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("culvert-{name}-{}.sock", std::process::id()));
        let _ = std::fs::remove_file(&path);
        Self(path)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The agent's end of a connection.
struct Agent {
    listener: AsyncPacketListener,
    socket: Option<AsyncPacketSocket>,
    buffer: Vec<u8>,
}

impl Agent {
    fn listen(path: &Path) -> Self {
        let listener = PacketListener::bind(path, 0o600).unwrap();
        Self {
            listener: AsyncPacketListener::new(listener).unwrap(),
            socket: None,
            buffer: Vec::new(),
        }
    }

    /// Takes the next connection, which must begin with the right hello.
    async fn accept(&mut self) {
        let (socket, _) = timeout(PATIENCE, self.listener.accept()).await.unwrap().unwrap();
        self.socket = Some(socket);
        let hello = ZdsHello::decode(self.hear().await).unwrap();
        assert_eq!(hello.version(), Version::CulvertV1);
    }

    async fn hear(&mut self) -> &[u8] {
        let socket = self.socket.as_ref().unwrap();
        let heard = timeout(PATIENCE, socket.recv(&mut self.buffer)).await.unwrap().unwrap();
        heard.expect("the proxy must not hang up");
        &self.buffer
    }

    async fn ack(&mut self) -> String {
        match WorkloadResponse::decode(self.hear().await).unwrap().payload {
            Some(workload_response::Payload::Ack(ack)) => ack.error,
            other => panic!("no Ack: {other:?}"),
        }
    }

    async fn say(&self, message: &[u8]) {
        self.socket.as_ref().unwrap().send(message, &[]).await.unwrap();
    }

    async fn ask(&self, payload: Payload) {
        self.say(&WorkloadRequest { payload: Some(payload) }.encode_to_vec())
            .await;
    }
}

fn snapshot_sent() -> Payload {
    Payload::SnapshotSent(SnapshotSent {})
}

async fn next(zds: &mut Zds) -> Packet {
    timeout(PATIENCE, zds.next()).await.expect("a packet in time")
}

async fn connected(name: &str) -> (Place, Agent, Zds) {
    let place = Place::new(name);
    let mut agent = Agent::listen(&place.0);
    let mut zds = Zds::new(place.0.clone());
    assert!(matches!(next(&mut zds).await, Packet::Connected));
    agent.accept().await;
    (place, agent, zds)
}

#[tokio::test]
async fn what_the_agent_says_arrives_with_its_descriptors_and_is_answered() {
    let (_place, mut agent, mut zds) = connected("zds-says").await;
    let add = Payload::Add(AddWorkload {
        uid: "a".into(),
        ..Default::default()
    });
    let message = WorkloadRequest {
        payload: Some(add.clone()),
    };
    let null = std::fs::File::open("/dev/null").unwrap();
    let socket = agent.socket.as_ref().unwrap();
    socket
        .send(&message.encode_to_vec(), &[null.as_fd(), null.as_fd()])
        .await
        .unwrap();
    let Packet::Request(payload, descriptors) = next(&mut zds).await else {
        panic!("a request was sent")
    };
    assert_eq!((payload, descriptors.len()), (add, 2));
    zds.acknowledge(None).await;
    assert_eq!(agent.ack().await, "");
    agent.ask(Payload::Keep(KeepWorkload { uid: "b".into() })).await;
    assert!(matches!(next(&mut zds).await, Packet::Request(Payload::Keep(_), _)));
    zds.acknowledge(Some("never heard of it".into())).await;
    assert_eq!(agent.ack().await, "never heard of it");
}

#[tokio::test]
async fn a_message_of_an_unknown_kind_is_refused_and_the_next_one_followed() {
    let (_place, mut agent, mut zds) = connected("zds-kind").await;
    // Field 99, a message: what an agent of the future may send.
    agent.say(&[0x9a, 0x06, 0x00]).await;
    agent.ask(snapshot_sent()).await;
    assert!(matches!(
        next(&mut zds).await,
        Packet::Request(Payload::SnapshotSent(_), _)
    ));
    let refusal = agent.ack().await;
    assert!(refusal.contains("does not know"), "{refusal}");
}

#[tokio::test]
async fn garbage_ends_the_connection_and_the_next_one_is_as_good_as_the_first() {
    let (_place, mut agent, mut zds) = connected("zds-garbage").await;
    for garbage in [&[0xff; 11][..], b"HTTP/1.1 400 Bad Request\r\n", &[0x0a, 0x7f]] {
        agent.say(garbage).await;
        let (packet, ()) = tokio::join!(next(&mut zds), agent.accept());
        assert!(matches!(packet, Packet::Connected), "{garbage:?}");
        agent.ask(snapshot_sent()).await;
        assert!(matches!(next(&mut zds).await, Packet::Request(..)), "{garbage:?}");
        zds.acknowledge(None).await;
        assert_eq!(agent.ack().await, "");
    }
}

#[tokio::test]
async fn an_agent_that_closes_or_dies_in_between_is_connected_to_again() {
    let (place, mut agent, mut zds) = connected("zds-again").await;
    agent.socket = None;
    // Nobody reads this answer, which must not matter.
    zds.acknowledge(None).await;
    zds.acknowledge(None).await;
    let (packet, ()) = tokio::join!(next(&mut zds), agent.accept());
    assert!(matches!(packet, Packet::Connected));
    drop(agent);
    let mut successor = Agent::listen(&place.0);
    let (packet, ()) = tokio::join!(next(&mut zds), successor.accept());
    assert!(matches!(packet, Packet::Connected));
}

#[tokio::test]
async fn pauses_grow_while_there_is_no_agent_and_end_when_there_is_one() {
    let place = Place::new("zds-late");
    let mut zds = Zds::new(place.0.clone());
    let mut pauses = Vec::new();
    while zds.retry < FIRST_RETRY * 8 {
        // Waiting is given up and begun again, as the monitor does whenever something else happens.
        let _ = timeout(Duration::from_millis(5), zds.next()).await;
        if pauses.last() != Some(&zds.retry) {
            pauses.push(zds.retry);
        }
    }
    assert!(
        pauses
            .windows(2)
            .all(|pair| pair[0].is_zero() || pair[1] == pair[0] * 2),
        "{pauses:?}"
    );
    zds.retry = LAST_RETRY;
    zds.retry_at = Instant::now();
    let _ = timeout(Duration::from_millis(5), zds.next()).await;
    assert_eq!(zds.retry, LAST_RETRY, "pauses have a limit");

    let mut agent = Agent::listen(&place.0);
    zds.retry_at = Instant::now();
    let (packet, ()) = tokio::join!(next(&mut zds), agent.accept());
    assert!(matches!(packet, Packet::Connected));
    assert_eq!(
        zds.retry, LAST_RETRY,
        "an agent that accepts and hangs up is no reason to hurry"
    );
    agent.ask(snapshot_sent()).await;
    assert!(matches!(next(&mut zds).await, Packet::Request(..)));
    assert_eq!(zds.retry, Duration::ZERO, "one that speaks is");
}
