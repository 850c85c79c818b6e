//! An agent's report, its page `/pods`: the kernel's side, the proxy's connection to it, the CNI plug-in, its pods' faults.
//! The same for a node of a cluster and for a machine without one.

use crate::line::Line;
use serde_json::Value;

/// How many names of one kind are shown.
const SHOWN: usize = 3;
/// How many notices about pods are lines of their own.
const NOTICES: usize = 5;

/// A line for each thing that it reports of itself.
pub(crate) fn judged(place: &str, page: &Value) -> Vec<Line> {
    if let Some(by) = page["standby"].as_str() {
        return vec![match page["obstacle"].as_str() {
            None => Line::ok(place, "agent", format!("stands by while {by} serves the node")),
            Some(obstacle) => Line::fail(
                place,
                "agent",
                format!("stands by while {by} serves the node, and could not take over: {obstacle}"),
                "mend what it names before the other one ends; rolling back keeps the node served",
            ),
        }];
    }
    let mut lines = vec![programs(place, page), proxies(place, page)];
    lines.extend(plug_in(place, page));
    lines.extend(pod_programs(place, page));
    lines.extend(guards(place, page));
    lines.extend(legs(place, page));
    lines.extend(same_node(place, page));
    lines.extend(upkeep(place, page));
    lines.extend(earlier_connections(place, page));
    lines.extend(notices(place, page));
    if page["leaving"] == true || page["left"] == true {
        let found = "pods are being taken out of the mesh for an uninstallation";
        let remedy = "`culvert uninstall` goes on; `culvert install` takes it back";
        lines.push(Line::warn(place, "leaving", found, remedy));
    }
    lines
}

/// Only where the agent is to let the kernel carry what applications send to the proxy.
fn legs(place: &str, page: &Value) -> Option<Line> {
    let legs = &page["local_legs"];
    if let Some(reason) = legs["refused"].as_str() {
        let remedy =
            "nothing is wrong but the speed: take the agent's --local-legs away, or see docs/platforms.md for kernels";
        return Some(Line::warn(
            place,
            "local legs",
            format!("by TCP, because {reason}"),
            remedy,
        ));
    }
    if legs["by"] != "kernel" {
        return None;
    }
    let counted = |outcome: &str| legs["counted"][outcome].as_u64().unwrap_or_default();
    let back: u64 = legs["counted"]
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(outcome, _)| outcome.starts_with("tcp_"))
        .filter_map(|(_, count)| count.as_u64())
        .sum();
    let found = format!(
        "by the kernel: {} connections, {} of them went on by TCP, {} bytes past it",
        counted("joined"),
        back,
        counted("redirected_bytes")
    );
    Some(Line::ok(place, "local legs", found))
}

/// Only where a pod asks for it (`culvert.dev/same-node: kernel`) and another has reached it.
fn same_node(place: &str, page: &Value) -> Option<Line> {
    let same_node = &page["same_node"];
    if let Some(reason) = same_node["refused"].as_str() {
        let remedy = "nothing is wrong but the speed: take culvert.dev/same-node away, or see docs/same-node.md";
        return Some(Line::warn(
            place,
            "same node",
            format!("all connections go through the proxy, because {reason}"),
            remedy,
        ));
    }
    let pairs = same_node["pairs"].as_u64().filter(|pairs| *pairs > 0)?;
    let found = format!("{pairs} pairs of pods and ports go past the proxy, unencrypted");
    Some(Line::ok(place, "same node", found))
}

const LOST_REMEDY: &str = "if it stays, restart the node's pod of culvert-node, which attaches all anew; and find what takes pins below /sys/fs/bpf away: \
                           a clean-up script or another eBPF tool";

/// An agent attaches its programs before it is ready.
fn programs(place: &str, page: &Value) -> Line {
    let detached: Vec<&str> = page["programs"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|program| program["attached"] == false)
        .filter_map(|program| program["name"].as_str())
        .collect();
    if !detached.is_empty() {
        let effect = match detached.iter().any(|name| name.contains("connect")) {
            true => ": what pods of this node open goes in plaintext",
            false => "",
        };
        let found = format!("not attached: {}{effect}", detached.join(", "));
        return Line::fail(place, "programs", found, LOST_REMEDY);
    }
    match page["ready"].as_bool() {
        Some(true) => Line::ok(place, "programs", "attached, and the node's pods are known"),
        _ => Line::fail(
            place,
            "programs",
            "the agent does not know its node's pods yet",
            "its log says what it waits for, most often the API server",
        ),
    }
}

/// Pods that are in the mesh by the agent's books, and whose own programs are gone: what arrives there is not in the mesh.
fn pod_programs(place: &str, page: &Value) -> Option<Line> {
    let is_lost = |pod: &&Value| pod["attached"] == false;
    let lost = names(page, is_lost);
    (!lost.is_empty()).then(|| {
        let found = format!(
            "not attached for {}: what reaches them goes past the proxy",
            shown(&lost)
        );
        Line::fail(place, "programs of pods", found, LOST_REMEDY)
    })
}

/// What stands on pods' links behind the proxy. Where that is nothing, the agent's notices say why.
fn guards(place: &str, page: &Value) -> Option<Line> {
    let pods = page["pods"].as_array().into_iter().flatten();
    let guarded: Vec<&Value> = pods
        .filter(|pod| pod["guard"]["interfaces"].as_u64() > Some(0))
        .collect();
    let dropped = |pod: &&Value| pod["guard"]["dropped"].as_u64().unwrap_or(0);
    let strict = guarded.iter().filter(|pod| pod["guard"]["strict"] == true).count();
    let from: Vec<String> = guarded
        .iter()
        .filter(|pod| dropped(pod) > 0)
        .map(|pod| name(pod))
        .collect();
    let total: u64 = guarded.iter().map(dropped).sum();
    (!guarded.is_empty()).then(|| {
        let what = match total {
            0 => "nothing dropped".to_owned(),
            _ => format!("{total} attempts to get past the tunnel dropped: {}", shown(&from)),
        };
        Line::ok(
            place,
            "guard",
            format!(
                "on the links of {} pods, {strict} of them strict; {what}",
                guarded.len()
            ),
        )
    })
}

/// What the agent found other than it should be, and what it put right: by whom it was changed is for a person to find out.
fn upkeep(place: &str, page: &Value) -> Vec<Line> {
    let wrong = page["problems"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str);
    let mut lines: Vec<Line> = wrong
        .map(|problem| {
            Line::fail(
                place,
                "upkeep",
                problem,
                "the agent tries again by itself; its log says what fails",
            )
        })
        .collect();
    let counts = page["repairs"].as_object().into_iter().flat_map(|kinds| kinds.values());
    let repaired: u64 = counts.chain([&page["repairs"]]).filter_map(Value::as_u64).sum();
    if repaired > 0 {
        let last = page["last_repair"].as_str().unwrap_or("-");
        let found = format!(
            "put right {repaired} times since it began, last: {last}; what was opened meanwhile may be in plaintext"
        );
        lines.push(Line::warn(place, "repairs", found, LOST_REMEDY));
    }
    lines
}

/// Connections from before a pod was captured stay as they were.
fn earlier_connections(place: &str, page: &Value) -> Option<Line> {
    let with = names(page, |pod| earlier(pod) > 0);
    let total: u64 = page["pods"].as_array().into_iter().flatten().map(earlier).sum();
    (total > 0).then(|| {
        let found = format!(
            "{total} were open before their pod was captured and are in plaintext until they end: {}",
            shown(&with)
        );
        let remedy = "restart these pods when it suits, or annotate their namespace with culvert.dev/close-open-connections: \"true\"";
        Line::warn(place, "earlier connections", found, remedy)
    })
}

/// What the mesh cannot do for a pod because of how the pod is: each a sentence of the agent's. The page's own list has these and
/// earlier connections, which have their line.
fn notices(place: &str, page: &Value) -> Vec<Line> {
    const REMEDY: &str = "docs/ports-and-addresses.md says what the mesh does not carry, and what to do about it";
    let pods = page["pods"].as_array().into_iter().flatten();
    let all: Vec<String> = pods
        .flat_map(|pod| {
            let notices = pod["notices"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str);
            notices.map(|notice| format!("pod {}: {notice}", name(pod)))
        })
        .collect();
    let shown = all.iter().take(NOTICES);
    let mut lines: Vec<Line> = shown.map(|found| Line::warn(place, "notices", found, REMEDY)).collect();
    if let Some(more) = all.len().checked_sub(NOTICES).filter(|more| *more > 0) {
        let found = format!("{more} more are in the agent's page /pods");
        lines.push(Line::warn(place, "notices", found, REMEDY));
    }
    lines
}

fn earlier(pod: &Value) -> u64 {
    pod["open_before_capture"]["open"].as_u64().unwrap_or(0)
}

fn names(page: &Value, is_meant: impl Fn(&&Value) -> bool) -> Vec<String> {
    let pods = page["pods"].as_array().into_iter().flatten();
    pods.filter(is_meant).map(name).collect()
}

fn name(pod: &Value) -> String {
    let part = |field: &str| pod[field].as_str().unwrap_or("-");
    format!("{}/{}", part("namespace"), part("name"))
}

fn shown(names: &[String]) -> String {
    let first = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match names.len().checked_sub(SHOWN) {
        Some(more) if more > 0 => format!("{first} and {more} more"),
        _ => first,
    }
}

fn proxies(place: &str, page: &Value) -> Line {
    match page["proxies"].as_array().map_or(0, Vec::len) {
        0 => Line::fail(
            place,
            "proxy",
            "not connected to the agent: captured pods' new connections wait, then fail",
            "look at the log of container ztunnel",
        ),
        count => Line::ok(place, "proxy", format!("{count} connected to the agent")),
    }
}

/// Absent from the page of an agent that has no plug-in to keep.
fn plug_in(place: &str, page: &Value) -> Option<Line> {
    let gate = page.get("cni").filter(|gate| gate.is_object())?;
    let problem = gate["problem"].as_str().or(gate["warning"].as_str());
    Some(match (gate["configuration"].as_str(), problem) {
        (Some(file), None) => Line::ok(place, "CNI plug-in", file),
        (Some(file), Some(problem)) => {
            let remedy = "the agent tries again by itself; its log says more";
            Line::warn(place, "CNI plug-in", format!("{file}: {problem}"), remedy)
        }
        (None, problem) => Line::fail(
            place,
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
