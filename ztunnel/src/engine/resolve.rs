//! Flows that are not open yet, looked at again.

use culvert_accounting::Direction;

use super::{flow::Phase, keys::FlowKey, loop_state::Loop};

impl Loop {
    /// Decides anew what to do with a flow that is not open.
    pub(super) fn resolve(&mut self, key: FlowKey) {
        match self.flows.get(key).map(|flow| flow.direction) {
            Some(Direction::Outbound) => self.resolve_outbound(key),
            Some(Direction::Inbound) => self.authorize(key),
            None => {}
        }
    }

    /// The delay before another attempt is over.
    pub(super) fn retry(&mut self, key: FlowKey) {
        if self.flows.get(key).is_some_and(|flow| flow.phase == Phase::Delayed) {
            self.resolve(key);
        }
    }
}
