//! What received frames do (RFC 9113 section 6).
use super::core::DRAIN_PING;
use super::core::{Core, CurrentData, Leaving, setting};
use crate::frame::{Header, Kind, Piece, flag};
use crate::{ErrorCode, ProtocolError, Role, Seal, Sink, StreamId, flow};

impl<S: Seal> Core<S> {
    /// Takes the next piece of what the peer sent.
    pub(super) fn receive<'b>(&mut self, piece: Piece<'_, 'b>, sink: &mut impl Sink<'b>) -> Result<(), ProtocolError> {
        if !self.peer.known && !matches!(&piece, Piece::Frame(header, _) if header.kind == Kind::Settings) {
            return Err(unexpected_first(&piece));
        }
        match piece {
            Piece::Data { data, last } => self.data(data, last, sink),
            Piece::DataStart(header) => self.data_start(&header, sink)?,
            Piece::Unknown => self.idle_frame()?,
            Piece::Frame(header, payload) => self.frame(&header, payload, sink)?,
        }
        Ok(())
    }

    fn frame<'b>(&mut self, header: &Header, payload: &[u8], sink: &mut impl Sink<'b>) -> Result<(), ProtocolError> {
        match header.kind {
            Kind::Headers => self.headers(header, payload, sink),
            Kind::Continuation => self.continuation(header, payload, sink),
            Kind::Settings => self.settings(header, payload, sink),
            Kind::WindowUpdate => self.window_update(header, payload, sink),
            Kind::Reset => self.peer_reset(header, payload, sink),
            Kind::Ping => self.pinged(header, payload, sink),
            Kind::GoAway => self.peer_goes_away(header, payload, sink),
            Kind::Priority => {
                if header.stream == 0 {
                    return Err(header.unexpected("belongs on a stream"));
                }
                self.idle_frame()?;
                if header.size != 5 && !self.streams.contains_key(&StreamId(header.stream)) {
                    // There is no stream that could be reset for it (RFC 9113 section 5.4.2).
                    return Err(header.wrong_size());
                }
                if header.size != 5 {
                    return self.fail_stream(StreamId(header.stream), ErrorCode::FrameSizeError, sink);
                }
                Ok(())
            }
            Kind::PushPromise => Err(header.unexpected("push is not enabled")),
            // The parser tells DATA in its own way.
            Kind::Data => Ok(()),
        }
    }

    fn data_start<'b>(&mut self, header: &Header, sink: &mut impl Sink<'b>) -> Result<(), ProtocolError> {
        let id = self.known_id(header)?;
        if !self.receive.take(header.size) {
            return Err(ProtocolError::WindowExceeded);
        }
        let end = header.has(flag::END_STREAM);
        if header.size == 0 && !end {
            self.idle_frame()?;
        } else {
            self.idle_frames = 0;
        }
        let client = self.role == Role::Client;
        let wrong = self.streams.get_mut(&id).and_then(|stream| {
            if stream.remote_ended {
                Some(ErrorCode::StreamClosed)
            } else if client && !stream.answered {
                Some(ErrorCode::ProtocolError)
            } else if !stream.receive.take(header.size) {
                Some(ErrorCode::FlowControlError)
            } else {
                None
            }
        });
        if let Some(code) = wrong {
            self.fail_stream(id, code, sink)?;
        }
        let deliver = self.streams.contains_key(&id);
        self.data = Some(CurrentData {
            id,
            undelivered: header.size,
            end,
            deliver,
        });
        if !deliver {
            self.credit_connection(header.size);
        }
        Ok(())
    }

    fn data<'b>(&mut self, data: &'b [u8], last: bool, sink: &mut impl Sink<'b>) {
        let Some(current) = &mut self.data else { return };
        let size = data.len() as u32;
        current.undelivered -= size;
        let CurrentData {
            id,
            undelivered,
            end,
            deliver,
        } = *current;
        if last {
            self.data = None;
        }
        if !deliver {
            return;
        }
        let Some(stream) = self.streams.get_mut(&id) else {
            // Reset by its owner after the frame began.
            self.credit_connection(size + if last { undelivered } else { 0 });
            return;
        };
        if size > 0 {
            stream.held += u64::from(size);
            self.held += u64::from(size);
            sink.data(id, data);
        }
        // Padding is nobody's to release.
        let padding = if last { undelivered } else { 0 };
        let increment = if padding > 0 {
            stream.receive.give(padding)
        } else {
            None
        };
        if last && end {
            stream.remote_ended = true;
            sink.end(id);
        } else if let Some(increment) = increment {
            self.send_window_update(id.0, increment);
        }
        self.credit_connection(size + padding);
        if last && end {
            self.retire(id);
        }
    }

    fn window_update<'b>(
        &mut self,
        header: &Header,
        payload: &[u8],
        sink: &mut impl Sink<'b>,
    ) -> Result<(), ProtocolError> {
        let increment = i64::from(number(header, payload)? & flow::MAX);
        self.window_updated()?;
        if header.stream == 0 {
            if increment == 0 {
                return Err(header.unexpected("window update of nothing"));
            }
            if self.send.change(increment).ok_or(ProtocolError::WindowOverflow)? {
                sink.all_writable();
            }
            return Ok(());
        }
        let id = self.known_id(header)?;
        let Some(stream) = self.streams.get_mut(&id) else {
            return Ok(());
        };
        if increment == 0 {
            return self.fail_stream(id, ErrorCode::ProtocolError, sink);
        }
        match stream.send.change(increment) {
            Some(true) => sink.writable(id),
            Some(false) => {}
            None => return self.fail_stream(id, ErrorCode::FlowControlError, sink),
        }
        Ok(())
    }

    fn peer_reset<'b>(
        &mut self,
        header: &Header,
        payload: &[u8],
        sink: &mut impl Sink<'b>,
    ) -> Result<(), ProtocolError> {
        let code = number(header, payload)?.into();
        let id = self.known_id(header)?;
        if let Some(stream) = self.remove(id) {
            if self.role == Role::Server && !stream.answered {
                self.early_reset()?;
            }
            sink.reset(id, code);
        }
        Ok(())
    }

    fn pinged<'b>(&mut self, header: &Header, payload: &[u8], sink: &mut impl Sink<'b>) -> Result<(), ProtocolError> {
        on_connection(header)?;
        let payload: [u8; 8] = payload.try_into().map_err(|_| header.wrong_size())?;
        if !header.has(flag::ACK) {
            self.owe_answer()?;
            self.output.frame(Kind::Ping, flag::ACK, 0, &payload);
        } else if payload == DRAIN_PING && self.leaving == Leaving::Announced {
            self.leaving = Leaving::Final;
            self.send_go_away(self.last_peer, ErrorCode::NoError);
        } else {
            sink.pong(payload);
        }
        Ok(())
    }

    fn peer_goes_away<'b>(
        &mut self,
        header: &Header,
        payload: &[u8],
        sink: &mut impl Sink<'b>,
    ) -> Result<(), ProtocolError> {
        on_connection(header)?;
        let Some((&[a, b, c, d], &[e, f, g, h])) = payload
            .split_first_chunk()
            .and_then(|(last, rest)| rest.first_chunk::<4>().map(|code| (last, code)))
        else {
            return Err(header.wrong_size());
        };
        let last = StreamId(u32::from_be_bytes([a & 0x7f, b, c, d]));
        let code = u32::from_be_bytes([e, f, g, h]).into();
        self.idle_frame()?;
        // RFC 9113 section 6.8
        if last.0 > std::mem::replace(&mut self.peer.last_stream, last.0) {
            return Err(header.unexpected("names more streams than one before"));
        }
        self.peer_leaving = true;
        if self.role == Role::Client {
            let mut lost: Vec<_> = self.streams.keys().copied().filter(|&id| id > last).collect();
            lost.sort_unstable();
            for id in lost {
                self.remove(id);
                sink.reset(id, ErrorCode::RefusedStream);
            }
        }
        sink.go_away(last, code);
        Ok(())
    }

    fn settings<'b>(&mut self, header: &Header, payload: &[u8], sink: &mut impl Sink<'b>) -> Result<(), ProtocolError> {
        on_connection(header)?;
        if header.has(flag::ACK) {
            return if header.size == 0 {
                self.peer.acknowledged = true;
                Ok(self.idle_frame()?)
            } else {
                Err(header.wrong_size())
            };
        }
        if !header.size.is_multiple_of(6) {
            return Err(header.wrong_size());
        }
        self.peer.known = true;
        self.owe_answer()?;
        // Adjusting windows takes a look at every stream: once a frame, however often it repeats the setting.
        let mut window = self.peer.stream_window;
        for entry in payload.as_chunks::<6>().0 {
            let &[a, b, c, d, e, f] = entry;
            let (setting, value) = (u16::from_be_bytes([a, b]), u32::from_be_bytes([c, d, e, f]));
            let valid = match setting {
                setting::ENABLE_PUSH => value == 0 || (value == 1 && self.role == Role::Server),
                setting::INITIAL_WINDOW_SIZE => value <= flow::MAX,
                setting::MAX_FRAME_SIZE => (1 << 14..1 << 24).contains(&value),
                // RFC 8441 section 3
                setting::ENABLE_CONNECT_PROTOCOL => value <= 1 && (value == 1 || !self.peer.extended_connect),
                _ => true,
            };
            if !valid {
                return Err(ProtocolError::Setting { setting, value });
            }
            match setting {
                setting::HEADER_TABLE_SIZE => self.encoder.set_max(value as usize),
                setting::MAX_CONCURRENT_STREAMS => self.peer.max_streams = value,
                setting::INITIAL_WINDOW_SIZE => window = value,
                setting::ENABLE_CONNECT_PROTOCOL => self.peer.extended_connect = value == 1,
                setting::MAX_HEADER_LIST_SIZE => self.peer.max_header_list = value,
                _ => {}
            }
        }
        let change = i64::from(window) - i64::from(self.peer.stream_window);
        self.peer.stream_window = window;
        let mut opened = false;
        if change != 0 {
            for stream in self.streams.values_mut() {
                opened |= stream.send.change(change).ok_or(ProtocolError::WindowOverflow)?;
            }
        }
        self.output.frame(Kind::Settings, flag::ACK, 0, &[]);
        if opened {
            sink.all_writable();
        }
        Ok(())
    }

    /// The stream of a frame that may only come on one that was opened at some time.
    fn known_id(&self, header: &Header) -> Result<StreamId, ProtocolError> {
        let id = header.stream;
        let opened = match self.role {
            Role::Client => id < self.next,
            // After our last word streams may still be opened, in vain.
            Role::Server => id <= self.last_peer || self.leaving == Leaving::Final,
        };
        if id.is_multiple_of(2) || !opened {
            return Err(header.unexpected("not a stream that was opened"));
        }
        Ok(StreamId(id))
    }

    /// The peer broke a rule on one stream: it is reset and its owner told.
    pub(super) fn fail_stream<'b>(
        &mut self,
        id: StreamId,
        code: ErrorCode,
        sink: &mut impl Sink<'b>,
    ) -> Result<(), ProtocolError> {
        let Some(stream) = self.remove(id) else { return Ok(()) };
        self.send_reset(id, code);
        sink.reset(id, code);
        // Making us reset must not be cheaper than resetting (CVE-2025-8671).
        if !stream.answered {
            self.early_reset()?;
        }
        Ok(())
    }
}

fn on_connection(header: &Header) -> Result<(), ProtocolError> {
    if header.stream == 0 {
        Ok(())
    } else {
        Err(header.unexpected("belongs on stream 0"))
    }
}

/// The payload of frames that are one number.
fn number(header: &Header, payload: &[u8]) -> Result<u32, ProtocolError> {
    payload
        .try_into()
        .map(u32::from_be_bytes)
        .map_err(|_| header.wrong_size())
}

/// RFC 9113 section 3.4: SETTINGS come first.
fn unexpected_first(piece: &Piece<'_, '_>) -> ProtocolError {
    const REASON: &str = "SETTINGS must come first";
    match piece {
        Piece::DataStart(header) | Piece::Frame(header, _) => header.unexpected(REASON),
        Piece::Data { .. } | Piece::Unknown => ProtocolError::Preface,
    }
}
