//! Connections between two pods of this node that go past the proxy (`culvert.dev/same-node: kernel`).
//!
//! Proxies say which may (`handover::same_node`); here that becomes what the kernel programs know, and connections that may no longer
//! are closed. The newest proxy alone says what may be opened: it decides about what is captured now. What is open stays as long as
//! any proxy vouches for it, as what goes through a proxy does that is being replaced.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::SocketAddr,
    sync::Arc,
};

use culvert_abi::{Endpoint, Flow, SameNodePair, SameNodePeer};
use culvert_objects::SameNode as Asked;
use tokio::time::Instant;

use super::{
    Reconciler,
    ageing::{Step, Use},
    entry::{Entry, explain},
    plan::Phase,
};
use crate::{
    handover::{Order, Proxy, same_node::Pair},
    kernel::{SameNodeEntries, ends, sock_diag},
};

/// How many pairs one message names.
const PAIRS_PER_MESSAGE: usize = 512;

impl Reconciler {
    /// Asks proxies for what pods ask for, and enters what they have said. Called after whatever has happened.
    pub(super) fn follow_same_node(&mut self) {
        self.ask_same_node();
        let wanted = match self.proxies.iter().rfind(|proxy| proxy.takes_listeners()) {
            Some(newest) => self.entries(|proxy, pair| proxy == newest.id && !pair.open_only),
            None => SameNodeEntries::default(),
        };
        if wanted != self.same_node.entered || self.same_node.is_failing {
            let set = self.kernel().set_same_node(&wanted);
            let problem = set.err().map(|error| explain(&error));
            let same_node = &mut self.same_node;
            if let Some(problem) = problem
                .as_ref()
                .filter(|problem| same_node.problem.as_ref() != Some(*problem))
            {
                tracing::error!(problem, "connections within the node go through the proxy");
            }
            // Tried again; until then nothing is confirmed, so that whatever is entered holds no longer.
            same_node.is_failing = problem.is_some();
            same_node.problem = problem;
            same_node.is_idle &= wanted.pairs.is_empty();
            let (before, now) = (&same_node.entered.pairs, &wanted.pairs);
            let is_kept = |pair: &SameNodePair| !same_node.is_failing && before.get(pair) == now.get(pair);
            same_node.ageing.keep(is_kept);
            same_node.entered = wanted;
            same_node.is_changed = true;
        }
        if std::mem::take(&mut self.same_node.is_changed) {
            if self.same_node.is_used() {
                self.close_same_node();
            }
            // Nobody may look again for a while.
            self.tell_ended();
        }
    }

    /// Confirms what is entered, and closes what may have slipped through when it was changed.
    pub(super) fn look_after_same_node(&mut self) {
        if !self.same_node.entered.pairs.is_empty() && !self.same_node.is_failing {
            let confirmed = self.kernel().confirm_same_node();
            if let Err(error) = confirmed {
                tracing::error!(
                    error = explain(&error),
                    "connections within the node go through the proxy"
                );
            }
        }
        self.close_same_node();
        // After it was looked for open ones: who ends is in the ring before it is open no longer.
        self.tell_ended();
        self.age_same_node();
    }

    /// Takes back the pairs that nobody uses. Not where the proxy would not forget them: it would not name them again.
    fn age_same_node(&mut self) {
        let now = Instant::now();
        let newest = self.proxies.iter().rfind(|proxy| proxy.takes_listeners());
        let Some(newest) = newest.filter(|proxy| proxy.same_node_reports).cloned() else {
            return;
        };
        if self.same_node.entered.pairs.is_empty() || self.same_node.is_failing || !self.same_node.ageing.is_due(now) {
            return;
        }
        // In this order: what is opened meanwhile is counted or found.
        let opened = self.kernel().same_node_opened();
        let flows = self.kernel().same_node_flows();
        let (opened, flows) = match (opened, flows) {
            (Ok(opened), Ok(flows)) => (opened, flows),
            (Err(error), _) | (_, Err(error)) => {
                return tracing::error!(error = explain(&error), "cannot see which pairs of pods are used");
            }
        };
        let open: HashSet<SameNodePair> = flows.iter().map(pair_of).collect();
        let uses = opened.into_iter().map(|(pair, opened)| Use {
            pair,
            opened,
            is_open: open.contains(&pair),
        });
        let uses: Vec<Use> = uses.collect();
        let mut unused = Vec::new();
        for (pair, step) in self.same_node.ageing.look(&uses, self.settings.same_node_idle, now) {
            let ended = match step {
                Step::End => self.kernel().end_same_node(&pair, true),
                Step::GoOn => self.kernel().end_same_node(&pair, false),
                Step::Forget => {
                    unused.extend(self.named(&pair));
                    Ok(())
                }
            };
            if let Err(error) = ended {
                // Looked at anew, as if it had just come: it stays for a while.
                tracing::error!(error = explain(&error), "cannot end a pair of pods that nobody uses");
                self.same_node.ageing.keep(|other| *other != pair);
            }
        }
        for unused in unused.chunks(PAIRS_PER_MESSAGE) {
            newest.tell(Order::SameNodeUnused(unused.to_vec()));
        }
    }

    /// The pair as proxies name it.
    fn named(&self, pair: &SameNodePair) -> Option<Pair> {
        let peer = self.same_node.entered.pairs.get(pair)?;
        let client = self.pods.iter().find(|(_, entry)| entry.cookie() == Some(pair.client));
        Some(Pair {
            client: Arc::clone(client?.0),
            source: peer.source.into(),
            destination: pair.destination.into(),
            open_only: false,
            services: Vec::new(),
        })
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
    fn entries(&self, is_meant: impl Fn(u64, &Pair) -> bool) -> SameNodeEntries {
        let mut entries = SameNodeEntries::default();
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
                let destination = Endpoint::from(pair.destination);
                entries.pairs.insert(SameNodePair::new(client, destination), peer);
                for service in &pair.services {
                    entries.add_service(SameNodePair::new(client, (*service).into()), destination);
                }
            }
        }
        entries
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
            self.same_node.is_idle = self.same_node.entered.pairs.is_empty();
            return;
        }
        let allowed = self.entries(|_, _| true).pairs;
        let is_allowed = |flow: &Flow| {
            let peer = allowed.get(&pair_of(flow));
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

    /// Closes connections that a pod has open, by its cookie. At both ends: a pod may see to it that the other hears nothing of it.
    fn close_flows(&mut self, client: u64, flows: &[Flow]) {
        let mut by_pod: HashMap<u64, BTreeSet<Ends>> = HashMap::new();
        for flow in flows {
            let (local, remote) = ends(flow);
            by_pod.entry(client).or_default().insert((local, remote));
            let has_it = |entry: &&Entry| entry.spec.addresses.contains(&remote.ip());
            if let Some(server) = self.pods.values().find(has_it).and_then(Entry::cookie) {
                by_pod.entry(server).or_default().insert((remote, local));
            }
        }
        let mut is_done = true;
        for (cookie, ends) in by_pod {
            is_done &= self.close_in(cookie, &ends);
        }
        if !is_done {
            return;
        }
        // The programs have noticed each that they saw; what is left is of sockets that they did not see end.
        let forgotten = self.kernel().forget_same_node_flows(flows);
        if let Err(error) = forgotten {
            tracing::error!(error = explain(&error), "cannot forget connections that are closed");
        }
    }

    /// Closes the sockets in one pod. False when that is to be tried again.
    fn close_in(&self, cookie: u64, ends: &BTreeSet<Ends>) -> bool {
        let entry = self.pods.values().find(|entry| entry.last_cookie() == Some(cookie));
        let place = entry.and_then(|entry| entry.place.as_ref());
        // Without a namespace, nothing is open in it.
        let Some((entry, place)) = entry.zip(place) else {
            return true;
        };
        let pod = &entry.spec.name;
        let closed = sock_diag::connections(&place.netns).and_then(|all| {
            let is_one = |found: &sock_diag::Connection| ends.contains(&(found.local, found.remote));
            let open: Vec<_> = all.into_iter().filter(is_one).collect();
            sock_diag::destroy(&place.netns, &open).map(|()| open.len())
        });
        match closed {
            Ok(0) => true,
            Ok(connections) => {
                tracing::info!(%pod, connections, "closed connections within the node that are allowed no longer");
                true
            }
            Err(error) => {
                tracing::error!(%pod, %error, "cannot close connections within the node that are allowed no longer");
                false
            }
        }
    }
}

/// A socket's own address, and its peer's.
type Ends = (SocketAddr, SocketAddr);

/// Of which pair a connection is.
fn pair_of(flow: &Flow) -> SameNodePair {
    let destination = Endpoint {
        address: flow.remote,
        port: flow.remote_port.into(),
    };
    SameNodePair::new(flow.cookie, destination)
}
