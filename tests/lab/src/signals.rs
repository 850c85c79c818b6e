//! Removing labs when the program is interrupted.

use crate::run_dir;
use anyhow::{Context, Result};
use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// The labs of this program that exist and are not to be kept.
static LABS: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Removes all labs of this program on SIGINT, SIGTERM and SIGHUP, then exits with code 130 (SIGINT) or 143.
///
/// `farewell` is called before, to tell the person at the terminal.
pub fn remove_labs_on_signals(farewell: impl Fn() + Send + 'static) -> Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP]).context("handle signals")?;
    std::thread::spawn(move || {
        let Some(signal) = signals.forever().next() else { return };
        farewell();
        // The lock is held to the end, so that the main thread's own removal cannot meet this one half way.
        let labs = labs();
        for lab in labs.iter() {
            if let Err(error) = run_dir::remove(lab) {
                eprintln!("lab {lab}: {error:#}");
            }
        }
        std::process::exit(128 + signal);
    });
    Ok(())
}

/// From now on the lab of this name is removed when the program is interrupted.
pub(crate) fn guard(name: &str) {
    labs().insert(name.to_owned());
}

/// The lab of this name is to stay when the program is interrupted.
pub(crate) fn unguard(name: &str) {
    labs().remove(name);
}

/// Removes the lab of this name now.
pub(crate) fn remove(name: &str) -> Result<()> {
    let mut labs = labs();
    labs.remove(name);
    run_dir::remove(name)
}

fn labs() -> MutexGuard<'static, BTreeSet<String>> {
    LABS.lock().unwrap_or_else(PoisonError::into_inner)
}
