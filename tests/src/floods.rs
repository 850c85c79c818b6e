//! Floods of HTTP/2 frames that servers are known to suffer from.

use crate::raw_peer::{END_HEADERS, END_STREAM, RawPeer, connect, frame, kind, window_update};

/// What one peer sends again and again.
pub type Flood = Box<dyn FnMut(&mut RawPeer) -> Vec<u8> + Send>;

/// A flood, and what is to be seen of it.
pub struct Attack {
    /// How it is known.
    pub name: &'static str,
    /// Under which reasons metrics count it.
    pub reasons: &'static [&'static str],
    /// What the log says of it.
    pub said: &'static str,
    /// Whether the peer reads the answers.
    pub reads: bool,
    /// What it sends, at a tunnel that leads to this authority.
    pub flood: fn(String) -> Flood,
}

/// The same bytes each time.
fn same(bytes: Vec<u8>) -> Flood {
    Box::new(move |_| bytes.clone())
}

/// Each time many streams, each with what makes it worthless.
fn streams(authority: String, flags: u8, spoil: fn(u32) -> Vec<u8>) -> Flood {
    let mut next = 1;
    Box::new(move |_| {
        let mut bytes = Vec::new();
        for _ in 0..200 {
            bytes.extend(connect(next, flags, &authority));
            bytes.extend(spoil(next));
            next += 2;
        }
        bytes
    })
}

/// A stream that is opened first, then the same bytes each time.
fn on_a_stream(authority: String, bytes: Vec<u8>) -> Flood {
    let mut first = Some(connect(1, 0, &authority));
    Box::new(move |_| [first.take().unwrap_or_default(), bytes.clone()].concat())
}

/// All of them.
pub const ATTACKS: [Attack; 15] = [
    Attack {
        name: "rapid reset (CVE-2023-44487)",
        reasons: &["early_resets"],
        said: "reset before they were answered",
        reads: true,
        flood: |authority| streams(authority, 0, |id| frame(kind::RST_STREAM, 0, id, &[0, 0, 0, 8])),
    },
    Attack {
        name: "made to reset by a window update of nothing (CVE-2025-8671)",
        reasons: &["early_resets"],
        said: "reset before they were answered",
        reads: true,
        flood: |authority| streams(authority, 0, |id| window_update(id, 0)),
    },
    Attack {
        name: "made to reset by a window that overflows (CVE-2025-8671)",
        reasons: &["early_resets", "window_updates"],
        said: "",
        reads: true,
        flood: |authority| {
            streams(authority, 0, |id| {
                [window_update(id, 0x7fff_ffff), window_update(id, 0x7fff_ffff)].concat()
            })
        },
    },
    Attack {
        name: "made to reset by data after the end (CVE-2025-8671)",
        reasons: &["early_resets"],
        said: "reset before they were answered",
        reads: true,
        flood: |authority| streams(authority, END_STREAM, |id| frame(kind::DATA, 0, id, b"x")),
    },
    Attack {
        name: "CONTINUATION (CVE-2024-27316)",
        reasons: &["header_block"],
        said: "header block too long",
        reads: true,
        flood: |authority| {
            let mut bytes = connect(1, 0, &authority);
            bytes[4] = 0; // no END_HEADERS
            bytes.extend(frame(kind::CONTINUATION, 0, 1, &[]).repeat(100));
            same(bytes)
        },
    },
    Attack {
        name: "a header block of 20 KiB",
        reasons: &["header_block"],
        said: "header block too long",
        reads: true,
        flood: |_| same(frame(kind::HEADERS, END_HEADERS, 1, &[0x82; 20 << 10])),
    },
    Attack {
        name: "SETTINGS, the answers unread (CVE-2019-9515)",
        reasons: &["pending_answers"],
        said: "without taking the answers",
        reads: false,
        flood: |_| same(frame(kind::SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0]).repeat(2000)),
    },
    Attack {
        name: "PING, the answers unread (CVE-2019-9512)",
        reasons: &["pending_answers"],
        said: "without taking the answers",
        reads: false,
        flood: |_| same(frame(kind::PING, 0, 0, &[7; 8]).repeat(2000)),
    },
    Attack {
        name: "streams beyond the limit, the refusals unread",
        reasons: &["pending_answers", "output"],
        said: "",
        reads: false,
        flood: |authority| streams(authority, 0, |_| Vec::new()),
    },
    Attack {
        name: "key updates, the answers unread",
        reasons: &["pending_answers"],
        said: "without taking the answers",
        reads: false,
        flood: |_| {
            Box::new(|peer| {
                peer.change_key();
                Vec::new()
            })
        },
    },
    Attack {
        name: "WINDOW_UPDATE of the connection",
        reasons: &["window_updates"],
        said: "window updates that no data calls for",
        reads: true,
        flood: |_| same(window_update(0, 1).repeat(500)),
    },
    Attack {
        name: "WINDOW_UPDATE of a stream",
        reasons: &["window_updates"],
        said: "window updates that no data calls for",
        reads: true,
        flood: |authority| on_a_stream(authority, window_update(1, 1).repeat(500)),
    },
    Attack {
        name: "empty DATA (CVE-2019-9518)",
        reasons: &["idle_frames"],
        said: "frames that carry nothing",
        reads: true,
        flood: |authority| on_a_stream(authority, frame(kind::DATA, 0, 1, &[]).repeat(500)),
    },
    Attack {
        name: "PRIORITY (CVE-2019-9513)",
        reasons: &["idle_frames"],
        said: "frames that carry nothing",
        reads: true,
        flood: |authority| on_a_stream(authority, frame(kind::PRIORITY, 0, 1, &[0, 0, 0, 0, 9]).repeat(500)),
    },
    Attack {
        name: "frames of no known type",
        reasons: &["idle_frames"],
        said: "frames that carry nothing",
        reads: true,
        flood: |_| same(frame(0xee, 0, 0, b"what?").repeat(500)),
    },
];
