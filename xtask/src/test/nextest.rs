//! Running tests with nextest, and what came of it.

use super::options::Options;
use crate::{setup, shell};
use anyhow::{Context, Result, bail};
use std::{ffi::OsString, fs, path::Path, process::Command};

/// What a run of the tests came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) total: u32,
    pub(super) failed: u32,
}

impl Counts {
    pub(super) fn add(&mut self, other: &Self) {
        self.total += other.total;
        self.failed += other.failed;
    }

    pub(super) fn passed(&self) -> u32 {
        self.total.saturating_sub(self.failed)
    }

    /// Reads them from the last line of what `cargo xtask test` prints.
    ///
    /// # Errors
    /// It is another line.
    pub(super) fn from_summary(printed: &str) -> Result<Self> {
        let last = printed.lines().last().unwrap_or_default();
        let numbers = last
            .strip_suffix(" failed")
            .and_then(|line| line.split_once(" passed, "));
        let counts = numbers.and_then(|(passed, failed)| {
            let failed = failed.parse::<u32>().ok()?;
            Some(Self {
                total: passed.parse::<u32>().ok()?.checked_add(failed)?,
                failed,
            })
        });
        counts.with_context(|| format!("no counts of tests: {last:?}"))
    }

    /// Reads the totals from the first element of nextest's JUnit report.
    pub(super) fn from_junit(report: &str) -> Option<Self> {
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

/// Runs nextest, given with all but the words and the filter, by one of its profiles, as often as the options say. The tests run as root.
pub(super) fn run(options: &Options, mut nextest: Command, profile: &str) -> Result<Counts> {
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
    run_as_is(options, nextest, profile)
}

/// The same for tests that need no more than the user may.
pub(super) fn run_as_is(options: &Options, mut nextest: Command, profile: &str) -> Result<Counts> {
    nextest.args(["--profile", profile]).args(&options.words);
    if let Some(filter) = &options.filter {
        nextest.args(["-E", filter]);
    }
    let report = shell::target().join("nextest").join(profile).join("junit.xml");
    let mut counts = Counts { total: 0, failed: 0 };
    for round in 1..=options.repeat {
        if options.repeat > 1 {
            shell::say(&format!("round {round} of {}", options.repeat));
        }
        counts.add(&once(&mut nextest, &report)?);
    }
    Ok(counts)
}

/// Runs it once; what its report says.
fn once(nextest: &mut Command, report: &Path) -> Result<Counts> {
    remove(report)?;
    // A failed test is counted from the report; an error that prevents tests, or that there is none, leaves no report.
    let ran = shell::run("test", nextest);
    let Ok(text) = fs::read_to_string(report) else {
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
    fn a_summary_is_read_back_and_no_other_line_is_one() {
        let counts = Counts::from_summary("FAIL x\n9 passed, 3 failed\n").unwrap();
        assert_eq!(counts, Counts { total: 12, failed: 3 });
        for other in [
            "",
            "9 passed, 3 failed\nxtask: ended",
            "9 passed",
            "-1 passed, 0 failed",
        ] {
            Counts::from_summary(other).unwrap_err();
        }
    }

    #[test]
    fn a_report_without_totals_is_no_success() {
        assert_eq!(Counts::from_junit("<testsuites name=\"nextest-run\">"), None);
        assert_eq!(Counts::from_junit(""), None);
    }
}
