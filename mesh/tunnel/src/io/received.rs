//! Bytes that came on a stream and were not read yet.

use std::collections::VecDeque;

use tokio::io::ReadBuf;

/// Least bytes to allocate: many small frames share one piece of memory.
const PIECE: usize = 2048;

/// A queue of bytes. Takes little more memory than it holds, and none when it is empty.
#[derive(Debug, Default)]
pub(super) struct Received {
    pieces: VecDeque<Vec<u8>>,
    /// Bytes of the first piece that were read already.
    read: usize,
    length: usize,
}

impl Received {
    pub(super) fn len(&self) -> usize {
        self.length
    }

    pub(super) fn is_empty(&self) -> bool {
        self.length == 0
    }

    pub(super) fn push(&mut self, data: &[u8]) {
        self.length += data.len();
        match self.pieces.back_mut() {
            Some(last) if last.capacity() - last.len() >= data.len() => last.extend_from_slice(data),
            _ => {
                let mut piece = Vec::with_capacity(data.len().max(PIECE));
                piece.extend_from_slice(data);
                self.pieces.push_back(piece);
            }
        }
    }

    /// Moves as much as fits. Returns how much that was.
    pub(super) fn read(&mut self, buffer: &mut ReadBuf<'_>) -> usize {
        let before = self.length;
        while let Some(piece) = self.pieces.front() {
            let rest = &piece[self.read..];
            let n = rest.len().min(buffer.remaining());
            buffer.put_slice(&rest[..n]);
            self.length -= n;
            self.read += n;
            if self.read < piece.len() {
                break;
            }
            self.read = 0;
            self.pieces.pop_front();
        }
        before - self.length
    }

    /// Throws everything away. Returns how much that was.
    pub(super) fn clear(&mut self) -> usize {
        let length = self.length;
        *self = Self::default();
        length
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    proptest! {
        #[test]
        fn what_goes_in_comes_out_in_order_however_it_is_cut(
            writes in vec(vec(any::<u8>(), 1..5000), 0..20), reads in vec(1usize..7000, 1..20)
        ) {
            let mut received = Received::default();
            let mut out = Vec::new();
            let mut sizes = reads.iter().cycle();
            for write in &writes {
                received.push(write);
                let mut memory = vec![0; *sizes.next().unwrap()];
                let mut buffer = ReadBuf::new(&mut memory);
                let n = received.read(&mut buffer);
                out.extend_from_slice(&buffer.filled()[..n]);
            }
            while !received.is_empty() {
                let mut memory = vec![0; *sizes.next().unwrap()];
                let mut buffer = ReadBuf::new(&mut memory);
                let n = received.read(&mut buffer);
                out.extend_from_slice(&buffer.filled()[..n]);
            }
            prop_assert!(out == writes.concat());
            prop_assert!(received.pieces.is_empty());
        }
    }

    #[test]
    fn many_small_frames_take_little_more_memory_than_they_hold() {
        let mut received = Received::default();
        (0..10_000).for_each(|_| received.push(b"x"));
        let memory: usize = received.pieces.iter().map(Vec::capacity).sum();
        assert!(memory < 10_000 + 2 * PIECE, "{memory}");
    }
}
