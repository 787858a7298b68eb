//! LZ4 frames, as Kafka's clients read and write them: one frame, and what is behind it is left aside.

use std::hash::Hasher;

use twox_hash::XxHash32;

use super::{BatchError, Strictness, grow};

const MAGIC: u32 = 0x184D_2204;
/// Bit 7 and 6 of the first byte of a frame's descriptor.
const VERSION: u8 = 0b01;
const INDEPENDENT: u8 = 0x20;
const BLOCK_CHECKSUM: u8 = 0x10;
const CONTENT_SIZE: u8 = 0x08;
const CONTENT_CHECKSUM: u8 = 0x04;
/// Kafka knows no dictionaries.
const RESERVED: u8 = 0x03;
/// The top bit of a block's length.
const STORED: u32 = 1 << 31;
/// How far back a block may refer to the one before it.
const HISTORY_BYTES: usize = 64 << 10;

/// The text of a payload, block by block.
pub(super) struct Lz4<'a> {
    rest: &'a [u8],
    flags: u8,
    block_bytes_max: usize,
    content: Option<XxHash32>,
    /// The end of what came before, where blocks are linked.
    history: Option<Vec<u8>>,
    has_ended: bool,
}

impl<'a> Lz4<'a> {
    /// Reads a frame's descriptor.
    pub fn open(payload: &'a [u8], strictness: Strictness) -> Result<Lz4<'a>, BatchError> {
        let damaged = BatchError::Compression;
        let mut rest = payload;
        if word(&mut rest)? != MAGIC {
            return Err(damaged);
        }
        let described = rest;
        let [flags, block] = *chunk::<2>(&mut rest)?;
        if flags >> 6 != VERSION || flags & RESERVED != 0 || block & 0x8f != 0 {
            return Err(damaged);
        }
        let block_bytes_max = match block >> 4 {
            size @ 4..=7 => 1 << (8 + 2 * size),
            _ => return Err(damaged),
        };
        if flags & CONTENT_SIZE != 0 {
            chunk::<8>(&mut rest)?;
        }
        let described = &described[..described.len() - rest.len()];
        let [sum] = *chunk::<1>(&mut rest)?;
        if sum != (XxHash32::oneshot(0, described) >> 8) as u8 {
            return Err(damaged);
        }
        let is_linked = flags & INDEPENDENT == 0;
        // Java's consumers know no others.
        if is_linked && strictness == Strictness::AsKafka {
            return Err(damaged);
        }
        Ok(Lz4 {
            rest,
            flags,
            block_bytes_max,
            content: (flags & CONTENT_CHECKSUM != 0).then(|| XxHash32::with_seed(0)),
            history: is_linked.then(Vec::new),
            has_ended: false,
        })
    }

    /// Writes the next block to the beginning of `out`, and returns its length: 0 at the end.
    pub fn next(&mut self, out: &mut Vec<u8>) -> Result<usize, BatchError> {
        let mut written = 0;
        while written == 0 && !self.has_ended {
            match word(&mut self.rest)? {
                0 => self.end()?,
                size => written = self.block(size, out)?,
            }
        }
        Ok(written)
    }

    fn block(&mut self, size: u32, out: &mut Vec<u8>) -> Result<usize, BatchError> {
        let damaged = |_| BatchError::Compression;
        let length = (size & !STORED) as usize;
        if length > self.block_bytes_max {
            return Err(BatchError::Compression);
        }
        let (block, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or(BatchError::Compression)?;
        self.rest = rest;
        if self.flags & BLOCK_CHECKSUM != 0 && word(&mut self.rest)? != XxHash32::oneshot(0, block)
        {
            return Err(BatchError::Compression);
        }
        grow(out, self.block_bytes_max);
        let out = &mut out[..self.block_bytes_max];
        let written = match &self.history {
            _ if size & STORED != 0 => {
                out[..length].copy_from_slice(block);
                length
            }
            None => lz4_flex::block::decompress_into(block, out).map_err(damaged)?,
            Some(history) => {
                lz4_flex::block::decompress_into_with_dict(block, out, history).map_err(damaged)?
            }
        };
        if let Some(content) = &mut self.content {
            content.write(&out[..written]);
        }
        if let Some(history) = &mut self.history {
            history.extend_from_slice(&out[written.saturating_sub(HISTORY_BYTES)..written]);
            history.drain(..history.len().saturating_sub(HISTORY_BYTES));
        }
        Ok(written)
    }

    fn end(&mut self) -> Result<(), BatchError> {
        self.has_ended = true;
        let Some(content) = &self.content else {
            return Ok(());
        };
        match word(&mut self.rest)? == content.finish_32() {
            true => Ok(()),
            false => Err(BatchError::Compression),
        }
    }
}

fn word(rest: &mut &[u8]) -> Result<u32, BatchError> {
    chunk::<4>(rest).map(|bytes| u32::from_le_bytes(*bytes))
}

fn chunk<'a, const N: usize>(rest: &mut &'a [u8]) -> Result<&'a [u8; N], BatchError> {
    let (chunk, behind) = rest
        .split_first_chunk::<N>()
        .ok_or(BatchError::Compression)?;
    *rest = behind;
    Ok(chunk)
}
