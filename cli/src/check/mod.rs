//! `culvert check`: is everything as it must be?
//!
//! | file | subject |
//! |---|---|
//! | `preflight` | `--before`: whether a cluster can take Culvert: nodes, versions, permissions, what else is there |
//! | `permissions`, `other_meshes`, `platforms` | its parts: what whoever installs may do; meshes, the cluster's network; where distributions keep things |
//! | `node_local` | `--node-local`: what cannot be seen through the API, on a node itself |
//!
//! Whether an installed mesh is well is `installed`'s. Each gathers facts first and then judges them by pure functions, fact
//! by fact, into lines. A line that is not good has a remedy.

mod node_local;
mod other_meshes;
mod permissions;
mod platforms;
mod preflight;

pub(crate) use preflight::preflight;

use crate::{
    cluster::Cluster,
    foreign::PolicyFlags,
    installed,
    line::{Level, Line},
    print::{Answer, Section},
    survey::Survey,
};
use anyhow::Result;
use clap::Args;

#[derive(Args, Clone, Debug)]
pub(crate) struct Flags {
    /// Whether this cluster can take Culvert, instead of whether Culvert is well on it
    #[arg(long, conflicts_with = "node_local")]
    before: bool,
    /// Whether this machine can be a node: run it there, as root
    #[arg(long, conflicts_with = "ignore_policies")]
    pub(crate) node_local: bool,
    #[command(flatten)]
    policies: PolicyFlags,
}

pub(crate) async fn run(cluster: &Cluster, flags: &Flags) -> Result<Answer> {
    let lines = if flags.before {
        preflight(cluster, flags.policies).await?
    } else {
        installed::judged(&Survey::of(cluster).await?, &cluster.version, flags.policies)
    };
    Ok(answer(&lines))
}

/// What this machine offers.
pub(crate) fn node_local() -> Answer {
    answer(&node_local::judged(&node_local::Facts::of_this_machine()))
}

fn answer(lines: &[Line]) -> Answer {
    let worst = lines.iter().map(|line| line.level).max().unwrap_or(Level::Ok);
    let count = |level| lines.iter().filter(|line| line.level == level).count();
    let summary = format!(
        "{} ok, {} on their way, {} warnings, {} failures",
        count(Level::Ok),
        count(Level::Wait),
        count(Level::Warn),
        count(Level::Fail)
    );
    Answer {
        json: serde_json::json!({ "status": worst, "lines": lines }),
        sections: vec![Section::words(text(lines)), Section::words(summary)],
        is_well: worst < Level::Fail,
    }
}

/// Columns as wide as they must be, and each remedy below what it is for.
fn text(lines: &[Line]) -> String {
    let widest = |part: fn(&Line) -> &str| lines.iter().map(|line| part(line).len()).max().unwrap_or(0);
    let (place, what) = (widest(|line| &line.place), widest(|line| line.what));
    let mut text = String::new();
    for line in lines {
        let head = format!("{:5} {:place$}  {:what$}  ", line.level, line.place, line.what);
        // A finding of several lines stays in its column.
        let indent = " ".repeat(head.chars().count());
        text += &format!(
            "{head}{}\n",
            line.found.trim_end().replace('\n', &format!("\n{indent}"))
        );
        if let Some(remedy) = &line.remedy {
            text += &format!("{indent}remedy: {remedy}\n");
        }
    }
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::{answer, text};
    use crate::line::Line;

    #[test]
    fn every_line_that_is_not_good_shows_its_remedy() {
        let lines = [
            Line::ok("cluster", "version", "v1.34"),
            Line::fail("n", "kernel", "5.4", "update it"),
        ];
        assert_eq!(
            text(&lines),
            "ok    cluster  version  v1.34\nFAIL  n        kernel   5.4\n                        remedy: update it"
        );
        assert!(!answer(&lines).is_well);
        assert!(answer(&lines[..1]).is_well);
        assert_eq!(answer(&lines).json["lines"][1]["level"], "fail");
    }

    #[test]
    fn a_warning_is_no_failure() {
        let answer = answer(&[Line::warn("n", "kernel", "old", "update it")]);
        assert!(answer.is_well);
        assert_eq!(answer.json["status"], "warn");
    }
}
