//! Tunnels that flows share.
//!
//! All connections of a pod to the same workload share one tunnel: that was measured to be cheaper than a tunnel
//! each, for requests and for new connections. When a tunnel carries as many streams as the peer allows, another one
//! is dialled beside it. The key holds the destination workload's uid, because addresses are given to new pods, and
//! the pod of this node that is the source, because a tunnel says who that is.

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use culvert_hbone::OpenError;
use culvert_identity::SpiffeId;
use rustc_hash::FxHashMap;

use super::{
    Loop,
    arena::{Arena, Key},
    failure::Failure,
    flow::{Far, Flow, Phase, Stream},
    headers,
    tunnel::{State, Tunnel},
};
use culvert_state::{Pod, Workload};

/// Streams to expect of a tunnel that is still connecting; most peers allow so many.
const STREAMS: usize = 100;

/// Tunnels to one workload that connect at the same time.
const CONNECTING: usize = 8;

/// Who may share a tunnel.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct PoolKey {
    pod: Arc<str>,
    source: SpiffeId,
    node: SocketAddr,
    workload: Arc<str>,
    identities: Arc<[SpiffeId]>,
}

impl PoolKey {
    pub(super) fn new(pod: &Pod, node: SocketAddr, workload: &Workload, identities: Arc<[SpiffeId]>) -> Self {
        Self {
            pod: Arc::clone(&pod.uid),
            source: pod.identity.clone(),
            node,
            workload: Arc::clone(&workload.uid),
            identities,
        }
    }
}

/// The tunnels with one key, and who waits for one.
#[derive(Debug)]
pub(super) struct Group {
    key: PoolKey,
    /// An address of the destination workload, to see whether it is still there.
    address: IpAddr,
    open: Vec<Key<Tunnel>>,
    connecting: Vec<Key<Tunnel>>,
    waiting: VecDeque<Key<Flow>>,
}

impl Group {
    /// Who may answer at the other end.
    pub(super) fn identities(&self) -> Arc<[SpiffeId]> {
        Arc::clone(&self.key.identities)
    }
}

/// All client tunnels of a loop.
#[derive(Debug)]
pub(super) struct Pool {
    by_key: FxHashMap<PoolKey, Key<Group>>,
    groups: Arena<Group>,
}

impl Pool {
    pub(super) fn new() -> Self {
        Self {
            by_key: FxHashMap::default(),
            groups: Arena::new(),
        }
    }

    pub(super) fn group(&self, key: Key<Group>) -> Option<&Group> {
        self.groups.get(key)
    }

    /// A tunnel is gone, or takes no more streams.
    fn forget(&mut self, group: Key<Group>, tunnel: Key<Tunnel>) {
        let Some(group) = self.groups.get_mut(group) else {
            return;
        };
        group.open.retain(|open| *open != tunnel);
        group.connecting.retain(|connecting| *connecting != tunnel);
    }

    /// Drops a group that nobody uses.
    fn tidy(&mut self, key: Key<Group>) {
        let unused = |group: &Group| group.open.is_empty() && group.connecting.is_empty() && group.waiting.is_empty();
        if self.groups.get(key).is_some_and(unused) {
            self.abandon(key);
        }
    }

    fn abandon(&mut self, key: Key<Group>) -> Option<Box<Group>> {
        let group = self.groups.remove(key)?;
        self.by_key.remove(&group.key);
        Some(group)
    }
}

impl Loop {
    /// Gets a flow a stream to its destination: at once on an open tunnel, or as soon as one is open.
    pub(super) fn acquire(&mut self, flow: Key<Flow>, key: PoolKey, address: IpAddr) {
        let group = match self.pool.by_key.get(&key) {
            Some(group) => *group,
            None => {
                let group = Group {
                    key: key.clone(),
                    address,
                    open: Vec::new(),
                    connecting: Vec::new(),
                    waiting: VecDeque::new(),
                };
                let group = self.pool.groups.insert(group);
                self.pool.by_key.insert(key, group);
                group
            }
        };
        if let Some(flow) = self.flows.get_mut(flow) {
            flow.phase = Phase::Queued;
        }
        if let Some(group) = self.pool.groups.get_mut(group) {
            group.waiting.push_back(flow);
        }
        self.serve_waiting(group);
    }

    /// Hands streams to those who wait, and dials another tunnel if there are not enough.
    pub(super) fn serve_waiting(&mut self, group_key: Key<Group>) {
        while let Some(group) = self.pool.groups.get_mut(group_key) {
            let Some(flow) = group.waiting.front().copied() else {
                break;
            };
            if self.flows.get(flow).is_none_or(|flow| flow.phase != Phase::Queued) {
                group.waiting.pop_front();
                continue;
            }
            let tunnels = &self.tunnels;
            let open = group.open.iter().copied().find(|tunnel| {
                let tunnel = tunnels.get(*tunnel);
                tunnel.is_some_and(|tunnel| matches!(&tunnel.state, State::Open(it) if it.can_open()))
            });
            let Some(tunnel) = open else { break };
            group.waiting.pop_front();
            self.request(flow, tunnel);
        }
        self.grow(group_key);
        self.pool.tidy(group_key);
    }

    fn grow(&mut self, group_key: Key<Group>) {
        while let Some(group) = self.pool.groups.get_mut(group_key) {
            let enough = group.connecting.len() * STREAMS >= group.waiting.len();
            // A peer whose tunnel is idle and takes no stream will not take one on the next either.
            let tunnels = &self.tunnels;
            let pointless = group.open.iter().any(|tunnel| {
                let tunnel = tunnels.get(*tunnel);
                tunnel.is_some_and(|tunnel| tunnel.streams.is_empty() && tunnel.takes_none())
            });
            if enough || pointless || group.connecting.len() >= CONNECTING {
                return;
            }
            let Some(flow) = group.waiting.front().and_then(|flow| self.flows.get(*flow)) else {
                return;
            };
            let tunnel = Tunnel::to_dial(&flow.pod, group.key.node, group_key, self.now);
            let tunnel = self.tunnels.insert(tunnel);
            group.connecting.push(tunnel);
            self.open_tunnel(tunnel);
        }
    }

    /// Asks for a stream on an open tunnel.
    fn request(&mut self, flow_key: Key<Flow>, tunnel_key: Key<Tunnel>) {
        let Some(flow) = self.flows.get_mut(flow_key) else {
            return;
        };
        let Some(tunnel) = self.tunnels.get_mut(tunnel_key) else {
            return;
        };
        let State::Open(connection) = &mut tunnel.state else {
            return;
        };
        let baggage = flow.pod.baggage(&self.mesh);
        let forwarded = headers::forwarded(flow.source, flow.service.as_deref());
        let headers = [("baggage", &*baggage), ("forwarded", &forwarded)];
        match connection.open(&flow.target.into(), &headers) {
            Ok(id) => {
                flow.phase = Phase::Requested;
                flow.far = Far::Stream(Stream {
                    tunnel: tunnel_key,
                    id,
                    ended: false,
                });
                flow.peer.identity.clone_from(&tunnel.identity);
                tunnel.streams.insert(id, flow_key);
                self.touch(tunnel_key);
                self.ask_for_life(tunnel_key);
            }
            Err(error @ (OpenError::Busy(_) | OpenError::GoingAway)) => {
                self.attempt_failed(flow_key, Failure::TunnelLost(error.to_string().into()));
            }
            Err(error @ OpenError::TooLarge(_)) => {
                self.end(flow_key, Err(Failure::BadRequest(error.to_string().into())));
            }
        }
    }

    /// A tunnel that was dialled is ready.
    pub(super) fn join_pool(&mut self, group_key: Key<Group>, tunnel: Key<Tunnel>) {
        let Some(group) = self.pool.groups.get_mut(group_key) else {
            return;
        };
        group.connecting.retain(|connecting| *connecting != tunnel);
        group.open.push(tunnel);
        self.serve_waiting(group_key);
    }

    /// A tunnel takes no more streams; those who wait need another.
    pub(super) fn leave_pool(&mut self, group_key: Key<Group>, tunnel: Key<Tunnel>) {
        self.pool.forget(group_key, tunnel);
        self.serve_waiting(group_key);
    }

    /// A tunnel could not be opened. Those who wait try again later, unless another one may still serve them.
    pub(super) fn dial_failed(&mut self, group_key: Key<Group>, tunnel: Key<Tunnel>, failure: &Failure) {
        self.pool.forget(group_key, tunnel);
        let Some(group) = self.pool.groups.get_mut(group_key) else {
            return;
        };
        if group.connecting.is_empty() && group.open.is_empty() {
            for flow in std::mem::take(&mut group.waiting) {
                if self.flows.get(flow).is_some_and(|flow| flow.phase == Phase::Queued) {
                    self.attempt_failed(flow, failure.clone());
                }
            }
        }
        self.pool.tidy(group_key);
    }

    /// A flow no longer waits for a tunnel.
    pub(super) fn withdraw(&mut self, flow: Key<Flow>) {
        for (_, group) in self.pool.groups.iter_mut() {
            group.waiting.retain(|waiting| *waiting != flow);
        }
    }

    /// The mesh changed at some addresses: no new stream goes to a workload that it no longer has at its address.
    pub(super) fn check_pool(&mut self, changed: impl Fn(IpAddr) -> bool) {
        for key in self.pool.groups.keys() {
            let Some(group) = self.pool.groups.get(key) else {
                continue;
            };
            if !changed(group.address) {
                continue;
            }
            let workload = self.mesh.workload_at(group.address);
            if workload.is_some_and(|workload| workload.uid == group.key.workload) {
                continue;
            }
            tracing::debug!(workload = %group.key.workload, "closing the tunnels to a workload that is gone");
            let Some(group) = self.pool.abandon(key) else { continue };
            for tunnel in group.open.into_iter().chain(group.connecting) {
                self.retire_tunnel(tunnel);
            }
            for flow in group.waiting {
                if self.flows.get(flow).is_some_and(|flow| flow.phase == Phase::Queued) {
                    self.resolve(flow);
                }
            }
        }
    }
}
