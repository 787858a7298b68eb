//! The one thread that writes.
//!
//! It takes whatever commits have come while the last write was under way, writes them as one batch
//! with at most one sync, and completes them in order. So the batches grow with the load, and no
//! timer decides about them. The first write that fails is the last: what the log then holds is not
//! known, and only recovery can tell.

use std::{
    io,
    mem::take,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::{self, Receiver, RecvTimeoutError, Sender, TryRecvError},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_channel::oneshot;
use rocksdb::{WriteBatch, WriteOptions};
use tracing::error;
use trivium_core::store::{Batch, BoxFuture, Durability, StoreError, Table, Write};

use super::{
    Database, Readers, Statistics, error::store_error, forgotten::Forgotten, reclaim::Reclaim,
};

/// A write takes no more commits once it holds so many bytes: about two milliseconds of work.
const WRITE_BYTES_MAX: usize = 2 << 20;
/// Forgotten ranges wait so long to be merged with their neighbours …
const FORGET_AFTER: Duration = Duration::from_secs(1);
/// … or until there are so many …
const FORGOTTEN_MAX: usize = 1024;
/// … or so much was written, so that what lives for a short while dies in its memtable.
const FORGET_AFTER_BYTES: usize = 8 << 20;
/// What RocksDB adds to a write: sequence and count, then per entry a tag, the family and two lengths.
const HEADER_BYTES: usize = 12;
const ENTRY_BYTES: usize = 12;

struct Commit {
    batch: Batch,
    durability: Durability,
    done: oneshot::Sender<Result<(), StoreError>>,
}

enum Job {
    Commit(Commit),
    Close(oneshot::Sender<Result<(), StoreError>>),
}

/// The way to the thread that writes.
#[derive(Debug)]
pub(super) struct Writer {
    /// Bounded by the shards, which bound the bytes of the commits that they wait for.
    jobs: Sender<Job>,
    counters: Arc<Counters>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct Counters {
    commits: AtomicU64,
    writes: AtomicU64,
    bytes_written: AtomicU64,
    bytes_queued: AtomicU64,
    syncs: AtomicU64,
}

impl Writer {
    /// Starts the thread, which ends `readers` and the database when it ends.
    pub(super) fn start(
        database: Arc<Database>,
        readers: Readers,
        sync_interval: Option<Duration>,
    ) -> io::Result<Writer> {
        let (jobs, todo) = mpsc::channel();
        let counters = Arc::new(Counters::default());
        let reclaim = Reclaim::start(database.clone())?;
        let thread = Thread {
            database,
            readers,
            reclaim,
            counters: counters.clone(),
            sync_interval,
            sync_at: None,
            forgotten: Forgotten::default(),
            forget_at: None,
            unforgotten_bytes: 0,
            poison: None,
        };
        let thread = thread::Builder::new()
            .name("store-write".into())
            .spawn(move || thread.run(&todo))?;
        Ok(Writer {
            jobs,
            counters,
            thread: Mutex::new(Some(thread)),
        })
    }

    pub(super) fn commit(
        &self,
        batch: Batch,
        durability: Durability,
    ) -> BoxFuture<'static, Result<(), StoreError>> {
        let (done, result) = oneshot::channel();
        self.counters
            .bytes_queued
            .fetch_add(batch.bytes() as u64, Relaxed);
        // A send fails only when the thread has ended; then `done` is dropped and says so.
        let _ = self.jobs.send(Job::Commit(Commit {
            batch,
            durability,
            done,
        }));
        Box::pin(async move { result.await.unwrap_or(Err(StoreError::Closed)) })
    }

    pub(super) fn close(&self) -> BoxFuture<'static, Result<(), StoreError>> {
        let (done, result) = oneshot::channel();
        let _ = self.jobs.send(Job::Close(done));
        Box::pin(async move { result.await.unwrap_or(Ok(())) })
    }

    pub(super) fn statistics(&self) -> Statistics {
        Statistics {
            commits: self.counters.commits.load(Relaxed),
            writes: self.counters.writes.load(Relaxed),
            bytes_written: self.counters.bytes_written.load(Relaxed),
            bytes_queued: self.counters.bytes_queued.load(Relaxed),
            syncs: self.counters.syncs.load(Relaxed),
            ..Statistics::default()
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.close());
        let thread = self
            .thread
            .lock()
            .expect("no code panics while it holds the thread")
            .take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

/// What belongs to the thread alone.
struct Thread {
    database: Arc<Database>,
    readers: Readers,
    reclaim: Reclaim,
    counters: Arc<Counters>,
    sync_interval: Option<Duration>,
    /// When what was written since the last sync is synced, if there is an interval and something was.
    sync_at: Option<Instant>,
    forgotten: Forgotten,
    /// When `forgotten` is written. `None` while it is empty.
    forget_at: Option<Instant>,
    /// Bytes written since `forgotten` was.
    unforgotten_bytes: usize,
    poison: Option<StoreError>,
}

impl Thread {
    fn run(mut self, todo: &Receiver<Job>) {
        let mut commits = Vec::new();
        loop {
            let mut job = self.next(todo);
            let mut bytes = 0;
            while let Some(Job::Commit(commit)) = job {
                bytes += commit.batch.bytes();
                commits.push(commit);
                job = if bytes < WRITE_BYTES_MAX {
                    todo.try_recv().map_or_else(ended, Some)
                } else {
                    None
                };
            }
            if !commits.is_empty() {
                self.write_all(&mut commits, bytes);
            }
            self.keep_appointments();
            if let Some(Job::Close(done)) = job {
                return self.close(done);
            }
        }
    }

    /// Waits for a job, or until there is something to do without one.
    fn next(&self, todo: &Receiver<Job>) -> Option<Job> {
        let Some(at) = self.sync_at.into_iter().chain(self.forget_at).min() else {
            return todo.recv().map_or_else(|_| closed(), Some);
        };
        match todo.recv_timeout(at.saturating_duration_since(now())) {
            Ok(job) => Some(job),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => closed(),
        }
    }

    fn write_all(&mut self, commits: &mut Vec<Commit>, bytes: usize) {
        let entries: usize = commits
            .iter()
            .map(|commit| commit.batch.writes().len())
            .sum();
        let mut rows =
            WriteBatch::with_capacity_bytes(HEADER_BYTES + bytes + entries * ENTRY_BYTES);
        let mut sync = false;
        for commit in commits.iter_mut() {
            sync |= commit.durability == Durability::Synced;
            for write in take(&mut commit.batch).into_writes() {
                self.add(write, &mut rows);
            }
        }
        let result = self.write(rows, sync && self.sync_interval.is_none());

        self.unforgotten_bytes += bytes;
        let counters = &self.counters;
        counters.bytes_queued.fetch_sub(bytes as u64, Relaxed);
        if result.is_ok() {
            counters.commits.fetch_add(commits.len() as u64, Relaxed);
            counters.bytes_written.fetch_add(bytes as u64, Relaxed);
        }
        for commit in commits.drain(..) {
            let _ = commit.done.send(result.clone());
        }
    }

    fn add(&mut self, write: Write, rows: &mut WriteBatch) {
        match write {
            Write::Put(table, key, value) => {
                self.forget_before_put(table, &key, rows);
                rows.put_cf(self.database.family(table), key, value);
            }
            Write::Delete(table, key) => rows.delete_cf(self.database.family(table), key),
            Write::Forget(table, range) => self.forgotten.insert(table, range),
        }
    }

    /// A tombstone that was put off must not hide a row that came after it.
    fn forget_before_put(&mut self, table: Table, key: &Bytes, rows: &mut WriteBatch) {
        if let Some(range) = self.forgotten.take_range_of(table, key) {
            rows.delete_range_cf(self.database.family(table), range.start, range.end);
        }
    }

    fn write(&mut self, rows: WriteBatch, sync: bool) -> Result<(), StoreError> {
        if let Some(poison) = &self.poison {
            return Err(poison.clone());
        }
        if rows.is_empty() && !sync {
            return Ok(());
        }
        let mut options = WriteOptions::default();
        options.set_sync(sync);
        let result = self.database.rocks().write_opt(rows, &options);
        self.counters.writes.fetch_add(1, Relaxed);
        self.counters.syncs.fetch_add(sync.into(), Relaxed);
        if let (Some(interval), None) = (self.sync_interval, self.sync_at) {
            self.sync_at = Some(now() + interval);
        }
        self.poison_on_error(result)
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        if let Some(poison) = &self.poison {
            return Err(poison.clone());
        }
        self.sync_at = None;
        self.counters.syncs.fetch_add(1, Relaxed);
        let result = self.database.rocks().flush_wal(true);
        self.poison_on_error(result)
    }

    fn poison_on_error(&mut self, result: Result<(), rocksdb::Error>) -> Result<(), StoreError> {
        result.map_err(|reason| {
            error!(%reason, "a write failed, nothing more is written until a restart");
            self.poison = Some(StoreError::Poisoned(reason.as_ref().into()));
            store_error(&reason)
        })
    }

    /// Does what is due by the clock.
    fn keep_appointments(&mut self) {
        if self.forget_at.is_none() && !self.forgotten.is_empty() {
            self.forget_at = Some(now() + FORGET_AFTER);
        }
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now());
        let many =
            self.forgotten.len() > FORGOTTEN_MAX || self.unforgotten_bytes > FORGET_AFTER_BYTES;
        if !self.forgotten.is_empty() && (many || due(self.forget_at)) {
            self.forget();
        }
        if due(self.sync_at) {
            let _ = self.sync();
        }
    }

    /// Writes the tombstones that were put off. Nobody waits for them: a failure poisons the store.
    fn forget(&mut self) {
        self.forget_at = None;
        self.unforgotten_bytes = 0;
        let mut rows = WriteBatch::default();
        for (table, range) in self.forgotten.take() {
            rows.delete_range_cf(self.database.family(table), &range.start, &range.end);
            self.reclaim.forgotten(table, range);
        }
        let _ = self.write(rows, false);
    }

    /// Makes everything durable and ends every thread that has the database open, and so the database.
    fn close(mut self, done: oneshot::Sender<Result<(), StoreError>>) {
        self.forget();
        let result = self.sync();
        self.readers.stop();
        self.database.rocks().cancel_all_background_work(false);
        self.reclaim.stop();
        drop(self.database);
        let _ = done.send(result);
    }
}

/// The store was dropped: as a close that nobody waits for.
fn closed() -> Option<Job> {
    Some(Job::Close(oneshot::channel().0))
}

fn ended(error: TryRecvError) -> Option<Job> {
    match error {
        TryRecvError::Empty => None,
        TryRecvError::Disconnected => closed(),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "when to sync and to forget is between this thread and the disk"
)]
fn now() -> Instant {
    Instant::now()
}
