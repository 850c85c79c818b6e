//! Open connections, as policies change.

use std::rc::Rc;

use culvert_accounting::Direction;
use culvert_state::{Awaited, Denial, Inbound, Mesh};
use culvert_tunnel::failure::Failure;
use rustc_hash::FxHashMap;

use super::{
    flow::{Flow, Phase},
    loop_state::Loop,
    sockets::LocalPod,
    timer::Due,
};

impl Loop {
    /// Policies have changed: ends open connections that are no longer allowed. Looks at those alone whose pod is bound by
    /// others than before. Where a policy is named and has not arrived, the last verdict stays in force for a while.
    pub(super) fn check_open_connections(&mut self) {
        let mut changed: FxHashMap<*const LocalPod, bool> = FxHashMap::default();
        let is_concerned = |flow: &Flow, mesh: &Mesh| {
            *changed
                .entry(Rc::as_ptr(&flow.pod))
                .or_insert_with(|| flow.pod.is_bound_anew(mesh))
        };
        if self.judge_open_connections(is_concerned, false) && !std::mem::replace(&mut self.awaiting_policies, true) {
            self.timers.set(self.now + self.config.policy_grace, Due::Policies);
        }
    }

    /// Open connections have waited long enough for policies that are named and have not arrived.
    pub(super) fn policies_are_late(&mut self) {
        self.awaiting_policies = false;
        self.judge_open_connections(|_, _| true, true);
    }

    /// Returns whether a verdict waits for a policy. With `strict`, that is a denial.
    fn judge_open_connections(&mut self, mut concerned: impl FnMut(&Flow, &Mesh) -> bool, strict: bool) -> bool {
        let mut denied = Vec::new();
        let mut waits = false;
        for (key, flow) in self.flows.iter_mut() {
            if flow.direction != Direction::Inbound || flow.phase == Phase::Parked || !concerned(flow, &self.mesh) {
                continue;
            }
            let decision = self.mesh.inbound(
                &flow.pod.pod,
                flow.source,
                flow.peer.identity.as_ref(),
                flow.destination,
            );
            match decision {
                Inbound::Deny(denial) => denied.push((key, denial)),
                Inbound::Pending(Awaited::Policy(name)) if strict => denied.push((key, Denial::PolicyMissing(name))),
                Inbound::Pending(Awaited::Policy(_)) => waits = true,
                Inbound::Pending(_) | Inbound::Allow => {}
            }
        }
        for (key, denial) in denied {
            self.end(key, Err(Failure::Denied(denial)));
        }
        waits
    }
}
