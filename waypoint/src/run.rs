//! The program: control and pages on one thread, traffic on the others.

use std::{
    fs::File, net::SocketAddr, num::NonZero, path::PathBuf, process::ExitCode, sync::Arc, thread, time::Duration,
};

use arc_swap::ArcSwap;
use culvert_control::{
    Ask, Caller, ControlMetrics, CredentialsByIdentity, Inputs, Outputs, Published, Resources as _, Role, Secrets,
    Served, Settings, run_resources,
};
use culvert_dns::{
    forward::RESOLVER_PORT,
    resolv_conf::{self, RESOLV_CONF},
};
use culvert_hbone::Baggage;
use culvert_identity::{Credentials, SpiffeId, TrustBundle};
use culvert_state::Pod;
use culvert_telemetry::{AccessLines, Logging, prometheus::registry::Registry, register_cpu_time};
use culvert_tunnel::io::{CredentialSource, Dialer, Origin, Server, Settings as TunnelSettings, Tunnels};
use parking_lot::Mutex;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
};

use crate::{
    cli::{Cli, ControllerArgs},
    gauges::Gauges,
    health::Checks,
    memory::{self, Memory},
    names::{self, Resolutions},
    pages,
    run_error::RunError,
    serve::{Bound, Limits, Names, Worker, bind},
    state::{self, Snapshot, Store},
    subscriber::Subscriber,
    telemetry::Telemetry,
    upstream::{TlsFailures, Upstream},
};

/// How often the token and the controller's roots are read again: a kubelet replaces a token well before it expires.
const REREAD: Duration = Duration::from_secs(10);

/// The certificates that control holds.
struct Held(Arc<ArcSwap<CredentialsByIdentity>>);

impl CredentialSource for Held {
    fn credentials(&self, identity: &SpiffeId) -> Option<Arc<Credentials>> {
        self.0.load().get(identity).cloned()
    }
}

/// What threads are made from.
struct Parts {
    identity: SpiffeId,
    credentials: Arc<Held>,
    state: Arc<ArcSwap<Snapshot>>,
    telemetry: Arc<Telemetry>,
    tls_failures: TlsFailures,
    baggage: Arc<str>,
    limits: Limits,
    memory: Memory,
    names: Names,
    lines: AccessLines,
    gauges: Arc<Gauges>,
    drain: watch::Receiver<bool>,
}

impl Parts {
    /// A way to endpoints, for one thread.
    fn upstream(&self) -> Upstream {
        let credentials: Arc<dyn CredentialSource> = Arc::clone(&self.credentials) as _;
        let tunnels = Tunnels::new(Dialer, credentials, tunnel_settings());
        let origin = Origin {
            identity: self.identity.clone(),
            place: "".into(),
        };
        Upstream::new(tunnels, origin, Arc::clone(&self.baggage)).counting(self.tls_failures.clone())
    }

    fn worker(&self) -> Worker {
        let credentials: Arc<dyn CredentialSource> = Arc::clone(&self.credentials) as _;
        let server = Server::new(self.identity.clone(), credentials, tunnel_settings());
        let worker = Worker::new(
            Arc::clone(&self.state),
            server,
            self.upstream(),
            Arc::clone(&self.telemetry),
            self.drain.clone(),
            self.limits,
            self.memory.clone(),
            self.names.clone(),
            self.lines.clone(),
        );
        self.gauges.follow(worker.open());
        worker
    }
}

/// Runs until it is told to end, and has drained.
///
/// # Errors
/// When something is missing without which nothing can be served.
pub fn run(cli: &Cli, logging: Logging) -> Result<ExitCode, RunError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(cli, logging))
}

async fn serve(cli: &Cli, logging: Logging) -> Result<ExitCode, RunError> {
    let identity = SpiffeId::new(&cli.controller.trust_domain, &cli.namespace, &cli.service_account)?;
    let scope = format!("{}/{}", cli.namespace, cli.gateway);
    let pod = Arc::new(Pod {
        uid: cli.pod_name.as_str().into(),
        name: cli.pod_name.as_str().into(),
        namespace: cli.namespace.as_str().into(),
        identity: identity.clone(),
        addresses: vec![cli.pod_ip],
        node: cli.node.as_str().into(),
    });
    let (secrets, secrets_changes) = watch::channel(read_secrets(&cli.controller)?);
    let (asks, asked) = mpsc::unbounded_channel();
    let served = Arc::new(Served::default());
    served.insert(Arc::clone(&pod));
    // The receiver goes to control below.
    let _ = asks.send(Ask::Certificate(identity.clone()));
    let mut registry = Registry::default();
    register_cpu_time(&mut registry);
    let telemetry = Telemetry::register(&mut registry);
    tokio::spawn(Arc::clone(&telemetry).tend());
    let tls_failures = TlsFailures::register(&mut registry);
    let memory = Memory::register(&mut registry);
    let most = cli.memory_limit.unwrap_or_else(memory::of_container);
    tokio::spawn(memory.clone().follow(most));
    let published = Published::default();
    let store = Arc::new(Mutex::new(Store::register(&mut registry)));
    let state = store.lock().published();
    let subscriber = Subscriber::new(Arc::clone(&store), &scope);
    let resolutions = Resolutions::register(&mut registry);
    tokio::spawn(state::tend(Arc::clone(&store)));
    tokio::spawn(names::follow(store, resolvers(cli), resolutions));
    let progress = subscriber.progress();
    let gauges = Gauges::register(&mut registry, Arc::clone(&state), Arc::clone(&progress));
    let types = subscriber.types().into_iter().map(|kind| kind.label);
    let inputs = Inputs {
        settings: settings(cli, pod),
        secrets: secrets_changes,
        asks: asked,
        served,
    };
    let outputs = Outputs {
        published: published.clone(),
        notify: Arc::new(|_| {}),
        metrics: ControlMetrics::register(&mut registry, "culvert_waypoint", types),
    };
    tokio::spawn(run_resources(inputs, outputs, subscriber));
    tokio::spawn(follow_secrets(cli.controller.clone(), secrets));

    let (drain, draining) = watch::channel(false);
    let lines = logging.access_lines()?;
    let parts = Parts {
        identity: identity.clone(),
        credentials: Arc::new(Held(Arc::clone(&published.credentials))),
        state: Arc::clone(&state),
        telemetry,
        tls_failures,
        baggage: baggage(cli).into(),
        limits: Limits {
            tunnels: cli.tunnels_limit,
            connections: cli.connections_limit,
            requests: cli.requests_limit,
        },
        memory,
        names: Names {
            service: format!("{}.{}", cli.gateway, cli.namespace),
            hostname: cli.pod_name.clone(),
        },
        lines: lines.clone(),
        gauges,
        drain: draining.clone(),
    };
    let quit = pages::serve(
        cli,
        logging,
        registry,
        pages::Views {
            state,
            progress,
            identity: identity.clone(),
            credentials: published.credentials,
            draining,
        },
    )
    .await?;
    let checks = Checks {
        state: Arc::clone(&parts.state),
        upstream: parts.upstream(),
        telemetry: Arc::clone(&parts.telemetry),
    };
    tokio::spawn(checks.run());
    let mut ended = start_threads(cli, &parts)?;
    tracing::info!(gateway = scope, %identity, listen = %cli.listen, "waypoint");

    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = quit.notified() => {}
        // A thread ends before it is told to when it cannot go on.
        _ = ended.recv() => return Ok(ExitCode::FAILURE),
    }
    tracing::info!("draining: nothing new is accepted, and what is open is waited for");
    drain.send_replace(true);
    drop(parts);
    let late = async {
        match cli.drain_timeout {
            Some(timeout) => tokio::time::sleep(timeout).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        // Until the last thread has dropped its end.
        () = async { while ended.recv().await.is_some() {} } => tracing::info!("drained"),
        () = late => tracing::warn!("the drain timeout is over: what is open is cut"),
        _ = terminate.recv() => tracing::warn!("told to end a second time: what is open is cut"),
        _ = interrupt.recv() => tracing::warn!("told to end a second time: what is open is cut"),
    }
    lines.flush();
    Ok(ExitCode::SUCCESS)
}

/// Starts the threads that carry traffic. Each says when it has ended.
fn start_threads(cli: &Cli, parts: &Parts) -> Result<mpsc::Receiver<()>, RunError> {
    let processors = || thread::available_parallelism().map_or(1, NonZero::get);
    let count = cli.threads.map_or_else(processors, usize::from);
    let (say, ended) = mpsc::channel(count);
    let mut address = cli.listen;
    for number in 0..count {
        let bound = bind(address).map_err(|source| RunError::Listen { address, source })?;
        // With port 0, all take the first one's.
        address = bound.address()?;
        let (worker, say) = (parts.worker(), say.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        thread::Builder::new()
            .name(format!("waypoint-{number}"))
            .spawn(move || {
                carry(&runtime, &worker, bound);
                // Nobody listens any more when the process ends.
                let _ = say.try_send(());
            })?;
    }
    tracing::info!(threads = count, %address, "listening");
    Ok(ended)
}

fn carry(runtime: &tokio::runtime::Runtime, worker: &Worker, bound: Bound) {
    if let Err(error) = runtime.block_on(worker.serve(bound)) {
        tracing::error!(%error, "a thread accepts no more");
    }
    runtime.block_on(worker.flush());
}

fn settings(cli: &Cli, pod: Arc<Pod>) -> Settings {
    let controller = &cli.controller;
    Settings {
        caller: Caller::Workload {
            role: Role::Waypoint,
            pod,
        },
        controller: controller.controller.clone(),
        controller_name: controller.controller_name.clone(),
        controller_host: controller.controller_host,
        cluster_id: controller.cluster_id.clone(),
        trust_domain: controller.trust_domain.clone(),
        mesh_ranges: Vec::new(),
        api_server: None,
        on_demand: false,
    }
}

/// Everybody's requests to an endpoint share a tunnel, so whoever does not read an answer must not hold up the others: all streams of a
/// tunnel together cannot hold so much that its connection gets no more credit.
fn tunnel_settings() -> TunnelSettings {
    const STREAM_WINDOW: u32 = 512 << 10;
    let mut settings = TunnelSettings::default();
    let hbone = &mut settings.hbone;
    hbone.stream_window = STREAM_WINDOW;
    hbone.held_limit = hbone
        .held_limit
        .max(u64::from(hbone.max_streams) * u64::from(STREAM_WINDOW));
    settings
}

/// What the waypoint says of itself to endpoints.
fn baggage(cli: &Cli) -> String {
    Baggage {
        cluster: cli.controller.cluster_id.clone(),
        namespace: cli.namespace.clone(),
        workload_kind: "deployment".to_owned(),
        workload: cli.gateway.clone(),
        service: cli.gateway.clone(),
        version: String::new(),
    }
    .encode()
}

/// Those that endpoints' names are asked of.
fn resolvers(cli: &Cli) -> Vec<SocketAddr> {
    if !cli.resolvers.is_empty() {
        return cli.resolvers.clone();
    }
    let found = File::open(RESOLV_CONF).and_then(|file| resolv_conf::of_file(file, |_| true));
    let found = found.unwrap_or_else(|error| {
        tracing::warn!(path = RESOLV_CONF, %error, "no resolver is known: endpoints that are names lead nowhere");
        Vec::new()
    });
    found
        .into_iter()
        .map(|address| SocketAddr::new(address, RESOLVER_PORT))
        .collect()
}

fn read_secrets(args: &ControllerArgs) -> Result<Secrets, RunError> {
    let read = |path: &PathBuf| {
        std::fs::read(path).map_err(|source| RunError::File {
            path: path.clone(),
            source,
        })
    };
    let roots = read(&args.controller_ca)?;
    TrustBundle::from_pem(&roots).map_err(|source| RunError::Roots {
        path: args.controller_ca.clone(),
        source,
    })?;
    Ok(Secrets {
        token: String::from_utf8_lossy(&read(&args.token_file)?).trim().to_owned(),
        roots,
    })
}

/// Reads the token and the roots again and again.
async fn follow_secrets(args: ControllerArgs, secrets: watch::Sender<Secrets>) {
    let mut tick = tokio::time::interval(REREAD);
    loop {
        tick.tick().await;
        match read_secrets(&args) {
            Ok(now) => {
                secrets.send_if_modified(|before| {
                    let changed = *before != now;
                    *before = now;
                    changed
                });
            }
            Err(error) => tracing::warn!(error = crate::causes(&error), "keeping the token and roots read before"),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::read_secrets;
    use crate::cli::Cli;

    /// Seen: without a root that could be used, it asked for a certificate for ever, and later a good root gave way to a broken file.
    #[test]
    fn a_file_with_roots_that_holds_none_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let (roots, token) = (folder.path().join("root.pem"), folder.path().join("token"));
        std::fs::write(&roots, "no PEM at all").unwrap();
        std::fs::write(&token, "token").unwrap();
        let flags = |name: &str, value: &str| [format!("--{name}"), value.to_owned()];
        let given = [
            ("gateway", "wp"),
            ("namespace", "shop"),
            ("pod-name", "wp-1"),
            ("service-account", "wp"),
            ("controller-ca", roots.to_str().unwrap()),
            ("token-file", token.to_str().unwrap()),
        ];
        let arguments = given.iter().flat_map(|(name, value)| flags(name, value));
        let cli = Cli::parse_from(std::iter::once("culvert-waypoint".to_owned()).chain(arguments));
        let error = read_secrets(&cli.controller).err().unwrap().to_string();
        assert!(error.contains("root.pem"), "{error}");
    }
}
