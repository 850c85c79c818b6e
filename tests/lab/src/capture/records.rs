//! Following the TLS records of one direction of a TCP connection.
//!
//! A tap sees segments, and a record may begin anywhere in one. The first byte that is not where a record header says
//! that a record is (RFC 8446, section 5.1) is in clear, and so is all that follows.

/// The longest record that RFC 8446 allows: 2^14 bytes, the content type, and at most 255 bytes of expansion.
const LONGEST_RECORD: usize = (1 << 14) + 256;
const HEADER: usize = 5;

/// Where in the stream of records a direction of a connection is.
#[derive(Debug)]
pub(super) struct Records {
    /// The sequence number of the next byte.
    next: u32,
    /// The part of a record header that has been seen.
    header: Vec<u8>,
    /// Bytes of the current record still to come.
    body: usize,
    /// Whether something was no TLS record.
    broken: bool,
    /// Segments that came before one that is missing.
    early: Vec<(u32, Vec<u8>)>,
}

impl Records {
    /// A direction whose first byte has this sequence number.
    pub(super) fn new(next: u32) -> Self {
        Self {
            next,
            header: Vec::new(),
            body: 0,
            broken: false,
            early: Vec::new(),
        }
    }

    /// How many bytes of this segment are in TLS records.
    ///
    /// A segment that comes early is taken for what the connection has been so far, and looked at in its turn: if it
    /// was no TLS record, all that follows counts as clear.
    pub(super) fn encrypted(&mut self, sequence: u32, payload: &[u8]) -> u64 {
        let length = payload.len() as u64;
        let ahead = sequence.wrapping_sub(self.next);
        if payload.is_empty() {
            return 0;
        }
        if ahead == 0 {
            let good = self.feed(payload);
            while let Some(at) = self.early.iter().position(|(sequence, _)| *sequence == self.next) {
                let (_, payload) = self.early.swap_remove(at);
                self.feed(&payload);
            }
            return good;
        }
        if ahead < 1 << 31 {
            self.early.push((sequence, payload.to_vec()));
        } else if let Some(new) = payload.get(sequence.wrapping_neg().wrapping_add(self.next) as usize..)
            && !new.is_empty()
        {
            // Sent again, with more behind it.
            return length - new.len() as u64 + self.feed(new);
        }
        if self.broken { 0 } else { length }
    }

    /// Takes the next bytes of the stream and returns how many are in records.
    fn feed(&mut self, mut bytes: &[u8]) -> u64 {
        self.next = self.next.wrapping_add(bytes.len() as u32);
        let mut good = 0;
        while !bytes.is_empty() && !self.broken {
            if self.body > 0 {
                let taken = self.body.min(bytes.len());
                self.body -= taken;
                good += taken as u64;
                bytes = &bytes[taken..];
                continue;
            }
            self.header.push(bytes[0]);
            bytes = &bytes[1..];
            good += 1;
            if !plausible(&self.header) {
                // The whole header so far was none, but what earlier segments held of it has been counted.
                self.broken = true;
                good -= 1;
            } else if self.header.len() == HEADER {
                self.body = usize::from(u16::from_be_bytes([self.header[3], self.header[4]]));
                self.header.clear();
            }
        }
        good
    }
}

/// Whether these bytes can begin a record header: type (change cipher spec to application data), version, length.
fn plausible(header: &[u8]) -> bool {
    match header {
        [kind] => (20..=23).contains(kind),
        [_, major] => *major == 3,
        [_, _, minor] => *minor == 1 || *minor == 3,
        [_, _, _, high, low] => {
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            (1..=LONGEST_RECORD).contains(&length)
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::Records;

    fn record(length: u16) -> Vec<u8> {
        let mut bytes = vec![23, 3, 3];
        bytes.extend(length.to_be_bytes());
        bytes.resize(5 + usize::from(length), 0xaa);
        bytes
    }

    #[test]
    fn records_may_be_cut_anywhere() {
        let stream: Vec<u8> = [record(10), record(300), record(1)].concat();
        for cut in 1..stream.len() {
            let mut records = Records::new(u32::MAX - 20);
            let (one, two) = stream.split_at(cut);
            let first = records.encrypted(u32::MAX - 20, one);
            let second = records.encrypted((u32::MAX - 20).wrapping_add(cut as u32), two);
            assert_eq!(first + second, stream.len() as u64, "cut at {cut}");
        }
    }

    #[test]
    fn clear_text_is_clear_from_its_first_byte_on() {
        let mut records = Records::new(1);
        assert_eq!(records.encrypted(1, b"GET / HTTP/1.1\r\n"), 0);
        assert_eq!(records.encrypted(17, &record(10)), 0);
    }

    #[test]
    fn clear_text_behind_records_is_found() {
        let mut records = Records::new(1);
        let bytes = [record(10), b"hello".to_vec()].concat();
        assert_eq!(records.encrypted(1, &bytes), 15);
    }

    #[test]
    fn segments_out_of_order_and_sent_again() {
        let stream = record(100);
        let mut records = Records::new(0);
        assert_eq!(records.encrypted(50, &stream[50..]), 55);
        assert_eq!(records.encrypted(0, &stream[..50]), 50);
        assert_eq!(records.encrypted(0, &stream[..50]), 50);
        assert_eq!(records.encrypted(105, &record(1)), 6);
        assert_eq!(records.encrypted(111, b"clear"), 0);
    }
}
