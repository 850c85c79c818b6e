//! The client application: one load for a fixed time, its figures printed as JSON.
//!
//! It prints a line when the measured time begins, after a warm-up, and one with the figures when it ends, so that
//! whoever reads the proxies' CPU can do so at the same moments. `window` is that time, `line` what is printed, `figures` what is
//! made of measured times, `options` what is to be sent;
//! `streams`, `requests`, `connections` and `names` are the loads, and `hold` opens connections and keeps them.

mod connections;
mod figures;
mod hold;
mod line;
mod names;
mod options;
mod requests;
mod streams;
mod window;

use crate::protocol::{EXCHANGE, MESSAGE};
use anyhow::Result;
pub(crate) use figures::{micros, summary};
pub(crate) use hold::hold;
pub(crate) use line::{Figures, Line, ended, say};
pub(crate) use options::{Kind, Options};
use std::io::Read as _;
pub(crate) use window::{Window, monotonic_seconds};

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
