//! `cargo xtask bench`: builds what is to be measured, optimised, and hands over to `culvert-bench run`; with `--cluster`, makes
//! images and hands over to `culvert-bench cluster`; with `--waypoint`, to `culvert-bench waypoint`; with `--scale`, to `culvert-bench-scale`;
//! with `--instructions`, counts what the cores' functions take; with `--compare`, builds another revision as well.

mod baseline;
mod compare;
mod instructions;

use crate::{
    cluster, ebpf, envoy,
    image::{self, Profile},
    setup, shell,
};
use anyhow::{Context, Result};
use std::{os::unix::process::CommandExt, path::PathBuf, process::Command};

/// The packages whose release builds are measured, the one that measures, and the lab with the programs that it finds beside itself.
const PACKAGES: [&str; 5] = [
    "culvert-agent",
    "culvert-ztunnel",
    "culvert-controller",
    "culvert-bench",
    "culvert-lab",
];
/// What is measured besides with `--waypoint`, and in the mode with one.
const WAYPOINT: &str = "culvert-waypoint";

/// Options of `cargo xtask bench`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Fewer loads, fewer and shorter rounds: under four minutes once built
    #[arg(long)]
    quick: bool,
    /// End with one line of JSON
    #[arg(long)]
    json: bool,
    /// What to measure; everything that needs no other program when not given: direct, direct-same-node, direct-beside-culvert, culvert,
    /// culvert-local-legs, culvert-same-node, culvert-kernel, culvert-waypoint, sidecar, sidecar-http
    #[arg(long, value_delimiter = ',', value_name = "MODE,...")]
    modes: Vec<String>,
    /// Measure another node proxy as well, in the place of ours: Istio's ztunnel
    #[arg(long, value_name = "ztunnel=FILE", conflicts_with_all = ["cluster", "scale", "waypoint"])]
    peer: Option<String>,
    /// Write the report with its plots into this folder
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["cluster", "waypoint", "instructions"])]
    out: Option<PathBuf>,
    /// Measure what a change costs the controller instead, with 1,000 to 100,000 pods and 1,000 simulated nodes
    #[arg(long, conflicts_with_all = ["modes", "cluster", "quick"])]
    scale: bool,
    /// Measure the waypoint instead, beside Envoy from the same objects
    #[arg(long, conflicts_with_all = ["modes", "cluster", "scale", "quick"])]
    waypoint: bool,
    /// Few and short rounds, and fewer objects: to see that it runs
    #[arg(long, requires = "waypoint")]
    short: bool,
    /// Measure only these loads, or those whose names begin so
    #[arg(long, value_delimiter = ',', conflicts_with_all = ["cluster", "scale"], value_name = "LOAD,...")]
    loads: Vec<String>,
    /// Measure events instead (a namespace labelled, a proxy killed, ...), on a Kubernetes cluster of two nodes made for it
    #[arg(long, conflicts_with = "modes")]
    cluster: bool,
    /// How the images for the cluster are built: figures of `dev` are for trying the measurement out
    #[arg(long, value_enum, default_value_t = Profile::Release, requires = "cluster")]
    profile: Profile,
    /// Measure only these on the cluster: membership, latency, arrivals, footprint, disruption
    #[arg(long, value_delimiter = ',', requires = "cluster")]
    only: Vec<String>,
    /// Count the instructions of the cores' functions instead, and fail where they are more than those of bench/instructions.json
    #[arg(long, conflicts_with_all = ["modes", "cluster", "scale", "waypoint", "quick"])]
    instructions: bool,
    /// Measure another revision of this repository beside this one, in turns in one run: a commit, a branch or a tag
    #[arg(long, value_name = "REVISION", conflicts_with_all = ["modes", "cluster", "scale", "waypoint", "instructions", "peer"])]
    compare: Option<String>,
    /// Leave the cluster up
    #[arg(long, requires = "cluster")]
    keep: bool,
}

impl Options {
    /// Whether a mode of this kind is to be measured; all are when none was asked for.
    fn wants(&self, is_one: impl Fn(&str) -> bool) -> bool {
        self.modes.is_empty() || self.modes.iter().any(|mode| is_one(mode))
    }
}

/// The images that the cluster needs for that.
const IMAGES: [&str; 4] = ["agent", "ztunnel", "controller", "probe"];

/// Counts what the cores' functions take, and fails where that is more than it was.
pub(crate) fn count_instructions() -> Result<()> {
    instructions::run(false)
}

/// Builds, fetches Envoy when it is asked for, and becomes the benchmark.
pub(crate) fn run(options: &Options) -> Result<()> {
    if options.cluster {
        return on_cluster(options);
    }
    if options.scale {
        return of_controller(options);
    }
    if options.instructions {
        return instructions::run(options.json);
    }
    if let Some(revision) = &options.compare {
        return compare::run(revision, options);
    }
    let with_sidecars = !options.waypoint && options.wants(|mode| mode.starts_with("sidecar"));
    let with_waypoint = options.waypoint || options.wants(|mode| mode == "culvert-waypoint");
    let mut programs = vec![("cc", "build-essential"), ("ip", "iproute2"), ("python3", "python3")];
    if with_sidecars {
        programs.extend([("iptables-restore", "iptables"), ("setpriv", "util-linux")]);
    }
    setup::ensure_programs(&programs, "build and run the benchmark")?;
    ebpf::build()?;
    let mut build = release_build();
    if with_waypoint {
        build.args(["--package", WAYPOINT]);
    }
    shell::run("release build", &mut build)?;

    let release = shell::root().join(shell::target()).join("release");
    let mut bench = Command::new(release.join("culvert-bench"));
    bench.current_dir(shell::root());
    if options.waypoint {
        bench
            .arg("waypoint")
            .arg("--programs")
            .arg(&release)
            .arg("--envoy")
            .arg(envoy::ensure("compare with it")?);
        if options.short {
            bench.arg("--short");
        }
        if !options.loads.is_empty() {
            bench.args(["--only", &options.loads.join(",")]);
        }
    } else {
        bench.arg("run");
        for (flag, values) in [("--modes", &options.modes), ("--loads", &options.loads)] {
            if !values.is_empty() {
                bench.arg(flag).arg(values.join(","));
            }
        }
        if options.quick {
            bench.arg("--quick");
        }
        if let Some(peer) = &options.peer {
            bench.args(["--peer", peer]);
        }
        let target = shell::root().join(shell::target());
        bench
            .arg("--out")
            .arg(options.out.clone().unwrap_or_else(|| target.join("bench")));
        if with_sidecars {
            bench.arg("--envoy").arg(envoy::ensure("compare with its sidecars")?);
        }
    }
    if options.json {
        bench.arg("--json");
    }
    let mut bench = setup::as_root(bench)?;
    // Becoming the benchmark leaves nobody in between when ctrl-C asks it to clean up.
    Err(bench.exec()).with_context(|| format!("cannot start {}", bench.get_program().to_string_lossy()))
}

/// Builds all that is measured always.
fn release_build() -> Command {
    let mut build = shell::cargo();
    build.args(["build", "--release", "--locked"]);
    for package in PACKAGES {
        build.args(["--package", package]);
    }
    build
}

/// Builds the controller into the benchmark of it, and becomes that. Nothing of it needs root.
fn of_controller(options: &Options) -> Result<()> {
    let build = ["build", "--release", "--locked", "--package", "culvert-bench-scale"];
    shell::run("release build", shell::cargo().args(build))?;
    let mut bench = Command::new(shell::target().join("release/culvert-bench-scale"));
    let target = shell::root().join(shell::target());
    bench.current_dir(shell::root());
    bench
        .arg("--out")
        .arg(options.out.clone().unwrap_or_else(|| target.join("bench")));
    if options.json {
        bench.arg("--json");
    }
    Err(bench.exec()).with_context(|| format!("cannot start {}", bench.get_program().to_string_lossy()))
}

/// Builds the images and becomes the benchmark on a cluster.
fn on_cluster(options: &Options) -> Result<()> {
    ebpf::build()?;
    cluster::ensure_programs()?;
    let made = image::build(options.profile, &IMAGES.map(str::to_owned))?;
    // What measures is not on the traffic's way, and needs no optimised build.
    let build = ["build", "--locked", "--package", "culvert-bench"];
    shell::run("build of the benchmark", shell::cargo().args(build))?;

    // In the root's terms, because the benchmark runs there.
    let target = shell::root().join(shell::target());
    let mut bench = Command::new(target.join("debug/culvert-bench"));
    bench
        .current_dir(shell::root())
        .args(["cluster", "--profile", options.profile.name(), "--images"])
        .arg(image::folder(options.profile));
    for image in &made {
        let name = image
            .reference
            .rsplit('/')
            .next()
            .and_then(|name| name.split(':').next());
        let size = format!("{}={}", name.unwrap_or_default(), image.unpacked);
        bench.args(["--unpacked", &size]);
    }
    if !options.only.is_empty() {
        bench.args(["--only", &options.only.join(",")]);
    }
    for (wanted, flag) in [
        (options.quick, "--quick"),
        (options.json, "--json"),
        (options.keep, "--keep"),
    ] {
        if wanted {
            bench.arg(flag);
        }
    }
    let mut bench = setup::as_root(bench)?;
    Err(bench.exec()).with_context(|| format!("cannot start {}", bench.get_program().to_string_lossy()))
}
