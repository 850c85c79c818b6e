//! Loads through all modes in turns.

use super::{
    collect::{Calls, Counting, Moment, sum},
    course::Course,
    loads::{Load, Program},
    notes::{missing, say, tell},
    options::Options,
};
use crate::{
    load::{self, Figures},
    record::{Run, Sample},
    report::disturbed,
};
use anyhow::{Context, Result, ensure};
use culvert_lab::Lab;
use std::{collections::BTreeSet, fs, time::Duration};

/// Below this share of the rate that was asked for, a mode does not reach it: times would only say how long the queue grew.
const REACHED: f64 = 0.95;
/// How long the runs are in which calls are counted, seconds.
const COUNTED: f64 = 0.4;
/// Longer logs are cut off between samples: they are in memory here.
const LONGEST_LOG: u64 = 16 << 20;

/// What is measured, and what has been given up.
pub(super) struct Rounds<'a, 'lab> {
    pub(super) courses: Vec<Course<'lab>>,
    pub(super) loads: Vec<Load>,
    pub(super) options: &'a Options,
    pub(super) labs: Vec<&'lab Lab>,
    pub(super) run: &'a mut Run,
}

/// One run of a load.
struct Taken {
    figures: Figures,
    sample: Sample,
    /// Why what was read beside it says little.
    late: Option<String>,
}

impl Rounds<'_, '_> {
    /// Every load in every round through every mode; which mode is first changes from round to round.
    pub(super) fn take(&mut self) {
        let mut given_up = BTreeSet::new();
        let rounds = self.options.rounds();
        for round in 1..=rounds {
            for load in self.loads.clone() {
                let modes: Vec<_> = self.courses.iter().map(|course| course.mode).collect();
                for turn in 0..modes.len() {
                    let mode = modes[(turn + round as usize - 1) % modes.len()];
                    if !load.fits(mode) || given_up.contains(&(mode, load.name)) {
                        continue;
                    }
                    // A mode whose proxy has died is no longer there.
                    let Some(at) = self.courses.iter().position(|course| course.mode == mode) else {
                        continue;
                    };
                    say(&format!("round {round} of {rounds}: {}, {}", load.name, mode.name()));
                    if let Err(error) = self.sample(at, &load, round) {
                        let whole = self.fail(at, &load, &error);
                        if !whole {
                            given_up.insert((mode, load.name));
                        }
                    }
                    self.cut_logs();
                }
            }
        }
    }

    /// System calls and calls of hooks, each load once in a short run of its own. What a sample says of them is for as much work as it did.
    pub(super) fn count(&mut self) {
        let calls = Calls::check();
        if let Err(error) = &calls {
            self.miss_everywhere(&format!("system calls were not counted: {error:#}"));
        }
        let mut hooks = Vec::new();
        for load in self.loads.clone() {
            for at in 0..self.courses.len() {
                let course = &self.courses[at];
                if !load.fits(course.mode) || course.ends.is_empty() && course.agents.is_empty() {
                    continue;
                }
                say(&format!("counting calls: {}, {}", load.name, course.mode.name()));
                match self.count_once(at, &load, calls.is_ok()) {
                    Ok(found) => hooks.extend(found),
                    Err(error) => {
                        let why = format!("calls were not counted: {error:#}");
                        self.run
                            .missing
                            .push(missing(self.courses[at].mode.name(), Some(&load), why));
                    }
                }
                self.cut_logs();
            }
        }
        self.run.hooks = sum(&hooks);
    }

    fn count_once(&mut self, at: usize, load: &Load, with_calls: bool) -> Result<Vec<crate::record::Hook>> {
        let course = &self.courses[at];
        let mode = course.mode.name();
        let hooks = Counting::begin(&course.agents)?;
        let calls = if with_calls && !course.ends.is_empty() {
            Some(Calls::begin(&course.proxies())?)
        } else {
            None
        };
        // The counting of calls takes a moment to begin, so that what counts is all of the run, with its warm-up.
        let taken = once(course, load, 0, COUNTED, 0.0);
        let counted = calls.map(Calls::end).transpose();
        let hooks = hooks.end(mode)?;
        let taken = taken?;
        let work = |sample: &Sample| if sample.count > 0 { sample.count } else { sample.bytes } as f64;
        if let Some(counted) = counted? {
            let each = counted as f64 / work(&taken.sample).max(1.0);
            let samples = self.run.samples.iter_mut();
            for sample in samples.filter(|sample| sample.mode == mode && sample.load == load.name) {
                sample.proxies.system_calls = Some((each * work(sample)) as u64);
            }
        }
        Ok(hooks)
    }

    /// One sample, and again while it is disturbed.
    fn sample(&mut self, at: usize, load: &Load, round: u32) -> Result<()> {
        let course = &mut self.courses[at];
        for attempt in 0..=self.options.repeats {
            let taken = once(course, load, round, self.options.seconds(), self.options.warm_up)?;
            course.check()?;
            let mut sample = taken.sample;
            if sample.failed > 0 {
                let why = taken.figures.first_failure.as_deref().unwrap_or_default();
                tell(&format!("{} FAILED, the first one: {why}", sample.failed));
            }
            sample.disturbed = taken.late.or_else(|| disturbed(&sample));
            let Some(why) = sample.disturbed.clone() else {
                is_reached(load, &sample)?;
                self.run.samples.push(sample);
                return Ok(());
            };
            let again = if attempt < self.options.repeats {
                "again"
            } else {
                "left as it is"
            };
            tell(&format!("disturbed: {why}; {again}"));
            self.run.samples.push(sample);
        }
        Ok(())
    }

    /// Notes what is missing; true when the whole mode is given up, because something that it needs has ended.
    fn fail(&mut self, at: usize, load: &Load, error: &anyhow::Error) -> bool {
        let mode = self.courses[at].mode.name();
        tell(&format!("NOT MEASURED: {error:#}"));
        match self.courses[at].check() {
            Ok(()) => {
                self.run.missing.push(missing(mode, Some(load), format!("{error:#}")));
                false
            }
            Err(ended) => {
                let why = format!("given up during {}: {ended:#}", load.name);
                self.run.missing.push(missing(mode, None, why));
                self.courses.remove(at);
                true
            }
        }
    }

    fn miss_everywhere(&mut self, why: &str) {
        tell(why);
        for course in &self.courses {
            self.run.missing.push(missing(course.mode.name(), None, why.to_owned()));
        }
    }

    /// All programs append to their logs.
    fn cut_logs(&self) {
        let folders = self.labs.iter().flat_map(|lab| {
            let sidecars = ["sidecar/log", "sidecar-http/log", "log"];
            sidecars.map(|folder| lab.dir().join(folder))
        });
        for entry in folders
            .filter_map(|folder| fs::read_dir(folder).ok())
            .flatten()
            .flatten()
        {
            let is_long = entry.metadata().is_ok_and(|metadata| metadata.len() > LONGEST_LOG);
            if is_long && let Ok(file) = fs::File::options().write(true).open(entry.path()) {
                // If it fails, the next one tries again.
                let _cut = file.set_len(0);
            }
        }
    }
}

/// One load through one mode; what counts up is read when the load says that its measured time begins and ends.
fn once(course: &Course<'_>, load: &Load, round: u32, seconds: f64, warm_up: f64) -> Result<Taken> {
    let name = format!("load-{}-{round}", load.name);
    let mut client = course
        .client
        .spawn(&name, &mut course.program(load, seconds, warm_up)?)?;
    let patience = Duration::from_secs_f64(30.0 + seconds);
    client.wait_for_log("\"event\":\"started\"", patience)?;
    let before = Moment::take(course)?;
    client.wait_for_log("\"event\":\"ended\"", patience)?;
    let after = Moment::take(course)?;
    client.wait(patience)?;
    let figures = load::ended(&client.log())?;
    fs::remove_file(client.log_path()).context("remove a log")?;
    let between = before.until(&after, &figures);
    let sample = Sample {
        mode: course.mode.name().to_owned(),
        load: load.name.to_owned(),
        round,
        seconds: figures.seconds,
        bytes: load.payload(&figures),
        count: if is_stream(load) { 0 } else { figures.count },
        failed: figures.failed,
        times_us: figures.times_us.clone(),
        proxies: between.proxies,
        machine_cpu_seconds: between.machine_cpu_seconds,
        wire_bytes: between.wire_bytes,
        noise: between.noise,
        disturbed: None,
    };
    Ok(Taken {
        figures,
        sample,
        late: between.late,
    })
}

/// Whether as many requests were answered as were due.
fn is_reached(load: &Load, sample: &Sample) -> Result<()> {
    let Some(rate) = load.rate else { return Ok(()) };
    let reached = sample.count as f64 / sample.seconds.max(1e-9);
    ensure!(
        reached >= f64::from(rate) * REACHED,
        "{reached:.0} of {rate} requests/s were answered, so times would only say how long the queue grew"
    );
    Ok(())
}

fn is_stream(load: &Load) -> bool {
    matches!(load.program, Program::Plain(load::Kind::Upload | load::Kind::Download))
}
