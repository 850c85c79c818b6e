//! The server's side: one [`Stream`] for each connection, which knows what its client wants and was sent.
//!
//! ```text
//! client ── receive() ──> Stream ── take_interest() ──> Index <── concerned() ── Change
//!        <── advance() ──   ^                                                     │
//!                           └──────────────── touch() ────────────────────────────┘
//! ```
//!
//! The stream never queues: while a response waits for its acknowledgement, changes only leave a mark, and the next
//! response holds the difference at that moment. So a slow client costs no memory beyond the names it was sent, and
//! never sees a state that is older than its last acknowledgement. A change costs a stream what it touches there.

use culvert_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};

pub use crate::resources::{Entry, Named, Resources, TypeSpec, View};
pub use crate::response::{Response, Sent};
use crate::{
    Change, Interest, Key,
    subscription::{Acknowledged, Barrier, Built, Subscription},
};

/// What a client's message meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// Subscriptions began or changed; call [`Stream::advance`].
    Subscribed,
    /// The last response was taken in; call [`Stream::advance`].
    Acknowledged,
    /// The last response was refused, in part or whole. What was sent stays recorded as sent, so it is not repeated
    /// until it changes.
    Refused {
        /// The client's own words.
        reason: String,
    },
    /// An acknowledgement of something older than the last response; nothing to do.
    Stale,
    /// A type that is not served.
    UnknownType,
}

/// What a turn of [`Stream::advance`] came to.
#[derive(Debug)]
pub enum Turn {
    /// There is nothing to send now.
    Done,
    /// The turn's budget is used up: call again, with the same view.
    More,
    /// This is to be sent; call again.
    Send(Response),
}

/// What one client wants and was sent.
#[derive(Debug, Default)]
pub struct Stream {
    nonce: u64,
    /// In the view's order.
    types: Vec<Subscription>,
}

impl Stream {
    /// A new connection.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many names and aliases of a type the client asks for; none under the wildcard.
    pub fn wanted(&self, type_url: &str) -> usize {
        self.of(type_url).map_or(0, Subscription::wanted)
    }

    /// How many resources of a type the client holds, or is about to be sent.
    pub fn held(&self, type_url: &str) -> usize {
        self.of(type_url).map_or(0, Subscription::held)
    }

    /// How many of the names asked for stand for nothing.
    pub fn missing(&self, type_url: &str) -> usize {
        self.of(type_url).map_or(0, Subscription::missing)
    }

    /// Takes a client's message in.
    pub fn receive(&mut self, request: &DeltaDiscoveryRequest, view: &impl View) -> Meaning {
        let types = view.types();
        let Some(place) = types.iter().position(|spec| spec.url == request.type_url) else {
            return Meaning::UnknownType;
        };
        let spec = &types[place];
        let mut meaning = Meaning::Stale;
        match self
            .types
            .iter_mut()
            .find(|subscription| subscription.url() == spec.url)
        {
            Some(subscription) => {
                if !request.response_nonce.is_empty() {
                    meaning = match subscription.acknowledge(request) {
                        Acknowledged::Stale => Meaning::Stale,
                        Acknowledged::Accepted => Meaning::Acknowledged,
                        Acknowledged::Refused(reason) => Meaning::Refused { reason },
                    };
                }
                if subscription.subscribe(request, view) && !matches!(meaning, Meaning::Refused { .. }) {
                    meaning = Meaning::Subscribed;
                }
            }
            None => {
                let before = |url| types.iter().position(|spec| spec.url == url) < Some(place);
                let at = self.types.iter().take_while(|other| before(other.url())).count();
                self.types.insert(at, Subscription::begin(spec, request, view));
                meaning = Meaning::Subscribed;
            }
        }
        meaning
    }

    /// Takes note of a change, after the state that holds it is there. Nothing is kept of what does not concern the client.
    pub fn touch(&mut self, change: &Change) {
        for subscription in &mut self.types {
            subscription.touch(change);
        }
    }

    /// One name is looked at again: a change of it may have been missed.
    pub fn touch_key(&mut self, interest: &Interest) {
        let found = self
            .types
            .iter_mut()
            .find(|subscription| subscription.url() == interest.type_url);
        match (found, &interest.key) {
            (Some(subscription), Key::Name(name)) => subscription.touch_name(name),
            (Some(subscription), Key::All) => subscription.touch_all(),
            (None, _) => {}
        }
    }

    /// Everything is looked at again, or everything of one type.
    pub fn touch_all(&mut self, type_url: Option<&str>) {
        for subscription in &mut self.types {
            if type_url.is_none_or(|url| url == subscription.url()) {
                subscription.touch_all();
            }
        }
    }

    /// What the client has become interested in, or no longer is, since this was called last. For an [`Index`].
    ///
    /// The index must hold an interest before the state is read in which its name is looked up, or a change in between would
    /// be missed. For names that [`advance`](Self::advance) came upon it cannot: those are to be looked at again, with
    /// [`touch_key`](Self::touch_key), if another state has come meanwhile.
    ///
    /// [`Index`]: crate::Index
    pub fn take_interest(&mut self) -> Vec<Interest> {
        self.types.iter_mut().flat_map(Subscription::take_interest).collect()
    }

    /// All interests, as no longer wanted: for the end of the stream.
    pub fn end(&self) -> impl Iterator<Item = Interest> {
        self.types.iter().flat_map(|subscription| {
            subscription.all_interest().map(|key| Interest {
                type_url: subscription.url(),
                key,
                wanted: false,
            })
        })
    }

    /// Goes on, looking at no more than `budget` names: call it after each [`receive`](Self::receive) and
    /// [`touch`](Self::touch), until it is done.
    pub fn advance(&mut self, view: &impl View, mut budget: usize) -> Turn {
        loop {
            let mut is_left = false;
            for at in 0..self.types.len() {
                self.release_removals(at);
                let subscription = &self.types[at];
                if subscription.is_awaiting() || self.is_held_up(subscription) {
                    continue;
                }
                let barriers = self
                    .dependents(subscription.url())
                    .filter_map(Subscription::barrier)
                    .collect();
                let nonce = self.nonce + 1;
                match self.types[at].build(view, &mut budget, barriers, nonce) {
                    // What has become due between two pieces, of which the last turned out to be empty, is in the response after it.
                    Built::Nothing => is_left |= self.types[at].is_due(),
                    Built::More => return Turn::More,
                    Built::Response(response) => {
                        self.nonce = nonce;
                        self.follow(at, &response);
                        return Turn::Send(response);
                    }
                }
            }
            // A type that turned out to have nothing to send may have been what removals of another one waited for.
            if !is_left && !(0..self.types.len()).any(|at| self.release_removals(at)) {
                return Turn::Done;
            }
        }
    }

    /// The next response that the client should get, if any, as a message.
    pub fn next(&mut self, view: &impl View) -> Option<DeltaDiscoveryResponse> {
        match self.advance(view, usize::MAX) {
            Turn::Send(response) => Some(response.into_message()),
            Turn::Done | Turn::More => None,
        }
    }

    fn of(&self, type_url: &str) -> Option<&Subscription> {
        self.types.iter().find(|subscription| subscription.url() == type_url)
    }

    /// Whether a type has to wait for one to which it refers.
    fn is_held_up(&self, subscription: &Subscription) -> bool {
        let refers_to = |url: &&str| self.of(url).is_some_and(Subscription::holds_up);
        subscription.spec().after.iter().any(refers_to)
    }

    /// What the client waits for when it has read a response is due, even if it went out before.
    fn follow(&mut self, at: usize, response: &Response) {
        let followed_by = self.types[at].spec().followed_by;
        let following = self.types.iter_mut().find(|other| Some(other.url()) == followed_by);
        if let Some(following) = following {
            response.resources.iter().for_each(|sent| following.follow(&sent.name));
        }
    }

    /// The types that refer to this one.
    fn dependents(&self, url: &'static str) -> impl Iterator<Item = &Subscription> {
        self.types.iter().filter(move |other| other.spec().after.contains(&url))
    }

    /// Lets removals go that nothing refers to any more. Whether there are any.
    fn release_removals(&mut self, at: usize) -> bool {
        let is_past = |barrier: &Barrier| self.of(barrier.url).is_none_or(|other| other.is_past(barrier));
        let past = self.types[at].passed(is_past);
        self.types[at].release_removals(past)
    }
}
