//! `cargo xtask demo --policy`: the bookstore in strict mode, with one policy that lets only the page ask for details.
//!
//! Here is the order of events. `open_connections` holds connections open while policies come into force; `facts` says
//! what was promised and prints it. The policies are those of `examples/bookstore/policy`.

mod facts;
mod open_connections;

use super::{
    Options,
    progress::Progress,
    shop::{self, NAMESPACE, PORT, Shop},
    visits::{self, MARKER, Tally},
};
use anyhow::{Context, Result, bail};
use culvert_lab::{Capture, Lab, Mesh, MeshOptions, Pod, PodSpec};
use facts::Facts;
use open_connections::OpenConnections;
use serde_json::Value;
use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

/// How long pods may take to join, and policies to come into force. Debug builds on busy machines are slow.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often those who may not are turned away: each attempt outside the tunnel waits for an answer that never comes.
const REFUSALS: u32 = 8;
/// How long such an attempt waits, in seconds.
const CONNECT_SECONDS: &str = "1";
/// The namespace of a pod that is not in the mesh.
const OUTSIDE: &str = "outside";

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
    progress.step("two nodes, eight pods: the bookstore in the mesh, and a stranger who is not");
    let shop = Shop::open(lab)?;
    lab.namespace(OUTSIDE)?;
    let stranger = lab.pod(PodSpec::new(OUTSIDE, "stranger").on(2))?;
    let options = MeshOptions {
        programs: Some(crate::shell::target().join("debug")),
        ..MeshOptions::default()
    };
    let mesh = Mesh::start(lab, options)?;
    lab.label(NAMESPACE, Some("ambient"))?;
    let pods: Vec<&Pod> = shop.pods.iter().collect();
    mesh.wait_enrolled(&pods, true, PATIENCE)?;

    progress
        .step("without policies everybody may: connections of the visitor, the page and the stranger are held open");
    let (visitor, page, details) = (shop.pod("visitor")?, shop.pod("productpage")?, shop.pod("details")?);
    let mut refused = OpenConnections::default();
    let mut allowed = OpenConnections::default();
    refused.open(&stranger, &addresses(page))?;
    refused.open(&stranger, &addresses(shop.pod("reviews-v1")?))?;
    refused.open(visitor, &addresses(details))?;
    allowed.open(page, &addresses(details))?;
    refused.wait_until_carried(&mesh, PATIENCE)?;
    allowed.wait_until_carried(&mesh, PATIENCE)?;

    progress.step("strict mode, and one policy: only the page asks for details");
    for object in shop::read_objects("policy")? {
        lab.apply(&object)?;
    }
    let held = refused.count();
    let closed = refused.wait_until_closed(PATIENCE);
    let capture = Capture::start(lab.node(1).namespace(), "wire", &[MARKER])?;
    let answered = allowed.finish();

    progress.step(&format!(
        "{requests} visits to the page, {REFUSALS} attempts past it, {REFUSALS} from outside the mesh"
    ));
    let before = guard_drops(&mesh)?;
    let visits = visits::send(&shop, requests)?;
    let denied = attempts(visitor, &addresses(details))?;
    let from_outside = attempts(&stranger, &addresses(page))?;
    let link = capture.take();
    Ok(Facts {
        allowed: visits,
        denied,
        from_outside,
        guard_drops: guard_drops(&mesh)?.saturating_sub(before),
        open: held,
        closed,
        open_and_allowed: allowed.count(),
        answered,
        link,
        seconds: began.elapsed().as_secs_f64(),
    })
}

/// Both addresses of a pod's server.
fn addresses(pod: &Pod) -> [SocketAddr; 2] {
    pod.addresses().map(|address: IpAddr| SocketAddr::new(address, PORT))
}

/// Asks a pod that is to refuse for its health with curl, IPv4 and IPv6 in turns.
fn attempts(from: &Pod, to: &[SocketAddr; 2]) -> Result<Tally> {
    let mut tally = Tally::default();
    for number in 0..REFUSALS {
        let url = format!("http://{}/health", to[number as usize % 2]);
        let mut curl = visits::curl(&url);
        curl.args(["--connect-timeout", CONNECT_SECONDS]);
        let output = from.output(&mut curl)?;
        tally.count(match output.status.success() {
            true => Ok(String::new()),
            false => Err(anyhow::anyhow!(
                "{url}: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            )),
        });
    }
    Ok(tally)
}

/// New connections that the guards of both nodes have dropped so far.
fn guard_drops(mesh: &Mesh<'_>) -> Result<u64> {
    let mut drops = 0;
    for node in [1, 2] {
        let page = mesh.get(node, 15022, "/pods")?;
        let status: Value = serde_json::from_str(&page.body).context("/pods is no JSON")?;
        let pods = status["pods"].as_array().into_iter().flatten();
        drops += pods.filter_map(|pod| pod["guard"]["dropped"].as_u64()).sum::<u64>();
    }
    Ok(drops)
}
