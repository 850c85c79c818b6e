//! Making the pods that are into the pods that should be.
//!
//! [`Enrolment`] is one task that owns all decisions. Four things may make it act: the source's snapshots (`plan` compares,
//! `steps` carries out), proxies that come, answer and go (`proxies`), the clock, and changes of pins (`upkeep` puts back
//! what somebody removed, also on a beat). `takeover` throws away what an earlier agent left, when it may go; `existing` is
//! about connections that a pod had open before it was captured, `guards` about what guards drop and lack, `fallback`
//! about pods that go without a proxy while none serves, `same_node` about connections that go past it
//! (`vouched` is what proxies say of them, `ageing` which of them nobody uses, `ended` what has ended).
//!
//! # The way in
//! 1. The network namespace is opened and its cookie learned; listening sockets are opened inside it.
//! 2. The pod is offered to every proxy. Its connections still go their own way.
//! 3. When a proxy has accepted the pod, capture begins. Without a proxy it begins after [`Settings::proxy_wait`] all the
//!    same: connections then wait in the listeners' backlog. A labelled pod must not stay in clear for want of a proxy.
//!
//! # The way out
//! 1. Outbound capture ends: what the pod opens from now on goes its own way.
//! 2. Inbound capture ends after [`Settings::leave_grace`]: peers that have not heard of the change still dial the tunnel.
//! 3. A moment later, when nothing waits in the backlog any more, proxies are told and the sockets are closed.
//!
//! # Restarts
//! Capture is pinned in the kernel and goes on without the agent; the proxy keeps the listening sockets. An agent that
//! starts finds a pod enrolled and
//! | finds | does |
//! |---|---|
//! | its listeners alive in the programs' map | nothing at first. When the proxy that holds them connects, takes them back (`handover::recover`) and tells it to keep the pod |
//! | none alive: the proxy died too | opens new ones at once, so that connections wait instead of failing |
//! | a proxy that has not got the pod (an upgrade) | gives it the sockets; a socket that two proxies hold is accepted by both |
//!
//! Sockets that replace others are bound beside them (`SO_REUSEPORT`), and a proxy accepts on all that it ever got for a
//! pod, so nothing that waits in an old backlog is lost. While the agent lives it holds the listeners too, so that a proxy
//! may die without a connection being refused.

mod ageing;
mod direct;
mod ended;
mod entry;
mod existing;
mod existing_connections;
mod fallback;
mod guards;
mod keep_up;
mod namespaces;
mod notices;
mod plan;
mod proxies;
mod same_node;
pub mod status;
mod steps;
mod succession;
mod take_over;
mod takeover;
mod upkeep;
mod vouched;

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use culvert_objects::DnsCapture;
use tokio::{
    sync::{mpsc::UnboundedReceiver, watch},
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

pub use self::{direct::Direct, existing::Existing, upkeep::Upkeep};
use self::{
    entry::Entry,
    plan::{Action, Phase, Refusal},
    status::Status,
    succession::Succession,
    takeover::Takeover,
    vouched::SameNode,
};
use crate::{
    handover::{Event, Proxy},
    kernel::Kernel,
    source::{Outside, PodSource, PodSpec, Snapshot},
};

/// How often to look whether namespaces and listeners are still there.
const LOOK: Duration = Duration::from_secs(2);

/// How often pairs of pods are confirmed whose connections go past the proxy: well before the kernel programs take them for outdated.
const CONFIRM: Duration = Duration::from_millis(500);

/// How long after a proxy's end to look: its sockets are closed one after another.
const LOOK_SOON: Duration = Duration::from_millis(50);

/// How long proxies may take to find another agent: longer than they pause between two attempts.
const PROXIES_DUE: Duration = Duration::from_secs(5);

/// How many looks there are from one inspection of the pods' namespaces to the next.
const LOOKS_TO_INSPECTION: u32 = 5;

/// How patient enrolment is.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How long a pod that leaves still takes tunnel connections.
    pub leave_grace: Duration,
    /// How long a new pod waits for a proxy to accept it before it is captured regardless.
    pub proxy_wait: Duration,
    /// How long a connection waits while no proxy serves before it is reset.
    pub connection_wait: Duration,
    /// How long a pair of pods goes past the proxy that nobody uses.
    pub same_node_idle: Duration,
    /// Whether the proxy sees the DNS queries of pods that do not say.
    pub dns: DnsCapture,
}

/// The task; see the module.
pub struct Enrolment<S> {
    source: S,
    reconciler: Reconciler,
    events: UnboundedReceiver<Event>,
}

/// Everything that steps work on.
struct Reconciler {
    kernel: Arc<Mutex<Kernel>>,
    settings: Settings,
    pods: BTreeMap<Arc<str>, Entry>,
    /// In the order in which they connected.
    proxies: Vec<Proxy>,
    /// Those that connected before the pods are known: told now that there is none, they would let go of what they serve.
    early: Vec<Proxy>,
    /// Proxies that were told to let go of a pod and have not answered yet.
    letting_go: HashSet<(u64, Arc<str>)>,
    /// Of those among `proxies` that take listeners.
    succession: Succession,
    refused: Vec<Refusal>,
    outside: Vec<Outside>,
    takeover: Takeover,
    upkeep: Upkeep,
    /// How often it was looked.
    looks: u32,
    /// Until when proxies may take that were connected to an agent before this one.
    proxies_due: Instant,
    /// Pods that go without a proxy.
    direct: Direct,
    /// Connections that go past the proxy.
    same_node: SameNode,
    /// Connections that were reset, because no proxy came in time.
    reset: u64,
    /// Namespaces that ask for open connections to be closed.
    closing: BTreeSet<String>,
    /// Connections that were closed on their behalf.
    closed: u64,
    ready: bool,
    look_at: Option<Instant>,
    status: watch::Sender<Arc<Status>>,
}

impl<S: PodSource> Enrolment<S> {
    /// Puts it together; nothing happens before [`Enrolment::run`]. The receiver shows the state from then on.
    pub fn new(
        source: S,
        kernel: Arc<Mutex<Kernel>>,
        events: UnboundedReceiver<Event>,
        settings: Settings,
    ) -> (Self, watch::Receiver<Arc<Status>>) {
        let (status, shown) = watch::channel(Arc::default());
        let reconciler = Reconciler {
            kernel,
            settings,
            pods: BTreeMap::new(),
            proxies: Vec::new(),
            early: Vec::new(),
            letting_go: HashSet::new(),
            succession: Succession::default(),
            refused: Vec::new(),
            outside: Vec::new(),
            takeover: Takeover::default(),
            upkeep: Upkeep::default(),
            looks: 0,
            proxies_due: Instant::now() + PROXIES_DUE,
            direct: Direct::default(),
            same_node: SameNode::default(),
            reset: 0,
            closing: BTreeSet::new(),
            closed: 0,
            ready: false,
            look_at: None,
            status,
        };
        (
            Self {
                source,
                reconciler,
                events,
            },
            shown,
        )
    }

    /// Runs until it is dropped. What is captured then stays captured.
    pub async fn run(mut self) {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut confirm = interval(CONFIRM);
        confirm.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_followed = true;
        let (_watcher, mut pins) = self.reconciler.kernel().watch_pins();
        loop {
            let due = self.reconciler.next_due();
            tokio::select! {
                snapshot = self.source.next(), if is_followed => match snapshot {
                    Some(snapshot) => self.reconciler.reconcile(&snapshot),
                    None => {
                        tracing::error!("pods are no longer followed; those that are known stay as they are");
                        is_followed = false;
                    }
                },
                Some(event) = self.events.recv() => self.reconciler.on_proxy(event),
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => self.reconciler.on_clock(),
                _ = look.tick() => self.reconciler.look(),
                _ = confirm.tick(), if self.reconciler.same_node.is_used() => self.reconciler.look_after_same_node(),
                Some(()) = pins.recv() => self.reconciler.keep_up(),
            }
            self.reconciler.take_over();
            self.reconciler.follow_same_node();
            self.reconciler.publish();
        }
    }
}

impl Reconciler {
    fn reconcile(&mut self, snapshot: &Snapshot) {
        self.rename(&snapshot.wanted);
        let plan = plan::plan(&snapshot.wanted, &self.pods);
        for refusal in &plan.refused {
            if !self.refused.contains(refusal) {
                tracing::error!(pod = %refusal.spec.name, uid = %refusal.spec.uid, problem = refusal.problem, "pod refused");
            }
        }
        self.refused = plan.refused;
        for outside in snapshot
            .outside
            .iter()
            .filter(|outside| !self.outside.contains(outside))
        {
            if let Some(problem) = &outside.problem {
                tracing::error!(pod = %outside.name, uid = %outside.uid, problem, "pod stays outside the mesh");
            }
        }
        self.outside.clone_from(&snapshot.outside);
        for action in plan.actions {
            match action {
                Action::Remove(uid) => self.remove(&uid),
                Action::Leave(uid) => self.leave(&uid),
                Action::Enter(spec) => self.enter(spec),
                Action::Update(spec) => self.update(spec),
                Action::Return(spec) => self.come_back(spec),
            }
        }
        if !snapshot.complete && self.takeover.is_pending() {
            tracing::warn!("the configuration has faults: pods that an earlier agent enrolled stay captured for now");
        }
        self.takeover.is_complete = snapshot.complete;
        if self.closing != snapshot.closing {
            self.closing.clone_from(&snapshot.closing);
            self.close_all_existing();
        }
        self.ready = true;
        for proxy in std::mem::take(&mut self.early) {
            self.connected(proxy);
        }
    }

    /// Another name of the namespace that a pod is in is no change of the pod.
    fn rename(&mut self, wanted: &[PodSpec]) {
        for spec in wanted {
            if let Some(entry) = self.pods.get_mut(&spec.uid)
                && entry.spec.netns != spec.netns
                && entry.is_named_by(&spec.netns)
            {
                let (pod, netns) = (&spec.name, spec.netns.display());
                tracing::info!(%pod, %netns, "the pod's network namespace has another name now");
                entry.spec.netns.clone_from(&spec.netns);
            }
        }
    }

    fn next_due(&self) -> Option<Instant> {
        self.pods
            .values()
            .filter_map(|entry| entry.due)
            .chain(self.look_at)
            .min()
    }

    fn on_clock(&mut self) {
        let now = Instant::now();
        if self.look_at.is_some_and(|at| at <= now) {
            self.look();
        }
        let due: Vec<Arc<str>> = self
            .pods
            .iter()
            .filter(|(_, entry)| entry.due.is_some_and(|due| due <= now))
            .map(|(uid, _)| uid.clone())
            .collect();
        for uid in due {
            let Some(entry) = self.pods.get_mut(&uid) else { continue };
            entry.due = None;
            match entry.phase {
                Phase::Failed => {
                    let spec = entry.spec.clone();
                    self.enter(spec);
                }
                Phase::Entering => {
                    tracing::warn!(pod = %entry.spec.name, "no proxy has accepted the pod; its connections wait for one");
                    self.capture(&uid);
                }
                Phase::Leaving => self.leave_further(&uid),
                Phase::Captured => {}
            }
        }
    }

    /// Notices what nobody announces: namespaces that vanish, listeners that die with their last holder.
    fn look(&mut self) {
        self.look_at = None;
        for entry in self.pods.values_mut() {
            if entry.find_alias() {
                let (pod, netns) = (&entry.spec.name, entry.alias().map(Path::display));
                let netns = netns.map(tracing::field::display);
                tracing::info!(%pod, netns, "the pod's network namespace has another name now");
            }
        }
        let vanished: Vec<Arc<str>> = self
            .pods
            .iter()
            .filter(|(_, entry)| entry.phase != Phase::Failed && entry.has_vanished())
            .map(|(uid, _)| uid.clone())
            .collect();
        for uid in vanished {
            self.vanish(&uid);
        }
        self.relisten();
        self.keep_up();
        self.follow_all_existing();
        // Right after the first pods have come, and then from time to time.
        if self.looks % LOOKS_TO_INSPECTION == 1 {
            self.inspect();
        }
        self.log_dropped();
        self.follow_direct();
    }

    fn kernel(&self) -> MutexGuard<'_, Kernel> {
        // A panic while it was held leaves maps as a killed process would, which is what they are made for.
        self.kernel.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self) {
        let status = Status::of(
            self.ready,
            &self.pods,
            &self.refused,
            &self.outside,
            &self.proxies,
            self.letting_go.len(),
        );
        let status = Status {
            upkeep: self.upkeep.clone(),
            existing: self.existing(),
            direct: self.direct.clone(),
            reset: self.reset,
            unused_pairs: self.same_node.ageing.forgotten(),
            unreported: self.same_node.unreported,
            closed: self.closed,
            takeover: self.takeover.problem(),
            ..status
        };
        self.status.send_if_modified(|shown| {
            let changed = **shown != status;
            if changed {
                *shown = Arc::new(status);
            }
            changed
        });
    }
}
