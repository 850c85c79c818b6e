//! Streams for flows, on tunnels that they share.

use culvert_hbone::OpenError;
use culvert_tunnel::{
    failure::Failure,
    pool::{Capacity, GroupKey, Next},
};

use super::{
    flow::{Far, Phase, Stream},
    headers,
    keys::{FlowKey, TunnelKey},
    loop_state::{Loop, Todo},
    pool_key::PoolKey,
    timer::Due,
    tunnel::{State, Tunnel},
};

impl Loop {
    /// Gets a flow a stream to its destination: at once on an open tunnel, or as soon as one is open.
    pub(super) fn acquire(&mut self, flow: FlowKey, key: PoolKey) {
        if let Some(flow) = self.flows.get_mut(flow) {
            flow.phase = Phase::Queued;
        }
        let group = self.pool.wait(key, flow);
        self.serve_waiting(group);
    }

    /// Hands streams to those who wait, and dials another tunnel if there are not enough.
    pub(super) fn serve_waiting(&mut self, group: GroupKey) {
        loop {
            let (flows, tunnels) = (&self.flows, &self.tunnels);
            let waits = |flow: &FlowKey| flows.get(*flow).is_some_and(|flow| flow.phase == Phase::Queued);
            let capacity = |tunnel| tunnels.get(tunnel).map_or(Capacity::Full, capacity);
            match self.pool.next(group, waits, capacity) {
                Next::Give(flow, tunnel) => self.request(flow, tunnel),
                Next::Dial => self.dial_another(group),
                Next::Nothing => return,
            }
        }
    }

    fn dial_another(&mut self, group: GroupKey) {
        let first = self.pool.first(group).and_then(|flow| self.flows.get(*flow));
        let (Some(flow), Some(key)) = (first, self.pool.key(group)) else {
            return;
        };
        self.tunnels_made += 1;
        let tunnel = Tunnel::to_dial(&flow.pod, key.tunnel, group, self.tunnels_made, self.now);
        let tunnel = self.tunnels.insert(tunnel);
        self.pool.dialling(group, tunnel);
        self.todo.push_back(Todo::Open(tunnel));
    }

    /// Asks for a stream on an open tunnel.
    fn request(&mut self, flow_key: FlowKey, tunnel_key: TunnelKey) {
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
        match connection.open(&flow.authority, &headers) {
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
                let failure = Failure::TunnelLost(error.to_string().into());
                self.todo.push_back(Todo::Failed(flow_key, failure));
            }
            Err(error @ OpenError::TooLarge(_)) => {
                self.end(flow_key, Err(Failure::bad_request(&error)));
            }
        }
    }

    /// A connection was asked for on this tunnel: if nothing was heard of the peer for a while, it must answer soon.
    fn ask_for_life(&mut self, key: TunnelKey) {
        let Some(tunnel) = self.tunnels.get_mut(key) else {
            return;
        };
        let Some(asks) = tunnel.life.ask(self.now, &self.config.limits) else {
            return;
        };
        if let (true, Some(connection)) = (asks, tunnel.connection()) {
            connection.ping(*b"culvert?");
        }
        self.timers.set(self.now + self.config.doubt_timeout, Due::Doubt(key));
    }

    /// A tunnel that was dialled is ready.
    pub(super) fn join_pool(&mut self, group: GroupKey, tunnel: TunnelKey) {
        if self.pool.joined(group, tunnel) {
            self.serve_waiting(group);
        }
    }

    /// A tunnel takes no more streams; those who wait need another.
    pub(super) fn leave_pool(&mut self, group: GroupKey, tunnel: TunnelKey) {
        self.pool.left(group, tunnel);
        self.serve_waiting(group);
    }

    /// A tunnel could not be opened. Those who wait try again later, unless another one may still serve them.
    pub(super) fn dial_failed(&mut self, group: GroupKey, tunnel: TunnelKey, failure: &Failure) {
        for flow in self.pool.failed(group, tunnel) {
            if self.flows.get(flow).is_some_and(|flow| flow.phase == Phase::Queued) {
                self.todo.push_back(Todo::Failed(flow, failure.clone()));
            }
        }
    }
}

fn capacity(tunnel: &Tunnel) -> Capacity {
    match &tunnel.state {
        State::Open(connection) if connection.can_open() => Capacity::Free,
        State::Open(connection) if tunnel.streams.is_empty() && !connection.is_going_away() => Capacity::Never,
        _ => Capacity::Full,
    }
}
