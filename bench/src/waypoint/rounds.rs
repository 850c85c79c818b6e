//! Loads through both proxies in turns.

use super::{
    cases::Case,
    findings::{Finding, Target},
    options::Options,
    output::say,
    side::Side,
};
use crate::{
    load::{Figures, ended},
    usage,
};
use anyhow::{Context, Result};
use std::{process::Command, time::Duration};

/// One load through one proxy.
struct Sample {
    figures: Figures,
    cpu: Duration,
}

/// Every load in every round, through one proxy and then the other; the one that is first changes from round to round.
pub(super) fn run(sides: &[Side], cases: &[Case], paths: usize, options: &Options) -> Result<Vec<Finding>> {
    let mut samples: Vec<Vec<Vec<Sample>>> = cases
        .iter()
        .map(|_| sides.iter().map(|_| Vec::new()).collect())
        .collect();
    for round in 0..options.rounds() as usize {
        for (case, samples) in cases.iter().zip(&mut samples) {
            say(&format!("round {} of {}: {}", round + 1, options.rounds(), case.name));
            for turn in 0..sides.len() {
                let number = (round + turn) % sides.len();
                let side = &sides[number];
                let sample = once(side, case, paths, round, options.seconds());
                let what = || format!("{} through {}:\n{}", case.name, side.proxy.name(), side.last_words());
                samples[number].push(sample.with_context(what)?);
            }
        }
    }
    let findings = cases
        .iter()
        .zip(&samples)
        .flat_map(|(case, samples)| findings(case, samples));
    Ok(findings.collect())
}

/// The proxy's CPU time is taken when the load says that its measured time begins and ends.
fn once(side: &Side, case: &Case, paths: usize, round: usize, seconds: f64) -> Result<Sample> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(["http-load", "--kind", case.kind.name()])
        .args(["--connections", &case.connections.to_string()])
        .args(["--streams", &case.streams.to_string()])
        .args(["--seconds", &seconds.to_string()])
        .args(side.arguments(case.service, paths));
    if let Some(rate) = case.rate {
        command.args(["--rate", &rate.to_string()]);
    }
    let mut load = side
        .client
        .spawn(&format!("load-{}-{round}", case.name), &mut command)?;
    let patience = Duration::from_secs_f64(30.0 + seconds);
    load.wait_for_log("\"event\":\"started\"", patience)?;
    let before = usage::cpu_time(&[side.pid()])?;
    load.wait_for_log("\"event\":\"ended\"", patience)?;
    let after = usage::cpu_time(&[side.pid()])?;
    load.wait(patience)?;
    let figures = ended(&load.log())?;
    if figures.failed > 0 {
        let why = figures.first_failure.as_deref().unwrap_or_default();
        eprintln!("    {} requests FAILED, the first one: {why}", figures.failed);
    }
    Ok(Sample {
        figures,
        cpu: after.saturating_sub(before),
    })
}

fn findings(case: &Case, samples: &[Vec<Sample>]) -> Vec<Finding> {
    let finding = |what: &str, unit, target, value: &dyn Fn(&Sample) -> f64| {
        let values: Vec<Vec<f64>> = samples.iter().map(|side| side.iter().map(value).collect()).collect();
        Finding::of_rounds(format!("{} {what}", case.name), unit, &values, target)
    };
    let cpu = |sample: &Sample| sample.cpu.as_secs_f64() * 1e6 / (sample.figures.count as f64).max(1.0);
    let rate = |sample: &Sample| sample.figures.count as f64 / sample.figures.seconds.max(1e-9);
    let p50 = |sample: &Sample| f64::from(sample.figures.p50_us);
    let p99 = |sample: &Sample| f64::from(sample.figures.p99_us);
    let of_p99 = case.rate.map(|_| Target::Ratio(0.6));
    vec![
        finding("CPU per request", "us", Some(Target::Ratio(0.4)), &cpu),
        finding("requests", "1/s", None, &rate),
        finding("p50", "us", None, &p50),
        finding("p99", "us", of_p99, &p99),
    ]
}
