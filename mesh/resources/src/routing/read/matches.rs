//! Which requests a rule of an HTTPRoute is for.

use serde::Deserialize;
use serde_json::Value;

use super::super::model::{Match, Path, Text};
use super::notes::Notes;
use super::values::{self, Bad, list};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct MatchSpec {
    path: Option<PathSpec>,
    method: Option<Method>,
    #[serde(default, deserialize_with = "list")]
    headers: Vec<TextSpec>,
    #[serde(default, deserialize_with = "list")]
    query_params: Vec<TextSpec>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PathSpec {
    #[serde(default, rename = "type")]
    kind: PathKind,
    value: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
enum PathKind {
    Exact,
    #[default]
    PathPrefix,
    RegularExpression,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Connect,
    Options,
    Trace,
    Patch,
}

/// A header or a query parameter.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct TextSpec {
    #[serde(default, rename = "type")]
    kind: TextKind,
    pub(super) name: String,
    value: String,
}

/// How a text is compared.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(super) enum TextKind {
    #[default]
    Exact,
    RegularExpression,
}

/// The matches of a rule, which has one at least, and whether all of them could be read. Where one could not, it is as wide as what
/// could be read of it: its requests must not slip through to other rules.
pub(super) fn matches(values: &[Value], field: &str, notes: &mut Notes) -> (Vec<Match>, bool) {
    if values.is_empty() {
        return (vec![Match::any()], true);
    }
    let mut all_good = true;
    let matched = values.iter().enumerate().map(|(index, value)| match one(value) {
        Ok(matched) => matched,
        Err(bad) => {
            all_good = false;
            let bad = bad.below(&format!("{field}[{index}]"));
            let message = format!("{}: requests that may be meant are answered with 500", bad.message);
            notes.refuse(bad.field, message);
            widest(value)
        }
    });
    (matched.collect(), all_good)
}

fn one(value: &Value) -> Result<Match, Bad> {
    let spec: MatchSpec = values::read(value)?;
    Ok(Match {
        path: spec.path.map_or(Ok(Path::Prefix(String::new())), path)?,
        method: spec.method.map(|method| format!("{method:?}").to_ascii_uppercase()),
        headers: headers(spec.headers, "headers")?,
        query: query(spec.query_params)?,
        ..Match::any()
    })
}

/// The match of a policy, which is a rule's without query parameters.
pub(super) fn of_policy(value: &Value) -> Result<Match, Bad> {
    let matched = one(value)?;
    if !matched.query.is_empty() {
        return Err(Bad::at("queryParams", "a policy matches no query parameters"));
    }
    Ok(matched)
}

/// What can be read of a match that cannot be read as a whole.
fn widest(value: &Value) -> Match {
    let path = values::read::<PathSpec>(&value["path"])
        .ok()
        .and_then(|spec| path(spec).ok());
    Match {
        path: path.unwrap_or(Path::Prefix(String::new())),
        ..Match::any()
    }
}

fn path(spec: PathSpec) -> Result<Path, Bad> {
    let value = spec.value.unwrap_or_else(|| "/".to_owned());
    let bad = |message| Bad::at("path.value", message);
    Ok(match spec.kind {
        PathKind::Exact => Path::Exact(values::path(&value).map_err(bad)?),
        PathKind::PathPrefix => Path::Prefix(values::path(&value).map_err(bad)?.trim_end_matches('/').to_owned()),
        PathKind::RegularExpression => Path::Regex(values::regex(&value).map_err(bad)?),
    })
}

/// Of several with one name the first counts.
pub(super) fn headers(specs: Vec<TextSpec>, field: &str) -> Result<Vec<(String, Text)>, Bad> {
    let mut found: Vec<(String, Text)> = Vec::new();
    for (index, spec) in specs.into_iter().enumerate() {
        let bad = |part: &str, message| Bad::at(format!("{field}[{index}].{part}"), message);
        let name = values::header_name(&spec.name).map_err(|message| bad("name", message))?;
        let text = text(spec.kind, spec.value).map_err(|message| bad("value", message))?;
        if !found.iter().any(|(known, _)| *known == name) {
            found.push((name, text));
        }
    }
    Ok(found)
}

fn query(specs: Vec<TextSpec>) -> Result<Vec<(String, Text)>, Bad> {
    let mut found: Vec<(String, Text)> = Vec::new();
    for (index, spec) in specs.into_iter().enumerate() {
        let bad = |message| Bad::at(format!("queryParams[{index}].value"), message);
        let text = text(spec.kind, spec.value).map_err(bad)?;
        if !found.iter().any(|(known, _)| *known == spec.name) {
            found.push((spec.name, text));
        }
    }
    Ok(found)
}

fn text(kind: TextKind, value: String) -> Result<Text, String> {
    match kind {
        TextKind::Exact => Ok(Text::Exact(value)),
        TextKind::RegularExpression => values::regex(&value).map(Text::Regex),
    }
}
