//! A client of HTTP/2 in clear that writes what it likes, over a connection of a pod.

use crate::raw_peer::{ACK, END_HEADERS, END_STREAM, Frame, PREFACE, block, frame, kind};
use culvert_lab::Pod;
use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

/// A connection.
pub struct RawHttp2 {
    stream: TcpStream,
    received: Vec<u8>,
}

/// What became of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered.
    Status(u16),
    /// It was reset with this code.
    Reset(u32),
    /// The whole connection was told to go away with this code.
    GoAway(u32),
    /// The connection ended without a word, or nothing came in time.
    Ended,
}

impl RawHttp2 {
    /// Connects, and says the preface and SETTINGS with these entries.
    ///
    /// # Errors
    /// When the connection fails.
    pub fn dial(from: &Pod, to: SocketAddr, settings: &[(u16, u32)], patience: Duration) -> io::Result<Self> {
        let mut stream = from.connect(to, patience)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        let mut payload = Vec::new();
        for (number, value) in settings {
            payload.extend_from_slice(&number.to_be_bytes());
            payload.extend_from_slice(&value.to_be_bytes());
        }
        let hello = [
            PREFACE,
            &frame(kind::SETTINGS, 0, 0, &payload),
            &frame(kind::SETTINGS, ACK, 0, &[]),
        ];
        stream.write_all(&hello.concat())?;
        Ok(Self {
            stream,
            received: Vec::new(),
        })
    }

    /// Sends bytes.
    ///
    /// # Errors
    /// When the connection is broken, or takes nothing in time.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// The next frame; none at the connection's end, or when nothing comes in time.
    pub fn next_frame(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = Frame::take(&mut self.received) {
                return Some(frame);
            }
            let mut buffer = [0; 16 << 10];
            match self.stream.read(&mut buffer) {
                Ok(0) | Err(_) => return None,
                Ok(count) => self.received.extend_from_slice(&buffer[..count]),
            }
        }
    }

    /// What becomes of a stream.
    pub fn outcome(&mut self, stream: u32) -> Outcome {
        while let Some(frame) = self.next_frame() {
            match frame.kind {
                kind::GOAWAY => return Outcome::GoAway(frame.code()),
                kind::RST_STREAM if frame.stream == stream => return Outcome::Reset(frame.code()),
                kind::HEADERS if frame.stream == stream => {
                    return Outcome::Status(status(&frame.payload).unwrap_or_else(|| panic!("no status: {frame:?}")));
                }
                _ => {}
            }
        }
        Outcome::Ended
    }

    /// Sends what `more` gives until the peer says GOAWAY, closes, or takes nothing any more; the code of the GOAWAY. Answers are read
    /// where `reads` says so.
    ///
    /// # Panics
    /// When the peer does none of it within `patience`.
    pub fn flood(mut self, patience: Duration, reads: bool, mut more: impl FnMut() -> Vec<u8>) -> Option<u32> {
        let until = Instant::now() + patience;
        while self.send(&more()).is_ok() {
            assert!(
                Instant::now() < until,
                "the flood is neither refused, cut off nor held back"
            );
            if reads && let Some(code) = self.said_goaway() {
                return Some(code);
            }
        }
        loop {
            let frame = self.next_frame()?;
            if frame.kind == kind::GOAWAY {
                return Some(frame.code());
            }
        }
    }

    fn said_goaway(&mut self) -> Option<u32> {
        self.stream.set_nonblocking(true).ok()?;
        let mut buffer = [0; 16 << 10];
        while let Ok(count @ 1..) = self.stream.read(&mut buffer) {
            self.received.extend_from_slice(&buffer[..count]);
        }
        self.stream.set_nonblocking(false).ok()?;
        while let Some(frame) = Frame::take(&mut self.received) {
            if frame.kind == kind::GOAWAY {
                return Some(frame.code());
            }
        }
        None
    }
}

/// HEADERS of a request with these fields, whole, which has no body where `ends`.
pub fn request(stream: u32, ends: bool, fields: &[(&str, &str)]) -> Vec<u8> {
    let flags = END_HEADERS | if ends { END_STREAM } else { 0 };
    frame(kind::HEADERS, flags, stream, &block(fields))
}

/// The status that a header block begins with (RFC 7541 appendix A: 8 to 14 are `:status`).
fn status(block: &[u8]) -> Option<u16> {
    // The table's size may be changed first.
    let start = block.iter().position(|byte| byte & 0xe0 != 0x20)?;
    let block = &block[start..];
    match *block.first()? {
        byte @ 0x88..=0x8e => Some([200, 204, 206, 304, 400, 404, 500][usize::from(byte - 0x88)]),
        // A literal whose name is index 8 to 14.
        0x48..=0x4e | 0x08..=0x0e | 0x18..=0x1e => {
            let text = block.get(2..)?;
            match block.get(1)? {
                3 => std::str::from_utf8(text.get(..3)?).ok()?.parse().ok(),
                _ => huffman_digits(text),
            }
        }
        _ => None,
    }
}

/// Three digits in Huffman's code (RFC 7541 appendix B): 0, 1 and 2 have five bits, the others six.
fn huffman_digits(bytes: &[u8]) -> Option<u16> {
    let padded: Vec<u8> = bytes.iter().copied().chain([0; 4]).take(4).collect();
    let mut bits = u32::from_be_bytes(padded.try_into().ok()?);
    let mut number = 0;
    for _ in 0..3 {
        let (five, six) = (bits >> 27, bits >> 26);
        let (digit, length) = if five <= 2 {
            (five, 5)
        } else {
            (six.checked_sub(0x19)? + 3, 6)
        };
        number = number * 10 + u16::try_from(digit).ok()?;
        bits <<= length;
    }
    Some(number)
}

#[cfg(test)]
mod tests {
    use super::status;

    #[test]
    fn a_status_is_read_in_each_of_its_forms() {
        assert_eq!(status(&[0x88]), Some(200));
        assert_eq!(status(&[0x20, 0x8c]), Some(400));
        assert_eq!(status(&[0x48, 3, b'5', b'0', b'3']), Some(503));
        // RFC 7541 appendix C.6.1: 302.
        assert_eq!(status(&[0x48, 0x82, 0x64, 0x02]), Some(302));
    }
}
