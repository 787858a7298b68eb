//! A [`Store`] on RocksDB: one column family per table, one thread that writes, a few that read.

mod database;
mod directory;
mod error;
mod forgotten;
mod options;
mod reader;
mod reclaim;
mod writer;

use std::{
    ops::Range,
    sync::{Arc, Weak},
};

use bytes::Bytes;
use trivium_core::store::{
    Batch, BoxFuture, Durability, Page, ScanLimit, Store, StoreError, Table,
};

use self::{database::Database, reader::Readers, writer::Writer};
pub use self::{error::OpenError, options::Options};

/// Opens the data directory, and creates it if it is not there or empty.
///
/// Directories that are not ours, of another format, in use or damaged are refused and left as they are.
pub fn open(options: Options) -> Result<Arc<RocksStore>, OpenError> {
    directory::prepare(&options.path)?;
    let database = Arc::new(Database::open(&options)?);
    let readers = Readers::start(&database).map_err(|error| OpenError::io(&options.path, error))?;
    let store = RocksStore {
        database: Arc::downgrade(&database),
        writer: Writer::start(database, readers.clone(), options.sync_interval)
            .map_err(|error| OpenError::io(&options.path, error))?,
        readers,
    };
    Ok(Arc::new(store))
}

/// An open data directory. Dropping the store closes it, and waits for that.
#[derive(Debug)]
pub struct RocksStore {
    /// Owned by the threads, so that closing the store can end it while this value lives on.
    database: Weak<Database>,
    writer: Writer,
    readers: Readers,
}

impl Store for RocksStore {
    fn commit(
        &self,
        batch: Batch,
        durability: Durability,
    ) -> BoxFuture<'static, Result<(), StoreError>> {
        self.writer.commit(batch, durability)
    }

    fn get(
        &self,
        table: Table,
        key: Bytes,
    ) -> BoxFuture<'static, Result<Option<Bytes>, StoreError>> {
        self.readers.read(move |database| database.get(table, &key))
    }

    fn scan(
        &self,
        table: Table,
        range: Range<Bytes>,
        limit: ScanLimit,
    ) -> BoxFuture<'static, Result<Page, StoreError>> {
        self.readers
            .read(move |database| database.scan(table, &range, limit))
    }

    fn close(&self) -> BoxFuture<'static, Result<(), StoreError>> {
        self.writer.close()
    }
}

/// Numbers about a store, for `/metrics`. Counters count from the opening.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Batches committed.
    pub commits: u64,
    /// Writes to RocksDB, each of all batches that were waiting for it.
    pub writes: u64,
    /// Key and value bytes committed.
    pub bytes_written: u64,
    /// Syncs of the write-ahead log.
    pub syncs: u64,
    /// Key and value bytes that wait for the writer.
    pub bytes_queued: u64,
    /// Bytes of tables and blob files on disk, without the write-ahead log.
    pub bytes_on_disk: u64,
    /// Bytes of memtables.
    pub memtable_bytes: u64,
    /// Whether RocksDB has stopped writes until compaction catches up.
    pub stopped: bool,
    /// Bytes per second to which RocksDB slows writes down; 0 is not at all.
    pub delayed_bytes_per_second: u64,
}

impl RocksStore {
    /// The numbers now. What RocksDB itself knows is 0 once the store is closed.
    pub fn statistics(&self) -> Statistics {
        let mut statistics = self.writer.statistics();
        if let Some(database) = self.database.upgrade() {
            database.measure(&mut statistics);
        }
        statistics
    }
}
