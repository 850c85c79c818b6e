//! What is read while a load runs, beside what the load says itself.
//!
//! A [`Moment`] is taken when the measured time begins and when it ends; the difference of two of them is what proxies and machine did.
//! `machine` reads what concerns all processors; `link` counts bytes between the nodes; `calls` counts system calls by perf and `hooks` those of kernel
//! programs, both in a run of their own, because counting slows down what is counted.

mod calls;
mod hooks;
mod link;
mod machine;

use super::course::Course;
use crate::{
    load::{Figures, monotonic_seconds},
    record::{Noise, Work},
    usage,
};
use anyhow::Result;
pub(super) use calls::Calls;
pub(super) use hooks::{Counting, sum};
use machine::Processors;
use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// The part of the measured time that must have been seen.
const SEEN: f64 = 0.75;

/// Everything that counts up, at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Moment {
    /// By the monotonic clock, seconds.
    at: f64,
    proxies: Duration,
    switches: u64,
    /// The server application, kernel threads and this program.
    known: Duration,
    processors: Processors,
    frequencies: Vec<f64>,
    wire_bytes: Option<u64>,
}

/// What was done between two moments.
#[derive(Clone, Debug, Default)]
pub(super) struct Between {
    pub(super) proxies: Work,
    pub(super) machine_cpu_seconds: f64,
    pub(super) wire_bytes: Option<u64>,
    pub(super) noise: Noise,
    /// Why it says little, if so much of it was missed.
    pub(super) late: Option<String>,
}

impl Moment {
    /// Takes it.
    ///
    /// # Errors
    /// When a proxy is gone.
    pub(super) fn take(course: &Course<'_>) -> Result<Self> {
        let known = usage::cpu_time(&course.applications)? + usage::cpu_time(&machine::kernel_threads())?;
        let own = Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default();
        Ok(Self {
            at: monotonic_seconds(),
            processors: Processors::now()?,
            proxies: usage::cpu_time(&course.proxies())?,
            switches: usage::switches(&course.proxies())?,
            known: known + own,
            frequencies: machine::frequencies(),
            wire_bytes: course.link.map(link::bytes).transpose()?,
        })
    }

    /// What was done since then, of which the load says its own part. This moment is a little later than that at which the measured time began,
    /// since that has to be seen first: what was missed is taken for as much as the rest.
    pub(super) fn until(&self, after: &Self, load: &Figures) -> Between {
        let seen = (load.ended - self.at).max(load.seconds * SEEN);
        let scale = (load.seconds / seen).max(1.0);
        let proxies = scale * after.proxies.saturating_sub(self.proxies).as_secs_f64();
        let known = scale * after.known.saturating_sub(self.known).as_secs_f64();
        // The machine goes on when the load has ended.
        let of_machine = load.seconds / (after.at - self.at).max(seen);
        let busy = of_machine * (after.processors.busy - self.processors.busy);
        let steal = of_machine * (after.processors.steal - self.processors.steal);
        let scaled = |after: u64, before: u64| (scale * after.saturating_sub(before) as f64) as u64;
        let frequencies = self.frequencies.iter().zip(&after.frequencies);
        let late = self.at - (load.ended - load.seconds);
        Between {
            proxies: Work {
                cpu_seconds: proxies,
                switches: scaled(after.switches, self.switches),
                system_calls: None,
            },
            machine_cpu_seconds: busy,
            wire_bytes: after
                .wire_bytes
                .zip(self.wire_bytes)
                .map(|(after, before)| scaled(after, before)),
            noise: Noise {
                others_cpu_seconds: (busy - proxies - known - load.cpu_seconds).max(0.0),
                steal_seconds: steal,
                frequency_ratio: frequencies.map(|(before, after)| after / before).reduce(f64::min),
            },
            late: (late > load.seconds * (1.0 - SEEN)).then(|| format!("its beginning was seen {late:.2} s late")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn what_nobody_in_the_sample_used_was_used_by_others() {
        let before = Moment {
            wire_bytes: Some(1000),
            frequencies: vec![2e6, 4e6],
            ..Moment::default()
        };
        let after = Moment {
            at: 8.0,
            proxies: seconds(3),
            switches: 70,
            known: seconds(2),
            processors: Processors { busy: 10.0, steal: 0.5 },
            frequencies: vec![1e6, 4e6],
            wire_bytes: Some(5000),
        };
        let load = Figures {
            seconds: 8.0,
            ended: 8.0,
            cpu_seconds: 1.0,
            ..Figures::default()
        };
        let between = before.until(&after, &load);
        assert_eq!(between.noise.others_cpu_seconds, 4.0);
        assert_eq!(between.noise.steal_seconds, 0.5);
        assert_eq!(between.noise.frequency_ratio, Some(0.5));
        assert_eq!((between.proxies.cpu_seconds, between.proxies.switches), (3.0, 70));
        assert_eq!((between.machine_cpu_seconds, between.wire_bytes), (10.0, Some(4000)));
    }

    #[test]
    fn what_was_done_before_the_beginning_was_seen_is_added() {
        let before = Moment {
            at: 1.0,
            ..Moment::default()
        };
        let after = Moment {
            at: 8.0,
            proxies: seconds(3),
            ..Moment::default()
        };
        let load = Figures {
            seconds: 5.0,
            ended: 5.0,
            ..Figures::default()
        };
        let between = before.until(&after, &load);
        assert_eq!((between.proxies.cpu_seconds, between.late), (3.75, None));
        let before = Moment { at: 4.0, ..before };
        assert!(before.until(&after, &load).late.is_some());
    }
}
