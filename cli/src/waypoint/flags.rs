//! The command line of `culvert waypoint`.

use crate::{cluster::names, duration::duration};
use clap::{Args, Subcommand, ValueEnum};
use std::time::Duration;

/// What is done with waypoints.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum WaypointCommand {
    /// Makes a waypoint, or brings one to what is asked for
    Apply(Apply),
    /// Which waypoints are there, and do they serve? Exit code 1: one does not
    List(List),
    /// How does a waypoint stand, and who asks for it?
    Status(Which),
    /// Removes waypoints, with all that was made for them
    Delete(Delete),
}

/// Which waypoint.
#[derive(Args, Clone, Debug)]
pub(crate) struct Which {
    /// Its name
    #[arg(default_value = "waypoint")]
    pub(super) name: String,
    /// Its namespace [default: that of the kubeconfig's context]
    #[arg(long, short, value_name = "NAME")]
    pub(super) namespace: Option<String>,
}

/// What is made.
#[derive(Args, Clone, Debug)]
pub(crate) struct Apply {
    #[command(flatten)]
    pub(super) which: Which,
    /// What runs as the waypoint
    #[arg(long, value_enum, default_value_t = Class::Culvert)]
    pub(super) class: Class,
    /// What it is for: connections to Services, to pods by their own address, both, or none
    #[arg(long = "for", value_enum, value_name = "WHAT")]
    pub(super) serves: Option<Serves>,
    /// Label the namespace, so that its Services are reached through the waypoint
    #[arg(long)]
    pub(super) enroll_namespace: bool,
    /// Wait until it serves
    #[arg(long)]
    pub(super) wait: bool,
    /// The longest wait
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "3m", requires = "wait")]
    pub(super) timeout: Duration,
}

/// Which waypoints are listed.
#[derive(Args, Clone, Debug)]
pub(crate) struct List {
    /// Those of this namespace alone [default: all namespaces]
    #[arg(long, short, value_name = "NAME")]
    pub(super) namespace: Option<String>,
}

/// Which waypoints go.
#[derive(Args, Clone, Debug)]
pub(crate) struct Delete {
    /// Their names
    #[arg(required = true)]
    pub(super) names: Vec<String>,
    /// Their namespace [default: that of the kubeconfig's context]
    #[arg(long, short, value_name = "NAME")]
    pub(super) namespace: Option<String>,
}

/// Classes of Gateways that are waypoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Class {
    /// Culvert's own proxy
    Culvert,
    /// Envoy
    Envoy,
}

/// What a waypoint is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Serves {
    Service,
    Workload,
    All,
    None,
}

impl Class {
    /// The class of the Gateway.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Culvert => names::WAYPOINT_CLASS,
            Self::Envoy => "culvert-envoy",
        }
    }
}

impl Serves {
    /// The value of the label that says so.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Workload => "workload",
            Self::All => "all",
            Self::None => "none",
        }
    }
}
