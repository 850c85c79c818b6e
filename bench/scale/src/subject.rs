//! The controller's process: started, fed and measured from outside.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, ChildStdin, Command};

use crate::usage;

/// How long a process that has failed may take to end.
const PATIENCE: Duration = Duration::from_secs(1);

/// How much of its log is shown then.
const LAST_LINES: usize = 5;

/// The process. It is killed when this is dropped.
pub(crate) struct Subject {
    child: Child,
    feed: ChildStdin,
    log: PathBuf,
    pub(crate) xds: SocketAddr,
}

impl Subject {
    /// Starts it, with its files in `state`.
    pub(crate) fn start(state: &Path) -> Result<Self> {
        let (xds, monitoring) = (free_port()?, free_port()?);
        let log = state.join("log");
        let mut child = Command::new(std::env::current_exe()?)
            .arg("controller")
            .args(["--xds", &xds.to_string(), "--monitoring", &monitoring.to_string()])
            .arg("--state-dir")
            .arg(state)
            .stdin(Stdio::piped())
            .stderr(fs::File::create(&log).with_context(|| log.display().to_string())?)
            .kill_on_drop(true)
            .spawn()
            .context("cannot start the controller")?;
        let feed = child.stdin.take().context("no standard input")?;
        Ok(Self { child, feed, log, xds })
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

    /// The CPU time that it has used.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        usage::cpu(self.id()?)
    }

    /// The memory that it has resident, in MB.
    pub(crate) fn memory(&self) -> Result<f64> {
        usage::resident_mb(self.id()?)
    }

    /// Why something failed: where the controller has ended, that, with what it said last.
    pub(crate) async fn explain(&mut self, error: anyhow::Error) -> anyhow::Error {
        // Its connections and its standard input are gone before it is.
        let Ok(Ok(status)) = tokio::time::timeout(PATIENCE, self.child.wait()).await else {
            return error;
        };
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let last = &lines[lines.len().saturating_sub(LAST_LINES)..];
        error.context(format!(
            "the controller ended ({status}), and said last:\n{}\n",
            last.join("\n")
        ))
    }

    fn id(&self) -> Result<u32> {
        self.child.id().context("the controller has ended")
    }
}

/// A port that nobody has at the moment. Where somebody takes it before the controller does, that ends, and says so.
fn free_port() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
