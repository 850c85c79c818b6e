//! What a load prints.

use super::window::{Window, monotonic_seconds};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    io::{self, Write},
    time::Duration,
};

/// A line of output.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub(crate) enum Line {
    /// The measured time begins; of connections that are held: all are open.
    Started,
    /// It is over.
    Ended(Figures),
}

/// What was done within the measured time.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Figures {
    /// How long it was, seconds.
    pub(crate) seconds: f64,
    /// When it was over, by the monotonic clock, seconds.
    pub(crate) ended: f64,
    /// What the load itself spent on processors, seconds.
    pub(crate) cpu_seconds: f64,
    /// Payload bytes carried (streams).
    pub(crate) bytes: u64,
    /// Requests or queries answered, or connections served.
    pub(crate) count: u64,
    /// Median time of one, microseconds.
    pub(crate) p50_us: u32,
    /// The time that 99 of 100 took at most, microseconds.
    pub(crate) p99_us: u32,
    /// How long each took: the upper bound of a bucket, microseconds, and how many there were.
    pub(crate) times_us: Vec<(u64, u64)>,
    /// Those that failed, warm-up included.
    pub(crate) failed: u64,
    /// Why the first of them failed.
    pub(crate) first_failure: Option<String>,
}

/// Prints a line at once.
pub(crate) fn say(line: &Line) -> Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(line)?)?;
    Ok(out.flush()?)
}

/// The figures that a load printed.
///
/// # Errors
/// When it printed none.
pub(crate) fn ended(log: &str) -> Result<Figures> {
    let lines = log.lines().filter_map(|line| serde_json::from_str(line).ok());
    let ended = lines.into_iter().find_map(|line| match line {
        Line::Ended(figures) => Some(figures),
        Line::Started => None,
    });
    ended.with_context(|| format!("the load printed no figures:\n{log}"))
}

/// In microseconds, as far as a figure goes.
pub(crate) fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}

/// Figures of what took these times, microseconds.
pub(crate) fn summary(window: &Window, mut times: Vec<u32>) -> Figures {
    let (seconds, cpu_seconds) = (window.seconds(), window.cpu_seconds());
    times.sort_unstable();
    let at = |share: f64| {
        times
            .get(((times.len() as f64) * share) as usize)
            .or(times.last())
            .copied()
            .unwrap_or(0)
    };
    Figures {
        seconds,
        ended: monotonic_seconds(),
        cpu_seconds,
        count: times.len() as u64,
        p50_us: at(0.50),
        p99_us: at(0.99),
        times_us: counted(&times),
        ..Figures::default()
    }
}

/// Times in buckets whose bounds are less than 1% apart.
fn counted(times: &[u32]) -> Vec<(u64, u64)> {
    let mut buckets = BTreeMap::new();
    for time in times {
        *buckets.entry(upper_bound(*time)).or_default() += 1;
    }
    buckets.into_iter().collect()
}

/// The largest time in the same bucket: eight bits of a number count, so that a bucket is at most 1/128 wide.
fn upper_bound(time: u32) -> u64 {
    let time = u64::from(time);
    let rest = (time | 0x80).ilog2() - 7;
    time | ((1 << rest) - 1)
}

#[cfg(test)]
mod tests {
    use super::{counted, upper_bound};

    #[test]
    fn a_bucket_ends_within_one_percent_of_all_that_is_in_it() {
        for time in (0..100_000).chain([u32::MAX - 1, u32::MAX]) {
            let bound = upper_bound(time);
            assert!(bound >= u64::from(time));
            assert!(bound as f64 <= f64::from(time) * 1.01, "{time} is below {bound}");
            assert_eq!(upper_bound(u32::try_from(bound).unwrap()), bound);
        }
    }

    #[test]
    fn every_time_is_counted_once() {
        let times = [3, 3, 300, 301, 5000];
        assert_eq!(
            counted(&times),
            [(3, 2), (301, 2), (5023, 1)].map(|(time, count)| (time, count))
        );
    }
}
