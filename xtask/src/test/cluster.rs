//! The tests on a real Kubernetes cluster (`tests/cluster/`): what they need is built, a cluster of two nodes comes up, the tests
//! run on it one after the other, and it is taken down, whatever came of them.

use super::{Counts, Options, run_tests};
use crate::{
    cluster, ebpf,
    image::{self, Profile},
    setup, shell,
};
use anyhow::Result;
use std::{path::PathBuf, process::Command};

/// The cluster's name.
const NAME: &str = "test";
const PACKAGE: &str = "culvert-cluster-tests";

/// Runs them.
pub(super) fn run(options: &Options) -> Result<Counts> {
    if let Some(name) = &options.on {
        return tests(options, name);
    }
    ebpf::build()?;
    let launcher = cluster::ensure_programs()?;
    image::build(Profile::Dev, &[])?;
    // Built before the cluster is up, so that the two do not share the machine.
    let build = ["test", "--package", PACKAGE, "--locked", "--no-run"];
    shell::run("build of the cluster's tests", shell::cargo().args(build))?;
    let mut cluster = Cluster {
        launcher,
        keep: options.keep,
    };
    cluster.down()?;
    cluster.up()?;
    let counts = tests(options, NAME);
    if cluster.keep {
        shell::say(&format!("left up: cargo xtask cluster shell --name {NAME}"));
    } else {
        cluster.keep = true;
        cluster.down()?;
    }
    counts
}

fn tests(options: &Options, name: &str) -> Result<Counts> {
    let mut nextest = shell::cargo();
    nextest
        .args(["nextest", "run", "--package", PACKAGE, "--locked", "--no-fail-fast"])
        .env("CULVERT_TEST_CLUSTER", name);
    run_tests(options, nextest, "cluster")
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
            .arg(image::folder(Profile::Dev));
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
