//! The tables that header blocks refer to (RFC 7541 section 2.3).
use std::collections::VecDeque;

/// Entries of the static table (appendix A), index 1 first.
const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

/// What an entry costs beside its bytes (section 4.1).
pub(super) const OVERHEAD: usize = 32;

struct Entry {
    name: usize,
    bytes: Box<[u8]>,
}

impl Entry {
    fn parts(&self) -> (&[u8], &[u8]) {
        self.bytes.split_at(self.name)
    }
}

/// Static and dynamic table under one index.
pub(super) struct Table {
    dynamic: VecDeque<Entry>,
    size: usize,
    max: usize,
}

impl Table {
    pub(super) fn new(max: usize) -> Self {
        Self {
            dynamic: VecDeque::new(),
            size: 0,
            max,
        }
    }

    pub(super) fn max(&self) -> usize {
        self.max
    }

    #[cfg(test)]
    pub(super) fn entries(&self) -> usize {
        self.dynamic.len()
    }

    pub(super) fn get(&self, index: usize) -> Option<(&[u8], &[u8])> {
        let index = index.checked_sub(1)?;
        match STATIC.get(index) {
            Some((name, value)) => Some((name.as_bytes(), value.as_bytes())),
            None => self.dynamic.get(index - STATIC.len()).map(Entry::parts),
        }
    }

    /// Index of a header, or of its name alone.
    pub(super) fn find(&self, name: &[u8], value: &[u8]) -> (Option<usize>, Option<usize>) {
        let mut named = None;
        let fixed = STATIC.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        // Only `:authority`, `:method` and `:status` of the static table matter here; it is searched no further than those.
        let fixed = fixed.take(if name.starts_with(b":") { 14 } else { 0 });
        let dynamic = self.dynamic.iter().map(Entry::parts);
        for (index, (known, content)) in (1..).zip(fixed).chain((STATIC.len() + 1..).zip(dynamic)) {
            if known == name {
                if content == value {
                    return (Some(index), Some(index));
                }
                named = named.or(Some(index));
            }
        }
        (None, named)
    }

    pub(super) fn insert(&mut self, name: &[u8], value: &[u8]) {
        let size = name.len() + value.len() + OVERHEAD;
        if size > self.max {
            // Section 4.4: an entry larger than the table empties it; that is not an error.
            self.evict_to(0);
            return;
        }
        self.evict_to(self.max - size);
        let bytes = [name, value].concat().into_boxed_slice();
        self.dynamic.push_front(Entry {
            name: name.len(),
            bytes,
        });
        self.size += size;
    }

    pub(super) fn resize(&mut self, max: usize) {
        self.max = max;
        self.evict_to(max);
    }

    fn evict_to(&mut self, size: usize) {
        while self.size > size {
            let Some(entry) = self.dynamic.pop_back() else { return };
            self.size -= entry.bytes.len() + OVERHEAD;
        }
    }
}
