//! How the C library's allocator keeps what a program frees.
//!
//! By itself it keeps a lot: each thread gets an arena of its own, and once a buffer of a megabyte has been freed, buffers of that size come from
//! the arenas, too, whose pages stay resident from then on.

/// Bytes from which an allocation is a mapping of its own, which is gone when it is freed.
#[cfg(target_env = "gnu")]
const MAPPED: libc::c_int = 128 << 10;

/// Bytes at the end of an arena that are kept for the next allocation: blocks of backlogs come and go there.
#[cfg(target_env = "gnu")]
const TOP: libc::c_int = 1 << 20;

/// Arenas: one for the thread that a program begins with, and one for all others.
#[cfg(target_env = "gnu")]
const ARENAS: libc::c_int = 2;

/// For a program that lives long, allocates little and is to be small. To be called before there is a second thread.
pub fn keep_small() {
    #[cfg(target_env = "gnu")]
    for (parameter, value) in [
        (libc::M_ARENA_MAX, ARENAS),
        (libc::M_MMAP_THRESHOLD, MAPPED),
        (libc::M_TRIM_THRESHOLD, TOP),
    ] {
        // SAFETY: sets a number of the allocator. A value that it does not take is passed over, and costs nothing but memory.
        let _ = unsafe { libc::mallopt(parameter, value) };
    }
}

/// Gives pages back to the kernel on which nothing lies any more. Some milliseconds, during which other threads that allocate wait: for moments after
/// which much less is needed than before.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the allocator takes its own locks.
    let _ = unsafe { libc::malloc_trim(0) };
}
