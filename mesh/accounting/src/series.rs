//! From a connection to its series, quickly.

use std::{
    cell::RefCell,
    hash::{Hash, Hasher},
    sync::Arc,
};

use culvert_identity::SpiffeId;
use culvert_state::{Pod, Workload};
use culvert_telemetry::tcp::{EndLabels, ResponseFlags, SecurityPolicy, TcpLabels, TcpMetrics, TcpSeries};
use rustc_hash::FxHashMap;

use crate::opening::{Direction, Opening};

/// What a thread remembers of late, before that becomes the older half of its memory.
const REMEMBERED: usize = 1024;

thread_local! {
    static KNOWN: RefCell<Known> = RefCell::default();
}

/// Series that a thread used: of late, and before. What is in use is never forgotten.
#[derive(Default)]
struct Known {
    late: FxHashMap<Key, Arc<TcpSeries>>,
    before: FxHashMap<Key, Arc<TcpSeries>>,
}

impl Known {
    fn find(&mut self, key: Key, make: impl FnOnce() -> Arc<TcpSeries>) -> &Arc<TcpSeries> {
        let remembered = match self.late.remove(&key) {
            Some(series) => Some(series),
            None => self.before.remove(&key),
        };
        let series = remembered.filter(|series| !series.expired()).unwrap_or_else(make);
        if self.late.len() >= REMEMBERED {
            self.before = std::mem::take(&mut self.late);
        }
        self.late.entry(key).or_insert(series)
    }
}

/// What determines the labels. Pods and workloads are compared by place in memory, which is theirs alone as long as the
/// key holds them.
#[derive(Clone)]
struct Key {
    metrics: *const TcpMetrics,
    direction: Direction,
    encrypted: bool,
    flags: ResponseFlags,
    pod: Arc<Pod>,
    own: Option<Arc<Workload>>,
    workload: Option<Arc<Workload>>,
    identity: Option<SpiffeId>,
    service: Option<Arc<str>>,
}

impl Key {
    fn places(&self) -> impl Eq + Hash + use<> {
        let place = |workload: &Option<Arc<Workload>>| workload.as_ref().map(Arc::as_ptr);
        (
            self.metrics,
            self.direction,
            self.encrypted,
            self.flags,
            Arc::as_ptr(&self.pod),
            place(&self.own),
            place(&self.workload),
        )
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.places() == other.places() && self.identity == other.identity && self.service == other.service
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.places().hash(state);
    }
}

/// Does something with the series of a connection that was opened, or could not be for the reason that `flags` say.
pub(super) fn with<R>(
    metrics: &Arc<TcpMetrics>,
    opening: &Opening,
    flags: ResponseFlags,
    act: impl FnOnce(&Arc<TcpSeries>) -> R,
) -> R {
    let key = Key {
        metrics: Arc::as_ptr(metrics),
        direction: opening.direction,
        encrypted: opening.encrypted,
        flags,
        pod: opening.pod.clone(),
        own: opening.own.clone(),
        workload: opening.peer.workload.clone(),
        identity: opening.peer.identity.clone(),
        service: opening.service.clone(),
    };
    KNOWN.with_borrow_mut(|known| {
        if let Some(series) = known.late.get(&key).filter(|series| !series.expired()) {
            return act(series);
        }
        act(known.find(key, || metrics.series(&labels(opening, flags))))
    })
}

/// Counts what the pod of this node has sent and received. Istio's names are those of a request and its response, whoever reports.
pub(super) fn transferred(series: &TcpSeries, direction: Direction, sent: u64, received: u64) {
    match direction {
        Direction::Outbound => series.transferred(received, sent),
        Direction::Inbound => series.transferred(sent, received),
    }
}

fn labels(opening: &Opening, flags: ResponseFlags) -> TcpLabels {
    let pod = &opening.pod;
    let mut own = end(opening.own.as_deref());
    // What is certain about an own pod, even before the mesh has told of it.
    own.namespace = pod.namespace.clone();
    if opening.encrypted {
        own.principal = pod.identity.as_str().into();
    }
    if own.workload.is_empty() {
        own.workload = pod.name.clone();
    }
    let mut peer = end(opening.peer.workload.as_deref());
    if let Some(identity) = &opening.peer.identity {
        peer.principal = identity.as_str().into();
        // On demand, a peer that only ever connects to us is known by its certificate alone.
        if peer.namespace.is_empty() {
            peer.namespace = identity.namespace().into();
        }
    }
    let (reporter, source, destination) = match opening.direction {
        Direction::Outbound => ("source", own, peer),
        Direction::Inbound => ("destination", peer, own),
    };
    let security = match (opening.encrypted, flags) {
        (true, _) => SecurityPolicy::MutualTls,
        (false, ResponseFlags::None) => SecurityPolicy::None,
        // It might have been encrypted.
        (false, _) => SecurityPolicy::Unknown,
    };
    TcpLabels {
        reporter,
        source,
        destination,
        service: opening.service.clone().unwrap_or_default(),
        security,
        flags,
    }
}

fn end(workload: Option<&Workload>) -> EndLabels {
    let Some(workload) = workload else {
        return EndLabels::default();
    };
    EndLabels {
        workload: workload.workload_name.clone(),
        namespace: workload.namespace.clone(),
        canonical_service: workload.canonical_name.clone(),
        canonical_revision: workload.canonical_revision.clone(),
        principal: Arc::default(),
        cluster: workload.cluster.clone(),
        region: workload.locality.region.clone(),
        zone: workload.locality.zone.clone(),
    }
}
