//! What the project wants to reach with 100,000 pods and 1,000 nodes, beside what a run reached. Only what was measured is judged.

use std::fmt;

use culvert_report::stats::exponent;
use serde::Serialize;

use crate::growth::Curves;

/// The sizes that targets speak of.
const SMALLEST: usize = 1_000;
const LARGEST: usize = 100_000;
const NODES: usize = 1_000;

/// A target and what came of it. It is met by that much or less.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Target {
    /// What is measured.
    pub(crate) what: &'static str,
    /// What it should be at most, and what it is, both in the same unit.
    pub(crate) wanted: f64,
    pub(crate) reached: f64,
    /// MB, ms, s; nothing for a factor or an exponent.
    pub(crate) unit: &'static str,
    /// Whether the target is met.
    pub(crate) met: bool,
}

impl Target {
    /// Yes or no, as reports have it.
    pub(crate) fn verdict(&self) -> &'static str {
        if self.met { "yes" } else { "NO" }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (verdict, unit) = (self.verdict(), self.unit);
        write!(
            f,
            "{}: {:.2} {unit} (aim {} {unit}): {verdict}",
            self.what, self.reached, self.wanted
        )
    }
}

/// Of a run with so many nodes.
pub(crate) fn targets(curves: &Curves<'_>, nodes: usize) -> Vec<Target> {
    let at = |size: usize, name: &str| {
        let points = curves.points(name).into_iter();
        points
            .filter(|point| point.0 == size as f64)
            .map(|point| point.1)
            .next()
    };
    let largest = |name: &str| (nodes >= NODES).then(|| at(LARGEST, name)).flatten();
    let growth = || {
        let (small, large) = (at(SMALLEST, "change_cpu_ms")?, at(LARGEST, "change_cpu_ms")?);
        (small > 0.0).then(|| large / small)
    };
    let last = largest("last_node_ms");
    let judged = [
        (
            "controller, 100,000 workloads and 1,000 nodes: memory",
            600.0,
            largest("controller_mb"),
            "MB",
        ),
        (
            "a change at the last of 1,000 nodes, worst of all (issue 12)",
            1000.0,
            last,
            "ms",
        ),
        ("the same (issue 9)", 300.0, last, "ms"),
        (
            "its exponent: no more than linear",
            1.0,
            exponent(&curves.points("last_node_ms")),
            "",
        ),
        (
            "a pod's change, 100,000 workloads: the controller's CPU",
            1.0,
            largest("change_cpu_ms"),
            "ms",
        ),
        ("the same by what it is with 1,000 workloads", 1.5, growth(), ""),
        (
            "1,000 nodes that reconnect at once: until all are answered",
            10.0,
            largest("reconnect_s"),
            "s",
        ),
        (
            "node on demand, 100,000 workloads, by what it holds in an empty cluster",
            1.10,
            largest("proxy_on_demand_ratio"),
            "",
        ),
    ];
    let target = |(what, wanted, reached, unit): (&'static str, f64, Option<f64>, &'static str)| {
        let reached = reached?;
        Some(Target {
            what,
            wanted,
            reached,
            unit,
            met: reached <= wanted,
        })
    };
    judged.into_iter().filter_map(target).collect()
}

#[cfg(test)]
mod tests {
    use super::{Target, targets};
    use crate::growth::Curves;

    fn judged(nodes: usize) -> Vec<(f64, f64, bool)> {
        let of = |last: f64, cpu: f64| serde_json::json!({"last_node_ms": last, "change_cpu_ms": cpu, "controller_mb": 601.0});
        let rounds = serde_json::json!({"1000": of(100.0, 0.5), "100000": of(400.0, 0.8)});
        let curves = Curves::of(rounds.as_object().expect("an object"));
        let judged = targets(&curves, nodes).into_iter();
        judged
            .map(
                |Target {
                     wanted, reached, met, ..
                 }| (wanted, (reached * 1e3).round() / 1e3, met),
            )
            .collect()
    }

    #[test]
    fn a_target_is_met_by_as_much_or_less_and_what_was_not_measured_is_not_judged() {
        assert_eq!(
            judged(1000),
            [
                (600.0, 601.0, false),
                (1000.0, 400.0, true),
                (300.0, 400.0, false),
                (1.0, 0.301, true),
                (1.0, 0.8, true),
                (1.5, 1.6, false),
            ]
        );
        assert_eq!(
            judged(10),
            [(1.0, 0.301, true), (1.5, 1.6, false)],
            "too few nodes say nothing of a thousand"
        );
    }
}
