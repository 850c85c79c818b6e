//! Istio's Telemetry: what objects of several levels say together, the widest first.

use std::collections::BTreeMap;

use serde_json::Value;

use super::super::telemetry::Tag;
use super::{metrics, notes::Notes, providers::providers};

/// Of traced requests, where nothing is said: Istio's, in percent.
const SAMPLING: f64 = 1.0;

/// What an object says, entry by entry.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Level {
    pub(crate) tracing: Vec<TracingEntry>,
    pub(crate) logging: Vec<LoggingEntry>,
    pub(crate) metrics: Vec<metrics::Override>,
}

/// An entry of `tracing`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct TracingEntry {
    pub(crate) providers: Vec<String>,
    pub(crate) disabled: Option<bool>,
    /// In percent.
    pub(crate) sampling: Option<f64>,
    pub(crate) tags: Vec<(String, Tag)>,
}

/// An entry of `accessLogging`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct LoggingEntry {
    pub(crate) providers: Vec<String>,
    pub(crate) disabled: bool,
    pub(crate) filter: Option<String>,
}

/// What holds for traces.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TracingSpec {
    pub(crate) provider: String,
    pub(crate) sampling: f64,
    pub(crate) tags: Vec<(String, Tag)>,
}

/// Reads an object. Entries for clients' side alone are left out: a waypoint is the server's.
pub(crate) fn level(spec: &Value, notes: &mut Notes) -> Level {
    let mut level = Level {
        metrics: metrics::overrides(spec, notes),
        ..Level::default()
    };
    for (at, entry) in entries(spec, "tracing") {
        if is_of_clients(entry) {
            continue;
        }
        level.tracing.push(TracingEntry {
            providers: providers(entry),
            disabled: entry["disableSpanReporting"].as_bool(),
            sampling: sampling(&at, &entry["randomSamplingPercentage"], notes),
            tags: tags(&at, &entry["customTags"], notes),
        });
        if providers(entry).len() > 1 {
            notes.refuse(
                format!("{at}.providers"),
                "the first alone is served: spans go to one receiver",
            );
        }
    }
    for (at, entry) in entries(spec, "accessLogging") {
        if is_of_clients(entry) {
            continue;
        }
        let filter = entry["filter"]["expression"].as_str().map(str::to_owned);
        if filter.is_none() && !entry["filter"].is_null() {
            notes.refuse(
                format!("{at}.filter.expression"),
                "is missing: every request has a line",
            );
        }
        level.logging.push(LoggingEntry {
            providers: providers(entry),
            disabled: entry["disabled"].as_bool().unwrap_or_default(),
            filter,
        });
    }
    level
}

/// What holds for traces: each level says what it has a word for, and the rest is as before. None where nothing is traced.
pub(crate) fn tracing(levels: &[Level], defaults: &[String]) -> Option<TracingSpec> {
    let mut provider = defaults.first();
    let mut sampling = None;
    let mut tags: &[(String, Tag)] = &[];
    let mut disabled = false;
    for entry in levels.iter().flat_map(|level| &level.tracing) {
        provider = entry.providers.first().or(provider);
        sampling = entry.sampling.or(sampling);
        disabled = entry.disabled.unwrap_or(disabled);
        if !entry.tags.is_empty() {
            tags = &entry.tags;
        }
    }
    let provider = provider.filter(|_| !disabled)?;
    Some(TracingSpec {
        provider: provider.clone(),
        sampling: sampling.unwrap_or(SAMPLING),
        tags: tags.to_vec(),
    })
}

/// The providers that have a line for each request, with what must hold for it, as Istio works it out. None where nothing is said.
pub(crate) fn logging(levels: &[Level], defaults: &[String]) -> Option<Vec<(String, Option<String>)>> {
    let mut entries = levels.iter().flat_map(|level| &level.logging).peekable();
    if entries.peek().is_none() && defaults.is_empty() {
        return None;
    }
    let mut scope: Vec<&String> = defaults.iter().collect();
    let mut filters: BTreeMap<&String, &Option<String>> = BTreeMap::new();
    for level in levels {
        let named: Vec<&String> = level.logging.iter().flat_map(|entry| &entry.providers).collect();
        for entry in &level.logging {
            filters.extend(entry.providers.iter().map(|provider| (provider, &entry.filter)));
        }
        if !named.is_empty() {
            scope = named;
        }
    }
    let mut found: BTreeMap<&String, &Option<String>> = BTreeMap::new();
    if entries.peek().is_none() {
        found.extend(defaults.iter().map(|provider| (provider, &None)));
    }
    let mut parents: Vec<&String> = defaults.iter().collect();
    for entry in entries {
        let here: Vec<&String> = match entry.providers.is_empty() {
            true => parents.clone(),
            false => entry.providers.iter().collect(),
        };
        for provider in here.iter().copied().filter(|provider| scope.contains(provider)) {
            if entry.disabled {
                found.remove(provider);
                continue;
            }
            let own = entry.filter.is_some().then_some(&entry.filter);
            found.insert(provider, own.or(filters.get(provider).copied()).unwrap_or(&None));
        }
        parents = here;
    }
    Some(
        found
            .into_iter()
            .map(|(name, filter)| (name.clone(), filter.clone()))
            .collect(),
    )
}

fn entries<'a>(spec: &'a Value, field: &'a str) -> impl Iterator<Item = (String, &'a Value)> {
    let entries = spec[field].as_array().into_iter().flatten().enumerate();
    entries.map(move |(index, entry)| (format!("spec.{field}[{index}]"), entry))
}

fn is_of_clients(entry: &Value) -> bool {
    entry["match"]["mode"] == "CLIENT"
}

fn sampling(at: &str, value: &Value, notes: &mut Notes) -> Option<f64> {
    let percent = value.as_f64();
    let percent = percent.filter(|percent| (0.0..=100.0).contains(percent));
    if percent.is_none() && !value.is_null() {
        notes.refuse(
            format!("{at}.randomSamplingPercentage"),
            format!("{value} is no percentage: as without it"),
        );
    }
    percent
}

fn tags(at: &str, value: &Value, notes: &mut Notes) -> Vec<(String, Tag)> {
    let mut found = Vec::new();
    for (name, tag) in value.as_object().into_iter().flatten() {
        let text = |place: &Value, field: &str| place[field].as_str().unwrap_or_default().to_owned();
        let (literal, header, variable) = (&tag["literal"], &tag["header"], &tag["environment"]);
        let tag = if !literal.is_null() {
            Tag::Literal(text(literal, "value"))
        } else if !header.is_null() {
            Tag::Header(text(header, "name"), text(header, "defaultValue"))
        } else if !variable.is_null() {
            Tag::Environment(text(variable, "name"), text(variable, "defaultValue"))
        } else {
            notes.refuse(
                format!("{at}.customTags[{name}]"),
                "is neither literal, header nor environment: there is no such tag",
            );
            continue;
        };
        let is_empty = match &tag {
            Tag::Literal(value) => value.is_empty(),
            Tag::Header(field, _) => http::HeaderName::try_from(&**field).is_err() && !field.starts_with(':'),
            Tag::Environment(name, _) => name.is_empty(),
        };
        if is_empty {
            notes.refuse(
                format!("{at}.customTags[{name}]"),
                "has no value or name: there is no such tag",
            );
            continue;
        }
        found.push((name.clone(), tag));
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(spec: Value) -> Level {
        let mut notes = Notes::default();
        let level = level(&spec, &mut notes);
        assert!(notes.all().is_empty(), "{notes:?}");
        level
    }

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_narrower_object_replaces_what_it_says_of_traces_and_nothing_else() {
        let wide = read(json!({ "tracing": [{
            "providers": [{ "name": "a" }], "randomSamplingPercentage": 10, "customTags": { "x": { "literal": { "value": "1" } } },
        }] }));
        let narrow = read(json!({ "tracing": [{ "randomSamplingPercentage": 50 }] }));
        let spec = tracing(&[wide.clone(), narrow], &[]).unwrap();
        assert_eq!((&*spec.provider, spec.sampling, spec.tags.len()), ("a", 50.0, 1));
        let off = read(json!({ "tracing": [{ "disableSpanReporting": true }] }));
        assert_eq!(tracing(&[wide.clone(), off.clone()], &[]), None);
        let on = read(json!({ "tracing": [{ "disableSpanReporting": false }] }));
        assert!(tracing(&[wide, off, on], &[]).is_some());
        assert_eq!(tracing(&[Level::default()], &[]), None);
        assert_eq!(tracing(&[], &names(&["mesh"])).unwrap().sampling, SAMPLING);
    }

    #[test]
    fn access_logs_are_those_of_the_narrowest_object_that_names_providers_but_for_what_is_disabled() {
        let one = |filter: Option<&str>| (("a".to_owned()), filter.map(str::to_owned));
        assert_eq!(logging(&[], &[]), None);
        assert_eq!(logging(&[], &names(&["a"])), Some(vec![one(None)]));
        let wide =
            read(json!({ "accessLogging": [{ "providers": [{ "name": "a" }], "filter": { "expression": "x" } }] }));
        assert_eq!(logging(std::slice::from_ref(&wide), &[]), Some(vec![one(Some("x"))]));
        let off = read(json!({ "accessLogging": [{ "providers": [{ "name": "a" }], "disabled": true }] }));
        assert_eq!(logging(&[wide.clone(), off], &[]), Some(Vec::new()));
        let all_off = read(json!({ "accessLogging": [{ "disabled": true }] }));
        assert_eq!(logging(&[wide.clone(), all_off], &[]), Some(Vec::new()));
        let other = read(json!({ "accessLogging": [{ "providers": [{ "name": "b" }] }] }));
        assert_eq!(
            logging(&[wide, other], &names(&["c"])),
            Some(vec![("b".to_owned(), None)])
        );
    }

    #[test]
    fn what_is_for_clients_alone_is_not_a_waypoints() {
        let level = read(json!({
            "tracing": [{ "match": { "mode": "CLIENT" }, "providers": [{ "name": "a" }] }],
            "accessLogging": [{ "match": { "mode": "CLIENT" }, "disabled": true }],
        }));
        assert_eq!(level, Level::default());
    }
}
