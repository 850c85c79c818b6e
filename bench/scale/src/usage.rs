//! What a process uses, read from outside.

use std::fs;
use std::io;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

/// The CPU time that all threads of a process have used, those that have ended among them.
pub(crate) fn cpu(id: u32) -> Result<Duration> {
    let (mut clock, mut time) = (0, libc::timespec { tv_sec: 0, tv_nsec: 0 });
    // SAFETY: writes one clock id, which outlives the call.
    let code = unsafe { libc::clock_getcpuclockid(libc::pid_t::try_from(id)?, &raw mut clock) };
    ensure!(
        code == 0,
        "no CPU clock of process {id}: {}",
        io::Error::from_raw_os_error(code)
    );
    // SAFETY: writes one timespec, which outlives the call.
    let code = unsafe { libc::clock_gettime(clock, &raw mut time) };
    ensure!(
        code == 0,
        "the CPU clock of process {id}: {}",
        io::Error::last_os_error()
    );
    Ok(Duration::new(time.tv_sec.try_into()?, time.tv_nsec.try_into()?))
}

/// The memory that a process has resident, its program's text included, in MB.
pub(crate) fn resident_mb(id: u32) -> Result<f64> {
    megabytes(&format!("/proc/{id}/status"), "VmRSS:")
}

/// The part of it that is in no file, in MB: what the process itself made.
pub(crate) fn anonymous_mb(id: u32) -> Result<f64> {
    megabytes(&format!("/proc/{id}/status"), "RssAnon:")
}

fn megabytes(file: &str, name: &str) -> Result<f64> {
    let text = fs::read_to_string(file).with_context(|| format!("{file}: has the process ended?"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let kilobytes: f64 = line
        .and_then(|line| line.split_whitespace().next())
        .with_context(|| format!("no {name} in {file}"))?
        .parse()?;
    Ok(kilobytes * 1024.0 / 1e6)
}
