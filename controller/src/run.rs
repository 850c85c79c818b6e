//! Puts the rooms together and runs them until a signal ends it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use culvert_objects::{Defaults, Directory, Finding, Loaded};
use culvert_telemetry::prometheus::registry::Registry;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::authority::{CertificateService, Setup, SigningMetrics, Tokens};
use crate::flags::Serve;
use crate::model::{Model, Settings};
use crate::monitor::{self, ModelMetrics, Sources};
use crate::serve::{self, Discovery, DiscoveryMetrics, Nodes, Placed, ServeError};
use crate::snapshot::Snapshot;

/// Where the mesh's own parts are.
const SYSTEM_NAMESPACE: &str = "culvert-system";

/// Everything at one moment: what was read, and what was made of it.
#[derive(Debug, Default)]
pub struct State {
    /// The objects, and what is wrong with them.
    pub loaded: Arc<Loaded>,
    /// The resources made from them.
    pub snapshot: Snapshot,
}

/// Why the controller ended.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct RunError(#[from] Cause);

#[derive(Debug, thiserror::Error)]
enum Cause {
    #[error(transparent)]
    Open(#[from] culvert_objects::OpenError),
    #[error(transparent)]
    Authority(#[from] crate::authority::AuthorityError),
    #[error("`{0}` is no trust domain: lower-case letters, digits, '-', '_' and '.'")]
    TrustDomain(String),
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error("signals")]
    Signal(std::io::Error),
    #[error("a listener without an address")]
    Address(std::io::Error),
    #[error("TLS")]
    Tls(tokio_rustls::rustls::Error),
    #[error("monitoring")]
    Monitor(std::io::Error),
}

/// Makes a node's token and returns its file.
///
/// # Errors
/// When the name is no node's, or the file cannot be written.
pub fn node_token(state_dir: &Path, node: &str) -> Result<std::path::PathBuf, RunError> {
    Ok(tokens(state_dir).issue(node).map_err(Cause::from)?)
}

fn tokens(state_dir: &Path) -> Tokens {
    Tokens::new(state_dir.join("tokens"))
}

/// Serves until SIGTERM or SIGINT; a second one ends it at once.
///
/// # Errors
/// When it cannot begin, or a listener fails.
pub async fn run(flags: Serve) -> Result<(), RunError> {
    Ok(run_until_signal(flags).await?)
}

async fn run_until_signal(flags: Serve) -> Result<(), Cause> {
    let mut signals = Signals::new()?;
    if culvert_identity::SpiffeId::new(&flags.trust_domain, "a", "b").is_err() {
        return Err(Cause::TrustDomain(flags.trust_domain));
    }
    // On Kubernetes: the connection to the API server, and whether this replica leads.
    let client: Option<kube::Client> = None;
    let leader = watch::channel(true).1;
    let directory = Directory::open_with(
        &flags.config_dir,
        Defaults {
            service_cidrs: flags.service_cidr.clone(),
        },
    )?;

    let mut registry = Registry::default();
    let discovery_metrics = DiscoveryMetrics::register(&mut registry);
    let signing = SigningMetrics::register(&mut registry);
    let metrics = ModelMetrics::register(&mut registry);
    let settings = Settings {
        cluster_id: flags.cluster_id.clone(),
        trust_domain: flags.trust_domain.clone(),
        root_namespace: flags.root_namespace.clone(),
        cluster_domain: flags.cluster_domain.clone(),
    };
    let mut follower = Follow::new(settings, directory.loaded(), metrics);
    let state = follower.state.subscribe();
    let mut setup = authority(&flags, client.as_ref(), leader, &state)?;
    let keeping = setup.keep(serving_names(&flags));
    let (stop_sender, stop) = watch::channel(false);
    let nodes = Nodes::default();

    let xds = listen(flags.xds_listen).await?;
    let monitoring = listen(flags.monitoring_listen).await?;
    let (at, pages_at) = (address(&xds)?, address(&monitoring)?);
    tracing::info!(xds = %at, monitoring = %pages_at, "serving");
    let discovery = Discovery::new(
        state.clone(),
        Arc::clone(&setup.authenticator),
        nodes.clone(),
        discovery_metrics,
        stop.clone(),
    );
    let placed = Placed::new(state.clone(), &flags.trust_domain);
    let certificates = CertificateService::new(
        Arc::clone(&setup.authority),
        Arc::clone(&setup.authenticator),
        placed,
        signing.clone(),
    );
    let sources = Sources {
        state,
        nodes,
        signing,
        trust_domain: flags.trust_domain.clone(),
        signer: setup.authority.signer(),
        roots: setup.authority.bundle(),
        ca_problem: setup.problem.clone(),
        stop: stop.clone(),
    };
    let pages = culvert_telemetry::serve(monitoring, monitor::routes(sources, registry));
    let tls = setup.serving.tls().map_err(Cause::Tls)?;
    let grpc = serve::serve(xds, tls, discovery, certificates, stop);
    let changes = directory.watch();
    let serving = async {
        tokio::select! {
            ended = grpc => ended.map_err(Cause::from),
            ended = pages => ended.map_err(Cause::Monitor),
            () = follower.follow(changes) => Ok(()),
            () = keeping => Ok(()),
        }
    };
    let signalled = async {
        signals.next().await;
        tracing::info!("stopping; once more to stop at once");
        // Received by those who are still there.
        let _ = stop_sender.send(true);
        signals.next().await;
    };
    tokio::select! {
        ended = serving => ended?,
        () = signalled => tracing::warn!("stopped at once"),
    }
    tracing::info!("stopped");
    Ok(())
}

/// Who signs, and who may ask: by files, or by the cluster.
fn authority(
    flags: &Serve,
    client: Option<&kube::Client>,
    leader: watch::Receiver<bool>,
    state: &watch::Receiver<Arc<State>>,
) -> Result<Setup, Cause> {
    let (own, trust_domain) = (&flags.authority, &flags.trust_domain);
    Ok(match client {
        None => Setup::files(own, trust_domain, &flags.state_dir)?,
        Some(client) => {
            let node_of_pod = serve::node_of_pod(state.clone());
            Setup::cluster(own, trust_domain, SYSTEM_NAMESPACE, client, leader, node_of_pod)
        }
    })
}

/// Keeps the state up to date with the directory.
struct Follow {
    model: Model,
    findings: BTreeSet<Finding>,
    metrics: ModelMetrics,
    state: watch::Sender<Arc<State>>,
}

impl Follow {
    fn new(settings: Settings, loaded: Arc<Loaded>, metrics: ModelMetrics) -> Self {
        let state = watch::Sender::new(Arc::default());
        let mut follow = Self {
            model: Model::new(settings),
            findings: BTreeSet::new(),
            metrics,
            state,
        };
        follow.apply(loaded);
        follow
    }

    /// Follows until the directory is no longer followed, which is never.
    async fn follow(&mut self, mut changes: watch::Receiver<Arc<Loaded>>) {
        while changes.changed().await.is_ok() {
            let loaded = Arc::clone(&changes.borrow_and_update());
            self.apply(loaded);
        }
        tracing::error!("changes of the configuration are no longer noticed");
        std::future::pending().await
    }

    fn apply(&mut self, loaded: Arc<Loaded>) {
        let changes = self.model.update(&loaded.objects);
        let findings: BTreeSet<Finding> = loaded.findings.iter().cloned().collect();
        for finding in findings.difference(&self.findings) {
            tracing::warn!(%finding, "wrong in the configuration");
        }
        for finding in self.findings.difference(&findings) {
            tracing::info!(%finding, "no longer wrong");
        }
        self.findings = findings;
        let (updated, removed) = (changes.updated.len(), changes.removed.len());
        tracing::info!(
            generation = loaded.generation,
            objects = loaded.objects.len(),
            updated,
            removed,
            "configuration"
        );
        let state = State {
            loaded,
            snapshot: self.model.snapshot().clone(),
        };
        self.metrics.set(&state);
        self.state.send_replace(Arc::new(state));
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self, Cause> {
        let listen = |kind| signal(kind).map_err(Cause::Signal);
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, Cause> {
    let bound = TcpListener::bind(address).await;
    Ok(bound.map_err(|source| ServeError::Listen { address, source })?)
}

fn address(listener: &TcpListener) -> Result<SocketAddr, Cause> {
    listener.local_addr().map_err(Cause::Address)
}

/// The names in the server's certificate. Most clients ask for the Service; the loopback ones are for people.
fn serving_names(flags: &Serve) -> Vec<String> {
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
    // In every form in which the Service may be asked for.
    let service = format!("culvert-controller.{SYSTEM_NAMESPACE}");
    let domain = &flags.cluster_domain;
    names.extend([service.clone(), format!("{service}.svc"), format!("{service}.svc.{domain}")]);
    if !flags.xds_listen.ip().is_unspecified() {
        names.push(flags.xds_listen.ip().to_string());
    }
    names.extend(flags.serving_name.iter().cloned());
    names.sort();
    names.dedup();
    names
}
