//! Accepting, with a budget per round.

use std::{net::SocketAddr, os::fd::OwnedFd, rc::Rc, time::Duration};

use rustix::{io::Errno, net::SocketFlags};

use super::{
    Loop,
    arena::Key,
    poll::{Kind, Token},
    socket,
    sockets::LocalPod,
    timer::Due,
};
use crate::seam::ListenerRole;

/// Connections accepted from one listener per round. The rest waits its turn, so that arrivals do not starve what is
/// open.
const BUDGET: usize = 64;

/// How long to wait when the process or the machine has no descriptor or memory for another connection.
const PAUSE: Duration = Duration::from_millis(100);

/// A listening socket in a pod.
#[derive(Debug)]
pub(super) struct Listener {
    fd: OwnedFd,
    pod: Rc<LocalPod>,
    role: ListenerRole,
    /// The last round in which it had arrivals, and how many it took then at most.
    round: u64,
    burst: usize,
}

impl Listener {
    pub(super) fn fd(&self) -> &OwnedFd {
        &self.fd
    }
}

impl Loop {
    /// Watches a pod's listening socket.
    pub(super) fn listen(&mut self, pod: &Rc<LocalPod>, role: ListenerRole, fd: OwnedFd) {
        // Accepted sockets inherit these from the listener, which saves a system call for each of them.
        let inherited = rustix::net::sockopt::set_tcp_nodelay(&fd, true)
            .and_then(|()| rustix::net::sockopt::set_socket_keepalive(&fd, true))
            .and_then(|()| rustix::net::sockopt::set_tcp_keepidle(&fd, self.config.keepalive))
            .and_then(|()| rustix::io::ioctl_fionbio(&fd, true));
        if let Err(error) = inherited {
            tracing::warn!(pod = %pod.pod.uid, ?role, %error, "a listening socket takes no options");
        }
        let key = self.listeners.insert(Listener {
            fd,
            pod: Rc::clone(pod),
            role,
            round: 0,
            burst: 1,
        });
        let Some(listener) = self.listeners.get(key).filter(|_| !self.accepting_paused) else {
            return; // after a pause all are watched
        };
        if let Err(error) = self.poll.watch_listener(&listener.fd, Token::new(Kind::Listener, key)) {
            tracing::error!(pod = %pod.pod.uid, ?role, %error, "cannot watch a listening socket");
            self.listeners.remove(key);
        }
    }

    /// Stops listening for a pod. With `empty`, takes first what has already arrived: closing the last descriptor of
    /// a listening socket would reset it.
    pub(super) fn unlisten(&mut self, uid: &str, empty: bool) {
        for key in self.listeners.keys() {
            let Some(listener) = self.listeners.get(key) else {
                continue;
            };
            if *listener.pod.pod.uid != *uid {
                continue;
            }
            if empty {
                while self.accept_batch(key, BUDGET) == BUDGET {}
            }
            if let Some(listener) = self.listeners.remove(key) {
                self.poll.forget(&listener.fd);
            }
        }
    }

    /// Accepts what has arrived, up to the budget. Epoll says again when something is left, so the first round takes one
    /// connection and does not ask whether there are more; rounds that follow at once take twice as many each.
    pub(super) fn accept(&mut self, key: Key<Listener>) {
        let Some(listener) = self.listeners.get_mut(key) else {
            return;
        };
        if self.accepting_paused {
            return;
        }
        let again = listener.round + 1 == self.round;
        listener.burst = if again { (listener.burst * 2).min(BUDGET) } else { 1 };
        listener.round = self.round;
        let burst = listener.burst;
        self.accept_batch(key, burst);
    }

    fn accept_batch(&mut self, key: Key<Listener>, budget: usize) -> usize {
        for accepted in 0..budget {
            let Some(listener) = self.listeners.get(key) else {
                return accepted;
            };
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            let (fd, source) = match rustix::net::acceptfrom_with(&listener.fd, flags) {
                Ok((fd, source)) => (fd, source),
                Err(Errno::AGAIN) => return accepted,
                // The client gave up, or a network error belongs to that one connection (accept(2)).
                Err(
                    Errno::INTR
                    | Errno::CONNABORTED
                    | Errno::PERM
                    | Errno::PROTO
                    | Errno::NETDOWN
                    | Errno::NETUNREACH
                    | Errno::HOSTDOWN
                    | Errno::HOSTUNREACH
                    | Errno::OPNOTSUPP,
                ) => continue,
                Err(error @ (Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)) => {
                    self.pause_accepting(error);
                    return accepted;
                }
                Err(error) => {
                    tracing::error!(pod = %listener.pod.pod.uid, role = ?listener.role, %error, "a listening socket is broken");
                    self.poll.forget(&listener.fd);
                    self.listeners.remove(key);
                    return accepted;
                }
            };
            let Some(source) = source.and_then(|source| socket::to_ip(source).ok()) else {
                continue;
            };
            let (pod, role) = (Rc::clone(&listener.pod), listener.role);
            self.accepted(pod, role, fd, source);
        }
        budget
    }

    fn accepted(&mut self, pod: Rc<LocalPod>, role: ListenerRole, fd: OwnedFd, source: SocketAddr) {
        match role {
            ListenerRole::Outbound => self.accept_outbound(pod, fd, source),
            ListenerRole::InboundPlaintext => self.accept_plaintext(pod, fd, source),
            ListenerRole::InboundHbone => self.accept_tunnel(pod, fd, source),
        }
    }

    /// Out of descriptors or memory: arrivals stay in the backlog for a while. A level-triggered listener would make
    /// the loop spin, so all of them are taken out of the set.
    fn pause_accepting(&mut self, error: Errno) {
        if self.accepting_paused {
            return;
        }
        self.accepting_paused = true;
        tracing::warn!(%error, "cannot accept connections; trying again shortly");
        for (_, listener) in self.listeners.iter_mut() {
            self.poll.forget(&listener.fd);
        }
        self.timers.set(self.now + PAUSE, Due::Accept);
    }

    /// The pause is over.
    pub(super) fn resume_accepting(&mut self) {
        self.accepting_paused = false;
        for (key, listener) in self.listeners.iter_mut() {
            if let Err(error) = self.poll.watch_listener(&listener.fd, Token::new(Kind::Listener, key)) {
                tracing::error!(%error, "cannot watch a listening socket again");
            }
        }
    }
}
