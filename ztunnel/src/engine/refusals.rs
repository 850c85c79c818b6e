//! How many tunnels were refused, for the access log.

use std::time::Instant;

use culvert_tunnel::admission::{Bucket, Rate};

/// Limits what refused tunnels write into the access log: strangers cause them, as many as they like.
#[derive(Debug)]
pub(super) struct Refusals {
    rate: Rate,
    lines: Bucket,
    /// Without a line since the last one.
    silent: u64,
}

impl Refusals {
    pub(super) fn new(rate: Rate, now: Instant) -> Self {
        Self {
            rate,
            lines: Bucket::full(rate, now),
            silent: 0,
        }
    }

    /// How many were passed over, if there is to be a line now.
    pub(super) fn line(&mut self, now: Instant) -> Option<u64> {
        if self.lines.take(self.rate, now) {
            return Some(std::mem::take(&mut self.silent));
        }
        self.silent += 1;
        None
    }
}
