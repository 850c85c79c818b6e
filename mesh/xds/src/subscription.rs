//! One type on one stream: what its client asked for, what it holds, and what is to be looked at again.
//!
//! Only names that are *due* are looked at: just asked for, touched by a change, or all of them, once, on a new connection.
//! What the client was told does not exist costs nothing until a change touches it.

use std::{
    collections::{HashMap, HashSet},
    mem,
    sync::Arc,
};

use culvert_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource};

use crate::{
    Change, Interest, Key, WILDCARD,
    resources::{Entry, TypeSpec, View},
};

/// So many touched names are noted beside twice what the client knows; with more, everything is looked at again.
const TOUCHED: usize = 1024;

/// What a client holds of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Held {
    /// Nothing yet: it is part of what was asked for.
    Nothing,
    /// It was sent.
    Digest(u64),
    /// It has it from an earlier connection.
    Version(Box<str>),
}

/// A response that was sent and not acknowledged yet.
#[derive(Debug)]
struct Outstanding {
    nonce: String,
    /// Whether it has resources that the client did not have.
    has_new: bool,
}

#[derive(Debug)]
pub(crate) struct Subscription {
    spec: &'static TypeSpec,
    wildcard: bool,
    /// Names and aliases asked for, and whether the client was told that there is nothing.
    asked: HashMap<Arc<str>, bool>,
    /// Resources that are subscribed, by whatever brought them: they are kept up to date until they are gone.
    held: HashMap<Arc<str>, Held>,
    missing: usize,
    due: Due,
    building: Option<Building>,
    /// The first response is sent even if it is empty, so that the client knows that there is nothing.
    answered: bool,
    awaiting: Option<Outstanding>,
    sent: u64,
    acknowledged: u64,
    /// Removals that wait until other types no longer refer to what is gone.
    held_back: Vec<HeldBack>,
    interest: Vec<Interest>,
}

/// What has to be looked at for the next response.
#[derive(Debug, Default)]
struct Due {
    all: bool,
    /// Just asked for: answered in any case.
    fresh: HashSet<Arc<str>>,
    /// Asked for, and perhaps there or gone now.
    check: HashSet<Arc<str>>,
    /// Resources that changed.
    touched: HashSet<Arc<str>>,
    /// Resources whose content is sent again.
    again: HashSet<Arc<str>>,
    /// Removals that have waited long enough.
    removals: Vec<Arc<str>>,
}

/// A response that is being made, perhaps in several turns.
#[derive(Debug, Default)]
struct Building {
    work: Vec<Work>,
    resources: Vec<Resource>,
    offered: HashSet<Arc<str>>,
    /// What the client has kept from an earlier connection and is still right: not sent, however often it is asked for.
    kept: HashSet<Arc<str>>,
    removed: HashSet<Arc<str>>,
    /// Among `removed`: resources that are gone, rather than names that never stood for anything.
    gone: Vec<Arc<str>>,
    has_new: bool,
}

#[derive(Debug)]
enum Work {
    Ask { name: Arc<str>, fresh: bool },
    Check(Arc<str>),
    Touched(Arc<str>),
    Look { name: Arc<str>, again: bool },
}

#[derive(Debug)]
struct HeldBack {
    names: Vec<Arc<str>>,
    until: Vec<Barrier>,
}

/// How many responses of a type must have been acknowledged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Barrier {
    /// The type.
    pub(crate) url: &'static str,
    responses: u64,
}

/// What became of an attempt to make a response.
pub(crate) enum Built {
    Nothing,
    /// The budget is used up.
    More,
    Response(DeltaDiscoveryResponse),
}

/// What an acknowledgement was for.
pub(crate) enum Acknowledged {
    Stale,
    Accepted,
    Refused(String),
}

impl Due {
    fn is_empty(&self) -> bool {
        !self.all
            && self.fresh.is_empty()
            && self.check.is_empty()
            && self.touched.is_empty()
            && self.again.is_empty()
            && self.removals.is_empty()
    }
}

impl Subscription {
    /// By a client's first request for a type.
    pub(crate) fn begin(spec: &'static TypeSpec, request: &DeltaDiscoveryRequest, view: &impl View) -> Self {
        let mut new = Self {
            spec,
            // A first request that names nothing is the legacy way of asking for everything.
            wildcard: request.resource_names_subscribe.is_empty(),
            asked: HashMap::new(),
            held: HashMap::with_capacity(request.initial_resource_versions.len()),
            missing: 0,
            due: Due {
                all: true,
                ..Due::default()
            },
            building: None,
            answered: false,
            awaiting: None,
            sent: 0,
            acknowledged: 0,
            held_back: Vec::new(),
            interest: Vec::new(),
        };
        if new.wildcard {
            new.note(Key::All, true);
        }
        // What the client kept from its last connection stays subscribed, whatever had brought it.
        for (name, version) in &request.initial_resource_versions {
            new.hold(name.as_str().into(), Held::Version(version.as_str().into()));
        }
        new.subscribe(request, view);
        if !new.wildcard {
            for name in view.initial(spec.url) {
                let name: Arc<str> = name.into();
                if !new.held.contains_key(&name) {
                    new.hold(name, Held::Nothing);
                }
            }
        }
        new
    }

    pub(crate) fn url(&self) -> &'static str {
        self.spec.url
    }

    pub(crate) fn spec(&self) -> &'static TypeSpec {
        self.spec
    }

    /// How many names and aliases the client asks for; none under the wildcard.
    pub(crate) fn wanted(&self) -> usize {
        self.asked.len()
    }

    /// How many resources the client holds, or is about to be sent.
    pub(crate) fn held(&self) -> usize {
        self.held.len()
    }

    /// How many of the names asked for stand for nothing.
    pub(crate) fn missing(&self) -> usize {
        self.missing
    }

    pub(crate) fn acknowledge(&mut self, request: &DeltaDiscoveryRequest) -> Acknowledged {
        match self
            .awaiting
            .take_if(|outstanding| outstanding.nonce == request.response_nonce)
        {
            None => Acknowledged::Stale,
            Some(_) => {
                self.acknowledged = self.sent;
                match &request.error_detail {
                    Some(error) => Acknowledged::Refused(error.message.clone()),
                    None => Acknowledged::Accepted,
                }
            }
        }
    }

    /// Returns whether anything was subscribed or unsubscribed.
    pub(crate) fn subscribe(&mut self, request: &DeltaDiscoveryRequest, view: &impl View) -> bool {
        let has_star = |names: &[String]| names.iter().any(|name| name == WILDCARD);
        let wildcard = self.wildcard || has_star(&request.resource_names_subscribe);
        self.set_wildcard(wildcard && !has_star(&request.resource_names_unsubscribe));
        for name in &request.resource_names_subscribe {
            if name == WILDCARD {
                continue;
            }
            let name: Arc<str> = name.as_str().into();
            if !self.asked.contains_key(&name) {
                if !self.held.contains_key(&name) {
                    self.note(Key::Name(Arc::clone(&name)), true);
                }
                self.asked.insert(Arc::clone(&name), false);
            }
            self.due.fresh.insert(name);
        }
        for name in &request.resource_names_unsubscribe {
            if name != WILDCARD {
                self.unsubscribe(name, view);
            }
        }
        !request.resource_names_subscribe.is_empty() || !request.resource_names_unsubscribe.is_empty()
    }

    fn set_wildcard(&mut self, wildcard: bool) {
        if mem::replace(&mut self.wildcard, wildcard) == wildcard {
            return;
        }
        let names: HashSet<&Arc<str>> = self.asked.keys().chain(self.held.keys()).collect();
        let keys: Vec<Key> = names.into_iter().cloned().map(Key::Name).collect();
        let interest = |key, wanted| Interest {
            type_url: self.spec.url,
            key,
            wanted,
        };
        self.interest.push(interest(Key::All, wildcard));
        self.interest
            .extend(keys.into_iter().map(|key| interest(key, !wildcard)));
        self.due.all = true;
    }

    fn unsubscribe(&mut self, name: &str, view: &impl View) {
        let Some((name, was_missing)) = self.asked.remove_entry(name) else {
            return;
        };
        self.missing -= usize::from(was_missing);
        self.due.fresh.remove(&name);
        self.due.check.remove(&name);
        if !self.held.contains_key(&name) {
            self.note(Key::Name(Arc::clone(&name)), false);
        }
        if was_missing || self.wildcard {
            return;
        }
        for resource in view.expand(self.spec.url, &name) {
            if !self.held.contains_key(resource.as_str()) {
                continue;
            }
            // The client may drop all that the name stood for, so what it still wants by another name is sent again.
            let keys = view.keys(self.spec.url, &resource);
            let is_asked = |key: &String| self.asked.contains_key(key.as_str()) && view.knows(self.spec.url, key);
            let still = keys.iter().any(is_asked);
            let resource: Arc<str> = resource.into();
            if still {
                self.due.again.insert(resource);
            } else {
                self.release(&resource);
            }
        }
    }

    /// Takes note of a change. Nothing of it is kept that does not concern the client.
    pub(crate) fn touch(&mut self, change: &Change) {
        if change.type_url != self.spec.url || self.due.all {
            return;
        }
        let mut concerns = self.wildcard || self.held.contains_key(&change.name);
        if !self.wildcard {
            for key in change.keys.iter().chain([&change.name]) {
                if self.asked.contains_key(key) {
                    self.due.check.insert(Arc::clone(key));
                    concerns = true;
                }
            }
        }
        if concerns {
            self.due.touched.insert(Arc::clone(&change.name));
        }
        if self.due.touched.len() > TOUCHED + 2 * (self.held.len() + self.asked.len()) {
            self.touch_all();
        }
    }

    /// Everything is looked at again: changes may have been missed.
    pub(crate) fn touch_all(&mut self) {
        self.due.all = true;
        self.due.check.clear();
        self.due.touched.clear();
    }

    /// One name is looked at again.
    pub(crate) fn touch_name(&mut self, name: &Arc<str>) {
        if self.asked.contains_key(name) {
            self.due.check.insert(Arc::clone(name));
        }
        self.due.touched.insert(Arc::clone(name));
    }

    /// Since when it was asked last: what the client is interested in now, or no longer.
    pub(crate) fn take_interest(&mut self) -> Vec<Interest> {
        mem::take(&mut self.interest)
    }

    /// Everything that the client was ever said to be interested in and still is.
    pub(crate) fn all_interest(&self) -> impl Iterator<Item = Key> {
        let names = self.held.keys().filter(|name| !self.asked.contains_key(*name));
        let names = names.chain(self.asked.keys()).filter(|_| !self.wildcard);
        self.wildcard
            .then_some(Key::All)
            .into_iter()
            .chain(names.cloned().map(Key::Name))
    }

    /// Whether a response waits for its acknowledgement.
    pub(crate) fn is_awaiting(&self) -> bool {
        self.awaiting.is_some()
    }

    /// Whether there may be something to send.
    pub(crate) fn is_due(&self) -> bool {
        self.building.is_some() || !self.due.is_empty()
    }

    /// Whether other types have to wait that refer to this one: something new is on its way, or may have to be.
    pub(crate) fn holds_up(&self) -> bool {
        self.is_due() || self.awaiting.as_ref().is_some_and(|outstanding| outstanding.has_new)
    }

    /// What must have been acknowledged before what this type refers to may go. None if it refers to nothing that is gone.
    pub(crate) fn barrier(&self) -> Option<Barrier> {
        (self.is_due() || self.is_awaiting()).then(|| Barrier {
            url: self.spec.url,
            responses: self.sent + u64::from(self.is_due()),
        })
    }

    /// Whether a barrier of this type has been passed.
    pub(crate) fn is_past(&self, barrier: &Barrier) -> bool {
        self.acknowledged >= barrier.responses || !(self.is_due() || self.is_awaiting())
    }

    /// Which of the removals that were held back have waited long enough, by their place.
    pub(crate) fn passed(&self, is_past: impl Fn(&Barrier) -> bool) -> Vec<usize> {
        let all = self.held_back.iter().enumerate();
        all.filter(|(_, held_back)| held_back.until.iter().all(&is_past))
            .map(|(place, _)| place)
            .collect()
    }

    /// Lets these removals go. Whether there are any.
    pub(crate) fn release_removals(&mut self, places: Vec<usize>) -> bool {
        for place in places.iter().rev() {
            self.due.removals.extend(self.held_back.remove(*place).names);
        }
        !places.is_empty()
    }

    /// Makes the next response, looking at no more than `budget` names in this turn. `barriers` are those of the types that
    /// refer to this one.
    pub(crate) fn build(&mut self, view: &impl View, budget: &mut usize, barriers: Vec<Barrier>, nonce: u64) -> Built {
        if self.building.is_none() {
            if self.due.is_empty() && self.answered {
                return Built::Nothing;
            }
            self.building = Some(self.plan(view));
        }
        let Some(mut building) = self.building.take() else {
            return Built::Nothing;
        };
        while let Some(work) = building.work.pop() {
            if *budget == 0 {
                building.work.push(work);
                self.building = Some(building);
                return Built::More;
            }
            *budget -= 1;
            self.work(work, &mut building, view);
        }
        self.finish(building, barriers, nonce)
    }

    /// What is due becomes work. It is taken from the end.
    fn plan(&mut self, view: &impl View) -> Building {
        let due = mem::take(&mut self.due);
        let mut work = Vec::new();
        if due.all {
            let look = |name| Work::Look { name, again: false };
            work.extend(self.held.keys().cloned().map(look));
            if self.wildcard {
                let new = view.all(self.spec.url).map(|(name, _)| name);
                let new = new.filter(|name| !self.held.contains_key(*name));
                work.extend(new.map(|name| look(name.into())));
            } else {
                let ask = |name: &Arc<str>| Work::Ask {
                    fresh: due.fresh.contains(name),
                    name: Arc::clone(name),
                };
                work.extend(self.asked.keys().map(ask));
            }
        } else {
            work.extend(due.check.into_iter().map(Work::Check));
            if !self.wildcard {
                work.extend(due.fresh.into_iter().map(|name| Work::Ask { name, fresh: true }));
            }
            work.extend(due.touched.into_iter().map(Work::Touched));
        }
        work.extend(due.again.into_iter().map(|name| Work::Look { name, again: true }));
        let removals = due.removals.into_iter();
        // What has come back meanwhile is not gone.
        let removed = removals.filter(|name| !self.held.contains_key(name)).collect();
        Building {
            work,
            removed,
            ..Building::default()
        }
    }

    fn work(&mut self, work: Work, building: &mut Building, view: &impl View) {
        let url = self.spec.url;
        match work {
            // Given up while the response was being made.
            Work::Ask { name, .. } if !self.asked.contains_key(&name) => {}
            Work::Ask { name, fresh } => {
                let found = view.expand(url, &name);
                self.answer_asked(&name, !found.is_empty(), fresh, building);
                for resource in found {
                    let name: Arc<str> = resource.into();
                    if !self.held.contains_key(&name) {
                        self.hold(Arc::clone(&name), Held::Nothing);
                    }
                    building.work.push(Work::Look { name, again: fresh });
                }
            }
            Work::Check(name) => {
                let found = view.knows(url, &name);
                self.answer_asked(&name, found, false, building);
            }
            Work::Touched(name) => {
                if !self.wildcard {
                    self.bring(&name, building, view);
                }
                self.look(&name, false, building, view);
            }
            Work::Look { name, again } => self.look(&name, again, building, view),
        }
    }

    /// A resource that changed may be one that the client asks for by now, and bring others.
    fn bring(&mut self, name: &Arc<str>, building: &mut Building, view: &impl View) {
        let url = self.spec.url;
        if view.get(url, name).is_none() {
            return;
        }
        let keys = view.keys(url, name);
        let asked = |key: &String| self.asked.contains_key(key.as_str()) && view.knows(url, key);
        if !keys.iter().any(asked) {
            return;
        }
        for brought in view.expand(url, name) {
            if !self.held.contains_key(brought.as_str()) {
                let brought: Arc<str> = brought.into();
                self.hold(Arc::clone(&brought), Held::Nothing);
                building.work.push(Work::Look {
                    name: brought,
                    again: false,
                });
            }
        }
    }

    /// Tells the client of a name that stands for nothing, unless it knows.
    fn answer_asked(&mut self, name: &Arc<str>, found: bool, fresh: bool, building: &mut Building) {
        let Some(missing) = self.asked.get_mut(name) else {
            return;
        };
        let was_missing = mem::replace(missing, !found);
        self.missing = self.missing + usize::from(!found) - usize::from(was_missing);
        if !found && (fresh || !was_missing) {
            building.removed.insert(Arc::clone(name));
        }
    }

    fn look(&mut self, name: &Arc<str>, again: bool, building: &mut Building, view: &impl View) {
        match view.get(self.spec.url, name) {
            Some(entry) => {
                if self.wildcard || self.held.contains_key(name) {
                    self.offer(name, entry, again, building);
                }
            }
            None => {
                if self.release(name).is_some_and(|held| held != Held::Nothing)
                    && building.removed.insert(Arc::clone(name))
                {
                    building.gone.push(Arc::clone(name));
                }
            }
        }
    }

    fn offer(&mut self, name: &Arc<str>, entry: &Entry, again: bool, building: &mut Building) {
        let held = self.held.get(name);
        let is_same = match held {
            Some(Held::Digest(digest)) => *digest == entry.digest && (!again || building.kept.contains(name)),
            Some(Held::Version(version)) => !version.is_empty() && **version == *entry.version,
            Some(Held::Nothing) | None => false,
        };
        let is_new = match held {
            Some(Held::Version(version)) => version.is_empty(),
            held => matches!(held, Some(Held::Nothing) | None),
        };
        if is_same && matches!(held, Some(Held::Version(_))) {
            building.kept.insert(Arc::clone(name));
        }
        match self.held.get_mut(name) {
            Some(held) => *held = Held::Digest(entry.digest),
            None => self.hold(Arc::clone(name), Held::Digest(entry.digest)),
        }
        if is_same || !building.offered.insert(Arc::clone(name)) {
            return;
        }
        building.has_new |= is_new;
        building.resources.push(Resource {
            name: name.to_string(),
            version: entry.version.to_string(),
            aliases: if self.wildcard { vec![] } else { entry.aliases.to_vec() },
            resource: Some(prost_types::Any {
                type_url: self.spec.url.to_owned(),
                value: entry.body.to_vec(),
            }),
            ..Default::default()
        });
    }

    fn finish(&mut self, mut building: Building, barriers: Vec<Barrier>, nonce: u64) -> Built {
        if !barriers.is_empty() && !building.gone.is_empty() {
            for name in &building.gone {
                building.removed.remove(name);
            }
            self.held_back.push(HeldBack {
                names: mem::take(&mut building.gone),
                until: barriers,
            });
        }
        let first = !mem::replace(&mut self.answered, true);
        if !first && building.resources.is_empty() && building.removed.is_empty() {
            return Built::Nothing;
        }
        building
            .resources
            .sort_unstable_by(|one, other| one.name.cmp(&other.name));
        let mut removed: Vec<String> = building.removed.iter().map(|name| name.to_string()).collect();
        removed.sort_unstable();
        self.sent += 1;
        self.awaiting = Some(Outstanding {
            nonce: nonce.to_string(),
            has_new: building.has_new,
        });
        Built::Response(DeltaDiscoveryResponse {
            resources: building.resources,
            removed_resources: removed,
            nonce: nonce.to_string(),
            type_url: self.spec.url.to_owned(),
            ..Default::default()
        })
    }

    fn hold(&mut self, name: Arc<str>, held: Held) {
        if self.held.insert(Arc::clone(&name), held).is_none() && !self.asked.contains_key(&name) {
            self.note(Key::Name(name), true);
        }
    }

    fn release(&mut self, name: &Arc<str>) -> Option<Held> {
        let held = self.held.remove(name)?;
        if !self.asked.contains_key(name) {
            self.note(Key::Name(Arc::clone(name)), false);
        }
        Some(held)
    }

    fn note(&mut self, key: Key, wanted: bool) {
        // Under the wildcard names are of no interest.
        if self.wildcard && matches!(key, Key::Name(_)) {
            return;
        }
        self.interest.push(Interest {
            type_url: self.spec.url,
            key,
            wanted,
        });
    }
}
