//! What the waypoint shows of itself over HTTP.
//!
//! | port | page | |
//! |---|---|---|
//! | admin | `/config_dump` | chains, routes, clusters with their endpoints and which of them are warming, the certificate |
//! | | `/logging` | the log filter; `POST /logging?level=debug` changes it |
//! | | `POST /quitquitquit` | drain and end |
//! | | `/debug/pprof/profile?seconds=5` | CPU profile |
//! | metrics | `/metrics`, `/stats/prometheus` | OpenMetrics |
//! | readiness | `/healthz/ready` | 200, or 503 with what is missing, a line each |

use std::{io, net::SocketAddr, sync::Arc, time::UNIX_EPOCH};

use arc_swap::ArcSwap;
use culvert_control::CredentialsByIdentity;
use culvert_http::RouteTable;
use culvert_identity::SpiffeId;
use culvert_telemetry::{Logging, Response, Routes, StatusCode, prometheus::registry::Registry};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::{Notify, watch},
};

use crate::{cli::Cli, run_error::RunError, state::Snapshot, subscriber::Progress};

/// What is shown.
#[derive(Clone)]
pub(crate) struct Views {
    pub(crate) state: Arc<ArcSwap<Snapshot>>,
    pub(crate) progress: Arc<Progress>,
    pub(crate) identity: SpiffeId,
    pub(crate) credentials: Arc<ArcSwap<CredentialsByIdentity>>,
    pub(crate) draining: watch::Receiver<bool>,
}

impl Views {
    /// What keeps the waypoint from serving; empty when it is ready.
    fn missing(&self) -> Vec<String> {
        let mut missing = self.progress.keeps_from_serving().to_vec();
        if *self.draining.borrow() {
            missing.push("draining".to_owned());
        }
        if !self.credentials.load().contains_key(&self.identity) {
            missing.push(format!("a certificate for {}", self.identity));
        }
        missing
    }

    fn dump(&self) -> Value {
        let snapshot = self.state.load_full();
        let certificate = self.credentials.load().get(&self.identity).map(|credentials| {
            let until = credentials.not_after().duration_since(UNIX_EPOCH).unwrap_or_default();
            json!({ "serial": credentials.serial(), "not_after": until.as_secs() })
        });
        json!({
            "identity": self.identity.to_string(),
            "certificate": certificate,
            "missing": *self.progress.missing(),
            "chains": snapshot.chains.as_ref().map(|chains| chains.dump()),
            "routes": snapshot.routes.iter().map(|(name, routes)| (name.to_string(), route_names(routes))).collect::<serde_json::Map<_, _>>(),
            "warming": snapshot.warming.dump(),
            "clusters": snapshot.clusters.iter().map(|(name, cluster)| (name.to_string(), cluster.dump())).collect::<serde_json::Map<_, _>>(),
        })
    }
}

/// A route configuration, for people.
fn route_names(routes: &RouteTable) -> Value {
    routes.routes().map(|route| route.name()).collect()
}

/// Opens the admin, metrics and readiness ports; what is returned is notified when somebody asks the waypoint to quit.
pub(crate) async fn serve(
    cli: &Cli,
    logging: Logging,
    registry: Registry,
    views: Views,
) -> Result<Arc<Notify>, RunError> {
    let registry = Arc::new(registry);
    let quit = Arc::new(Notify::new());
    let (asked, dumped) = (Arc::clone(&quit), views.clone());
    let admin = Routes::new()
        .get("/config_dump", move |_| Response::json(&dumped.dump()))
        .logging(logging)
        .profiles()
        .post("/quitquitquit", move |_| {
            asked.notify_one();
            Response::text("draining: the process ends when its last request has ended\n")
        })
        .metrics(Arc::clone(&registry));
    let readiness = Routes::new().get("/healthz/ready", move |_| {
        let missing = views.missing();
        match missing.is_empty() {
            true => Response::text("ready\n"),
            false => Response::status(
                StatusCode::SERVICE_UNAVAILABLE,
                format!("missing:\n{}\n", missing.join("\n")),
            ),
        }
    });
    let ports = [
        (cli.admin_listen, admin),
        (cli.metrics_listen, Routes::new().metrics(registry)),
        (cli.readiness_listen, readiness),
    ];
    for (address, routes) in ports {
        let listener = listen(address).map_err(|source| RunError::Listen { address, source })?;
        tokio::spawn(async move {
            if let Err(error) = culvert_telemetry::serve(listener, routes).await {
                tracing::error!(%address, %error, "pages are no longer served");
            }
        });
    }
    Ok(quit)
}

/// Binds a port. A predecessor that drains may still have it, so several processes may share it.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        tokio::net::TcpSocket::new_v4()
    } else {
        tokio::net::TcpSocket::new_v6()
    }?;
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    socket.listen(128)
}
