//! `culvert routes`: which rules hold at a Service, in the order in which its waypoint asks them.
//!
//! A controller says them (its page `/rules`), or the same code says what files would come to.

use crate::{
    cluster::Cluster,
    controller, files,
    local::servers::Servers,
    print::{Answer, Section},
};
use anyhow::{Context, Result, bail};
use clap::Args;
use culvert_objects::{ObjectName, Severity};
use culvert_resources::{files::World, model::Settings};
use serde_json::{Value, json};
use std::path::PathBuf;

/// The controller's page.
const RULES: &str = "/rules";
const HEADER: &[&str] = &[
    "#", "host", "clients", "matches", "filters", "goes to", "timeout", "retries", "rule",
];

const POLICIES: &[&str] = &["policy", "for", "what holds"];

/// Whose rules.
#[derive(Args, Clone, Debug)]
pub(crate) struct RoutesFlags {
    /// The Service
    #[arg(value_name = "NAMESPACE/SERVICE")]
    pub(crate) service: String,
    /// This port alone [default: all of them]
    #[arg(long, value_name = "N")]
    pub(crate) port: Option<u16>,
    /// What holds for clients of this namespace alone [default: for all, each rule with whom it is for]
    #[arg(long, value_name = "NAMESPACE")]
    pub(crate) from: Option<String>,
    /// A file or folder of manifests to look at in the place of a cluster; `-` is standard input. May be given several times
    #[arg(long = "filename", short = 'f', value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
}

impl RoutesFlags {
    fn name(&self) -> Result<ObjectName> {
        let Some((namespace, name)) = self.service.split_once('/') else {
            bail!("{:?} is no name of a Service: NAMESPACE/SERVICE", self.service);
        };
        Ok(ObjectName::new(namespace, name))
    }

    fn question(&self) -> Result<String> {
        Ok(json!({ "service": self.name()?.to_string() }).to_string())
    }
}

/// What a controller of the cluster says.
pub(crate) async fn of_cluster(cluster: &Cluster, flags: &RoutesFlags) -> Result<Answer> {
    let said = controller::ask(cluster, RULES, &flags.question()?).await?;
    shown(flags, read(&said)?)
}

/// What the controller of this machine says.
pub(crate) fn of_this_machine(servers: &Servers, flags: &RoutesFlags) -> Result<Answer> {
    let said = servers.controller().post(RULES, &flags.question()?)?;
    shown(flags, read(&said)?)
}

/// What files come to.
pub(crate) fn of_files(flags: &RoutesFlags) -> Result<Answer> {
    let read = culvert_resources::files::read(&files::read(&flags.files)?);
    let faults = read
        .findings
        .iter()
        .filter(|finding| finding.severity == Severity::Error);
    let faults: Vec<String> = faults.map(ToString::to_string).collect();
    if !faults.is_empty() {
        bail!("{}", faults.join("\n"));
    }
    for finding in &read.findings {
        eprintln!("culvert: {finding}");
    }
    let rules = World::of_files(&read).model(Settings::default()).rules(&flags.name()?);
    shown(flags, serde_json::to_value(rules)?)
}

fn read(said: &str) -> Result<Value> {
    serde_json::from_str(said).context("the controller answered what is not understood here")
}

fn shown(flags: &RoutesFlags, mut rules: Value) -> Result<Answer> {
    if rules.is_null() {
        bail!("there is no Service {}", flags.service);
    }
    narrow(&mut rules, flags);
    let mut sections = vec![Section::words(heading(&rules))];
    let ports = rules["ports"].as_array().cloned().unwrap_or_default();
    if let (Some(port), true) = (flags.port, ports.is_empty()) {
        bail!("Service {} has no port {port}", flags.service);
    }
    for port in &ports {
        sections.push(Section::words(format!(
            "Port {}, {}",
            port["port"],
            port["protocol"].as_str().unwrap_or_default()
        )));
        sections.push(Section {
            title: "",
            header: HEADER,
            rows: rows(port),
            when_empty: "no rule is for these clients".to_owned(),
        });
        let policies = policies(port);
        if !policies.is_empty() {
            sections.push(Section {
                title: "",
                header: POLICIES,
                rows: policies,
                when_empty: String::new(),
            });
        }
    }
    Ok(Answer {
        is_well: rules["not_in_force"].is_null(),
        json: rules,
        sections,
    })
}

/// Leaves the ports and rules that are asked for.
fn narrow(rules: &mut Value, flags: &RoutesFlags) {
    let Some(ports) = rules["ports"].as_array_mut() else {
        return;
    };
    ports.retain(|port| flags.port.is_none_or(|wanted| port["port"] == wanted));
    let Some(from) = flags.from.as_deref() else {
        return;
    };
    let hosts = ports.iter_mut().filter_map(|port| port["hosts"].as_array_mut());
    for host in hosts.flatten() {
        let Some(rules) = host["rules"].as_array_mut() else {
            continue;
        };
        // Clients with rules of their own get no others.
        let has_own = rules.iter().any(|rule| rule["clients"] == from);
        rules.retain(|rule| {
            if has_own {
                rule["clients"] == from
            } else {
                rule["clients"].is_null()
            }
        });
    }
}

fn heading(rules: &Value) -> String {
    let text = |field: &str| rules[field].as_str();
    let service = text("service").unwrap_or_default();
    match (text("not_in_force"), text("waypoint")) {
        (Some(why), _) => format!("Service {service}: {why}. What follows is what would hold"),
        (None, waypoint) => {
            let canary = &rules["canary"];
            let beside = canary["waypoint"].as_str().map(|name| {
                let weight = canary["weight"].as_u64().unwrap_or_default();
                format!(", and {name}, its canary, gets {weight} of 100 connections")
            });
            format!(
                "Service {service} is behind the waypoint {}{}",
                waypoint.unwrap_or("-"),
                beside.unwrap_or_default()
            )
        }
    }
}

fn rows(port: &Value) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for host in port["hosts"].as_array().into_iter().flatten() {
        let name = host["host"].as_str().unwrap_or_default();
        for rule in host["rules"].as_array().into_iter().flatten() {
            rows.push(row(rows.len() + 1, name, rule));
        }
    }
    if !port["connections"].is_null() {
        let mut connections = row(rows.len() + 1, "-", &port["connections"]);
        connections[3] = "connections".to_owned();
        rows.push(connections);
    }
    rows
}

/// What holds at a port beside its rules, each thing in a row of its own.
fn policies(port: &Value) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for policy in port["policies"].as_array().into_iter().flatten() {
        let text = |field: &str| policy[field].as_str().unwrap_or("-").to_owned();
        let holds = policy["holds"].as_array().into_iter().flatten();
        rows.extend(
            holds
                .filter_map(Value::as_str)
                .map(|holds| vec![text("object"), text("scope"), holds.to_owned()]),
        );
    }
    rows
}

fn row(number: usize, host: &str, rule: &Value) -> Vec<String> {
    let text = |field: &str| rule[field].as_str().unwrap_or("-").to_owned();
    let list = |field: &str, empty: &str| {
        let all: Vec<&str> = rule[field]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        if all.is_empty() {
            empty.to_owned()
        } else {
            all.join(", ")
        }
    };
    let object = match (rule["object"].as_str(), rule["rule"].as_str()) {
        (Some(object), Some(part)) => format!("{object} rule {part}"),
        (Some(object), None) => object.to_owned(),
        (None, _) if rule["answer"] == "404" => "none of the clients' own matches".to_owned(),
        (None, _) => "none: the Service itself".to_owned(),
    };
    let hidden = rule["hidden_by"]
        .as_str()
        .map(|by| format!(" (never: {by} takes it all)"));
    let mirrors = list("mirrors", "");
    let copies = if mirrors.is_empty() {
        String::new()
    } else {
        format!(", copies: {mirrors}")
    };
    vec![
        number.to_string(),
        host.to_owned(),
        rule["clients"].as_str().unwrap_or("all").to_owned(),
        list("matches", "all"),
        list("filters", "-"),
        goes_to(rule) + &copies,
        text("timeout"),
        text("retries"),
        object + &hidden.unwrap_or_default(),
    ]
}

fn goes_to(rule: &Value) -> String {
    if let Some(answer) = rule["answer"].as_str() {
        return format!("answered {answer}");
    }
    let backends = rule["backends"].as_array().cloned().unwrap_or_default();
    let one = |backend: &Value| {
        let to = backend["to"].as_str().unwrap_or("nowhere, answered 500");
        if backends.len() == 1 {
            to.to_owned()
        } else {
            format!("{to} ({})", backend["weight"])
        }
    };
    let all: Vec<String> = backends.iter().map(one).collect();
    all.join(", ")
}

#[cfg(test)]
mod tests;
