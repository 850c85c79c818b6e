//! Proxies that come, answer and go.

use std::sync::Arc;

use tokio::time::Instant;

use super::{
    LOOK_SOON, Reconciler,
    entry::{Abilities, Entry},
    plan::Phase,
    succession::Word,
};
use crate::{
    handover::{
        Event, Order, Proxy,
        listeners::{Extras, Listeners},
        recover,
    },
    kernel::Strictness,
};

impl Reconciler {
    pub(super) fn on_proxy(&mut self, event: Event) {
        match event {
            Event::Connected(proxy) if !self.ready => self.early.push(proxy),
            Event::Connected(proxy) => self.connected(proxy),
            Event::Answered {
                proxy,
                uid,
                error: None,
                ..
            } => self.accepted(proxy, &uid),
            Event::Answered {
                proxy,
                uid,
                kept: true,
                error: Some(error),
            } => {
                tracing::info!(proxy, %uid, error, "the proxy has not got the pod; handing it over");
                self.hand_over(proxy, &uid);
            }
            Event::Answered {
                proxy,
                uid,
                kept: false,
                error: Some(error),
            } => {
                let pid = self
                    .proxies
                    .iter()
                    .find(|other| other.id == proxy)
                    .map_or(0, |proxy| proxy.pid);
                self.complain(&uid, format!("the proxy with process id {pid} refuses it: {error}"));
            }
            Event::Certified(uid) => {
                if let Some(entry) = self.pods.get_mut(&uid) {
                    entry.certified = true;
                }
            }
            Event::Guarded(uid, strictness) => self.guard_as_told(&uid, strictness),
            Event::SameNode(proxy, said) => self.same_node.note(proxy, said),
            Event::SameNodeKnown(proxy) => self.same_node.known(proxy),
            Event::LetGo { proxy, uid } => {
                self.letting_go.remove(&(proxy, uid));
            }
            Event::Synced(id) => {
                let news = self.succession.synced(id);
                self.tell_successors(news);
            }
            Event::Ending(id) => {
                let news = self.succession.ending(id);
                self.tell_successors(news);
            }
            Event::Disconnected(id) => {
                let before = self.abilities();
                self.proxies.retain(|proxy| proxy.id != id);
                self.same_node.left(id);
                self.tell_serving();
                self.follow_abilities(before);
                self.early.retain(|proxy| proxy.id != id);
                self.letting_go.retain(|(proxy, _)| *proxy != id);
                let news = self.succession.left(id);
                self.tell_successors(news);
                self.look_at = Some(Instant::now() + LOOK_SOON);
            }
        }
    }

    fn tell_successors(&self, news: Vec<Word>) {
        for (id, present) in news {
            if let Some(proxy) = self.proxies.iter().find(|proxy| proxy.id == id) {
                proxy.tell(Order::Successor(present));
            }
        }
    }

    /// Whether the proxy is one that opens its listeners itself. One that takes ours wins over it.
    pub(super) fn is_self_listening(&self) -> bool {
        !self.proxies.is_empty() && !self.proxies.iter().any(Proxy::takes_listeners)
    }

    /// What the proxy that answers what is captured now can do. While there is none, pods wait for one that can do all.
    pub(super) fn abilities(&self) -> Abilities {
        let newest = self.proxies.iter().rfind(|proxy| proxy.takes_listeners());
        let with_none = self.proxies.is_empty();
        newest.map_or(
            Abilities {
                holds: with_none,
                resolves: with_none,
                guards: with_none,
            },
            |proxy| Abilities {
                holds: proxy.holds,
                resolves: proxy.resolves,
                guards: proxy.guards,
            },
        )
    }

    /// Another proxy is the newest: pods for which that makes a difference are told to the kernel again.
    fn follow_abilities(&mut self, before: Abilities) {
        let now = self.abilities();
        let is_changed = |entry: &Entry| {
            let hold = entry.extras().hold && now.holds != before.holds;
            let dns = entry.extras().dns && now.resolves != before.resolves;
            entry.phase == Phase::Captured && (hold || dns || now.guards != before.guards)
        };
        let changed = self.pods.iter().filter(|(_, entry)| is_changed(entry));
        let uids: Vec<Arc<str>> = changed.map(|(uid, _)| uid.clone()).collect();
        for uid in uids {
            if let Err(problem) = self.tell_kernel(&uid) {
                self.complain(&uid, problem);
            }
        }
    }

    /// A proxy knows which ports of a pod are strict.
    fn guard_as_told(&mut self, uid: &Arc<str>, strictness: Strictness) {
        let Some(entry) = self.pods.get_mut(uid) else { return };
        tracing::debug!(pod = %entry.spec.name, ?strictness, "which ports are strict");
        entry.strictness = Some(strictness);
        // One that is not captured yet is told when it is.
        if entry.phase == Phase::Captured
            && let Err(problem) = self.tell_strictness(uid)
        {
            self.complain(uid, problem);
        }
    }

    /// Hands a pod to every proxy, the newest first.
    pub(super) fn offer(&self, uid: &Arc<str>) {
        let Some(entry) = self.pods.get(uid) else { return };
        for proxy in self.proxies.iter().rev() {
            match entry.offer(proxy.takes_listeners(), proxy.extras()) {
                Some(offer) if offer.listeners.is_some() || !proxy.takes_listeners() => {
                    proxy.tell(Order::Add(Box::new(offer)))
                }
                _ => proxy.tell(Order::Keep(uid.clone())),
            }
        }
    }

    /// Tells every proxy to let go of a pod, the newest first.
    pub(super) fn take_from_proxies(&mut self, uid: &Arc<str>) {
        for proxy in self.proxies.iter().rev() {
            proxy.tell(Order::Remove(uid.clone()));
            self.letting_go.insert((proxy.id, uid.clone()));
        }
    }

    pub(super) fn connected(&mut self, proxy: Proxy) {
        let admitted = self.kernel().admit_proxy(proxy.pid);
        if let Err(error) = admitted {
            // It would be captured itself, and its connections would come back to it. Its session ends with `proxy`.
            let error: &dyn std::error::Error = &error;
            return tracing::error!(
                pid = proxy.pid,
                error,
                "refused a proxy whose connections would be captured"
            );
        }
        let before = self.abilities();
        self.proxies.push(proxy.clone());
        self.tell_serving();
        self.ask_to_say(&proxy);
        self.follow_abilities(before);
        if proxy.takes_listeners() {
            self.succession.joined(proxy.id);
        }
        let uids: Vec<Arc<str>> = self
            .pods
            .iter()
            .filter(|(_, entry)| entry.is_served())
            .map(|(uid, _)| uid.clone())
            .collect();
        if proxy.takes_listeners() {
            let mut found = if uids.is_empty() { Vec::new() } else { held_by(&proxy) };
            for uid in &uids {
                match self.has_already(uid, &mut found) {
                    true => proxy.tell(Order::Keep(uid.clone())),
                    false => self.hand_over(proxy.id, uid),
                }
            }
        } else {
            for uid in &uids {
                self.hand_over_bare(&proxy, uid);
            }
        }
        // What cannot be opened just now may be captured all the same: who serves it goes on.
        let unopened = self.pods.iter().filter(|(_, entry)| entry.place.is_none());
        for (uid, _) in unopened.filter(|_| proxy.takes_listeners()) {
            proxy.tell(Order::Keep(uid.clone()));
        }
        proxy.tell(Order::SnapshotSent);
    }

    /// Whether a proxy that holds these sockets has the pod. Takes them back when they are all that there is.
    fn has_already(&mut self, uid: &Arc<str>, found: &mut Vec<recover::Found>) -> bool {
        let Some(entry) = self.pods.get_mut(uid) else {
            return false;
        };
        if let Some(ours) = &entry.listeners {
            return ours.are_among(found);
        }
        let Some(cookie) = entry.cookie() else { return false };
        let Some(recovered) = Listeners::recovered(&entry.spec.addresses, cookie, entry.extras(), found) else {
            return false;
        };
        tracing::info!(pod = %entry.spec.name, %uid, "took the pod's listeners back from the proxy");
        entry.listeners = Some(Arc::new(recovered));
        if entry.phase != Phase::Entering
            && let Err(problem) = self.tell_kernel(uid)
        {
            self.complain(uid, problem);
        }
        true
    }

    /// Gives a pod and its listeners to one proxy, with new ones where we have none.
    fn hand_over(&mut self, proxy: u64, uid: &Arc<str>) {
        let Some(entry) = self.pods.get(uid) else { return };
        let (has_none, phase) = (entry.listeners.is_none(), entry.phase);
        if has_none {
            let opened = self.listen(uid).and_then(|()| match phase {
                Phase::Entering => Ok(()),
                _ => self.tell_kernel(uid),
            });
            if let Err(problem) = opened {
                return self.complain(uid, problem);
            }
        }
        let proxy = self.proxies.iter().find(|other| other.id == proxy);
        let Some(proxy) = proxy else { return };
        if let Some(offer) = self.pods.get(uid).and_then(|entry| entry.offer(true, proxy.extras())) {
            proxy.tell(Order::Add(Box::new(offer)));
        }
    }

    /// Gives a pod to a proxy that opens its listeners itself. Ours would be in its way: what waits in them is lost.
    fn hand_over_bare(&mut self, proxy: &Proxy, uid: &Arc<str>) {
        let is_self_listening = self.is_self_listening();
        let Some(entry) = self.pods.get_mut(uid) else { return };
        if is_self_listening && entry.listeners.take().is_some() {
            tracing::warn!(pod = %entry.spec.name, "closed the listeners: the proxy opens its own");
        }
        // Before the proxy listens, so that the programs notice that it does.
        if let Err(problem) = self.tell_kernel(uid) {
            self.complain(uid, problem);
        }
        if let Some(offer) = self.pods.get(uid).and_then(|entry| entry.offer(false, Extras::NONE)) {
            proxy.tell(Order::Add(Box::new(offer)));
        }
    }

    /// A proxy serves the pod: capture may begin.
    fn accepted(&mut self, proxy: u64, uid: &Arc<str>) {
        let Some(entry) = self.pods.get_mut(uid) else { return };
        tracing::debug!(proxy, pod = %entry.spec.name, %uid, "a proxy serves the pod");
        entry.problem = None;
        if entry.phase == Phase::Entering {
            self.capture(uid);
        }
    }
}

fn held_by(proxy: &Proxy) -> Vec<recover::Found> {
    recover::listening(proxy.pid).unwrap_or_else(|error| {
        tracing::warn!(pid = proxy.pid, %error, "cannot see which sockets the proxy holds; pods get new ones");
        Vec::new()
    })
}
