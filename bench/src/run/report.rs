//! Medians of what the rounds measured, as a table for people and as JSON for programs.

use super::options::Mode;
use crate::load::{Figures, Kind};
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;
use std::collections::BTreeMap;

/// One load of one mode in one round.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    pub(super) kind: Kind,
    pub(super) figures: Figures,
    /// What the mode's proxies spent meanwhile, both ends together, seconds.
    pub(super) cpu_seconds: f64,
    /// Resident memory of the end that holds most, MB.
    pub(super) rss_mb: f64,
}

/// The medians of one mode.
#[derive(Debug, Default, Serialize)]
pub(super) struct Summary {
    gbit_per_s: f64,
    cpu_s_per_gb: f64,
    requests_per_s: f64,
    cpu_s_per_100k_requests: f64,
    p50_us: f64,
    p99_us: f64,
    connections_per_s: f64,
    cpu_s_per_100k_connections: f64,
    rss_mb: f64,
}

impl Summary {
    pub(super) fn of(samples: &[Sample]) -> Self {
        let median_of = |kind: Kind, value: &dyn Fn(&Sample) -> f64| {
            median(samples.iter().filter(|sample| sample.kind == kind).map(value).collect())
        };
        let rate = |sample: &Sample| sample.figures.count as f64 / sample.figures.seconds;
        let cost = |sample: &Sample| sample.cpu_seconds * 1e5 / (sample.figures.count as f64).max(1.0);
        let gb = |sample: &Sample| sample.figures.bytes as f64 / 1e9;
        Self {
            gbit_per_s: median_of(Kind::Stream, &|sample| gb(sample) * 8.0 / sample.figures.seconds),
            cpu_s_per_gb: median_of(Kind::Stream, &|sample| sample.cpu_seconds / gb(sample).max(1e-9)),
            requests_per_s: median_of(Kind::Requests, &rate),
            cpu_s_per_100k_requests: median_of(Kind::Requests, &cost),
            p50_us: median_of(Kind::Requests, &|sample| f64::from(sample.figures.p50_us)),
            p99_us: median_of(Kind::Requests, &|sample| f64::from(sample.figures.p99_us)),
            connections_per_s: median_of(Kind::Connections, &rate),
            cpu_s_per_100k_connections: median_of(Kind::Connections, &cost),
            rss_mb: samples.iter().map(|sample| sample.rss_mb).fold(0.0, f64::max),
        }
        .rounded()
    }

    /// Three decimals are more than the measurement carries.
    fn rounded(mut self) -> Self {
        for value in [
            &mut self.gbit_per_s,
            &mut self.cpu_s_per_gb,
            &mut self.requests_per_s,
            &mut self.cpu_s_per_100k_requests,
            &mut self.p50_us,
            &mut self.p99_us,
            &mut self.connections_per_s,
            &mut self.cpu_s_per_100k_connections,
            &mut self.rss_mb,
        ] {
            *value = (*value * 1e3).round() / 1e3;
        }
        self
    }
}

/// The table, one column a mode.
pub(super) fn table(summaries: &[(Mode, Summary)]) -> Table {
    type Row = (&'static str, fn(&Summary) -> f64, usize);
    let rows: [Row; 9] = [
        ("one stream, Gbit/s", |summary| summary.gbit_per_s, 2),
        ("  proxies' CPU, s per GB", |summary| summary.cpu_s_per_gb, 3),
        ("1 KiB requests/s, 16 connections", |summary| summary.requests_per_s, 0),
        (
            "  proxies' CPU, s per 100,000",
            |summary| summary.cpu_s_per_100k_requests,
            2,
        ),
        ("  p50, us", |summary| summary.p50_us, 0),
        ("  p99, us", |summary| summary.p99_us, 0),
        ("new connections/s", |summary| summary.connections_per_s, 0),
        (
            "  proxies' CPU, s per 100,000",
            |summary| summary.cpu_s_per_100k_connections,
            2,
        ),
        ("RSS of one end's proxy, MB", |summary| summary.rss_mb, 1),
    ];
    let mut table = Table::new();
    table
        .load_preset(presets::ASCII_MARKDOWN)
        .set_content_arrangement(ContentArrangement::Disabled);
    let header = std::iter::once(String::new()).chain(summaries.iter().map(|(mode, _)| mode.name().to_owned()));
    table.set_header(header.collect::<Vec<_>>());
    for (label, value, decimals) in rows {
        let cells = summaries
            .iter()
            .map(|(_, summary)| format!("{:.decimals$}", value(summary)));
        table.add_row(std::iter::once(label.to_owned()).chain(cells).collect::<Vec<_>>());
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// `{"modes":{"direct":{...},...}}` in one line.
pub(super) fn json(summaries: &[(Mode, Summary)]) -> serde_json::Result<String> {
    let modes: BTreeMap<_, _> = summaries.iter().map(|(mode, summary)| (mode.name(), summary)).collect();
    serde_json::to_string(&serde_json::json!({ "modes": modes }))
}

/// The middle one, or between the two in the middle.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.as_slice() {
        [] => 0.0,
        odd if odd.len() % 2 == 1 => odd[middle],
        even => f64::midpoint(even[middle - 1], even[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::{Sample, Summary, median};
    use crate::load::{Figures, Kind};

    #[test]
    fn the_median_is_the_middle_one_or_between_the_two_in_the_middle() {
        assert_eq!(median(vec![]), 0.0);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn rates_and_costs_are_per_unit_of_work() {
        let figures = Figures {
            seconds: 2.0,
            bytes: 5_000_000_000,
            ..Figures::default()
        };
        let stream = Sample {
            kind: Kind::Stream,
            figures,
            cpu_seconds: 1.0,
            rss_mb: 7.0,
        };
        let figures = Figures {
            seconds: 2.0,
            count: 50_000,
            p50_us: 5,
            p99_us: 9,
            ..Figures::default()
        };
        let requests = Sample {
            kind: Kind::Requests,
            figures,
            cpu_seconds: 3.0,
            rss_mb: 8.0,
        };
        let summary = Summary::of(&[stream, requests]);
        assert_eq!((summary.gbit_per_s, summary.cpu_s_per_gb), (20.0, 0.2));
        assert_eq!(
            (summary.requests_per_s, summary.cpu_s_per_100k_requests),
            (25_000.0, 6.0)
        );
        assert_eq!((summary.p50_us, summary.p99_us, summary.rss_mb), (5.0, 9.0, 8.0));
    }
}
