//! What is to be measured, as the command line says it.

use std::path::PathBuf;

/// Options of `culvert-bench run`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Fewer and shorter rounds
    #[arg(long)]
    pub(super) quick: bool,
    /// End with one line of JSON
    #[arg(long)]
    pub(super) json: bool,
    /// What to measure
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "direct,culvert,culvert-same-node"
    )]
    pub(super) modes: Vec<Mode>,
    /// The Envoy program, for mode envoy-tcp
    #[arg(long, value_name = "FILE")]
    pub(super) envoy: Option<PathBuf>,
    /// Istio's ztunnel program, for mode istio-ztunnel
    #[arg(long, value_name = "FILE", env = "CULVERT_PEER_ZTUNNEL")]
    pub(super) ztunnel: Option<PathBuf>,
    /// The folder with Culvert's programs; where this program is, when not given
    #[arg(long, value_name = "FOLDER")]
    pub(super) programs: Option<PathBuf>,
    /// Rounds, instead of 5 (3 with --quick)
    #[arg(long)]
    pub(super) rounds: Option<u32>,
    /// Measured time of each load, seconds, instead of 5 (2 with --quick)
    #[arg(long)]
    pub(super) seconds: Option<f64>,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Mode {
    /// No mesh: the applications talk directly, between the nodes
    Direct,
    /// Culvert, between the nodes
    Culvert,
    /// Culvert, both applications on one node
    CulvertSameNode,
    /// Two Envoy sidecars, TCP inside mutual TLS, between the nodes
    EnvoyTcp,
    /// Istio's ztunnel under Culvert's agent, between the nodes
    IstioZtunnel,
}

impl Mode {
    /// As the command line and the results say it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Culvert => "culvert",
            Self::CulvertSameNode => "culvert-same-node",
            Self::EnvoyTcp => "envoy-tcp",
            Self::IstioZtunnel => "istio-ztunnel",
        }
    }
}
