//! What each question shows: which server is asked, and which of its fields people see.
//!
//! Fields are read by name from the servers' JSON, and one that is absent shows as `-`: a newer or older program on the
//! node, or Istio's ztunnel in our proxy's place, should still be of use.

use super::{
    cells::{SERVICE_HEADER, cells, items, text},
    servers::Servers,
    services,
};
use crate::{
    filter::Filter,
    http::Server,
    installed,
    line::{Level, Line},
    print::{Answer, Section},
};
use anyhow::{Context, Result};
use culvert_objects::Severity;
use serde_json::{Map, Value, json};

/// Programs, enrolled pods, findings. A program that does not answer is part of the answer.
///
/// The controller is at home on one machine of the cluster: elsewhere it is missed only when its address was given.
pub(crate) fn status(servers: &Servers) -> Result<Answer> {
    let controller = match &servers.controller {
        Some(named) => named.clone(),
        None => Server::on_this_machine(15014),
    };
    let programs = [
        ("ztunnel", &servers.ztunnel, "/workloads"),
        ("agent", &servers.agent, "/pods"),
        ("controller", &controller, "/status"),
    ];
    let mut rows = Vec::new();
    let mut all = Map::new();
    let mut is_well = true;
    for (name, server, path) in programs {
        let answer = ask(server, path);
        let is_optional = name == "controller" && servers.controller.is_none();
        let (state, said) = match &answer {
            Ok(value) => ("up", summary(name, value)),
            Err(_) if is_optional => ("-", "not on this machine; --controller says where".to_owned()),
            Err(error) => ("DOWN", error.root_cause().to_string()),
        };
        is_well &= answer.is_ok() || is_optional;
        rows.push(vec![name.to_owned(), server.to_string(), state.to_owned(), said]);
        all.insert(
            name.to_owned(),
            answer.unwrap_or_else(|error| json!({ "error": format!("{error:#}") })),
        );
    }
    let findings = ask(&controller, "/findings").unwrap_or(Value::Array(Vec::new()));
    let found = items(&findings, "findings");
    let wrong: Vec<Vec<String>> = found.iter().map(|finding| cells(finding, FINDING_HEADER)).collect();
    is_well &= !found.iter().any(|finding| is_wrong(finding));
    let mut lines = all.get("agent").map(wrong_here).unwrap_or_default();
    // Istio's proxy, and older ones, have no such page.
    let proxy = ask(&servers.ztunnel, "/status").unwrap_or_default();
    let of_proxy = installed::proxy::judged("this node", &proxy).into_iter();
    lines.extend(of_proxy.filter(|line| line.level >= Level::Warn));
    is_well &= lines.is_empty();
    let here: Vec<Vec<String>> = lines
        .iter()
        .map(|line| {
            vec![
                line.level.to_string(),
                line.place.clone(),
                format!("{}: {}", line.what, line.found),
            ]
        })
        .collect();
    all.insert("wrong".to_owned(), serde_json::to_value(&lines).unwrap_or_default());
    let pods = all.get("agent").map(pod_rows).unwrap_or_default();
    let nodes = all.get("controller").map(node_rows).unwrap_or_default();
    all.insert("findings".to_owned(), findings);
    let programs = Section {
        title: "Programs",
        header: &["program", "address", "state", "says"],
        rows,
        when_empty: "".to_owned(),
    };
    let pods = Section {
        title: "Pods of this node",
        header: POD_HEADER,
        rows: pods,
        when_empty: "none is known".to_owned(),
    };
    let nodes = Section {
        title: "Nodes connected to the controller",
        header: &["node", "from", "seconds", "resources", "refused"],
        when_empty: if all
            .get("controller")
            .is_some_and(|answer| answer.get("nodes").is_some())
        {
            "none".to_owned()
        } else {
            "not known here".to_owned()
        },
        rows: nodes,
    };
    let wrong = Section {
        title: "Found in the configuration",
        header: FINDING_HEADER,
        rows: wrong,
        when_empty: "nothing".to_owned(),
    };
    let here = Section {
        title: "Wrong on this node",
        header: &["level", "whom", "what"],
        rows: here,
        when_empty: "nothing".to_owned(),
    };
    Ok(Answer {
        json: Value::Object(all),
        sections: vec![programs, pods, nodes, here, wrong],
        is_well,
    })
}

/// What the agent reports that is not as it should be.
fn wrong_here(page: &Value) -> Vec<Line> {
    if page["pods"].as_array().is_none() {
        return Vec::new(); // It did not answer, which has its own row.
    }
    let mut lines = installed::agent::judged("this node", page);
    for pod in items(page, "pods") {
        let place = cells(pod, &["namespace", "name"]).join("/");
        let fault = pod["error"].as_str().unwrap_or_default();
        let state = pod["state"].as_str().unwrap_or_default();
        if matches!(state, "failed" | "refused") {
            let found = format!("should be in the mesh and is not: {fault}");
            lines.push(Line::fail(&place, "pod", found, "the agent's log says more"));
        } else if !fault.is_empty() && state == "captured" {
            lines.push(Line::warn(
                &place,
                "pod",
                format!("in the mesh, with a fault: {fault}"),
                "the agent's log says more",
            ));
        }
    }
    lines.retain(|line| line.level >= Level::Warn);
    lines
}

/// The workloads that the node's proxy knows: on demand those that its pods use, not the cluster's.
pub(crate) fn workloads(servers: &Servers, filter: &Filter) -> Result<Answer> {
    let value = ask(&servers.ztunnel, "/workloads")?;
    let rows = items(&value, "workloads")
        .into_iter()
        .filter(|item| filter.shows(item))
        .map(|item| cells(item, WORKLOAD_HEADER))
        .collect();
    Ok(one(
        value,
        WORKLOAD_HEADER,
        rows,
        "the proxy knows no workload here yet",
    ))
}

/// The services that the node's proxy knows.
pub(crate) fn services(servers: &Servers, filter: &Filter) -> Result<Answer> {
    let value = ask(&servers.ztunnel, "/services")?;
    let workloads = ask(&servers.ztunnel, "/workloads")?;
    let rows = services::rows(&value, &workloads, filter);
    Ok(one(value, SERVICE_HEADER, rows, "the proxy knows no service here yet"))
}

/// What people see of a workload.
pub(crate) const WORKLOAD_HEADER: &[&str] = &[
    "namespace",
    "name",
    "addresses",
    "node",
    "identity",
    "protocol",
    "status",
];
/// What people see of a finding.
const FINDING_HEADER: &[&str] = &["severity", "file", "document", "object", "field", "message"];

/// Whether a finding is about something that is wrong, rather than about what is worth knowing.
fn is_wrong(finding: &Value) -> bool {
    finding["severity"] != Severity::Info.name()
}

const POD_HEADER: &[&str] = &["namespace", "name", "addresses", "state", "error"];

fn pod_rows(agent: &Value) -> Vec<Vec<String>> {
    items(agent, "pods").iter().map(|pod| cells(pod, POD_HEADER)).collect()
}

/// What each node's proxy holds of the controller's, and how much of it that proxy refused.
fn node_rows(controller: &Value) -> Vec<Vec<String>> {
    let total = |node: &Value, field: &str| -> u64 {
        let types = node.get("types").and_then(Value::as_object);
        types.map_or(0, |types| {
            types.values().filter_map(|one| one.get(field)?.as_u64()).sum()
        })
    };
    let nodes = controller
        .get("nodes")
        .map(|nodes| items(nodes, "nodes"))
        .unwrap_or_default();
    nodes
        .into_iter()
        .map(|node| {
            let mut row = cells(node, &["node", "peer", "connected_seconds"]);
            row.extend(["held", "refused"].map(|field| total(node, field).to_string()));
            row
        })
        .collect()
}

pub(super) fn one(json: Value, header: &'static [&'static str], rows: Vec<Vec<String>>, when_empty: &str) -> Answer {
    Answer {
        json,
        sections: vec![Section {
            title: "",
            header,
            rows,
            when_empty: when_empty.to_owned(),
        }],
        is_well: true,
    }
}

pub(super) fn ask(server: &Server, path: &str) -> Result<Value> {
    let body = server.get(path)?;
    serde_json::from_str(&body).with_context(|| format!("{server}{path} answered something that is not JSON"))
}

/// A few words on a program's answer.
fn summary(program: &str, value: &Value) -> String {
    match program {
        "ztunnel" => format!("{} workloads known", items(value, "workloads").len()),
        "agent" => format!("{} pods known", items(value, "pods").len()),
        _ => value.as_object().map_or_else(String::new, |fields| {
            let simple = fields
                .iter()
                .filter(|(_, value)| !value.is_object() && !value.is_array());
            simple
                .map(|(name, value)| format!("{name} {}", text(value)))
                .collect::<Vec<_>>()
                .join(", ")
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::{cells, is_wrong, items, node_rows, status, wrong_here};
    use crate::local::servers::Servers;
    use serde_json::json;

    #[test]
    fn lists_are_found_bare_named_or_keyed() {
        for value in [
            json!([{ "a": 1 }]),
            json!({ "pods": [{ "a": 1 }] }),
            json!({ "uid": { "a": 1 } }),
        ] {
            assert_eq!(items(&value, "pods"), [&json!({ "a": 1 })], "{value}");
        }
    }

    /// A controller that does not say how much it matters is older than that.
    #[test]
    fn a_finding_that_informs_is_nothing_wrong() {
        let of = |severity: &str| json!({ "severity": severity, "message": "x" });
        assert!(!is_wrong(&of("info")));
        assert!(is_wrong(&of("warning")) && is_wrong(&of("error")) && is_wrong(&json!({ "message": "x" })));
    }

    #[test]
    fn a_nodes_refusals_are_added_up() {
        let types = json!({ "a": { "held": 3, "refused": 1 }, "b": { "held": 4, "refused": 2 } });
        let status = json!({ "nodes": [{ "node": "n1", "peer": "p", "connected_seconds": 7, "types": types }] });
        assert_eq!(node_rows(&status), [["n1", "p", "7", "7", "3"]]);
        assert!(node_rows(&json!({ "error": "down" })).is_empty());
    }

    #[test]
    fn what_is_absent_or_empty_shows_as_a_dash() {
        let item = json!({ "a": "x", "b": [], "c": null, "e": ["1", "2"], "f": true });
        assert_eq!(
            cells(&item, &["a", "b", "c", "d", "e", "f"]),
            ["x", "-", "-", "-", "1, 2", "yes"]
        );
    }

    #[test]
    fn what_an_agent_reports_as_wrong_is_named() {
        let page = json!({ "ready": true, "proxies": [{}],
            "programs": [{ "name": "culvert_connect4", "attached": false }],
            "pods": [{ "namespace": "shop", "name": "a", "state": "failed", "error": "port 15006 is taken" },
                { "namespace": "shop", "name": "b", "state": "captured", "error": null }] });
        let lines = wrong_here(&page);
        let places: Vec<&str> = lines.iter().map(|line| line.place.as_str()).collect();
        assert_eq!(places, ["this node", "shop/a"]);
        assert!(wrong_here(&json!({ "error": "down" })).is_empty());
    }

    #[test]
    fn a_node_where_nothing_runs_is_told_and_not_well() {
        // Port 1 of loopback: nothing listens there.
        let nobody = || "http://127.0.0.1:1".parse().unwrap();
        let servers = Servers {
            ztunnel: nobody(),
            agent: nobody(),
            controller: Some(nobody()),
        };
        let answer = status(&servers).unwrap();
        assert!(!answer.is_well);
        assert!(
            answer.sections[0].rows.iter().all(|row| row[2] == "DOWN"),
            "{:?}",
            answer.sections[0].rows
        );
    }
}
