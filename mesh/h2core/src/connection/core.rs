//! The HTTP/2 state of a connection.
use rustc_hash::FxHashMap;

use crate::flow::{self, ReceiveWindow, SendWindow};
use crate::frame::{self, Kind};
use crate::output::Output;
use crate::stream::Stream;
use crate::{Config, ErrorCode, Limit, Role, Seal, StreamId, hpack};

/// A PING of our own that marks the moment from which on no peer can be unaware of our GOAWAY.
pub(super) const DRAIN_PING: [u8; 8] = *b"culvert!";

/// WINDOW_UPDATEs that come with a new stream: one that makes its window larger than usual, one for the connection.
pub(super) const UPDATES_OF_STREAM: u32 = 2;

/// Settings (RFC 9113 section 6.5.2).
pub(super) mod setting {
    pub(crate) const HEADER_TABLE_SIZE: u16 = 1;
    pub(crate) const ENABLE_PUSH: u16 = 2;
    pub(crate) const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub(crate) const INITIAL_WINDOW_SIZE: u16 = 4;
    pub(crate) const MAX_FRAME_SIZE: u16 = 5;
    pub(crate) const MAX_HEADER_LIST_SIZE: u16 = 6;
    pub(crate) const ENABLE_CONNECT_PROTOCOL: u16 = 8;
}

/// What the peer allows.
pub(super) struct PeerSettings {
    pub(super) max_streams: u32,
    pub(super) stream_window: u32,
    pub(super) max_header_list: u32,
    /// Its first SETTINGS have come.
    pub(super) known: bool,
    /// It has acknowledged ours.
    pub(super) acknowledged: bool,
    /// It has allowed extended CONNECT (RFC 8441), which cannot be taken back.
    pub(super) extended_connect: bool,
    /// The last stream that its latest GOAWAY named.
    pub(super) last_stream: u32,
}

/// A DATA frame whose payload is coming.
#[derive(Clone, Copy)]
pub(super) struct CurrentData {
    pub(super) id: StreamId,
    /// Bytes of the frame that have not been delivered; what remains at its end is padding.
    pub(super) undelivered: u32,
    pub(super) end: bool,
    /// False: of a stream that is gone.
    pub(super) deliver: bool,
}

/// A header block in several frames.
pub(super) struct PartialBlock {
    pub(super) header: frame::Header,
    pub(super) block: Vec<u8>,
    pub(super) pieces: u32,
}

/// How far a GOAWAY of ours is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaving {
    No,
    /// Announced; streams that were under way are still taken.
    Announced,
    /// Streams above `last_peer` are not taken any more.
    Final,
}

pub(super) struct Core<S: Seal> {
    pub(super) role: Role,
    pub(super) config: Config,
    pub(super) output: Output<S>,
    pub(super) streams: FxHashMap<StreamId, Stream>,
    pub(super) peer: PeerSettings,
    pub(super) send: SendWindow,
    pub(super) receive: ReceiveWindow,
    /// Bytes of all streams that were delivered and not released.
    pub(super) held: u64,
    /// Connection credit that is withheld while too much is held.
    pub(super) withheld: u32,
    /// The owner wants credit to be withheld, however little is held here.
    pub(super) withholding: bool,
    pub(super) encoder: hpack::Encoder,
    pub(super) decoder: hpack::Decoder,
    /// A header block under construction.
    pub(super) scratch: Vec<u8>,
    pub(super) data: Option<CurrentData>,
    pub(super) block: Option<PartialBlock>,
    /// Client: the number of the next stream.
    pub(super) next: u32,
    /// Server: the highest stream that the peer opened.
    pub(super) last_peer: u32,
    /// Server: the latest streams that the peer passed over, from and before: it may not open them any more.
    pub(super) passed_over: (u32, u32),
    pub(super) leaving: Leaving,
    /// The peer said GOAWAY.
    pub(super) peer_leaving: bool,
    pub(super) early_resets: u32,
    pub(super) pending_answers: u32,
    pub(super) idle_frames: u32,
    /// WINDOW_UPDATEs that the peer may still send before something calls for more. What it may is not lost while it sends none: a
    /// window's worth of data can be on its way before the first of them comes.
    pub(super) window_updates: u32,
}

impl<S: Seal> Core<S> {
    pub(super) fn new(role: Role, output: Output<S>, config: &Config) -> Self {
        let mut config = config.clone();
        config.stream_window = config.stream_window.min(flow::MAX);
        config.connection_window = config.connection_window.clamp(flow::INITIAL, flow::MAX);
        config.max_frame = config.max_frame.clamp(1 << 14, (1 << 24) - 1);
        let mut core = Self {
            role,
            output,
            streams: FxHashMap::default(),
            peer: PeerSettings {
                max_streams: u32::MAX,
                stream_window: flow::INITIAL,
                max_header_list: u32::MAX,
                known: false,
                acknowledged: false,
                extended_connect: false,
                last_stream: u32::MAX,
            },
            send: SendWindow::new(flow::INITIAL),
            receive: ReceiveWindow::new(config.connection_window),
            held: 0,
            withheld: 0,
            withholding: false,
            encoder: hpack::Encoder::new(),
            decoder: hpack::Decoder::new(),
            scratch: Vec::new(),
            data: None,
            block: None,
            next: 1,
            last_peer: 0,
            passed_over: (0, 0),
            leaving: Leaving::No,
            peer_leaving: false,
            early_resets: 0,
            pending_answers: 0,
            idle_frames: 0,
            window_updates: config.max_window_updates,
            config,
        };
        core.greet();
        core
    }

    /// Queues what every connection begins with.
    fn greet(&mut self) {
        let config = &self.config;
        let common = [
            (setting::INITIAL_WINDOW_SIZE, config.stream_window),
            (setting::MAX_FRAME_SIZE, config.max_frame),
            (setting::MAX_HEADER_LIST_SIZE, config.max_header_list),
        ];
        let own = match self.role {
            Role::Client => (setting::ENABLE_PUSH, 0),
            Role::Server => (setting::MAX_CONCURRENT_STREAMS, config.max_streams),
        };
        let mut payload = Vec::with_capacity(24);
        for (number, value) in common.into_iter().chain([own]) {
            payload.extend_from_slice(&number.to_be_bytes());
            payload.extend_from_slice(&value.to_be_bytes());
        }
        if self.role == Role::Client {
            self.output.raw(frame::PREFACE);
        }
        self.output.frame(Kind::Settings, 0, 0, &payload);
        let more = self.config.connection_window - flow::INITIAL;
        if more > 0 {
            self.send_window_update(0, more);
        }
    }

    pub(super) fn send_window_update(&mut self, stream: u32, increment: u32) {
        self.output
            .frame(Kind::WindowUpdate, 0, stream, &increment.to_be_bytes());
    }

    pub(super) fn send_reset(&mut self, id: StreamId, code: ErrorCode) {
        self.output.frame(Kind::Reset, 0, id.0, &code.get().to_be_bytes());
    }

    pub(super) fn send_go_away(&mut self, last: u32, code: ErrorCode) {
        let mut payload = [0; 8];
        payload[..4].copy_from_slice(&last.to_be_bytes());
        payload[4..].copy_from_slice(&code.get().to_be_bytes());
        self.output.frame(Kind::GoAway, 0, 0, &payload);
    }

    /// Forgets a stream.
    pub(super) fn remove(&mut self, id: StreamId) -> Option<Stream> {
        let stream = self.streams.remove(&id)?;
        self.unhold(stream.held);
        Some(stream)
    }

    /// Forgets a stream that has ended in both directions.
    pub(super) fn retire(&mut self, id: StreamId) {
        if self.streams.get(&id).is_some_and(Stream::is_closed) {
            self.remove(id);
        }
    }

    /// So many bytes are no longer held; the connection's credit follows.
    pub(super) fn unhold(&mut self, n: u64) {
        self.held -= n;
        if self.withheld > 0 && !self.withholding && self.held <= self.config.held_limit {
            let credit = std::mem::take(&mut self.withheld);
            self.credit_connection(credit);
        }
    }

    /// Returns whether credit was given.
    pub(super) fn withhold(&mut self, on: bool) -> bool {
        self.withholding = on;
        let before = self.withheld;
        self.unhold(0);
        self.withheld < before
    }

    /// Bytes arrived: their credit on the connection is due at once, unless too much is held.
    pub(super) fn credit_connection(&mut self, n: u32) {
        if self.withholding || self.held > self.config.held_limit {
            self.withheld = self.withheld.saturating_add(n);
        } else if let Some(increment) = self.receive.give(n) {
            self.send_window_update(0, increment);
        }
    }

    /// The peer asked for something that is answered at once.
    pub(super) fn owe_answer(&mut self) -> Result<(), Limit> {
        self.pending_answers += 1;
        if self.output.is_flooded() {
            return Err(Limit::Output);
        }
        if self.pending_answers > self.config.max_pending_answers {
            Err(Limit::PendingAnswers)
        } else {
            Ok(())
        }
    }

    /// All answers are on their way.
    pub(super) fn answers_taken(&mut self) {
        self.pending_answers = 0;
    }

    /// The peer made us do work for a stream that it threw away.
    pub(super) fn early_reset(&mut self) -> Result<(), Limit> {
        self.early_resets += 1;
        if self.early_resets > self.config.max_early_resets {
            Err(Limit::EarlyResets)
        } else {
            Ok(())
        }
    }

    /// A frame that carries nothing.
    pub(super) fn idle_frame(&mut self) -> Result<(), Limit> {
        self.idle_frames += 1;
        if self.idle_frames > self.config.max_idle_frames {
            Err(Limit::IdleFrames)
        } else {
            Ok(())
        }
    }

    /// The peer gave window.
    pub(super) fn window_updated(&mut self) -> Result<(), Limit> {
        self.window_updates = self.window_updates.checked_sub(1).ok_or(Limit::WindowUpdates)?;
        Ok(())
    }

    /// So many more WINDOW_UPDATEs are nothing unusual now.
    pub(super) fn expect_window_updates(&mut self, count: u32) {
        self.window_updates = self.window_updates.saturating_add(count);
    }

    pub(super) fn new_stream(&self) -> Stream {
        Stream::new(
            SendWindow::new(self.peer.stream_window),
            ReceiveWindow::new(self.config.stream_window),
        )
    }

    pub(super) fn go_away(&mut self) {
        if self.leaving != Leaving::No {
            return;
        }
        match self.role {
            // We can only know which streams were under way after a round trip (RFC 9113 section 6.8).
            Role::Server => {
                self.send_go_away(flow::MAX, ErrorCode::NoError);
                self.ping(DRAIN_PING);
                self.leaving = Leaving::Announced;
            }
            Role::Client => {
                self.send_go_away(0, ErrorCode::NoError);
                self.leaving = Leaving::Final;
            }
        }
    }

    pub(super) fn is_drained(&self) -> bool {
        self.leaving == Leaving::Final && self.streams.is_empty()
    }

    pub(super) fn ping(&mut self, payload: [u8; 8]) {
        self.output.frame(Kind::Ping, 0, 0, &payload);
    }
}
