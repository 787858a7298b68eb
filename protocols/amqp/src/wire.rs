//! The elementary data types of AMQP 0-9-1 (section 4.2.5): reading them off `Bytes`, appending them to `BytesMut`.
//!
//! Consecutive bits share octets (4.2.5.2), so both [`Decoder`] and [`Encoder`] keep the bits of the
//! octet they are in until something else is read or written.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use trivium_core::{Text, Value};

use crate::field_table;

/// Bytes that are not what the specification says they should be; answered with 502 SYNTAX_ERROR.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A length or fixed-size field reaches beyond the end.
    #[error("truncated")]
    Truncated,
    /// Bytes are left behind the last field.
    #[error("{0} bytes too many")]
    TrailingBytes(usize),
    /// A short string or field name is not UTF-8.
    #[error("short string is not UTF-8")]
    NotUtf8,
    /// A field table holds a value of no known type.
    #[error("unknown field type {0}")]
    UnknownFieldType(u8),
    /// Tables and arrays are nested deeper than [`field_table::DEPTH_MAX`].
    #[error("field table is nested too deeply")]
    TooDeep,
    /// Property flags with bits that stand for nothing.
    #[error("unknown property flags {0:#06x}")]
    UnknownProperties(u16),
}

/// Takes fields off the front of `bytes`. Strings and tables are slices, not copies.
#[derive(Debug)]
pub struct Decoder {
    bytes: Bytes,
    octet: u8,
    bits_left: u8,
}

impl Decoder {
    /// Starts at the first byte.
    pub fn new(bytes: Bytes) -> Decoder {
        Decoder {
            bytes,
            octet: 0,
            bits_left: 0,
        }
    }

    /// Takes one field.
    pub fn field<F: Field>(&mut self) -> Result<F, Malformed> {
        F::decode(self)
    }

    /// Takes `length` bytes.
    pub fn take(&mut self, length: usize) -> Result<Bytes, Malformed> {
        self.bits_left = 0;
        if length > self.bytes.len() {
            return Err(Malformed::Truncated);
        }
        Ok(self.bytes.split_to(length))
    }

    /// Passes over `length` bytes.
    pub fn skip(&mut self, length: usize) -> Result<(), Malformed> {
        self.bits_left = 0;
        if length > self.bytes.len() {
            return Err(Malformed::Truncated);
        }
        self.bytes.advance(length);
        Ok(())
    }

    /// Succeeds if everything was read.
    pub fn finish(self) -> Result<(), Malformed> {
        match self.bytes.len() {
            0 => Ok(()),
            left => Err(Malformed::TrailingBytes(left)),
        }
    }

    /// What has not been read.
    pub fn remaining(&self) -> usize {
        self.bytes.len()
    }

    fn bit(&mut self) -> Result<bool, Malformed> {
        if self.bits_left == 0 {
            self.octet = self.field()?;
            self.bits_left = 8;
        }
        let bit = self.octet & 1 == 1;
        self.octet >>= 1;
        self.bits_left -= 1;
        Ok(bit)
    }

    fn number<T>(
        &mut self,
        read: impl FnOnce(&mut Bytes) -> Result<T, bytes::TryGetError>,
    ) -> Result<T, Malformed> {
        self.bits_left = 0;
        read(&mut self.bytes).map_err(|_| Malformed::Truncated)
    }
}

/// Appends fields to `out`.
#[derive(Debug)]
pub struct Encoder<'a> {
    /// Where the fields go.
    pub out: &'a mut BytesMut,
    bits_used: u8,
}

impl<'a> Encoder<'a> {
    /// Appends to `out`.
    pub fn new(out: &'a mut BytesMut) -> Encoder<'a> {
        Encoder { out, bits_used: 0 }
    }

    /// Appends one field.
    pub fn field<F: Field>(&mut self, field: &F) {
        field.encode(self);
    }

    fn bit(&mut self, bit: bool) {
        if self.bits_used == 0 || self.bits_used == 8 {
            self.out.put_u8(0);
            self.bits_used = 0;
        }
        let last = self.out.len() - 1;
        self.out[last] |= u8::from(bit) << self.bits_used;
        self.bits_used += 1;
    }

    fn octets(&mut self) -> &mut BytesMut {
        self.bits_used = 0;
        self.out
    }
}

/// A field of a method or property list.
pub trait Field: Sized {
    /// Takes it off the front.
    fn decode(decoder: &mut Decoder) -> Result<Self, Malformed>;
    /// Appends it.
    fn encode(&self, encoder: &mut Encoder<'_>);
}

macro_rules! number_fields {
    ($($type:ty: $get:ident, $put:ident;)*) => {$(
        impl Field for $type {
            fn decode(decoder: &mut Decoder) -> Result<$type, Malformed> {
                decoder.number(|bytes| bytes.$get())
            }

            fn encode(&self, encoder: &mut Encoder<'_>) {
                encoder.octets().$put(*self);
            }
        }
    )*};
}

number_fields! {
    u8: try_get_u8, put_u8;
    u16: try_get_u16, put_u16;
    u32: try_get_u32, put_u32;
    u64: try_get_u64, put_u64;
}

impl Field for bool {
    fn decode(decoder: &mut Decoder) -> Result<bool, Malformed> {
        decoder.bit()
    }

    fn encode(&self, encoder: &mut Encoder<'_>) {
        encoder.bit(*self);
    }
}

/// A short string: at most 255 bytes of UTF-8.
impl Field for Text {
    fn decode(decoder: &mut Decoder) -> Result<Text, Malformed> {
        let length: u8 = decoder.field()?;
        Text::try_from(decoder.take(length.into())?).map_err(|_| Malformed::NotUtf8)
    }

    fn encode(&self, encoder: &mut Encoder<'_>) {
        put_short_string(encoder.octets(), self);
    }
}

/// A long string: bytes.
impl Field for Bytes {
    fn decode(decoder: &mut Decoder) -> Result<Bytes, Malformed> {
        let length: u32 = decoder.field()?;
        decoder.take(length as usize)
    }

    fn encode(&self, encoder: &mut Encoder<'_>) {
        put_long_string(encoder.octets(), self);
    }
}

/// A field table.
impl Field for Vec<(Text, Value)> {
    fn decode(decoder: &mut Decoder) -> Result<Self, Malformed> {
        field_table::decode(&decoder.field()?)
    }

    fn encode(&self, encoder: &mut Encoder<'_>) {
        field_table::encode(self, encoder.octets());
    }
}

/// Appends a short string, cut at a character when it is over 255 bytes.
pub fn put_short_string(out: &mut BytesMut, text: &str) {
    let text = cut(text, usize::from(u8::MAX));
    out.put_u8(text.len() as u8);
    out.put_slice(text.as_bytes());
}

/// Appends a long string.
pub fn put_long_string(out: &mut BytesMut, bytes: &[u8]) {
    out.put_u32(bytes.len() as u32);
    out.put_slice(bytes);
}

/// The longest beginning of `text` of at most `length` bytes that ends between characters.
pub fn cut(text: &str, length: usize) -> &str {
    let mut end = length.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Appends a `u32` length, what `write` appends, and puts the length of that in place.
pub fn put_sized(out: &mut BytesMut, write: impl FnOnce(&mut BytesMut)) {
    let at = out.len();
    out.put_u32(0);
    write(out);
    let length = (out.len() - at - 4) as u32;
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
}
