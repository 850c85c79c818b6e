//! The monitor: the part of the proxy that holds privileges, and for that reason does next to nothing.
//!
//! It gets pods from the agent (namespaces and listening sockets, see `zds.proto`), keeps them, and creates unconnected
//! sockets inside the pods' namespaces when the worker asks; that needs `CAP_SYS_ADMIN` for `setns` and nothing else. It
//! never reads a byte of traffic. All it parses comes from the agent and from its own worker.
//!
//! ```text
//!  agent ──pods──> [zds] ──> [pods] ──listeners, sockets──> worker (no capability, parses traffic)
//!                               └── replayed to the next worker when one dies
//! ```
//!
//! A worker that dies is replaced at once. Its connections are gone, but the listening sockets stay open here, so that
//! connections made meanwhile wait in the backlog. An agent that goes away changes nothing: the monitor serves the pods
//! it has and connects again.

mod alive;
mod pods;
mod same_node;
mod worker;
mod zds;

use std::{fs::File, net::IpAddr, process::ExitCode, time::Duration};

use culvert_dns::resolv_conf::{self, RESOLV_CONF};
use culvert_identity::TrustBundle;
use culvert_net::capability::{self, Capability, CapabilityError};
use culvert_proto::zds::workload_request::Payload;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, MissedTickBehavior, sleep_until},
};

use culvert_net::{heap, privilege};

use self::{
    alive::Alive,
    pods::{Change, PodError, Pods},
    same_node::SameNode,
    worker::Worker,
    zds::{Packet, Zds},
};
use crate::{
    cli::{Cli, ControllerArgs},
    wire::{BATCH, Datagrams, Order, Report, Secrets},
};

/// How often the token and the controller's roots are read again. The worker cannot read files; a kubelet replaces a token
/// minutes before it expires.
const SECRETS_INTERVAL: Duration = Duration::from_secs(5);

/// Why the monitor cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MonitorError {
    /// A file that every worker needs cannot be read.
    #[error("cannot read {path}")]
    Secret {
        /// Which.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file with the controller's roots holds none.
    #[error("{path} cannot be used for checking the controller's certificate")]
    Roots {
        /// Which.
        path: std::path::PathBuf,
        /// Why.
        source: culvert_identity::IdentityError,
    },
    /// It could not do its work.
    #[error(transparent)]
    Capability(#[from] CapabilityError),
    /// No worker can be started.
    #[error("cannot start the worker")]
    Worker(#[source] std::io::Error),
    /// Signals cannot be received.
    #[error("cannot receive signals")]
    Signals(#[source] std::io::Error),
}

/// Runs until SIGTERM has drained the worker, or a second one arrives.
///
/// # Errors
/// When the files that the worker needs cannot be read at the start, or no worker can be started at all.
pub(crate) async fn run(cli: &Cli) -> Result<ExitCode, MonitorError> {
    look_at_capabilities()?;
    if let Err(error) = privilege::raise_descriptor_limit() {
        tracing::warn!(%error, "serving fewer pods than the limit of descriptors would allow");
    }
    let mut terminate = signal(SignalKind::terminate()).map_err(MonitorError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(MonitorError::Signals)?;
    let mut monitor = Monitor {
        secrets: read_secrets(&cli.controller, own_resolvers())?,
        worker: Worker::start().map_err(MonitorError::Worker)?,
        pods: Pods::default(),
        synced: false,
        has_successor: false,
        ending: None,
        draining: false,
        alive: Alive::default(),
        same_node: SameNode::default(),
    };
    monitor.replay().await;
    // What was needed to begin, and is no longer: from now on the monitor does little.
    heap::trim();
    let mut zds = Zds::new(cli.zds_socket.clone());
    let mut reread = tokio::time::interval(SECRETS_INTERVAL);
    let mut beat = tokio::time::interval(alive::BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            packet = zds.next(), if !monitor.draining => {
                let is_new = matches!(packet, Packet::Connected);
                monitor.on_agent(&mut zds, packet).await;
                if is_new && monitor.ending.is_some() {
                    zds.ending().await;
                }
                if monitor.ending.is_some() && monitor.may_stop_accepting() {
                    monitor.drain().await;
                }
            }
            () = sleep_until(monitor.ending.unwrap_or_else(Instant::now)), if monitor.ending.is_some() && !monitor.draining => {
                tracing::warn!("nobody has taken over: closing what is open, so that a successor can be started");
                monitor.worker.kill().await;
                return Ok(ExitCode::SUCCESS);
            }
            report = monitor.worker.next() => match report {
                worker::Event::Report(report) => {
                    if monitor.on_report(&mut zds, report).await {
                        return Ok(ExitCode::SUCCESS);
                    }
                }
                worker::Event::Died(how) if monitor.draining => {
                    tracing::info!(how, "the worker ended while draining");
                    return Ok(ExitCode::SUCCESS);
                }
                worker::Event::Died(how) => {
                    tracing::error!(how, "the worker died; its connections are lost, new ones wait for the next");
                    monitor.worker.restart().await.map_err(MonitorError::Worker)?;
                    monitor.alive.replaced();
                    // Its connections are lost, and nobody looks after those that went past it.
                    zds.same_node(monitor.same_node.forget()).await;
                    monitor.replay().await;
                }
            },
            _ = beat.tick(), if !monitor.draining => monitor.ask_worker().await,
            _ = reread.tick() => monitor.reread(&cli.controller).await,
            _ = terminate.recv() => if monitor.on_signal(&mut zds, cli.successor_wait).await { return Ok(ExitCode::SUCCESS) },
            _ = interrupt.recv() => if monitor.on_signal(&mut zds, cli.successor_wait).await { return Ok(ExitCode::SUCCESS) },
        }
    }
}

/// Each of these would show late: in the first pod, in a worker that dies again and again, in one that cannot be ended.
fn look_at_capabilities() -> Result<(), CapabilityError> {
    capability::require(&[(Capability::SYS_ADMIN, "make sockets in a pod's network namespace")])?;
    // As another user, the worker is no other one.
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    capability::require(&[
        (Capability::SETUID, "let the worker become nobody"),
        (Capability::SETGID, "let the worker leave root's groups"),
        (
            Capability::KILL,
            "end a worker that hangs, which is another user's by then",
        ),
    ])
}

struct Monitor {
    secrets: Secrets,
    worker: Worker,
    pods: Pods,
    /// The agent has sent all pods that it had, at least once.
    synced: bool,
    /// Another proxy serves the same pods, and is to go on.
    has_successor: bool,
    /// Asked to end, and serving until a successor is there, or until then.
    ending: Option<Instant>,
    draining: bool,
    alive: Alive,
    same_node: SameNode,
}

impl Monitor {
    /// Tells a new worker everything.
    async fn replay(&mut self) {
        self.worker.send(Order::Secrets(self.secrets.clone()), &[]).await;
        for pod in self.pods.iter() {
            self.worker
                .send(Order::PodAdded(pod.description().clone()), &pod.listeners())
                .await;
        }
        if let Some(wanted) = self.same_node.wanted() {
            self.worker.send(Order::SameNode(wanted), &[]).await;
        }
        if self.synced {
            self.worker.send(Order::Snapshot(true), &[]).await;
        }
        for uid in self.pods.uids() {
            self.give_sockets(&uid, pods::INITIAL_SOCKETS).await;
        }
    }

    async fn on_agent(&mut self, zds: &mut Zds, packet: Packet) {
        match packet {
            Packet::Connected => {
                // The next agent says so again.
                self.has_successor = false;
                self.pods.begin_snapshot();
            }
            Packet::Request(Payload::Successor(successor), _) => {
                self.has_successor = successor.present;
                zds.acknowledge(None).await;
            }
            Packet::Request(Payload::Serving(_), descriptors) => {
                let told = self.alive.tell_in(&descriptors);
                if let Err(error) = &told {
                    tracing::error!(error, "cannot say that this proxy serves where the agent asks for it");
                }
                zds.acknowledge(told.err()).await;
            }
            Packet::Request(Payload::SameNode(wanted), _) => {
                for said in self.same_node.want(wanted.clone()) {
                    zds.same_node(said).await;
                }
                self.worker.send(Order::SameNode(wanted), &[]).await;
                zds.acknowledge(None).await;
            }
            Packet::Request(Payload::SameNodeUnused(unused), _) => {
                self.worker.send(Order::SameNodeUnused(unused), &[]).await;
                zds.acknowledge(None).await;
            }
            Packet::Request(Payload::SameNodeEnded(ended), _) => {
                self.worker.send(Order::SameNodeEnded(ended), &[]).await;
                zds.acknowledge(None).await;
            }
            Packet::Request(payload, descriptors) => {
                let is_snapshot = matches!(payload, Payload::SnapshotSent(_));
                let named = match &payload {
                    Payload::Add(add) => Some(add.uid.clone()),
                    Payload::Keep(keep) => Some(keep.uid.clone()),
                    _ => None,
                };
                let outcome = self.pods.apply(payload, descriptors);
                if let Err(error) = &outcome {
                    tracing::error!(%error, "refused a pod that the agent sent");
                }
                zds.acknowledge(outcome.as_ref().err().map(PodError::to_string)).await;
                if let Some(guard) = named.and_then(|uid| self.pods.get(&uid)?.guard().cloned()) {
                    zds.guard(guard).await;
                }
                for change in outcome.unwrap_or_default() {
                    self.forward(change).await;
                }
                if is_snapshot && !self.synced {
                    self.synced = true;
                    self.worker.send(Order::Snapshot(true), &[]).await;
                }
            }
        }
    }

    async fn forward(&mut self, change: Change) {
        match change {
            Change::Added { uid, listeners } => {
                let Some(pod) = self.pods.get(&uid) else { return };
                let description = pod.description_of(&listeners);
                tracing::info!(%uid, namespace = description.namespace, pod = description.name, "serving pod");
                self.worker
                    .send(Order::PodAdded(description), &pod.listeners_in(&listeners))
                    .await;
                self.give_sockets(&uid, pods::INITIAL_SOCKETS).await;
            }
            Change::Removed { uid } => {
                tracing::info!(%uid, "pod is no longer served; its open connections go on");
                self.worker.send(Order::PodRemoved(uid), &[]).await;
            }
        }
    }

    /// Returns true when the worker has drained.
    async fn on_report(&mut self, zds: &mut Zds, report: Report) -> bool {
        match report {
            Report::Ready(_) => tracing::info!(pid = self.worker.pid(), "the worker serves"),
            Report::NeedSockets(need) => self.give_sockets(&need.uid, need.count).await,
            Report::NeedDatagrams(need) => self.give_datagrams(need).await,
            Report::Certified(uid) => zds.certified(uid).await,
            Report::Guard(guard) => {
                if let Some(news) = self.pods.set_guard(guard) {
                    zds.guard(news).await;
                }
            }
            Report::SameNode(said) => {
                self.same_node.note(&said);
                zds.same_node(said).await;
            }
            Report::PodLost(uid) => self.send_again(&uid).await,
            Report::Alive(_) => {
                if !self.draining {
                    self.alive.answered();
                }
            }
            Report::Drained(_) => {
                tracing::info!("the last connection has ended");
                return true;
            }
        }
        false
    }

    /// A proxy that has not got all pods serves some of them only.
    async fn ask_worker(&mut self) {
        if self.synced && self.alive.ask() {
            self.worker.send(Order::Probe(true), &[]).await;
        }
    }

    /// The worker could not take a pod's listeners in. It has asked again because it believes that it can now.
    async fn send_again(&mut self, uid: &str) {
        let Some(pod) = self.pods.get(uid) else { return };
        tracing::info!(uid, "sending a pod to the worker again");
        self.worker
            .send(Order::PodAdded(pod.description().clone()), &pod.listeners())
            .await;
        self.give_sockets(uid, pods::INITIAL_SOCKETS).await;
    }

    async fn give_sockets(&mut self, uid: &str, count: u32) {
        let mut left = count.min(16 * BATCH);
        while left > 0 {
            let batch = left.min(BATCH);
            left -= batch;
            match self.pods.make_sockets(uid, batch) {
                Ok(sockets) if sockets.is_empty() => return,
                Ok(sockets) => {
                    self.worker
                        .send(Order::Sockets(uid.to_owned()), &crate::wire::borrow(&sockets))
                        .await
                }
                Err(error) => return tracing::error!(uid, %error, "cannot make sockets in the pod"),
            }
        }
    }

    async fn give_datagrams(&mut self, need: Datagrams) {
        match self.pods.make_datagrams(&need.uid, need.count.min(BATCH)) {
            Ok(sockets) if sockets.is_empty() => {}
            Ok(sockets) => {
                let order = Order::Datagrams(need);
                self.worker.send(order, &crate::wire::borrow(&sockets)).await;
            }
            Err(error) => tracing::error!(uid = need.uid, %error, "cannot make sockets in the pod"),
        }
    }

    /// Returns true when it is time to stop at once.
    async fn on_signal(&mut self, zds: &mut Zds, successor_wait: Duration) -> bool {
        if self.draining || self.ending.is_some() {
            tracing::warn!("asked again to stop: closing what is open");
            self.worker.kill().await;
            return true;
        }
        self.ending = Some(Instant::now() + successor_wait);
        zds.ending().await;
        if successor_wait.is_zero() || self.may_stop_accepting() {
            self.drain().await;
        } else {
            tracing::warn!(
                ?successor_wait,
                "asked to stop while no other proxy serves the pods: serving on"
            );
        }
        false
    }

    /// Whether connections that are made from now on find somebody else, or there is nobody to make any.
    fn may_stop_accepting(&self) -> bool {
        self.has_successor || self.pods.iter().next().is_none()
    }

    async fn drain(&mut self) {
        tracing::info!("draining: accepting nothing more, waiting for open connections to end");
        self.draining = true;
        self.worker.send(Order::Drain(true), &[]).await;
    }

    async fn reread(&mut self, args: &ControllerArgs) {
        match read_secrets(args, self.secrets.resolvers.clone()) {
            Ok(secrets) if secrets == self.secrets => {}
            Ok(secrets) => {
                tracing::info!("the token or the controller's roots changed");
                self.secrets = secrets;
                self.worker.send(Order::Secrets(self.secrets.clone()), &[]).await;
            }
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(error, "keeping the token and roots read before");
            }
        }
    }
}

fn read_secrets(args: &ControllerArgs, resolvers: Vec<String>) -> Result<Secrets, MonitorError> {
    let read = |path: &std::path::PathBuf| {
        std::fs::read(path).map_err(|source| MonitorError::Secret {
            path: path.clone(),
            source,
        })
    };
    let token = String::from_utf8_lossy(&read(&args.token_file)?).trim().to_owned();
    let controller_ca = read(&args.controller_ca)?;
    TrustBundle::from_pem(&controller_ca).map_err(|source| MonitorError::Roots {
        path: args.controller_ca.clone(),
        source,
    })?;
    Ok(Secrets {
        token,
        controller_ca,
        resolvers,
    })
}

/// The resolvers of this container, as they are at the start: those that can be asked from inside a pod, of which the loopback of the proxy's
/// container is none.
fn own_resolvers() -> Vec<String> {
    let is_for_pods = |address: IpAddr| !address.is_loopback() && !address.is_unspecified() && !address.is_multicast();
    let found = File::open(RESOLV_CONF).and_then(|file| resolv_conf::of_file(file, is_for_pods));
    let found = found.unwrap_or_else(|error| {
        tracing::debug!(%error, file = RESOLV_CONF, "no resolvers of the proxy's own");
        Vec::new()
    });
    found.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests;
