//! Memory that connections borrow instead of owning.
//!
//! One read happens at a time, so all connections of a loop share one big read buffer: `notes/tunnel.md` found that a
//! gigabyte costs 0.87 with reads of 64 KiB and 0.55 with reads of 1 MiB. An idle connection owns none.

/// Bytes read from a tunnel at a time.
pub(super) const TUNNEL_READ: usize = 1 << 20;

/// Bytes read from a socket at a time when they go to another socket. What the other does not take has to be kept,
/// so this bounds what a connection holds.
pub(super) const SOCKET_READ: usize = 256 << 10;

/// In front of what a tunnel read brings goes the record that the last read brought the start of.
const PARTIAL_RECORD: usize = 64 << 10;

/// Backlogs that are kept for the next time once they are empty; larger ones are given back.
const KEEP: usize = 16 << 10;

/// The loop's read buffer. Taken while its contents are worked on, which may need the whole loop.
#[derive(Debug)]
pub(super) struct ReadBuffer(Vec<u8>);

impl ReadBuffer {
    pub(super) fn new() -> Self {
        Self(vec![0; TUNNEL_READ + PARTIAL_RECORD])
    }

    /// Takes the buffer; [`Self::give_back`] must follow.
    pub(super) fn take(&mut self) -> Vec<u8> {
        let buffer = std::mem::take(&mut self.0);
        if buffer.is_empty() {
            debug_assert!(false, "the read buffer is in use");
            return Self::new().0;
        }
        buffer
    }

    pub(super) fn give_back(&mut self, buffer: Vec<u8>) {
        self.0 = buffer;
    }
}

/// Bytes that a socket has not taken yet.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    bytes: Vec<u8>,
    taken: usize,
}

impl Backlog {
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[self.taken..]
    }

    /// The first `count` of [`Self::bytes`] are done with.
    pub(super) fn consume(&mut self, count: usize) {
        self.taken += count;
        if self.taken == self.bytes.len() {
            self.clear();
        } else if self.taken >= self.bytes.len() / 2 && self.taken > KEEP {
            // Moving the rest costs no more than writing what was taken did.
            self.bytes.drain(..self.taken);
            self.taken = 0;
        }
    }

    pub(super) fn clear(&mut self) {
        self.taken = 0;
        if self.bytes.capacity() > KEEP {
            self.bytes = Vec::new();
        } else {
            self.bytes.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backlog_keeps_order_and_gives_memory_back() {
        let mut backlog = Backlog::default();
        let sent: Vec<u8> = (0..100_000u32).map(|i| i as u8).collect();
        let mut seen = Vec::new();
        for part in sent.chunks(10_000) {
            backlog.push(part);
            let count = backlog.bytes().len().min(7_777);
            seen.extend_from_slice(&backlog.bytes()[..count]);
            backlog.consume(count);
        }
        let rest = backlog.bytes().to_vec();
        backlog.consume(rest.len());
        seen.extend_from_slice(&rest);
        assert_eq!(seen, sent);
        assert!(backlog.is_empty());
        assert!(backlog.bytes.capacity() <= KEEP);
    }
}
