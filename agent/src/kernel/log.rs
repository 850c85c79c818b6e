//! What the programs log, for `tracing`.

use super::KernelError;
use aya::Ebpf;
use aya_log::EbpfLogger;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::io::{Interest, unix::AsyncFd};

/// How the programs name a pod.
const COOKIE: &str = "the pod with cookie ";

/// How they write an IPv4 address.
const MAPPED: &str = "::ffff:";

/// The names of enrolled pods, by the cookie of their network namespace.
#[derive(Clone, Debug, Default)]
pub(super) struct PodNames {
    names: Arc<Mutex<HashMap<u64, String>>>,
}

impl PodNames {
    pub(super) fn set(&self, cookie: u64, name: &str) {
        self.lock().insert(cookie, name.to_owned());
    }

    pub(super) fn forget(&self, cookie: u64) {
        self.lock().remove(&cookie);
    }

    /// The pod in words.
    pub(super) fn get(&self, cookie: u64) -> String {
        match self.lock().get(&cookie) {
            Some(name) => format!("pod {name}"),
            None => format!("{COOKIE}{cookie}"),
        }
    }

    /// A line of the programs', with the pod's name in place of its cookie, and IPv4 addresses as people write them.
    fn translate(&self, line: &str) -> String {
        let line = line.replace(MAPPED, "");
        let Some((before, rest)) = line.split_once(COOKIE) else {
            return line;
        };
        let digits = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
        match rest[..digits].parse() {
            Ok(cookie) => format!("{before}{}{}", self.get(cookie), &rest[digits..]),
            Err(_) => line,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, String>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forwards from now on, on the current tokio runtime.
pub(super) fn spawn(ebpf: &mut Ebpf, names: PodNames) -> Result<(), KernelError> {
    let runtime = tokio::runtime::Handle::try_current()
        .map_err(|error| KernelError::load("read the kernel programs' log".to_owned(), error))?;
    let logger = EbpfLogger::init_with_logger(ebpf, Forward(names))
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

struct Forward(PodNames);

impl log::Log for Forward {
    fn enabled(&self, _metadata: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let message = self.0.translate(&record.args().to_string());
        match record.level() {
            log::Level::Error => tracing::error!(target: "kernel", "{message}"),
            log::Level::Warn => tracing::warn!(target: "kernel", "{message}"),
            log::Level::Info => tracing::info!(target: "kernel", "{message}"),
            log::Level::Debug | log::Level::Trace => tracing::debug!(target: "kernel", "{message}"),
        }
    }

    fn flush(&self) {}
}

#[cfg(test)]
mod tests {
    use super::PodNames;

    #[test]
    fn lines_name_the_pod_and_write_addresses_as_people_do() {
        let names = PodNames::default();
        names.set(4711, "shop/cart-0");
        let line = "connect of the pod with cookie 4711 to ::ffff:198.18.7.2 port 80 denied";
        let expected = "connect of pod shop/cart-0 to 198.18.7.2 port 80 denied";
        assert_eq!(names.translate(line), expected);
        let unknown = "connect of the pod with cookie 9 to fd00:c01e::1 port 80 denied";
        assert_eq!(names.translate(unknown), unknown);
        assert_eq!(names.translate("the pod with cookie "), "the pod with cookie ");
    }
}
