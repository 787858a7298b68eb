//! What becomes of a producer's batch before it is stored: it is refused for its header, its size or its records, its
//! greatest time is put right, it is compressed another way, or stamped with the broker's time.

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    batch::{self, Attributes, BatchError, CRC_END, HEADER_BYTES, Header},
    builder::Builder,
    check::{self, Rules, Times, Walked},
    codec::{self, Pieces, Strictness},
    record::Records,
    settings::Settings,
};
use crate::{event::Refusal, properties::Text, time::Timestamp};

/// What a batch may expand to that is compressed in another way.
const EXPANDED_BYTES_MAX: usize = if cfg!(test) { 1 << 20 } else { 64 << 20 };
/// What any may expand to, if it is more than that: so many times its own size. So a request costs no more time than
/// its size allows.
const EXPANSION_MAX: usize = 32;
/// Where fields are in a batch.
const ATTRIBUTES: usize = 21;
const BASE_TIMESTAMP: usize = 27;
const MAX_TIMESTAMP: usize = 35;

/// What a log takes from producers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Intake<'a> {
    pub log: &'a Text,
    pub settings: &'a Settings,
    /// A larger batch is refused.
    pub bytes_max: usize,
    pub now: Timestamp,
}

impl Intake<'_> {
    /// The batch as it is to be stored, but for the broker's time. It runs on the producer's task. What is wrong first
    /// is said, in Kafka's order (`UnifiedLog`, `LogValidator`).
    pub fn take(&self, batch: Bytes) -> Result<(Header, Bytes), Refusal> {
        if let Some(base) = batch.first_chunk().map(|it| i64::from_be_bytes(*it))
            && base != 0
        {
            return Err(BatchError::BaseOffset(base).into());
        }
        self.check_size(batch.len())?;
        let header = batch::validate(&batch)?;
        let from = header.attributes.codec();
        match self.settings.compression.filter(|to| *to != from) {
            Some(to) => self.recompressed(header, &batch, to),
            None => self.as_it_is(header, batch),
        }
    }

    fn check_size(&self, size: usize) -> Result<(), Refusal> {
        match size > self.bytes_max {
            false => Ok(()),
            true => Err(Refusal::TooLarge {
                name: self.log.clone(),
                size,
                limit: self.bytes_max,
            }),
        }
    }

    fn as_it_is(&self, header: Header, batch: Bytes) -> Result<(Header, Bytes), Refusal> {
        let walked = self.walked(&header, &batch)?;
        if self.settings.log_append_time
            || header.max_timestamp == walked.max_timestamp
                && !header.attributes.is_log_append_time()
        {
            return Ok((header, batch));
        }
        let attributes = header.attributes.0 & Attributes::KEPT;
        let payload = &batch[HEADER_BYTES..];
        Ok(rewritten(
            &batch,
            attributes,
            walked.max_timestamp,
            payload,
        )?)
    }

    fn recompressed(
        &self,
        header: Header,
        batch: &Bytes,
        to: u8,
    ) -> Result<(Header, Bytes), Refusal> {
        let (from, payload) = (header.attributes.codec(), batch::payload(batch));
        let plain = codec::expand(from, payload, EXPANDED_BYTES_MAX, Strictness::AsKafka)?;
        let walked = check::walk(&header, &mut &plain[..], self.rules(false))?;
        let walked = unless_at_fault(walked)?;
        let (head, plain) = match walked.regular {
            true => (batch.slice(..HEADER_BYTES), plain),
            false => renumbered(header, batch, plain)?,
        };
        let payload = codec::compress(to, plain)?;
        self.check_size(HEADER_BYTES + payload.len())?;
        let kept = Attributes::KEPT & !Attributes::CODEC & !Attributes::DELETE_HORIZON;
        let attributes = header.attributes.0 & kept | i16::from(to);
        Ok(rewritten(
            &head,
            attributes,
            walked.max_timestamp,
            &payload,
        )?)
    }

    fn walked(&self, header: &Header, batch: &[u8]) -> Result<Walked, Refusal> {
        let codec = header.attributes.codec();
        let mut payload = &batch[HEADER_BYTES..];
        if codec == 0 {
            return unless_at_fault(check::walk(header, &mut payload, self.rules(false))?);
        }
        let bytes_max = EXPANDED_BYTES_MAX.max(batch.len().saturating_mul(EXPANSION_MAX));
        let mut pieces = Pieces::open(codec, payload, bytes_max, Strictness::AsKafka)?;
        let walked = check::walk(header, &mut pieces, self.rules(true));
        pieces.close();
        unless_at_fault(walked.map_err(|error| match error {
            BatchError::Number => BatchError::Record,
            error => error,
        })?)
    }

    fn rules(&self, offsets: bool) -> Rules {
        let ms = |bound: Option<std::time::Duration>| {
            bound.map_or(i64::MAX, |it| {
                i64::try_from(it.as_millis()).unwrap_or(i64::MAX)
            })
        };
        let times = Times {
            now: self.now.0 as i64,
            before: ms(self.settings.timestamp_before),
            after: ms(self.settings.timestamp_after),
        };
        Rules {
            keys: self.settings.compact.is_some(),
            times: (!self.settings.log_append_time).then_some(times),
            offsets,
        }
    }
}

fn unless_at_fault(walked: Walked) -> Result<Walked, Refusal> {
    match walked.faults.is_empty() {
        true => Ok(walked),
        false => Err(Refusal::Records(walked.faults)),
    }
}

/// Header and records of a batch as a client writes them: offsets count up from 0, times from the first one's, and
/// records have no attributes.
fn renumbered(header: Header, batch: &[u8], plain: Bytes) -> Result<(Bytes, Bytes), BatchError> {
    let mut builder = Builder::default();
    let mut first = None;
    for record in Records::expanded(header, plain) {
        let record = record?;
        let time = record.timestamp;
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        first.get_or_insert(time);
        builder.push(time, key, value, &record.headers);
    }
    let mut head = BytesMut::from(&batch[..HEADER_BYTES]);
    let first = first.unwrap_or(header.base_timestamp);
    (&mut head[BASE_TIMESTAMP..]).put_i64(first);
    Ok((head.freeze(), builder.finish().split_off(HEADER_BYTES)))
}

/// Puts the broker's time into a batch, if the log's settings say so; which one it put there.
pub(super) fn stamp(
    header: &Header,
    bytes: Bytes,
    settings: &Settings,
    now: Timestamp,
) -> Result<(Header, Bytes, Option<Timestamp>), BatchError> {
    if !settings.log_append_time {
        return Ok((*header, bytes, None));
    }
    let attributes = header.attributes.0 & Attributes::KEPT | Attributes::LOG_APPEND_TIME;
    let payload = &bytes[HEADER_BYTES..];
    let (header, bytes) = rewritten(&bytes, attributes, now.0 as i64, payload)?;
    Ok((header, bytes, Some(now)))
}

/// A batch with this header but for other attributes and another greatest time, with this payload, its length and
/// checksum right.
fn rewritten(
    head: &[u8],
    attributes: i16,
    max_timestamp: i64,
    payload: &[u8],
) -> Result<(Header, Bytes), BatchError> {
    let mut bytes = BytesMut::with_capacity(HEADER_BYTES + payload.len());
    bytes.put_slice(&head[..HEADER_BYTES]);
    bytes.put_slice(payload);
    let length = (bytes.len() - 12) as i32;
    (&mut bytes[8..12]).put_i32(length);
    (&mut bytes[ATTRIBUTES..]).put_i16(attributes);
    (&mut bytes[MAX_TIMESTAMP..]).put_i64(max_timestamp);
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

    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::{
        event::RecordFault,
        log::{
            batch::tests::{batch, batch_at},
            record::records,
        },
    };

    fn settings(settings: &[(&'static str, &'static str)]) -> Settings {
        let settings: Vec<_> = settings
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect();
        Settings::parse(&settings).unwrap()
    }

    fn take(batch: &Bytes, settings: &Settings) -> Result<(Header, Bytes), Refusal> {
        let intake = Intake {
            log: &"log".into(),
            settings,
            bytes_max: 1 << 20,
            now: Timestamp(1000),
        };
        intake.take(batch.clone())
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
        let mut before = plain.clone();
        for (name, number) in [
            ("gzip", 1),
            ("snappy", 2),
            ("lz4", 3),
            ("zstd", 4),
            ("uncompressed", 0),
        ] {
            let settings = settings(&[("compression.type", name)]);
            let (header, bytes) = take(&before, &settings).unwrap();
            assert_eq!(header.attributes.codec(), number);
            assert_eq!(batch::verify(&bytes), Ok(header));
            assert_eq!(values(&bytes), values(&plain), "{name}");
            let again = take(&bytes, &settings).unwrap();
            assert_eq!(again.1.as_ptr(), bytes.as_ptr(), "stored as it came");
            before = bytes;
        }
        assert_eq!(before, plain);
    }

    #[test]
    fn a_compacted_log_names_the_records_without_a_key() {
        let plain = batch(&["a", "b"]);
        let refused = take(&plain, &settings(&[("cleanup.policy", "compact")]));
        let faults = vec![(0, RecordFault::NoKey), (1, RecordFault::NoKey)];
        assert_eq!(refused.unwrap_err(), Refusal::Records(faults));
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
        let at = |timestamp| take(&batch_at(timestamp, &["a"]), &settings).map(|_| ());
        let refused = |timestamp| {
            let fault = RecordFault::Timestamp {
                offset: 0,
                timestamp,
                oldest: 900,
                newest: 1010,
            };
            Err(Refusal::Records(vec![(0, fault)]))
        };
        assert_eq!([at(899), at(1011)], [refused(899), refused(1011)]);
        assert_eq!([at(900), at(1010), at(-1)], [Ok(()), Ok(()), Ok(())]);
    }

    /// `LogValidator`: the batch of a producer that pretends to be the broker is the producer's again.
    #[test]
    fn a_producer_does_not_pretend_to_be_the_broker() {
        let plain = batch_at(1000, &["a"]);
        let attributes = Attributes::LOG_APPEND_TIME;
        let payload = batch::payload(&plain);
        let (_, forged) = rewritten(&plain, attributes, 1000, &payload).unwrap();
        assert_eq!(take(&forged, &Settings::default()).unwrap().1, plain);
        let theirs = settings(&[("message.timestamp.type", "LogAppendTime")]);
        let fault = RecordFault::TimestampType {
            offset: 0,
            timestamp: 1000,
            key: -1,
            value: 1,
        };
        let refused = Refusal::Records(vec![(0, fault)]);
        assert_eq!(take(&forged, &theirs).unwrap_err(), refused);
    }

    /// `LogValidator`: the greatest time is what the records say.
    #[test]
    fn the_greatest_time_is_put_right() {
        let plain = batch_at(1000, &["a"]);
        let (_, wrong) = rewritten(&plain, 0, 1005, &batch::payload(&plain)).unwrap();
        assert_eq!(take(&wrong, &Settings::default()).unwrap().1, plain);
    }

    #[test]
    fn a_batch_begins_at_offset_0_and_is_not_too_large() {
        let mut moved = BytesMut::from(&batch(&["a"])[..]);
        (&mut moved[..8]).put_i64(5);
        let refused = take(&moved.freeze(), &Settings::default());
        assert_eq!(refused, Err(BatchError::BaseOffset(5).into()));
        let large = batch(&[&"x".repeat(2 << 20)]);
        let refused = take(&large, &Settings::default());
        assert!(matches!(refused, Err(Refusal::TooLarge { .. })));
    }

    /// What expands to more than its size allows costs no more than that.
    #[test]
    fn a_bomb_is_refused() {
        let plain = batch(&[&"\0".repeat(EXPANDED_BYTES_MAX + 1)]);
        for codec in [1, 3, 4] {
            let payload = codec::compress(codec, batch::payload(&plain)).unwrap();
            let (_, bomb) = rewritten(&plain, codec.into(), 1000, &payload).unwrap();
            let refused = take(&bomb, &Settings::default());
            let too_large = Refusal::Batch(BatchError::TooLarge(EXPANDED_BYTES_MAX));
            assert_eq!(refused.err(), Some(too_large), "codec {codec}");
        }
    }

    /// A batch of these values, compressed with the codec of that number.
    fn packed(values: &[Vec<u8>], codec: u8) -> Bytes {
        let mut builder = Builder::default();
        for (at, value) in values.iter().enumerate() {
            let key = (at % 3 > 0).then_some(&b"key"[..]);
            builder.push(1000 - at as i64 % 7, key, Some(value), b"\0");
        }
        let plain = builder.finish();
        let payload = codec::compress(codec, batch::payload(&plain)).unwrap();
        let newest = batch::verify(&plain).unwrap().max_timestamp;
        let (_, batch) = rewritten(&plain, codec.into(), newest, &payload).unwrap();
        batch
    }

    proptest! {
        #[test]
        fn what_a_client_sends_is_stored_as_it_came(
            values in vec(vec(any::<u8>(), 0..300), 1..40),
            codec in 0..5_u8,
        ) {
            let sent = packed(&values, codec);
            let (_, taken) = take(&sent, &Settings::default()).unwrap();
            prop_assert_eq!(taken.as_ptr(), sent.as_ptr());
        }

        /// Whatever is damaged under a right checksum is refused, or can be read.
        #[test]
        fn what_is_taken_can_be_read(
            values in vec(vec(any::<u8>(), 0..30), 1..9),
            codec in 0..5_u8,
            damage in vec((any::<usize>(), any::<u8>()), 1..4),
        ) {
            let sent = packed(&values, codec);
            let mut payload = sent[HEADER_BYTES..].to_vec();
            for (at, byte) in damage {
                let at = at % payload.len();
                payload[at] = byte;
            }
            let (_, sent) = rewritten(&sent, codec.into(), 1000, &payload).unwrap();
            if let Ok((header, taken)) = take(&sent, &Settings::default()) {
                let found: Vec<_> = records(&taken, 1 << 20).unwrap().map(Result::unwrap).collect();
                prop_assert_eq!(found.len(), header.count as usize);
            }
        }
    }
}
