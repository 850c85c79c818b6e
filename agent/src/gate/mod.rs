//! The gate: a new pod of the mesh starts when it is captured, and not before.
//!
//! ```text
//! kubelet ─> container runtime ─> CNI plug-ins ... ─> culvert-cni ──cni.sock──> [server] ─> source (is it wanted?)
//!                                                                                  └──────> enrolment's status (captured?)
//! ```
//! | module | what |
//! |---|---|
//! | [`server`] | the socket, and its conversations with the plug-in |
//! | [`doorkeeper`] | decides about one pod: asks the source, waits for enrolment. Start reading here |
//! | [`install`] | puts the plug-in into the node's CNI configuration, keeps it there, takes it out again |
//! | [`namespaces`] | which namespaces of the cluster are enrolled, also those without a pod here |
//! | [`state`] | writes that down for the plug-in, for when this agent does not answer |
//! | [`metrics`] | what is counted |
//!
//! The plug-in is the crate `culvert-cni`, which also defines what is said over the socket.
//!
//! Order matters: the plug-in is installed when the socket listens, and stays installed when the agent ends. Pods of enrolled
//! namespaces then wait for the next agent, and all others start.

mod args;
pub mod doorkeeper;
pub mod install;
pub mod metrics;
pub mod namespaces;
pub mod server;
pub mod state;

use std::{collections::BTreeSet, io, path::PathBuf, sync::Arc};

use culvert_telemetry::prometheus::registry::Registry;
use tokio::sync::watch;

pub use self::args::GateArgs;

use self::{
    doorkeeper::{Doorkeeper, Gatekeeper},
    install::{Places, Standing},
    metrics::Metrics,
    server::Server,
};
use crate::enrolment::status::Status;

/// The gate cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// Nobody can ask.
    #[error("cannot listen at {}", path.display())]
    Listen {
        /// `--cni-socket`.
        path: PathBuf,
        /// From the file system or the socket.
        source: io::Error,
    },
    /// `--no-cni`, and what is there cannot be removed.
    #[error("cannot remove the CNI plug-in")]
    Remove(#[from] install::RemoveError),
}

/// The gate, listening but not yet installed; see the module.
#[derive(Debug)]
pub struct Gate {
    places: Places,
    server: Server,
    metrics: Arc<Metrics>,
    standing: watch::Sender<Standing>,
    leaving: watch::Receiver<bool>,
}

/// What the agent's pages show of the gate.
#[derive(Clone, Debug)]
pub struct Shown {
    standing: watch::Receiver<Standing>,
    metrics: Arc<Metrics>,
}

impl Gate {
    /// Listens. None with `--no-cni`.
    ///
    /// # Errors
    /// See [`GateError`].
    pub fn open(args: &GateArgs) -> Result<Option<Self>, GateError> {
        let places = Places::of(args);
        if args.no_cni {
            install::remove(&places)?;
            return Ok(None);
        }
        let server = Server::bind(&args.cni_socket).map_err(|source| GateError::Listen {
            path: args.cni_socket.clone(),
            source,
        })?;
        // From now on somebody attends to this node.
        let _ = std::fs::remove_file(culvert_cni::unattended::path_beside(&args.cni_socket));
        Ok(Some(Self {
            places,
            server,
            metrics: Arc::default(),
            standing: watch::Sender::new(Standing::default()),
            leaving: watch::channel(false).1,
        }))
    }

    /// For the pages.
    pub fn shown(&self) -> Shown {
        Shown {
            standing: self.standing.subscribe(),
            metrics: Arc::clone(&self.metrics),
        }
    }

    /// Keeps the plug-in out, instead of in, while this says true.
    #[must_use]
    pub fn until(self, leaving: watch::Receiver<bool>) -> Self {
        Self { leaving, ..self }
    }

    /// Answers plug-ins, keeps the plug-in installed and the state file written, until it is dropped.
    pub async fn run<G: Gatekeeper>(self, gatekeeper: G, status: watch::Receiver<Arc<Status>>, client: kube::Client) {
        let namespaces = watch::Sender::new(state::known(&self.places.state));
        let enrolled = namespaces.subscribe();
        self.run_with(gatekeeper, status, enrolled, namespaces::follow(client, namespaces))
            .await;
    }

    /// The same with enrolled namespaces that something else follows, in the future `following`.
    pub async fn run_with<G: Gatekeeper>(
        self,
        gatekeeper: G,
        status: watch::Receiver<Arc<Status>>,
        enrolled: watch::Receiver<BTreeSet<String>>,
        following: impl Future<Output = ()>,
    ) {
        let doorkeeper = Doorkeeper::new(gatekeeper, status, enrolled.clone(), Arc::clone(&self.metrics));
        install::keep(self.places.clone(), self.standing, self.leaving);
        tokio::join!(
            following,
            state::write_changes(self.places.state, enrolled),
            self.server.run(Arc::new(doorkeeper)),
        );
    }
}

impl Shown {
    /// Adds the gate's metrics to the agent's.
    pub fn register(&self, registry: &mut Registry) {
        self.metrics.register(registry, self.standing.clone());
    }

    /// As `/pods` shows it: the configuration that the plug-in stands in, and what is wrong.
    pub fn json(&self) -> serde_json::Value {
        let standing = self.standing.borrow();
        serde_json::json!({
            "configuration": standing.configuration,
            "original": standing.original,
            "problem": standing.problem(),
            "warning": standing.problem.as_ref().filter(|_| standing.is_installed()),
        })
    }

    /// The plug-in was to be removed, and is.
    pub fn is_removed(&self) -> bool {
        self.standing.borrow().is_removed()
    }

    /// Why new pods would start without waiting for the mesh; none when the plug-in is in place.
    pub fn problem(&self) -> Option<String> {
        self.standing.borrow().problem()
    }
}
