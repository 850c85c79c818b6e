//! `culvert check`: is everything as it must be?
//!
//! Before installing (`before`: nodes, versions, rights, neighbours), afterwards (`after`: every node and every controller),
//! and on a node itself (`node_local`: what cannot be seen through the API). Each gathers facts first and then judges them by
//! pure functions, fact by fact, into lines. A line that is not good has a remedy.

mod after;
mod before;
mod mesh;
mod neighbours;
mod node_local;
mod rights;

use crate::{
    cluster::Cluster,
    print::{Answer, Section},
    survey::Survey,
};
use anyhow::Result;
use clap::Args;
use serde::Serialize;
use std::fmt;

pub(crate) use before::before;
pub(crate) use mesh::{Membership, membership};

#[derive(Args, Clone, Debug)]
pub(crate) struct Flags {
    /// Whether this cluster can take Culvert, instead of whether Culvert is well on it
    #[arg(long, conflicts_with = "node_local")]
    before: bool,
    /// Whether this machine can be a node: run it there, as root
    #[arg(long)]
    pub(crate) node_local: bool,
}

/// How a line stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    Ok,
    /// Works, but not as well as it could, or may not work.
    Warn,
    /// Does not work.
    Fail,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Line {
    pub(crate) level: Level,
    /// `cluster`, or a node's name.
    pub(crate) place: String,
    /// What was looked at.
    pub(crate) what: &'static str,
    /// What was found.
    pub(crate) found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) remedy: Option<String>,
}

impl Line {
    pub(crate) fn ok(place: &str, what: &'static str, found: impl Into<String>) -> Self {
        Self {
            level: Level::Ok,
            place: place.to_owned(),
            what,
            found: found.into(),
            remedy: None,
        }
    }

    pub(crate) fn warn(place: &str, what: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            level: Level::Warn,
            remedy: Some(remedy.into()),
            ..Self::ok(place, what, found)
        }
    }

    pub(crate) fn fail(place: &str, what: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            level: Level::Fail,
            remedy: Some(remedy.into()),
            ..Self::ok(place, what, found)
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            level,
            place,
            what,
            found,
            remedy,
        } = self;
        write!(f, "{level:5} {place}: {what}: {found}")?;
        match remedy {
            Some(remedy) => write!(f, "\n      remedy: {remedy}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
        })
    }
}

pub(crate) async fn run(cluster: &Cluster, flags: &Flags) -> Result<Answer> {
    let lines = if flags.before {
        before(cluster).await?
    } else {
        after::judged(&Survey::of(cluster).await?, &cluster.version)
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
        "{} ok, {} warnings, {} failures",
        count(Level::Ok),
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
    use super::{Line, answer, text};

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
