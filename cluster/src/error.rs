//! Why a cluster could not do what it was asked.

use std::{io, path::PathBuf, time::Duration};

/// Why a cluster could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The name cannot be part of the names of namespaces, cgroups and folders.
    #[error("{0:?} cannot be a cluster's name: 1 to 16 of a-z, 0-9 and -, and neither \"bin\" nor \"images\"")]
    Name(String),
    /// More nodes than the address plan has room for.
    #[error("a cluster has 0 to 9 nodes, not {0}")]
    Nodes(u8),
    /// There is no node of this name.
    #[error("no node {0:?} in this cluster")]
    NoSuchNode(String),
    /// A file that must be there is not.
    #[error("{} is missing: {remedy}", path.display())]
    Missing {
        /// What was looked for.
        path: PathBuf,
        /// What to do about it.
        remedy: &'static str,
    },
    /// A cluster of this name is there already, whole or in part.
    #[error("cluster {name:?} is up already, or was not taken down properly, with its state in {}: take it down first", state.display())]
    Exists {
        /// The cluster's name.
        name: String,
        /// Where it keeps its state.
        state: PathBuf,
    },
    /// No cluster of this name is up.
    #[error("cluster {name:?} is not up ({} is missing)", record.display())]
    NotUp {
        /// The cluster's name.
        name: String,
        /// Its record.
        record: PathBuf,
    },
    /// The operating system refused something.
    #[error("cannot {doing}")]
    Io {
        /// Completes "cannot".
        doing: String,
        /// What it said.
        source: io::Error,
    },
    /// A program ended with a failure.
    #[error("{program}: {message}")]
    Program {
        /// The command line.
        program: String,
        /// Its exit status and standard error.
        message: String,
    },
    /// A component of the cluster ended, or keeps ending.
    #[error("{component} {what}; the end of {}:\n{tail}", log.display())]
    Component {
        /// For example `kube-apiserver` or `kubelet on node1`.
        component: String,
        /// What it did.
        what: String,
        /// Its log.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },
    /// Something did not come true in time.
    #[error("{what}: not within {:.0} s{detail}", after.as_secs_f32())]
    Timeout {
        /// What was waited for.
        what: String,
        /// How long.
        after: Duration,
        /// What is known about why; empty, or begins with a separator.
        detail: String,
    },
    /// A certificate could not be made.
    #[error("cannot make a certificate")]
    Certificate(#[from] rcgen::Error),
    /// A record in the state folder cannot be read or written.
    #[error("bad record {}", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// Where it is wrong.
        source: serde_json::Error,
    },
    /// A network namespace could not be entered.
    #[error(transparent)]
    Namespace(#[from] culvert_net::NetError),
    /// The person, or the caller's flag, stopped it.
    #[error("interrupted")]
    Interrupted,
}

/// Says what was being done when the operating system refused.
pub(crate) trait Doing<T> {
    /// `what` completes "cannot".
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|source| Error::Io {
            doing: what(),
            source: source.into(),
        })
    }
}
