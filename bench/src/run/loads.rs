//! The loads: what the client sends.

use super::mode::Mode;
use crate::{http, load, record::Named};

/// One load.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    /// As the command line and the results say it.
    pub(super) name: &'static str,
    pub(super) what: &'static str,
    pub(super) program: Program,
    pub(super) connections: usize,
    /// Streams of HTTP/2 at a time on each connection.
    pub(super) streams: usize,
    /// Requests a second that are due, whether or not those before are answered.
    pub(super) rate: Option<u32>,
    /// Whether `--quick` has it.
    pub(super) quick: bool,
}

/// What sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Program {
    /// Bytes over TCP, or queries of DNS.
    Plain(load::Kind),
    /// HTTP.
    Http(http::Kind),
}

/// Bytes of payload of a request and of its answer, together.
const PAIR: u64 = 2048;
/// Bytes of a query of DNS and of its answer, without headers of packets.
const QUERY: u64 = 33 + 49;

/// One that is sent to see whether the way of HTTP is there.
pub(super) const FIRST: Load = web("http1", "a request of HTTP/1.1", http::Kind::Http1, 1);

/// All of them, in the order of a round.
pub(super) const LOADS: [Load; 15] = [
    Load {
        quick: true,
        ..plain("upload-1", "one stream from client to server", load::Kind::Upload, 1)
    },
    plain("upload-8", "eight streams from client to server", load::Kind::Upload, 8),
    plain(
        "download-1",
        "one stream from server to client",
        load::Kind::Download,
        1,
    ),
    plain(
        "download-8",
        "eight streams from server to client",
        load::Kind::Download,
        8,
    ),
    plain(
        "requests-1",
        "1 KiB there, 1 KiB back, on one connection",
        load::Kind::Requests,
        1,
    ),
    Load {
        quick: true,
        ..plain(
            "requests-16",
            "1 KiB there, 1 KiB back, on 16 connections",
            load::Kind::Requests,
            16,
        )
    },
    plain(
        "requests-64",
        "1 KiB there, 1 KiB back, on 64 connections",
        load::Kind::Requests,
        64,
    ),
    Load {
        quick: true,
        ..plain(
            "connections",
            "connect, one request and answer of 1 KiB, close; 16 at a time",
            load::Kind::Connections,
            16,
        )
    },
    plain("dns-16", "queries of DNS over UDP, 16 at a time", load::Kind::Names, 16),
    Load {
        quick: true,
        ..web(
            "http1-16",
            "POST of 1 KiB, answer of 1 KiB, HTTP/1.1 on 16 connections",
            http::Kind::Http1,
            16,
        )
    },
    web(
        "http2-16",
        "the same over HTTP/2, one stream at a time on each of 16 connections",
        http::Kind::Http2,
        16,
    ),
    Load {
        streams: 16,
        ..web(
            "grpc-64",
            "messages of 1 KiB there and back on 64 streams of 4 connections",
            http::Kind::Grpc,
            4,
        )
    },
    Load {
        quick: true,
        ..rate(
            "rate-1000",
            "1,000 requests/s of HTTP/1.1, sent when they are due",
            1000,
        )
    },
    rate(
        "rate-5000",
        "5,000 requests/s of HTTP/1.1, sent when they are due",
        5000,
    ),
    rate(
        "rate-20000",
        "20,000 requests/s of HTTP/1.1, sent when they are due",
        20_000,
    ),
];

const fn plain(name: &'static str, what: &'static str, kind: load::Kind, connections: usize) -> Load {
    Load {
        name,
        what,
        program: Program::Plain(kind),
        connections,
        streams: 1,
        rate: None,
        quick: false,
    }
}

const fn web(name: &'static str, what: &'static str, kind: http::Kind, connections: usize) -> Load {
    Load {
        program: Program::Http(kind),
        ..plain(name, what, load::Kind::Requests, connections)
    }
}

const fn rate(name: &'static str, what: &'static str, rate: u32) -> Load {
    Load {
        rate: Some(rate),
        ..web(name, what, http::Kind::Http1, 64)
    }
}

impl Load {
    /// Its name, and what it is.
    pub(super) fn named(&self) -> Named {
        Named {
            name: self.name.to_owned(),
            what: self.what.to_owned(),
        }
    }

    /// Whether a mode carries it: proxies of HTTP carry HTTP.
    pub(super) fn fits(&self, mode: Mode) -> bool {
        !mode.is_http() || matches!(self.program, Program::Http(_))
    }

    /// Payload of what was done, both ways together.
    pub(super) fn payload(&self, figures: &load::Figures) -> u64 {
        match self.program {
            Program::Plain(load::Kind::Upload | load::Kind::Download) => figures.bytes,
            Program::Plain(load::Kind::Names) => figures.count * QUERY,
            Program::Plain(_) | Program::Http(_) => figures.count * PAIR,
        }
    }
}
