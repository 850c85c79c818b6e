//! The rooms put together: with a cluster, or with a directory of objects instead.
//!
//! Order matters. The lock comes before anything that another agent of the node might be using; the proxies' and the plug-in's
//! sockets before the kernel programs, so that who finds pods captured finds somebody to ask.

use std::{
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use culvert_agent::{
    enrolment::{
        Enrolment,
        status::{PodState, Status},
    },
    events,
    gate::{self, Gate},
    handover::server::Server,
    kernel::Kernel,
    leaving::{self, Departure, Leaving},
    lock::{self, Attempt, NodeLock},
    monitoring,
    source::{PodSource, kubernetes::KubernetesPods, local::LocalPods},
    taint,
};
use culvert_net::{
    Netns,
    capability::{self, Capability},
};
use culvert_telemetry::Listeners;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, watch},
    time::timeout,
};

use crate::cli::Cli;

/// How long pods may take to leave once the DaemonSet is gone. The kubelet waits for less than this only when it was told to.
const LAST_LEAVE: Duration = Duration::from_secs(25);

/// The node's own network namespace, since the agent shares the node's process ids.
const NODE_NETWORK: &str = "/proc/1/ns/net";

/// Runs until SIGTERM or SIGINT.
pub(crate) async fn run(cli: &Cli) -> Result<()> {
    let mut signals = Signals::new()?;
    capability::require(&[
        (
            Capability::SYS_ADMIN,
            "load the kernel programs, nor enter a pod's network namespace",
        ),
        (
            Capability::SYS_PTRACE,
            "find the network namespaces of other users' processes, nor take listeners back from a proxy",
        ),
    ])?;
    let (leave, leaving) = watch::channel(false);
    let listeners = Listeners::bind(cli.monitoring_listen, cli.readiness_listen).await?;
    match &cli.config_dir {
        Some(directory) => {
            let source = LocalPods::open(directory, &cli.node).context("--config-dir")?;
            let Some((listeners, _lock)) = our_turn(cli, listeners, &mut signals).await? else {
                return Ok(());
            };
            let node = Node::open(cli, listeners)?;
            node.serve(cli, source, leaving, None, signals.next()).await?;
        }
        None => {
            // A wrong configuration is said before one waits for anything.
            let client = culvert_agent::source::kubernetes::client(cli.kubernetes.kubeconfig.as_deref()).await?;
            let Some((listeners, _lock)) = our_turn(cli, listeners, &mut signals).await? else {
                return Ok(());
            };
            let source = KubernetesPods::open(&cli.node, &cli.kubernetes).await?;
            let node = Node::open(cli, listeners)?;
            node.exempt_itself();
            let cluster = Cluster::open(cli, client, &source, leave, leaving.clone())?;
            let end = cluster.end(cli, &mut signals);
            node.serve(cli, source, leaving, Some(&cluster), end).await?;
        }
    }
    Ok(())
}

/// What every agent has.
struct Node {
    listeners: Listeners,
    server: Server,
    kernel: Arc<Mutex<Kernel>>,
}

impl Node {
    fn open(cli: &Cli, listeners: Listeners) -> Result<Self> {
        let server =
            Server::bind(&cli.zds_socket).with_context(|| format!("--zds-socket {}", cli.zds_socket.display()))?;
        let mut kernel = Kernel::open(&cli.kernel_config())
            .context("load the kernel programs")
            .map_err(explained)?;
        kernel.spawn_log().context("follow the kernel programs' log")?;
        Ok(Self {
            listeners,
            server,
            kernel: Arc::new(Mutex::new(kernel)),
        })
    }

    /// Lets the kubelet's probes reach applications as they are. Without it, a TCP probe finds the proxy in their place.
    fn exempt_itself(&self) {
        let cookie = Netns::open(Path::new(NODE_NETWORK)).and_then(|netns| netns.cookie());
        let exempted = cookie.map_err(anyhow::Error::from).and_then(|cookie| {
            let mut kernel = self.kernel.lock().unwrap_or_else(PoisonError::into_inner);
            Ok(kernel.exempt_node(cookie)?)
        });
        if let Err(error) = exempted {
            tracing::warn!(
                error = format!("{error:#}"),
                "probes of the kubelet reach pods by the proxy, which accepts a TCP probe of any port"
            );
        }
    }

    /// Serves until `end`.
    async fn serve(
        self,
        cli: &Cli,
        source: impl PodSource + Send,
        leaving: watch::Receiver<bool>,
        cluster: Option<&Cluster>,
        end: impl Future<Output = ()>,
    ) -> Result<()> {
        let (events, heard) = mpsc::unbounded_channel();
        let source = Leaving::new(source, leaving);
        let (enrolment, status) = Enrolment::new(source, Arc::clone(&self.kernel), heard, cli.settings());
        let departure = cluster.map_or_else(watch::Sender::default, |cluster| cluster.departure.clone());
        let shown = cluster.map(|cluster| cluster.shown.clone());
        let kernel = Arc::clone(&self.kernel);
        let pages = monitoring::routes(cli.node.clone(), kernel, status.clone(), departure.subscribe(), shown);
        let beside = async {
            match cluster {
                Some(cluster) => cluster.run(cli, status).await,
                None => std::future::pending().await,
            }
        };
        tracing::info!(node = cli.node, zds = %cli.zds_socket.display(), monitoring = %cli.monitoring_listen, "the agent runs");
        tokio::select! {
            () = enrolment.run() => {}
            () = self.server.run(events) => {}
            () = beside => {}
            served = self.listeners.serve(pages) => served.context("serve --monitoring-listen")?,
            () = end => {}
        }
        if departure.borrow().left {
            let mut kernel = self.kernel.lock().unwrap_or_else(PoisonError::into_inner);
            kernel.remove().context("remove the kernel programs")?;
            tracing::info!("the agent ends; nothing of Culvert is left on this node");
        } else {
            tracing::info!("the agent ends; what is captured stays captured");
        }
        Ok(())
    }
}

/// Names the capability that newer kernels do not ask for, if it is missing and the kernel refused something.
fn explained(error: anyhow::Error) -> anyhow::Error {
    let refusal = |cause: &(dyn std::error::Error + 'static)| {
        let cause = cause.downcast_ref::<io::Error>();
        cause.is_some_and(|cause| cause.kind() == io::ErrorKind::PermissionDenied)
    };
    let is_refused = error.chain().any(refusal);
    match capability::require(&[(
        Capability::NET_ADMIN,
        "make the map of listening sockets before kernel 6.9",
    )]) {
        Err(missing) if is_refused => error.context(missing),
        _ => error,
    }
}

/// What an agent has on Kubernetes alone.
struct Cluster {
    client: kube::Client,
    gate: Mutex<Option<Gate>>,
    arrivals: culvert_agent::source::kubernetes::Arrivals,
    shown: monitoring::Cluster,
    leave: watch::Sender<bool>,
    leaving: watch::Receiver<bool>,
    departure: watch::Sender<Departure>,
}

impl Cluster {
    fn open(
        cli: &Cli,
        client: kube::Client,
        source: &KubernetesPods,
        leave: watch::Sender<bool>,
        leaving: watch::Receiver<bool>,
    ) -> Result<Self> {
        let gate = Gate::open(&cli.gate).context("open the CNI gate")?;
        let gate = gate.map(|gate| gate.until(leaving.clone()));
        let shown = monitoring::Cluster {
            source: source.metrics(),
            gate: gate.as_ref().map(Gate::shown),
        };
        Ok(Self {
            client,
            gate: Mutex::new(gate),
            arrivals: source.arrivals(),
            shown,
            leave,
            leaving,
            departure: watch::Sender::default(),
        })
    }

    /// Everything that goes on beside enrolment. Does not end by itself.
    async fn run(&self, cli: &Cli, status: watch::Receiver<Arc<Status>>) {
        let gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner).take();
        let gate = async {
            match gate {
                Some(gate) => {
                    gate.run(self.arrivals.clone(), status.clone(), self.client.clone())
                        .await
                }
                None => std::future::pending().await,
            }
        };
        let taint = async {
            if let Some(key) = &cli.node_taint {
                taint::lift(self.client.clone(), &cli.node, key, self.ready(status.clone())).await;
            }
        };
        tokio::join!(
            gate,
            taint,
            events::run(self.client.clone(), cli.node.clone(), status.clone()),
            leaving::follow(self.client.clone(), &cli.namespace, &self.leave),
            self.depart(status.clone()),
        );
        std::future::pending().await
    }

    /// Waits until pods that are made from now on are captured before they start.
    async fn ready(&self, mut status: watch::Receiver<Arc<Status>>) {
        // An error means the end of enrolment, and with it of the agent.
        let _ = status
            .wait_for(|status| status.ready && !status.proxies.is_empty())
            .await;
        let mut look = tokio::time::interval(Duration::from_millis(200));
        while self.shown.gate.as_ref().is_some_and(|gate| gate.problem().is_some()) {
            look.tick().await;
        }
    }

    /// Says how far the node has come with leaving.
    async fn depart(&self, mut status: watch::Receiver<Arc<Status>>) {
        let mut leaving = self.leaving.clone();
        let mut look = tokio::time::interval(Duration::from_millis(200));
        loop {
            let is_leaving = *leaving.borrow_and_update();
            let is_empty = {
                let status = status.borrow_and_update();
                let is_out = |state| matches!(state, PodState::Outside | PodState::Refused);
                // A proxy that never heard that it serves nobody any more would wait for a successor in vain, and cut what is open.
                let is_heard = status.letting_go == 0;
                status.ready && is_heard && status.pods.iter().all(|pod| is_out(pod.state))
            };
            let is_gate_gone = self.shown.gate.as_ref().is_none_or(gate::Shown::is_removed);
            let now = Departure {
                leaving: is_leaving,
                left: is_leaving && is_empty && is_gate_gone,
            };
            let has_changed = |before: &mut Departure| std::mem::replace(before, now) != now;
            if self.departure.send_if_modified(has_changed) && now.left {
                tracing::info!("no pod of this node is captured any more");
            }
            tokio::select! {
                _ = look.tick(), if is_leaving => {}
                _ = leaving.changed() => {}
                _ = status.changed() => {}
            }
        }
    }

    /// Until a signal; if that came because Culvert is being removed, until the pods have left.
    async fn end(&self, cli: &Cli, signals: &mut Signals) {
        signals.next().await;
        if !*self.leaving.borrow() {
            let is_removed = leaving::is_removed(self.client.clone(), &cli.namespace, &cli.daemonset).await;
            if !is_removed {
                return;
            }
            tracing::warn!(
                daemonset = cli.daemonset,
                "it is being deleted: every pod of this node leaves the mesh"
            );
            self.leave.send_replace(true);
        }
        let mut departure = self.departure.subscribe();
        let left = departure.wait_for(|departure| departure.left);
        tokio::select! {
            left = timeout(LAST_LEAVE, left) => if left.is_err() {
                tracing::error!("pods have not left in time: they stay captured");
            },
            () = signals.next() => {}
        }
    }
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("receive signals")?,
            interrupt: signal(SignalKind::interrupt()).context("receive signals")?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Waits until no other agent serves this node, as ready as one can be meanwhile. None when a signal comes first.
async fn our_turn(cli: &Cli, listeners: Listeners, signals: &mut Signals) -> Result<Option<(Listeners, NodeLock)>> {
    let path = lock::path_beside(&cli.zds_socket);
    let context = || format!("lock {}", path.display());
    let who = format!(
        "culvert-agent {} of {}, process {}",
        env!("CARGO_PKG_VERSION"),
        cli.node,
        std::process::id()
    );
    let (by, turn) = match lock::take(&path, &who).with_context(context)? {
        Attempt::Taken(lock) => return Ok(Some((listeners, lock))),
        Attempt::Held { by, turn } => (by, turn),
    };
    tracing::warn!(by, "another agent serves this node: standing by until it ends");
    let meanwhile = listeners.try_clone();
    let pages = monitoring::standby_routes(&cli.node, &by);
    let lock = tokio::select! {
        lock = turn.wait() => lock.with_context(context)?,
        served = meanwhile.context("--monitoring-listen")?.serve(pages) => {
            served.context("serve --monitoring-listen")?;
            bail!("the pages ended");
        }
        () = signals.next() => return Ok(None),
    };
    tracing::info!(by, "the other agent has ended: taking over");
    Ok(Some((listeners, lock)))
}
