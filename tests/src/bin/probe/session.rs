//! One client connection and what is said on it.

use crate::{connect, pattern};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::{
    io::Read,
    net::{Shutdown, SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

/// Options of `probe dial`.
#[derive(clap::Args)]
pub(crate) struct Dial {
    /// The server
    #[arg(long)]
    to: SocketAddr,
    /// The way to connect
    #[arg(long, value_enum, default_value = "plain")]
    how: connect::How,
    /// Transfers of this many bytes up and down instead of asking for the peer's address: `UP:DOWN`, repeatable
    #[arg(long, value_parser = parse_sizes)]
    transfer: Vec<(u64, u64)>,
    /// Which side sends, and ends its direction, first
    #[arg(long, value_enum, default_value = "together")]
    order: Order,
    /// What determines the bytes
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Longest wait for anything, seconds
    #[arg(long, default_value_t = 30)]
    timeout: u64,
}

/// Which side sends, and ends its direction, first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Order {
    /// Both at once.
    Together,
    /// The server sends after it has seen the client's end.
    ClientFirst,
    /// The client sends after it has seen the server's end.
    ServerFirst,
}

impl Order {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        match text {
            "together" => Ok(Self::Together),
            "client-first" => Ok(Self::ClientFirst),
            "server-first" => Ok(Self::ServerFirst),
            _ => bail!("unknown order {text:?}"),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Together => "together",
            Self::ClientFirst => "client-first",
            Self::ServerFirst => "server-first",
        }
    }
}

/// The seed of the bytes from server to client.
pub(crate) fn down_seed(seed: u64) -> u64 {
    seed.rotate_left(32) ^ 0x5555
}

fn parse_sizes(text: &str) -> Result<(u64, u64)> {
    let (up, down) = text.split_once(':').context("UP:DOWN")?;
    Ok((up.parse()?, down.parse()?))
}

/// Dials; prints `{"ok":true, ...}`, or `{"ok":false,"error":...}` and fails.
pub(crate) fn run(dial: &Dial) -> Result<()> {
    let started = Instant::now();
    let timeout = Duration::from_secs(dial.timeout);
    let outcome = if dial.transfer.is_empty() {
        ask_for_peer(dial.how, dial.to, timeout)
    } else {
        transfers(dial, timeout).map(|()| json!({ "transfers": dial.transfer.len() }))
    };
    let mut report = match &outcome {
        Ok(found) => json!({ "ok": true, "found": found }),
        Err(error) => json!({ "ok": false, "error": format!("{error:#}") }),
    };
    report["milliseconds"] = json!(started.elapsed().as_millis() as u64);
    println!("{report}");
    outcome.map(|_| ())
}

/// One `peer` session: what both ends see of each other.
pub(crate) fn ask_for_peer(how: connect::How, to: SocketAddr, timeout: Duration) -> Result<Value> {
    let mut stream = connect::connect(how, to, b"peer\n", timeout)?;
    let (peer, local) = (stream.peer_addr()?, stream.local_addr()?);
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("no answer")?;
    let server: Value = serde_json::from_str(&answer).with_context(|| format!("not an answer: {answer:?}"))?;
    Ok(json!({ "client": { "getpeername": peer, "getsockname": local }, "server": server }))
}

fn transfers(dial: &Dial, timeout: Duration) -> Result<()> {
    for (number, (up, down)) in dial.transfer.iter().copied().enumerate() {
        let seed = dial.seed.wrapping_add(number as u64);
        let first = format!("transfer {up} {down} {seed} {}\n", dial.order.name());
        let stream = connect::connect(dial.how, dial.to, first.as_bytes(), timeout)?;
        transfer(&stream, up, down, seed, dial.order).with_context(|| format!("transfer {up}:{down}, seed {seed}"))?;
    }
    Ok(())
}

fn transfer(stream: &TcpStream, up: u64, down: u64, seed: u64, order: Order) -> Result<()> {
    let send = || -> Result<()> {
        pattern::send(stream, seed, up)?;
        Ok(stream.shutdown(Shutdown::Write)?)
    };
    match order {
        Order::Together => thread::scope(|scope| {
            let sender = scope.spawn(send);
            let received = pattern::receive(stream, down_seed(seed), down);
            sender.join().map_err(|_| anyhow::anyhow!("the sender panicked"))??;
            received
        }),
        Order::ClientFirst => {
            send()?;
            pattern::receive(stream, down_seed(seed), down)
        }
        Order::ServerFirst => {
            pattern::receive(stream, down_seed(seed), down)?;
            send()
        }
    }
}
