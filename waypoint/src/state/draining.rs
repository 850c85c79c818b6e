//! What connections go on with whose chains are gone: what was known when those went, for as long as Envoy lets connections drain.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use culvert_http::RouteTable;
use rustc_hash::FxHashMap;

use crate::{cluster::Cluster, config::http_chain::HttpChain};

/// How long a connection whose chain is gone may wait for its next request: what Envoy is told in a waypoint (`--drain-time-s`).
pub const DRAIN: Duration = Duration::from_secs(60);

/// What was known of a chain when it went.
#[derive(Clone, Debug)]
pub(super) struct Last {
    pub(super) routes: Option<Arc<RouteTable>>,
    pub(super) clusters: Arc<FxHashMap<Arc<str>, Arc<Cluster>>>,
}

/// By what chains say, until when. Clones are cheap.
#[derive(Clone, Debug, Default)]
pub(super) struct Draining(Arc<FxHashMap<u64, (Instant, Last)>>);

impl Draining {
    /// A chain is gone.
    pub(super) fn keep(&mut self, chain: &HttpChain, last: Last, now: Instant) {
        Arc::make_mut(&mut self.0).insert(chain.said, (now + DRAIN, last));
    }

    /// What a chain that is gone goes on with.
    pub(super) fn of(&self, chain: &HttpChain) -> Option<&Last> {
        self.0.get(&chain.said).map(|(_, last)| last)
    }

    /// Forgets what nobody should need any more. Whether there was any.
    pub(super) fn sweep(&mut self, now: Instant) -> bool {
        if self.0.values().all(|(until, _)| now < *until) {
            return false;
        }
        Arc::make_mut(&mut self.0).retain(|_, (until, _)| now < *until);
        true
    }
}
