//! One load for a fixed time, with the figures of [`crate::load`].

use super::{
    http1, http2,
    options::{Kind, Options, Requests},
    pace::Pace,
};
use crate::load::{Line, Window, say};
use anyhow::{Context, Result, ensure};
use std::fs;

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
    if options.hold {
        return http1::hold(options, &requests);
    }
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
