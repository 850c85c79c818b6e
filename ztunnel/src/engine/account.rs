//! Counting what connections hold, and ending those that hold most where it is too much.

use std::sync::Arc;

use culvert_hbone::{ErrorCode, StreamId};
use culvert_tunnel::{budget::Excess, failure::Failure};

use super::{
    keys::{FlowKey, TunnelKey},
    loop_state::Loop,
    tunnel::State,
};

impl Loop {
    /// Counts what a flow holds now, and does what the room that is left demands.
    pub(super) fn account(&mut self, key: FlowKey) {
        let Some(flow) = self.flows.get_mut(key) else { return };
        let after = flow.holds();
        if after == flow.held {
            return;
        }
        let before = std::mem::replace(&mut flow.held, after);
        let (pod, stream) = (Arc::clone(&flow.pod.pod.uid), flow.stream());
        self.budget.change(&pod, before, after);
        if let Some(stream) = stream {
            if let Some(tunnel) = self.tunnels.get_mut(stream.tunnel) {
                tunnel.held = (tunnel.held + after).saturating_sub(before);
            }
            self.regulate(stream.tunnel);
        }
        if after > before {
            self.shed(&pod);
        }
    }

    /// Refuses a stream where a tunnel or its pod has enough; returns whether it did.
    pub(super) fn refuse_stream(&mut self, key: TunnelKey, id: StreamId) -> bool {
        let Some(tunnel) = self.tunnels.get_mut(key) else {
            return true;
        };
        let reason = if tunnel.life.is_stale() {
            "certificate"
        } else if tunnel.streams.len() >= self.config.hbone.max_streams as usize {
            // Both directions of the others may have ended; their applications have not taken everything.
            "streams"
        } else if self.budget.refuses(&tunnel.pod.pod.uid) {
            "memory"
        } else {
            return false;
        };
        tracing::debug!(peer = %tunnel.peer, pod = %tunnel.pod.pod.uid, reason, "a stream is refused");
        if let State::Open(connection) = &mut tunnel.state {
            connection.reset(id, ErrorCode::RefusedStream);
        }
        let refused = &self.shared.telemetry.proxy().refused_streams;
        refused.get_or_create(&[("reason", reason)]).inc();
        self.touch(key);
        true
    }

    /// Resets what holds most while a limit is exceeded.
    fn shed(&mut self, pod: &Arc<str>) {
        while let Some(excess) = self.budget.excess(pod) {
            let holders = self
                .flows
                .iter_mut()
                .filter(|(_, flow)| flow.held > 0 && (excess == Excess::Proxy || flow.pod.pod.uid == *pod));
            let Some((key, flow)) = holders.max_by_key(|(_, flow)| flow.held) else {
                return;
            };
            let held = flow.held;
            if !std::mem::replace(&mut self.warned_of_room, true) {
                tracing::warn!(
                    pod = %flow.pod.pod.uid,
                    destination = %flow.destination,
                    held,
                    limit = self.budget.limit(excess),
                    ?excess,
                    "too much is held for applications that do not read; resetting the connections that hold most"
                );
            }
            self.shared.telemetry.proxy().shed_connections.inc();
            self.end(key, Err(Failure::TooMuchHeld(held)));
        }
    }
}
