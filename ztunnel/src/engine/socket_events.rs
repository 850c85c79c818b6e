//! What the kernel says of flows' sockets.

use super::{
    flow::{Far, Phase},
    keys::FlowKey,
    loop_state::{Loop, Todo},
    poll::Event,
};

impl Loop {
    /// Something happened on the socket that faces the application (or a plaintext client).
    pub(super) fn near_event(&mut self, key: FlowKey, event: &Event) {
        let Some(flow) = self.flows.get_mut(key) else { return };
        let Some(near) = &mut flow.near else { return };
        near.readable |= event.readable || event.closing;
        near.closing |= event.closing;
        match flow.phase {
            Phase::Open => self.socket_event(key, event, true),
            Phase::Asking => self.todo.push_back(Todo::Ask(key, false)),
            // Watched before it is open only where it was dialled.
            Phase::Connecting if event.writable || event.hangup => self.dialled(key, event.hangup),
            Phase::Meeting if event.writable || event.hangup => self.meeting(key),
            _ => {}
        }
    }

    /// Something happened on a flow's second socket.
    pub(super) fn far_event(&mut self, key: FlowKey, event: &Event) {
        let Some(flow) = self.flows.get_mut(key) else { return };
        let Far::Socket(far) = &mut flow.far else { return };
        far.readable |= event.readable || event.closing;
        far.closing |= event.closing;
        match flow.phase {
            Phase::Open => self.socket_event(key, event, false),
            Phase::Connecting if event.writable || event.hangup => self.dialled(key, event.hangup),
            _ => {}
        }
    }

    fn socket_event(&mut self, key: FlowKey, event: &Event, near: bool) {
        if event.error && !self.survives(key, near) || event.writable && !self.flush_side(key, near) {
            return;
        }
        self.continue_flow(key);
    }
}
