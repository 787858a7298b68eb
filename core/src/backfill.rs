//! Bindings by way of a log: puts what the log has, and then what comes to it, into their queues (`x-backfill`).
//!
//! One task reads committed records behind the tails of the partitions, as the tap does. What it puts into a queue is
//! one batch with its position, which the queue's shard keeps: so a record arrives once, whatever happens between.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use crate::{
    broker::Inner,
    catalog::{Feed, LogEntry},
    command::Isolation,
    id::{ConnectionId, LogId, Offset},
    link::{Mailbox, Outgoing},
    log::{Position, Scan},
    queue::Arrival,
    shard::Op,
    tap::Signals,
};

/// Bytes of batches read at once for one binding and partition, before others have their turn.
const READ_BYTES: usize = 1 << 20;

/// Where a binding is in a partition: by its number, the log and the partition.
pub(crate) type Positions = FxHashMap<(u64, LogId, u32), Offset>;

/// Runs the bindings by way of logs. `positions` are where they were when the broker was last open.
pub(crate) async fn run(inner: Arc<Inner>, signals: Arc<Signals>, positions: Positions) {
    let routes = inner.snapshot.load();
    for feed in routes.feeds() {
        signals.want();
        if let Some(log) = routes.log(&feed.vhost, &feed.log_name) {
            signal_all(&signals, log);
        }
    }
    let known = routes.feeds().map(|feed| (feed.number, feed.created));
    let mut backfill = Backfill {
        known: known.collect(),
        mailbox: Arc::new(Mailbox::new(ConnectionId(0))),
        outgoing: Outgoing::new(inner.shards.len()),
        inner,
        positions,
    };
    drop(routes);
    loop {
        let partition = signals.next().await;
        match backfill.feed(partition).await {
            Ok(true) => signals.signal(partition),
            Ok(false) => {}
            Err(Ended) => return,
        }
    }
}

/// Has all partitions of a log looked at.
pub(crate) fn signal_all(signals: &Signals, log: &LogEntry) {
    for partition in 0..log.tails.len() as u32 {
        signals.signal((log.info.id, partition));
    }
}

/// The broker has ended.
struct Ended;

struct Backfill {
    inner: Arc<Inner>,
    mailbox: Arc<Mailbox>,
    outgoing: Outgoing,
    positions: Positions,
    /// The bindings that positions are of, by their numbers.
    known: FxHashMap<u64, u64>,
}

impl Backfill {
    /// Goes on with the bindings by way of a partition; whether there is more.
    async fn feed(&mut self, (log, partition): (LogId, u32)) -> Result<bool, Ended> {
        let routes = self.inner.snapshot.load();
        let feeds = routes.feeds().filter(|feed| feed.log == log);
        let feeds: SmallVec<[Arc<Feed>; 4]> = feeds.cloned().collect();
        let mut more = false;
        for feed in feeds {
            let Some(entry) = routes.log(&feed.vhost, &feed.log_name).cloned() else {
                continue;
            };
            if entry.info.id == log && (partition as usize) < entry.tails.len() {
                more |= self.go_on(&feed, entry, partition).await?;
            }
        }
        Ok(more)
    }

    async fn go_on(
        &mut self,
        feed: &Feed,
        entry: Arc<LogEntry>,
        partition: u32,
    ) -> Result<bool, Ended> {
        if self.known.insert(feed.number, feed.created) != Some(feed.created) {
            self.positions
                .retain(|(number, ..), _| *number != feed.number);
        }
        let key = (feed.number, feed.log, partition);
        let tail = entry.tails[partition as usize].clone();
        let at = match self.positions.get(&key) {
            Some(offset) => Position::At(*offset),
            None => Position::start(feed.start, &tail),
        };
        let end = tail.bounds().end(Isolation::Committed);
        if matches!(at, Position::At(offset) if offset >= end) {
            return Ok(false);
        }
        let scan = Scan::new(entry, None);
        let store = self.inner.committer.store().clone();
        let positions = [(partition, at)];
        let found = scan.read(store, &positions, READ_BYTES, false);
        let found = match found.await {
            Ok(found) => found.into_iter().next(),
            Err(refusal) => {
                let (log, queue) = (&feed.log_name, &feed.queue.name);
                tracing::error!(%log, partition, %queue, %refusal, "a binding cannot read its log");
                return Ok(false);
            }
        };
        let Some(found) = found else {
            return Ok(false);
        };
        let (shard, queue) = (self.inner.shard_of_queue(feed.queue.id), feed.queue.id);
        for record in found.records {
            if feed.wants(&record.message) {
                let arrival = Arrival {
                    message: record.message,
                    tags: Default::default(),
                    best_effort: false,
                    promised: false,
                    body: None,
                };
                let token = None;
                let op = Op::Enqueue {
                    queue,
                    arrival,
                    token,
                };
                self.outgoing.push(shard, op);
            }
        }
        let next = found.next;
        if !matches!(at, Position::At(offset) if offset == next) {
            let op = Op::Fed {
                binding: feed.number,
                log: feed.log,
                partition,
                offset: next,
            };
            self.outgoing.push(shard, op);
            self.positions.insert(key, next);
        }
        let flushed = self.outgoing.flush(&self.inner, &self.mailbox).await;
        flushed.map_err(|_| Ended)?;
        Ok(next < end && found.from < next)
    }
}
