//! The primitive types of Kafka's protocol, in the classic and the flexible (compact) encoding.
//!
//! A [`Reader`] never trusts a length: it is checked against the bytes that are left, and against
//! [`ELEMENTS_MAX`] or [`TAGS_MAX`], before anything is allocated. Strings, bytes and records are
//! slices of what was read. A [`Frame`] is one encoded request or response; large record batches are
//! in it by reference.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use trivium_core::Text;
use trivium_protocol::Output;

/// Elements of one array at most, as Kafka 4.4 bounds them.
pub const ELEMENTS_MAX: usize = 1_000_000;
/// Tagged fields of one struct at most.
pub const TAGS_MAX: u32 = 10_000;
/// Bytes of one string at most.
const STRING_MAX: usize = i16::MAX as usize;
/// Elements for which room is made before the first has been read.
const ELEMENTS_START: usize = 1_000;
/// From this size on records are kept by reference instead of copied into the frame.
const REFERENCE_MIN: usize = 4096;

/// What cannot be read. Kafka answers it by closing the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A value goes on beyond the end of the request.
    #[error("request ends within a field")]
    Truncated,
    /// A negative length that is not the -1 of null.
    #[error("negative length")]
    NegativeLength,
    /// More elements or tagged fields than are allowed, or than there are bytes.
    #[error("more elements than the request has room for")]
    TooMany,
    /// A variable-length number of more than five bytes, or beyond 32 bits.
    #[error("variable-length number out of range")]
    Varint,
    /// A string that is not UTF-8.
    #[error("string is not UTF-8")]
    Utf8,
    /// Null where the version does not allow it.
    #[error("null in a field that cannot be null")]
    Null,
}

/// Reads the fields of one message.
#[derive(Clone, Debug)]
pub struct Reader {
    bytes: Bytes,
    version: i16,
    flexible: bool,
}

impl Reader {
    /// A reader of a message of this version, in the flexible encoding or not.
    pub fn new(bytes: Bytes, version: i16, flexible: bool) -> Reader {
        Reader {
            bytes,
            version,
            flexible,
        }
    }

    /// The version of the message.
    pub fn version(&self) -> i16 {
        self.version
    }

    /// Bytes not yet read.
    pub fn remaining(&self) -> usize {
        self.bytes.len()
    }

    /// The next `length` bytes, by reference.
    pub fn take(&mut self, length: usize) -> Result<Bytes, Malformed> {
        if length > self.bytes.len() {
            return Err(Malformed::Truncated);
        }
        Ok(self.bytes.split_to(length))
    }

    /// An unsigned variable-length number of at most 32 bits.
    pub fn uvarint(&mut self) -> Result<u32, Malformed> {
        let mut value = 0u64;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.bytes.try_get_u8().map_err(|_| Malformed::Truncated)?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return u32::try_from(value).map_err(|_| Malformed::Varint);
            }
        }
        Err(Malformed::Varint)
    }

    /// The length of a nullable value; its classic form is a number of type `L`.
    fn length<L: Wire + Into<i32>>(&mut self) -> Result<Option<usize>, Malformed> {
        if self.flexible {
            return Ok(self.uvarint()?.checked_sub(1).map(|length| length as usize));
        }
        match L::read(self)?.into() {
            -1 => Ok(None),
            length => usize::try_from(length)
                .map(Some)
                .map_err(|_| Malformed::NegativeLength),
        }
    }

    /// The tagged fields that end a struct of the flexible encoding. `known` reads those that it knows.
    pub fn tagged_fields(
        &mut self,
        mut known: impl FnMut(u32, &mut Reader) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        if !self.flexible {
            return Ok(());
        }
        let count = self.uvarint()?;
        if count > TAGS_MAX {
            return Err(Malformed::TooMany);
        }
        for _ in 0..count {
            let tag = self.uvarint()?;
            let size = self.uvarint()? as usize;
            let mut field = Reader {
                bytes: self.take(size)?,
                ..*self
            };
            known(tag, &mut field)?;
        }
        Ok(())
    }
}

/// One message being encoded: bytes, and large bodies at their places among them.
#[derive(Clone, Debug, Default)]
pub struct Frame {
    bytes: BytesMut,
    bodies: Vec<(usize, Bytes)>,
    version: i16,
    flexible: bool,
}

impl Frame {
    /// An empty frame for a message of this version, in the flexible encoding or not.
    pub fn new(version: i16, flexible: bool) -> Frame {
        Frame {
            version,
            flexible,
            ..Frame::default()
        }
    }

    /// The version of the message.
    pub fn version(&self) -> i16 {
        self.version
    }

    /// Where numbers are put.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.bytes
    }

    /// Appends bytes, by reference when they are many.
    pub fn body(&mut self, body: Bytes) {
        if body.len() < REFERENCE_MIN {
            self.bytes.put_slice(&body);
        } else {
            self.bodies.push((self.bytes.len(), body));
        }
    }

    /// Bytes in all, without the four of the frame's own size.
    pub fn len(&self) -> usize {
        self.bytes.len()
            + self
                .bodies
                .iter()
                .map(|(_, body)| body.len())
                .sum::<usize>()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends the frame to `output`, its size first.
    pub fn send(self, output: &mut Output) {
        output.buffer().put_u32(self.len() as u32);
        let mut sent = 0;
        for (at, body) in &self.bodies {
            output.buffer().put_slice(&self.bytes[sent..*at]);
            output.body(body);
            sent = *at;
        }
        output.buffer().put_slice(&self.bytes[sent..]);
    }

    /// An unsigned variable-length number.
    pub fn put_uvarint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.bytes.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.put_u8(value as u8);
    }

    /// The length of a nullable value whose classic form is an `i16`.
    fn put_short_length(&mut self, length: Option<usize>) {
        match (self.flexible, length) {
            (true, length) => self.put_uvarint(length.map_or(0, |length| length as u32 + 1)),
            (false, length) => self
                .bytes
                .put_i16(length.map_or(-1, |length| length as i16)),
        }
    }

    /// The length of a nullable value whose classic form is an `i32`.
    pub(crate) fn put_length(&mut self, length: Option<usize>) {
        match (self.flexible, length) {
            (true, length) => self.put_uvarint(length.map_or(0, |length| length as u32 + 1)),
            (false, length) => self
                .bytes
                .put_i32(length.map_or(-1, |length| length as i32)),
        }
    }

    /// Ends a struct with its tagged fields, if the encoding has them.
    pub fn put_tagged_fields(&mut self, tags: TaggedFields) {
        if self.flexible {
            self.put_uvarint(tags.count);
            self.bytes.put_slice(&tags.bytes);
        }
    }
}

/// The tagged fields of one struct, encoded in ascending order.
#[derive(Debug, Default)]
pub struct TaggedFields {
    count: u32,
    bytes: BytesMut,
}

impl TaggedFields {
    /// Adds a field of a message of this version.
    pub fn put<T: Wire>(&mut self, tag: u32, value: &T, version: i16) {
        let mut field = Frame::new(version, true);
        value.write(&mut field);
        let mut head = Frame::new(version, true);
        head.put_uvarint(tag);
        head.put_uvarint(field.len() as u32);
        self.count += 1;
        self.bytes.put_slice(&head.bytes);
        self.bytes.put_slice(&field.bytes);
    }
}

/// A type with an encoding.
pub trait Wire: Sized {
    /// Reads one.
    fn read(reader: &mut Reader) -> Result<Self, Malformed>;

    /// Appends it.
    fn write(&self, frame: &mut Frame);
}

/// A type whose encoding has a null.
pub trait Nullable: Wire + Default {
    /// Reads one, or null.
    fn read_nullable(reader: &mut Reader) -> Result<Option<Self>, Malformed>;

    /// Appends it, or null.
    fn write_nullable(value: Option<&Self>, frame: &mut Frame);
}

impl<T: Nullable> Wire for Option<T> {
    fn read(reader: &mut Reader) -> Result<Self, Malformed> {
        T::read_nullable(reader)
    }

    fn write(&self, frame: &mut Frame) {
        T::write_nullable(self.as_ref(), frame);
    }
}

/// Reads a field that is nullable in some versions only.
pub(crate) fn read_option<T: Nullable>(
    reader: &mut Reader,
    nullable: bool,
) -> Result<Option<T>, Malformed> {
    match T::read_nullable(reader)? {
        None if !nullable => Err(Malformed::Null),
        value => Ok(value),
    }
}

/// Writes a field that is nullable in some versions only: in the others, null is the empty value.
pub(crate) fn write_option<T: Nullable>(value: &Option<T>, frame: &mut Frame, nullable: bool) {
    match value {
        None if !nullable => T::default().write(frame),
        value => value.write(frame),
    }
}

macro_rules! numbers {
    ($($type:ty: $read:ident $write:ident;)*) => {$(
        impl Wire for $type {
            fn read(reader: &mut Reader) -> Result<Self, Malformed> {
                reader.bytes.$read().map_err(|_| Malformed::Truncated)
            }

            fn write(&self, frame: &mut Frame) {
                frame.bytes.$write(*self);
            }
        }
    )*};
}

numbers! {
    i8: try_get_i8 put_i8;
    i16: try_get_i16 put_i16;
    i32: try_get_i32 put_i32;
    i64: try_get_i64 put_i64;
    u16: try_get_u16 put_u16;
}

/// A fraction, by its bits, so that any is equal to itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Float(pub u64);

impl Float {
    /// The fraction.
    pub fn get(self) -> f64 {
        f64::from_bits(self.0)
    }
}

impl From<f64> for Float {
    fn from(value: f64) -> Float {
        Float(value.to_bits())
    }
}

impl Wire for Float {
    fn read(reader: &mut Reader) -> Result<Self, Malformed> {
        i64::read(reader).map(|bits| Float(bits as u64))
    }

    fn write(&self, frame: &mut Frame) {
        (self.0 as i64).write(frame);
    }
}

impl Wire for bool {
    fn read(reader: &mut Reader) -> Result<Self, Malformed> {
        Ok(i8::read(reader)? != 0)
    }

    fn write(&self, frame: &mut Frame) {
        i8::from(*self).write(frame);
    }
}

/// A topic's id; zero is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Uuid(pub [u8; 16]);

impl Uuid {
    /// Whether it names nothing.
    pub fn is_zero(self) -> bool {
        self == Uuid::default()
    }
}

impl Wire for Uuid {
    fn read(reader: &mut Reader) -> Result<Self, Malformed> {
        let mut id = Uuid::default();
        reader
            .bytes
            .try_copy_to_slice(&mut id.0)
            .map_err(|_| Malformed::Truncated)?;
        Ok(id)
    }

    fn write(&self, frame: &mut Frame) {
        frame.bytes.put_slice(&self.0);
    }
}

/// The encoding of a nullable type where null is not allowed.
macro_rules! not_null {
    () => {
        fn read(reader: &mut Reader) -> Result<Self, Malformed> {
            Self::read_nullable(reader)?.ok_or(Malformed::Null)
        }

        fn write(&self, frame: &mut Frame) {
            Self::write_nullable(Some(self), frame);
        }
    };
}

impl Wire for Text {
    not_null!();
}

impl Nullable for Text {
    fn read_nullable(reader: &mut Reader) -> Result<Option<Self>, Malformed> {
        let Some(length) = reader.length::<i16>()? else {
            return Ok(None);
        };
        // So that whatever was read can be written in the classic encoding too.
        if length > STRING_MAX {
            return Err(Malformed::TooMany);
        }
        Text::try_from(reader.take(length)?)
            .map(Some)
            .map_err(|_| Malformed::Utf8)
    }

    fn write_nullable(value: Option<&Self>, frame: &mut Frame) {
        let text = value.map(|text| cut(text, STRING_MAX));
        frame.put_short_length(text.map(str::len));
        frame.bytes.put_slice(text.unwrap_or_default().as_bytes());
    }
}

/// The longest start of `text` that is at most `max` bytes long.
fn cut(text: &str, max: usize) -> &str {
    let end = (0..=text.len().min(max))
        .rev()
        .find(|at| text.is_char_boundary(*at));
    &text[..end.unwrap_or(0)]
}

impl Wire for Bytes {
    not_null!();
}

impl Nullable for Bytes {
    fn read_nullable(reader: &mut Reader) -> Result<Option<Self>, Malformed> {
        reader
            .length::<i32>()?
            .map(|length| reader.take(length))
            .transpose()
    }

    fn write_nullable(value: Option<&Self>, frame: &mut Frame) {
        frame.put_length(value.map(Bytes::len));
        if let Some(bytes) = value {
            frame.body(bytes.clone());
        }
    }
}

impl<T: Wire> Wire for Vec<T> {
    not_null!();
}

impl<T: Wire> Nullable for Vec<T> {
    fn read_nullable(reader: &mut Reader) -> Result<Option<Self>, Malformed> {
        let Some(count) = reader.length::<i32>()? else {
            return Ok(None);
        };
        // No element is encoded in less than one byte.
        if count > ELEMENTS_MAX || count > reader.remaining() {
            return Err(Malformed::TooMany);
        }
        let mut elements = Vec::with_capacity(count.min(ELEMENTS_START));
        for _ in 0..count {
            elements.push(T::read(reader)?);
        }
        Ok(Some(elements))
    }

    fn write_nullable(value: Option<&Self>, frame: &mut Frame) {
        frame.put_length(value.map(Vec::len));
        for element in value.into_iter().flatten() {
            element.write(frame);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flexible(bytes: &'static [u8]) -> Reader {
        Reader::new(Bytes::from_static(bytes), 0, true)
    }

    fn classic(bytes: &'static [u8]) -> Reader {
        Reader::new(Bytes::from_static(bytes), 0, false)
    }

    #[test]
    fn uvarints_are_at_most_32_bits() {
        assert_eq!(
            flexible(&[0xff, 0xff, 0xff, 0xff, 0x0f]).uvarint(),
            Ok(u32::MAX)
        );
        assert_eq!(
            flexible(&[0xff, 0xff, 0xff, 0xff, 0x1f]).uvarint(),
            Err(Malformed::Varint)
        );
        assert_eq!(
            flexible(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x01]).uvarint(),
            Err(Malformed::Varint)
        );
        assert_eq!(flexible(&[0x80]).uvarint(), Err(Malformed::Truncated));
    }

    #[test]
    fn strings_are_slices_with_a_short_or_a_compact_length() {
        assert_eq!(Text::read(&mut classic(b"\0\x02hi")), Ok("hi".into()));
        assert_eq!(Text::read(&mut flexible(b"\x03hi")), Ok("hi".into()));
        assert_eq!(Option::<Text>::read(&mut classic(b"\xff\xff")), Ok(None));
        assert_eq!(Option::<Text>::read(&mut flexible(b"\0")), Ok(None));
        assert_eq!(Text::read(&mut flexible(b"\0")), Err(Malformed::Null));
        assert_eq!(
            Text::read(&mut classic(b"\xff\xfe")),
            Err(Malformed::NegativeLength)
        );
        assert_eq!(
            Text::read(&mut classic(b"\0\x01\xff")),
            Err(Malformed::Utf8)
        );
        assert_eq!(
            Text::read(&mut classic(b"\0\x05hi")),
            Err(Malformed::Truncated)
        );
    }

    #[test]
    fn a_count_is_checked_before_anything_is_allocated() {
        assert_eq!(
            Vec::<i8>::read(&mut classic(b"\x7f\xff\xff\xff1234")),
            Err(Malformed::TooMany)
        );
        assert_eq!(
            Vec::<i8>::read(&mut flexible(b"\xff\xff\xff\xff\x0f1234")),
            Err(Malformed::TooMany)
        );
        assert_eq!(
            Vec::<i8>::read(&mut classic(b"\xff\xff\xff\xfe")),
            Err(Malformed::NegativeLength)
        );
        let over = BytesMut::from_iter(
            (ELEMENTS_MAX as i32 + 1)
                .to_be_bytes()
                .into_iter()
                .chain(vec![0; 1_100_000]),
        );
        assert_eq!(
            Vec::<i8>::read(&mut Reader::new(over.freeze(), 0, false)),
            Err(Malformed::TooMany)
        );
    }

    #[test]
    fn unknown_tagged_fields_are_skipped_and_bounded() {
        let mut reader = flexible(b"\x01\x63\x02zz\x2a");
        let mut seen = vec![];
        assert_eq!(
            reader.tagged_fields(|tag, field| {
                seen.push((tag, field.remaining()));
                Ok(())
            }),
            Ok(())
        );
        assert_eq!((seen, i8::read(&mut reader)), (vec![(0x63, 2)], Ok(0x2a)));
        assert_eq!(
            flexible(b"\x91\x4e").tagged_fields(|_, _| Ok(())),
            Err(Malformed::TooMany)
        );
        assert_eq!(
            flexible(b"\x01\x00\x05z").tagged_fields(|_, _| Ok(())),
            Err(Malformed::Truncated)
        );
    }
}
