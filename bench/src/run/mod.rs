//! The measurement: nodes and pods, the proxies of each mode, and the loads in turns.
//!
//! Every round runs every load in every mode once, so that a machine that is slower for a while is slower for all of
//! them; the result is the median over the rounds. Client, server and proxies share the machine's processors, so compare
//! modes with each other and CPU times, not rates with those of another machine. What each mode's way through the pods
//! is stands in `course`; the proxies' usage is read in `crate::usage`; `report` makes medians, the table and the JSON.

mod course;
mod envoy;
mod istio;
mod options;
mod report;

use crate::load::{Kind, Line};
use anyhow::{Context, Result, bail, ensure};
use course::{Course, Stage};
use culvert_lab::{Lab, Options as LabOptions, remove_labs_on_signals};
use options::Mode;
pub(crate) use options::Options;
pub(crate) use report::median;
use report::{Sample, Summary};
use std::{process::Command, time::Duration};

/// The loads, in the order of a round.
const LOADS: [Kind; 3] = [Kind::Stream, Kind::Requests, Kind::Connections];

/// Builds the stage, runs the rounds, prints the results.
pub(crate) fn run(options: &Options) -> Result<()> {
    ensure!(!options.modes.is_empty(), "no mode to measure");
    if options.modes.contains(&Mode::EnvoyTcp) && options.envoy.is_none() {
        bail!("mode envoy-tcp needs --envoy");
    }
    if options.modes.contains(&Mode::IstioZtunnel) && options.ztunnel.is_none() {
        bail!("mode istio-ztunnel needs --ztunnel or CULVERT_PEER_ZTUNNEL");
    }
    let rounds = options.rounds.unwrap_or(if options.quick { 3 } else { 5 });
    let seconds = options.seconds.unwrap_or(if options.quick { 2.0 } else { 5.0 });
    remove_labs_on_signals(|| eprintln!("==> interrupted: removing the nodes and pods"))?;

    say("making two nodes and their pods, and starting the proxies");
    let lab = Lab::new(&format!("bench_{}", std::process::id()), LabOptions::default())?;
    let istio_lab = if options.modes.contains(&Mode::IstioZtunnel) {
        Some(Lab::new(
            &format!("bench_{}_istio", std::process::id()),
            LabOptions::default(),
        )?)
    } else {
        None
    };
    let started = Stage::new(&lab, istio_lab.as_ref(), options);
    let mut stage = started.inspect_err(|_| eprintln!("what the programs said last:\n{}", lab.logs(15)))?;
    let outcome = measure(&mut stage, rounds, seconds).inspect_err(|_| {
        eprintln!("what the programs said last:\n{}", lab.logs(15));
    });
    let results = outcome?;

    let summaries: Vec<_> = results
        .iter()
        .map(|(mode, samples)| (*mode, Summary::of(samples)))
        .collect();
    println!("{}", report::table(&summaries));
    println!("{}", notes(&options.modes, rounds, seconds));
    if options.json {
        println!("{}", report::json(&summaries)?);
    }
    Ok(())
}

fn measure(stage: &mut Stage<'_>, rounds: u32, seconds: f64) -> Result<Vec<(Mode, Vec<Sample>)>> {
    let courses = stage.courses()?;
    for course in &courses {
        stage
            .verify(course)
            .with_context(|| format!("mode {}", course.mode.name()))?;
    }
    let mut results: Vec<_> = courses.iter().map(|course| (course.mode, Vec::new())).collect();
    for round in 1..=rounds {
        for kind in LOADS {
            for (course, (_, samples)) in courses.iter().zip(&mut results) {
                say(&format!(
                    "round {round} of {rounds}: {}, {}",
                    kind.name(),
                    course.mode.name()
                ));
                let sample = once(course, kind, round, seconds)
                    .with_context(|| format!("{} in mode {}", kind.name(), course.mode.name()))?;
                samples.push(sample);
            }
        }
    }
    Ok(results)
}

/// One load through one mode; the proxies' CPU time is taken when the load says that its measured time begins and ends.
fn once(course: &Course, kind: Kind, round: u32, seconds: f64) -> Result<Sample> {
    let name = format!("load-{}-{}-{round}", course.mode.name(), kind.name());
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["load", "--kind", kind.name(), "--to", &course.target.to_string()]);
    command.args(["--seconds", &seconds.to_string()]);
    let mut load = course.client.spawn(&name, &mut command)?;
    let patience = Duration::from_secs_f64(30.0 + seconds);
    load.wait_for_log("\"event\":\"started\"", patience)?;
    let before = course.usage()?;
    load.wait_for_log("\"event\":\"ended\"", patience)?;
    let after = course.usage()?;
    load.wait(patience)?;
    let log = load.log();
    let ended = log
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .find_map(|line| match line {
            Line::Ended(figures) => Some(figures),
            Line::Started => None,
        });
    let figures = ended.with_context(|| format!("the load printed no figures:\n{log}"))?;
    if figures.failed > 0 {
        let why = figures.first_failure.as_deref().unwrap_or_default();
        eprintln!("    {} connections FAILED, the first one: {why}", figures.failed);
    }
    Ok(Sample {
        kind,
        figures,
        cpu_seconds: after.cpu_seconds - before.cpu_seconds,
        rss_mb: after.rss_mb,
    })
}

/// What a reader of the table must know.
fn notes(modes: &[Mode], rounds: u32, seconds: f64) -> String {
    let mut notes = format!(
        "Medians of {rounds} rounds of {seconds} s. CPU is the proxies' own, user and system, both ends together; client, server and \
         proxies share {} processors.",
        std::thread::available_parallelism().map_or(0, std::num::NonZero::get)
    );
    if modes.contains(&Mode::EnvoyTcp) {
        notes.push_str(
            "\nenvoy-tcp: the client dials its sidecar's listener directly, so that no netfilter rule redirects it; a real \
             sidecar mesh pays for that on top.",
        );
    }
    notes
}

fn say(text: &str) {
    eprintln!("==> {text}");
}
