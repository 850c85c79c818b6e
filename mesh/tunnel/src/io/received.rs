//! Bytes that came on a stream and were not read yet.

use std::{cell::RefCell, collections::VecDeque};

use tokio::io::ReadBuf;

/// Least bytes to allocate: many small frames share one piece of memory.
const PIECE: usize = 2048;

/// Pieces that a thread keeps for the next bytes, and the longest that it keeps: a frame's payload. Memory of this size is what allocators
/// are slow with.
const SPARE: usize = 32;
const LONGEST_SPARE: usize = 16 << 10;

thread_local! {
    /// Pieces that were read. Last in, first out, so that one that is still in the processor's cache is used next.
    static PIECES: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// An empty piece with room for so many bytes.
fn piece(length: usize) -> Vec<u8> {
    let kept = PIECES.try_with(|pieces| pieces.borrow_mut().pop()).ok().flatten();
    match kept {
        Some(mut piece) => {
            piece.reserve(length);
            piece
        }
        None => Vec::with_capacity(length.max(PIECE)),
    }
}

/// A piece that was read.
fn give_back(mut piece: Vec<u8>) {
    if piece.capacity() > LONGEST_SPARE {
        return;
    }
    piece.clear();
    // A thread that ends keeps nothing.
    let _ = PIECES.try_with(|pieces| {
        let mut pieces = pieces.borrow_mut();
        if pieces.len() < SPARE {
            pieces.push(piece);
        }
    });
}

/// A queue of bytes. Takes little more memory than it holds, and none when it is empty but what its thread keeps for all.
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
                let mut piece = piece(data.len());
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
            self.pieces.pop_front().into_iter().for_each(give_back);
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

    #[test]
    fn what_a_thread_keeps_is_bounded() {
        let mut received = Received::default();
        (0..100).for_each(|_| received.push(&[0; 16 << 10]));
        received.push(&[0; 64 << 10]);
        let mut memory = vec![0; 2 << 20];
        received.read(&mut ReadBuf::new(&mut memory));
        assert!(received.is_empty());
        let kept: Vec<usize> = PIECES.with_borrow(|pieces| pieces.iter().map(Vec::capacity).collect());
        assert!(
            kept.len() <= SPARE && kept.iter().all(|capacity| *capacity <= LONGEST_SPARE),
            "{kept:?}"
        );
        received.push(b"x");
        assert_eq!(
            PIECES.with_borrow(Vec::len),
            kept.len() - 1,
            "one of them is used again"
        );
    }
}
