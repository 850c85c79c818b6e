//! `culvert bench`: what the mesh costs between two nodes of this cluster, by the same loads with and without it, in turns.
//!
//! `nodes` chooses where, `site` makes namespaces and pods and removes them, `measure` is one load, `table` what all of them come to.

mod flags;
mod measure;
mod nodes;
mod site;
mod table;

use crate::{
    cluster::Cluster,
    print::{Answer, Section},
    progress::{Progress, Step},
};
use anyhow::{Context as _, Result, bail};
pub(crate) use flags::BenchFlags;
use measure::{Load, Sample};
use nodes::Place;
use serde_json::json;
use site::{Image, Mode, Site};

/// Measures, and leaves nothing behind.
pub(crate) async fn run(cluster: &Cluster, flags: &BenchFlags) -> Result<Answer> {
    let places = nodes::choose(cluster, flags.client_node.as_deref(), flags.server_node.as_deref()).await?;
    let image = Image::find(cluster, flags.image.as_deref()).await?;
    let progress = Progress::new();
    let step = progress.step("benchmark");
    step.say("namespaces");
    let site = Site::make(cluster, image).await?;
    let measured = tokio::select! {
        measured = measure(&site, &places, flags, &step) => measured,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    if flags.keep {
        progress.note("namespaces and pods are left there: `culvert bench` removes them when it runs again");
    } else {
        step.say("removing what was made");
        let removed = site.remove().await;
        match &measured {
            Ok(_) => removed?,
            // What went wrong before is what is to be told; what is left is said beside it.
            Err(_) => {
                if let Err(error) = removed {
                    progress.note(format!("{error:#}"));
                }
            }
        }
    }
    match measured {
        Ok(samples) => {
            step.done(format!("{} rounds", flags.rounds));
            Ok(answer(&samples, &places, flags))
        }
        Err(error) => {
            step.failed("nothing is shown of a run that did not come to its end");
            Err(error)
        }
    }
}

async fn measure(site: &Site<'_>, places: &[Place; 2], flags: &BenchFlags, step: &Step) -> Result<Vec<Sample>> {
    let mut servers = Vec::new();
    for mode in Mode::ALL {
        step.say(format!("a server in {}", mode.namespace()));
        servers.push((mode, site.serve(mode, &places[1]).await?));
    }
    let mut samples = Vec::new();
    for round in 1..=flags.rounds {
        for load in Load::ALL {
            for (mode, to) in &servers {
                step.say(format!(
                    "round {round} of {}: {}, {}",
                    flags.rounds,
                    load.name,
                    mode.name()
                ));
                let sample = measure::once(site, places, (*mode, load, round), to, flags.time).await?;
                samples.push(sample);
            }
        }
    }
    let failed: u64 = samples.iter().map(|sample| sample.figures.failed).sum();
    if failed > 0 {
        bail!("{failed} connections failed, so that the figures mean nothing");
    }
    is_carried(&samples)?;
    Ok(samples)
}

/// A mesh that did nothing was not measured.
fn is_carried(samples: &[Sample]) -> Result<()> {
    let spent = |mode: Mode| -> f64 {
        let of_mode = samples.iter().filter(|sample| sample.mode == mode.name());
        of_mode.map(|sample| sample.proxies_cpu_seconds).sum()
    };
    let (direct, mesh) = (spent(Mode::Direct), spent(Mode::Mesh));
    (mesh > direct).then_some(()).with_context(|| {
        format!(
            "the proxies spent {mesh:.2} s while pods of the mesh talked and {direct:.2} s while others did: the mesh did not carry the load, or \
             other pods of these nodes had it do much more\n  remedy: `culvert status`; other nodes by --client-node and --server-node"
        )
    })
}

fn answer(samples: &[Sample], places: &[Place; 2], flags: &BenchFlags) -> Answer {
    let [client, server] = places;
    let way = match client == server {
        true => format!("both pods on {}", client.node),
        false => format!("from {} to {}", client.node, server.node),
    };
    let words = format!(
        "{way}; medians of {} rounds of {} for each load, with and without the mesh in turns. The proxies' CPU is that of both nodes, with all \
         that other pods there had them do meanwhile.\n",
        flags.rounds,
        humantime::format_duration(flags.time)
    );
    let mut json = table::json(samples);
    json["client-node"] = json!(client.node);
    json["server-node"] = json!(server.node);
    Answer {
        json,
        sections: vec![table::section(samples), Section::words(words)],
        is_well: true,
    }
}
