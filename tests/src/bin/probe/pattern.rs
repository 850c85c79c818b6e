//! Bytes that both ends can compute: a wrong, missing, doubled or reordered one is noticed where it arrives.

use anyhow::{Result, ensure};
use std::io::{Read, Write};

/// A sequence of bytes that a seed determines (splitmix64).
pub(crate) struct Pattern {
    state: u64,
    block: [u8; 8],
    used: usize,
}

impl Pattern {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            state: seed,
            block: [0; 8],
            used: 8,
        }
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn fill(&mut self, buffer: &mut [u8]) {
        for byte in buffer {
            if self.used == 8 {
                self.block = self.number().to_le_bytes();
                self.used = 0;
            }
            *byte = self.block[self.used];
            self.used += 1;
        }
    }
}

/// Sends the first `length` bytes of a pattern, in pieces of ever different size.
pub(crate) fn send(mut to: impl Write, seed: u64, length: u64) -> Result<()> {
    let mut pattern = Pattern::new(seed);
    let mut sizes = Pattern::new(!seed);
    let mut buffer = vec![0u8; 256 * 1024];
    let mut left = length;
    while left > 0 {
        // Mostly large pieces, now and then one of a few bytes.
        let number = sizes.number();
        let most = if number.is_multiple_of(8) {
            16
        } else {
            buffer.len() as u64
        };
        let size = (1 + (number >> 8) % most).min(left);
        let piece = &mut buffer[..usize::try_from(size)?];
        pattern.fill(piece);
        to.write_all(piece)?;
        left -= size;
    }
    Ok(())
}

/// Receives up to the end of the stream, which must come after exactly `length` bytes of the pattern.
pub(crate) fn receive(mut from: impl Read, seed: u64, length: u64) -> Result<()> {
    let mut pattern = Pattern::new(seed);
    let mut buffer = vec![0u8; 256 * 1024];
    let mut expected = vec![0u8; buffer.len()];
    let mut received = 0u64;
    loop {
        let count = from.read(&mut buffer)?;
        if count == 0 {
            ensure!(
                received == length,
                "the stream ended after {received} of {length} bytes"
            );
            return Ok(());
        }
        pattern.fill(&mut expected[..count]);
        ensure!(received + count as u64 <= length, "more than {length} bytes arrived");
        if let Some(at) = (0..count).find(|at| buffer[*at] != expected[*at]) {
            anyhow::bail!("byte {} of {length} is wrong", received + at as u64);
        }
        received += count as u64;
    }
}
