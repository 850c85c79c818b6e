//! What `cargo xtask conformance` is told.

use clap::ValueEnum;

/// Answers in a row, unless another number is asked for.
const ANSWERS: u8 = 10;

/// Options of `cargo xtask conformance`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// What carries the traffic of the suite's applications
    #[arg(long, value_enum, default_value_t = Proxy::Culvert)]
    pub(super) proxy: Proxy,
    /// Print the counts as one line of JSON at the end
    #[arg(long)]
    pub(super) json: bool,
    /// Run the tests of one feature each instead of all, for a look in minutes; the report is not kept
    #[arg(long)]
    pub(super) short: bool,
    /// Run this one test; the report is not kept
    #[arg(long, value_name = "NAME", conflicts_with = "short")]
    pub(super) test: Option<String>,
    /// Answers in a row that a test needs before it believes them; the suite's own number is 3, which random balancing meets by
    /// chance
    #[arg(long, value_name = "N", default_value_t = ANSWERS, value_parser = clap::value_parser!(u8).range(1..))]
    pub(super) answers: u8,
    /// Build the suite and its applications, and run nothing
    #[arg(long)]
    pub(super) build_only: bool,
    /// Leave the cluster up
    #[arg(long)]
    pub(super) keep: bool,
    /// Run on this cluster, which is up, with the images that it has
    #[arg(long, value_name = "CLUSTER", conflicts_with = "keep")]
    pub(super) on: Option<String>,
}

/// What carries the traffic of the suite's applications.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Proxy {
    /// The mesh, with our own waypoints
    Culvert,
    /// The mesh, with Envoy as waypoints
    Envoy,
    /// The mesh without waypoints: shows what it passes by chance
    Ztunnel,
    /// No mesh: the negative control
    None,
}

impl Options {
    /// What `cargo xtask test` runs.
    pub(super) fn short() -> Self {
        Self {
            proxy: Proxy::Culvert,
            json: false,
            short: true,
            test: None,
            answers: ANSWERS,
            build_only: false,
            keep: false,
            on: None,
        }
    }

    /// Whether the report is one of the whole suite, to be kept.
    pub(super) fn keeps_report(&self) -> bool {
        !self.short && self.test.is_none()
    }
}

impl Proxy {
    /// As the command line has it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Culvert => "culvert",
            Self::Envoy => "envoy",
            Self::Ztunnel => "ztunnel",
            Self::None => "none",
        }
    }

    /// Whether the mesh is installed.
    pub(super) fn has_mesh(self) -> bool {
        self != Self::None
    }

    /// The class of the waypoints' Gateways, if there are waypoints.
    pub(super) fn gateway_class(self) -> Option<&'static str> {
        match self {
            Self::Culvert => Some("culvert-waypoint"),
            Self::Envoy => Some("culvert-envoy"),
            Self::Ztunnel | Self::None => None,
        }
    }

    /// Whether waypoints carry the traffic.
    pub(super) fn has_waypoints(self) -> bool {
        self.gateway_class().is_some()
    }
}
