//! One stream: what the last response of each type had in it, and what the client's answer says of that.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use culvert_proto::discovery::DeltaDiscoveryRequest;
use culvert_resources::model::place_of;
use culvert_xds::server::Response;

use super::message::cleaned;
use super::registry::Refuser;

/// How many names of a response are kept until it is answered: more than all but the largest waypoints are sent of a type. Of more, those are
/// found that the client's message begins with.
const MOST_NAMES: usize = 4096;
/// How much of a message is looked through for names, bytes.
const LONGEST: usize = 16 * 1024;

/// The last response of each type.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    last: BTreeMap<&'static str, Last>,
}

#[derive(Debug)]
struct Last {
    /// None once it is answered.
    nonce: Option<String>,
    /// None where there are too many.
    names: Option<Vec<Arc<str>>>,
    /// Those of which one is refused and nobody knows which: none of them has been taken since.
    suspects: BTreeSet<Arc<str>>,
}

impl Answers {
    /// A response is on its way.
    pub(crate) fn sent(&mut self, response: &Response) {
        let names = response.resources.iter().map(|sent| &sent.name);
        let names = names.chain(&response.removed).cloned();
        let few = response.resources.len() + response.removed.len() <= MOST_NAMES;
        let names = few.then(|| names.collect());
        self.await_answer(response.type_url, &response.nonce, names);
    }

    fn await_answer(&mut self, type_url: &'static str, nonce: &str, names: Option<Vec<Arc<str>>>) {
        let before = self.last.remove(type_url);
        let last = Last {
            nonce: Some(nonce.to_owned()),
            names,
            suspects: before.map(|last| last.suspects).unwrap_or_default(),
        };
        self.last.insert(type_url, last);
    }

    /// Takes in what a client says of a response, and what it asks for no longer.
    pub(crate) fn answered(&mut self, request: &DeltaDiscoveryRequest, refuser: &Refuser) {
        let type_url = request.type_url.as_str();
        let Some(last) = self.last.get_mut(type_url) else {
            return;
        };
        if !request.resource_names_unsubscribe.is_empty() {
            last.settle(type_url, &request.resource_names_unsubscribe, refuser);
        }
        if last.nonce.take_if(|nonce| *nonce == request.response_nonce).is_none() {
            return;
        }
        let names = last.names.take();
        let Some(refusal) = &request.error_detail else {
            return last.accepted(type_url, names.as_deref(), refuser);
        };
        let whole = refusal.message.as_str();
        let said = whole.get(..whole.floor_char_boundary(LONGEST)).unwrap_or(whole);
        let before = refuser.refused(type_url);
        let mut candidates: BTreeSet<&str> = before.iter().map(|name| &**name).collect();
        match &names {
            Some(names) => candidates.extend(names.iter().map(|name| &**name)),
            None => candidates.extend(beginnings(said)),
        }
        let found = match (named(said, candidates), names.as_deref()) {
            (found, Some([only])) if found.is_empty() => BTreeMap::from([(&**only, said)]),
            (found, _) => found,
        };
        if found.is_empty() {
            last.suspects.extend(names.iter().flatten().cloned());
            return refuser.refuses(type_url, None, &cleaned(type_url, said));
        }
        // Who names some has taken the others, as far as all of the message was looked through.
        if said.len() == whole.len() {
            let others = names.iter().flatten().filter(|name| !found.contains_key(&***name));
            let others: Vec<Arc<str>> = others.cloned().collect();
            last.accepted(type_url, Some(&others), refuser);
        }
        for (name, why) in &found {
            refuser.refuses(type_url, Some(name), &cleaned(type_url, why));
        }
    }
}

impl Last {
    /// The client has taken these, or all that there are.
    fn accepted(&mut self, type_url: &str, names: Option<&[Arc<str>]>, refuser: &Refuser) {
        match names {
            Some(names) => self.settle(type_url, names, refuser),
            None => {
                self.suspects.clear();
                self.settle(type_url, &refuser.refused(type_url), refuser);
            }
        }
    }

    /// These are refused no longer.
    fn settle<S: AsRef<str>>(&mut self, type_url: &str, names: &[S], refuser: &Refuser) {
        refuser.settle(type_url, names.iter().map(AsRef::as_ref));
        for name in names {
            self.suspects.remove(name.as_ref());
        }
        if self.suspects.is_empty() {
            refuser.settle_unnamed(type_url);
        }
    }
}

/// Which resources somebody names who refuses something, and what is said of each: `NAME: why; NAME: why`, perhaps with something before.
fn named<'a>(said: &'a str, candidates: BTreeSet<&'a str>) -> BTreeMap<&'a str, &'a str> {
    let places = candidates.into_iter();
    let mut places: Vec<_> = places.filter_map(|name| Some((place_of(said, name)?, name))).collect();
    // The longer of two that begin at the same place is the one.
    places.sort_by_key(|(place, _)| (place.start, Reverse(place.end)));
    let mut end = 0;
    places.retain(|(place, _)| {
        let is_own = place.start >= end;
        end = end.max(place.end);
        is_own
    });
    let is_only = places.len() == 1;
    let ends: Vec<usize> = places
        .iter()
        .skip(1)
        .map(|(place, _)| place.start)
        .chain([said.len()])
        .collect();
    let why = |place: &Range<usize>, to: usize| {
        let own = said.get(place.end..to).and_then(|rest| rest.strip_prefix(": "));
        // Where one is named in the midst of a sentence, all of it is about that one.
        let own = own.filter(|_| !is_only || place.start == 0);
        own.map_or(said, |own| own.trim_end_matches([' ', '\n', ';', ',']))
    };
    let reasons = places.iter().zip(ends);
    reasons.map(|((place, name), to)| (*name, why(place, to))).collect()
}

/// What each part of the message begins with, as far as a name may be.
fn beginnings(said: &str) -> impl Iterator<Item = &str> {
    said.split("; ").filter_map(|part| Some(part.split_once(": ")?.0))
}

#[cfg(test)]
mod tests;
