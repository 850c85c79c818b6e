//! Which connections a page server keeps: every new one is served at once, and when there are too many, the oldest
//! connection of the source that has most is closed.
//!
//! So nobody can occupy the port: a client that sends its request is answered and gone within milliseconds, and what is
//! old is what waits for something.

use std::{collections::VecDeque, future::Future, net::IpAddr};

use tokio::task::{AbortHandle, JoinSet};

/// Connections that are open at a time.
const OPEN: usize = 64;

/// How many of these one source may have. Loopback is one source, so that it is no fewer than a scrape, a probe and a few
/// people need.
const OF_ONE_SOURCE: usize = 32;

/// The open connections of one listener. All are closed when this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    tasks: JoinSet<()>,
    /// Oldest first.
    open: VecDeque<(IpAddr, AbortHandle)>,
}

impl Connections {
    /// Serves a connection of `source`, and closes another one if there are too many.
    pub(crate) fn add(&mut self, source: IpAddr, connection: impl Future<Output = ()> + Send + 'static) {
        let source = source.to_canonical();
        let own = self.open.iter().filter(|(other, _)| *other == source).count();
        if own >= OF_ONE_SOURCE {
            self.close_oldest(source);
        } else if self.open.len() >= OPEN
            && let Some(most) = self.source_with_most()
        {
            self.close_oldest(most);
        }
        let task = self.tasks.spawn(connection);
        self.open.push_back((source, task));
    }

    /// Waits until a connection has ended. Never returns while there is none.
    pub(crate) async fn ended(&mut self) {
        match self.tasks.join_next_with_id().await {
            Some(ended) => {
                let id = ended.map_or_else(|error| error.id(), |(id, ())| id);
                self.open.retain(|(_, task)| task.id() != id);
            }
            None => std::future::pending().await,
        }
    }

    fn close_oldest(&mut self, source: IpAddr) {
        if let Some(at) = self.open.iter().position(|(other, _)| *other == source)
            && let Some((_, task)) = self.open.remove(at)
        {
            task.abort();
        }
    }

    /// The source with most connections; among equals, the one whose oldest connection is the oldest.
    fn source_with_most(&self) -> Option<IpAddr> {
        let count = |source: &IpAddr| self.open.iter().filter(|(other, _)| other == source).count();
        let sources = self.open.iter().map(|(source, _)| source);
        // `max_by_key` takes the last of equals.
        sources.rev().max_by_key(|source| count(source)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open_of(connections: &Connections, source: u8) -> usize {
        let wanted = IpAddr::from([198, 18, 0, source]);
        connections.open.iter().filter(|(source, _)| *source == wanted).count()
    }

    #[tokio::test]
    async fn whoever_has_most_makes_room_and_the_rest_stays() {
        let mut connections = Connections::default();
        let add = |connections: &mut Connections, source: u8| {
            connections.add(IpAddr::from([198, 18, 0, source]), std::future::pending());
        };
        for _ in 0..10 {
            add(&mut connections, 1);
        }
        for _ in 0..2 * OPEN {
            add(&mut connections, 2);
        }
        assert_eq!(open_of(&connections, 2), OF_ONE_SOURCE, "a source has its cap");
        for source in 3..=100 {
            add(&mut connections, source);
        }
        assert_eq!(connections.open.len(), OPEN);
        assert_eq!(open_of(&connections, 100), 1, "the newest is always served");
        assert!(open_of(&connections, 2) <= 2, "the greedy one made room first");
    }
}
