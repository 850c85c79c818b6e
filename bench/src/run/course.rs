//! The way of one mode: which pod dials what, and which proxies work for it.

use super::{
    loads::{Load, Program},
    mode::Mode,
};
use crate::{load, usage};
use anyhow::{Context, Result, ensure};
use culvert_lab::{Capture, Node, Pod, Process, wait_until};
use std::{
    net::{IpAddr, SocketAddr},
    process::Command,
    time::Duration,
};

/// Where the server applications listen: bytes, HTTP/1.1, HTTP/2.
pub(super) const PLAIN: u16 = 8080;
pub(super) const HTTP1: u16 = 8081;
pub(super) const HTTP2: u16 = 8082;
/// Of DNS.
pub(super) const DNS: u16 = 53;
/// Of the tunnel between Culvert's proxies.
const TUNNEL: u16 = 15008;

/// One mode's way.
pub(super) struct Course<'lab> {
    pub(super) mode: Mode,
    pub(super) client: Pod,
    pub(super) server_pod: Pod,
    /// Where the client finds the server: its address, or that of a Service with the ports of HTTP.
    pub(super) server: IpAddr,
    /// The resolver's address.
    pub(super) resolver: IpAddr,
    /// The ports of HTTP/1.1 and of HTTP/2.
    pub(super) web: [u16; 2],
    /// The name in requests of HTTP.
    pub(super) host: String,
    /// The proxies at each end, as the processes that all others of that end descend from.
    pub(super) ends: Vec<Vec<u32>>,
    /// The server's programs.
    pub(super) applications: Vec<u32>,
    /// Agents whose kernel programs the traffic meets.
    pub(super) agents: Vec<u32>,
    /// The node that counts what crosses the link; none when nothing does.
    pub(super) link: Option<&'lab Node>,
    /// What runs for this mode alone; a sidecar or a waypoint comes last.
    pub(super) processes: Vec<Process>,
}

impl Course<'_> {
    /// All proxies.
    pub(super) fn proxies(&self) -> Vec<u32> {
        self.ends.concat()
    }

    /// Proportional set size of the end that holds most, MB.
    pub(super) fn pss_mb(&self) -> Result<f64> {
        let ends: Result<Vec<f64>> = self.ends.iter().map(|end| usage::pss_mb(end)).collect();
        Ok(ends?.into_iter().fold(0.0, f64::max))
    }

    /// Whether everything that the mode needs still runs; if not, what ended.
    pub(super) fn check(&mut self) -> Result<()> {
        for process in &mut self.processes {
            ensure!(
                process.is_running(),
                "{} ended: {}",
                process.name(),
                process.log_tail(5)
            );
        }
        let gone = self.proxies().into_iter().find(|proxy| !usage::is_alive(*proxy));
        ensure!(gone.is_none(), "its proxy ended (process {})", gone.unwrap_or_default());
        Ok(())
    }

    /// The client program that sends this load for so long.
    pub(super) fn program(&self, load: &Load, seconds: f64, warm_up: f64) -> Result<Command> {
        let mut command = own_program()?;
        let to = match load.program {
            Program::Plain(kind) => {
                command.args(["load", "--kind", kind.name()]);
                match kind {
                    load::Kind::Names => SocketAddr::new(self.resolver, DNS),
                    _ => SocketAddr::new(self.server, PLAIN),
                }
            }
            Program::Http(kind) => {
                command.args(["http-load", "--kind", kind.name(), "--host", &self.host]);
                command.args(["--streams", &load.streams.to_string()]);
                if let Some(rate) = load.rate {
                    command.args(["--rate", &rate.to_string()]);
                }
                let [http1, http2] = self.web;
                let port = if kind == crate::http::Kind::Http1 { http1 } else { http2 };
                SocketAddr::new(self.server, port)
            }
        };
        command.args(["--to", &to.to_string(), "--connections", &load.connections.to_string()]);
        command.args(["--seconds", &seconds.to_string(), "--warm-up", &warm_up.to_string()]);
        Ok(command)
    }

    /// Sends a little of these loads through the way, which may take until the proxies know all, and looks at the link: a mode that claims
    /// encryption must have it.
    pub(super) fn verify(&self, loads: &[Load], node: &Node, patience: Duration) -> Result<()> {
        for load in loads {
            let mut last = Ok(());
            let what = format!("the applications can talk ({})", load.name);
            let waited = wait_until(&what, patience, || {
                last = self.try_out(load);
                last.is_ok()
            });
            if waited.is_err() {
                return last.and(waited);
            }
        }
        let ports = [TUNNEL, PLAIN, HTTP1, HTTP2];
        let is_sidecar = matches!(self.mode, Mode::Sidecar | Mode::SidecarHttp);
        let tls_ports = if is_sidecar { &ports[..] } else { &ports[..1] };
        let capture = Capture::start_on(node.namespace(), "wire", &[], tls_ports)?;
        // DNS is in clear everywhere: nothing here encrypts it on its way to a resolver outside.
        for load in loads
            .iter()
            .filter(|load| load.program != Program::Plain(load::Kind::Names))
        {
            self.try_out(load)?;
            let seen = capture.take();
            ensure!(seen.missed == 0, "the capture missed {} packets", seen.missed);
            if self.mode.is_encrypted() {
                let clear = seen.clear_bytes;
                let largest = seen.clear_flows.iter().max_by_key(|(_, bytes)| **bytes);
                let flow = largest.map_or_else(String::new, |((from, to), _)| {
                    format!(", most of them from {from} to {to}")
                });
                ensure!(
                    clear == 0,
                    "{clear} bytes crossed the link in clear ({}){flow}",
                    load.name
                );
                ensure!(seen.encrypted_bytes > 0, "nothing was seen on the link ({})", load.name);
            } else if self.mode.crosses_link() {
                ensure!(seen.clear_bytes > 0, "nothing was seen on the link ({})", load.name);
            } else {
                let crossed = seen.clear_bytes + seen.encrypted_bytes;
                ensure!(
                    crossed < 4096,
                    "{crossed} bytes crossed the link between the nodes ({})",
                    load.name
                );
            }
        }
        Ok(())
    }

    /// A little of this load, once.
    ///
    /// # Errors
    /// When anything of it fails.
    pub(super) fn try_out(&self, load: &Load) -> Result<()> {
        let few = Load {
            connections: load.connections.min(2),
            streams: load.streams.min(2),
            rate: load.rate.map(|rate| rate.min(500)),
            ..*load
        };
        let output = self.client.output(&mut self.program(&few, 0.02, 0.02)?)?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "the applications cannot talk: {}", said.trim());
        let figures = load::ended(&String::from_utf8_lossy(&output.stdout))?;
        ensure!(figures.failed == 0, "{}", figures.first_failure.unwrap_or_default());
        Ok(())
    }
}

/// This program, which is the applications, too.
pub(super) fn own_program() -> Result<Command> {
    Ok(Command::new(
        std::env::current_exe().context("find the running program")?,
    ))
}
