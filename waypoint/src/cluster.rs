//! A cluster with its endpoints, and what is under way to it on all threads.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use culvert_http::balance::{
    Balancer, Draw, Endpoint as Weighed, Health as Counts, Settings,
    outlier::{Detector, Result as Seen},
};
use rustc_hash::FxHashMap;
use serde_json::{Value, json};

use crate::{
    config::{cluster::ClusterConfig, discovery::Discovery, endpoints::Health},
    counted::Counted,
    endpoint::{Checked, Endpoint, clock},
    load::{ClusterLoad, OpenConnection},
};

/// How often another endpoint is drawn in the place of one that asks for less.
const REDRAWS: u32 = 3;

/// One of so many requests goes to an endpoint that asks for less, so that it is seen when it takes more.
const STILL: u8 = 10;

/// How long an endpoint gets less that does not say for how long, and at most.
const PUSHED_BACK: Duration = Duration::from_secs(1);
const MOST_PUSHED_BACK: Duration = Duration::from_secs(30);

/// A cluster as one snapshot has it.
#[derive(Debug)]
pub struct Cluster {
    /// As configured.
    pub config: Arc<ClusterConfig>,
    /// Its endpoints; none before they came.
    pub endpoints: Arc<[Arc<Endpoint>]>,
    /// What is under way. Stays the same over changes of anything else.
    pub load: Arc<ClusterLoad>,
    by_address: FxHashMap<SocketAddr, usize>,
    /// Made anew when an endpoint is ejected, or comes back.
    balancer: ArcSwap<Balancer>,
    detector: Option<Detector>,
}

/// An address is the mesh's own: it is not reached in clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the address is the mesh's own, and is not reached in clear")]
pub(crate) struct OfTheMesh;

impl Cluster {
    /// With these endpoints, and what is counted of `before`.
    pub fn new(config: Arc<ClusterConfig>, endpoints: Arc<[Arc<Endpoint>]>, before: Option<&Self>) -> Self {
        let detector = config.outlier.clone().map(Detector::new);
        let balancer = Arc::new(balancer(&config, &endpoints));
        let addresses = endpoints.iter().map(|endpoint| endpoint.config.address);
        // The first one of an address is last, and stays.
        let by_address = addresses.enumerate().map(|(index, address)| (address, index)).rev();
        Self {
            config,
            by_address: by_address.collect(),
            endpoints,
            load: before.map_or_else(Arc::default, |before| Arc::clone(&before.load)),
            balancer: ArcSwap::new(balancer),
            detector,
        }
    }

    /// Where a request goes that came for `destination`: the same, but for a cluster whose connections go where they were going.
    ///
    /// # Errors
    /// Where that is the mesh's own, and must not be reached in clear.
    pub(crate) fn at(self: &Arc<Self>, destination: SocketAddr) -> Result<Arc<Self>, OfTheMesh> {
        let Discovery::Dialled(mesh) = &self.config.discovery else {
            return Ok(Arc::clone(self));
        };
        if mesh.contains(destination) {
            return Err(OfTheMesh);
        }
        let endpoint = self.load.dialled.at(destination);
        let found = Self::new(Arc::clone(&self.config), [endpoint].into(), Some(self));
        Ok(Arc::new(found))
    }

    /// What it is, for people.
    pub fn dump(&self) -> Value {
        let endpoint = |endpoint: &Arc<Endpoint>| {
            json!({
                "address": endpoint.config.address.to_string(),
                "tunnel": endpoint.is_in_tunnel(),
                "identity": endpoint.config.about.identity,
                "name": endpoint.config.about.name,
                "weight": endpoint.config.weight,
                "health": format!("{:?}", endpoint.config.health),
                "ejected": endpoint.load.outlier.lock().is_ejected(),
                "checked": self.config.health_check.is_some().then(|| format!("{:?}", endpoint.load.checked())),
                "priority": endpoint.config.priority,
                "locality_weight": endpoint.config.locality.weight,
                "active_requests": endpoint.load.active.load(Ordering::Relaxed),
                "asks_for_less": endpoint.is_pushed_back(clock()),
            })
        };
        json!({
            "protocol": format!("{:?}", self.config.protocol),
            "policy": format!("{:?}", self.config.balancing),
            "endpoints": self.endpoints.iter().map(endpoint).collect::<Vec<_>>(),
            "connections": self.load.connections(),
            "waiting_requests": self.load.waiting(),
            "active_requests": self.load.requests(),
        })
    }

    /// A request is under way; none where there are too many.
    pub(crate) fn request(&self) -> Option<Counted> {
        self.load.request(&self.config.breakers)
    }

    /// A request waits for a connection; none where too many do.
    pub(crate) fn pending(&self) -> Option<Counted> {
        self.load.pending(&self.config.breakers)
    }

    /// Another connection; none where there are too many.
    pub(crate) fn connection(&self, is_first: bool) -> Option<OpenConnection> {
        self.load.connection(&self.config.breakers, is_first)
    }

    /// Whether there is room for another retry.
    pub(crate) fn has_room_for_retry(&self) -> bool {
        self.load.has_room_for_retry(&self.config.breakers)
    }

    /// A retry is under way, or waits.
    pub(crate) fn retry(&self) -> Counted {
        self.load.retry()
    }

    /// An endpoint for a request; none where none takes any. Draws again, so many times, where one of `tried` comes out.
    pub(crate) fn choose(&self, hash: Option<u64>, reselections: u32, tried: &[u64]) -> Option<&Arc<Endpoint>> {
        self.choose_beyond(hash, reselections, tried, &[])
    }

    /// The same, but none of these priorities while others can carry anything.
    pub(crate) fn choose_beyond(
        &self,
        hash: Option<u64>,
        reselections: u32,
        tried: &[u64],
        priorities: &[u32],
    ) -> Option<&Arc<Endpoint>> {
        let draw = Draw {
            hash,
            random: fastrand::u64(..),
        };
        let now = clock();
        let balancing = &self.config.balancing;
        let busy = |index: usize| {
            let load = &self.endpoints[index].load;
            let active = load.active.load(Ordering::Relaxed);
            match balancing.is_peak_ewma {
                true => load.latency.cost(now, active),
                false => active.into(),
            }
        };
        let asks_for_less = u128::from(self.load.pushed_back.load(Ordering::Relaxed)) > now.as_millis()
            && !balancing.is_by_hash()
            && fastrand::u8(..STILL) > 0;
        let balancer = self.balancer.load();
        let index = if tried.is_empty() && !asks_for_less && priorities.is_empty() {
            balancer.pick(draw, busy)
        } else {
            let redraws = if asks_for_less {
                reselections.max(REDRAWS)
            } else {
                reselections
            };
            let is_tried = |index: usize| {
                let endpoint = &self.endpoints[index];
                tried.contains(&endpoint.id) || asks_for_less && endpoint.is_pushed_back(now)
            };
            balancer.pick_other(draw, busy, redraws, is_tried, priorities)
        };
        self.endpoints.get(index?)
    }

    /// The endpoint at an address, whether it takes requests or not.
    pub(crate) fn endpoint_at(&self, address: SocketAddr) -> Option<&Arc<Endpoint>> {
        self.endpoints.get(*self.by_address.get(&address)?)
    }

    /// The endpoint that a client's session is at, if it may still be used: with Envoy, one that is not known to fail.
    pub(crate) fn endpoint_of_session(&self, address: SocketAddr) -> Option<&Arc<Endpoint>> {
        let endpoint = self.endpoint_at(address)?;
        let fails_checks = self.config.health_check.is_some() && endpoint.load.checked() == Checked::Unhealthy;
        let takes_requests = matches!(endpoint.config.health, Health::Healthy | Health::Degraded) && !fails_checks;
        (takes_requests && !endpoint.load.outlier.lock().is_ejected()).then_some(endpoint)
    }

    /// An endpoint has answered that it has too much to do (429, `RESOURCE_EXHAUSTED`): others get more for a while.
    pub(crate) fn push_back(&self, endpoint: &Endpoint, asked: Option<Duration>) {
        let time = asked.unwrap_or(PUSHED_BACK).min(MOST_PUSHED_BACK);
        let until = u64::try_from((clock() + time).as_millis()).unwrap_or(u64::MAX);
        endpoint.load.pushed_back.fetch_max(until, Ordering::Relaxed);
        self.load.pushed_back.fetch_max(until, Ordering::Relaxed);
    }

    /// Takes note of how a request to an endpoint went.
    pub(crate) fn note(&self, endpoint: &Endpoint, seen: Seen) {
        let Some(detector) = &self.detector else {
            return;
        };
        match seen {
            Seen::Success if !endpoint.load.has_failed.swap(false, Ordering::Relaxed) => return,
            Seen::Success => {}
            _ => endpoint.load.has_failed.store(true, Ordering::Relaxed),
        }
        let ejected = self.load.ejected.load(Ordering::Relaxed);
        let mut record = endpoint.load.outlier.lock();
        let was_ejected = record.is_ejected();
        let is_ejected = detector.record(&mut record, seen, Instant::now(), ejected, self.endpoints.len());
        drop(record);
        if is_ejected && !was_ejected {
            tracing::warn!(
                cluster = %self.config.name,
                endpoint = %endpoint.config.address,
                ?seen,
                "an endpoint fails: it is left out for a while"
            );
            self.rebalance();
        }
    }

    /// Lets endpoints back whose time is over. To be called now and then.
    pub(crate) fn sweep(&self) {
        let Some(detector) = &self.detector else {
            return;
        };
        let now = Instant::now();
        let mut back = 0;
        for endpoint in self.endpoints.iter() {
            if detector.sweep(&mut endpoint.load.outlier.lock(), now) {
                tracing::info!(cluster = %self.config.name, endpoint = %endpoint.config.address, "an endpoint is back");
                back += 1;
            }
        }
        if back > 0 {
            self.rebalance();
        }
    }

    /// How many endpoints are left out because they failed.
    pub(crate) fn ejected(&self) -> usize {
        let endpoints = self.endpoints.iter();
        endpoints
            .filter(|endpoint| endpoint.load.outlier.lock().is_ejected())
            .count()
    }

    /// Takes note of who serves now.
    pub(crate) fn rebalance(&self) {
        self.load.ejected.store(self.ejected(), Ordering::Relaxed);
        self.balancer.store(Arc::new(balancer(&self.config, &self.endpoints)));
    }
}

fn fails_checks(config: &ClusterConfig, endpoint: &Endpoint) -> bool {
    config.health_check.is_some() && endpoint.load.checked() == Checked::Unhealthy
}

fn is_unchecked(config: &ClusterConfig, endpoint: &Endpoint) -> bool {
    config.health_check.is_some() && endpoint.load.checked() == Checked::NotYet
}

fn balancer(config: &ClusterConfig, endpoints: &[Arc<Endpoint>]) -> Balancer {
    let weighed: Vec<Weighed> = endpoints
        .iter()
        .map(|endpoint| Weighed {
            hash_key: endpoint.config.address.to_string(),
            weight: endpoint.config.weight,
            priority: endpoint.config.priority,
            locality: endpoint.config.locality.index,
            since: endpoint.load.since,
            health: match endpoint.config.health {
                Health::Healthy | Health::Degraded if fails_checks(config, endpoint) => Counts::Unhealthy,
                Health::Healthy if endpoint.load.outlier.lock().is_ejected() => Counts::Unhealthy,
                // Those that are known to serve come first.
                Health::Healthy if is_unchecked(config, endpoint) => Counts::Degraded,
                Health::Healthy => Counts::Healthy,
                Health::Degraded => Counts::Degraded,
                Health::Draining => Counts::Draining,
                Health::Unhealthy => Counts::Unhealthy,
            },
        })
        .collect();
    let balancing = &config.balancing;
    let localities = endpoints.iter().map(|endpoint| endpoint.config.locality);
    let count = localities.clone().map(|locality| locality.index + 1).max().unwrap_or(0);
    let mut weights = vec![0; count];
    localities.for_each(|locality| weights[locality.index] = locality.weight);
    let settings = Settings {
        policy: balancing.policy,
        panic_threshold: config.panic_threshold,
        slow_start: balancing.slow_start,
        localities: balancing.is_by_locality.then_some(&weights),
    };
    Balancer::with(&settings, &weighed, Instant::now())
}
