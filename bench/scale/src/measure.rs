//! The rounds: one cluster size after the other, each with a controller of its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result};
use clap::builder::RangedU64ValueParser;
use culvert_controller::run::node_token;
use culvert_report::machine::Machine;
use serde_json::{Map, Value};

use crate::events::{self, Effort};
use crate::growth::rounded;
use crate::interrupt::interrupted;
use crate::nodes::{Asker, Nodes};
use crate::outcome::Outcome;
use crate::proxy::Proxy;
use crate::subject::Subject;
use crate::world::{self, PODS_OF_SERVICE, World, node_name};
use crate::{descriptors, pages};

const PATIENCE: Duration = Duration::from_secs(60);

/// As many as have addresses: see `world`.
const MOST_PODS: u64 = 500_000;
const MOST_NODES: u64 = 10_000;
const MOST_CHANGES: u64 = 100_000;

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Sizes of the cluster
    #[arg(long, value_delimiter = ',', default_value = "1000,10000,100000", value_parser = RangedU64ValueParser::<usize>::new().range(1..=MOST_PODS))]
    pods: Vec<usize>,
    /// Nodes that follow the controller
    #[arg(long, default_value_t = 1000, value_parser = RangedU64ValueParser::<usize>::new().range(1..=MOST_NODES))]
    nodes: usize,
    /// Changes of one pod, one after the other, over which the CPU time is taken
    #[arg(long, default_value_t = 200, value_parser = RangedU64ValueParser::<usize>::new().range(1..=MOST_CHANGES))]
    changes: usize,
    /// Small sizes and few changes, to see that it runs
    #[arg(long, conflicts_with_all = ["pods", "nodes", "changes"])]
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
            (self.pods.clone(), self.nodes, effort(self.changes, 20, 3000))
        }
    }
}

/// Measures, and prints what came out.
pub(crate) fn run(options: &Options) -> Result<()> {
    let (_, nodes, _) = options.sizes();
    descriptors::raise(nodes)?;
    if let Some(folder) = &options.out {
        // Rather now than after minutes.
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(async {
        tokio::select! {
            outcome = rounds(options) => outcome,
            interrupted = interrupted() => interrupted,
        }
    })?;
    print!("{}", outcome.curves().table());
    for target in outcome.targets() {
        println!("{target}");
    }
    if let Some(folder) = &options.out {
        pages::write(&outcome, folder)?;
        say(&format!("the report: {}", folder.join("scale.html").display()));
    }
    if options.json {
        println!("{}", outcome.json());
    }
    Ok(())
}

/// One cluster after the other.
async fn rounds(options: &Options) -> Result<Outcome> {
    let (sizes, nodes, effort) = options.sizes();
    let began = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let world = |pods| World {
        pods,
        nodes,
        pods_of_service: PODS_OF_SERVICE,
    };
    // Nothing but what the node of the proxy on demand uses.
    let least = least(world(world::USED_PODS), effort).await?;
    println!("a node proxy on demand where nothing is in the cluster but what it uses: {least} MB of its own");
    let mut all = Map::new();
    for pods in sizes {
        let mut figures = round(world(pods), effort)
            .await
            .with_context(|| format!("with {pods} pods"))?;
        let on_demand = figures["proxy_on_demand_mb"].as_f64().unwrap_or_default();
        figures.insert("proxy_on_demand_ratio".to_owned(), rounded(on_demand / least).into());
        println!("{pods} pods, {nodes} nodes: {}", Value::Object(figures.clone()));
        all.insert(pods.to_string(), figures.into());
    }
    Ok(Outcome {
        command: std::env::args().collect::<Vec<_>>().join(" "),
        began,
        machine: Machine::here(),
        nodes,
        pods: all,
        least,
    })
}

/// Tells whoever waits.
fn say(text: &str) {
    eprintln!("==> {text}");
}

/// A cluster with its controller.
struct Cluster {
    // Before its files, which it would make again.
    subject: Subject,
    state: tempfile::TempDir,
    root: PathBuf,
    begin: Instant,
}

impl Cluster {
    /// Starts the controller, with no objects yet.
    fn start() -> Result<Self> {
        let state = tempfile::TempDir::new().context("no folder for temporary files")?;
        Ok(Self {
            subject: Subject::start(state.path())?,
            root: state.path().join("ca/root.pem"),
            state,
            begin: Instant::now(),
        })
    }

    /// Tells it of all objects.
    async fn load(&mut self, world: World) -> Result<()> {
        for (kind, object) in world.objects() {
            self.subject.apply(kind, object).await?;
        }
        self.subject.line("complete").await?;
        wait_for(&self.root).await
    }

    /// Who asks as a node.
    fn asker(&self, world: World, node: usize) -> Result<Arc<Asker>> {
        let token = std::fs::read_to_string(node_token(self.state.path(), &node_name(node))?)?;
        let token = token.trim().to_owned();
        Ok(Arc::new(Asker {
            token,
            addresses: world.asked_by(node),
            policies: world.policies(),
        }))
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
    let mut cluster = Cluster::start()?;
    let held = async {
        cluster.load(world).await?;
        let mut proxy = cluster.proxy_on_demand(world).await?;
        proxy.settle(effort.idle).await?;
        anyhow::Ok(rounded(proxy.memory()?))
    };
    match held.await {
        Ok(held) => Ok(held),
        Err(error) => Err(cluster.subject.explain(error).await),
    }
}

/// Everything that is measured of one size.
async fn round(world: World, effort: Effort) -> Result<Map<String, Value>> {
    let mut cluster = Cluster::start()?;
    match figures(&mut cluster, world, effort).await {
        Ok(figures) => Ok(figures),
        Err(error) => Err(cluster.subject.explain(error).await),
    }
}

async fn figures(cluster: &mut Cluster, world: World, effort: Effort) -> Result<Map<String, Value>> {
    say(&format!("{} pods: the controller reads them", world.pods));
    cluster.load(world).await?;
    let askers: Result<Vec<_>> = (0..world.nodes).map(|node| cluster.asker(world, node)).collect();
    let askers = askers?;
    let root = std::fs::read(&cluster.root)?;
    let xds = cluster.subject.xds;
    let (nodes, _) = Nodes::connect(xds, &root, &askers[..1]).await?;
    let load = cluster.begin.elapsed();
    drop(nodes);
    say(&format!(
        "{} pods: {} nodes connect, and hear of changes",
        world.pods, world.nodes
    ));
    let (mut nodes, connect) = Nodes::connect(xds, &root, &askers).await?;

    let subject = &mut cluster.subject;
    let mut figures = events::changes(world, effort, subject, &mut nodes).await?;
    figures.extend(events::popular_changes(world, effort, subject, &mut nodes).await?);
    figures.extend(events::rollout(world, effort, subject, &mut nodes).await?);
    figures.extend(events::policy(world, subject, &mut nodes).await?);
    let memory = subject.memory()?;

    drop(nodes);
    let before = subject.cpu()?;
    let (nodes, reconnect) = Nodes::connect(xds, &root, &askers).await?;
    let reconnect_cpu = subject.cpu()? - before;
    let memory = memory.max(subject.memory()?);
    drop(nodes);
    say(&format!("{} pods: node proxies", world.pods));
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
