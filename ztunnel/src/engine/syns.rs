//! SYNs that nobody else answers: connections of which the application hears when their far side is known.

use std::{
    hash::{BuildHasher as _, RandomState},
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    rc::Rc,
    sync::OnceLock,
};

use culvert_net::{
    hold::{self, Syn},
    sockopt,
};

use super::{
    flow::Flow,
    keys::ListenerKey,
    listener::Listener,
    loop_state::Loop,
    sockets::LocalPod,
    unanswered::{Tap, Unanswered},
};
use culvert_accounting::Direction;

impl Loop {
    /// Takes SYNs that have come, up to the budget. Returns how many.
    pub(super) fn take_syns(&mut self, key: ListenerKey, budget: usize) -> usize {
        for taken in 0..budget {
            let Some((pod, tap)) = self.listeners.get(key).and_then(Listener::tap) else {
                return taken;
            };
            match tap.syns.next() {
                Ok(Some(syn)) => self.syn(pod, tap, syn),
                Ok(None) => return taken,
                Err(error) => {
                    tracing::error!(pod = %pod.pod.uid, %error, "a socket that shows SYNs is broken");
                    self.drop_listener(key);
                    return taken;
                }
            }
        }
        budget
    }

    fn syn(&mut self, pod: Rc<LocalPod>, tap: Rc<Tap>, syn: Syn) {
        let Some(socket) = self.claims() else { return };
        let destination = match hold::claim(socket, tap.cookie, &syn, claimant()) {
            Ok(destination) => destination,
            // Not held, or not any more; or repeated while we are at it.
            Err(error) => return tracing::trace!(source = %syn.source, %error, "a SYN that is not claimed"),
        };
        let deadline = self.now + self.config.connect_timeout;
        let mut flow = Flow::new(Direction::Outbound, &pod, syn.source, destination, deadline);
        flow.unanswered = Some(Box::new(Unanswered { tap, syn }));
        let key = self.add_flow(flow);
        self.resolve_outbound(key);
    }

    /// A socket on which to speak to the kernel programs.
    fn claims(&mut self) -> Option<BorrowedFd<'_>> {
        if self.claims.is_none() {
            match sockopt::tcp_stream_socket() {
                Ok(socket) => self.claims = Some(socket),
                Err(error) => {
                    tracing::debug!(%error, "no socket to claim connections with; they are repeated");
                    return None;
                }
            }
        }
        self.claims.as_ref().map(OwnedFd::as_fd)
    }

    /// Listens, or looks, there no longer.
    pub(super) fn drop_listener(&mut self, key: ListenerKey) {
        if let Some(listener) = self.listeners.remove(key) {
            self.poll.forget(listener.fd());
            if let Some(lane) = listener.lane {
                self.resolvers.close(lane);
            }
        }
    }
}

/// By which the kernel programs tell this process from others that claim connections.
fn claimant() -> u32 {
    static OURS: OnceLock<u32> = OnceLock::new();
    const MOST: u32 = (1 << 24) - 1;
    *OURS.get_or_init(|| RandomState::new().hash_one(std::process::id()) as u32 % MOST + 1)
}
