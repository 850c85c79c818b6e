//! The client application: one load for a fixed time, its figures printed as JSON.
//!
//! It prints a line when the measured time begins, after a warm-up, and one with the figures when it ends, so that
//! whoever reads the proxies' CPU can do so at the same moments.

use crate::{
    poll::Poll,
    protocol::{EXCHANGE, MESSAGE, ONCE, SINK},
};
use anyhow::{Context, Result, bail, ensure};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use serde::{Deserialize, Serialize};
use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

/// Options of `culvert-bench load`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// What to send
    #[arg(long, value_enum)]
    kind: Kind,
    /// The server
    #[arg(long, value_name = "ADDRESS:PORT")]
    to: SocketAddr,
    /// Measured time, seconds
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Time before it that is not measured, seconds
    #[arg(long, default_value_t = 0.5)]
    warm_up: f64,
    /// Connections at a time
    #[arg(long, default_value_t = 16)]
    connections: usize,
}

/// The three loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// One connection, as fast as it takes bytes
    Stream,
    /// Requests and answers of 1 KiB, the next one when the last is answered, on each connection
    Requests,
    /// New connections, each with one request and answer of 1 KiB
    Connections,
}

impl Kind {
    /// As the command line says it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Stream => "stream",
            Self::Requests => "requests",
            Self::Connections => "connections",
        }
    }
}

/// A line of output.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub(crate) enum Line {
    /// The measured time begins.
    Started,
    /// It is over.
    Ended(Figures),
}

/// What was done within the measured time.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Figures {
    /// How long it was, seconds.
    pub(crate) seconds: f64,
    /// Bytes sent (stream).
    pub(crate) bytes: u64,
    /// Requests answered, or connections served.
    pub(crate) count: u64,
    /// Median time of one, microseconds.
    pub(crate) p50_us: u32,
    /// The time that 99 of 100 took at most, microseconds.
    pub(crate) p99_us: u32,
    /// Connections that failed, warm-up included.
    pub(crate) failed: u64,
    /// Why the first of them failed.
    pub(crate) first_failure: Option<String>,
}

/// Runs one load.
pub(crate) fn run(options: &Options) -> Result<()> {
    let figures = match options.kind {
        Kind::Stream => stream(options)?,
        Kind::Requests => requests(options)?,
        Kind::Connections => connections(options)?,
    };
    say(&Line::Ended(figures))
}

/// Prints a line at once.
pub(crate) fn say(line: &Line) -> Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(line)?)?;
    Ok(out.flush()?)
}

/// The warm-up and the measured time after it.
pub(crate) struct Window {
    begins: Instant,
    length: Duration,
    measured_from: Option<Instant>,
}

impl Window {
    /// Lengths in seconds; the warm-up begins now.
    pub(crate) fn new(warm_up: f64, seconds: f64) -> Self {
        let begins = Instant::now() + Duration::from_secs_f64(warm_up);
        Self {
            begins,
            length: Duration::from_secs_f64(seconds),
            measured_from: None,
        }
    }

    /// To be asked often. True once, when the measured time begins.
    pub(crate) fn begins_at(&mut self, now: Instant) -> Result<bool> {
        if self.measured_from.is_some() || now < self.begins {
            return Ok(false);
        }
        say(&Line::Started)?;
        self.measured_from = Some(Instant::now());
        Ok(true)
    }

    /// Whether the measured time has begun.
    pub(crate) fn is_measured(&self) -> bool {
        self.measured_from.is_some()
    }

    /// Whether the measured time is over.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        self.measured_from.is_some_and(|from| now >= from + self.length)
    }

    fn seconds(&self) -> f64 {
        self.measured_from.map_or(0.0, |from| from.elapsed().as_secs_f64())
    }
}

fn stream(options: &Options) -> Result<Figures> {
    let mut stream = TcpStream::connect(options.to).with_context(|| format!("cannot connect to {}", options.to))?;
    let chunk = vec![SINK; 1 << 20];
    let (mut total, mut before) = (0u64, 0u64);
    let mut window = Window::new(options.warm_up, options.seconds);
    let seconds = loop {
        total += stream.write(&chunk).context("the stream broke")? as u64;
        let now = Instant::now();
        if window.begins_at(now)? {
            before = total;
        }
        if window.is_over(now) {
            break window.seconds();
        }
    };
    let bytes = total - before;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = [0u8; 8];
    stream
        .read_exact(&mut answer)
        .context("the server did not say how much it received")?;
    let received = u64::from_be_bytes(answer);
    ensure!(received == total, "{total} bytes were sent, {received} arrived");
    Ok(Figures {
        seconds,
        bytes,
        ..Figures::default()
    })
}

fn requests(options: &Options) -> Result<Figures> {
    let mut poll = Poll::new()?;
    let message = vec![EXCHANGE; MESSAGE];
    let mut slots = Vec::new();
    for number in 0..options.connections {
        let mut stream = TcpStream::connect(options.to).with_context(|| format!("cannot connect to {}", options.to))?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        poll.add_readable(&stream, number as u64)?;
        stream.write_all(&message)?;
        slots.push((stream, 0usize, Instant::now()));
    }
    let mut window = Window::new(options.warm_up, options.seconds);
    let mut times = Vec::with_capacity(1 << 20);
    let mut ready = Vec::new();
    let mut buffer = vec![0u8; MESSAGE];
    loop {
        poll.wait(&mut ready, Some(Duration::from_secs(10)))?;
        ensure!(!ready.is_empty(), "no answer for 10 s");
        for number in ready.drain(..) {
            let (stream, received, since) = &mut slots[usize::try_from(number)?];
            match stream.read(&mut buffer[*received..]) {
                Ok(0) => bail!("a connection was closed in the middle of the load"),
                Ok(count) => *received += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error).context("a connection broke"),
            }
            if *received == MESSAGE {
                let now = Instant::now();
                if window.is_measured() {
                    times.push(micros(now - *since));
                }
                (*received, *since) = (0, now);
                stream.write_all(&message)?;
            }
        }
        let now = Instant::now();
        window.begins_at(now)?;
        if window.is_over(now) {
            return Ok(summary(&window, times));
        }
    }
}

/// One connection of the connection load, from `connect` to the end of its stream.
struct Attempt {
    stream: TcpStream,
    since: Instant,
    sent: bool,
    received: usize,
}

fn connections(options: &Options) -> Result<Figures> {
    let mut poll = Poll::new()?;
    let mut slots = Vec::new();
    for number in 0..options.connections {
        slots.push(attempt(options.to, &poll, number as u64)?);
    }
    let mut window = Window::new(options.warm_up, options.seconds);
    let mut times = Vec::with_capacity(1 << 18);
    let (mut failed, mut first_failure) = (0u64, None);
    let mut ready = Vec::new();
    loop {
        poll.wait(&mut ready, Some(Duration::from_secs(10)))?;
        ensure!(!ready.is_empty(), "no connection moved for 10 s");
        for number in ready.drain(..) {
            let slot = &mut slots[usize::try_from(number)?];
            match slot.turn(&poll, number) {
                Ok(false) => continue,
                Ok(true) if window.is_measured() => times.push(micros(slot.since.elapsed())),
                Ok(true) => {}
                Err(error) => {
                    failed += 1;
                    first_failure.get_or_insert_with(|| error.to_string());
                }
            }
            *slot = attempt(options.to, &poll, number)?;
        }
        ensure!(
            failed < 1000,
            "1000 connections failed, the first one: {}",
            first_failure.unwrap_or_default()
        );
        let now = Instant::now();
        window.begins_at(now)?;
        if window.is_over(now) {
            return Ok(Figures {
                failed,
                first_failure,
                ..summary(&window, times)
            });
        }
    }
}

fn attempt(to: SocketAddr, poll: &Poll, number: u64) -> Result<Attempt> {
    let family = if to.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    let since = Instant::now();
    match rustix::net::connect(&socket, &to) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
        Err(error) => return Err(error).with_context(|| format!("cannot connect to {to}")),
    }
    let stream = TcpStream::from(socket);
    poll.add_writable(&stream, number)?;
    Ok(Attempt {
        stream,
        since,
        sent: false,
        received: 0,
    })
}

impl Attempt {
    /// Goes on as far as possible; true when the connection has been served and closed.
    fn turn(&mut self, poll: &Poll, number: u64) -> io::Result<bool> {
        if !self.sent {
            if let Some(error) = self.stream.take_error()? {
                return Err(error);
            }
            self.stream.write_all(&[ONCE; MESSAGE])?;
            self.sent = true;
            poll.now_readable(&self.stream, number)?;
            return Ok(false);
        }
        let mut buffer = [0u8; 2 * MESSAGE];
        match self.stream.read(&mut buffer) {
            Ok(0) if self.received == MESSAGE => Ok(true),
            Ok(0) => Err(io::Error::new(
                ErrorKind::UnexpectedEof,
                "closed before the answer was complete",
            )),
            Ok(count) => {
                self.received += count;
                Ok(false)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// In microseconds, as far as a figure goes.
pub(crate) fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}

/// Figures of what took these times, microseconds.
pub(crate) fn summary(window: &Window, mut times: Vec<u32>) -> Figures {
    let seconds = window.seconds();
    times.sort_unstable();
    let at = |share: f64| {
        times
            .get(((times.len() as f64) * share) as usize)
            .or(times.last())
            .copied()
            .unwrap_or(0)
    };
    Figures {
        seconds,
        count: times.len() as u64,
        p50_us: at(0.50),
        p99_us: at(0.99),
        ..Figures::default()
    }
}
