//! `cargo xtask test`: everything that must hold before a change lands, from set-up to end-to-end tests.
//!
//! First the plain tests, which need nothing but this machine, then those on a real Kubernetes cluster (see [`cluster`]),
//! then the short form of the Gateway API's own suite (see [`conformance`]).
//! Among the plain ones are some on another kernel ([`kernel`]; more by option) and on another architecture ([`arch`]).
//!
//! Tests with nodes and clusters mostly wait, so that compilers and emulators work beside them ([`Ahead`]): lints and the other architecture
//! beside the plain tests, the conformance suite's build beside those on clusters.

mod arch;
mod cluster;
mod kernel;
mod nextest;
mod options;
mod reuse;
mod runner;

use crate::{ahead::Ahead, bench, conformance, ebpf, setup, shell};
use anyhow::{Context as _, Result};
use nextest::Counts;
pub(crate) use options::Options;
use std::{fs, process::ExitCode};

/// What runs in pods in `tests/tests/{real_*,dns,bare_clients}.rs`. Where a package has the program without the service, it is that one.
const APPLICATIONS: [&str; 15] = [
    "mariadb-server-core",
    "mariadb-client-core",
    "postgresql",
    "redis-server",
    "nats-server",
    "python3-aiosmtpd",
    "curl",
    "dnsmasq-base",
    "bind9-dnsutils",
    "busybox-static",
    "musl-tools",
    "openjdk-17-jdk-headless",
    "nghttp2-client",
    "nghttp2-proxy",
    "prometheus",
];

/// Runs it all. The last line of all output is `N passed, N failed`, unless something prevents the tests.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let mut counts = Counts { total: 0, failed: 0 };
    if let Some(version) = &options.kernel {
        counts.add(&kernel::run(options, version)?);
        return Ok(summary(&counts));
    }
    if let Some(architecture) = &options.arch {
        counts.add(&arch::run(options, architecture)?);
        return Ok(summary(&counts));
    }
    set_up()?;
    if !options.cluster {
        counts.add(&plain(options)?);
    }
    // Words and filters without --cluster are about plain tests.
    if options.cluster || (!options.plain && options.everything()) {
        let suite = || {
            Ahead::begin(
                "the conformance suite's build",
                "conformance",
                &["conformance", "--build-only"],
            )
        };
        let suite = options.everything().then(suite).transpose()?;
        counts.add(&cluster::run(options)?);
        if let Some(suite) = suite {
            suite.wait()?;
            let (total, failed) = conformance::short()?;
            counts.add(&Counts { total, failed });
        }
    }
    Ok(summary(&counts))
}

/// Says what it came to, and returns the program's exit code.
fn summary(counts: &Counts) -> ExitCode {
    shell::say(&format!("what took how long:\n{}", shell::stages()));
    if counts.total == 0 {
        shell::say("no test ran, and that shows nothing");
    }
    println!("{} passed, {} failed", counts.passed(), counts.failed);
    ExitCode::from(u8::from(counts.failed > 0 || counts.total == 0))
}

/// The tests that need no cluster, and beside them everything that is checked of the sources.
fn plain(options: &Options) -> Result<Counts> {
    ebpf::build()?;
    shell::run("build", &mut shell::build_everything())?;
    let folder = shell::root().join(shell::target()).join("nextest/reuse");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    reuse::write(&folder)?;
    let mut command = shell::cargo();
    command.args(reuse::arguments(&folder.display().to_string()));
    if !options.everything() {
        return nextest::run(options, command, "default");
    }
    // The test runner below does not know them.
    let examples = ["test", "--doc", "--workspace", "--locked", "--quiet"];
    shell::run("examples in the documentation", shell::cargo().args(examples))?;
    let sources = Ahead::begin("check of the sources", "check", &["check"])?;
    let architecture = arch::begin()?;
    let mut counts = nextest::run(options, command, "default")?;
    counts.add(&one(sources.wait().map(drop)));
    counts.add(
        &architecture
            .wait()
            .and_then(|printed| Counts::from_summary(&printed))
            .unwrap_or_else(|error| one(Err(error))),
    );
    counts.add(&one(bench::count_instructions()));
    counts.add(&kernel::short()?);
    Ok(counts)
}

/// What is no test of nextest's, as one that passed or failed.
fn one(outcome: Result<()>) -> Counts {
    if let Err(error) = &outcome {
        shell::say(&format!("FAILED: {error:#}"));
    }
    Counts {
        total: 1,
        failed: u32::from(outcome.is_err()),
    }
}

fn set_up() -> Result<()> {
    // A test compares what kubectl and Helm make of the manifests, others need an API server.
    crate::cluster::ensure_programs()?;
    crate::cluster::ensure_helm()?;
    crate::cluster::ensure_h2spec()?;
    crate::cluster::ensure_lookup()?;
    crate::cluster::ensure_collector()?;
    crate::zipkin::ensure()?;
    crate::envoy::ensure("be the other end of tunnels in tests")?;
    // Another compares what is known of Istio's and the Gateway API's kinds with these.
    crate::crds::ensure()?;
    // nft is there to make rules, so that a test can see that they would be counted; iptables for the sidecars of the benchmark.
    let programs = [
        ("cc", "build-essential"),
        ("ip", "iproute2"),
        ("nft", "nftables"),
        ("iptables-restore", "iptables"),
    ];
    setup::ensure_programs(&programs, "build Culvert and to run its end-to-end tests")?;
    setup::ensure_packages(&APPLICATIONS, "see that the mesh carries what such applications say")?;
    runner::ensure()
}
