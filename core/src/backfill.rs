//! Bindings by way of a log: puts what the log has, and then what comes to it, into their queues (`x-backfill`).
//!
//! One task reads committed records behind the tails of the partitions, as the tap does. What it puts into a queue is
//! one batch with its position, which the queue's shard keeps: so a record arrives once, whatever happens between.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use crate::{
    broker::Inner,
    catalog::{Feed, LogEntry, Routes},
    command::Isolation,
    id::{ConnectionId, LogId, Offset},
    link::{Mailbox, Outgoing},
    log::{Position, Scan, Wanted},
    queue::Arrival,
    shard::Op,
    signals::Signals,
    tags::Tags,
};

/// Bytes of batches read at once for one binding and partition, before others have their turn.
const READ_BYTES: usize = 1 << 20;

/// Where a binding is in a partition: by its number, the log and the partition.
pub(crate) type Positions = FxHashMap<(u64, LogId, u32), Offset>;

/// Runs the bindings by way of logs. `positions` are where they were when the broker was last open.
pub(crate) async fn run(inner: Arc<Inner>, signals: Arc<Signals>, positions: Positions) {
    let mut backfill = Backfill {
        routes: inner.snapshot.load(),
        mailbox: Arc::new(Mailbox::new(ConnectionId(0))),
        outgoing: Outgoing::new(inner.shards.len()),
        inner,
        positions,
    };
    for feed in backfill.routes.feeds() {
        if let Some(log) = backfill.routes.log(&feed.vhost, &feed.log_name) {
            signals.signal_all(log);
        }
    }
    loop {
        let partition = signals.next().await;
        match backfill.feed(partition).await {
            Ok(true) => signals.signal(partition),
            Ok(false) => {}
            Err(Ended) => return,
        }
    }
}

/// The broker has ended.
struct Ended;

struct Backfill {
    inner: Arc<Inner>,
    mailbox: Arc<Mailbox>,
    outgoing: Outgoing,
    positions: Positions,
    routes: Arc<Routes>,
}

impl Backfill {
    /// Goes on with the bindings by way of a partition; whether there is more.
    async fn feed(&mut self, (log, partition): (LogId, u32)) -> Result<bool, Ended> {
        self.refresh();
        let feeds = self.routes.feeds_of(log).cloned();
        let feeds: SmallVec<[Arc<Feed>; 4]> = feeds.collect();
        let mut more = false;
        for feed in feeds {
            let Some(entry) = self.routes.log(&feed.vhost, &feed.log_name).cloned() else {
                continue;
            };
            if entry.info.id == log && (partition as usize) < entry.tails.len() {
                more |= self.go_on(&feed, entry, partition).await?;
            }
        }
        Ok(more)
    }

    /// Takes notice of bindings that have come or gone.
    fn refresh(&mut self) {
        if self.routes.generation != self.inner.snapshot.generation() {
            self.routes = self.inner.snapshot.load();
            let routes = &self.routes;
            self.positions
                .retain(|(number, log, _), _| routes.has_feed(*log, *number));
        }
    }

    async fn go_on(
        &mut self,
        feed: &Feed,
        entry: Arc<LogEntry>,
        partition: u32,
    ) -> Result<bool, Ended> {
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
        let scan = Scan::new(entry, Wanted::All);
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
        self.inner.metrics.backfill_lost(found.damaged);
        let (shard, queue) = (self.inner.shard_of_queue(feed.queue.id), feed.queue.id);
        for record in found.records {
            if feed.wants(&record.message) {
                let arrival = Arrival::new(record.message, Tags::default());
                let (shard, op) = self.inner.enqueue(queue, arrival, None);
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
