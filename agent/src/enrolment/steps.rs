//! The steps of a pod's way in and out.

use std::{sync::Arc, time::Duration};

use culvert_net::Netns;
use tokio::time::Instant;

use super::{
    Reconciler,
    entry::{Entry, Place, explain},
    plan::Phase,
};
use crate::{
    handover::listeners::Listeners,
    source::{PodName, PodSpec},
};

/// How long after a failure to try again.
const RETRY: Duration = Duration::from_secs(1);

/// Between the end of capture and the end of the listeners: the proxy takes what waits in the backlog.
const CLOSING: Duration = Duration::from_millis(500);

impl Reconciler {
    /// Begins to bring a pod in.
    pub(super) fn enter(&mut self, spec: PodSpec) {
        let uid = spec.uid.clone();
        let mut entry = Entry::new(spec, Phase::Entering, self.settings.dns);
        if let Some(failed) = self.pods.remove(&uid) {
            entry.inherit(failed);
        }
        let place = match entry.place.take() {
            Some(place) => Ok(place),
            None => self.open(&entry.spec),
        };
        let opened = place.map(|place| entry.set_place(place));
        self.pods.insert(uid.clone(), entry);
        match opened {
            Ok(()) => self.begin(&uid),
            Err(problem) => self.fail(&uid, problem),
        }
    }

    fn open(&self, spec: &PodSpec) -> Result<Place, String> {
        let netns = Netns::open(&spec.netns).map_err(|error| explain(&error))?;
        let cookie = netns
            .cookie()
            .map_err(|error| format!("{}: {}", spec.netns.display(), explain(&error)))?;
        if let Some(other) = self.pods.values().find(|other| other.cookie() == Some(cookie)) {
            return Err(format!(
                "network namespace {} is that of pod {} already",
                spec.netns.display(),
                other.spec.name
            ));
        }
        Ok(Place {
            netns: Arc::new(netns),
            cookie,
        })
    }

    fn begin(&mut self, uid: &Arc<str>) {
        let Some(cookie) = self.pods.get(uid).and_then(Entry::cookie) else {
            return;
        };
        let enrolled = self.kernel().is_enrolled(cookie);
        match enrolled {
            // An earlier agent's: it is captured now, so nobody is waited for.
            Ok(true) => return self.capture(uid),
            Ok(false) => {}
            Err(error) => return self.fail(uid, explain(&error)),
        }
        let prepared = if self.is_self_listening() {
            // Its listeners are noticed only in pods that are known.
            self.tell_kernel(uid)
        } else if self.proxies.is_empty() {
            Ok(())
        } else {
            self.listen(uid)
        };
        match prepared {
            Ok(()) => {
                let due = Instant::now() + self.settings.proxy_wait;
                if let Some(entry) = self.pods.get_mut(uid) {
                    entry.due = Some(due);
                }
                self.offer(uid);
            }
            Err(problem) => self.fail(uid, problem),
        }
    }

    /// Begins to capture, with what listens for the pod, or with new listeners.
    pub(super) fn capture(&mut self, uid: &Arc<str>) {
        let Some(entry) = self.pods.get_mut(uid) else { return };
        (entry.phase, entry.due, entry.withdrawn) = (Phase::Captured, None, false);
        let cookie = entry.cookie();
        let was_captured = cookie.is_some_and(|cookie| self.kernel().is_captured(cookie).unwrap_or(true));
        // First somebody who takes connections, then the connections.
        let opened = self.ensure_listeners(uid);
        match opened.and_then(|is_new| self.tell_kernel(uid).map(|()| is_new)) {
            Ok(is_new) => {
                if is_new {
                    self.offer(uid);
                }
                let Some(entry) = self.pods.get(uid) else { return };
                let (pod, cookie) = (&entry.spec.name, entry.cookie());
                tracing::info!(%pod, %uid, cookie, addresses = ?entry.spec.addresses, "pod is captured");
                self.find_existing(uid, !was_captured);
            }
            Err(problem) => self.fail(uid, problem),
        }
    }

    /// Opens listeners for a pod in whose name nothing listens. Returns whether it did.
    fn ensure_listeners(&mut self, uid: &Arc<str>) -> Result<bool, String> {
        let Some(entry) = self.pods.get(uid) else {
            return Ok(false);
        };
        let Some(cookie) = entry
            .cookie()
            .filter(|_| entry.listeners.is_none() && !self.is_self_listening())
        else {
            return Ok(false);
        };
        let is_listening = self.kernel().listening(cookie).map_err(|error| explain(&error))?;
        if !is_listening {
            self.listen(uid)?;
        }
        Ok(!is_listening)
    }

    /// Looks after pods whose listeners only proxies held.
    pub(super) fn relisten(&mut self) {
        let uids: Vec<Arc<str>> = self
            .pods
            .iter()
            .filter(|(_, entry)| entry.phase == Phase::Captured && entry.listeners.is_none())
            .map(|(uid, _)| uid.clone())
            .collect();
        for uid in uids {
            let outcome = match self.ensure_listeners(&uid) {
                Ok(true) => self.tell_kernel(&uid).map(|()| self.offer(&uid)),
                outcome => outcome.map(drop),
            };
            if let Err(problem) = outcome {
                self.complain(&uid, problem);
            }
        }
    }

    /// Opens listeners inside the pod, beside those that there may be.
    pub(super) fn listen(&mut self, uid: &Arc<str>) -> Result<(), String> {
        let Some(entry) = self.pods.get_mut(uid) else {
            return Ok(());
        };
        let Some(place) = &entry.place else { return Ok(()) };
        let opened = Listeners::open(&place.netns, &entry.spec.addresses, entry.extras());
        let (listeners, problems) = opened.map_err(|error| explain(&error))?;
        if let Some(problem) = news(&problems.hold, &entry.hold_problem) {
            tracing::warn!(pod = %entry.spec.name, problem, "connections are accepted before their far side is there");
        }
        if let Some(problem) = news(&problems.dns, &entry.dns_problem) {
            tracing::warn!(pod = %entry.spec.name, problem, "DNS queries are not captured");
        }
        entry.listeners = Some(Arc::new(listeners));
        (entry.hold_problem, entry.dns_problem) = (problems.hold, problems.dns);
        Ok(())
    }

    pub(super) fn tell_kernel(&self, uid: &Arc<str>) -> Result<(), String> {
        let Some(entry) = self.pods.get(uid) else { return Ok(()) };
        entry
            .enrol(&mut self.kernel(), self.abilities())
            .map_err(|error| explain(&error))
    }

    pub(super) fn tell_strictness(&self, uid: &Arc<str>) -> Result<(), String> {
        let Some(entry) = self.pods.get(uid) else { return Ok(()) };
        entry
            .tell_strictness(&mut self.kernel())
            .map_err(|error| explain(&error))
    }

    /// Something that the proxies must know has changed.
    pub(super) fn update(&mut self, spec: PodSpec) {
        let uid = spec.uid.clone();
        let Some(entry) = self.pods.get_mut(&uid) else { return };
        tracing::info!(pod = %spec.name, %uid, "pod changed");
        let other_sockets = entry.spec.addresses != spec.addresses || entry.extras() != entry.extras_of(&spec);
        entry.spec = spec;
        let mut done = Ok(());
        if !self.is_self_listening()
            && (other_sockets || self.pods.get(&uid).is_some_and(|entry| entry.listeners.is_none()))
        {
            done = self.listen(&uid);
        }
        match done.and_then(|()| self.tell_kernel(&uid)) {
            Ok(()) => self.offer(&uid),
            Err(problem) => self.fail(&uid, problem),
        }
    }

    /// Keeps a pod that was on its way out.
    pub(super) fn come_back(&mut self, spec: PodSpec) {
        let uid = spec.uid.clone();
        if let Some(entry) = self.pods.get_mut(&uid) {
            let is_same = entry.spec == spec;
            entry.phase = Phase::Captured;
            if !is_same {
                self.update(spec);
            }
            self.capture(&uid);
        }
    }

    /// Begins to let a pod out.
    pub(super) fn leave(&mut self, uid: &Arc<str>) {
        let grace = self.settings.leave_grace;
        let Some(entry) = self.pods.get_mut(uid) else { return };
        let Some(cookie) = entry.cookie().filter(|_| entry.phase == Phase::Captured) else {
            return self.remove(uid);
        };
        tracing::info!(pod = %entry.spec.name, %uid, "pod leaves the mesh");
        entry.phase = Phase::Leaving;
        entry.due = Some(Instant::now() + grace);
        let withdrawn = self.kernel().withdraw_outbound(cookie);
        if let Err(error) = withdrawn {
            self.complain(uid, explain(&error));
        }
    }

    /// The later steps of leaving, each when its time has come.
    pub(super) fn leave_further(&mut self, uid: &Arc<str>) {
        let Some(entry) = self.pods.get_mut(uid) else { return };
        let (Some(cookie), false) = (entry.cookie(), entry.withdrawn) else {
            return self.remove(uid);
        };
        entry.due = Some(Instant::now() + CLOSING);
        let withdrawn = self.kernel().withdraw(cookie);
        match withdrawn {
            Ok(()) => {
                if let Some(entry) = self.pods.get_mut(uid) {
                    entry.withdrawn = true;
                    entry.give_back();
                }
            }
            // Tried again when it is due again: proxies go on serving it.
            Err(error) => self.complain(uid, explain(&error)),
        }
    }

    /// Forgets a pod at once.
    pub(super) fn remove(&mut self, uid: &Arc<str>) {
        let Some(entry) = self.pods.remove(uid) else { return };
        self.let_go(uid, &entry.spec.name, entry.cookie());
        if entry.phase != Phase::Failed {
            tracing::info!(pod = %entry.spec.name, %uid, "pod is out of the mesh");
        }
    }

    /// The pod's namespace is gone while the pod is still wanted.
    pub(super) fn vanish(&mut self, uid: &Arc<str>) {
        let Some(entry) = self.pods.get(uid) else { return };
        if entry.phase == Phase::Leaving {
            return self.remove(uid);
        }
        let path = entry.spec.netns.display();
        let problem = format!("its network namespace {path} is gone, or the name means another one now");
        let (name, cookie) = (entry.spec.name.clone(), entry.cookie());
        self.let_go(uid, &name, cookie);
        self.fail(uid, problem);
    }

    /// Notes that a step failed, for a reason that may pass, and tries again later. What is captured already stays
    /// captured and served: closed rather than open.
    pub(super) fn fail(&mut self, uid: &Arc<str>, problem: String) {
        self.complain(uid, problem);
        let Some(entry) = self.pods.get_mut(uid) else { return };
        (entry.phase, entry.due) = (Phase::Failed, Some(Instant::now() + RETRY));
        let Some(cookie) = entry.cookie() else { return };
        let is_captured = self.kernel().is_known_to_any(cookie).unwrap_or(true);
        if !is_captured {
            if let Some(entry) = self.pods.get_mut(uid) {
                (entry.place, entry.listeners) = (None, None);
            }
            self.take_from_proxies(uid);
        }
    }

    fn let_go(&mut self, uid: &Arc<str>, name: &PodName, cookie: Option<u64>) {
        let Some(cookie) = cookie else { return };
        let withdrawn = self.kernel().withdraw(cookie);
        if let Err(error) = withdrawn {
            tracing::error!(pod = %name, %uid, error = explain(&error), "cannot end capture");
        }
        self.take_from_proxies(uid);
    }

    /// Notes a problem, and says it once.
    pub(super) fn complain(&mut self, uid: &Arc<str>, problem: String) {
        let Some(entry) = self.pods.get_mut(uid) else { return };
        if entry.problem.as_ref() != Some(&problem) {
            tracing::error!(pod = %entry.spec.name, %uid, problem, "pod");
        }
        entry.problem = Some(problem);
    }
}

/// A problem that there was not before.
fn news<'a>(now: &'a Option<String>, before: &Option<String>) -> Option<&'a String> {
    now.as_ref().filter(|_| now != before)
}
