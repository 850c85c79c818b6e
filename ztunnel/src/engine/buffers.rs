//! Memory that connections borrow instead of owning.
//!
//! One read happens at a time, so all connections of a loop share one big read buffer: a gigabyte cost 0.87 s of CPU with reads of
//! 64 KiB when that was measured, and 0.55 s with reads of 1 MiB. An idle connection owns none.

use std::{cell::RefCell, collections::VecDeque, io::IoSlice};

/// Bytes read from a tunnel at a time.
pub(super) const TUNNEL_READ: usize = 1 << 20;

/// Bytes read from a socket at a time when they go to another socket. What the other does not take has to be kept,
/// so this bounds what a connection holds.
pub(super) const SOCKET_READ: usize = 256 << 10;

/// In front of what a tunnel read brings goes the record that the last read brought the start of.
const PARTIAL_RECORD: usize = 64 << 10;

/// Backlogs that are kept for the next time once they are empty; larger ones are given back.
const KEEP: usize = 16 << 10;

/// Bytes of a backlog that lie together.
const BLOCK: usize = 64 << 10;

/// Empty blocks that a thread keeps. An application that reads more slowly than its peer sends needs one block after the other; given
/// back to the allocator, each would be memory that the kernel fills with zeros before it is used again.
const SPARE: usize = 8;

thread_local! {
    /// Last in, first out, so that one that is still in the processor's cache is used next.
    static BLOCKS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// An empty block with room for `length` bytes, as far as these lie together.
fn block(length: usize) -> Vec<u8> {
    if length < BLOCK {
        return Vec::with_capacity(length);
    }
    let spare = BLOCKS.with_borrow_mut(Vec::pop);
    spare.unwrap_or_else(|| Vec::with_capacity(BLOCK))
}

fn give_back(mut block: Vec<u8>) {
    if block.capacity() == BLOCK {
        BLOCKS.with_borrow_mut(|blocks| {
            if blocks.len() < SPARE {
                block.clear();
                blocks.push(block);
            }
        });
    }
}

/// The loop's read buffer. Taken while its contents are worked on, which may need the whole loop.
#[derive(Debug)]
pub(super) struct ReadBuffer {
    bytes: Vec<u8>,
    /// Bytes of the largest read since the last [`Self::rest`], and before it since the last new buffer.
    read: usize,
    touched: usize,
}

/// What a buffer may have resident although nobody reads so much at a time any more.
const RESTING: usize = 64 << 10;

impl ReadBuffer {
    pub(super) fn new() -> Self {
        Self {
            // Memory that is touched as far as it is used, and no further.
            bytes: vec![0; TUNNEL_READ + PARTIAL_RECORD],
            read: 0,
            touched: 0,
        }
    }

    /// The regular look: what large reads have touched is given back once there are only small ones, or none.
    pub(super) fn rest(&mut self) {
        let read = std::mem::take(&mut self.read);
        self.touched = self.touched.max(read);
        if read <= RESTING && self.touched > RESTING {
            *self = Self::new();
        }
    }

    /// So many bytes of it were used.
    pub(super) fn note(&mut self, used: usize) {
        self.read = self.read.max(used);
    }

    /// Takes the buffer; [`Self::give_back`] must follow.
    pub(super) fn take(&mut self) -> Vec<u8> {
        let buffer = std::mem::take(&mut self.bytes);
        if buffer.is_empty() {
            debug_assert!(false, "the read buffer is in use");
            return Self::new().bytes;
        }
        buffer
    }

    pub(super) fn give_back(&mut self, buffer: Vec<u8>) {
        self.bytes = buffer;
    }
}

/// Bytes that a socket has not taken yet.
///
/// In blocks: one growing piece of memory would be moved as it grows, and what it leaves behind is mostly lost.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    blocks: VecDeque<Vec<u8>>,
    /// Bytes of the first block that are done with.
    taken: usize,
    length: usize,
}

impl Backlog {
    pub(super) fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Bytes that are kept.
    pub(super) fn len(&self) -> usize {
        self.length
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.length += bytes.len();
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = self.blocks.back().map_or(0, |block| BLOCK.saturating_sub(block.len()));
            let (now, later) = rest.split_at(room.min(rest.len()));
            match self.blocks.back_mut() {
                Some(block) if room > 0 => block.extend_from_slice(now),
                _ => self.blocks.push_back(block(rest.len())),
            }
            rest = later;
        }
    }

    /// The first bytes, as many as lie together; none only when it is empty.
    pub(super) fn bytes(&self) -> &[u8] {
        self.blocks.front().map_or(&[], |block| &block[self.taken..])
    }

    /// All of it.
    pub(super) fn slices(&self) -> impl Iterator<Item = IoSlice<'_>> {
        let first = std::iter::once(self.bytes()).filter(|bytes| !bytes.is_empty());
        first
            .chain(self.blocks.iter().skip(1).map(Vec::as_slice))
            .map(IoSlice::new)
    }

    /// The first `count` bytes are done with.
    pub(super) fn consume(&mut self, count: usize) {
        self.taken += count;
        self.length -= count;
        while let Some(mut first) = self.blocks.pop_front() {
            if self.taken < first.len() {
                return self.blocks.push_front(first);
            }
            self.taken -= first.len();
            if self.blocks.is_empty() && first.capacity() <= KEEP {
                first.clear();
                return self.blocks.push_front(first);
            }
            give_back(first);
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
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
        let rest: usize = backlog.slices().map(|slice| slice.len()).sum();
        assert_eq!(
            (rest, backlog.len()),
            (sent.len() - seen.len(), sent.len() - seen.len())
        );
        while !backlog.is_empty() {
            let count = backlog.bytes().len();
            seen.extend_from_slice(backlog.bytes());
            backlog.consume(count);
        }
        assert_eq!(seen, sent);
        assert!(backlog.blocks.iter().map(Vec::capacity).sum::<usize>() <= KEEP);
        backlog.push(b"again");
        assert_eq!((backlog.bytes(), backlog.len()), (&b"again"[..], 5));
    }

    #[test]
    fn whole_blocks_are_taken_at_once_and_their_memory_is_used_again_within_bounds() {
        let mut backlog = Backlog::default();
        let sent: Vec<u8> = (0..20 * BLOCK).map(|i| (i / 7) as u8).collect();
        for round in 0..3 {
            backlog.push(&sent);
            let first = 3 * BLOCK + 5 + round;
            backlog.consume(first);
            let rest: Vec<u8> = backlog.slices().flat_map(|slice| slice.to_vec()).collect();
            assert!(rest == sent[first..], "round {round}");
            backlog.consume(rest.len());
            assert!(backlog.is_empty() && backlog.slices().next().is_none());
        }
        assert_eq!(BLOCKS.with_borrow(Vec::len), SPARE);
        backlog.push(&sent);
        assert_eq!(BLOCKS.with_borrow(Vec::len), 0);
    }
}
