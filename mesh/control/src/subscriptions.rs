//! Which addresses, and which host names, are subscribed on demand, and for how long: until nothing has used them for a while.

use std::{borrow::Borrow, collections::HashMap, hash::Hash, time::Duration};

use tokio::time::Instant;

/// How many addresses, and how many host names, may be subscribed. A pod that scans ranges or makes names up must not fill the memory of proxy and controller; those that
/// were used longest ago are given up, and asked for again when they are dialled again.
pub(super) const MOST: usize = 16 * 1024;

/// How many are given up at once when there are too many, so that it is not looked for them each time.
const SHARE: usize = 8;

/// Unused for so long, an address is given up: one that somebody has, and one that nobody has or that was not answered.
const KNOWN: Duration = Duration::from_secs(15 * 60);
const UNKNOWN: Duration = Duration::from_secs(60);

/// What the controller said of an address or a host name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Pending,
    Known,
    Unknown,
}

#[derive(Clone, Copy, Debug)]
struct Subscription {
    state: State,
    used: Instant,
}

/// All subscribed addresses, or all subscribed host names.
#[derive(Debug)]
pub(super) struct Subscriptions<K> {
    names: HashMap<K, Subscription>,
}

impl<K> Default for Subscriptions<K> {
    fn default() -> Self {
        Self { names: HashMap::new() }
    }
}

/// What a question comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// It is to be sent.
    New,
    /// It has been sent and not been answered.
    Pending,
    /// It has been answered.
    Answered,
}

impl<K: Clone + Eq + Hash + Ord> Subscriptions<K> {
    pub(super) fn ask(&mut self, name: &K, now: Instant) -> Asked {
        let mut asked = Asked::New;
        let entry = self.names.entry(name.clone()).and_modify(|subscription| {
            asked = match subscription.state {
                State::Pending => Asked::Pending,
                State::Known | State::Unknown => Asked::Answered,
            };
            subscription.used = now;
        });
        entry.or_insert(Subscription {
            state: State::Pending,
            used: now,
        });
        asked
    }

    /// The controller has said who has a name, or that nobody has. Returns whether it was asked.
    pub(super) fn answer(&mut self, name: &K, known: bool) -> bool {
        let Some(subscription) = self.names.get_mut(name) else {
            return false;
        };
        let was_pending = subscription.state == State::Pending;
        subscription.state = if known { State::Known } else { State::Unknown };
        was_pending
    }

    /// What has been asked and not been answered.
    pub(super) fn pending(&self) -> impl Iterator<Item = &K> {
        let pending = |(_, subscription): &(&K, &Subscription)| subscription.state == State::Pending;
        self.names.iter().filter(pending).map(|(name, _)| name)
    }

    pub(super) fn is_subscribed<Q: ?Sized + Eq + Hash>(&self, name: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.names.contains_key(name)
    }

    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    /// Connections went there.
    pub(super) fn set_used(&mut self, names: &[K], now: Instant) {
        for name in names {
            if let Some(subscription) = self.names.get_mut(name) {
                subscription.used = now;
            }
        }
    }

    /// Takes out what is to be given up because nothing used it for long. What is one's own stays.
    pub(super) fn take_unused(&mut self, is_own: impl Fn(&K) -> bool, now: Instant) -> Vec<K> {
        let is_unused = |name: &K, subscription: &mut Subscription| {
            let limit = match subscription.state {
                State::Known => KNOWN,
                State::Pending | State::Unknown => UNKNOWN,
            };
            now.saturating_duration_since(subscription.used) >= limit && !is_own(name)
        };
        self.names.extract_if(is_unused).map(|(name, _)| name).collect()
    }

    /// Takes out what is to be given up because there are too many.
    pub(super) fn take_excess(&mut self, is_own: impl Fn(&K) -> bool) -> Vec<K> {
        if self.names.len() <= MOST {
            return Vec::new();
        }
        let mut by_use: Vec<(Instant, K)> = self
            .names
            .iter()
            .filter(|(name, _)| !is_own(name))
            .map(|(name, subscription)| (subscription.used, name.clone()))
            .collect();
        let excess = (self.names.len() - MOST + MOST / SHARE).min(by_use.len());
        if excess == 0 {
            return Vec::new();
        }
        by_use.select_nth_unstable(excess - 1);
        by_use.truncate(excess);
        let gone: Vec<K> = by_use.into_iter().map(|(_, name)| name).collect();
        for name in &gone {
            self.names.remove(name);
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, net::IpAddr};

    use super::*;

    fn address(host: u32) -> IpAddr {
        (0xc612_0000 + host).to_be_bytes().into()
    }

    #[test]
    fn what_is_used_stays_and_the_rest_is_given_up_in_time() {
        let begin = Instant::now();
        let mut subscriptions = Subscriptions::default();
        for host in 0..4 {
            assert_eq!(subscriptions.ask(&address(host), begin), Asked::New);
        }
        assert_eq!(subscriptions.ask(&address(1), begin), Asked::Pending);
        assert!(subscriptions.answer(&address(1), true) && subscriptions.answer(&address(2), false));
        assert!(!subscriptions.answer(&address(9), true), "nobody asked");
        assert_eq!(subscriptions.ask(&address(1), begin), Asked::Answered);
        let own = BTreeSet::from([address(3)]);
        let is_own = |address: &IpAddr| own.contains(address);
        let mut unused = subscriptions.take_unused(is_own, begin + UNKNOWN);
        unused.sort();
        assert_eq!(unused, [address(0), address(2)]);
        subscriptions.set_used(&[address(1)], begin + UNKNOWN);
        assert!(subscriptions.take_unused(is_own, begin + KNOWN).is_empty());
        assert_eq!(subscriptions.take_unused(is_own, begin + UNKNOWN + KNOWN), [address(1)]);
        assert_eq!(subscriptions.len(), 1, "the pod of this node");
    }

    #[test]
    fn a_scan_costs_a_bounded_number_of_names_and_makes_room_for_other_questions() {
        let begin = Instant::now();
        let mut subscriptions = Subscriptions::default();
        let own = BTreeSet::from([address(0)]);
        let is_own = |address: &IpAddr| own.contains(address);
        for host in 0..3 * MOST as u32 {
            let now = begin + Duration::from_millis(host.into());
            assert_eq!(
                subscriptions.ask(&address(host), now),
                Asked::New,
                "the latest is always asked"
            );
            let gone = subscriptions.take_excess(is_own);
            assert!(!gone.contains(&address(host)), "the oldest is given up");
            assert!(subscriptions.len() <= MOST);
        }
        assert!(subscriptions.is_subscribed(&address(0)), "a pod of this node");
    }
}
