//! `cargo xtask cluster`: a real Kubernetes cluster on this machine, with everything that it is made of built first.
//!
//! Kubernetes' own programs and CoreDNS are built from Go modules that `tests/tools` pins; the rest is Debian's. What
//! the cluster is and does is in the crate `culvert-cluster`, whose program gets this chore's arguments.

pub(crate) mod go;
pub(crate) mod program;

use crate::{setup, shell};
use anyhow::{Context as _, Result};
use clap::Args;
use program::{Built, Program};
use std::{ffi::OsString, os::unix::process::CommandExt as _, path::PathBuf, process::Command};

/// The arguments of `cargo xtask cluster`, which are those of the program `culvert-cluster`.
#[derive(Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Options {
    /// up, down, status or shell, with their options; --help tells more. Or programs: builds what `up` would, and what only
    /// tests need
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Builds what is missing, then becomes `culvert-cluster`.
pub(crate) fn run(options: &Options) -> Result<()> {
    if options.arguments.first().is_some_and(|first| first == "programs") {
        ensure_programs()?;
        ensure_helm()?;
        ensure_h2spec()?;
        ensure_lookup()?;
        return ensure_collector();
    }
    let needs_programs = options.arguments.first().is_some_and(|first| first == "up");
    let launcher = if needs_programs { ensure_programs()? } else { build()? };
    let mut command = Command::new(&launcher);
    command.args(&options.arguments);
    let mut command = setup::as_root(command)?;
    Err(command.exec()).with_context(|| format!("cannot start {}", launcher.display()))
}

/// Makes every program of a cluster present: Debian's, Kubernetes', CoreDNS, and our own; the path of the last.
///
/// Takes about ten minutes the first time, and no time when nothing has changed.
pub(crate) fn ensure_programs() -> Result<PathBuf> {
    setup::ensure_packages(
        &[
            "containerd",
            "runc",
            "containernetworking-plugins",
            "nftables",
            "iproute2",
        ],
        "run Kubernetes nodes",
    )?;
    for program in [KUBE, COREDNS] {
        program.ensure()?;
    }
    build()
}

/// Makes Helm present, for the tests of the chart; minutes the first time.
pub(crate) fn ensure_helm() -> Result<()> {
    HELM.ensure().map(drop)
}

/// Makes h2spec present, for the test of the tunnel's HTTP/2; half a minute the first time.
pub(crate) fn ensure_h2spec() -> Result<()> {
    H2SPEC.ensure().map(drop)
}

/// Makes the program of Go's own resolver present, for the test of resolvers; a few seconds the first time.
pub(crate) fn ensure_lookup() -> Result<()> {
    LOOKUP.ensure().map(drop)
}

/// Makes an OpenTelemetry Collector present, for the tests of spans; two minutes the first time.
pub(crate) fn ensure_collector() -> Result<()> {
    COLLECTOR.ensure().map(drop)
}

/// Builds our own programs, with the features of the whole workspace, so that nothing is built twice where the tests are built too.
fn build() -> Result<PathBuf> {
    let mut cargo = shell::cargo();
    cargo.args(["build", "--quiet", "--workspace"]);
    cargo.args(["--bin", "culvert-cluster", "--bin", "culvert-pause"]);
    let status = cargo.status().context("cannot start cargo")?;
    anyhow::ensure!(status.success(), "culvert-cluster does not build");
    Ok(shell::target().join("debug/culvert-cluster"))
}

const KUBE: Program = Program {
    name: "kube",
    module: ".",
    package: "./kube",
    built: Built::Program,
    versions: &["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"],
    takes: "about ten minutes the first time",
};

const COREDNS: Program = Program {
    name: "coredns",
    module: "coredns",
    package: ".",
    built: Built::Program,
    versions: &[],
    takes: "about three minutes the first time",
};

/// Renders our chart in tests; no cluster needs it.
const HELM: Program = Program {
    name: "helm",
    module: "helm",
    package: "helm.sh/helm/v3/cmd/helm",
    built: Built::Program,
    versions: &[],
    takes: "about four minutes the first time",
};

/// Receives spans in tests; no cluster needs it.
const COLLECTOR: Program = Program {
    name: "otel-collector",
    module: "collector",
    package: ".",
    built: Built::Program,
    versions: &[],
    takes: "about two minutes the first time",
};

/// Tests HTTP/2 servers; no cluster needs it.
const H2SPEC: Program = Program {
    name: "h2spec",
    module: "h2spec",
    package: "github.com/summerwind/h2spec/cmd/h2spec",
    built: Built::Program,
    versions: &[],
    takes: "about half a minute the first time",
};

/// Asks for names as Go programs do, in tests; no cluster needs it.
const LOOKUP: Program = Program {
    name: "lookup",
    module: "lookup",
    package: ".",
    built: Built::Program,
    versions: &[],
    takes: "a few seconds the first time",
};
