//! What a tunnel's protocol says, remembered until it can be acted on.

use std::{io::IoSlice, sync::Arc};

use culvert_hbone::{BadRequest, ConnectRequest, ErrorCode, Response, Sink, StreamId};

use super::headers;

/// What one read of a tunnel brought, in order. The connection cannot be called while it tells; this remembers.
#[derive(Debug, Default)]
pub(super) struct Events<'b> {
    pub(super) list: Vec<Told<'b>>,
    pub(super) slices: Vec<IoSlice<'b>>,
}

#[derive(Debug)]
pub(super) enum Told<'b> {
    Connect(StreamId, Box<Result<ConnectRequest, BadRequest>>),
    /// A status, and with a refusal its reason.
    Response(StreamId, u16, Option<Arc<str>>),
    Data(StreamId, &'b [u8]),
    End(StreamId),
    Reset(StreamId, ErrorCode),
    Writable(StreamId),
    AllWritable,
    GoAway,
}

impl Events<'_> {
    /// Events kept between reads, beyond which memory is given back.
    const KEEP: usize = 4096;

    /// The same memory for another buffer's slices: collecting in place allocates nothing.
    pub(super) fn reuse<'b>(mut self) -> Events<'b> {
        self.list.clear();
        self.slices.clear();
        if self.list.capacity() > Self::KEEP {
            return Events::default();
        }
        Events {
            list: self.list.into_iter().map_while(|_| None).collect(),
            slices: self.slices.into_iter().map_while(|_| None).collect(),
        }
    }
}

impl<'b> Sink<'b> for Events<'b> {
    fn connect(&mut self, id: StreamId, request: Result<ConnectRequest, BadRequest>) {
        self.list.push(Told::Connect(id, Box::new(request)));
    }

    fn response(&mut self, id: StreamId, response: Response) {
        let refused = response.status >= 300;
        let reason = response
            .headers
            .iter()
            .find(|(name, _)| refused && name == headers::REASON);
        let reason = reason.map(|(_, value)| value.as_str().into());
        self.list.push(Told::Response(id, response.status, reason));
    }

    fn data(&mut self, id: StreamId, data: &'b [u8]) {
        self.list.push(Told::Data(id, data));
    }

    fn end(&mut self, id: StreamId) {
        self.list.push(Told::End(id));
    }

    fn reset(&mut self, id: StreamId, code: ErrorCode) {
        self.list.push(Told::Reset(id, code));
    }

    fn writable(&mut self, id: StreamId) {
        self.list.push(Told::Writable(id));
    }

    fn all_writable(&mut self) {
        self.list.push(Told::AllWritable);
    }

    fn pong(&mut self, _payload: [u8; 8]) {} // any sign of life will do

    fn go_away(&mut self, _last: StreamId, _code: ErrorCode) {
        self.list.push(Told::GoAway);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_keep_their_memory_between_buffers() {
        let mut events: Events<'static> = Events::default();
        events.list.reserve(100);
        events.slices.reserve(50);
        let (list, slices) = (events.list.capacity(), events.slices.capacity());
        let buffer = [0u8; 4];
        let mut borrowed: Events<'_> = events.reuse();
        borrowed.slices.push(IoSlice::new(&buffer));
        let events: Events<'static> = borrowed.reuse();
        assert_eq!((events.list.capacity(), events.slices.capacity()), (list, slices));
        assert!(events.slices.is_empty());
    }
}
