//! Which connections between two pods of this node may go past the proxy (`culvert.dev/same-node: kernel`), for the agent, which
//! enters them where the kernel programs look.
//!
//! Event loops name a pair of pods when a connection of theirs is open, and everything that was decided about it is decided here
//! again, whenever the mesh changes: a pair that would not be let in now is taken back, and the agent closes what is open of it. What
//! depends on more than the two pods, an address and a port never becomes a pair.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use culvert_hbone::Authority;
use culvert_proto::zds;
use culvert_state::{Awaited, Inbound, Mesh, Outbound, Pod};

use crate::seam::{SameNodeTargets, Together};

/// How long connections stay open that depend on a policy which is named and has not arrived: as long as those that go through the
/// proxy.
const GRACE: Duration = Duration::from_secs(10);

/// How many pairs there may be: fewer than the kernel's map has room for.
const PAIRS: usize = 8192;

/// How many of one pod that is reached: what is said of it is one message.
const PAIRS_PER_POD: usize = 512;

/// What is known of pairs.
#[derive(Debug, Default)]
pub(super) struct SameNode {
    pods: HashMap<Arc<str>, Arc<Pod>>,
    /// The pods that are reached, by their uids.
    wanted: BTreeSet<String>,
    /// With since when a policy is waited for.
    pairs: BTreeMap<Together, Option<Instant>>,
    said: BTreeMap<Arc<str>, Vec<zds::SameNodePair>>,
    generation: u64,
    is_changed: bool,
    was_full: bool,
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
        self.pods.insert(Arc::clone(&pod.uid), pod);
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
    pub(super) fn propose(&mut self, pair: Together) {
        if self.pairs.contains_key(&pair) {
            return;
        }
        let of_pod = |other: &&Together| other.destination.ip() == pair.destination.ip();
        if self.pairs.len() >= PAIRS || self.pairs.keys().filter(of_pod).count() >= PAIRS_PER_POD {
            if !std::mem::replace(&mut self.was_full, true) {
                tracing::warn!(destination = %pair.destination, "too many pairs of pods on this node: further ones go through the proxy");
            }
            return;
        }
        self.pairs.insert(pair, None);
        self.is_changed = true;
    }

    /// What is to be said now. Afterwards `targets` are the addresses of which loops speak.
    pub(super) fn news(&mut self, mesh: &Mesh, targets: &SameNodeTargets, now: Instant) -> Vec<zds::SameNode> {
        let generation = mesh.generation();
        let is_new = std::mem::replace(&mut self.generation, generation) != generation;
        let is_changed = std::mem::take(&mut self.is_changed);
        let waits = self.pairs.values().any(Option::is_some);
        if !is_changed && !waits && (!is_new || self.pairs.is_empty()) {
            return Vec::new();
        }
        if is_changed {
            let servers = self.pods.values().filter(|pod| self.wanted.contains(&*pod.uid));
            targets.set(servers.flat_map(|pod| pod.addresses.iter().copied()).collect());
        }
        let mut allowed: BTreeMap<Arc<str>, Vec<zds::SameNodePair>> = BTreeMap::new();
        let pairs = std::mem::take(&mut self.pairs);
        for (pair, since) in pairs {
            let Some((client, server)) = self.ends(&pair) else {
                continue;
            };
            let (since, open_only) = match decide(mesh, client, server, &pair) {
                Verdict::Allowed => (None, false),
                Verdict::Said => (None, true),
                Verdict::Waits => (Some(since.unwrap_or(now)), true),
                Verdict::Denied => continue,
            };
            if since.is_some_and(|since| now.duration_since(since) >= GRACE) {
                continue;
            }
            let said = zds::SameNodePair {
                client: pair.client.to_string(),
                source: bytes(pair.source),
                address: bytes(pair.destination.ip()),
                port: pair.destination.port().into(),
                open_only,
            };
            allowed.entry(Arc::clone(&server.uid)).or_default().push(said);
            self.pairs.insert(pair, since);
        }
        let gone = self.said.keys().filter(|uid| !allowed.contains_key(*uid));
        let gone = gone.map(|uid| (Arc::clone(uid), Vec::new())).collect::<Vec<_>>();
        let now_said = allowed.iter().map(|(uid, pairs)| (Arc::clone(uid), pairs.clone()));
        let is_news = |(uid, pairs): &(Arc<str>, Vec<_>)| self.said.get(uid) != Some(pairs);
        let news = gone.into_iter().chain(now_said).filter(is_news);
        let news = news.map(|(uid, pairs)| zds::SameNode {
            uid: uid.to_string(),
            pairs,
        });
        let news = news.collect();
        self.said = allowed;
        news
    }

    /// Both pods, where both are here and the one that is reached wants it.
    fn ends(&self, pair: &Together) -> Option<(&Pod, &Pod)> {
        let client = self.pods.get(&pair.client)?;
        let has_it = |pod: &&Arc<Pod>| pod.addresses.contains(&pair.destination.ip());
        let server = self.pods.values().find(has_it)?;
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
    let is_server = mesh
        .workload_of(server)
        .is_some_and(|own| own.uid == endpoint.workload.uid)
        && endpoint.waypoint.is_none()
        && endpoint.authority == Authority::from(pair.destination)
        && endpoint.tunnel.ip() == pair.destination.ip()
        && endpoint.identities.contains(&server.identity);
    if !is_server {
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

fn bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

#[cfg(test)]
mod tests;
