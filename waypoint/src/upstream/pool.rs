//! Connections to endpoints that speak HTTP, kept for the next request.

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

use crate::{
    body::Body,
    endpoint::{Endpoint, EndpointLoad},
};

/// Streams on a connection beyond which another one is made, where the peer allows more.
pub(super) const STREAMS: usize = 100;

/// Connections without a request that are kept for an endpoint.
const IDLE: usize = 64;

/// Connections of one thread.
#[derive(Debug, Default)]
pub struct Pool {
    hosts: Mutex<FxHashMap<u64, Host>>,
}

#[derive(Debug)]
struct Host {
    /// Gone with the endpoint.
    load: Weak<EndpointLoad>,
    /// HTTP/1 connections without a request, the one that was used last at the end.
    idle: Vec<Idle>,
    shared: Vec<Shared>,
}

#[derive(Debug)]
struct Idle {
    sender: http1::SendRequest<Body>,
    since: Instant,
    timeout: Option<Duration>,
    used: u32,
}

/// An HTTP/2 connection.
#[derive(Debug)]
struct Shared {
    sender: http2::SendRequest<Body>,
    streams: Arc<AtomicU32>,
    /// As many as the peer allows.
    allowed: Arc<AtomicUsize>,
    used: u32,
    /// Since when it has no stream.
    idle_since: Option<Instant>,
    timeout: Option<Duration>,
}

/// A stream of an HTTP/2 connection, or a request on one of HTTP/1, for as long as it is under way.
#[derive(Debug)]
pub struct Lease {
    streams: Option<Arc<AtomicU32>>,
}

impl Lease {
    /// A request that has its connection to itself.
    pub(super) fn alone() -> Self {
        Self { streams: None }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(streams) = &self.streams {
            streams.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
impl Pool {
    /// An HTTP/1 connection without a request.
    pub(super) fn take(&self, endpoint: &Endpoint) -> Option<(http1::SendRequest<Body>, u32)> {
        let mut hosts = self.hosts.lock();
        let host = hosts.get_mut(&endpoint.id)?;
        while let Some(idle) = host.idle.pop() {
            let in_time = idle.timeout.is_none_or(|timeout| idle.since.elapsed() < timeout);
            if in_time && idle.sender.is_ready() {
                return Some((idle.sender, idle.used));
            }
        }
        None
    }

    pub(super) fn keep(
        &self,
        id: u64,
        load: Weak<EndpointLoad>,
        sender: http1::SendRequest<Body>,
        used: u32,
        timeout: Option<Duration>,
    ) {
        if load.strong_count() == 0 {
            return;
        }
        let mut hosts = self.hosts.lock();
        let host = hosts.entry(id).or_insert_with(|| Host::new(load));
        if host.idle.len() >= IDLE {
            host.idle.remove(0);
        }
        host.idle.push(Idle {
            sender,
            since: Instant::now(),
            timeout,
            used,
        });
    }

    /// A stream on an HTTP/2 connection that is there.
    pub(super) fn share(&self, endpoint: &Endpoint, most: Option<u32>) -> Option<(http2::SendRequest<Body>, Lease)> {
        let mut hosts = self.hosts.lock();
        let host = hosts.get_mut(&endpoint.id)?;
        let shared = host.shared.iter_mut().find(|shared| {
            let streams = shared.streams.load(Ordering::Relaxed) as usize;
            let allowed = shared.allowed.load(Ordering::Relaxed).clamp(1, STREAMS);
            !shared.sender.is_closed() && streams < allowed && most.is_none_or(|most| shared.used < most)
        })?;
        shared.used += 1;
        shared.idle_since = None;
        shared.streams.fetch_add(1, Ordering::Relaxed);
        let lease = Lease {
            streams: Some(Arc::clone(&shared.streams)),
        };
        Some((shared.sender.clone(), lease))
    }

    pub(super) fn add(
        &self,
        endpoint: &Endpoint,
        sender: http2::SendRequest<Body>,
        allowed: Arc<AtomicUsize>,
        timeout: Option<Duration>,
    ) -> Lease {
        let streams = Arc::new(AtomicU32::new(1));
        let mut hosts = self.hosts.lock();
        let host = hosts
            .entry(endpoint.id)
            .or_insert_with(|| Host::new(Arc::downgrade(&endpoint.load)));
        host.shared.push(Shared {
            sender,
            streams: Arc::clone(&streams),
            allowed,
            used: 1,
            idle_since: None,
            timeout,
        });
        Lease { streams: Some(streams) }
    }

    pub(super) fn forget_closed(&self, id: u64) {
        let mut hosts = self.hosts.lock();
        if let Some(host) = hosts.get_mut(&id) {
            host.shared.retain(|shared| !shared.sender.is_closed());
        }
    }

    pub(super) fn sweep(&self, now: Instant) {
        let late = |since: Instant, timeout: Option<Duration>| {
            timeout.is_some_and(|timeout| now.saturating_duration_since(since) >= timeout)
        };
        self.hosts.lock().retain(|_, host| {
            host.idle
                .retain(|idle| idle.sender.is_ready() && !late(idle.since, idle.timeout));
            host.shared.retain_mut(|shared| {
                if shared.sender.is_closed() {
                    return false;
                }
                if shared.streams.load(Ordering::Relaxed) > 0 {
                    shared.idle_since = None;
                    return true;
                }
                !late(*shared.idle_since.get_or_insert(now), shared.timeout)
            });
            host.load.strong_count() > 0
        });
    }
}

impl Host {
    fn new(load: Weak<EndpointLoad>) -> Self {
        Self {
            load,
            idle: Vec::new(),
            shared: Vec::new(),
        }
    }
}
