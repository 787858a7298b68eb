//! The tap: offers what is appended to logs to the bindings of an exchange (DESIGN section 3.2).
//!
//! One task reads committed records behind the tails of the partitions, so that a producer never
//! waits for it. What a record leads to is written in one storage batch with the tap's new position,
//! so a record is offered once. Where no binding matches, batches are not even decoded.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rustc_hash::{FxHashMap, FxHashSet};
use tokio::sync::Notify;

use crate::{
    broker::Inner,
    catalog::{Facts, LogEntry, Targets},
    command::{Fetch, FetchPartition, Isolation},
    event::{FetchedBatch, Refusal},
    id::{ConnectionId, LogId, Offset},
    link::{Mailbox, Outgoing},
    log::{self, Bounds, Visible},
    message::Origin,
    queue::Arrival,
    shard::Op,
    store::keys::record_flags,
    topic::{Grammar, Topic},
};

/// Bytes of batches read at once for one partition, before others have their turn.
const READ_BYTES: usize = 1 << 20;

/// A batch is decompressed to so many bytes at most.
const DECOMPRESSED_MAX: usize = 64 << 20;

/// Partitions with something new, each once.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    waiting: Mutex<Waiting>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    order: VecDeque<(LogId, u32)>,
    known: FxHashSet<(LogId, u32)>,
}

impl Signals {
    /// A partition has something new.
    pub(crate) fn signal(&self, partition: (LogId, u32)) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.known.insert(partition) {
            waiting.order.push_back(partition);
            self.arrived.notify_one();
        }
    }

    async fn next(&self) -> (LogId, u32) {
        loop {
            if let Some(partition) = self.take() {
                return partition;
            }
            self.arrived.notified().await;
        }
    }

    fn take(&self) -> Option<(LogId, u32)> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let partition = waiting.order.pop_front()?;
        waiting.known.remove(&partition);
        Some(partition)
    }
}

/// Runs the tap of a broker. `positions` are where it was when the broker was last open.
pub(crate) async fn run(
    inner: Arc<Inner>,
    signals: Arc<Signals>,
    positions: FxHashMap<(LogId, u32), Offset>,
) {
    let mut tap = Tap {
        mailbox: Arc::new(Mailbox::new(ConnectionId(0))),
        outgoing: Outgoing::new(inner.shards.len()),
        inner,
        positions,
        entries: FxHashMap::default(),
        generation: None,
    };
    let known: Vec<_> = tap.positions.keys().copied().collect();
    known
        .into_iter()
        .for_each(|partition| signals.signal(partition));
    loop {
        let partition = signals.next().await;
        match tap.offer(partition).await {
            Ok(Progress::More) => signals.signal(partition),
            Ok(Progress::Done) => {}
            Err(Stop::Broker) => return,
            Err(Stop::Unreadable(reason)) => {
                tracing::error!(log = %partition.0, partition = partition.1, %reason, "tap cannot read a log");
            }
        }
    }
}

enum Progress {
    More,
    Done,
}

enum Stop {
    Broker,
    Unreadable(String),
}

struct Tap {
    inner: Arc<Inner>,
    mailbox: Arc<Mailbox>,
    outgoing: Outgoing,
    positions: FxHashMap<(LogId, u32), Offset>,
    /// The logs of the current routes, by id.
    entries: FxHashMap<LogId, Arc<LogEntry>>,
    generation: Option<u64>,
}

impl Tap {
    async fn offer(&mut self, partition: (LogId, u32)) -> Result<Progress, Stop> {
        self.refresh();
        let Some(entry) = self
            .entries
            .get(&partition.0)
            .filter(|entry| entry.tap.is_some())
            .cloned()
        else {
            self.positions.remove(&partition);
            return Ok(Progress::Done);
        };
        let Some(tail) = entry.tails.get(partition.1 as usize) else {
            return Ok(Progress::Done);
        };
        let Bounds {
            log_start,
            last_stable,
            ..
        } = tail.bounds();
        let from = self
            .positions
            .get(&partition)
            .copied()
            .unwrap_or_default()
            .max(log_start);
        if from >= last_stable {
            return Ok(Progress::Done);
        }
        let topic = Topic::new(entry.info.name.clone(), Grammar::Dots);
        let mut targets = Targets::default();
        let routes = self.inner.snapshot.load();
        routes.route_tapped(&entry, &topic, &mut Facts::default, &mut targets);
        let next = if targets.is_empty() {
            last_stable
        } else {
            self.offer_records(&entry, partition.1, from, &targets)
                .await?
        };
        self.advance(&entry, partition, next).await?;
        Ok(if next < last_stable {
            Progress::More
        } else {
            Progress::Done
        })
    }

    fn refresh(&mut self) {
        let generation = self.inner.snapshot.generation();
        if self.generation != Some(generation) {
            let routes = self.inner.snapshot.load();
            self.entries = routes
                .all_logs()
                .map(|entry| (entry.info.id, entry.clone()))
                .collect();
            self.generation = Some(generation);
        }
    }

    /// Queues what the records from `from` on lead to; the offset behind the last one looked at.
    async fn offer_records(
        &mut self,
        entry: &Arc<LogEntry>,
        partition: u32,
        from: Offset,
        targets: &Targets,
    ) -> Result<Offset, Stop> {
        let wanted = FetchPartition {
            log: entry.info.name.clone(),
            id: None,
            partition,
            from,
            max_bytes: READ_BYTES,
        };
        let fetch = Fetch {
            partitions: vec![wanted],
            min_bytes: 0,
            max_bytes: READ_BYTES,
            wait: Duration::ZERO,
            isolation: Isolation::Committed,
        };
        let tails = vec![Some((
            entry.info.id,
            entry.tails[partition as usize].clone(),
        ))];
        let store = self.inner.committer.store().clone();
        let fetched = log::fetch(store, entry.vhost.clone(), tails, fetch).await;
        let Some(fetched) = fetched.into_iter().next() else {
            return Ok(from);
        };
        let batches = match fetched.result {
            Ok(batches) => batches,
            // The log was deleted, or retention was faster: there is nothing to offer here.
            Err(Refusal::NotFound { .. } | Refusal::OffsetOutOfRange(_)) => return Ok(from),
            Err(refusal) => return Err(Stop::Unreadable(refusal.to_string())),
        };
        let mut next = from;
        let mut visible = Visible::new(&fetched.aborted);
        for batch in &batches {
            let shown = visible.shows(batch);
            next = self.offer_batch(entry, partition, from, batch, shown, targets)?;
        }
        Ok(next)
    }

    fn offer_batch(
        &mut self,
        entry: &LogEntry,
        partition: u32,
        from: Offset,
        batch: &FetchedBatch,
        shown: bool,
        targets: &Targets,
    ) -> Result<Offset, Stop> {
        let header =
            log::parse(&batch.bytes).map_err(|error| Stop::Unreadable(error.to_string()))?;
        let next = Offset(batch.base.0 + u64::from(header.last_offset_delta) + 1);
        if batch.flags & record_flags::CAPTURED != 0 || !shown {
            return Ok(next);
        }
        let mut offered = 0;
        let exchange = entry.tap.clone().unwrap_or_default();
        let origin = Arc::new(Origin {
            protocol: "kafka".into(),
            vhost: entry.vhost.clone(),
            ..Origin::default()
        });
        for record in self.records(entry, partition, batch) {
            let offset = Offset(batch.base.0 + u64::from(record.offset_delta));
            if offset < from {
                continue;
            }
            let message = log::message_from_record(
                &entry.info.name,
                partition,
                offset,
                record,
                &exchange,
                &origin,
            );
            let message = Arc::new(message);
            for target in &targets.queues {
                let shard = self.inner.shard_of_queue(target.queue.id);
                let (tags, best_effort) = (target.tags.clone(), target.best_effort);
                let arrival = Arrival {
                    message: message.clone(),
                    tags,
                    best_effort,
                    promised: false,
                    body: None,
                };
                self.outgoing.push(
                    shard,
                    Op::Enqueue {
                        queue: target.queue.id,
                        arrival,
                        token: None,
                    },
                );
                self.outgoing.spanned |= 1 << shard;
            }
            offered += 1;
        }
        self.inner.metrics.tapped(offered);
        Ok(next)
    }

    /// The records of a batch up to the first that cannot be read. A producer may send what it likes inside of a
    /// batch; that must not keep the tap from what comes behind it.
    fn records(&self, entry: &LogEntry, partition: u32, batch: &FetchedBatch) -> Vec<log::Record> {
        let mut readable = Vec::new();
        let damage = match log::records(&batch.bytes, DECOMPRESSED_MAX) {
            Ok(records) => records
                .map(|record| record.map(|record| readable.push(record)))
                .find_map(Result::err),
            Err(error) => Some(error),
        };
        if let Some(error) = damage {
            tracing::warn!(log = %entry.info.name, partition, base = %batch.base, %error, "tap leaves out records that it cannot read");
        }
        readable
    }

    /// Stores the position together with what was queued.
    async fn advance(
        &mut self,
        entry: &LogEntry,
        partition: (LogId, u32),
        next: Offset,
    ) -> Result<(), Stop> {
        let shard = self.inner.shard_of_partition(entry.info.id, partition.1);
        let (log, number) = partition;
        self.outgoing.push(
            shard,
            Op::Tapped {
                log,
                partition: number,
                offset: next,
            },
        );
        if self.outgoing.spanned != 0 {
            self.outgoing.spanned |= 1 << shard;
        }
        self.positions.insert(partition, next);
        self.outgoing
            .flush(&self.inner, &self.mailbox)
            .await
            .map_err(|_| Stop::Broker)
    }
}
