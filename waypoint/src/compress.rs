//! Compression of what is sent, piece by piece: each piece can be read when it arrives, so that a stream of events stays one.

use std::{
    fmt,
    io::{self, Write},
};

use brotli::CompressorWriter;
use bytes::Bytes;
use culvert_http::filters::Algorithm;
use flate2::{Compression, write::GzEncoder};
use zstd::stream::write::Encoder as ZstdEncoder;

/// Bytes that brotli takes in at once; its quality, and the size of its window as a power of two: as Envoy's.
const BROTLI_BUFFER: usize = 16 << 10;
const BROTLI_QUALITY: u32 = 3;
const BROTLI_WINDOW: u32 = 18;

/// Compresses a stream.
pub(crate) enum Encoder {
    /// RFC 7932.
    Brotli(Box<CompressorWriter<Vec<u8>>>),
    /// RFC 1952.
    Gzip(Box<GzEncoder<Vec<u8>>>),
    /// RFC 8878.
    Zstd(Box<ZstdEncoder<'static, Vec<u8>>>),
}

impl Encoder {
    /// For a stream that begins.
    ///
    /// # Errors
    /// Where zstd gets no memory.
    pub(crate) fn new(algorithm: Algorithm) -> io::Result<Self> {
        Ok(match algorithm {
            Algorithm::Brotli => Self::Brotli(Box::new(CompressorWriter::new(
                Vec::new(),
                BROTLI_BUFFER,
                BROTLI_QUALITY,
                BROTLI_WINDOW,
            ))),
            Algorithm::Gzip => Self::Gzip(Box::new(GzEncoder::new(Vec::new(), Compression::default()))),
            Algorithm::Zstd => Self::Zstd(Box::new(ZstdEncoder::new(Vec::new(), zstd::DEFAULT_COMPRESSION_LEVEL)?)),
        })
    }

    /// Another piece, compressed so that it can be read by itself.
    ///
    /// # Errors
    /// Where the library fails.
    pub(crate) fn piece(&mut self, data: &[u8]) -> io::Result<Bytes> {
        fn through(encoder: &mut impl Write, data: &[u8]) -> io::Result<()> {
            encoder.write_all(data)?;
            encoder.flush()
        }
        let written = match self {
            Self::Brotli(encoder) => {
                through(&mut **encoder, data)?;
                encoder.get_mut()
            }
            Self::Gzip(encoder) => {
                through(&mut **encoder, data)?;
                encoder.get_mut()
            }
            Self::Zstd(encoder) => {
                through(&mut **encoder, data)?;
                encoder.get_mut()
            }
        };
        Ok(std::mem::take(written).into())
    }

    /// The end of the stream.
    ///
    /// # Errors
    /// Where the library fails.
    pub(crate) fn end(self) -> io::Result<Bytes> {
        Ok(match self {
            Self::Brotli(encoder) => encoder.into_inner(),
            Self::Gzip(encoder) => encoder.finish()?,
            Self::Zstd(encoder) => encoder.finish()?,
        }
        .into())
    }
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Brotli(_) => "Brotli",
            Self::Gzip(_) => "Gzip",
            Self::Zstd(_) => "Zstd",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    /// What of compressed bytes can be read, though the stream may go on.
    fn readable(algorithm: Algorithm, bytes: &[u8]) -> Vec<u8> {
        let mut found = Vec::new();
        let mut reader: Box<dyn io::Read + '_> = match algorithm {
            Algorithm::Brotli => Box::new(brotli::Decompressor::new(bytes, 4096)),
            Algorithm::Gzip => Box::new(flate2::read::GzDecoder::new(bytes)),
            Algorithm::Zstd => Box::new(zstd::stream::read::Decoder::new(bytes).unwrap()),
        };
        // What is not ended yet ends with an error.
        let mut byte = [0];
        while reader.read(&mut byte).is_ok_and(|read| read > 0) {
            found.extend(byte);
        }
        found
    }

    #[test]
    fn each_piece_can_be_read_when_it_is_there_and_the_whole_at_the_end() {
        for algorithm in [Algorithm::Brotli, Algorithm::Gzip, Algorithm::Zstd] {
            let mut encoder = Encoder::new(algorithm).unwrap();
            let (mut sent, mut whole) = (Vec::new(), Vec::new());
            for number in 0..20 {
                let piece = format!("data: event {number}\n\n");
                whole.extend_from_slice(piece.as_bytes());
                sent.extend_from_slice(&encoder.piece(piece.as_bytes()).unwrap());
                assert_eq!(readable(algorithm, &sent), whole, "{algorithm:?} {number}");
            }
            sent.extend_from_slice(&encoder.end().unwrap());
            assert_eq!(readable(algorithm, &sent), whole);
            let long = vec![b'a'; 1 << 20];
            let mut encoder = Encoder::new(algorithm).unwrap();
            let mut packed = encoder.piece(&long).unwrap().to_vec();
            packed.extend_from_slice(&encoder.end().unwrap());
            assert!(packed.len() < 10_000, "{algorithm:?}: {}", packed.len());
            assert_eq!(readable(algorithm, &packed).len(), long.len());
        }
    }
}
