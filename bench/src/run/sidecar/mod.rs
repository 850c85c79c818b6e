//! Two Envoy sidecars as Istio sets them up: one in the client's pod, one in the server's, each behind packet rules that bring it all that its
//! pod sends and receives. The client dials the server's address, as if nothing were there.
//!
//! `rules` are those of packets, `config` what Envoy is told, `tls` the identities.

mod config;
mod rules;
mod tls;

use anyhow::{Context, Result, ensure};
use config::{Port, Protocol};
use culvert_lab::{Pod, Process, wait_until};
use rules::{INBOUND, OUTBOUND, PROXY};
use serde_json::Value;
use std::{
    fs,
    net::{Ipv4Addr, TcpStream},
    os::unix::fs::chown,
    path::Path,
    process::Command,
    time::Duration,
};

/// What the sidecars of a pair of pods are to do.
pub(super) struct Pair<'a> {
    /// Envoy's program.
    pub(super) program: &'a Path,
    /// A folder of their own.
    pub(super) folder: &'a Path,
    pub(super) client: &'a Pod,
    pub(super) server: &'a Pod,
    /// Ports that are carried as bytes.
    pub(super) tcp: &'a [u16],
    /// Ports of HTTP/1.1 and of HTTP/2 that are carried as HTTP.
    pub(super) http: Option<[u16; 2]>,
}

/// Starts the server's sidecar and the client's, and waits until both listen.
///
/// # Errors
/// When there is no iptables, or Envoy does not come up: with its last words.
pub(super) fn start(pair: &Pair<'_>, patience: Duration) -> Result<[Process; 2]> {
    let logs = pair.folder.join("log");
    fs::create_dir_all(&logs).with_context(|| format!("cannot make {}", logs.display()))?;
    chown(&logs, Some(PROXY), Some(PROXY))?;
    tls::certificates(pair.folder)?;
    let mut ports: Vec<Port> = Vec::new();
    ports.extend(pair.tcp.iter().map(|number| of(*number, Protocol::Tcp)));
    if let Some([http1, http2]) = pair.http {
        ports.extend([of(http1, Protocol::Http1), of(http2, Protocol::Http2)]);
    }
    let server = config::server(pair.folder, &ports);
    let client = config::client(pair.folder, pair.server.ip4(), &ports);
    Ok([
        one(pair, pair.server, "server", &server, INBOUND, patience)?,
        one(pair, pair.client, "client", &client, OUTBOUND, patience)?,
    ])
}

fn of(number: u16, protocol: Protocol) -> Port {
    Port { number, protocol }
}

fn one(pair: &Pair<'_>, pod: &Pod, side: &str, config: &Value, port: u16, patience: Duration) -> Result<Process> {
    rules::write(pod, pair.folder)?;
    let file = pair.folder.join(format!("{side}.json"));
    fs::write(&file, serde_json::to_vec_pretty(config)?)?;
    // By user and group the rules know the proxy. It may read what root may, wherever the program and the keys are.
    let id = PROXY.to_string();
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", &id, "--regid", &id, "--clear-groups"])
        .args(["--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search"])
        .arg(pair.program)
        .arg("--config-path")
        .arg(file)
        // Istio's default of worker threads, and no more than there are processors.
        .args(["--concurrency", &processors().min(2).to_string()])
        .args(["--log-level", "warn", "--disable-hot-restart"]);
    let mut envoy = pod
        .spawn("envoy", &mut command)
        .context("sidecars need setpriv (util-linux)")?;
    let listens = || pod.run(|| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok());
    wait_until("the sidecar listens", patience, || {
        !envoy.is_running() || matches!(listens(), Ok(true))
    })
    .with_context(|| envoy.log_tail(20))?;
    ensure!(envoy.is_running(), "Envoy ended: {}", envoy.log_tail(20));
    Ok(envoy)
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
