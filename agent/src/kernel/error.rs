//! What can go wrong with the kernel programs.

use std::{io, net::IpAddr, path::PathBuf};

/// Why the kernel side could not do what it was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// A system call failed.
    #[error("{action}")]
    System {
        /// What was being done, with the object's name.
        action: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The object file or one of its maps or programs was refused.
    #[error("{action}")]
    Load {
        /// What was being loaded.
        action: String,
        /// aya's explanation, with the verifier's log where there is one.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The kernel lacks a hook for which there is no other way.
    #[error("this kernel ({kernel}) has no {hook}, which Linux has since {since}")]
    NoHook {
        /// The hook.
        hook: &'static str,
        /// The version of Linux that brought it.
        since: &'static str,
        /// The running kernel's release.
        kernel: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The object file lacks something. A bug: both come from one build.
    #[error("the kernel programs have no {0}")]
    Missing(String),
    /// A folder that must be on a file system of one kind is not.
    #[error("{path} is not on a {expected} file system")]
    FileSystem {
        /// The folder.
        path: PathBuf,
        /// `cgroup2` or `bpf`.
        expected: &'static str,
    },
    /// A cgroup that must be below the captured one is not.
    #[error("the {what}'s cgroup {path} is not below {cgroup}, where the programs are attached")]
    Outside {
        /// Whose cgroup it is.
        what: &'static str,
        /// The cgroup.
        path: PathBuf,
        /// The captured one.
        cgroup: PathBuf,
    },
    /// A process that must be below the captured cgroup is not.
    #[error("process {pid} is in no cgroup at or below {cgroup}, where the programs are attached")]
    NoCgroup {
        /// Its process id.
        pid: String,
        /// The captured cgroup.
        cgroup: PathBuf,
    },
    /// No kubelet made a cgroup for its pods, or not where this process can see it.
    #[error("no cgroup of Kubernetes' pods (kubepods or kubepods.slice) below {cgroup}")]
    NoPods {
        /// The captured cgroup.
        cgroup: PathBuf,
    },
    /// A proxy on Kubernetes that is in no pod's cgroup.
    #[error(
        "the proxy with process id {pid} is in the cgroup {path}, which is no pod's: what else runs there would not be captured"
    )]
    NoPodOfProxy {
        /// Its process id.
        pid: u32,
        /// Its cgroup.
        path: PathBuf,
    },
    /// A pod's address belongs to another pod.
    #[error("address {address} belongs to {name} already")]
    AddressInUse {
        /// The address.
        address: IpAddr,
        /// The cookie of the pod that has it.
        owner: u64,
        /// Its name, or what is known of it.
        name: String,
    },
    /// A map has no room.
    #[error("the map {map} is full ({size} entries)")]
    Full {
        /// The map's name.
        map: &'static str,
        /// Its size.
        size: u32,
    },
    /// The caller's values make no sense.
    #[error("{0}")]
    Invalid(String),
}

impl KernelError {
    pub(super) fn system(action: String, source: io::Error) -> Self {
        Self::System { action, source }
    }

    pub(super) fn load(action: String, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Load {
            action,
            source: Box::new(source),
        }
    }
}
