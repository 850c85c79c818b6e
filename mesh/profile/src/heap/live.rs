//! The samples of what is not freed yet.

use std::{
    collections::HashMap,
    hash::BuildHasherDefault,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, AtomicU64, Ordering::Relaxed},
    },
};

/// Frames of a stack that are kept, from the innermost.
const DEPTH: usize = 64;

/// Samples that are kept at most: of some 10 GB.
const MOST: usize = 20_000;

/// Places that may be in the table, by hash. A place that is freed has been handed on by whoever allocated it, so that what was counted then is seen.
static COUNTS: [AtomicU8; 1 << BITS] = [const { AtomicU8::new(0) }; 1 << BITS];
const BITS: u32 = 14;

/// By place.
static LIVE: Mutex<Table> = Mutex::new(HashMap::with_hasher(BuildHasherDefault::new()));

/// Samples for which there was no room.
static LOST: AtomicU64 = AtomicU64::new(0);
/// Samples that were taken, ever.
static TAKEN: AtomicU64 = AtomicU64::new(0);

type Table = HashMap<usize, Sample, BuildHasherDefault<std::hash::DefaultHasher>>;

/// An allocation.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) size: usize,
    /// Innermost first, with the frames of the allocator before those of whoever called it.
    pub(super) stack: Arc<[usize]>,
}

/// What is there by now.
#[derive(Clone, Debug, Default)]
pub(super) struct All {
    pub(super) samples: Vec<Sample>,
    /// How many were taken, ever.
    pub(super) taken: u64,
    /// Of those, for how many there was no room.
    pub(super) lost: u64,
}

impl Sample {
    /// Of an allocation by this thread.
    pub(super) fn here(size: usize) -> Self {
        let (mut frames, mut depth) = ([0; DEPTH], 0);
        let each = |frame: &backtrace::Frame| {
            frames[depth] = frame.ip() as usize;
            depth += 1;
            depth < DEPTH
        };
        // SAFETY: the function is unsafe because concurrent calls must not share the symbol cache of some platforms. On Linux
        // it walks this thread's stack with libgcc's unwinder, which shares nothing between threads.
        unsafe { backtrace::trace_unsynchronized(each) };
        Self {
            size,
            stack: frames[..depth].into(),
        }
    }
}

/// Whether a place may have been sampled; mostly it has not.
#[inline(always)]
pub(super) fn may_be_there(place: *mut u8) -> bool {
    count(place).load(Relaxed) > 0
}

/// Keeps a sample until its place is freed.
pub(super) fn add(place: *mut u8, sample: Sample) {
    TAKEN.fetch_add(1, Relaxed);
    let mut live = lock();
    let count = count(place);
    if live.len() >= MOST || count.load(Relaxed) == u8::MAX {
        LOST.fetch_add(1, Relaxed);
        return;
    }
    // A place that is there already was freed past this allocator; it is counted once.
    if live.insert(place as usize, sample).is_none() {
        count.fetch_add(1, Relaxed);
    }
}

/// Takes away a sample.
pub(super) fn remove(place: *mut u8) -> Option<Sample> {
    let mut live = lock();
    let sample = live.remove(&(place as usize))?;
    count(place).fetch_sub(1, Relaxed);
    Some(sample)
}

/// What is there.
pub(super) fn all() -> All {
    All {
        samples: lock().values().cloned().collect(),
        taken: TAKEN.load(Relaxed),
        lost: LOST.load(Relaxed),
    }
}

fn lock() -> MutexGuard<'static, Table> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[inline(always)]
fn count(place: *mut u8) -> &'static AtomicU8 {
    // Fibonacci hashing; the lowest bits of a place are zero.
    let hash = ((place as u64) >> 4).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - BITS);
    &COUNTS[hash as usize]
}
