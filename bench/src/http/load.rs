//! The client's command line: one load for a fixed time, with the figures of [`crate::load`].

use super::{http1, http2, pace::Pace};
use crate::load::{Line, Window, say};
use anyhow::{Context, Result, ensure};
use std::{fs, net::SocketAddr, path::PathBuf};

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
    paths: usize,
    /// A file with a bearer token that each request carries
    #[arg(long)]
    token: Option<PathBuf>,
    /// Connections at a time
    #[arg(long, default_value_t = 16)]
    pub(super) connections: usize,
    /// Streams at a time on each connection of HTTP/2
    #[arg(long, default_value_t = 1)]
    pub(super) streams: usize,
    /// Requests a second, sent when they are due and not when the one before is answered; as many as are answered when not given
    #[arg(long)]
    rate: Option<f64>,
    /// Measured time, seconds
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Time before it that is not measured, seconds
    #[arg(long, default_value_t = 0.5)]
    warm_up: f64,
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

/// Runs one load.
pub(crate) fn run(options: &Options) -> Result<()> {
    ensure!(
        options.connections > 0 && options.streams > 0 && options.paths > 0,
        "nothing to send"
    );
    let token = options.token.as_ref().map(|file| {
        let token = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        Ok::<_, anyhow::Error>(format!("Bearer {}", token.trim()))
    });
    let requests = Requests {
        host: options.host.clone(),
        paths: (0..options.paths).map(|number| format!("/r{number}")).collect(),
        authorization: token.transpose()?,
    };
    let window = Window::new(options.warm_up, options.seconds);
    let pace = options.rate.map(Pace::new);
    let figures = match options.kind {
        Kind::Http1 => http1::run(options, &requests, window, pace)?,
        Kind::Http2 | Kind::Grpc => {
            ensure!(pace.is_none(), "only HTTP/1.1 is sent at a rate");
            http2::run(options, requests, window)?
        }
    };
    say(&Line::Ended(figures))
}
