//! Buffers for output, which the connections of a thread lend from each other: one that has nothing to send owns none.
//!
//! There are two sizes. Most of what is sent besides data (a PING, its answer, SETTINGS, credit) takes some tens of bytes, and a proxy asks all
//! its silent peers for a sign of life at the same moment: with one size for all, forty idle tunnels made 14 MB resident at once.
use std::cell::RefCell;
use std::mem;

use crate::seal::{MAX_OVERHEAD, MAX_PLAINTEXT};

/// Bytes of a buffer for data: 1 MiB in full records and some. Memory is touched, and so costs, only as far as it is used.
pub(crate) const LARGE: usize = 68 * (MAX_PLAINTEXT + MAX_OVERHEAD) + (64 << 10);
/// Bytes of any other.
const SMALL: usize = 4 << 10;

/// Empty buffers of a size that a thread keeps.
const SPARE: usize = 4;

/// What a buffer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    /// Anything but data.
    Small = 0,
    /// Data.
    Large = 1,
}

impl Size {
    const ALL: [Self; 2] = [Self::Small, Self::Large];

    /// Bytes.
    pub(crate) const fn bytes(self) -> usize {
        match self {
            Self::Small => SMALL,
            Self::Large => LARGE,
        }
    }
}

/// Last in, first out, so that one that is still in the processor's cache is used next.
#[derive(Default)]
struct Shelf {
    spare: Vec<Vec<u8>>,
    /// How many lay here at the least since [`release_unused`] was called.
    least: usize,
}

thread_local! {
    static SHELVES: RefCell<[Shelf; 2]> = RefCell::default();
}

/// A buffer of this size, whose contents mean nothing.
pub(crate) fn take(size: Size) -> Vec<u8> {
    let spare = SHELVES.with_borrow_mut(|shelves| {
        let shelf = &mut shelves[size as usize];
        let spare = shelf.spare.pop();
        shelf.least = shelf.least.min(shelf.spare.len());
        spare
    });
    spare.unwrap_or_else(|| vec![0; size.bytes()])
}

/// Takes a buffer back, or drops it: one of another size, or one too many.
pub(crate) fn give_back(buffer: Vec<u8>) {
    let Some(size) = Size::ALL.into_iter().find(|size| size.bytes() == buffer.len()) else {
        return;
    };
    SHELVES.with_borrow_mut(|shelves| {
        let spare = &mut shelves[size as usize].spare;
        if spare.len() < SPARE {
            spare.push(buffer);
        }
    });
}

/// Gives the memory back that no connection of this thread has had a use for since the last call: to be called now and then.
pub fn release_unused() {
    let unused = SHELVES.with_borrow_mut(|shelves| {
        shelves.each_mut().map(|shelf| {
            // The first ones have lain there longest.
            let unused: Vec<_> = shelf.spare.drain(..mem::take(&mut shelf.least)).collect();
            shelf.least = shelf.spare.len();
            unused
        })
    });
    drop(unused);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spare(size: Size) -> usize {
        SHELVES.with_borrow(|shelves| shelves[size as usize].spare.len())
    }

    #[test]
    fn what_nobody_used_between_two_calls_is_released_and_what_is_in_use_stays() {
        for size in Size::ALL {
            (0..SPARE + 1)
                .map(|_| take(size))
                .collect::<Vec<_>>()
                .into_iter()
                .for_each(give_back);
            assert_eq!(spare(size), SPARE);
            release_unused();
            // They were all in use until now.
            assert_eq!(spare(size), SPARE);
            give_back(take(size));
            release_unused();
            assert_eq!(spare(size), 1);
            release_unused();
            assert_eq!(spare(size), 0);
        }
        give_back(vec![0; 17]);
        assert!(Size::ALL.into_iter().all(|size| spare(size) == 0));
    }
}
