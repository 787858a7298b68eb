//! The thread that gives the disk space of forgotten ranges back.
//!
//! RocksDB drops what a tombstone hides when it happens to compact it, which may be never. So some
//! seconds after ranges were forgotten this thread compacts them. Large values are in blob files,
//! hence what is read and rewritten are keys; a blob file goes when all its values have gone. One
//! value that stays would keep a whole file: when a table's blob files are mostly garbage,
//! what is alive in them is moved together.

use std::{
    io,
    ops::Range,
    sync::{
        Arc,
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use bytes::Bytes;
use rocksdb::{BottommostLevelCompaction, CompactOptions};
use tracing::{debug, warn};
use trivium_core::store::Table;

use super::{Database, forgotten::Forgotten};

/// Ranges are collected for so long, so that a queue that is being drained is compacted a few times
/// and not for every range. The space is to come back within a minute.
const COLLECT: Duration = Duration::from_secs(10);
/// A table with fewer bytes on disk is left to RocksDB.
const TABLE_BYTES_MIN: u64 = 32 << 20;
/// More ranges than that are compacted as one that covers them all.
const RANGES_MAX: usize = 64;
/// Live blobs are moved together when there is more garbage than this and than live bytes.
const GARBAGE_BYTES_MIN: u64 = 128 << 20;

/// The way to the thread that reclaims.
pub(super) struct Reclaim {
    /// Bounded by the writer, which merges ranges and sends at most a thousand or so in a second.
    ranges: Option<Sender<(Table, Range<Bytes>)>>,
    thread: Option<JoinHandle<()>>,
}

impl Reclaim {
    pub(super) fn start(database: Arc<Database>) -> io::Result<Reclaim> {
        let (ranges, forgotten) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("store-reclaim".into())
            .spawn(move || run(&database, &forgotten))?;
        Ok(Reclaim {
            ranges: Some(ranges),
            thread: Some(thread),
        })
    }

    /// A tombstone was written over `range`.
    pub(super) fn forgotten(&self, table: Table, range: Range<Bytes>) {
        if let Some(ranges) = &self.ranges {
            let _ = ranges.send((table, range));
        }
    }

    /// Waits for the end of the thread; what it has not done is left to the next opening's writes.
    pub(super) fn stop(&mut self) {
        self.ranges = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(database: &Database, forgotten: &Receiver<(Table, Range<Bytes>)>) {
    let mut ranges = Forgotten::default();
    loop {
        let next = if ranges.is_empty() {
            forgotten.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            forgotten.recv_timeout(COLLECT)
        };
        match next {
            Ok((table, range)) => ranges.insert(table, range),
            Err(RecvTimeoutError::Timeout) => reclaim(database, &mut ranges),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn reclaim(database: &Database, forgotten: &mut Forgotten) {
    let mut by_table = Table::ALL.map(|_| Vec::new());
    for (table, range) in forgotten.take() {
        by_table[table as usize].push(range);
    }
    for (table, ranges) in Table::ALL.into_iter().zip(by_table) {
        let before = database.disk_bytes(table);
        if ranges.is_empty() || before.tables + before.blobs < TABLE_BYTES_MIN {
            continue;
        }
        for range in few(ranges) {
            compact(database, table, Some(range));
        }
        gather_live_blobs(database, table);
        let after = database.disk_bytes(table);
        let freed = (before.tables + before.blobs).saturating_sub(after.tables + after.blobs);
        debug!(
            table = table.name(),
            freed,
            left = after.tables + after.blobs,
            "reclaimed disk space"
        );
    }
}

/// The ranges, or the one that covers them.
fn few(ranges: Vec<Range<Bytes>>) -> Vec<Range<Bytes>> {
    match (ranges.first(), ranges.last()) {
        (Some(first), Some(last)) if ranges.len() > RANGES_MAX => {
            vec![first.start.clone()..last.end.clone()]
        }
        _ => ranges,
    }
}

fn compact(database: &Database, table: Table, range: Option<Range<Bytes>>) {
    let mut options = CompactOptions::default();
    options.set_exclusive_manual_compaction(false);
    if range.is_none() {
        // Otherwise values at the bottom, where there is nothing to merge them with, would stay put.
        options.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
    }
    let (start, end) = range.map(|range| (range.start, range.end)).unzip();
    database
        .rocks()
        .compact_range_cf_opt(database.family(table), start, end, &options);
}

fn gather_live_blobs(database: &Database, table: Table) {
    let disk = database.disk_bytes(table);
    if disk.garbage < GARBAGE_BYTES_MIN || disk.garbage < disk.blobs - disk.garbage {
        return;
    }
    let collect = |on: &str| {
        let options = [
            ("enable_blob_garbage_collection", on),
            ("blob_garbage_collection_age_cutoff", "1.0"),
        ];
        database
            .rocks()
            .set_options_cf(database.family(table), &options)
    };
    match collect("true") {
        Ok(()) => compact(database, table, None),
        Err(reason) => warn!(table = table.name(), %reason, "blob files keep their garbage"),
    }
    if let Err(reason) = collect("false") {
        warn!(table = table.name(), %reason, "blob files are collected in every compaction");
    }
}
