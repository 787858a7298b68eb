//! Zstandard (RFC 8878): frames one behind the other, and between them what is to be skipped.

use std::io::Read;

use ruzstd::decoding::{
    BlockDecodingStrategy, FrameDecoder,
    errors::{FrameDecoderError, ReadFrameHeaderError},
};

use super::{BatchError, PIECE_BYTES, grow};

/// The largest window that a frame may name, as for the library behind Kafka's. Memory for it is reserved by its
/// name, and taken by what is really decompressed.
const WINDOW_BYTES_MAX: u64 = 128 << 20;
/// The largest of a decoder that is kept for the next payload; what levels short of "ultra" need.
const WINDOW_BYTES_KEPT: u64 = 8 << 20;

/// The text of a payload, piece by piece.
pub(super) struct Zstd<'a> {
    rest: &'a [u8],
    decoder: Box<FrameDecoder>,
    has_large_window: bool,
    is_in_frame: bool,
}

impl<'a> Zstd<'a> {
    pub fn open(payload: &'a [u8], mut decoder: Box<FrameDecoder>) -> Zstd<'a> {
        decoder.set_max_window_size(WINDOW_BYTES_KEPT);
        Zstd {
            rest: payload,
            decoder,
            has_large_window: false,
            is_in_frame: false,
        }
    }

    /// The decoder, for the next payload.
    pub fn into_decoder(self) -> Option<Box<FrameDecoder>> {
        (!self.has_large_window).then_some(self.decoder)
    }

    /// Writes the next piece to the beginning of `out`, and returns its length: 0 at the end.
    pub fn next(&mut self, out: &mut Vec<u8>) -> Result<usize, BatchError> {
        grow(out, PIECE_BYTES);
        while self.is_in_frame || self.begin()? {
            let ready = self.decoder.read(out).map_err(damaged)?;
            if ready > 0 {
                return Ok(ready);
            }
            match self.decoder.is_finished() {
                true => self.end()?,
                false => {
                    let one = BlockDecodingStrategy::UptoBlocks(1);
                    self.decoder
                        .decode_blocks(&mut self.rest, one)
                        .map_err(damaged)?;
                }
            }
        }
        Ok(0)
    }

    /// Whether another frame begins.
    fn begin(&mut self) -> Result<bool, BatchError> {
        while !self.rest.is_empty() {
            let mut behind = self.rest;
            match self.decoder.reset(&mut behind) {
                Ok(()) => {
                    self.rest = behind;
                    self.is_in_frame = true;
                    return Ok(true);
                }
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    self.rest = behind
                        .get(length as usize..)
                        .ok_or(BatchError::Compression)?;
                }
                Err(FrameDecoderError::WindowSizeTooBig { .. }) if !self.has_large_window => {
                    self.has_large_window = true;
                    *self.decoder = FrameDecoder::new();
                    self.decoder.set_max_window_size(WINDOW_BYTES_MAX);
                }
                Err(_) => return Err(BatchError::Compression),
            }
        }
        Ok(false)
    }

    fn end(&mut self) -> Result<(), BatchError> {
        self.is_in_frame = false;
        let named = self.decoder.get_checksum_from_data();
        match named.is_none() || named == self.decoder.get_calculated_checksum() {
            true => Ok(()),
            false => Err(BatchError::Compression),
        }
    }
}

fn damaged<E>(_: E) -> BatchError {
    BatchError::Compression
}
