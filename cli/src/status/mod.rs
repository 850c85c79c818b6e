//! `culvert status` on a cluster: versions, controllers, nodes, namespaces in the mesh, and what is wrong with whom.
//! `pages` shows what the nodes' proxies know.

pub(crate) mod pages;

use crate::{
    check::{Membership, membership},
    cluster::{Cluster, names},
    print::{Answer, Section},
    survey::{NodeFacts, Survey, is_ready},
};
use anyhow::Result;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::{Value, json};
use std::collections::BTreeMap;

pub(crate) async fn run(cluster: &Cluster) -> Result<Answer> {
    let survey = Survey::of(cluster).await?;
    Ok(shown(&survey, cluster))
}

/// Pods of a namespace by where they stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    is_in: usize,
    waiting: usize,
    failed: usize,
    out: usize,
}

/// Something that is not as it should be.
#[derive(Debug)]
struct Wrong {
    whom: String,
    what: String,
}

fn shown(survey: &Survey, cluster: &Cluster) -> Answer {
    let members = membership(survey);
    let namespaces = counted(&members);
    let wrong = wrong(survey, &members);
    let json = json!({
        "cluster": { "server": cluster.server, "version": cluster.version },
        "version": env!("CARGO_PKG_VERSION"),
        "controllers": controllers(survey).into_iter().map(|row| object(CONTROLLERS, row)).collect::<Vec<_>>(),
        "nodes": nodes(survey).into_iter().map(|row| object(NODES, row)).collect::<Vec<_>>(),
        "namespaces": namespaces.iter().map(|(name, counts)| json!({
            "namespace": name, "in": counts.is_in, "waiting": counts.waiting, "failed": counts.failed, "out": counts.out,
        })).collect::<Vec<_>>(),
        "wrong": wrong.iter().map(|one| json!({ "whom": one.whom, "what": one.what })).collect::<Vec<_>>(),
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
    Answer {
        json,
        sections: vec![
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
                &["whom", "what"],
                wrong.into_iter().map(|one| vec![one.whom, one.what]).collect(),
                "nothing",
            ),
        ],
        is_well,
    }
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
    let row = |one: &crate::survey::Controller| {
        let name = one.pod.name_any();
        let said = one.status.as_ref().ok();
        let leads = survey.leader.as_deref().is_some_and(|leader| leader.contains(&name));
        let field = |show: fn(&Value) -> Option<String>| said.and_then(show).unwrap_or_else(|| "-".to_owned());
        vec![
            name,
            node_of(&one.pod).unwrap_or("-").to_owned(),
            field(|said| Some(said["version"].as_str()?.to_owned())),
            yes(is_ready(&one.pod)),
            if leads { "yes" } else { "" }.to_owned(),
            field(|said| Some(said["nodes"].as_array()?.len().to_string())),
            field(|said| Some(said["resources"].to_string())),
        ]
    };
    survey.controllers.iter().map(row).collect()
}

fn nodes(survey: &Survey) -> Vec<Vec<String>> {
    let ours = survey.nodes.iter().filter(|node| node.is_ours);
    ours.map(|node| node_row(survey, node)).collect()
}

fn node_row(survey: &Survey, node: &NodeFacts) -> Vec<String> {
    let said = node.said.as_ref();
    let agent = said.map(|said| &said.agent);
    let captured = agent.and_then(|agent| agent.as_ref().ok()).map(|page| {
        let pods = page["pods"].as_array().into_iter().flatten();
        pods.filter(|pod| pod["state"] == "captured").count().to_string()
    });
    let proxy = said.map(|said| &said.proxy_ready);
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
        node.draining.to_string(),
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
            Membership::In => counts.is_in += 1,
            Membership::Waiting(_) => counts.waiting += 1,
            Membership::Failed(_) => counts.failed += 1,
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

fn wrong(survey: &Survey, members: &BTreeMap<(String, String), Membership>) -> Vec<Wrong> {
    let mut all = Vec::new();
    let mut add = |whom: String, what: String| all.push(Wrong { whom, what });
    if survey.controllers.is_empty() {
        add("controller".to_owned(), "no pod of it is there".to_owned());
    }
    for controller in &survey.controllers {
        let whom = format!("controller {}", controller.pod.name_any());
        match &controller.status {
            Err(error) => add(whom, error.to_string()),
            Ok(_) if !is_ready(&controller.pod) => add(whom, "not ready".to_owned()),
            Ok(_) => {}
        }
    }
    // Both replicas find the same.
    let findings = survey.controllers.iter().find_map(|one| one.status.as_ref().ok());
    for finding in findings
        .and_then(|status| status["findings"].as_array())
        .into_iter()
        .flatten()
    {
        let whom = finding["object"].as_str().unwrap_or("configuration");
        let what = finding["message"].as_str().or(finding["text"].as_str()).unwrap_or("-");
        add(whom.to_owned(), what.to_owned());
    }
    for node in survey.nodes.iter().filter(|node| node.is_ours) {
        let whom = format!("node {}", node.name);
        match &node.said {
            None => add(whom, "no pod of culvert-node runs here".to_owned()),
            Some(said) => {
                if let Err(error) = &said.agent {
                    add(whom.clone(), format!("its agent does not answer: {error}"));
                }
                if let Err(error) = &said.proxy_ready {
                    add(whom, format!("its proxy does not answer: {error}"));
                }
            }
        }
    }
    for ((namespace, name), stands) in members {
        if let Membership::Failed(why) = stands {
            add(format!("pod {namespace}/{name}"), why.clone());
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::{Counts, counted, wrong};
    use crate::{
        check::Membership,
        survey::{NodeFacts, Survey},
    };
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
            ("shop", Membership::In),
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
    fn a_node_without_us_and_a_pod_that_failed_are_named() {
        let survey = Survey {
            nodes: vec![NodeFacts {
                name: "n".to_owned(),
                is_ours: true,
                ..NodeFacts::default()
            }],
            ..Survey::default()
        };
        let wrong = wrong(&survey, &members(&[("shop", Membership::Failed("why".to_owned()))]));
        let whom: Vec<&str> = wrong.iter().map(|one| one.whom.as_str()).collect();
        assert_eq!(whom, ["controller", "node n", "pod shop/pod0"]);
    }
}
