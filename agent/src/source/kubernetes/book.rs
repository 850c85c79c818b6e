//! What is known, and what follows from it. No I/O, no clock.
//!
//! Facts come from four sides, in any order and each with its own delay: the watch of pods, the watches of their namespaces,
//! the CNI gate (which knows a new network namespace before anybody else), and searches through the container runtime. The
//! rules that keep them straight:
//! - A pod is one uid. A name that comes back with another uid is another pod, and nothing known of the old one holds for it.
//! - A uid that the API server said is deleted does not come back, however late an answer about it arrives.
//! - An object never goes back to an older version.
//! - Absence counts only at the end of a full list. What is not known yet keeps nobody out who is in: the snapshot says that
//!   it is not complete.
//! - A search is answered for the state in which it was asked (its ticket); if the gate spoke meanwhile, the gate is right. That
//!   there is no sandbox holds until the pod is heard of again.

mod entry;
mod graves;

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    path::{Path, PathBuf},
};

use super::{
    facts::{Decision, Facts, Life},
    verdict::Verdict,
};
use crate::source::{PodName, Snapshot};
use entry::{Entry, Search, is_older};
pub(super) use entry::{Origin, Place, Sought};
use graves::Graves;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Book {
    pods: BTreeMap<PodName, Entry>,
    /// Those that have a pod here.
    namespaces: BTreeMap<String, Namespace>,
    /// There has been a full list of pods.
    is_listed: bool,
    /// While a list is read: pods that it has not named yet.
    unlisted: Option<HashSet<PodName>>,
    graves: Graves,
    tickets: u64,
}

#[derive(Debug, Default)]
struct Namespace {
    /// What is kept of its labels and annotations. Absent until it is known for the first time.
    labels: Option<BTreeMap<String, String>>,
    version: Option<u64>,
}

impl Book {
    /// A pod is there, or has changed.
    pub(super) fn pod(&mut self, facts: Facts, origin: Origin) {
        if let Some(unlisted) = &mut self.unlisted {
            unlisted.remove(&facts.name);
        }
        if self.graves.has(&facts.uid) && !facts.is_mirror {
            return;
        }
        self.namespaces.entry(facts.name.namespace.clone()).or_default();
        let ticket = self.ticket();
        match self.pods.get_mut(&facts.name) {
            Some(entry) if entry.facts.uid == facts.uid => entry.update(facts, origin, ticket),
            // Overtaken: an answer by the watch, or the watch by an answer about the pod that has this name now.
            Some(entry) if is_older(facts.version, entry.facts.version) => {}
            other => {
                let replaced = other.map(|entry| entry.facts.uid.clone());
                self.graves.extend(replaced);
                self.pods.insert(facts.name.clone(), Entry::new(facts, origin, ticket));
            }
        }
    }

    /// A pod is gone.
    pub(super) fn pod_gone(&mut self, facts: &Facts) {
        if !facts.is_mirror {
            self.graves.extend([facts.uid.clone()]);
        }
        if self
            .pods
            .get(&facts.name)
            .is_some_and(|entry| entry.facts.uid == facts.uid)
        {
            self.remove(&facts.name);
        }
    }

    /// A pod that only an answer named does not exist any more.
    pub(super) fn pod_unconfirmed(&mut self, name: &PodName) {
        if self.pods.get(name).is_some_and(|entry| !entry.is_watched) {
            self.remove(name);
        }
    }

    /// A full list of pods begins. What only an answer named may be younger than the list; it is confirmed in its own way.
    pub(super) fn list_begins(&mut self) {
        let watched = self.pods.iter().filter(|(_, entry)| entry.is_watched);
        self.unlisted = Some(watched.map(|(name, _)| name.clone()).collect());
    }

    /// The list is at its end: what it did not name is gone.
    pub(super) fn list_ends(&mut self) {
        for name in self.unlisted.take().into_iter().flatten() {
            self.remove(&name);
        }
        self.is_listed = true;
    }

    /// A namespace's labels. Ignored when no pod here is in it.
    pub(super) fn namespace(&mut self, name: &str, labels: BTreeMap<String, String>, version: Option<u64>) {
        if let Some(namespace) = self.namespaces.get_mut(name)
            && !(namespace.labels.is_some() && is_older(version, namespace.version))
        {
            (namespace.labels, namespace.version) = (Some(labels), version);
        }
    }

    /// A namespace does not exist. Its pods, while there are any, are treated as before.
    pub(super) fn namespace_gone(&mut self, name: &str) {
        if let Some(namespace) = self.namespaces.get_mut(name) {
            namespace.labels.get_or_insert_default();
            namespace.version = None;
        }
    }

    /// The namespaces to be watched.
    pub(super) fn namespaces(&self) -> BTreeSet<String> {
        self.namespaces.keys().cloned().collect()
    }

    /// Whether the labels of a namespace are known.
    pub(super) fn knows_namespace(&self, name: &str) -> bool {
        self.namespaces
            .get(name)
            .is_some_and(|namespace| namespace.labels.is_some())
    }

    /// Whether a pod is known by this name and uid.
    pub(super) fn knows_pod(&self, name: &PodName, uid: &str) -> bool {
        self.pods.get(name).is_some_and(|entry| &*entry.facts.uid == uid)
    }

    /// A pod's network namespace has just been set up. `None` when the pod or its namespace is not known.
    pub(super) fn arrive(&mut self, name: &PodName, uid: &str, place: Place) -> Option<Verdict> {
        if !self.knows_pod(name, uid) {
            return None;
        }
        let labels = self.namespaces.get(&name.namespace)?.labels.as_ref()?;
        let decision = self.pods.get(name)?.facts.decide(labels);
        let ticket = self.ticket();
        for (other, entry) in &mut self.pods {
            if other != name && entry.is_displaced_by(&place) {
                // Whoever had these addresses before has lost them, whatever its status still says.
                entry.lose_place(ticket);
            }
        }
        let entry = self.pods.get_mut(name)?;
        (entry.place, entry.search, entry.ticket) = (Some(place), Search::Done, ticket);
        match decision {
            Decision::Wanted if entry.facts.life != Life::Ended => Some(Verdict::Wanted {
                uid: entry.facts.uid.clone(),
            }),
            _ => Some(Verdict::Outside),
        }
    }

    /// A sandbox goes. Says whether anything changed.
    pub(super) fn leave(&mut self, uid: &str, netns: Option<&Path>, still_there: impl Fn(&Path) -> bool) -> bool {
        let ticket = self.ticket();
        let Some(entry) = self.pods.values_mut().find(|entry| &*entry.facts.uid == uid) else {
            return false;
        };
        let Some(place) = &entry.place else { return false };
        let is_it = match netns {
            Some(netns) => place.netns == netns,
            None => !still_there(&place.netns),
        };
        if is_it {
            entry.lose_place(ticket);
        }
        is_it
    }

    /// Pods whose network namespace must be looked for.
    pub(super) fn sought(&self) -> Vec<Sought> {
        let due = self.wanted().filter(|entry| entry.search == Search::Due);
        due.map(Entry::sought).collect()
    }

    /// The answer to [`Book::sought`]: a place, no sandbox, or why nobody can say. In the last case all stays as it was.
    pub(super) fn found(&mut self, sought: &Sought, answer: Result<Option<Place>, String>) {
        let Some(entry) = self.pods.get_mut(&sought.pod) else {
            return;
        };
        if entry.ticket != sought.ticket {
            return;
        }
        match answer {
            Ok(place) => (entry.place, entry.search) = (place, Search::Done),
            Err(problem) => entry.search = Search::Failed(problem),
        }
    }

    /// Places to be looked after: they may vanish without a word.
    pub(super) fn places(&self) -> Vec<(Sought, PathBuf)> {
        let placed = self.pods.values().filter_map(|entry| {
            let place = entry.place.as_ref()?;
            Some((entry.sought(), place.netns.clone()))
        });
        placed.collect()
    }

    /// The name of that pod's network namespace is gone, or means another one now. Says whether that is news.
    ///
    /// A name is not the namespace: where it is that of a process (`/proc/PID/ns/net`), it goes with this process, while the
    /// pod goes on. So a pod in the mesh keeps its place until the search has an answer: another name, or that there is no
    /// sandbox.
    pub(super) fn vanished(&mut self, sought: &Sought) -> bool {
        let ticket = self.ticket();
        let is_wanted = self.wanted().any(|entry| entry.facts.name == sought.pod);
        let Some(entry) = self.pods.get_mut(&sought.pod) else {
            return false;
        };
        if entry.ticket != sought.ticket {
            return false;
        }
        let is_news = entry.search == Search::Done;
        match is_wanted {
            true if entry.search == Search::Due => {}
            true => (entry.search, entry.ticket) = (Search::Due, ticket),
            false => entry.lose_place(ticket),
        }
        is_news
    }

    /// Lets searches that were in vain be made again.
    pub(super) fn search_again(&mut self) {
        for entry in self.pods.values_mut() {
            let in_vain =
                entry.place.is_none() && entry.facts.life == Life::Running && !entry.facts.addresses.is_empty();
            if matches!(entry.search, Search::Failed(_)) || in_vain {
                entry.search = Search::Due;
            }
        }
    }

    /// Pods that the watch has not named, so that somebody must ask whether they are still there.
    pub(super) fn unconfirmed(&self) -> Vec<PodName> {
        let unconfirmed = self.pods.values().filter(|entry| !entry.is_watched);
        unconfirmed.map(|entry| entry.facts.name.clone()).collect()
    }

    /// What has not been heard of yet, in words; empty when everything needed is known.
    pub(super) fn missing(&self) -> Vec<String> {
        if !self.is_listed {
            return vec!["the list of this node's pods".into()];
        }
        let unknown = self
            .namespaces
            .iter()
            .filter(|(_, namespace)| namespace.labels.is_none());
        let mut missing: Vec<String> = unknown.map(|(name, _)| format!("namespace {name}")).collect();
        let sought = self
            .wanted()
            .filter(|entry| entry.search == Search::Due && entry.place.is_none());
        missing.extend(sought.map(|entry| format!("the network namespace of pod {}", entry.facts.name)));
        missing
    }

    /// What follows.
    pub(super) fn snapshot(&self) -> Snapshot {
        let is_searched = |entry: &Entry| entry.place.is_some() || entry.search == Search::Done;
        let mut snapshot = Snapshot {
            complete: self.is_listed
                && self.namespaces.values().all(|namespace| namespace.labels.is_some())
                && self.wanted().all(is_searched),
            ..Snapshot::default()
        };
        let real: HashSet<&str> = self
            .pods
            .values()
            .filter(|entry| !entry.facts.is_mirror)
            .map(|entry| &*entry.facts.uid)
            .collect();
        for entry in self.pods.values().filter(|entry| entry.facts.life != Life::Ended) {
            let decision = if entry.facts.is_mirror && real.contains(&*entry.facts.uid) {
                Decision::Outside(Some(format!(
                    "it claims to be static pod {}, which is another pod",
                    entry.facts.uid
                )))
            } else {
                self.decide(entry)
            };
            match decision {
                Decision::Wanted => match entry.spec(self.deciding(&entry.facts.name.namespace)) {
                    Ok(spec) => {
                        if self.closes_open_connections(&spec.name.namespace) {
                            snapshot.closing.insert(spec.name.namespace.clone());
                        }
                        snapshot.wanted.push(spec);
                    }
                    Err(problem) => snapshot.outside.push(entry.outside(problem)),
                },
                Decision::Outside(problem) => snapshot.outside.push(entry.outside(problem)),
            }
        }
        snapshot
    }

    fn closes_open_connections(&self, namespace: &str) -> bool {
        culvert_objects::closes_open_connections(self.deciding(namespace))
    }

    /// What is kept of a namespace's labels and annotations.
    fn deciding(&self, namespace: &str) -> Option<&BTreeMap<String, String>> {
        self.namespaces.get(namespace)?.labels.as_ref()
    }

    fn wanted(&self) -> impl Iterator<Item = &Entry> {
        let living = self.pods.values().filter(|entry| entry.facts.life != Life::Ended);
        living.filter(|entry| self.decide(entry) == Decision::Wanted)
    }

    fn decide(&self, entry: &Entry) -> Decision {
        let namespace = self.namespaces.get(&entry.facts.name.namespace);
        match namespace.and_then(|namespace| namespace.labels.as_ref()) {
            Some(labels) => entry.facts.decide(labels),
            None => Decision::Outside(None),
        }
    }

    fn remove(&mut self, name: &PodName) {
        let Some(entry) = self.pods.remove(name) else { return };
        if !entry.facts.is_mirror {
            self.graves.extend([entry.facts.uid]);
        }
        if !self.pods.keys().any(|other| other.namespace == name.namespace) {
            self.namespaces.remove(&name.namespace);
        }
    }

    fn ticket(&mut self) -> u64 {
        self.tickets += 1;
        self.tickets
    }
}

#[cfg(test)]
mod tests;
