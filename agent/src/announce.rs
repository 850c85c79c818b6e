//! `culvert-agent announce-removal`: what the Helm chart's hook runs before a release is deleted; see
//! [`culvert_agent::leaving::announce`].

use std::{path::PathBuf, time::Duration};

use anyhow::Result;
use clap::Args;
use culvert_agent::{leaving::announce::announce, source::kubernetes::client};

use crate::duration::duration;

/// The command line.
#[derive(Clone, Debug, Args)]
pub(crate) struct AnnounceRemoval {
    /// A kubeconfig file; without it, the service account of the pod that this runs in.
    #[arg(long, env = "CULVERT_KUBECONFIG", value_name = "FILE")]
    kubeconfig: Option<PathBuf>,

    /// The namespace that Culvert itself runs in.
    #[arg(long, env = "CULVERT_NAMESPACE", default_value = "culvert-system")]
    namespace: String,

    /// The nodes' DaemonSet.
    #[arg(long, env = "CULVERT_DAEMONSET", default_value = "culvert-node")]
    daemonset: String,

    /// How long to wait for the nodes.
    #[arg(long, env = "CULVERT_TIMEOUT", default_value = "2m", value_parser = duration, value_name = "TIME")]
    timeout: Duration,
}

/// Does it. Fails only if nobody can be told: a node that does not answer must not keep a release from being deleted.
pub(crate) async fn run(args: &AnnounceRemoval) -> Result<()> {
    let client = client(args.kubeconfig.as_deref()).await?;
    let behind = announce(client, &args.namespace, &args.daemonset, args.timeout).await?;
    for node in &behind {
        tracing::error!(
            node = node.node,
            pod = node.pod,
            "its agent has not said that its pods have left; if it does not come back, free the node by hand: culvert-agent free-node"
        );
    }
    if behind.is_empty() {
        tracing::info!("every node's pods have left the mesh");
    }
    Ok(())
}
