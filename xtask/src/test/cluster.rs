//! The tests on a real Kubernetes cluster (`tests/cluster/`): what they need is built, clusters of two nodes come up, each of which
//! runs one test after the other, and they are taken down, whatever came of the tests. Then those that bring up a cluster of their
//! own, which other packages keep with the ignored ones.
//!
//! There are two clusters because a test mostly waits, for kubelets, for rollouts, for what ends in its own time: side by side the
//! tests take little more than half as long, and none sees another's pods, objects or packets.

use super::{
    nextest::{self, Counts},
    options::Options,
};
use crate::{
    cluster, ebpf,
    image::{self, Profile},
    setup, shell,
};
use anyhow::{Result, bail};
use std::{path::PathBuf, process::Command, thread};

/// The clusters' names. As many tests run at once, the test group `cluster` permitting.
const NAMES: [&str; 2] = ["test1", "test2"];

/// Runs them.
pub(super) fn run(options: &Options) -> Result<Counts> {
    if let Some(name) = &options.on {
        return tests(options, &[name]);
    }
    ebpf::build()?;
    let launcher = cluster::ensure_programs()?;
    image::build(Profile::Tests, &[])?;
    let mut clusters = Clusters {
        launcher,
        keep: options.keep,
    };
    clusters.down()?;
    clusters.up()?;
    let counts = tests(options, &NAMES);
    let own = |mut counts: Counts| -> Result<Counts> {
        counts.add(&with_own_clusters(options)?);
        Ok(counts)
    };
    if clusters.keep {
        for name in NAMES {
            shell::say(&format!("left up: cargo xtask cluster shell --name {name}"));
        }
    } else {
        clusters.keep = true;
        clusters.down()?;
    }
    counts.and_then(own)
}

/// The tests that are ignored unless asked for: each brings up what it needs by itself.
fn with_own_clusters(options: &Options) -> Result<Counts> {
    let mut command = shell::cargo();
    command.args(["nextest", "run", "--workspace", "--locked", "--no-fail-fast"]);
    command.args(["--run-ignored", "only", "--no-tests", "pass"]);
    nextest::run(options, command, "own-clusters")
}

/// Runs the tests on these clusters, as many at once as there are clusters.
fn tests(options: &Options, names: &[&str]) -> Result<Counts> {
    let mut command = shell::cargo();
    command
        .args(["nextest", "run", "--workspace", "--locked", "--no-fail-fast"])
        .args(["--no-tests", "pass", "--test-threads", &names.len().to_string()])
        .env("CULVERT_TEST_CLUSTER", names.join(","));
    nextest::run(options, command, "cluster")
}

/// Clusters that are taken down when nobody needs them any more.
struct Clusters {
    launcher: PathBuf,
    keep: bool,
}

impl Clusters {
    fn up(&self) -> Result<()> {
        let up = |name: &'static str| {
            let mut command = self.command("up", name);
            command
                .args(["--nodes", "2", "--images"])
                .arg(image::folder(Profile::Tests));
            shell::run("cluster for the tests", &mut setup::as_root(command)?)
        };
        thread::scope(|scope| {
            let threads = NAMES.map(|name| scope.spawn(move || up(name)));
            let outcomes = threads.map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|_| bail!("bringing a cluster up panicked"))
            });
            outcomes.into_iter().collect()
        })
    }

    fn down(&self) -> Result<()> {
        NAMES
            .into_iter()
            .try_for_each(|name| shell::run("cluster's end", &mut setup::as_root(self.command("down", name))?))
    }

    fn command(&self, action: &str, name: &str) -> Command {
        let mut command = shell::command(&self.launcher);
        command.args([action, "--name", name]);
        command
    }
}

impl Drop for Clusters {
    fn drop(&mut self) {
        if !self.keep
            && let Err(error) = self.down()
        {
            shell::say(&format!("the clusters were not taken down: {error:#}"));
        }
    }
}
