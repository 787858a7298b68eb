//! Reading a log record by record, as messages: for cursors, consumers of streams and bindings by way of logs.

use std::{sync::Arc, time::Duration};

use super::{
    Position, Record, behind_damage, convert::message_from_record, fetch, find_offset, stream,
    walk::walk,
};
use crate::{
    catalog::LogEntry,
    command::{Fetch, FetchPartition, Isolation, OffsetSpec, StreamFilter},
    event::{Fetched, Refusal},
    filter::RecordFilter,
    id::Offset,
    message::{Message, Origin},
    properties::Text,
    store::Store,
    time::Timestamp,
};

/// How long a scan waits for something new before it is asked for again.
const WAIT: Duration = Duration::from_secs(30);

/// A log, and which of its records are wanted.
#[derive(Clone, Debug)]
pub(crate) struct Scan {
    pub log: Arc<LogEntry>,
    pub wanted: Wanted,
    /// Of the messages that records become.
    pub origin: Arc<Origin>,
}

/// Which records of a log are wanted.
#[derive(Clone, Debug)]
pub(crate) enum Wanted {
    All,
    /// By a cursor's `x-filter`.
    Messages(Arc<RecordFilter>),
    /// By the filter of a consumer of a stream.
    Values(Arc<StreamFilter>),
}

/// What a scan found in a partition.
#[derive(Debug)]
pub(crate) struct Found {
    pub partition: u32,
    /// Where it began, a position resolved.
    pub from: Offset,
    /// Where the next scan goes on. What lies between and is not among the records is for nobody.
    pub next: Offset,
    pub log_start: Offset,
    /// Offsets from `from` on that are damaged in the store, and left out.
    pub damaged: u64,
    pub records: Vec<FoundRecord>,
}

/// A record as a message.
#[derive(Debug)]
pub(crate) struct FoundRecord {
    pub offset: Offset,
    /// Of the record.
    pub time: Timestamp,
    pub message: Arc<Message>,
}

impl Scan {
    pub(crate) fn new(log: Arc<LogEntry>, wanted: Wanted) -> Scan {
        let origin = Origin {
            protocol: Text::from_static("stream"),
            vhost: log.vhost.clone(),
            ..Origin::default()
        };
        Scan {
            log,
            wanted,
            origin: Arc::new(origin),
        }
    }

    /// Reads on from positions in partitions: about `bytes`, none to resolve the positions only. With `wait`, until there
    /// is something.
    pub(crate) async fn read(
        &self,
        store: Arc<dyn Store>,
        positions: &[(u32, Position)],
        bytes: usize,
        wait: bool,
    ) -> Result<Vec<Found>, Refusal> {
        let mut from = Vec::with_capacity(positions.len());
        for (partition, position) in positions {
            from.push(self.resolve(&store, *partition, *position).await?);
        }
        if bytes == 0 {
            let none = positions.iter().zip(from).map(|((partition, _), from)| {
                let from = self.clamp(*partition, from);
                self.found(*partition, from, from)
            });
            return Ok(none.collect());
        }
        let partitions = positions.iter().zip(&from);
        let partitions = partitions.map(|((partition, _), from)| FetchPartition {
            log: self.log.info.name.clone(),
            id: None,
            partition: *partition,
            from: *from,
            max_bytes: bytes,
        });
        let wanted = Fetch {
            partitions: partitions.collect(),
            min_bytes: 1,
            max_bytes: bytes,
            wait: if wait { WAIT } else { Duration::ZERO },
            isolation: Isolation::Committed,
        };
        let tails = positions.iter().map(|(partition, _)| {
            let tail = self.log.tails.get(*partition as usize)?;
            Some((self.log.info.id, tail.clone()))
        });
        let vhost = self.log.vhost.clone();
        let fetched = fetch(store.clone(), vhost, tails.collect(), wanted).await;
        let mut found = Vec::with_capacity(fetched.len());
        for (fetched, from) in fetched.into_iter().zip(from) {
            found.push(match &fetched.result {
                Err(Refusal::Corrupt(reason)) => {
                    self.pass_damage(&*store, fetched.partition, from, reason)
                        .await?
                }
                _ => self.take(fetched, from)?,
            });
        }
        Ok(found)
    }

    /// What is damaged in the store keeps nobody from what comes behind it, as with the tap.
    async fn pass_damage(
        &self,
        store: &dyn Store,
        partition: u32,
        from: Offset,
        reason: &str,
    ) -> Result<Found, Refusal> {
        let tail = self.log.tails.get(partition as usize);
        let end = tail.map_or(from, |tail| tail.bounds().last_stable);
        let (log, name) = (self.log.info.id, &self.log.info.name);
        let next = behind_damage(store, (log, partition), from, end).await?;
        tracing::error!(log = %name, partition, %from, to = %next, %reason, "a reader of a log leaves out what is damaged");
        Ok(Found {
            damaged: next.0 - from.0,
            ..self.found(partition, from, next)
        })
    }

    fn found(&self, partition: u32, from: Offset, next: Offset) -> Found {
        let tail = self.log.tails.get(partition as usize);
        Found {
            partition,
            from,
            next,
            log_start: tail.map_or(from, |tail| tail.bounds().log_start),
            damaged: 0,
            records: Vec::new(),
        }
    }

    fn clamp(&self, partition: u32, offset: Offset) -> Offset {
        let bounds = self.log.tails.get(partition as usize);
        bounds.map_or(offset, |tail| {
            let bounds = tail.bounds();
            offset.clamp(bounds.log_start, bounds.high_watermark)
        })
    }

    /// The first record of a position.
    async fn resolve(
        &self,
        store: &Arc<dyn Store>,
        partition: u32,
        position: Position,
    ) -> Result<Offset, Refusal> {
        let Some(tail) = self.log.tails.get(partition as usize).cloned() else {
            return Ok(Offset(0));
        };
        let (time, end) = match position {
            Position::At(offset) => return Ok(offset),
            Position::BatchOf(offset) => {
                let wanted = FetchPartition {
                    log: self.log.info.name.clone(),
                    id: None,
                    partition,
                    from: offset,
                    max_bytes: 1,
                };
                let fetch_one = Fetch {
                    partitions: vec![wanted],
                    min_bytes: 0,
                    max_bytes: 1,
                    wait: Duration::ZERO,
                    isolation: Isolation::Committed,
                };
                let tails = vec![Some((self.log.info.id, tail))];
                let fetched = fetch(store.clone(), self.log.vhost.clone(), tails, fetch_one).await;
                let batches = fetched.into_iter().next().and_then(|it| it.result.ok());
                let first = batches.and_then(|batches| Some(batches.first()?.base));
                return Ok(first.unwrap_or(offset));
            }
            Position::Since(time, end) => (time, end),
        };
        let (at, isolation) = (OffsetSpec::AtTime(time), Isolation::Committed);
        let id = self.log.info.id;
        let found = find_offset(store.clone(), id, partition, tail, at, isolation).await?;
        Ok(found.map_or(end, |(offset, _)| offset))
    }

    fn take(&self, fetched: Fetched, from: Offset) -> Result<Found, Refusal> {
        let partition = fetched.partition;
        let batches = match fetched.result {
            Ok(batches) => batches,
            // Retention was faster.
            Err(Refusal::OffsetOutOfRange(_)) => {
                let next = self.clamp(partition, from);
                return Ok(self.found(partition, from, next));
            }
            Err(refusal) => return Err(refusal),
        };
        let mut found = self.found(partition, from, from);
        let (name, records) = (&self.log.info.name, &mut found.records);
        for step in walk(&batches, &fetched.aborted) {
            let step = step?;
            found.next = step.behind;
            if step.shown {
                step.each_record(name, partition, from, |offset, record| {
                    records.extend(self.take_record(partition, offset, record));
                });
            }
        }
        Ok(found)
    }

    /// A record as a message, if it is wanted.
    fn take_record(&self, partition: u32, offset: Offset, record: Record) -> Option<FoundRecord> {
        if let Wanted::Values(filter) = &self.wanted
            && !stream::wants(filter, &record)
        {
            return None;
        }
        let time = Timestamp(u64::try_from(record.timestamp).unwrap_or_default());
        let (name, exchange) = (&self.log.info.name, Text::new());
        let message = message_from_record(name, partition, offset, record, &exchange, &self.origin);
        if let Wanted::Messages(filter) = &self.wanted
            && !filter.wants(&message)
        {
            return None;
        }
        Some(FoundRecord {
            offset,
            time,
            message: Arc::new(message),
        })
    }
}
