//! Puts the rooms together and runs them until a signal ends it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use culvert_objects::{Defaults, Directory, Loaded};
use culvert_telemetry::prometheus::registry::Registry;
use culvert_telemetry::{ListenError, Listeners, LogFormat, Logging, register_cpu_time};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use crate::authority::{CertificateService, Setup, SigningMetrics, Strangers, TokenOwner, Tokens};
use crate::clock::Clock;
use crate::cluster::client::ClientError;
use crate::cluster::lease::Standing;
use crate::cluster::waypoints;
use crate::cluster::{Member, Outcomes};
use crate::flags::Serve;
use crate::follow::{Follow, OnChange};
use crate::inquiry;
use crate::keys::client::{self, BadRoots};
use crate::keys::keeper::Keeper;
use crate::model::{Model, Refusal, Settings};
use crate::monitor::{self, ModelMetrics, Sources};
use crate::policy_test;
use crate::refusals::Refusals;
use crate::serve::{self, Callers, Discovery, DiscoveryMetrics, Placed, SecretSource, ServeError, Shared, Streams};
use crate::source::{About, Source};
use crate::state::State;

/// How many streams may look through everything that their clients hold at the same time: more would only be slower together.
const LARGE_STREAMS: usize = 8;

/// Why the controller ended.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct RunError(#[from] Cause);

#[derive(Debug, thiserror::Error)]
enum Cause {
    #[error(transparent)]
    Open(#[from] culvert_objects::OpenError),
    #[error("the API server cannot be reached")]
    Cluster(#[from] ClientError),
    #[error(transparent)]
    Authority(#[from] crate::authority::AuthorityError),
    #[error(
        "--given-ca has no effect with --config-dir: there is no Secret that somebody could fill, and a root would be made"
    )]
    GivenCa,
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error("SIGTERM and SIGINT cannot be received")]
    Signal(std::io::Error),
    #[error("the kernel does not tell the address of --xds-listen or --monitoring-listen")]
    Address(std::io::Error),
    #[error("no TLS configuration for --xds-listen")]
    Tls(tokio_rustls::rustls::Error),
    #[error(transparent)]
    JwksRoots(#[from] BadRoots),
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error("the pages on --monitoring-listen are no longer served")]
    Monitor(std::io::Error),
}

/// Makes a node's token and returns its file.
///
/// # Errors
/// When the name is no node's, or the file cannot be written.
pub fn node_token(state_dir: &Path, node: &str) -> Result<std::path::PathBuf, RunError> {
    Ok(Tokens::below(state_dir).issue(node).map_err(Cause::from)?)
}

/// Makes the token of a pod that calls for itself, `NAMESPACE/POD`, as a service account of its namespace, and returns its file.
///
/// # Errors
/// When a name is none, or the file cannot be written.
pub fn workload_token(state_dir: &Path, pod: &str, account: &str) -> Result<std::path::PathBuf, RunError> {
    let (namespace, pod) = pod.split_once('/').unwrap_or(("", pod));
    let owner = TokenOwner {
        namespace: namespace.to_owned(),
        pod: pod.to_owned(),
        account: account.to_owned(),
    };
    Ok(Tokens::below(state_dir).issue_workload(&owner).map_err(Cause::from)?)
}

/// Serves until SIGTERM or SIGINT, by the time that `clock` tells; a second signal ends it at once. The page `/logging` acts on
/// `logging`.
///
/// # Errors
/// When it cannot begin, or a listener fails.
pub async fn run(flags: Serve, clock: Clock, logging: Option<Logging>) -> Result<(), RunError> {
    Ok(run_until_signal(flags, &clock, None, logging).await?)
}

/// As [`run`], with objects that somebody [feeds](crate::source::feed) and an authority in files: for benchmarks.
///
/// # Errors
/// As [`run`].
pub async fn run_fed(flags: Serve, fed: watch::Receiver<Arc<Loaded>>) -> Result<(), RunError> {
    Ok(run_until_signal(flags, &Clock::system(), Some(fed), None).await?)
}

async fn run_until_signal(
    flags: Serve,
    clock: &Clock,
    fed: Option<watch::Receiver<Arc<Loaded>>>,
    logging: Option<Logging>,
) -> Result<(), Cause> {
    let mut signals = Signals::new()?;
    if flags.config_dir.is_some() && flags.authority.given_ca {
        return Err(Cause::GivenCa);
    }
    let mut registry = Registry::default();
    register_cpu_time(&mut registry);
    let discovery_metrics = DiscoveryMetrics::register(&mut registry);
    let streams = Streams::register(&mut registry);
    let strangers = Strangers::register(&mut registry);
    let signing = SigningMetrics::register(&mut registry);
    let metrics = ModelMetrics::register(&mut registry);
    let settings = Settings {
        cluster_id: flags.cluster_id.clone(),
        trust_domain: flags.trust_domain.clone(),
        root_namespace: flags.root_namespace.clone(),
        cluster_domain: flags.cluster_domain.clone(),
        system_namespace: flags.cluster.namespace(),
        service_cidrs: flags.service_cidr.clone(),
    };
    let mut follower = Follow::new(metrics, on_change(&streams));
    let state = follower.state.subscribe();
    let (stop_sender, stop) = watch::channel(false);
    let (callers, refusals) = (Callers::default(), Refusals::default());
    let Backend {
        source,
        mut setup,
        standing,
        bundle_problem,
        refusals: of_all,
        chores,
    } = match (fed, &flags.config_dir) {
        (Some(fed), _) => Backend::files(&flags, || Ok(Source::fed(fed)), clock, &refusals)?,
        (None, Some(dir)) => Backend::directory(&flags, dir, clock, &refusals)?,
        (None, None) => Backend::cluster(&flags, clock, &mut registry, &state, &refusals, &stop).await?,
    };
    let model = match &source.about() {
        About::Kubernetes(_) => Model::of_cluster(settings),
        About::Directory(_) | About::Feed => Model::new(settings),
    };
    let mut changes = source.changes();
    follower.begin(model, &mut changes);
    let keeper = Keeper::new(client::client(flags.jwks_ca.as_deref())?, flags.jwks_refresh);
    let fetched = keeper.fetched();
    let fetching = keeper.run(follower.sources.subscribe());
    let keeping = setup.keep(serving_names(&flags));

    let xds = listen(flags.xds_listen).await?;
    let monitoring = Listeners::bind(flags.monitoring_listen, flags.readiness_listen).await?;
    let (at, pages_at) = (address(&xds)?, monitoring.address().map_err(Cause::Address)?);
    let probes_at = monitoring.probe_address().map_err(Cause::Address)?.unwrap_or(pages_at);
    tracing::info!(xds = %at, monitoring = %pages_at, readiness = %probes_at, "serving");
    let shared = Shared {
        state: state.clone(),
        roots: setup.trusted(),
        streams,
        callers: callers.clone(),
        refusals,
        metrics: discovery_metrics,
        stop: stop.clone(),
        longest: flags.stream_age,
        clock: clock.clone(),
        secrets: SecretSource {
            authority: Arc::clone(&setup.authority),
            trust_domain: flags.trust_domain.clone(),
        },
        large: Arc::new(Semaphore::new(LARGE_STREAMS)),
    };
    let discovery = Discovery::new(shared, Arc::clone(&setup.authenticator));
    let placed = Placed::new(state.clone(), &flags.trust_domain);
    let certificates = CertificateService::new(
        Arc::clone(&setup.authority),
        Arc::clone(&setup.authenticator),
        placed,
        signing.clone(),
    );
    let (trials, tried) = policy_test::trials();
    let (inquiries, asked) = inquiry::inquiries();
    let sources = Sources {
        state: state.clone(),
        source: source.about(),
        standing,
        callers,
        signing,
        trust_domain: flags.trust_domain.clone(),
        signer: setup.authority.signer(),
        roots: setup.authority.bundle(),
        ca_problem: setup.problem.clone(),
        revocation_problem: setup.revocation_problem(),
        bundle_problem,
        trials,
        inquiries,
        stop: stop.clone(),
    };
    let pages = monitoring.serve(monitor::routes(sources, registry, logging));
    let tls = setup.serving.tls().map_err(Cause::Tls)?;
    let known = all_is_known(state, stop.clone());
    // By a worker of the runtime: whom it wakes has not to be waited for by another thread, as those have that the main one wakes.
    let following = tokio::spawn(async move { follower.follow(changes, tried, asked, fetched, of_all).await });
    // Before its streams end, so that they begin again on another connection.
    let connection_age = flags.stream_age * 4 / 5;
    let grpc = async {
        known.await;
        serve::serve(xds, strangers, connection_age, tls, discovery, certificates, stop).await
    };
    let serving = async {
        tokio::select! {
            ended = grpc => ended.map_err(Cause::from),
            ended = pages => ended.map_err(Cause::Monitor),
            _ = following => Ok(()),
            () = fetching => Ok(()),
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
    for chore in chores {
        // What is left to do at the end, as giving the lease back, bounds its own time.
        let _ = chore.await;
    }
    tracing::info!("stopped");
    Ok(())
}

fn on_change(streams: &Streams) -> OnChange {
    let streams = streams.clone();
    Box::new(move |changes| streams.publish(changes))
}

/// Waits for the first state, or for the end. Until then clients' connections wait in the listener's queue.
async fn all_is_known(mut state: watch::Receiver<Arc<State>>, mut stop: watch::Receiver<bool>) {
    tokio::select! {
        _ = state.wait_for(|state| state.loaded.generation > 0) => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
}

/// Where the objects come from, who signs, and what else is to be done there.
struct Backend {
    source: Source,
    setup: Setup,
    standing: Option<watch::Receiver<Standing>>,
    /// Where the trust bundle cannot be written, if there is such a place.
    bundle_problem: watch::Receiver<Option<String>>,
    /// What proxies refuse, of all replicas.
    refusals: watch::Receiver<Arc<BTreeSet<Refusal>>>,
    chores: Vec<JoinHandle<()>>,
}

impl Backend {
    fn directory(flags: &Serve, dir: &Path, clock: &Clock, refusals: &Refusals) -> Result<Self, Cause> {
        let defaults = Defaults {
            service_cidrs: flags.service_cidr.clone(),
        };
        let read = || Ok(Source::directory(Directory::open_with(dir, defaults)?, dir));
        Self::files(flags, read, clock, refusals)
    }

    /// With an authority in files, and whatever source.
    fn files(
        flags: &Serve,
        source: impl FnOnce() -> Result<Source, Cause>,
        clock: &Clock,
        refusals: &Refusals,
    ) -> Result<Self, Cause> {
        let setup = Setup::files(&flags.authority, &flags.trust_domain, &flags.state_dir, clock)?;
        Ok(Self {
            source: source()?,
            setup,
            standing: None,
            bundle_problem: watch::channel(None).1,
            refusals: refusals.all(),
            chores: Vec::new(),
        })
    }

    async fn cluster(
        flags: &Serve,
        clock: &Clock,
        registry: &mut Registry,
        state: &watch::Receiver<Arc<State>>,
        refusals: &Refusals,
        stop: &watch::Receiver<bool>,
    ) -> Result<Self, Cause> {
        let member = Member::join(&flags.cluster, registry, stop).await?;
        let setup = Setup::cluster(
            &flags.authority,
            &flags.trust_domain,
            &member.namespace,
            &member.client,
            member.leader(),
            serve::node_of_pod(state.clone()),
            clock,
        )?;
        let (problem, bundle_problem) = watch::channel(None);
        let (told, of_all) = watch::channel(Arc::default());
        let outcomes = Outcomes {
            bundle_problem: problem,
            refusals: told,
        };
        Ok(Self {
            source: Source::kubernetes(&member.client, registry),
            standing: Some(member.standing.clone()),
            chores: member.chores(
                state,
                setup.authority.bundle(),
                refusals.all(),
                stop,
                outcomes,
                waypoints_of(flags),
            ),
            bundle_problem,
            refusals: of_all,
            setup,
        })
    }
}

/// What waypoints are told.
fn waypoints_of(flags: &Serve) -> waypoints::Settings {
    let environment = [
        ("CULVERT_CLUSTER_DOMAIN", &flags.cluster_domain),
        ("CULVERT_CLUSTER_ID", &flags.cluster_id),
        ("CULVERT_LOG", &flags.log),
        ("CULVERT_TRUST_DOMAIN", &flags.trust_domain),
    ];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.clone()));
    // What they do by themselves is not said, so that no waypoint is made anew for it.
    let format = (flags.log_format != LogFormat::Auto).then(|| flags.log_format.to_string());
    let format = format.map(|format| ("CULVERT_LOG_FORMAT".to_owned(), format));
    waypoints::Settings {
        image: flags.cluster.waypoint_image.clone(),
        envoy_image: flags.cluster.envoy_image.clone(),
        pull_policy: flags.cluster.waypoint_pull_policy.clone(),
        environment: environment.into_iter().chain(format).collect(),
        cluster_domain: flags.cluster_domain.clone(),
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
    let service = format!("culvert-controller.{}", flags.cluster.namespace());
    let domain = &flags.cluster_domain;
    names.extend([
        service.clone(),
        format!("{service}.svc"),
        format!("{service}.svc.{domain}"),
    ]);
    if !flags.xds_listen.ip().is_unspecified() {
        names.push(flags.xds_listen.ip().to_string());
    }
    names.extend(flags.serving_name.iter().cloned());
    names.sort();
    names.dedup();
    names
}
