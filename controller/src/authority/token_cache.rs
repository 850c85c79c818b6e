//! What the API server said about tokens, remembered for a while.
//!
//! One slot for each token, found by the token's digest: the tokens themselves are not kept. Whoever holds a slot's lock
//! asks for all who wait for it, so that many requests with one token make one review.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use aws_lc_rs::digest;
use parking_lot::Mutex;

use super::{Caller, Unauthenticated};

/// How many tokens are remembered. A node has one for an hour, so that this is far above what a cluster needs.
const SLOTS: usize = 10_000;

/// How long an acceptance is taken for granted.
const ACCEPTED: Duration = Duration::from_secs(60);

/// How long a refusal is: a node whose clock or account is put right should not wait.
const REFUSED: Duration = Duration::from_secs(5);

/// How long the API server is left alone after it could not be asked.
const AWAY: Duration = Duration::from_millis(500);

/// How long an earlier acceptance is taken for granted when the API server could not be asked about it again.
const EXTENDED: Duration = Duration::from_secs(10);

/// One token's place.
pub(super) type Slot = Arc<tokio::sync::Mutex<Option<Verdict>>>;

/// What was said about a token.
#[derive(Clone, Debug)]
pub(super) struct Verdict {
    pub(super) outcome: Result<Caller, Unauthenticated>,
    from: SystemTime,
    fresh_until: SystemTime,
    usable_until: SystemTime,
}

impl Verdict {
    /// A verdict of this moment on a token that expires at `expires`, if it does.
    pub(super) fn new(outcome: Result<Caller, Unauthenticated>, expires: Option<SystemTime>, now: SystemTime) -> Self {
        let fresh = match &outcome {
            Ok(_) => ACCEPTED,
            Err(Unauthenticated::Unavailable(_)) => AWAY,
            Err(_) => REFUSED,
        };
        let fresh_until = now + fresh;
        let usable_until = expires.unwrap_or(fresh_until);
        Self {
            fresh_until: if outcome.is_ok() {
                fresh_until.min(usable_until)
            } else {
                fresh_until
            },
            outcome,
            from: now,
            usable_until,
        }
    }

    /// Whether the verdict stands without asking again. Not when the clock went back behind it.
    pub(super) fn is_fresh(&self, now: SystemTime) -> bool {
        self.from <= now && now < self.fresh_until
    }

    /// Whether the verdict may stand while the API server cannot be asked: an acceptance, until the token expires.
    pub(super) fn is_usable(&self, now: SystemTime) -> bool {
        self.outcome.is_ok() && now < self.usable_until
    }

    /// The API server could not be asked: let an acceptance stand a little longer.
    pub(super) fn extend(&mut self, now: SystemTime) {
        self.from = now;
        self.fresh_until = (now + EXTENDED).min(self.usable_until);
    }
}

/// All slots.
#[derive(Default)]
pub(super) struct TokenCache {
    slots: Mutex<HashMap<[u8; 32], Slot>>,
}

impl TokenCache {
    /// The slot of a token.
    pub(super) fn slot(&self, token: &str, now: SystemTime) -> Slot {
        let mut key = [0; 32];
        key.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
        let mut slots = self.slots.lock();
        if let Some(slot) = slots.get(&key) {
            return Arc::clone(slot);
        }
        if slots.len() >= SLOTS {
            make_room(&mut slots, now);
        }
        Arc::clone(slots.entry(key).or_default())
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.slots.lock().len()
    }
}

/// What is of no use goes first, then a tenth of the rest, whichever: they only have to be asked about again.
fn make_room(slots: &mut HashMap<[u8; 32], Slot>, now: SystemTime) {
    slots.retain(|_, slot| match slot.try_lock() {
        Ok(verdict) => verdict.as_ref().is_some_and(|verdict| verdict.is_usable(now)),
        // Somebody is asking.
        Err(_) => true,
    });
    let excess: Vec<_> = slots
        .keys()
        .take(slots.len().saturating_sub(SLOTS * 9 / 10))
        .copied()
        .collect();
    for key in excess {
        slots.remove(&key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> Caller {
        Caller::Node { name: "a".into() }
    }

    #[test]
    fn an_acceptance_is_usable_until_the_token_expires_and_a_refusal_never_without_asking() {
        let now = SystemTime::now();
        let (minute, hour) = (Duration::from_secs(60), Duration::from_secs(3600));
        let mut accepted = Verdict::new(Ok(node()), Some(now + hour), now);
        assert!(accepted.is_fresh(now) && !accepted.is_fresh(now + minute));
        assert!(accepted.is_usable(now + hour / 2) && !accepted.is_usable(now + hour));
        accepted.extend(now + hour / 2);
        assert!(accepted.is_fresh(now + hour / 2) && !accepted.is_fresh(now + hour / 2 + minute));
        accepted.extend(now + hour - Duration::from_secs(1));
        assert!(!accepted.is_fresh(now + hour), "longer than the token lives");
        assert!(!accepted.is_fresh(now), "a clock that went back proves nothing");

        let short = Verdict::new(Ok(node()), Some(now + minute / 2), now);
        assert!(!short.is_fresh(now + minute / 2));
        let refused = Verdict::new(Err(Unauthenticated::Unknown), Some(now + hour), now);
        assert!(refused.is_fresh(now) && !refused.is_fresh(now + minute) && !refused.is_usable(now));
    }

    #[test]
    fn a_flood_of_garbage_pushes_out_nobody_who_was_accepted_and_stays_bounded() {
        let cache = TokenCache::default();
        let now = SystemTime::now();
        let put = |token: &str, outcome| {
            let slot = cache.slot(token, now);
            *slot.try_lock().unwrap() = Some(Verdict::new(outcome, Some(now + Duration::from_secs(600)), now));
        };
        put("good", Ok(node()));
        for number in 0..2 * SLOTS {
            put(&format!("bad {number}"), Err(Unauthenticated::Unknown));
        }
        assert!(cache.len() <= SLOTS);
        assert!(cache.slot("good", now).try_lock().unwrap().is_some());
        for number in 0..2 * SLOTS {
            put(&format!("good {number}"), Ok(node()));
        }
        assert!(cache.len() <= SLOTS);
    }
}
