//! The stamp at the front of a body, by which latency, loss and order are measured.
//!
//! ```text
//!   0        4            8                16              24
//!   | "trvm" | publisher  | sequence (LE)  | sent, ns (LE) | filler …
//! ```

/// Bytes of a stamp; a shorter body carries none.
pub const LENGTH: usize = 24;
const MAGIC: [u8; 4] = *b"trvm";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub publisher: u32,
    /// Counts from 0 for each publisher.
    pub sequence: u64,
    /// When the message was due, in ns since the Unix epoch: at a fixed rate the planned time, so that
    /// a stalled broker is charged for what waits behind the stall too.
    pub sent_ns: u64,
}

impl Stamp {
    /// The stamp of `body`, if it has one.
    pub fn read(body: &[u8]) -> Option<Stamp> {
        let head = body.first_chunk::<LENGTH>()?;
        if head[..4] != MAGIC {
            return None;
        }
        Some(Stamp {
            publisher: u32::from_le_bytes([head[4], head[5], head[6], head[7]]),
            sequence: little_endian(&head[8..16]),
            sent_ns: little_endian(&head[16..24]),
        })
    }

    /// Writes what differs from message to message; the body was made by [`body`].
    pub fn renew(body: &mut [u8], sequence: u64, sent_ns: u64) {
        if body.len() >= LENGTH {
            body[8..16].copy_from_slice(&sequence.to_le_bytes());
            body[16..24].copy_from_slice(&sent_ns.to_le_bytes());
        }
    }
}

/// A body of `size` bytes from `publisher`, stamped when it is long enough.
///
/// The filler is not one repeated byte, so that a compressing broker gains nothing unusual.
pub fn body(size: usize, publisher: u32) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let mut body: Vec<u8> = std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    })
    .take(size)
    .collect();
    if size >= LENGTH {
        body[..4].copy_from_slice(&MAGIC);
        body[4..8].copy_from_slice(&publisher.to_le_bytes());
    }
    body
}

fn little_endian(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .rev()
        .fold(0, |value, byte| value << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_reads_back() {
        let mut body = body(100, 3);
        Stamp::renew(&mut body, 0x0102_0304_0506, 0xFEDC_BA98_7654_3210);
        let expected = Stamp {
            publisher: 3,
            sequence: 0x0102_0304_0506,
            sent_ns: 0xFEDC_BA98_7654_3210,
        };
        assert_eq!(Stamp::read(&body), Some(expected));
    }

    #[test]
    fn short_and_foreign_bodies_carry_none() {
        let mut short = body(23, 3);
        Stamp::renew(&mut short, 1, 1);
        assert_eq!(Stamp::read(&short), None);
        assert_eq!(Stamp::read(&[0; 100]), None);
    }
}
