//! Where the objects come from: a directory of YAML, or a cluster's API server. Both give the same: the newest
//! [`Loaded`], whenever something changed, so that what reads it is the same for both.
//!
//! | module | what |
//! |---|---|
//! | `kubernetes` | follows every kind, and collects the events |
//! | `offer` | which kinds the cluster has, of those that it need not have |
//! | `follow` | one kind: list, watch, and again |
//! | `named` | ConfigMaps that policies name |
//! | `store` | what is held, and what of it is in force |
//! | `health` | which kinds are known, and since when one is not followed |
//! | [`feed`] | the same without an API server, for tests and benchmarks |
//!
//! What a kind is, and what is kept of its objects, is in [`culvert_objects::KindSpec`].
//!
//! What holds when the API server is away: the last state stays in force, for as long as it takes. When it is back,
//! a watch goes on where it was, or all is listed again and compared; only what differs is passed on.

use std::sync::Arc;

use culvert_objects::{Directory, Loaded};
use culvert_telemetry::prometheus::registry::Registry;
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::watch;

pub mod feed;
mod follow;
mod health;
mod kubernetes;
mod named;
mod offer;
mod store;

pub use crate::cluster::client::ClientError;
use health::Health;

/// Follows the cluster that a kubeconfig names, for its objects alone. Generation 0 means that not all is
/// known yet.
///
/// # Errors
/// When the file is of no use.
pub async fn follow(kubeconfig: &std::path::Path) -> Result<watch::Receiver<Arc<Loaded>>, ClientError> {
    let client = crate::cluster::client::connect(Some(kubeconfig)).await?;
    Ok(kubernetes::follow(&client, &Health::default()))
}

/// A source that is being followed.
pub(crate) struct Source {
    changes: watch::Receiver<Arc<Loaded>>,
    about: About,
}

/// How the source is, for readiness and `/status`.
#[derive(Clone)]
pub(crate) enum About {
    Directory(String),
    Kubernetes(Health),
    Feed,
}

impl Source {
    /// Follows a directory, which was read.
    pub(crate) fn directory(directory: Directory, path: &std::path::Path) -> Self {
        Self {
            changes: directory.watch(),
            about: About::Directory(path.display().to_string()),
        }
    }

    /// Follows the cluster behind `client`.
    pub(crate) fn kubernetes(client: &Client, registry: &mut Registry) -> Self {
        let health = Health::register(registry);
        Self {
            changes: kubernetes::follow(client, &health),
            about: About::Kubernetes(health),
        }
    }

    /// What somebody feeds.
    pub(crate) fn fed(changes: watch::Receiver<Arc<Loaded>>) -> Self {
        Self {
            changes,
            about: About::Feed,
        }
    }

    /// The objects, whenever they change. Generation 0 means that not all is known yet.
    pub(crate) fn changes(&self) -> watch::Receiver<Arc<Loaded>> {
        self.changes.clone()
    }

    /// How it is.
    pub(crate) fn about(&self) -> About {
        self.about.clone()
    }
}

impl About {
    /// Kinds of which not all is known yet.
    pub(crate) fn missing(&self) -> Vec<&'static str> {
        match self {
            Self::Directory(_) | Self::Feed => Vec::new(),
            Self::Kubernetes(health) => health.missing(),
        }
    }

    /// For people and programs.
    pub(crate) fn describe(&self) -> Value {
        match self {
            Self::Directory(path) => json!({"kind": "directory", "path": path}),
            Self::Kubernetes(health) => health.describe(),
            Self::Feed => json!({"kind": "feed"}),
        }
    }
}
