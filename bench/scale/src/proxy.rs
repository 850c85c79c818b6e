//! What a node proxy keeps of the mesh, in a process of its own: its control and its state, which are the worker's
//! (`culvert_control`, `culvert_state`), without event loops and pods. Everything of the worker that grows with the mesh is in there.
//!
//! It reads addresses that its pods dial, one a line, and writes a line whenever it knows something else: how many workloads, services and
//! policies it has. Both tell who started it ([`Proxy`]).

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use culvert_control::{Ask, Caller, ControlMetrics, Inputs, Outputs, Published, Secrets, Served, Settings};
use culvert_telemetry::prometheus::registry::Registry;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::{mpsc, watch};

use crate::usage;

const PATIENCE: Duration = Duration::from_secs(120);

/// Whom it asks, and as whom.
#[derive(Clone, clap::Args)]
pub(crate) struct Options {
    #[arg(long)]
    xds: SocketAddr,
    #[arg(long)]
    root: PathBuf,
    #[arg(long)]
    token: PathBuf,
    #[arg(long)]
    node: String,
    /// What the node's pods use, instead of the whole mesh
    #[arg(long)]
    on_demand: bool,
}

/// Runs until it is killed, with one thread as the worker's control has, and the allocator as the worker has it.
pub(crate) fn run(options: &Options) -> Result<()> {
    culvert_net::heap::keep_small();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(follow(options))
}

async fn follow(options: &Options) -> Result<()> {
    let (asks, asked) = mpsc::unbounded_channel();
    let secrets = Secrets {
        token: std::fs::read_to_string(&options.token)?.trim().to_owned(),
        roots: std::fs::read(&options.root)?,
    };
    let (_secrets, secrets) = watch::channel(secrets);
    let settings = Settings {
        caller: Caller::Node {
            name: options.node.as_str().into(),
        },
        controller: format!("https://{}", options.xds),
        controller_name: Some("localhost".to_owned()),
        controller_host: None,
        cluster_id: "Kubernetes".to_owned(),
        trust_domain: "cluster.local".to_owned(),
        mesh_ranges: Vec::new(),
        api_server: None,
        on_demand: options.on_demand,
    };
    let inputs = Inputs {
        settings,
        secrets,
        asks: asked,
        served: Arc::new(Served::default()),
    };
    let published = Published::default();
    let (changes, mut changed) = watch::channel(());
    let outputs = Outputs {
        published: published.clone(),
        notify: Arc::new(move |_| {
            changes.send_replace(());
        }),
        metrics: ControlMetrics::register(
            &mut Registry::default(),
            "culvert_bench",
            ControlMetrics::TYPES_OF_NODES,
        ),
    };
    let tell = async {
        let mut output = tokio::io::stdout();
        while changed.changed().await.is_ok() {
            let mesh = published.mesh.load_full();
            if mesh.synced() {
                let [workloads, services, policies] = mesh.sizes();
                output
                    .write_all(format!("{workloads} {services} {policies}\n").as_bytes())
                    .await?;
                output.flush().await?;
            }
        }
        anyhow::Ok(())
    };
    let hear = async {
        let mut lines = BufReader::new(tokio::io::stdin()).lines();
        while let Some(line) = lines.next_line().await? {
            let address: IpAddr = line.parse()?;
            // Fails only when control has ended, which ends this.
            let _ = asks.send(Ask::Address(address));
        }
        bail!("nobody follows any more")
    };
    tokio::select! {
        () = culvert_control::run(inputs, outputs) => bail!("control ended"),
        ended = tell => ended,
        ended = hear => ended,
    }
}

/// That process, started and measured. It is killed when this is dropped.
pub(crate) struct Proxy {
    child: Child,
    asks: ChildStdin,
    sizes: Lines<BufReader<ChildStdout>>,
    began: Instant,
}

impl Proxy {
    /// Starts it for a node.
    pub(crate) fn start(xds: SocketAddr, root: &Path, token: &Path, node: &str, on_demand: bool) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg("proxy")
            .args(["--xds", &xds.to_string(), "--node", node])
            .arg("--root")
            .arg(root)
            .arg("--token")
            .arg(token)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        if on_demand {
            command.arg("--on-demand");
        }
        let mut child = command.spawn()?;
        let asks = child.stdin.take().context("no standard input")?;
        let sizes = BufReader::new(child.stdout.take().context("no standard output")?).lines();
        Ok(Self {
            child,
            asks,
            sizes,
            began: Instant::now(),
        })
    }

    /// A pod dials this address.
    pub(crate) async fn ask(&mut self, address: &str) -> Result<()> {
        self.asks.write_all(format!("{address}\n").as_bytes()).await?;
        Ok(self.asks.flush().await?)
    }

    /// Waits until it knows as many workloads, and returns how long that was since its start.
    pub(crate) async fn know(&mut self, workloads: usize) -> Result<Duration> {
        loop {
            let known = self.next().await?;
            if known[0] >= workloads {
                return Ok(self.began.elapsed());
            }
        }
    }

    /// Waits until it knows something else, and returns how many workloads, services and policies that are.
    pub(crate) async fn next(&mut self) -> Result<[usize; 3]> {
        let line = tokio::time::timeout(PATIENCE, self.sizes.next_line()).await;
        let line = line
            .context("the node proxy hears of nothing")??
            .context("the node proxy has ended")?;
        let sizes: Vec<usize> = line.split(' ').map(str::parse).collect::<Result<_, _>>()?;
        sizes.try_into().ok().context("three numbers are expected")
    }

    /// Lets it rest, and passes over what it has heard until then.
    pub(crate) async fn settle(&mut self, time: Duration) -> Result<()> {
        tokio::time::sleep(time).await;
        while let Ok(line) = tokio::time::timeout(Duration::ZERO, self.sizes.next_line()).await {
            line?.context("the node proxy has ended")?;
        }
        Ok(())
    }

    /// The CPU time that it has used.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        usage::cpu(self.id()?)
    }

    /// What it holds itself, in MB.
    pub(crate) fn memory(&self) -> Result<f64> {
        usage::anonymous_mb(self.id()?)
    }

    fn id(&self) -> Result<u32> {
        self.child.id().context("the node proxy has ended")
    }
}
