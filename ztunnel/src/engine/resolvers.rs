//! Pods' resolvers: what was forwarded to them and by which sockets, and what waits for a socket.
//!
//! A [`Lane`] is one resolver of one pod: the socket that its queries arrive on, and the sockets by which they go on. There are two of
//! these, used in turn: one that has had its share is connected anew when nobody waits for an answer on it any more, so that it
//! gets another port of the kernel's choice. Queries share a socket, and are told apart by an identifier that is picked at random.

mod lane;

use std::{
    collections::VecDeque,
    hash::{BuildHasher as _, RandomState},
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use culvert_tunnel::arena::Arena;
use rustc_hash::FxHashMap;

use super::{
    held_queries::Held,
    keys::{LaneKey, LaneKind, UpstreamKey, UpstreamKind},
    sockets::LocalPod,
};

pub(super) use lane::{Asker, From, Lane, Unsent, Upstream, Way};

/// Queries of a pod that may wait for an answer, and of all pods, in one loop.
const PER_POD: u32 = 1024;
const IN_ALL: usize = 16384;

/// How long a query waits for its answer, or for a socket. Stub resolvers ask again sooner.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Sockets of a lane.
pub(super) const SOCKETS: u32 = 2;

/// Before sockets that were asked for and did not come are asked for again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// After so much time without a query, a lane's sockets are closed.
const IDLE: Duration = Duration::from_secs(60);

/// What to do with a query that is to be forwarded.
#[derive(Debug)]
pub(super) enum Route {
    /// Send it here, under this identifier.
    Socket(UpstreamKey, u16),
    /// It waits for a socket, which is to be asked for.
    Request(u32),
    /// It waits for a socket that was asked for.
    Wait,
    /// There is no way to the resolver.
    Unreachable(io::Error),
}

/// All of a loop's lanes.
#[derive(Debug)]
pub(super) struct Resolvers {
    pub(super) lanes: Arena<Lane, LaneKind>,
    pub(super) upstreams: Arena<Upstream, UpstreamKind>,
    /// For the proxy's own questions, by the pod's uid.
    own: FxHashMap<Arc<str>, LaneKey>,
    /// What waits for the controller's word.
    pub(super) held: Held,
    /// What waits, in the order in which it began to.
    expiries: VecDeque<(Instant, Expiry)>,
    waiting: usize,
    seed: RandomState,
    counter: u64,
}

/// What waits.
#[derive(Clone, Copy, Debug)]
enum Expiry {
    Answer(UpstreamKey, u16),
    Socket(LaneKey),
}

impl Default for Resolvers {
    fn default() -> Self {
        Self {
            lanes: Arena::new(),
            upstreams: Arena::new(),
            own: FxHashMap::default(),
            held: Held::default(),
            expiries: VecDeque::new(),
            waiting: 0,
            seed: RandomState::new(),
            counter: 0,
        }
    }
}

impl Resolvers {
    /// A socket on which queries of a pod arrive.
    pub(super) fn open(&mut self, pod: &Rc<LocalPod>, socket: Rc<OwnedFd>, now: Instant) -> LaneKey {
        self.add(pod, Some(socket), now)
    }

    /// Where the proxy's own questions leave a pod.
    pub(super) fn own(&mut self, pod: &Rc<LocalPod>, now: Instant) -> LaneKey {
        let uid = &pod.pod.uid;
        let is_of_pod = |key: &LaneKey| self.lanes.get(*key).is_some_and(|lane| Rc::ptr_eq(&lane.pod, pod));
        if let Some(key) = self.own.get(uid).copied().filter(is_of_pod) {
            return key;
        }
        self.close_own(uid);
        let key = self.add(pod, None, now);
        self.own.insert(Arc::clone(uid), key);
        key
    }

    /// A pod has gone, or has changed.
    pub(super) fn close_own(&mut self, uid: &str) {
        if let Some(key) = self.own.remove(uid) {
            self.close(key);
        }
    }

    /// The resolvers that a pod has asked, in the order of its sockets for them.
    pub(super) fn of_pod(
        &mut self,
        uid: &str,
        ask: fn(BorrowedFd<'_>) -> io::Result<SocketAddr>,
        now: Instant,
    ) -> Vec<SocketAddr> {
        let mut found = Vec::new();
        for key in self.lanes.keys() {
            let lane = self
                .lanes
                .get_mut(key)
                .filter(|lane| *lane.pod.pod.uid == *uid && !lane.closed);
            let resolver = lane.and_then(|lane| lane.resolver(ask, now).ok());
            found.extend(resolver.filter(|resolver| !found.contains(resolver)));
        }
        found
    }

    fn add(&mut self, pod: &Rc<LocalPod>, socket: Option<Rc<OwnedFd>>, now: Instant) -> LaneKey {
        self.lanes.insert(Lane {
            pod: Rc::clone(pod),
            socket,
            resolver: None,
            sockets: Vec::new(),
            waiting: VecDeque::new(),
            requested: None,
            used: now,
            closed: false,
        })
    }

    /// Nothing more arrives there. What waits is answered still.
    pub(super) fn close(&mut self, key: LaneKey) {
        if let Some(lane) = self.lanes.get_mut(key) {
            lane.closed = true;
        }
        self.forget_if_done(key);
    }

    /// Whether somebody waits for an answer.
    pub(super) fn is_busy(&self) -> bool {
        self.waiting > 0
    }

    /// Whether another query of a pod may wait.
    pub(super) fn has_room(&self, pod: &LocalPod) -> bool {
        pod.queries.get() < PER_POD && self.waiting < IN_ALL
    }

    /// Finds a way for a query. Where it must wait for a socket, [`Self::wait`] takes it in.
    pub(super) fn route(&mut self, key: LaneKey, resolver: SocketAddr, now: Instant) -> Route {
        let Some(lane) = self.lanes.get_mut(key) else {
            return Route::Wait;
        };
        lane.used = now;
        if lane.sockets.is_empty() {
            if lane.requested.is_some_and(|at| now < at + ASK_AGAIN) {
                return Route::Wait;
            }
            lane.requested = Some(now);
            return Route::Request(SOCKETS);
        }
        let source = lane.source(resolver);
        let Some(upstream) = self.pick(key, resolver, source, now) else {
            return Route::Wait;
        };
        match upstream {
            Ok(upstream) => match self.free_id(upstream) {
                Some(id) => Route::Socket(upstream, id),
                None => Route::Wait,
            },
            Err(error) => Route::Unreachable(error),
        }
    }

    /// The socket that is connected to the resolver and has not had its share; or one that can be connected anew.
    fn pick(
        &mut self,
        key: LaneKey,
        resolver: SocketAddr,
        source: Option<IpAddr>,
        now: Instant,
    ) -> Option<io::Result<UpstreamKey>> {
        let keys = self.lanes.get(key)?.sockets.clone();
        let find = |upstreams: &Arena<Upstream, UpstreamKind>, test: &dyn Fn(&Upstream) -> bool| {
            keys.iter().copied().find(|key| upstreams.get(*key).is_some_and(test))
        };
        if let Some(fresh) = find(&self.upstreams, &|upstream| upstream.is_fresh(resolver, now)) {
            return Some(Ok(fresh));
        }
        if let Some(free) = find(&self.upstreams, &|upstream| upstream.pending.is_empty()) {
            let upstream = self.upstreams.get_mut(free)?;
            let connected = culvert_net::dns::connect(upstream.fd.as_fd(), source, resolver);
            upstream.sent = 0;
            upstream.connected = connected.is_ok().then_some((resolver, now));
            return Some(connected.map(|()| free));
        }
        // Answers are awaited on all of them: rather the same port for longer than no answer.
        find(&self.upstreams, &|upstream| upstream.leads_to(resolver)).map(Ok)
    }

    fn free_id(&mut self, key: UpstreamKey) -> Option<u16> {
        const ATTEMPTS: usize = 64;
        let upstream = self.upstreams.get(key)?;
        for _ in 0..ATTEMPTS {
            self.counter += 1;
            let id = self.seed.hash_one(self.counter) as u16;
            if !upstream.pending.contains_key(&id) {
                return Some(id);
            }
        }
        None
    }

    /// A query was sent.
    pub(super) fn sent(&mut self, key: UpstreamKey, id: u16, asker: Asker) {
        let Some(lane) = self
            .upstreams
            .get(key)
            .and_then(|upstream| self.lanes.get(upstream.lane))
        else {
            return;
        };
        lane.pod.queries.set(lane.pod.queries.get() + 1);
        self.waiting += 1;
        self.forget_answered();
        self.expiries.push_back((asker.at + PATIENCE, Expiry::Answer(key, id)));
        if let Some(upstream) = self.upstreams.get_mut(key) {
            upstream.sent += 1;
            upstream.pending.insert(id, asker);
        }
    }

    /// Nearly all are answered long before their time, and need not be remembered until then.
    fn forget_answered(&mut self) {
        while let Some((at, Expiry::Answer(key, id))) = self.expiries.front() {
            if self.waits(*key, *id, *at) {
                return;
            }
            self.expiries.pop_front();
        }
    }

    /// Whether the query that expires then is still waiting. Its identifier may be another's by now.
    fn waits(&self, key: UpstreamKey, id: u16, expires: Instant) -> bool {
        let asker = self.upstreams.get(key).and_then(|upstream| upstream.pending.get(&id));
        asker.is_some_and(|asker| asker.at + PATIENCE == expires)
    }

    /// A query waits for a socket.
    pub(super) fn wait(&mut self, key: LaneKey, asker: Asker, resolver: SocketAddr, message: &[u8]) {
        let Some(lane) = self.lanes.get_mut(key) else {
            return;
        };
        lane.pod.queries.set(lane.pod.queries.get() + 1);
        self.waiting += 1;
        self.expiries.push_back((asker.at + PATIENCE, Expiry::Socket(key)));
        lane.waiting.push_back((asker, resolver, message.to_vec()));
    }

    /// Takes sockets in for a pod's lanes that asked for some. Those that are not needed are closed.
    pub(super) fn take_in(&mut self, uid: &str, sockets: Vec<OwnedFd>) -> Vec<UpstreamKey> {
        let mut sockets = sockets.into_iter();
        let mut new = Vec::new();
        for key in self.lanes.keys() {
            // Another lane's are on their way.
            if sockets.len() == 0 {
                break;
            }
            let Some(lane) = self.lanes.get_mut(key) else { continue };
            if *lane.pod.pod.uid != *uid || lane.closed || lane.requested.take().is_none() {
                continue;
            }
            for fd in sockets.by_ref().take(SOCKETS as usize - lane.sockets.len()) {
                let upstream = self.upstreams.insert(Upstream {
                    fd,
                    lane: key,
                    connected: None,
                    sent: 0,
                    pending: FxHashMap::default(),
                });
                lane.sockets.push(upstream);
                new.push(upstream);
            }
        }
        new
    }

    /// A socket cannot be used.
    pub(super) fn give_up(&mut self, key: UpstreamKey) {
        if let Some(upstream) = self.upstreams.remove(key)
            && let Some(lane) = self.lanes.get_mut(upstream.lane)
        {
            lane.sockets.retain(|other| *other != key);
        }
    }

    /// What waits for a socket in the lanes that have some now.
    pub(super) fn take_waiting(&mut self, uid: &str) -> Vec<(LaneKey, Unsent)> {
        let mut taken = Vec::new();
        for key in self.lanes.keys() {
            let Some(lane) = self.lanes.get_mut(key) else { continue };
            if *lane.pod.pod.uid != *uid || lane.sockets.is_empty() {
                continue;
            }
            let waiting = std::mem::take(&mut lane.waiting);
            self.waiting -= waiting.len();
            let left = lane.pod.queries.get().saturating_sub(waiting.len() as u32);
            lane.pod.queries.set(left);
            taken.extend(waiting.into_iter().map(|unsent| (key, unsent)));
        }
        taken
    }

    /// Who waits for a message under this identifier, if that answers it.
    pub(super) fn answered(&mut self, key: UpstreamKey, id: u16, message: &[u8]) -> Option<(Way, Asker)> {
        let upstream = self.upstreams.get_mut(key)?;
        if !upstream.pending.get(&id)?.head.is_answered_by(message) {
            return None;
        }
        let way = self.lanes.get(upstream.lane)?.way();
        let asker = upstream.pending.remove(&id)?;
        let lane = upstream.lane;
        self.settle(lane, 1);
        Some((way, asker))
    }

    /// The resolver refuses, or cannot be reached any more: who waits for it.
    pub(super) fn fail(&mut self, key: UpstreamKey) -> Option<(Way, Vec<Asker>)> {
        let upstream = self.upstreams.get_mut(key)?;
        let way = self.lanes.get(upstream.lane)?.way();
        let askers: Vec<Asker> = upstream.pending.drain().map(|(_, asker)| asker).collect();
        let lane = upstream.lane;
        self.settle(lane, askers.len());
        Some((way, askers))
    }

    /// When the next one has waited long enough.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.expiries.front().map(|(at, _)| *at)
    }

    /// Forgets those that have waited long enough. How many queries of applications waited for an answer, and how many of all for a
    /// socket.
    pub(super) fn expire(&mut self, now: Instant) -> (u64, u64) {
        let (mut unanswered, mut unsent) = (0, 0);
        while let Some((at, expiry)) = self.expiries.pop_front_if(|(at, _)| *at <= now) {
            match expiry {
                Expiry::Answer(key, id) => {
                    if self.waits(key, id, at)
                        && let Some(upstream) = self.upstreams.get_mut(key)
                    {
                        let asker = upstream.pending.remove(&id);
                        let lane = upstream.lane;
                        self.settle(lane, 1);
                        let is_of_client = |asker: Asker| matches!(asker.from, From::Client(_));
                        unanswered += u64::from(asker.is_some_and(is_of_client));
                    }
                }
                Expiry::Socket(key) => {
                    let Some(lane) = self.lanes.get_mut(key) else { continue };
                    let mut count = 0;
                    while lane
                        .waiting
                        .pop_front_if(|(asker, ..)| asker.at + PATIENCE <= now)
                        .is_some()
                    {
                        count += 1;
                    }
                    self.settle(key, count);
                    unsent += count as u64;
                }
            }
        }
        (unanswered, unsent)
    }

    /// Closes sockets that nobody has used for a while.
    pub(super) fn sweep(&mut self, now: Instant) {
        for key in self.lanes.keys() {
            let Some(lane) = self.lanes.get_mut(key) else { continue };
            let is_busy = |key: &UpstreamKey| {
                let upstream = self.upstreams.get(*key);
                upstream.is_some_and(|upstream| !upstream.pending.is_empty())
            };
            if now < lane.used + IDLE || lane.sockets.iter().any(is_busy) {
                continue;
            }
            for socket in std::mem::take(&mut lane.sockets) {
                self.upstreams.remove(socket);
            }
        }
    }

    fn settle(&mut self, key: LaneKey, count: usize) {
        self.waiting -= count;
        if let Some(lane) = self.lanes.get(key) {
            let left = lane.pod.queries.get().saturating_sub(count as u32);
            lane.pod.queries.set(left);
        }
        self.forget_if_done(key);
    }

    fn forget_if_done(&mut self, key: LaneKey) {
        let Some(lane) = self.lanes.get(key).filter(|lane| lane.closed) else {
            return;
        };
        let is_done = |key: &UpstreamKey| {
            let upstream = self.upstreams.get(*key);
            upstream.is_none_or(|upstream| upstream.pending.is_empty())
        };
        if lane.waiting.is_empty()
            && lane.sockets.iter().all(is_done)
            && let Some(lane) = self.lanes.remove(key)
        {
            for socket in lane.sockets {
                self.upstreams.remove(socket);
            }
        }
    }
}

#[cfg(test)]
mod tests;
