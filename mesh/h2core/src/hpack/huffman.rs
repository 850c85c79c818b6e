//! The Huffman code of HPACK (RFC 7541 section 5.2 and appendix B), decoding only: we send strings as they are.
//!
//! The code is canonical (codes of a length ascend with their symbols), so the lengths alone define it.

/// Bits of the code of each byte, and of the end-of-string symbol, which no string may contain.
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28,
    28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12,
    10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6,
    5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22,
    22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20,
    22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28,
    27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28,
    27, 27, 27, 27, 27, 26, 30,
];

const LONGEST: usize = 30;
const END_OF_STRING: u16 = 256;

/// The code, ready for decoding.
struct Code {
    /// All symbols in the order of their codes.
    symbols: [u16; 257],
    /// Per length: how many codes are no longer than it would be below, left-aligned in 32 bits. A code of this length is smaller.
    above: [u64; LONGEST + 1],
    /// Per length: index into `symbols` of its first code, less the value of that code.
    offset: [i64; LONGEST + 1],
    /// Per first byte: length of the code that it begins with, where that is 8 or less (else 0), and its symbol.
    short: [(u8, u8); 256],
}

const CODE: Code = code();

const fn code() -> Code {
    let mut result = Code {
        symbols: [0; 257],
        above: [0; LONGEST + 1],
        offset: [0; LONGEST + 1],
        short: [(0, 0); 256],
    };
    let (mut next, mut index, mut length) = (0u64, 0usize, 1usize);
    while length <= LONGEST {
        next <<= 1;
        result.offset[length] = index as i64 - next as i64;
        let mut symbol = 0;
        while symbol < 257 {
            if LENGTHS[symbol] as usize == length {
                result.symbols[index] = symbol as u16;
                if length <= 8 {
                    let mut byte = (next << (8 - length)) as usize;
                    while byte < ((next + 1) << (8 - length)) as usize {
                        result.short[byte] = (length as u8, symbol as u8);
                        byte += 1;
                    }
                }
                index += 1;
                next += 1;
            }
            symbol += 1;
        }
        result.above[length] = next << (32 - length);
        length += 1;
    }
    result
}

/// Appends the text that `coded` stands for.
pub(super) fn decode(coded: &[u8], text: &mut Vec<u8>) -> Result<(), &'static str> {
    static TABLE: Code = CODE;
    text.reserve(coded.len() * 8 / 5 + 1);
    // Bits not yet decoded, left-aligned; at least 32 of them while there is input.
    let (mut bits, mut have) = (0u64, 0usize);
    let mut input = coded.iter();
    loop {
        while have <= 56 {
            let Some(&byte) = input.next() else { break };
            bits |= u64::from(byte) << (56 - have);
            have += 8;
        }
        if have == 0 {
            return Ok(());
        }
        let (length, symbol) = TABLE.short[(bits >> 56) as usize];
        let (length, symbol) = if length != 0 {
            (usize::from(length), u16::from(symbol))
        } else {
            let head = bits >> 32;
            let Some(length) = (9..=LONGEST).find(|&length| head < TABLE.above[length]) else {
                // Nothing but ones: the end-of-string code is the last one, so this is its prefix or itself.
                return Err("end-of-string symbol inside a string");
            };
            let index = (head >> (32 - length)) as i64 + TABLE.offset[length];
            (length, TABLE.symbols[index as usize])
        };
        if length > have || symbol == END_OF_STRING {
            // What is left must be padding: fewer than 8 bits, all ones (section 5.2).
            let ones = bits >> (64 - have.min(63)) == (1 << have.min(63)) - 1;
            return if have < 8 && ones {
                Ok(())
            } else {
                Err("malformed Huffman padding")
            };
        }
        text.push(symbol as u8);
        bits <<= length;
        have -= length;
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::{LENGTHS, decode};

    /// Codes as section 5.2 describes them: in order of length, then of symbol.
    fn encode(text: &[u8]) -> Vec<u8> {
        let mut order: Vec<usize> = (0..257).collect();
        order.sort_by_key(|&symbol| (LENGTHS[symbol], symbol));
        let mut codes = [0u32; 257];
        let (mut next, mut length) = (0u32, LENGTHS[order[0]]);
        for symbol in order {
            next <<= LENGTHS[symbol] - length;
            length = LENGTHS[symbol];
            codes[symbol] = next;
            next += 1;
        }
        let mut bits: Vec<bool> = Vec::new();
        for &byte in text {
            let symbol = usize::from(byte);
            bits.extend((0..LENGTHS[symbol]).rev().map(|bit| codes[symbol] >> bit & 1 == 1));
        }
        bits.resize(bits.len().next_multiple_of(8), true);
        bits.chunks(8)
            .map(|byte| byte.iter().fold(0, |all, &bit| all << 1 | u8::from(bit)))
            .collect()
    }

    proptest! {
        #[test]
        fn every_text_round_trips(text in vec(any::<u8>(), 0..200)) {
            let mut decoded = Vec::new();
            prop_assert_eq!(decode(&encode(&text), &mut decoded), Ok(()));
            prop_assert_eq!(decoded, text);
        }

        #[test]
        fn what_decodes_was_encoded_so(coded in vec(any::<u8>(), 0..60)) {
            let mut text = Vec::new();
            if decode(&coded, &mut text).is_ok() {
                prop_assert_eq!(encode(&text), coded);
            }
        }
    }

    #[test]
    fn appendix_c_examples() {
        let cases: [(&[u8], &str); 4] = [
            (
                &[0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff],
                "www.example.com",
            ),
            (&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf], "no-cache"),
            (&[0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xa9, 0x7d, 0x7f], "custom-key"),
            (&[0x64, 0x02], "302"),
        ];
        for (coded, expected) in cases {
            let mut text = Vec::new();
            decode(coded, &mut text).unwrap();
            assert_eq!(text, expected.as_bytes());
        }
    }

    #[test]
    fn padding_must_be_short_and_ones() {
        let refused: [&[u8]; 4] = [&[0xff], &[0xf1, 0xff], &[0x64], &[0xff, 0xff, 0xff, 0xfc]];
        for coded in refused {
            assert!(decode(coded, &mut Vec::new()).is_err(), "{coded:x?}");
        }
        // "0" is 00000; three ones of padding follow.
        let mut text = Vec::new();
        decode(&[0b0000_0111], &mut text).unwrap();
        assert_eq!(text, b"0");
    }
}
