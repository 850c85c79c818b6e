//! `cargo xtask test`: everything that must hold before a change lands, from set-up to end-to-end tests.
//!
//! First the plain tests, which need nothing but this machine, then those on a real Kubernetes cluster (see [`cluster`]).

mod cluster;

use crate::{ebpf, setup, shell};
use anyhow::{Context, Result, bail};
use std::{
    ffi::OsString,
    fs,
    path::Path,
    process::{Command, ExitCode},
};

/// The test runner: it runs each test in a process of its own, which tests that enter namespaces need.
const NEXTEST: (&str, &str) = ("cargo-nextest", "0.9.151");

/// Options of `cargo xtask test`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Run only the tests whose name contains one of these words (nextest's filter); no format or lint check then
    #[arg(value_name = "WORD")]
    words: Vec<String>,
    /// Run only the tests of a nextest filter expression, for example 'package(culvert-tests) & test(capture)'
    #[arg(long, short = 'E', value_name = "EXPRESSION")]
    filter: Option<String>,
    /// Run only the tests on a real Kubernetes cluster, which is made for them and removed in the end
    #[arg(long, conflicts_with = "plain")]
    cluster: bool,
    /// Run only the tests that need no cluster
    #[arg(long)]
    plain: bool,
    /// Leave the cluster up after its tests
    #[arg(long)]
    keep: bool,
    /// Run the cluster's tests on this cluster, which is up, with the images that it has; builds only the tests
    #[arg(long, value_name = "CLUSTER", requires = "cluster", conflicts_with = "keep")]
    on: Option<String>,
}

impl Options {
    /// Whether nothing is left out of what was chosen.
    fn everything(&self) -> bool {
        self.words.is_empty() && self.filter.is_none()
    }
}

/// Runs it all. The last line of all output is `N passed, N failed`, unless something prevents the tests.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    set_up()?;
    let mut counts = Counts { total: 0, failed: 0 };
    if !options.cluster {
        counts.add(&plain(options)?);
    }
    // Words and filters without --cluster are about plain tests.
    if options.cluster || (!options.plain && options.everything()) {
        counts.add(&cluster::run(options)?);
    }
    if counts.total == 0 {
        shell::say("no test ran, and that shows nothing");
    }
    println!("{} passed, {} failed", counts.passed(), counts.failed);
    Ok(ExitCode::from(u8::from(counts.failed > 0 || counts.total == 0)))
}

/// The tests that need no cluster, and everything that is checked before them.
fn plain(options: &Options) -> Result<Counts> {
    ebpf::build()?;
    let everything = options.everything();
    if everything {
        check()?;
    }
    shell::run("build", &mut build_command())?;
    if everything {
        // The test runner below does not know them.
        let examples = ["test", "--doc", "--workspace", "--locked", "--quiet"];
        shell::run("examples in the documentation", shell::cargo().args(examples))?;
    }
    let mut nextest = shell::cargo();
    nextest.args(["nextest", "run", "--workspace", "--locked", "--no-fail-fast"]);
    run_tests(options, nextest, "default")
}

/// Builds with all targets, so that features are the same as for the tests, and nothing is built twice.
pub(crate) fn build_command() -> Command {
    let mut cargo = shell::cargo();
    cargo.args(["build", "--workspace", "--all-targets", "--locked"]);
    cargo
}

fn set_up() -> Result<()> {
    // A test compares what kubectl and Helm make of the manifests, others need an API server.
    crate::cluster::ensure_programs()?;
    crate::cluster::ensure_helm()?;
    // nft is there to make rules, so that a test can see that they would be counted.
    let programs = [("cc", "build-essential"), ("ip", "iproute2"), ("nft", "nftables")];
    setup::ensure_programs(&programs, "build Culvert and to run its end-to-end tests")?;
    setup::ensure_tool(NEXTEST.0, NEXTEST.1, &[], "run tests, each in a process of its own")?;
    Ok(())
}

fn check() -> Result<()> {
    shell::run("format", shell::cargo().args(["fmt", "--all", "--check"]))?;
    shell::run(
        "format of the kernel programs",
        shell::cargo()
            .current_dir(shell::root().join("ebpf"))
            .args(["fmt", "--all", "--check"]),
    )?;
    let clippy = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--locked",
        "--",
        "-D",
        "warnings",
    ];
    shell::run("lint", shell::cargo().args(clippy))
}

/// What a run of the tests came to.
#[derive(Debug, PartialEq, Eq)]
struct Counts {
    total: u32,
    failed: u32,
}

impl Counts {
    fn add(&mut self, other: &Self) {
        self.total += other.total;
        self.failed += other.failed;
    }

    fn passed(&self) -> u32 {
        self.total.saturating_sub(self.failed)
    }

    /// Reads the totals from the first element of nextest's JUnit report.
    fn from_junit(report: &str) -> Option<Self> {
        let start = report.find("<testsuites")?;
        let element = report.get(start..)?.split('>').next()?;
        let number = |attribute: &str| -> Option<u32> {
            element
                .split_once(&format!(" {attribute}=\""))?
                .1
                .split('"')
                .next()?
                .parse()
                .ok()
        };
        Some(Self {
            total: number("tests")?,
            failed: number("failures")? + number("errors")?,
        })
    }
}

/// Runs nextest, given with all but the words and the filter, by one of its profiles.
fn run_tests(options: &Options, mut nextest: Command, profile: &str) -> Result<Counts> {
    let report = shell::target().join("nextest").join(profile).join("junit.xml");
    remove(&report)?;
    nextest.args(["--profile", profile]).args(&options.words);
    if let Some(filter) = &options.filter {
        nextest.args(["-E", filter]);
    }
    if !setup::is_root() {
        if !shell::on_path("sudo") {
            bail!("the end-to-end tests need root (network namespaces, eBPF), and there is no sudo: run this as root");
        }
        // Build as the user, so that `target` stays the user's; only the test programs themselves run as root.
        let mut sudo = shell::command("sudo");
        sudo.arg("--validate");
        shell::run("end-to-end tests need root (network namespaces, eBPF)", &mut sudo)?;
        nextest.env(runner_variable()?, "sudo --preserve-env");
    }
    // A failed test is counted from the report; an error that prevents tests, or that there is none, leaves no report.
    let ran = shell::run("test", &mut nextest);
    let Ok(text) = fs::read_to_string(&report) else {
        ran?;
        return Ok(Counts { total: 0, failed: 0 });
    };
    let counts = Counts::from_junit(&text).with_context(|| format!("{} has no totals", report.display()))?;
    if counts.failed == 0 {
        ran?;
    }
    Ok(counts)
}

/// `CARGO_TARGET_<TRIPLE>_RUNNER`, by which cargo and nextest start test programs through another program.
fn runner_variable() -> Result<OsString> {
    let version = shell::output(shell::command("rustc").arg("-vV"))?;
    let host = version
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .context("rustc -vV names no host")?;
    Ok(format!("CARGO_TARGET_{}_RUNNER", host.to_uppercase().replace('-', "_")).into())
}

fn remove(file: &Path) -> Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", file.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::Counts;

    #[test]
    fn totals_come_from_the_outermost_element() {
        let report = r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="nextest-run" tests="12" failures="2" errors="1" uuid="x" timestamp="y" time="0.1">
    <testsuite name="a" tests="3" disabled="0" errors="0" failures="0">"#;
        assert_eq!(Counts::from_junit(report), Some(Counts { total: 12, failed: 3 }));
    }

    #[test]
    fn a_report_without_totals_is_no_success() {
        assert_eq!(Counts::from_junit("<testsuites name=\"nextest-run\">"), None);
        assert_eq!(Counts::from_junit(""), None);
    }
}
