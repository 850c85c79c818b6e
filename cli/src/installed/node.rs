//! One node: its pod of ours, what agent and proxy report, and whether it is in step with the controller.

use super::{
    agent,
    proxy::{self, NEARLY_FULL},
};
use crate::{
    cluster::names,
    failed_create,
    line::Line,
    placement::{architectures, selects},
    pod::stuck,
    survey::{Controller, NodeFacts, NodeReport, Survey, metric},
};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

/// How many of the things that a proxy waits for are shown.
const SHOWN: usize = 3;

/// All lines about a node. A node that the DaemonSet does not mean has one only when pods there are to be in the mesh, and
/// those have their own.
pub(super) fn judged(node: &NodeFacts, survey: &Survey) -> Vec<Line> {
    let name = &node.name;
    let Some(pod) = &node.pod else {
        return without_pod(node, survey).into_iter().collect();
    };
    let mut lines = vec![containers(name, pod)];
    if !node.is_ready {
        lines.push(Line::fail(
            name,
            "node",
            "not ready",
            "see whether it runs: kubectl describe node",
        ));
    }
    if !node.draining.is_empty() {
        let found = format!("{} older pods carry their last connections", node.draining.len());
        lines.push(Line::ok(name, "draining", found));
    }
    if let Some(report) = &node.report {
        lines.extend(of_agent(name, report));
        lines.push(maps(name, report));
        lines.push(listeners(name, report));
        lines.extend(limits(name, report));
        lines.extend(report.proxy.iter().flat_map(|page| proxy::judged(name, page)));
        lines.push(certificates(name, report));
        lines.push(in_step(name, report, &survey.controllers));
    }
    lines
}

fn without_pod(node: &NodeFacts, survey: &Survey) -> Option<Line> {
    let name = &node.name;
    if !node.is_ours {
        return None;
    }
    if let Some(daemon_set) = &survey.daemon_set
        && !selects(daemon_set, &node.labels)
    {
        let known = architectures(daemon_set);
        let is_foreign = !known.is_empty() && !known.contains(&node.architecture);
        return is_foreign.then(|| {
            let found = format!(
                "{}: the images are for {}, so no agent runs here and its pods stay outside the mesh",
                node.architecture,
                known.join(" and ")
            );
            Line::ok(name, "architecture", found)
        });
    }
    if !node.is_ready {
        let remedy = "see whether it runs: kubectl describe node";
        return Some(Line::warn(name, "pod", "the node is not ready", remedy));
    }
    let why = failed_create::of_nodes(&survey.warnings).map_or_else(String::new, |why| format!(" ({why})"));
    let found = format!("no pod of culvert-node runs here: its pods cannot join, and those that did are not kept{why}");
    let remedy = "kubectl -n culvert-system describe daemonset culvert-node";
    Some(Line::fail(name, "pod", found, remedy))
}

fn containers(node: &str, pod: &Pod) -> Line {
    let statuses = pod
        .status
        .iter()
        .flat_map(|status| status.container_statuses.iter().flatten());
    let ready: Vec<&str> = statuses.filter(|one| one.ready).map(|one| one.name.as_str()).collect();
    let missing: Vec<&str> = [names::AGENT_CONTAINER, names::PROXY_CONTAINER]
        .into_iter()
        .filter(|name| !ready.contains(name))
        .collect();
    if missing.is_empty() {
        return Line::ok(
            node,
            "containers",
            format!("agent and ztunnel ready in {}", pod.name_any()),
        );
    }
    let why = stuck(pod, &[]).map_or_else(String::new, |reason| format!(": {reason}"));
    Line::fail(
        node,
        "containers",
        format!("not ready: {}{why}", missing.join(", ")),
        format!("kubectl -n culvert-system logs {} -c {}", pod.name_any(), missing[0]),
    )
}

fn of_agent(node: &str, report: &NodeReport) -> Vec<Line> {
    match &report.agent {
        Ok(page) => agent::judged(node, page),
        Err(error) => {
            let remedy = "see whether the API server reaches the node: kubectl describe node; then the agent's log";
            vec![Line::fail(node, "agent", format!("does not answer: {error}"), remedy)]
        }
    }
}

/// How full the kernel's maps are.
fn maps(node: &str, report: &NodeReport) -> Line {
    let page = match &report.agent_metrics {
        Ok(page) => &page.body,
        Err(error) => return Line::warn(node, "kernel maps", error.to_string(), "look at the agent's log"),
    };
    let sizes = metric(page, "culvert_agent_map_size");
    let full: Vec<String> = metric(page, "culvert_agent_map_entries")
        .into_iter()
        .filter_map(|(map, used)| {
            let (_, size) = sizes.iter().find(|(other, _)| *other == map)?;
            (*size > 0.0 && used / size >= NEARLY_FULL).then(|| format!("{map} holds {used} of {size}"))
        })
        .collect();
    if full.is_empty() {
        return Line::ok(node, "kernel maps", format!("{}, all with room", sizes.len()));
    }
    let remedy = "raise its size by a setting, such as `culvert install --set map-flows=N` (docs/settings.md): when it is full, new connections are denied";
    Line::warn(node, "kernel maps", full.join(", "), remedy)
}

/// What keeps the proxy from being ready.
fn listeners(node: &str, report: &NodeReport) -> Line {
    match &report.proxy_ready {
        Ok(page) if page.status == 200 => Line::ok(node, "listeners", "the proxy serves every pod that it was given"),
        Ok(page) => Line::fail(
            node,
            "listeners",
            format!("the proxy is not ready: {}", missing(&page.body)),
            "what is missing comes from the controller, or from the agent: see their lines",
        ),
        Err(error) => Line::fail(
            node,
            "listeners",
            format!("the proxy does not answer: {error}"),
            "look at the log of container ztunnel",
        ),
    }
}

/// What it waits for, a line each in its answer; one that waits for its controller waits for all certificates, too.
fn missing(body: &str) -> String {
    let lines = body
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && *line != "missing:");
    let (certificates, others): (Vec<&str>, Vec<&str>) = lines.partition(|line| line.starts_with("a certificate for "));
    let mut parts: Vec<String> = others.iter().map(|line| format!("missing {line}")).collect();
    parts.extend(certificates.iter().take(SHOWN).map(|line| format!("missing {line}")));
    if certificates.len() > SHOWN {
        parts.push(format!("and {} more certificates", certificates.len() - SHOWN));
    }
    parts.join(", ")
}

/// What a proxy has used up, so that connections wait or are refused.
fn limits(node: &str, report: &NodeReport) -> Vec<Line> {
    let Ok(page) = &report.proxy_metrics else {
        return Vec::new();
    };
    let value = |name: &str| metric(&page.body, name).first().map_or(0.0, |(_, value)| *value);
    let mut lines = Vec::new();
    // A proxy that has a page of its state says it there.
    if report.proxy.is_err() && value("culvert_ztunnel_descriptors_short") > 0.0 {
        lines.push(proxy::descriptors_short(node));
    }
    let (held, limit) = (
        value("culvert_ztunnel_held_bytes"),
        value("culvert_ztunnel_held_limit_bytes"),
    );
    if limit > 0.0 && held / limit >= NEARLY_FULL {
        let found = format!(
            "the proxy holds {held} of {limit} bytes for applications that do not read: those that hold most are refused first"
        );
        let remedy = "find the pods that accept connections and do not read from them: culvert connections";
        lines.push(Line::warn(node, "limits", found, remedy));
    }
    lines
}

fn certificates(node: &str, report: &NodeReport) -> Line {
    let page = match &report.certificates {
        Ok(page) => page,
        Err(error) => {
            let remedy = "the right to create pods/portforward is needed; else look at the log of container ztunnel";
            return Line::warn(node, "certificates", error.to_string(), remedy);
        }
    };
    let all = page["certificates"].as_array().map_or(&[][..], Vec::as_slice);
    let invalid: Vec<&str> = all
        .iter()
        .filter(|one| one["valid"] == false)
        .filter_map(|one| one["identity"].as_str())
        .collect();
    if !invalid.is_empty() {
        return Line::fail(
            node,
            "certificates",
            format!("not valid now: {}", invalid.join(", ")),
            "see that the node's clock is right and that the controller answers: the proxy asks for new ones by itself",
        );
    }
    let first = all.iter().filter_map(|one| one["not_after"].as_str()).min();
    let ends = first.map_or_else(String::new, |end| format!(", the first ends at {end}"));
    Line::ok(node, "certificates", format!("{} valid{ends}", all.len()))
}

/// Whether the node holds what the controller last told it.
fn in_step(node: &str, report: &NodeReport, controllers: &[Controller]) -> Line {
    let told = controllers.iter().filter_map(|one| one.status.as_ref().ok());
    let streams = told.flat_map(|status| status["nodes"].as_array().into_iter().flatten());
    let Some(stream) = streams.clone().find(|stream| stream["node"] == node) else {
        let proxy = report.proxy_metrics.as_ref().ok();
        let proxy = proxy.and_then(|page| {
            metric(&page.body, "culvert_ztunnel_controller_connected")
                .first()
                .copied()
        });
        let found = match proxy {
            Some((_, 1.0)) => "the proxy has a stream to a controller that does not answer us".to_owned(),
            _ => "no stream between the node's proxy and a controller".to_owned(),
        };
        let remedy = "see that the node reaches the Service culvert-controller on port 15012 (network policies, DNS); the log of container ztunnel says what fails";
        return Line::fail(node, "in step", found, remedy);
    };
    let types = stream["types"].as_object().into_iter().flatten();
    let (mut held, mut behind, mut refused) = (0, Vec::new(), Vec::new());
    for (name, progress) in types {
        held += progress["held"].as_u64().unwrap_or(0);
        if progress["sent"] != progress["acknowledged"] {
            behind.push(name.as_str());
        }
        if let Some(reason) = progress["reason"]
            .as_str()
            .filter(|_| progress["refused"].as_u64() > Some(0))
        {
            refused.push(format!("{name}: {reason}"));
        }
    }
    let age = stream["connected_seconds"].as_u64().unwrap_or(0);
    if !refused.is_empty() {
        let remedy = "the proxy keeps the last good state; mend what it names, or update the older of the two";
        return Line::fail(
            node,
            "in step",
            format!("the proxy refused {}", refused.join("; ")),
            remedy,
        );
    }
    if !behind.is_empty() {
        let found = format!("{} told and not taken in yet", behind.join(", "));
        return Line {
            remedy: Some("ask again in a moment; if it stays, look at the log of container ztunnel".to_owned()),
            ..Line::wait(node, "in step", found)
        };
    }
    Line::ok(
        node,
        "in step",
        format!("{held} resources, all acknowledged, stream open for {age} s"),
    )
}
