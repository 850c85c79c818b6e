//! What a layer below HTTP/2 does to its output.
use std::convert::Infallible;

/// Most plaintext in a record: that of TLS (RFC 8446 section 5.1). A frame that we send fills one record.
pub const MAX_PLAINTEXT: usize = 1 << 14;
/// Most bytes that a record may need beside its plaintext, before and behind it together: those of TLS 1.3.
pub const MAX_OVERHEAD: usize = 22;

/// Seals records of output where they lie in the buffer.
pub trait Seal {
    /// Why a record cannot be sealed.
    type Error;

    /// Bytes of room that a record needs before its plaintext. The same as long as the connection lives.
    fn lead(&self) -> usize;

    /// Bytes of room that a record needs behind its plaintext. With [`lead`](Self::lead) at most [`MAX_OVERHEAD`].
    fn trail(&self) -> usize;

    /// Seals a record in place: `record` is the room before, at most [`MAX_PLAINTEXT`] bytes of plaintext, the room behind. `content`
    /// says what the plaintext is, none that it is HTTP/2.
    ///
    /// # Errors
    /// The record must not go out. The plaintext may still lie there.
    fn seal(&mut self, content: Option<u8>, record: &mut [u8]) -> Result<(), Self::Error>;
}

/// No layer below: frames go out as they are.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plain;

impl Seal for Plain {
    type Error = Infallible;

    fn lead(&self) -> usize {
        0
    }

    fn trail(&self) -> usize {
        0
    }

    fn seal(&mut self, _: Option<u8>, _: &mut [u8]) -> Result<(), Infallible> {
        Ok(())
    }
}
