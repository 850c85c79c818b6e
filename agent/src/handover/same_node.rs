//! What a proxy says of connections that may go past it.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use culvert_abi::SameNodeEnded;
use culvert_proto::zds;

use super::addresses::{from_bytes, to_bytes};

/// All that may go to one pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SameNodeSaid {
    /// The pod's uid. None: nothing may go to any pod.
    pub server: Option<Arc<str>>,
    /// Who may dial what.
    pub pairs: Vec<Pair>,
}

/// Two pods whose connections may go past the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The uid of the one that opens them.
    pub client: Arc<str>,
    /// From which address of its.
    pub source: IpAddr,
    /// To which address and port of the other.
    pub destination: SocketAddr,
    /// Those that are open stay, and new ones go through the proxy.
    pub open_only: bool,
    /// Addresses of services that lead the client to this pair and to no other. Never said by the agent.
    pub services: Vec<SocketAddr>,
}

impl SameNodeSaid {
    /// As it was said. A pair without two addresses and a port is none, and its connections go through the proxy.
    pub(super) fn of(said: zds::SameNode) -> Self {
        let pairs = said.pairs.into_iter().filter_map(|pair| {
            let services = pair.services.iter();
            Some(Pair {
                client: pair.client.into(),
                source: from_bytes(&pair.source)?,
                destination: socket(&pair.address, pair.port)?,
                open_only: pair.open_only,
                services: services
                    .filter_map(|service| socket(&service.address, service.port))
                    .collect(),
            })
        });
        Self {
            server: (!said.uid.is_empty()).then(|| said.uid.into()),
            pairs: pairs.collect(),
        }
    }
}

fn socket(address: &[u8], port: u32) -> Option<SocketAddr> {
    Some(SocketAddr::new(from_bytes(address)?, u16::try_from(port).ok()?))
}

impl From<Pair> for zds::SameNodePair {
    fn from(pair: Pair) -> Self {
        Self {
            client: pair.client.to_string(),
            source: to_bytes(&pair.source),
            address: to_bytes(&pair.destination.ip()),
            port: pair.destination.port().into(),
            open_only: pair.open_only,
            services: Vec::new(),
        }
    }
}

/// A connection past the proxy that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The uid of the pod that opened it.
    pub client: Arc<str>,
    /// Its socket's address.
    pub source: SocketAddr,
    /// The other pod's.
    pub destination: SocketAddr,
    /// The service's address that it has dialled, if it has.
    pub service: Option<SocketAddr>,
    /// As the client's kernel has counted.
    pub seen: SameNodeEnded,
}

impl From<Ended> for zds::SameNodeConnection {
    fn from(ended: Ended) -> Self {
        use zds::same_node_connection::End;
        let end = match ended.seen.how {
            SameNodeEnded::CLOSED => End::Closed,
            SameNodeEnded::FAILED => End::Failed,
            _ => End::Broken,
        };
        Self {
            client: ended.client.to_string(),
            source: to_bytes(&ended.source.ip()),
            source_port: ended.source.port().into(),
            address: to_bytes(&ended.destination.ip()),
            port: ended.destination.port().into(),
            sent: ended.seen.sent,
            received: ended.seen.received,
            duration_us: ended.seen.duration / 1000,
            end: end.into(),
            service: ended.service.map(|service| zds::SameNodeService {
                address: to_bytes(&service.ip()),
                port: service.port().into(),
            }),
        }
    }
}
