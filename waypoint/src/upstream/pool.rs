//! Connections to endpoints that speak HTTP, kept for the next request, and those who wait for one.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use hyper::client::conn::{http1, http2};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tokio::sync::Notify;

use crate::{
    body::Body,
    busy::{Busy, Underway},
    cluster::Cluster,
    config::cluster::ClusterConfig,
    counted::Counted,
    endpoint::{Endpoint, EndpointLoad},
    load::OpenConnection,
};

use super::proxy_protocol::Ends;

/// Streams on a connection beyond which another one is made, where the peer allows more.
pub(super) const STREAMS: usize = 100;

/// Connections without a request that are kept for an endpoint.
const IDLE: usize = 64;

/// Streams on a connection of a cluster beyond which another one is made.
pub(super) fn streams(config: &ClusterConfig) -> usize {
    config.streams.map_or(STREAMS, |streams| streams as usize).max(1)
}

/// Connections of one thread.
#[derive(Debug, Default)]
pub struct Pool {
    hosts: Mutex<FxHashMap<Key, Host>>,
}

/// Which connections are good for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) endpoint: u64,
    /// Where the endpoint is told between whom a connection is, those of one client's connection alone, as with Envoy.
    pub(super) ends: Option<Ends>,
}

#[derive(Debug)]
struct Host {
    /// Gone with the endpoint.
    load: Weak<EndpointLoad>,
    /// HTTP/1 connections without a request, the one that was used last at the end.
    idle: Vec<Idle>,
    shared: Vec<Shared>,
    /// Connections that are open or being made, idle ones among them.
    open: Arc<AtomicU32>,
    /// Told whenever one may be used again, or has ended.
    freed: Arc<Notify>,
}

/// For how long a connection is used.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// How long without a request.
    idle: Option<Duration>,
    until: Option<Instant>,
}

impl Terms {
    /// For a connection that begins now.
    pub(super) fn of(config: &ClusterConfig) -> Self {
        Self {
            idle: config.idle_timeout,
            until: config.connection_age.and_then(|age| Instant::now().checked_add(age)),
        }
    }

    fn allow(&self, now: Instant, idle_since: Instant) -> bool {
        let idle = now.saturating_duration_since(idle_since);
        self.idle.is_none_or(|most| idle < most) && self.is_young(now)
    }

    fn is_young(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

/// An HTTP/1 connection.
#[derive(Debug)]
pub(super) struct Own {
    pub(super) sender: http1::SendRequest<Body>,
    /// Requests so far.
    pub(super) used: u32,
    pub(super) terms: Terms,
}

#[derive(Debug)]
struct Idle {
    own: Own,
    since: Instant,
}

/// An HTTP/2 connection.
#[derive(Debug)]
struct Shared {
    sender: http2::SendRequest<Body>,
    streams: Arc<Busy>,
    /// As many as the peer allows.
    allowed: Arc<AtomicUsize>,
    used: u32,
    terms: Terms,
}

impl Shared {
    /// Whether it may be used on: it has streams, or had some not long ago.
    fn is_fresh(&self, now: Instant) -> bool {
        self.terms.is_young(now)
            && self
                .streams
                .idle_since()
                .is_none_or(|since| self.terms.allow(now, since))
    }
}

/// A stream of an HTTP/2 connection, or a request on one of HTTP/1, for as long as it is under way.
#[derive(Debug)]
pub struct Lease {
    stream: Option<(Underway, Arc<Notify>)>,
}

impl Lease {
    /// A request that has its connection to itself.
    pub(super) fn alone() -> Self {
        Self { stream: None }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some((stream, freed)) = self.stream.take() {
            drop(stream);
            freed.notify_one();
        }
    }
}

/// A connection that is open or being made, for as long as it lasts.
#[derive(Debug)]
pub(super) struct Opened {
    of_cluster: Option<OpenConnection>,
    of_endpoint: Option<Counted>,
    freed: Arc<Notify>,
}

impl Drop for Opened {
    fn drop(&mut self) {
        drop(self.of_endpoint.take());
        drop(self.of_cluster.take());
        self.freed.notify_one();
    }
}

impl Pool {
    /// What is told whenever a connection to an endpoint may be used again, or has ended.
    pub(super) fn freed(&self, key: Key, endpoint: &Endpoint) -> Arc<Notify> {
        Arc::clone(&self.hosts.lock().entry(key).or_insert_with(|| Host::of(endpoint)).freed)
    }

    /// Another connection to an endpoint; none where the cluster has too many. The first one of this thread is always let through.
    pub(super) fn open(&self, key: Key, cluster: &Cluster, endpoint: &Endpoint) -> Option<Opened> {
        let mut hosts = self.hosts.lock();
        let host = hosts.entry(key).or_insert_with(|| Host::of(endpoint));
        let of_cluster = cluster.connection(host.open.load(Ordering::Relaxed) == 0)?;
        Some(Opened {
            of_cluster: Some(of_cluster),
            of_endpoint: Some(Counted::new(&host.open)),
            freed: Arc::clone(&host.freed),
        })
    }

    /// An HTTP/1 connection without a request. How long it may have had none is as its cluster says now.
    pub(super) fn take(&self, key: Key, config: &ClusterConfig) -> Option<Own> {
        let mut hosts = self.hosts.lock();
        let host = hosts.get_mut(&key)?;
        let now = Instant::now();
        while let Some(mut idle) = host.idle.pop() {
            idle.own.terms.idle = config.idle_timeout;
            if idle.own.terms.allow(now, idle.since) && idle.own.sender.is_ready() {
                return Some(idle.own);
            }
        }
        None
    }

    pub(super) fn keep(&self, key: Key, load: Weak<EndpointLoad>, own: Own) {
        let now = Instant::now();
        if load.strong_count() == 0 || !own.terms.is_young(now) {
            return;
        }
        let mut hosts = self.hosts.lock();
        let host = hosts.entry(key).or_insert_with(|| Host::new(load));
        if host.idle.len() >= IDLE {
            host.idle.remove(0);
        }
        host.idle.push(Idle { own, since: now });
        host.freed.notify_one();
    }

    /// A stream on an HTTP/2 connection that is there.
    pub(super) fn share(&self, key: Key, config: &ClusterConfig) -> Option<(http2::SendRequest<Body>, Lease)> {
        let mut hosts = self.hosts.lock();
        let host = hosts.get_mut(&key)?;
        let now = Instant::now();
        // What has had its requests, or its time, ends once its last stream does.
        let has_requests = |shared: &Shared| config.requests_per_connection.is_none_or(|most| shared.used < most);
        host.shared.retain_mut(|shared| {
            shared.terms.idle = config.idle_timeout;
            has_requests(shared) && shared.is_fresh(now)
        });
        let asked = streams(config);
        let shared = host.shared.iter_mut().find(|shared| {
            let streams = shared.streams.requests() as usize;
            let allowed = shared.allowed.load(Ordering::Relaxed).clamp(1, asked);
            !shared.sender.is_closed() && streams < allowed
        })?;
        shared.used += 1;
        let lease = Lease {
            stream: Some((shared.streams.begin(), Arc::clone(&host.freed))),
        };
        Some((shared.sender.clone(), lease))
    }

    pub(super) fn add(
        &self,
        key: Key,
        endpoint: &Endpoint,
        sender: http2::SendRequest<Body>,
        allowed: Arc<AtomicUsize>,
        terms: Terms,
    ) -> Lease {
        let streams = Arc::new(Busy::new());
        let first = streams.begin();
        let mut hosts = self.hosts.lock();
        let host = hosts.entry(key).or_insert_with(|| Host::of(endpoint));
        host.shared.push(Shared {
            sender,
            streams,
            allowed,
            used: 1,
            terms,
        });
        // Those who wait share it.
        host.freed.notify_waiters();
        Lease {
            stream: Some((first, Arc::clone(&host.freed))),
        }
    }

    pub(super) fn forget_closed(&self, key: Key) {
        let mut hosts = self.hosts.lock();
        if let Some(host) = hosts.get_mut(&key) {
            host.shared.retain(|shared| !shared.sender.is_closed());
        }
    }

    pub(super) fn sweep(&self, now: Instant) {
        self.hosts.lock().retain(|key, host| {
            host.idle
                .retain(|idle| idle.own.sender.is_ready() && idle.own.terms.allow(now, idle.since));
            host.shared.retain(|shared| {
                // One that is too old and has streams goes when it would be used again.
                let has_streams = shared.streams.idle_since().is_none();
                !shared.sender.is_closed() && (has_streams || shared.is_fresh(now))
            });
            // Clients are many, and come and go. Who waits, or makes a connection, knows what is told then, too.
            let is_used =
                key.ends.is_none() || host.open.load(Ordering::Relaxed) > 0 || Arc::strong_count(&host.freed) > 1;
            is_used && host.load.strong_count() > 0
        });
    }
}

impl Host {
    fn new(load: Weak<EndpointLoad>) -> Self {
        Self {
            load,
            idle: Vec::new(),
            shared: Vec::new(),
            open: Arc::default(),
            freed: Arc::default(),
        }
    }

    fn of(endpoint: &Endpoint) -> Self {
        Self::new(Arc::downgrade(&endpoint.load))
    }
}
