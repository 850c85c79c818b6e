//! How many times something happened that is not logged each time.

use std::time::Instant;

use culvert_tunnel::admission::{Bucket, Rate};

/// Limits the lines about what happens as often as others like: tunnels of strangers that are refused, connections to a node
/// without a proxy.
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
