//! `culvert-agent free-node`: takes everything of Culvert off one node, by hand and without a cluster.
//!
//! For a node that no agent will come to any more: it was away when Culvert was removed, or the cluster is gone.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use culvert_agent::{
    gate::{
        GateArgs,
        install::{self, Places},
    },
    kernel::{self, NODE_NETWORK},
    lock::{self, Attempt},
};

/// The command line.
#[derive(Clone, Debug, Args)]
pub(crate) struct FreeNode {
    /// Where the node's root is mounted: `/` on the node itself, `/host` in a pod of `kubectl debug node/NAME`.
    #[arg(long, env = "CULVERT_HOST_ROOT", default_value = "/", value_name = "DIR")]
    host_root: PathBuf,

    /// Folder on a bpffs where programs and maps are pinned.
    #[arg(long, env = "CULVERT_BPFFS", default_value = "/sys/fs/bpf/culvert")]
    bpffs: PathBuf,

    /// The socket of the node's agent, beside which its lock is.
    #[arg(long, env = "CULVERT_ZDS_SOCKET", default_value = "/run/culvert/zds.sock")]
    zds_socket: PathBuf,

    #[command(flatten)]
    gate: GateArgs,
}

/// Does it. Refuses while an agent runs: that one would put everything back.
pub(crate) fn run(args: &FreeNode) -> Result<()> {
    let below = |path: &Path| args.host_root.join(path.strip_prefix("/").unwrap_or(path));
    let path = lock::path_beside(&below(&args.zds_socket));
    let _lock = match lock::take(&path, "culvert-agent free-node")
        .with_context(|| format!("lock {}", path.display()))?
    {
        Attempt::Taken(lock) => lock,
        Attempt::Held { by, .. } => bail!(
            "an agent serves this node ({by}), and would put everything back: remove Culvert from the cluster (culvert uninstall), \
             or keep its DaemonSet off this node, and try again"
        ),
    };
    let bpffs = below(&args.bpffs);
    let ended = kernel::remove_pins(&bpffs).context("end capture")?;
    tracing::info!(programs = ended, pins = %bpffs.display(), "capture has ended: pods talk directly");
    let places = Places::of(&args.gate).below(&args.host_root);
    install::remove(&places).context("remove the CNI plug-in")?;
    tracing::info!(folder = %places.conf_dir.display(), "no CNI configuration waits for an agent");
    let filters = kernel::remove_filters(Path::new(NODE_NETWORK)).context("remove the guards of pods' links")?;
    tracing::info!(filters, "no link of a pod is guarded");
    Ok(())
}
