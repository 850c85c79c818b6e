//! What has gone past the proxy between two pods, whatever ports it went to.
//!
//! The kernel programs count by pair, and a pair goes with its port while the pods stay: what it has counted is added up here, so that
//! no total ever shrinks. Totals go with either pod.

use std::collections::HashMap;

use culvert_abi::{SameNodePair, SameNodeUse};

/// The cookies of the network namespaces of who opens connections and who is reached.
pub type Pods = (u64, u64);

#[derive(Debug, Default)]
pub(super) struct Totals {
    pairs: HashMap<SameNodePair, Counted>,
    pods: HashMap<Pods, SameNodeUse>,
}

/// What is known of a pair.
#[derive(Debug)]
struct Counted {
    server: u64,
    /// As far as it is in the total.
    until: SameNodeUse,
}

impl Totals {
    /// What goes by a pair from now on goes to the pod with this cookie.
    pub(super) fn enter(&mut self, pair: SameNodePair, server: u64) {
        let until = SameNodeUse::default();
        self.pairs.entry(pair).or_insert(Counted { server, until }).server = server;
    }

    /// What has gone by a pair until now. One that was never entered counts for nobody.
    pub(super) fn count(&mut self, pair: &SameNodePair, now: &SameNodeUse) {
        let Some(counted) = self.pairs.get_mut(pair) else {
            return;
        };
        let before = std::mem::replace(&mut counted.until, *now);
        let total = self.pods.entry((pair.client, counted.server)).or_default();
        total.opened += now.opened.saturating_sub(before.opened);
        total.closed += now.closed.saturating_sub(before.closed);
        total.sent += now.sent.saturating_sub(before.sent);
        total.received += now.received.saturating_sub(before.received);
    }

    /// How many connections were opened by a pair, as of the last count.
    pub(super) fn opened(&self, pair: &SameNodePair) -> u64 {
        self.pairs.get(pair).map_or(0, |counted| counted.until.opened)
    }

    /// The kernel programs have forgotten a pair, and begin anew should it come again.
    pub(super) fn forget(&mut self, pair: &SameNodePair) {
        self.pairs.remove(pair);
    }

    /// A pod is gone.
    pub(super) fn part(&mut self, cookie: u64) {
        self.pairs
            .retain(|pair, counted| pair.client != cookie && counted.server != cookie);
        self.pods
            .retain(|(client, server), _| *client != cookie && *server != cookie);
    }

    pub(super) fn all(&self) -> Vec<(Pods, SameNodeUse)> {
        self.pods.iter().map(|(pods, total)| (*pods, *total)).collect()
    }
}

#[cfg(test)]
mod tests {
    use culvert_abi::Endpoint;

    use super::*;

    fn pair(client: u64, port: u16) -> SameNodePair {
        let destination = std::net::SocketAddr::from(([198, 18, 0, 2], port));
        SameNodePair::new(client, Endpoint::from(destination))
    }

    fn usage(all: u64) -> SameNodeUse {
        SameNodeUse {
            opened: all,
            closed: all,
            sent: all,
            received: all,
        }
    }

    #[test]
    fn ports_of_two_pods_are_one_total_that_stays_when_a_pair_goes() {
        let mut totals = Totals::default();
        for port in [80, 81] {
            totals.enter(pair(1, port), 2);
            totals.count(&pair(1, port), &usage(5));
        }
        totals.count(&pair(1, 80), &usage(7));
        assert_eq!(totals.all(), [((1, 2), usage(12))]);
        totals.forget(&pair(1, 80));
        assert_eq!(totals.all(), [((1, 2), usage(12))]);
        // It comes again, and is counted from zero.
        totals.enter(pair(1, 80), 2);
        totals.count(&pair(1, 80), &usage(1));
        assert_eq!(totals.all(), [((1, 2), usage(13))]);
        // Entered twice, as after it was taken back for a while.
        totals.enter(pair(1, 80), 2);
        totals.count(&pair(1, 80), &usage(1));
        assert_eq!(totals.all(), [((1, 2), usage(13))]);
    }

    #[test]
    fn totals_go_with_either_pod_and_an_address_that_is_taken_over_counts_for_the_new_one() {
        let mut totals = Totals::default();
        totals.enter(pair(1, 80), 2);
        totals.enter(pair(9, 80), 2);
        totals.count(&pair(1, 80), &usage(5));
        totals.enter(pair(1, 80), 3);
        totals.count(&pair(1, 80), &usage(6));
        totals.count(&pair(9, 80), &usage(4));
        totals.part(2);
        assert_eq!(totals.all(), [((1, 3), usage(1))]);
        totals.count(&pair(9, 80), &usage(8));
        totals.part(1);
        assert_eq!(totals.all(), []);
    }
}
