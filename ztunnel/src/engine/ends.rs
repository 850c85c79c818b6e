//! How flows end.

use culvert_hbone::{ErrorCode, StreamId};
use culvert_tunnel::failure::Failure;
use rustix::io::Errno;

use super::{
    flow::{Far, Phase},
    headers,
    keys::{FlowKey, TunnelKey},
    loop_state::{Loop, Todo},
    socket::Socket,
    tunnel::State,
};

impl Loop {
    /// Passes ends on, and ends a flow that has ended in both directions.
    pub(super) fn settle(&mut self, key: FlowKey) {
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
    pub(super) fn outlives_tunnel(&mut self, key: FlowKey, lost: Option<&Failure>) -> bool {
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
    pub(super) fn end(&mut self, key: FlowKey, outcome: Result<(), Failure>) {
        let Some(mut flow) = self.flows.remove(key) else { return };
        self.unaccount(&mut flow);
        if let Err(Failure::Denied(denial)) = &outcome {
            let denied = &self.shared.telemetry.proxy().denied_connections;
            denied.get_or_create(&[("reason", denial.reason())]).inc();
            self.shared.telemetry.denials().count(denial);
        }
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
                    let malformed = matches!(failure, Failure::BadRequest { malformed: true, .. });
                    connection.respond(
                        stream.id,
                        failure.status(),
                        &[(headers::REASON, &header_value(&why))],
                        !malformed,
                    );
                    if malformed {
                        connection.reset(stream.id, ErrorCode::ProtocolError);
                    }
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

    /// A stream is over on both sides.
    pub(super) fn stream_gone(&mut self, key: TunnelKey, id: StreamId) {
        let Some(tunnel) = self.tunnels.get_mut(key) else {
            return;
        };
        tunnel.streams.remove(&id);
        if tunnel.streams.is_empty() {
            tunnel.life.idle(self.now);
        }
        if tunnel.paused {
            self.resume_tunnel(key);
        }
        self.touch(key);
        let Some(tunnel) = self.tunnels.get(key) else { return };
        if let (Some(group), false) = (tunnel.group, tunnel.life.is_retiring()) {
            self.todo.push_back(Todo::ServeWaiting(group));
        }
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
