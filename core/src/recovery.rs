//! Reading the store: when the broker opens, and ahead of consumers.

use std::{collections::hash_map::Entry, ops::Range, panic::AssertUnwindSafe, sync::Arc};

use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use rustc_hash::FxHashMap;
use tokio::{sync::mpsc, task::JoinSet};

use crate::{
    backfill,
    broker::{Inner, Options, shard_of_name, shard_of_queue},
    catalog::{Catalog, LogEntry, Routes},
    compactor, dead_letters,
    delay::{self, DelayEntry, Waiting, mover},
    event::Refusal,
    group::Groups,
    id::{LogId, QueueId, Sequence},
    log::TailBudget,
    queue::{CursorRead, DueWill, Loaded, LoadedChunk, Read},
    retained::Quota,
    shard::{self, Inboxes, Op, Place, Services, Shard},
    share_letters,
    store::{
        Batch, Durability, Page, ScanLimit, Store, StoreError, Table, keys,
        messages::{self, Dialects, Progress, QueueCounters, Stored},
        sessions::{SessionRow, WillRow},
        values,
    },
    sweep, tap,
    time::Now,
    topic::Grammar,
    transaction::{self, Coordinator},
    wills,
};

/// What a scan returns at once when everything is wanted.
pub(crate) const PAGE: ScanLimit = ScanLimit {
    entries: 4096,
    bytes: 1 << 20,
};

/// What was found in the store.
pub(crate) struct Recovered {
    pub(crate) catalog: Catalog,
    pub(crate) shards: Vec<Shard>,
    pub(crate) transactions: Coordinator,
    /// What queues have in the store.
    pub(crate) stored: sweep::Stored,
    /// Wills of sessions that have ended.
    pub(crate) wills: Vec<DueWill>,
    /// How far bindings by way of logs are.
    pub(crate) feeds: backfill::Positions,
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
    let (mut catalog, mut cleanup) = Catalog::recover(
        scan_all(store, Table::Catalog, everything()).await?,
        options.user.as_ref(),
    )?;
    catalog.set_default_queue_type(options.default_queue_type);
    let epoch = next_epoch(store, &mut cleanup).await?;
    // What transient queues of earlier processes left behind is never taken for a new one's.
    catalog.skip_ids_to(epoch << 32);
    catalog.limit_subscriptions(options.session_subscriptions_max);
    catalog.limit(options.limits);
    let quota = Arc::new(Quota::new(
        options.retained_messages_max,
        options.retained_bytes_max,
    ));
    let (count, tails) = (options.shards, TailBudget::new(options.log_memory));
    let mut shards: Vec<Shard> = (0..count)
        .map(|index| {
            let groups = Groups::new(options.initial_rebalance_delay, options.groups);
            Shard::new(
                Place { index, count },
                options.queue_memory / count,
                tails.clone(),
                groups,
                quota.clone(),
            )
        })
        .collect();
    let mut counters = queue_counters(store).await?;
    let mut stored = sweep::Stored::default();
    for entry in catalog.queues() {
        let found = counters.remove(&entry.id);
        stored
            .0
            .extend(found.clone().map(|found| (entry.id, found)));
        shards[shard_of_queue(entry.id, count)].recover_queue(entry.clone(), found, now);
    }
    for gone in counters.into_keys() {
        cleanup.delete(Table::State, keys::queue_state(gone));
    }
    let wills = recover_sessions(store, &catalog, &dialects, &mut shards, now).await?;
    let routes = catalog.routes();
    let delays: Vec<Arc<DelayEntry>> = routes.delays().cloned().collect();
    forget_delayed(store, &delays, &mut cleanup).await?;
    for (index, shard) in shards.iter_mut().enumerate() {
        let own = |delay: &&Arc<DelayEntry>| shard_of_queue(QueueId(delay.id), count) == index;
        let own = delays.iter().filter(own).cloned().collect();
        shard.recover_delays(own, epoch << 32);
    }
    let logs: Vec<_> = catalog.logs().cloned().collect();
    for shard in &mut shards {
        shard.recover_logs(&**store, &logs).await?;
    }
    for (key, value) in scan_all(store, Table::State, keys::all_group_settings()).await? {
        let name = keys::group_parts(key)
            .ok_or_else(|| StoreError::Corrupt("key of a group's settings".into()))?;
        shards[shard_of_name(&name.1, count)].recover_group_settings(name, value)?;
    }
    for (key, value) in scan_all(store, Table::State, keys::all_group_members()).await? {
        let name = keys::group_parts(key)
            .ok_or_else(|| StoreError::Corrupt("key of a group's members".into()))?;
        shards[shard_of_name(&name.1, count)].recover_group_members(now, name, value)?;
    }
    for (key, value) in scan_all(store, Table::State, keys::all_group_kinds()).await? {
        let name = keys::group_parts(key)
            .ok_or_else(|| StoreError::Corrupt("key of a group's kind".into()))?;
        shards[shard_of_name(&name.1, count)].recover_group_kind(name, value)?;
    }
    for (key, value) in scan_all(store, Table::State, keys::all_group_offsets()).await? {
        let group = crate::group::stored_group(&key)?;
        shards[shard_of_name(&group, count)].recover_group_offset(&key, value)?;
    }
    for (key, value) in scan_all(store, Table::State, keys::all_pending_offsets()).await? {
        let (_, group, ..) = keys::pending_offset_parts(key.clone())
            .ok_or_else(|| StoreError::Corrupt("key of an offset to be committed".into()))?;
        shards[shard_of_name(&group, count)].recover_pending_offset(&key, value)?;
    }
    for (key, value) in scan_all(store, Table::State, keys::share_windows()).await? {
        let (_, group, ..) = keys::share_window_parts(key.clone())
            .ok_or_else(|| StoreError::Corrupt("key of a share group's partition".into()))?;
        shards[shard_of_name(&group, count)].recover_share(&key, value)?;
    }
    for (key, value) in scan_all(store, Table::State, keys::cursors()).await? {
        let (queue, partition) =
            keys::cursor_parts(&key).ok_or_else(|| StoreError::corrupt("key of a cursor"))?;
        let shard = &mut shards[shard_of_queue(queue, count)];
        if !shard.recover_cursor(queue, partition, value)? {
            cleanup.delete(Table::State, key);
        }
    }
    let feeds = recover_feeds(store, &routes, &mut cleanup).await?;
    recover_fills(store, &logs, &mut cleanup).await?;
    let transactions = recover_transactions(store, now, &catalog, &shards).await?;
    for (key, value) in scan_all(store, Table::Retained, everything()).await? {
        let vhost =
            keys::retained_vhost(&key).ok_or_else(|| StoreError::Corrupt("retained key".into()))?;
        let (message, accepted) = messages::decode_retained(value, &dialects)?;
        let shard = shard_of_name(&message.topic.render(Grammar::Slashes), count);
        shards[shard].recover_retained(vhost, message, accepted);
    }
    let mut partitions: Vec<_> = shards.iter().flat_map(Shard::partition_bounds).collect();
    partitions.sort_unstable_by_key(|(id, _)| *id);
    sweep::forget_leftovers(store, &stored, &partitions, &mut cleanup).await?;
    store.commit(cleanup, Durability::Written).await?;
    Ok(Recovered {
        catalog,
        shards,
        transactions,
        stored,
        wills,
        feeds,
        epoch,
    })
}

/// How far bindings by way of logs are; what was of others is forgotten.
async fn recover_feeds(
    store: &Arc<dyn Store>,
    routes: &Routes,
    cleanup: &mut Batch,
) -> Result<backfill::Positions, StoreError> {
    let mut positions = backfill::Positions::default();
    for (key, value) in scan_all(store, Table::State, keys::feeds()).await? {
        let at =
            keys::feed_parts(key.clone()).ok_or_else(|| StoreError::corrupt("key of a feed"))?;
        match routes.has_feed(at.1, at.0) {
            true => drop(positions.insert(at, values::read_position(value)?)),
            false => cleanup.delete(Table::State, key),
        }
    }
    Ok(positions)
}

/// What of partitions is still to be retained, since their logs became retained stores.
async fn recover_fills(
    store: &Arc<dyn Store>,
    logs: &[Arc<LogEntry>],
    cleanup: &mut Batch,
) -> Result<(), StoreError> {
    let tail = |(log, partition): (LogId, u32)| {
        let mut logs = logs.iter();
        let entry = logs.find(|it| it.info.id == log && it.settings.retain_map)?;
        entry.tails.get(partition as usize)
    };
    for (key, value) in scan_all(store, Table::State, keys::fills()).await? {
        let at = keys::state_partition(&key).ok_or_else(|| StoreError::corrupt("key of a fill"))?;
        match tail(at) {
            Some(tail) => tail.set_fill(Some(values::read_position(value)?)),
            None => cleanup.delete(Table::State, key),
        }
    }
    Ok(())
}

/// Transactional ids, and what of their transactions was open when the broker went down.
async fn recover_transactions(
    store: &Arc<dyn Store>,
    now: Now,
    catalog: &Catalog,
    shards: &[Shard],
) -> Result<Coordinator, StoreError> {
    let mut coordinator = Coordinator::new();
    for (key, value) in scan_all(store, Table::State, keys::transactions()).await? {
        let name = keys::transaction_parts(key)
            .ok_or_else(|| StoreError::Corrupt("key of a transactional id".into()))?;
        coordinator.recover(name, value)?;
    }
    let names: FxHashMap<_, _> = catalog
        .logs()
        .map(|entry| (entry.info.id, entry.info.name.clone()))
        .collect();
    let open = shards.iter().flat_map(Shard::open_transactions);
    let named = open.filter_map(|(producer, partition)| {
        Some((producer, partition, names.get(&partition.0)?.clone()))
    });
    coordinator.resume(now, named, shards.iter().flat_map(Shard::pending_offsets));
    Ok(coordinator)
}

/// What sessions know besides their messages. Rows of those that are not there any more have left their wills,
/// which are returned.
async fn recover_sessions(
    store: &Arc<dyn Store>,
    catalog: &Catalog,
    dialects: &Dialects,
    shards: &mut [Shard],
    now: Now,
) -> Result<Vec<DueWill>, StoreError> {
    let id = |key: &Bytes| {
        keys::queue_of_state(key).ok_or_else(|| StoreError::Corrupt("session key".into()))
    };
    let mut wills = FxHashMap::default();
    for (key, value) in scan_all(store, Table::State, keys::all_wills()).await? {
        wills.insert(id(&key)?, WillRow::decode(value, dialects)?);
    }
    let mut rows = FxHashMap::default();
    for (key, value) in scan_all(store, Table::State, keys::all_sessions()).await? {
        rows.insert(id(&key)?, SessionRow::decode(value)?);
    }
    let count = shards.len();
    for entry in catalog.queues().filter(|entry| entry.spec.session) {
        let (row, will) = (rows.remove(&entry.id), wills.remove(&entry.id));
        shards[shard_of_queue(entry.id, count)].recover_session(entry.id, row, will, now);
    }
    let due = wills.into_iter().map(|(queue, will)| DueWill {
        queue,
        message: will.message,
    });
    Ok(due.collect())
}

/// Forgets what waits at exchanges that are not there any more.
async fn forget_delayed(
    store: &Arc<dyn Store>,
    delays: &[Arc<DelayEntry>],
    batch: &mut Batch,
) -> Result<(), StoreError> {
    let mut ids: Vec<Option<u64>> = delays.iter().map(|delay| Some(delay.id)).collect();
    ids.sort_unstable();
    let afters = std::iter::once(None).chain(ids.iter().copied());
    let befores = ids.iter().copied().chain(std::iter::once(None));
    for (after, before) in afters.zip(befores) {
        let range = keys::delayed_between(after, before);
        let one = ScanLimit {
            entries: 1,
            bytes: 1,
        };
        let page = store.scan(Table::Delayed, range.clone(), one).await?;
        if !page.entries.is_empty() {
            batch.forget(Table::Delayed, range);
        }
    }
    Ok(())
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
) -> Result<FxHashMap<QueueId, QueueCounters>, StoreError> {
    let rows = scan_all(store, Table::State, keys::queue_states()).await?;
    rows.into_iter()
        .map(|(key, value)| {
            let id = keys::queue_of_state(&key)
                .ok_or_else(|| StoreError::Corrupt("queue state key".into()))?;
            Ok((id, QueueCounters::decode(value)?))
        })
        .collect()
}

pub(crate) fn everything() -> Range<Bytes> {
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
    stored: sweep::Stored,
    feeds: backfill::Positions,
    ended: Vec<DueWill>,
    inboxes: Vec<Inboxes>,
    options: &Options,
) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let (idle, mut idle_queues) = mpsc::unbounded_channel();
    let (wills, due_wills) = mpsc::unbounded_channel();
    for will in ended {
        // The receiver is here.
        let _ = wills.send(will);
    }
    let (compactor, compactions) = mpsc::unbounded_channel();
    let (sweeper, sweeps) = mpsc::unbounded_channel();
    // Bounded by what each shard lets be moved at once.
    let (due, ready) = mpsc::unbounded_channel();
    let (dead, letters) = mpsc::unbounded_channel();
    let (given_up, share_letters_inbox) = mpsc::unbounded_channel();
    let positions = shards.iter().flat_map(Shard::tap_positions).collect();
    let services = Services {
        committer: inner.committer.clone(),
        metrics: inner.metrics.clone(),
        loader: Loader {
            store: inner.committer.store().clone(),
            dialects: Dialects::new(options.dialects.clone()),
        },
        dead,
        share_letters: given_up,
        idle,
        wills,
        due,
        compactor,
        sweeper,
        tap: inner.taps.clone(),
        feeds: inner.feeds.clone(),
        clock: options.clock,
    };
    for (shard, inboxes) in shards.into_iter().zip(inboxes) {
        let (running, metrics) = (
            shard::run(shard, inboxes, services.clone()),
            inner.metrics.clone(),
        );
        tasks.spawn(async move {
            // Others would wait for its parts for ever: a panic ends the broker as a failed write does.
            if AssertUnwindSafe(running).catch_unwind().await.is_err() {
                metrics.storage_failed(&StoreError::Unavailable("a shard has panicked".into()));
            }
        });
    }
    tasks.spawn(compactor::run(inner.clone(), compactions));
    tasks.spawn(dead_letters::run(inner.clone(), letters));
    tasks.spawn(share_letters::run(inner.clone(), share_letters_inbox));
    tasks.spawn(sweep::run(inner.clone(), stored, sweeps));
    tasks.spawn(wills::run(inner.clone(), due_wills));
    tasks.spawn(mover::run(inner.clone(), ready));
    tasks.spawn(backfill::run(inner.clone(), inner.feeds.clone(), feeds));
    tasks.spawn(tap::run(inner.clone(), inner.taps.clone(), positions));
    tasks.spawn(transaction::run(inner.clone()));
    let broker = inner.clone();
    tasks.spawn(async move {
        broker.remove_unused_groups().await;
        while let Some((queue, told)) = idle_queues.recv().await {
            broker.remove_idle_queue(queue).await;
            if let Some((mailbox, event)) = told {
                mailbox.put(vec![event]);
            }
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
            let from = range.start;
            let found = loader.read(queue, range, bytes).await.map_err(|error| {
                tracing::error!(%queue, %error, "cannot read the backlog of a queue");
                Refusal::from(error)
            });
            let loaded = Box::new(Loaded { from, found });
            Op::Loaded { queue, loaded }
        })
    }

    /// Reads of a log for a cursor; the operation gives it to the queue.
    pub(crate) fn load_log(&self, read: CursorRead) -> BoxFuture<'static, Op> {
        let store = self.store.clone();
        Box::pin(async move {
            let CursorRead {
                queue,
                scan,
                from,
                bytes,
                wait,
                ..
            } = &read;
            let found = scan.read(store, from, *bytes, *wait).await;
            Op::LogLoaded {
                queue: *queue,
                loaded: Box::new(read.done(found)),
            }
        })
    }

    /// Reads a page of what waits at a delayed exchange; the operation gives it to the shard.
    pub(crate) fn load_delayed(&self, read: &delay::Read) -> BoxFuture<'static, Op> {
        let (loader, read) = (self.clone(), Box::new(read.clone()));
        Box::pin(async move {
            let found = loader.read_delayed(&read).await;
            Op::DelayedRead { read, found }
        })
    }

    async fn read_delayed(&self, read: &delay::Read) -> delay::Found {
        let page = self
            .store
            .scan(Table::Delayed, delay::range(read), PAGE)
            .await?;
        let due = |key: &[u8]| {
            keys::delayed_due(key).ok_or_else(|| StoreError::corrupt("key of a delayed message"))
        };
        let found = page
            .entries
            .into_iter()
            .map(|(key, value)| Ok((due(&key)?, Waiting::decode(value, &self.dialects)?)));
        let found = found.collect::<Result<_, StoreError>>()?;
        Ok((found, page.next.as_deref().map(due).transpose()?))
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
        let mut progress = self.progress(queue, range.start, read_to).await?;
        let mut bodies = FxHashMap::default();
        let mut chunks = Vec::with_capacity(page.entries.len());
        for (key, value) in page.entries {
            let first =
                keys::chunk_first(&key).ok_or_else(|| StoreError::Corrupt("chunk key".into()))?;
            let bytes = value.len();
            let messages = match self.messages(value, &mut bodies).await {
                Ok(messages) => messages,
                // What comes before the damage is good; the next read meets the damage first.
                Err(_) if !chunks.is_empty() => return Ok((chunks, first)),
                Err(error) => return Err(error),
            };
            chunks.push(LoadedChunk {
                first,
                messages,
                progress: progress.remove(&first).unwrap_or_default(),
                bytes,
            });
        }
        Ok((chunks, read_to))
    }

    async fn messages(
        &self,
        chunk: Bytes,
        bodies: &mut FxHashMap<u64, Vec<Bytes>>,
    ) -> Result<Vec<Stored>, StoreError> {
        let mut messages = messages::decode_chunk(chunk, &self.dialects)?;
        for stored in &mut messages {
            self.add_body(stored, bodies).await?;
        }
        Ok(messages)
    }

    async fn progress(
        &self,
        queue: QueueId,
        from: Sequence,
        to: Sequence,
    ) -> Result<FxHashMap<Sequence, Progress>, StoreError> {
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
                Ok((first, messages::decode_progress(first, value)?))
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
