//! Segments: spans of a partition of about equal size, the unit of retention and the coarse index by time.

use bytes::Bytes;

use crate::{
    id::Offset,
    store::{
        StoreError,
        values::{Reader, Writer},
    },
};

/// A segment that has so many bytes is full. Retention works by segments, so a partition exceeds its bound by
/// less than this; a terabyte has 65,536 of them.
pub(super) const SEGMENT_BYTES: u64 = 16 << 20;
/// A smaller one may be asked for, down to this: each is a row.
const SEGMENT_BYTES_MIN: u64 = 64 << 10;
const FORMAT: u8 = 1;

/// What is known of a span of records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Segment {
    pub first: Offset,
    /// The offset of its last record; of the open segment, when it has any.
    pub last: Offset,
    pub bytes: u64,
    /// The greatest timestamp in it.
    pub max_timestamp: u64,
}

impl Segment {
    /// A segment that will begin at `first`.
    pub fn new(first: Offset) -> Segment {
        Segment {
            first,
            last: first,
            bytes: 0,
            max_timestamp: 0,
        }
    }

    pub fn add(&mut self, last: Offset, bytes: usize, max_timestamp: u64) {
        self.last = last;
        self.bytes += bytes as u64;
        self.max_timestamp = self.max_timestamp.max(max_timestamp);
    }

    /// `wanted` is `segment.bytes`; larger segments than ours are not made, nor tiny ones.
    pub fn is_full(&self, wanted: Option<u64>) -> bool {
        let limit = wanted.map_or(SEGMENT_BYTES, |wanted| {
            wanted.clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES)
        });
        self.bytes >= limit
    }

    pub fn write(&self) -> Bytes {
        let mut writer = Writer::with_capacity(FORMAT, 40);
        self.write_fields(&mut writer);
        writer.done()
    }

    pub fn write_fields(&self, writer: &mut Writer) {
        for field in [self.first.0, self.last.0, self.bytes, self.max_timestamp] {
            writer.varint(field);
        }
    }

    pub fn read(value: Bytes) -> Result<Segment, StoreError> {
        Segment::read_fields(&mut Reader::new(value, FORMAT)?)
    }

    pub fn read_fields(reader: &mut Reader) -> Result<Segment, StoreError> {
        Ok(Segment {
            first: Offset(reader.varint()?),
            last: Offset(reader.varint()?),
            bytes: reader.varint()?,
            max_timestamp: reader.varint()?,
        })
    }
}
