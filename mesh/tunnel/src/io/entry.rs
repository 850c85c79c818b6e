//! One stream as both its owner and the tunnel's task see it.

use std::{collections::VecDeque, task::Waker, time::Instant};

use culvert_hbone::Response;

use super::received::Received;
use crate::failure::Failure;

/// Bytes that a stream takes while the tunnel cannot.
pub(super) const PIPE: usize = 64 << 10;

/// How far our direction of a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sending {
    Open,
    /// It ends behind what is in the pipe.
    Ending,
    Ended,
}

/// How far a stream is.
#[derive(Debug)]
pub(super) enum Phase {
    /// We asked for it, and the peer has not answered.
    Asking,
    /// The peer has answered, and who asked has not seen it.
    Answered(Response),
    /// The peer asked for it, and nobody has answered.
    Asked,
    Open,
}

/// A stream's state.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) phase: Phase,
    pub(super) received: Received,
    /// The peer sends no more.
    pub(super) ended: bool,
    /// Why it is gone in both directions. What came before may still be read.
    pub(super) failure: Option<Failure>,
    /// Bytes to send that wait for their turn.
    pub(super) pipe: VecDeque<u8>,
    pub(super) sending: Sending,
    /// It has a place among the turns.
    pub(super) queued: bool,
    /// Its owner is gone, since then: what it sent goes out, what comes is thrown away.
    pub(super) orphan: Option<Instant>,
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
}

impl Entry {
    pub(super) fn new(phase: Phase) -> Self {
        Self {
            phase,
            received: Received::default(),
            ended: false,
            failure: None,
            pipe: VecDeque::new(),
            sending: Sending::Open,
            queued: false,
            orphan: None,
            reader: None,
            writer: None,
        }
    }

    /// Everybody who waits for it.
    pub(super) fn wake(&mut self, wakers: &mut Vec<Waker>) {
        wakers.extend(self.reader.take());
        wakers.extend(self.writer.take());
    }

    /// The stream is gone in both directions.
    pub(super) fn fail(&mut self, failure: Failure, wakers: &mut Vec<Waker>) {
        self.failure.get_or_insert(failure);
        self.pipe = VecDeque::new();
        self.wake(wakers);
    }

    /// `n` bytes of the pipe are on their way.
    pub(super) fn sent(&mut self, n: usize) {
        self.pipe.drain(..n);
        if self.pipe.is_empty() {
            self.pipe = VecDeque::new();
        }
    }
}
