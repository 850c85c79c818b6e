//! What the programs log, for `tracing`.

use super::KernelError;
use aya::Ebpf;
use aya_log::EbpfLogger;
use tokio::io::{Interest, unix::AsyncFd};

/// Forwards from now on, on the current tokio runtime.
pub(super) fn spawn(ebpf: &mut Ebpf) -> Result<(), KernelError> {
    let runtime = tokio::runtime::Handle::try_current()
        .map_err(|error| KernelError::load("read the kernel programs' log".to_owned(), error))?;
    let logger = EbpfLogger::init_with_logger(ebpf, Forward)
        .map_err(|error| KernelError::load("open the kernel programs' log".to_owned(), error))?;
    // SAFETY: the logger owns its descriptor and returns the same one as long as it lives.
    let registered = unsafe { AsyncFd::register_with_interest(logger, Interest::READABLE) };
    let mut logger = registered
        .map_err(|error| KernelError::system("wait for the kernel programs' log".to_owned(), error.into_parts().1))?;
    runtime.spawn(async move {
        // Fails only when the runtime ends.
        while let Ok(mut ready) = logger.readable_mut().await {
            ready.get_inner_mut().flush();
            ready.clear_ready();
        }
    });
    Ok(())
}

struct Forward;

impl log::Log for Forward {
    fn enabled(&self, _metadata: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let message = record.args();
        match record.level() {
            log::Level::Error => tracing::error!(target: "kernel", "{message}"),
            log::Level::Warn => tracing::warn!(target: "kernel", "{message}"),
            log::Level::Info => tracing::info!(target: "kernel", "{message}"),
            log::Level::Debug | log::Level::Trace => tracing::debug!(target: "kernel", "{message}"),
        }
    }

    fn flush(&self) {}
}
