//! `cargo xtask demo`: the bookstore on two nodes of this machine, before and after its namespace joins the mesh.
//!
//! The order of events is in `steps`. It builds on `culvert-lab` (the nodes and pods) and on the files here: `shop` puts the
//! bookstore's Kubernetes YAML into pods, `visits` sends requests with curl, `access_log` reads what the proxies say of
//! the connections, `kernel_checks` counts netfilter rules and capabilities, `facts` says what was promised and whether it
//! holds, `show` prints tables, `keep` tells what to try, `progress` says what is happening. With `--cluster` the same
//! happens in a real Kubernetes cluster: `kube` has the order of events and all that is special there.
//! With `--policy` it is about who is let in: see `policy`; with `--waypoint` about what routes do with requests: see `waypoint`.

mod access_log;
mod facts;
mod keep;
mod kernel_checks;
mod kube;
mod options;
mod policy;
mod progress;
mod shop;
mod show;
mod steps;
mod visits;
mod waypoint;

use crate::{ebpf, setup, shell};
use anyhow::{Context, Result, bail};
use culvert_lab::Lab;
pub(crate) use options::Options;
use progress::Progress;
use std::{
    os::unix::process::CommandExt,
    process::Command,
    time::{Duration, Instant, SystemTime},
};

/// The lab's name. There is one demo on a machine at a time.
const LAB: &str = "demo";

/// The programs that the demo runs, and the packages they are in.
const PACKAGES: [&str; 7] = [
    "culvert-agent",
    "culvert-ztunnel",
    "culvert-controller",
    "culvert-waypoint",
    "culvert-cli",
    "culvert-lab",
    "bookstore-reviews",
];

/// Builds what the demo runs, becomes root, and runs it.
pub(crate) fn run(options: &Options) -> Result<()> {
    let began = options.began.map_or_else(Instant::now, instant_of);
    if options.began.is_none() && !options.down {
        if options.cluster { kube::build()? } else { build()? }
    }
    if !setup::is_root() {
        return Err(become_root(options, began));
    }
    if options.cluster {
        return kube::run(options, began);
    }
    if options.down {
        Lab::sweep(LAB)?;
        shell::say("the demo is gone");
        return Ok(());
    }
    culvert_lab::remove_labs_on_signals(|| progress::interrupt("interrupted: removing what the demo made"))?;
    let progress = Progress::new();
    let lab = Lab::new(
        LAB,
        culvert_lab::Options {
            may_be_kept: options.keep,
        },
    )?;
    if options.policy {
        return policy::run(lab, options, &progress, began);
    }
    if options.waypoint {
        return waypoint::run(lab, options, &progress, began);
    }
    let played = steps::play(&lab, options.requests, options.keep, &progress, began);
    let facts = progress.ended(&lab, played)?;
    show::print(&facts, options.json)?;
    let broken = facts.broken_promises();
    if options.keep {
        lab.keep()?;
        show::text(&keep::page(&lab), options.json);
    } else {
        drop(lab);
    }
    if options.json {
        println!("{}", facts.json());
    }
    if !broken.is_empty() {
        bail!("not as promised:\n  - {}", broken.join("\n  - "));
    }
    Ok(())
}

fn build() -> Result<()> {
    let programs = [
        ("cc", "build-essential"),
        ("ip", "iproute2"),
        ("python3", "python3"),
        ("curl", "curl"),
    ];
    setup::ensure_programs(&programs, "build Culvert and to run the demo")?;
    ebpf::build()?;
    let mut build = shell::cargo();
    build.args(["build", "--locked", "--bins"]);
    for package in PACKAGES {
        build.args(["--package", package]);
    }
    shell::run("build (the first time takes minutes)", &mut build)
}

/// Starts this program again as root, in place of this process; returns only when that fails.
fn become_root(options: &Options, began: Instant) -> anyhow::Error {
    let attempt = || -> Result<std::convert::Infallible> {
        let mut again = Command::new(std::env::current_exe().context("find this program")?);
        again.args(["demo", "--requests", &options.requests.to_string()]);
        again.args(["--began", &unix_seconds(began).to_string()]);
        for (set, flag) in [
            (options.cluster, "--cluster"),
            (options.policy, "--policy"),
            (options.waypoint, "--waypoint"),
            (options.keep, "--keep"),
            (options.down, "--down"),
            (options.json, "--json"),
        ] {
            if set {
                again.arg(flag);
            }
        }
        Err(setup::as_root(again)?.exec()).context("become root with sudo")
    };
    match attempt() {
        Err(error) => error,
        Ok(never) => match never {},
    }
}

fn unix_seconds(instant: Instant) -> u64 {
    let then = SystemTime::now()
        .checked_sub(instant.elapsed())
        .unwrap_or(SystemTime::UNIX_EPOCH);
    then.duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

fn instant_of(unix_seconds: u64) -> Instant {
    let then = SystemTime::UNIX_EPOCH + Duration::from_secs(unix_seconds);
    let ago = SystemTime::now().duration_since(then).unwrap_or_default();
    Instant::now().checked_sub(ago).unwrap_or_else(Instant::now)
}
