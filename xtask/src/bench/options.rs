//! What is to be measured, as the command line says it.

use crate::image::Profile;
use std::path::PathBuf;

/// Options of `cargo xtask bench`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Fewer loads, fewer and shorter rounds: under four minutes once built
    #[arg(long)]
    pub(super) quick: bool,
    /// End with one line of JSON
    #[arg(long)]
    pub(super) json: bool,
    /// What to measure; everything that needs no other program when not given: direct, direct-same-node, direct-beside-culvert, culvert,
    /// culvert-policies, culvert-local-legs, culvert-same-node, culvert-kernel, culvert-waypoint, sidecar, sidecar-http
    #[arg(long, value_delimiter = ',', value_name = "MODE,...")]
    pub(super) modes: Vec<String>,
    /// Measure another node proxy as well, in the place of ours: Istio's ztunnel
    #[arg(long, value_name = "ztunnel=FILE", conflicts_with_all = ["cluster", "scale", "waypoint"])]
    pub(super) peer: Option<String>,
    /// Write the report with its plots into this folder
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["cluster", "waypoint", "instructions"])]
    pub(super) out: Option<PathBuf>,
    /// Measure what a change costs the controller instead, with 1,000 to 100,000 pods and 1,000 simulated nodes
    #[arg(long, conflicts_with_all = ["modes", "cluster", "quick"])]
    pub(super) scale: bool,
    /// Measure the waypoint instead, beside Envoy from the same objects
    #[arg(long, conflicts_with_all = ["modes", "cluster", "scale", "quick"])]
    pub(super) waypoint: bool,
    /// Few and short rounds, and fewer objects: to see that it runs
    #[arg(long, requires = "waypoint")]
    pub(super) short: bool,
    /// Measure only these loads, or those whose names begin so
    #[arg(long, value_delimiter = ',', conflicts_with_all = ["cluster", "scale"], value_name = "LOAD,...")]
    pub(super) loads: Vec<String>,
    /// Measure events instead (a namespace labelled, a proxy killed, ...), on a Kubernetes cluster of two nodes made for it
    #[arg(long, conflicts_with = "modes")]
    pub(super) cluster: bool,
    /// How the images for the cluster are built: figures of `dev` are for trying the measurement out
    #[arg(long, value_enum, default_value_t = Profile::Release, requires = "cluster")]
    pub(super) profile: Profile,
    /// Measure only these on the cluster: membership, latency, arrivals, footprint, disruption
    #[arg(long, value_delimiter = ',', requires = "cluster")]
    pub(super) only: Vec<String>,
    /// Count the instructions of the cores' functions instead, and fail where they are more than those of bench/instructions.json
    #[arg(long, conflicts_with_all = ["modes", "cluster", "scale", "waypoint", "quick"])]
    pub(super) instructions: bool,
    /// Measure another revision of this repository beside this one, in turns in one run: a commit, a branch or a tag
    #[arg(long, value_name = "REVISION", conflicts_with_all = ["modes", "cluster", "scale", "waypoint", "instructions", "peer"])]
    pub(super) compare: Option<String>,
    /// Leave the cluster up
    #[arg(long, requires = "cluster")]
    pub(super) keep: bool,
}

impl Options {
    /// Whether a mode of this kind is to be measured; all are when none was asked for.
    pub(super) fn wants(&self, is_one: impl Fn(&str) -> bool) -> bool {
        self.modes.is_empty() || self.modes.iter().any(|mode| is_one(mode))
    }
}
