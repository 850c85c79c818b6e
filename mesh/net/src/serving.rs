//! The word that says until when a proxy is taken to serve: an element of a map of the kernel programs, as shared memory.
//!
//! Writing it takes the descriptor of the map and nothing else: no capability, and no system call.

use culvert_abi::Serving;
use std::{
    io,
    os::fd::{AsFd, AsRawFd as _},
    ptr::{self, NonNull},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// The word; see the module.
#[derive(Debug)]
pub struct ServingWord {
    word: NonNull<AtomicU64>,
}

// SAFETY: memory that belongs to no thread, and is accessed atomically alone.
unsafe impl Send for ServingWord {}
// SAFETY: the same.
unsafe impl Sync for ServingWord {}

/// What is mapped: a page, since the map may not be mapped in part.
const LENGTH: usize = 4096;

impl ServingWord {
    /// Maps the map.
    ///
    /// # Errors
    /// The descriptor is of nothing that can be mapped and written.
    pub fn map(map: impl AsFd) -> io::Result<Self> {
        const { assert!(size_of::<Serving>() == size_of::<AtomicU64>()) };
        let (access, descriptor) = (libc::PROT_READ | libc::PROT_WRITE, map.as_fd().as_raw_fd());
        // SAFETY: a new mapping, at an address that the kernel chooses.
        let start = unsafe { libc::mmap(ptr::null_mut(), LENGTH, access, libc::MAP_SHARED, descriptor, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let word = NonNull::new(start.cast()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { word })
    }

    /// A proxy is taken to serve for at least this long from now.
    pub fn push(&self, time: Duration) {
        let time = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        // Other proxies push it, too, and the agent may have said more.
        // SAFETY: mapped as long as `self` is there, and aligned as the start of a page.
        unsafe { self.word.as_ref() }.fetch_max(monotonic().saturating_add(time), Ordering::Relaxed);
    }
}

impl Drop for ServingWord {
    fn drop(&mut self) {
        // SAFETY: mapped by `map`, and nobody has a reference to it any more.
        unsafe { libc::munmap(self.word.as_ptr().cast(), LENGTH) };
    }
}

/// The time in nanoseconds as the kernel programs read it (`bpf_ktime_get_ns`).
pub fn monotonic() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    (now.tv_sec as u64) * 1_000_000_000 + now.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs::File, io::Read as _, os::fd::OwnedFd};

    fn memory() -> OwnedFd {
        let file = rustix::fs::memfd_create("serving", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        rustix::fs::ftruncate(&file, LENGTH as u64).unwrap();
        file
    }

    fn read(memory: &OwnedFd) -> Serving {
        let mut bytes = [0; 8];
        let mut file = File::from(memory.try_clone().unwrap());
        std::io::Seek::rewind(&mut file).unwrap();
        file.read_exact(&mut bytes).unwrap();
        Serving {
            until: u64::from_ne_bytes(bytes),
        }
    }

    #[test]
    fn the_word_is_pushed_forward_and_never_back() {
        let memory = memory();
        let word = ServingWord::map(&memory).unwrap();
        assert!(!read(&memory).is_serving(monotonic()));
        word.push(Duration::from_secs(60));
        let until = read(&memory);
        assert!(until.is_serving(monotonic()));
        word.push(Duration::from_secs(1));
        assert_eq!(read(&memory), until);
    }

    #[test]
    fn what_is_no_memory_is_an_error() {
        ServingWord::map(std::net::TcpListener::bind("127.0.0.1:0").unwrap()).unwrap_err();
    }
}
