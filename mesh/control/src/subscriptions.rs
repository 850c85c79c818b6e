//! Which addresses are subscribed on demand, and for how long: until nothing has used them for a while.

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    time::Duration,
};

use tokio::time::Instant;

/// How many addresses may be subscribed. A pod that scans ranges must not fill the memory of proxy and controller; those that
/// were used longest ago are given up, and asked for again when they are dialled again.
pub(super) const MOST: usize = 16 * 1024;

/// How many are given up at once when there are too many, so that it is not looked for them each time.
const SHARE: usize = 8;

/// Unused for so long, an address is given up: one that somebody has, and one that nobody has or that was not answered.
const KNOWN: Duration = Duration::from_secs(15 * 60);
const UNKNOWN: Duration = Duration::from_secs(60);

/// What the controller said of an address.
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

/// All subscribed addresses.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    addresses: HashMap<IpAddr, Subscription>,
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

impl Subscriptions {
    pub(super) fn ask(&mut self, address: IpAddr, now: Instant) -> Asked {
        let mut asked = Asked::New;
        let entry = self.addresses.entry(address).and_modify(|subscription| {
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

    /// The controller has said who has an address, or that nobody has. Returns whether it was asked.
    pub(super) fn answer(&mut self, address: IpAddr, known: bool) -> bool {
        let Some(subscription) = self.addresses.get_mut(&address) else {
            return false;
        };
        let was_pending = subscription.state == State::Pending;
        subscription.state = if known { State::Known } else { State::Unknown };
        was_pending
    }

    pub(super) fn is_subscribed(&self, address: IpAddr) -> bool {
        self.addresses.contains_key(&address)
    }

    pub(super) fn len(&self) -> usize {
        self.addresses.len()
    }

    /// Connections went there.
    pub(super) fn set_used(&mut self, addresses: &[IpAddr], now: Instant) {
        for address in addresses {
            if let Some(subscription) = self.addresses.get_mut(address) {
                subscription.used = now;
            }
        }
    }

    /// Takes out what is to be given up because nothing used it for long. `own` addresses stay.
    pub(super) fn take_unused(&mut self, own: &BTreeSet<IpAddr>, now: Instant) -> Vec<IpAddr> {
        let is_unused = |address: &IpAddr, subscription: &mut Subscription| {
            let limit = match subscription.state {
                State::Known => KNOWN,
                State::Pending | State::Unknown => UNKNOWN,
            };
            now.saturating_duration_since(subscription.used) >= limit && !own.contains(address)
        };
        self.addresses
            .extract_if(is_unused)
            .map(|(address, _)| address)
            .collect()
    }

    /// Takes out what is to be given up because there are too many.
    pub(super) fn take_excess(&mut self, own: &BTreeSet<IpAddr>) -> Vec<IpAddr> {
        if self.addresses.len() <= MOST {
            return Vec::new();
        }
        let mut by_use: Vec<(Instant, IpAddr)> = self
            .addresses
            .iter()
            .filter(|(address, _)| !own.contains(address))
            .map(|(address, subscription)| (subscription.used, *address))
            .collect();
        let excess = (self.addresses.len() - MOST + MOST / SHARE).min(by_use.len());
        if excess == 0 {
            return Vec::new();
        }
        by_use.select_nth_unstable(excess - 1);
        let gone: Vec<IpAddr> = by_use[..excess].iter().map(|(_, address)| *address).collect();
        for address in &gone {
            self.addresses.remove(address);
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(host: u32) -> IpAddr {
        (0xc612_0000 + host).to_be_bytes().into()
    }

    #[test]
    fn what_is_used_stays_and_the_rest_is_given_up_in_time() {
        let begin = Instant::now();
        let mut subscriptions = Subscriptions::default();
        for host in 0..4 {
            assert_eq!(subscriptions.ask(address(host), begin), Asked::New);
        }
        assert_eq!(subscriptions.ask(address(1), begin), Asked::Pending);
        assert!(subscriptions.answer(address(1), true) && subscriptions.answer(address(2), false));
        assert!(!subscriptions.answer(address(9), true), "nobody asked");
        assert_eq!(subscriptions.ask(address(1), begin), Asked::Answered);
        let own = BTreeSet::from([address(3)]);
        let mut unused = subscriptions.take_unused(&own, begin + UNKNOWN);
        unused.sort();
        assert_eq!(unused, [address(0), address(2)]);
        subscriptions.set_used(&[address(1)], begin + UNKNOWN);
        assert!(subscriptions.take_unused(&own, begin + KNOWN).is_empty());
        assert_eq!(subscriptions.take_unused(&own, begin + UNKNOWN + KNOWN), [address(1)]);
        assert_eq!(subscriptions.len(), 1, "the pod of this node");
    }

    #[test]
    fn a_scan_costs_a_bounded_number_of_names_and_makes_room_for_other_questions() {
        let begin = Instant::now();
        let mut subscriptions = Subscriptions::default();
        let own = BTreeSet::from([address(0)]);
        for host in 0..3 * MOST as u32 {
            let now = begin + Duration::from_millis(host.into());
            assert_eq!(
                subscriptions.ask(address(host), now),
                Asked::New,
                "the latest is always asked"
            );
            let gone = subscriptions.take_excess(&own);
            assert!(!gone.contains(&address(host)), "the oldest is given up");
            assert!(subscriptions.len() <= MOST);
        }
        assert!(subscriptions.is_subscribed(address(0)), "a pod of this node");
    }
}
