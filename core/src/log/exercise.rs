//! All that the core does with the bytes of a producer's batch, in one call, for fuzzing.

use std::{sync::Arc, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    batch::{self, CRC_END, HEADER_BYTES, Header, MAGIC},
    codec,
    compaction::{Left, Newest, Rule},
    convert::{message_from_record, record_from_message},
    intake::{self, Intake},
    record::records,
    settings::Settings,
    visible::Visible,
};
use crate::{
    event::{Aborted, FetchedBatch},
    id::Offset,
    message::Origin,
    properties::Text,
    time::Timestamp,
};

/// More than a fuzzer's input expands to unless it is a bomb.
const EXPANDED_BYTES_MAX: usize = 1 << 20;
const NOW: Timestamp = Timestamp(1_700_000_000_000);

/// Takes in, stores, expands, converts and compacts the batch that these bytes are once their length, magic and
/// checksum are right. Some are refused on the way.
///
/// # Panics
/// On what is a fault of the core: anything that it wrote itself and does not read back.
pub fn exercise_batch(bytes: &[u8]) {
    let Some(batch) = sealed(bytes) else { return };
    let pretends = Header::peek(&batch).is_some_and(|it| it.attributes.is_log_append_time());
    for settings in all_settings() {
        let intake = Intake {
            log: &Text::from_static("log"),
            settings: &settings,
            bytes_max: 1 << 20,
            now: NOW,
        };
        let Ok((header, batch)) = intake.take(batch.clone()) else {
            continue;
        };
        let newest = readable(&batch);
        let Ok((header, batch, _)) = intake::stamp(&header, batch, &settings, NOW) else {
            continue;
        };
        assert_eq!(batch::verify(&batch), Ok(header), "what is stored is whole");
        // As with Kafka, the greatest time of one that pretends to be the broker's is kept.
        assert!(
            settings.log_append_time
                || pretends
                || newest.is_none_or(|it| it == header.max_timestamp),
            "the greatest time is right"
        );
        convert(&batch, &settings);
        compact(batch);
    }
}

/// Whether a producer's batch is taken by a log without settings, for benches.
pub fn takes_batch(batch: &Bytes) -> bool {
    let intake = Intake {
        log: &Text::from_static("log"),
        settings: &Settings::default(),
        bytes_max: usize::MAX,
        now: NOW,
    };
    intake.take(batch.clone()).is_ok()
}

/// A batch of `count` records of this value, compressed with the codec of that number, for benches.
///
/// # Panics
/// There is no such codec.
pub fn packed_batch(codec: u8, count: usize, value: impl Fn(usize) -> Vec<u8>) -> Bytes {
    let mut builder = super::builder::Builder::default();
    for at in 0..count {
        builder.push(NOW.0 as i64, Some(b"key"), Some(&value(at)), b"\0");
    }
    let plain = builder.finish();
    let payload = codec::compress(codec, batch::payload(&plain));
    let payload = payload.unwrap_or_else(|error| panic!("{error}"));
    let mut packed = BytesMut::from(&plain[..HEADER_BYTES]);
    packed.put_slice(&payload);
    packed[22] = codec;
    sealed(&packed).unwrap_or_default()
}

/// Readers of all protocols find what was taken. The greatest time of a record, unless they are too large to be read here.
fn readable(batch: &Bytes) -> Option<i64> {
    let mut newest = -1;
    for (place, record) in records(batch, EXPANDED_BYTES_MAX).ok()?.enumerate() {
        let record = record.unwrap_or_else(|error| panic!("record {place}: {error}"));
        assert_eq!(record.offset_delta as usize, place, "offsets count up");
        newest = newest.max(record.timestamp);
    }
    Some(newest)
}

fn sealed(bytes: &[u8]) -> Option<Bytes> {
    let mut bytes = BytesMut::from(bytes);
    if bytes.len() < HEADER_BYTES {
        return None;
    }
    let length = (bytes.len() - 12) as i32;
    bytes[..8].fill(0);
    (&mut bytes[8..12]).put_i32(length);
    bytes[16] = MAGIC as u8;
    let crc = crc32c::crc32c(&bytes[CRC_END..]);
    (&mut bytes[17..21]).put_u32(crc);
    Some(bytes.freeze())
}

fn all_settings() -> [Settings; 4] {
    let with = |pairs: &[(&'static str, &'static str)]| {
        let pairs: Vec<_> = pairs
            .iter()
            .map(|(name, value)| (Text::from_static(name), Text::from_static(value)))
            .collect();
        Settings::parse(&pairs).unwrap_or_default()
    };
    [
        Settings::default(),
        with(&[
            ("compression.type", "uncompressed"),
            ("mq.envelope", "true"),
        ]),
        with(&[("compression.type", "lz4"), ("cleanup.policy", "compact")]),
        with(&[
            ("message.timestamp.type", "LogAppendTime"),
            ("mq.key", "topic"),
        ]),
    ]
}

/// Each record as a message of another protocol, and back.
fn convert(batch: &Bytes, settings: &Settings) {
    let (log, origin) = (Text::from_static("log"), Arc::new(Origin::default()));
    let Ok(found) = records(batch, EXPANDED_BYTES_MAX) else {
        return;
    };
    for record in found.take_while(Result::is_ok).flatten() {
        let offset = Offset(7 + u64::from(record.offset_delta));
        let message = message_from_record(&log, 0, offset, record, &log, &origin);
        let _ = message.native.dialect.properties(&message.native.block);
        let _ = record_from_message(&message, settings);
    }
}

fn compact(bytes: Bytes) {
    let batch = FetchedBatch {
        base: Offset(7),
        flags: 0,
        bytes,
    };
    let aborted = [Aborted {
        producer: 1,
        first: Offset(7),
    }];
    Visible::new(&aborted).shows(&batch);
    let mut newest = Newest::default();
    let _ = newest.note(&batch);
    let rule = Rule {
        newest: &newest,
        now: NOW,
        delete_retention: Duration::from_secs(1),
    };
    if let Ok(Left::Some(left)) = rule.apply(&batch, true) {
        assert!(
            batch::verify(&left).is_ok(),
            "compaction writes whole batches"
        );
        let header = batch::parse(&left).map(|header| header.attributes.codec());
        let expanded = header
            .and_then(|codec| codec::decompress(codec, batch::payload(&left), EXPANDED_BYTES_MAX));
        let records = records(&left, EXPANDED_BYTES_MAX).map(|all| all.count());
        assert!(expanded.is_err() || records.is_ok());
    }
}
