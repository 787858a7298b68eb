//! The codecs of a batch's records. Batches are stored as their producers compressed them: only a reader of another
//! protocol looks inside, never beyond a given size, and only compaction writes them again.

use std::io::{self, Read, Write};

use bytes::{Buf, Bytes};
use flate2::write::GzEncoder;

use super::batch::BatchError;

const NONE: u8 = 0;
const GZIP: u8 = 1;
const SNAPPY: u8 = 2;
const LZ4: u8 = 3;
const ZSTD: u8 = 4;

/// What the Java client puts before its blocks of snappy: a magic number, a version and the oldest compatible one.
const XERIAL_MAGIC: &[u8] = b"\x82SNAPPY\0";
const XERIAL_HEADER_BYTES: usize = 16;
/// What the Java client puts into a block.
const XERIAL_BLOCK_BYTES: usize = 32 << 10;

/// A zstd frame may name a window that its decoder then reserves; the best levels short of "ultra" use 8 MiB.
const ZSTD_WINDOW_MAX: u64 = 8 << 20;

/// Expands `payload`, which the codec of that number compressed, to at most `bytes_max` bytes.
pub(super) fn decompress(codec: u8, payload: Bytes, bytes_max: usize) -> Result<Bytes, BatchError> {
    match codec {
        NONE if payload.len() > bytes_max => Err(BatchError::TooLarge(bytes_max)),
        NONE => Ok(payload),
        GZIP => read(
            flate2::read::MultiGzDecoder::new(payload.reader()),
            bytes_max,
        ),
        SNAPPY => snappy(payload, bytes_max),
        LZ4 => read(
            lz4_flex::frame::FrameDecoder::new(payload.reader()),
            bytes_max,
        ),
        ZSTD => zstd(payload, bytes_max),
        unknown => Err(BatchError::Codec(unknown)),
    }
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

fn read(decoder: impl Read, bytes_max: usize) -> Result<Bytes, BatchError> {
    let mut out = Vec::new();
    decoder
        .take(bytes_max as u64 + 1)
        .read_to_end(&mut out)
        .map_err(|_: io::Error| BatchError::Compression)?;
    if out.len() > bytes_max {
        return Err(BatchError::TooLarge(bytes_max));
    }
    Ok(out.into())
}

fn zstd(payload: Bytes, bytes_max: usize) -> Result<Bytes, BatchError> {
    let mut decoder = ruzstd::decoding::FrameDecoder::new();
    decoder.set_max_window_size(ZSTD_WINDOW_MAX);
    let decoder = ruzstd::decoding::StreamingDecoder::new_with_decoder(payload.reader(), decoder)
        .map_err(|_| BatchError::Compression)?;
    read(decoder, bytes_max)
}

/// Either one raw block, or xerial's framing of many: a length and a raw block each.
fn snappy(mut payload: Bytes, bytes_max: usize) -> Result<Bytes, BatchError> {
    let mut out = Vec::new();
    if !payload.starts_with(XERIAL_MAGIC) {
        snappy_block(&payload, &mut out, bytes_max)?;
        return Ok(out.into());
    }
    if payload.len() < XERIAL_HEADER_BYTES {
        return Err(BatchError::Compression);
    }
    payload.advance(XERIAL_HEADER_BYTES);
    while payload.has_remaining() {
        let length = payload.try_get_u32().map_err(|_| BatchError::Compression)? as usize;
        if length > payload.len() {
            return Err(BatchError::Compression);
        }
        snappy_block(&payload.split_to(length), &mut out, bytes_max)?;
    }
    Ok(out.into())
}

fn snappy_block(block: &[u8], out: &mut Vec<u8>, bytes_max: usize) -> Result<(), BatchError> {
    let length = snap::raw::decompress_len(block).map_err(|_| BatchError::Compression)?;
    let start = out.len();
    if length > bytes_max - start {
        return Err(BatchError::TooLarge(bytes_max));
    }
    // A block holds at most 64 bytes for each of its own, whatever length it claims.
    if length > block.len().saturating_mul(64) {
        return Err(BatchError::Compression);
    }
    out.resize(start + length, 0);
    let written = snap::raw::Decoder::new()
        .decompress(block, &mut out[start..])
        .map_err(|_| BatchError::Compression)?;
    out.truncate(start + written);
    Ok(())
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
