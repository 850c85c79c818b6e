//! What the proxies use, read from `/proc`: CPU and resident memory of process families.

use anyhow::{Context, Result};
use std::{collections::HashMap, fs, time::Duration};

/// The unit of CPU time in `/proc`: USER_HZ, which is part of the kernel's interface on every architecture we build for.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU time spent and memory held by some processes, at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// User and system time since they began, seconds.
    pub(crate) cpu_seconds: f64,
    /// Resident memory, MB (10^6 bytes).
    pub(crate) rss_mb: f64,
}

/// The usage of these processes and of all their descendants, so that a monitor's worker counts with it.
pub(crate) fn of(roots: &[u32]) -> Result<Usage> {
    let mut usage = Usage::default();
    for process in families(roots)? {
        let stat = read(process, "stat")?;
        let status = read(process, "status")?;
        let fields = after_name(&stat).with_context(|| format!("/proc/{process}/stat has no end of name"))?;
        // proc_pid_stat(5): utime and stime are the 14th and 15th field, and the list begins with the third.
        let spent: u64 = fields
            .iter()
            .skip(11)
            .take(2)
            .filter_map(|field| field.parse::<u64>().ok())
            .sum();
        usage.cpu_seconds += spent as f64 / TICKS_PER_SECOND;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = resident
            .and_then(|line| line.split_whitespace().next())
            .and_then(|kib| kib.parse::<f64>().ok());
        usage.rss_mb += kib.unwrap_or(0.0) * 1024.0 / 1e6;
    }
    Ok(usage)
}

/// Time on a processor, user and system, of these processes with all their descendants since they began; exact to microseconds, but
/// threads that have ended count no more.
pub(crate) fn cpu_time(roots: &[u32]) -> Result<Duration> {
    let mut total = 0;
    for process in families(roots)? {
        let tasks = format!("/proc/{process}/task");
        let tasks = fs::read_dir(&tasks).with_context(|| format!("cannot read {tasks}: did the proxy die?"))?;
        for task in tasks {
            // A thread may end while we look.
            let Ok(schedstat) = fs::read_to_string(task?.path().join("schedstat")) else {
                continue;
            };
            // Documentation/scheduler/sched-stats.rst: nanoseconds spent on the processor come first.
            let spent = schedstat.split_whitespace().next();
            total += spent.and_then(|nanos| nanos.parse::<u64>().ok()).unwrap_or(0);
        }
    }
    Ok(Duration::from_nanos(total))
}

/// Context switches of these processes with all their descendants since they began, voluntary and not; threads that have ended count no
/// more.
pub(crate) fn switches(roots: &[u32]) -> Result<u64> {
    let mut total = 0;
    for process in families(roots)? {
        let tasks = format!("/proc/{process}/task");
        for task in fs::read_dir(&tasks).with_context(|| format!("cannot read {tasks}: did the proxy die?"))? {
            // A thread may end while we look.
            let Ok(status) = fs::read_to_string(task?.path().join("status")) else {
                continue;
            };
            let counts = status.lines().filter_map(|line| {
                let (name, count) = line.split_once(':')?;
                name.ends_with("voluntary_ctxt_switches")
                    .then(|| count.trim().parse::<u64>().ok())?
            });
            total += counts.sum::<u64>();
        }
    }
    Ok(total)
}

/// Proportional set size of these processes with all their descendants, MB (10^6 bytes): what several share counts in parts.
pub(crate) fn pss_mb(roots: &[u32]) -> Result<f64> {
    let mut kib = 0.0;
    for process in families(roots)? {
        let rollup = read(process, "smaps_rollup")?;
        let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
        let count = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
        kib += count.with_context(|| format!("/proc/{process}/smaps_rollup has no Pss"))?;
    }
    Ok(kib * 1024.0 / 1e6)
}

/// Whether this process is there and has not ended.
pub(crate) fn is_alive(process: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let state = after_name(&stat).and_then(|fields| fields.first().map(|state| (*state).to_owned()));
    state.is_some_and(|state| state != "Z" && state != "X")
}

/// The processes themselves and everything that descends from them.
pub(crate) fn families(roots: &[u32]) -> Result<Vec<u32>> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in fs::read_dir("/proc")? {
        let Some(process) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // A process may end while we look.
        let Ok(stat) = fs::read_to_string(format!("/proc/{process}/stat")) else {
            continue;
        };
        let parent = after_name(&stat).and_then(|fields| fields.get(1)?.parse().ok());
        children.entry(parent.unwrap_or(0)).or_default().push(process);
    }
    let mut found = roots.to_vec();
    let mut next = 0;
    while let Some(process) = found.get(next).copied() {
        found.extend(children.remove(&process).unwrap_or_default());
        next += 1;
    }
    Ok(found)
}

fn read(process: u32, file: &str) -> Result<String> {
    let path = format!("/proc/{process}/{file}");
    fs::read_to_string(&path).with_context(|| format!("cannot read {path}: did the proxy die?"))
}

/// The fields of a stat line from the third on; the second, a name in brackets, may hold anything.
fn after_name(stat: &str) -> Option<Vec<&str>> {
    Some(stat.rsplit_once(") ")?.1.split_whitespace().collect())
}

/// Lets a program rest for this long: what it uses meanwhile, or still holds afterwards, is what is measured.
#[allow(
    clippy::disallowed_methods,
    reason = "time at rest is what is measured, and has no other sign"
)]
pub(crate) fn settle(time: Duration) {
    std::thread::sleep(time);
}

#[cfg(test)]
mod tests {
    use super::{after_name, cpu_time, families, is_alive, of, pss_mb, switches};
    use std::{
        process::{Command, Stdio, id},
        time::{Duration, Instant},
    };

    #[test]
    fn a_name_with_brackets_and_spaces_does_not_shift_the_fields() {
        assert_eq!(after_name("7 (a) b) c) S 1 7"), Some(vec!["S", "1", "7"]));
    }

    #[test]
    fn a_child_counts_with_its_parent() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        assert!(families(&[id()]).unwrap().contains(&child.id()));
        assert!(of(&[id()]).unwrap().rss_mb > of(&[child.id()]).unwrap().rss_mb);
        drop(child.stdin.take());
        child.wait().unwrap();
    }

    #[test]
    fn one_that_has_ended_is_not_alive_even_before_it_is_waited_for() {
        let mut child = Command::new("true").spawn().unwrap();
        assert!(is_alive(id()));
        while is_alive(child.id()) {
            std::thread::yield_now();
        }
        child.wait().unwrap();
    }

    #[test]
    fn switches_and_memory_of_a_running_program_are_seen() {
        assert!(switches(&[id()]).unwrap() > 0);
        assert!(pss_mb(&[id()]).unwrap() > 0.1);
    }

    #[test]
    fn time_on_a_processor_is_counted() {
        let before = cpu_time(&[id()]).unwrap();
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(20) {
            std::hint::spin_loop();
        }
        assert!(cpu_time(&[id()]).unwrap() > before);
    }
}
