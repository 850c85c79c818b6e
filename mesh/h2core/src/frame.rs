//! HTTP/2 framing (RFC 9113 section 4): finds frames in a byte stream that is cut anywhere.
use crate::{Limit, ProtocolError};

/// Bytes before the payload: length, type, flags, stream.
pub(crate) const HEADER: usize = 9;
/// Most payload in a frame that we send: with its header it fills one record, and is within what every peer takes.
pub(crate) const MAX_SENT: usize = crate::seal::MAX_PLAINTEXT - HEADER;
/// What a client sends first (section 3.4).
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Longest frame that is gathered when it is not whole, unless headers may be longer.
const MAX_GATHERED: usize = 16 << 10;

/// Types of frames that we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Data = 0,
    Headers = 1,
    Priority = 2,
    Reset = 3,
    Settings = 4,
    PushPromise = 5,
    Ping = 6,
    GoAway = 7,
    WindowUpdate = 8,
    Continuation = 9,
}

impl Kind {
    fn of(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Data,
            1 => Self::Headers,
            2 => Self::Priority,
            3 => Self::Reset,
            4 => Self::Settings,
            5 => Self::PushPromise,
            6 => Self::Ping,
            7 => Self::GoAway,
            8 => Self::WindowUpdate,
            9 => Self::Continuation,
            _ => return None,
        })
    }
}

/// Flags; what they mean depends on the type.
pub(crate) mod flag {
    pub(crate) const ACK: u8 = 1;
    pub(crate) const END_STREAM: u8 = 1;
    pub(crate) const END_HEADERS: u8 = 4;
    pub(crate) const PADDED: u8 = 8;
    pub(crate) const PRIORITY: u8 = 0x20;
}

/// The header of a frame to send.
pub(crate) fn header(kind: Kind, flags: u8, stream: u32, size: usize) -> [u8; HEADER] {
    let [_, a, b, c] = (size as u32).to_be_bytes();
    let [s, t, u, v] = stream.to_be_bytes();
    [a, b, c, kind as u8, flags, s, t, u, v]
}

/// A frame's header, as received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) size: u32,
    pub(crate) kind: Kind,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
}

impl Header {
    pub(crate) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    pub(crate) fn unexpected(&self, reason: &'static str) -> ProtocolError {
        ProtocolError::Unexpected {
            kind: self.kind as u8,
            stream: self.stream,
            reason,
        }
    }

    pub(crate) fn wrong_size(&self) -> ProtocolError {
        ProtocolError::FrameSize {
            kind: self.kind as u8,
            size: self.size,
        }
    }
}

/// What was found.
#[derive(Debug)]
pub(crate) enum Piece<'p, 'b> {
    /// A DATA frame begins; flow control counts all of `header.size` now.
    DataStart(Header),
    /// Payload of the DATA frame that began, without padding; `last` ends the frame. May be empty only if last.
    Data { data: &'b [u8], last: bool },
    /// A whole frame of another type.
    Frame(Header, &'p [u8]),
    /// A frame of a type that we do not know; its payload is passed over.
    Unknown,
}

enum State {
    /// The next bytes of the preface are due; so many have come.
    Preface(usize),
    /// Between frames; so many bytes of a header have come.
    Between(usize),
    /// In a DATA frame: bytes left with padding, and of padding at the end. None: the padding's length is the next byte.
    Data { left: u32, padding: Option<u32> },
    /// In a frame that is gathered.
    Gathering(Header),
    /// In a frame that is passed over: bytes left.
    Skipping(u32),
}

/// Follows the frames of one direction of a connection.
pub(crate) struct Parser {
    state: State,
    header: [u8; HEADER],
    gathered: Vec<u8>,
    max_frame: u32,
    max_gathered: usize,
    /// The stream whose header block is not complete: nothing but its CONTINUATION may come.
    continues: Option<u32>,
}

impl Parser {
    pub(crate) fn new(preface: bool, max_frame: u32, max_headers: u32) -> Self {
        Self {
            state: if preface { State::Preface(0) } else { State::Between(0) },
            header: [0; HEADER],
            gathered: Vec::new(),
            max_frame,
            // Padding and priority may come on top.
            max_gathered: MAX_GATHERED.max(max_headers as usize + 512),
            continues: None,
        }
    }

    /// The next piece of `input`, which moves on; none when it is used up.
    pub(crate) fn next<'p, 'b: 'p>(&'p mut self, input: &mut &'b [u8]) -> Result<Option<Piece<'p, 'b>>, ProtocolError> {
        loop {
            match self.state {
                State::Preface(have) => {
                    let got = take(input, PREFACE.len() - have);
                    if got != &PREFACE[have..have + got.len()] {
                        return Err(ProtocolError::Preface);
                    }
                    let have = have + got.len();
                    if have < PREFACE.len() {
                        self.state = State::Preface(have);
                        return Ok(None);
                    }
                    self.state = State::Between(0);
                }
                State::Between(have) => {
                    let got = take(input, HEADER - have);
                    self.header[have..have + got.len()].copy_from_slice(got);
                    let have = have + got.len();
                    if have < HEADER {
                        self.state = State::Between(have);
                        return Ok(None);
                    }
                    if let Some(piece) = self.begin()? {
                        return Ok(Some(piece));
                    }
                }
                State::Data { left, padding: None } => {
                    let Some((&padding, rest)) = input.split_first() else {
                        return Ok(None);
                    };
                    *input = rest;
                    let (left, padding) = (left - 1, u32::from(padding));
                    if padding > left {
                        return Err(ProtocolError::Padding(0));
                    }
                    self.state = State::Data {
                        left,
                        padding: Some(padding),
                    };
                }
                State::Data {
                    left,
                    padding: Some(padding),
                } => {
                    if left > padding || left == 0 {
                        let data = take(input, (left - padding) as usize);
                        if data.is_empty() && left > 0 {
                            return Ok(None);
                        }
                        let left = left - data.len() as u32;
                        let last = left == padding;
                        self.state = if last {
                            State::Skipping(left)
                        } else {
                            State::Data {
                                left,
                                padding: Some(padding),
                            }
                        };
                        return Ok(Some(Piece::Data { data, last }));
                    }
                    // Nothing but padding.
                    self.state = State::Skipping(left);
                    return Ok(Some(Piece::Data { data: &[], last: true }));
                }
                State::Gathering(header) => {
                    let size = header.size as usize;
                    if self.gathered.is_empty() && input.len() >= size {
                        self.state = State::Between(0);
                        return Ok(Some(Piece::Frame(header, take(input, size))));
                    }
                    let got = take(input, size - self.gathered.len());
                    self.gathered.extend_from_slice(got);
                    if self.gathered.len() < size {
                        return Ok(None);
                    }
                    self.state = State::Between(0);
                    return Ok(Some(Piece::Frame(header, &self.gathered)));
                }
                State::Skipping(left) => {
                    let left = left - take(input, left as usize).len() as u32;
                    if left > 0 {
                        self.state = State::Skipping(left);
                        return Ok(None);
                    }
                    self.state = State::Between(0);
                }
            }
        }
    }

    /// A header is complete: what its frame is.
    fn begin<'p, 'b>(&mut self) -> Result<Option<Piece<'p, 'b>>, ProtocolError> {
        let [a, b, c, number, flags, s, t, u, v] = self.header;
        let size = u32::from_be_bytes([0, a, b, c]);
        let stream = u32::from_be_bytes([s & 0x7f, t, u, v]);
        if size > self.max_frame {
            return Err(ProtocolError::FrameSize { kind: number, size });
        }
        if self
            .continues
            .is_some_and(|id| number != Kind::Continuation as u8 || id != stream)
        {
            let reason = "a header block is not complete";
            return Err(ProtocolError::Unexpected {
                kind: number,
                stream,
                reason,
            });
        }
        let Some(kind) = Kind::of(number) else {
            self.state = State::Skipping(size);
            return Ok(Some(Piece::Unknown));
        };
        let header = Header {
            size,
            kind,
            flags,
            stream,
        };
        match kind {
            Kind::Data => {
                let padded = header.has(flag::PADDED);
                if padded && size == 0 {
                    return Err(header.wrong_size());
                }
                self.state = State::Data {
                    left: size,
                    padding: (!padded).then_some(0),
                };
                return Ok(Some(Piece::DataStart(header)));
            }
            Kind::Headers => self.continues = (!header.has(flag::END_HEADERS)).then_some(stream),
            Kind::Continuation if self.continues.is_none() => {
                return Err(header.unexpected("no header block to continue"));
            }
            Kind::Continuation if header.has(flag::END_HEADERS) => self.continues = None,
            _ => {}
        }
        if size as usize > self.max_gathered {
            return Err(match kind {
                Kind::Headers | Kind::Continuation => Limit::HeaderBlock.into(),
                _ => header.wrong_size(),
            });
        }
        // An earlier frame's bytes have been looked at by now. A large buffer is not kept for the next header block.
        self.gathered.clear();
        self.gathered.shrink_to(1 << 10);
        self.state = State::Gathering(header);
        Ok(None)
    }
}

/// Takes up to `n` bytes off `input`.
fn take<'b>(input: &mut &'b [u8], n: usize) -> &'b [u8] {
    let (head, rest) = input.split_at(n.min(input.len()));
    *input = rest;
    head
}

/// Removes the padding, and the priority of HEADERS, from a payload (sections 6.1, 6.2).
pub(crate) fn unpad<'p>(header: &Header, payload: &'p [u8]) -> Result<&'p [u8], ProtocolError> {
    let mut rest = payload;
    let mut padding = 0;
    if header.has(flag::PADDED) {
        let (&length, tail) = rest.split_first().ok_or_else(|| header.wrong_size())?;
        (padding, rest) = (usize::from(length), tail);
    }
    if header.has(flag::PRIORITY) {
        rest = rest.get(5..).ok_or_else(|| header.wrong_size())?;
    }
    let size = rest
        .len()
        .checked_sub(padding)
        .ok_or(ProtocolError::Padding(header.kind as u8))?;
    Ok(&rest[..size])
}
