//! A cluster with its endpoints, and what is under way to it on all threads.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use serde_json::{Value, json};

use crate::{
    config::{cluster::ClusterConfig, endpoints::Health, refusal::Refusal},
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
}

/// What is under way to a cluster.
#[derive(Debug, Default)]
pub struct ClusterLoad {
    connections: Arc<AtomicU32>,
    requests: Arc<AtomicU32>,
    retries: Arc<AtomicU32>,
    turn: AtomicU32,
}

/// One of something that is counted, for as long as it lives.
#[derive(Debug)]
pub struct Counted(Arc<AtomicU32>);

impl Counted {
    /// One more.
    pub fn new(count: &Arc<AtomicU32>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }

    /// One more, unless that were more than `most`.
    pub fn within(count: &Arc<AtomicU32>, most: u32) -> Option<Self> {
        let more = |before: u32| (before < most).then_some(before + 1);
        count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Self(Arc::clone(count)))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
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
        Ok(Self {
            config,
            endpoints,
            load: before.map_or_else(Arc::default, |before| Arc::clone(&before.load)),
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
                "priority": endpoint.config.priority,
                "active_requests": endpoint.load.active.load(Ordering::Relaxed),
            })
        };
        json!({
            "protocol": format!("{:?}", self.config.protocol),
            "policy": self.config.policy.as_str_name(),
            "endpoints": self.endpoints.iter().map(endpoint).collect::<Vec<_>>(),
            "connections": self.load.connections(),
            "active_requests": self.load.requests(),
        })
    }

    /// A request is under way; none where there are too many.
    pub(crate) fn request(&self) -> Option<Counted> {
        Counted::within(&self.load.requests, self.config.breakers.requests)
    }

    /// A retry is under way; none where there are too many.
    pub(crate) fn retry(&self) -> Option<Counted> {
        let breakers = &self.config.breakers;
        let most = match breakers.retry_budget {
            None => breakers.retries,
            Some((percent, least)) => ((f64::from(self.load.requests()) * percent / 100.0) as u32).max(least),
        };
        Counted::within(&self.load.retries, most)
    }

    /// An endpoint for a request; none where none takes any. Those of `avoid` are passed over as long as there is another.
    pub(crate) fn choose(&self, _hash: Option<u64>, avoid: &[u64]) -> Option<&Arc<Endpoint>> {
        let usable = |endpoint: &&Arc<Endpoint>| endpoint.config.health == Health::Healthy;
        let all: Vec<&Arc<Endpoint>> = self.endpoints.iter().filter(usable).collect();
        let fresh: Vec<&Arc<Endpoint>> = all
            .iter()
            .copied()
            .filter(|endpoint| !avoid.contains(&endpoint.id))
            .collect();
        let from = if fresh.is_empty() { all } else { fresh };
        let turn = self.load.turn.fetch_add(1, Ordering::Relaxed) as usize;
        (!from.is_empty()).then(|| from[turn % from.len()])
    }
}
