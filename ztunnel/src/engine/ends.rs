//! How flows begin to carry bytes, and how they end.

use culvert_hbone::ErrorCode;

use rustix::io::Errno;

use super::{
    Loop,
    arena::Key,
    failure::{Failure, errno},
    flow::{Far, Flow, Phase},
    headers,
    poll::{Kind, Token},
    socket::Socket,
    tunnel::State,
};

impl Loop {
    /// Both ends are connected.
    pub(super) fn open(&mut self, key: Key<Flow>) {
        let Some(flow) = self.flows.get_mut(key) else { return };
        if flow.unanswered.is_some() {
            return self.meet(key);
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

    /// Passes ends on, and ends a flow that has ended in both directions.
    pub(super) fn settle(&mut self, key: Key<Flow>) {
        let Some(flow) = self.flows.get_mut(key) else { return };
        if flow.phase != Phase::Open {
            return;
        }
        let Some(near) = &mut flow.near else { return };
        let done = match &mut flow.far {
            Far::Stream(stream) => finish(near, stream.ended),
            Far::Socket(far) => {
                let (there, back) = (near.ended, far.ended);
                let far_done = finish(far, there);
                finish(near, back) && far_done
            }
            Far::Ended(_) => finish(near, true),
            Far::None => false,
        };
        if done {
            let lost = match &mut flow.far {
                Far::Ended(lost) => lost.take(),
                _ => None,
            };
            self.end(key, lost.map_or(Ok(()), Err));
        }
    }

    /// Whether a flow needs its tunnel no longer, which is lost: both directions have ended, and only the application has
    /// still to take what came.
    pub(super) fn outlives_tunnel(&mut self, key: Key<Flow>, lost: Option<&Failure>) -> bool {
        let Some(flow) = self.flows.get_mut(key) else {
            return false;
        };
        let both =
            flow.stream().is_some_and(|stream| stream.ended) && flow.near.as_ref().is_some_and(|near| near.ended);
        if both {
            flow.far = Far::Ended(lost.map(|lost| Failure::TunnelLost(lost.to_string().into())));
            self.settle(key);
        }
        both
    }

    /// Ends a flow: closes what it holds, tells its peers, and writes its line in the access log.
    pub(super) fn end(&mut self, key: Key<Flow>, outcome: Result<(), Failure>) {
        let Some(mut flow) = self.flows.remove(key) else { return };
        self.unaccount(&mut flow);
        if let (Some(unanswered), Err(failure)) = (flow.unanswered.take(), &outcome) {
            self.answer(&unanswered, failure);
        }
        let stream = flow.stream();
        let served = flow.is_served();
        if outcome.is_err() && !matches!(flow.far, Far::Ended(_)) {
            // An application must not take a broken connection for one that ended.
            if let Some(near) = flow.near.take() {
                near.reset();
            }
            if let Far::Socket(far) = std::mem::replace(&mut flow.far, Far::None) {
                far.reset();
            }
        }
        if let Some(stream) = stream {
            if let (Err(failure), Some(tunnel)) = (&outcome, self.tunnels.get_mut(stream.tunnel))
                && let State::Open(connection) = &mut tunnel.state
            {
                // An application that accepts and resets at once did not refuse: as without us, its peer sees both.
                let reset_at_once = matches!(
                    failure,
                    Failure::Connect {
                        error: Errno::CONNRESET,
                        ..
                    }
                );
                if served && flow.phase != Phase::Open && !reset_at_once {
                    let why = failure.to_string();
                    connection.respond(
                        stream.id,
                        failure.status(),
                        &[(headers::REASON, &header_value(&why))],
                        true,
                    );
                } else {
                    // RFC 9113 section 8.5: what happened to the TCP connection behind a CONNECT has a code of its own.
                    let code = match failure {
                        Failure::Reset(_) | Failure::Connect { .. } if served => ErrorCode::ConnectError,
                        Failure::TooMuchHeld(_) => ErrorCode::EnhanceYourCalm,
                        _ => ErrorCode::Cancel,
                    };
                    connection.reset(stream.id, code);
                }
            }
            self.stream_gone(stream.tunnel, stream.id);
        }
        self.report_end(&mut flow, outcome);
    }
}

/// Passes the other side's end on to a socket once all before it is written. Returns whether the socket has no more to
/// do; where its own end has come too, closing it says what shutting it would.
fn finish(socket: &mut Socket, other_ended: bool) -> bool {
    if !other_ended || !socket.backlog.is_empty() {
        return false;
    }
    if !socket.ended {
        socket.shut();
    }
    socket.ended
}

/// Text that may stand in a header.
fn header_value(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_ascii() && !c.is_ascii_control() { c } else { '?' })
        .collect()
}
