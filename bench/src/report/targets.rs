//! What the project wants to reach in one run, beside what this run reached. Only targets whose modes were measured are shown.

use super::figure::{CPU, CPU_GB, Figure, GBIT, Kind, P50, P99};
use super::measured::Measured;
use culvert_report::stats::Ratio;
use serde::Serialize;
use std::fmt;

/// A target and what came of it.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Outcome {
    /// What is measured.
    pub(super) what: String,
    /// What it should be, and what it is, both in the same unit.
    pub(super) wanted: f64,
    pub(super) reached: f64,
    /// Within which the confidence interval has it, where it is a ratio of rounds.
    pub(super) interval: Option<(f64, f64)>,
    /// MB, ms, ...; nothing for a factor.
    pub(super) unit: &'static str,
    /// Whether the target is met.
    pub(super) met: Met,
}

/// Whether a target is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Met {
    Yes,
    No,
    /// The median misses it by less than the rounds' spread: its interval holds what is wanted.
    WithinSpread,
}

impl Met {
    fn of(met: bool) -> Self {
        if met { Self::Yes } else { Self::No }
    }

    /// Of a ratio's median, and of its interval.
    fn of_ratio(met: bool, ratio: &Ratio, wanted: f64) -> Self {
        let holds = |(low, high): (f64, f64)| (low..=high).contains(&wanted);
        if !met && ratio.interval.is_some_and(holds) {
            return Self::WithinSpread;
        }
        Self::of(met)
    }
}

impl fmt::Display for Met {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Yes => "yes",
            Self::No => "NO",
            Self::WithinSpread => "within the spread",
        })
    }
}

/// Another node proxy, as modes are named that have one.
const PEER: &str = "ztunnel";
const CONNECTIONS: fn(Kind) -> bool = |kind| kind == Kind::Connections;
const STREAM: fn(Kind) -> bool = |kind| kind == Kind::Streams;

/// Of this run.
pub(super) fn outcomes(measured: &Measured<'_>) -> Vec<Outcome> {
    let stream = measured.first_load(STREAM);
    let requests = load(measured, &["requests-16", "requests"]);
    let http = load(measured, &["http1-16", "http1", "http"]);
    let one = load(measured, &["requests-1"]);
    let connections = measured.first_load(CONNECTIONS);
    let same_node = first_mode(measured, &["direct-same-node", "direct"]).unwrap_or("direct");
    let culvert = "culvert";
    let mut outcomes = Vec::new();
    let mut at_most = |this: &str, that: &str, load: Option<&str>, figure: &Figure, wanted: f64| {
        outcomes.extend(load.and_then(|load| ratio(measured, this, that, load, figure, wanted)));
    };
    at_most(culvert, PEER, stream, &CPU_GB, 0.55);
    at_most(culvert, PEER, requests, &CPU, 0.30);
    at_most(culvert, PEER, connections, &CPU, 0.22);
    at_most(culvert, PEER, requests, &P99, 0.40);
    at_most(culvert, "sidecar", requests, &CPU, 0.25);
    at_most(culvert, "sidecar-http", http, &CPU, 0.10);
    at_most("culvert-kernel", same_node, one.or(requests), &P50, 1.0);
    outcomes.extend(stream.and_then(|stream| throughput(measured, same_node, stream)));
    outcomes.extend(stream.and_then(|stream| nothing(measured, "culvert-kernel", stream)));
    outcomes.extend(added(measured));
    for (connections, wanted) in [(0, 9.0), (1000, 14.0), (10_000, 60.0)] {
        outcomes.extend(memory(measured, connections, wanted));
    }
    outcomes
}

fn load<'run>(measured: &Measured<'run>, names: &[&str]) -> Option<&'run str> {
    let loads = || measured.loads().map(|load| load.name.as_str());
    names.iter().find_map(|name| loads().find(|load| load == name))
}

fn first_mode<'name>(measured: &Measured<'_>, names: &[&'name str]) -> Option<&'name str> {
    names.iter().copied().find(|name| measured.has(name))
}

fn ratio(measured: &Measured<'_>, this: &str, that: &str, load: &str, figure: &Figure, wanted: f64) -> Option<Outcome> {
    let ratio = measured.ratio(this, that, load, figure)?;
    Some(Outcome {
        what: format!("{load}: {}, {this} by {that}", figure.label),
        wanted,
        reached: ratio.median,
        interval: ratio.interval,
        unit: "",
        met: Met::of_ratio(ratio.median <= wanted, &ratio, wanted),
    })
}

fn throughput(measured: &Measured<'_>, that: &str, stream: &str) -> Option<Outcome> {
    let ratio = measured.ratio("culvert-kernel", that, stream, &GBIT)?;
    Some(Outcome {
        what: format!("{stream}: {}, culvert-kernel by {that}, or more", GBIT.label),
        wanted: 1.0,
        reached: ratio.median,
        interval: ratio.interval,
        unit: "",
        met: Met::of_ratio(ratio.median >= 1.0, &ratio, 1.0),
    })
}

fn nothing(measured: &Measured<'_>, mode: &str, load: &str) -> Option<Outcome> {
    let reached = measured.spread(mode, load, &CPU_GB)?.median;
    Some(Outcome {
        what: format!("{load}: {}, {mode}", CPU_GB.label),
        wanted: 0.0,
        reached,
        interval: None,
        unit: "s per GB",
        // Clocks of processes are read a moment before and after.
        met: Met::of(reached < 0.005),
    })
}

/// What the mesh adds to the time of a request at 1,000 a second.
fn added(measured: &Measured<'_>) -> Option<Outcome> {
    let load = measured.first_load(|kind| kind == Kind::Rate(1000.0))?;
    let p50 = |mode| measured.spread(mode, load, &P50).map(|spread| spread.median);
    let reached = (p50("culvert")? - p50("direct")?) / 1e3;
    Some(Outcome {
        what: format!("{load}: p50, added by culvert to direct"),
        wanted: 0.12,
        reached,
        interval: None,
        unit: "ms",
        met: Met::of(reached <= 0.12),
    })
}

fn memory(measured: &Measured<'_>, connections: u64, wanted: f64) -> Option<Outcome> {
    let reached = measured.memory("culvert", connections)?;
    Some(Outcome {
        what: format!("PSS of the node proxy with {connections} connections"),
        wanted,
        reached,
        interval: None,
        unit: "MB",
        met: Met::of(reached <= wanted),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_that_is_missed_by_less_than_the_spread_is_said_to_be_within_it() {
        let ratio = |median, interval| Ratio {
            median,
            interval,
            rounds: 5,
        };
        let at_most = |ratio: Ratio| Met::of_ratio(ratio.median <= 1.0, &ratio, 1.0);
        assert_eq!(at_most(ratio(0.99, Some((0.9, 1.1)))), Met::Yes);
        assert_eq!(at_most(ratio(1.01, Some((0.9, 1.1)))), Met::WithinSpread);
        assert_eq!(at_most(ratio(1.2, Some((1.1, 1.3)))), Met::No);
        assert_eq!(at_most(ratio(1.01, None)), Met::No);
    }
}
