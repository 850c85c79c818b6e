//! The controller's process: started, fed and measured from outside.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, ChildStdin, Command};

use crate::usage;

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

    /// The CPU time that it has used.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        usage::cpu(self.id()?)
    }

    /// The memory that it has resident, in MB.
    pub(crate) fn memory(&self) -> Result<f64> {
        usage::resident_mb(self.id()?)
    }

    fn id(&self) -> Result<u32> {
        self.child.id().context("the controller has ended: see its log")
    }
}

fn free_port() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
