//! A resolver that knows one address, and answers every query with it.

use std::{
    io::{self, ErrorKind},
    net::UdpSocket,
};

/// A query's header.
const HEADER: usize = 12;
/// The name in the question (a pointer, RFC 1035 section 4.1.4), type A, class IN, a minute, four bytes.
const RECORD: [u8; 16] = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 198, 18, 9, 1];

/// Answers all queries that are there.
pub(crate) fn answer(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<()> {
    loop {
        let (count, from) = match socket.recv_from(buffer) {
            Ok(received) => received,
            // That a client is gone may be said here.
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionRefused) => return Ok(()),
            Err(error) => return Err(error),
        };
        let Some(length) = write_answer(buffer, count) else {
            continue;
        };
        match socket.send_to(&buffer[..length], from) {
            Ok(_) => {}
            // A full buffer loses it, as any router would.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// Makes an answer of the query in the buffer: its length, or nothing if that is no query.
fn write_answer(buffer: &mut [u8], count: usize) -> Option<usize> {
    let query = buffer.get(HEADER..count)?;
    // The question: a name, which ends with an empty label, a type and a class.
    let question = query.iter().position(|byte| *byte == 0)? + 5;
    let end = HEADER + question;
    if count < end {
        return None;
    }
    // An answer, recursion is available; one question, one answer, and whatever followed is left out.
    buffer[2] |= 0x80;
    buffer[3] = 0x80;
    buffer[4..HEADER].copy_from_slice(&[0, 1, 0, 1, 0, 0, 0, 0]);
    buffer.get_mut(end..end + RECORD.len())?.copy_from_slice(&RECORD);
    Some(end + RECORD.len())
}

#[cfg(test)]
mod tests {
    use super::write_answer;

    #[test]
    fn a_query_gets_its_question_back_with_one_address() {
        let query = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x01\x01a\x00\x00\x01\x00\x01more";
        let mut buffer = [0; 64];
        buffer[..query.len()].copy_from_slice(query);
        let length = write_answer(&mut buffer, query.len()).unwrap();
        assert_eq!(length, 12 + 7 + 16);
        assert_eq!(buffer[..8], [0x12, 0x34, 0x81, 0x80, 0, 1, 0, 1]);
        assert_eq!(buffer[12..19], query[12..19]);
        assert_eq!(buffer[length - 4..length], [198, 18, 9, 1]);
    }

    #[test]
    fn what_is_no_query_is_not_answered() {
        assert_eq!(write_answer(&mut [0; 64], 12), None);
        assert_eq!(write_answer(&mut [1; 64], 20), None);
    }
}
