//! The rounds: one cluster size after the other, each with a controller of its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use culvert_controller::run::node_token;
use serde_json::{Map, Value, json};

use crate::events::{self, Effort};
use crate::growth::{Curves, rounded};
use crate::nodes::{Asker, Nodes};
use crate::pages;
use crate::proxy::Proxy;
use crate::subject::Subject;
use crate::world::{self, PODS_OF_SERVICE, World, node_name};

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
    /// Small sizes and few changes, to see that it runs
    #[arg(long, conflicts_with_all = ["pods", "nodes"])]
    short: bool,
    /// End with one line of JSON
    #[arg(long)]
    json: bool,
    /// Write pages with plots of the growth into this folder
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

impl Options {
    fn sizes(&self) -> (Vec<usize>, usize, Effort) {
        let effort = |changes, popular_changes, idle| Effort {
            changes,
            popular_changes,
            rollout: 1000,
            idle: Duration::from_millis(idle),
        };
        if self.short {
            (vec![200, 400], 20, effort(10, 3, 200))
        } else {
            (self.pods.clone(), self.nodes, effort(200, 20, 3000))
        }
    }
}

/// Measures, and prints what came out.
pub(crate) fn run(options: &Options) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (sizes, nodes, effort) = options.sizes();
    let world = |pods| World {
        pods,
        nodes,
        pods_of_service: PODS_OF_SERVICE,
    };
    // Nothing but what the node of the proxy on demand uses.
    let least = runtime.block_on(least(world(world::USED_PODS), effort))?;
    println!("a node proxy on demand where nothing is in the cluster but what it uses: {least} MB of its own");
    let mut all = Map::new();
    for pods in sizes {
        let mut figures = runtime.block_on(round(world(pods), effort))?;
        let on_demand = figures["proxy_on_demand_mb"].as_f64().unwrap_or_default();
        figures.insert("proxy_on_demand_ratio".to_owned(), rounded(on_demand / least).into());
        println!("{pods} pods, {nodes} nodes: {}", Value::Object(figures.clone()));
        all.insert(pods.to_string(), figures.into());
    }
    let curves = Curves::of(&all);
    print!("{}", curves.table());
    if let Some(folder) = &options.out {
        pages::write(&curves, nodes, folder)?;
        eprintln!("==> the report: {}", folder.join("scale.html").display());
    }
    if options.json {
        let exponents = curves.exponents();
        println!(
            "{}",
            json!({ "pods": all, "exponents": exponents, "proxy_on_demand_least_mb": least })
        );
    }
    Ok(())
}

/// A cluster with its controller.
struct Cluster {
    state: tempfile::TempDir,
    subject: Subject,
    root: PathBuf,
    begin: Instant,
}

impl Cluster {
    async fn start(world: World) -> Result<Self> {
        let state = tempfile::TempDir::new()?;
        let mut subject = Subject::start(state.path())?;
        let begin = Instant::now();
        for (kind, object) in world.objects() {
            subject.apply(kind, object).await?;
        }
        subject.line("complete").await?;
        let root = state.path().join("ca/root.pem");
        wait_for(&root).await?;
        Ok(Self {
            state,
            subject,
            root,
            begin,
        })
    }

    /// Who asks as a node.
    fn asker(&self, node: usize, addresses: Vec<String>) -> Result<Arc<Asker>> {
        let token = std::fs::read_to_string(node_token(self.state.path(), &node_name(node))?)?;
        let token = token.trim().to_owned();
        Ok(Arc::new(Asker { token, addresses }))
    }

    /// A node proxy of a node without pods.
    fn proxy(&self, world: World, on_demand: bool) -> Result<Proxy> {
        let name = node_name(world.nodes);
        let token = node_token(self.state.path(), &name)?;
        Proxy::start(self.subject.xds, &self.root, &token, &name, on_demand)
    }

    /// The same, which knows what it uses.
    async fn proxy_on_demand(&self, world: World) -> Result<Proxy> {
        let mut proxy = self.proxy(world, true)?;
        let (addresses, workloads) = world.used();
        for address in addresses {
            proxy.ask(&address).await?;
        }
        proxy.know(workloads).await?;
        Ok(proxy)
    }
}

/// What a proxy on demand holds, in MB.
async fn least(world: World, effort: Effort) -> Result<f64> {
    let cluster = Cluster::start(world).await?;
    let mut proxy = cluster.proxy_on_demand(world).await?;
    proxy.settle(effort.idle).await?;
    Ok(rounded(proxy.memory()?))
}

async fn round(world: World, effort: Effort) -> Result<Map<String, Value>> {
    let mut cluster = Cluster::start(world).await?;
    let askers: Result<Vec<_>> = (0..world.nodes)
        .map(|node| cluster.asker(node, world.asked_by(node)))
        .collect();
    let askers = askers?;
    let root = std::fs::read(&cluster.root)?;
    let xds = cluster.subject.xds;
    let (nodes, _) = Nodes::connect(xds, &root, &askers[..1]).await?;
    let load = cluster.begin.elapsed();
    nodes.disconnect();
    let (mut nodes, connect) = Nodes::connect(xds, &root, &askers).await?;

    let subject = &mut cluster.subject;
    let mut figures = events::changes(world, effort, subject, &mut nodes).await?;
    figures.extend(events::popular_changes(world, effort, subject, &mut nodes).await?);
    figures.extend(events::rollout(world, effort, subject, &mut nodes).await?);
    figures.extend(events::policy(world, subject, &mut nodes).await?);
    let memory = subject.memory()?;

    nodes.disconnect();
    let before = subject.cpu()?;
    let (nodes, reconnect) = Nodes::connect(xds, &root, &askers).await?;
    let reconnect_cpu = subject.cpu()? - before;
    let memory = memory.max(subject.memory()?);
    nodes.disconnect();
    for (name, figure) in [
        ("controller_mb", memory),
        ("reconnect_s", reconnect.as_secs_f64()),
        ("reconnect_cpu_s", reconnect_cpu.as_secs_f64()),
        ("connect_s", connect.as_secs_f64()),
        ("load_s", load.as_secs_f64()),
    ] {
        figures.insert(name.to_owned(), rounded(figure).into());
    }

    let mut on_demand = cluster.proxy_on_demand(world).await?;
    let mut wildcard = cluster.proxy(world, false)?;
    let sync = wildcard.know(world.workloads()).await?;
    figures.insert("proxy_wildcard_sync_s".to_owned(), rounded(sync.as_secs_f64()).into());
    let of_proxies = events::proxies(world, effort, &mut cluster.subject, &mut wildcard, &mut on_demand).await?;
    figures.extend(of_proxies);
    Ok(figures)
}

/// Waits until the controller has written a file.
async fn wait_for(file: &Path) -> Result<()> {
    let begin = Instant::now();
    loop {
        match std::fs::metadata(file) {
            Ok(metadata) if metadata.len() > 0 => return Ok(()),
            _ if begin.elapsed() > PATIENCE => anyhow::bail!("the controller does not write {}", file.display()),
            _ => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}
