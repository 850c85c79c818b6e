//! What the nodes' proxies know, from all nodes at once: `workloads`, `services`, `connections`.

use crate::{
    cluster::{Cluster, Failure, Unanswered, fan, list, names::ports},
    local::views::{CONNECTION_HEADER, SERVICE_HEADER, WORKLOAD_HEADER, cells, connection, items},
    print::{Answer, Section},
    survey::placed,
};
use anyhow::{Result, bail};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{ResourceExt, api::ListParams};
use serde_json::{Map, Value};

/// What one node's proxy says.
type Told = (String, Result<Value, Unanswered>);

pub(crate) async fn workloads(cluster: &Cluster, node: Option<&str>) -> Result<Answer> {
    let told = ask(cluster, node, "/workloads").await?;
    let row = |item: &Value| cells(item, WORKLOAD_HEADER);
    Ok(joined(
        told,
        "workloads",
        WORKLOAD_HEADER,
        row,
        "no proxy knows a workload yet",
    ))
}

pub(crate) async fn services(cluster: &Cluster, node: Option<&str>) -> Result<Answer> {
    let told = ask(cluster, node, "/services").await?;
    let row = |item: &Value| cells(item, SERVICE_HEADER);
    Ok(joined(
        told,
        "services",
        SERVICE_HEADER,
        row,
        "no proxy knows a service yet",
    ))
}

/// Connections are each node's own, so each shows where it was found.
pub(crate) async fn connections(cluster: &Cluster, node: Option<&str>) -> Result<Answer> {
    let told = ask(cluster, node, "/connections").await?;
    let answer = joined(
        told,
        "connections",
        CONNECTION_HEADER,
        connection,
        "no connection is open",
    );
    Ok(answer)
}

/// Asks the proxy of each node, or of one.
async fn ask(cluster: &Cluster, node: Option<&str>, path: &str) -> Result<Vec<Told>> {
    let (nodes_of, pods_of) = (cluster.all(), cluster.ours());
    let ours = ListParams::default().labels("app.kubernetes.io/name=culvert-node");
    let nodes: Vec<Node> = list(&nodes_of, &ListParams::default(), "listing nodes").await?;
    let pods: Vec<Pod> = list(&pods_of, &ours, "listing our pods").await?;
    if pods.is_empty() && cluster.deployment_is_missing().await? {
        return Err(Failure::NotInstalled.into());
    }
    let mut places = placed(&nodes, &pods);
    if let Some(name) = node {
        places.retain(|place| place.name == name);
        if places.is_empty() {
            let known: Vec<String> = nodes.iter().map(ResourceExt::name_any).collect();
            bail!("the cluster has no node {name}; it has {}", known.join(", "));
        }
    }
    let told = fan::out(places, |place| async move {
        let Some(pod) = &place.pod else {
            return (
                place.name,
                Err(Unanswered("no pod of culvert-node runs here".to_owned())),
            );
        };
        let page = cluster.admin_page(&pod.name_any(), ports::PROXY_ADMIN, path).await;
        (place.name, page.and_then(|page| page.json()))
    });
    Ok(told.await)
}

/// All nodes' items in one table, the same item once, and who did not answer in another.
fn joined(
    told: Vec<Told>,
    name: &str,
    header: &'static [&'static str],
    row: impl Fn(&Value) -> Vec<String>,
    when_empty: &str,
) -> Answer {
    let (mut rows, mut silent, mut json) = (Vec::new(), Vec::new(), Map::new());
    for (node, answer) in told {
        match answer {
            Ok(value) => {
                rows.extend(items(&value, name).into_iter().map(&row));
                json.insert(node, value);
            }
            Err(error) => {
                json.insert(node.clone(), serde_json::json!({ "error": error.to_string() }));
                silent.push(vec![node, error.to_string()]);
            }
        }
    }
    // Several proxies know the same workload; a connection's two ends differ in direction.
    rows.sort();
    rows.dedup();
    let is_well = silent.is_empty();
    let mut sections = vec![Section {
        title: "",
        header,
        rows,
        when_empty: when_empty.to_owned(),
    }];
    if !is_well {
        sections.push(Section {
            title: "Did not answer",
            header: &["node", "why"],
            rows: silent,
            when_empty: String::new(),
        });
    }
    Answer {
        json: json.into(),
        sections,
        is_well,
    }
}

#[cfg(test)]
mod tests {
    use super::joined;
    use crate::{cluster::Unanswered, local::views::cells};
    use serde_json::json;

    #[test]
    fn what_several_nodes_know_shows_once_and_a_silent_node_is_named() {
        let known = json!({ "workloads": [{ "name": "a" }] });
        let told = vec![
            ("n1".to_owned(), Ok(known.clone())),
            ("n2".to_owned(), Ok(known)),
            ("n3".to_owned(), Err(Unanswered("no answer".to_owned()))),
        ];
        let answer = joined(told, "workloads", &["name"], |item| cells(item, &["name"]), "none");
        assert_eq!(answer.sections[0].rows, [["a"]]);
        assert_eq!(answer.sections[1].rows, [["n3", "no answer"]]);
        assert!(!answer.is_well);
    }
}
