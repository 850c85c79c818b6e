//! `cargo xtask bench --cluster`: what a mesh does to traffic when something happens to it, on a real Kubernetes cluster.
//!
//! A cluster of two nodes comes up, Culvert is installed on it with `deploy/daemonset`, and the events of a table that was
//! measured for Istio's ambient mode happen one after the other, under the same load: 50 new connections a second and 5 or
//! 20 open ones, between the nodes, while a capture on the link between them sees what is in clear. All of that stands on
//! `culvert-cluster-tests`, as the tests do; but here nothing is asserted: a figure is a figure, whatever it is.
//!
//! `table` has the lines, with Istio's figures and the aims; `judge` makes a line's words and verdict of figures;
//! `membership`, `arrivals`, `disruption`, `footprint` and `latency` measure. An event that cannot be measured (what helps the tests
//! panics) is a line that says so, and the others go on.

mod arrivals;
mod bench;
mod disruption;
mod footprint;
mod judge;
mod latency;
mod membership;
mod table;

use anyhow::{Context as _, Result};
use bench::{Bench, say, words};
use culvert_cluster::{Cluster, Options as ClusterOptions};
use culvert_cluster_tests::{Rules, World};
use footprint::Unpacked;
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::Arc,
};
use table::Results;

/// The cluster's name.
const NAME: &str = "bench";

/// Options of `culvert-bench cluster`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Shorter loads and fewer pods
    #[arg(long)]
    quick: bool,
    /// End with one line of JSON
    #[arg(long)]
    json: bool,
    /// How the images were built, dev or release; said beside the figures
    #[arg(long)]
    profile: String,
    /// The folder with the images
    #[arg(long, value_name = "FOLDER")]
    images: PathBuf,
    /// Size of an image unpacked, bytes: controller, agent and ztunnel
    #[arg(long, value_name = "NAME=BYTES")]
    unpacked: Vec<Unpacked>,
    /// Measure only these events: membership, latency, arrivals, footprint, disruption
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// Leave the cluster up
    #[arg(long)]
    keep: bool,
}

/// Events that are measured together, in the order in which they happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// A namespace joins and leaves
    Membership,
    /// Requests at a fixed rate
    Latency,
    /// New pods
    Arrivals,
    /// Memory, packet rules, images
    Footprint,
    /// Restarts and kills
    Disruption,
}

/// Brings the cluster up, measures, prints, and takes it down again.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut wanted = ClusterOptions::new(NAME, 2)?.images_of(&options.images);
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&wanted.interrupted))?;
    }
    wanted.keep = options.keep;
    Cluster::down(&wanted.state, NAME).context("an earlier cluster does not go")?;
    say("bringing up a cluster of two nodes");
    let cluster = Cluster::up_with(&wanted, &mut |step, took| {
        eprintln!("    {:.1} s  {step}", took.as_secs_f32())
    })?;
    let interrupted = Arc::clone(&wanted.interrupted);
    let measured = catch_unwind(AssertUnwindSafe(|| {
        measure(cluster, options, &|| {
            interrupted.load(std::sync::atomic::Ordering::Relaxed)
        })
    }));
    if options.keep {
        say(&format!("left up: cargo xtask cluster shell --name {NAME}"));
    } else {
        Cluster::down(&wanted.state, NAME)?;
    }
    let results = measured.map_err(|panic| anyhow::anyhow!(words(panic.as_ref())))?;
    print(&results, options);
    Ok(())
}

fn measure(cluster: Cluster, options: &Options, interrupted: &dyn Fn() -> bool) -> Results {
    let mut bench = Bench {
        world: World::of(cluster),
        results: Results::default(),
        quick: options.quick,
        optimized: options.profile == "release",
    };
    let before = Rules::of_nodes(&bench.world);
    say("installing Culvert");
    bench.world.install();
    for part in [
        Part::Membership,
        Part::Latency,
        Part::Arrivals,
        Part::Footprint,
        Part::Disruption,
    ] {
        if interrupted() || !(options.only.is_empty() || options.only.contains(&part)) {
            continue;
        }
        match part {
            Part::Membership => membership::measure(&mut bench),
            Part::Latency => latency::measure(&mut bench),
            Part::Arrivals => arrivals::measure(&mut bench),
            Part::Footprint => footprint::measure(&mut bench, &before, &options.unpacked),
            Part::Disruption => disruption::measure(&mut bench),
        }
    }
    bench.results
}

fn print(results: &Results, options: &Options) {
    println!("{}", results.table());
    println!("{}", table::ISTIO);
    println!(
        "Culvert: one run, images of profile {}, {} processors; 50 new connections a second from node1 to node2 and 5 (label, unlabel) or 20 open \
         ones.",
        options.profile,
        std::thread::available_parallelism().map_or(0, std::num::NonZero::get)
    );
    if options.profile != "release" {
        println!("Memory, image sizes and p50 of a dev build are not comparable; the rest suffers from its slowness.");
    }
    for omission in results.omissions() {
        println!("not measured: {omission}");
    }
    if options.json {
        println!("{}", results.json(&options.profile));
    }
}
