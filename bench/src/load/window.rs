//! The time that is measured.

use super::line::{Line, say};
use anyhow::Result;
use rustix::time::{ClockId, clock_gettime};
use std::time::{Duration, Instant};

/// The warm-up and the measured time after it.
pub(crate) struct Window {
    begins: Instant,
    length: Duration,
    measured_from: Option<(Instant, Duration)>,
}

impl Window {
    /// Lengths in seconds; the warm-up begins now.
    pub(crate) fn new(warm_up: f64, seconds: f64) -> Self {
        let begins = Instant::now() + Duration::from_secs_f64(warm_up);
        Self {
            begins,
            length: Duration::from_secs_f64(seconds),
            measured_from: None,
        }
    }

    /// To be asked often. True once, when the measured time begins.
    pub(crate) fn begins_at(&mut self, now: Instant) -> Result<bool> {
        if self.measured_from.is_some() || now < self.begins {
            return Ok(false);
        }
        say(&Line::Started)?;
        self.measured_from = Some((Instant::now(), own_cpu_time()));
        Ok(true)
    }

    /// Whether the measured time has begun.
    pub(crate) fn is_measured(&self) -> bool {
        self.measured_from.is_some()
    }

    /// Whether the measured time is over.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        self.measured_from.is_some_and(|(from, _)| now >= from + self.length)
    }

    /// How long it has been, seconds.
    pub(super) fn seconds(&self) -> f64 {
        self.measured_from.map_or(0.0, |(from, _)| from.elapsed().as_secs_f64())
    }

    /// What this program has spent on processors meanwhile, seconds.
    pub(super) fn cpu_seconds(&self) -> f64 {
        let spent = |(_, before): (_, Duration)| own_cpu_time().saturating_sub(before).as_secs_f64();
        self.measured_from.map_or(0.0, spent)
    }
}

/// Time of the clock that all programs share, and that never goes back, seconds.
pub(crate) fn monotonic_seconds() -> f64 {
    let time = clock_gettime(ClockId::Monotonic);
    Duration::try_from(time).unwrap_or_default().as_secs_f64()
}

fn own_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default()
}
