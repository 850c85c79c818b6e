//! What a load sends, as the command line says it.

use std::{net::SocketAddr, path::PathBuf};

/// Options of `culvert-bench http-load`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// What to speak
    #[arg(long, value_enum)]
    pub(super) kind: Kind,
    /// The server
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(super) to: SocketAddr,
    /// The authority of requests
    #[arg(long)]
    pub(super) host: String,
    /// Requests go to `/r0`, `/r1`, ... in turns, to so many paths
    #[arg(long, default_value_t = 1)]
    pub(super) paths: usize,
    /// A file with a bearer token that each request carries
    #[arg(long)]
    pub(super) token: Option<PathBuf>,
    /// Connections at a time
    #[arg(long, default_value_t = 16)]
    pub(super) connections: usize,
    /// Streams at a time on each connection of HTTP/2
    #[arg(long, default_value_t = 1)]
    pub(super) streams: usize,
    /// Requests a second, sent when they are due and not when the one before is answered; as many as are answered when not given
    #[arg(long)]
    pub(super) rate: Option<f64>,
    /// Send one request of HTTP/1.1 on each connection, and leave all open until the program is killed
    #[arg(long)]
    pub(super) hold: bool,
    /// Measured time, seconds
    #[arg(long, default_value_t = 3.0)]
    pub(super) seconds: f64,
    /// Time before it that is not measured, seconds
    #[arg(long, default_value_t = 0.5)]
    pub(super) warm_up: f64,
}

/// What is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// HTTP/1.1
    Http1,
    /// HTTP/2 without TLS
    Http2,
    /// gRPC: messages there and back on open streams
    Grpc,
}

impl Kind {
    /// As the command line says it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::Http2 => "http2",
            Self::Grpc => "grpc",
        }
    }
}

/// What requests are made from.
pub(super) struct Requests {
    pub(super) host: String,
    pub(super) paths: Vec<String>,
    /// The value of `authorization`.
    pub(super) authorization: Option<String>,
}
