//! Which cluster, or which programs of this machine, the questions go to.

use crate::http::Server;
use clap::Args;
use std::path::PathBuf;

/// Whom to ask.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Target {
    /// The file that says how to reach the cluster [default: KUBECONFIG, ~/.kube/config, or the pod's service account]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Whom to ask")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The kubeconfig's context to use [default: its current one]
    #[arg(
        long,
        global = true,
        env = "CULVERT_CONTEXT",
        value_name = "NAME",
        help_heading = "Whom to ask"
    )]
    pub(crate) context: Option<String>,
    /// Ask the programs of this machine, not a cluster
    #[arg(long, global = true, help_heading = "Whom to ask")]
    pub(crate) local: bool,
    /// A node proxy's admin server; implies --local [default: http://127.0.0.1:15000]
    #[arg(long, global = true, env = "CULVERT_ZTUNNEL", help_heading = "Whom to ask")]
    pub(crate) ztunnel: Option<Server>,
    /// A node agent's admin server; implies --local [default: http://127.0.0.1:15022]
    #[arg(long, global = true, env = "CULVERT_AGENT", help_heading = "Whom to ask")]
    pub(crate) agent: Option<Server>,
    /// The controller's admin server, with --local [default: http://127.0.0.1:15014, where it may be absent]
    #[arg(long, global = true, env = "CULVERT_CONTROLLER_ADMIN", help_heading = "Whom to ask")]
    pub(crate) controller: Option<Server>,
}

impl Target {
    /// Whether the flags alone say that this machine is meant.
    pub(crate) fn is_local(&self) -> bool {
        let names_a_server = self.ztunnel.is_some() || self.agent.is_some() || self.controller.is_some();
        let names_a_cluster = self.kubeconfig.is_some() || self.context.is_some();
        self.local || (names_a_server && !names_a_cluster)
    }
}
