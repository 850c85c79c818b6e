//! How much memory the process has, against how much it may have. Where that is too much, new requests are refused until there is less:
//! a process that the kernel ends would take those under way along.

use std::{
    fs, io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use culvert_telemetry::prometheus::{metrics::gauge::Gauge, registry::Registry};

/// How often it is looked. A waypoint that reads 1 GB/s takes 100 MB until then.
const INTERVAL: Duration = Duration::from_millis(100);

/// What the process has (proc_pid_status(5)).
const STATUS: &str = "/proc/self/status";

/// What the cgroup of a container may have.
const LIMIT: &str = "/sys/fs/cgroup/memory.max";

/// Of that, four fifths: the rest is for what those under way still take, and the kernel's buffers.
const SHARE: (u64, u64) = (4, 5);

/// Whether the process has too much memory. Clones know the same.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    is_full: Arc<AtomicBool>,
    resident: Gauge<i64, AtomicI64>,
    limit: Gauge<i64, AtomicI64>,
}

impl Memory {
    /// There is room.
    pub fn register(registry: &mut Registry) -> Self {
        let memory = Self::default();
        registry.register(
            "culvert_waypoint_resident_memory_bytes",
            "Memory that the process has, looked at while there is a limit",
            memory.resident.clone(),
        );
        registry.register(
            "culvert_waypoint_memory_limit_bytes",
            "Memory beyond which new requests are refused; 0 for no limit",
            memory.limit.clone(),
        );
        memory
    }

    /// Whether nothing new is taken, beside the little that shows when there is room again.
    pub(crate) fn is_full(&self) -> bool {
        self.is_full.load(Ordering::Relaxed)
    }

    /// Looks again and again. `most` is in bytes; 0 is no limit.
    pub(crate) async fn follow(self, most: u64) {
        self.limit.set(i64::try_from(most).unwrap_or(i64::MAX));
        if most == 0 {
            return;
        }
        let mut tick = tokio::time::interval(INTERVAL);
        loop {
            tick.tick().await;
            match resident() {
                Ok(resident) => self.take(resident, most),
                Err(error) => {
                    tracing::error!(%error, "how much memory there is cannot be told any more: its limit holds no longer");
                    self.is_full.store(false, Ordering::Relaxed);
                    return;
                }
            }
        }
    }

    fn take(&self, resident: u64, most: u64) {
        self.resident.set(i64::try_from(resident).unwrap_or(i64::MAX));
        let is_full = resident > most;
        if self.is_full.swap(is_full, Ordering::Relaxed) != is_full {
            match is_full {
                true => tracing::warn!(resident, limit = most, "too much memory: new requests are refused"),
                false => tracing::info!(resident, limit = most, "there is memory again"),
            }
        }
    }
}

/// What holds where nobody says a limit: a part of the container's; 0 where that has none, or none can be told.
pub(crate) fn of_container() -> u64 {
    of_file(Path::new(LIMIT)).unwrap_or(0)
}

fn of_file(path: &Path) -> Option<u64> {
    let most: u64 = fs::read_to_string(path).ok()?.trim().parse().ok()?;
    Some(most / SHARE.1 * SHARE.0)
}

/// Bytes that the process has in memory.
fn resident() -> io::Result<u64> {
    let status = fs::read_to_string(STATUS)?;
    of_status(&status).ok_or_else(|| io::Error::other(format!("{STATUS} has no VmRSS")))
}

fn of_status(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_process_has_is_read_of_its_status() {
        assert_eq!(
            of_status("Name:\twaypoint\nVmHWM:\t  900 kB\nVmRSS:\t  17 kB\n"),
            Some(17 << 10)
        );
        assert_eq!(of_status("VmHWM:\t  900 kB\n"), None);
        assert!(resident().unwrap() > 1 << 20);
    }

    #[test]
    fn a_container_without_a_limit_sets_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("memory.max");
        assert_eq!(of_file(&path), None);
        for (text, most) in [("max\n", None), ("1000\n", Some(800)), ("0\n", Some(0))] {
            fs::write(&path, text).unwrap();
            assert_eq!(of_file(&path), most);
        }
    }

    #[test]
    fn it_is_full_beyond_the_limit_and_no_longer() {
        let memory = Memory::default();
        for (resident, is_full) in [(10, false), (11, true), (12, true), (10, false)] {
            memory.take(resident, 10);
            assert_eq!(memory.is_full(), is_full, "{resident}");
        }
    }
}
