//! Pods' DNS queries over TCP: answered from the mesh as long as it has the answers, and from the first that it has not an ordinary
//! connection to the resolver.
//!
//! Queries are looked at where they lie in the socket, and taken out of it only when they are answered. So whoever carries the connection
//! on finds it as if nobody had looked.

use std::{io::IoSlice, rc::Rc};

use culvert_dns::{Decision, Transport};
use rustix::{io::Errno, net::RecvFlags};

use super::{flow::Phase, held_queries::HeldQuery, keys::FlowKey, loop_state::Loop};

/// The length of the length that stands before a message (RFC 1035, section 4.2.2).
const LENGTH: usize = 2;

/// A longer query is one that the mesh need not understand.
const LONGEST_QUERY: usize = 4096;

/// What is to be done with a connection.
enum Next {
    /// To the resolver.
    Forward,
    /// More bytes of a query are to come, or the client must take an answer first.
    Wait,
    /// It has been answered: the next.
    Again,
    /// The client has gone.
    End,
}

impl Loop {
    /// Looks at what has come on a connection to a resolver. `is_late` says that a query has waited long enough for the controller.
    pub(super) fn ask_on(&mut self, key: FlowKey, is_late: bool) {
        loop {
            let mut buffer = self.buffer.take();
            let next = self.look_at_query(key, is_late, &mut buffer[..LENGTH + LONGEST_QUERY]);
            self.buffer.give_back(buffer);
            match next {
                Next::Again => {}
                Next::Wait => return,
                Next::End => return self.end(key, Ok(())),
                Next::Forward => {
                    let Some(flow) = self.flows.get_mut(key) else { return };
                    flow.phase = Phase::Parked;
                    if let Some(near) = &flow.near {
                        // Opening watches it.
                        self.poll.forget(near);
                    }
                    return self.resolve_outbound(key);
                }
            }
        }
    }

    fn look_at_query(&mut self, key: FlowKey, is_late: bool, buffer: &mut [u8]) -> Next {
        let Some(flow) = self.flows.get_mut(key).filter(|flow| flow.phase == Phase::Asking) else {
            return Next::Wait;
        };
        let pod = Rc::clone(&flow.pod);
        let Some(near) = &mut flow.near else { return Next::End };
        if near.flush().is_err() {
            return Next::End;
        }
        if !near.backlog.is_empty() {
            return Next::Wait;
        }
        let closing = near.closing;
        let seen = match rustix::net::recv(&*near, &mut *buffer, RecvFlags::PEEK | RecvFlags::DONTWAIT) {
            Ok((0, _)) => return Next::End,
            Ok((count, _)) => &buffer[..count],
            Err(Errno::AGAIN) => return Next::Wait,
            Err(Errno::INTR) => return Next::Again,
            Err(_) => return Next::End,
        };
        let length = match seen {
            [first, second, ..] => usize::from(u16::from_be_bytes([*first, *second])),
            _ => LONGEST_QUERY,
        };
        let Some(message) = seen.get(LENGTH..LENGTH + length) else {
            // One that never becomes whole is the resolver's to refuse.
            let is_whole_never = closing || seen.len() >= LENGTH && length > LONGEST_QUERY;
            return if is_whole_never { Next::Forward } else { Next::Wait };
        };
        match self.decide_for(&pod, message, Transport::Tcp) {
            Decision::Answer {
                message: answer,
                outcome,
            } => {
                self.report_query(message, "tcp");
                self.report_answer_to(&pod, message, &outcome);
                self.answer_on(key, LENGTH + length, &answer, buffer)
            }
            Decision::Ask(hosts) if !is_late => match self.hold_query(&pod, hosts, HeldQuery::Stream(key)) {
                true => Next::Wait,
                false => self.forward_stream(message),
            },
            Decision::Forward | Decision::Drop | Decision::Ask(_) => self.forward_stream(message),
        }
    }

    fn forward_stream(&self, message: &[u8]) -> Next {
        self.report_query(message, "tcp");
        self.shared.telemetry.dns().forwarded.inc();
        Next::Forward
    }

    /// Takes a query out of the socket and answers it.
    fn answer_on(&mut self, key: FlowKey, taken: usize, answer: &[u8], buffer: &mut [u8]) -> Next {
        let Some(near) = self.flows.get_mut(key).and_then(|flow| flow.near.as_mut()) else {
            return Next::End;
        };
        // It lies there, so it is had as a whole.
        if rustix::net::recv(&*near, &mut buffer[..taken], RecvFlags::DONTWAIT).is_err() {
            return Next::End;
        }
        let Ok(length) = u16::try_from(answer.len()) else {
            return Next::End;
        };
        let length = length.to_be_bytes();
        match near.write(&[IoSlice::new(&length), IoSlice::new(answer)]) {
            Ok(_) => Next::Again,
            Err(_) => Next::End,
        }
    }
}
