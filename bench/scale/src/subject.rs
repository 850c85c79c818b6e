//! The controller's process: started, fed and measured from outside.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, ChildStdin, Command};

/// The process. It is killed when this is dropped.
pub(crate) struct Subject {
    child: Child,
    feed: ChildStdin,
    pub(crate) xds: SocketAddr,
}

impl Subject {
    /// Starts it, with its files in `state`.
    pub(crate) fn start(state: &Path) -> Result<Self> {
        let (xds, monitoring) = (free_port()?, free_port()?);
        let mut child = Command::new(std::env::current_exe()?)
            .arg("controller")
            .args(["--xds", &xds.to_string(), "--monitoring", &monitoring.to_string()])
            .arg("--state-dir")
            .arg(state)
            .stdin(Stdio::piped())
            .stderr(fs::File::create(state.join("log"))?)
            .kill_on_drop(true)
            .spawn()?;
        let feed = child.stdin.take().context("no standard input")?;
        Ok(Self { child, feed, xds })
    }

    /// Tells it of an object.
    pub(crate) async fn apply(&mut self, kind: &str, object: Value) -> Result<()> {
        self.line(&json!({"kind": kind, "object": object}).to_string()).await
    }

    /// Sends one line.
    pub(crate) async fn line(&mut self, text: &str) -> Result<()> {
        self.feed.write_all(text.as_bytes()).await?;
        self.feed.write_all(b"\n").await?;
        Ok(self.feed.flush().await?)
    }

    /// The CPU time that all its threads have used, those that have ended among them.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let id = self.child.id().context("the controller has ended: see its log")?;
        let (mut clock, mut time) = (0, libc::timespec { tv_sec: 0, tv_nsec: 0 });
        // SAFETY: writes one clock id, which outlives the call.
        let code = unsafe { libc::clock_getcpuclockid(libc::pid_t::try_from(id)?, &raw mut clock) };
        ensure!(
            code == 0,
            "no CPU clock of process {id}: {}",
            io::Error::from_raw_os_error(code)
        );
        // SAFETY: writes one timespec, which outlives the call.
        let code = unsafe { libc::clock_gettime(clock, &raw mut time) };
        ensure!(
            code == 0,
            "the CPU clock of process {id}: {}",
            io::Error::last_os_error()
        );
        Ok(Duration::new(time.tv_sec.try_into()?, time.tv_nsec.try_into()?))
    }

    /// The memory that it holds, in MB.
    pub(crate) fn memory(&self) -> Result<f64> {
        let text = fs::read_to_string(self.proc("status")?)?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes: f64 = line
            .and_then(|line| line.split_whitespace().next())
            .context("no VmRSS")?
            .parse()?;
        Ok(kilobytes * 1024.0 / 1e6)
    }

    fn proc(&self, file: &str) -> Result<String> {
        let id = self.child.id().context("the controller has ended: see its log")?;
        Ok(format!("/proc/{id}/{file}"))
    }
}

fn free_port() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
