//! `cargo xtask conformance`: the Gateway API's own conformance suite, run against the mesh on a real cluster.
//!
//! `options` is what can be asked for, `programs` builds the suite and its applications from Go modules and makes their image,
//! `place` is the cluster, the mesh and the waypoints, `suite` runs the suite, `report` reads what came of it: the counts of each
//! profile from the suite's own report, and what no profile counts from its output.
//!
//! The suite's report is kept in `docs/conformance/`. A test that is skipped is as bad as one that fails.

mod options;
mod place;
mod programs;
mod report;
mod suite;

use crate::{
    cluster, ebpf,
    image::{self, Profile},
    shell,
};
use anyhow::{Context as _, Result, bail};
pub(crate) use options::Options;
use options::Proxy;
use place::Place;
use programs::Programs;
use report::Report;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// The images that the mesh needs on the cluster.
const IMAGES: [&str; 4] = ["agent", "ztunnel", "controller", "waypoint"];

/// Builds what is needed, brings a cluster up, runs the suite, and says what came of it. Fails when a test failed or was skipped,
/// except without a mesh, where nothing is expected.
pub(crate) fn run(options: &Options) -> Result<()> {
    if options.build_only {
        return Programs::ensure().map(drop);
    }
    let report = report(options)?;
    if options.json {
        println!("{}", report.json(options.proxy));
    }
    if options.proxy.has_waypoints() && !report.is_clean() {
        bail!("not every test passed");
    }
    Ok(())
}

/// The short form, through our own waypoints: how many tests ran, and how many of them did not pass.
pub(crate) fn short() -> Result<(u32, u32)> {
    Ok(report(&Options::short())?.ran_and_failed())
}

fn report(options: &Options) -> Result<Report> {
    let programs = Programs::ensure()?;
    let mut images = vec![programs.image()?];
    cluster::ensure_programs()?;
    // A cluster that is up has its images.
    if options.proxy.has_mesh() && options.on.is_none() {
        ebpf::build()?;
        // As the tests build them, the culvert command among them: where they ran, nothing is built again.
        let made = image::build(Profile::Tests, &IMAGES.map(str::to_owned))?;
        images.extend(made.into_iter().map(|image| image.file));
        if options.proxy == Proxy::Envoy {
            images.push(programs::envoy_image()?);
        }
    }
    let report = run_on_cluster(options, &programs, images)?;
    shell::say(&format!("what came of it:\n{report}"));
    Ok(report)
}

fn run_on_cluster(options: &Options, programs: &Programs, images: Vec<PathBuf>) -> Result<Report> {
    let place = match &options.on {
        Some(name) => Place::attach(name, options.proxy)?,
        None => Place::bring_up(images, options)?,
    };
    let outcome = place.prepare(programs).and_then(|()| {
        let report = report_file(options);
        let output = suite::run(&place, programs, options, &report)?;
        let text =
            fs::read_to_string(&report).with_context(|| format!("the suite wrote no report {}", report.display()))?;
        let report = Report::read(&text, &output)?;
        if options.keeps_report() {
            keep(&text, options.proxy)?;
        }
        Ok(report)
    });
    if outcome.is_err() {
        eprintln!("{}", place.state());
    }
    let removed = place.take_down();
    let report = outcome?;
    removed?;
    Ok(report)
}

/// Where the suite writes its report.
fn report_file(options: &Options) -> PathBuf {
    programs::folder().join(format!("report-{}.yaml", options.proxy.name()))
}

/// Puts the suite's report among the pages for users.
fn keep(report: &str, proxy: Proxy) -> Result<()> {
    let folder: &Path = &shell::root().join("docs/conformance");
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let file = folder.join(format!("gateway-api-{}-{}.yaml", programs::VERSION, proxy.name()));
    fs::write(&file, report).with_context(|| format!("cannot write {}", file.display()))?;
    shell::say(&format!("the suite's report is in {}", file.display()));
    Ok(())
}
