//! Many connections, until SIGTERM: what breaks while something else is broken on purpose?

use crate::{connect, connect::How, session};
use anyhow::{Result, ensure};
use serde_json::json;
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
};
use std::{
    io::{Read, Write},
    net::SocketAddr,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// Options of `probe storm` and `probe hold`.
#[derive(clap::Args)]
pub(crate) struct Crowd {
    /// The server
    #[arg(long)]
    to: SocketAddr,
    /// How many at a time
    #[arg(long, default_value_t = 4)]
    parallel: usize,
    /// Pause after each connection or message, milliseconds
    #[arg(long, default_value_t = 5)]
    pause: u64,
    /// Longest wait for anything, seconds
    #[arg(long, default_value_t = 30)]
    timeout: u64,
}

/// What happened so far.
#[derive(Default)]
struct Tally {
    done: u64,
    failed: u64,
    longest: Duration,
    errors: Vec<String>,
}

impl Tally {
    fn add(&mut self, outcome: Result<Duration>) {
        match outcome {
            Ok(time) => {
                self.done += 1;
                self.longest = self.longest.max(time);
                // Tests wait for this line before they break something.
                if self.done == 1 {
                    println!("going");
                }
            }
            Err(error) => {
                self.failed += 1;
                if self.errors.len() < 5 {
                    self.errors.push(format!("{error:#}"));
                }
            }
        }
    }

    fn report(&self) -> String {
        let longest = self.longest.as_millis() as u64;
        json!({ "done": self.done, "failed": self.failed, "longest_ms": longest, "errors": self.errors }).to_string()
    }
}

/// New connections, one after the other in each thread; `done` counts sessions, `failed` what did not become one.
pub(crate) fn storm(crowd: &Crowd) -> Result<()> {
    run(crowd, |stop, tally| {
        while !stop.load(Ordering::Relaxed) {
            let started = Instant::now();
            let outcome = session::ask_for_peer(How::Plain, crowd.to, Duration::from_secs(crowd.timeout));
            lock(tally).add(outcome.map(|_| started.elapsed()));
            pause(crowd.pause);
        }
        Ok(())
    })
}

/// One connection in each thread, a message there and back, again and again; `failed` counts connections that broke.
pub(crate) fn hold(crowd: &Crowd) -> Result<()> {
    run(crowd, |stop, tally| {
        let mut stream = connect::connect(How::Plain, crowd.to, b"echo\n", Duration::from_secs(crowd.timeout))?;
        let message: Vec<u8> = (0..=255).collect();
        let mut answer = [0u8; 256];
        while !stop.load(Ordering::Relaxed) {
            let started = Instant::now();
            let mut exchange = || -> Result<Duration> {
                stream.write_all(&message)?;
                stream.read_exact(&mut answer)?;
                ensure!(answer[..] == message[..], "an answer came back changed");
                Ok(started.elapsed())
            };
            let outcome = exchange();
            let broken = outcome.is_err();
            lock(tally).add(outcome);
            if broken {
                return Ok(());
            }
            pause(crowd.pause);
        }
        Ok(())
    })
}

fn run(crowd: &Crowd, work: impl Fn(&AtomicBool, &Mutex<Tally>) -> Result<()> + Sync) -> Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    let stop = AtomicBool::new(false);
    let tally = Mutex::new(Tally::default());
    thread::scope(|scope| {
        for _ in 0..crowd.parallel {
            scope.spawn(|| {
                if let Err(error) = work(&stop, &tally) {
                    lock(&tally).add(Err(error));
                }
            });
        }
        signals.forever().next();
        stop.store(true, Ordering::Relaxed);
    });
    println!("{}", lock(&tally).report());
    Ok(())
}

fn lock(tally: &Mutex<Tally>) -> std::sync::MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[allow(
    clippy::disallowed_methods,
    reason = "the pause sets the load's rate; nothing is waited for"
)]
fn pause(milliseconds: u64) {
    thread::sleep(Duration::from_millis(milliseconds));
}
