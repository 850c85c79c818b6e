//! One pod: its facts, where its network namespace is, and how the search for that stands.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf, sync::Arc};

use culvert_objects::{Fallback, Hold, SameNode};

use super::super::facts::{Facts, Life};
use crate::source::{Outside, PodName, PodSpec};

/// What is known of one pod.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) facts: Facts,
    /// The watch has named it; else it is known from an answer only.
    pub(super) is_watched: bool,
    pub(super) place: Option<Place>,
    pub(super) search: Search,
    /// Changes whenever an answer to an earlier search would be wrong.
    pub(super) ticket: u64,
}

/// Where a pod's network namespace is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Place {
    pub(in super::super) netns: PathBuf,
    /// Its addresses as far as the same source knew them.
    pub(in super::super) addresses: Vec<IpAddr>,
}

/// How the search for a pod's network namespace stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Search {
    /// To be made, or under way.
    Due,
    /// Not needed, or answered.
    Done,
    /// Impossible for the time being, and why.
    Failed(String),
}

/// A pod whose network namespace is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Sought {
    pub(in super::super) pod: PodName,
    pub(in super::super) uid: Arc<str>,
    pub(in super::super) ticket: u64,
}

/// Where the facts about a pod come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Origin {
    Watch,
    /// Asked for, so perhaps overtaken by what the watch says.
    Asked,
}

impl Entry {
    pub(super) fn new(facts: Facts, origin: Origin, ticket: u64) -> Self {
        Self {
            facts,
            is_watched: origin == Origin::Watch,
            place: None,
            search: Search::Due,
            ticket,
        }
    }

    pub(super) fn update(&mut self, facts: Facts, origin: Origin, ticket: u64) {
        self.is_watched |= origin == Origin::Watch;
        if is_older(facts.version, self.facts.version) {
            return;
        }
        let has_moved = facts.addresses != self.facts.addresses && !facts.addresses.is_empty();
        self.facts = facts;
        let is_explained = self.place.as_ref().is_some_and(|place| {
            place.addresses.is_empty()
                || place
                    .addresses
                    .iter()
                    .any(|address| self.facts.addresses.contains(address))
        });
        // Addresses that the known sandbox does not have: there may be a new one. The same where none is known: whoever says so
        // may have been asked before what is heard now.
        if (has_moved && !is_explained) || self.place.is_none() {
            (self.search, self.ticket) = (Search::Due, ticket);
        }
    }

    pub(super) fn lose_place(&mut self, ticket: u64) {
        (self.place, self.search, self.ticket) = (None, Search::Due, ticket);
    }

    pub(super) fn is_displaced_by(&self, newcomer: &Place) -> bool {
        let Some(place) = &self.place else { return false };
        let addresses = self.addresses();
        place.netns == newcomer.netns || newcomer.addresses.iter().any(|address| addresses.contains(address))
    }

    /// What the sandbox got, then what the status adds to it; the status alone where nothing else is known. A status that
    /// shares nothing with the sandbox speaks of an earlier one.
    pub(super) fn addresses(&self) -> Vec<IpAddr> {
        let of_place = self
            .place
            .as_ref()
            .map(|place| place.addresses.as_slice())
            .unwrap_or_default();
        let of_status = &self.facts.addresses;
        if of_place.is_empty() {
            return of_status.clone();
        }
        let mut addresses = of_place.to_vec();
        if of_status.iter().any(|address| of_place.contains(address)) {
            addresses.extend(of_status.iter().filter(|address| !of_place.contains(address)));
        }
        addresses
    }

    /// The error is why it cannot come in, if that is worth a word.
    pub(super) fn spec(&self, namespace: Option<&BTreeMap<String, String>>) -> Result<PodSpec, Option<String>> {
        let addresses = self.addresses();
        let Some(place) = &self.place else {
            return Err(match &self.search {
                Search::Failed(problem) => Some(format!("its network namespace cannot be found: {problem}")),
                Search::Done if self.facts.life == Life::Running && !addresses.is_empty() => {
                    Some("neither the container runtime nor /proc shows a running sandbox of it".into())
                }
                // It starts, or it ends.
                Search::Due | Search::Done => None,
            });
        };
        if addresses.is_empty() {
            return Err(None);
        }
        Ok(PodSpec {
            uid: self.facts.uid.clone(),
            name: self.facts.name.clone(),
            service_account: self.facts.service_account.clone(),
            addresses,
            netns: place.netns.clone(),
            hold: Hold::None,
            hold_problem: None,
            fallback: Fallback::None,
            fallback_problem: None,
            same_node: SameNode::Proxy,
            same_node_problem: None,
            dns: None,
            dns_problem: None,
        }
        .with_hold(self.facts.hold(namespace))
        .with_fallback(self.facts.fallback(namespace))
        .with_same_node(self.facts.same_node(namespace))
        .with_dns(self.facts.dns(namespace)))
    }

    pub(super) fn outside(&self, problem: Option<String>) -> Outside {
        Outside {
            uid: self.facts.uid.clone(),
            name: self.facts.name.clone(),
            addresses: self.addresses(),
            problem,
        }
    }

    pub(super) fn sought(&self) -> Sought {
        Sought {
            pod: self.facts.name.clone(),
            uid: self.facts.uid.clone(),
            ticket: self.ticket,
        }
    }
}

/// Whether a version that comes is older than the one that is known. What cannot be compared is taken.
pub(super) fn is_older(comes: Option<u64>, known: Option<u64>) -> bool {
    matches!((comes, known), (Some(comes), Some(known)) if comes < known)
}
