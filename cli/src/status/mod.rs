//! `culvert status` on a cluster: versions, controllers, nodes, namespaces in the mesh, and what is wrong with whom.
//! `proxies` shows what the nodes' proxies know.
//!
//! What is wrong is judged by `installed`, as `check` prints it, so that both name the same.

pub(crate) mod proxies;

use crate::{
    cluster::{Cluster, names},
    foreign::PolicyFlags,
    installed::{self, Membership, membership},
    line::{Level, Line},
    pod::is_ready,
    print::{Answer, Section},
    survey::{Controller, NodeFacts, Survey},
};
use anyhow::Result;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::{Value, json};
use std::collections::BTreeMap;

pub(crate) async fn run(cluster: &Cluster, policies: PolicyFlags) -> Result<Answer> {
    let survey = Survey::of(cluster).await?;
    let lines = installed::judged(&survey, &cluster.version, policies);
    Ok(shown(&survey, &wrong(lines), cluster))
}

/// Pods of a namespace by where they stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    is_in: usize,
    waiting: usize,
    failed: usize,
    out: usize,
}

/// Lines about what is not as it should be; what is on its way is not wrong.
fn wrong(lines: Vec<Line>) -> Vec<Line> {
    lines.into_iter().filter(|line| line.level >= Level::Warn).collect()
}

fn shown(survey: &Survey, wrong: &[Line], cluster: &Cluster) -> Answer {
    let members = membership(survey);
    let namespaces = counted(&members);
    let json = json!({
        "cluster": { "server": cluster.server, "version": cluster.version },
        "version": env!("CARGO_PKG_VERSION"),
        "controllers": controllers(survey).into_iter().map(|row| object(CONTROLLERS, row)).collect::<Vec<_>>(),
        "nodes": nodes(survey).into_iter().map(|row| object(NODES, row)).collect::<Vec<_>>(),
        "namespaces": namespaces.iter().map(|(name, counts)| json!({
            "namespace": name, "in": counts.is_in, "waiting": counts.waiting, "failed": counts.failed, "out": counts.out,
        })).collect::<Vec<_>>(),
        "wrong": wrong.iter().map(|line| json!({
            "level": line.level, "whom": line.place, "what": format!("{}: {}", line.what, line.found), "remedy": line.remedy,
        })).collect::<Vec<_>>(),
    });
    let is_well = wrong.is_empty();
    let namespace_rows = namespaces.into_iter().map(|(name, counts)| {
        let numbers = [counts.is_in, counts.waiting, counts.failed, counts.out];
        [vec![name], numbers.map(|number| number.to_string()).to_vec()].concat()
    });
    let section = |title, header, rows: Vec<Vec<String>>, when_empty: &str| Section {
        title,
        header,
        rows,
        when_empty: when_empty.to_owned(),
    };
    let words = format!(
        "cluster {} ({}), culvert {}",
        cluster.server,
        cluster.version,
        env!("CARGO_PKG_VERSION")
    );
    let mut sections = vec![
        Section::words(words),
        section("Controllers", CONTROLLERS, controllers(survey), "none"),
        section("Nodes", NODES, nodes(survey), "none"),
        section(
            "Namespaces in the mesh, by pods",
            &["namespace", "in", "waiting", "failed", "out"],
            namespace_rows.collect(),
            "none: kubectl label namespace NAME culvert.dev/mesh=ambient",
        ),
        section(
            "Wrong",
            &["level", "whom", "what"],
            wrong.iter().map(wrong_row).collect(),
            "nothing",
        ),
    ];
    if !is_well {
        sections.push(Section::words("`culvert check` has the remedies"));
    }
    Answer {
        json,
        sections,
        is_well,
    }
}

fn wrong_row(line: &Line) -> Vec<String> {
    // A table has one line for each.
    let found = line.found.split_whitespace().collect::<Vec<_>>().join(" ");
    vec![
        line.level.to_string(),
        line.place.clone(),
        format!("{}: {found}", line.what),
    ]
}

const CONTROLLERS: &[&str] = &["pod", "node", "version", "ready", "leader", "nodes", "resources"];
const NODES: &[&str] = &["node", "version", "agent", "proxy", "in", "connected", "draining"];

fn object(header: &[&str], row: Vec<String>) -> Value {
    header
        .iter()
        .map(|name| (*name).to_owned())
        .zip(row.into_iter().map(Value::String))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn yes(is: bool) -> String {
    if is { "yes" } else { "NO" }.to_owned()
}

fn controllers(survey: &Survey) -> Vec<Vec<String>> {
    let row = |one: &Controller| {
        let name = one.pod.name_any();
        let report = one.status.as_ref().ok();
        let leads = survey.leader.as_deref().is_some_and(|leader| leader.contains(&name));
        let field = |show: fn(&Value) -> Option<String>| report.and_then(show).unwrap_or_else(|| "-".to_owned());
        vec![
            name,
            node_of(&one.pod).unwrap_or("-").to_owned(),
            field(|report| Some(report["version"].as_str()?.to_owned())),
            yes(is_ready(&one.pod)),
            if leads { "yes" } else { "" }.to_owned(),
            field(|report| Some(report["nodes"].as_array()?.len().to_string())),
            field(|report| Some(report["resources"].to_string())),
        ]
    };
    survey.controllers.iter().map(row).collect()
}

fn nodes(survey: &Survey) -> Vec<Vec<String>> {
    let ours = survey.nodes.iter().filter(|node| node.is_ours);
    ours.map(|node| node_row(survey, node)).collect()
}

fn node_row(survey: &Survey, node: &NodeFacts) -> Vec<String> {
    let report = node.report.as_ref();
    let agent = report.map(|report| &report.agent);
    let captured = agent.and_then(|agent| agent.as_ref().ok()).map(|page| {
        let pods = page["pods"].as_array().into_iter().flatten();
        pods.filter(|pod| pod["state"] == "captured").count().to_string()
    });
    let proxy = report.map(|report| &report.proxy_ready);
    let is_connected = survey
        .controllers
        .iter()
        .filter_map(|one| one.status.as_ref().ok())
        .any(|status| {
            let mut streams = status["nodes"].as_array().into_iter().flatten();
            streams.any(|stream| stream["node"] == node.name.as_str())
        });
    vec![
        node.name.clone(),
        node.pod.as_ref().and_then(tag).unwrap_or_else(|| "-".to_owned()),
        match agent {
            None => "NONE".to_owned(),
            Some(Ok(page)) if page["left"] == true => "left".to_owned(),
            Some(Ok(page)) if page["leaving"] == true => "leaving".to_owned(),
            Some(Ok(page)) if page["ready"] == true => "ready".to_owned(),
            Some(Ok(_)) => "starting".to_owned(),
            Some(Err(_)) => "SILENT".to_owned(),
        },
        match proxy {
            None => "NONE".to_owned(),
            Some(Ok(page)) if page.status == 200 => "ready".to_owned(),
            Some(Ok(_)) => "starting".to_owned(),
            Some(Err(_)) => "SILENT".to_owned(),
        },
        captured.unwrap_or_else(|| "-".to_owned()),
        yes(is_connected),
        node.draining.len().to_string(),
    ]
}

fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

/// The tag of the agent's image.
fn tag(pod: &Pod) -> Option<String> {
    let containers = &pod.spec.as_ref()?.containers;
    let agent = containers.iter().find(|one| one.name == names::AGENT_CONTAINER)?;
    agent.image.as_ref()?.rsplit_once(':').map(|(_, tag)| tag.to_owned())
}

/// Namespaces that have a pod in the mesh, or one that should be.
fn counted(members: &BTreeMap<(String, String), Membership>) -> BTreeMap<String, Counts> {
    let mut all: BTreeMap<String, Counts> = BTreeMap::new();
    for ((namespace, _), stands) in members {
        let count = |counts: &mut Counts| match stands {
            Membership::In(_) => counts.is_in += 1,
            Membership::Waiting(_) => counts.waiting += 1,
            Membership::Failed(_) | Membership::Unserved { .. } => counts.failed += 1,
            Membership::Out | Membership::Unlabelled => counts.out += 1,
        };
        count(all.entry(namespace.clone()).or_default());
    }
    all.retain(|namespace, counts| {
        let is_meant = counts.is_in + counts.waiting + counts.failed > 0;
        is_meant
            || members
                .iter()
                .any(|((one, _), stands)| one == namespace && *stands == Membership::Out)
    });
    all
}

#[cfg(test)]
mod tests {
    use super::{Counts, counted, wrong};
    use crate::{installed::Membership, line::Line};
    use std::collections::BTreeMap;

    fn members(all: &[(&str, Membership)]) -> BTreeMap<(String, String), Membership> {
        let key = |(index, (namespace, stands)): (usize, &(&str, Membership))| {
            (((*namespace).to_owned(), format!("pod{index}")), stands.clone())
        };
        all.iter().enumerate().map(key).collect()
    }

    #[test]
    fn namespaces_show_only_when_something_in_them_is_meant_to_be_in() {
        let members = members(&[
            ("shop", Membership::In(None)),
            ("shop", Membership::Failed("no".to_owned())),
            ("shop", Membership::Out),
            ("other", Membership::Unlabelled),
        ]);
        let counted = counted(&members);
        assert_eq!(counted.len(), 1);
        let shop = Counts {
            is_in: 1,
            waiting: 0,
            failed: 1,
            out: 1,
        };
        assert_eq!(counted["shop"], shop);
    }

    #[test]
    fn what_warns_or_fails_is_wrong_and_what_is_on_its_way_is_not() {
        let lines = vec![
            Line::ok("a", "pod", "in"),
            Line::wait("b", "pod", "not in the mesh yet"),
            Line::warn("c", "gate", "fought over", "stop"),
            Line::fail("d", "programs", "not attached", "restart"),
        ];
        let places: Vec<String> = wrong(lines).into_iter().map(|line| line.place).collect();
        assert_eq!(places, ["c", "d"]);
    }
}
