//! What the processors of the machine did.

use anyhow::{Context, Result};
use std::{fs, path::Path};

/// The unit of time in `/proc/stat`: USER_HZ, which is part of the kernel's interface on every architecture we build for.
const TICKS_PER_SECOND: f64 = 100.0;

/// Time of all processors together since the machine started, seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Processors {
    /// Of everything that ran, interrupts with it.
    pub(super) busy: f64,
    /// That the hypervisor gave to others.
    pub(super) steal: f64,
}

impl Processors {
    /// As it is now.
    pub(super) fn now() -> Result<Self> {
        let stat = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
        Self::parse(&stat).context("/proc/stat does not begin with all processors' times")
    }

    /// proc_stat(5): user, nice, system, idle, iowait, irq, softirq, steal; guests' time is part of user and nice.
    fn parse(stat: &str) -> Option<Self> {
        let fields = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace();
        let ticks: Vec<f64> = fields.map_while(|field| field.parse().ok()).collect();
        let [user, nice, system, _idle, _iowait, irq, softirq, steal, ..] = *ticks else {
            return None;
        };
        Some(Self {
            busy: (user + nice + system + irq + softirq) / TICKS_PER_SECOND,
            steal: steal / TICKS_PER_SECOND,
        })
    }
}

/// Each processor's frequency where the kernel tells, kHz.
pub(super) fn frequencies() -> Vec<f64> {
    let Ok(entries) = fs::read_dir("/sys/devices/system/cpu") else {
        return Vec::new();
    };
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    let read = |path: &Path| {
        fs::read_to_string(path.join("cpufreq/scaling_cur_freq"))
            .ok()?
            .trim()
            .parse()
            .ok()
    };
    paths.iter().filter_map(|path| read(path)).collect()
}

/// The kernel's own threads: children of the second process, which is their parent.
pub(super) fn kernel_threads() -> Vec<u32> {
    const PARENT: u32 = 2;
    let is_kernel = fs::read_to_string("/proc/2/comm").is_ok_and(|name| name.trim() == "kthreadd");
    if is_kernel { vec![PARENT] } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_of_processors_leaves_out_what_was_idle_and_what_was_taken_by_others() {
        let text = "cpu  100 20 30 4000 500 6 7 80 9 10\ncpu0 1 2 3\n";
        let expected = Processors { busy: 1.63, steal: 0.8 };
        assert_eq!(Processors::parse(text), Some(expected));
        assert_eq!(Processors::parse("cpu0 1 2"), None);
        assert!(Processors::now().unwrap().busy > 0.0);
    }
}
