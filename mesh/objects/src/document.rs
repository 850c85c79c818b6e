//! One file's text, taken apart into objects.

use std::path::Path;

use serde_yaml_ng::Value;

use crate::finding::Finding;
use crate::kinds::{self, Kind, Object};
use crate::known;
use crate::problem::Problem;
use crate::severity::Severity;

/// Brackets that may be open at a time. Readers allow 128.
const MAX_OPEN: i32 = 4096;

/// What one file holds.
#[derive(Debug, Default)]
pub struct Parsed {
    /// The good documents. A `List` gives one entry for each item.
    pub documents: Vec<Document>,
    /// What is wrong with the others.
    pub faults: Vec<Fault>,
    /// What has to be said of documents that nobody reads, and that spoil nothing.
    pub unread: Vec<Fault>,
}

/// One object and its place in the file.
#[derive(Clone, Debug)]
pub struct Document {
    /// Which document of the file, from 1; empty documents do not count.
    pub number: usize,
    /// Line of the document's start, from 1.
    pub line: usize,
    /// The object: valid, defaults filled in.
    pub object: Object,
}

/// Why a document is no good. Becomes a finding once the file is known.
#[derive(Debug)]
pub struct Fault {
    /// Which document.
    pub number: usize,
    /// Line of the fault, or of the document's start.
    pub line: usize,
    /// `Kind namespace/name`, where it can be told.
    pub object: Option<String>,
    /// Path of the field.
    pub field: Option<String>,
    /// What is wrong.
    pub message: String,
}

impl Fault {
    /// The same, in a file.
    pub fn finding(&self, path: &Path) -> Finding {
        Finding {
            file: path.to_owned(),
            document: self.number,
            line: (self.line > 0).then_some(self.line),
            object: self.object.clone(),
            field: self.field.clone(),
            message: self.message.clone(),
            severity: Severity::Error,
        }
    }
}

/// Takes `text` apart. `json` tells that it is JSON (one or several values in a row), else YAML. Documents of kinds
/// that the mesh does not read are skipped; of those that it should, that is said in [`Parsed::unread`]. Never fails as a whole: what is wrong is in [`Parsed::faults`].
pub fn parse(text: &str, json: bool) -> Parsed {
    let mut parsed = Parsed::default();
    // Editors of other systems put a byte order mark at the start of a file. libyaml takes it for the end of a document.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if json {
        parse_json(text, &mut parsed);
        return parsed;
    }
    let mut number = 0;
    for (start, chunk) in split(text) {
        if is_bottomless(&chunk) {
            number += 1;
            let message = "not valid YAML: nested too deep".to_owned();
            parsed.faults.push(Fault {
                number,
                line: start,
                object: None,
                field: None,
                message,
            });
            continue;
        }
        match serde_yaml_ng::from_str::<Value>(&chunk) {
            Ok(Value::Null) => {}
            Ok(mut value) => {
                number += 1;
                let source = match resolve(&mut value) {
                    Ok(resolved) => (!resolved).then_some(&*chunk),
                    Err(message) => {
                        parsed.faults.push(Fault {
                            number,
                            line: start,
                            object: None,
                            field: None,
                            message: format!("not valid YAML: {message}"),
                        });
                        continue;
                    }
                };
                let place = Place {
                    number,
                    start,
                    source,
                    prefix: String::new(),
                };
                take(&value, &place, &mut parsed);
            }
            Err(error) => {
                number += 1;
                let line = start + error.location().map_or(0, |l| l.line().saturating_sub(1));
                let message = format!("not valid YAML: {error}");
                parsed.faults.push(Fault {
                    number,
                    line,
                    object: None,
                    field: None,
                    message,
                });
            }
        }
    }
    parsed
}

fn parse_json(text: &str, parsed: &mut Parsed) {
    for (index, value) in serde_json::Deserializer::from_str(text)
        .into_iter::<Value>()
        .enumerate()
    {
        let number = index + 1;
        match value {
            Ok(mut value) => {
                // JSON has no merge keys that could be wrong.
                let _ = resolve(&mut value);
                let place = Place {
                    number,
                    start: 1,
                    source: None,
                    prefix: String::new(),
                };
                take(&value, &place, parsed);
            }
            Err(error) => {
                let (line, message) = (error.line(), format!("not valid JSON: {error}"));
                parsed.faults.push(Fault {
                    number,
                    line,
                    object: None,
                    field: None,
                    message,
                });
            }
        }
    }
}

/// Splits at lines that begin with `---`, and yields the line number at which each part begins. YAML 1.2, 9.1.2: such
/// a line ends a document wherever it stands, even inside a block scalar; so that one broken document does not hide
/// the faults of the next.
fn split(text: &str) -> Vec<(usize, String)> {
    let mut parts = vec![(1, String::new())];
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let marker = line
            .strip_prefix("---")
            .filter(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']));
        match (marker, parts.last_mut()) {
            (Some(rest), _) => parts.push((index + 1, rest.to_owned())),
            (None, Some((_, part))) => part.push_str(line),
            (None, None) => {}
        }
    }
    parts
}

/// Whether brackets are opened without end. No reader accepts that, but libyaml's takes a time that grows with the
/// square of the depth to say so. Brackets within texts count too, which does no harm at this depth.
fn is_bottomless(text: &str) -> bool {
    let step = |depth: i32, byte: u8| match byte {
        b'[' | b'{' => depth + 1,
        b']' | b'}' => depth - 1,
        _ => depth,
    };
    let mut depth = 0;
    text.bytes().any(|byte| {
        depth = step(depth, byte);
        depth > MAX_OPEN
    })
}

struct Place<'a> {
    number: usize,
    start: usize,
    /// The document's own text, for line numbers; none for items of a list and for JSON.
    source: Option<&'a str>,
    /// Path of the object within the document: empty, or as `items[3].`.
    prefix: String,
}

fn take(value: &Value, place: &Place<'_>, parsed: &mut Parsed) {
    let text = |key: &str| value.get(key).and_then(Value::as_str);
    let fail = |parsed: &mut Parsed, object: Option<String>, problem: Problem| {
        parsed.faults.push(Fault {
            number: place.number,
            line: problem
                .line
                .map_or(place.start, |line| place.start + line.saturating_sub(1)),
            object,
            field: problem.field.map(|f| format!("{}{f}", place.prefix)),
            message: problem.message,
        });
    };
    let problem = |field: &str, message: &str| Problem {
        line: None,
        field: (!field.is_empty()).then(|| field.to_owned()),
        message: message.to_owned(),
    };
    if !value.is_mapping() {
        return fail(parsed, None, problem("", "not a Kubernetes object"));
    }
    let (Some(api_version), Some(kind)) = (text("apiVersion"), text("kind")) else {
        let missing = if text("kind").is_some() { "apiVersion" } else { "kind" };
        return fail(parsed, None, problem(missing, "missing, or not a text"));
    };
    if kind.ends_with("List") && (value.get("items").is_some() || (api_version, kind) == ("v1", "List")) {
        let items = value.get("items");
        let Some(items) = items.and_then(Value::as_sequence) else {
            if !items.is_none_or(Value::is_null) {
                fail(parsed, Some(kind.to_owned()), problem("items", "not a list"));
            }
            return;
        };
        for (index, item) in items.iter().enumerate() {
            let prefix = format!("{}items[{index}].", place.prefix);
            take(
                &named(item, api_version, kind),
                &Place {
                    source: None,
                    prefix,
                    ..*place
                },
                parsed,
            );
        }
        return;
    }
    let title = title(value, kind);
    match kinds::typed(api_version, kind, value, place.source) {
        None => match known::unread(api_version, kind) {
            Some(message) => parsed.unread.push(Fault {
                number: place.number,
                line: place.start,
                object: title,
                field: Some(format!("{}kind", place.prefix)),
                message,
            }),
            None => tracing::debug!(kind, api_version, "kind is not read"),
        },
        Some(Err(found)) => fail(parsed, title, found),
        Some(Ok(object)) => parsed.documents.push(Document {
            number: place.number,
            line: place.start,
            object,
        }),
    }
}

/// Items of `PodList` and its like may leave out version and kind.
fn named(item: &Value, api_version: &str, list: &str) -> Value {
    let mut item = item.clone();
    // What is wrong with merge keys was found in the document as a whole.
    let _ = resolve(&mut item);
    if let (Some(kind), Value::Mapping(mapping)) = (list.strip_suffix("List").filter(|k| !k.is_empty()), &mut item) {
        for (key, value) in [("apiVersion", api_version), ("kind", kind)] {
            mapping.entry(key.into()).or_insert_with(|| value.into());
        }
    }
    item
}

fn title(value: &Value, kind: &str) -> Option<String> {
    let metadata = value.get("metadata");
    let name = metadata?.get("name")?.as_str()?;
    let namespace = metadata.and_then(|m| m.get("namespace")).and_then(Value::as_str);
    let mut known = Kind::ALL.iter().map(|kind| kind.descriptor());
    let in_namespace = known
        .find(|known| known.name == kind)
        .is_none_or(|known| known.namespaced);
    Some(if in_namespace {
        format!("{kind} {}/{name}", namespace.unwrap_or("default"))
    } else {
        format!("{kind} {name}")
    })
}

/// Makes of a document what others make of it: merge keys (`<<: *base`) are resolved, and a label or annotation without
/// value has an empty one. Whether there was any such thing, so that the text alone does not tell the object.
fn resolve(value: &mut Value) -> Result<bool, String> {
    let before = value.clone();
    value.apply_merge().map_err(|error| error.to_string())?;
    for field in ["labels", "annotations"] {
        let texts = value.get_mut("metadata").and_then(|metadata| metadata.get_mut(field));
        let texts = texts.and_then(Value::as_mapping_mut).into_iter().flatten();
        for (_, text) in texts.filter(|(_, text)| text.is_null()) {
            *text = Value::String(String::new());
        }
    }
    Ok(before != *value)
}

#[cfg(test)]
mod tests;
