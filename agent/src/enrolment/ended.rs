//! Connections past the proxy that have ended: the proxy is told, which logs and counts them as those that it has carried.
//!
//! Not the agent: which workloads, identities and names an operator wants to see, and what a line looks like, is known there alone.

use std::{net::SocketAddr, sync::Arc};

use culvert_abi::{Endpoint, SameNodeEnded};

use super::{Reconciler, entry::Entry};
use crate::handover::{Order, same_node::Ended};

/// How many connections one message names.
const PER_MESSAGE: usize = 256;

impl Reconciler {
    /// Tells the newest proxy that takes it of what has ended. While there is none, the ring keeps it.
    pub(super) fn tell_ended(&mut self) {
        let Some(proxy) = self.proxies.iter().rfind(|proxy| proxy.same_node_reports).cloned() else {
            return;
        };
        let ended = self.kernel().same_node_ended();
        let seen = ended.len();
        let named: Vec<Ended> = ended.into_iter().filter_map(|ended| self.named_ended(ended)).collect();
        self.same_node.unreported += (seen - named.len()) as u64;
        for named in named.chunks(PER_MESSAGE) {
            proxy.tell(Order::SameNodeEnded(named.to_vec()));
        }
    }

    /// With the pod that opened it. None when that is gone.
    fn named_ended(&self, seen: SameNodeEnded) -> Option<Ended> {
        let flow = seen.flow;
        let is_client = |(_, entry): &(&Arc<str>, &Entry)| entry.last_cookie() == Some(flow.cookie);
        let (client, _) = self.pods.iter().find(is_client)?;
        let end = |address, port: u16| {
            SocketAddr::from(Endpoint {
                address,
                port: port.into(),
            })
        };
        let destination = end(flow.remote, flow.remote_port);
        let dialled = SocketAddr::from(seen.dialled);
        Some(Ended {
            client: Arc::clone(client),
            source: end(flow.local, flow.local_port),
            destination,
            service: (dialled != destination).then_some(dialled),
            seen,
        })
    }
}
