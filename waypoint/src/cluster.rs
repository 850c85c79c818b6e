//! A cluster with its endpoints, and what is under way to it on all threads.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    time::Instant,
};

use arc_swap::ArcSwap;
use culvert_envoy::pb::envoy::config::cluster::v3::cluster::{LbConfig, LbPolicy};
use culvert_http::balance::{
    Balancer, Draw, Endpoint as Weighed, Health as Counts, Policy,
    outlier::{Detector, Result as Seen},
};
use serde_json::{Value, json};

use crate::{
    config::{cluster::ClusterConfig, endpoints::Health, refusal::Refusal},
    counted::Counted,
    endpoint::Endpoint,
};

/// A cluster as one snapshot has it.
#[derive(Debug)]
pub struct Cluster {
    /// As configured.
    pub config: Arc<ClusterConfig>,
    /// Its endpoints; none before they came.
    pub endpoints: Arc<[Arc<Endpoint>]>,
    /// What is under way. Stays the same over changes of anything else.
    pub load: Arc<ClusterLoad>,
    policy: Policy,
    /// Made anew when an endpoint is ejected, or comes back.
    balancer: ArcSwap<Balancer>,
    detector: Option<Detector>,
}

/// What is under way to a cluster.
#[derive(Debug, Default)]
pub struct ClusterLoad {
    connections: Arc<AtomicU32>,
    requests: Arc<AtomicU32>,
    retries: Arc<AtomicU32>,
    ejected: AtomicUsize,
}

impl ClusterLoad {
    /// A connection is open.
    pub(crate) fn connection(&self) -> Counted {
        Counted::new(&self.connections)
    }

    /// Open connections.
    pub fn connections(&self) -> u32 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Requests that are under way.
    pub fn requests(&self) -> u32 {
        self.requests.load(Ordering::Relaxed)
    }
}

impl Cluster {
    /// With these endpoints, and what is counted of `before`.
    ///
    /// # Errors
    /// Where it is to be balanced in a way that is not served.
    pub fn new(
        config: Arc<ClusterConfig>,
        endpoints: Arc<[Arc<Endpoint>]>,
        before: Option<&Self>,
    ) -> Result<Self, Refusal> {
        let policy = policy(&config)?;
        let detector = config.outlier.clone().map(Detector::new);
        let balancer = Arc::new(balancer(policy, &config, &endpoints));
        Ok(Self {
            config,
            endpoints,
            load: before.map_or_else(Arc::default, |before| Arc::clone(&before.load)),
            policy,
            balancer: ArcSwap::new(balancer),
            detector,
        })
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
                "priority": endpoint.config.priority,
                "active_requests": endpoint.load.active.load(Ordering::Relaxed),
            })
        };
        json!({
            "protocol": format!("{:?}", self.config.protocol),
            "policy": format!("{:?}", self.policy),
            "endpoints": self.endpoints.iter().map(endpoint).collect::<Vec<_>>(),
            "connections": self.load.connections(),
            "active_requests": self.load.requests(),
        })
    }

    /// A request is under way; none where there are too many.
    pub(crate) fn request(&self) -> Option<Counted> {
        Counted::within(&self.load.requests, self.config.breakers.requests)
    }

    /// Whether there is room for another retry.
    pub(crate) fn has_room_for_retry(&self) -> bool {
        let retries = self.load.retries.load(Ordering::Relaxed);
        self.config.breakers.retries.allows(self.load.requests(), retries)
    }

    /// A retry is under way, or waits.
    pub(crate) fn retry(&self) -> Counted {
        Counted::new(&self.load.retries)
    }

    /// An endpoint for a request; none where none takes any. Draws again, so many times, where one of `tried` comes out.
    pub(crate) fn choose(&self, hash: Option<u64>, reselections: u32, tried: &[u64]) -> Option<&Arc<Endpoint>> {
        let draw = Draw {
            hash,
            random: fastrand::u64(..),
        };
        let active = |index: usize| &*self.endpoints[index].load.active;
        let balancer = self.balancer.load();
        let index = if tried.is_empty() {
            balancer.pick(draw, active)
        } else {
            balancer.pick_other(draw, active, reselections, |index| {
                tried.contains(&self.endpoints[index].id)
            })
        };
        self.endpoints.get(index?)
    }

    /// Takes note of how a request to an endpoint went.
    pub(crate) fn note(&self, endpoint: &Endpoint, seen: Seen) {
        let Some(detector) = &self.detector else {
            return;
        };
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

    fn rebalance(&self) {
        let ejected = self
            .endpoints
            .iter()
            .filter(|endpoint| endpoint.load.outlier.lock().is_ejected());
        self.load.ejected.store(ejected.count(), Ordering::Relaxed);
        self.balancer
            .store(Arc::new(balancer(self.policy, &self.config, &self.endpoints)));
    }
}

fn balancer(policy: Policy, config: &ClusterConfig, endpoints: &[Arc<Endpoint>]) -> Balancer {
    let weighed: Vec<Weighed> = endpoints
        .iter()
        .map(|endpoint| Weighed {
            hash_key: endpoint.config.address.to_string(),
            weight: endpoint.config.weight,
            priority: endpoint.config.priority,
            health: match endpoint.config.health {
                Health::Healthy if endpoint.load.outlier.lock().is_ejected() => Counts::Unhealthy,
                Health::Healthy => Counts::Healthy,
                Health::Degraded => Counts::Degraded,
                Health::Draining => Counts::Draining,
                Health::Unhealthy => Counts::Unhealthy,
            },
        })
        .collect();
    Balancer::new(policy, &weighed, config.panic_threshold)
}

fn policy(config: &ClusterConfig) -> Result<Policy, Refusal> {
    let value = |message: &Option<_>, default| message.as_ref().map_or(default, u64_of);
    let policy = match (config.policy, &config.policy_config) {
        (LbPolicy::RoundRobin, _) => Policy::RoundRobin,
        (LbPolicy::Random, _) => Policy::Random,
        (LbPolicy::LeastRequest, Some(LbConfig::LeastRequestLbConfig(least))) => Policy::LeastRequest {
            choices: least.choice_count.as_ref().map_or(2, |count| count.value),
        },
        (LbPolicy::LeastRequest, _) => Policy::LeastRequest { choices: 2 },
        (LbPolicy::RingHash, Some(LbConfig::RingHashLbConfig(ring))) if ring.hash_function == 0 => Policy::RingHash {
            minimum: value(&ring.minimum_ring_size, 1024),
            maximum: value(&ring.maximum_ring_size, 8 << 20),
        },
        (LbPolicy::RingHash, Some(LbConfig::RingHashLbConfig(_))) => {
            return Err(Refusal::new(
                "ring_hash_lb_config.hash_function",
                "only XX_HASH is served here",
            ));
        }
        (LbPolicy::RingHash, _) => Policy::RingHash {
            minimum: 1024,
            maximum: 8 << 20,
        },
        (LbPolicy::Maglev, Some(LbConfig::MaglevLbConfig(maglev))) => Policy::Maglev {
            size: value(&maglev.table_size, 65_537),
        },
        (LbPolicy::Maglev, _) => Policy::Maglev { size: 65_537 },
        (other, _) => {
            return Err(Refusal::new(
                "lb_policy",
                format!("{} is not served here", other.as_str_name()),
            ));
        }
    };
    Ok(policy)
}

fn u64_of(message: &culvert_envoy::pb::google::protobuf::UInt64Value) -> u64 {
    message.value
}
