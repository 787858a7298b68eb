//! The codecs of a batch's records. Batches are stored as their producers compressed them: they are expanded piece by
//! piece when they come, to see that they can be read, and for readers of another protocol; never beyond a given size.

mod gzip;
mod lz4;
mod snappy;
mod zstd;

use std::{
    cell::Cell,
    io::{self, Write},
};

use bytes::{Buf, Bytes};
use flate2::{Decompress, write::GzEncoder};
use ruzstd::decoding::FrameDecoder;

use self::{gzip::Gzip, lz4::Lz4, snappy::Snappy, snappy::XERIAL_MAGIC, zstd::Zstd};
use super::batch::BatchError;

const NONE: u8 = 0;
const GZIP: u8 = 1;
const SNAPPY: u8 = 2;
const LZ4: u8 = 3;
const ZSTD: u8 = 4;

/// What the Java client puts into a block of snappy.
const XERIAL_BLOCK_BYTES: usize = 32 << 10;
/// A codec that is free to choose gives so many bytes at once.
const PIECE_BYTES: usize = 32 << 10;
/// A buffer for pieces that has grown larger is not kept.
const KEPT_BYTES_MAX: usize = 1 << 20;

/// What is made of a payload that only some readers can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Strictness {
    /// It is read: it is stored already.
    Lenient,
    /// It is refused where Kafka's consumers cannot read it.
    AsKafka,
}

/// Bytes that come piece by piece.
pub(super) trait Source {
    /// What is there of the next piece, as long as there is one.
    ///
    /// # Errors
    /// The payload is damaged, or larger than it may be.
    fn piece(&mut self) -> Result<&[u8], BatchError>;

    /// Takes bytes of the piece, which has so many.
    fn take(&mut self, bytes: usize);
}

impl Source for &[u8] {
    #[inline]
    fn piece(&mut self) -> Result<&[u8], BatchError> {
        Ok(self)
    }

    #[inline]
    fn take(&mut self, bytes: usize) {
        *self = self.get(bytes..).unwrap_or_default();
    }
}

/// A compressed payload, expanded while it is read. It takes memory for a piece and for what the codec refers back to,
/// whatever the payload claims.
pub(super) struct Pieces<'a> {
    codec: Codec<'a>,
    spare: Box<Spare>,
    /// The piece is at the beginning of the spare buffer: so long, and so much of it is taken.
    length: usize,
    taken: usize,
    /// How many more bytes may come.
    left: usize,
    bytes_max: usize,
}

enum Codec<'a> {
    Gzip(Gzip<'a>),
    Snappy(Snappy<'a>),
    Lz4(Lz4<'a>),
    Zstd(Zstd<'a>),
}

/// What one payload leaves behind for the next one that the thread expands.
#[derive(Default)]
struct Spare {
    piece: Vec<u8>,
    inflate: Option<Decompress>,
    zstd: Option<Box<FrameDecoder>>,
}

thread_local! {
    static SPARE: Cell<Option<Box<Spare>>> = const { Cell::new(None) };
}

impl<'a> Pieces<'a> {
    /// Opens what the codec of that number compressed. It is an error if it expands to more than `bytes_max` bytes.
    pub fn open(
        codec: u8,
        payload: &'a [u8],
        bytes_max: usize,
        strictness: Strictness,
    ) -> Result<Pieces<'a>, BatchError> {
        let mut spare = SPARE.take().unwrap_or_default();
        let codec = match codec {
            GZIP => {
                let inflate = spare.inflate.take();
                let inflate = inflate.unwrap_or_else(|| Decompress::new(false));
                Codec::Gzip(Gzip::open(payload, inflate)?)
            }
            SNAPPY => Codec::Snappy(Snappy::open(payload)?),
            LZ4 => Codec::Lz4(Lz4::open(payload, strictness)?),
            ZSTD => Codec::Zstd(Zstd::open(payload, spare.zstd.take().unwrap_or_default())),
            unknown => return Err(BatchError::Codec(unknown)),
        };
        Ok(Pieces {
            codec,
            spare,
            length: 0,
            taken: 0,
            left: bytes_max,
            bytes_max,
        })
    }

    #[cold]
    fn fill(&mut self) -> Result<(), BatchError> {
        let out = &mut self.spare.piece;
        self.taken = 0;
        self.length = match &mut self.codec {
            Codec::Gzip(gzip) => gzip.next(out)?,
            Codec::Snappy(snappy) => snappy.next(out, self.left)?,
            Codec::Lz4(lz4) => lz4.next(out)?,
            Codec::Zstd(zstd) => zstd.next(out)?,
        };
        let too_large = BatchError::TooLarge(self.bytes_max);
        self.left = self.left.checked_sub(self.length).ok_or(too_large)?;
        Ok(())
    }

    /// Gives back what the next payload can use.
    pub fn close(self) {
        let mut spare = self.spare;
        if spare.piece.capacity() > KEPT_BYTES_MAX {
            spare.piece = Vec::new();
        }
        match self.codec {
            Codec::Gzip(gzip) => spare.inflate = Some(gzip.into_inflate()),
            Codec::Zstd(zstd) => spare.zstd = zstd.into_decoder(),
            Codec::Snappy(_) | Codec::Lz4(_) => {}
        }
        SPARE.set(Some(spare));
    }
}

impl Source for Pieces<'_> {
    #[inline]
    fn piece(&mut self) -> Result<&[u8], BatchError> {
        if self.taken == self.length {
            self.fill()?;
        }
        Ok(&self.spare.piece[self.taken..self.length])
    }

    #[inline]
    fn take(&mut self, bytes: usize) {
        self.taken = (self.taken + bytes).min(self.length);
    }
}

/// Makes a buffer for pieces at least so long. What it held stays, so that nothing is written twice.
fn grow(out: &mut Vec<u8>, bytes: usize) {
    if out.len() < bytes {
        out.resize(bytes, 0);
    }
}

/// Expands `payload`, which the codec of that number compressed, to at most `bytes_max` bytes.
pub(super) fn decompress(codec: u8, payload: Bytes, bytes_max: usize) -> Result<Bytes, BatchError> {
    expand(codec, payload, bytes_max, Strictness::Lenient)
}

/// As [`decompress`], of what is not stored yet.
pub(super) fn expand(
    codec: u8,
    payload: Bytes,
    bytes_max: usize,
    strictness: Strictness,
) -> Result<Bytes, BatchError> {
    if codec == NONE {
        return match payload.len() > bytes_max {
            true => Err(BatchError::TooLarge(bytes_max)),
            false => Ok(payload),
        };
    }
    let mut pieces = Pieces::open(codec, &payload, bytes_max, strictness)?;
    let mut out = Vec::new();
    loop {
        let piece = pieces.piece()?;
        if piece.is_empty() {
            break;
        }
        let length = piece.len();
        out.extend_from_slice(piece);
        pieces.take(length);
    }
    pieces.close();
    Ok(out.into())
}

/// Compresses `plain` with the codec of that number, as its clients do with their defaults.
pub(super) fn compress(codec: u8, plain: Bytes) -> Result<Bytes, BatchError> {
    let failed = |_: io::Error| BatchError::Compression;
    match codec {
        NONE => Ok(plain),
        GZIP => {
            let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(&plain).map_err(failed)?;
            Ok(encoder.finish().map_err(failed)?.into())
        }
        SNAPPY => xerial(&plain),
        LZ4 => {
            let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
            encoder.write_all(&plain).map_err(failed)?;
            let packed = encoder.finish().map_err(|_| BatchError::Compression)?;
            Ok(packed.into())
        }
        ZSTD => Ok(ruzstd::encoding::compress_to_vec(
            plain.reader(),
            ruzstd::encoding::CompressionLevel::Fastest,
        )
        .into()),
        unknown => Err(BatchError::Codec(unknown)),
    }
}

/// Blocks of snappy in xerial's framing, as the Java client writes them.
fn xerial(plain: &[u8]) -> Result<Bytes, BatchError> {
    let mut out = Vec::with_capacity(plain.len() / 2);
    out.extend_from_slice(XERIAL_MAGIC);
    out.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 1]);
    let mut encoder = snap::raw::Encoder::new();
    for block in plain.chunks(XERIAL_BLOCK_BYTES) {
        let packed = encoder
            .compress_vec(block)
            .map_err(|_| BatchError::Compression)?;
        out.extend_from_slice(&(packed.len() as u32).to_be_bytes());
        out.extend_from_slice(&packed);
    }
    Ok(out.into())
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::log::{
        batch::{
            self, HEADER_BYTES,
            tests::{batch, resealed},
        },
        record::{Record, records},
    };

    fn compress(codec: u8, plain: &[u8]) -> Vec<u8> {
        super::compress(codec, Bytes::copy_from_slice(plain))
            .unwrap()
            .to_vec()
    }

    fn xerial(blocks: &[&[u8]]) -> Vec<u8> {
        let mut framed = [XERIAL_MAGIC, &[0, 0, 0, 1, 0, 0, 0, 1]].concat();
        for block in blocks {
            let block = snap::raw::Encoder::new().compress_vec(block).unwrap();
            framed.extend((block.len() as u32).to_be_bytes());
            framed.extend(block);
        }
        framed
    }

    #[test]
    fn every_codec_gives_the_same_records() {
        let plain = batch(&["first", "second", &"third ".repeat(10_000)]);
        let expected: Vec<Record> = records(&plain, 1 << 20)
            .unwrap()
            .map(Result::unwrap)
            .collect();
        assert_eq!(expected.len(), 3);
        for codec in [NONE, GZIP, SNAPPY, LZ4, ZSTD] {
            let mut compressed = BytesMut::from(&plain[..HEADER_BYTES]);
            compressed.extend(compress(codec, &plain[HEADER_BYTES..]));
            compressed[22] = codec;
            let compressed = resealed(compressed);
            batch::validate(&compressed).unwrap();
            let read: Vec<Record> = records(&compressed, 1 << 20)
                .unwrap()
                .map(Result::unwrap)
                .collect();
            assert_eq!(read, expected, "codec {codec}");
        }
    }

    #[test]
    fn snappy_comes_in_the_framing_of_the_java_client_as_well() {
        let framed = xerial(&[b"one ", b"two"]);
        assert_eq!(
            decompress(SNAPPY, framed.clone().into(), 7).unwrap(),
            "one two"
        );
        assert_eq!(
            decompress(SNAPPY, framed.clone().into(), 6),
            Err(BatchError::TooLarge(6))
        );
        for length in XERIAL_MAGIC.len()..framed.len() {
            // At the end of a block there is no telling that another was meant to follow.
            let _ = decompress(SNAPPY, framed[..length].to_vec().into(), 100)
                .map(|out| assert!(out.len() < 7));
        }
    }

    #[test]
    fn a_bomb_is_refused_at_the_limit() {
        let zeros = vec![0; 2 << 20];
        for codec in [NONE, GZIP, SNAPPY, LZ4, ZSTD] {
            let bomb = Bytes::from(compress(codec, &zeros));
            assert_eq!(
                decompress(codec, bomb.clone(), 1 << 20),
                Err(BatchError::TooLarge(1 << 20)),
                "codec {codec}"
            );
            assert_eq!(
                decompress(codec, bomb, 2 << 20).unwrap().len(),
                2 << 20,
                "codec {codec}"
            );
        }
        // A block of a few bytes that claims to hold four gigabytes.
        let claim = Bytes::from_static(b"\xff\xff\xff\xff\x0f\x00");
        assert!(decompress(SNAPPY, claim, usize::MAX).is_err());
    }

    #[test]
    fn damage_is_an_error_and_codecs_that_do_not_exist_are_unknown() {
        for codec in [GZIP, SNAPPY, LZ4, ZSTD] {
            let mut bytes = compress(codec, &b"some text to be compressed, text, text".repeat(9));
            bytes.truncate(bytes.len() / 2);
            assert!(
                decompress(codec, bytes.into(), 1 << 20).is_err(),
                "codec {codec}"
            );
            assert!(
                decompress(codec, Bytes::from_static(b"\x00\x01\x02garbage"), 1 << 20).is_err(),
                "codec {codec}"
            );
        }
        assert_eq!(decompress(5, Bytes::new(), 10), Err(BatchError::Codec(5)));
    }
}
