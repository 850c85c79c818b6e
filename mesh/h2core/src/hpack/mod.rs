//! HPACK, header compression (RFC 7541).
//!
//! Written here because the crates at hand cannot face a hostile peer: httlib-hpack 0.1 indexes past the end of a truncated integer
//! (a panic, and our workers abort on panics), loona-hpack 0.4 builds a hash map of the whole Huffman code for each string.
mod huffman;
mod table;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use table::{OVERHEAD, Table};

/// Largest dynamic table, bytes: what both sides may use before settings say otherwise, and the most we ever use.
pub(crate) const TABLE_SIZE: usize = 4096;

/// Size of a header as RFC 9113 section 6.5.2 counts.
pub(crate) fn size(name: &[u8], value: &[u8]) -> usize {
    name.len() + value.len() + OVERHEAD
}

/// Reads header blocks of a connection, in order.
pub(crate) struct Decoder {
    table: Table,
}

impl Decoder {
    pub(crate) fn new() -> Self {
        Self {
            table: Table::new(TABLE_SIZE),
        }
    }

    /// Tells each header of a whole block to `each`. After an error the connection cannot go on: the tables differ.
    pub(crate) fn decode(&mut self, block: &[u8], mut each: impl FnMut(&[u8], &[u8])) -> Result<(), &'static str> {
        let mut rest = block;
        let mut headers = 0;
        while let Some(&first) = rest.first() {
            if first & 0x80 != 0 {
                let index = integer(&mut rest, 7)?;
                let (name, value) = self.table.get(index).ok_or("index beyond the tables")?;
                each(name, value);
            } else if first & 0xe0 == 0x20 {
                // Section 4.2: size updates stand at the beginning of a block.
                let max = integer(&mut rest, 5)?;
                if headers > 0 || max > TABLE_SIZE {
                    return Err("table size update out of place or too large");
                }
                self.table.resize(max);
                continue;
            } else {
                let indexing = first & 0xc0 == 0x40;
                let index = integer(&mut rest, if indexing { 6 } else { 4 })?;
                let name = match index {
                    0 => string(&mut rest)?,
                    _ => Cow::Borrowed(self.table.get(index).ok_or("index beyond the tables")?.0),
                };
                let value = string(&mut rest)?;
                each(&name, &value);
                if indexing {
                    let name = name.into_owned();
                    self.table.insert(&name, &value);
                }
            }
            headers += 1;
        }
        Ok(())
    }
}

/// An integer with a prefix of `bits` bits (section 5.1), at most 2^28 or so.
fn integer(input: &mut &[u8], bits: u32) -> Result<usize, &'static str> {
    let (&first, mut rest) = input.split_first().ok_or("truncated integer")?;
    let mask = (1usize << bits) - 1;
    let mut value = usize::from(first) & mask;
    if value == mask {
        for shift in [0, 7, 14, 21] {
            let (&byte, tail) = rest.split_first().ok_or("truncated integer")?;
            rest = tail;
            value += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                *input = rest;
                return Ok(value);
            }
        }
        return Err("integer too large");
    }
    *input = rest;
    Ok(value)
}

/// A string (section 5.2).
fn string<'a>(input: &mut &'a [u8]) -> Result<Cow<'a, [u8]>, &'static str> {
    let coded = input.first().ok_or("truncated string")? & 0x80 != 0;
    let length = integer(input, 7)?;
    let (bytes, rest) = input.split_at_checked(length).ok_or("truncated string")?;
    *input = rest;
    if !coded {
        return Ok(Cow::Borrowed(bytes));
    }
    let mut text = Vec::new();
    huffman::decode(bytes, &mut text)?;
    Ok(Cow::Owned(text))
}

/// Writes header blocks of a connection, in order.
pub(crate) struct Encoder {
    table: Table,
    /// Smallest size that the table had to shrink to since the last block, and the size it has now.
    resized: Option<(usize, usize)>,
}

impl Encoder {
    pub(crate) fn new() -> Self {
        Self {
            table: Table::new(TABLE_SIZE),
            resized: None,
        }
    }

    /// The peer's table takes at most `max` bytes.
    pub(crate) fn set_max(&mut self, max: usize) {
        let max = max.min(TABLE_SIZE);
        if max != self.table.max() {
            let least = self.resized.map_or(max, |(least, _)| least.min(max));
            self.table.resize(max);
            self.resized = Some((least, max));
        }
    }

    /// Begins a block in `out`.
    pub(crate) fn begin(&mut self, out: &mut Vec<u8>) {
        if let Some((least, max)) = self.resized.take() {
            if least < max {
                put_integer(out, 0x20, 5, least);
            }
            put_integer(out, 0x20, 5, max);
        }
    }

    /// Adds a header. Where it is likely to be said again it enters the table.
    pub(crate) fn encode(&mut self, out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
        let (same, named) = self.table.find(name, value);
        if let Some(index) = same {
            return put_integer(out, 0x80, 7, index);
        }
        // A trace differs each time; a huge value would drive everything else out.
        let differs = match name {
            b"traceparent" | b"tracestate" => true,
            // A client has another port with each connection. One entry is there for the name.
            b"forwarded" => named.is_some(),
            _ => false,
        };
        let indexing = !differs && size(name, value) <= self.table.max() / 2;
        let (pattern, bits) = if indexing { (0x40, 6) } else { (0, 4) };
        put_integer(out, pattern, bits, named.unwrap_or(0));
        if named.is_none() {
            put_string(out, name);
        }
        put_string(out, value);
        if indexing {
            self.table.insert(name, value);
        }
    }
}

fn put_integer(out: &mut Vec<u8>, pattern: u8, bits: u32, value: usize) {
    let mask = (1usize << bits) - 1;
    if value < mask {
        return out.push(pattern | value as u8);
    }
    out.push(pattern | mask as u8);
    let mut rest = value - mask;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn put_string(out: &mut Vec<u8>, text: &[u8]) {
    put_integer(out, 0, 7, text.len());
    out.extend_from_slice(text);
}
