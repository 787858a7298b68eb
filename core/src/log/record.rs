//! The records inside a batch: an iterator over those of a batch, and one over a record's headers.
//!
//! ```text
//! record:  length │ attributes i8 │ timestamp delta │ offset delta │ key │ value │ headers
//! headers: count │ (name │ value)*          all numbers zigzag varints, lengths of -1 are null
//! ```

use bytes::{Buf, Bytes, BytesMut};

use super::{
    batch::{self, BatchError, Header},
    codec,
};
use crate::properties::Text;

/// One record. Its bytes are slices of the batch, or of what the batch decompressed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// From the batch's base offset.
    pub offset_delta: u32,
    /// Milliseconds, or negative for none.
    pub timestamp: i64,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    /// The header section as sent, count included: see [`headers`].
    pub headers: Bytes,
}

/// The records of a batch. What the codec expands to more than `bytes_max` bytes is refused.
pub(crate) fn records(batch: &Bytes, bytes_max: usize) -> Result<Records, BatchError> {
    let header = batch::parse(batch)?;
    let bytes = codec::decompress(header.attributes.codec(), batch::payload(batch), bytes_max)?;
    Ok(Records::expanded(header, bytes))
}

impl Records {
    /// The records of a batch, of which these are the expanded bytes.
    pub(super) fn expanded(header: Header, bytes: Bytes) -> Records {
        Records {
            left: header.count,
            header,
            bytes,
        }
    }
}

/// Iterates over records; ends after the first that is malformed.
#[derive(Debug)]
pub(crate) struct Records {
    header: Header,
    left: u32,
    bytes: Bytes,
}

impl Iterator for Records {
    type Item = Result<Record, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let record = self.record().ok_or(BatchError::Record);
        if record.is_err() {
            self.left = 0;
        }
        Some(record)
    }
}

impl Records {
    fn record(&mut self) -> Option<Record> {
        let mut record = section(&mut self.bytes)??;
        record.try_get_i8().ok()?;
        let timestamp_delta = varint(&mut record)?;
        let offset_delta = self.place(int(&mut record)?)?;
        let key = section(&mut record)?;
        let value = section(&mut record)?;
        if !are_headers(record.clone()) {
            return None;
        }
        Some(Record {
            offset_delta,
            timestamp: self.timestamp(timestamp_delta),
            key,
            value,
            headers: record,
        })
    }

    /// Where a record is, that says so. A producer may say what it likes, and the records of a batch without holes
    /// are one behind the other all the same; only compaction leaves holes.
    fn place(&self, offset_delta: i32) -> Option<u32> {
        if self.header.count == self.header.last_offset_delta + 1 {
            return Some(self.header.count - self.left - 1);
        }
        u32::try_from(offset_delta)
            .ok()
            .filter(|it| *it <= self.header.last_offset_delta)
    }

    fn timestamp(&self, delta: i64) -> i64 {
        match self.header.attributes.is_log_append_time() {
            true => self.header.max_timestamp,
            false => self.header.base_timestamp.wrapping_add(delta),
        }
    }
}

/// A header's name, and its value unless it is null.
pub(crate) type RecordHeader = (Text, Option<Bytes>);

/// The headers in a record's header section, in order, duplicates kept. Stops at what is malformed, which
/// [`Records`] never lets through.
pub(crate) fn headers(mut section: Bytes) -> impl Iterator<Item = RecordHeader> {
    let count = int(&mut section).unwrap_or(0);
    (0..count).map_while(move |_| {
        let (name, value) = header(&mut section)?;
        Some((text(name), value))
    })
}

/// How many headers a section counts.
pub(crate) fn header_count(mut section: Bytes) -> usize {
    varint(&mut section).map_or(0, |count| count.try_into().unwrap_or(0))
}

/// Whether `section` is exactly the headers that it counts.
fn are_headers(mut section: Bytes) -> bool {
    let Some(count) = int(&mut section).filter(|count| *count >= 0) else {
        return false;
    };
    (0..count).all(|_| header(&mut section).is_some()) && section.is_empty()
}

fn header(bytes: &mut Bytes) -> Option<(Bytes, Option<Bytes>)> {
    Some((section(bytes)??, section(bytes)?))
}

/// A name that is no text keeps what of it is.
fn text(name: Bytes) -> Text {
    Text::try_from(name.clone())
        .unwrap_or_else(|_| String::from_utf8_lossy(&name).into_owned().into())
}

/// Writes a header section.
pub(crate) fn write_headers(headers: &[RecordHeader]) -> Bytes {
    let size: usize = headers
        .iter()
        .map(|(name, value)| 10 + name.len() + value.as_ref().map_or(0, Bytes::len))
        .sum();
    let mut out = BytesMut::with_capacity(5 + size);
    put_varint(&mut out, headers.len() as i64);
    for (name, value) in headers {
        put_section(&mut out, Some(name.as_bytes()));
        put_section(&mut out, value.as_deref());
    }
    out.freeze()
}

/// A length and so many bytes; `Some(None)` is null, which any negative length stands for.
pub(super) fn section(bytes: &mut Bytes) -> Option<Option<Bytes>> {
    let Ok(length) = usize::try_from(int(bytes)?) else {
        return Some(None);
    };
    (length <= bytes.len()).then(|| Some(bytes.split_to(length)))
}

/// A zigzag varint of 32 bits; bits beyond those are lost.
fn int(bytes: &mut Bytes) -> Option<i32> {
    let raw = raw(bytes)? as u32;
    Some((raw >> 1) as i32 ^ -((raw & 1) as i32))
}

/// A zigzag varint of at most 64 bits.
pub(super) fn varint(bytes: &mut Bytes) -> Option<i64> {
    raw(bytes).map(unzigzag)
}

fn raw(bytes: &mut Bytes) -> Option<u64> {
    let (raw, rest) = split_raw(bytes)?;
    let length = bytes.len() - rest.len();
    bytes.advance(length);
    Some(raw)
}

fn unzigzag(raw: u64) -> i64 {
    (raw >> 1) as i64 ^ -((raw & 1) as i64)
}

/// A zigzag varint and what is behind it.
fn split_varint(bytes: &[u8]) -> Option<(i64, &[u8])> {
    split_raw(bytes).map(|(raw, rest)| (unzigzag(raw), rest))
}

fn split_raw(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut raw = 0;
    for (at, byte) in bytes.iter().take(10).enumerate() {
        raw |= u64::from(byte & 0x7f) << (7 * at);
        if *byte < 0x80 {
            return Some((raw, &bytes[at + 1..]));
        }
    }
    None
}

/// Whether a batch that is not compressed may have records with headers: for sure if it cannot be read, and if its
/// records are so short that looking at each costs as much as looking at all bytes.
pub(super) fn may_have_headers(batch: &[u8]) -> bool {
    const LONG: usize = 256;
    let (Ok(header), Some(records)) = (batch::parse(batch), batch.get(batch::HEADER_BYTES..))
    else {
        return true;
    };
    let is_long = records.len() / LONG >= header.count as usize;
    !is_long || !are_without_headers(records, header.count).unwrap_or(false)
}

fn are_without_headers(mut records: &[u8], count: u32) -> Option<bool> {
    /// As a count of headers.
    const NONE: &[u8] = &[0];
    let split =
        |bytes: &'_ [u8], length: i64| usize::try_from(length).ok().filter(|it| *it <= bytes.len());
    for _ in 0..count {
        let (length, rest) = split_varint(records)?;
        let (record, behind) = rest.split_at(split(rest, length)?);
        records = behind;
        let (_timestamp_delta, rest) = split_varint(record.get(1..)?)?;
        let (_offset_delta, mut rest) = split_varint(rest)?;
        for _key_and_value in 0..2 {
            let (length, section) = split_varint(rest)?;
            // A null has no bytes.
            rest = &section[split(section, length.max(0))?..];
        }
        if rest != NONE {
            return Some(false);
        }
    }
    Some(true)
}

pub(super) fn put_varint(out: &mut BytesMut, value: i64) {
    use bytes::BufMut;
    let mut value = ((value << 1) ^ (value >> 63)) as u64;
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// Bytes that [`put_varint`] writes.
pub(super) fn varint_bytes(value: i64) -> usize {
    let zigzag = ((value << 1) ^ (value >> 63)) as u64;
    (64 - (zigzag | 1).leading_zeros() as usize).div_ceil(7)
}

/// Writes a record. `headers` is a header section as [`write_headers`] makes it.
pub(super) fn put_record(
    out: &mut BytesMut,
    timestamp_delta: i64,
    offset_delta: u32,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: &[u8],
) {
    let length = 1
        + varint_bytes(timestamp_delta)
        + varint_bytes(offset_delta.into())
        + section_bytes(key)
        + section_bytes(value)
        + headers.len();
    out.reserve(5 + length);
    put_varint(out, length as i64);
    out.extend_from_slice(&[0]);
    put_varint(out, timestamp_delta);
    put_varint(out, offset_delta.into());
    put_section(out, key);
    put_section(out, value);
    out.extend_from_slice(headers);
}

fn section_bytes(section: Option<&[u8]>) -> usize {
    let length = section.map_or(0, <[u8]>::len);
    varint_bytes(section.map_or(-1, |_| length as i64)) + length
}

pub(super) fn put_section(out: &mut BytesMut, bytes: Option<&[u8]>) {
    put_varint(out, bytes.map_or(-1, |bytes| bytes.len() as i64));
    out.extend_from_slice(bytes.unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::log::{
        batch::tests::{batch, resealed},
        builder::Builder,
    };

    fn with_records(count: u32, bytes: &[u8]) -> Bytes {
        let mut whole = BytesMut::from(&batch(&["x"])[..batch::HEADER_BYTES]);
        whole[57..61].copy_from_slice(&count.to_be_bytes());
        whole[23..27].copy_from_slice(&(count - 1).to_be_bytes());
        whole.extend_from_slice(bytes);
        resealed(whole)
    }

    fn first(bytes: &[u8]) -> Result<Record, BatchError> {
        records(&with_records(1, bytes), 1 << 20)
            .unwrap()
            .next()
            .unwrap()
    }

    #[test]
    fn lengths_and_counts_that_lie_are_refused_without_allocating_for_them() {
        let huge = [0xfe, 0xff, 0xff, 0xff, 0x0f];
        // A record is: length, attributes, timestamp delta, offset delta, key, value, count of headers.
        let good = [14, 0, 0, 0, 1, 1, 0, 0];
        assert!(first(&[12, 0, 0, 0, 1, 1, 0]).is_ok());
        assert_eq!(
            first(&good),
            Err(BatchError::Record),
            "a byte after the headers"
        );
        assert_eq!(first(&[]), Err(BatchError::Record));
        assert_eq!(
            first(&huge),
            Err(BatchError::Record),
            "length of the record"
        );
        assert_eq!(
            first(&[[20, 0, 0, 0].as_slice(), &huge, &[1, 0]].concat()),
            Err(BatchError::Record),
            "key"
        );
        assert_eq!(
            first(&[[20, 0, 0, 0, 1].as_slice(), &huge, &[0]].concat()),
            Err(BatchError::Record),
            "value"
        );
        assert_eq!(
            first(&[[20, 0, 0, 0, 1, 1].as_slice(), &huge].concat()),
            Err(BatchError::Record),
            "headers"
        );
        assert_eq!(
            first(&[0x80; 11]),
            Err(BatchError::Record),
            "a varint without an end"
        );
        assert_eq!(
            first(&[16, 0, 0, 0, 1, 1, 2, 1, 1]),
            Err(BatchError::Record),
            "a header without a name"
        );
    }

    /// As Kafka reads them: any negative length is null, names of headers need not be text, and in a batch without holes
    /// a record is where it is, whatever it says.
    #[test]
    fn what_is_odd_is_read() {
        let record = first(&[12, 0, 0, 0, 3, 5, 0]).unwrap();
        assert_eq!((record.key, record.value), (None, None));
        let record = first(&[12, 0, 0, 9, 1, 1, 0]).unwrap();
        assert_eq!(record.offset_delta, 0);
        let record = first(&[20, 0, 0, 0, 1, 1, 2, 4, 0xff, b'h', 1]).unwrap();
        let found: Vec<_> = headers(record.headers).collect();
        assert_eq!(found, [("\u{fffd}h".into(), None)]);
    }

    #[test]
    fn a_count_beyond_the_records_ends_with_an_error() {
        let records: Vec<_> = records(&with_records(u32::MAX / 4, &[12, 0, 0, 0, 1, 1, 0]), 100)
            .unwrap()
            .collect();
        assert_eq!(
            (records.len(), records[0].is_ok(), records[1].is_err()),
            (2, true, true)
        );
    }

    #[test]
    fn headers_keep_order_duplicates_and_nulls() {
        let given: Vec<RecordHeader> = vec![
            ("b".into(), Some("1".into())),
            ("a".into(), None),
            ("b".into(), Some(Bytes::new())),
        ];
        assert_eq!(headers(write_headers(&given)).collect::<Vec<_>>(), given);
    }

    proptest! {
        #[test]
        fn varints_are_reversible(value in any::<i64>()) {
            let mut out = BytesMut::new();
            put_varint(&mut out, value);
            prop_assert_eq!(out.len(), varint_bytes(value));
            let mut bytes = out.freeze();
            prop_assert_eq!(varint(&mut bytes), Some(value));
            prop_assert!(bytes.is_empty());
        }

        /// Headers are never overlooked.
        #[test]
        fn headers_are_noticed(values in proptest::collection::vec((0..1000_usize, any::<bool>()), 1..6)) {
            let mut builder = Builder::default();
            for (length, has_header) in &values {
                let header = has_header.then(|| ("h".into(), Some(Bytes::new())));
                let headers = write_headers(header.as_slice());
                builder.push(7, None, Some(&vec![0; *length]), &headers);
            }
            let noticed = may_have_headers(&builder.finish());
            let have = values.iter().any(|(_, has_header)| *has_header);
            let are_long = values.iter().all(|(length, _)| *length >= 256);
            prop_assert!(noticed || !have);
            prop_assert!(have || !are_long || !noticed);
        }

        #[test]
        fn truncated_records_are_errors(cut in 1..40_usize) {
            let whole = batch(&["some value that is long enough to be cut"]);
            let cut = resealed(BytesMut::from(&whole[..whole.len() - cut]));
            prop_assert!(records(&cut, 1 << 20).unwrap().next().unwrap().is_err());
        }
    }
}
