//! Answers as tables or as JSON.

use crate::{Output, views::Answer};
use anyhow::Result;
use comfy_table::{ContentArrangement, Table, presets};
use std::io::Write;

/// A table with a title.
pub(crate) struct Section {
    pub(crate) title: &'static str,
    pub(crate) header: &'static [&'static str],
    pub(crate) rows: Vec<Vec<String>>,
    /// What to say instead of an empty table.
    pub(crate) when_empty: &'static str,
}

/// Prints to standard output; a reader that goes away early (`| head`) is no error.
pub(crate) fn print(answer: &Answer, output: Output) -> Result<()> {
    let text = match output {
        Output::Json => format!("{}\n", serde_json::to_string_pretty(&answer.json)?),
        Output::Table => answer.sections.iter().map(shown).collect::<Vec<_>>().join("\n"),
    };
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

fn shown(section: &Section) -> String {
    let title = if section.title.is_empty() {
        String::new()
    } else {
        format!("{}\n", section.title)
    };
    if section.rows.is_empty() {
        return format!("{title}{}\n", section.when_empty);
    }
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(section.header.iter().map(|name| name.to_uppercase()))
        .add_rows(&section.rows);
    format!("{title}{}\n", table.trim_fmt())
}
