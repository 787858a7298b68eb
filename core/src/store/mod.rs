//! The storage seam: byte keys, a handful of tables, atomic batches.
//!
//! The contract, each line a test in [`conformance`] that every backend runs:
//!
//! 1. A batch is all or nothing.
//! 2. `commit` takes its place in the order of commits when it is *called*, not when it is polled.
//! 3. What survives a crash is a prefix of what was committed.
//! 4. When a commit at [`Durability::Synced`] resolves, it and every earlier batch survive a crash.
//! 5. When any commit resolves, it and every earlier batch are visible to `get` and `scan`.
//! 6. `scan` is ascending by key, bounded, and says where to go on.
//! 7. After one failed write every later commit fails with [`StoreError::Poisoned`].
//! 8. [`Batch::forget`] is a hint: the keys may stay visible; the core keeps its own low-water
//!    marks and never reads below them. [`Batch::delete`] is not a hint.

#[cfg(any(test, feature = "testing"))]
pub mod conformance;
pub(crate) mod keys;
pub mod memory;
pub(crate) mod messages;
pub(crate) mod sessions;
pub(crate) mod values;

use std::{future::Future, ops::Range, pin::Pin, sync::Arc};

use bytes::Bytes;

/// A boxed future, so that the seam stays `dyn`; one allocation per batch.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a backend must offer. See the module for the contract.
pub trait Store: Send + Sync + 'static {
    /// Enqueues a batch; the future resolves once it has reached `durability`.
    fn commit(
        &self,
        batch: Batch,
        durability: Durability,
    ) -> BoxFuture<'static, Result<(), StoreError>>;

    /// The value of one key.
    fn get(
        &self,
        table: Table,
        key: Bytes,
    ) -> BoxFuture<'static, Result<Option<Bytes>, StoreError>>;

    /// A page of the keys in `[range.start, range.end)`, ascending. At least one entry is returned
    /// when one exists, however large it is.
    fn scan(
        &self,
        table: Table,
        range: Range<Bytes>,
        limit: ScanLimit,
    ) -> BoxFuture<'static, Result<Page, StoreError>>;

    /// Waits for everything enqueued, makes it durable and releases the store; later commits fail
    /// with [`StoreError::Closed`].
    fn close(&self) -> BoxFuture<'static, Result<(), StoreError>>;
}

/// The tables of the store. A backend may tune each for what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Table {
    /// Declared things: few, small, read once when the broker opens.
    Catalog,
    /// Small rows that are overwritten often: queue and partition states, settled bitmaps,
    /// group offsets, deduplication.
    State,
    /// Chunks of queue messages: written once, read at most a few times in key order, soon forgotten.
    Messages,
    /// Bodies that several queues share: as `Messages`, larger values.
    Bodies,
    /// Record batches of logs: written once in key order, large values, scanned, forgotten by age.
    Records,
    /// Retained messages by topic.
    Retained,
    /// Messages that wait at delayed exchanges, by exchange and due time.
    Delayed,
}

impl Table {
    /// Every table, for a backend that prepares them.
    pub const ALL: [Table; 7] = [
        Table::Catalog,
        Table::State,
        Table::Messages,
        Table::Bodies,
        Table::Records,
        Table::Retained,
        Table::Delayed,
    ];

    /// A stable name, part of the on-disk format.
    pub fn name(self) -> &'static str {
        match self {
            Table::Catalog => "catalog",
            Table::State => "state",
            Table::Messages => "messages",
            Table::Bodies => "bodies",
            Table::Records => "records",
            Table::Retained => "retained",
            Table::Delayed => "delayed",
        }
    }
}

/// How far a commit must have got when it resolves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// In the store, at the backend's leisure.
    Buffered,
    /// Survives the kill of this process.
    Written,
    /// Survives a power cut.
    Synced,
}

/// One write of a [`Batch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Sets a key.
    Put(Table, Bytes, Bytes),
    /// Removes a key.
    Delete(Table, Bytes),
    /// Hints that no key in the range will be read again.
    Forget(Table, Range<Bytes>),
}

/// Writes that happen together or not at all, in order.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    writes: Vec<Write>,
    bytes: usize,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Batch {
        Batch::default()
    }

    /// Sets `key` to `value`.
    pub fn put(&mut self, table: Table, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        let (key, value) = (key.into(), value.into());
        self.bytes += key.len() + value.len();
        self.writes.push(Write::Put(table, key, value));
    }

    /// Removes `key`.
    pub fn delete(&mut self, table: Table, key: impl Into<Bytes>) {
        let key = key.into();
        self.bytes += key.len();
        self.writes.push(Write::Delete(table, key));
    }

    /// Hints that the keys in `[range.start, range.end)` will never be read again.
    pub fn forget(&mut self, table: Table, range: Range<Bytes>) {
        self.bytes += range.start.len() + range.end.len();
        self.writes.push(Write::Forget(table, range));
    }

    /// Appends the writes of `other`.
    pub fn append(&mut self, mut other: Batch) {
        if self.writes.is_empty() {
            *self = other;
            return;
        }
        self.bytes += other.bytes;
        self.writes.append(&mut other.writes);
    }

    /// The writes, in order.
    pub fn writes(&self) -> &[Write] {
        &self.writes
    }

    /// The writes, in order, by value.
    pub fn into_writes(self) -> Vec<Write> {
        self.writes
    }

    /// Key and value bytes, for limits and metrics.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }
}

/// Where a scan stops: at whichever comes first.
#[derive(Clone, Copy, Debug)]
pub struct ScanLimit {
    /// Entries at most.
    pub entries: usize,
    /// Key and value bytes at most; the first entry is returned even when it is larger.
    pub bytes: usize,
}

/// What a scan found.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// Keys and values, ascending by key.
    pub entries: Vec<(Bytes, Bytes)>,
    /// The first key that was not looked at, when the limit and not the range ended the scan.
    pub next: Option<Bytes>,
}

/// Why the store could not do something.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The write or read failed; what was not acknowledged may or may not be there.
    #[error("storage is unavailable: {0}")]
    Unavailable(Arc<str>),
    /// Stored bytes do not match their checksum or format.
    #[error("stored data is corrupt: {0}")]
    Corrupt(Arc<str>),
    /// An earlier write failed, so nothing more is written until the broker is restarted.
    #[error("storage stopped after a failed write: {0}")]
    Poisoned(Arc<str>),
    /// The store was closed.
    #[error("storage is closed")]
    Closed,
}

impl StoreError {
    /// What is stored makes no sense, because of this.
    pub(crate) fn corrupt(reason: impl std::fmt::Display) -> StoreError {
        StoreError::Corrupt(reason.to_string().into())
    }
}
