//! Progress on standard error: a spinner for each step on a terminal, a line for each change otherwise.

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::{
    io::IsTerminal,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Shows steps.
#[derive(Debug)]
pub(crate) struct Progress {
    /// Absent where nobody looks at a terminal.
    bars: Option<MultiProgress>,
}

/// One thing that takes a while.
#[derive(Debug)]
pub(crate) struct Step {
    name: String,
    bar: Option<ProgressBar>,
    since: Instant,
    last: Mutex<String>,
}

impl Progress {
    pub(crate) fn new() -> Self {
        let bars = std::io::stderr().is_terminal().then(MultiProgress::new);
        Self { bars }
    }

    /// Words that stay.
    pub(crate) fn note(&self, words: impl AsRef<str>) {
        match &self.bars {
            // Fails only where the terminal is gone, and with it the reader.
            Some(bars) => drop(bars.println(words.as_ref())),
            None => eprintln!("{}", words.as_ref()),
        }
    }

    /// Begins a step.
    pub(crate) fn step(&self, name: impl Into<String>) -> Step {
        let name = name.into();
        let bar = self.bars.as_ref().map(|bars| {
            let bar = bars.add(ProgressBar::new_spinner());
            if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix}: {msg} ({elapsed})") {
                bar.set_style(style);
            }
            bar.set_prefix(name.clone());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Step {
            name,
            bar,
            since: Instant::now(),
            last: Mutex::default(),
        }
    }
}

impl Step {
    /// How it stands. Said again only when it changes.
    pub(crate) fn say(&self, words: impl Into<String>) {
        let words = words.into();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if *last == words {
            return;
        }
        match &self.bar {
            Some(bar) => bar.set_message(words.clone()),
            None => eprintln!("{}: {words}", self.name),
        }
        *last = words;
    }

    /// The step is done.
    pub(crate) fn done(self, words: impl Into<String>) {
        self.end("ok", &words.into());
    }

    /// The step failed.
    pub(crate) fn failed(self, words: impl Into<String>) {
        self.end("FAILED", &words.into());
    }

    fn end(self, outcome: &str, words: &str) {
        let seconds = self.since.elapsed().as_secs_f32();
        let line = format!("{outcome}: {}: {words} ({seconds:.1} s)", self.name);
        match &self.bar {
            Some(bar) => {
                bar.set_style(ProgressStyle::default_spinner());
                bar.finish_and_clear();
                bar.println(line);
            }
            None => eprintln!("{line}"),
        }
    }
}
