//! The order of events: the shop without a mesh, the mesh beside it, the label, the shop in the mesh.

use super::{
    access_log::{AccessLogs, Connection},
    facts::Facts,
    kernel_checks,
    progress::Progress,
    shop::{NAMESPACE, Shop},
    visits::{self, Crowd, MARKER, Tally},
};
use anyhow::{Context, Result};
use culvert_lab::{Capture, Lab, Mesh, MeshOptions, Pod, wait_for};
use std::{
    collections::BTreeSet,
    net::IpAddr,
    time::{Duration, Instant},
};

/// How long the pods may take to join. Debug builds on busy machines are slow.
const JOIN: Duration = Duration::from_secs(30);

/// Plays the demo and returns what was found out.
pub(super) fn play(lab: &Lab, requests: u32, keep: bool, progress: &Progress, began: Instant) -> Result<Facts> {
    progress.step("two nodes, seven pods: the bookstore opens, without a mesh");
    let shop = Shop::open(lab)?;
    let capture = Capture::start(lab.node(1).namespace(), "wire", &[MARKER])?;

    progress.step(&format!(
        "{requests} requests with curl, while the link between the nodes is tapped"
    ));
    let before = visits::send(&shop, requests)?;
    let link_before = capture.take();

    progress.step("the mesh starts: controller, two agents, two ztunnels; nothing is captured yet");
    let programs = crate::shell::target().join("debug");
    let options = MeshOptions {
        programs: Some(programs),
        ..MeshOptions::default()
    };
    let mut mesh = Mesh::start(lab, options)?;

    progress.step("the namespace gets its label culvert.dev/mesh=ambient, while requests go on");
    let log_files: Vec<_> = (1..=2)
        .map(|node| Ok(mesh.ztunnel(node)?.log_path().to_owned()))
        .collect::<Result<_>>()?;
    let logs = AccessLogs::from_now(log_files.clone())?;
    let (joining, joined_in) = join(lab, &shop, &mesh)?;
    wait_until_quiet(&logs)?;

    progress.step(&format!("{requests} requests again, now through the mesh"));
    let logs = AccessLogs::from_now(log_files)?;
    let page = shop.pod("productpage")?;
    let page_log = shop.log(page)?.len();
    capture.take();
    let after = visits::send(&shop, requests)?;
    let link_after = capture.take();

    progress.step("what the proxies, the kernel and the wire say");
    let (connections, arrivals) = wait_for_connections(&logs, requests as usize)?;
    let arrived = |clear: bool| arrivals.iter().filter(|one| one.encrypted != clear).count();
    let workers = (1..=2)
        .map(|node| kernel_checks::privilege(mesh.worker_pid(node)?))
        .collect::<Result<_>>()?;
    let facts = Facts {
        before,
        joining,
        after,
        link_before,
        link_after,
        connections,
        arrivals: arrived(false),
        arrivals_in_clear: arrived(true),
        netfilter_rules: kernel_checks::netfilter_rules(lab)?,
        policy_routing_rules: kernel_checks::policy_routing_rules(lab)?,
        workers,
        clients_seen: clients_in(&shop.log(page)?[page_log..]),
        client: shop.pod("visitor")?.addresses().to_vec(),
        joined_in,
        seconds: began.elapsed().as_secs_f64(),
        cluster: None,
    };
    if !keep {
        progress.step("removing everything");
    }
    Ok(facts)
}

/// Labels the namespace under load, and returns how the requests went and how many seconds it took.
fn join(lab: &Lab, shop: &Shop, mesh: &Mesh<'_>) -> Result<(Tally, f64)> {
    let crowd = Crowd::new(shop);
    std::thread::scope(|scope| {
        let visitors: Vec<_> = (0..Crowd::VISITORS).map(|_| scope.spawn(|| crowd.visit())).collect();
        let joined = (|| {
            crowd.wait(Crowd::VISITORS)?;
            let labelled = Instant::now();
            lab.label(NAMESPACE, Some("ambient"))?;
            let pods: Vec<&Pod> = shop.pods.iter().collect();
            mesh.wait_enrolled(&pods, true, JOIN)?;
            let seconds = labelled.elapsed().as_secs_f64();
            crowd.wait(2 * Crowd::VISITORS)?;
            Ok(seconds)
        })();
        crowd.stop();
        let mut all = Tally::default();
        for visitor in visitors {
            let tally = visitor
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            all = all.and(&tally);
        }
        joined.map(|seconds| (all, seconds))
    })
}

/// Waits until each connection in the tunnel that one proxy has logged is logged by the other, too: a line that comes
/// later would count for the requests that follow.
fn wait_until_quiet(logs: &AccessLogs) -> Result<()> {
    wait_for("both proxies' lines about the crowd's connections", JOIN, || {
        let connections = logs.read().ok()?;
        let ends = |direction: &str| -> BTreeSet<String> {
            let tunnelled = connections
                .iter()
                .filter(|one| one.encrypted && one.direction == direction);
            tunnelled.map(|one| one.source_address.clone()).collect()
        };
        (ends("outbound") == ends("inbound")).then_some(())
    })
}

/// Waits until the proxies have logged the end of every connection: as many arrivals as departures, and at least one
/// from the visitor for each request.
fn wait_for_connections(logs: &AccessLogs, requests: usize) -> Result<(Vec<Connection>, Vec<Connection>)> {
    let mut last = (Vec::new(), Vec::new());
    let complete = wait_for(
        "every connection's line in the access logs",
        Duration::from_secs(10),
        || {
            let connections = logs.read().ok()?;
            let (out, into): (Vec<_>, Vec<_>) = connections.into_iter().partition(|one| one.direction == "outbound");
            let visits = out
                .iter()
                .filter(|one| one.source_workload.starts_with("visitor"))
                .count();
            let complete = visits >= requests && into.len() >= out.len();
            last = (out, into);
            complete.then_some(())
        },
    );
    // What is missing is one of the facts, and its own message is better than a timeout.
    if complete.is_err() && last.0.is_empty() {
        return complete.map(|()| last).context("the proxies logged no connection");
    }
    Ok(last)
}

/// The distinct client addresses in the log of a Python program: the first word of each line.
fn clients_in(log: &str) -> Vec<IpAddr> {
    let clients: BTreeSet<IpAddr> = log
        .lines()
        .filter_map(|line| line.split(' ').next()?.parse().ok())
        .collect();
    clients.into_iter().collect()
}
