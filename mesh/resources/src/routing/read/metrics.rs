//! What Telemetry objects say of metrics: which are not counted, and with which tags.

use std::collections::BTreeMap;

use culvert_envoy::metrics::METRICS;
use culvert_http::access_log::Expression;
use serde_json::Value;

use super::super::telemetry::MetricOverride;
use super::{notes::Notes, providers::providers};

/// What is counted of connections, which waypoints do not.
const OF_CONNECTIONS: [&str; 4] = [
    "TCP_CLOSED_CONNECTIONS",
    "TCP_OPENED_CONNECTIONS",
    "TCP_RECEIVED_BYTES",
    "TCP_SENT_BYTES",
];

/// An override of an entry.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Override {
    /// Providers of its entry; none for all.
    pub(crate) providers: Vec<String>,
    metrics: Vec<&'static str>,
    disabled: Option<bool>,
    /// An expression for a tag, or nothing for one that is left out.
    tags: Vec<(String, Option<String>)>,
}

/// Reads `metrics` of an object.
pub(crate) fn overrides(spec: &Value, notes: &mut Notes) -> Vec<Override> {
    let mut found = Vec::new();
    for (index, entry) in list(&spec["metrics"]).enumerate() {
        let providers = providers(entry);
        for (number, value) in list(&entry["overrides"]).enumerate() {
            let at = format!("spec.metrics[{index}].overrides[{number}]");
            // A waypoint is the server's.
            if value["match"]["mode"] == "CLIENT" {
                continue;
            }
            found.push(Override {
                providers: providers.clone(),
                metrics: metrics(&at, &value["match"], notes),
                disabled: disabled(&at, &value["disabled"], notes),
                tags: tags(&at, &value["tagOverrides"], notes),
            });
        }
    }
    found
}

/// What holds: each override has the last word of what it has a word for. What changes nothing is left out.
pub(crate) fn merged<'a>(overrides: impl Iterator<Item = &'a Override>) -> BTreeMap<&'static str, MetricOverride> {
    let mut found: BTreeMap<&'static str, MetricOverride> = BTreeMap::new();
    for one in overrides {
        for metric in &one.metrics {
            let metric = found.entry(metric).or_default();
            metric.disabled = one.disabled.unwrap_or(metric.disabled);
            metric.tags.extend(one.tags.iter().cloned());
        }
    }
    found.retain(|_, metric| *metric != MetricOverride::default());
    found
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn metrics(at: &str, matched: &Value, notes: &mut Notes) -> Vec<&'static str> {
    let mut refuse = |field: &str, why: String| notes.refuse(format!("{at}.match.{field}"), why);
    if let Some(custom) = matched["customMetric"].as_str() {
        refuse(
            "customMetric",
            format!("there is no metric {custom:?}: nothing follows from it"),
        );
        return Vec::new();
    }
    let Some(name) = matched["metric"].as_str().filter(|name| *name != "ALL_METRICS") else {
        return METRICS.to_vec();
    };
    match METRICS.iter().find(|known| **known == name) {
        Some(known) => vec![known],
        None if OF_CONNECTIONS.contains(&name) => {
            refuse(
                "metric",
                "waypoints count requests alone: nothing follows from it".to_owned(),
            );
            Vec::new()
        }
        None => {
            refuse(
                "metric",
                format!("there is no metric {name:?}: nothing follows from it"),
            );
            Vec::new()
        }
    }
}

fn disabled(at: &str, value: &Value, notes: &mut Notes) -> Option<bool> {
    if value.as_bool().is_none() && !value.is_null() {
        notes.refuse(
            format!("{at}.disabled"),
            format!("{value} is no boolean: as without it"),
        );
    }
    value.as_bool()
}

fn tags(at: &str, value: &Value, notes: &mut Notes) -> Vec<(String, Option<String>)> {
    let mut found = Vec::new();
    for (name, tag) in value.as_object().into_iter().flatten() {
        let mut refuse = |field: &str, why: String| notes.refuse(format!("{at}.tagOverrides[{name}]{field}"), why);
        let is_name = |name: &str| {
            let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
            name.bytes().all(is_word) && name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit())
        };
        if !is_name(name) {
            refuse("", "is no name of a label: there is no such tag".to_owned());
            continue;
        }
        match (tag["operation"].as_str().unwrap_or("UPSERT"), tag["value"].as_str()) {
            ("REMOVE", _) => found.push((name.clone(), None)),
            ("UPSERT", Some(value)) => match Expression::compile(value) {
                Ok(_) => found.push((name.clone(), Some(value.to_owned()))),
                Err(error) => refuse(".value", format!("{error}: the tag is as without it")),
            },
            ("UPSERT", None) => refuse(".value", "is missing: the tag is as without it".to_owned()),
            (other, _) => refuse(".operation", format!("{other:?} is unknown: the tag is as without it")),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(spec: &Value) -> (Vec<Override>, Vec<String>) {
        let mut notes = Notes::default();
        let found = overrides(spec, &mut notes);
        let fields = notes.all().iter().map(|note| note.field.clone()).collect();
        (found, fields)
    }

    #[test]
    fn the_last_word_of_each_tag_and_metric_holds() {
        let (wide, _) = read(&json!({ "metrics": [{ "overrides": [
            { "tagOverrides": { "source_app": { "operation": "REMOVE" }, "host": { "value": "request.host" } } },
            { "match": { "metric": "REQUEST_SIZE", "mode": "SERVER" }, "disabled": true },
            { "match": { "metric": "REQUEST_COUNT", "mode": "CLIENT" }, "disabled": true },
        ] }] }));
        let (narrow, _) = read(&json!({ "metrics": [{ "overrides": [
            { "match": { "metric": "REQUEST_COUNT" }, "tagOverrides": { "host": { "operation": "REMOVE" } } },
            { "match": { "metric": "REQUEST_SIZE" }, "disabled": false },
        ] }] }));
        let found = merged(wide.iter().chain(&narrow));
        assert_eq!(found.len(), METRICS.len());
        let host = |metric: &str| found[metric].tags["host"].clone();
        assert_eq!(
            (host("REQUEST_COUNT"), host("REQUEST_SIZE")),
            (None, Some("request.host".to_owned()))
        );
        assert!(
            found
                .values()
                .all(|metric| !metric.disabled && metric.tags["source_app"].is_none())
        );
        assert!(merged([].into_iter()).is_empty());
    }

    #[test]
    fn what_cannot_be_served_is_said_by_its_field() {
        let (found, fields) = read(&json!({ "metrics": [{ "overrides": [
            { "match": { "metric": "TCP_SENT_BYTES" }, "disabled": true },
            { "match": { "customMetric": "mine" }, "disabled": true },
            { "tagOverrides": { "a": { "value": "node.metadata" }, "b": { "operation": "UPSERT" }, "1c": { "operation": "REMOVE" } } },
        ] }] }));
        assert_eq!(
            fields,
            [
                "spec.metrics[0].overrides[0].match.metric",
                "spec.metrics[0].overrides[1].match.customMetric",
                "spec.metrics[0].overrides[2].tagOverrides[1c]",
                "spec.metrics[0].overrides[2].tagOverrides[a].value",
                "spec.metrics[0].overrides[2].tagOverrides[b].value",
            ]
        );
        assert!(merged(found.iter()).is_empty());
    }
}
