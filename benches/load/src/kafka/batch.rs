//! Record batches of version 2, built once and then changed in place.
//!
//! ```text
//!    0 base offset i64      8 length i32     12 leader epoch i32   16 magic i8 = 2
//!   17 crc u32 (of what follows)             21 attributes i16     23 last offset delta i32
//!   27 base timestamp i64  35 max timestamp i64                    43 producer id i64
//!   51 producer epoch i16  53 base sequence i32                    57 record count i32   61 records
//! ```

use super::codec::{Reader, Writer};
use crate::stamp::{self, Stamp};

pub const HEADER_LENGTH: usize = 61;
const CHECKED_FROM: usize = 21;

/// A batch of equal records, of which the first ones can be sent.
pub struct Template {
    pub bytes: Vec<u8>,
    /// Where the value of each record begins, and where the record ends.
    records: Vec<(usize, usize)>,
    value_length: usize,
}

impl Template {
    pub fn new(records: usize, value: &[u8]) -> Template {
        let header = Writer::default()
            .int64(0)
            .int32(0)
            .int32(-1)
            .int8(2)
            .int32(0)
            .int16(0)
            .int32(0);
        let header = header
            .int64(0)
            .int64(0)
            .int64(-1)
            .int16(-1)
            .int32(-1)
            .int32(0);
        let mut template = Template {
            bytes: header.0,
            records: Vec::new(),
            value_length: value.len(),
        };
        (0..records).for_each(|offset| template.push(offset, value));
        template
    }

    /// Record: length, attributes, timestamp delta, offset delta, key length (-1 is none), value, headers.
    fn push(&mut self, offset: usize, value: &[u8]) {
        let mut head = vec![0, 0];
        varint(&mut head, offset as i64);
        varint(&mut head, -1);
        varint(&mut head, value.len() as i64);
        varint(&mut self.bytes, (head.len() + value.len() + 1) as i64);
        self.bytes.extend(head);
        let value_at = self.bytes.len();
        self.bytes.extend(value);
        self.bytes.push(0);
        self.records.push((value_at, self.bytes.len()));
    }

    pub fn records(&self) -> usize {
        self.records.len()
    }

    /// Makes a batch of the first `count` records, which are numbered from `first`.
    pub fn stamp(&mut self, first: u64, count: usize, sent_ns: &dyn Fn(u64) -> u64) -> &[u8] {
        let end = self.records[count - 1].1;
        let batch = &mut self.bytes[..end];
        for (number, (value_at, _)) in (first..).zip(&self.records[..count]) {
            Stamp::renew(
                &mut batch[*value_at..*value_at + self.value_length],
                number,
                sent_ns(number),
            );
        }
        let milliseconds = sent_ns(first) / 1_000_000;
        put(batch, 8, (end as i32 - 12).to_be_bytes());
        put(batch, 23, (count as i32 - 1).to_be_bytes());
        put(batch, 27, milliseconds.to_be_bytes());
        put(batch, 35, milliseconds.to_be_bytes());
        put(batch, 57, (count as i32).to_be_bytes());
        let crc = crc32c::crc32c(&batch[CHECKED_FROM..]);
        put(batch, 17, crc.to_be_bytes());
        batch
    }
}

/// A batch where it lies in a response.
pub struct Batch<'a> {
    pub base_offset: i64,
    pub next_offset: i64,
    pub records: usize,
    /// `None` when compressed, or a control batch.
    plain: Option<Reader<'a>>,
}

impl<'a> Batch<'a> {
    /// The next batch; `None` when what is left is not a whole one, as brokers cut at the fetch size.
    pub fn read(input: &mut Reader<'a>) -> anyhow::Result<Option<Batch<'a>>> {
        let Some(header) = input.0.first_chunk::<HEADER_LENGTH>() else {
            return Ok(None);
        };
        let mut fields = Reader(header);
        let base_offset = fields.int64()?;
        let length = 12 + fields.count()?;
        anyhow::ensure!(
            length >= HEADER_LENGTH,
            "a record batch is shorter than its header"
        );
        anyhow::ensure!(
            header[16] == 2,
            "a record batch has version {} instead of 2",
            header[16]
        );
        let last_delta = Reader(&header[23..]).int32()?;
        let records = Reader(&header[57..]).count()?;
        let Some(batch) = input.0.get(..length) else {
            return Ok(None);
        };
        input.take(length)?;
        // Attributes: bits 0 to 2 name the compression, bit 5 marks control batches.
        let plain = (header[22] & 0x27 == 0).then_some(Reader(&batch[HEADER_LENGTH..]));
        Ok(Some(Batch {
            base_offset,
            next_offset: base_offset + i64::from(last_delta) + 1,
            records,
            plain,
        }))
    }

    /// Gives every value to `each`; nothing when the batch is compressed.
    pub fn values(&self, mut each: impl FnMut(&[u8])) -> anyhow::Result<bool> {
        let Some(mut input) = self.plain else {
            return Ok(false);
        };
        for _ in 0..self.records {
            let length = usize::try_from(input.varint()?)?;
            let mut record = Reader(input.take(length)?);
            record.take(1)?;
            record.varint()?;
            record.varint()?;
            let key = record.varint()?;
            record.take(usize::try_from(key).unwrap_or(0))?;
            let value = record.varint()?;
            each(record.take(usize::try_from(value).unwrap_or(0))?);
        }
        Ok(true)
    }
}

/// As many records of `size` bytes as a batch of `batch_bytes` holds, at least one.
pub fn records_in(batch_bytes: usize, size: usize) -> usize {
    let one = Template::new(1, &stamp::body(size, 0)).bytes.len() - HEADER_LENGTH;
    (batch_bytes.saturating_sub(HEADER_LENGTH) / (one + 1)).max(1)
}

fn varint(bytes: &mut Vec<u8>, value: i64) {
    let mut left = (value << 1 ^ value >> 63) as u64;
    while left > 0x7F {
        bytes.push(left as u8 | 0x80);
        left >>= 7;
    }
    bytes.push(left as u8);
}

fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    bytes[at..at + N].copy_from_slice(&value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_reads_back_and_its_checksum_is_right() {
        let mut template = Template::new(3, &stamp::body(30, 4));
        let bytes = template
            .stamp(100, 2, &|number| number * 1_000_000)
            .to_vec();
        let crc = crc32c::crc32c(&bytes[21..]);
        assert_eq!(bytes[17..21], crc.to_be_bytes());
        assert_eq!(bytes[27..35], 100u64.to_be_bytes());

        let two = [&bytes[..], &bytes, &bytes[..70]].concat();
        let mut input = Reader(&two);
        for _ in 0..2 {
            let batch = Batch::read(&mut input).unwrap().unwrap();
            assert_eq!(
                (batch.base_offset, batch.next_offset, batch.records),
                (0, 2, 2)
            );
            let mut stamps = Vec::new();
            assert!(
                batch
                    .values(|value| stamps.push(Stamp::read(value).unwrap().sequence))
                    .unwrap()
            );
            assert_eq!(stamps, [100, 101]);
        }
        assert!(Batch::read(&mut input).unwrap().is_none());
    }

    #[test]
    fn one_record_has_the_bytes_of_the_specification() {
        let bytes = Template::new(1, b"hi").stamp(0, 1, &|_| 0).to_vec();
        assert_eq!(bytes[61..], [0x10, 0, 0, 0, 1, 4, b'h', b'i', 0]);
        assert_eq!(bytes[8..17], [0, 0, 0, 58, 0xFF, 0xFF, 0xFF, 0xFF, 2]);
    }

    #[test]
    fn a_batch_fits_its_size() {
        for size in [0, 100, 1024, 100_000] {
            let records = records_in(65_536, size);
            let length = Template::new(records, &vec![0; size]).bytes.len();
            assert!(
                records == 1 || length <= 65_536,
                "{records} records of {size} take {length} bytes"
            );
        }
        assert_eq!(records_in(65_536, 1024), 63);
    }

    #[test]
    fn a_compressed_batch_is_counted_but_not_opened() {
        let mut bytes = Template::new(2, b"hi").stamp(0, 2, &|_| 0).to_vec();
        bytes[22] = 1;
        let batch = Batch::read(&mut Reader(&bytes)).unwrap().unwrap();
        assert_eq!(batch.records, 2);
        assert!(!batch.values(|_| panic!("opened")).unwrap());
    }

    #[test]
    fn a_batch_that_lies_about_its_length_is_refused() {
        let mut bytes = Template::new(1, b"hi").stamp(0, 1, &|_| 0).to_vec();
        bytes[8..12].copy_from_slice(&[0, 0, 0, 1]);
        assert!(Batch::read(&mut Reader(&bytes)).is_err());
    }
}
