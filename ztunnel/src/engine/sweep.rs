//! The regular look at everything: what is idle, what is silent, what no longer holds, what is owed to statistics.

use std::time::SystemTime;

use culvert_hbone::{ErrorCode, Role};
use culvert_tunnel::{failure::Failure, life::Act, proof::Finding};

use super::{
    flow::Phase,
    keys::{FlowKey, TunnelKey},
    loop_state::Loop,
    tunnel::{State, Tunnel},
};

/// Chains that are verified again in one look: each costs some 0.1 ms of the thread that carries traffic.
const VERIFICATIONS: usize = 64;

impl Loop {
    /// Closes idle tunnels, asks silent ones for a sign of life, gives up those whose certificates no longer hold, gives back the
    /// memory that nobody uses any more, and publishes the counters of open connections.
    pub(super) fn sweep(&mut self) {
        let today = SystemTime::now();
        let mut verifications = VERIFICATIONS;
        for key in self.tunnels.keys() {
            self.look_at_proof(key, today, &mut verifications);
            self.regulate(key);
            self.look_at_tunnel(key);
        }
        // What was asked of silent peers just now is still to be written, and goes out of buffers that stay.
        self.buffer.rest();
        culvert_hbone::release_unused();
        self.close_idle();
        self.publish_held();
        self.publish_load();
        for (_, flow) in self.flows.iter_mut() {
            if let Some(record) = &mut flow.record {
                record.publish();
            }
            // Not before: most connections do not live to see it.
            for near in [true, false] {
                if let Some(socket) = flow.side(near) {
                    socket.keep_alive(self.config.keepalive);
                }
            }
        }
        for pod in self.pods.values() {
            pod.ask_again(&self.shared.socket_requests);
        }
        self.forget_the_dead();
    }

    /// Closes the accepted tunnels that have been idle longest where there are too many: each is a descriptor and some memory, and
    /// whoever has a certificate can open them.
    fn close_idle(&mut self) {
        let most = self.config.admission.idle;
        let is_idle = |tunnel: &Tunnel| {
            let open = matches!(tunnel.state, State::Open(_)) && !tunnel.life.is_retiring();
            open && tunnel.role == Role::Server && tunnel.streams.is_empty()
        };
        let idle = self.tunnels.iter_mut().filter(|(_, tunnel)| is_idle(tunnel));
        let mut idle: Vec<_> = idle.map(|(key, tunnel)| (tunnel.life.idle_since(), key)).collect();
        let Some(excess) = idle.len().checked_sub(most).filter(|excess| *excess > 0) else {
            return;
        };
        idle.sort_unstable_by_key(|(since, _)| *since);
        tracing::warn!(
            idle = idle.len(),
            most,
            "peers have too many tunnels open that carry nothing; closing those idle longest"
        );
        for (_, key) in idle.into_iter().take(excess) {
            self.count_given_up("idle");
            self.retire_tunnel(key);
        }
    }

    /// While nothing changes, nobody looks at what waits for a change; what has given up meanwhile must not gather there.
    fn forget_the_dead(&mut self) {
        let (flows, tunnels) = (&self.flows, &self.tunnels);
        self.parked
            .retain(|key| flows.get(*key).is_some_and(|flow| flow.phase == Phase::Parked));
        self.uncertified.retain(|key| {
            let tunnel = tunnels.get(*key);
            tunnel.is_some_and(|tunnel| matches!(tunnel.state, State::Uncertified))
        });
    }

    /// Compares what was proved with the clock and with the roots of today.
    fn look_at_proof(&mut self, key: TunnelKey, today: SystemTime, verifications: &mut usize) {
        let Some(tunnel) = self.tunnels.get_mut(key) else {
            return;
        };
        if !matches!(tunnel.state, State::Open(_)) || tunnel.life.is_stale() {
            return;
        }
        let held = self.credentials.get(&tunnel.pod.pod.identity);
        let held = held.map(AsRef::as_ref);
        let why = match tunnel.proof.look(today, held, tunnel.identity.as_ref(), verifications) {
            Finding::Holds => return,
            Finding::Expired(why) => why,
            Finding::Broken(why) => {
                tunnel.life.expire(self.now);
                why
            }
        };
        let cut_after = tunnel.life.is_stale().then_some(self.config.limits.stale_grace);
        tracing::info!(
            peer = %tunnel.peer, identity = ?tunnel.identity, pod = %tunnel.pod.pod.uid, streams = tunnel.streams.len(),
            ?cut_after, why, "a tunnel takes no new connections"
        );
        self.count_given_up("certificate");
        self.retire_tunnel(key);
    }

    fn look_at_tunnel(&mut self, key: TunnelKey) {
        let Some(tunnel) = self.tunnels.get_mut(key) else {
            return;
        };
        if !matches!(tunnel.state, State::Open(_)) {
            return;
        }
        let load = tunnel.load();
        let group = tunnel.group;
        match tunnel.life.look(self.now, &self.config.limits, load) {
            Act::Nothing => {
                if let (0, Some(group)) = (load.streams, group) {
                    // The peer may allow more than before.
                    self.serve_waiting(group);
                }
            }
            Act::Ping => {
                if let Some(connection) = tunnel.connection() {
                    connection.ping(*b"culvert?");
                }
                self.touch(key);
            }
            Act::Retire => self.retire_tunnel(key),
            Act::Part => self.part(key),
            Act::Abort => {
                if let Some(connection) = tunnel.connection() {
                    connection.abort(ErrorCode::SettingsTimeout);
                }
                let failure = lost(
                    tunnel,
                    "the peer does not begin to speak HTTP/2, or does not acknowledge our settings",
                );
                self.complain(key, &failure.to_string(), 0);
                self.dismiss_tunnel(key, &failure);
            }
            Act::Silent => {
                let failure = lost(tunnel, "the peer does not answer pings");
                self.count_given_up("silent");
                self.lose_tunnel(key, &failure);
            }
            Act::Stale => {
                let failure = lost(tunnel, "the certificates that opened it no longer hold");
                self.lose_tunnel(key, &failure);
            }
        }
    }

    /// The peer had time to answer. If it has not, what waits for it goes to another tunnel.
    pub(super) fn doubt_tunnel(&mut self, key: TunnelKey) {
        let Some(tunnel) = self.tunnels.get_mut(key) else {
            return;
        };
        if tunnel.paused || !matches!(tunnel.state, State::Open(_)) {
            return;
        }
        let Some(news) = tunnel.life.doubt() else { return };
        let failure = lost(tunnel, "no sign of life from the peer");
        let flows = &self.flows;
        let waits = |flow: &FlowKey| flows.get(*flow).is_some_and(|flow| flow.phase == Phase::Requested);
        let waiting: Vec<_> = tunnel
            .streams
            .iter()
            .filter(|(_, flow)| waits(flow))
            .map(|(id, flow)| (*id, *flow))
            .collect();
        let group = tunnel.group;
        if news {
            tracing::info!(peer = %tunnel.peer, pod = %tunnel.pod.pod.uid, "a tunnel gives no sign of life; opening another beside it");
            self.count_given_up("silent");
        }
        if let Some(group) = group {
            self.leave_pool(group, key);
        }
        for (id, flow) in waiting {
            if let Some(connection) = self.tunnels.get_mut(key).and_then(Tunnel::connection) {
                connection.reset(id, ErrorCode::Cancel);
            }
            self.stream_gone(key, id);
            // No byte of the application has left: it may be tried again.
            self.attempt_failed(flow, failure.clone());
        }
    }

    fn count_given_up(&self, reason: &'static str) {
        let given_up = &self.shared.telemetry.proxy().tunnels_given_up;
        given_up.get_or_create(&[("reason", reason)]).inc();
    }
}

fn lost(tunnel: &Tunnel, why: &str) -> Failure {
    Failure::Tunnel {
        to: tunnel.peer,
        why: why.into(),
        final_: false,
    }
}
