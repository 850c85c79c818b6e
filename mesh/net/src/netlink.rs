//! Asking the kernel over rtnetlink: one request, its answers, and no more than that.

use std::{io, os::fd::AsFd as _};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};

/// `NLM_F_CREATE`: make what is not there.
pub const CREATE: u16 = 0x400;
/// `NLM_F_EXCL`: fail if it is there.
pub const EXCLUSIVE: u16 = 0x200;
/// `NLM_F_DUMP`: all that there are.
pub const DUMP: u16 = 0x300;

// `linux/netlink.h`.
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLA_F_NESTED: u16 = 0x8000;
/// Of an attribute's number, without what its upper two bits say of it.
const NLA_TYPE_MASK: u16 = 0x3fff;

/// Length, kind, flags, sequence number and port.
const HEADER: usize = 16;
const ATTRIBUTE_HEADER: usize = 4;

/// More than the kernel puts into one datagram.
const RECEIVED: usize = 1 << 16;

/// A request to the network namespace of the thread that sends it.
#[derive(Clone, Debug)]
pub struct Request {
    bytes: Vec<u8>,
}

/// What the kernel answers: its kind, and what follows the netlink header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Such as `RTM_NEWLINK`.
    pub kind: u16,
    /// The family's own header, then attributes.
    pub body: Vec<u8>,
}

impl Request {
    /// Of this kind, with the family's own header.
    pub fn new(kind: u16, flags: u16, header: &[u8]) -> Self {
        let mut bytes = vec![0; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend((NLM_F_REQUEST | NLM_F_ACK | flags).to_ne_bytes());
        bytes.extend(1_u32.to_ne_bytes());
        bytes.extend(0_u32.to_ne_bytes());
        bytes.extend(header);
        Self { bytes }.aligned()
    }

    /// Adds an attribute.
    #[must_use]
    pub fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        // No attribute of this crate's users comes near the limit.
        let length = u16::try_from(ATTRIBUTE_HEADER + value.len()).unwrap_or(u16::MAX);
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(value);
        self.aligned()
    }

    /// Adds an attribute that is made of attributes.
    #[must_use]
    pub fn nested(self, kind: u16, inner: impl FnOnce(Self) -> Self) -> Self {
        let inner = inner(Self { bytes: Vec::new() });
        self.attribute(kind | NLA_F_NESTED, &inner.bytes)
    }

    fn aligned(mut self) -> Self {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self
    }

    /// Sends it and waits for all answers.
    ///
    /// # Errors
    /// What the kernel refuses, with its error number; an answer that is none.
    pub fn send(mut self) -> io::Result<Vec<Answer>> {
        let length = u32::try_from(self.bytes.len()).map_err(io::Error::other)?;
        self.bytes[..4].copy_from_slice(&length.to_ne_bytes());
        // Without a protocol it is rtnetlink, whose number is 0.
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        send(&socket, &self.bytes, SendFlags::empty())?;
        let mut answers = Vec::new();
        let mut buffer = vec![0; RECEIVED];
        loop {
            let (count, _) = recv(socket.as_fd(), buffer.as_mut_slice(), RecvFlags::empty())?;
            if take(&buffer[..count.min(RECEIVED)], &mut answers)? {
                return Ok(answers);
            }
        }
    }
}

/// Takes the messages of a datagram. True when the last answer is among them.
fn take(mut datagram: &[u8], answers: &mut Vec<Answer>) -> io::Result<bool> {
    while !datagram.is_empty() {
        let length = word(datagram, 0).map_or(0, |length| length as usize);
        let kind = datagram.get(4..6).and_then(|bytes| bytes.try_into().ok());
        let (Some(kind), Some(body)) = (kind.map(u16::from_ne_bytes), datagram.get(HEADER..length)) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        match (kind, word(body, 0)) {
            (NLMSG_DONE | NLMSG_ERROR, Some(0) | None) => return Ok(true),
            (NLMSG_DONE | NLMSG_ERROR, Some(code)) => {
                return Err(io::Error::from_raw_os_error(code.cast_signed().wrapping_neg()));
            }
            _ => answers.push(Answer {
                kind,
                body: body.to_vec(),
            }),
        }
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// The attributes that follow each other in these bytes, up to the first that is none.
pub fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let field = |at: usize| Some(u16::from_ne_bytes(rest.get(at..at + 2)?.try_into().ok()?));
        let (length, kind) = (usize::from(field(0)?), field(2)?);
        let value = rest.get(ATTRIBUTE_HEADER..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind & NLA_TYPE_MASK, value))
    })
}

/// The value of an attribute.
pub fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes)
        .find(|(found, _)| *found == kind)
        .map(|(_, value)| value)
}

/// Four bytes as a number.
pub fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// Bytes up to the first zero as text.
pub fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_found_again_and_what_is_cut_off_ends_them() {
        let request = Request::new(1, 0, &[7; 3]).attribute(5, b"odd").nested(6, |inside| {
            inside.attribute(1, &9_u32.to_ne_bytes()).attribute(2, b"name\0")
        });
        let body = &request.bytes[HEADER + 4..];
        assert_eq!(find(body, 5), Some(&b"odd"[..]));
        let nested = find(body, 6).expect("nested");
        assert_eq!(word(find(nested, 1).expect("a number"), 0), Some(9));
        assert_eq!(text(find(nested, 2).expect("a name")), "name");
        assert_eq!(find(body, 7), None);
        for end in 0..body.len() {
            assert!(attributes(&body[..end]).count() <= 2);
        }
    }

    #[test]
    fn an_error_and_garbage_are_errors() {
        let message = |kind: u16, body: &[u8]| {
            let length = (HEADER + body.len()) as u32;
            [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), &[0; 10], body].concat()
        };
        let taken = |datagram: &[u8]| {
            let mut answers = Vec::new();
            take(datagram, &mut answers).map(|is_last| (is_last, answers.len()))
        };
        let answer = message(16, &[1, 2, 3, 4]);
        assert_eq!(taken(&answer).expect("an answer"), (false, 1));
        let done = message(NLMSG_DONE, &[0; 4]);
        assert_eq!(taken(&[answer, done].concat()).expect("all"), (true, 1));
        let refused = message(NLMSG_ERROR, &(-libc::ENODEV).to_ne_bytes());
        assert_eq!(taken(&refused).expect_err("refused").raw_os_error(), Some(libc::ENODEV));
        for garbage in [&[0; 7][..], &[0; 64], &[255; 64]] {
            assert_eq!(taken(garbage).expect_err("garbage").kind(), io::ErrorKind::InvalidData);
        }
    }
}
