//! Meeting the application's socket, once the far side of its connection is there.

use std::os::fd::{AsFd as _, OwnedFd};

use culvert_net::hold;
use culvert_tunnel::failure::{Failure, errno};

use super::{
    flow::Phase,
    keys::FlowKey,
    loop_state::Loop,
    poll::{Kind, Token},
    socket::{self, Socket},
    sockets::Waiter,
};

impl Loop {
    /// The far side is there: takes a socket in the pod's namespace, now or when there is one, and answers the application.
    pub(super) fn meet(&mut self, key: FlowKey) {
        let Some(flow) = self.flows.get_mut(key) else { return };
        flow.phase = Phase::Meeting;
        // The far side was there before, and was lost in between.
        if let Some(earlier) = flow.near.take() {
            earlier.reset();
        }
        let socket = flow.pod.take_socket(Waiter::Flow(key), &self.shared.socket_requests);
        if let Some(socket) = socket {
            self.meet_with(key, socket);
        }
    }

    /// Connects to the application's socket. Gives the socket back if the flow no longer wants it.
    pub(super) fn meet_with(&mut self, key: FlowKey, fd: OwnedFd) -> Option<OwnedFd> {
        let Some(flow) = self.flows.get_mut(key).filter(|flow| flow.near.is_none()) else {
            return Some(fd);
        };
        let Some(unanswered) = &flow.unanswered else {
            return Some(fd);
        };
        let syn = unanswered.syn;
        if let Err(error) = hold::bind_to_meet(fd.as_fd(), &syn) {
            // An application listens on that very port. When the SYN comes again, it is accepted first.
            tracing::debug!(at = %syn.destination, %error, "a held connection cannot be answered");
            self.end(key, Err(Failure::Unheld(errno(&error))));
            return None;
        }
        if let Err(error) = (self.config.calls.connect)(fd.as_fd(), syn.source) {
            self.end(key, Err(Failure::Local(errno(&error))));
            return None;
        }
        // Over the loopback interface, all of it has mostly happened by now.
        let is_met = rustix::net::getpeername(&fd).is_ok();
        let watched = if is_met {
            Ok(())
        } else {
            self.poll.watch(&fd, Token::new(Kind::Near, key))
        };
        flow.near = Some(Socket::dialled(fd));
        match watched {
            Ok(()) if is_met => self.met(key),
            Ok(()) => {}
            Err(error) => self.end(key, Err(Failure::Local(errno(&error)))),
        }
        None
    }

    /// An event came for a socket that meets an application.
    pub(super) fn meeting(&mut self, key: FlowKey) {
        let Some(near) = self.flows.get(key).and_then(|flow| flow.near.as_ref()) else {
            return;
        };
        if socket::connected(near).is_err() {
            return self.end(key, Err(Failure::GaveUp));
        }
        // Opening watches it, as it does an accepted one.
        self.poll.forget(near);
        self.met(key);
    }

    fn met(&mut self, key: FlowKey) {
        let Some(flow) = self.flows.get_mut(key) else { return };
        flow.unanswered = None;
        self.count_answer("met");
        self.open(key);
    }
}
