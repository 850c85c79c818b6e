//! The order of events: the shop without a mesh, Culvert installed, the label under load, the shop in the mesh.

use super::{
    super::{
        access_log::{AccessLogs, Connection},
        facts::{Facts, InCluster},
        progress::Progress,
        visits::Tally,
    },
    logs::Logs,
    mesh,
    rules::Rules,
    shop::{self, MARKER, Shop},
    wire,
};
use anyhow::{Context, Result};
use culvert_cluster::Cluster;
use culvert_lab::{Capture, Namespace, wait_for, wait_until};
use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

/// How long something may take that takes a moment.
const PATIENCE: Duration = Duration::from_secs(60);
/// How many requests of the crowd are answered before the label, and again when all pods are captured.
const CROWD: usize = 24;

/// Plays the demo and returns what was found out.
pub(super) fn play(cluster: &Cluster, requests: u32, progress: &Progress, began: Instant) -> Result<Facts> {
    progress.step("the bookstore opens: ordinary Deployments, without a mesh");
    let shop = Shop::open(cluster)?;
    let names: Vec<&str> = shop.called("productpage").map(|pod| pod.name.as_str()).collect();
    let page = Logs::follow(cluster, super::super::shop::NAMESPACE, names, "productpage")?;
    let rules = Rules::count(cluster)?;
    let node = cluster.nodes().first().context("the cluster has no node")?;
    let capture = Capture::start(&Namespace::open(&cluster.netns())?, node.link(), &[MARKER])?;

    progress.step(&format!(
        "{requests} requests from the visitor's pod, while the link between the nodes is tapped"
    ));
    let before = shop.visit(requests)?;
    let (link_before, dns_before) = wire::of_pods(capture.take(), &shop.addresses());

    progress.step("Culvert is installed: a controller, and a DaemonSet of agent and ztunnel; nothing is captured yet");
    mesh::install(cluster)?;
    let agents = mesh::node_pods(cluster)?;
    let names: Vec<&str> = agents.iter().map(|(name, _)| name.as_str()).collect();
    let proxies = Logs::follow(cluster, mesh::SYSTEM, names, mesh::PROXY)?;
    let scene = Scene {
        shop: &shop,
        page: &page,
        proxies: &proxies,
    };

    progress.step("the namespace gets its label culvert.dev/mesh=ambient, while requests go on");
    let (joining, joined_in) = scene.join(|| mesh::wait_captured(cluster, &agents, &shop.pods))?;

    progress.step(&format!("{requests} requests again, now through the mesh"));
    let departures = AccessLogs::from_now(proxies.files())?;
    let visits = scene.visits();
    capture.take();
    let after = shop.visit(requests)?;
    let (link_after, dns_after) = wire::of_pods(capture.take(), &shop.addresses());

    progress.step("what the proxies, the kernel and the wire say");
    let (connections, arrivals) = scene.wait_for_connections(&departures, requests as usize)?;
    let (netfilter_rules, policy_routing_rules) = Rules::count(cluster)?.added_since(&rules);
    Ok(Facts {
        before,
        joining,
        after,
        link_before,
        link_after,
        connections,
        arrivals: arrivals.iter().filter(|one| one.encrypted).count(),
        arrivals_in_clear: arrivals.iter().filter(|one| !one.encrypted).count(),
        netfilter_rules,
        policy_routing_rules,
        workers: mesh::workers(cluster)?,
        clients_seen: clients_since(&page.texts(), &visits),
        client: shop.called("visitor").flat_map(|pod| pod.addresses.clone()).collect(),
        joined_in,
        seconds: began.elapsed().as_secs_f64(),
        cluster: Some(InCluster {
            pods_restarted: shop::restarted(&shop.pods, &shop.pods_now()?),
            dns_bytes: [dns_before, dns_after],
        }),
    })
}

/// The shop, and what its pages and the nodes' proxies print.
struct Scene<'a> {
    shop: &'a Shop<'a>,
    page: &'a Logs,
    proxies: &'a Logs,
}

impl Scene<'_> {
    /// Labels the namespace under load, and returns how the requests went and how many seconds it took.
    fn join(&self, wait_captured: impl FnOnce() -> Result<()>) -> Result<(Tally, f64)> {
        let crowd = self.shop.crowd()?;
        let joined = (|| -> Result<f64> {
            self.wait_for_visits(CROWD)?;
            let labelled = Instant::now();
            self.shop.label()?;
            wait_captured()?;
            let seconds = labelled.elapsed().as_secs_f64();
            self.wait_for_visits(CROWD)?;
            Ok(seconds)
        })();
        let tally = crowd.stop();
        let seconds = joined?;
        Ok((tally?, seconds))
    }

    /// How many visits each of the page's pods has logged.
    fn visits(&self) -> Vec<usize> {
        self.page.texts().iter().map(|text| visitors_in(text).count()).collect()
    }

    /// Waits until this many more visits are logged.
    fn wait_for_visits(&self, more: usize) -> Result<()> {
        let logged = || self.visits().iter().sum::<usize>();
        let goal = logged() + more;
        wait_until("requests of the crowd", PATIENCE, || logged() >= goal)
    }

    /// Waits until the proxies have logged the visitor's connections, one for each request, and of everything that left a
    /// pod that it arrived; returns what left and what arrived.
    ///
    /// Requests of the visitor who is always there go on meanwhile, and each proxy's lines come when they come. So what left
    /// is what one look found, and the lines about its arrival, known by the address that it came from, are waited for.
    fn wait_for_connections(
        &self,
        departures: &AccessLogs,
        requests: usize,
    ) -> Result<(Vec<Connection>, Vec<Connection>)> {
        let left = wait_for("the visitor's connections in the access logs", PATIENCE, || {
            let mut left = departures.read().ok()?;
            left.retain(|one| one.direction == "outbound");
            let visits = left.iter().filter(|one| one.source_workload.starts_with("visitor"));
            (visits.count() >= requests).then_some(left)
        })?;
        let wanted: BTreeSet<&str> = left.iter().map(|one| one.source_address.as_str()).collect();
        let all = AccessLogs::from_start(self.proxies.files());
        let pods = self.shop.addresses();
        let mut arrived = Vec::new();
        let complete = wait_until(
            "the other ends of the visitor's connections",
            Duration::from_secs(10),
            || {
                arrived = all.read().unwrap_or_default();
                arrived.retain(|one| one.direction == "inbound" && wanted.contains(one.source_address.as_str()));
                arrived.len() >= wanted.len()
            },
        );
        // What is missing is one of the facts, and its own message is better than a timeout.
        drop(complete);
        let from_shop = |one: &Connection| pods.contains(&address_of(&one.source_address));
        let mut clear = departures.read()?;
        clear.retain(|one| one.direction == "inbound" && !one.encrypted && from_shop(one));
        arrived.retain(|one| one.encrypted);
        arrived.extend(clear);
        Ok((left, arrived))
    }
}

/// The address in `address:port`; one that no pod has if it is none.
fn address_of(end: &str) -> IpAddr {
    end.parse::<SocketAddr>()
        .map_or(IpAddr::from([0, 0, 0, 0]), |end| end.ip().to_canonical())
}

/// Whom the page's program took for its clients, one for each visit in its log. The kubelet's questions after its health are no
/// visits.
fn visitors_in(log: &str) -> impl Iterator<Item = IpAddr> {
    log.lines()
        .filter(|line| line.contains("/api/books/"))
        .filter_map(|line| line.split(' ').next()?.parse().ok())
}

/// The distinct clients in the pages' logs, from these numbers of visits on.
fn clients_since(logs: &[String], visits: &[usize]) -> Vec<IpAddr> {
    let later = logs
        .iter()
        .zip(visits)
        .flat_map(|(log, seen)| visitors_in(log).skip(*seen));
    later.collect::<BTreeSet<_>>().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::{address_of, clients_since, visitors_in};

    const LOG: &str = "198.19.2.9 - - [21/Nov/2026 15:52:16] \"GET /api/books/2 HTTP/1.1\" 200 -\n\
                       198.19.1.1 - - [21/Nov/2026 15:52:18] \"GET /health HTTP/1.1\" 200 -\n\
                       198.19.2.8 - - [21/Nov/2026 15:52:19] \"GET /api/books/0 HTTP/1.1\" 200 -\n";

    #[test]
    fn health_checks_are_no_visits() {
        assert_eq!(visitors_in(LOG).count(), 2);
    }

    #[test]
    fn visits_before_are_not_looked_at_again() {
        let clients = clients_since(&[LOG.to_owned(), LOG.to_owned()], &[1, 2]);
        assert_eq!(clients, ["198.19.2.8".parse::<std::net::IpAddr>().unwrap()]);
    }

    #[test]
    fn what_is_no_address_is_no_pods() {
        assert_eq!(address_of("198.19.2.9:38122").to_string(), "198.19.2.9");
        assert!(address_of("unknown").is_unspecified());
    }
}
