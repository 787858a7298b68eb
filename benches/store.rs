//! The RocksDB store under the loads of queues, logs and state rows.
//!
//! `cargo bench -p trivium-storage [name]`; `TRIVIUM_BENCH_DIR` chooses the disk (default: the
//! current directory). Prints rates, CPU seconds of the whole process per GB, and bytes written to
//! the disk per byte committed.

#![allow(clippy::print_stdout, clippy::disallowed_methods, clippy::unwrap_used)]

use std::{
    collections::VecDeque,
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::future::join_all;
use trivium_core::store::{Batch, Durability, ScanLimit, Store, Table};
use trivium_storage::{Options, RocksStore, open};

const GB: f64 = 1e9;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let only = std::env::args()
        .skip(1)
        .find(|argument| !argument.starts_with('-'));
    println!(
        "{:<34} {:>9} {:>11} {:>9} {:>9} {:>9}",
        "load", "MB/s", "batches/s", "CPU s/GB", "disk/byte", "RSS MB"
    );
    let wanted = |name: &str| only.as_deref().is_none_or(|only| name.starts_with(only));
    if wanted("open") {
        runtime.block_on(opening());
    }
    for (name, value) in [
        ("log-16k", 16 << 10),
        ("log-64k", 64 << 10),
        ("log-256k", 256 << 10),
    ] {
        if wanted(name) {
            runtime.block_on(log(name, value));
        }
    }
    for (name, backlog) in [("queue-short", 16), ("queue-backlog", 20_000)] {
        if wanted(name) {
            runtime.block_on(queue(name, backlog));
        }
    }
    for (name, durability) in [
        ("state-os", Durability::Written),
        ("state-sync", Durability::Synced),
    ] {
        if wanted(name) {
            runtime.block_on(state(name, durability));
        }
    }
    if wanted("forget") {
        runtime.block_on(forget());
    }
    if wanted("drain") {
        runtime.block_on(drain());
    }
}

/// How long an empty directory takes to open, and one after a kill with full memtables.
async fn opening() {
    let folder = folder();
    let start = Instant::now();
    let store = open(Options::new(folder.path())).unwrap();
    println!(
        "open, empty directory: {:.0?}, RSS {} MB",
        start.elapsed(),
        rss_mb()
    );
    for n in 0..2000 {
        let mut batch = Batch::new();
        batch.put(Table::Messages, key(n), vec![1; 30_000]);
        store.commit(batch, Durability::Written).await.unwrap();
    }
    drop(store);
    let start = Instant::now();
    let _store = open(Options::new(folder.path())).unwrap();
    println!("open, 60 MB in the log:  {:.0?}", start.elapsed());
}

/// Record batches appended to 16 partitions, then read back.
async fn log(name: &str, value: usize) {
    const BYTES: usize = 2 << 30;
    let folder = folder();
    let store = open(Options::new(folder.path())).unwrap();
    let body = noise(value);
    let mut window = VecDeque::new();
    let load = Load::begin(name);
    for n in 0..BYTES / value {
        let mut batch = Batch::new();
        batch.put(Table::Records, partition_key(n % 16, n / 16), body.clone());
        batch.put(
            Table::State,
            Bytes::from(vec![b'p', (n % 16) as u8]),
            key(n),
        );
        window.push_back(store.commit(batch, Durability::Written));
        if window.len() > 32 {
            window.pop_front().unwrap().await.unwrap();
        }
    }
    join_all(window).await;
    load.end(&store, BYTES);
    scan(&store, name, BYTES).await;
}

async fn scan(store: &Arc<RocksStore>, name: &str, bytes: usize) {
    let load = Load::begin(&format!("{name}, scan"));
    for partition in 0..16 {
        let mut from = Some(partition_key(partition, 0));
        while let Some(start) = from {
            let limit = ScanLimit {
                entries: usize::MAX,
                bytes: 1 << 20,
            };
            let page = store
                .scan(
                    Table::Records,
                    start..partition_key(partition + 1, 0),
                    limit,
                )
                .await
                .unwrap();
            from = page.next;
        }
    }
    load.end(store, bytes);
}

/// Chunks of 30 KB put at the end of a queue and forgotten at its head, `backlog` chunks later.
async fn queue(name: &str, backlog: usize) {
    const CHUNKS: usize = 40_000;
    const CHUNK: usize = 30_000;
    let folder = folder();
    let store = open(Options::new(folder.path())).unwrap();
    let body = noise(CHUNK);
    let mut window = VecDeque::new();
    let load = Load::begin(name);
    for n in 0..CHUNKS {
        let mut batch = Batch::new();
        batch.put(Table::Messages, partition_key(1, n), body.clone());
        batch.put(Table::State, Bytes::from_static(b"q1"), key(n));
        if let Some(head) = n.checked_sub(backlog) {
            batch.forget(
                Table::Messages,
                partition_key(1, head)..partition_key(1, head + 1),
            );
        }
        window.push_back(store.commit(batch, Durability::Written));
        if window.len() > 32 {
            window.pop_front().unwrap().await.unwrap();
        }
    }
    join_all(window).await;
    load.end(&store, CHUNKS * CHUNK);
}

/// 100 small rows overwritten all the time, in batches of four.
async fn state(name: &str, durability: Durability) {
    let commits: usize = if durability == Durability::Synced {
        20_000
    } else {
        400_000
    };
    let folder = folder();
    let store = open(Options::new(folder.path())).unwrap();
    let mut window = VecDeque::new();
    let load = Load::begin(name);
    for n in 0..commits {
        let mut batch = Batch::new();
        for row in 0..4 {
            batch.put(
                Table::State,
                partition_key(0, (n + row) % 100),
                vec![n as u8; 100],
            );
        }
        window.push_back(store.commit(batch, durability));
        if window.len() > 64 {
            window.pop_front().unwrap().await.unwrap();
        }
    }
    join_all(window).await;
    load.end(&store, commits * 4 * 112);
    let statistics = store.statistics();
    println!(
        "  {:.1} commits per write",
        statistics.commits as f64 / statistics.writes as f64
    );
}

/// The head of a queue after each of 100,000 small ranges of it was forgotten.
async fn forget() {
    let folder = folder();
    let store = open(Options::new(folder.path())).unwrap();
    let mut slowest = Duration::ZERO;
    let mut total = Duration::ZERO;
    for n in 0..100_000 {
        let mut batch = Batch::new();
        batch.put(Table::Messages, partition_key(1, n + 10), vec![1; 200]);
        batch.forget(
            Table::Messages,
            partition_key(1, n)..partition_key(1, n + 1),
        );
        store.commit(batch, Durability::Written).await.unwrap();
        if n % 100 == 0 {
            let start = Instant::now();
            let limit = ScanLimit {
                entries: 8,
                bytes: 1 << 20,
            };
            store
                .scan(
                    Table::Messages,
                    partition_key(1, n + 1)..partition_key(2, 0),
                    limit,
                )
                .await
                .unwrap();
            slowest = slowest.max(start.elapsed());
            total += start.elapsed();
        }
    }
    println!(
        "forget, scan of the head: mean {:.0?}, slowest {slowest:.0?}",
        total / 1000
    );
}

/// A queue of 1.2 GB that is drained: when is the disk space back?
async fn drain() {
    let folder = folder();
    let store = open(Options::new(folder.path())).unwrap();
    let body = noise(30_000);
    for n in 0..40_000 {
        let mut batch = Batch::new();
        batch.put(Table::Messages, partition_key(1, n), body.clone());
        let commit = store.commit(batch, Durability::Written);
        if n % 16 == 0 {
            commit.await.unwrap();
        }
    }
    println!(
        "drain: {} MB on disk before, RSS {} MB",
        disk_mb(folder.path()),
        rss_mb()
    );
    let mut batch = Batch::new();
    batch.forget(
        Table::Messages,
        partition_key(1, 0)..partition_key(1, 40_000),
    );
    store.commit(batch, Durability::Written).await.unwrap();
    let start = Instant::now();
    while disk_mb(folder.path()) > 200 && start.elapsed() < Duration::from_secs(90) {
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    println!(
        "drain: {} MB on disk {:.1?} after",
        disk_mb(folder.path()),
        start.elapsed()
    );
    store.close().await.unwrap();
}

/// A measurement that has begun.
struct Load {
    name: String,
    start: Instant,
    cpu: f64,
    written: u64,
}

impl Load {
    fn begin(name: &str) -> Load {
        Load {
            name: name.to_owned(),
            start: Instant::now(),
            cpu: cpu_seconds(),
            written: disk_written(),
        }
    }

    fn end(self, store: &RocksStore, bytes: usize) {
        let seconds = self.start.elapsed().as_secs_f64();
        let commits = store.statistics().commits;
        println!(
            "{:<34} {:>9.0} {:>11.0} {:>9.2} {:>9.2} {:>9}",
            self.name,
            bytes as f64 / 1e6 / seconds,
            commits as f64 / seconds,
            (cpu_seconds() - self.cpu) / (bytes as f64 / GB),
            (disk_written() - self.written) as f64 / bytes as f64,
            rss_mb(),
        );
    }
}

fn folder() -> tempfile::TempDir {
    let disk = std::env::var("TRIVIUM_BENCH_DIR").unwrap_or_else(|_| ".".to_owned());
    tempfile::tempdir_in(disk).unwrap()
}

fn key(n: usize) -> Bytes {
    Bytes::copy_from_slice(&(n as u64).to_be_bytes())
}

fn partition_key(partition: usize, n: usize) -> Bytes {
    Bytes::copy_from_slice(&[(partition as u64).to_be_bytes(), (n as u64).to_be_bytes()].concat())
}

/// Bytes that do not compress.
fn noise(length: usize) -> Bytes {
    let mut state = 1u32;
    let step = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..length).map(step).collect()
}

/// User and system time of all threads, of which Linux counts 100 ticks a second.
fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<_> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    fields[11..13]
        .iter()
        .map(|ticks| ticks.parse::<f64>().unwrap())
        .sum::<f64>()
        / 100.0
}

fn disk_written() -> u64 {
    number_after(
        &fs::read_to_string("/proc/self/io").unwrap(),
        "write_bytes:",
    )
}

fn rss_mb() -> u64 {
    number_after(&fs::read_to_string("/proc/self/status").unwrap(), "VmRSS:") / 1024
}

fn number_after(text: &str, label: &str) -> u64 {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(label))
        .unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

fn disk_mb(path: &std::path::Path) -> u64 {
    let files = fs::read_dir(path.join("rocksdb")).unwrap();
    files
        .filter_map(|file| file.ok()?.metadata().ok())
        .map(|file| file.len() >> 20)
        .sum()
}
