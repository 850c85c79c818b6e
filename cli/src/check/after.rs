//! Whether an installed mesh is well: judged from the survey, controller by controller and node by node.

use super::{Line, Membership, membership};
use crate::{
    cluster::names,
    install::stuck,
    survey::{Controller, NodeFacts, Said, Survey, is_ready, metric},
};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::Value;

/// From which part of its room on a kernel map is reported.
const NEARLY_FULL: f64 = 0.9;

/// All lines.
pub(super) fn judged(survey: &Survey, api_server: &str) -> Vec<Line> {
    let mut lines = vec![Line::ok("cluster", "API server", api_server)];
    lines.extend(controllers(survey));
    lines.push(match &survey.daemon_set {
        Some(_) => Line::ok("cluster", "DaemonSet", "culvert-node is there"),
        None => Line::fail(
            "cluster",
            "DaemonSet",
            "culvert-node is missing",
            "`culvert install` puts it back",
        ),
    });
    for node in survey.nodes.iter().filter(|node| node.is_ours) {
        lines.extend(of_node(node, &survey.controllers));
    }
    lines.extend(pods(survey));
    lines
}

fn controllers(survey: &Survey) -> Vec<Line> {
    let Some(deployment) = &survey.deployment else {
        let remedy = "`culvert install` puts it back";
        return vec![Line::fail(
            "cluster",
            "controller",
            "the Deployment culvert-controller is missing",
            remedy,
        )];
    };
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let ready = survey.controllers.iter().filter(|one| is_ready(&one.pod)).count();
    let found = format!("{ready} of {wanted} ready");
    let logs = "kubectl -n culvert-system describe pods -l app.kubernetes.io/name=culvert-controller";
    let mut lines = vec![match (ready, i32::try_from(ready).unwrap_or(i32::MAX) >= wanted) {
        (_, true) => Line::ok("cluster", "controller", found),
        (0, _) => Line::fail(
            "cluster",
            "controller",
            format!(
                "{found}: open and known connections go on, changes and new pods wait{}",
                reasons(&survey.controllers)
            ),
            logs,
        ),
        _ => Line::warn(
            "cluster",
            "controller",
            format!("{found}{}", reasons(&survey.controllers)),
            logs,
        ),
    }];
    lines.push(match &survey.leader {
        Some(leader)
            if survey
                .controllers
                .iter()
                .any(|one| leader.contains(&one.pod.name_any())) =>
        {
            Line::ok("cluster", "leader", leader)
        }
        Some(leader) => Line::warn(
            "cluster",
            "leader",
            format!("{leader} holds the lease and is gone"),
            "another takes over when the lease runs out, within half a minute; if not, look at the controllers' logs",
        ),
        None => Line::warn(
            "cluster",
            "leader",
            "no controller leads: the trust bundle and the root key are not kept",
            "look at the controllers' logs: kubectl -n culvert-system logs deployment/culvert-controller",
        ),
    });
    for controller in &survey.controllers {
        lines.extend(controller_says(controller));
    }
    lines
}

fn reasons(controllers: &[Controller]) -> String {
    let stuck = controllers
        .iter()
        .filter(|one| !is_ready(&one.pod))
        .find_map(|one| stuck(&one.pod, &[]));
    stuck.map_or_else(String::new, |reason| format!("; {reason}"))
}

fn controller_says(controller: &Controller) -> Vec<Line> {
    let name = controller.pod.name_any();
    let status = match &controller.status {
        Ok(status) => status,
        Err(error) => {
            let remedy = format!("kubectl -n culvert-system logs {name}");
            return vec![Line::fail(&name, "controller's pages", error.to_string(), remedy)];
        }
    };
    let findings = status["findings"].as_array().map_or(&[][..], Vec::as_slice);
    findings
        .iter()
        .map(|finding| {
            let text = finding["text"]
                .as_str()
                .or(finding["message"].as_str())
                .unwrap_or("a finding without words");
            let remedy = "mend the object; until then its last good state holds";
            Line::warn("cluster", "configuration", text, remedy)
        })
        .collect()
}

fn of_node(node: &NodeFacts, controllers: &[Controller]) -> Vec<Line> {
    let name = &node.name;
    let Some(pod) = &node.pod else {
        let (found, remedy) = (
            "no pod of culvert-node runs here: its pods cannot join, and those that did are not kept",
            "kubectl -n culvert-system describe daemonset culvert-node",
        );
        return vec![match node.is_ready {
            true => Line::fail(name, "pod", found, remedy),
            false => Line::warn(
                name,
                "pod",
                "the node is not ready",
                "see whether it runs: kubectl describe node",
            ),
        }];
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
    if node.draining > 0 {
        let found = format!("{} older pods carry their last connections", node.draining);
        lines.push(Line::ok(name, "draining", found));
    }
    if let Some(said) = &node.said {
        lines.extend(agent(name, said));
        lines.push(maps(name, said));
        lines.push(listeners(name, said));
        lines.push(certificates(name, said));
        lines.push(in_step(name, said, controllers));
    }
    lines
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

/// What the agent says: the kernel's side, the proxy's connection to it, the CNI plug-in, leaving.
fn agent(node: &str, said: &Said) -> Vec<Line> {
    let page = match &said.agent {
        Ok(page) => page,
        Err(error) => {
            let remedy = "see whether the API server reaches the node: kubectl describe node; then the agent's log";
            return vec![Line::fail(node, "agent", format!("does not answer: {error}"), remedy)];
        }
    };
    let mut lines = vec![programs(node, page)];
    let proxies = page["proxies"].as_array().map_or(0, Vec::len);
    lines.push(match proxies {
        0 => Line::fail(
            node,
            "proxy",
            "not connected to the agent: captured pods' new connections wait, then fail",
            "look at the log of container ztunnel",
        ),
        count => Line::ok(node, "proxy", format!("{count} connected to the agent")),
    });
    lines.extend(plug_in(node, page));
    if page["leaving"] == true || page["left"] == true {
        let found = "pods are being taken out of the mesh for an uninstallation";
        lines.push(Line::warn(
            node,
            "leaving",
            found,
            "`culvert uninstall` goes on; `culvert install` takes it back",
        ));
    }
    lines
}

/// An agent attaches its programs before it is ready; newer ones list them.
fn programs(node: &str, page: &Value) -> Line {
    let detached: Vec<&str> = page["programs"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|program| program["attached"] == false)
        .filter_map(|program| program["name"].as_str())
        .collect();
    if !detached.is_empty() {
        let found = format!("not attached: {}", detached.join(", "));
        return Line::fail(
            node,
            "programs",
            found,
            "restart the agent's pod; its log says why they came off",
        );
    }
    match page["ready"].as_bool() {
        Some(true) => Line::ok(node, "programs", "attached, and the node's pods are known"),
        _ => Line::fail(
            node,
            "programs",
            "the agent does not know its node's pods yet",
            "its log says what it waits for, most often the API server",
        ),
    }
}

/// Absent from the page of an agent that has no plug-in to keep.
fn plug_in(node: &str, page: &Value) -> Option<Line> {
    let gate = page.get("cni").filter(|gate| gate.is_object())?;
    let problem = gate["problem"].as_str();
    Some(match (gate["configuration"].as_str(), problem) {
        (Some(place), None) => Line::ok(node, "CNI plug-in", place),
        (Some(place), Some(problem)) => {
            let remedy = "the agent tries again by itself; its log says more";
            Line::warn(node, "CNI plug-in", format!("{place}: {problem}"), remedy)
        }
        (None, problem) => Line::fail(
            node,
            "CNI plug-in",
            format!(
                "{}: new pods' first packets are not held back",
                problem.unwrap_or("not in place")
            ),
            "the agent puts it back as soon as it can; see that its CNI folders are the node's (kubectl -n culvert-system describe \
             daemonset culvert-node)",
        ),
    })
}

/// How full the kernel's maps are.
fn maps(node: &str, said: &Said) -> Line {
    let page = match &said.agent_metrics {
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
    let remedy = "raise its size by the agent's flag --map-...: when it is full, new connections are denied";
    Line::warn(node, "kernel maps", full.join(", "), remedy)
}

fn listeners(node: &str, said: &Said) -> Line {
    match &said.proxy_ready {
        Ok(page) if page.status == 200 => Line::ok(node, "listeners", "the proxy serves every pod that it was given"),
        Ok(page) => Line::fail(
            node,
            "listeners",
            page.body.split_whitespace().collect::<Vec<_>>().join(" "),
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

fn certificates(node: &str, said: &Said) -> Line {
    let page = match &said.certificates {
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
fn in_step(node: &str, said: &Said, controllers: &[Controller]) -> Line {
    let told = controllers.iter().filter_map(|one| one.status.as_ref().ok());
    let streams = told.flat_map(|status| status["nodes"].as_array().into_iter().flatten());
    let Some(stream) = streams.clone().find(|stream| stream["node"] == node) else {
        let proxy = said.proxy_metrics.as_ref().ok();
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
        return Line::warn(
            node,
            "in step",
            found,
            "ask again in a moment; if it stays, look at the log of container ztunnel",
        );
    }
    Line::ok(
        node,
        "in step",
        format!("{held} resources, all acknowledged, stream open for {age} s"),
    )
}

/// A line for each pod that should be in the mesh and is not, and one that counts the others.
fn pods(survey: &Survey) -> Vec<Line> {
    let (mut is_in, mut lines) = (0, Vec::new());
    for ((namespace, name), stands) in membership(survey) {
        let place = format!("{namespace}/{name}");
        match stands {
            Membership::In => is_in += 1,
            Membership::Waiting(why) => {
                lines.push(Line::warn(
                    &place,
                    "pod",
                    format!("not in the mesh yet: {why}"),
                    "ask again in a moment",
                ));
            }
            Membership::Failed(why) => {
                let remedy = format!("kubectl -n {namespace} describe pod {name}, and the lines of its node above");
                lines.push(Line::fail(
                    &place,
                    "pod",
                    format!("should be in the mesh and is not: {why}"),
                    remedy,
                ));
            }
            Membership::Out | Membership::Unlabelled => {}
        }
    }
    let summary = format!("{is_in} in the mesh, {} that should be and are not", lines.len());
    lines.insert(0, Line::ok("cluster", "pods", summary));
    lines
}

#[cfg(test)]
mod tests;
