//! Saying what is happening: a spinner on a terminal, plain lines otherwise. Always on standard error.

use anyhow::Result;
use culvert_lab::Lab;
use indicatif::{ProgressBar, ProgressStyle};
use std::{
    io::{IsTerminal, stderr},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// Whether the run is being given up: nothing more is said then.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// From now on nothing is said, except for this.
pub(super) fn interrupt(text: &str) {
    INTERRUPTED.store(true, Ordering::Relaxed);
    eprintln!("\n==> {text}");
}

/// Whether [`interrupt`] has been called.
pub(super) fn is_interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Waits for the thread that removes what was made, which ends this program.
fn wait_for_the_end() -> ! {
    loop {
        std::thread::park();
    }
}

/// The steps of a run.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    /// Lines begin with the time since then.
    since: Option<Instant>,
    current: Mutex<Option<(String, Instant)>>,
}

impl Progress {
    pub(super) fn new() -> Self {
        let bar = stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner:.cyan} {msg}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Self {
            bar,
            since: None,
            current: Mutex::new(None),
        }
    }

    /// Like [`new`](Self::new), and plain lines tell the time since now.
    pub(super) fn timed() -> Self {
        Self {
            since: Some(Instant::now()),
            ..Self::new()
        }
    }

    /// Something about the step that is under way.
    pub(super) fn note(&self, text: &str) {
        if is_interrupted() {
            return;
        }
        match &self.bar {
            Some(bar) => bar.println(format!("  {text}")),
            None => eprintln!("    {}{text}", self.time()),
        }
    }

    fn time(&self) -> String {
        let since = self.since.map(|since| since.elapsed().as_secs_f32());
        since.map(|seconds| format!("{seconds:5.1} s  ")).unwrap_or_default()
    }

    /// The step before is done, and this one begins.
    pub(super) fn step(&self, text: &str) {
        self.end_step(true);
        if is_interrupted() {
            return;
        }
        match &self.bar {
            Some(bar) => bar.set_message(text.to_owned()),
            None => eprintln!("==> {}{text}", self.time()),
        }
        if let Ok(mut current) = self.current.lock() {
            *current = Some((text.to_owned(), Instant::now()));
        }
    }

    /// The last step is done, or has failed.
    pub(super) fn finish(&self, well: bool) {
        self.end_step(well);
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// What was played has ended: what it found out, or why it failed, with the last words of the lab's programs. Where it is
    /// being given up, what failed is what is being removed, and this does not return.
    pub(super) fn ended<T>(&self, lab: &Lab, played: Result<T>) -> Result<T> {
        if played.is_err() && is_interrupted() {
            wait_for_the_end();
        }
        self.finish(played.is_ok());
        if played.is_err() {
            eprintln!("{}", lab.logs(12));
        }
        played
    }

    fn end_step(&self, well: bool) {
        let Ok(mut current) = self.current.lock() else { return };
        if let (Some((text, began)), Some(bar), false) = (current.take(), &self.bar, is_interrupted()) {
            let mark = if well { '\u{2713}' } else { '\u{2717}' };
            bar.println(format!("{mark} {text} ({:.1} s)", began.elapsed().as_secs_f32()));
        }
    }
}
