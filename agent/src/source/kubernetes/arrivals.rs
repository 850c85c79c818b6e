//! The CNI gate's way in: a pod is judged while its sandbox is being made, before the kubelet has told anyone its address.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use thiserror::Error;

use super::{shared::Shared, verdict::Verdict};

/// Tells the source of pods whose network namespace is being set up. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Arrivals {
    shared: Arc<Shared>,
}

/// A pod whose network namespace has just got its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The pod's namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid as the container runtime knows it (`K8S_POD_UID`).
    pub uid: String,
    /// Its network namespace.
    pub netns: PathBuf,
    /// Its addresses, the primary one first.
    pub addresses: Vec<IpAddr>,
}

/// Why nobody can say whether a pod that arrives takes part.
#[derive(Debug, Error)]
pub enum ArrivalError {
    /// The pod, or its namespace, is not known yet, and the API server cannot be asked.
    #[error("the API server cannot be asked about pod {pod}")]
    Api {
        /// Which pod, as `namespace/name`.
        pod: String,
        /// What went wrong.
        #[source]
        source: Box<kube::Error>,
    },
    /// The API server does not answer in time.
    #[error("the API server does not answer the question about pod {pod}")]
    Timeout {
        /// Which pod, as `namespace/name`.
        pod: String,
    },
    /// The API server knows no such pod, or another one by that name.
    #[error("pod {pod} with uid {uid} is not known to the API server, or not on this node: it has been deleted")]
    Unknown {
        /// Which pod, as `namespace/name`.
        pod: String,
        /// The uid that was asked for.
        uid: String,
    },
    /// The agent does not follow the cluster any more.
    #[error("the agent is ending")]
    Ended,
}

impl Arrivals {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Decides about a pod whose sandbox is being made. When it takes part, the next snapshot contains it with the given
    /// network namespace and addresses. Takes bounded time: the API server is asked only about what is not known yet.
    ///
    /// # Errors
    /// Nobody can say: see [`ArrivalError`]. Asking again later may help, except for [`ArrivalError::Unknown`].
    pub async fn arrive(&self, arrival: Arrival) -> Result<Verdict, ArrivalError> {
        self.shared.arrive(arrival).await
    }

    /// Forgets the network namespace of a pod whose sandbox goes. With a `netns` only if it is still the pod's: an older
    /// sandbox may be cleared away while its successor runs. Harmless for pods that are not known.
    pub fn leave(&self, uid: &str, netns: Option<&Path>) {
        self.shared.leave(uid, netns);
    }
}
