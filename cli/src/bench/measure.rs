//! One load: a pod that is the client, and what the nodes' proxies spend while it measures.

use super::{
    nodes::Place,
    site::{Mode, Site},
};
use crate::{
    cluster::{Cluster, names::ports},
    survey::metric,
};
use anyhow::{Context as _, Result, bail};
use futures_util::{AsyncBufReadExt as _, StreamExt as _};
use kube::api::{DeleteParams, LogParams};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, time::Duration};

/// How much longer than its time a load may take.
const GRACE: Duration = Duration::from_secs(60);

/// A load, as `culvert-bench load` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Load {
    pub(super) name: &'static str,
    /// `--kind`
    kind: &'static str,
    connections: &'static str,
}

impl Load {
    /// In the order of a round.
    pub(super) const ALL: [Self; 4] = [
        Self::new("requests-1", "requests", "1"),
        Self::new("requests-16", "requests", "16"),
        Self::new("connections", "connections", "16"),
        Self::new("stream", "upload", "1"),
    ];

    const fn new(name: &'static str, kind: &'static str, connections: &'static str) -> Self {
        Self {
            name,
            kind,
            connections,
        }
    }
}

/// A line of a load's log.
#[derive(Debug, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Line {
    Started,
    Ended(Figures),
}

/// What a load did in its measured time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Figures {
    pub(super) seconds: f64,
    /// Of payload.
    pub(super) bytes: u64,
    /// Requests answered, or connections served.
    pub(super) count: u64,
    /// Of one, microseconds.
    pub(super) p50_us: u64,
    pub(super) p99_us: u64,
    /// Connections that failed.
    #[serde(default)]
    pub(super) failed: u64,
}

/// One load of one mode in one round.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Sample {
    pub(super) mode: &'static str,
    pub(super) load: &'static str,
    pub(super) round: u32,
    #[serde(flatten)]
    pub(super) figures: Figures,
    /// What the proxies of both nodes spent on processors meanwhile, seconds: with all that other pods there had them do.
    pub(super) proxies_cpu_seconds: f64,
}

/// Sends a load from one node to a server, `ADDRESS:PORT`.
pub(super) async fn once(
    site: &Site<'_>,
    places: &[Place; 2],
    (mode, load, round): (Mode, Load, u32),
    to: &str,
    time: Duration,
) -> Result<Sample> {
    let name = format!("load-{round}-{}", load.name);
    let seconds = time.as_secs_f64().to_string();
    let arguments = [
        "load",
        "--kind",
        load.kind,
        "--to",
        to,
        "--seconds",
        &seconds,
        "--connections",
        load.connections,
    ];
    site.load(mode, &name, &places[0], &arguments).await?;
    let followed = tokio::time::timeout(time + GRACE, follow(site, mode, &name, places)).await;
    let what = || format!("{} in namespace {}", load.name, mode.namespace());
    let (figures, proxies_cpu_seconds) = match followed {
        Ok(followed) => followed.with_context(what)?,
        Err(_) => bail!("{}: no figures {} s after its time was over", what(), GRACE.as_secs()),
    };
    // Its log has been read; the namespace's end would take it, too.
    let _ = site.pods(mode).delete(&name, &DeleteParams::default()).await;
    Ok(Sample {
        mode: mode.name(),
        load: load.name,
        round,
        figures,
        proxies_cpu_seconds,
    })
}

/// Reads the log while it is written, and the proxies' time when the measured time begins and ends.
async fn follow(site: &Site<'_>, mode: Mode, name: &str, places: &[Place; 2]) -> Result<(Figures, f64)> {
    let parameters = LogParams {
        follow: true,
        ..LogParams::default()
    };
    let log = site
        .pods(mode)
        .log_stream(name, &parameters)
        .await
        .context("reading its log")?;
    let mut lines = log.lines();
    let (mut before, mut said) = (None, Vec::new());
    while let Some(line) = lines.next().await {
        let line = line.context("reading its log")?;
        match serde_json::from_str(&line) {
            Ok(Line::Started) => before = Some(cpu_seconds(site.cluster(), places).await?),
            Ok(Line::Ended(figures)) => {
                let after = cpu_seconds(site.cluster(), places).await?;
                let before = before.context("it ended before it began")?;
                return Ok((figures, after - before));
            }
            Err(_) => said.push(line),
        }
    }
    bail!("it ended without figures: {}", said.join("; "))
}

/// What the proxies of these nodes have spent since they began.
async fn cpu_seconds(cluster: &Cluster, places: &[Place; 2]) -> Result<f64> {
    let proxies: BTreeSet<&str> = places.iter().map(|place| place.proxy.as_str()).collect();
    let mut total = 0.0;
    for pod in proxies {
        let page = cluster.page(pod, ports::PROXY_METRICS, "/metrics").await;
        let page = page.with_context(|| format!("asking {pod} for its metrics"))?;
        let found = metric(&page.body, "process_cpu_seconds_total");
        let seconds = found.first().map(|(_, seconds)| *seconds);
        total += seconds
            .with_context(|| format!("{pod} does not tell its time on processors: is it of an older version?"))?;
    }
    Ok(total)
}
