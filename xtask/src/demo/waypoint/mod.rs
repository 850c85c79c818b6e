//! `cargo xtask demo --waypoint`: the bookstore behind a waypoint, and what routes do with requests for reviews.
//!
//! Here is what is set up; `steps` has the order of events, `requests` sends what a step sends and counts what came back, `facts` says
//! what was promised and prints it. The objects are those of `examples/bookstore/waypoint`.

mod facts;
mod requests;
mod steps;

use super::{
    Options,
    progress::Progress,
    shop::{NAMESPACE, Shop},
    visits::MARKER,
};
use anyhow::{Result, bail};
use culvert_lab::{Capture, Lab, Mesh, MeshOptions, Pod, WaypointPlace};
use facts::Facts;
use std::time::Instant;
use steps::{PATIENCE, Steps};

/// The waypoint's name.
const WAYPOINT: &str = "waypoint";

/// Plays the demo, prints what was found out, and fails where it is not as promised.
pub(super) fn run(lab: Lab, options: &Options, progress: &Progress, began: Instant) -> Result<()> {
    let played = play(&lab, options.requests, progress, began);
    let facts = progress.ended(&lab, played)?;
    drop(lab);
    facts.print(options.json);
    let broken = facts.broken_promises();
    if !broken.is_empty() {
        bail!("not as promised:\n  - {}", broken.join("\n  - "));
    }
    Ok(())
}

fn play(lab: &Lab, requests: u32, progress: &Progress, began: Instant) -> Result<Facts> {
    progress.step("two nodes, nine pods: the bookstore in the mesh, with a waypoint");
    let mut shop = Shop::open(lab)?;
    shop.add(lab, "waypoint")?;
    let options = MeshOptions {
        programs: Some(crate::shell::target().join("debug")),
        ..MeshOptions::default()
    };
    let mesh = Mesh::start(lab, options)?;
    lab.label(NAMESPACE, Some("ambient"))?;
    let pods: Vec<&Pod> = shop.pods.iter().collect();
    mesh.wait_enrolled(&pods, true, PATIENCE)?;
    let place = WaypointPlace::make(lab, NAMESPACE, WAYPOINT)?;
    let waypoint = place.start(&mesh)?;
    place.wait_open(&waypoint, PATIENCE)?;
    lab.label_with(NAMESPACE, "culvert.dev/use-waypoint", Some(WAYPOINT))?;

    // Before the first route is in force all three versions answer in turns, and that is not what the link is watched for.
    let steps = Steps::new(lab, &shop, progress, requests)?;
    steps.apply_canary()?;
    let capture = Capture::start(lab.node(1).namespace(), "wire", &[MARKER])?;
    let rows = steps.play()?;
    Ok(Facts {
        rows,
        link: capture.take(),
        seconds: began.elapsed().as_secs_f64(),
    })
}
