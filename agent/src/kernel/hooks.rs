//! Errors about what the kernel lacks: it answers with no more than a number.

use super::KernelError;
use std::{fs, io};

/// The running kernel's release, for example `6.1.0-57-amd64`.
pub(super) fn release() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease");
    release.map_or_else(|_| "an unknown release".to_owned(), |text| text.trim().to_owned())
}

/// The kernel has no tcx.
pub(super) fn no_tcx(source: io::Error) -> KernelError {
    KernelError::NoHook {
        hook: "tcx",
        since: "6.6",
        kernel: release(),
        source,
    }
}
