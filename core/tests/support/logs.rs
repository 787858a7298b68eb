//! Logs for tests: record batches made and read by hand, and a client's questions about logs.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use trivium_core::{
    Change, Command, Event, Fetch, FetchPartition, Fetched, FetchedBatch, Isolation, LogSpec,
    Offset, OffsetSpec, Refusal, Reply, Text,
    store::{Batch, Durability, ScanLimit, Store, Table},
};

use super::{Client, now};

/// Who sent a batch, and its first sequence number.
#[derive(Clone, Copy)]
pub struct Producer {
    pub id: i64,
    pub sequence: i32,
}

/// A v2 record batch of keyless records without headers, as a Kafka producer sends it.
pub fn batch(values: &[&str], producer: Option<Producer>) -> Bytes {
    let records: Vec<_> = values.iter().map(|value| (None, Some(*value))).collect();
    records_batch(&records, None, producer)
}

/// A record with this header and value.
pub fn with_header(name: &str, value: &str, body: &str) -> Bytes {
    records_batch(&[(None, Some(body))], Some((name, value)), None)
}

/// A batch of records with these keys and values; without a value it is a tombstone.
pub fn keyed(records: &[(&str, Option<&str>)]) -> Bytes {
    let records: Vec<_> = records
        .iter()
        .map(|(key, value)| (Some(*key), *value))
        .collect();
    records_batch(&records, None, None)
}

fn records_batch(
    values: &[(Option<&str>, Option<&str>)],
    header: Option<(&str, &str)>,
    producer: Option<Producer>,
) -> Bytes {
    let mut records = BytesMut::new();
    for (at, (key, value)) in values.iter().enumerate() {
        let mut record = BytesMut::new();
        record.put_u8(0);
        put_varint(&mut record, 0);
        put_varint(&mut record, at as i64);
        put_text(&mut record, *key);
        put_text(&mut record, *value);
        put_varint(&mut record, i64::from(header.is_some()));
        if let Some((name, value)) = header {
            put_text(&mut record, Some(name));
            put_text(&mut record, Some(value));
        }
        put_varint(&mut records, record.len() as i64);
        records.put_slice(&record);
    }
    let (id, sequence) = producer.map_or((-1, -1), |producer| (producer.id, producer.sequence));
    // Now, or retention would have it.
    let timestamp = now().wall.0 as i64;
    let mut checked = BytesMut::new();
    checked.put_i16(0);
    checked.put_i32(values.len() as i32 - 1);
    checked.put_i64(timestamp);
    checked.put_i64(timestamp);
    checked.put_i64(id);
    checked.put_i16(if id < 0 { -1 } else { 0 });
    checked.put_i32(sequence);
    checked.put_i32(values.len() as i32);
    checked.put_slice(&records);
    let mut batch = BytesMut::new();
    batch.put_i64(0);
    batch.put_i32(checked.len() as i32 + 9);
    batch.put_i32(-1);
    batch.put_i8(2);
    batch.put_u32(crc32c::crc32c(&checked));
    batch.put_slice(&checked);
    batch.freeze()
}

/// The values in an uncompressed batch.
pub fn values(batch: &FetchedBatch) -> Vec<String> {
    let mut bytes = batch.bytes.slice(57..);
    let count = bytes.get_u32();
    let mut values = Vec::new();
    for _ in 0..count {
        let length = varint(&mut bytes);
        let mut record = bytes.split_to(length as usize);
        record.advance(1);
        varint(&mut record);
        varint(&mut record);
        let key = varint(&mut record);
        record.advance(key.max(0) as usize);
        let length = varint(&mut record);
        let value = record.split_to(length as usize);
        values.push(String::from_utf8(value.to_vec()).expect("it is text"));
    }
    values
}

fn put_text(out: &mut BytesMut, text: Option<&str>) {
    put_varint(out, text.map_or(-1, |text| text.len() as i64));
    out.put_slice(text.unwrap_or_default().as_bytes());
}

/// The offset, key and value of each record in an uncompressed batch.
pub fn contents(batch: &FetchedBatch) -> Vec<(u64, String, Option<String>)> {
    let mut bytes = batch.bytes.slice(57..);
    let text = |bytes: &mut Bytes| {
        let length = usize::try_from(varint(bytes)).ok()?;
        Some(String::from_utf8(bytes.split_to(length).to_vec()).expect("it is text"))
    };
    let count = bytes.get_u32();
    let mut record = || {
        let length = varint(&mut bytes);
        let mut record = bytes.split_to(length as usize);
        record.advance(1);
        varint(&mut record);
        let offset = batch.base.0 + varint(&mut record) as u64;
        let key = text(&mut record).expect("it has a key");
        (offset, key, text(&mut record))
    };
    (0..count).map(|_| record()).collect()
}

fn put_varint(out: &mut BytesMut, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.put_u8(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.put_u8(rest as u8);
}

fn varint(bytes: &mut Bytes) -> i64 {
    let (mut value, mut shift) = (0u64, 0);
    loop {
        let byte = bytes.get_u8();
        value |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            return (value >> 1) as i64 ^ -((value & 1) as i64);
        }
    }
}

/// A log of so many partitions with settings besides the defaults.
pub fn log(partitions: u32, settings: &[(&'static str, &'static str)]) -> LogSpec {
    LogSpec {
        partitions,
        settings: settings
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect(),
    }
}

pub fn from(log: &str, partition: u32, offset: u64) -> FetchPartition {
    FetchPartition {
        log: log.into(),
        id: None,
        partition,
        from: Offset(offset),
        max_bytes: 1 << 20,
    }
}

impl Client {
    pub async fn log(&mut self, name: &str, spec: LogSpec) -> Result<Reply, Refusal> {
        let name = name.into();
        self.define(Change::CreateLog {
            name,
            spec,
            validate_only: false,
        })
        .await
    }

    /// A log of one partition.
    pub async fn with_log(&mut self, name: &str, settings: &[(&'static str, &'static str)]) {
        let created = self.log(name, log(1, settings)).await;
        created.expect("the name is free");
    }

    pub async fn delete_log(&mut self, name: &str) -> Result<Reply, Refusal> {
        let name = name.into();
        self.define(Change::DeleteLog { name }).await
    }

    /// Appends a batch; its first offset.
    pub async fn append(
        &mut self,
        log: &str,
        partition: u32,
        batch: Bytes,
    ) -> Result<u64, Refusal> {
        let log = Text::from(log);
        let appended = self
            .ask(|token| Command::Append {
                id: None,
                token,
                log,
                partition,
                batch,
                transaction: None,
            })
            .await?;
        match appended {
            Reply::Appended { base, .. } => Ok(base.0),
            Reply::NotAppended { refusal, .. } => Err(*refusal),
            other => panic!("{other:?}"),
        }
    }

    /// Reads one partition, waiting for the first record no longer than `wait`.
    pub async fn fetch(&mut self, wanted: FetchPartition, wait: Duration) -> Fetched {
        let token = self.token();
        let fetch = Fetch {
            partitions: vec![wanted],
            min_bytes: 1,
            max_bytes: 1 << 20,
            wait,
            isolation: Isolation::Uncommitted,
        };
        self.submit(Command::Fetch { token, fetch }).await;
        self.fetched(token).await
    }

    pub async fn fetched(&mut self, token: trivium_core::Token) -> Fetched {
        self.expect(|event| match event {
            Event::Fetched {
                token: done,
                partitions,
            } if *done == token => Some(partitions.remove(0)),
            _ => None,
        })
        .await
    }

    /// All values of a partition from `offset` on, in order.
    pub async fn read(&mut self, log: &str, partition: u32, offset: u64) -> Vec<String> {
        let mut all = Vec::new();
        let mut next = offset;
        loop {
            let fetched = self.fetch(from(log, partition, next), Duration::ZERO).await;
            let batches = fetched.result.expect("the log is readable");
            if batches.is_empty() {
                assert_eq!(next.max(offset), fetched.high_watermark.0);
                return all;
            }
            for batch in &batches {
                let read = values(batch);
                let skipped = next.saturating_sub(batch.base.0) as usize;
                next = batch.base.0 + read.len() as u64;
                all.extend(read.into_iter().skip(skipped));
            }
        }
    }

    pub async fn offset(&mut self, log: &str, at: OffsetSpec) -> Option<u64> {
        let log = Text::from(log);
        let found = self
            .ask(|token| Command::FindOffset {
                token,
                log,
                partition: 0,
                at,
                isolation: Isolation::Uncommitted,
            })
            .await;
        match found {
            Ok(Reply::Offset { found, .. }) => found.map(|(offset, _)| offset.0),
            other => panic!("{other:?}"),
        }
    }
}

/// The batch with a codec in its attributes that its records are not packed with, and a checksum that fits.
pub fn claiming_codec(batch: &Bytes, codec: u8) -> Bytes {
    let mut batch = BytesMut::from(&batch[..]);
    batch[22] = codec;
    let checksum = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&checksum.to_be_bytes());
    batch.freeze()
}

/// Flips a bit in every batch that is stored.
pub async fn damage_records(store: &dyn Store, count: usize) {
    let everything = Bytes::new()..Bytes::from_static(&[0xff]);
    let limit = ScanLimit {
        entries: 100,
        bytes: usize::MAX,
    };
    let page = store.scan(Table::Records, everything, limit).await;
    let entries = page.expect("nothing failed").entries;
    assert_eq!(entries.len(), count);
    let mut batch = Batch::new();
    for (key, value) in entries {
        let mut value = value.to_vec();
        *value.last_mut().expect("a batch is never empty") ^= 1;
        batch.put(Table::Records, key, Bytes::from(value));
    }
    let committed = store.commit(batch, Durability::Synced).await;
    committed.expect("nothing failed");
}
