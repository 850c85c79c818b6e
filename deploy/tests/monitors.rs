//! What the Prometheus Operator is told to scrape is there: pods with these labels, and ports of these names.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::collections::BTreeMap;

use culvert_deploy::{
    Document, Values, manifests,
    waypoint::{Overlays, Proxy, Waypoint},
};
use k8s_openapi::{api::core::v1::PodTemplateSpec, apimachinery::pkg::apis::meta::v1::LabelSelector};
use serde::Deserialize as _;
use serde_json::Value;

const MONITORS: &str = include_str!("../dashboards/monitors.yaml");

/// Every workload's pods, by its name, with its namespace.
fn pods() -> Vec<(String, String, PodTemplateSpec)> {
    let waypoint = |class: &str, proxy: Proxy| Waypoint {
        namespace: "shop".to_owned(),
        name: class.to_owned(),
        class: class.to_owned(),
        uid: "1234".to_owned(),
        manager: "culvert-controller".to_owned(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        proxy,
        image: "registry.example/waypoint:1".to_owned(),
        pull_policy: "Never".to_owned(),
        environment: BTreeMap::new(),
        overlays: Overlays::default(),
    };
    let documents = [
        manifests(&Values::default()).unwrap(),
        waypoint("culvert-waypoint", Proxy::Culvert).documents().unwrap(),
        waypoint("culvert-envoy", Proxy::Envoy).documents().unwrap(),
    ];
    let of = |document: &Document| {
        let template = document.value().pointer("/spec/template")?;
        let metadata = &document.value()["metadata"];
        let text = |name: &str| metadata[name].as_str().unwrap().to_owned();
        let template = serde_json::from_value(template.clone()).unwrap();
        Some((text("namespace"), text("name"), template))
    };
    documents.concat().iter().filter_map(of).collect()
}

fn selects(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let are = selector.match_labels.iter().flatten();
    let are_in = selector.match_expressions.iter().flatten();
    are.into_iter().all(|(key, value)| labels.get(key) == Some(value))
        && are_in.into_iter().all(|one| {
            assert_eq!(one.operator, "In");
            let value = labels.get(&one.key);
            value.is_some_and(|value| one.values.iter().flatten().any(|wanted| wanted == value))
        })
}

fn has_port(template: &PodTemplateSpec, name: &str) -> bool {
    let containers = &template.spec.as_ref().unwrap().containers;
    let mut ports = containers.iter().flat_map(|container| container.ports.iter().flatten());
    ports.any(|port| port.name.as_deref() == Some(name))
}

#[test]
fn every_program_is_scraped_by_one_monitor_at_ports_that_it_has() {
    let pods = pods();
    let mut scraped: Vec<&str> = Vec::new();
    for monitor in serde_yaml_ng::Deserializer::from_str(MONITORS) {
        let monitor = Value::deserialize(monitor).unwrap();
        let spec = &monitor["spec"];
        let selector: LabelSelector = serde_json::from_value(spec["selector"].clone()).unwrap();
        let is_anywhere = spec["namespaceSelector"]["any"] == true;
        let selected = pods.iter().filter(|(namespace, _, template)| {
            let labels = template.metadata.as_ref().unwrap().labels.as_ref().unwrap();
            (is_anywhere || monitor["metadata"]["namespace"] == **namespace) && selects(&selector, labels)
        });
        for (_, name, template) in selected {
            scraped.push(name);
            for endpoint in spec["podMetricsEndpoints"].as_array().unwrap() {
                let port = endpoint["port"].as_str().unwrap();
                assert!(has_port(template, port), "{name} has no port {port}");
            }
        }
    }
    scraped.sort_unstable();
    assert_eq!(
        scraped,
        [
            "culvert-controller",
            "culvert-envoy",
            "culvert-node",
            "culvert-waypoint"
        ]
    );
}
