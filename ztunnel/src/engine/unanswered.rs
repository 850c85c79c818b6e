//! Connections whose application still waits for its `connect`: it is answered when the far side is known.
//!
//! ```text
//! listen (SYN tap) -> claim -> outbound (resolve, tunnel, ..) -> far side is there -> meet the application's socket -> relay
//!                                                             -> refused           -> a reset: ECONNREFUSED
//!                                                             -> nothing in time   -> no answer, given back
//! ```
//! The first two packets of such a connection are both SYNs: the application's, which the kernel programs left without an
//! answer, and ours (RFC 9293 section 3.5). See `culvert_net::hold`. What is given back is claimed again when the
//! application's kernel repeats its SYN, so an application waits as long as it would without a mesh.

use std::{
    hash::{BuildHasher as _, RandomState},
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    rc::Rc,
    sync::OnceLock,
};

use super::{
    Loop,
    arena::Key,
    failure::{Failure, errno},
    flow::{Flow, Phase},
    listen::Listener,
    poll::{Kind, Token},
    socket::{self, Socket},
    sockets::{LocalPod, Waiter},
};
use crate::telemetry::Direction;
use culvert_net::{
    hold::{self, Syn, SynTap},
    sockopt,
};

/// Where a pod's SYNs are seen.
#[derive(Debug)]
pub(super) struct Tap {
    syns: SynTap,
    /// The cookie of the pod's network namespace.
    cookie: u64,
}

impl Tap {
    /// # Errors
    /// It is no tap.
    pub(super) fn new(fd: OwnedFd) -> io::Result<Self> {
        let cookie = sockopt::netns_cookie(fd.as_fd())?;
        Ok(Self {
            syns: SynTap::from_fd(fd)?,
            cookie,
        })
    }
}

/// An application's SYN that nobody has answered yet.
#[derive(Debug)]
pub(super) struct Unanswered {
    tap: Rc<Tap>,
    syn: Syn,
}

impl Loop {
    /// Takes SYNs that have come, up to the budget. Returns how many.
    pub(super) fn take_syns(&mut self, key: Key<Listener>, budget: usize) -> usize {
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

    /// The far side is there: takes a socket in the pod's namespace, now or when there is one, and answers the application.
    pub(super) fn meet(&mut self, key: Key<Flow>) {
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
    pub(super) fn meet_with(&mut self, key: Key<Flow>, fd: OwnedFd) -> Option<OwnedFd> {
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
        flow.near = Some(Socket::new(fd));
        match watched {
            Ok(()) if is_met => self.met(key),
            Ok(()) => {}
            Err(error) => self.end(key, Err(Failure::Local(errno(&error)))),
        }
        None
    }

    /// An event came for a socket that meets an application.
    pub(super) fn meeting(&mut self, key: Key<Flow>) {
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

    fn met(&mut self, key: Key<Flow>) {
        let Some(flow) = self.flows.get_mut(key) else { return };
        flow.unanswered = None;
        self.count_answer("met");
        self.open(key);
    }

    /// Tells an application that still waits how its connection failed.
    pub(super) fn answer(&self, unanswered: &Unanswered, failure: &Failure) {
        let Unanswered { tap, syn } = unanswered;
        let socket = self.claims.as_ref().map(OwnedFd::as_fd);
        let (outcome, done) = match (failure, socket) {
            (Failure::GaveUp, _) | (_, None) => ("gone", Ok(())),
            // As without a mesh, silence is passed on as such.
            (Failure::Timeout { .. }, Some(socket)) => ("silent", hold::release(socket, tap.cookie, syn)),
            (Failure::Unheld(_), Some(socket)) => ("unheld", hold::accept_first(socket, tap.cookie, syn)),
            _ => ("refused", tap.syns.refuse(syn)),
        };
        if let Err(error) = done {
            tracing::debug!(source = %syn.source, %error, outcome, "an application is not told how its connection failed");
        }
        self.count_answer(outcome);
    }

    fn count_answer(&self, outcome: &'static str) {
        let answers = &self.shared.telemetry.proxy().held_connections;
        answers.get_or_create(&[("outcome", outcome)]).inc();
    }
}

/// By which the kernel programs tell this process from others that claim connections.
fn claimant() -> u32 {
    static OURS: OnceLock<u32> = OnceLock::new();
    const MOST: u32 = (1 << 24) - 1;
    *OURS.get_or_init(|| RandomState::new().hash_one(std::process::id()) as u32 % MOST + 1)
}
