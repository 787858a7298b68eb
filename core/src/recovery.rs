//! Reading the store: when the broker opens, ahead of consumers, and to clean up behind queues.

use std::{collections::hash_map::Entry, ops::Range, sync::Arc};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use rustc_hash::{FxHashMap, FxHashSet};
use tokio::{sync::mpsc, task::JoinSet};

use crate::{
    broker::{Inner, Options, shard_of_name, shard_of_queue},
    catalog::Catalog,
    group::Groups,
    id::{QueueId, Sequence},
    log::TailBudget,
    queue::{LoadedChunk, Read},
    shard::{self, Op, Place, Request, Services, Shard, Turn},
    store::{
        Batch, Durability, Page, ScanLimit, Store, StoreError, Table, keys,
        messages::{self, Counters, Dialects, Stored},
        values,
    },
    tap,
    topic::Grammar,
};

/// What a scan returns at once when everything is wanted.
const PAGE: ScanLimit = ScanLimit {
    entries: 4096,
    bytes: 1 << 20,
};

/// What was found in the store.
pub(crate) struct Recovered {
    pub(crate) catalog: Catalog,
    pub(crate) shards: Vec<Shard>,
    /// Counts the times that this store was opened.
    pub(crate) epoch: u64,
}

/// Rebuilds the broker's state. Takes time with the number of queues, partitions, groups and retained
/// topics, not with the number of messages.
pub(crate) async fn recover(
    store: &Arc<dyn Store>,
    options: &Options,
) -> Result<Recovered, StoreError> {
    let dialects = Dialects::new(options.dialects.clone());
    let now = (options.clock)();
    let (catalog, mut cleanup) =
        Catalog::recover(scan_all(store, Table::Catalog, everything()).await?)?;
    let epoch = next_epoch(store, &mut cleanup).await?;
    let (count, tails) = (options.shards, TailBudget::new(options.log_memory));
    let mut shards: Vec<Shard> = (0..count)
        .map(|index| {
            let groups = Groups::new(options.initial_rebalance_delay);
            Shard::new(
                Place { index, count },
                options.queue_memory / count,
                tails.clone(),
                groups,
            )
        })
        .collect();
    let mut counters = queue_counters(store).await?;
    for entry in catalog.queues() {
        let found = counters.remove(&entry.id);
        shards[shard_of_queue(entry.id, count)].recover_queue(entry.clone(), found, now);
    }
    let logs: Vec<_> = catalog.logs().cloned().collect();
    for shard in &mut shards {
        shard.recover_logs(&**store, &logs).await?;
    }
    for (key, value) in scan_all(store, Table::State, keys::all_group_offsets()).await? {
        let group = crate::group::stored_group(&key)?;
        shards[shard_of_name(&group, count)].recover_group_offset(&key, value)?;
    }
    for (key, value) in scan_all(store, Table::Retained, everything()).await? {
        let vhost =
            keys::retained_vhost(&key).ok_or_else(|| StoreError::Corrupt("retained key".into()))?;
        let (message, accepted) = messages::decode_retained(value, &dialects)?;
        let shard = shard_of_name(&message.topic.render(Grammar::Slashes), count);
        shards[shard].recover_retained(vhost, message, accepted);
    }
    // What queues left behind that went away with an earlier process.
    cleanup.forget(
        Table::Messages,
        keys::chunk(QueueId(keys::TRANSIENT_QUEUE), Sequence(0))..keys::end(),
    );
    store.commit(cleanup, Durability::Written).await?;
    Ok(Recovered {
        catalog,
        shards,
        epoch,
    })
}

async fn next_epoch(store: &Arc<dyn Store>, batch: &mut Batch) -> Result<u64, StoreError> {
    let stored = store.get(Table::State, keys::epoch()).await?;
    let epoch = match stored {
        Some(value) => values::Reader::new(value, 1)?.varint()? + 1,
        None => 1,
    };
    let mut writer = values::Writer::new(1);
    writer.varint(epoch);
    batch.put(Table::State, keys::epoch(), writer.done());
    Ok(epoch)
}

async fn queue_counters(
    store: &Arc<dyn Store>,
) -> Result<FxHashMap<QueueId, Counters>, StoreError> {
    let rows = scan_all(store, Table::State, keys::queue_states()).await?;
    rows.into_iter()
        .map(|(key, value)| {
            let id = keys::queue_of_state(&key)
                .ok_or_else(|| StoreError::Corrupt("queue state key".into()))?;
            Ok((id, Counters::decode(value)?))
        })
        .collect()
}

fn everything() -> Range<Bytes> {
    Bytes::new()..keys::end()
}

/// Every entry of a range, page by page.
async fn scan_all(
    store: &Arc<dyn Store>,
    table: Table,
    range: Range<Bytes>,
) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
    let mut all = Vec::new();
    let mut range = range;
    loop {
        let Page { mut entries, next } = store.scan(table, range.clone(), PAGE).await?;
        all.append(&mut entries);
        match next {
            Some(next) => range.start = next,
            None => return Ok(all),
        }
    }
}

/// Starts the tasks of the broker.
pub(crate) fn start(
    inner: &Arc<Inner>,
    shards: Vec<Shard>,
    inboxes: Vec<mpsc::Receiver<Request>>,
    options: &Options,
) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let (idle, mut idle_queues) = mpsc::unbounded_channel();
    let (sweeper, sweeps) = mpsc::unbounded_channel();
    let positions = shards.iter().flat_map(Shard::tap_positions).collect();
    let signals = Arc::new(tap::Signals::default());
    let services = Services {
        committer: inner.committer.clone(),
        metrics: inner.metrics.clone(),
        loader: Loader {
            store: inner.committer.store().clone(),
            dialects: Dialects::new(options.dialects.clone()),
        },
        idle,
        sweeper,
        tap: signals.clone(),
        clock: options.clock,
    };
    for (shard, inbox) in shards.into_iter().zip(inboxes) {
        tasks.spawn(shard::run(shard, inbox, services.clone()));
    }
    tasks.spawn(sweep(inner.clone(), sweeps));
    tasks.spawn(tap::run(inner.clone(), signals, positions));
    let broker = inner.clone();
    tasks.spawn(async move {
        while let Some(queue) = idle_queues.recv().await {
            broker.remove_idle_queue(queue).await;
        }
    });
    tasks
}

/// Reads chunks of queues.
#[derive(Clone)]
pub(crate) struct Loader {
    store: Arc<dyn Store>,
    dialects: Dialects,
}

impl Loader {
    /// Reads a page of a queue's backlog; the operation gives it to the queue.
    pub(crate) fn load(&self, read: &Read) -> BoxFuture<'static, Op> {
        let (loader, queue, range, bytes) =
            (self.clone(), read.queue, read.range.clone(), read.bytes);
        Box::pin(async move {
            match loader.read(queue, range.clone(), bytes).await {
                Ok((chunks, read_to)) => Op::Loaded {
                    queue,
                    chunks,
                    read_to,
                },
                Err(error) => {
                    // Nothing is deleted: the rest of the backlog can be read after a restart.
                    tracing::error!(%queue, %error, "cannot read the backlog of a queue");
                    Op::Loaded {
                        queue,
                        chunks: Vec::new(),
                        read_to: range.end,
                    }
                }
            }
        })
    }

    async fn read(
        &self,
        queue: QueueId,
        range: Range<Sequence>,
        bytes: usize,
    ) -> Result<(Vec<LoadedChunk>, Sequence), StoreError> {
        let limit = ScanLimit {
            entries: 1024,
            bytes,
        };
        let page = self
            .store
            .scan(
                Table::Messages,
                keys::chunk_range(queue, range.start, range.end),
                limit,
            )
            .await?;
        let read_to = page
            .next
            .as_deref()
            .and_then(keys::chunk_first)
            .unwrap_or(range.end);
        let mut settled = self.settled(queue, range.start, read_to).await?;
        let mut bodies = FxHashMap::default();
        let mut chunks = Vec::with_capacity(page.entries.len());
        for (key, value) in page.entries {
            let first =
                keys::chunk_first(&key).ok_or_else(|| StoreError::Corrupt("chunk key".into()))?;
            let bytes = value.len();
            let mut messages = messages::decode_chunk(value, &self.dialects)?;
            for stored in &mut messages {
                self.add_body(stored, &mut bodies).await?;
            }
            chunks.push(LoadedChunk {
                first,
                messages,
                settled: settled.remove(&first).unwrap_or_default(),
                bytes,
            });
        }
        Ok((chunks, read_to))
    }

    async fn settled(
        &self,
        queue: QueueId,
        from: Sequence,
        to: Sequence,
    ) -> Result<FxHashMap<Sequence, Vec<Range<u64>>>, StoreError> {
        let rows = scan_all(
            &self.store,
            Table::State,
            keys::settled_range(queue, from, to),
        )
        .await?;
        rows.into_iter()
            .map(|(key, value)| {
                let first = keys::settled_first(&key)
                    .ok_or_else(|| StoreError::Corrupt("settled key".into()))?;
                Ok((first, messages::decode_settled(first, value)?))
            })
            .collect()
    }

    async fn add_body(
        &self,
        stored: &mut Stored,
        chunks: &mut FxHashMap<u64, Vec<Bytes>>,
    ) -> Result<(), StoreError> {
        let Some(reference) = stored.body else {
            return Ok(());
        };
        let bodies = match chunks.entry(reference.number) {
            Entry::Occupied(read) => read.into_mut(),
            Entry::Vacant(unread) => {
                let key = keys::body_chunk(reference.number);
                let value = self.store.get(Table::Bodies, key).await?;
                let value =
                    value.ok_or_else(|| StoreError::Corrupt("a shared body is missing".into()))?;
                unread.insert(messages::decode_bodies(value)?)
            }
        };
        let body = bodies.get(reference.index as usize);
        let body = body.ok_or_else(|| StoreError::Corrupt("a shared body is missing".into()))?;
        let message = Arc::make_mut(&mut stored.message);
        message.body = Some(body.clone());
        Ok(())
    }
}

/// Something to clean up once nobody needs it.
#[derive(Debug)]
pub(crate) enum Sweep {
    /// A body chunk lost a reference.
    Body(u64),
    /// A stretch of a queue will never be read.
    Abandoned(QueueId, Range<Sequence>),
}

impl Sweep {
    /// What a turn leaves to clean up.
    pub(crate) fn of(turn: &mut Turn) -> Vec<Sweep> {
        let bodies = turn.bodies.drain(..).map(Sweep::Body);
        let abandoned = turn
            .abandoned
            .drain(..)
            .map(|(queue, range)| Sweep::Abandoned(queue, range));
        abandoned.chain(bodies).collect()
    }
}

/// Forgets body chunks without references, and what abandoned stretches of queues hold.
async fn sweep(inner: Arc<Inner>, mut sweeps: mpsc::UnboundedReceiver<Sweep>) {
    let store = inner.committer.store().clone();
    if let Err(error) = sweep_orphans(&inner).await {
        tracing::warn!(%error, "cannot look for bodies without references");
    }
    let mut waiting = Vec::new();
    while sweeps.recv_many(&mut waiting, 1024).await > 0 {
        // Commits are in order: once this one is through, so is every deletion that was reported.
        let settled = inner.committer.commit(Batch::new(), &[]).done.await;
        let mut bodies = FxHashSet::default();
        let mut batch = Batch::new();
        let mut result = settled;
        for sweep in waiting.drain(..) {
            match sweep {
                Sweep::Body(number) => drop(bodies.insert(number)),
                Sweep::Abandoned(queue, range) if result.is_ok() => {
                    result = drop_references(&store, queue, range, &mut batch, &mut bodies).await;
                }
                Sweep::Abandoned(..) => {}
            }
        }
        if result.is_ok() && !batch.is_empty() {
            result = inner.committer.commit(batch, &[]).done.await;
        }
        for number in bodies {
            if result.is_ok() {
                result = forget_body(&inner, number).await;
            }
        }
        if let Err(error) = result {
            tracing::debug!(%error, "sweep left undone until the next start");
        }
    }
}

async fn drop_references(
    store: &Arc<dyn Store>,
    queue: QueueId,
    range: Range<Sequence>,
    batch: &mut Batch,
    bodies: &mut FxHashSet<u64>,
) -> Result<(), StoreError> {
    let dialects = Dialects::new(Vec::new());
    let mut rest = keys::chunk_range(queue, range.start, range.end);
    while !rest.is_empty() {
        let page = store.scan(Table::Messages, rest.clone(), PAGE).await?;
        for (key, value) in page.entries {
            let first =
                keys::chunk_first(&key).ok_or_else(|| StoreError::Corrupt("chunk key".into()))?;
            for reference in messages::decode_chunk(value, &dialects)?
                .iter()
                .filter_map(|stored| stored.body)
            {
                batch.delete(
                    Table::State,
                    keys::body_reference(reference.number, queue, first),
                );
                bodies.insert(reference.number);
            }
            batch.delete(Table::Messages, key);
        }
        match page.next {
            Some(next) => rest.start = next,
            None => break,
        }
    }
    batch.forget(
        Table::Messages,
        keys::chunk_range(queue, range.start, range.end),
    );
    batch.forget(
        Table::State,
        keys::settled_range(queue, range.start, range.end),
    );
    Ok(())
}

async fn forget_body(inner: &Inner, number: u64) -> Result<(), StoreError> {
    let one = ScanLimit {
        entries: 1,
        bytes: usize::MAX,
    };
    let references = inner
        .committer
        .store()
        .scan(Table::State, keys::body_references(number), one)
        .await?;
    if !references.entries.is_empty() {
        return Ok(());
    }
    let mut batch = Batch::new();
    batch.delete(Table::Bodies, keys::body_chunk(number));
    batch.forget(
        Table::Bodies,
        keys::body_chunk(number)..keys::body_chunk(number + 1),
    );
    inner.committer.commit(batch, &[]).done.await
}

/// A kill between a settlement and its sweep leaves a body chunk without references.
async fn sweep_orphans(inner: &Inner) -> Result<(), StoreError> {
    let mut range = Bytes::new()..keys::body_chunk(inner.first_body_chunk());
    while !range.is_empty() {
        // Bodies are large: only their keys matter here, so a few at a time.
        let limit = ScanLimit {
            entries: 64,
            bytes: 1 << 20,
        };
        let page = inner
            .committer
            .store()
            .scan(Table::Bodies, range.clone(), limit)
            .await?;
        for (key, _) in &page.entries {
            if let Some(number) = keys::body_chunk_number(key) {
                forget_body(inner, number).await?;
            }
        }
        match page.next {
            Some(next) => range.start = next,
            None => break,
        }
    }
    Ok(())
}
