//! What happens in a cluster, and how long it takes until the nodes that it concerns have heard of it.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::{Map, Value, json};

use crate::growth::rounded;
use crate::nodes::{Got, Nodes};
use crate::proxy::Proxy;
use crate::subject::Subject;
use crate::world::{self, PODS_OF_POPULAR, World};

const PATIENCE: Duration = Duration::from_secs(60);

/// How often things happen.
#[derive(Clone, Copy)]
pub(crate) struct Effort {
    /// Changes of one pod, one after the other, over which the CPU time is taken.
    pub(crate) changes: usize,
    /// Changes that every node hears of.
    pub(crate) popular_changes: usize,
    /// Pods that a rollout changes.
    pub(crate) rollout: usize,
    /// How long nothing is done, to know what an idle process uses.
    pub(crate) idle: Duration,
}

/// Who has heard of something.
struct Heard {
    /// Until the last had.
    responses: usize,
    first: Instant,
    last: Instant,
}

/// One pod changes, again and again: what that costs the controller, and how many streams it wakes.
pub(crate) async fn changes(
    world: World,
    effort: Effort,
    subject: &mut Subject,
    nodes: &mut Nodes,
) -> Result<Map<String, Value>> {
    let before = subject.cpu()?;
    tokio::time::sleep(effort.idle).await;
    let idle = (subject.cpu()? - before).as_secs_f64() / effort.idle.as_secs_f64();
    let (before, begin) = (subject.cpu()?, Instant::now());
    let mut woken = 0;
    for change in 0..effort.changes {
        let pod = spread(world, effort, change);
        let node = world.node_of(pod);
        subject.apply("Pod", world.pod(pod, 1 + change)).await?;
        woken += heard(nodes, "service-", |nodes| nodes.contains(&node)).await?.responses;
    }
    // Nodes that heard of the last changes a moment later.
    while nodes.got.try_recv().is_ok() {
        woken += 1;
    }
    let used = (subject.cpu()? - before).as_secs_f64() - idle * begin.elapsed().as_secs_f64();
    Ok(figures(json!({
        "change_cpu_ms": rounded(used * 1e3 / effort.changes as f64),
        "streams_woken": rounded(woken as f64 / effort.changes as f64),
    })))
}

/// One pod changes that every node uses.
pub(crate) async fn popular_changes(
    world: World,
    effort: Effort,
    subject: &mut Subject,
    nodes: &mut Nodes,
) -> Result<Map<String, Value>> {
    let (mut first, mut last) = (Vec::new(), Vec::new());
    for change in 0..effort.popular_changes {
        let begin = Instant::now();
        subject
            .apply("Pod", world.popular_pod(change % PODS_OF_POPULAR, 1 + change))
            .await?;
        let of_all = heard(nodes, "/popular-", |heard| heard.len() == world.nodes).await?;
        first.push(milliseconds(of_all.first - begin));
        last.push(milliseconds(of_all.last - begin));
    }
    first.sort_by(f64::total_cmp);
    last.sort_by(f64::total_cmp);
    Ok(figures(json!({
        "first_node_ms": rounded(first[first.len() / 2]),
        "last_node_ms": rounded(last.last().copied().unwrap_or_default()),
        "last_node_median_ms": rounded(last[last.len() / 2]),
    })))
}

/// Many pods change at once: until each one's node has heard of it.
pub(crate) async fn rollout(
    world: World,
    effort: Effort,
    subject: &mut Subject,
    nodes: &mut Nodes,
) -> Result<Map<String, Value>> {
    let pods = effort.rollout.min(world.pods);
    let mut missing: HashMap<String, usize> = (0..pods)
        .map(|pod| (world::pod_name(world.service_of(pod), pod), world.node_of(pod)))
        .collect();
    let (before, begin) = (subject.cpu()?, Instant::now());
    let mut first = None;
    let mut last = begin;
    let apply = async {
        for pod in 0..pods {
            subject.apply("Pod", world.pod(pod, 1_000_000)).await?;
        }
        anyhow::Ok(())
    };
    let hear = async {
        while !missing.is_empty() {
            let got = next(nodes).await?;
            for name in got.names.iter().filter_map(|name| name.rsplit('/').next()) {
                if missing.get(name) == Some(&got.node) {
                    missing.remove(name);
                    first.get_or_insert(got.at);
                    last = got.at;
                }
            }
        }
        anyhow::Ok(())
    };
    tokio::try_join!(apply, hear)?;
    Ok(figures(json!({
        "rollout_pods": pods,
        "rollout_first_ms": rounded(milliseconds(first.unwrap_or(begin) - begin)),
        "rollout_last_ms": rounded(milliseconds(last - begin)),
        "rollout_cpu_ms": rounded(milliseconds(subject.cpu()? - before)),
    })))
}

/// The policy of a namespace changes: until every node has heard of it.
pub(crate) async fn policy(world: World, subject: &mut Subject, nodes: &mut Nodes) -> Result<Map<String, Value>> {
    while nodes.got.try_recv().is_ok() {}
    let (before, begin) = (subject.cpu()?, Instant::now());
    subject.apply("AuthorizationPolicy", world::policy(0, 1)).await?;
    let of_all = heard(nodes, &world::policy_name(0), |heard| heard.len() == world.nodes).await?;
    Ok(figures(json!({
        "policy_first_ms": rounded(milliseconds(of_all.first - begin)),
        "policy_last_ms": rounded(milliseconds(of_all.last - begin)),
        "policy_cpu_ms": rounded(milliseconds(subject.cpu()? - before)),
    })))
}

/// Changes of pods that a node has nothing to do with: what they cost a proxy that follows everything, and one that follows what it uses.
pub(crate) async fn proxies(
    world: World,
    effort: Effort,
    subject: &mut Subject,
    wildcard: &mut Proxy,
    on_demand: &mut Proxy,
) -> Result<Map<String, Value>> {
    wildcard.settle(effort.idle).await?;
    on_demand.settle(effort.idle).await?;
    let loaded = wildcard.cpu()?;
    let before = [wildcard.cpu()?, on_demand.cpu()?];
    for change in 0..effort.changes {
        let pod = spread(world, effort, change).max(world.pods / 2);
        subject.apply("Pod", world.pod(pod, 2_000_000 + change)).await?;
        wildcard.next().await?;
    }
    let each = |proxy: &Proxy, before: Duration| {
        anyhow::Ok(rounded(milliseconds(proxy.cpu()? - before) / effort.changes as f64))
    };
    Ok(figures(json!({
        "proxy_wildcard_mb": rounded(wildcard.memory()?),
        "proxy_wildcard_load_cpu_s": rounded(loaded.as_secs_f64()),
        "proxy_wildcard_change_cpu_ms": each(wildcard, before[0])?,
        "proxy_on_demand_mb": rounded(on_demand.memory()?),
        "proxy_on_demand_change_cpu_ms": each(on_demand, before[1])?,
    })))
}

/// The pod of a change: no two of the same service, as far as there are as many.
fn spread(world: World, effort: Effort, change: usize) -> usize {
    change * (world.pods / effort.changes).max(1) % world.pods
}

/// Waits until those nodes have heard of a resource whose name contains `of`.
async fn heard(nodes: &mut Nodes, of: &str, enough: impl Fn(&HashSet<usize>) -> bool) -> Result<Heard> {
    let mut seen = HashSet::new();
    let mut responses = 0;
    let mut first = None;
    loop {
        let got = next(nodes).await?;
        responses += 1;
        if got.names.iter().any(|name| name.contains(of)) {
            seen.insert(got.node);
            first.get_or_insert(got.at);
        }
        if enough(&seen) {
            return Ok(Heard {
                responses,
                first: first.unwrap_or(got.at),
                last: got.at,
            });
        }
    }
}

async fn next(nodes: &mut Nodes) -> Result<Got> {
    let got = tokio::time::timeout(PATIENCE, nodes.got.recv()).await;
    got.context("a change does not arrive")?.context("no node is left")
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The members of an object that was just written down as one.
fn figures(object: Value) -> Map<String, Value> {
    match object {
        Value::Object(figures) => figures,
        _ => Map::new(),
    }
}
