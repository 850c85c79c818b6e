//! From figures to lines of the table. Nothing here measures.

use super::table::{Outcome, Verdict};
use culvert_cluster_tests::Report;
use serde_json::{Value, json};

/// How long new connections went in clear, from the moment the command began; none did when there is nothing.
pub(super) fn clear_for(milliseconds: Option<u64>) -> Outcome {
    let shown = milliseconds.map_or("none in clear".into(), seconds);
    Outcome {
        shown,
        figures: json!({ "last_in_clear_ms": milliseconds }),
        verdict: Verdict::of(milliseconds.is_none_or(|time| time <= 300)),
    }
}

/// What became of a load that nothing was to harm.
pub(super) fn unharmed(report: &Report) -> Outcome {
    Outcome {
        shown: format!("{} / {}", failed(report), survived(report)),
        figures: load(report),
        verdict: Verdict::of(is_unharmed(report)),
    }
}

/// The same, with pods that started meanwhile: how many of them, and how many were well.
pub(super) fn unharmed_with_pods(report: &Report, well: usize, pods: usize) -> Outcome {
    let mut figures = load(report);
    figures["new_pods"] = json!(pods);
    figures["new_pods_well"] = json!(well);
    Outcome {
        shown: format!("{}, {}, {well} of {pods}", failed(report), survived(report)),
        figures,
        verdict: Verdict::of(is_unharmed(report) && well == pods && pods > 0),
    }
}

/// Connections that were opened during the switch, those of them that are in clear long after, and those of these that were
/// opened when the namespace should have joined. The others were there before, and nobody breaks them.
pub(super) fn reopened(opened: usize, in_clear: usize, late: usize) -> Outcome {
    let before = in_clear - late;
    Outcome {
        shown: match before {
            0 => format!("{late} of {opened}"),
            _ => format!("{late} of {opened} ({before} more opened before the pod was in, and live on as they are)"),
        },
        figures: json!({ "opened": opened, "in_clear": in_clear, "opened_late_in_clear": late }),
        verdict: Verdict::of(late == 0),
    }
}

/// A proxy was killed: what passed it, and what did not.
pub(super) fn killed(passing: &Report, elsewhere: &Report) -> Outcome {
    let failures = passing.failures + elsewhere.failures;
    let attempts = passing.attempts + elsewhere.attempts;
    let shown = format!(
        "{failures} of {}, {}, {} that do not pass it (and {} that do)",
        thousands(attempts),
        seconds(passing.slowest_ms),
        survived(elsewhere),
        survived(passing),
    );
    Outcome {
        shown,
        figures: json!({ "passing": load(passing), "elsewhere": load(elsewhere), "stall_ms": passing.slowest_ms }),
        verdict: Verdict::of(failures == 0 && passing.slowest_ms < 200 && is_unharmed(elsewhere)),
    }
}

/// The first requests of pods: how many failed, what of them was in clear, and how long they took.
pub(super) fn arrivals(times: &[u64], failures: usize, clear_bytes: u64, without_mesh: &[u64]) -> Outcome {
    let [median, slowest] = middle_and_end(times);
    let [median_direct, slowest_direct] = middle_and_end(without_mesh);
    let of_second = |micros: u64| format!("{:.3} s", micros as f64 / 1e6);
    let shown = format!(
        "{failures}, {clear_bytes}, median {}, max {} (no mesh: {}, {})",
        of_second(median),
        of_second(slowest),
        of_second(median_direct),
        of_second(slowest_direct)
    );
    let figures = json!({
        "pods": times.len() + failures,
        "failed": failures,
        "clear_bytes": clear_bytes,
        "median_us": median,
        "max_us": slowest,
        "no_mesh_median_us": median_direct,
        "no_mesh_max_us": slowest_direct,
    });
    Outcome {
        shown,
        figures,
        verdict: Verdict::of(failures == 0 && clear_bytes == 0 && median < 50_000 && !times.is_empty()),
    }
}

/// Rules that are there beyond those that were: netfilter and routing, in the pod that has most, and on the nodes.
pub(super) fn rules(pods: [i64; 2], nodes: [i64; 2]) -> Outcome {
    let shown = |[netfilter, routing]: [i64; 2]| match routing {
        0 => netfilter.to_string(),
        routing => format!("{netfilter} and {routing} ip rules"),
    };
    Outcome {
        shown: format!("{} / {}", shown(pods), shown(nodes)),
        figures: json!({
            "pod": { "netfilter": pods[0], "ip_rules": pods[1] },
            "nodes": { "netfilter": nodes[0], "ip_rules": nodes[1] },
        }),
        verdict: Verdict::of(pods == [0, 0] && nodes == [0, 0]),
    }
}

/// Megabytes of three things, with what each may be.
pub(super) fn megabytes(of: [(&str, f64, f64); 3], digits: usize) -> Outcome {
    let figures = of
        .iter()
        .map(|(name, size, _)| ((*name).to_owned(), json!(rounded(*size))));
    Outcome {
        shown: of.map(|(_, size, _)| format!("{size:.digits$}")).join(", "),
        figures: Value::Object(figures.collect()),
        verdict: Verdict::of(of.iter().all(|(_, size, most)| size <= most)),
    }
}

/// Latency through the mesh and without.
pub(super) fn latency(mesh: &Report, direct: &Report) -> Option<Outcome> {
    let (median, median_direct) = (mesh.ping_p50_us?, direct.ping_p50_us?);
    let of_ms = |micros: u64| format!("{:.2} ms", micros as f64 / 1e3);
    let figures = json!({
        "culvert": { "p50_us": median, "p99_us": mesh.ping_p99_us, "requests": mesh.pings },
        "no_mesh": { "p50_us": median_direct, "p99_us": direct.ping_p99_us, "requests": direct.pings },
    });
    Some(Outcome {
        shown: format!("{} ({})", of_ms(median), of_ms(median_direct)),
        figures,
        verdict: Verdict::of(median <= 300),
    })
}

fn is_unharmed(report: &Report) -> bool {
    report.attempts > 0 && report.failures == 0 && report.open_broken == 0 && report.open_survived > 0
}

fn load(report: &Report) -> Value {
    json!({
        "attempts": report.attempts,
        "failed": report.failures,
        "slowest_ms": report.slowest_ms,
        "open_survived": report.open_survived,
        "open_broken": report.open_broken,
        "slowest_answer_ms": report.slowest_ping_ms,
        "first_errors": report.errors.iter().take(3).collect::<Vec<_>>(),
    })
}

fn failed(report: &Report) -> String {
    format!("{} of {}", report.failures, thousands(report.attempts))
}

fn survived(report: &Report) -> String {
    let open = report.open_survived + report.open_broken;
    format!("{} of {open}", report.open_survived)
}

fn seconds(milliseconds: u64) -> String {
    format!("{:.2} s", milliseconds as f64 / 1e3)
}

fn rounded(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

fn thousands(number: u64) -> String {
    match number {
        0..1000 => number.to_string(),
        _ => format!("{},{:03}", number / 1000, number % 1000),
    }
}

/// The median and the largest; zeros when there is none.
fn middle_and_end(times: &[u64]) -> [u64; 2] {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let at = |index: usize| sorted.get(index).copied().unwrap_or(0);
    [at(sorted.len() / 2), at(sorted.len().saturating_sub(1))]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(failures: u64, broken: u64) -> Report {
        Report {
            attempts: 1500,
            failures,
            slowest_ms: 40,
            slowest_at_ms: 0,
            open_survived: 20 - broken,
            open_broken: broken,
            slowest_ping_ms: 3,
            pings: 1000,
            ping_p50_us: Some(290),
            ping_p99_us: Some(800),
            errors: Vec::new(),
        }
    }

    #[test]
    fn one_failed_request_or_one_broken_connection_misses_the_aim() {
        assert_eq!(unharmed(&report(0, 0)).verdict, Verdict::Reached);
        assert_eq!(unharmed(&report(0, 0)).shown, "0 of 1,500 / 20 of 20");
        assert_eq!(unharmed(&report(1, 0)).verdict, Verdict::Missed);
        assert_eq!(unharmed(&report(0, 1)).shown, "0 of 1,500 / 19 of 20");
        assert_eq!(unharmed(&report(0, 1)).verdict, Verdict::Missed);
        let nothing_open = Report {
            open_survived: 0,
            ..report(0, 0)
        };
        assert_eq!(unharmed(&nothing_open).verdict, Verdict::Missed);
    }

    #[test]
    fn new_pods_count_among_what_is_not_to_be_harmed() {
        assert_eq!(unharmed_with_pods(&report(0, 0), 3, 3).verdict, Verdict::Reached);
        assert_eq!(unharmed_with_pods(&report(0, 0), 2, 3).verdict, Verdict::Missed);
    }

    #[test]
    fn connections_through_a_killed_proxy_may_break_and_no_others() {
        assert_eq!(killed(&report(0, 20), &report(0, 0)).verdict, Verdict::Reached);
        assert_eq!(killed(&report(0, 20), &report(0, 1)).verdict, Verdict::Missed);
        assert_eq!(killed(&report(2, 20), &report(0, 0)).verdict, Verdict::Missed);
        let stalled = Report {
            slowest_ms: 200,
            ..report(0, 20)
        };
        assert_eq!(killed(&stalled, &report(0, 0)).verdict, Verdict::Missed);
    }

    #[test]
    fn the_time_in_clear_is_judged_to_the_millisecond() {
        assert_eq!(clear_for(Some(300)).verdict, Verdict::Reached);
        assert_eq!(clear_for(Some(301)).verdict, Verdict::Missed);
        assert_eq!(clear_for(None).verdict, Verdict::Reached);
    }

    #[test]
    fn first_requests_are_judged_by_their_median_and_by_what_was_in_clear() {
        let times = [10_000, 20_000, 900_000];
        let outcome = arrivals(&times, 0, 0, &[9_000]);
        assert_eq!(outcome.verdict, Verdict::Reached);
        assert_eq!(
            outcome.shown,
            "0, 0, median 0.020 s, max 0.900 s (no mesh: 0.009 s, 0.009 s)"
        );
        assert_eq!(arrivals(&times, 1, 0, &[]).verdict, Verdict::Missed);
        assert_eq!(arrivals(&times, 0, 1, &[]).verdict, Verdict::Missed);
        assert_eq!(arrivals(&[], 0, 0, &[]).verdict, Verdict::Missed);
    }

    #[test]
    fn each_size_has_a_limit_of_its_own() {
        let sizes = |agent| [("proxy", 12.0, 12.0), ("agent", agent, 20.0), ("controller", 1.0, 40.0)];
        assert_eq!(megabytes(sizes(20.0), 0).verdict, Verdict::Reached);
        assert_eq!(megabytes(sizes(20.1), 1).verdict, Verdict::Missed);
        assert_eq!(megabytes(sizes(20.1), 1).shown, "12.0, 20.1, 1.0");
    }

    #[test]
    fn a_rule_that_came_is_a_rule_too_many_and_one_that_went_as_well() {
        assert_eq!(rules([0, 0], [0, 0]).verdict, Verdict::Reached);
        assert_eq!(rules([0, 0], [-1, 0]).verdict, Verdict::Missed);
        assert_eq!(rules([0, 2], [4, 0]).shown, "0 and 2 ip rules / 4");
    }

    #[test]
    fn latency_is_judged_in_the_mesh_only() {
        let outcome = latency(&report(0, 0), &report(0, 0)).unwrap();
        assert_eq!(outcome.verdict, Verdict::Reached);
        assert_eq!(outcome.shown, "0.29 ms (0.29 ms)");
    }
}
