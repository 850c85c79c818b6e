//! Waiting while another agent serves the node.
//!
//! A rolling update ends the old agent when the new one is ready. So an agent that stands by is ready when it has seen that it could
//! take over: the kernel takes its programs, and the node's folders are what they must be. One that could not keeps the update from
//! going on, and the old one stays in charge.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use culvert_agent::{
    gate::install::{self, Places},
    kernel::{Kernel, KernelConfig},
    lock::{self, Attempt, NodeLock},
    monitoring,
};
use culvert_telemetry::Listeners;
use tokio::{sync::watch, task::spawn_blocking, time::sleep};

use crate::{cli::Cli, signals::Signals};

/// How long after a failure to try again.
const AGAIN: Duration = Duration::from_secs(10);

/// Waits until no other agent serves this node, as ready as one can be meanwhile. None when a signal comes first.
pub(crate) async fn our_turn(
    cli: &Cli,
    listeners: Listeners,
    signals: &mut Signals,
) -> Result<Option<(Listeners, NodeLock)>> {
    let path = lock::path_beside(&cli.zds_socket);
    let context = || format!("lock {}", path.display());
    let who = format!(
        "culvert-agent {} of {}, process {}",
        env!("CARGO_PKG_VERSION"),
        cli.node,
        std::process::id()
    );
    let (by, turn) = match lock::take(&path, &who).with_context(context)? {
        Attempt::Taken(lock) => return Ok(Some((listeners, lock))),
        Attempt::Held { by, turn } => (by, turn),
    };
    tracing::warn!(by, "another agent serves this node: standing by until it ends");
    let meanwhile = listeners.try_clone();
    let (obstacle, shown) = watch::channel(Some("it has not tried yet".to_owned()));
    let pages = monitoring::standby_routes(&cli.node, &by, shown);
    let lock = tokio::select! {
        lock = turn.wait() => lock.with_context(context)?,
        served = meanwhile.context("--monitoring-listen")?.serve(pages) => {
            served.context("serve --monitoring-listen")?;
            bail!("the pages ended");
        }
        () = try_out(cli, &obstacle) => bail!("it is tried for as long as it takes"),
        () = signals.next() => return Ok(None),
    };
    tracing::info!(by, "the other agent has ended: taking over");
    Ok(Some((listeners, lock)))
}

/// Tries until it works whether this agent could take over, and says so. Does not end.
async fn try_out(cli: &Cli, obstacle: &watch::Sender<Option<String>>) {
    loop {
        let (kernel, places) = (cli.kernel_config(), cli.places());
        let tried = spawn_blocking(move || could_serve(&kernel, places.as_ref())).await;
        match tried.context("try").and_then(|tried| tried) {
            Ok(()) => {
                tracing::info!("this agent could take over");
                obstacle.send_replace(None);
                return std::future::pending().await;
            }
            Err(error) => {
                let error = format!("{error:#}");
                tracing::error!(error, "this agent could not take over: the other one stays");
                obstacle.send_replace(Some(error));
            }
        }
        sleep(AGAIN).await;
    }
}

fn could_serve(kernel: &KernelConfig, places: Option<&Places>) -> Result<()> {
    Kernel::verify(kernel).context("load the kernel programs")?;
    match places {
        Some(places) => install::check(places).context("install the CNI plug-in"),
        None => Ok(()),
    }
}
