//! Accepting, with a budget per round.

use std::{net::SocketAddr, os::fd::OwnedFd, rc::Rc, time::Duration};

use culvert_tunnel::admission::Bucket;
use rustix::{io::Errno, net::SocketFlags};

use super::{
    keys::ListenerKey,
    listener::{BUDGET, Listener},
    loop_state::Loop,
    poll::{Kind, Token},
    socket,
    sockets::LocalPod,
    timer::Due,
    unanswered::Tap,
};
use crate::{descriptors::Use, seam::ListenerRole};

/// Rounds of the budget in which a listener that is given up is emptied: more than fits into a backlog.
const LAST_ROUNDS: usize = 128;

/// How long to wait when the process or the machine has no descriptor or memory for another connection, or when a
/// listener has had its share.
const PAUSE: Duration = Duration::from_millis(100);

impl Loop {
    /// Watches a pod's listening socket.
    pub(super) fn listen(&mut self, pod: &Rc<LocalPod>, role: ListenerRole, fd: OwnedFd) {
        let tap = match (role == ListenerRole::SynTap).then(|| fd.try_clone().and_then(Tap::new)) {
            Some(Ok(tap)) => Some(Rc::new(tap)),
            Some(Err(error)) => {
                return tracing::error!(pod = %pod.pod.uid, %error, "cannot see SYNs: connections that are held time out");
            }
            None if role == ListenerRole::Dns => None,
            None => {
                inherit(pod, role, &fd, self.config.keepalive);
                None
            }
        };
        let fd = Rc::new(fd);
        let lane = (role == ListenerRole::Dns).then(|| self.resolvers.open(pod, Rc::clone(&fd), self.now));
        let key = self.listeners.insert(Listener {
            fd,
            pod: Rc::clone(pod),
            role,
            tap,
            lane,
            round: 0,
            burst: 1,
            watched: false,
            arrivals: Bucket::full(self.config.admission.listener, self.now),
        });
        self.watch_listener(key);
    }

    fn watch_listener(&mut self, key: ListenerKey) {
        let Some(listener) = self.listeners.get_mut(key) else {
            return;
        };
        match self.poll.watch_listener(&listener.fd, Token::new(Kind::Listener, key)) {
            Ok(()) => listener.watched = true,
            Err(error) => {
                tracing::error!(pod = %listener.pod.pod.uid, role = ?listener.role, %error, "cannot watch a listening socket; trying again");
                self.resume_soon();
            }
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
                // New arrivals must not keep the loop here.
                for _ in 0..LAST_ROUNDS {
                    if self.accept_batch(key, BUDGET) < BUDGET {
                        break;
                    }
                }
            }
            self.drop_listener(key);
        }
    }

    /// Accepts what has arrived, up to the budget. Epoll says again when something is left, so the first round takes one
    /// connection and does not ask whether there are more; rounds that follow at once take twice as many each.
    pub(super) fn accept(&mut self, key: ListenerKey) {
        let Some(listener) = self.listeners.get_mut(key).filter(|listener| listener.watched) else {
            return;
        };
        let again = listener.round + 1 == self.round;
        listener.burst = if again {
            (listener.burst * 2).min(listener.budget())
        } else {
            1
        };
        listener.round = self.round;
        let burst = listener.burst;
        self.accept_batch(key, burst);
    }

    fn accept_batch(&mut self, key: ListenerKey, budget: usize) -> usize {
        if self.listeners.get(key).is_some_and(|listener| listener.tap.is_some()) {
            return self.take_syns(key, budget);
        }
        if self.listeners.get(key).is_some_and(|listener| listener.lane.is_some()) {
            return self.take_queries(key, budget);
        }
        for accepted in 0..budget {
            let Some(listener) = self.listeners.get_mut(key) else {
                return accepted;
            };
            let limited = listener.role == ListenerRole::InboundHbone;
            if limited && !listener.arrivals.take(self.config.admission.listener, self.now) {
                self.pause_listener(key);
                return accepted;
            }
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
                    tracing::debug!(%error, "cannot accept connections; trying again shortly");
                    self.pause_accepting(Use::Inbound);
                    self.pause_accepting(Use::Outbound);
                    return accepted;
                }
                Err(error) => {
                    tracing::error!(pod = %listener.pod.pod.uid, role = ?listener.role, %error, "a listening socket is broken");
                    self.drop_listener(key);
                    return accepted;
                }
            };
            let Some(source) = source.and_then(|source| socket::to_ip(source).ok()) else {
                continue;
            };
            let (pod, role, r#use) = (Rc::clone(&listener.pod), listener.role, listener.r#use());
            let last = self.config.descriptors.is_kept_back(&fd, r#use);
            self.accepted(pod, role, fd, source);
            if last {
                self.pause_accepting(r#use);
                return accepted + 1;
            }
        }
        budget
    }

    fn accepted(&mut self, pod: Rc<LocalPod>, role: ListenerRole, fd: OwnedFd, source: SocketAddr) {
        match role {
            ListenerRole::Outbound => self.accept_outbound(pod, fd, source),
            ListenerRole::InboundPlaintext => self.accept_plaintext(pod, fd, source),
            ListenerRole::InboundHbone if !self.sources.admit(source.ip().to_canonical(), self.now) => {
                self.shared
                    .telemetry
                    .proxy()
                    .refused_tunnels
                    .get_or_create(&[("reason", "rate")])
                    .inc();
                tracing::debug!(pod = %pod.pod.uid, %source, "too many tunnels from one source; refused");
                socket::reset(fd);
            }
            ListenerRole::InboundHbone => self.accept_tunnel(pod, fd, source),
            // Nothing is accepted there.
            ListenerRole::SynTap | ListenerRole::Dns => {}
        }
    }

    /// Hardly any descriptors are left for this use: arrivals stay in the backlog for a while. A level-triggered listener
    /// would make the loop spin, so all of them are taken out of the set.
    pub(super) fn pause_accepting(&mut self, r#use: Use) {
        for key in self.listeners.keys() {
            if self
                .listeners
                .get(key)
                // Queries take none.
                .is_some_and(|listener| listener.r#use() == r#use && listener.lane.is_none())
            {
                self.pause_listener(key);
            }
        }
    }

    fn pause_listener(&mut self, key: ListenerKey) {
        let Some(listener) = self.listeners.get_mut(key) else {
            return;
        };
        if std::mem::take(&mut listener.watched) {
            self.poll.forget(&listener.fd);
        }
        self.resume_soon();
    }

    fn resume_soon(&mut self) {
        if !std::mem::replace(&mut self.resuming, true) {
            self.timers.set(self.now + PAUSE, Due::Accept);
        }
    }

    /// A pause is over: listeners for which there is room again are watched again.
    pub(super) fn resume_accepting(&mut self) {
        self.resuming = false;
        let descriptors = self.config.descriptors;
        let (inbound, outbound) = (
            descriptors.are_short(Use::Inbound),
            descriptors.are_short(Use::Outbound),
        );
        for key in self.listeners.keys() {
            let Some(listener) = self.listeners.get_mut(key).filter(|listener| !listener.watched) else {
                continue;
            };
            let short = match listener.r#use() {
                Use::Inbound => inbound,
                Use::Outbound => outbound,
            };
            if short || !listener.arrivals.has_token(self.config.admission.listener, self.now) {
                self.resume_soon();
            } else {
                self.watch_listener(key);
            }
        }
    }
}

/// Options that accepted sockets inherit from the listener, which saves a system call for each of them.
fn inherit(pod: &LocalPod, role: ListenerRole, fd: &OwnedFd, keepalive: Duration) {
    let inherited = rustix::net::sockopt::set_tcp_nodelay(fd, true)
        .and_then(|()| rustix::net::sockopt::set_socket_keepalive(fd, true))
        .and_then(|()| rustix::net::sockopt::set_tcp_keepidle(fd, keepalive))
        .and_then(|()| rustix::io::ioctl_fionbio(fd, true));
    if let Err(error) = inherited {
        tracing::warn!(pod = %pod.pod.uid, ?role, %error, "a listening socket takes no options");
    }
}
