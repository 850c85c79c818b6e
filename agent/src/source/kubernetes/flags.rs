//! The command line's part of this source.

use std::path::PathBuf;

use clap::Args;

/// How the agent finds the cluster and its node's container runtime. Used when no directory of objects is given.
#[derive(Clone, Debug, Args)]
pub struct KubernetesArgs {
    /// How to reach the API server, as a kubeconfig file. Absent in a pod: its service account is used.
    #[arg(long, env = "CULVERT_KUBECONFIG")]
    pub kubeconfig: Option<PathBuf>,

    /// The container runtime's socket (CRI), which tells the network namespaces of running pods. May be repeated: the first
    /// that is there is used. Where none is, /proc is searched instead.
    #[arg(
        long = "cri-socket",
        env = "CULVERT_CRI_SOCKET",
        value_delimiter = ',',
        default_values = crate::cri::SOCKETS
    )]
    pub cri_sockets: Vec<PathBuf>,

    /// Where the node's processes are seen, all of them: /proc in a pod with `hostPID`.
    #[arg(long, env = "CULVERT_PROC", default_value = "/proc")]
    pub proc: PathBuf,
}
