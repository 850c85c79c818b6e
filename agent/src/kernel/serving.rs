//! Whether a proxy serves, as the programs know it: see `ebpf/src/fallback.rs`.

use super::{Kernel, KernelError, load, pins::Pin};
use culvert_abi::Serving;
use culvert_net::serving::monotonic;
use std::{
    os::fd::{AsFd as _, OwnedFd},
    time::Duration,
};

/// How long a proxy that says by itself that it serves may take to begin with that.
const HANDOVER: Duration = Duration::from_secs(1);

impl Kernel {
    /// Says until when a proxy is taken to serve.
    ///
    /// # Errors
    /// A failing system call.
    pub fn set_serving(&mut self, serving: Serving) -> Result<(), KernelError> {
        self.maps.set_serving(serving)
    }

    /// Says nothing any more, because every proxy says by itself that it serves.
    ///
    /// # Errors
    /// A failing system call.
    pub fn leave_serving_to_proxies(&mut self) -> Result<(), KernelError> {
        if self.maps.serving()? != Serving::UNTIL_TOLD {
            return Ok(());
        }
        let until = monotonic() + HANDOVER.as_nanos() as u64;
        self.maps.set_serving(Serving { until })
    }

    /// Takes a proxy that has just come, and says by itself that it serves, to serve for as long as it may take to begin with that. Without
    /// this, pods that are captured at once would ask their resolvers themselves meanwhile, and some would go direct.
    ///
    /// # Errors
    /// A failing system call.
    pub fn expect_serving(&mut self) -> Result<(), KernelError> {
        if self.is_serving()? {
            return Ok(());
        }
        let until = monotonic() + HANDOVER.as_nanos() as u64;
        self.maps.set_serving(Serving { until })
    }

    /// Whether a proxy is taken to serve at this moment.
    ///
    /// # Errors
    /// A failing system call.
    pub fn is_serving(&self) -> Result<bool, KernelError> {
        Ok(self.maps.serving()?.is_serving(monotonic()))
    }

    /// What a proxy writes that says by itself that it serves.
    ///
    /// # Errors
    /// A failing system call.
    pub fn serving_map(&self) -> Result<OwnedFd, KernelError> {
        let path = load::serving(&self.config.bpffs);
        let pin = self.pins.iter().find(|pin| pin.path() == path);
        let pin: &Pin = pin.ok_or_else(|| KernelError::Missing(format!("map pinned at {}", path.display())))?;
        let copied = pin.as_fd().try_clone_to_owned();
        copied.map_err(|source| KernelError::system("copy a descriptor".to_owned(), source))
    }
}
