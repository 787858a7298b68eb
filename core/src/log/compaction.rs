//! Compaction: of a log whose settings say `cleanup.policy=compact` only the newest record of each key counts.
//!
//! Two passes over committed batches: [`Newest`] notes where the newest record of each key is, then [`Rule`] says
//! what is left of each batch. Offsets stay: a batch that loses records keeps its first and last offset, and
//! [`hole`] stands for batches that lost all of theirs, so that readers can still tell a hole from damage.

use std::{collections::HashMap, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    batch::{self, Attributes, BatchError, CRC_END, HEADER_BYTES, Header, MAGIC},
    codec,
    record::{self, Record},
};
use crate::{event::FetchedBatch, id::Offset, time::Timestamp};

/// Bytes of keys that one compaction holds in memory; what does not fit is left to the next one.
const KEYS_BYTES_MAX: usize = 32 << 20;
/// Memory that a key takes besides its own bytes.
const KEY_OVERHEAD: usize = 48;
/// A batch is expanded to so many bytes at most; one that is larger is left as it is.
const EXPANDED_BYTES_MAX: usize = 64 << 20;

/// The offset of the newest record of each key.
#[derive(Debug, Default)]
pub(crate) struct Newest {
    offsets: HashMap<Box<[u8]>, u64>,
    bytes: usize,
}

impl Newest {
    /// Notes the records of a batch; false when there is no room for all of their keys.
    pub fn note(&mut self, batch: &FetchedBatch) -> Result<bool, BatchError> {
        for record in record::records(&batch.bytes, EXPANDED_BYTES_MAX)? {
            let record = record?;
            let Some(key) = record.key else { continue };
            let offset = batch.base.0 + u64::from(record.offset_delta);
            if let Some(newest) = self.offsets.get_mut(&key[..]) {
                *newest = offset;
                continue;
            }
            if self.bytes >= KEYS_BYTES_MAX {
                return Ok(false);
            }
            self.bytes += key.len() + KEY_OVERHEAD;
            self.offsets.insert(key[..].into(), offset);
        }
        Ok(true)
    }

    fn supersedes(&self, key: &[u8], offset: u64) -> bool {
        self.offsets.get(key).is_some_and(|newest| *newest > offset)
    }
}

/// What is left of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    All,
    Nothing,
    Some(Bytes),
}

/// Which records stay.
#[derive(Debug)]
pub(crate) struct Rule<'a> {
    pub newest: &'a Newest,
    pub now: Timestamp,
    /// `delete.retention.ms`: how long tombstones and markers stay, for readers that are on their way.
    pub delete_retention: Duration,
}

impl Rule<'_> {
    /// What is left of a batch. `shown` is false for one of an aborted transaction.
    pub fn apply(&self, batch: &FetchedBatch, shown: bool) -> Result<Left, BatchError> {
        let header = batch::parse(&batch.bytes)?;
        if header.count == 0 {
            return Ok(Left::Nothing);
        }
        if header.attributes.is_control() {
            let written = Timestamp(u64::try_from(header.max_timestamp).unwrap_or(0));
            return Ok(match written.after(self.delete_retention) < self.now {
                true => Left::Nothing,
                false => Left::All,
            });
        }
        if !shown {
            return Ok(Left::Nothing);
        }
        let records: Vec<Record> =
            record::records(&batch.bytes, EXPANDED_BYTES_MAX)?.collect::<Result<_, _>>()?;
        let count = records.len();
        let kept: Vec<Record> = records
            .into_iter()
            .filter(|record| self.keeps(record, batch.base, &header))
            .collect();
        let has_tombstones = kept.iter().any(|record| record.value.is_none());
        let wants_horizon = has_tombstones && header.delete_horizon().is_none();
        if kept.is_empty() {
            return Ok(Left::Nothing);
        }
        if kept.len() == count && !wants_horizon {
            return Ok(Left::All);
        }
        let horizon = wants_horizon.then(|| self.now.after(self.delete_retention));
        Ok(Left::Some(encode(&header, &kept, horizon)?))
    }

    fn keeps(&self, record: &Record, base: Offset, header: &Header) -> bool {
        let Some(key) = &record.key else {
            // From a time when the log was not compacted; it has no newest.
            return false;
        };
        if self
            .newest
            .supersedes(key, base.0 + u64::from(record.offset_delta))
        {
            return false;
        }
        let now = self.now.0 as i64;
        record.value.is_some() || header.delete_horizon().is_none_or(|horizon| horizon >= now)
    }
}

/// A batch without records, for the offsets of one that has lost all of its own: its last offset is
/// `last_offset_delta` behind its first.
pub(crate) fn hole(last_offset_delta: u32) -> Bytes {
    let header = Header {
        base_offset: 0,
        leader_epoch: 0,
        crc: 0,
        attributes: Attributes(0),
        last_offset_delta,
        base_timestamp: -1,
        max_timestamp: -1,
        producer_id: -1,
        producer_epoch: -1,
        base_sequence: -1,
        count: 0,
    };
    seal(&header, &[])
}

/// A batch of the `kept` records, with the offsets, producer and codec of the one whose header is given. With a
/// horizon, tombstones in it may go from then on (KIP-534: it takes the base timestamp's place).
fn encode(
    header: &Header,
    kept: &[Record],
    horizon: Option<Timestamp>,
) -> Result<Bytes, BatchError> {
    let mut header = *header;
    if let Some(horizon) = horizon {
        header.attributes.0 |= Attributes::DELETE_HORIZON;
        header.base_timestamp = horizon.0 as i64;
    }
    if !header.attributes.is_log_append_time() {
        header.max_timestamp = kept.iter().map(|it| it.timestamp).max().unwrap_or(-1);
    }
    header.count = kept.len() as u32;
    let mut plain = BytesMut::new();
    for it in kept {
        let timestamp_delta = it.timestamp.wrapping_sub(header.base_timestamp);
        record::put_record(
            &mut plain,
            timestamp_delta,
            it.offset_delta,
            it.key.as_deref(),
            it.value.as_deref(),
            &it.headers,
        );
    }
    Ok(seal(
        &header,
        &codec::compress(header.attributes.codec(), plain.freeze())?,
    ))
}

fn seal(header: &Header, records: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(HEADER_BYTES + records.len());
    out.put_i64(header.base_offset);
    out.put_i32((HEADER_BYTES - 12 + records.len()) as i32);
    out.put_i32(header.leader_epoch);
    out.put_i8(MAGIC);
    out.put_u32(0);
    out.put_i16(header.attributes.0);
    out.put_u32(header.last_offset_delta);
    out.put_i64(header.base_timestamp);
    out.put_i64(header.max_timestamp);
    out.put_i64(header.producer_id);
    out.put_i16(header.producer_epoch);
    out.put_i32(header.base_sequence);
    out.put_u32(header.count);
    out.put_slice(records);
    let crc = crc32c::crc32c(&out[CRC_END..]);
    (&mut out[CRC_END - 4..CRC_END]).put_u32(crc);
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::builder::Builder;

    const NONE: &[u8] = b"\0";
    const RETENTION: Duration = Duration::from_millis(100);

    /// A batch of these keys and values at this offset; an empty value is a tombstone.
    fn batch(base: u64, records: &[(&str, &str)]) -> FetchedBatch {
        let mut builder = Builder::default();
        for (at, (key, value)) in records.iter().enumerate() {
            let value = (!value.is_empty()).then_some(value.as_bytes());
            builder.push(1_000 + at as i64, Some(key.as_bytes()), value, NONE);
        }
        let (base, bytes) = (Offset(base), builder.finish());
        FetchedBatch {
            base,
            flags: 0,
            bytes,
        }
    }

    fn newest(batches: &[&FetchedBatch]) -> Newest {
        let mut newest = Newest::default();
        for batch in batches {
            assert!(newest.note(batch).unwrap());
        }
        newest
    }

    fn apply(newest: &Newest, now: u64, batch: &FetchedBatch) -> Left {
        let rule = Rule {
            newest,
            now: Timestamp(now),
            delete_retention: RETENTION,
        };
        rule.apply(batch, true).unwrap()
    }

    fn contents(bytes: &Bytes) -> Vec<(u32, i64, String, Option<String>)> {
        batch::verify(bytes).unwrap();
        let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        record::records(bytes, 1 << 20)
            .unwrap()
            .map(|record| record.unwrap())
            .map(|it| {
                (
                    it.offset_delta,
                    it.timestamp,
                    text(it.key.unwrap()),
                    it.value.map(text),
                )
            })
            .collect()
    }

    fn rewritten(left: Left) -> Bytes {
        match left {
            Left::Some(bytes) => bytes,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_newest_record_of_each_key_stays_at_its_offset() {
        let old = batch(0, &[("a", "1"), ("b", "1"), ("a", "2")]);
        let new = batch(3, &[("b", "2")]);
        let newest = newest(&[&old, &new]);
        assert_eq!(apply(&newest, 0, &new), Left::All);
        let left = rewritten(apply(&newest, 0, &old));
        assert_eq!(contents(&left), [(2, 1_002, "a".into(), Some("2".into()))]);
        let header = batch::parse(&left).unwrap();
        assert_eq!((header.last_offset_delta, header.count), (2, 1));
        assert_eq!(
            apply(&newest, 0, &batch(0, &[("a", "1"), ("b", "1")])),
            Left::Nothing
        );
    }

    #[test]
    fn tombstones_stay_until_their_horizon_and_keep_their_time() {
        let deleted = batch(0, &[("a", ""), ("b", "1")]);
        let newest = newest(&[&deleted]);
        let marked = rewritten(apply(&newest, 5_000, &deleted));
        assert_eq!(
            contents(&marked),
            [
                (0, 1_000, "a".into(), None),
                (1, 1_001, "b".into(), Some("1".into()))
            ]
        );
        assert_eq!(batch::parse(&marked).unwrap().delete_horizon(), Some(5_100));
        let again = FetchedBatch {
            bytes: marked,
            ..deleted
        };
        assert_eq!(apply(&newest, 5_100, &again), Left::All);
        let left = rewritten(apply(&newest, 5_101, &again));
        assert_eq!(contents(&left), [(1, 1_001, "b".into(), Some("1".into()))]);
    }

    #[test]
    fn what_was_aborted_and_what_has_no_key_goes() {
        let newest = Newest::default();
        let rule = Rule {
            newest: &newest,
            now: Timestamp(0),
            delete_retention: RETENTION,
        };
        let aborted = batch(0, &[("a", "1")]);
        assert_eq!(rule.apply(&aborted, false).unwrap(), Left::Nothing);
        let mut builder = Builder::default();
        builder.push(1, None, Some(b"x"), NONE);
        let keyless = FetchedBatch {
            bytes: builder.finish(),
            ..aborted
        };
        assert_eq!(rule.apply(&keyless, true).unwrap(), Left::Nothing);
    }

    #[test]
    fn markers_stay_for_the_retention_of_deletions() {
        let newest = Newest::default();
        let marker = FetchedBatch {
            base: Offset(0),
            flags: 0,
            bytes: super::super::control::marker(7, 0, false, Timestamp(1_000)),
        };
        assert_eq!(apply(&newest, 1_100, &marker), Left::All);
        assert_eq!(apply(&newest, 1_101, &marker), Left::Nothing);
    }

    #[test]
    fn every_codec_is_written_as_it_was_read() {
        for codec in 0..=4 {
            let plain = batch(0, &[("a", "1"), ("b", "1")]);
            let header = batch::parse(&plain.bytes).unwrap();
            let mut header = Header {
                attributes: Attributes(codec),
                ..header
            };
            header.count = 2;
            let bytes = seal(
                &header,
                &codec::compress(codec as u8, batch::payload(&plain.bytes)).unwrap(),
            );
            let packed = FetchedBatch { bytes, ..plain };
            let newest = newest(&[&packed, &batch(2, &[("a", "2")])]);
            let left = rewritten(apply(&newest, 0, &packed));
            assert_eq!(batch::parse(&left).unwrap().attributes.codec(), codec as u8);
            assert_eq!(contents(&left), [(1, 1_001, "b".into(), Some("1".into()))]);
        }
    }

    #[test]
    fn a_hole_is_a_batch_without_records() {
        let bytes = hole(41);
        let header = batch::verify(&bytes).unwrap();
        assert_eq!((header.last_offset_delta, header.count), (41, 0));
        assert_eq!(record::records(&bytes, 0).unwrap().count(), 0);
        let batch = FetchedBatch {
            base: Offset(3),
            flags: 0,
            bytes,
        };
        assert_eq!(apply(&Newest::default(), 0, &batch), Left::Nothing);
    }
}
