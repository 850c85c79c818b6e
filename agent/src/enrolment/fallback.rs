//! What the reconciler does while no proxy serves, about pods that go without one (`culvert.dev/fallback: direct`) and about connections
//! that wait for one.
//!
//! The kernel programs decide for each connection (`ebpf/src/fallback.rs`). Here they are told when the last proxy is gone, and people
//! are told which pods that concerns.

use std::{collections::BTreeMap, sync::Arc};

use culvert_abi::Serving;
use culvert_objects::Fallback;
use tokio::time::Instant;

use super::{
    Reconciler,
    direct::{Counted, Direct},
    entry::{Entry, explain},
    plan::Phase,
};
use crate::handover::{Order, Proxy};

impl Reconciler {
    /// Tells the kernel programs what they cannot know of the proxies that are connected.
    pub(super) fn tell_serving(&self) {
        let told = match self.proxies.iter().all(|proxy| proxy.serves) {
            _ if self.proxies.is_empty() => self.kernel().set_serving(Serving::GONE),
            true => self.kernel().leave_serving_to_proxies(),
            false => self.kernel().set_serving(Serving::UNTIL_TOLD),
        };
        if let Err(error) = told {
            tracing::error!(
                error = explain(&error),
                "cannot tell the kernel programs whether a proxy serves"
            );
        }
    }

    /// Asks a proxy to say that it serves.
    pub(super) fn ask_to_say(&self, proxy: &Proxy) {
        if !proxy.serves {
            return;
        }
        if let Err(error) = self.kernel().expect_serving() {
            tracing::error!(
                error = explain(&error),
                "cannot tell the kernel programs that a proxy has come"
            );
        }
        let map = self.kernel().serving_map();
        match map {
            Ok(map) => proxy.tell(Order::Serving(Arc::new(map))),
            Err(error) => tracing::error!(
                error = explain(&error),
                "the proxy cannot be asked to say that it serves"
            ),
        }
    }

    /// Notes which pods go without a proxy, and since when, and says what is new.
    pub(super) fn follow_direct(&mut self) {
        // What an agent before this one has said of a proxy that did not come back.
        if self.proxies.is_empty() && Instant::now() >= self.proxies_due {
            self.tell_serving();
        }
        let serving = self.kernel().is_serving();
        let is_serving = serving.unwrap_or_else(|error| {
            tracing::error!(
                error = explain(&error),
                "cannot ask the kernel programs whether a proxy serves"
            );
            true
        });
        let mut direct = BTreeMap::new();
        for (uid, entry) in &self.pods {
            let before = self.direct.since(uid);
            let is_direct = !is_serving && self.may_go_direct(entry);
            let pod = &entry.spec.name;
            match (before, is_direct) {
                (None, true) => tracing::warn!(%pod, "no proxy serves: the pod's new connections go direct"),
                (Some(since), false) => {
                    let seconds = since.elapsed().as_secs();
                    tracing::info!(%pod, seconds, "the pod's new connections go direct no longer");
                }
                _ => {}
            }
            if is_direct {
                direct.insert(uid.clone(), before.unwrap_or_else(Instant::now));
            }
        }
        self.direct = Direct::new(direct);
        self.log_direct();
        self.reset_waiting(is_serving);
    }

    /// Ends connections for which no proxy has come in time.
    fn reset_waiting(&mut self, is_serving: bool) {
        let (now, limit) = (std::time::Instant::now(), self.settings.connection_wait);
        for entry in self.pods.values_mut() {
            let Some(listeners) = entry.listeners.as_ref().filter(|_| !is_serving) else {
                entry.waiting.forget();
                continue;
            };
            let count = entry.waiting.reset_overdue(listeners, now, limit);
            if count > 0 {
                let (pod, seconds) = (&entry.spec.name, limit.as_secs());
                tracing::warn!(%pod, count, seconds, "reset connections for which no proxy has come");
                self.reset += count;
            }
        }
    }

    fn may_go_direct(&self, entry: &Entry) -> bool {
        let is_wanted = entry.phase == Phase::Captured && entry.spec.fallback == Fallback::Direct;
        let strictness = || self.kernel().guard_status(entry.cookie()?).ok()?.strictness;
        is_wanted && strictness().is_some_and(|strictness| !strictness.strict)
    }

    /// Logs how many connections went direct since the last look: a line for each pod that had any.
    fn log_direct(&mut self) {
        let uids: Vec<Arc<str>> = self.pods.keys().cloned().collect();
        for uid in uids {
            let Some(entry) = self.pods.get(&uid) else { continue };
            let usage = entry.cookie().map(|cookie| self.kernel().usage(cookie));
            let Some(Ok(usage)) = usage else { continue };
            let Some(entry) = self.pods.get_mut(&uid) else { continue };
            let before = entry.direct.replace(Counted::of(&usage));
            let (opened, received) = before.map_or((0, 0), |before| before.until(&usage));
            if opened > 0 || received > 0 {
                tracing::warn!(pod = %entry.spec.name, opened, received, "connections went direct, because no proxy served");
            }
        }
    }
}
