//! The worker: gives its privileges up, then starts everything that touches traffic or configuration.
//!
//! One thread for each event loop, and this one, which runs control, the admin pages and the conversation with the
//! monitor. When the monitor goes away, the worker drains: nobody would give it sockets any more.

mod added;
mod guards;
mod heap;
mod news;
mod pages;
mod same_node;
mod shortage;

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    os::fd::{AsFd as _, OwnedFd},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use culvert_control::{Ask, Change, Inputs, Outputs, Published, Served};
use culvert_dns::resolv_conf::resolver;
use culvert_net::packet::{self, AsyncPacketSocket, LostDescriptors, PacketSocket};
use culvert_net::privilege::Held;
use culvert_telemetry::Logging;
use culvert_tunnel::{budget::HeldBytes, life::Limits};
use prost::Message as _;
use tokio::sync::{mpsc, watch};

use crate::{
    cli::Cli,
    descriptors::Descriptors,
    engine::{self, EngineConfig, LoopHandle},
    memory,
    readiness::Readiness,
    seam::{Answer, LoopMessage, SameNodeTargets, Shared},
    telemetry::Telemetry,
    wire::{self, Datagrams, NeedSockets, Order, PodAdded, Report, Secrets, ToWorker},
};
use added::{describe, for_each_loop, role_of};
use heap::Heap;
use news::News;
use pages::CannotListen;
use shortage::Shortage;

/// How often drained loops are looked for, series swept, and what a lack of descriptors prevented is tried again.
const TICK: Duration = Duration::from_millis(100);

/// How long the monitor may take to hear that the worker has drained.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Between two attempts to receive when the kernel lacks memory.
const RECEIVE_PAUSE: Duration = Duration::from_millis(10);

/// Ticks between two sweeps of metric series.
const SWEEP_TICKS: u32 = 600;

/// Ticks between two looks for memory that nobody uses any more.
const HEAP_TICKS: u32 = 50;

/// Why the worker cannot serve.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WorkerError {
    #[error("standard input is not the monitor's socket; the worker is started by the monitor alone")]
    NoMonitor(#[source] io::Error),
    #[error("the monitor said nothing useful first")]
    NoSecrets,
    #[error(transparent)]
    Pages(#[from] CannotListen),
    #[error("cannot start the event loops")]
    Engine(#[source] io::Error),
    #[error("cannot start the runtime")]
    Runtime(#[source] io::Error),
}

/// Runs until drained. `held` says that privileges have been given up.
///
/// # Errors
/// When the monitor is not there, or a port is taken.
pub(crate) fn run(cli: &Cli, held: Held, logging: Logging) -> Result<ExitCode, WorkerError> {
    let socket = io::stdin().as_fd().try_clone_to_owned().and_then(PacketSocket::from_fd);
    let socket = socket.map_err(WorkerError::NoMonitor)?;
    tracing::info!(
        worker_capabilities = held.capabilities,
        no_new_privs = u8::from(held.no_new_privs),
        seccomp = held.seccomp,
        "privileges are given up"
    );
    let secrets = first_secrets(&socket)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(WorkerError::Runtime)?;
    runtime.block_on(serve(cli, logging, socket, secrets))
}

/// The monitor speaks first: what follows needs the token and the roots.
fn first_secrets(socket: &PacketSocket) -> Result<Secrets, WorkerError> {
    let mut message = Vec::new();
    socket.recv(&mut message).map_err(WorkerError::NoMonitor)?;
    match ToWorker::decode(message.as_slice()) {
        Ok(ToWorker {
            order: Some(Order::Secrets(secrets)),
        }) => Ok(secrets),
        _ => Err(WorkerError::NoSecrets),
    }
}

async fn serve(cli: &Cli, logging: Logging, socket: PacketSocket, secrets: Secrets) -> Result<ExitCode, WorkerError> {
    let socket = Arc::new(AsyncPacketSocket::new(socket).map_err(WorkerError::NoMonitor)?);
    let (reports, unsaid) = mpsc::unbounded_channel();
    let speaking = tokio::spawn(speak(Arc::clone(&socket), unsaid));
    let (asks, asked) = mpsc::unbounded_channel();
    let (socket_requests, mut wanted_sockets) = mpsc::unbounded_channel();
    let (datagram_requests, mut wanted_datagrams) = mpsc::unbounded_channel();
    let (together, mut proposed) = mpsc::unbounded_channel();
    let published = Published::default();
    let shared = Arc::new(Shared {
        mesh: Arc::clone(&published.mesh),
        credentials: Arc::clone(&published.credentials),
        asks,
        socket_requests,
        datagram_requests,
        names: Default::default(),
        same_node: SameNodeTargets::new(together),
        telemetry: Telemetry::new(cli.metrics.settings()),
    });
    let limits = Limits {
        idle: cli.engine.tunnel_idle,
        ping_interval: cli.engine.tunnel_ping_interval,
        ping_timeout: cli.engine.tunnel_ping_timeout,
        stale_grace: cli.engine.tunnel_grace,
        ..Limits::default()
    };
    let config = EngineConfig {
        connect_timeout: cli.engine.connect_timeout,
        cluster_domain: cli
            .controller
            .cluster_domain
            .trim_matches('.')
            .to_ascii_lowercase()
            .into(),
        // Silence is noticed by looking.
        sweep: EngineConfig::default().sweep.min(limits.ping_interval),
        limits,
        held: Arc::new(HeldBytes::new(
            cli.engine.held_memory.unwrap_or_else(memory::held_bytes),
        )),
        resolvers: own_resolvers(cli, &secrets),
        ..EngineConfig::default()
    };
    tracing::info!(bytes = config.held.limit(), "what connections may make the proxy hold");
    let loops = engine::spawn(&shared, config, cli.engine.loops.into()).map_err(WorkerError::Engine)?;
    let loops: Arc<[LoopHandle]> = loops.into();

    let node: Arc<str> = cli.node.as_str().into();
    let served = Arc::new(Served::default());
    let readiness = Arc::new(Readiness::new(Arc::clone(&served), published.clone()));
    let (secrets_sender, secrets) = watch::channel(for_control(secrets));
    let inputs = Inputs {
        settings: cli.controller.settings(&node),
        secrets,
        asks: asked,
        served: Arc::clone(&served),
    };
    let notified = Arc::clone(&loops);
    let (changes, mut changed) = watch::channel(());
    let outputs = Outputs {
        published,
        notify: Arc::new(move |change| {
            for handle in notified.iter() {
                handle.send(match &change {
                    Change::Mesh(change) => LoopMessage::MeshChanged(Arc::clone(change)),
                    Change::Certificates => LoopMessage::CertificatesChanged,
                });
            }
            changes.send_replace(());
        }),
        metrics: shared.telemetry.control().clone(),
    };
    tokio::spawn(culvert_control::run(inputs, outputs));
    let drain = pages::serve(cli, logging.clone(), &shared, &served, &readiness).await?;

    let news = News::new(Arc::clone(&shared));
    let shortage = Shortage::new(Descriptors::of_this_process(), Arc::clone(&loops), Arc::clone(&shared));
    let mut worker = Worker {
        loops,
        shared,
        served,
        readiness,
        trust_domain: cli.controller.trust_domain.clone(),
        node,
        secrets: secrets_sender,
        draining: false,
        next_loop: HashMap::new(),
        news,
        shortage,
    };
    // Fails, here and below, only when the task has panicked.
    let _ = reports.send(Report::Ready(true));
    let mut tick = tokio::time::interval(TICK);
    let mut ticks = 0;
    let mut heap = Heap::default();
    // What was needed to begin, and is no longer.
    culvert_net::heap::trim();
    let mut message = Vec::new();
    let mut monitor_gone = false;
    loop {
        tokio::select! {
            received = socket.recv(&mut message), if !monitor_gone => match received {
                Ok(Some(descriptors)) => {
                    worker.follow(&message, descriptors, &reports);
                    worker.news.report(&reports);
                }
                Err(error) if LostDescriptors::is_cause_of(&error) => worker.lose_descriptors(&message),
                Err(error) if !packet::is_closed(&error) => {
                    tracing::warn!(%error, "cannot receive from the monitor; trying again");
                    tokio::time::sleep(RECEIVE_PAUSE).await;
                }
                Ok(None) | Err(_) => {
                    tracing::warn!("the monitor is gone: draining");
                    monitor_gone = true;
                    worker.drain();
                }
            },
            Some((uid, count)) = wanted_sockets.recv() => {
                let count = worker.shortage.portion(count);
                let _ = reports.send(Report::NeedSockets(NeedSockets { uid: uid.to_string(), count }));
            }
            Some((uid, count, number)) = wanted_datagrams.recv() => {
                let need = Datagrams { uid: uid.to_string(), count, event_loop: number as u32 };
                let _ = reports.send(Report::NeedDatagrams(need));
            }
            Ok(()) = changed.changed() => worker.news.report(&reports),
            Some(proposal) = proposed.recv() => {
                worker.news.propose(proposal);
                while let Ok(proposal) = proposed.try_recv() {
                    worker.news.propose(proposal);
                }
                worker.news.report_same_node(&reports);
            }
            () = drain.notified() => worker.drain(),
            _ = tick.tick() => {
                ticks += 1;
                worker.shortage.try_again(&reports);
                worker.news.report_same_node(&reports);
                if ticks % HEAP_TICKS == 0 {
                    heap.look(worker.shared.telemetry.load().open());
                }
                if ticks % SWEEP_TICKS == 0 {
                    worker.shared.telemetry.accounting().sweep();
                }
                if worker.loops.iter().all(LoopHandle::is_finished) {
                    break;
                }
            }
        }
    }
    logging.flush();
    if !worker.draining {
        // The loops said why. A process without them serves nobody: the monitor starts the next.
        return Ok(ExitCode::FAILURE);
    }
    let _ = reports.send(Report::Drained(true));
    drop(reports);
    // A monitor that does not listen sees that the process has ended.
    let _ = tokio::time::timeout(LAST_WORDS, speaking).await;
    Ok(ExitCode::SUCCESS)
}

/// Speaks to the monitor, on a task of its own: were the worker to wait for the monitor's ear while the monitor waits for
/// the worker's, with both queues full, both would wait for ever.
async fn speak(socket: Arc<AsyncPacketSocket>, mut reports: mpsc::UnboundedReceiver<Report>) {
    while let Some(report) = reports.recv().await {
        if let Err(error) = socket.send(&wire::report(report), &[]).await {
            tracing::debug!(%error, "the monitor does not listen");
        }
    }
}

struct Worker {
    loops: Arc<[LoopHandle]>,
    shared: Arc<Shared>,
    served: Arc<Served>,
    readiness: Arc<Readiness>,
    trust_domain: String,
    node: Arc<str>,
    secrets: watch::Sender<culvert_control::Secrets>,
    draining: bool,
    /// Which loop gets a pod's next sockets, so that a batch smaller than the number of loops goes round.
    next_loop: HashMap<String, usize>,
    news: News,
    shortage: Shortage,
}

impl Worker {
    fn follow(&mut self, message: &[u8], descriptors: Vec<OwnedFd>, reports: &mpsc::UnboundedSender<Report>) {
        match ToWorker::decode(message) {
            Ok(ToWorker { order: Some(order) }) => match order {
                Order::Secrets(secrets) => drop(self.secrets.send_replace(for_control(secrets))),
                Order::PodAdded(pod) => self.add(pod, descriptors),
                Order::PodRemoved(uid) => self.remove(&uid),
                Order::Snapshot(_) => self.readiness.set_complete(),
                Order::Sockets(uid) => self.distribute(uid, descriptors),
                Order::Datagrams(Datagrams { uid, event_loop, .. }) => {
                    if let Some(handle) = self.loops.get(event_loop as usize) {
                        handle.send(LoopMessage::Datagrams(uid.as_str().into(), descriptors));
                    }
                }
                Order::SameNode(wanted) => self.news.want_same_node(wanted.uids),
                Order::SameNodeEnded(ended) => self.news.account_same_node(ended),
                Order::SameNodeUnused(unused) => self.news.forget_same_node(unused.pairs),
                Order::Drain(_) => self.drain(),
                Order::Probe(_) => {
                    let answer = Arc::new(Answer(reports.clone()));
                    for handle in self.loops.iter() {
                        handle.send(LoopMessage::Probe(Arc::clone(&answer)));
                    }
                }
            },
            _ => tracing::error!("the monitor sent what does not parse"),
        }
    }

    fn add(&mut self, added: PodAdded, descriptors: Vec<OwnedFd>) {
        let roles = added.roles.clone();
        let pod = match describe(added, &self.trust_domain, &self.node) {
            Ok(pod) => Arc::new(pod),
            Err(error) => return tracing::error!(%error, "a pod without an identity cannot be served"),
        };
        let known = roles
            .iter()
            .zip(descriptors)
            .filter_map(|(role, fd)| Some((role_of(*role)?, fd)));
        match for_each_loop(known.collect(), self.loops.len()) {
            Ok(listeners) => {
                for (handle, listeners) in self.loops.iter().zip(listeners) {
                    handle.send(LoopMessage::PodAdded(Arc::clone(&pod), listeners));
                }
            }
            Err(error) => {
                tracing::error!(uid = %pod.uid, %error, "cannot listen for the pod; trying again");
                self.shortage.lose_listeners(pod.uid.to_string());
                return;
            }
        }
        // First: nothing is signed for an identity that no served pod has.
        self.served.insert(Arc::clone(&pod));
        // The receiver lives as long as the process.
        let _ = self.shared.asks.send(Ask::Certificate(pod.identity.clone()));
        // On demand, nobody but the pod itself would ask for what is known of it: its policies, above all.
        for address in &pod.addresses {
            let _ = self.shared.asks.send(Ask::Address(*address));
        }
        self.news.add(pod);
    }

    fn remove(&mut self, uid: &str) {
        self.next_loop.remove(uid);
        self.shortage.forget(uid);
        self.news.remove(uid);
        if let Some(pod) = self.served.remove(uid) {
            self.loops
                .iter()
                .for_each(|handle| handle.send(LoopMessage::PodRemoved(Arc::clone(&pod.uid))));
        }
    }

    /// A message came without all of its descriptors, and those that came are closed: what it brought is asked for again.
    fn lose_descriptors(&mut self, message: &[u8]) {
        match ToWorker::decode(message) {
            Ok(ToWorker {
                order: Some(Order::PodAdded(pod)),
            }) => {
                tracing::error!(
                    uid = pod.uid,
                    "no descriptors for the pod's listening sockets; trying again"
                );
                self.shortage.lose_listeners(pod.uid);
            }
            Ok(ToWorker {
                order: Some(Order::Sockets(uid)),
            }) => self.shortage.miss_sockets(uid),
            Ok(ToWorker {
                order: Some(Order::Datagrams(lost)),
            }) => tracing::debug!(
                uid = lost.uid,
                "no descriptors for asking resolvers; asking again with the next query"
            ),
            _ => tracing::error!("a message of the monitor lost descriptors that it should not have had"),
        }
    }

    fn distribute(&mut self, uid: String, mut sockets: Vec<OwnedFd>) {
        self.shortage.keep_back(&uid, &mut sockets);
        let mut shares: Vec<Vec<OwnedFd>> = self.loops.iter().map(|_| Vec::new()).collect();
        let first = *self.next_loop.get(&uid).unwrap_or(&0);
        let count = sockets.len();
        for (place, socket) in sockets.into_iter().enumerate() {
            shares[(first + place) % self.loops.len()].push(socket);
        }
        let name: Arc<str> = uid.as_str().into();
        self.next_loop.insert(uid, (first + count) % self.loops.len());
        for (handle, share) in self.loops.iter().zip(shares) {
            handle.send(LoopMessage::Sockets(Arc::clone(&name), share));
        }
    }

    fn drain(&mut self) {
        self.draining = true;
        self.readiness.set_draining();
        self.loops.iter().for_each(|handle| handle.send(LoopMessage::Drain));
    }
}

/// Whom pods' names of endpoints are asked of, where a pod has asked no resolver itself.
fn own_resolvers(cli: &Cli, secrets: &Secrets) -> Arc<[SocketAddr]> {
    let resolvers: Arc<[SocketAddr]> = if cli.engine.resolvers.is_empty() {
        let read = secrets.resolvers.iter().map(|text| resolver(text));
        read.filter_map(Result::ok).collect()
    } else {
        cli.engine.resolvers.as_slice().into()
    };
    tracing::info!(?resolvers, "the resolvers of pods that have asked none themselves");
    resolvers
}

/// What control needs of the monitor's files.
fn for_control(secrets: Secrets) -> culvert_control::Secrets {
    culvert_control::Secrets {
        token: secrets.token,
        roots: secrets.controller_ca,
    }
}
