//! Gzip (RFC 1952): members one behind the other, of which Java's producers write one.

use flate2::{Crc, Decompress, FlushDecompress, Status};

use super::{BatchError, PIECE_BYTES, grow};

const HEAD_BYTES: usize = 10;
const TRAILER_BYTES: usize = 8;
const DEFLATE: u8 = 8;

/// Flags of a member's head.
const HEAD_CRC: u8 = 2;
const EXTRA: u8 = 4;
const NAME: u8 = 8;
const COMMENT: u8 = 16;

/// The text of a payload, piece by piece.
pub(super) struct Gzip<'a> {
    /// What is behind the head, and not read yet.
    rest: &'a [u8],
    inflate: Decompress,
    crc: Crc,
    has_ended: bool,
}

impl<'a> Gzip<'a> {
    pub fn open(payload: &'a [u8], mut inflate: Decompress) -> Result<Gzip<'a>, BatchError> {
        inflate.reset(false);
        Ok(Gzip {
            rest: behind_head(payload).ok_or(BatchError::Compression)?,
            inflate,
            crc: Crc::new(),
            has_ended: false,
        })
    }

    /// The state of the decoder, for the next payload.
    pub fn into_inflate(self) -> Decompress {
        self.inflate
    }

    /// Writes the next piece to the beginning of `out`, and returns its length: 0 at the end.
    pub fn next(&mut self, out: &mut Vec<u8>) -> Result<usize, BatchError> {
        grow(out, PIECE_BYTES);
        let mut written = 0;
        while written == 0 && !self.has_ended {
            let (taken, given) = (self.inflate.total_in(), self.inflate.total_out());
            let status = self
                .inflate
                .decompress(self.rest, out, FlushDecompress::None)
                .map_err(|_| BatchError::Compression)?;
            let taken = (self.inflate.total_in() - taken) as usize;
            self.rest = &self.rest[taken..];
            written = (self.inflate.total_out() - given) as usize;
            self.crc.update(&out[..written]);
            match status {
                Status::StreamEnd => self.end_member()?,
                // No progress is made any more: there is too little of the payload.
                _ if written == 0 && taken == 0 => return Err(BatchError::Compression),
                _ => {}
            }
        }
        Ok(written)
    }

    /// Checks the trailer. What follows is another member, or is left aside, as by Java's `GZIPInputStream`.
    fn end_member(&mut self) -> Result<(), BatchError> {
        let (trailer, rest) = self
            .rest
            .split_first_chunk::<TRAILER_BYTES>()
            .ok_or(BatchError::Compression)?;
        let [a, b, c, d, e, f, g, h] = *trailer;
        let sum = u32::from_le_bytes([a, b, c, d]);
        let length = u32::from_le_bytes([e, f, g, h]);
        if sum != self.crc.sum() || length != self.crc.amount() {
            return Err(BatchError::Compression);
        }
        match behind_head(rest) {
            Some(member) => {
                self.rest = member;
                self.inflate.reset(false);
                self.crc.reset();
            }
            None => self.has_ended = true,
        }
        Ok(())
    }
}

/// What is behind the head of a member, if there is one.
fn behind_head(bytes: &[u8]) -> Option<&[u8]> {
    let (head, mut rest) = bytes.split_first_chunk::<HEAD_BYTES>()?;
    let [0x1f, 0x8b, DEFLATE, flags, ..] = *head else {
        return None;
    };
    if flags & EXTRA != 0 {
        let (length, extra) = rest.split_first_chunk::<2>()?;
        rest = extra.get(usize::from(u16::from_le_bytes(*length))..)?;
    }
    for text in [NAME, COMMENT] {
        if flags & text != 0 {
            rest = &rest[rest.iter().position(|byte| *byte == 0)? + 1..];
        }
    }
    if flags & HEAD_CRC != 0 {
        let head = &bytes[..bytes.len() - rest.len()];
        let mut crc = Crc::new();
        crc.update(head);
        let (sum, behind) = rest.split_first_chunk::<2>()?;
        if u16::from_le_bytes(*sum) != crc.sum() as u16 {
            return None;
        }
        rest = behind;
    }
    Some(rest)
}
