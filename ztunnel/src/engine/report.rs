//! What is told about connections: access log and metrics.

use super::{
    Loop,
    arena::Key,
    failure::Failure,
    flow::{Direction, Flow},
    tunnel::Tunnel,
};

/// A flow's record with telemetry, once it is open.
#[derive(Debug, Default)]
pub(super) struct Report {}

impl Flow {
    /// Brings the counters of an open connection up to date.
    pub(super) fn publish(&mut self) {}
}

impl Loop {
    /// A new flow. Its time to connect runs.
    pub(super) fn add_flow(&mut self, flow: Flow) -> Key<Flow> {
        let deadline = flow.attempts.deadline;
        let key = self.flows.insert(flow);
        self.timers.set_deadline(deadline, key);
        key
    }

    pub(super) fn report_open(&mut self, key: Key<Flow>) {}

    pub(super) fn report_end(&self, flow: &mut Flow, outcome: Result<(), Failure>) {}

    /// An accepted connection to the tunnel port that never became a tunnel.
    pub(super) fn report_refused_tunnel(&self, tunnel: &Tunnel, failure: &Failure) {}
}
