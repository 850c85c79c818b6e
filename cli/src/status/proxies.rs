//! What the nodes' proxies know, from all nodes at once: `workloads`, `services`, `connections`. Proxies that drain are asked
//! for their connections, too, and agents for those that go past the proxy.

use crate::{
    cluster::{Cluster, Failure, Unanswered, for_each_limited, list, names::ports},
    filter::Filter,
    local::{
        cells::{SERVICE_HEADER, cells, items},
        connections::{AGENT, CONNECTION_HEADER, add, connection},
        services,
        views::WORKLOAD_HEADER,
    },
    print::{Answer, Section},
    survey::placed,
};
use anyhow::{Result, bail};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{ResourceExt, api::ListParams};
use serde_json::{Map, Value};

/// Behind a node's name: what its agent knows.
const PAST: &str = "past the proxy";

/// A proxy, by its node and its pod.
#[derive(Clone, Debug)]
struct Proxy {
    /// The node's name, and behind it the pod's for one that drains.
    title: String,
    /// None: there is no pod.
    pod: Option<String>,
}

/// What one proxy answered.
pub(crate) type Reply = (String, Result<Value, Unanswered>);

/// What is asked of a proxy, and who is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    /// Those that serve their nodes.
    Serving,
    /// Those that drain, too.
    AlsoDraining,
}

pub(crate) async fn workloads(cluster: &Cluster, filter: &Filter) -> Result<Answer> {
    let replies = ask(cluster, filter, Who::Serving, &["/workloads"]).await?;
    let rows = |page: &Value| rows(page, "workloads", filter, |item| cells(item, WORKLOAD_HEADER));
    Ok(joined(
        replies,
        WORKLOAD_HEADER,
        rows,
        "no proxy knows a workload here yet",
    ))
}

/// A service's ports lead where its endpoints say, so both pages are needed.
pub(crate) async fn services(cluster: &Cluster, filter: &Filter) -> Result<Answer> {
    let replies = ask(cluster, filter, Who::Serving, &["/services", "/workloads"]).await?;
    let rows = |page: &Value| services::rows(page, page, filter);
    Ok(joined(
        replies,
        SERVICE_HEADER,
        rows,
        "no proxy knows a service here yet",
    ))
}

/// Connections are each node's own.
pub(crate) async fn connections(cluster: &Cluster, filter: &Filter) -> Result<Answer> {
    const PATHS: &[&str] = &["/connections"];
    let replies = ask(cluster, filter, Who::AlsoDraining, PATHS).await?;
    let past = ask_at(cluster, filter, Who::Serving, ports::AGENT, PATHS).await?;
    let replies = with_past(replies, past);
    let rows = |page: &Value| rows(page, "connections", filter, connection);
    Ok(joined(replies, CONNECTION_HEADER, rows, "no connection is open"))
}

/// What goes through each proxy, with what goes past it. An agent is missed where its node's proxy has answered.
fn with_past(mut replies: Vec<Reply>, past: Vec<Reply>) -> Vec<Reply> {
    for (title, reply) in past {
        let of_proxy = replies.iter_mut().find(|(other, _)| *other == title);
        match (of_proxy, reply) {
            (Some((_, Ok(page))), Ok(past)) => add(page, &past),
            (Some((_, Err(_))), Err(_)) => {}
            (_, Ok(past)) => replies.push((format!("{title} ({PAST})"), Ok(past))),
            (_, Err(error)) => replies.push((format!("{title} ({AGENT})"), Err(error))),
        }
    }
    replies
}

fn rows(page: &Value, name: &str, filter: &Filter, row: impl Fn(&Value) -> Vec<String>) -> Vec<Vec<String>> {
    let shown = items(page, name).into_iter().filter(|item| filter.shows(item));
    shown.map(row).collect()
}

/// Asks the proxy of each node, or of one, and joins what it has on these pages.
pub(crate) async fn ask(cluster: &Cluster, filter: &Filter, who: Who, paths: &[&str]) -> Result<Vec<Reply>> {
    ask_at(cluster, filter, who, ports::PROXY_ADMIN, paths).await
}

/// The same of any program in the proxies' pods, by its port.
async fn ask_at(cluster: &Cluster, filter: &Filter, who: Who, port: u16, paths: &[&str]) -> Result<Vec<Reply>> {
    let (nodes_of, pods_of) = (cluster.all(), cluster.ours());
    let ours = ListParams::default().labels("app.kubernetes.io/name=culvert-node");
    let nodes: Vec<Node> = list(&nodes_of, &ListParams::default(), "listing nodes").await?;
    let pods: Vec<Pod> = list(&pods_of, &ours, "listing our pods").await?;
    if pods.is_empty() && cluster.deployment_is_missing().await? {
        return Err(Failure::NotInstalled.into());
    }
    let proxies = proxies(&nodes, &pods, filter.node.as_deref(), who);
    if let Some(name) = &filter.node
        && proxies.is_empty()
    {
        let known: Vec<String> = nodes.iter().map(ResourceExt::name_any).collect();
        bail!("the cluster has no node {name}; it has {}", known.join(", "));
    }
    let replies = for_each_limited(proxies, |proxy| async move {
        let Some(pod) = &proxy.pod else {
            let none = Unanswered("no pod of culvert-node runs here".to_owned());
            return (proxy.title, Err(none));
        };
        let mut joined = Map::new();
        for path in paths {
            let page = cluster.admin_page(pod, port, path).await;
            match page.and_then(|page| page.json::<Map<String, Value>>()) {
                Ok(page) => joined.extend(page),
                Err(error) => return (proxy.title, Err(error)),
            }
        }
        (proxy.title, Ok(joined.into()))
    });
    Ok(replies.await)
}

fn proxies(nodes: &[Node], pods: &[Pod], node: Option<&str>, who: Who) -> Vec<Proxy> {
    let mut all = Vec::new();
    for place in placed(nodes, pods) {
        if node.is_some_and(|name| place.name != name) {
            continue;
        }
        all.push(Proxy {
            title: place.name.clone(),
            pod: place.pod.as_ref().map(ResourceExt::name_any),
        });
        if who == Who::AlsoDraining {
            all.extend(place.draining.iter().map(|pod| Proxy {
                title: format!("{} (drains: {})", place.name, pod.name_any()),
                pod: Some(pod.name_any()),
            }));
        }
    }
    all
}

/// All proxies' rows in one table, the same row once, and who did not answer in another.
fn joined(
    replies: Vec<Reply>,
    header: &'static [&'static str],
    rows_of: impl Fn(&Value) -> Vec<Vec<String>>,
    when_empty: &str,
) -> Answer {
    let (mut rows, mut silent, mut json) = (Vec::new(), Vec::new(), Map::new());
    for (title, reply) in replies {
        match reply {
            Ok(page) => {
                rows.extend(rows_of(&page));
                json.insert(title, page);
            }
            Err(error) => {
                json.insert(title.clone(), serde_json::json!({ "error": error.to_string() }));
                silent.push(vec![title, error.to_string()]);
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
    use super::{Filter, Who, joined, proxies, rows, with_past};
    use crate::{cluster::Unanswered, local::cells::cells};
    use serde_json::{from_value, json};

    #[test]
    fn what_several_nodes_know_shows_once_and_a_silent_node_is_named() {
        let known =
            json!({ "workloads": [{ "name": "a", "namespace": "shop" }, { "name": "b", "namespace": "plain" }] });
        let replies = vec![
            ("n1".to_owned(), Ok(known.clone())),
            ("n2".to_owned(), Ok(known)),
            ("n3".to_owned(), Err(Unanswered("no answer".to_owned()))),
        ];
        let filter = Filter {
            node: None,
            namespace: Some("shop".to_owned()),
        };
        let of = |page: &serde_json::Value| rows(page, "workloads", &filter, |item| cells(item, &["name"]));
        let answer = joined(replies, &["name"], of, "none");
        assert_eq!(answer.sections[0].rows, [["a"]]);
        assert_eq!(answer.sections[1].rows, [["n3", "no answer"]]);
        assert!(!answer.is_well);
    }

    #[test]
    fn what_goes_past_a_proxy_is_on_its_nodes_page_and_an_agent_that_is_silent_is_named() {
        let page = |via: &str| Ok(json!({ "connections": [{ "via": via }] }));
        let silent = || Err(Unanswered("no answer".to_owned()));
        let reply = |node: &str, reply| (node.to_owned(), reply);
        let replies = vec![
            reply("n1", page("proxy")),
            reply("n2", page("proxy")),
            reply("n3", silent()),
        ];
        let past = vec![
            reply("n1", page("kernel")),
            reply("n2", silent()),
            reply("n3", silent()),
        ];
        let all = with_past(replies, past);
        let connections = |at: usize| {
            all[at]
                .1
                .as_ref()
                .map(|page| page["connections"].as_array().unwrap().len())
        };
        assert_eq!(
            (connections(0).ok(), connections(1).ok(), connections(2).ok()),
            (Some(2), Some(1), None)
        );
        assert_eq!((all.len(), all[3].1.is_err()), (4, true));
        assert!(all[3].0.starts_with("n2 (agent"), "{}", all[3].0);
    }

    #[test]
    fn a_proxy_that_drains_is_asked_for_its_connections_beside_the_one_that_serves() {
        let node = from_value(json!({ "metadata": { "name": "n" } })).unwrap();
        let pod = |name: &str, deleted: Option<&str>| {
            from_value(json!({ "metadata": { "name": name, "deletionTimestamp": deleted },
                "spec": { "nodeName": "n", "containers": [] } }))
            .unwrap()
        };
        let pods = [pod("old", Some("2026-11-29T00:00:00Z")), pod("new", None)];
        let names = |who| {
            let all = proxies(std::slice::from_ref(&node), &pods, None, who);
            all.into_iter().filter_map(|proxy| proxy.pod).collect::<Vec<_>>()
        };
        assert_eq!(names(Who::Serving), ["new"]);
        assert_eq!(names(Who::AlsoDraining), ["new", "old"]);
    }
}
