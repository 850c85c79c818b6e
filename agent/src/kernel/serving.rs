//! Whether a proxy serves, as the programs know it: see `ebpf/src/fallback.rs`.

use super::{Kernel, KernelError};
use culvert_abi::Serving;
use rustix::time::{ClockId, clock_gettime};

impl Kernel {
    /// Says until when a proxy is taken to serve.
    ///
    /// # Errors
    /// A failing system call.
    pub fn set_serving(&mut self, serving: Serving) -> Result<(), KernelError> {
        self.maps.set_serving(serving)
    }

    /// Whether a proxy is taken to serve at this moment.
    ///
    /// # Errors
    /// A failing system call.
    pub fn is_serving(&self) -> Result<bool, KernelError> {
        Ok(self.maps.serving()?.is_serving(now()))
    }
}

/// As `bpf_ktime_get_ns`.
fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    (now.tv_sec as u64) * 1_000_000_000 + now.tv_nsec as u64
}
