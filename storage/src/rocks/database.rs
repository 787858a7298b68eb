//! RocksDB with a column family per table, and what is read from it.

use std::ops::Range;

use bytes::Bytes;
use rocksdb::{ColumnFamily, DB, ReadOptions};
use trivium_core::store::{Page, ScanLimit, StoreError, Table};

use super::{OpenError, Options, Statistics, directory, error::store_error, options};

/// An open RocksDB.
pub(super) struct Database(DB);

impl Database {
    pub(super) fn open(options: &Options) -> Result<Database, OpenError> {
        let folder = directory::rocksdb(&options.path);
        let (database, families) = options::tuned(options);
        DB::open_cf_with_opts(&database, folder, families)
            .map(Database)
            .map_err(|error| OpenError::rocks(&options.path, &error))
    }

    pub(super) fn rocks(&self) -> &DB {
        &self.0
    }

    pub(super) fn family(&self, table: Table) -> &ColumnFamily {
        self.0
            .cf_handle(table.name())
            .expect("every table's column family is opened")
    }

    pub(super) fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let found = self
            .0
            .get_pinned_cf(self.family(table), key)
            .map_err(|error| store_error(&error))?;
        Ok(found.map(|value| Bytes::copy_from_slice(&value)))
    }

    /// Reads one page. The iterator lives no longer than that, because files that were compacted away
    /// stay on disk while an iterator can see them.
    pub(super) fn scan(
        &self,
        table: Table,
        range: &Range<Bytes>,
        limit: ScanLimit,
    ) -> Result<Page, StoreError> {
        let mut page = Page::default();
        if range.is_empty() {
            return Ok(page);
        }
        let mut read = ReadOptions::default();
        read.set_iterate_upper_bound(range.end.as_ref());
        let mut rows = self.0.raw_iterator_cf_opt(self.family(table), read);
        rows.seek(&range.start);

        let mut bytes = 0usize;
        while let Some((key, value)) = rows.item() {
            bytes = bytes.saturating_add(key.len() + value.len());
            let full = page.entries.len() >= limit.entries || bytes > limit.bytes;
            if full && !page.entries.is_empty() {
                page.next = Some(Bytes::copy_from_slice(key));
                break;
            }
            page.entries
                .push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
            rows.next();
        }
        rows.status().map_err(|error| store_error(&error))?;
        Ok(page)
    }

    /// Bytes of a table's files, and how many of those hold nothing that is still wanted.
    pub(super) fn disk_bytes(&self, table: Table) -> DiskBytes {
        let blobs = self.number(table, "rocksdb.live-blob-file-size");
        DiskBytes {
            tables: self.number(table, "rocksdb.live-sst-files-size"),
            garbage: self
                .number(table, "rocksdb.live-blob-file-garbage-size")
                .min(blobs),
            blobs,
        }
    }

    /// Fills in what only RocksDB knows.
    pub(super) fn measure(&self, statistics: &mut Statistics) {
        for table in Table::ALL {
            let disk = self.disk_bytes(table);
            statistics.bytes_on_disk += disk.tables + disk.blobs;
            statistics.memtable_bytes += self.number(table, "rocksdb.size-all-mem-tables");
        }
        // Both are of the whole database, whichever table is asked.
        statistics.stopped = self.number(Table::State, "rocksdb.is-write-stopped") != 0;
        statistics.delayed_bytes_per_second =
            self.number(Table::State, "rocksdb.actual-delayed-write-rate");
    }

    fn number(&self, table: Table, property: &str) -> u64 {
        self.0
            .property_int_value_cf(self.family(table), property)
            .ok()
            .flatten()
            .unwrap_or_default()
    }
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Database").field(&self.0.path()).finish()
    }
}

/// Bytes of the files of one table.
pub(super) struct DiskBytes {
    /// Of sorted tables.
    pub(super) tables: u64,
    /// Of blob files.
    pub(super) blobs: u64,
    /// Of blobs that nothing refers to.
    pub(super) garbage: u64,
}
