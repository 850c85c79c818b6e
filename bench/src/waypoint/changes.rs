//! A route that changes among very many: how long until a request meets it, and what that costs the waypoint.

use super::{
    ask::Asker,
    findings::{Finding, Target},
    memory, objects,
    options::Options,
    output::say,
    side::Side,
};
use crate::usage::{self, settle};
use anyhow::{Context, Result, ensure};
use culvert_lab::Lab;
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

/// Rules of each Service.
const RULES: usize = 10;
/// How long all that follows from a change is waited for where its cost is taken, and how long the same waypoint is watched at rest.
const SETTLES: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(30);

/// Ten routes for each of the Services that `memory` has made; then one of them changes again and again.
pub(super) fn run(sides: &mut [Side], lab: &Lab, services: usize, options: &Options) -> Result<Vec<Finding>> {
    let routes = services * RULES;
    say(&format!("changes among {routes} routes"));
    for number in 0..services {
        for side in sides.iter() {
            for object in objects::many(side.proxy.name(), &memory::name(number), RULES) {
                lab.apply(&object)?;
            }
        }
    }
    for side in sides.iter() {
        for number in (0..services).step_by((services / 10).max(1)) {
            memory::wait_answered(side, number, &format!("/r{}", RULES - 1))?;
        }
    }
    settle(SETTLES * 3);
    let rounds = if options.short { 2 } else { 10 };
    let (mut times, mut costs) = (vec![Vec::new(); sides.len()], vec![Vec::new(); sides.len()]);
    for round in 0..rounds {
        let number = round as usize * services / rounds as usize;
        for (side, (times, costs)) in sides.iter().zip(times.iter_mut().zip(&mut costs)) {
            times.push(time(side, lab, number, 2 * round)?);
            costs.push(cost(side, lab, number, 2 * round + 1)?);
        }
    }
    let name = |what: &str| format!("one change among {routes} routes, {what}");
    Ok(vec![
        Finding::of_rounds(name("until met"), "ms", &times, Some(Target::Most(100.0))),
        Finding::of_rounds(name("CPU"), "ms", &costs, Some(Target::Most(5.0))),
    ])
}

fn change(side: &Side, lab: &Lab, number: usize, generation: u32) -> Result<()> {
    lab.apply(&objects::generation(
        side.proxy.name(),
        &memory::name(number),
        RULES,
        generation,
    ))
}

/// Milliseconds from the change of the object to the first request that met it.
fn time(side: &Side, lab: &Lab, number: usize, generation: u32) -> Result<f64> {
    let to = SocketAddr::from((memory::address(side, number)?, 80));
    let mut asker = Asker::connect(&side.client, to, &side.host(&memory::name(number)))?;
    let expected = format!("\r\n{}: {generation}\r\n", objects::GENERATION);
    let (_, before) = asker.ask("/r0", None)?;
    ensure!(!before.contains(&expected), "the change was met before it was made");
    let begun = Instant::now();
    change(side, lab, number, generation)?;
    loop {
        let (_, head) = asker.ask("/r0", None)?;
        if head.contains(&expected) {
            return Ok(begun.elapsed().as_secs_f64() * 1e3);
        }
        ensure!(begun.elapsed() < PATIENCE, "the change was not met: {head}");
    }
}

/// Milliseconds of CPU time of the waypoint that a change costs, without any request.
fn cost(side: &Side, lab: &Lab, number: usize, generation: u32) -> Result<f64> {
    let spent = |work: &dyn Fn() -> Result<()>| -> Result<f64> {
        let before = usage::cpu_time(&[side.pid()])?;
        work()?;
        settle(SETTLES);
        let after = usage::cpu_time(&[side.pid()])?;
        Ok(after.saturating_sub(before).as_secs_f64() * 1e3)
    };
    let at_rest = spent(&|| Ok(()))?;
    let with = spent(&|| change(side, lab, number, generation).context("change"))?;
    Ok((with - at_rest).max(0.0))
}
