//! What the loop has open, for metrics.

use culvert_hbone::Role;

use super::{flow::Phase, loop_state::Loop, tunnel::State};
use crate::telemetry::Load;

impl Loop {
    /// The regular look: shows what is open and what waits.
    pub(super) fn publish_load(&mut self) {
        let now = self.load();
        let before = std::mem::replace(&mut self.load_shown, now);
        self.shared.telemetry.load().replace(before, now);
    }

    fn load(&mut self) -> Load {
        let mut load = Load::default();
        for (_, tunnel) in self.tunnels.iter_mut() {
            let side = usize::from(matches!(tunnel.role, Role::Server));
            match tunnel.state {
                State::Open(_) => {
                    load.tunnels[side] += 1;
                    load.streams[side] += tunnel.streams.len() as i64;
                }
                State::Closing => {}
                State::Stock | State::Connecting | State::Uncertified | State::Handshake(_) => load.opening += 1,
            }
        }
        for (_, flow) in self.flows.iter_mut() {
            match flow.phase {
                Phase::Queued => load.queued += 1,
                Phase::Parked => load.parked += 1,
                Phase::Open => load.open += 1,
                Phase::Asking
                | Phase::Naming
                | Phase::Delayed
                | Phase::Stock
                | Phase::Requested
                | Phase::Connecting
                | Phase::Meeting => {}
            }
        }
        load
    }
}
