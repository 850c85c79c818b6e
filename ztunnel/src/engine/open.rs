//! How flows begin to carry bytes.

use culvert_accounting::Direction;
use culvert_tunnel::failure::{Failure, errno};

use super::{
    flow::{Far, Phase},
    keys::FlowKey,
    loop_state::{Loop, Todo},
    poll::{Kind, Token},
    socket,
    tunnel::State,
};

impl Loop {
    /// Both ends are connected.
    pub(super) fn open(&mut self, key: FlowKey) {
        let Some(flow) = self.flows.get_mut(key) else { return };
        if flow.unanswered.is_some() {
            return self.todo.push_back(Todo::Meet(key));
        }
        flow.phase = Phase::Open;
        let accepted = !flow.is_served();
        if let Some(near) = flow.near.as_mut().filter(|_| accepted) {
            // Not watched before, which saves a wake-up. Something has mostly arrived by now.
            near.readable = true;
            if let Err(error) = self.poll.watch(&*near, Token::new(Kind::Near, key)) {
                return self.end(key, Err(Failure::Local(errno(&error))));
            }
        }
        self.report_open(key);
        self.tell_of_same_node(key);
        let Some(flow) = self.flows.get_mut(key) else { return };
        if let (false, Far::Stream(stream)) = (accepted, &flow.far) {
            let (tunnel, id) = (stream.tunnel, stream.id);
            let baggage = flow.pod.baggage(&self.mesh);
            if let Some(State::Open(connection)) = self.tunnels.get_mut(tunnel).map(|tunnel| &mut tunnel.state) {
                connection.respond(id, 200, &[("baggage", &*baggage)], false);
            }
            self.touch(tunnel);
            self.deliver_early(key);
        } else if !flow.early.is_empty() || flow.stream().is_some_and(|stream| stream.ended) {
            // While the application's socket was met.
            self.deliver_early(key);
        }
        self.continue_flow(key);
    }

    /// The next connection like this one may not need the proxy.
    fn tell_of_same_node(&self, key: FlowKey) {
        let Some(flow) = self.flows.get(key) else { return };
        let is_plain = flow.service.is_none() && flow.waypoint.is_none() && flow.named.is_none();
        if flow.direction == Direction::Outbound && is_plain && flow.stream().is_some() {
            let same_node = &self.shared.same_node;
            same_node.tell(&flow.pod.pod, flow.source.ip(), flow.destination);
        }
    }

    /// An event came for a socket that a flow is connecting. Only one that reports a hangup needs a question.
    pub(super) fn dialled(&mut self, key: FlowKey, hangup: bool) {
        if !hangup {
            return self.open(key);
        }
        let Some(flow) = self.flows.get(key) else { return };
        let socket = match (&flow.far, &flow.near) {
            (Far::Socket(far), _) => far,
            (_, Some(near)) => near,
            _ => return,
        };
        match socket::connected(socket) {
            Ok(()) => self.open(key),
            Err(error) => {
                let failure = Failure::Connect {
                    to: flow.target,
                    error: errno(&error),
                };
                self.todo.push_back(Todo::Failed(key, failure));
            }
        }
    }
}
