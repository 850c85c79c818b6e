//! The command line's part of the gate.

use std::path::PathBuf;

use clap::Args;

/// The command line's part of the gate.
#[derive(Clone, Debug, Args)]
pub struct GateArgs {
    /// Where container runtimes look for CNI plug-ins.
    #[arg(long, env = "CULVERT_CNI_BIN_DIR", default_value = "/opt/cni/bin")]
    pub cni_bin_dir: PathBuf,

    /// Where container runtimes look for CNI configurations.
    #[arg(long, env = "CULVERT_CNI_CONF_DIR", default_value = "/etc/cni/net.d")]
    pub cni_conf_dir: PathBuf,

    /// The plug-in's program, which is copied to --cni-bin-dir.
    #[arg(long, env = "CULVERT_CNI_PLUGIN", default_value = "/culvert-cni")]
    pub cni_plugin: PathBuf,

    /// Where the plug-in asks; the same path on the node.
    #[arg(long, env = "CULVERT_CNI_SOCKET", default_value = culvert_cni::config::AGENT_SOCKET)]
    pub cni_socket: PathBuf,

    /// What the plug-in decides by while the agent does not answer; the same path on the node.
    #[arg(long, env = "CULVERT_CNI_STATE", default_value = culvert_cni::config::STATE_FILE)]
    pub cni_state: PathBuf,

    /// The network that the container runtime is set to take, where it does not take the first configuration by file name
    /// (CRI-O's `cni_default_network`).
    #[arg(long, env = "CULVERT_CNI_NETWORK", value_name = "NAME")]
    pub cni_network: Option<String>,

    /// Do without the gate: new pods start at once and are captured a moment later. What an earlier agent installed is removed.
    #[arg(long, env = "CULVERT_NO_CNI")]
    pub no_cni: bool,
}
