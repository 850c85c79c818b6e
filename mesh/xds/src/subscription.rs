//! One type on one stream: what its client asked for, what it holds, and what is to be looked at again.
//!
//! Only names that are *due* are looked at: just asked for, touched by a change, or all of them, once, on a new connection.
//! What the client was told does not exist costs nothing until a change touches it.
//!
//! | module | what |
//! |---|---|
//! | `holdings` | what the client asked for and holds, and so what it is interested in |
//! | `due` | what has to be looked at |
//! | `building` | the response that is being made |
//! | `exchange` | responses and their acknowledgements, and what waits for them |

use std::{mem, sync::Arc};

use culvert_proto::discovery::DeltaDiscoveryRequest;

use crate::{
    Change, Interest, Key, WILDCARD,
    resources::{Entry, TypeSpec, View},
    response::Response,
};

mod building;
mod due;
mod exchange;
mod holdings;

use building::{Again, Building, Work};
use due::Due;
use exchange::Exchange;
pub(crate) use exchange::{Acknowledged, Barrier};
use holdings::{Held, Holdings};

/// So many touched names are noted beside twice what the client knows; with more, everything is looked at again.
const TOUCHED: usize = 1024;

#[derive(Debug)]
pub(crate) struct Subscription {
    spec: &'static TypeSpec,
    holdings: Holdings,
    due: Due,
    building: Option<Building>,
    /// Bytes after which the first answer goes on in another response.
    piece: usize,
    /// The first response is sent even if it is empty, so that the client knows that there is nothing.
    answered: bool,
    exchange: Exchange,
}

/// What became of an attempt to make a response.
pub(crate) enum Built {
    Nothing,
    /// The budget is used up.
    More,
    Response(Response),
}

impl Subscription {
    /// By a client's first request for a type.
    pub(crate) fn begin(spec: &'static TypeSpec, request: &DeltaDiscoveryRequest, view: &impl View) -> Self {
        // A first request that names nothing is the legacy way of asking for everything.
        let wildcard = request.resource_names_subscribe.is_empty();
        let mut new = Self {
            spec,
            holdings: Holdings::new(spec.url, wildcard, request.initial_resource_versions.len()),
            due: Due {
                all: true,
                ..Due::default()
            },
            building: None,
            // What a client holds may have to change together with what it does not hold yet.
            piece: spec
                .piece
                .filter(|_| request.initial_resource_versions.is_empty())
                .unwrap_or(usize::MAX),
            answered: false,
            exchange: Exchange::default(),
        };
        // What the client kept from its last connection stays subscribed, whatever had brought it.
        for (name, version) in &request.initial_resource_versions {
            let name = view.shared(spec.url, name).unwrap_or_else(|| name.as_str().into());
            new.holdings.hold(&name, Held::Version(Entry::digest_of(version)));
        }
        new.subscribe(request, view);
        if !new.holdings.is_wildcard() {
            for name in view.initial(spec.url) {
                new.expect(&name);
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
        self.holdings.wanted()
    }

    /// How many resources the client holds, or is about to be sent.
    pub(crate) fn held(&self) -> usize {
        self.holdings.len()
    }

    /// How many of the names asked for stand for nothing.
    pub(crate) fn missing(&self) -> usize {
        self.holdings.missing()
    }

    pub(crate) fn acknowledge(&mut self, request: &DeltaDiscoveryRequest) -> Acknowledged {
        self.exchange.acknowledge(request)
    }

    /// Returns whether anything was subscribed or unsubscribed.
    pub(crate) fn subscribe(&mut self, request: &DeltaDiscoveryRequest, view: &impl View) -> bool {
        let has_star = |names: &[String]| names.iter().any(|name| name == WILDCARD);
        let wildcard = self.holdings.is_wildcard() || has_star(&request.resource_names_subscribe);
        if self
            .holdings
            .set_wildcard(wildcard && !has_star(&request.resource_names_unsubscribe))
        {
            self.due.all = true;
        }
        for name in &request.resource_names_subscribe {
            if name == WILDCARD {
                continue;
            }
            let name: Arc<str> = name.as_str().into();
            self.holdings.ask(&name);
            self.due.fresh.insert(name);
        }
        for name in &request.resource_names_unsubscribe {
            if name != WILDCARD {
                self.unsubscribe(name, view);
            }
        }
        !request.resource_names_subscribe.is_empty() || !request.resource_names_unsubscribe.is_empty()
    }

    fn unsubscribe(&mut self, name: &str, view: &impl View) {
        let Some((name, was_missing)) = self.holdings.give_up(name) else {
            return;
        };
        self.due.fresh.remove(&name);
        self.due.check.remove(&name);
        if was_missing || self.holdings.is_wildcard() {
            return;
        }
        for resource in view.expand(self.spec.url, &name) {
            if !self.holdings.holds(&resource) {
                continue;
            }
            // The client may drop all that the name stood for, so what it still wants by another name is sent again.
            let keys = view.keys(self.spec.url, &resource);
            let is_asked = |key: &Arc<str>| self.holdings.asks(key) && view.knows(self.spec.url, key);
            let still = keys.iter().any(is_asked);
            if still {
                self.due.again.insert(resource);
            } else {
                self.holdings.release(&resource);
            }
        }
    }

    /// Takes note of a change. Nothing of it is kept that does not concern the client.
    pub(crate) fn touch(&mut self, change: &Change) {
        if change.type_url != self.spec.url || self.due.all {
            return;
        }
        let mut concerns = self.holdings.is_wildcard() || self.holdings.holds(&change.name);
        if !self.holdings.is_wildcard() {
            for key in change.keys.iter().chain([&change.name]) {
                if self.holdings.asks(key) {
                    self.due.check.insert(Arc::clone(key));
                    concerns = true;
                }
            }
        }
        if concerns {
            self.due.touched.insert(Arc::clone(&change.name));
        }
        if self.due.touched.len() > TOUCHED + 2 * (self.holdings.len() + self.holdings.wanted()) {
            self.touch_all();
        }
    }

    /// Everything is looked at again: changes may have been missed.
    pub(crate) fn touch_all(&mut self) {
        self.due.touch_all();
    }

    /// One name is looked at again.
    pub(crate) fn touch_name(&mut self, name: &Arc<str>) {
        if self.holdings.asks(name) {
            self.due.check.insert(Arc::clone(name));
        }
        self.due.touched.insert(Arc::clone(name));
    }

    /// The client was sent something after which it waits for this resource, if it holds it: it is sent, whatever the client has of it.
    pub(crate) fn follow(&mut self, name: &Arc<str>) {
        if self.holdings.holds(name) {
            self.due.awaited.insert(Arc::clone(name));
        }
    }

    /// Since when it was asked last: what the client is interested in now, or no longer.
    pub(crate) fn take_interest(&mut self) -> Vec<Interest> {
        self.holdings.take_interest()
    }

    /// Everything that the client was ever said to be interested in and still is.
    pub(crate) fn all_interest(&self) -> impl Iterator<Item = Key> {
        self.holdings.all_interest()
    }

    /// Whether a response waits for its acknowledgement.
    pub(crate) fn is_awaiting(&self) -> bool {
        self.exchange.is_awaiting()
    }

    /// Whether there may be something to send.
    pub(crate) fn is_due(&self) -> bool {
        self.building.is_some() || !self.due.is_empty()
    }

    /// Whether other types have to wait that refer to this one: something new is on its way, or may have to be.
    pub(crate) fn holds_up(&self) -> bool {
        self.is_due() || self.exchange.awaits_new()
    }

    /// What must have been acknowledged before what this type refers to may go. None if it refers to nothing that is gone.
    pub(crate) fn barrier(&self) -> Option<Barrier> {
        // What has become due since a response was begun is in the one after it.
        let due = u64::from(self.building.is_some()) + u64::from(!self.due.is_empty());
        self.exchange.barrier(self.spec.url, due)
    }

    /// Whether a barrier of this type has been passed.
    pub(crate) fn is_past(&self, barrier: &Barrier) -> bool {
        self.exchange.is_past(barrier, self.is_due())
    }

    /// Which of the removals that were held back have waited long enough, by their place.
    pub(crate) fn passed(&self, is_past: impl Fn(&Barrier) -> bool) -> Vec<usize> {
        self.exchange.passed(is_past)
    }

    /// Lets these removals go. Whether there are any.
    pub(crate) fn release_removals(&mut self, places: Vec<usize>) -> bool {
        for place in places.iter().rev() {
            self.due.removals.extend(self.exchange.release(*place));
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
            let due = mem::take(&mut self.due);
            self.building = Some(due.plan(self.spec.url, &self.holdings, view));
        }
        let Some(mut building) = self.building.take() else {
            return Built::Nothing;
        };
        while let Some(work) = building.next() {
            let is_full = building.is_full(self.piece);
            if is_full || *budget == 0 {
                building.add(work);
                let piece = is_full.then(|| building.piece(self.spec.url));
                self.building = Some(building);
                return match piece {
                    Some((response, has_new)) => self.send(response, has_new, false, nonce),
                    None => Built::More,
                };
            }
            *budget -= 1;
            self.work(work, &mut building, view);
        }
        self.finish(building, barriers, nonce)
    }

    fn work(&mut self, work: Work, building: &mut Building, view: &impl View) {
        let url = self.spec.url;
        match work {
            // Given up while the response was being made.
            Work::Ask { name, .. } if !self.holdings.asks(&name) => {}
            Work::Ask { name, fresh } => {
                let found = view.expand(url, &name);
                self.answer_asked(&name, !found.is_empty(), fresh, building);
                for name in found {
                    self.expect(&name);
                    let again = if fresh { Again::Asked } else { Again::No };
                    building.add(Work::Look { name, again });
                }
            }
            Work::Check(name) => {
                let found = view.knows(url, &name);
                self.answer_asked(&name, found, false, building);
            }
            Work::Touched(name) => {
                if !self.holdings.is_wildcard() {
                    self.bring(&name, building, view);
                }
                self.look(&name, Again::No, building, view);
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
        let asked = |key: &Arc<str>| self.holdings.asks(key) && view.knows(url, key);
        if !keys.iter().any(asked) {
            return;
        }
        for brought in view.expand(url, name) {
            if self.expect(&brought) {
                building.add(Work::Look {
                    name: brought,
                    again: Again::No,
                });
            }
        }
    }

    /// Tells the client of a name that stands for nothing, unless it knows.
    fn answer_asked(&mut self, name: &Arc<str>, found: bool, fresh: bool, building: &mut Building) {
        let Some(was_missing) = self.holdings.set_missing(name, !found) else {
            return;
        };
        if !found && (fresh || !was_missing) {
            building.tell_missing(name);
        }
    }

    fn look(&mut self, name: &Arc<str>, again: Again, building: &mut Building, view: &impl View) {
        match view.get(self.spec.url, name) {
            Some(entry) => {
                let (wildcard, before) = (self.holdings.is_wildcard(), self.holdings.of(name));
                if wildcard || before.is_some() {
                    building.offer(name, entry, before, again, !wildcard);
                    self.holdings.hold(name, Held::Digest(entry.digest));
                }
            }
            None => {
                if self.holdings.release(name).is_some_and(|held| held != Held::Nothing) {
                    building.tell_gone(name);
                }
            }
        }
    }

    /// A resource is part of what the client asked for. Whether that is news.
    fn expect(&mut self, name: &Arc<str>) -> bool {
        let is_new = !self.holdings.holds(name);
        if is_new {
            self.holdings.hold(name, Held::Nothing);
        }
        is_new
    }

    fn finish(&mut self, building: Building, barriers: Vec<Barrier>, nonce: u64) -> Built {
        self.piece = usize::MAX;
        let finished = building.finish(self.spec.url, !barriers.is_empty());
        self.exchange.hold_back(finished.held_back, barriers);
        let response = finished.response;
        if self.answered && response.resources.is_empty() && response.removed.is_empty() {
            return Built::Nothing;
        }
        self.send(response, finished.has_new, true, nonce)
    }

    fn send(&mut self, mut response: Response, has_new: bool, is_last: bool, nonce: u64) -> Built {
        self.answered = true;
        response.nonce = nonce.to_string();
        self.exchange.send(&response.nonce, has_new, is_last);
        Built::Response(response)
    }
}
