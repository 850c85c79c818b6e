//! The shipped alerts, as Prometheus' own tool runs them over series that are made up; and the configuration that the README shows.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use culvert_tests::programs;
use serde_json::{Value, json};

use super::shipped::{alerts, rules, shipped};

const CASES: &str = include_str!("cases.yaml");

/// A folder that goes with its owner.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("culvert-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn promtool(arguments: &[&str], file: &Path) -> String {
    let mut promtool = programs::command("/usr/bin/promtool", "prometheus");
    programs::run(promtool.args(arguments).arg(file))
}

#[test]
fn the_shipped_alerts_are_rules_that_promtool_accepts() {
    let scratch = Scratch::new("rules");
    let said = promtool(&["check", "rules"], &scratch.file("rules.yaml", &rules().to_string()));
    assert!(said.contains(&format!("{} rules found", alerts().len())), "{said}");
}

/// A case as promtool has it.
fn unit_test(case: &Value) -> Value {
    let name = case["alert"].as_str().unwrap();
    let series = case["series"].as_object().unwrap().iter();
    let of = |(series, values): (&String, &Value)| json!({ "series": series, "values": values.as_str().unwrap() });
    json!({
        "interval": "1m",
        "input_series": series.map(of).collect::<Vec<_>>(),
        "promql_expr_test": [{
            "expr": format!(r#"count(ALERTS{{alertname="{name}",alertstate="firing"}}) or vector(0)"#),
            "eval_time": format!("{}m", case["minutes"]),
            "exp_samples": [{ "labels": "{}", "value": case["firing"] }],
        }],
    })
}

#[test]
fn every_alert_is_raised_by_what_it_is_about_and_by_nothing_else() {
    let cases: Vec<Value> = serde_yaml_ng::from_str(CASES).unwrap();
    let is_tried = |name: &str| cases.iter().any(|case| case["alert"] == name);
    for (name, _) in alerts() {
        assert!(is_tried(&name), "{name} is not tried out");
    }
    let scratch = Scratch::new("alerts");
    scratch.file("rules.yaml", &rules().to_string());
    let tests: Vec<Value> = cases.iter().map(unit_test).collect();
    let tests = json!({ "rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": tests });
    let said = promtool(&["test", "rules"], &scratch.file("tests.yaml", &tests.to_string()));
    assert!(said.contains("SUCCESS"), "{said}");
}

/// A container's port as discovery in Kubernetes has it: namespace, pod, port, the Gateway's class.
type Found = (&'static str, &'static str, &'static str, Option<&'static str>);

/// Debian's Prometheus has no discovery in Kubernetes: what it would find is written in its place.
#[test]
fn the_configuration_that_the_readme_shows_finds_every_program_and_nothing_else() {
    let text = fs::read_to_string(shipped("README.md")).unwrap();
    let (_, rest) = text.split_once("```yaml\n").unwrap();
    let (shown, _) = rest.split_once("```").unwrap();
    let mut config: Value = serde_yaml_ng::from_str(shown).unwrap();
    let ports: [Found; 8] = [
        ("culvert-system", "culvert-node-a", "metrics", None),
        ("culvert-system", "culvert-node-a", "agent-metrics", None),
        ("culvert-system", "culvert-node-a", "readiness", None),
        ("culvert-system", "culvert-controller-a", "monitoring", None),
        ("shop", "wp-1", "metrics", Some("culvert-waypoint")),
        ("shop", "wp-1", "hbone", Some("culvert-waypoint")),
        ("shop", "envoy-1", "metrics", Some("culvert-envoy")),
        ("shop", "web-1", "metrics", None),
    ];
    for job in config["scrape_configs"].as_array_mut().unwrap() {
        let discovery = job.as_object_mut().unwrap().remove("kubernetes_sd_configs").unwrap();
        let namespace = discovery[0]["namespaces"]["names"][0].as_str();
        let is_looked_at = |port: &&Found| namespace.is_none_or(|wanted| wanted == port.0);
        job["static_configs"] = ports.iter().filter(is_looked_at).map(as_discovered).collect();
    }
    let scratch = Scratch::new("config");
    scratch.file("culvert.yaml", &rules().to_string());
    let file = scratch.file("prometheus.yaml", &config.to_string());
    let said = promtool(&["check", "config"], &file);
    assert!(said.contains("SUCCESS"), "{said}");
    // In no order of its own.
    let scraped = |job: &str| -> BTreeSet<String> {
        let mut promtool = programs::command("/usr/bin/promtool", "prometheus");
        promtool
            .args(["check", "service-discovery", "--timeout=3s"])
            .arg(&file)
            .arg(job);
        let found: Vec<Value> = serde_json::from_str(&programs::run(&mut promtool)).unwrap();
        let labels = found
            .iter()
            .map(|one| &one["labels"])
            .filter(|labels| labels["job"] == job);
        let text = |labels: &Value, name: &str| labels[name].as_str().unwrap_or("-").to_owned();
        let names = ["__address__", "namespace", "pod", "node", "waypoint"];
        labels
            .map(|labels| names.map(|name| text(labels, name)).join(" "))
            .collect()
    };
    assert_eq!(
        scraped("culvert"),
        set([
            "culvert-node-a-metrics:1 - culvert-node-a node-1 -",
            "culvert-node-a-agent-metrics:1 - culvert-node-a node-1 -",
            "culvert-controller-a-monitoring:1 - culvert-controller-a node-1 -",
        ])
    );
    assert_eq!(
        scraped("culvert-waypoints"),
        set([
            "wp-1-metrics:1 shop wp-1 node-1 wp",
            "envoy-1-metrics:1 shop envoy-1 node-1 wp",
        ])
    );
}

fn set<const N: usize>(lines: [&str; N]) -> BTreeSet<String> {
    lines.map(str::to_owned).into()
}

fn as_discovered((namespace, pod, port, class): &Found) -> Value {
    let mut labels = json!({
        "__meta_kubernetes_namespace": namespace,
        "__meta_kubernetes_pod_name": pod,
        "__meta_kubernetes_pod_node_name": "node-1",
        "__meta_kubernetes_pod_container_port_name": port,
    });
    if let Some(class) = class {
        let label = |name: &str| format!("__meta_kubernetes_pod_label_gateway_networking_k8s_io_gateway_{name}");
        labels[label("class_name")] = json!(class);
        labels[label("name")] = json!("wp");
    }
    json!({ "targets": [format!("{pod}-{port}:1")], "labels": labels })
}
