//! The client of the agent's socket: connects, says hello, and connects again when the agent is gone.

use std::{os::fd::OwnedFd, path::PathBuf, time::Duration};

use culvert_net::packet::{AsyncPacketSocket, LostDescriptors, PacketSocket};
use culvert_proto::zds::{
    Ack, Certified, Ending, Guard, SameNode, Version, WorkloadRequest, WorkloadResponse, ZdsHello,
    workload_request::Payload, workload_response,
};
use prost::Message as _;
use tokio::time::Instant;

const FIRST_RETRY: Duration = Duration::from_millis(50);
const LAST_RETRY: Duration = Duration::from_secs(2);

/// What comes from the agent.
pub(super) enum Packet {
    /// A new connection: a snapshot follows.
    Connected,
    /// A message, to be answered with [`Zds::acknowledge`].
    Request(Payload, Vec<OwnedFd>),
}

/// The connection, present or future.
pub(super) struct Zds {
    path: PathBuf,
    socket: Option<AsyncPacketSocket>,
    retry: Duration,
    /// Kept as an instant, since waiting for it may be cancelled and begun again any number of times.
    retry_at: Instant,
    complained: bool,
    buffer: Vec<u8>,
}

impl Zds {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            socket: None,
            retry: Duration::ZERO,
            retry_at: Instant::now(),
            complained: false,
            buffer: Vec::new(),
        }
    }

    /// Waits for the next packet. May be cancelled.
    pub(super) async fn next(&mut self) -> Packet {
        loop {
            let Some(socket) = &self.socket else {
                tokio::time::sleep_until(self.retry_at).await;
                self.retry = (self.retry * 2).clamp(FIRST_RETRY, LAST_RETRY);
                self.retry_at = Instant::now() + self.retry;
                match self.connect().await {
                    Ok(socket) => {
                        tracing::info!(path = %self.path.display(), "connected to the agent");
                        self.socket = Some(socket);
                        self.complained = false;
                        return Packet::Connected;
                    }
                    Err(error) if !self.complained => {
                        tracing::warn!(path = %self.path.display(), %error, "no agent yet; pods served before stay served");
                        self.complained = true;
                    }
                    Err(_) => {}
                }
                continue;
            };
            let lost = match socket.recv(&mut self.buffer).await {
                Ok(Some(descriptors)) => match WorkloadRequest::decode(self.buffer.as_slice()) {
                    Ok(WorkloadRequest { payload: Some(payload) }) => {
                        self.retry = Duration::ZERO;
                        return Packet::Request(payload, descriptors);
                    }
                    Ok(WorkloadRequest { payload: None }) => {
                        self.acknowledge(Some("a message of a kind that this proxy does not know".into()))
                            .await;
                        continue;
                    }
                    Err(error) => format!("the agent sent what does not parse: {error}"),
                },
                Ok(None) => "the agent closed the connection".into(),
                Err(error) => {
                    // At once, the same message would not fit either.
                    if LostDescriptors::is_cause_of(&error) {
                        self.retry = LAST_RETRY;
                        self.retry_at = Instant::now() + LAST_RETRY;
                    }
                    error.to_string()
                }
            };
            tracing::warn!(why = lost, "lost the agent; pods served before stay served");
            self.socket = None;
        }
    }

    /// Answers the last packet. A connection that breaks here is noticed by the next [`Zds::next`].
    pub(super) async fn acknowledge(&mut self, error: Option<String>) {
        self.say(workload_response::Payload::Ack(Ack {
            error: error.unwrap_or_default(),
        }))
        .await;
    }

    /// Says that a pod's certificate is there. An agent that is away does not hear it, and does without.
    pub(super) async fn certified(&mut self, uid: String) {
        self.say(workload_response::Payload::Certified(Certified { uid })).await;
    }

    /// Says which ports of a pod are strict. An agent that is away is told when it names the pod again.
    pub(super) async fn guard(&mut self, guard: Guard) {
        self.say(workload_response::Payload::Guard(guard)).await;
    }

    /// Says which connections within the node may go past this proxy. An agent that is away is told when it asks.
    pub(super) async fn same_node(&mut self, said: SameNode) {
        self.say(workload_response::Payload::SameNode(said)).await;
    }

    /// Says that this proxy was asked to end.
    pub(super) async fn ending(&mut self) {
        self.say(workload_response::Payload::Ending(Ending {})).await;
    }

    async fn say(&mut self, payload: workload_response::Payload) {
        let Some(socket) = &self.socket else { return };
        let message = WorkloadResponse { payload: Some(payload) }.encode_to_vec();
        if let Err(error) = socket.send(&message, &[]).await {
            tracing::warn!(%error, "cannot answer the agent");
            self.socket = None;
        }
    }

    async fn connect(&self) -> std::io::Result<AsyncPacketSocket> {
        let socket = AsyncPacketSocket::new(PacketSocket::connect(&self.path)?)?;
        let hello = ZdsHello {
            version: Version::CulvertV1 as i32,
            holds: true,
            guards: true,
            serves: true,
            resolves: true,
            same_node: true,
            same_node_reports: true,
        };
        socket.send(&hello.encode_to_vec(), &[]).await?;
        Ok(socket)
    }
}

#[cfg(test)]
mod tests;
