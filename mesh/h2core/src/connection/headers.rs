//! Header blocks: what opens streams, answers them and may end them (RFC 9113 sections 6.2, 6.10 and 8.1).
use super::core::{Core, Leaving, PartialBlock, UPDATES_OF_STREAM};
use crate::frame::{self, Header, flag};
use crate::header::Gathered;
use crate::{ErrorCode, Limit, ProtocolError, Role, Seal, Sink, StreamId};

/// Most frames that one header block may be spread over.
const MAX_PIECES: u32 = 16;

impl<S: Seal> Core<S> {
    pub(super) fn headers<'b>(
        &mut self,
        header: &Header,
        payload: &[u8],
        sink: &mut impl Sink<'b>,
    ) -> Result<(), ProtocolError> {
        let fragment = frame::unpad(header, payload)?;
        // Only clients open streams; theirs are odd.
        if header.stream.is_multiple_of(2) || (self.role == Role::Client && header.stream >= self.next) {
            return Err(header.unexpected("not a stream that is open"));
        }
        self.check_block(fragment.len(), 1)?;
        if header.has(flag::END_HEADERS) {
            return self.header_block(header, fragment, sink);
        }
        self.block = Some(PartialBlock {
            header: *header,
            block: fragment.to_vec(),
            pieces: 1,
        });
        Ok(())
    }

    pub(super) fn continuation<'b>(
        &mut self,
        header: &Header,
        payload: &[u8],
        sink: &mut impl Sink<'b>,
    ) -> Result<(), ProtocolError> {
        // The parser has seen to it that one is due.
        let Some(mut partial) = self.block.take() else {
            return Ok(());
        };
        partial.pieces += 1;
        self.check_block(partial.block.len() + payload.len(), partial.pieces)?;
        partial.block.extend_from_slice(payload);
        if header.has(flag::END_HEADERS) {
            return self.header_block(&partial.header, &partial.block, sink);
        }
        self.block = Some(partial);
        Ok(())
    }

    fn check_block(&self, size: usize, pieces: u32) -> Result<(), Limit> {
        let most = self.config.max_header_list as usize;
        if size > most || pieces > MAX_PIECES {
            Err(Limit::HeaderBlock)
        } else {
            Ok(())
        }
    }

    /// A whole header block. It is decoded whatever becomes of its stream, since later blocks build on it.
    fn header_block<'b>(
        &mut self,
        header: &Header,
        block: &[u8],
        sink: &mut impl Sink<'b>,
    ) -> Result<(), ProtocolError> {
        let mut gathered = Gathered::new(self.config.max_header_list as usize);
        self.decoder
            .decode(block, |name, value| gathered.add(name, value))
            .map_err(ProtocolError::Compression)?;
        let (id, end) = (StreamId(header.stream), header.has(flag::END_STREAM));
        let Some(stream) = self.streams.get_mut(&id) else {
            return match self.role {
                Role::Server if id.0 > self.last_peer && self.leaving != Leaving::Final => {
                    self.requested(id, gathered, end, sink)
                }
                // RFC 9113 section 5.1.1: it was closed when a higher one was opened.
                Role::Server if (self.passed_over.0..self.passed_over.1).contains(&id.0) => {
                    Err(header.unexpected("streams are opened in ascending order"))
                }
                // Of a stream that is gone, or was opened after our last word.
                _ => Ok(self.idle_frame()?),
            };
        };
        if stream.remote_ended {
            return self.fail_stream(id, ErrorCode::StreamClosed, sink);
        }
        if self.role == Role::Client && !stream.answered {
            match gathered.response() {
                Ok(response) if response.status >= 200 => {
                    stream.answered = true;
                    self.idle_frames = 0;
                    sink.response(id, response);
                }
                // Informational; it cannot end a stream (RFC 9113 section 8.1).
                Ok(_) if !end => return Ok(self.idle_frame()?),
                _ => return self.fail_stream(id, ErrorCode::ProtocolError, sink),
            }
        } else {
            // Streams here carry DATA alone, as those of CONNECT do (RFC 9113 section 8.5): there are no trailers.
            return self.fail_stream(id, ErrorCode::ProtocolError, sink);
        }
        if end {
            self.remote_ended(id, sink);
        }
        Ok(())
    }

    fn requested<'b>(
        &mut self,
        id: StreamId,
        gathered: Gathered,
        end: bool,
        sink: &mut impl Sink<'b>,
    ) -> Result<(), ProtocolError> {
        if id.0 > self.last_peer + 2 {
            self.passed_over = (self.last_peer + 1, id.0);
        }
        self.last_peer = id.0;
        self.idle_frames = 0;
        if self.output.is_flooded() {
            return Err(Limit::Output.into());
        }
        if self.streams.len() >= self.config.max_streams as usize {
            self.owe_answer()?;
            self.send_reset(id, ErrorCode::RefusedStream);
            return Ok(());
        }
        self.streams.insert(id, self.new_stream());
        self.expect_window_updates(UPDATES_OF_STREAM);
        sink.request(id, gathered.request());
        if end {
            self.remote_ended(id, sink);
        }
        Ok(())
    }

    pub(super) fn remote_ended<'b>(&mut self, id: StreamId, sink: &mut impl Sink<'b>) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.remote_ended = true;
            sink.end(id);
            self.retire(id);
        }
    }
}
