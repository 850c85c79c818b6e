//! Figures of both proxies, their ratio, and what is aimed at.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde_json::{Value, json};

/// What is aimed at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Target {
    /// At most this share of Envoy's figure.
    Ratio(f64),
    /// At most this, whatever Envoy has.
    Most(f64),
}

/// One figure of both.
#[derive(Clone, Debug)]
pub(super) struct Finding {
    name: String,
    unit: &'static str,
    culvert: f64,
    envoy: f64,
    /// Median, lowest and highest of the rounds; none where Envoy's figure was 0 in one of them, of which nothing is a share.
    ratio: Option<[f64; 3]>,
    target: Option<Target>,
}

impl Finding {
    /// From the rounds of Culvert and then of Envoy.
    pub(super) fn of_rounds(name: String, unit: &'static str, values: &[Vec<f64>], target: Option<Target>) -> Self {
        let none = Vec::new();
        let [culvert, envoy] = [0, 1].map(|side| values.get(side).unwrap_or(&none));
        let rounds = culvert.iter().zip(envoy);
        let ratios = rounds.map(|(culvert, envoy)| (*envoy > 0.0).then_some(culvert / envoy));
        let ratios: Option<Vec<f64>> = ratios.collect();
        Self {
            name,
            unit,
            culvert: median(culvert.clone()),
            envoy: median(envoy.clone()),
            ratio: ratios.filter(|ratios| !ratios.is_empty()).map(|ratios| {
                let lowest = ratios.iter().copied().fold(f64::INFINITY, f64::min);
                let highest = ratios.iter().copied().fold(0.0, f64::max);
                [median(ratios), lowest, highest]
            }),
            target,
        }
    }

    /// The same with no aim: those are for Envoy's figures.
    pub(super) fn forget_aim(&mut self) {
        self.target = None;
    }

    /// Whether the aim is reached.
    fn is_met(&self) -> Option<bool> {
        Some(match self.target? {
            Target::Ratio(most) => self.ratio?[0] <= most,
            Target::Most(most) => self.culvert <= most,
        })
    }
}

/// One line a figure.
pub(super) fn table(findings: &[Finding], other: &str) -> Table {
    let mut table = Table::new();
    table
        .load_preset(presets::ASCII_MARKDOWN)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(["", "Culvert", other, "ratio", "(lowest, highest)", "aim", "reached"]);
    for finding in findings {
        let (ratio, range) = match finding.ratio {
            Some([ratio, lowest, highest]) => (format!("{ratio:.2}"), format!("{lowest:.2}, {highest:.2}")),
            None => ("-".to_owned(), "-".to_owned()),
        };
        let aim = match finding.target {
            None => String::new(),
            Some(Target::Ratio(most)) => format!("{most:.2} of Envoy's"),
            Some(Target::Most(most)) => format!("{most} {}", finding.unit),
        };
        let reached = match finding.is_met() {
            None => "",
            Some(true) => "yes",
            Some(false) => "NO",
        };
        table.add_row([
            format!("{}, {}", finding.name, finding.unit),
            number(finding.culvert),
            number(finding.envoy),
            ratio,
            range,
            aim,
            reached.to_owned(),
        ]);
    }
    for column in table.column_iter_mut().skip(1).take(3) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// `{"waypoint":{"findings":[...],...}}` in one line.
pub(super) fn json(findings: &[Finding], rounds: u32, seconds: f64) -> serde_json::Result<String> {
    let rounded = |value: f64| (value * 1e3).round() / 1e3;
    let findings: Vec<Value> = findings
        .iter()
        .map(|finding| {
            let target = match finding.target {
                None => Value::Null,
                Some(Target::Ratio(most)) => json!({ "ratio": most }),
                Some(Target::Most(most)) => json!({ "most": most }),
            };
            let mut said = json!({
                "name": finding.name, "unit": finding.unit,
                "culvert": rounded(finding.culvert), "envoy": rounded(finding.envoy),
                "target": target, "met": finding.is_met(),
            });
            if let Some([ratio, lowest, highest]) = finding.ratio.map(|ratio| ratio.map(rounded)) {
                said["ratio"] = json!(ratio);
                said["ratio_lowest"] = json!(lowest);
                said["ratio_highest"] = json!(highest);
            }
            said
        })
        .collect();
    serde_json::to_string(&json!({ "waypoint": { "rounds": rounds, "seconds": seconds, "findings": findings } }))
}

fn number(value: f64) -> String {
    if value >= 1000.0 {
        format!("{value:.0}")
    } else if value >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

fn median(values: Vec<f64>) -> f64 {
    culvert_report::stats::median(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_that_of_rounds_and_decides_whether_the_aim_is_reached() {
        let values = [vec![1.0, 4.0, 2.0], vec![2.0, 4.0, 8.0]];
        let finding = Finding::of_rounds("x".to_owned(), "us", &values, Some(Target::Ratio(0.4)));
        assert_eq!((finding.culvert, finding.envoy), (2.0, 4.0));
        assert_eq!(finding.ratio, Some([0.5, 0.25, 1.0]));
        assert_eq!(finding.is_met(), Some(false));
        let finding = Finding::of_rounds("x".to_owned(), "MB", &values, Some(Target::Most(2.0)));
        assert_eq!(finding.is_met(), Some(true));
    }

    #[test]
    fn nothing_is_a_share_of_what_costs_envoy_nothing() {
        let values = [vec![1.0, 4.0], vec![0.0, 2.0]];
        let finding = Finding::of_rounds("x".to_owned(), "ms", &values, Some(Target::Ratio(0.4)));
        assert_eq!((finding.ratio, finding.is_met()), (None, None));
        let findings = [finding];
        assert!(table(&findings, "Envoy").to_string().contains("| - "));
        assert!(!json(&findings, 2, 1.0).unwrap().contains("ratio_"));
    }
}
