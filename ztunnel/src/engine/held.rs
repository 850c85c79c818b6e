//! What connections hold, and what that does to credit. What is done where it is too much is in `account`.

use std::sync::Arc;

use super::{
    flow::Flow,
    keys::TunnelKey,
    loop_state::{Loop, Todo},
    tunnel::{State, Tunnel},
};

impl Loop {
    /// A flow that has ended holds nothing any more.
    pub(super) fn unaccount(&mut self, flow: &mut Flow) {
        let held = std::mem::take(&mut flow.held);
        if held == 0 {
            return;
        }
        self.budget.change(&flow.pod.pod.uid, held, 0);
        if let Some(stream) = flow.stream() {
            if let Some(tunnel) = self.tunnels.get_mut(stream.tunnel) {
                tunnel.held = tunnel.held.saturating_sub(held);
            }
            self.regulate(stream.tunnel);
        }
    }

    /// Withholds credit from a tunnel that holds too much, or gives what was withheld.
    pub(super) fn regulate(&mut self, key: TunnelKey) {
        let Some(tunnel) = self.tunnels.get_mut(key) else {
            return;
        };
        let State::Open(connection) = &mut tunnel.state else {
            return;
        };
        let withhold = tunnel.held > 0 && tunnel.held as u64 > self.budget.tunnel_limit(&tunnel.pod.pod.uid);
        if connection.withhold(withhold) {
            self.touch(key);
        }
    }

    /// Counts what a tunnel keeps for a peer that does not take it.
    pub(super) fn account_unsent(&mut self, key: TunnelKey) {
        let Some(tunnel) = self.tunnels.get_mut(key) else {
            return;
        };
        let after = match &tunnel.state {
            State::Open(connection) if tunnel.blocked => connection.output_len(),
            _ => 0,
        };
        if after == tunnel.unsent {
            return;
        }
        let before = std::mem::replace(&mut tunnel.unsent, after);
        let pod = &tunnel.pod.pod.uid;
        self.budget.change(pod, before, after);
        if after > before && self.budget.refuses(pod) {
            let pod = Arc::clone(pod);
            self.todo.push_back(Todo::Unsent(pod));
        }
    }

    /// Takes a tunnel out, with what it keeps for its peer.
    pub(super) fn take_tunnel(&mut self, key: TunnelKey) -> Option<Box<Tunnel>> {
        let tunnel = self.tunnels.remove(key)?;
        self.budget.change(&tunnel.pod.pod.uid, tunnel.unsent, 0);
        Some(tunnel)
    }

    /// The regular look: shows what is held.
    pub(super) fn publish_held(&mut self) {
        let metrics = self.shared.telemetry.proxy();
        metrics.held_bytes.set(self.budget.all().held() as i64);
        metrics.held_limit.set(self.budget.all().limit() as i64);
        if self.budget.is_calm() {
            self.warned_of_room = false;
        }
    }
}
