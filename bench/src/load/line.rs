//! What a load prints.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::io::{self, Write};

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
