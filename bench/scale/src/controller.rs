//! The controller's process. Each line of standard input is an object (`{"kind": ..., "object": {...}}`), or `complete` once
//! all that there is at the beginning was told.

use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Parser as _;
use culvert_controller::flags::Cli;
use culvert_controller::run;
use culvert_controller::source::feed::{Feed, feed};
use culvert_objects::Kind;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::unix::pipe::Receiver;

/// Where it listens, and where its files are.
#[derive(clap::Args)]
pub(crate) struct Options {
    #[arg(long)]
    state_dir: PathBuf,
    #[arg(long)]
    xds: SocketAddr,
    #[arg(long)]
    monitoring: SocketAddr,
}

/// Runs until it is told to end.
pub(crate) fn run(options: &Options) -> Result<()> {
    let flags = Cli::try_parse_from([
        "culvert-controller".into(),
        "--state-dir".into(),
        options.state_dir.clone().into_os_string(),
        "--xds-listen".into(),
        options.xds.to_string().into(),
        "--monitoring-listen".into(),
        options.monitoring.to_string().into(),
    ])?;
    let _logging = culvert_telemetry::init("culvert-controller", flags.serve.log_format, &flags.serve.log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let (told, loaded) = feed();
        let telling = tokio::spawn(async move { tell(&told).await });
        let serving = run::run_fed(flags.serve, loaded);
        tokio::select! {
            ended = serving => ended.context("the controller ended"),
            ended = telling => ended?,
        }
    })
}

async fn tell(feed: &Feed) -> Result<()> {
    // Read as a socket to an API server is: tokio's own standard input is read by another thread, which is woken for each line.
    let input = std::io::stdin().as_fd().try_clone_to_owned()?;
    let mut lines = BufReader::new(Receiver::from_owned_fd(input)?).lines();
    while let Some(line) = lines.next_line().await? {
        if line == "complete" {
            feed.complete().await;
            continue;
        }
        let mut message: Value = serde_json::from_str(&line)?;
        let kind = message["kind"].as_str().unwrap_or_default();
        let kind = Kind::followed()
            .find(|known| known.name() == kind)
            .context("no such kind")?;
        feed.apply(kind, message["object"].take()).await;
    }
    Ok(())
}
