//! Connections that have gone past the proxy and have ended: each has the two lines, and moves the series, that it would have had in it,
//! as far as its pods are still here.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use culvert_accounting::{Accounting, Carried, Direction, Opening, Peer};
use culvert_proto::zds::{SameNodeConnection, same_node_connection::End};
use culvert_state::{Mesh, Pod};
use culvert_telemetry::tcp::ResponseFlags;

use super::{pods::Pods, said::socket};
use crate::seam::Together;

/// Why a connection ended early: the kernel programs do not see more of it.
const BROKEN: &str = "the connection was reset, or timed out";

/// Why there was none.
const FAILED: &str = "the connection was refused, or timed out";

#[derive(Debug)]
pub(super) struct Ended {
    client: String,
    source: SocketAddr,
    destination: SocketAddr,
    /// The service's address that was dialled, if one was.
    service: Option<SocketAddr>,
    /// What the client has sent and received.
    sent: u64,
    received: u64,
    duration: Duration,
    end: End,
}

impl Ended {
    /// None without two addresses and ports.
    pub(super) fn of(connection: SameNodeConnection) -> Option<Self> {
        Some(Self {
            source: socket(&connection.source, connection.source_port)?,
            destination: socket(&connection.address, connection.port)?,
            service: connection
                .service
                .as_ref()
                .and_then(|service| socket(&service.address, service.port)),
            sent: connection.sent,
            received: connection.received,
            duration: Duration::from_micros(connection.duration_us),
            end: connection.end(),
            client: connection.client,
        })
    }

    /// Of which pair it was, where it was never established.
    pub(super) fn failed(&self) -> Option<Together> {
        (self.end == End::Failed).then(|| Together {
            client: self.client.as_str().into(),
            source: self.source.ip(),
            destination: self.destination,
        })
    }

    pub(super) fn account(&self, pods: &Pods, mesh: &Mesh, accounting: &Accounting) {
        let client = pods.get(&self.client);
        let server = pods.at(self.destination.ip());
        if let Some(client) = client {
            let opening = self.opening(Direction::Outbound, client, server, mesh);
            self.tell(&opening, self.sent, self.received, accounting);
        }
        // What was refused has not reached the other pod, as far as anybody knows.
        if let Some(server) = server.filter(|_| self.end != End::Failed) {
            let opening = self.opening(Direction::Inbound, server, client, mesh);
            self.tell(&opening, self.received, self.sent, accounting);
        }
    }

    fn tell(&self, opening: &Opening, sent: u64, received: u64, accounting: &Accounting) {
        if self.end == End::Failed {
            return accounting.failed(opening, ResponseFlags::ConnectFailed, self.duration, &FAILED);
        }
        let carried = Carried {
            sent,
            received,
            duration: self.duration,
            error: (self.end == End::Broken).then_some(&BROKEN),
        };
        accounting.carried(opening, &carried);
    }

    /// As the proxy would know it of a connection in plaintext: no certificate has proved an identity.
    fn opening(&self, direction: Direction, pod: &Arc<Pod>, other: Option<&Arc<Pod>>, mesh: &Mesh) -> Opening {
        let at = match direction {
            Direction::Outbound => self.destination,
            Direction::Inbound => self.source,
        };
        let dialled = self.service.filter(|_| direction == Direction::Outbound);
        let workload = other.and_then(|other| mesh.workload_of(other).cloned());
        Opening {
            direction,
            pod: Arc::clone(pod),
            own: mesh.workload_of(pod).cloned(),
            source: self.source,
            destination: self.destination,
            dialled,
            peer: Peer {
                identity: None,
                workload: workload.or_else(|| mesh.workload_at(at.ip())),
            },
            hostname: None,
            service: dialled.and_then(|dialled| mesh.service_dialled(pod, dialled)),
            hbone_addr: None,
            encrypted: false,
            key_exchange: None,
            remarks: None,
            by_kernel: true,
        }
    }
}
