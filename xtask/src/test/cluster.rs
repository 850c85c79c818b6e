//! The tests on a real Kubernetes cluster (`tests/cluster/`): what they need is built, a cluster of two nodes comes up, the tests
//! run on it one after the other, and it is taken down, whatever came of them. Then those that bring up a cluster of their own,
//! which other packages keep with the ignored ones.

use super::{
    nextest::{self, Counts},
    options::Options,
};
use crate::{
    cluster, ebpf,
    image::{self, Profile},
    setup, shell,
};
use anyhow::Result;
use std::{path::PathBuf, process::Command};

/// The cluster's name.
const NAME: &str = "test";

/// Runs them.
pub(super) fn run(options: &Options) -> Result<Counts> {
    if let Some(name) = &options.on {
        return tests(options, name);
    }
    ebpf::build()?;
    let launcher = cluster::ensure_programs()?;
    image::build(Profile::Tests, &[])?;
    let mut cluster = Cluster {
        launcher,
        keep: options.keep,
    };
    cluster.down()?;
    cluster.up()?;
    let counts = tests(options, NAME);
    let own = |mut counts: Counts| -> Result<Counts> {
        counts.add(&with_own_clusters(options)?);
        Ok(counts)
    };
    if cluster.keep {
        shell::say(&format!("left up: cargo xtask cluster shell --name {NAME}"));
    } else {
        cluster.keep = true;
        cluster.down()?;
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

fn tests(options: &Options, name: &str) -> Result<Counts> {
    let mut command = shell::cargo();
    command
        .args(["nextest", "run", "--workspace", "--locked", "--no-fail-fast"])
        .args(["--no-tests", "pass"])
        .env("CULVERT_TEST_CLUSTER", name);
    nextest::run(options, command, "cluster")
}

/// A cluster that is taken down when nobody needs it any more.
struct Cluster {
    launcher: PathBuf,
    keep: bool,
}

impl Cluster {
    fn up(&self) -> Result<()> {
        let mut command = self.command("up");
        command
            .args(["--nodes", "2", "--images"])
            .arg(image::folder(Profile::Tests));
        shell::run("cluster for the tests", &mut setup::as_root(command)?)
    }

    fn down(&self) -> Result<()> {
        shell::run("cluster's end", &mut setup::as_root(self.command("down"))?)
    }

    fn command(&self, action: &str) -> Command {
        let mut command = shell::command(&self.launcher);
        command.args([action, "--name", NAME]);
        command
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if !self.keep
            && let Err(error) = self.down()
        {
            shell::say(&format!("the cluster was not taken down: {error:#}"));
        }
    }
}
