//! What a load sends, as the command line says it.

use anyhow::{Context, Result};
use std::net::{SocketAddr, TcpStream};

/// Options of `culvert-bench load`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// What to send
    #[arg(long, value_enum)]
    pub(super) kind: Kind,
    /// The server
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(super) to: SocketAddr,
    /// Measured time, seconds
    #[arg(long, default_value_t = 3.0)]
    pub(super) seconds: f64,
    /// Time before it that is not measured, seconds
    #[arg(long, default_value_t = 0.5)]
    pub(super) warm_up: f64,
    /// Connections at a time
    #[arg(long, default_value_t = 16)]
    pub(super) connections: usize,
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

/// Connects to the server.
pub(super) fn connect(to: SocketAddr) -> Result<TcpStream> {
    TcpStream::connect(to).with_context(|| format!("cannot connect to {to}"))
}
