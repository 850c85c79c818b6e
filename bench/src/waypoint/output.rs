//! What is said while it is measured, and what loads print.

use crate::load::{Figures, Line};
use anyhow::{Context, Result};

/// The figures that a load printed.
pub(super) fn ended(log: &str) -> Result<Figures> {
    let lines = log.lines().filter_map(|line| serde_json::from_str(line).ok());
    let ended = lines.into_iter().find_map(|line| match line {
        Line::Ended(figures) => Some(figures),
        Line::Started => None,
    });
    ended.with_context(|| format!("the load printed no figures:\n{log}"))
}

/// For who waits.
pub(super) fn say(text: &str) {
    eprintln!("==> {text}");
}
