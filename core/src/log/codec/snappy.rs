//! Snappy: one raw block, as librdkafka sends it, or xerial's framing of many, as the Java client does.

use super::{BatchError, grow};

/// What precedes xerial's blocks: this, a version and the oldest one that it is compatible with.
pub(super) const XERIAL_MAGIC: &[u8] = b"\x82SNAPPY\0";
const XERIAL_HEADER_BYTES: usize = 16;
/// A block holds at most so many bytes for each of its own, whatever length it claims.
const EXPANSION_MAX: usize = 64;

/// The text of a payload, block by block.
pub(super) struct Snappy<'a> {
    rest: &'a [u8],
    is_framed: bool,
}

impl<'a> Snappy<'a> {
    pub fn open(payload: &'a [u8]) -> Result<Snappy<'a>, BatchError> {
        let is_framed = payload.starts_with(XERIAL_MAGIC);
        let begins = if is_framed { XERIAL_HEADER_BYTES } else { 0 };
        let rest = payload.get(begins..).ok_or(BatchError::Compression)?;
        if payload.is_empty() {
            return Err(BatchError::Compression);
        }
        Ok(Snappy { rest, is_framed })
    }

    /// Writes the next block to the beginning of `out`, and returns its length: 0 at the end. One that is larger than
    /// `bytes_max` is not written.
    pub fn next(&mut self, out: &mut Vec<u8>, bytes_max: usize) -> Result<usize, BatchError> {
        let mut written = 0;
        while written == 0 && !self.rest.is_empty() {
            let block = match self.is_framed {
                true => self.framed()?,
                false => std::mem::take(&mut self.rest),
            };
            written = expand(block, out, bytes_max)?;
        }
        Ok(written)
    }

    fn framed(&mut self) -> Result<&'a [u8], BatchError> {
        // A stream that is appended to another begins with a header of its own.
        if self.rest.starts_with(XERIAL_MAGIC) {
            self.rest = self
                .rest
                .get(XERIAL_HEADER_BYTES..)
                .ok_or(BatchError::Compression)?;
        }
        let (length, rest) = self
            .rest
            .split_first_chunk::<4>()
            .ok_or(BatchError::Compression)?;
        let (block, rest) = rest
            .split_at_checked(u32::from_be_bytes(*length) as usize)
            .ok_or(BatchError::Compression)?;
        self.rest = rest;
        Ok(block)
    }
}

fn expand(block: &[u8], out: &mut Vec<u8>, bytes_max: usize) -> Result<usize, BatchError> {
    let damaged = |_| BatchError::Compression;
    let length = snap::raw::decompress_len(block).map_err(damaged)?;
    if length > block.len().saturating_mul(EXPANSION_MAX) {
        return Err(BatchError::Compression);
    }
    if length > bytes_max {
        return Ok(length);
    }
    grow(out, length);
    snap::raw::Decoder::new()
        .decompress(block, &mut out[..length])
        .map_err(damaged)
}
