//! The measurement: nodes and pods, the proxies of each mode, and the loads in turns.
//!
//! Every round runs every load in every mode once, so that a machine that is slower for a while is slower for all of
//! them. Client, server and proxies share the machine's processors, so compare modes with each other and CPU times, not
//! rates with those of another machine.
//!
//! `mode` and `loads` are what can be measured, `options` what is. `stage` makes the nodes and starts the proxies, with `sidecar` for
//! Envoy and `peer` for another node proxy; `course` is the way of one mode that comes out of it. `rounds` sends loads through all courses,
//! `collect` reads what they cost, `memory` what proxies hold. `notes` is what is said meanwhile. All of it goes into a [`Run`], which `crate::report` shows. What cannot be
//! measured is in there with the reason, and everything else goes on.

mod collect;
mod course;
mod loads;
mod memory;
mod mode;
mod notes;
mod options;
mod peer;
mod rounds;
mod sidecar;
mod stage;
mod versions;

use crate::{record::Run, report};
use anyhow::{Result, ensure};
use course::Course;
use culvert_lab::remove_labs_on_signals;
use culvert_report::machine::Machine;
use loads::Load;
use mode::Mode;
use notes::{missing, say, tell};
pub(crate) use options::Options;
use rounds::Rounds;
use stage::{Labs, Stage};
use std::time::SystemTime;

/// Builds the stage, runs the rounds, shows the results.
///
/// # Errors
/// When nothing at all can be measured, or nothing of it can be shown.
pub(crate) fn run(options: &Options) -> Result<()> {
    let (modes, loads) = (options.modes(), options.loads()?);
    remove_labs_on_signals(|| say("interrupted: removing the nodes and pods"))?;
    raise_descriptors();
    let mut run = Run {
        command: std::env::args().collect::<Vec<_>>().join(" "),
        began: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
        machine: Machine::here(),
        versions: versions::of(options),
        modes: modes.iter().map(|mode| mode.named()).collect(),
        loads: loads.iter().map(Load::named).collect(),
        ..Run::default()
    };
    if run.machine.processors == 1 {
        say(
            "there is one processor: client, server and proxies take turns on it, so that only CPU times can be compared",
        );
    }
    measure(&modes, loads, options, &mut run)?;
    // All that was made for it is removed by now, whatever becomes of the rest.
    report::show(&run, options.json, options.out.as_deref())?;
    ensure!(!run.samples.is_empty(), "nothing was measured");
    Ok(())
}

/// Makes the nodes, measures all modes, and removes everything again.
fn measure(modes: &[Mode], loads: Vec<Load>, options: &Options, run: &mut Run) -> Result<()> {
    say("making nodes and their pods, and starting the proxies");
    let labs = Labs::make(modes)?;
    let mut stage = Stage::new(&labs, options);
    let mut courses: Vec<Course<'_>> = Vec::new();
    for mode in modes.iter().copied() {
        match course(&mut stage, &labs, mode, &loads, options) {
            Ok(course) => courses.push(course),
            Err(error) => {
                tell(&format!("{} is NOT MEASURED: {error:#}", mode.name()));
                run.missing.push(missing(mode.name(), None, format!("{error:#}")));
            }
        }
    }
    memory::measure(&courses, options, run);
    let mut rounds = Rounds {
        courses,
        loads,
        options,
        labs: labs.all().collect(),
        run,
    };
    rounds.take();
    if !options.without_counts {
        rounds.count();
    }
    Ok(())
}

/// A mode's way, which has been seen to work.
fn course<'lab>(
    stage: &mut Stage<'lab>,
    labs: &'lab Labs,
    mode: Mode,
    loads: &[Load],
    options: &Options,
) -> Result<Course<'lab>> {
    let mut course = stage.course(mode)?;
    let loads: Vec<Load> = loads.iter().filter(|load| load.fits(mode)).copied().collect();
    ensure!(
        !loads.is_empty(),
        "it carries HTTP alone, and no such load was asked for"
    );
    let verified = course.verify(&loads, labs.of(mode)?.node(1), options.patience());
    // That a program has ended explains more than what could not be done without it.
    verified.or_else(|error| course.check().and(Err(error)))?;
    Ok(course)
}

/// Ten thousand connections take as many descriptors at each end, and twice as many in a proxy between them. What the machine does not
/// allow is not had: opening so many connections then says so.
fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    const WANTED: u64 = 1 << 17;
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: Some(WANTED),
        maximum: limit.maximum.map(|maximum| maximum.max(WANTED)),
    };
    let allowed = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if limit.current.is_some_and(|current| current < WANTED) {
        let _raised = setrlimit(Resource::Nofile, wanted).or_else(|_| setrlimit(Resource::Nofile, allowed));
    }
}
