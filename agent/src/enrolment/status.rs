//! What enrolment shows of itself.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use culvert_objects::Fallback;
use culvert_proto::zds::Version;
use serde_json::{Value, json};

use super::{
    Existing, Upkeep,
    direct::Direct,
    entry::Entry,
    namespaces::Namespaces,
    plan::{Phase, Refusal},
};
use crate::{
    handover::Proxy,
    source::{Outside, PodName},
};

/// The state at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The source has been followed at least once.
    pub ready: bool,
    /// Every pod of this node, by name.
    pub pods: Vec<PodStatus>,
    /// Connected proxies, the oldest first.
    pub proxies: Vec<ProxyStatus>,
    /// How often a proxy still has to say that it has let go of a pod.
    pub letting_go: usize,
    /// What was not as it should be.
    pub upkeep: Upkeep,
    /// What pods had open before they were captured, by uid; of those that had something.
    pub existing: BTreeMap<Arc<str>, Existing>,
    /// Pods that go without a proxy.
    pub direct: Direct,
    /// How many connections were reset, because no proxy came in time.
    pub reset: u64,
    /// How many pairs of pods go past the proxy no longer, because nobody used them.
    pub unused_pairs: u64,
    /// How many connections past the proxy have ended that no proxy was told of, because their client was gone by then.
    pub unreported: u64,
    /// How many of these connections were closed, because namespaces asked for it.
    pub closed: u64,
    /// The network namespaces of `pods`, as far as they are open.
    pub namespaces: Namespaces,
    /// Why programs of an earlier agent are still in force beside this one's, if they are.
    pub takeover: Option<String>,
}

/// A pod of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodStatus {
    /// Namespace and name.
    pub name: PodName,
    /// The Kubernetes UID.
    pub uid: Arc<str>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// The cookie of its network namespace, if that could be opened.
    pub cookie: Option<u64>,
    /// How far it has come.
    pub state: PodState,
    /// Whether a proxy has said that it has a certificate for it. Not said again to an agent that was restarted.
    pub certified: bool,
    /// What its new connections do while no proxy serves.
    pub fallback: Fallback,
    /// What is wrong with it.
    pub problem: Option<String>,
    /// Why its link is not guarded although its proxy says which ports are strict, where that is so.
    pub unguarded: Option<String>,
    /// What is worth knowing of it: traffic that is not carried, and what stands in the mesh's way.
    pub notices: Vec<String>,
}

/// How far a pod has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PodState {
    /// Not labelled, or with a fault that keeps it outside.
    Outside,
    /// It claims what another pod has.
    Refused,
    /// Something went wrong; it is tried again.
    Failed,
    /// Waiting for a proxy to accept it.
    Waiting,
    /// Captured.
    Captured,
    /// On its way out.
    Leaving,
}

impl PodState {
    /// All of them, for metrics that show zeros too.
    pub const ALL: [Self; 6] = [
        Self::Outside,
        Self::Refused,
        Self::Failed,
        Self::Waiting,
        Self::Captured,
        Self::Leaving,
    ];

    /// As shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Outside => "outside",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Waiting => "waiting",
            Self::Captured => "captured",
            Self::Leaving => "leaving",
        }
    }
}

/// A connected proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyStatus {
    /// Its process id; 0 when out of sight.
    pub pid: u32,
    /// What it speaks.
    pub version: Version,
}

impl Status {
    pub(super) fn of(
        ready: bool,
        pods: &BTreeMap<Arc<str>, Entry>,
        refused: &[Refusal],
        outside: &[Outside],
        proxies: &[Proxy],
        letting_go: usize,
    ) -> Self {
        let in_mesh = pods.values().map(|entry| PodStatus {
            name: entry.spec.name.clone(),
            uid: entry.spec.uid.clone(),
            addresses: entry.spec.addresses.clone(),
            cookie: entry.cookie(),
            state: match entry.phase {
                Phase::Failed => PodState::Failed,
                Phase::Entering => PodState::Waiting,
                Phase::Captured => PodState::Captured,
                Phase::Leaving => PodState::Leaving,
            },
            certified: entry.certified,
            fallback: entry.spec.fallback,
            problem: entry.problem.clone(),
            unguarded: entry.unguarded.clone(),
            notices: entry.notices.clone(),
        });
        let refused = refused.iter().map(|refusal| PodStatus {
            name: refusal.spec.name.clone(),
            uid: refusal.spec.uid.clone(),
            addresses: refusal.spec.addresses.clone(),
            cookie: None,
            state: PodState::Refused,
            certified: false,
            fallback: Fallback::None,
            problem: Some(refusal.problem.clone()),
            unguarded: None,
            notices: Vec::new(),
        });
        // One that has just lost its label is still on its way out.
        let outside = outside
            .iter()
            .filter(|outside| !pods.contains_key(&outside.uid))
            .map(|outside| PodStatus {
                name: outside.name.clone(),
                uid: outside.uid.clone(),
                addresses: outside.addresses.clone(),
                cookie: None,
                state: PodState::Outside,
                certified: false,
                fallback: Fallback::None,
                problem: outside.problem.clone(),
                unguarded: None,
                notices: Vec::new(),
            });
        let places = pods.values().filter_map(|entry| entry.place.as_ref());
        let namespaces = places.map(|place| (place.cookie, Arc::clone(&place.netns))).collect();
        let mut pods: Vec<PodStatus> = in_mesh.chain(refused).chain(outside).collect();
        pods.sort_by(|a, b| (&a.name, a.state).cmp(&(&b.name, b.state)));
        let proxies = proxies
            .iter()
            .map(|proxy| ProxyStatus {
                pid: proxy.pid,
                version: proxy.version,
            })
            .collect();
        Self {
            ready,
            pods,
            proxies,
            letting_go,
            namespaces,
            ..Self::default()
        }
    }

    /// What somebody should look at, in words.
    pub fn problems(&self) -> Vec<String> {
        let failed = self.upkeep.failed.iter();
        let failed = failed.map(|found| format!("{} is not as it should be: {}", found.kind.as_str(), found.what));
        failed.chain(self.takeover.clone()).collect()
    }

    /// What somebody may want to know, in words.
    pub fn notices(&self) -> Vec<String> {
        let pods = self.pods.iter().filter_map(|pod| {
            let existing = self.existing.get(&pod.uid)?;
            let open = existing.open.len();
            let peers: Vec<String> = existing.peers().map(|peer| peer.to_string()).collect();
            let problem = existing.problem.as_ref().map(|problem| format!("; {problem}")).unwrap_or_default();
            (open > 0).then(|| {
                format!(
                    "pod {}: {open} connections from before it joined the mesh are still open, in plaintext (with {}{}): \
                     restart the pod, or annotate its namespace with {}: \"true\" to have them closed{problem}",
                    pod.name,
                    peers.join(", "),
                    if open > peers.len() { ", .." } else { "" },
                    culvert_objects::CLOSE_ANNOTATION,
                )
            })
        });
        let seen = self.pods.iter();
        let seen = seen.flat_map(|pod| pod.notices.iter().map(|notice| format!("pod {}: {notice}", pod.name)));
        let reset = (self.reset > 0).then(|| {
            format!(
                "{} connections of this node's pods were reset, because no proxy came in time to carry them",
                self.reset
            )
        });
        self.direct
            .notice()
            .into_iter()
            .chain(reset)
            .chain(pods)
            .chain(seen)
            .collect()
    }

    /// As the page `/pods` shows it.
    pub fn json(&self, node: &str) -> Value {
        let pods: Vec<Value> = self
            .pods
            .iter()
            .map(|pod| {
                let mut shown = pod.json();
                if let Some(existing) = self.existing.get(&pod.uid) {
                    shown["open_before_capture"] = existing.json();
                    shown["earlier_connections"] = existing.open.len().into();
                }
                let since = self.direct.since(&pod.uid);
                shown["direct_seconds"] = since.map(|since| since.elapsed().as_secs()).into();
                shown
            })
            .collect();
        let proxies: Vec<Value> = self
            .proxies
            .iter()
            .map(|proxy| json!({ "pid": proxy.pid, "version": proxy.version.as_str_name() }))
            .collect();
        let last_repair = self.upkeep.last.as_ref();
        json!({
            "node": node,
            "ready": self.ready,
            "pods": pods,
            "proxies": proxies,
            "repairs": self.upkeep.repaired,
            "notices": self.notices(),
            "last_repair": last_repair.map(|found| format!("{}: {}", found.kind.as_str(), found.what)),
        })
    }
}

impl Existing {
    fn json(&self) -> Value {
        json!({
            "found": self.found,
            "open": self.open.len(),
            "closed": self.closed,
            "peers": self.peers().map(|peer| peer.to_string()).collect::<Vec<_>>(),
            "problem": self.problem,
        })
    }
}

impl PodStatus {
    fn json(&self) -> Value {
        json!({
            "uid": &*self.uid,
            "namespace": self.name.namespace,
            "name": self.name.name,
            "addresses": self.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "cookie": self.cookie,
            "state": self.state.as_str(),
            "certified": self.certified,
            "fallback": match self.fallback {
                Fallback::Direct => "direct",
                Fallback::None => "none",
            },
            "error": self.problem,
            "notices": self.notices,
        })
    }
}
