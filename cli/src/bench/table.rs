//! What the samples come to.

use super::{
    measure::{Load, Sample},
    site::Mode,
};
use crate::print::Section;
use serde_json::{Value, json};

/// One figure of a load, as its medians.
struct Row {
    load: &'static str,
    what: &'static str,
    direct: f64,
    mesh: f64,
    decimals: usize,
    /// The spread of each over the rounds is wider than what lies between them.
    is_within_spread: bool,
}

type Figure = (&'static str, fn(&Sample) -> f64, usize);

const OF_COUNTS: &[Figure] = &[
    ("per second", |sample| rate(sample.figures.count, sample), 0),
    ("p50, us", |sample| sample.figures.p50_us as f64, 0),
    ("p99, us", |sample| sample.figures.p99_us as f64, 0),
    (
        "proxies' CPU per 100,000, s",
        |sample| sample.proxies_cpu_seconds * 1e5 / (sample.figures.count as f64).max(1.0),
        2,
    ),
];
const OF_STREAMS: &[Figure] = &[
    ("Gbit/s", |sample| rate(sample.figures.bytes, sample) * 8.0 / 1e9, 2),
    (
        "proxies' CPU per GB, s",
        |sample| sample.proxies_cpu_seconds * 1e9 / (sample.figures.bytes as f64).max(1.0),
        3,
    ),
];

fn rate(count: u64, sample: &Sample) -> f64 {
    count as f64 / sample.figures.seconds.max(1e-9)
}

fn rows(samples: &[Sample]) -> Vec<Row> {
    let mut rows = Vec::new();
    for load in Load::ALL {
        let of = |mode: Mode| {
            samples
                .iter()
                .filter(move |sample| sample.load == load.name && sample.mode == mode.name())
        };
        let figures = if load.name == "stream" { OF_STREAMS } else { OF_COUNTS };
        for (what, figure, decimals) in figures {
            let [direct, mesh] = [Mode::Direct, Mode::Mesh].map(|mode| Spread::of(of(mode).map(figure).collect()));
            let (Some(direct), Some(mesh)) = (direct, mesh) else {
                continue;
            };
            rows.push(Row {
                load: load.name,
                what,
                direct: direct.median,
                mesh: mesh.median,
                decimals: *decimals,
                is_within_spread: direct.least <= mesh.most && mesh.least <= direct.most,
            });
        }
    }
    rows
}

struct Spread {
    least: f64,
    median: f64,
    most: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            1 => *values.get(middle)?,
            _ => f64::midpoint(*values.get(middle.checked_sub(1)?)?, *values.get(middle)?),
        };
        Some(Self {
            least: *values.first()?,
            median,
            most: *values.last()?,
        })
    }
}

/// For people.
pub(super) fn section(samples: &[Sample]) -> Section {
    let cells = |row: Row| {
        let of = |value: f64| format!("{value:.*}", row.decimals);
        let ratio = match row.is_within_spread {
            // One round has no spread, so that equal figures alone get here.
            true => "no difference".to_owned(),
            false if row.direct > 0.0 => format!("{:.2}", row.mesh / row.direct),
            false => "-".to_owned(),
        };
        vec![
            row.load.to_owned(),
            row.what.to_owned(),
            of(row.direct),
            of(row.mesh),
            ratio,
        ]
    };
    Section {
        title: "",
        header: &["LOAD", "FIGURE", "DIRECT", "MESH", "MESH / DIRECT"],
        rows: rows(samples).into_iter().map(cells).collect(),
        when_empty: "nothing was measured\n".to_owned(),
    }
}

/// For programs.
pub(super) fn json(samples: &[Sample]) -> Value {
    let medians: Vec<Value> = rows(samples)
        .iter()
        .map(|row| {
            json!({ "load": row.load, "figure": row.what, "direct": row.direct, "mesh": row.mesh, "no-difference": row.is_within_spread })
        })
        .collect();
    json!({ "medians": medians, "samples": samples })
}

#[cfg(test)]
mod tests {
    use super::{super::measure::Figures, *};

    fn sample(mode: Mode, round: u32, count: u64, p50_us: u64) -> Sample {
        Sample {
            mode: mode.name(),
            load: "requests-1",
            round,
            figures: Figures {
                seconds: 2.0,
                count,
                p50_us,
                ..Figures::default()
            },
            proxies_cpu_seconds: 0.5,
        }
    }

    #[test]
    fn a_figure_whose_spread_is_wider_than_its_difference_shows_none() {
        let rounds = [
            (1, 1000, 100, 800, 100),
            (2, 1010, 104, 790, 102),
            (3, 990, 98, 810, 99),
        ];
        let samples: Vec<_> = rounds
            .into_iter()
            .flat_map(|(round, direct, direct_us, mesh, mesh_us)| {
                [
                    sample(Mode::Direct, round, direct, direct_us),
                    sample(Mode::Mesh, round, mesh, mesh_us),
                ]
            })
            .collect();
        let shown = section(&samples).rows;
        assert_eq!(shown[0], ["requests-1", "per second", "500", "400", "0.80"]);
        assert_eq!(shown[1], ["requests-1", "p50, us", "100", "100", "no difference"]);
        assert_eq!(json(&samples)["medians"][1]["no-difference"], true);
        assert_eq!(json(&samples)["samples"][0]["count"], 1000);
    }

    #[test]
    fn nothing_measured_is_no_table() {
        assert!(section(&[]).rows.is_empty());
    }
}
