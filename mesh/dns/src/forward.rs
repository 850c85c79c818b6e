//! What whoever forwards a DNS message must know of it (RFC 1035, section 4.1): its identifier and its question. All else stays as
//! it is.

use std::fmt;

/// The length of a message's header.
const HEADER: usize = 12;
/// The port of resolvers.
pub const RESOLVER_PORT: u16 = 53;
/// The longest message, by the length that stands before it over TCP.
pub const LONGEST: usize = u16::MAX as usize;

const SERVFAIL: u8 = 2;
const QR: u8 = 0x80;
const OPCODE: u8 = 0x78;
const RD: u8 = 0x01;
const RA: u8 = 0x80;
const RCODE: u8 = 0x0f;

/// The beginning of a query, as its sender wrote it: header and question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    bytes: Box<[u8]>,
    /// The question could be read.
    is_whole: bool,
}

impl Head {
    /// Of a whole message. None for what has no header.
    pub fn of(message: &[u8]) -> Option<Self> {
        let header = message.get(..HEADER)?;
        let end = end_of_question(message);
        Some(Self {
            bytes: message.get(..end.unwrap_or(HEADER)).unwrap_or(header).into(),
            is_whole: end.is_some(),
        })
    }

    /// The identifier that its sender gave it.
    pub fn id(&self) -> u16 {
        id(&self.bytes)
    }

    /// Whether a message answers this query. A question that a server could not read it may leave out; of one that was not
    /// read here, nothing can be said.
    pub fn is_answered_by(&self, reply: &[u8]) -> bool {
        let Some(header) = reply.get(..HEADER) else {
            return false;
        };
        if header[2] & QR == 0 {
            return false;
        }
        if !self.is_whole {
            return true;
        }
        let asked = &self.bytes[HEADER..];
        match end_of_question(reply).and_then(|end| reply.get(HEADER..end)) {
            Some([]) => asked.is_empty() || header[3] & RCODE != 0,
            // Some servers write names in small letters.
            Some(found) => found.eq_ignore_ascii_case(asked),
            None => false,
        }
    }

    /// The answer that makes a stub resolver ask its next server at once.
    pub fn server_failure(&self) -> Vec<u8> {
        let mut answer = self.bytes.to_vec();
        answer[2] = QR | answer[2] & (OPCODE | RD);
        answer[3] = RA | SERVFAIL;
        // Answers, authorities, additional records: none; and no question where it could not be read.
        let kept = if self.is_whole { 6 } else { 4 };
        answer[kept..HEADER].fill(0);
        answer
    }
}

/// The identifier of a message; 0 for what has none.
pub fn id(message: &[u8]) -> u16 {
    match message {
        [first, second, ..] => u16::from_be_bytes([*first, *second]),
        _ => 0,
    }
}

/// Gives a message another identifier.
pub fn set_id(message: &mut [u8], id: u16) {
    if let Some(place) = message.get_mut(..2) {
        place.copy_from_slice(&id.to_be_bytes());
    }
}

/// Shows the first question of a message: name and type.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'m>(pub &'m [u8]);

impl Asked<'_> {
    /// The type asked for, in small letters, as metrics name it; those that are rare are `other`.
    pub fn kind(&self) -> &'static str {
        match self.number() {
            Some(1) => "a",
            Some(2) => "ns",
            Some(5) => "cname",
            Some(6) => "soa",
            Some(12) => "ptr",
            Some(15) => "mx",
            Some(16) => "txt",
            Some(28) => "aaaa",
            Some(33) => "srv",
            Some(65) => "https",
            _ => "other",
        }
    }

    fn number(&self) -> Option<u16> {
        let end = end_of_name(self.0, HEADER)?;
        Some(u16::from_be_bytes(self.0.get(end..end + 2)?.try_into().ok()?))
    }
}

impl fmt::Display for Asked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut at = HEADER;
        let Some(end) = end_of_name(self.0, at) else {
            return f.write_str("?");
        };
        while let Some(label) = self.0.get(at + 1..end.min(at + 1 + usize::from(self.0[at]))) {
            if label.is_empty() || self.0[at] == 0 {
                break;
            }
            write!(f, "{}.", label.escape_ascii())?;
            at += 1 + label.len();
        }
        write!(f, " {}", self.kind())
    }
}

/// Where the question section ends; none where it cannot be read.
fn end_of_question(message: &[u8]) -> Option<usize> {
    let count = u16::from_be_bytes(message.get(4..6)?.try_into().ok()?);
    let mut at = HEADER;
    for _ in 0..count {
        at = end_of_name(message, at)? + 4;
        if at > message.len() {
            return None;
        }
    }
    Some(at)
}

/// Where a name ends that is not compressed, as the first one of a message is not.
fn end_of_name(message: &[u8], mut at: usize) -> Option<usize> {
    const LONGEST_LABEL: u8 = 63;
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            length if length <= LONGEST_LABEL => at += 1 + usize::from(length),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn query(id: u16, name: &[&str], kind: u16) -> Vec<u8> {
        let mut message = id.to_be_bytes().to_vec();
        message.extend([1, 0x20, 0, 1, 0, 0, 0, 0, 0, 1]);
        for label in name {
            message.push(label.len() as u8);
            message.extend(label.as_bytes());
        }
        message.push(0);
        message.extend(kind.to_be_bytes());
        message.extend([0, 1]);
        message
    }

    #[test]
    fn an_answer_has_the_question_that_was_asked() {
        let asked = query(7, &["cart", "shop"], 28);
        let head = Head::of(&asked).unwrap();
        let mut reply = query(9, &["CART", "shop"], 28);
        assert!(!head.is_answered_by(&reply), "a query");
        reply[2] |= QR;
        reply.extend([1; 40]);
        assert!(head.is_answered_by(&reply));
        for other in [query(9, &["cart", "shop"], 1), query(9, &["card", "shop"], 28)] {
            let mut other = other;
            other[2] |= QR;
            assert!(!head.is_answered_by(&other));
        }
        let mut bare = [0; HEADER];
        bare[2] = QR;
        assert!(!head.is_answered_by(&bare), "no error, and no question");
        bare[3] = 1;
        assert!(head.is_answered_by(&bare), "FORMERR");
    }

    #[test]
    fn a_failure_keeps_identifier_and_question_and_nothing_else() {
        let mut asked = query(0x1234, &["cart"], 1);
        let question = asked.clone();
        asked.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
        let answer = Head::of(&asked).unwrap().server_failure();
        assert_eq!(answer[..HEADER], [0x12, 0x34, 0x81, 0x82, 0, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(answer[HEADER..], question[HEADER..]);
        asked.truncate(HEADER + 2);
        let answer = Head::of(&asked).unwrap().server_failure();
        assert_eq!(answer, [0x12, 0x34, 0x81, 0x82, 0, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn a_question_is_shown_and_its_type_named() {
        let asked = query(1, &["_http", "a b"], 33);
        assert_eq!(Asked(&asked).to_string(), "_http.a b. srv");
        assert_eq!(Asked(&query(1, &[], 2)).to_string(), " ns");
        assert_eq!((Asked(b"").to_string().as_str(), Asked(b"").kind()), ("?", "other"));
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_odd(message in proptest::collection::vec(any::<u8>(), 0..80), reply in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = (Asked(&message).to_string(), Asked(&message).kind());
            let Some(head) = Head::of(&message) else {
                prop_assert!(message.len() < HEADER);
                return Ok(());
            };
            let _ = head.is_answered_by(&reply);
            let failure = head.server_failure();
            prop_assert!(failure.len() >= HEADER && failure.len() <= message.len());
            prop_assert_eq!(id(&failure), id(&message));
            prop_assert!(head.is_answered_by(&failure));
        }
    }
}
