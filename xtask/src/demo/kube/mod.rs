//! `cargo xtask demo --cluster`: the demo in a real Kubernetes cluster of two nodes on this machine.
//!
//! The order of events is in `steps`. `demo_cluster` brings the cluster up and is sure to take it down, `shop` deploys the bookstore
//! and visits it, `mesh` installs Culvert and asks its agents, `logs` follows what pods print, `rules` counts netfilter
//! rules, `wire` picks the shop's traffic out of what the link carried, `keep` tells what to try.

mod demo_cluster;
mod keep;
mod logs;
mod mesh;
mod rules;
mod shop;
mod steps;
mod wire;

use super::{
    facts::Facts,
    options::Options,
    progress::{self, Progress},
    show,
};
use crate::{
    cluster, ebpf,
    image::{self, Profile},
    shell,
};
use anyhow::{Result, bail};
use demo_cluster::DemoCluster;
use std::time::Instant;

/// The images that the cluster needs.
const IMAGES: [&str; 8] = [
    "agent",
    "ztunnel",
    "controller",
    "bookstore-productpage",
    "bookstore-details",
    "bookstore-ratings",
    "bookstore-reviews",
    "bookstore-visitor",
];

/// Builds what the cluster is made of, the images, and the programs that this chore runs itself.
pub(super) fn build() -> Result<()> {
    ebpf::build()?;
    cluster::ensure_programs()?;
    let mut build = shell::cargo();
    build.args(["build", "--locked", "--package", "culvert-cli", "--bins"]);
    shell::run("build the culvert command", &mut build)?;
    image::build(Profile::Dev, &IMAGES.map(str::to_owned))?;
    Ok(())
}

/// Plays the demo, or removes what `--keep` left.
pub(super) fn run(options: &Options, began: Instant) -> Result<()> {
    if options.down {
        DemoCluster::remove()?;
        shell::say("the demo's cluster is gone");
        return Ok(());
    }
    let demo_cluster = DemoCluster::prepare()?;
    let progress = Progress::timed();
    let facts = match play(&demo_cluster, options, &progress, began) {
        Ok(facts) => facts,
        // What failed is what is being removed; the thread that removes it ends this program.
        Err(_) if progress::is_interrupted() => loop {
            std::thread::park();
        },
        Err(error) => {
            progress.finish(false);
            if let Ok(cluster) = demo_cluster.cluster() {
                eprintln!("{}", mesh::state(&cluster));
            }
            shell::say("removing the cluster");
            demo_cluster.take_down()?;
            return Err(error);
        }
    };
    let broken = facts.broken_promises();
    if options.keep {
        progress.finish(true);
        show::print(&facts, options.json)?;
        show::text(&keep::page(&demo_cluster.keep()?), options.json);
    } else {
        progress.step("removing everything");
        demo_cluster.take_down()?;
        progress.finish(true);
        show::print(&facts, options.json)?;
    }
    if options.json {
        println!("{}", facts.json());
    }
    if !broken.is_empty() {
        bail!("not as promised:\n  - {}", broken.join("\n  - "));
    }
    Ok(())
}

fn play(demo_cluster: &DemoCluster, options: &Options, progress: &Progress, began: Instant) -> Result<Facts> {
    let images = IMAGES.map(|name| image::folder(Profile::Dev).join(format!("{name}.tar")));
    let cluster = demo_cluster.bring_up(images.to_vec(), progress)?;
    steps::play(&cluster, options.requests, progress, began)
}
