//! Connections that somebody else has carried, who tells of them when they have ended.

use std::{
    fmt,
    time::{Duration, Instant},
};

use culvert_telemetry::tcp::ResponseFlags;

use crate::{Accounting, Direction, Opening, access, series};

/// What became of a connection.
#[derive(Clone, Copy)]
pub struct Carried<'a> {
    /// Bytes that the pod of this node has sent.
    pub sent: u64,
    /// Bytes that it has received.
    pub received: u64,
    /// For how long it was open.
    pub duration: Duration,
    /// Why it ended, other than by both sides' leave.
    pub error: Option<&'a dyn fmt::Display>,
}

impl Accounting {
    /// A connection that this program has not carried was opened, and has ended: all that is said of one, at once.
    pub fn carried(&self, opening: &Opening, carried: &Carried<'_>) {
        series::with(&self.tcp, opening, ResponseFlags::None, |series| {
            series.open();
            series::transferred(series, opening.direction, carried.sent, carried.received);
            series.close();
        });
        if opening.direction == Direction::Inbound {
            self.recent.note(opening, Instant::now());
        }
        access::ended(opening, carried.sent, carried.received, carried.duration, carried.error);
    }
}
