//! Heap profiles: which stacks hold the memory that is allocated by now.
//!
//! ```text
//! program ──> SampledAllocator ──> its own allocator
//!                   │ one of 512 KiB that a thread allocates
//!                   └──> live: size and stack, until it is freed ──held──> Held ──encode──> pprof
//! ```
//! A program that has [`SampledAllocator`] as its global allocator can be asked at any time, as with Go's `/debug/pprof/heap`. Each byte has the
//! same chance of being sampled, one in [`EVERY`]: the distance to the next sample is random, so that what is allocated in turns is not
//! passed over, and the profile counts each sample for as many of its size as it stands for.
//!
//! What it costs: an allocation subtracts its size from a number of its thread, and what is freed is looked up in a table of 16 KiB of which next to
//! all places are zero (`docs/operating.md` has what was measured). A sample walks the stack, some microseconds.

mod allocator;
mod held;
mod live;

pub use allocator::SampledAllocator;
pub use held::{Held, held};

/// One sample for so many bytes that are allocated, on average; Go's default.
pub const EVERY: usize = 512 * 1024;

#[cfg(test)]
mod tests;
