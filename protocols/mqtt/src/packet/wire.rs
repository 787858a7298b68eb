//! Primitive fields of control packets (MQTT 5 section 1.5).
//!
//! A [`Reader`] walks one packet inside a shared buffer: looking costs nothing, and only what is kept
//! (a text, a payload) takes a reference to the buffer. It never allocates.

use std::{ops::Range, str};

use bytes::{BufMut, Bytes, BytesMut};
use trivium_core::Text;

use super::reason::{Reason, Violation};

/// The longest text or binary field.
pub const FIELD_MAX: usize = 65_535;
/// The greatest value of a variable byte integer.
pub const VARINT_MAX: usize = 268_435_455;

/// Reads the fields of one packet.
#[derive(Clone)]
pub struct Reader<'a> {
    whole: &'a Bytes,
    at: usize,
    end: usize,
}

impl<'a> Reader<'a> {
    /// A reader of `range` of `whole`.
    pub fn new(whole: &'a Bytes, range: Range<usize>) -> Reader<'a> {
        Reader {
            whole,
            at: range.start,
            end: range.end,
        }
    }

    /// Bytes not yet read.
    pub fn remaining(&self) -> usize {
        self.end - self.at
    }

    /// The position in the shared buffer.
    pub fn position(&self) -> usize {
        self.at
    }

    /// A part of the shared buffer, by positions.
    pub fn part(&self, range: Range<usize>) -> Bytes {
        self.whole.slice(range)
    }

    /// A reader of the same packet from an earlier position.
    pub fn rewound(&self, position: usize) -> Reader<'a> {
        Reader {
            whole: self.whole,
            at: position,
            end: self.end,
        }
    }

    /// The next `length` bytes, borrowed.
    pub fn slice(&mut self, length: usize) -> Result<&'a [u8], Violation> {
        if length > self.remaining() {
            return Err(Violation::malformed("packet ends in the middle of a field"));
        }
        let slice = &self.whole[self.at..self.at + length];
        self.at += length;
        Ok(slice)
    }

    /// The next `length` bytes as a packet section of their own.
    pub fn section(&mut self, length: usize) -> Result<Reader<'a>, Violation> {
        let start = self.at;
        self.slice(length)?;
        Ok(Reader {
            whole: self.whole,
            at: start,
            end: self.at,
        })
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, Violation> {
        Ok(self.slice(1)?[0])
    }

    /// A two byte integer.
    pub fn u16(&mut self) -> Result<u16, Violation> {
        let bytes = self.slice(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// A four byte integer.
    pub fn u32(&mut self) -> Result<u32, Violation> {
        let bytes = self.slice(4)?;
        Ok(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    /// A byte that is 0 or 1.
    pub fn flag(&mut self) -> Result<bool, Violation> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Violation::protocol("flag is neither 0 nor 1")),
        }
    }

    /// A variable byte integer.
    pub fn varint(&mut self) -> Result<usize, Violation> {
        match varint(&self.whole[self.at..self.end])? {
            Some((value, length)) => {
                self.at += length;
                Ok(value)
            }
            None => Err(Violation::malformed("packet ends in the middle of a field")),
        }
    }

    /// A packet identifier, which is never 0 (2.2.1-3).
    pub fn packet_id(&mut self) -> Result<u16, Violation> {
        match self.u16()? {
            0 => Err(Violation::malformed("packet identifier is 0")),
            id => Ok(id),
        }
    }

    /// A text, borrowed.
    pub fn str(&mut self) -> Result<&'a str, Violation> {
        let length = self.u16()?;
        let bytes = self.slice(length.into())?;
        let text = str::from_utf8(bytes).map_err(|_| Violation::malformed("text is not UTF-8"))?;
        if bytes.contains(&0) {
            return Err(Violation::malformed("text holds U+0000"));
        }
        Ok(text)
    }

    /// A text that shares the buffer.
    pub fn text(&mut self) -> Result<Text, Violation> {
        let bytes = self.binary()?;
        if bytes.contains(&0) {
            return Err(Violation::malformed("text holds U+0000"));
        }
        Text::try_from(bytes).map_err(|_| Violation::malformed("text is not UTF-8"))
    }

    /// Binary data that shares the buffer.
    pub fn binary(&mut self) -> Result<Bytes, Violation> {
        let length = self.u16()?;
        let start = self.at;
        self.slice(length.into())?;
        Ok(self.part(start..self.at))
    }

    /// All that is left, sharing the buffer.
    pub fn rest(&mut self) -> Bytes {
        let rest = self.part(self.at..self.end);
        self.at = self.end;
        rest
    }

    /// Checks that nothing is left.
    pub fn finish(&self) -> Result<(), Violation> {
        match self.remaining() {
            0 => Ok(()),
            _ => Err(Violation::malformed(
                "packet has bytes behind its last field",
            )),
        }
    }
}

/// A variable byte integer at the start of `input` and its length; `None` when it is incomplete.
/// It must be minimal (1.5.5-1) and of four bytes at most.
#[inline]
pub fn varint(input: &[u8]) -> Result<Option<(usize, usize)>, Violation> {
    match input.first() {
        None => Ok(None),
        Some(byte) if *byte < 0x80 => Ok(Some(((*byte).into(), 1))),
        Some(_) => long_varint(input),
    }
}

fn long_varint(input: &[u8]) -> Result<Option<(usize, usize)>, Violation> {
    let mut value = 0;
    for (i, byte) in input.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * i);
        if *byte < 0x80 {
            if i > 0 && *byte == 0 {
                return Err(Violation::malformed("variable byte integer is not minimal"));
            }
            return Ok(Some((value, i + 1)));
        }
    }
    match input.len() {
        0..4 => Ok(None),
        _ => Err(Violation::malformed(
            "variable byte integer is longer than four bytes",
        )),
    }
}

/// How many bytes a variable byte integer takes.
pub fn varint_len(value: usize) -> usize {
    match value {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        _ => 4,
    }
}

/// Appends a variable byte integer, at most [`VARINT_MAX`].
pub fn put_varint(out: &mut BytesMut, mut value: usize) {
    debug_assert!(value <= VARINT_MAX);
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// Appends binary data, at most [`FIELD_MAX`] bytes.
pub fn put_binary(out: &mut BytesMut, bytes: &[u8]) {
    debug_assert!(bytes.len() <= FIELD_MAX);
    out.put_u16(bytes.len() as u16);
    out.put_slice(bytes);
}

/// Appends a text, at most [`FIELD_MAX`] bytes.
pub fn put_text(out: &mut BytesMut, text: &str) {
    put_binary(out, text.as_bytes());
}

/// Appends a packet whose body is written by `body`. For packets that are not on a hot path.
pub fn put_packet(out: &mut BytesMut, first: u8, body: impl FnOnce(&mut BytesMut)) {
    let mut scratch = BytesMut::with_capacity(64);
    body(&mut scratch);
    out.put_u8(first);
    put_varint(out, scratch.len());
    out.put_slice(&scratch);
}

/// Checks the low four bits of a fixed header (2.1.3-1).
pub fn expect_flags(first: u8, flags: u8) -> Result<(), Violation> {
    match first & 0x0f == flags {
        true => Ok(()),
        false => Err(Violation {
            reason: Reason::MALFORMED_PACKET,
            text: "reserved flags of the fixed header are wrong",
        }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn varints_round_trip(value in 0usize..=VARINT_MAX) {
            let mut out = BytesMut::new();
            put_varint(&mut out, value);
            prop_assert_eq!(out.len(), varint_len(value));
            prop_assert_eq!(varint(&out), Ok(Some((value, out.len()))));
            for cut in 0..out.len() {
                prop_assert_eq!(varint(&out[..cut]), Ok(None));
            }
        }
    }

    #[test]
    fn mqtt_1_5_5_1_varints_are_minimal_and_short() {
        for bad in [
            &[0x80, 0x00][..],
            &[0xff, 0x80, 0x00],
            &[0x80, 0x80, 0x80, 0x80],
            &[0xff, 0xff, 0xff, 0xff, 0x01],
        ] {
            assert!(varint(bad).is_err(), "{bad:x?}");
        }
    }

    #[test]
    fn mqtt_1_5_4_texts_are_utf8_without_nul() {
        for bad in [
            &[0, 1, 0xff][..],
            &[0, 3, 0xed, 0xa0, 0x80],
            &[0, 1, 0],
            &[0, 2, b'a'],
            &[0],
        ] {
            let bytes = Bytes::copy_from_slice(bad);
            assert!(
                Reader::new(&bytes, 0..bytes.len()).str().is_err(),
                "{bad:x?}"
            );
            assert!(
                Reader::new(&bytes, 0..bytes.len()).text().is_err(),
                "{bad:x?}"
            );
        }
        // 1.5.4-3: a byte order mark is kept.
        let bytes = Bytes::from_static(&[0, 3, 0xef, 0xbb, 0xbf]);
        assert_eq!(Reader::new(&bytes, 0..5).str(), Ok("\u{feff}"));
    }
}
