//! What is made of the times that a load measured.

use super::{
    line::Figures,
    window::{Window, monotonic_seconds},
};
use std::{collections::BTreeMap, time::Duration};

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
