//! `cargo xtask demo --waypoint`: the bookstore behind a waypoint, and what routes do with requests for reviews.
//!
//! Here is the order of events; `requests` sends what a step sends and counts what came back, `facts` says what was promised and prints
//! it. The routes are those of `examples/bookstore/waypoint`.

mod facts;
mod requests;

use super::{
    Options,
    progress::Progress,
    shop::{self, NAMESPACE, Shop},
    visits::MARKER,
};
use anyhow::{Context, Result, bail};
use culvert_lab::{Capture, Lab, Mesh, MeshOptions, Pod, WaypointPlace};
use facts::{Facts, Promise, Row};
use requests::Client;
use std::time::{Duration, Instant};

/// How long pods may take to join, and routes to come into force. Debug builds on busy machines are slow.
const PATIENCE: Duration = Duration::from_secs(60);
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

    let reviews = Client::new(&shop, "reviews")?;
    let many = requests.max(200);
    let apply = |name: &str| -> Result<()> { lab.apply(&route(name)?) };

    progress.step(&format!("canary.yaml: {many} requests, a tenth of them for v2"));
    apply("canary")?;
    // Before the route is in force all three versions answer in turns.
    reviews.wait_for("the canary", PATIENCE, 20, |counts| {
        counts.get("200 v3").is_none() && counts.keys().all(|what| what.starts_with("200 "))
    })?;
    let capture = Capture::start(lab.node(1).namespace(), "wire", &[MARKER])?;
    let mut rows = Vec::new();
    let tenth = many / 10;
    rows.push(Row {
        what: "90/10 canary",
        counts: reviews.send(many, "/reviews/0", &[])?,
        promises: vec![
            Promise::between("200 v2", tenth / 4, tenth * 5 / 2),
            Promise::between("200 v1", many - tenth * 5 / 2, many),
        ],
    });

    progress.step("user.yaml: one user gets v3");
    apply("user")?;
    let jason = ["end-user: jason"];
    reviews.wait_for_answer("the user's route", PATIENCE, "/reviews/0", &jason, "200 v3")?;
    rows.push(Row {
        what: "the same as user jason: v3",
        counts: reviews.send(requests, "/reviews/0", &jason)?,
        promises: vec![Promise::between("200 v3", requests, requests)],
    });

    progress.step("mirror.yaml: v1 answers, v3 gets copies");
    apply("mirror")?;
    reviews.wait_for_answer("the mirror", PATIENCE, "/reviews/0", &jason, "200 v1")?;
    let v3 = shop.pod("reviews-v3")?;
    let counts = reviews.send(requests, "/reviews/1", &[])?;
    let copies = requests::wait_for_copies(&shop, v3, "GET /reviews/1 ", requests, PATIENCE)?;
    rows.push(Row {
        what: "mirrored to v3, answered by v1",
        counts: counts.and("copies at v3", copies),
        promises: vec![
            Promise::between("200 v1", requests, requests),
            Promise::between("copies at v3", requests, requests),
        ],
    });

    progress.step("paths.yaml: a rewrite and a redirect");
    apply("paths")?;
    let moved = "301 > /reviews/2";
    reviews.wait_for_answer("the new paths", PATIENCE, "/critics/2", &[], moved)?;
    rows.push(Row {
        what: "/opinions, rewritten to /reviews",
        counts: reviews.send(requests, "/opinions/2", &[])?,
        promises: vec![Promise::between("200 v1", requests, requests)],
    });
    rows.push(Row {
        what: "/critics, redirected to /reviews",
        counts: reviews.send(requests, "/critics/2", &[])?,
        promises: vec![Promise::between(moved, requests, requests)],
    });

    progress.step("retry.yaml: a service that fails first");
    let flaky = Client::new(&shop, "flaky")?;
    rows.push(Row {
        what: "fails first, nothing tried again",
        counts: flaky.send_each(requests, "/before")?,
        promises: vec![Promise::between("503", requests, requests)],
    });
    apply("retry")?;
    flaky.wait_for_new("retries", PATIENCE, "/waiting", "200 flaky")?;
    rows.push(Row {
        what: "fails first, tried again by the waypoint",
        counts: flaky.send_each(requests, "/after")?,
        promises: vec![Promise::between("200 flaky", requests, requests)],
    });
    Ok(Facts {
        rows,
        link: capture.take(),
        seconds: began.elapsed().as_secs_f64(),
    })
}

/// A route of the folder with the waypoint's objects.
fn route(name: &str) -> Result<serde_json::Value> {
    let objects = shop::read_file(&format!("waypoint/{name}.yaml"))?;
    objects
        .into_iter()
        .next()
        .with_context(|| format!("{name}.yaml is empty"))
}
