//! What `connect` costs, and what comes of it: connections one after the other, or several at a time.

use anyhow::Result;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// Options of `probe time`.
#[derive(clap::Args)]
pub(crate) struct Time {
    /// The server, which answers each byte with the same byte
    #[arg(long)]
    to: SocketAddr,
    /// How many connections
    #[arg(long, default_value_t = 1000)]
    count: u64,
    /// How many at a time
    #[arg(long, default_value_t = 1)]
    parallel: usize,
    /// Round trips of one byte on each
    #[arg(long, default_value_t = 1)]
    trips: u32,
    /// Longest wait for anything, milliseconds
    #[arg(long, default_value_t = 30_000)]
    timeout: u64,
}

#[derive(Default)]
struct Tally {
    /// Microseconds until `connect` returned, however it did.
    connect: Vec<u64>,
    /// Microseconds from the beginning of `connect` until the first byte was back, or the connection had failed.
    whole: Vec<u64>,
    /// By stage and error.
    failed: BTreeMap<String, u64>,
}

/// Connects; prints one line of JSON.
pub(crate) fn run(options: &Time) -> Result<()> {
    let (tally, left) = (Mutex::new(Tally::default()), AtomicU64::new(options.count));
    let started = Instant::now();
    thread::scope(|scope| {
        for _ in 0..options.parallel {
            scope.spawn(|| {
                let take = |left: u64| left.checked_sub(1);
                while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
                    once(options, &tally);
                }
            });
        }
    });
    let took = started.elapsed();
    let mut tally = tally.into_inner().unwrap_or_else(PoisonError::into_inner);
    let report = json!({
        "per_second": options.count as f64 / took.as_secs_f64(),
        "connect_us": percentiles(&mut tally.connect),
        "whole_us": percentiles(&mut tally.whole),
        "failed": tally.failed,
    });
    println!("{report}");
    Ok(())
}

fn once(options: &Time, tally: &Mutex<Tally>) {
    let timeout = Duration::from_millis(options.timeout);
    let begun = Instant::now();
    let connected = TcpStream::connect_timeout(&options.to, timeout);
    let connect = begun.elapsed().as_micros() as u64;
    let outcome = connected
        .map_err(|error| ("connect", error))
        .and_then(|stream| echo(stream, timeout, options.trips).map_err(|error| ("echo", error)));
    let whole = begun.elapsed().as_micros() as u64;
    let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
    tally.connect.push(connect);
    tally.whole.push(whole);
    if let Err((stage, error)) = outcome {
        *tally.failed.entry(format!("{stage}: {error}")).or_default() += 1;
    }
}

fn echo(mut stream: TcpStream, timeout: Duration, trips: u32) -> io::Result<()> {
    stream.set_read_timeout(Some(timeout))?;
    stream.set_nodelay(true)?;
    for _ in 0..trips {
        stream.write_all(&[7])?;
        stream.read_exact(&mut [0])?;
    }
    Ok(())
}

fn percentiles(times: &mut [u64]) -> Value {
    times.sort_unstable();
    let of_thousand = |share: usize| times.get(times.len() * share / 1000).copied();
    json!({ "p50": of_thousand(500), "p99": of_thousand(990), "most": times.last() })
}
