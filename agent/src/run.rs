//! The rooms put together: with a cluster, or with a directory of objects instead.
//!
//! Order matters. The lock comes before anything that another agent of the node might be using; the proxies' and the plug-in's
//! sockets before the kernel programs, so that who finds pods captured finds somebody to ask.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result};
use culvert_agent::{
    enrolment::{
        Enrolment,
        status::{PodState, Status},
    },
    events,
    gate::{self, Gate},
    handover::server::Server,
    kernel::{Kernel, NODE_NETWORK},
    leaving::{self, Departure, Leaving, OwnSet, Removal},
    monitoring,
    source::{PodSource, kubernetes::KubernetesPods, local::LocalPods},
    taint,
};
use culvert_net::{
    Netns,
    capability::{self, Capability},
};
use culvert_telemetry::{Listeners, Logging};
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};

use crate::{cli::Cli, signals::Signals, standby::our_turn};

/// How long pods may take to leave once the DaemonSet is gone. The kubelet waits for less than this only when it was told to.
const LAST_LEAVE: Duration = Duration::from_secs(25);

/// How long another agent may take to follow one that has lost all its rights, before Culvert counts as removed.
const SUCCESSOR: Duration = Duration::from_secs(60);

/// Runs until SIGTERM or SIGINT.
pub(crate) async fn run(cli: &Cli, logging: Logging) -> Result<()> {
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
        (
            Capability::NET_ADMIN,
            "make a prefix local to a pod, from where its IPv6 applications are connected to, nor before kernel 6.9 the map of listening sockets",
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
            let node = Node::open(cli, listeners, logging)?;
            node.serve(cli, source, leaving, None, signals.next()).await?;
        }
        None => {
            // A wrong configuration is said before one waits for anything.
            let client = culvert_agent::source::kubernetes::client(cli.kubernetes.kubeconfig.as_deref()).await?;
            let Some((listeners, _lock)) = our_turn(cli, listeners, &mut signals).await? else {
                return Ok(());
            };
            let source = KubernetesPods::open(&cli.node, &cli.kubernetes).await?;
            let node = Node::open(cli, listeners, logging)?;
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
    logging: Logging,
    server: Server,
    kernel: Arc<Mutex<Kernel>>,
}

impl Node {
    fn open(cli: &Cli, listeners: Listeners, logging: Logging) -> Result<Self> {
        let server =
            Server::bind(&cli.zds_socket).with_context(|| format!("--zds-socket {}", cli.zds_socket.display()))?;
        let mut kernel = Kernel::open(&cli.kernel_config()).context("load the kernel programs")?;
        kernel.spawn_log().context("follow the kernel programs' log")?;
        Ok(Self {
            listeners,
            logging,
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
        let pages = monitoring::routes(
            cli.node.clone(),
            kernel,
            status.clone(),
            departure.subscribe(),
            shown,
            self.logging.clone(),
        );
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
        let is_forced = cluster.is_some_and(|cluster| *cluster.removed.lock().unwrap_or_else(PoisonError::into_inner));
        if departure.borrow().left || is_forced {
            let mut kernel = self.kernel.lock().unwrap_or_else(PoisonError::into_inner);
            kernel.remove().context("remove the kernel programs")?;
            if is_forced {
                gate::install::remove(&gate::install::Places::of(&cli.gate)).context("remove the CNI plug-in")?;
            }
            tracing::info!("the agent ends; nothing of Culvert is left on this node");
        } else {
            tracing::info!("the agent ends; what is captured stays captured");
        }
        Ok(())
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
    status: Mutex<Option<watch::Receiver<Arc<Status>>>>,
    /// What is heard of the DaemonSet.
    own: watch::Sender<OwnSet>,
    /// Culvert is removed, whether or not all pods have left in time.
    removed: Mutex<bool>,
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
            status: Mutex::default(),
            own: watch::Sender::default(),
            removed: Mutex::default(),
        })
    }

    /// Everything that goes on beside enrolment. Does not end by itself.
    async fn run(&self, cli: &Cli, status: watch::Receiver<Arc<Status>>) {
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = Some(status.clone());
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
            leaving::follow(
                self.client.clone(),
                &cli.namespace,
                &cli.daemonset,
                &self.leave,
                &self.own
            ),
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
            let own = *self.own.borrow();
            let removal = leaving::ask(self.client.clone(), &cli.namespace, &cli.daemonset, own).await;
            let is_removed = match removal {
                Removal::Stays => false,
                Removal::Removed => true,
                Removal::RightsGone => tokio::select! {
                    is_alone = self.is_alone() => is_alone,
                    () = signals.next() => false,
                },
            };
            if !is_removed {
                return;
            }
            tracing::warn!(
                daemonset = cli.daemonset,
                "Culvert is being removed: every pod of this node leaves the mesh"
            );
            self.leave.send_replace(true);
        }
        let mut departure = self.departure.subscribe();
        let left = departure.wait_for(|departure| departure.left);
        tokio::select! {
            left = timeout(LAST_LEAVE, left) => if left.is_err() {
                // Nobody comes after this agent who could do it later.
                tracing::error!("pods have not left in time: capture ends for all of them now");
                *self.removed.lock().unwrap_or_else(PoisonError::into_inner) = true;
            },
            () = signals.next() => {}
        }
    }

    /// Whether no other agent comes to this node in time. Its pod's proxy connects to this agent, as long as this one serves.
    async fn is_alone(&self) -> bool {
        tracing::warn!(
            seconds = SUCCESSOR.as_secs(),
            "the agent's account has lost all its rights: pods stay captured if another agent comes to this node in time, and leave \
             the mesh otherwise"
        );
        let Some(mut status) = self.status.lock().unwrap_or_else(PoisonError::into_inner).clone() else {
            return false;
        };
        let before: Vec<_> = status.borrow().proxies.iter().map(|proxy| proxy.pid).collect();
        let is_new = |status: &Arc<Status>| status.proxies.iter().any(|proxy| !before.contains(&proxy.pid));
        timeout(SUCCESSOR, status.wait_for(is_new)).await.is_err()
    }
}
