//! The command line of `culvert bench`.

use crate::duration::duration;
use clap::Args;
use std::time::Duration;

/// What is measured, and where.
#[derive(Args, Clone, Debug)]
pub(crate) struct BenchFlags {
    /// The node that asks [default: the first one that is ready, takes pods and has our proxy]
    #[arg(long, env = "CULVERT_CLIENT_NODE", value_name = "NAME")]
    pub(super) client_node: Option<String>,
    /// The node that answers [default: the next one; the same where there is no other]
    #[arg(long, env = "CULVERT_SERVER_NODE", value_name = "NAME")]
    pub(super) server_node: Option<String>,
    /// The image with `culvert-bench` [default: `bench` beside the installed controller's image, of the same version]
    #[arg(long, env = "CULVERT_BENCH_IMAGE", value_name = "REFERENCE")]
    pub(super) image: Option<String>,
    /// Rounds; each has every load once without and once with the mesh
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(super) rounds: u32,
    /// How long each load is measured
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "5s")]
    pub(super) time: Duration,
    /// Leave the namespaces and their pods there
    #[arg(long)]
    pub(super) keep: bool,
}
