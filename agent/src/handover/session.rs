//! One proxy's connection.

use std::{
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
    time::Duration,
};

use culvert_net::packet::{AsyncPacketSocket, PeerCred};
use culvert_proto::zds::{
    Ack, AddWorkload, Certified, DelWorkload, Guard, KeepWorkload, SameNodeEnded, SameNodeUnused, SameNodeWanted,
    Serving, SnapshotSent, Successor, Version, WorkloadInfo, WorkloadRequest, WorkloadResponse, ZdsHello,
    workload_request::Payload, workload_response,
};
use prost::Message as _;
use tokio::{
    sync::mpsc::{self, UnboundedSender},
    time::timeout,
};

use super::{Event, Offer, Order, Proxy, addresses::to_bytes, same_node::SameNodeSaid};
use crate::kernel::Strictness;

/// How long a proxy may take to say hello.
const HELLO: Duration = Duration::from_secs(10);

/// How long a proxy may take to answer a message; one that opens its own sockets is the slowest.
const ANSWER: Duration = Duration::from_secs(30);

/// Why a session ends.
#[derive(Debug, thiserror::Error)]
enum Ending {
    #[error("it closed the connection")]
    Closed,
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("it said nothing for {0:?}")]
    Silent(Duration),
    #[error("its hello does not parse: {0}")]
    Hello(prost::DecodeError),
    #[error("its hello names version {0}, which this agent does not know (it knows {known})", known = known_versions())]
    Version(i32),
    #[error("its answer does not parse: {0}")]
    Answer(prost::DecodeError),
    #[error("it sent an answer that is none")]
    NoAnswer,
    #[error("it sent something that it was not asked for")]
    Unasked,
}

fn known_versions() -> String {
    [Version::V1, Version::CulvertV1]
        .map(|version| (version as i32).to_string())
        .join(" and ")
}

/// Serves a proxy until it goes, misbehaves, or enrolment has ended.
pub(super) async fn serve(id: u64, socket: AsyncPacketSocket, peer: PeerCred, events: UnboundedSender<Event>) {
    let mut session = Session {
        id,
        socket,
        buffer: Vec::new(),
    };
    let ending = match session.hello().await {
        Ok(Hello {
            version,
            holds,
            resolves,
            guards,
            serves,
            same_node,
            same_node_reports,
        }) => {
            tracing::info!(
                pid = peer.pid,
                version = version.as_str_name(),
                holds,
                resolves,
                guards,
                serves,
                same_node,
                same_node_reports,
                "a proxy connected"
            );
            let (orders, mut queue) = mpsc::unbounded_channel();
            let _ = events.send(Event::Connected(Proxy {
                id,
                pid: peer.pid,
                version,
                holds,
                resolves,
                guards,
                serves,
                same_node,
                same_node_reports,
                orders,
            }));
            let ending = session.run(&mut queue, &events).await;
            let _ = events.send(Event::Disconnected(id));
            ending
        }
        Err(ending) => ending,
    };
    match ending {
        Ending::Closed => tracing::info!(pid = peer.pid, "a proxy went away"),
        ending => tracing::error!(pid = peer.pid, why = %ending, "closed the connection of a proxy"),
    }
}

/// What a proxy says of itself.
struct Hello {
    version: Version,
    holds: bool,
    resolves: bool,
    guards: bool,
    serves: bool,
    same_node: bool,
    same_node_reports: bool,
}

struct Session {
    id: u64,
    socket: AsyncPacketSocket,
    buffer: Vec<u8>,
}

impl Session {
    async fn hello(&mut self) -> Result<Hello, Ending> {
        self.receive(HELLO).await?;
        let hello = ZdsHello::decode(self.buffer.as_slice()).map_err(Ending::Hello)?;
        match Version::try_from(hello.version) {
            Ok(version @ (Version::V1 | Version::CulvertV1)) => Ok(Hello {
                version,
                holds: hello.holds && version == Version::CulvertV1,
                resolves: hello.resolves && version == Version::CulvertV1,
                guards: hello.guards && version == Version::CulvertV1,
                serves: hello.serves && version == Version::CulvertV1,
                same_node: hello.same_node && version == Version::CulvertV1,
                same_node_reports: hello.same_node_reports && version == Version::CulvertV1,
            }),
            _ => Err(Ending::Version(hello.version)),
        }
    }

    /// One order at a time, each answered before the next.
    async fn run(&mut self, queue: &mut mpsc::UnboundedReceiver<Order>, events: &UnboundedSender<Event>) -> Ending {
        loop {
            let order = tokio::select! {
                order = queue.recv() => order,
                received = self.socket.recv(&mut self.buffer) => {
                    let heard = match received {
                        Ok(Some(_)) => self.heard(events),
                        Ok(None) => Err(Ending::Closed),
                        Err(error) => Err(Ending::Io(error)),
                    };
                    match heard {
                        Ok(None) => continue,
                        Ok(Some(_)) => return Ending::Unasked,
                        Err(ending) => return ending,
                    }
                }
            };
            let Some(order) = order else { return Ending::Closed };
            match self.carry_out(order, events).await {
                Ok(Some(answer)) => drop(events.send(answer)),
                Ok(None) => {}
                Err(ending) => return ending,
            }
        }
    }

    /// Looks at what the proxy has said, and passes on what it says unasked. Returns an answer.
    fn heard(&self, events: &UnboundedSender<Event>) -> Result<Option<Ack>, Ending> {
        let said = WorkloadResponse::decode(self.buffer.as_slice()).map_err(Ending::Answer)?;
        match said.payload {
            Some(workload_response::Payload::Ack(ack)) => Ok(Some(ack)),
            Some(workload_response::Payload::Certified(Certified { uid })) => {
                let _ = events.send(Event::Certified(uid.into()));
                Ok(None)
            }
            Some(workload_response::Payload::Guard(Guard {
                uid,
                strict,
                exceptions,
            })) => {
                // What is no port is an exception from nothing.
                let exceptions = exceptions.into_iter().filter_map(|port| u16::try_from(port).ok());
                let strictness = Strictness {
                    strict,
                    exceptions: exceptions.collect(),
                };
                let _ = events.send(Event::Guarded(uid.into(), strictness));
                Ok(None)
            }
            Some(workload_response::Payload::SameNode(said)) => {
                let said = SameNodeSaid::of(said);
                let _ = events.send(Event::SameNode(self.id, said));
                Ok(None)
            }
            Some(workload_response::Payload::Ending(_)) => {
                let _ = events.send(Event::Ending(self.id));
                Ok(None)
            }
            None if self.buffer.is_empty() => Err(Ending::NoAnswer),
            // A newer proxy says more than this agent knows of. What it needs an answer to, it would have asked for in its hello.
            None => {
                tracing::debug!("a proxy said something that this agent does not know");
                Ok(None)
            }
        }
    }

    async fn carry_out(&mut self, order: Order, events: &UnboundedSender<Event>) -> Result<Option<Event>, Ending> {
        let about: Option<(Arc<str>, bool)> = match &order {
            Order::Add(offer) => Some((offer.spec.uid.clone(), false)),
            Order::Keep(uid) => Some((uid.clone(), true)),
            Order::Remove(_)
            | Order::SnapshotSent
            | Order::Serving(_)
            | Order::Successor(_)
            | Order::SameNode(_)
            | Order::SameNodeUnused(_)
            | Order::SameNodeEnded(_) => None,
        };
        let told = match &order {
            Order::Remove(uid) => Some(Event::LetGo {
                proxy: self.id,
                uid: uid.clone(),
            }),
            Order::SnapshotSent => Some(Event::Synced(self.id)),
            Order::SameNode(_) => Some(Event::SameNodeKnown(self.id)),
            Order::Add(_)
            | Order::Keep(_)
            | Order::Serving(_)
            | Order::Successor(_)
            | Order::SameNodeUnused(_)
            | Order::SameNodeEnded(_) => None,
        };
        match order {
            Order::Add(offer) => self.add(&offer).await?,
            Order::Keep(uid) => self.send(Payload::Keep(KeepWorkload { uid: uid.to_string() })).await?,
            Order::Remove(uid) => self.send(Payload::Del(DelWorkload { uid: uid.to_string() })).await?,
            Order::SnapshotSent => self.send(Payload::SnapshotSent(SnapshotSent {})).await?,
            Order::Serving(map) => self.send_with(Payload::Serving(Serving {}), &[map.as_fd()]).await?,
            Order::SameNode(uids) => self.send(Payload::SameNode(SameNodeWanted { uids })).await?,
            Order::SameNodeUnused(pairs) => {
                let pairs = pairs.into_iter().map(Into::into).collect();
                self.send(Payload::SameNodeUnused(SameNodeUnused { pairs })).await?
            }
            Order::SameNodeEnded(connections) => {
                let connections = connections.into_iter().map(Into::into).collect();
                self.send(Payload::SameNodeEnded(SameNodeEnded { connections })).await?
            }
            Order::Successor(present) => self.send(Payload::Successor(Successor { present })).await?,
        }
        let ack = loop {
            self.receive(ANSWER).await?;
            if let Some(ack) = self.heard(events)? {
                break ack;
            }
        };
        let error = (!ack.error.is_empty()).then_some(ack.error);
        match about {
            Some((uid, kept)) => Ok(Some(Event::Answered {
                proxy: self.id,
                uid,
                kept,
                error,
            })),
            None => {
                if let Some(error) = error {
                    tracing::warn!(proxy = self.id, error, "a proxy complained");
                }
                Ok(told)
            }
        }
    }

    async fn add(&self, offer: &Offer) -> Result<(), Ending> {
        let mut add = AddWorkload {
            uid: offer.spec.uid.to_string(),
            workload_info: Some(WorkloadInfo {
                name: offer.spec.name.name.clone(),
                namespace: offer.spec.name.namespace.clone(),
                service_account: offer.spec.service_account.clone(),
            }),
            sockets: Vec::new(),
            addresses: Vec::new(),
        };
        let mut descriptors = vec![offer.netns.as_fd()];
        if let Some(listeners) = &offer.listeners {
            let roles = listeners.roles(offer.extras);
            add.sockets = roles.into_iter().map(i32::from).collect();
            add.addresses = offer.spec.addresses.iter().map(to_bytes).collect();
            descriptors.extend(listeners.descriptors(offer.extras));
        }
        let message = WorkloadRequest {
            payload: Some(Payload::Add(add)),
        }
        .encode_to_vec();
        Ok(self.socket.send(&message, &descriptors).await?)
    }

    async fn send(&self, payload: Payload) -> Result<(), Ending> {
        self.send_with(payload, &[]).await
    }

    async fn send_with(&self, payload: Payload, descriptors: &[BorrowedFd<'_>]) -> Result<(), Ending> {
        let message = WorkloadRequest { payload: Some(payload) }.encode_to_vec();
        Ok(self.socket.send(&message, descriptors).await?)
    }

    async fn receive(&mut self, limit: Duration) -> Result<(), Ending> {
        match timeout(limit, self.socket.recv(&mut self.buffer)).await {
            Ok(Ok(Some(_))) => Ok(()),
            Ok(Ok(None)) => Err(Ending::Closed),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(Ending::Silent(limit)),
        }
    }
}

#[cfg(test)]
mod tests;
