//! What a balancer knows of an endpoint.

use std::time::Instant;

/// An endpoint, as a balancer sees it.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// What it is hashed by: the `hash_key` of its metadata, else `ADDRESS:PORT`.
    pub hash_key: String,
    /// Its weight, at least 1.
    pub weight: u32,
    /// 0 is used first.
    pub priority: u32,
    /// Which locality it is in: an index into the weights of localities, where these count.
    pub locality: usize,
    /// How it is.
    pub health: Health,
    /// Since when it is there.
    pub since: Instant,
}

/// How an endpoint is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// It takes requests.
    #[default]
    Healthy,
    /// It takes requests where the healthy ones are not enough.
    Degraded,
    /// It takes none, but in panic.
    Unhealthy,
    /// It goes away: takes none and does not count, but in panic.
    Draining,
}
