//! The rounds: one cluster size after the other, each with a controller of its own.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use culvert_controller::run::node_token;
use serde_json::{Map, Value, json};

use crate::nodes::{Asker, Nodes};
use crate::subject::Subject;
use crate::world::{PODS_OF_POPULAR, World, node_name};

/// Changes of one pod, one after the other, over which the CPU time is taken.
const CHANGES: usize = 200;
/// Changes that every node hears of.
const POPULAR_CHANGES: usize = 20;
/// How long nothing is done, to know what an idle controller uses.
const IDLE: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(60);

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Sizes of the cluster
    #[arg(long, value_delimiter = ',', default_value = "1000,10000,100000")]
    pods: Vec<usize>,
    /// Nodes that follow the controller
    #[arg(long, default_value_t = 1000)]
    nodes: usize,
    /// End with one line of JSON
    #[arg(long)]
    json: bool,
}

/// Measures, and prints what came out.
pub(crate) fn run(options: &Options) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut all = Map::new();
    for pods in &options.pods {
        let world = World {
            pods: *pods,
            nodes: options.nodes,
        };
        let figures = runtime.block_on(round(world))?;
        println!("{pods} pods, {} nodes: {figures}", options.nodes);
        all.insert(pods.to_string(), figures);
    }
    if options.json {
        println!("{}", json!({ "pods": all }));
    }
    Ok(())
}

async fn round(world: World) -> Result<Value> {
    let state = tempfile::TempDir::new()?;
    let mut askers = Vec::new();
    for node in 0..world.nodes {
        let token = std::fs::read_to_string(node_token(state.path(), &node_name(node))?)?;
        askers.push(Arc::new(Asker {
            token: token.trim().to_owned(),
            addresses: world.asked_by(node),
        }));
    }
    let mut subject = Subject::start(state.path())?;
    let begin = Instant::now();
    for (kind, object) in world.objects() {
        subject.apply(kind, object).await?;
    }
    subject.line("complete").await?;
    let root = root(&state.path().join("ca/root.pem")).await?;
    let (nodes, _) = Nodes::connect(subject.xds, &root, &askers[..1]).await?;
    let load = begin.elapsed();
    nodes.disconnect();
    let (mut nodes, connect) = Nodes::connect(subject.xds, &root, &askers).await?;

    let before = subject.cpu()?;
    tokio::time::sleep(IDLE).await;
    let idle = (subject.cpu()? - before).as_secs_f64() / IDLE.as_secs_f64();
    let (before, begin) = (subject.cpu()?, Instant::now());
    let mut woken = 0;
    for change in 0..CHANGES {
        let pod = change * (world.pods / CHANGES).max(1) % world.pods;
        let node = world.node_of(pod);
        subject.apply("Pod", world.pod(pod, 1 + change)).await?;
        woken += heard(&mut nodes, "service-", |nodes| nodes.contains(&node)).await?.0;
    }
    // Nodes that heard of the last changes a moment later.
    while nodes.got.try_recv().is_ok() {
        woken += 1;
    }
    let used = (subject.cpu()? - before).as_secs_f64() - idle * begin.elapsed().as_secs_f64();

    let mut last = Vec::new();
    for change in 0..POPULAR_CHANGES {
        let begin = Instant::now();
        subject
            .apply("Pod", world.popular_pod(change % PODS_OF_POPULAR, 1 + change))
            .await?;
        let (_, at) = heard(&mut nodes, "/popular-", |heard| heard.len() == world.nodes).await?;
        last.push((at - begin).as_secs_f64() * 1e3);
    }
    last.sort_by(f64::total_cmp);
    let memory = subject.memory()?;

    nodes.disconnect();
    let (nodes, reconnect) = Nodes::connect(subject.xds, &root, &askers).await?;
    let memory = memory.max(subject.memory()?);
    nodes.disconnect();
    Ok(json!({
        "change_cpu_ms": rounded(used * 1e3 / CHANGES as f64),
        "streams_woken": rounded(woken as f64 / CHANGES as f64),
        "last_node_ms": rounded(last.last().copied().unwrap_or_default()),
        "last_node_median_ms": rounded(last[last.len() / 2]),
        "controller_mb": rounded(memory),
        "reconnect_s": rounded(reconnect.as_secs_f64()),
        "connect_s": rounded(connect.as_secs_f64()),
        "load_s": rounded(load.as_secs_f64()),
    }))
}

/// Waits until those nodes have heard of a pod whose name contains `of`, and returns how many responses came until then,
/// and when the last of them came.
async fn heard(nodes: &mut Nodes, of: &str, enough: impl Fn(&HashSet<usize>) -> bool) -> Result<(usize, Instant)> {
    let mut seen = HashSet::new();
    let mut responses = 0;
    loop {
        let got = tokio::time::timeout(PATIENCE, nodes.got.recv()).await;
        let got = got.context("a change does not arrive")?.context("no node is left")?;
        responses += 1;
        if got.names.iter().any(|name| name.contains(of)) {
            seen.insert(got.node);
        }
        if enough(&seen) {
            return Ok((responses, got.at));
        }
    }
}

async fn root(file: &std::path::Path) -> Result<Vec<u8>> {
    let begin = Instant::now();
    loop {
        match std::fs::read(file) {
            Ok(pem) if !pem.is_empty() => return Ok(pem),
            _ if begin.elapsed() > PATIENCE => anyhow::bail!("the controller makes no root certificate"),
            _ => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

fn rounded(figure: f64) -> f64 {
    (figure * 1000.0).round() / 1000.0
}
