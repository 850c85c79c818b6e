//! Responses and their acknowledgements, and what waits for them.

use std::{mem, sync::Arc};

use culvert_proto::discovery::DeltaDiscoveryRequest;

/// How many responses of a type must have been acknowledged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Barrier {
    /// The type.
    pub(crate) url: &'static str,
    responses: u64,
}

/// What an acknowledgement was for.
pub(crate) enum Acknowledged {
    Stale,
    Accepted,
    Refused(String),
}

/// The responses of one type. At most one waits for its acknowledgement.
#[derive(Debug, Default)]
pub(super) struct Exchange {
    awaiting: Option<Outstanding>,
    sent: u64,
    acknowledged: u64,
    /// Removals that wait until other types no longer refer to what is gone.
    held_back: Vec<HeldBack>,
}

/// A response that was sent and not acknowledged yet.
#[derive(Debug)]
struct Outstanding {
    nonce: String,
    /// Whether it has resources that the client did not have.
    has_new: bool,
}

#[derive(Debug)]
struct HeldBack {
    names: Vec<Arc<str>>,
    until: Vec<Barrier>,
}

impl Exchange {
    /// A response is on its way. Where others follow in which the rest is, it is none of those that count.
    pub(super) fn send(&mut self, nonce: &str, has_new: bool, is_last: bool) {
        self.sent += u64::from(is_last);
        self.awaiting = Some(Outstanding {
            nonce: nonce.to_owned(),
            has_new,
        });
    }

    /// The client says that it has a response.
    pub(super) fn acknowledge(&mut self, request: &DeltaDiscoveryRequest) -> Acknowledged {
        let outstanding = self
            .awaiting
            .take_if(|outstanding| outstanding.nonce == request.response_nonce);
        if outstanding.is_none() {
            return Acknowledged::Stale;
        }
        self.acknowledged = self.sent;
        match &request.error_detail {
            Some(error) => Acknowledged::Refused(error.message.clone()),
            None => Acknowledged::Accepted,
        }
    }

    /// Whether a response waits for its acknowledgement.
    pub(super) fn is_awaiting(&self) -> bool {
        self.awaiting.is_some()
    }

    /// Whether a response with something new does.
    pub(super) fn awaits_new(&self) -> bool {
        self.awaiting.as_ref().is_some_and(|outstanding| outstanding.has_new)
    }

    /// What must have been acknowledged so that the client knows all there is by now; `due` is how many responses that takes
    /// which were not sent yet. None if it knows.
    pub(super) fn barrier(&self, url: &'static str, due: u64) -> Option<Barrier> {
        (due > 0 || self.is_awaiting()).then(|| Barrier {
            url,
            responses: self.sent + due,
        })
    }

    /// Whether a barrier of this type has been passed.
    pub(super) fn is_past(&self, barrier: &Barrier, is_due: bool) -> bool {
        self.acknowledged >= barrier.responses || !(is_due || self.is_awaiting())
    }

    /// Holds removals back until all of these are passed.
    pub(super) fn hold_back(&mut self, names: Vec<Arc<str>>, until: Vec<Barrier>) {
        if !names.is_empty() {
            self.held_back.push(HeldBack { names, until });
        }
    }

    /// Which of the removals that were held back have waited long enough, by their place.
    pub(super) fn passed(&self, is_past: impl Fn(&Barrier) -> bool) -> Vec<usize> {
        let all = self.held_back.iter().enumerate();
        all.filter(|(_, held_back)| held_back.until.iter().all(&is_past))
            .map(|(place, _)| place)
            .collect()
    }

    /// Lets a removal go.
    pub(super) fn release(&mut self, place: usize) -> Vec<Arc<str>> {
        mem::take(&mut self.held_back.remove(place).names)
    }
}
