//! Which connections between two pods of this node may go past the proxy (`culvert.dev/same-node: kernel`), for the agent, which
//! enters them where the kernel programs look.
//!
//! Event loops name a pair of pods when a connection of theirs is open, and everything that was decided about it is decided here
//! again, whenever the mesh changes: a pair that would not be let in now is taken back, and the agent closes what is open of it. What
//! depends on more than the two pods, an address and a port never becomes a pair. An address of a service that leads a client to one pair,
//! and to no other while nothing changes, is named with it.

mod ended;
mod pairs;
mod pods;
mod said;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use culvert_accounting::Accounting;
use culvert_hbone::Authority;
use culvert_proto::zds;
use culvert_state::{Awaited, Endpoint, Inbound, Mesh, Outbound, Pod};

use self::{
    ended::Ended,
    pairs::{Pairs, Proposed},
    pods::Pods,
    said::{bytes, service, together},
};
use crate::seam::{Proposal, SameNodeTargets, Together};

/// How long connections stay open that depend on a policy which is named and has not arrived: as long as those that go through the
/// proxy.
const GRACE: Duration = Duration::from_secs(10);

/// What is known of pairs.
#[derive(Debug, Default)]
pub(super) struct SameNode {
    pods: Pods,
    /// The pods that are reached, by their uids.
    wanted: BTreeSet<String>,
    pairs: Pairs,
    /// Pairs about which nothing was decided yet.
    proposed: Vec<Together>,
    /// What may go to a pod, as the agent knows it or is about to.
    said: BTreeMap<Arc<str>, BTreeMap<Together, Terms>>,
    /// Pods of which something was taken back that the agent knows.
    touched: BTreeSet<Arc<str>>,
    generation: u64,
    /// Pods came or went, or others are wanted.
    is_changed: bool,
    was_full: bool,
}

/// On which terms connections of a pair may go past the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Terms {
    /// Only those that are open.
    open_only: bool,
    /// Also those that the client has opened to these addresses of services.
    services: Vec<SocketAddr>,
}

enum Verdict {
    Allowed,
    /// For what is open already: the proxy has something to say of new ones.
    Said,
    Waits,
    Denied,
}

impl SameNode {
    pub(super) fn add(&mut self, pod: Arc<Pod>) {
        self.pods.add(pod);
        self.is_changed = true;
    }

    pub(super) fn remove(&mut self, uid: &str) {
        self.pods.remove(uid);
        self.is_changed = true;
    }

    /// The pods to which connections may go past the proxy, as far as their owners want that.
    pub(super) fn want(&mut self, uids: Vec<String>) {
        self.wanted = uids.into_iter().collect();
        self.is_changed = true;
    }

    /// Two pods have a connection through the proxy.
    pub(super) fn propose(&mut self, Proposal { pair, service }: Proposal) {
        match self.pairs.propose(&pair) {
            Proposed::New => self.proposed.push(pair.clone()),
            Proposed::Known => {}
            Proposed::NoRoom => {
                if !std::mem::replace(&mut self.was_full, true) {
                    tracing::warn!(destination = %pair.destination, "too many pairs of pods on this node: further ones go through the proxy");
                }
            }
        }
        if service.is_some_and(|service| self.pairs.add_service(&pair, service)) {
            self.proposed.push(pair);
        }
    }

    /// Nobody uses these pairs. A later connection is one of a new pair.
    pub(super) fn forget(&mut self, pairs: Vec<zds::SameNodePair>) {
        for pair in pairs.into_iter().filter_map(together) {
            self.pairs.remove(&pair);
            self.proposed.retain(|proposed| *proposed != pair);
            let taken_back = self.take_back(&pair);
            self.touched.extend(taken_back);
        }
    }

    /// Logs and counts connections that have gone past the proxy, and have ended.
    pub(super) fn account(&mut self, ended: zds::SameNodeEnded, mesh: &Mesh, accounting: &Accounting) {
        for connection in ended.connections {
            let Some(ended) = Ended::of(connection) else {
                tracing::warn!("the agent told of a connection past the proxy without two addresses and ports");
                continue;
            };
            ended.account(&self.pods, mesh, accounting);
            if let Some(pair) = ended.failed() {
                self.fail(pair, mesh);
            }
        }
    }

    /// A connection was never established. The proxy would have tried another endpoint of the service: it has the next connection.
    fn fail(&mut self, pair: Together, mesh: &Mesh) {
        if let Some(workload) = mesh.workload_at(pair.destination.ip()) {
            workload.trouble.note();
        }
        if self.pairs.keep_services(&pair, &[]) {
            self.proposed.push(pair);
        }
    }

    /// What is to be said now. Afterwards `targets` are the addresses of which loops speak.
    pub(super) fn news(&mut self, mesh: &Mesh, targets: &SameNodeTargets, now: Instant) -> Vec<zds::SameNode> {
        let generation = mesh.generation();
        let is_new = std::mem::replace(&mut self.generation, generation) != generation;
        let is_changed = std::mem::take(&mut self.is_changed);
        if is_changed {
            let servers = self.wanted.iter().filter_map(|uid| self.pods.get(uid));
            targets.set(servers.flat_map(|pod| pod.addresses.iter().copied()).collect());
        }
        let proposed = std::mem::take(&mut self.proposed);
        let mut touched = std::mem::take(&mut self.touched);
        touched.extend(if is_changed || is_new && !self.pairs.is_empty() {
            self.decide_about_all(mesh, now)
        } else {
            // All others would be decided as before.
            let again = self.pairs.waiting().chain(self.troubled(mesh)).cloned();
            let undecided = again.chain(proposed).collect::<BTreeSet<_>>();
            self.decide_about(mesh, undecided, now)
        });
        touched.into_iter().map(|uid| self.saying(&uid)).collect()
    }

    /// Pairs that services lead to, and that cannot always be reached: there may be a better endpoint now.
    fn troubled(&self, mesh: &Mesh) -> impl Iterator<Item = &Together> {
        self.pairs.with_services().filter(|pair| {
            let workload = mesh.workload_at(pair.destination.ip());
            workload.is_some_and(|workload| workload.trouble.level() > 0)
        })
    }

    /// Returns the pods of which there is something new.
    fn decide_about_all(&mut self, mesh: &Mesh, now: Instant) -> BTreeSet<Arc<str>> {
        let before = std::mem::take(&mut self.said);
        for pair in self.pairs.all() {
            if let Some((server, terms)) = self.decide_one(mesh, &pair, now) {
                self.said.entry(server).or_default().insert(pair, terms);
            }
        }
        let pods = before.keys().chain(self.said.keys());
        pods.filter(|uid| before.get(*uid) != self.said.get(*uid))
            .cloned()
            .collect()
    }

    /// The same, where pods and what is known of them have not changed since the others were decided.
    fn decide_about(
        &mut self,
        mesh: &Mesh,
        undecided: impl IntoIterator<Item = Together>,
        now: Instant,
    ) -> BTreeSet<Arc<str>> {
        let mut touched = BTreeSet::new();
        for pair in undecided {
            match self.decide_one(mesh, &pair, now) {
                Some((server, terms)) => {
                    let said = self.said.entry(Arc::clone(&server)).or_default();
                    if said.insert(pair, terms.clone()) != Some(terms) {
                        touched.insert(server);
                    }
                }
                None => touched.extend(self.take_back(&pair)),
            }
        }
        touched
    }

    /// The pod that a pair reaches, and on which terms. A pair that may not is forgotten.
    fn decide_one(&mut self, mesh: &Mesh, pair: &Together, now: Instant) -> Option<(Arc<str>, Terms)> {
        let ends = self.ends(pair);
        let server = ends.map(|(_, server)| Arc::clone(&server.uid));
        let verdict = ends.map_or(Verdict::Denied, |(client, server)| decide(mesh, client, server, pair));
        let leads_here = |service: &&SocketAddr| match ends {
            Some((client, server)) => leads(mesh, client, server, pair, **service),
            None => false,
        };
        let services: Vec<SocketAddr> = self.pairs.services(pair).iter().filter(leads_here).copied().collect();
        self.pairs.keep_services(pair, &services);
        let open_only = match verdict {
            Verdict::Allowed => Some(false),
            Verdict::Said => Some(true),
            Verdict::Waits => (now.duration_since(self.pairs.wait(pair, now)) < GRACE).then_some(true),
            Verdict::Denied => None,
        };
        if !matches!(verdict, Verdict::Waits) {
            self.pairs.go_on(pair);
        }
        if open_only.is_none() {
            self.pairs.remove(pair);
        }
        server.zip(open_only.map(|open_only| Terms { open_only, services }))
    }

    /// Returns the pod of which the pair was said, if it was.
    fn take_back(&mut self, pair: &Together) -> Option<Arc<str>> {
        let server = Arc::clone(&self.pods.at(pair.destination.ip())?.uid);
        let said = self.said.get_mut(&server)?;
        said.remove(pair)?;
        if said.is_empty() {
            self.said.remove(&server);
        }
        Some(server)
    }

    /// What the agent is told of a pod.
    fn saying(&self, uid: &Arc<str>) -> zds::SameNode {
        let said = |(pair, terms): (&Together, &Terms)| zds::SameNodePair {
            client: pair.client.to_string(),
            source: bytes(pair.source),
            address: bytes(pair.destination.ip()),
            port: pair.destination.port().into(),
            open_only: terms.open_only,
            services: terms.services.iter().copied().map(service).collect(),
        };
        zds::SameNode {
            uid: uid.to_string(),
            pairs: self.said.get(uid).into_iter().flatten().map(said).collect(),
        }
    }

    /// Both pods, where both are here and the one that is reached wants it.
    fn ends(&self, pair: &Together) -> Option<(&Pod, &Pod)> {
        let client = self.pods.get(&pair.client)?;
        let server = self.pods.at(pair.destination.ip())?;
        let is_wanted = self.wanted.contains(&*server.uid) && client.uid != server.uid;
        (is_wanted && client.addresses.contains(&pair.source)).then_some((client, server))
    }
}

/// As both ends of a connection would be decided about that goes through the proxy.
fn decide(mesh: &Mesh, client: &Pod, server: &Pod, pair: &Together) -> Verdict {
    let Outbound::Tunnel {
        endpoint,
        service: None,
    } = mesh.outbound(client, pair.destination, &[])
    else {
        return Verdict::Denied;
    };
    if !is_reached(mesh, server, pair, &endpoint) {
        return Verdict::Denied;
    }
    // No policy knows source ports.
    let source = SocketAddr::new(pair.source, 0);
    let remarks = || mesh.remarks(server, source, Some(&client.identity), pair.destination);
    match mesh.inbound(server, source, Some(&client.identity), pair.destination) {
        // The proxy alone can say what policies would do that are tried out, and whom others audit.
        Inbound::Allow if remarks().is_some() => Verdict::Said,
        Inbound::Allow => Verdict::Allowed,
        Inbound::Pending(Awaited::Policy(_)) => Verdict::Waits,
        Inbound::Pending(_) | Inbound::Deny(_) => Verdict::Denied,
    }
}

/// Whether each connection of the client's to this address of a service goes to the pair's other pod, as long as nothing changes. What is
/// open stays when that changes, as in the proxy: the service only finds the endpoint. A socket that asked for IPv4 cannot be connected to an
/// IPv6 address.
fn leads(mesh: &Mesh, client: &Pod, server: &Pod, pair: &Together, service: SocketAddr) -> bool {
    service.is_ipv4() == pair.destination.is_ipv4()
        && mesh.sole_endpoint(client, service) == Some(pair.destination)
        && match mesh.outbound(client, service, &[]) {
            Outbound::Tunnel { endpoint, .. } => is_reached(mesh, server, pair, &endpoint),
            _ => false,
        }
}

/// Whether the proxy would ask this very pod for the pair's destination, and nobody between.
fn is_reached(mesh: &Mesh, server: &Pod, pair: &Together, endpoint: &Endpoint) -> bool {
    mesh.workload_of(server)
        .is_some_and(|own| own.uid == endpoint.workload.uid)
        && endpoint.waypoint.is_none()
        && endpoint.authority == Authority::from(pair.destination)
        && endpoint.tunnel.ip() == pair.destination.ip()
        && endpoint.identities.contains(&server.identity)
}

#[cfg(test)]
mod tests;
