//! A rule of a VirtualService that leaves the rest to another one, its delegate: what both match is matched, and what the delegate does not
//! say is as the rule says it.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::super::super::model::Rule;
use super::super::notes::Notes;
use super::super::values::{self, Bad};
use super::destination::Destinations;
use super::http;

/// What a delegate takes from the rule that leads to it, where it says nothing of it.
const INHERITED: [&str; 11] = [
    "rewrite",
    "timeout",
    "retries",
    "fault",
    "mirror",
    "mirrorPercent",
    "mirror_percent",
    "mirrorPercentage",
    "mirrors",
    "corsPolicy",
    "headers",
];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DelegateSpec {
    name: String,
    namespace: Option<String>,
}

/// The rules at a port that one with a delegate becomes. Where that cannot be had, what the rule matches is answered with 500.
pub(super) fn rules(
    name: &str,
    value: &Value,
    port: u16,
    field: &str,
    destinations: &dyn Destinations,
    notes: &mut Notes,
) -> Vec<Rule> {
    let at = format!("{field}.delegate");
    let failed = |notes: &mut Notes| {
        let failing = serde_json::json!({ "match": value["match"], "directResponse": { "status": 500 } });
        http::rules(name, &failing, port, field, destinations, notes)
    };
    let spec = match read(value) {
        Ok(spec) => spec,
        Err(bad) => {
            let bad = bad.below(field);
            notes.refuse(
                bad.field,
                format!("{}: what the rule matches is answered with 500", bad.message),
            );
            return failed(notes);
        }
    };
    let delegate = match destinations.delegate(&spec.name, spec.namespace.as_deref()) {
        Ok(delegate) => delegate,
        Err(why) => {
            notes.unresolved(at, &why, "what the rule matches is answered with 500");
            return failed(notes);
        }
    };
    let mut found = Vec::new();
    for (index, own) in list(&delegate.spec["http"]).iter().enumerate() {
        let place = format!("{at}[{}].http[{index}]", delegate.name);
        if !own.is_object() {
            notes.refuse(place, "is no rule: what the rule matches is answered with 500");
            return failed(notes);
        }
        if !own["delegate"].is_null() {
            let message = "a delegate has no delegates: what the rule matches is answered with 500";
            notes.refuse(format!("{place}.delegate"), message);
            return failed(notes);
        }
        let (matches, conflicts) = matches(value, own);
        for (root, leaf, part) in conflicts {
            notes.refuse(
                format!("{place}.match[{leaf}]"),
                format!(
                    "asks for another {part} than {field}.match[{root}] of {name}: both together are for no request"
                ),
            );
        }
        let Some(matches) = matches else {
            continue;
        };
        let merged = merged(value, own, matches);
        found.extend(http::rules(name, &merged, port, &place, &*delegate.destinations, notes));
    }
    found
}

/// The delegate of a rule, which does nothing itself.
fn read(value: &Value) -> Result<DelegateSpec, Bad> {
    for field in ["route", "redirect", "directResponse"] {
        if !value[field].is_null() {
            return Err(Bad::at(field, "a rule with a delegate leads nowhere itself"));
        }
    }
    values::read(&value["delegate"]).map_err(|bad| bad.below("delegate"))
}

/// A delegate's rule with these matches, and what it takes from the rule that leads to it.
fn merged(root: &Value, own: &Value, matches: Vec<Value>) -> Value {
    let mut merged = own.clone();
    // Where nothing is sent on there is nothing to rewrite.
    let leads_on = !list(&own["route"]).is_empty();
    for field in INHERITED.into_iter().filter(|field| leads_on || *field != "rewrite") {
        if merged[field].is_null() && !root[field].is_null() {
            merged[field] = root[field].clone();
        }
    }
    if matches.is_empty() {
        merged.as_object_mut().map(|fields| fields.remove("match"));
    } else {
        merged["match"] = matches.into();
    }
    if let Some(name) = root["name"].as_str() {
        let both = own["name"].as_str().map(|own| format!("{name}-{own}"));
        merged["name"] = both.unwrap_or_else(|| name.to_owned()).into();
    }
    merged
}

/// What is for no request: a match of the rule, one of its delegate, and what they differ in.
type Conflict = (usize, usize, String);

/// Each match of a rule with each of its delegate, and those of them that are for no request. None where no request is left; empty where all
/// are meant.
fn matches(root: &Value, own: &Value) -> (Option<Vec<Value>>, Vec<Conflict>) {
    let (roots, leaves) = (list(&root["match"]), list(&own["match"]));
    match (roots.is_empty(), leaves.is_empty()) {
        (true, _) => return (Some(leaves.to_vec()), Vec::new()),
        (false, true) => return (Some(roots.to_vec()), Vec::new()),
        (false, false) => {}
    }
    let mut found = Vec::new();
    let mut conflicts = Vec::new();
    for (at, root) in roots.iter().enumerate() {
        for (place, leaf) in leaves.iter().enumerate() {
            match both(root, leaf) {
                Ok(both) => found.push(both),
                Err(part) => conflicts.push((at, place, part)),
            }
        }
    }
    ((!found.is_empty()).then_some(found), conflicts)
}

/// What both match: the delegate's part, which must be within the rule's, and what it does not ask for as the rule asks for it.
///
/// # Errors
/// The part that is not within.
fn both(root: &Value, leaf: &Value) -> Result<Value, String> {
    if root["ignoreUriCase"].as_bool().unwrap_or(false) != leaf["ignoreUriCase"].as_bool().unwrap_or(false) {
        return Err("ignoreUriCase".to_owned());
    }
    let mut merged = leaf.clone();
    if !is_record(leaf) {
        return Ok(merged);
    }
    let none = Map::new();
    for (field, asked) in root.as_object().unwrap_or(&none) {
        let own = &leaf[field.as_str()];
        merged[field.as_str()] = match field.as_str() {
            _ if own.is_null() => asked.clone(),
            "uri" | "scheme" | "method" | "authority" if is_within(asked, own) => own.clone(),
            "headers" | "withoutHeaders" | "queryParams" => texts(field, asked, own)?,
            "sourceLabels" | "name" | "statPrefix" => own.clone(),
            _ if asked == own => own.clone(),
            _ => return Err(field.clone()),
        };
    }
    Ok(merged)
}

/// Whether fields can be set in it. What is something else goes on as it is, and is refused where rules are read.
fn is_record(value: &Value) -> bool {
    value.is_object() || value.is_null()
}

/// Texts by name that both ask for, or that both want to be without.
fn texts(field: &str, root: &Value, leaf: &Value) -> Result<Value, String> {
    let mut merged = leaf.clone();
    if !is_record(leaf) {
        return Ok(merged);
    }
    let none = Map::new();
    for (name, asked) in root.as_object().unwrap_or(&none) {
        match &leaf[name.as_str()] {
            Value::Null => merged[name.as_str()] = asked.clone(),
            // Who wants to be without either is without the wider.
            own if field == "withoutHeaders" && is_within(own, asked) => {}
            own if field == "withoutHeaders" && is_within(asked, own) => merged[name.as_str()] = asked.clone(),
            own if field != "withoutHeaders" && is_within(asked, own) => {}
            _ => return Err(format!("{field}[{name}]")),
        }
    }
    Ok(merged)
}

/// Whether whatever fits `leaf` fits `root`, as far as that can be told without reading expressions.
fn is_within(root: &Value, leaf: &Value) -> bool {
    // A field with nothing said of its value is there.
    let is_any = root.as_object().is_some_and(Map::is_empty);
    if root == leaf || is_any {
        return true;
    }
    let text = |value: &'_ Value, kind: &str| value[kind].as_str().map(str::to_owned);
    let Some(prefix) = text(root, "prefix") else {
        return false;
    };
    let own = text(leaf, "exact").or_else(|| text(leaf, "prefix"));
    own.is_some_and(|own| own.starts_with(&prefix))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}
