//! Connections between two pods of this node that go past the proxy (`culvert.dev/same-node: kernel`).
//!
//! Proxies say which may (`handover::same_node`); here that becomes what the kernel programs know, and connections that may no longer
//! are closed. The newest proxy alone says what may be opened: it decides about what is captured now. What is open stays as long as
//! any proxy vouches for it, as what goes through a proxy does that is being replaced.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use culvert_abi::{Endpoint, Flow, SameNodePair, SameNodePeer};
use culvert_objects::SameNode as Asked;
use tokio::time::Instant;

use super::{
    Reconciler,
    entry::{Entry, explain},
    plan::Phase,
};
use crate::{
    handover::{
        Order, Proxy,
        same_node::{Pair, SameNodeSaid},
    },
    kernel::sock_diag,
};

/// What proxies have said.
#[derive(Default)]
pub(super) struct SameNode {
    /// By proxy and pod that is reached.
    said: BTreeMap<(u64, Arc<str>), Vec<Pair>>,
    /// Proxies that have said all that they know.
    known: HashSet<u64>,
    /// What each proxy was asked for last.
    asked: HashMap<u64, Vec<String>>,
    entered: HashMap<SameNodePair, SameNodePeer>,
    /// Something was entered, or may have been by an earlier agent: connections are looked after.
    is_used: bool,
    /// What is new has not been compared with what is open.
    is_changed: bool,
    problem: Option<String>,
}

impl SameNode {
    /// Whether there is something to confirm and to look after.
    pub(super) fn is_used(&self) -> bool {
        self.is_used
    }

    pub(super) fn note(&mut self, proxy: u64, said: SameNodeSaid) {
        self.is_changed = true;
        match said.server {
            None => self.said.retain(|(of, _), _| *of != proxy),
            Some(server) if said.pairs.is_empty() => drop(self.said.remove(&(proxy, server))),
            Some(server) => drop(self.said.insert((proxy, server), said.pairs)),
        }
    }

    pub(super) fn known(&mut self, proxy: u64) {
        self.is_changed = true;
        self.known.insert(proxy);
    }

    pub(super) fn left(&mut self, proxy: u64) {
        self.is_changed = true;
        self.said.retain(|(of, _), _| *of != proxy);
        self.known.remove(&proxy);
        self.asked.remove(&proxy);
    }
}

impl Reconciler {
    /// Asks proxies for what pods ask for, and enters what they have said. Called after whatever has happened.
    pub(super) fn follow_same_node(&mut self) {
        self.ask_same_node();
        let wanted = match self.proxies.iter().rfind(|proxy| proxy.takes_listeners()) {
            Some(newest) => self.pairs(|proxy, pair| proxy == newest.id && !pair.open_only),
            None => HashMap::new(),
        };
        if wanted != self.same_node.entered {
            let set = self.kernel().set_same_node(&wanted);
            let problem = set.err().map(|error| explain(&error));
            if let Some(problem) = problem
                .as_ref()
                .filter(|problem| self.same_node.problem.as_ref() != Some(*problem))
            {
                tracing::error!(problem, "connections within the node go through the proxy");
            }
            self.same_node.problem = problem;
            self.same_node.is_used |= !wanted.is_empty();
            self.same_node.entered = wanted;
            self.same_node.is_changed = true;
        }
        if std::mem::take(&mut self.same_node.is_changed) && self.same_node.is_used {
            self.close_same_node();
        }
    }

    /// Confirms what is entered, and closes what may have slipped through when it was changed.
    pub(super) fn look_after_same_node(&mut self) {
        if !self.same_node.entered.is_empty() {
            let confirmed = self.kernel().confirm_same_node();
            if let Err(error) = confirmed {
                tracing::error!(
                    error = explain(&error),
                    "connections within the node go through the proxy"
                );
            }
        }
        self.close_same_node();
    }

    fn ask_same_node(&mut self) {
        let asks = |entry: &Entry| entry.phase == Phase::Captured && entry.spec.same_node == Asked::Kernel;
        let asking = self.pods.iter().filter(|(_, entry)| asks(entry));
        let asking: Vec<String> = asking.map(|(uid, _)| uid.to_string()).collect();
        for proxy in self.proxies.iter().filter(|proxy| proxy.same_node) {
            // Also that nobody asks: until it has answered, it is not known what was open before.
            let is_asked = self.same_node.asked.get(&proxy.id) == Some(&asking);
            if !is_asked {
                proxy.tell(Order::SameNode(asking.clone()));
                self.same_node.asked.insert(proxy.id, asking.clone());
            }
        }
    }

    /// What proxies have said of pods that are captured here and ask for it, as far as it is meant.
    fn pairs(&self, is_meant: impl Fn(u64, &Pair) -> bool) -> HashMap<SameNodePair, SameNodePeer> {
        let mut pairs = HashMap::new();
        for ((proxy, server), said) in &self.same_node.said {
            let Some(to) = self
                .captured(server)
                .filter(|entry| entry.spec.same_node == Asked::Kernel)
            else {
                continue;
            };
            for pair in said.iter().filter(|pair| is_meant(*proxy, pair)) {
                let from = self.captured(&pair.client);
                let from = from.filter(|entry| entry.spec.addresses.contains(&pair.source));
                let cookies = from.and_then(Entry::cookie).zip(to.cookie());
                let Some((client, server)) = cookies else { continue };
                if client == server || !to.spec.addresses.contains(&pair.destination.ip()) {
                    continue;
                }
                let peer = SameNodePeer {
                    server,
                    source: pair.source.into(),
                };
                pairs.insert(SameNodePair::new(client, pair.destination.into()), peer);
            }
        }
        pairs
    }

    fn captured(&self, uid: &str) -> Option<&Entry> {
        self.pods.get(uid).filter(|entry| entry.phase == Phase::Captured)
    }

    /// Closes the connections that nobody vouches for.
    fn close_same_node(&mut self) {
        let newest = self.proxies.iter().rfind(|proxy: &&Proxy| proxy.same_node);
        let is_known = newest.is_some_and(|proxy| self.same_node.known.contains(&proxy.id));
        // An earlier agent has left connections, and the proxy that vouches for them is about to say so.
        if !is_known && Instant::now() < self.proxies_due {
            self.same_node.is_changed = true;
            return;
        }
        let flows = self.kernel().same_node_flows();
        let flows = match flows {
            Ok(flows) => flows,
            Err(error) => return tracing::error!(error = explain(&error), "cannot see connections within the node"),
        };
        if flows.is_empty() {
            self.same_node.is_used = !self.same_node.entered.is_empty();
            return;
        }
        let allowed = self.pairs(|_, _| true);
        let is_allowed = |flow: &Flow| {
            let destination = Endpoint {
                address: flow.remote,
                port: flow.remote_port.into(),
            };
            let peer = allowed.get(&SameNodePair::new(flow.cookie, destination));
            peer.is_some_and(|peer| peer.source == flow.local)
        };
        let mut denied: BTreeMap<u64, Vec<Flow>> = BTreeMap::new();
        for flow in flows.into_iter().filter(|flow| !is_allowed(flow)) {
            denied.entry(flow.cookie).or_default().push(flow);
        }
        for (cookie, flows) in denied {
            self.close_flows(cookie, &flows);
        }
    }

    /// Closes connections that pods have open, by one pod's cookie.
    fn close_flows(&mut self, cookie: u64, flows: &[Flow]) {
        let entry = self.pods.values().find(|entry| entry.last_cookie() == Some(cookie));
        let place = entry.and_then(|entry| entry.place.as_ref());
        let Some((entry, place)) = entry.zip(place) else {
            // Its namespace is gone, and all that was open in it.
            let forgotten = self.kernel().forget_same_node_flows(flows);
            return forgotten.unwrap_or_else(|error| {
                tracing::error!(
                    error = explain(&error),
                    "cannot forget connections of a pod that is gone"
                );
            });
        };
        let pod = entry.spec.name.clone();
        let ends: BTreeSet<_> = flows.iter().map(ends_of).collect();
        let closed = sock_diag::connections(&place.netns).and_then(|all| {
            let is_one = |found: &sock_diag::Connection| ends.contains(&(found.local, found.remote));
            let open: Vec<_> = all.into_iter().filter(is_one).collect();
            sock_diag::destroy(&place.netns, &open).map(|()| open.len())
        });
        match closed {
            Ok(connections) => {
                // The programs have noticed each that they saw; what is left is of sockets that they did not see end.
                let forgotten = self.kernel().forget_same_node_flows(flows);
                if let Err(error) = forgotten {
                    tracing::error!(error = explain(&error), "cannot forget connections that are closed");
                }
                if connections > 0 {
                    tracing::info!(%pod, connections, "closed connections within the node that are allowed no longer");
                }
            }
            Err(error) => {
                tracing::error!(%pod, %error, "cannot close connections within the node that are allowed no longer")
            }
        }
    }
}

fn ends_of(flow: &Flow) -> (std::net::SocketAddr, std::net::SocketAddr) {
    let end = |address, port: u16| {
        Endpoint {
            address,
            port: port.into(),
        }
        .into()
    };
    (end(flow.local, flow.local_port), end(flow.remote, flow.remote_port))
}
