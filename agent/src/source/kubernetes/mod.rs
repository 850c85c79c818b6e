//! Pods as the cluster's API server knows them.
//!
//! [`KubernetesPods`] watches the pods of its node and, of the cluster's other objects, nothing but the metadata of the
//! namespaces that have a pod here. Where a pod has its network namespace is told by the CNI gate ([`Arrivals`]) when the pod
//! is new, and by [`crate::cri`] when it runs already.
//! ```text
//! watch of pods ────────┐
//! watches of namespaces ┤                 ┌> snapshots, for enrolment
//! CNI gate ─ arrivals ──┼──> book (pure) ─┤
//! CRI, /proc ─ searches ┘                 └> which namespaces to watch, what to search
//! ```
//! `book` decides everything and has no I/O; read it first. `follow` is the tasks around it. While the API server is away
//! all stays as it was last known, and snapshots never lose a pod on the strength of something not heard.

mod arrivals;
mod book;
mod facts;
mod flags;
mod follow;
mod health;
mod metrics;
mod shared;
mod verdict;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::{
    Api, Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use thiserror::Error;
use tokio::{
    sync::{Notify, watch},
    time::timeout,
};

pub use self::{
    arrivals::{Arrival, ArrivalError, Arrivals},
    flags::KubernetesArgs,
    metrics::SourceMetrics,
    verdict::Verdict,
};
use self::{
    book::{Book, Origin, Place},
    facts::{Facts, deciding_metadata},
    follow::Task,
    health::{Health, Watched},
    shared::Shared,
};
use super::{PodName, PodSource, Snapshot};
use crate::cri::{self, Locator};

/// How long the API server may take to answer about a pod that arrives.
const ANSWER: Duration = Duration::from_secs(5);

/// The same where what is known would do as well.
const SHORT_ANSWER: Duration = Duration::from_millis(500);

/// Longest silence on a connection to the API server. Every watch is told something once a minute.
const SILENCE: Duration = Duration::from_secs(100);

/// The source; see the module.
#[derive(Debug)]
pub struct KubernetesPods {
    shared: Arc<Shared>,
    snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    _tasks: [Task; 4],
}

/// The cluster cannot be followed.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The file given by `--kubeconfig` cannot be used.
    #[error("the kubeconfig {} cannot be used", path.display())]
    Kubeconfig {
        /// Which.
        path: PathBuf,
        /// Why.
        source: Box<kube::config::KubeconfigError>,
    },
    /// There is no service account.
    #[error("neither is --kubeconfig given, nor is this a pod with a service account")]
    InCluster(#[source] Box<kube::config::InClusterError>),
    /// The credentials cannot be used.
    #[error("no client of the API server can be made")]
    Client(#[source] Box<kube::Error>),
}

impl KubernetesPods {
    /// Follows the pods of `node`. The API server need not be there yet.
    ///
    /// # Errors
    /// The way to the API server is not configured, or wrongly.
    pub async fn open(node: &str, args: &KubernetesArgs) -> Result<Self, OpenError> {
        let locator = Locator::new(args.cri_sockets.clone(), args.proc.clone());
        Ok(Self::follow(node, client(args.kubeconfig.as_deref()).await?, locator))
    }

    /// Follows the pods of `node` by a client that there is already. Must be called inside a runtime.
    pub fn follow(node: &str, client: Client, locator: Locator) -> Self {
        let (out, snapshots) = watch::channel(None);
        let shared = Arc::new(Shared {
            node: node.to_owned(),
            client,
            locator,
            book: Mutex::default(),
            out,
            health: Health::default(),
            namespaces_changed: Notify::new(),
            search_due: Notify::new(),
        });
        let tasks = [
            Task::spawn(follow::pods(Arc::clone(&shared))),
            Task::spawn(follow::namespaces(Arc::clone(&shared))),
            Task::spawn(follow::searches(Arc::clone(&shared))),
            Task::spawn(follow::looks(Arc::clone(&shared))),
        ];
        Self {
            shared,
            snapshots,
            _tasks: tasks,
        }
    }

    /// The CNI gate's way in.
    pub fn arrivals(&self) -> Arrivals {
        Arrivals::new(Arc::clone(&self.shared))
    }

    /// The client of the API server, for others who need one.
    pub fn client(&self) -> Client {
        self.shared.client.clone()
    }

    /// How well the cluster is followed, and what is missing for readiness.
    pub fn metrics(&self) -> SourceMetrics {
        SourceMetrics::new(Arc::clone(&self.shared))
    }
}

impl PodSource for KubernetesPods {
    async fn next(&mut self) -> Option<Arc<Snapshot>> {
        loop {
            self.snapshots.changed().await.ok()?;
            if let Some(snapshot) = &*self.snapshots.borrow_and_update() {
                return Some(Arc::clone(snapshot));
            }
        }
    }
}

/// A client of the API server: by the file, or by the service account of the pod that this runs in.
///
/// # Errors
/// Neither can be used.
pub async fn client(kubeconfig: Option<&Path>) -> Result<Client, OpenError> {
    let mut config = match kubeconfig {
        Some(path) => {
            let unusable = |error| OpenError::Kubeconfig {
                path: path.to_owned(),
                source: Box::new(error),
            };
            let file = Kubeconfig::read_from(path).map_err(unusable)?;
            let options = KubeConfigOptions::default();
            Config::from_custom_kubeconfig(file, &options).await.map_err(unusable)?
        }
        None => Config::incluster().map_err(|error| OpenError::InCluster(Box::new(error)))?,
    };
    config.connect_timeout = Some(ANSWER);
    config.read_timeout = Some(SILENCE);
    Client::try_from(config).map_err(|error| OpenError::Client(Box::new(error)))
}

impl Shared {
    async fn arrive(&self, arrival: Arrival) -> Result<Verdict, ArrivalError> {
        let name = PodName {
            namespace: arrival.namespace,
            name: arrival.name,
        };
        let unknown = || ArrivalError::Unknown {
            pod: name.to_string(),
            uid: arrival.uid.clone(),
        };
        let is_known = self.read(|book| book.knows_pod(&name, &arrival.uid) && book.knows_namespace(&name.namespace));
        let is_fresh = [Watched::Pods, Watched::Namespaces]
            .iter()
            .all(|what| self.health.state(*what).is_connected);
        if !(is_known && is_fresh) {
            let patience = if is_known { SHORT_ANSWER } else { ANSWER };
            let asked = timeout(patience, self.ask(&name)).await;
            let asked = asked.map_err(|_| ArrivalError::Timeout { pod: name.to_string() });
            match asked.and_then(|asked| {
                asked.map_err(|source| ArrivalError::Api {
                    pod: name.to_string(),
                    source: Box::new(source),
                })
            }) {
                Ok(()) => {}
                Err(error) if is_known => tracing::warn!(pod = %name, %error, "judged by what is known"),
                Err(error) => return Err(error),
            }
        }
        let place = Place {
            netns: cri::visible(&arrival.netns, self.locator.proc()).unwrap_or(arrival.netns),
            addresses: arrival.addresses,
        };
        let verdict = self.with(|book| book.arrive(&name, &arrival.uid, place));
        self.health.found_by_gate();
        verdict.ok_or_else(unknown)
    }

    /// Learns of a pod and its namespace without waiting for the watches.
    async fn ask(&self, name: &PodName) -> Result<(), kube::Error> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &name.namespace);
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let (pod, namespace) = tokio::join!(pods.get_opt(&name.name), namespaces.get_metadata_opt(&name.namespace));
        let (pod, namespace) = (pod?, namespace?);
        let ours = pod.filter(|pod| {
            let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref());
            node == Some(&self.node)
        });
        self.with(|book| {
            if let Some(facts) = ours.as_ref().and_then(Facts::of) {
                book.pod(facts, Origin::Asked);
            }
            match &namespace {
                Some(namespace) => {
                    let metadata = &namespace.metadata;
                    let version = metadata.resource_version.as_ref().and_then(|text| text.parse().ok());
                    book.namespace(&name.namespace, deciding_metadata(metadata), version);
                }
                None => book.namespace_gone(&name.namespace),
            }
        });
        Ok(())
    }

    fn leave(&self, uid: &str, netns: Option<&Path>) {
        let netns = netns.map(|path| cri::visible(path, self.locator.proc()).unwrap_or_else(|| path.to_path_buf()));
        self.with(|book| book.leave(uid, netns.as_deref(), |path| cri::Seen::at(path).is_there()));
    }

    /// Asks about pods that the watch has not named for long.
    async fn confirm(&self) {
        for name in self.read(Book::unconfirmed) {
            let pods: Api<Pod> = Api::namespaced(self.client.clone(), &name.namespace);
            match timeout(ANSWER, pods.get_metadata_opt(&name.name)).await {
                Ok(Ok(None)) => self.with(|book| book.pod_unconfirmed(&name)),
                Ok(Ok(Some(_))) => {}
                // Another time: the others would wait as long.
                Ok(Err(_)) | Err(_) => return,
            }
        }
    }
}
