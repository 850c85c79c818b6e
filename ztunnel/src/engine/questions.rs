//! What pods ask the controller by their connections.

use std::{net::IpAddr, rc::Rc, time::Duration};

use culvert_control::Ask;

use super::{flow::Phase, keys::FlowKey, loop_state::Loop, sockets::LocalPod, timer::Due};

/// Between two looks at questions that pods asked too quickly.
const ASK_PAUSE: Duration = Duration::from_millis(100);

impl Loop {
    /// Asks who has an address, now or when the pod's share allows.
    pub(super) fn ask(&mut self, pod: &Rc<LocalPod>, address: IpAddr) {
        if !pod.may_ask(address, self.now) {
            return self.ask_later();
        }
        // Control outlives the loops; should it not, the connection times out like any other.
        let _ = self.shared.asks.send(Ask::Address(address));
    }

    fn ask_later(&mut self) {
        if !std::mem::replace(&mut self.asking, true) {
            self.timers.set(self.now + ASK_PAUSE, Due::Asks);
        }
    }

    /// Asks what pods could not ask at once, as far as somebody still waits for the answer.
    pub(super) fn ask_rest(&mut self) {
        self.asking = false;
        let waits = |key: &FlowKey| self.flows.get(*key).is_some_and(|flow| flow.phase == Phase::Parked);
        self.parked.retain(waits);
        let pods: Vec<Rc<LocalPod>> = self.pods.values().map(Rc::clone).collect();
        for pod in pods {
            while let Some(address) = pod.next_question(|address| self.parked.is_awaited(address), self.now) {
                let _ = self.shared.asks.send(Ask::Address(address));
            }
            if pod.has_questions() {
                self.ask_later();
            }
        }
    }

    /// Asks who connects, for the lines and metrics of later connections, where that is worth a question.
    pub(super) fn ask_for_source(&mut self, pod: &Rc<LocalPod>, source: IpAddr, proven: bool) {
        if self.mesh.is_worth_asking(source, proven) {
            self.ask(pod, source.to_canonical());
        }
    }
}
