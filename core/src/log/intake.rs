//! What the settings of a log make of a producer's batch before it is stored: refused for its records, compressed
//! another way, or stamped with the broker's time.

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    batch::{self, BatchError, CRC_END, HEADER_BYTES, Header},
    codec,
    record::{Record, records},
    settings::Settings,
};
use crate::{
    event::{RecordFault, Refusal},
    time::Timestamp,
};

/// What a batch may expand to while its records are looked at.
const EXPANDED_BYTES_MAX: usize = 64 << 20;
/// Where attributes and the greatest timestamp are in a batch.
const ATTRIBUTES: usize = 21;
const MAX_TIMESTAMP: usize = 35;

/// The batch as it is to be stored, by settings that need no clock. It runs on the producer's task.
pub(crate) fn take_in(
    header: Header,
    batch: Bytes,
    settings: &Settings,
) -> Result<(Header, Bytes), Refusal> {
    if settings.compact.is_some() {
        let keyless = faulty(&batch, |record| record.key.is_none())?;
        if !keyless.is_empty() {
            let fault = RecordFault::NoKey;
            return Err(Refusal::Records {
                fault,
                records: keyless,
            });
        }
    }
    match settings.compression {
        Some(codec) if codec != header.attributes.codec() => recompress(&header, &batch, codec),
        _ => Ok((header, batch)),
    }
}

/// The places of records in their batch that are at fault.
fn faulty(batch: &Bytes, is_faulty: impl Fn(&Record) -> bool) -> Result<Vec<u32>, BatchError> {
    let mut found = Vec::new();
    for (at, record) in records(batch, EXPANDED_BYTES_MAX)?.enumerate() {
        if is_faulty(&record?) {
            found.push(at as u32);
        }
    }
    Ok(found)
}

fn recompress(header: &Header, batch: &Bytes, to: u8) -> Result<(Header, Bytes), Refusal> {
    let plain = codec::decompress(
        header.attributes.codec(),
        batch::payload(batch),
        EXPANDED_BYTES_MAX,
    )?;
    let payload = codec::compress(to, plain)?;
    let mut bytes = BytesMut::with_capacity(HEADER_BYTES + payload.len());
    bytes.put_slice(&batch[..HEADER_BYTES]);
    bytes.put_slice(&payload);
    let attributes = header.attributes.0 & !0b111 | i16::from(to);
    let length = (bytes.len() - 12) as i32;
    (&mut bytes[8..12]).put_i32(length);
    Ok(resealed(bytes, attributes)?)
}

/// Checks the times of a batch against the broker's, or puts the broker's in their place; which one it put there.
///
/// # Errors
/// Names the records whose times are out of bounds (`message.timestamp.before.max.ms`, `….after.max.ms`).
pub(super) fn stamp(
    header: &Header,
    bytes: Bytes,
    settings: &Settings,
    now: Timestamp,
) -> Result<(Header, Bytes, Option<Timestamp>), Refusal> {
    if settings.log_append_time {
        let mut stamped = BytesMut::from(&bytes[..]);
        (&mut stamped[MAX_TIMESTAMP..]).put_i64(now.0 as i64);
        let (header, bytes) = resealed(stamped, header.attributes.0 | 0b1000)?;
        return Ok((header, bytes, Some(now)));
    }
    let oldest = settings.timestamp_before.map_or(i64::MIN, |before| {
        now.0.saturating_sub(before.as_millis() as u64) as i64
    });
    let newest = settings.timestamp_after.map_or(i64::MAX, |after| {
        now.after(after).0.min(i64::MAX as u64) as i64
    });
    let is_out = |timestamp: i64| timestamp >= 0 && !(oldest..=newest).contains(&timestamp);
    if header.attributes.is_log_append_time()
        || is_out(header.base_timestamp)
        || is_out(header.max_timestamp)
    {
        let mut records = faulty(&bytes, |record| is_out(record.timestamp))?;
        if records.is_empty() {
            // The header says what none of its records does.
            records.push(0);
        }
        let fault = RecordFault::Timestamp;
        return Err(Refusal::Records { fault, records });
    }
    Ok((*header, bytes, None))
}

/// A batch with other attributes, its checksum right again.
fn resealed(mut bytes: BytesMut, attributes: i16) -> Result<(Header, Bytes), BatchError> {
    (&mut bytes[ATTRIBUTES..]).put_i16(attributes);
    let crc = crc32c::crc32c(&bytes[CRC_END..]);
    (&mut bytes[CRC_END - 4..]).put_u32(crc);
    let bytes = bytes.freeze();
    Ok((batch::parse(&bytes)?, bytes))
}

/// The number of the codec that `compression.type` names; none where batches stay as they are.
pub(super) fn codec_named(name: &str) -> Option<Option<u8>> {
    match name {
        "producer" => Some(None),
        "uncompressed" => Some(Some(0)),
        "gzip" => Some(Some(1)),
        "snappy" => Some(Some(2)),
        "lz4" => Some(Some(3)),
        "zstd" => Some(Some(4)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::log::batch::tests::{batch, batch_at};

    fn settings(settings: &[(&'static str, &'static str)]) -> Settings {
        let settings: Vec<_> = settings
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect();
        Settings::parse(&settings).unwrap()
    }

    fn values(bytes: &Bytes) -> Vec<Option<Bytes>> {
        records(bytes, 1 << 20)
            .unwrap()
            .map(|record| record.unwrap().value)
            .collect()
    }

    /// `compression.type`: every codec, from every codec.
    #[test]
    fn batches_are_compressed_as_the_log_says() {
        let plain = batch(&["first", &"second ".repeat(5000)]);
        let mut before = (batch::verify(&plain).unwrap(), plain.clone());
        for (name, number) in [
            ("gzip", 1),
            ("snappy", 2),
            ("lz4", 3),
            ("zstd", 4),
            ("uncompressed", 0),
        ] {
            let settings = settings(&[("compression.type", name)]);
            let (header, bytes) = take_in(before.0, before.1, &settings).unwrap();
            assert_eq!(header.attributes.codec(), number);
            assert_eq!(batch::verify(&bytes), Ok(header));
            assert_eq!(values(&bytes), values(&plain), "{name}");
            let again = take_in(header, bytes.clone(), &settings).unwrap();
            assert_eq!(again.1.as_ptr(), bytes.as_ptr(), "stored as it came");
            before = (header, bytes);
        }
        assert_eq!(before.1, plain);
    }

    #[test]
    fn a_compacted_log_names_the_records_without_a_key() {
        let plain = batch(&["a", "b"]);
        let header = batch::verify(&plain).unwrap();
        let refused = take_in(header, plain, &settings(&[("cleanup.policy", "compact")]));
        let fault = RecordFault::NoKey;
        let records = vec![0, 1];
        assert_eq!(refused.unwrap_err(), Refusal::Records { fault, records });
    }

    /// `message.timestamp.type=LogAppendTime`: the greatest timestamp, the attribute and the checksum.
    #[test]
    fn the_brokers_time_is_every_records_time() {
        let plain = batch_at(1000, &["a", "b"]);
        let header = batch::verify(&plain).unwrap();
        let settings = settings(&[("message.timestamp.type", "LogAppendTime")]);
        let (header, bytes, time) = stamp(&header, plain, &settings, Timestamp(5000)).unwrap();
        assert_eq!(time, Some(Timestamp(5000)));
        assert_eq!(batch::verify(&bytes), Ok(header));
        assert_eq!(header.max_timestamp, 5000);
        let times: Vec<_> = records(&bytes, 1000)
            .unwrap()
            .map(|it| it.unwrap().timestamp)
            .collect();
        assert_eq!(times, [5000, 5000]);
    }

    #[test]
    fn times_out_of_bounds_are_refused_by_record() {
        let settings = Settings {
            timestamp_before: Some(Duration::from_millis(100)),
            timestamp_after: Some(Duration::from_millis(10)),
            ..Settings::default()
        };
        let at = |timestamp| {
            let bytes = batch_at(timestamp, &["a"]);
            let header = batch::verify(&bytes).unwrap();
            stamp(&header, bytes, &settings, Timestamp(1000)).map(|_| ())
        };
        let fault = RecordFault::Timestamp;
        let records = vec![0];
        let refused = Err(Refusal::Records { fault, records });
        assert_eq!([at(899), at(1011)], [refused.clone(), refused]);
        assert_eq!([at(900), at(1010), at(-1)], [Ok(()), Ok(()), Ok(())]);
    }

    #[test]
    fn a_producer_does_not_pretend_to_be_the_broker() {
        let plain = batch_at(1000, &["a"]);
        let header = batch::verify(&plain).unwrap();
        let forged = resealed(BytesMut::from(&plain[..]), header.attributes.0 | 0b1000).unwrap();
        let settings = Settings::default();
        assert!(stamp(&forged.0, forged.1, &settings, Timestamp(1000)).is_err());
    }
}
