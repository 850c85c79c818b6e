//! Why the waypoint cannot run.

use std::{io, net::SocketAddr, path::PathBuf};

use culvert_identity::SpiffeError;

/// Why the waypoint cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A file cannot be read.
    #[error("cannot read {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Namespace or service account are none.
    #[error("no identity for this waypoint: {0}")]
    Identity(#[from] SpiffeError),
    /// A port cannot be had.
    #[error("cannot listen on {address}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The system gives no threads, signals or timers.
    #[error("cannot start")]
    System(#[from] io::Error),
}
