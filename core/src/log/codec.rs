//! Decompression of a batch's records, never beyond a given size: batches are stored as their producers
//! compressed them, and only a reader of another protocol looks inside.

use std::io::{self, Read};

use bytes::{Buf, Bytes};

use super::batch::BatchError;

const NONE: u8 = 0;
const GZIP: u8 = 1;
const SNAPPY: u8 = 2;
const LZ4: u8 = 3;
const ZSTD: u8 = 4;

/// What the Java client puts before its blocks of snappy: a magic number, a version and the oldest compatible one.
const XERIAL_MAGIC: &[u8] = b"\x82SNAPPY\0";
const XERIAL_HEADER_BYTES: usize = 16;

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
