//! How flows begin to carry bytes.

use std::net::SocketAddr;

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
        let same_node = &self.shared.same_node;
        let is_plain = flow.waypoint.is_none() && flow.named.is_none() && flow.stream().is_some();
        if flow.direction != Direction::Outbound || !is_plain || !same_node.contain(flow.target.ip()) {
            return;
        }
        let pod = &flow.pod.pod;
        let service = flow.service.as_ref().map(|_| flow.destination);
        // Where there is a choice, it is made for each connection. `worker::same_node` looks more closely.
        let is_sole = |dialled: SocketAddr| {
            dialled.is_ipv4() == flow.target.is_ipv4() && self.mesh.sole_endpoint(pod, dialled) == Some(flow.target)
        };
        if service.is_none_or(is_sole) {
            same_node.tell(pod, flow.source.ip(), flow.target, service);
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
