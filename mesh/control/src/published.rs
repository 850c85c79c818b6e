//! What control publishes: snapshots, word of their changes, and metrics.

use std::{fmt, sync::Arc};

use arc_swap::ArcSwap;
use culvert_identity::{Credentials, SpiffeId};
use culvert_state::{Mesh, MeshChange};
use rustc_hash::FxHashMap;

use crate::ControlMetrics;

/// Certificates with their keys, by identity.
pub type CredentialsByIdentity = FxHashMap<SpiffeId, Arc<Credentials>>;

/// Immutable snapshots, which control replaces and the data path reads without a lock. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Published {
    /// Workloads, services and policies. Knows nothing at first, and then nothing is decided ([`Mesh::synced`]).
    pub mesh: Arc<ArcSwap<Mesh>>,
    /// Certificates that are valid now. One that is missing is being asked for.
    pub credentials: Arc<ArcSwap<CredentialsByIdentity>>,
}

/// Which snapshot was replaced.
#[derive(Clone, Debug)]
pub enum Change {
    /// The mesh differs where this says.
    Mesh(Arc<MeshChange>),
    /// A certificate came, was replaced or expired, or roots changed.
    Certificates,
}

/// Told of each change, after the snapshot is in place. Called from control's thread, so it must not wait.
pub type Notify = Arc<dyn Fn(Change) + Send + Sync>;

/// Where control writes to. Clones share it.
#[derive(Clone)]
pub struct Outputs {
    /// The snapshots.
    pub published: Published,
    /// Who is told that they changed.
    pub notify: Notify,
    /// What control counts.
    pub metrics: ControlMetrics,
}

impl fmt::Debug for Outputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outputs")
            .field("published", &self.published)
            .finish_non_exhaustive()
    }
}
