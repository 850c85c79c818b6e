//! One question to `probe answer`, with every failure told by its stage.

use crate::answer;
use serde_json::{Value, json};
use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream, ToSocketAddrs},
    path::PathBuf,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Options of `probe ask`.
#[derive(clap::Args)]
pub(crate) struct Ask {
    /// The server, by name or address, with its port; repeatable
    #[arg(long, required = true)]
    to: Vec<String>,
    /// The server speaks first, and is no HTTP server
    #[arg(long)]
    greeted: bool,
    /// How many times each, each with a connection of its own
    #[arg(long, default_value_t = 1)]
    times: u32,
    /// Longest wait for anything, seconds
    #[arg(long, default_value_t = 30)]
    timeout: u64,
    /// Where to write the report, beside standard output
    #[arg(long)]
    report: Option<PathBuf>,
}

/// Where a question failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) stage: &'static str,
    pub(crate) error: io::Error,
}

impl Failure {
    pub(crate) fn json(&self) -> Value {
        json!({
            "at_ms": now_ms(),
            "stage": self.stage,
            "errno": self.error.raw_os_error(),
            "error": self.error.to_string(),
        })
    }
}

/// Milliseconds since 1970, by which a test compares what happens in different programs.
pub(crate) fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_millis() as u64)
}

/// Asks; prints an array of `{"to","ok","milliseconds",...}`. Fails if one of them failed.
pub(crate) fn run(ask: &Ask) -> anyhow::Result<()> {
    let timeout = Duration::from_secs(ask.timeout);
    let mut reports = Vec::new();
    for to in &ask.to {
        for _ in 0..ask.times {
            let started = Instant::now();
            let outcome = stage("resolve", resolve(to)).and_then(|address| match ask.greeted {
                true => greeted(address, timeout).map(|()| json!({})),
                false => once(address, timeout),
            });
            let mut report = outcome.as_ref().map_or_else(Failure::json, Clone::clone);
            report["to"] = json!(to);
            report["ok"] = json!(outcome.is_ok());
            report["microseconds"] = json!(started.elapsed().as_micros() as u64);
            reports.push(report);
        }
    }
    let failed = reports.iter().filter(|report| report["ok"] == false).count();
    let text = Value::from(reports).to_string();
    println!("{text}");
    if let Some(path) = &ask.report {
        std::fs::write(path, &text)?;
    }
    anyhow::ensure!(failed == 0, "{failed} questions failed");
    Ok(())
}

pub(crate) fn resolve(to: &str) -> io::Result<SocketAddr> {
    to.to_socket_addrs()?
        .next()
        .ok_or_else(|| io::Error::other("the name has no address"))
}

/// A connection, a question, its answer; who answered.
pub(crate) fn once(to: SocketAddr, timeout: Duration) -> Result<Value, Failure> {
    let mut stream = dial(to, timeout)?;
    let local = stage("connect", stream.local_addr())?;
    let mut found = exchange(&mut stream, true)?;
    let mut rest = [0u8; 1];
    let more = stage("end", stream.read(&mut rest))?;
    if more != 0 {
        return Err(wrong("more than the answer came"));
    }
    found["local"] = json!(local);
    Ok(found)
}

/// A connection on which the server speaks first, then an echo.
fn greeted(to: SocketAddr, timeout: Duration) -> Result<(), Failure> {
    let mut stream = dial(to, timeout)?;
    let mut greeting = vec![0u8; answer::GREETING.len()];
    stage("greeting", stream.read_exact(&mut greeting))?;
    let message = b"and back";
    stage("send", stream.write_all(message))?;
    let mut echo = [0u8; 8];
    stage("receive", stream.read_exact(&mut echo))?;
    if greeting != answer::GREETING.as_bytes() || &echo != message {
        return Err(wrong("the bytes changed on the way"));
    }
    Ok(())
}

pub(crate) fn dial(to: SocketAddr, timeout: Duration) -> Result<TcpStream, Failure> {
    let stream = stage("connect", TcpStream::connect_timeout(&to, timeout))?;
    stage("connect", stream.set_read_timeout(Some(timeout)))?;
    stage("connect", stream.set_write_timeout(Some(timeout)))?;
    stage("connect", stream.set_nodelay(true))?;
    Ok(stream)
}

/// One question and its answer, whose body is checked; its headers that begin with `x-`, without that.
pub(crate) fn exchange(stream: &mut TcpStream, last: bool) -> Result<Value, Failure> {
    let connection = if last { "connection: close\r\n" } else { "" };
    let question = format!("GET / HTTP/1.1\r\nhost: probe\r\n{connection}\r\n");
    stage("send", stream.write_all(question.as_bytes()))?;
    let mut head = Vec::new();
    let mut buffer = [0u8; 4096];
    let end = loop {
        if let Some(at) = head.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        let count = stage("receive", stream.read(&mut buffer))?;
        if count == 0 {
            return Err(early());
        }
        head.extend_from_slice(&buffer[..count]);
    };
    let expected = answer::body();
    let mut body = head.split_off(end);
    while body.len() < expected.len() {
        let count = stage("receive", stream.read(&mut buffer))?;
        if count == 0 {
            return Err(early());
        }
        body.extend_from_slice(&buffer[..count]);
    }
    let head = String::from_utf8_lossy(&head);
    if !head.starts_with("HTTP/1.1 200 ") || body != expected {
        return Err(wrong("not the answer that was to be expected"));
    }
    let mut found = json!({});
    for line in head.lines() {
        if let Some((name, value)) = line.strip_prefix("x-").and_then(|line| line.split_once(": ")) {
            found[name] = json!(value);
        }
    }
    Ok(found)
}

pub(crate) fn stage<T>(stage: &'static str, result: io::Result<T>) -> Result<T, Failure> {
    result.map_err(|error| Failure { stage, error })
}

fn early() -> Failure {
    Failure {
        stage: "receive",
        error: io::Error::new(io::ErrorKind::UnexpectedEof, "the connection ended before the answer"),
    }
}

fn wrong(what: &str) -> Failure {
    Failure {
        stage: "check",
        error: io::Error::new(io::ErrorKind::InvalidData, what.to_owned()),
    }
}
