//! What pods ask the controller by their connections.

use std::{net::IpAddr, rc::Rc, sync::Arc, time::Duration};

use culvert_control::Ask;
use culvert_state::Awaited;

use super::{
    flow::Phase,
    keys::FlowKey,
    loop_state::Loop,
    sockets::{LocalPod, Question},
    timer::Due,
};

/// Between two looks at questions that pods asked too quickly.
const ASK_PAUSE: Duration = Duration::from_millis(100);

impl Loop {
    /// Asks for what a connection waits for, unless another one waits for the same.
    pub(super) fn ask_for(&mut self, pod: &Rc<LocalPod>, awaited: &Awaited) {
        let question = match awaited {
            Awaited::Answer(address) => Question::Address(*address),
            Awaited::Host(host) => Question::Host(Arc::clone(host)),
            _ => return,
        };
        if !self.parked.is_awaited(&question) {
            self.ask(pod, question);
        }
    }

    /// Asks who has an address or a host name, now or when the pod's share allows.
    fn ask(&mut self, pod: &Rc<LocalPod>, question: Question) {
        match pod.may_ask(question, self.now) {
            Some(question) => self.send_question(question),
            None => self.ask_later(),
        }
    }

    fn send_question(&self, question: Question) {
        // Control outlives the loops; should it not, the connection times out like any other.
        let _ = self.shared.asks.send(match question {
            Question::Address(address) => Ask::Address(address),
            Question::Host(host) => Ask::Hosts(vec![(*host).into()]),
        });
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
            while let Some(question) = pod.next_question(|question| self.parked.is_awaited(question), self.now) {
                self.send_question(question);
            }
            if pod.has_questions() {
                self.ask_later();
            }
        }
    }

    /// Asks who connects, for the lines and metrics of later connections, where that is worth a question.
    pub(super) fn ask_for_source(&mut self, pod: &Rc<LocalPod>, source: IpAddr, proven: bool) {
        if self.mesh.is_worth_asking(source, proven) {
            self.ask(pod, Question::Address(source.to_canonical()));
        }
    }
}
