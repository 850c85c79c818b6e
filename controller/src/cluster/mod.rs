//! What the controller does in a cluster beside reading it: who of several writes, what it writes, and how it gets in.
//!
//! | module | what |
//! |---|---|
//! | [`flags`] | how the cluster is reached, and who this replica is |
//! | `client` | a connection to the API server |
//! | `lease` | which replica writes |
//! | `bundle` | the root certificates, where programs find them |
//! | `enrolled` | which namespaces are in the mesh |
//! | `refusals` | what the proxies of all replicas refuse |
//! | `retries` | when what failed in a namespace is tried again |
//! | `waypoints` | a waypoint for each Gateway of our classes |
//! | `conditions` | what an object comes to, in its status |
//! | `events` | what happened, where `kubectl describe` shows it |

mod bundle;
pub(crate) mod client;
mod conditions;
mod enrolled;
mod events;
pub mod flags;
pub(crate) mod lease;
mod manager;
mod refusals;
mod retries;
pub(crate) mod waypoints;

use std::collections::BTreeSet;
use std::sync::Arc;

use culvert_telemetry::prometheus::metrics::gauge::Gauge;
use culvert_telemetry::prometheus::registry::Registry;
use kube::Client;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::model::Refusal;
use crate::state::State;
use enrolled::Enrolled;
use flags::ClusterFlags;
use lease::Standing;

/// What chores come upon that others are to know.
pub(crate) struct Outcomes {
    /// Where the trust bundle cannot be written.
    pub(crate) bundle_problem: watch::Sender<Option<String>>,
    /// What proxies refuse, of all replicas.
    pub(crate) refusals: watch::Sender<Arc<BTreeSet<Refusal>>>,
}

/// This replica among those of the cluster.
pub(crate) struct Member {
    pub(crate) client: Client,
    /// The system namespace.
    pub(crate) namespace: String,
    pub(crate) standing: watch::Receiver<Standing>,
    /// What this replica calls itself.
    replica: String,
    leader: watch::Receiver<bool>,
    election: JoinHandle<()>,
}

impl Member {
    /// Connects, and takes part in the election until `stop` turns true.
    ///
    /// # Errors
    /// When it is not told how to reach a cluster. Whether the API server answers shows later.
    pub(crate) async fn join(
        flags: &ClusterFlags,
        registry: &mut Registry,
        stop: &watch::Receiver<bool>,
    ) -> Result<Self, client::ClientError> {
        let client = client::connect(flags.kubeconfig.as_deref()).await?;
        let (namespace, replica) = (flags.namespace(), flags.replica());
        let leads: Gauge = Gauge::default();
        registry.register(
            "culvert_controller_leader",
            "Whether this replica writes to the cluster",
            leads.clone(),
        );
        let (sender, standing) = watch::channel(Standing::default());
        let (tell, leader) = watch::channel(false);
        let mut changes = standing.clone();
        tokio::spawn(async move {
            while changes.changed().await.is_ok() {
                let now = changes.borrow_and_update().leads;
                leads.set(now.into());
                tell.send_if_modified(|before| std::mem::replace(before, now) != now);
            }
        });
        let (api, system, stop) = (client.clone(), namespace.clone(), stop.clone());
        let candidate = replica.clone();
        let election = tokio::spawn(async move { lease::elect(api, &system, candidate, sender, stop).await });
        Ok(Self {
            client,
            namespace,
            standing,
            replica,
            leader,
            election,
        })
    }

    /// Whether this replica writes.
    pub(crate) fn leader(&self) -> watch::Receiver<bool> {
        self.leader.clone()
    }

    /// What runs beside serving. Each ends by itself after `stop` has turned true.
    pub(crate) fn chores(
        self,
        state: &watch::Receiver<Arc<State>>,
        roots: watch::Receiver<Arc<str>>,
        refusals: watch::Receiver<Arc<BTreeSet<Refusal>>>,
        stop: &watch::Receiver<bool>,
        outcomes: Outcomes,
        waypoints: waypoints::Settings,
    ) -> Vec<JoinHandle<()>> {
        let (homes, waypoints_in) = watch::channel(BTreeSet::new());
        let (is_known, known) = watch::channel(false);
        // A new leader that has not heard of refusals would write that there are none.
        let writes = once(known, self.leader.clone());
        let waypoints = waypoints::Waypoints {
            client: self.client.clone(),
            settings: waypoints,
            state: state.clone(),
            leader: writes.clone(),
            stop: stop.clone(),
            homes,
        };
        let bundles = bundle::Bundles {
            client: self.client.clone(),
            namespace: self.namespace.clone(),
            state: state.clone(),
            roots,
            leader: self.leader.clone(),
            enrolled: Enrolled::default(),
            waypoints_in,
            stop: stop.clone(),
            problem: outcomes.bundle_problem,
        };
        let shared = refusals::Shared {
            client: self.client.clone(),
            namespace: self.namespace,
            replica: self.replica,
            own: refusals,
            all: outcomes.refusals,
            is_known,
            leader: self.leader.clone(),
            stop: stop.clone(),
        };
        let conditions = conditions::Conditions {
            client: self.client.clone(),
            state: state.clone(),
            leader: writes,
            stop: stop.clone(),
        };
        let events = events::Events {
            client: self.client,
            state: state.clone(),
            leader: self.leader,
            stop: stop.clone(),
        };
        vec![
            self.election,
            tokio::spawn(bundles.run()),
            tokio::spawn(conditions.run()),
            tokio::spawn(events.run()),
            tokio::spawn(waypoints.run()),
            tokio::spawn(shared.run()),
        ]
    }
}

/// Whether this replica leads, from when something is known on.
fn once(mut known: watch::Receiver<bool>, mut leader: watch::Receiver<bool>) -> watch::Receiver<bool> {
    let (sender, leads) = watch::channel(false);
    tokio::spawn(async move {
        let mut is_known = false;
        loop {
            is_known |= *known.borrow_and_update();
            let now = is_known && *leader.borrow_and_update();
            sender.send_if_modified(|before| std::mem::replace(before, now) != now);
            let changed = tokio::select! {
                changed = leader.changed() => changed,
                changed = known.changed(), if !is_known => changed,
                () = sender.closed() => return,
            };
            if changed.is_err() {
                return;
            }
        }
    });
    leads
}
