//! The lines of the table, Istio's figures beside ours, and whether a line reaches its aim.

use comfy_table::{ContentArrangement, Table, presets};
use serde_json::{Value, json};

/// Where Istio's figures are from.
pub(super) const ISTIO: &str = "Istio's figures are quoted, not measured here: Istio 1.32 ambient, August 2026, Kubernetes 1.34.4, two nodes on one machine \
     of 2 processors.";

/// A line: what happens, what Istio was measured to do, and what is aimed at.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// Its name in JSON.
    pub(super) key: &'static str,
    pub(super) event: &'static str,
    pub(super) istio: &'static str,
    pub(super) aim: &'static str,
}

macro_rules! rows {
    ($($name:ident: $key:literal, $event:literal, $istio:literal, $aim:literal;)*) => {
        $(pub(super) const $name: Row = Row { key: $key, event: $event, istio: $istio, aim: $aim };)*
        /// All lines, in the order of the table.
        pub(super) const ROWS: &[Row] = &[$($name),*];
    };
}

rows! {
    LABEL_CLEAR: "label_clear",
        "namespace labelled: last new connection in clear, after the command began", "0.26 to 0.43 s", "at most 0.3 s";
    LABEL_LOAD: "label_load",
        "... failed requests / open connections that survive", "0 to 2 of 1,500 / 0 of 5", "0 / all";
    LABEL_REOPENED: "label_reopened",
        "... of 5 connections that open during the switch, still in clear 20 s later", "1 to 2, in each of 9 runs", "0";
    UNLABEL: "unlabel",
        "label removed: failed / open connections that survive", "0 to 4 of 1,250 / 0 of 5", "0 / all";
    ARRIVALS: "new_pods",
        "40 new pods whose first act is a request: failed, bytes in clear, time of that request", "0, 0, median 1.06 s, max 2.06 s",
        "0, 0, median under 0.05 s";
    ROLLING: "rolling_restart",
        "rolling restart of the node proxy: failed / survive", "0 to 1 of 5,000 / 0 of 20", "0 / all";
    KILL_WORKER: "kill_worker",
        "kill -9 of a node's proxy, its worker: failed, stall, survive", "(whole proxy, see below)",
        "0, under 0.2 s, all that do not pass this proxy";
    KILL_PROXY: "kill_proxy",
        "kill -9 of a node's proxy, all of it: failed, stall, survive", "16 to 22 of 2,000, 0.34 to 0.46 s, 0 of 20",
        "0, under 0.2 s, all that do not pass this proxy";
    KILL_AGENT: "kill_agent",
        "agent killed: failed, survive, new pods", "0, 20 of 20", "0, all, new pods too";
    KILL_CONTROLLER: "kill_controller",
        "both controllers killed: failed, survive, new pods", "0, 20 of 20", "0, all, new pods too";
    RESTART_CONTROLLER: "restart_controller",
        "rolling restart of the controller: failed, survive, new pods", "0, 20 of 20", "0, all, new pods too";
    RULES: "rules",
        "packet rules added in each pod / on each node", "36 iptables (or 24 nftables), 2 ip rules / 4", "0 / 0";
    MEMORY: "rss_mb",
        "RSS with 20 pods on the node: proxy, agent, controller, MB", "22, 80, 133", "12, 20, 40";
    IMAGES: "images_mb",
        "images, MB unpacked: controller, agent, proxy", "192, 188, 20", "30, 30, 20";
    LATENCY: "p50_us",
        "p50 at 1,000 requests/s (no mesh in this run)", "0.39 to 0.44 ms (0.22 to 0.25 ms)", "0.30 ms";
}

/// Whether a line reaches its aim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Reached,
    Missed,
    /// The figure says nothing about the aim, and why.
    Unjudged(&'static str),
    /// There is no figure, and why.
    Unmeasured(String),
}

impl Verdict {
    pub(super) fn of(reached: bool) -> Self {
        if reached { Self::Reached } else { Self::Missed }
    }

    /// The same, unless what was measured was not built to be compared.
    pub(super) fn comparable(self, optimized: bool) -> Self {
        if optimized {
            self
        } else {
            Self::Unjudged("dev build: not comparable")
        }
    }

    fn shown(&self) -> String {
        match self {
            Self::Reached => "yes".into(),
            Self::Missed => "NO".into(),
            Self::Unjudged(why) => format!("- ({why})"),
            Self::Unmeasured(_) => "not measured".into(),
        }
    }

    fn json(&self) -> Value {
        match self {
            Self::Reached => json!(true),
            Self::Missed => json!(false),
            Self::Unjudged(_) | Self::Unmeasured(_) => Value::Null,
        }
    }
}

/// What was measured for a line.
#[derive(Debug, Clone)]
pub(super) struct Outcome {
    pub(super) shown: String,
    pub(super) figures: Value,
    pub(super) verdict: Verdict,
}

impl Outcome {
    /// There is no figure.
    pub(super) fn unmeasured(why: String) -> Self {
        Self {
            shown: "-".into(),
            figures: json!({ "error": why }),
            verdict: Verdict::Unmeasured(why),
        }
    }
}

/// The lines that were measured so far.
#[derive(Debug, Default)]
pub(super) struct Results {
    outcomes: Vec<(&'static str, Outcome)>,
}

impl Results {
    pub(super) fn put(&mut self, row: &Row, outcome: Outcome) {
        eprintln!("    {}: {} [{}]", row.event, outcome.shown, outcome.verdict.shown());
        self.outcomes.push((row.key, outcome));
    }

    fn of(&self, row: &Row) -> Option<&Outcome> {
        let found = self.outcomes.iter().find(|(key, _)| *key == row.key);
        found.map(|(_, outcome)| outcome)
    }

    /// The table, for people.
    pub(super) fn table(&self) -> Table {
        let mut table = Table::new();
        table
            .load_preset(presets::ASCII_MARKDOWN)
            .set_content_arrangement(ContentArrangement::Disabled)
            .set_header(["event", "Istio ambient (2026-08)", "Culvert", "aim", "reached"]);
        for row in ROWS {
            if let Some(outcome) = self.of(row) {
                let reached = outcome.verdict.shown();
                table.add_row([row.event, row.istio, &outcome.shown, row.aim, &reached]);
            }
        }
        table
    }

    /// Why lines were not measured.
    pub(super) fn omissions(&self) -> Vec<String> {
        let omitted = |row: &Row| match &self.of(row)?.verdict {
            Verdict::Unmeasured(why) => Some(format!("{}: {why}", row.event)),
            _ => None,
        };
        ROWS.iter().filter_map(omitted).collect()
    }

    /// `{"cluster":{"profile":...,"lines":{"label_clear":{...}}}}`.
    pub(super) fn json(&self, profile: &str) -> Value {
        let line = |row: &Row| {
            let outcome = self.of(row)?;
            let line = json!({
                "event": row.event,
                "istio": row.istio,
                "aim": row.aim,
                "culvert": outcome.shown,
                "reached": outcome.verdict.json(),
                "figures": outcome.figures,
            });
            Some((row.key.to_owned(), line))
        };
        let lines: serde_json::Map<_, _> = ROWS.iter().filter_map(line).collect();
        json!({ "cluster": { "profile": profile, "istio": ISTIO, "lines": lines } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn outcome(verdict: Verdict) -> Outcome {
        Outcome {
            shown: "0.12 s".into(),
            figures: json!({ "seconds": 0.12 }),
            verdict,
        }
    }

    #[test]
    fn every_line_has_a_key_of_its_own() {
        let keys: BTreeSet<_> = ROWS.iter().map(|row| row.key).collect();
        assert_eq!(keys.len(), ROWS.len());
    }

    #[test]
    fn the_table_shows_the_aim_beside_the_figure_whatever_the_order_of_measuring() {
        let mut results = Results::default();
        results.put(&UNLABEL, outcome(Verdict::Missed));
        results.put(&LABEL_CLEAR, outcome(Verdict::Reached));
        let table = results.table().to_string();
        let lines: Vec<_> = table.lines().skip(2).collect();
        assert_eq!(lines.len(), 2, "{table}");
        assert!(
            lines[0].contains("at most 0.3 s") && lines[0].contains("| yes"),
            "{table}"
        );
        assert!(
            lines[1].contains("label removed") && lines[1].contains("| NO"),
            "{table}"
        );
    }

    #[test]
    fn a_development_build_is_neither_praised_nor_blamed() {
        assert_eq!(Verdict::of(true).comparable(true), Verdict::Reached);
        let verdict = Verdict::of(true).comparable(false);
        assert_eq!(verdict.json(), Value::Null);
        assert!(verdict.shown().contains("dev build"));
    }

    #[test]
    fn a_line_that_was_not_measured_says_why() {
        let mut results = Results::default();
        results.put(&ROLLING, Outcome::unmeasured("the rollout did not end".into()));
        let omissions = results.omissions();
        assert_eq!(omissions.len(), 1);
        assert!(omissions[0].ends_with("the rollout did not end"));
        let json = results.json("dev");
        let line = &json["cluster"]["lines"]["rolling_restart"];
        assert_eq!(line["reached"], Value::Null);
        assert_eq!(line["figures"]["error"], "the rollout did not end");
    }
}
