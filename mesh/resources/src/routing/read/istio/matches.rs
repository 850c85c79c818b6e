//! Which requests a rule of a VirtualService is for.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::super::super::model::{Match, Path, Text};
use super::super::notes::Notes;
use super::super::values::{self, Bad, list};
use super::values::StringMatch;

/// The word for the mesh among gateways.
pub(super) const MESH: &str = "mesh";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct MatchSpec {
    uri: Option<StringMatch>,
    #[serde(default)]
    ignore_uri_case: bool,
    scheme: Option<StringMatch>,
    method: Option<StringMatch>,
    authority: Option<StringMatch>,
    #[serde(default)]
    headers: BTreeMap<String, StringMatch>,
    #[serde(default)]
    without_headers: BTreeMap<String, StringMatch>,
    #[serde(default)]
    query_params: BTreeMap<String, StringMatch>,
    port: Option<u16>,
    #[serde(default)]
    source_labels: BTreeMap<String, String>,
    source_namespace: Option<String>,
    #[serde(default, deserialize_with = "list")]
    gateways: Vec<String>,
    #[serde(rename = "name")]
    _name: Option<String>,
    #[serde(rename = "statPrefix")]
    _stat_prefix: Option<String>,
}

/// The matches of a rule at a port, and whether all of them could be read. Where one could not, it is as wide as what could be read of it:
/// its requests must not slip through to other rules. None are left where all are for other ports, gateways or clients that cannot be told.
pub(super) fn matches(values: &[Value], port: u16, field: &str, notes: &mut Notes) -> (Vec<Match>, bool) {
    if values.is_empty() {
        return (vec![Match::any()], true);
    }
    let mut all_good = true;
    let mut found = Vec::new();
    for (index, value) in values.iter().enumerate() {
        match one(value, port) {
            Ok(matched) => found.extend(matched),
            Err(bad) => {
                all_good = false;
                let bad = bad.below(&format!("{field}[{index}]"));
                let message = format!("{}: requests that may be meant are answered with 500", bad.message);
                notes.refuse(bad.field, message);
                found.push(widest(value));
            }
        }
    }
    (found, all_good)
}

fn one(value: &Value, port: u16) -> Result<Option<Match>, Bad> {
    let spec: MatchSpec = values::read(value)?;
    let is_elsewhere = spec.port.is_some_and(|asked| asked != port)
        || !(spec.gateways.is_empty() || spec.gateways.iter().any(|gateway| gateway == MESH));
    // The labels of a client are not in its identity; the table of fields says so.
    if is_elsewhere || !spec.source_labels.is_empty() {
        return Ok(None);
    }
    let mut headers = Vec::new();
    let parts = [
        (":method", "method", &spec.method),
        (":authority", "authority", &spec.authority),
        (":scheme", "scheme", &spec.scheme),
    ];
    for (name, field, asked) in parts {
        if let Some(asked) = asked {
            headers.push((name.to_owned(), asked.text().map_err(|bad| bad.below(field))?));
        }
    }
    headers.extend(named(&spec.headers, "headers")?);
    let query = spec.query_params.iter().map(|(name, value)| {
        let text = value.text().map_err(|bad| bad.below(&format!("queryParams[{name}]")))?;
        match name.as_str() {
            "" => Err(Bad::at("queryParams", "a parameter has a name")),
            name => Ok((name.to_owned(), text)),
        }
    });
    Ok(Some(Match {
        path: spec.uri.as_ref().map_or(Ok(Path::Prefix(String::new())), path)?,
        ignores_case: spec.ignore_uri_case
            && !matches!(&spec.uri, Some(uri) if matches!(uri.text(), Ok(Text::Regex(_)))),
        method: None,
        headers,
        without: named(&spec.without_headers, "withoutHeaders")?,
        query: query.collect::<Result<_, Bad>>()?,
        clients: spec.source_namespace.filter(|name| !name.is_empty()).map(Into::into),
    }))
}

fn path(uri: &StringMatch) -> Result<Path, Bad> {
    let checked =
        |path: String, field: &str| values::path(&path).map_err(|message| Bad::at(format!("uri.{field}"), message));
    match uri.text().map_err(|bad| bad.below("uri"))? {
        Text::Exact(path) => checked(path, "exact").map(Path::Exact),
        Text::Prefix(path) => checked(path, "prefix").map(Path::Plain),
        Text::Regex(regex) => Ok(Path::Regex(regex)),
        Text::Present => Err(Bad::at("uri", "it must have one of exact, prefix and regex")),
    }
}

fn named(asked: &BTreeMap<String, StringMatch>, field: &str) -> Result<Vec<(String, Text)>, Bad> {
    let one = |(name, value): (&String, &StringMatch)| {
        let at = format!("{field}[{name}]");
        let name = match name.as_str() {
            ":authority" | ":method" | ":path" | ":scheme" => name.clone(),
            name => values::header_name(name).map_err(|message| Bad::at(at.as_str(), message))?,
        };
        Ok((name, value.text().map_err(|bad| bad.below(&at))?))
    };
    asked.iter().map(one).collect()
}

/// What can be read of a match that cannot be read as a whole.
fn widest(value: &Value) -> Match {
    let uri = values::read::<StringMatch>(&value["uri"]).ok();
    Match {
        path: uri
            .and_then(|uri| path(&uri).ok())
            .unwrap_or(Path::Prefix(String::new())),
        ..Match::any()
    }
}
