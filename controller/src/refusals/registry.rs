//! The refusals of all streams of this replica.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use culvert_envoy::{CLUSTER_TYPE, ENDPOINT_TYPE, LISTENER_TYPE, ROUTE_TYPE};
use culvert_resources::model::Refusal;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::authority::Caller;

/// How long a refusal stands when its stream has ended: a proxy that connects again, to whichever replica, says it again.
const LINGER: Duration = Duration::from_secs(60);
/// The most refusals of one proxy, and of all: what is beyond is logged and counted, and in no status.
const MOST_OF_ONE: usize = 32;
const MOST: usize = 512;

/// All refusals that stand.
#[derive(Clone, Debug, Default)]
pub(crate) struct Refusals {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    streams: AtomicU64,
    standing: Mutex<BTreeMap<Of, Stands>>,
    all: watch::Sender<Arc<BTreeSet<Refusal>>>,
}

/// What is refused, and by whom.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Of {
    waypoint: Option<Arc<str>>,
    proxy: Arc<str>,
    type_url: Arc<str>,
    /// None where it is not known which one of several it is.
    name: Option<Arc<str>>,
}

#[derive(Debug)]
struct Stands {
    /// The stream on which it was said last.
    stream: u64,
    message: String,
}

/// The proxy at the other end of a stream. Its refusals go some time after it is dropped, where nobody has said them again.
#[derive(Debug)]
pub(crate) struct Refuser {
    inner: Arc<Inner>,
    stream: u64,
    waypoint: Option<Arc<str>>,
    /// None for a caller whose word does not count: it is neither a node's proxy nor a waypoint's.
    proxy: Option<Arc<str>>,
}

impl Refusals {
    /// What stands by now.
    pub(crate) fn all(&self) -> watch::Receiver<Arc<BTreeSet<Refusal>>> {
        self.inner.all.subscribe()
    }

    /// The proxy of a new stream, of the waypoint of this scope if it is of one.
    pub(crate) fn of(&self, caller: &Caller, waypoint: Option<&Arc<str>>) -> Refuser {
        let proxy = match waypoint {
            Some(_) => caller.pod_name(),
            None => caller.node().map(str::to_owned),
        };
        Refuser {
            inner: Arc::clone(&self.inner),
            stream: self.inner.streams.fetch_add(1, Ordering::Relaxed),
            waypoint: waypoint.cloned(),
            proxy: proxy.map(Arc::from),
        }
    }
}

impl Refuser {
    /// It refuses a resource, or one of several.
    pub(super) fn refuses(&self, type_url: &str, name: Option<&str>, message: &str) {
        let Some(of) = self.key(type_url, name) else { return };
        // A waypoint has a say in what is its own alone.
        let is_scoped = [CLUSTER_TYPE, ENDPOINT_TYPE, LISTENER_TYPE, ROUTE_TYPE].contains(&type_url);
        let scope = self.waypoint.as_deref().filter(|_| is_scoped);
        let is_own = |scope: &str| name.is_none_or(|name| is_below(name, scope));
        if !scope.is_none_or(is_own) {
            return;
        }
        self.inner.change(|standing| {
            let of_one = standing.keys().filter(|one| one.proxy == of.proxy).count();
            let has_room = of_one < MOST_OF_ONE && standing.len() < MOST;
            let is_kept = has_room || standing.contains_key(&of);
            if is_kept {
                let stands = Stands {
                    stream: self.stream,
                    message: message.to_owned(),
                };
                standing.insert(of, stands);
            }
            is_kept
        });
    }

    /// It has taken these, or does not ask for them any longer.
    pub(super) fn settle<'a>(&self, type_url: &str, names: impl Iterator<Item = &'a str>) {
        self.forget(type_url, names.map(Some));
    }

    /// It has taken all of those of which it has not said which one it refuses.
    pub(super) fn settle_unnamed(&self, type_url: &str) {
        self.forget(type_url, std::iter::once(None));
    }

    /// What it refuses of a type, as far as it is known which resources these are.
    pub(super) fn refused(&self, type_url: &str) -> Vec<Arc<str>> {
        let standing = self.inner.standing.lock();
        self.own(&standing, type_url).filter_map(|of| of.name.clone()).collect()
    }

    /// Nearly all proxies refuse nothing, also while some do, and each answer comes here.
    fn forget<'a>(&self, type_url: &str, names: impl Iterator<Item = Option<&'a str>>) {
        self.inner.change(|standing| {
            let mut own: Vec<Of> = self.own(standing, type_url).cloned().collect();
            if own.is_empty() {
                return false;
            }
            let before = own.len();
            for name in names {
                own.retain(|of| of.name.as_deref() != name || standing.remove(of).is_none());
            }
            own.len() < before
        });
    }

    fn own<'a>(&'a self, standing: &'a BTreeMap<Of, Stands>, type_url: &'a str) -> impl Iterator<Item = &'a Of> {
        standing.keys().filter(move |of| {
            of.waypoint == self.waypoint && Some(&of.proxy) == self.proxy.as_ref() && *of.type_url == *type_url
        })
    }

    fn key(&self, type_url: &str, name: Option<&str>) -> Option<Of> {
        Some(Of {
            waypoint: self.waypoint.clone(),
            proxy: self.proxy.clone()?,
            type_url: type_url.into(),
            name: name.map(Arc::from),
        })
    }
}

impl Inner {
    /// `change` says whether it changed anything: only then it is told.
    fn change(&self, change: impl FnOnce(&mut BTreeMap<Of, Stands>) -> bool) {
        let mut standing = self.standing.lock();
        if !change(&mut standing) {
            return;
        }
        let refusal = |(of, stands): (&Of, &Stands)| Refusal {
            waypoint: of.waypoint.as_deref().map(str::to_owned),
            proxy: of.proxy.to_string(),
            type_url: of.type_url.to_string(),
            name: of.name.as_deref().map(str::to_owned),
            message: stands.message.clone(),
        };
        let now: BTreeSet<Refusal> = standing.iter().map(refusal).collect();
        // Before the lock is given up, so that nobody publishes what was before.
        self.all.send_if_modified(|before| {
            let is_other = **before != now;
            if is_other {
                *before = Arc::new(now);
            }
            is_other
        });
    }
}

impl Drop for Refuser {
    fn drop(&mut self) {
        let (inner, stream) = (Arc::clone(&self.inner), self.stream);
        if !inner.standing.lock().values().any(|stands| stands.stream == stream) {
            return;
        }
        // Without a runtime the program ends.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        runtime.spawn(async move {
            tokio::time::sleep(LINGER).await;
            inner.change(|standing| {
                let before = standing.len();
                standing.retain(|_, stands| stands.stream != stream);
                standing.len() < before
            });
        });
    }
}

/// Whether a resource's name is one of a waypoint.
fn is_below(name: &str, scope: &str) -> bool {
    name.strip_prefix(scope).is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests;
