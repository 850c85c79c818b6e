//! Messages of gRPC in a body: each has five bytes before it, the last four of which say how long it is.

/// Counts messages as their bytes go by.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Messages {
    count: u64,
    /// Bytes of the next message's head that were seen.
    seen: usize,
    head: [u8; 5],
    /// Bytes of the message that are still to come.
    left: usize,
}

impl Messages {
    /// Bytes went by.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let skipped = self.left.min(bytes.len());
                self.left -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            self.head[self.seen] = bytes[0];
            self.seen += 1;
            bytes = &bytes[1..];
            if self.seen == self.head.len() {
                let [_, a, b, c, d] = self.head;
                self.left = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
                self.seen = 0;
                self.count += 1;
            }
        }
    }

    /// Messages that have begun.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_counted_however_their_bytes_come() {
        let stream = [
            &[0, 0, 0, 0, 3][..],
            b"abc",
            &[1, 0, 0, 0, 0],
            &[0, 0, 0, 1, 0],
            &[7; 256],
            &[0, 0, 0],
        ]
        .concat();
        for size in [1, 2, 5, 7, 64, stream.len()] {
            let mut messages = Messages::default();
            stream.chunks(size).for_each(|chunk| messages.feed(chunk));
            assert_eq!(messages.count(), 3, "{size}");
        }
    }
}
