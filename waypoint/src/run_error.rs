//! Why the waypoint cannot run.

use std::{io, net::SocketAddr, path::PathBuf};

use culvert_identity::{IdentityError, SpiffeError};

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
    /// The file with the controller's roots holds none.
    #[error("{path} cannot be used for checking the controller's certificate")]
    Roots {
        /// Which.
        path: PathBuf,
        /// Why.
        source: IdentityError,
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
