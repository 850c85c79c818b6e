//! CPU and heap profiles of the running process, in pprof's format.
//!
//! ```text
//! Sampling::start ──SIGPROF──> sampler: the stack of whoever runs, into memory that is there already
//!       └── finish ──> Samples ──> book: names, and the message that `go tool pprof` reads
//!                        Held ──────^
//! SampledAllocator ──some allocations, until they are freed──> heap
//! ```
//! The kernel sends SIGPROF to a thread that runs, a hundred times for each second of processor time of the process
//! (`setitimer(2)`, `ITIMER_PROF`): no capability is needed, no other process, and no system call that the proxy's seccomp
//! filter refuses. While nobody samples there is no timer, and no signal.
//!
//! Stacks are unwound by their tables (`.eh_frame`), which every build of ours has, so nothing is compiled differently for
//! it. Names are found where the program has its symbols; in a stripped one addresses stay, and pprof finds the names in
//! the program as it was before: `go tool pprof PROGRAM PROFILE`.
//!
//! Memory is sampled all the time, since what is held was taken long before anybody asks: see [`heap`].

mod book;
mod encode;
pub mod heap;
mod maps;
mod message;
mod sampler;

use std::time::Duration;

pub use encode::Samples;
pub use sampler::Sampling;

/// How often stacks are taken, in each second of processor time.
pub const RATE: u32 = 100;

/// The longest profile.
pub const LONGEST: Duration = Duration::from_secs(60);

/// Why there is no profile.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// One is being taken.
    #[error("another profile is being taken; try again when it is done")]
    Busy,
    /// The kernel refuses the signal's handler or the timer.
    #[error("cannot {what}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The kernel's word.
        source: std::io::Error,
    },
    /// The samples do not compress.
    #[error("cannot write the profile")]
    Write(#[source] std::io::Error),
}
