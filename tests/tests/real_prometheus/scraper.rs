//! Prometheus in the control plane's namespace, and what it is asked.

use std::{net::SocketAddr, time::Duration};

use culvert_lab::{Lab, Process, wait_until};
use culvert_tests::{PATIENCE, programs};
use serde_json::{Value, json};

use super::shipped::impatient_rules;

/// Where Prometheus answers, in the control plane's namespace.
const PROMETHEUS: &str = "127.0.0.1:9090";

/// The scraper.
pub(super) struct Prometheus<'lab> {
    lab: &'lab Lab,
    process: Process,
}

impl<'lab> Prometheus<'lab> {
    /// Starts it with the programs of all nodes and the controller as targets, and these beside them, each a job of its own.
    pub(super) fn start(lab: &'lab Lab, more: &[(&str, SocketAddr)]) -> Self {
        let folder = programs::folder(lab, "prometheus");
        let nodes = |port: u16| lab.nodes().each_ref().map(|node| format!("{}:{port}", node.ip4()));
        let job =
            |name: &str, targets: &[String]| json!({ "job_name": name, "static_configs": [{ "targets": targets }] });
        let mut jobs = vec![
            job("ztunnel", &nodes(15020)),
            job("agent", &nodes(15022)),
            job("controller", &["127.0.0.1:15014".to_owned()]),
        ];
        jobs.extend(more.iter().map(|(name, target)| job(name, &[target.to_string()])));
        let config = json!({
            "global": { "scrape_interval": "1s", "evaluation_interval": "1s" },
            "rule_files": [folder.join("rules.yaml")],
            "scrape_configs": jobs,
        });
        // JSON is YAML.
        programs::file(&folder, "rules.yaml", impatient_rules().to_string().as_bytes());
        let config = programs::file(&folder, "prometheus.yaml", config.to_string().as_bytes());
        let mut command = programs::unprivileged("/usr/bin/prometheus", "prometheus");
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address={PROMETHEUS}"));
        let process = lab.spawn_control("prometheus", &mut command).unwrap();
        Self { lab, process }
    }

    /// What it answers on a page of its API.
    pub(super) fn ask(&self, page: &str) -> Result<Value, String> {
        let address: SocketAddr = PROMETHEUS.parse().unwrap();
        let get = || culvert_lab::get(address, &format!("/api/v1/{page}"), Duration::from_secs(10));
        let answer = self.lab.control().run(get).unwrap();
        let answer = answer.map_err(|error| format!("{error:#}"))?;
        let mut body: Value =
            serde_json::from_str(&answer.body).map_err(|error| format!("{error}: {}", answer.body))?;
        match body["status"].as_str() {
            Some("success") => Ok(body["data"].take()),
            _ => Err(body["error"].to_string()),
        }
    }

    /// The values that a query has now, each with its labels.
    pub(super) fn query(&self, expression: &str) -> Result<Vec<Value>, String> {
        let data = self.ask(&format!("query?query={}", percent_encoded(expression)))?;
        Ok(data["result"].as_array().cloned().unwrap_or_default())
    }

    /// Waits until something is so; `look` says what is missing otherwise.
    pub(super) fn wait(&mut self, what: &str, mut look: impl FnMut(&Self) -> Result<(), String>) {
        let mut last = String::new();
        let waited = wait_until(what, PATIENCE, || {
            assert!(
                self.process.is_running(),
                "Prometheus ended:\n{}",
                self.process.log_tail(30)
            );
            look(self).inspect_err(|why| last.clone_from(why)).is_ok()
        });
        waited.unwrap_or_else(|error| panic!("{error:#}: {last}\n{}", self.process.log_tail(10)));
    }
}

fn percent_encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(encode).collect()
}

/// A query returns numbers, at least one.
pub(super) fn has_data(prometheus: &Prometheus<'_>, expression: &str) -> Result<(), String> {
    let found = prometheus.query(expression)?;
    let is_number = |one: &Value| {
        one["value"][1]
            .as_str()
            .and_then(|v| v.parse::<f64>().ok())
            .is_some_and(f64::is_finite)
    };
    match !found.is_empty() && found.iter().all(is_number) {
        true => Ok(()),
        false => Err(format!("{expression}: {found:?}")),
    }
}
