//! New connections at a fixed rate and open ones in use, until SIGTERM: what breaks while something is changed around them?
//!
//! Every second it prints how far it is, as one line of JSON, and each failure when it happens, so that whoever reads its log needs
//! no connection to it. The last line has `"final": true`.

use crate::ask::{self, Failure, now_ms};
use anyhow::Result;
use serde_json::{Value, json};
use signal_hook::consts::{SIGINT, SIGTERM};
use std::{
    net::{SocketAddr, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// Options of `probe load`.
#[derive(clap::Args)]
pub(crate) struct Load {
    /// The server (`probe answer --http`), by address or name; a name is resolved once
    #[arg(long)]
    to: String,
    /// New connections per second
    #[arg(long, default_value_t = 50)]
    rate: u32,
    /// Connections that are opened at the beginning and stay open
    #[arg(long, default_value_t = 20)]
    open: u32,
    /// Milliseconds between two questions on an open connection
    #[arg(long, default_value_t = 100)]
    ping: u64,
    /// Longest wait for anything, seconds
    #[arg(long, default_value_t = 30)]
    timeout: u64,
}

#[derive(Default)]
struct Tally {
    attempts: u64,
    succeeded: u64,
    failed: u64,
    slowest: Duration,
    slowest_at_ms: u64,
    open: u64,
    open_broken: u64,
    pings: u64,
    slowest_ping: Duration,
    /// Microseconds that each answer took.
    ping_times: Vec<u32>,
}

struct Shared {
    tally: Mutex<Tally>,
    stop: Arc<AtomicBool>,
    to: SocketAddr,
    timeout: Duration,
}

/// Runs until SIGTERM.
pub(crate) fn run(load: &Load) -> Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    let shared = Shared {
        tally: Mutex::default(),
        stop,
        to: ask::resolve(&load.to)?,
        timeout: Duration::from_secs(load.timeout),
    };
    let started = Instant::now();
    thread::scope(|scope| {
        for _ in 0..load.open {
            scope.spawn(|| shared.hold(Duration::from_millis(load.ping)));
        }
        let mut next = started;
        let mut told = started;
        while !shared.stopped() {
            if load.rate > 0 {
                shared.tally().attempts += 1;
                scope.spawn(|| shared.attempt());
                next += Duration::from_secs(1) / load.rate;
            } else {
                next += Duration::from_millis(100);
            }
            // One that is late, on a busy machine, is not made up for by a burst.
            next = next.max(Instant::now() - Duration::from_millis(200));
            pause(next.saturating_duration_since(Instant::now()));
            if told.elapsed() >= Duration::from_secs(1) {
                told = Instant::now();
                println!("{}", shared.report(started, false));
            }
        }
    });
    println!("{}", shared.report(started, true));
    Ok(())
}

impl Shared {
    fn attempt(&self) {
        let started = Instant::now();
        let outcome = ask::once(self.to, self.timeout);
        let took = started.elapsed();
        let mut tally = self.tally();
        match outcome {
            Ok(_) => {
                tally.succeeded += 1;
                if took > tally.slowest {
                    tally.slowest = took;
                    tally.slowest_at_ms = now_ms();
                }
            }
            Err(failure) => {
                tally.failed += 1;
                drop(tally);
                tell("new", &failure, took);
            }
        }
    }

    /// One connection, in use until the end.
    fn hold(&self, every: Duration) {
        let born = Instant::now();
        let outcome = ask::dial(self.to, self.timeout).and_then(|stream| {
            self.tally().open += 1;
            self.use_it(stream, every)
        });
        if let Err(failure) = outcome {
            self.tally().open_broken += 1;
            tell("open", &failure, born.elapsed());
        }
    }

    fn use_it(&self, mut stream: TcpStream, every: Duration) -> Result<(), Failure> {
        while !self.stopped() {
            let started = Instant::now();
            ask::exchange(&mut stream, false)?;
            let took = started.elapsed();
            let mut tally = self.tally();
            tally.pings += 1;
            tally.slowest_ping = tally.slowest_ping.max(took);
            tally
                .ping_times
                .push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
            drop(tally);
            pause(every);
        }
        Ok(())
    }

    fn report(&self, started: Instant, last: bool) -> Value {
        let mut tally = self.tally();
        let mut report = json!({
            "final": last,
            "at_ms": now_ms(),
            "seconds": started.elapsed().as_secs(),
            "attempts": tally.attempts,
            "succeeded": tally.succeeded,
            "failed": tally.failed,
            "slowest_ms": tally.slowest.as_millis() as u64,
            "slowest_at_ms": tally.slowest_at_ms,
            "open": tally.open,
            "open_broken": tally.open_broken,
            "pings": tally.pings,
            "slowest_ping_ms": tally.slowest_ping.as_millis() as u64,
        });
        if last {
            tally.ping_times.sort_unstable();
            let of_thousand = |share: usize| tally.ping_times.get(tally.ping_times.len() * share / 1000);
            report["ping_p50_us"] = json!(of_thousand(500));
            report["ping_p99_us"] = json!(of_thousand(990));
        }
        report
    }

    fn tally(&self) -> std::sync::MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

fn tell(kind: &str, failure: &Failure, after: Duration) {
    let mut line = failure.json();
    line["failure"] = json!(kind);
    line["after_ms"] = json!(after.as_millis() as u64);
    println!("{line}");
}

#[allow(
    clippy::disallowed_methods,
    reason = "the pause sets the load's rate; nothing is waited for"
)]
fn pause(time: Duration) {
    thread::sleep(time);
}
