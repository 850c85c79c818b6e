//! What is to be sent: frames gathered in records, in one buffer, sealed where they lie.
use std::array;
use std::io::{self, IoSliceMut};

use crate::buffers::{self, Size};
use crate::frame::{self, HEADER as FRAME_HEADER, Kind};
use crate::seal::{MAX_OVERHEAD, MAX_PLAINTEXT, Seal};

/// Most slices that a reader is given: 1 MiB in full records, and the rest of an open one.
pub(crate) const MAX_SLICES: usize = 66;
/// Bytes kept free of data, so that answers and window updates always find room.
const RESERVE: usize = 64 << 10;
/// Bytes of a buffer for data.
const CAPACITY: usize = buffers::LARGE;
const _: () = assert!(CAPACITY >= (MAX_SLICES + 2) * (MAX_PLAINTEXT + MAX_OVERHEAD) + RESERVE);
/// Bytes at which a peer that makes us answer but does not read has gone too far.
const FLOOD: usize = CAPACITY + (256 << 10);
/// A record with less room than this is closed rather than filled up.
const LEAST_ROOM: usize = FRAME_HEADER + 512;
/// The output of one connection.
pub(crate) struct Output<S: Seal> {
    /// Empty while there is nothing to send; else as long as its capacity, of which `written..end` counts.
    buffer: Vec<u8>,
    written: usize,
    end: usize,
    /// Where the open record begins, if one is open.
    open: Option<usize>,
    seal: S,
    /// Nothing is taken any more: the last word has been said.
    finished: bool,
    failed: Option<S::Error>,
}

impl<S: Seal> Output<S> {
    pub(crate) fn new(seal: S) -> Self {
        Self {
            buffer: Vec::new(),
            written: 0,
            end: 0,
            open: None,
            seal,
            finished: false,
            failed: None,
        }
    }

    /// Bytes to write. A record that is open counts without its trailer.
    pub(crate) fn len(&self) -> usize {
        self.end - self.written
    }

    /// Bytes of payload that fit before the reserve.
    pub(crate) fn room(&self) -> usize {
        if self.finished {
            return 0;
        }
        let free = (CAPACITY - RESERVE).saturating_sub(self.end);
        // Every full record costs its frame and its own header and trailer; the last one may be short.
        let overhead = FRAME_HEADER + self.lead() + self.trail();
        free.saturating_sub((free / MAX_PLAINTEXT + 2) * overhead)
    }

    pub(crate) fn is_flooded(&self) -> bool {
        self.len() > FLOOD
    }

    /// Why nothing can be sealed any more.
    pub(crate) fn failure(&self) -> Option<&S::Error> {
        self.failed.as_ref()
    }

    pub(crate) fn seal(&self) -> &S {
        &self.seal
    }

    pub(crate) fn seal_mut(&mut self) -> &mut S {
        &mut self.seal
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.finished
    }

    fn lead(&self) -> usize {
        self.seal.lead()
    }

    fn trail(&self) -> usize {
        self.seal.trail()
    }

    /// Sees to an open record with room for `n` bytes of plaintext.
    fn make_room(&mut self, n: usize) {
        let lead = self.lead();
        if self
            .open
            .is_some_and(|start| self.end - start - lead + n > MAX_PLAINTEXT)
        {
            self.close();
        }
        if self.buffer.is_empty() {
            self.buffer = buffers::take(Size::Small);
        }
        let need = self.end + lead + n + self.trail();
        if need > self.buffer.len() {
            self.enlarge();
        }
        if need > self.buffer.len() {
            self.buffer.resize(need + RESERVE, 0);
        }
        if self.open.is_none() {
            self.open = Some(self.end);
            self.end += lead;
        }
    }

    /// Makes room for data. What lies in a small buffer is little.
    fn enlarge(&mut self) {
        if self.buffer.len() < CAPACITY {
            let mut buffer = buffers::take(Size::Large);
            buffer[..self.end].copy_from_slice(&self.buffer[..self.end]);
            buffers::give_back(std::mem::replace(&mut self.buffer, buffer));
        }
    }

    /// Ends the open record, if there is one.
    fn close(&mut self) {
        let Some(start) = self.open.take() else { return };
        if self.end == start + self.lead() {
            self.end = start;
            return;
        }
        self.end_record(start, None);
    }

    /// Seals what lies from `start` to the end.
    fn end_record(&mut self, start: usize, content: Option<u8>) {
        let end = self.end + self.trail();
        if let Err(error) = self.seal.seal(content, &mut self.buffer[start..end]) {
            // Never let plaintext out.
            self.buffer[start..end].fill(0);
            self.end = start;
            self.failed = Some(error);
            self.finished = true;
            return;
        }
        self.end = end;
    }

    /// Adds bytes that belong to no frame (the preface).
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        if self.finished {
            return;
        }
        self.make_room(bytes.len());
        self.buffer[self.end..self.end + bytes.len()].copy_from_slice(bytes);
        self.end += bytes.len();
    }

    /// Adds a frame of at most [`frame::MAX_SENT`] bytes of payload.
    pub(crate) fn frame(&mut self, kind: Kind, flags: u8, stream: u32, payload: &[u8]) {
        if self.finished {
            return;
        }
        self.make_room(FRAME_HEADER + payload.len());
        self.frame_header(kind, flags, stream, payload.len());
        self.buffer[self.end..self.end + payload.len()].copy_from_slice(payload);
        self.end += payload.len();
    }

    fn frame_header(&mut self, kind: Kind, flags: u8, stream: u32, size: usize) {
        let header = frame::header(kind, flags, stream, size);
        self.buffer[self.end..self.end + FRAME_HEADER].copy_from_slice(&header);
        self.end += FRAME_HEADER;
    }

    /// Has `read` put up to `max` bytes, no more than [`room`](Self::room), where the payload of DATA frames belongs.
    pub(crate) fn fill(
        &mut self,
        stream: u32,
        max: usize,
        read: impl FnOnce(&mut [IoSliceMut<'_>]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        self.enlarge();
        self.make_room(LEAST_ROOM);
        let (lead, trail) = (self.lead(), self.trail());
        let used = self.open.map_or(0, |start| self.end - start - lead);
        let first = MAX_PLAINTEXT - used - FRAME_HEADER;

        let mut slices: [IoSliceMut<'_>; MAX_SLICES] = array::from_fn(|_| IoSliceMut::new(&mut []));
        let (mut count, mut wanted, mut room) = (0, max, first);
        let mut rest = &mut self.buffer[self.end..];
        while count < MAX_SLICES && wanted > 0 {
            let size = room.min(wanted);
            if rest.len() < FRAME_HEADER + size + trail + lead {
                break;
            }
            let (slot, tail) = rest[FRAME_HEADER..].split_at_mut(size);
            slices[count] = IoSliceMut::new(slot);
            rest = &mut tail[trail + lead..];
            (count, wanted, room) = (count + 1, wanted - size, MAX_PLAINTEXT - FRAME_HEADER);
        }
        debug_assert!(count > 0, "`room` promises more than there is");
        let result = read(&mut slices[..count]);
        let total = max - wanted;
        let n = *result.as_ref().unwrap_or(&0);
        debug_assert!(n <= total, "the reader claims more than it was given room for");
        let mut left = n.min(total);
        let mut room = first;
        while left > 0 {
            let size = left.min(room);
            self.frame_header(Kind::Data, 0, stream, size);
            self.end += size;
            left -= size;
            if left > 0 {
                self.close();
                // Where the next slice was laid out: right behind.
                self.open = Some(self.end);
                self.end += lead;
                room = MAX_PLAINTEXT - FRAME_HEADER;
            }
        }
        if self.open.is_some_and(|start| self.end == start + lead) {
            self.close();
        }
        if self.end == 0 {
            // Nothing came of it, and nobody may ask for the next bytes for long.
            buffers::give_back(std::mem::take(&mut self.buffer));
        }
        result.map(|n| n.min(total))
    }

    /// Adds a message of the layer below, in a record of its own.
    pub(crate) fn message(&mut self, content: u8, message: &[u8]) {
        if self.finished {
            return;
        }
        self.close();
        self.make_room(message.len());
        let start = self.end - self.lead();
        self.open = None;
        self.buffer[self.end..self.end + message.len()].copy_from_slice(message);
        self.end += message.len();
        self.end_record(start, Some(content));
    }

    /// Nothing is taken any more.
    pub(crate) fn finish(&mut self) {
        self.close();
        self.finished = true;
    }

    /// Everything that can be written, sealed.
    pub(crate) fn bytes(&mut self) -> &[u8] {
        self.close();
        &self.buffer[self.written..self.end]
    }

    /// The first `n` bytes are out. Returns whether all are; the buffer is given back then.
    pub(crate) fn advance(&mut self, n: usize) -> bool {
        self.written = (self.written + n).min(self.end);
        if self.written < self.end {
            self.compact();
            return false;
        }
        (self.written, self.end, self.open) = (0, 0, None);
        buffers::give_back(std::mem::take(&mut self.buffer));
        true
    }

    /// A socket that takes little at a time must not keep the buffer full of what is written already. Moving a quarter to gain three is
    /// cheap enough.
    fn compact(&mut self) {
        let open = self.open.is_some();
        if !open && self.end > CAPACITY / 2 && self.len() <= CAPACITY / 8 {
            self.buffer.copy_within(self.written..self.end, 0);
            (self.written, self.end) = (0, self.len());
        }
    }
}
