//! Which connections pods of this node have accepted within the last hour, one entry for those that are alike: so that it can
//! be told beforehand whom a new policy would refuse.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::Mutex,
    time::{Duration, Instant},
};

use culvert_identity::SpiffeId;

use crate::{lists::Lists, opening::Opening};

/// How long they are remembered.
const MEMORY: Duration = Duration::from_secs(3600);

/// How many kinds of connections a thread remembers: some 200 bytes each. Those that were seen longest ago go first.
const MOST: usize = 8192;

/// Connections to a pod of this node that were accepted and have ended, all from the same source to the same port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecentConnection {
    /// Where they came from.
    pub source: IpAddr,
    /// The identity that their source proved by its certificate; none for plaintext.
    pub identity: Option<SpiffeId>,
    /// The workload that has the source's address, `namespace/name`.
    pub source_workload: Option<Box<str>>,
    /// The pod's address and port.
    pub destination: SocketAddr,
    /// The pod, `namespace/name`.
    pub destination_workload: Box<str>,
    /// How many there were.
    pub connections: u64,
    /// When the last of them ended.
    pub last: Instant,
}

/// Peers choose their addresses, so the map must be one whose hashes they cannot foresee.
type Key = (IpAddr, Option<SpiffeId>, SocketAddr);

/// Those of each thread.
#[derive(Debug, Default)]
pub(super) struct RecentConnections {
    lists: Lists<HashMap<Key, RecentConnection>>,
}

impl RecentConnections {
    /// A connection that was accepted has ended.
    pub(super) fn note(&self, opening: &Opening, now: Instant) {
        let key = (opening.source.ip(), opening.peer.identity.clone(), opening.destination);
        let mut seen = self.lists.own();
        if let Some(known) = seen.get_mut(&key) {
            known.connections += 1;
            known.last = now;
            return;
        }
        if seen.len() >= MOST {
            make_room(&mut seen, now);
        }
        let workload = opening.peer.workload.as_ref();
        let recent = RecentConnection {
            source: key.0,
            identity: key.1.clone(),
            source_workload: workload.map(|workload| format!("{}/{}", workload.namespace, workload.name).into()),
            destination: opening.destination,
            destination_workload: format!("{}/{}", opening.pod.namespace, opening.pod.name).into(),
            connections: 1,
            last: now,
        };
        seen.insert(key, recent);
    }

    /// Those of the last hour. What two threads have seen is there twice.
    pub(super) fn list(&self, now: Instant) -> Vec<RecentConnection> {
        let of_list = |list: &Mutex<HashMap<Key, RecentConnection>>| {
            let seen = crate::lists::lock(list);
            let recent = seen.values().filter(|one| is_recent(one, now));
            recent.cloned().collect::<Vec<_>>()
        };
        self.lists.all().flat_map(of_list).collect()
    }
}

fn is_recent(one: &RecentConnection, now: Instant) -> bool {
    now.saturating_duration_since(one.last) < MEMORY
}

/// Forgets what is too old; where nothing is, the older half.
fn make_room(seen: &mut HashMap<Key, RecentConnection>, now: Instant) {
    seen.retain(|_, one| is_recent(one, now));
    if seen.len() < MOST {
        return;
    }
    let mut times: Vec<Instant> = seen.values().map(|one| one.last).collect();
    let middle = times.len() / 2;
    let (_, median, _) = times.select_nth_unstable(middle);
    let median = *median;
    seen.retain(|_, one| one.last > median);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Direction, Peer,
        tests::{opening, workload},
    };

    fn from(n: u16, recent: &RecentConnections, now: Instant) {
        let [high, low] = n.to_be_bytes();
        let mut opening = opening(Direction::Inbound, &workload("cart-1"));
        opening.source = SocketAddr::from(([198, 18, high, low], 40_000));
        recent.note(&opening, now);
    }

    #[test]
    fn alike_connections_are_one_entry_and_whoever_proved_another_identity_is_not_alike() {
        let (recent, now) = (RecentConnections::default(), Instant::now());
        from(1, &recent, now);
        from(1, &recent, now + Duration::from_secs(1));
        let mut plain = opening(Direction::Inbound, &workload("cart-1"));
        plain.source = "198.18.0.1:40001".parse().unwrap();
        plain.peer = Peer::default();
        recent.note(&plain, now);
        let mut all = recent.list(now + Duration::from_secs(2));
        all.sort_by_key(|one| one.connections);
        let seen: Vec<_> = all
            .iter()
            .map(|one| (one.connections, one.identity.is_some()))
            .collect();
        assert_eq!(seen, [(1, false), (2, true)]);
        assert_eq!(all[1].last, now + Duration::from_secs(1));
        assert_eq!(&*all[1].destination_workload, "shop/web-1");
        assert_eq!(all[1].source_workload.as_deref(), Some("shop/cart-1"));
    }

    #[test]
    fn what_is_older_than_an_hour_is_forgotten() {
        let (recent, now) = (RecentConnections::default(), Instant::now());
        from(1, &recent, now);
        assert_eq!(recent.list(now + MEMORY - Duration::from_secs(1)).len(), 1);
        assert_eq!(recent.list(now + MEMORY).len(), 0);
    }

    #[test]
    fn memory_is_bounded_and_the_latest_stay() {
        let (recent, now) = (RecentConnections::default(), Instant::now());
        let more = MOST as u16 * 2;
        for n in 0..more {
            from(n, &recent, now + Duration::from_millis(n.into()));
        }
        let all = recent.list(now);
        assert!(all.len() <= MOST, "{}", all.len());
        let last = SocketAddr::from(([198, 18, (more - 1).to_be_bytes()[0], (more - 1).to_be_bytes()[1]], 0));
        assert!(all.iter().any(|one| one.source == last.ip()));
    }
}
