//! Answers as tables, JSON or YAML, on standard output.

use anyhow::Result;
use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::Value;
use std::io::Write;

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people
    Table,
    /// For programs
    Json,
    /// For programs, and for `kubectl apply`
    Yaml,
}

/// What is printed.
#[derive(Debug)]
pub(crate) struct Answer {
    /// For programs.
    pub(crate) json: Value,
    /// For people.
    pub(crate) sections: Vec<Section>,
    /// Whether nothing is wrong: the exit code.
    pub(crate) is_well: bool,
}

/// A table with a title.
#[derive(Debug)]
pub(crate) struct Section {
    pub(crate) title: &'static str,
    pub(crate) header: &'static [&'static str],
    pub(crate) rows: Vec<Vec<String>>,
    /// What to say instead of an empty table.
    pub(crate) when_empty: String,
}

impl Section {
    /// Words instead of a table.
    pub(crate) fn words(text: impl Into<String>) -> Self {
        Self {
            title: "",
            header: &[],
            rows: Vec::new(),
            when_empty: text.into(),
        }
    }
}

/// Prints to standard output.
pub(crate) fn print(answer: &Answer, output: Output) -> Result<()> {
    let text = match output {
        Output::Json => format!("{}\n", serde_json::to_string_pretty(&answer.json)?),
        Output::Yaml => yaml(&answer.json)?,
        Output::Table => answer.sections.iter().map(shown).collect::<Vec<_>>().join("\n"),
    };
    raw(text.as_bytes())
}

/// A `v1/List` becomes one document for each item, as files of manifests are; anything else becomes one document.
fn yaml(value: &Value) -> Result<String> {
    let is_list = value["kind"] == "List" && value["apiVersion"] == "v1";
    let Some(items) = value["items"].as_array().filter(|_| is_list) else {
        return Ok(serde_yaml_ng::to_string(value)?);
    };
    let documents: Result<Vec<String>, _> = items.iter().map(serde_yaml_ng::to_string).collect();
    Ok(documents?.join("---\n"))
}

/// Prints bytes; a reader that goes away early (`| head`) is no error.
pub(crate) fn raw(bytes: &[u8]) -> Result<()> {
    match std::io::stdout().lock().write_all(bytes) {
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

#[cfg(test)]
mod tests {
    use super::yaml;
    use serde_json::json;

    #[test]
    fn a_list_of_manifests_is_printed_as_documents_that_kubectl_takes() {
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": [{ "kind": "A" }, { "kind": "B" }] });
        assert_eq!(yaml(&list).unwrap(), "kind: A\n---\nkind: B\n");
        assert_eq!(yaml(&json!({ "a": 1 })).unwrap(), "a: 1\n");
    }
}
