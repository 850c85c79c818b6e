//! Pods' DNS queries over UDP: answered from the mesh, or passed on to the pod's own resolver as they are, and its answers back.
//!
//! ```text
//! listen -> query -> answered by the mesh, or held until the controller has said whether the mesh has the name
//!                 -> forwarded: a socket in the pod, under another identifier -> resolver -> reply -> answered
//!                                                                             -> refused: SERVFAIL, so that the next is asked at once
//!                                                                             -> nothing in time: forgotten, as the stub has asked again
//! ```
//! What cannot be forwarded is dropped and counted: a stub resolver asks again by itself.

use std::{net::SocketAddr, os::fd::OwnedFd, sync::Arc};

use culvert_control::Ask;
use culvert_dns::{
    Client, Decision, Outcome, Transport, decide,
    forward::{self, Asked, LONGEST},
};
use rustix::{
    io::Errno,
    net::{RecvFlags, SendFlags},
};

use super::{
    held_queries::HeldQuery,
    keys::{LaneKey, ListenerKey, UpstreamKey},
    loop_state::{Loop, Todo},
    poll::{Kind, Token},
    resolvers::{Asker, From, Route, Way},
    sockets::LocalPod,
    timer::Due,
};
use crate::descriptors::Use;

/// Replies taken from one socket at a time. What is left is reported again.
const REPLIES: usize = 64;

impl Loop {
    /// Takes queries that have come, up to the budget. Returns how many.
    pub(super) fn take_queries(&mut self, key: ListenerKey, budget: usize) -> usize {
        let lane = self.listeners.get(key).and_then(|listener| listener.lane);
        let Some((lane, way)) = lane.and_then(|lane| Some((lane, self.resolvers.lanes.get(lane)?.way()))) else {
            return 0;
        };
        let mut buffer = self.buffer.take();
        let mut taken = 0;
        while taken < budget {
            let Some(socket) = &way.socket else { break };
            let (length, from) = match rustix::net::recvfrom(socket, &mut buffer[..LONGEST], RecvFlags::DONTWAIT) {
                Ok((length, _, from)) => (length, from.and_then(|from| SocketAddr::try_from(from).ok())),
                Err(Errno::INTR) => continue,
                // An error of an answer that was sent before, which nobody took.
                Err(Errno::CONNREFUSED) => continue,
                Err(Errno::AGAIN) => break,
                Err(error) => {
                    tracing::error!(pod = %way.pod.pod.uid, %error, "a socket for DNS queries is broken");
                    self.drop_listener(key);
                    break;
                }
            };
            taken += 1;
            match from {
                Some(from) => self.query(lane, &way, &buffer[..length], from),
                None => self.drop_query("stranger"),
            }
        }
        self.buffer.give_back(buffer);
        taken
    }

    fn query(&mut self, lane: LaneKey, way: &Way, message: &[u8], from: SocketAddr) {
        if !way.pod.pod.addresses.contains(&from.ip().to_canonical()) {
            return self.drop_query("stranger");
        }
        self.report_query(message, "udp");
        match self.decide_for(&way.pod, message, Transport::Udp) {
            Decision::Answer {
                message: answer,
                outcome,
            } => {
                self.report_answer_to(&way.pod, message, &outcome);
                self.send_answer(way, &answer, from);
            }
            Decision::Drop => self.drop_query("no_query"),
            Decision::Forward => self.forward(lane, way, message, from),
            Decision::Ask(hosts) => {
                let query = HeldQuery::Datagram {
                    lane,
                    message: message.to_vec(),
                    client: from,
                };
                if !self.hold_query(&way.pod, hosts, query) {
                    self.forward(lane, way, message, from);
                }
            }
        }
    }

    /// Asks the controller about names, and keeps a query until it has answered. False where too many wait, or the pod has had its
    /// share of questions.
    pub(super) fn hold_query(&mut self, pod: &LocalPod, hosts: Vec<Box<str>>, query: HeldQuery) -> bool {
        if !pod.may_ask_for_names(hosts.len(), self.now) {
            self.shared.telemetry.dns().unasked.inc();
            return false;
        }
        if self.resolvers.held.add(query, self.now).is_err() {
            return false;
        }
        self.shared.telemetry.dns().on_demand.inc();
        // Control outlives the loops; should it not, the query is forwarded.
        let _ = self.shared.asks.send(Ask::Hosts(hosts));
        self.expect_word();
        true
    }

    /// The mesh knows more now, or queries have waited for that long enough.
    pub(super) fn decide_again(&mut self, is_due: bool) {
        if is_due {
            self.holding = false;
        }
        for (at, query) in self.resolvers.held.take() {
            let is_late = at <= self.now;
            let left = match query {
                HeldQuery::Datagram { lane, message, client } => self.query_again(lane, message, client, is_late),
                HeldQuery::Stream(key) => {
                    self.todo.push_back(Todo::Ask(key, is_late));
                    None
                }
            };
            if let Some(query) = left {
                self.resolvers.held.put_back(at, query);
            }
        }
        self.expect_word();
    }

    fn query_again(&mut self, lane: LaneKey, message: Vec<u8>, client: SocketAddr, is_late: bool) -> Option<HeldQuery> {
        let way = self.resolvers.lanes.get(lane)?.way();
        match self.decide_for(&way.pod, &message, Transport::Udp) {
            Decision::Answer {
                message: answer,
                outcome,
            } => {
                self.report_answer_to(&way.pod, &message, &outcome);
                self.send_answer(&way, &answer, client);
            }
            Decision::Ask(_) if !is_late => return Some(HeldQuery::Datagram { lane, message, client }),
            _ => self.forward(lane, &way, &message, client),
        }
        None
    }

    /// What is to be done about a message of this pod.
    pub(super) fn decide_for(&self, pod: &LocalPod, message: &[u8], transport: Transport) -> Decision {
        let client = Client {
            namespace: &pod.pod.namespace,
            cluster_domain: &self.config.cluster_domain,
        };
        decide(message, transport, &client, &self.mesh)
    }

    /// The mesh has answered a query of this pod.
    pub(super) fn report_answer_to(&self, pod: &LocalPod, message: &[u8], outcome: &Outcome) {
        self.shared.telemetry.dns().answers.inc();
        tracing::debug!(pod = %pod.pod.uid, asked = %Asked(message), ?outcome, "answered a DNS query");
    }

    /// A query has come.
    pub(super) fn report_query(&self, message: &[u8], transport: &'static str) {
        let kind = Asked(message).kind();
        let labels = [("request_query_type", kind), ("request_protocol", transport)];
        self.shared.telemetry.dns().requests.get_or_create(&labels).inc();
    }

    /// Sets the timer for what waits for the controller, once.
    fn expect_word(&mut self) {
        if let Some(at) = self.resolvers.held.next_deadline()
            && !std::mem::replace(&mut self.holding, true)
        {
            self.timers.set(at, Due::Held);
        }
    }

    /// Passes a query on to the resolver that it was meant for.
    fn forward(&mut self, key: LaneKey, way: &Way, message: &[u8], client: SocketAddr) {
        tracing::debug!(pod = %way.pod.pod.uid, asked = %Asked(message), "forwarding a DNS query");
        let Some(asker) = Asker::new(message, From::Client(client), self.now) else {
            return self.drop_query("no_query");
        };
        let Some(lane) = self.resolvers.lanes.get_mut(key) else {
            return;
        };
        let resolver = match lane.resolver(self.config.calls.resolver, self.now) {
            Ok(resolver) => resolver,
            Err(error) => {
                tracing::debug!(pod = %way.pod.pod.uid, %error, "a DNS query for no known resolver");
                return self.drop_query("no_resolver");
            }
        };
        self.pass_on(key, resolver, message, asker);
    }

    /// Sends a query to a resolver, by a socket of a lane.
    pub(super) fn pass_on(&mut self, key: LaneKey, resolver: SocketAddr, message: &[u8], asker: Asker) {
        let Some(way) = self.resolvers.lanes.get(key).map(|lane| lane.way()) else {
            return;
        };
        let way = &way;
        if !self.resolvers.has_room(&way.pod) {
            return self.drop_query("overflow");
        }
        match self.resolvers.route(key, resolver, self.now) {
            Route::Socket(upstream, id) => self.send_query(upstream, id, way, message, asker),
            Route::Unreachable(error) => {
                tracing::debug!(pod = %way.pod.pod.uid, %resolver, %error, "no way to a resolver");
                self.refuse(way, &[asker]);
            }
            Route::Wait => self.resolvers.wait(key, asker, resolver, message),
            Route::Request(count) => {
                if self.config.descriptors.are_short(Use::Outbound) {
                    return self.drop_query("descriptors");
                }
                // Fails only when the worker is ending.
                let uid = Arc::clone(&way.pod.pod.uid);
                let _ = self.shared.datagram_requests.send((uid, count, self.number));
                self.resolvers.wait(key, asker, resolver, message);
            }
        }
        self.expect_expiry();
    }

    fn send_query(&mut self, key: UpstreamKey, id: u16, way: &Way, message: &[u8], asker: Asker) {
        let mut message = message.to_vec();
        forward::set_id(&mut message, id);
        let Some(upstream) = self.resolvers.upstreams.get(key) else {
            return;
        };
        let send = || rustix::net::send(&upstream.fd, &message, SendFlags::DONTWAIT);
        let sent = match send() {
            // Said of an earlier query; who waits for that is told when the socket is looked at.
            Err(Errno::CONNREFUSED | Errno::INTR) => send(),
            sent => sent,
        };
        match sent {
            Ok(_) => {
                if let From::Client(_) = asker.from {
                    self.shared.telemetry.dns().forwarded.inc();
                }
                self.resolvers.sent(key, id, asker);
            }
            Err(Errno::AGAIN | Errno::NOBUFS) => self.drop_query("busy"),
            Err(error) => {
                tracing::debug!(pod = %way.pod.pod.uid, %error, "a resolver cannot be asked");
                self.refuse(way, &[asker]);
            }
        }
    }

    /// Sockets for asking resolvers have come.
    pub(super) fn add_datagrams(&mut self, uid: &str, sockets: Vec<OwnedFd>) {
        for key in self.resolvers.take_in(uid, sockets) {
            let Some(upstream) = self.resolvers.upstreams.get(key) else {
                continue;
            };
            if let Err(error) = self.poll.watch_datagrams(&upstream.fd, Token::new(Kind::Upstream, key)) {
                tracing::error!(uid, %error, "cannot watch a socket for DNS queries");
                self.resolvers.give_up(key);
            }
        }
        for (lane, (asker, resolver, message)) in self.resolvers.take_waiting(uid) {
            self.pass_on(lane, resolver, &message, asker);
        }
    }

    /// Something has come from a resolver.
    pub(super) fn upstream_event(&mut self, key: UpstreamKey) {
        let mut buffer = self.buffer.take();
        for _ in 0..REPLIES {
            let Some(upstream) = self.resolvers.upstreams.get(key) else {
                break;
            };
            match rustix::net::recv(&upstream.fd, &mut buffer[..LONGEST], RecvFlags::DONTWAIT) {
                Ok((length, _)) => self.reply(key, &mut buffer[..length]),
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(error) => {
                    tracing::debug!(%error, "a resolver refuses");
                    if let Some((way, askers)) = self.resolvers.fail(key) {
                        self.refuse(&way, &askers);
                    }
                }
            }
        }
        self.buffer.give_back(buffer);
    }

    fn reply(&mut self, key: UpstreamKey, message: &mut [u8]) {
        let Some((way, asker)) = self.resolvers.answered(key, forward::id(message), message) else {
            return self.drop_query("unmatched_reply");
        };
        forward::set_id(message, asker.head.id());
        match asker.from {
            From::Client(client) => {
                let duration = self.now.saturating_duration_since(asker.at);
                self.shared.telemetry.dns().duration.observe(duration.as_secs_f64());
                self.send_answer(&way, message, client);
            }
            From::Name(part) => {
                self.names.answered(part, message, self.now);
                self.todo.push_back(Todo::Names);
            }
        }
    }

    /// Tells stub resolvers to ask the next one.
    fn refuse(&mut self, way: &Way, askers: &[Asker]) {
        for asker in askers {
            match asker.from {
                From::Client(client) => {
                    let failures = &self.shared.telemetry.dns().failures;
                    failures.get_or_create(&[("reason", "refused")]).inc();
                    self.send_answer(way, &asker.head.server_failure(), client);
                }
                From::Name(part) => {
                    self.names.refused(part, self.now);
                    self.todo.push_back(Todo::Names);
                }
            }
        }
    }

    fn send_answer(&self, way: &Way, message: &[u8], to: SocketAddr) {
        let Some(socket) = &way.socket else { return };
        if let Err(error) = rustix::net::sendto(socket, message, SendFlags::DONTWAIT, &to) {
            tracing::debug!(pod = %way.pod.pod.uid, %error, "cannot send a DNS answer");
            self.drop_query("answer");
        }
    }

    fn drop_query(&self, reason: &'static str) {
        self.shared
            .telemetry
            .dns()
            .dropped
            .get_or_create(&[("reason", reason)])
            .inc();
    }

    /// Sets the timer for what waits, once.
    fn expect_expiry(&mut self) {
        if let Some(at) = self.resolvers.next_expiry()
            && !std::mem::replace(&mut self.expecting, true)
        {
            self.timers.set(at, Due::Queries);
        }
    }

    /// Some have waited long enough.
    pub(super) fn queries_are_late(&mut self) {
        self.expecting = false;
        let (unanswered, unsent) = self.resolvers.expire(self.now);
        let dns = self.shared.telemetry.dns();
        dns.failures.get_or_create(&[("reason", "timeout")]).inc_by(unanswered);
        dns.dropped.get_or_create(&[("reason", "no_socket")]).inc_by(unsent);
        self.expect_expiry();
    }
}
