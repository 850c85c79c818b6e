//! Dashboards and alerts as they are shipped.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

pub(super) fn shipped(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../deploy/dashboards")
        .join(file)
}

/// The shipped alerts, as Prometheus has them without its operator.
pub(super) fn rules() -> Value {
    let text = fs::read_to_string(shipped("alerts.yaml")).unwrap();
    let mut rule: Value = serde_yaml_ng::from_str(&text).unwrap();
    assert_eq!(rule["kind"], "PrometheusRule");
    rule["spec"].take()
}

/// The same without patience: over half a minute, and raised at once.
pub(super) fn impatient_rules() -> Value {
    let mut rules = rules();
    for group in rules["groups"].as_array_mut().unwrap() {
        for rule in group["rules"].as_array_mut().unwrap() {
            let expression = rule["expr"].as_str().unwrap();
            let expression = ["[5m]", "[10m]", "[1h]"]
                .iter()
                .fold(expression.to_owned(), |text, range| text.replace(range, "[30s]"));
            rule["expr"] = expression.into();
            rule.as_object_mut().unwrap().remove("for");
        }
    }
    rules
}

/// Titles and queries of a dashboard's panels, with a value in place of each of Grafana's variables.
pub(super) fn queries(dashboard: &str) -> Vec<(String, String)> {
    let text = fs::read_to_string(shipped(&format!("{dashboard}.json"))).unwrap();
    let page: Value = serde_json::from_str(&text).unwrap();
    let panels = page["panels"].as_array().unwrap();
    let of_panel = |panel: &Value| {
        let title = format!("{dashboard}: {}", panel["title"].as_str().unwrap());
        let targets = panel["targets"].as_array().unwrap().clone();
        let text = |target: &Value| target["expr"].as_str().unwrap().to_owned();
        targets
            .iter()
            .map(|target| (title.clone(), substituted(&text(target))))
            .collect::<Vec<_>>()
    };
    panels.iter().flat_map(of_panel).collect()
}

fn substituted(expression: &str) -> String {
    let done = expression
        .replace("$__rate_interval", "30s")
        .replace("$namespace", ".*")
        .replace("$service", ".*");
    assert!(!done.contains('$'), "a variable that the test does not know: {done}");
    done
}

/// What an expression selects: names of metrics, with the labels that it wants, if any.
pub(super) fn selectors(expression: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut rest = expression;
    let begins = |text: &str| {
        ["culvert_", "istio_", "process_"]
            .iter()
            .filter_map(|prefix| text.find(prefix))
            .min()
    };
    while let Some(start) = begins(rest) {
        let text = &rest[start..];
        let name = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        let name = name.unwrap_or(text.len());
        let labels = text[name..]
            .starts_with('{')
            .then(|| text[name..].find('}').unwrap() + 1);
        let end = name + labels.unwrap_or(0);
        found.insert(text[..end].to_owned());
        rest = &text[end..];
    }
    found
}

/// Names and expressions of the shipped alerts.
pub(super) fn alerts() -> Vec<(String, String)> {
    let groups = rules()["groups"].as_array().unwrap().clone();
    let rules = groups
        .iter()
        .flat_map(|group| group["rules"].as_array().unwrap().clone());
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    rules.map(|rule| (text(&rule["alert"]), text(&rule["expr"]))).collect()
}
