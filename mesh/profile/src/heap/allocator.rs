//! The allocator that a program has.

use std::{
    alloc::{GlobalAlloc, Layout},
    cell::Cell,
    sync::atomic::{AtomicU64, Ordering},
};

use super::{
    EVERY,
    live::{self, Sample},
};

thread_local! {
    // Without destructors: an allocator is used until the very end of a thread.
    /// Bytes until the next sample.
    static LEFT: Cell<usize> = const { Cell::new(0) };
    /// Of the thread's random numbers; 0 before the first.
    static STATE: Cell<u64> = const { Cell::new(0) };
    /// What a sample itself needs is not sampled.
    static IS_SAMPLING: Cell<bool> = const { Cell::new(false) };
}

/// An allocator of which some allocations are remembered until they are freed. It is meant to be the program's global one; the numbers are those
/// of the process, so that a second one would count into the same profile.
#[derive(Debug, Default)]
pub struct SampledAllocator<A> {
    inner: A,
}

impl<A> SampledAllocator<A> {
    /// In front of another.
    pub const fn new(inner: A) -> Self {
        Self { inner }
    }
}

// SAFETY: memory comes from the inner allocator and goes back to it, with the layouts that the caller gives, and nothing here looks into it. It does
// not unwind: nothing on the way panics but where memory is at its end, where Rust aborts.
unsafe impl<A: GlobalAlloc> GlobalAlloc for SampledAllocator<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps what the trait asks for.
        let place = unsafe { self.inner.alloc(layout) };
        allocated(place, layout.size());
        place
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        let place = unsafe { self.inner.alloc_zeroed(layout) };
        allocated(place, layout.size());
        place
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // Before it is freed: afterwards the place may be another thread's.
        forget(place);
        // SAFETY: as above.
        unsafe { self.inner.dealloc(place, layout) };
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let before = forget(place);
        // SAFETY: as above.
        let moved = unsafe { self.inner.realloc(place, layout, size) };
        match before {
            // All is as it was.
            Some(sample) if moved.is_null() => undisturbed(|| live::add(place, sample)).unwrap_or_default(),
            // A new allocation of that size, which has the chance of one.
            _ => allocated(moved, size),
        }
        moved
    }
}

/// Counts an allocation, and takes a sample when it is time.
#[inline(always)]
fn allocated(place: *mut u8, size: usize) {
    LEFT.with(|left| match left.get().checked_sub(size) {
        Some(rest @ 1..) => left.set(rest),
        _ => count_down(place, size),
    });
}

#[cold]
fn count_down(place: *mut u8, size: usize) {
    undisturbed(|| {
        let is_first = STATE.get() == 0;
        let left = distance();
        // A thread's count begins with its first allocation.
        if is_first && size < left {
            LEFT.set(left - size);
            return;
        }
        LEFT.set(left);
        if !place.is_null() {
            live::add(place, Sample::here(size));
        }
    });
}

/// What is freed is no longer held.
#[inline(always)]
fn forget(place: *mut u8) -> Option<Sample> {
    match live::may_be_there(place) {
        true => remove(place),
        false => None,
    }
}

#[cold]
fn remove(place: *mut u8) -> Option<Sample> {
    undisturbed(|| live::remove(place)).flatten()
}

/// Does what may allocate and free memory itself, of which nothing is looked at; none where that is so already.
fn undisturbed<T>(work: impl FnOnce() -> T) -> Option<T> {
    if IS_SAMPLING.replace(true) {
        return None;
    }
    let done = work();
    IS_SAMPLING.set(false);
    Some(done)
}

/// Takes [`live::all`] where this thread's own allocations disturb nobody.
pub(super) fn all() -> live::All {
    undisturbed(live::all).unwrap_or_default()
}

/// How many bytes until the next sample: exponentially distributed, so that each byte has the same chance whatever came before it.
fn distance() -> usize {
    let chance = (random() >> 11) as f64 / (1_u64 << 53) as f64;
    // 1 - chance is above 0 and at most 1.
    (-(1.0 - chance).ln() * EVERY as f64) as usize + 1
}

/// Marsaglia's xorshift64*, which needs no memory.
fn random() -> u64 {
    static THREADS: AtomicU64 = AtomicU64::new(1);
    let mut state = STATE.get();
    if state == 0 {
        state = THREADS
            .fetch_add(1, Ordering::Relaxed)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            | 1;
    }
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    STATE.set(state);
    state.wrapping_mul(0x2545_f491_4f6c_dd1d)
}
