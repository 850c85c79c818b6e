//! Route configurations that are on their way: a listener names them, and they are asked for once it is there.
//!
//! A request that comes in between waits, rather than being told that nothing is there. It does not wait for what was refused or is said not
//! to exist, nor for longer than Envoy lets a new listener wait for its routes (`initial_fetch_timeout`): then it is answered as without
//! routes, 404.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rustc_hash::{FxHashMap, FxHashSet};
use tokio::sync::{Notify, futures::Notified};

/// Envoy's default of `initial_fetch_timeout`.
const PATIENCE: Duration = Duration::from_secs(15);

/// Their names.
#[derive(Clone, Debug, Default)]
pub struct Awaited {
    /// With the time at which they were missed first.
    since: Arc<FxHashMap<Arc<str>, Instant>>,
    /// Those that came to nothing, of which nobody waits.
    given_up: Arc<FxHashSet<Arc<str>>>,
    /// Told whenever something is published.
    published: Arc<Notify>,
}

impl Awaited {
    /// Until when a request waits for these routes; none if they do not come.
    pub fn until(&self, routes: &str) -> Option<Instant> {
        self.since.get(routes).map(|since| *since + PATIENCE)
    }

    /// All of them.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.since.keys().map(|name| &**name)
    }

    /// Ends when something was published after this call.
    pub fn published(&self) -> Notified<'_> {
        self.published.notified()
    }

    /// Chains refer to these, of which some are there.
    pub(super) fn want<'a>(&mut self, wanted: impl Iterator<Item = &'a Arc<str>>, is_there: impl Fn(&str) -> bool) {
        let missing: FxHashSet<&Arc<str>> = wanted.filter(|name| !is_there(name)).collect();
        if !self.given_up.is_empty() {
            // What comes, or is asked for anew, begins anew.
            Arc::make_mut(&mut self.given_up).retain(|name| missing.contains(name));
        }
        let since = |name: &Arc<str>| self.since.get(name).copied().unwrap_or_else(Instant::now);
        let waited_for = missing.into_iter().filter(|name| !self.given_up.contains(*name));
        let now: FxHashMap<Arc<str>, Instant> = waited_for.map(|name| (Arc::clone(name), since(name))).collect();
        if now != *self.since {
            self.since = Arc::new(now);
        }
    }

    /// These will not come.
    pub(super) fn give_up(&mut self, routes: &str) {
        Arc::make_mut(&mut self.given_up).insert(routes.into());
    }

    /// Wakes those that wait.
    pub(super) fn tell(&self) {
        self.published.notify_waiters();
    }
}
