//! Active health checks: one task for the whole program asks endpoints whether they serve, and all threads go by what it found.
//!
//! `ask` is one check, `streak` what several in a row come to.

mod ask;
mod streak;

use std::{collections::HashMap, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use tokio::task::{AbortHandle, JoinSet};

use crate::{
    cluster::Cluster, config::health_check::HealthCheck, endpoint::Endpoint, state::Snapshot, telemetry::Telemetry,
    upstream::Upstream,
};
use streak::Streak;

/// How often it is looked whether there are other endpoints.
const LOOK: Duration = Duration::from_millis(100);
/// Checks are spread over this part of the interval, so that they do not all come at once.
const JITTER: f64 = 0.1;

/// What looks after one endpoint of one cluster.
type Watched = (Arc<str>, u64);

/// What checks need.
pub(crate) struct Checks {
    /// Which clusters there are.
    pub(crate) state: Arc<ArcSwap<Snapshot>>,
    /// The way to endpoints.
    pub(crate) upstream: Upstream,
    /// What is counted.
    pub(crate) telemetry: Arc<Telemetry>,
}

impl Checks {
    /// Looks after all endpoints, for as long as the program runs.
    pub(crate) async fn run(self) {
        let checks = Arc::new(self);
        let mut running: HashMap<Watched, (HealthCheck, AbortHandle)> = HashMap::new();
        let mut tasks = JoinSet::new();
        let mut seen: Option<Arc<Snapshot>> = None;
        let mut tick = tokio::time::interval(LOOK);
        loop {
            tick.tick().await;
            while tasks.try_join_next().is_some() {}
            let snapshot = checks.state.load_full();
            if seen.as_ref().is_some_and(|seen| Arc::ptr_eq(seen, &snapshot)) {
                continue;
            }
            let mut before = std::mem::take(&mut running);
            for cluster in snapshot.clusters.values() {
                let Some(check) = &cluster.config.health_check else {
                    continue;
                };
                // It may have been made while an endpoint became another.
                cluster.rebalance();
                for endpoint in cluster.endpoints.iter() {
                    let watched = (Arc::clone(&cluster.config.name), endpoint.id);
                    let kept = before.remove(&watched).filter(|(known, _)| known == check);
                    let started = kept.unwrap_or_else(|| {
                        let task = Arc::clone(&checks).watch(watched.clone(), check.clone());
                        (check.clone(), tasks.spawn(task))
                    });
                    running.insert(watched, started);
                }
            }
            before.into_values().for_each(|(_, task)| task.abort());
            seen = Some(snapshot);
        }
    }

    /// Looks after an endpoint for as long as it is there.
    async fn watch(self: Arc<Self>, watched: Watched, check: HealthCheck) {
        let mut streak = Streak::new(check.healthy, check.unhealthy);
        while let Some((cluster, endpoint)) = self.find(&watched) {
            let asking = ask::ask(&self.upstream, &cluster, &endpoint, &check.ask);
            let answer = tokio::time::timeout(check.timeout, asking).await;
            let answer = answer.unwrap_or_else(|_| Err(format!("no answer within {:?}", check.timeout)));
            self.telemetry.health_check(answer.is_ok());
            if let Some(is_healthy) = streak.note(answer.is_ok()) {
                self.changed(&watched, is_healthy, answer.err().as_deref());
            }
            let spread = 1.0 + JITTER * (fastrand::f64() - 0.5);
            tokio::time::sleep(check.interval.mul_f64(spread)).await;
        }
    }

    /// An endpoint serves from now on, or no longer.
    fn changed(&self, watched: &Watched, is_healthy: bool, why: Option<&str>) {
        let Some((cluster, endpoint)) = self.find(watched) else {
            return;
        };
        let (name, address) = (&cluster.config.name, endpoint.config.address);
        match why {
            None => tracing::info!(cluster = %name, endpoint = %address, "an endpoint passes its health checks"),
            Some(why) => {
                tracing::warn!(cluster = %name, endpoint = %address, why, "an endpoint fails its health checks: it is left out");
            }
        }
        self.telemetry.health_change(is_healthy);
        endpoint.load.set_checked(is_healthy);
        cluster.rebalance();
    }

    /// The cluster and the endpoint as they are now.
    fn find(&self, (cluster, id): &Watched) -> Option<(Arc<Cluster>, Arc<Endpoint>)> {
        let snapshot = self.state.load();
        let cluster = snapshot.clusters.get(cluster)?;
        let endpoint = cluster.endpoints.iter().find(|endpoint| endpoint.id == *id)?;
        Some((Arc::clone(cluster), Arc::clone(endpoint)))
    }
}
