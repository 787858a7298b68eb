//! What RocksDB is told, with the reason at each value. The figures are in `docs/internals/storage.md`.

use std::{path::PathBuf, time::Duration};

use rocksdb::{BlockBasedOptions, Cache, DBRecoveryMode, LogLevel};
use trivium_core::store::Table;

/// How to open a data directory.
#[derive(Clone, Debug)]
pub struct Options {
    /// The data directory.
    pub path: PathBuf,
    /// Bytes for memtables and the block cache together. While memtables are being flushed they
    /// may for a moment take a half more.
    pub memory: usize,
    /// Syncs at this interval instead of for each commit at [`Durability::Synced`], which then means
    /// [`Durability::Written`].
    ///
    /// [`Durability::Synced`]: trivium_core::store::Durability::Synced
    /// [`Durability::Written`]: trivium_core::store::Durability::Written
    pub sync_interval: Option<Duration>,
}

impl Options {
    /// The defaults for a data directory.
    pub fn new(path: impl Into<PathBuf>) -> Options {
        Options {
            path: path.into(),
            memory: 160 << 20,
            sync_interval: None,
        }
    }
}

/// Options of the database and of each column family.
pub(super) fn tuned(
    options: &Options,
) -> (rocksdb::Options, Vec<(&'static str, rocksdb::Options)>) {
    let cache = Cache::new_lru_cache(options.memory / 5);
    let memtables = options.memory - options.memory / 5;
    let families = Table::ALL.map(|table| (table.name(), family(table, memtables, &cache)));
    (database(memtables), families.into())
}

fn database(memtables: usize) -> rocksdb::Options {
    let mut db = rocksdb::Options::default();
    db.create_if_missing(true);
    db.create_missing_column_families(true);
    // Whole batches up to the first damaged one: the contract's prefix. A torn tail is what a power
    // cut leaves of batches that nobody was told of.
    db.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    // A log file that was synced and is gone is noticed.
    db.set_track_and_verify_wals_in_manifest(true);

    db.set_db_write_buffer_size(memtables);
    // Rows that are seldom flushed (the catalog) would keep old log files; this bounds what an
    // opening replays, and with it the time it takes.
    db.set_max_total_wal_size(2 * memtables as u64);
    // One thread writes, so nothing is gained from the costlier concurrent insertion.
    db.set_allow_concurrent_memtable_write(false);
    // Flushes go through the page cache. Direct I/O halves the CPU time of a flood of appends, but then
    // a consumer a few seconds behind its producer reads from the disk, at three times the CPU time.
    // The disk gets what is written in even portions.
    db.set_bytes_per_sync(1 << 20);
    db.set_max_background_jobs(2);
    // Deleting a large file takes a while; not on the thread that drops an iterator.
    db.set_avoid_unnecessary_blocking_io(true);

    // The time to open must not grow with the number of files.
    db.set_max_open_files(512);
    db.set_skip_stats_update_on_db_open(true);
    // Nobody reads RocksDB's own statistics, and they take memory.
    db.set_stats_dump_period_sec(0);
    db.set_stats_persist_period_sec(0);
    db.set_log_level(LogLevel::Warn);
    db.set_keep_log_file_num(4);
    db.set_max_log_file_size(4 << 20);
    db
}

fn family(table: Table, memtables: usize, cache: &Cache) -> rocksdb::Options {
    let mut family = rocksdb::Options::default();
    // One fills and two are flushed; a table that is flooded then takes all, and no more.
    family.set_write_buffer_size(memtables / 3);
    family.set_max_write_buffer_number(3);
    family.set_block_based_table_factory(&blocks(table, cache));
    match table {
        Table::Records | Table::Messages | Table::Bodies => separate_values(&mut family),
        Table::Catalog | Table::State | Table::Retained | Table::Delayed => {}
    }
    family
}

/// Large values are written once, into blob files; what is sorted and compacted is keys and places.
/// A blob file goes when nothing in it is referred to any more, so forgetting costs no rewriting.
fn separate_values(family: &mut rocksdb::Options) {
    family.set_enable_blob_files(true);
    // Below this a read of its own costs more than being rewritten a few times.
    family.set_min_blob_size(4 << 10);
    family.set_blob_file_size(64 << 20);
    // Moving live values in every compaction tripled the CPU time per byte. The reclaim thread
    // switches it on where files are mostly garbage.
    family.set_enable_blob_gc(false);
}

fn blocks(table: Table, cache: &Cache) -> BlockBasedOptions {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(cache);
    // The index of a large store stays within the memory bound.
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    match table {
        // Read by single keys, often ones that are not there.
        Table::State | Table::Retained => blocks.set_bloom_filter(10.0, false),
        Table::Catalog | Table::Messages | Table::Bodies | Table::Records | Table::Delayed => {}
    }
    blocks
}
