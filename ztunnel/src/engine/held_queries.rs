//! DNS queries of which the mesh does not know yet whether it answers them: the controller is being asked about their names.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::keys::{FlowKey, LaneKey};

/// How long a query waits for the controller. Nearly all names are not the mesh's, and their resolver has them.
pub(super) const PATIENCE: Duration = Duration::from_millis(200);

/// Queries that may wait, in one loop, and how many of these for one resolver of a pod. What is beyond goes to the resolver at once.
const IN_ALL: usize = 1024;
const PER_LANE: usize = 128;

/// A query that waits.
#[derive(Debug)]
pub(super) enum HeldQuery {
    /// That came as a datagram.
    Datagram {
        lane: LaneKey,
        message: Vec<u8>,
        client: SocketAddr,
    },
    /// That is to be read from this connection.
    Stream(FlowKey),
}

/// All that wait, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Held(VecDeque<(Instant, HeldQuery)>);

impl Held {
    /// Takes a query in, or gives it back where too many wait.
    pub(super) fn add(&mut self, query: HeldQuery, now: Instant) -> Result<(), HeldQuery> {
        let is_of_lane = |held: &HeldQuery| match (held, &query) {
            (HeldQuery::Datagram { lane, .. }, HeldQuery::Datagram { lane: own, .. }) => lane == own,
            _ => false,
        };
        if self.0.len() >= IN_ALL || self.0.iter().filter(|(_, held)| is_of_lane(held)).count() >= PER_LANE {
            return Err(query);
        }
        self.0.push_back((now + PATIENCE, query));
        Ok(())
    }

    /// When the first has waited long enough.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.0.front().map(|(at, _)| *at)
    }

    /// All of them, with the moment at which each has waited long enough.
    pub(super) fn take(&mut self) -> Vec<(Instant, HeldQuery)> {
        self.0.drain(..).collect()
    }

    /// Takes one in again that has waited before. To be called in the order of [`Self::take`], before any is added.
    pub(super) fn put_back(&mut self, at: Instant, query: HeldQuery) {
        self.0.push_back((at, query));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_bounded_for_one_resolver_and_in_all() {
        let now = Instant::now();
        let mut held = Held::default();
        let query = |lane: usize| HeldQuery::Datagram {
            lane: LaneKey::new(lane as u32, 0),
            message: vec![],
            client: ([127, 0, 0, 1], 53).into(),
        };
        for _ in 0..PER_LANE {
            held.add(query(0), now).unwrap();
        }
        held.add(query(0), now).unwrap_err();
        for number in PER_LANE..IN_ALL {
            held.add(query(1 + number / PER_LANE), now).unwrap();
        }
        held.add(query(1000), now).unwrap_err();
        assert_eq!(held.next_deadline(), Some(now + PATIENCE));
        assert_eq!(held.take().len(), IN_ALL);
        assert_eq!(held.next_deadline(), None);
    }
}
