//! Dead letters of share groups on their way to the log that the group's settings name (KIP-1191).
//!
//! A group only says what it has given up. This task writes the record that tells of it, and has the group take it as
//! done with, in one span: so each record that was given up arrives once, whatever happens between. What was on its
//! way when the broker went down is said again when it opens.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use rustc_hash::FxHashMap;
use tokio::sync::mpsc;

use crate::{
    broker::Inner,
    catalog::LogEntry,
    command::{Fetch, FetchPartition, Isolation},
    group::{ShareBurial, ShareLetter},
    id::{ConnectionId, Offset},
    link::{Mailbox, Outgoing},
    log::{self, NewRecord, Record},
    properties::Text,
    shard::Op,
};

/// Bytes of source records that are read, and of dead letters that are written, together.
const BATCH_BYTES: usize = 1 << 20;
/// Dead letters that are written together.
const BATCH_RECORDS: u64 = 1000;
/// A batch is decompressed to so many bytes at most.
const DECOMPRESSED_MAX: usize = 64 << 20;

/// As Kafka names the headers of dead letters.
const TOPIC: &str = "__dlq.errors.topic";
const PARTITION: &str = "__dlq.errors.partition";
const OFFSET: &str = "__dlq.errors.offset";
const GROUP: &str = "__dlq.errors.group";
const DELIVERY_COUNT: &str = "__dlq.errors.delivery.count";
const MESSAGE: &str = "__dlq.errors.message";

/// Writes what shards send until they end.
pub(crate) async fn run(inner: Arc<Inner>, mut letters: mpsc::UnboundedReceiver<Vec<ShareLetter>>) {
    let mut office = Office {
        mailbox: Arc::new(Mailbox::new(ConnectionId(0))),
        outgoing: Outgoing::new(inner.shards.len()),
        inner,
    };
    while let Some(turn) = letters.recv().await {
        for letter in turn {
            if office.deliver(letter).await.is_err() {
                return;
            }
        }
    }
}

/// The broker has ended.
struct Ended;

struct Office {
    inner: Arc<Inner>,
    mailbox: Arc<Mailbox>,
    outgoing: Outgoing,
}

impl Office {
    async fn deliver(&mut self, letter: ShareLetter) -> Result<(), Ended> {
        let mut from = letter.first;
        while from <= letter.last {
            let routes = self.inner.snapshot.load();
            let to = routes.log(&letter.vhost, &letter.to).cloned();
            let source = routes.log(&letter.vhost, &letter.log).cloned();
            let is_same = |log: &Arc<LogEntry>| log.info.uuid == letter.partition.0;
            let source = source.filter(|log| letter.whole && is_same(log));
            let (contents, until) = match source {
                Some(log) => self.read(&log, letter.partition.1, from, letter.last).await,
                None => (None, letter.last),
            };
            let until = until.min(from + BATCH_RECORDS - 1);
            match to {
                Some(to) => self.write(&letter, &to, from..=until, contents.as_ref()),
                None => tracing::warn!(
                    group = %letter.group, topic = %letter.to, log = %letter.log, partition = letter.partition.1,
                    first = from, last = until, "the dead-letter topic of a share group is not there: records are given up"
                ),
            }
            self.bury(&letter, from, until).await?;
            from = until + 1;
        }
        Ok(())
    }

    /// The records by offset, and up to which offset; none if they cannot be read any more.
    async fn read(
        &self,
        log: &LogEntry,
        partition: u32,
        from: u64,
        last: u64,
    ) -> (Option<FxHashMap<u64, Record>>, u64) {
        let mut found = FxHashMap::default();
        let Some(tail) = log.tails.get(partition as usize).cloned() else {
            return (None, last);
        };
        let wanted = FetchPartition {
            log: log.info.name.clone(),
            id: None,
            partition,
            from: Offset(from),
            max_bytes: BATCH_BYTES,
        };
        let fetch = Fetch {
            partitions: vec![wanted],
            min_bytes: 0,
            max_bytes: BATCH_BYTES,
            wait: Duration::ZERO,
            isolation: Isolation::Uncommitted,
        };
        let store = self.inner.committer.store().clone();
        let tails = vec![Some((log.info.id, tail))];
        let fetched = log::fetch(store, log.vhost.clone(), tails, fetch).await;
        let batches = fetched.into_iter().next().map(|it| it.result);
        let Some(Ok(batches)) = batches else {
            return (None, last);
        };
        let mut until = None;
        for batch in &batches {
            let Ok(header) = log::parse(&batch.bytes) else {
                break;
            };
            until = Some(batch.base.0 + u64::from(header.last_offset_delta));
            if header.attributes.is_control() {
                continue;
            }
            let records = log::records(&batch.bytes, DECOMPRESSED_MAX);
            for record in records.into_iter().flatten().map_while(Result::ok) {
                let offset = batch.base.0 + u64::from(record.offset_delta);
                if (from..=last).contains(&offset) {
                    found.insert(offset, record);
                }
            }
        }
        (Some(found), until.unwrap_or(last).clamp(from, last))
    }

    fn write(
        &mut self,
        letter: &ShareLetter,
        to: &LogEntry,
        offsets: std::ops::RangeInclusive<u64>,
        contents: Option<&FxHashMap<u64, Record>>,
    ) {
        let partition = letter.partition.1 % to.tails.len().max(1) as u32;
        let shard = self.inner.shard_of_partition(to.info.id, partition);
        let bytes_max = self.inner.batch_bytes_max;
        for offset in offsets {
            let content = contents.and_then(|it| it.get(&offset));
            if contents.is_some() && content.is_none() {
                // Compaction has left a gap here: there was no record.
                continue;
            }
            let record = [content, None]
                .into_iter()
                .map(|content| dead_letter(letter, offset, content))
                .find(|record| record.check(&to.info.name, &to.settings, bytes_max).is_ok());
            let Some(record) = record else {
                tracing::warn!(
                    group = %letter.group, topic = %to.info.name, log = %letter.log, partition = letter.partition.1,
                    offset, "the dead-letter topic of a share group does not take a record: it is given up"
                );
                continue;
            };
            let op = Op::Capture {
                log: to.info.id,
                partition,
                record: Box::new(record),
                token: None,
                captured: false,
            };
            self.outgoing.push(shard, op);
            self.outgoing.spanned |= 1 << shard;
        }
    }

    /// Hands over what was written, and with it that the group is done with these records.
    async fn bury(&mut self, letter: &ShareLetter, first: u64, last: u64) -> Result<(), Ended> {
        let shard = self.inner.shard_of_name(&letter.group);
        let burial = ShareBurial {
            name: (letter.vhost.clone(), letter.group.clone()),
            partition: letter.partition,
            records: first..=last,
        };
        self.outgoing.push(shard, Op::BuriedShare(Box::new(burial)));
        self.outgoing.spanned |= 1 << shard;
        if self.outgoing.spanned.count_ones() == 1 {
            self.outgoing.spanned = 0;
        }
        let flushed = self.outgoing.flush(&self.inner, &self.mailbox).await;
        flushed.map_err(|_| Ended)
    }
}

/// The record that tells of one that was given up, with its key and value if they are at hand.
fn dead_letter(letter: &ShareLetter, offset: u64, content: Option<&Record>) -> NewRecord {
    let text = |name: &'static str, value: String| {
        (
            Text::from_static(name),
            Some(Bytes::from(value.into_bytes())),
        )
    };
    let reason = match letter.rejected {
        true => "Offset rejected by client.",
        false => "Offset delivery count exceeded the threshold.",
    };
    let headers = [
        text(TOPIC, letter.log.to_string()),
        text(PARTITION, letter.partition.1.to_string()),
        text(OFFSET, offset.to_string()),
        text(GROUP, letter.group.to_string()),
        text(DELIVERY_COUNT, letter.deliveries.to_string()),
        text(MESSAGE, reason.into()),
    ];
    NewRecord {
        timestamp: None,
        key: content.and_then(|it| it.key.clone()),
        value: content.and_then(|it| it.value.clone()),
        headers: log::write_headers(&headers),
    }
}
