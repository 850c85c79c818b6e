//! The client application: one load for a fixed time, its figures printed as JSON.
//!
//! It prints a line when the measured time begins, after a warm-up, and one with the figures when it ends, so that
//! whoever reads the proxies' CPU can do so at the same moments. `window` is that time, `figures` what was done in it;
//! `streams`, `requests`, `connections` and `names` are the loads, and `hold` opens connections and keeps them.

mod connections;
mod figures;
mod hold;
mod names;
mod requests;
mod streams;
mod window;

use crate::protocol::{EXCHANGE, MESSAGE};
use anyhow::{Context, Result};
pub(crate) use figures::{Figures, Line, ended, micros, say, summary};
pub(crate) use hold::hold;
use std::{
    io::Read as _,
    net::{SocketAddr, TcpStream},
};
pub(crate) use window::{Window, monotonic_seconds};

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

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// To the server, as fast as the connections take bytes
    Upload,
    /// From the server, as fast as the connections bring bytes
    Download,
    /// Requests and answers of 1 KiB, the next one when the last is answered, on each connection
    Requests,
    /// New connections, each with one request and answer of 1 KiB
    Connections,
    /// DNS queries over UDP, the next one when the last is answered, on each socket
    Names,
    /// Connections with one request and answer of 1 KiB each, which are then left open until the program is killed
    Hold,
}

impl Kind {
    /// As the command line says it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Upload => "upload",
            Self::Download => "download",
            Self::Requests => "requests",
            Self::Connections => "connections",
            Self::Names => "names",
            Self::Hold => "hold",
        }
    }
}

/// Runs one load.
pub(crate) fn run(options: &Options) -> Result<()> {
    let figures = match options.kind {
        Kind::Upload => streams::upload(options)?,
        Kind::Download => streams::download(options)?,
        Kind::Requests => requests::run(options)?,
        Kind::Connections => connections::run(options)?,
        Kind::Names => names::run(options)?,
        Kind::Hold => {
            let mut answer = [0; MESSAGE];
            return hold(options.to, options.connections, &[EXCHANGE; MESSAGE], |stream| {
                Ok(stream.read_exact(&mut answer)?)
            });
        }
    };
    say(&Line::Ended(figures))
}

fn connect(to: SocketAddr) -> Result<TcpStream> {
    TcpStream::connect(to).with_context(|| format!("cannot connect to {to}"))
}
