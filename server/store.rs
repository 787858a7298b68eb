//! The storage backend that the configuration asks for.

use std::{fs, io, sync::Arc};

use anyhow::Context;
use trivium_storage::{RocksStore, Statistics};

use crate::{
    config::{Config, Durability},
    metrics::{Kind, Sample},
};

/// Opens the data directory. Blocks while it recovers.
pub fn open(config: &Config) -> anyhow::Result<Arc<RocksStore>> {
    let options = trivium_storage::Options {
        memory: config.storage_memory.0,
        sync_interval: match config.durability {
            Durability::Interval(interval) => Some(interval),
            Durability::Sync | Durability::Os => None,
        },
        ..trivium_storage::Options::new(&config.data_dir)
    };
    let store = trivium_storage::open(options).with_context(|| {
        format!(
            "cannot open the data directory '{}'",
            config.data_dir.display()
        )
    })?;
    Ok(store)
}

/// The id of the cluster that the data directory is, made at its first use. Kafka clients are told
/// it, and take another one for another cluster.
pub fn cluster_id(config: &Config) -> anyhow::Result<String> {
    let path = config.data_dir.join("cluster-id");
    match fs::read_to_string(&path) {
        Ok(id) if !id.trim().is_empty() => return Ok(id.trim().to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read '{}'", path.display()));
        }
    }
    let id = format!("trivium-{:014x}", rand::random::<u64>() >> 8);
    fs::write(&path, &id).with_context(|| format!("cannot write '{}'", path.display()))?;
    Ok(id)
}

/// What the store counts, for `/metrics`.
pub fn samples(store: &RocksStore) -> Vec<Sample> {
    let Statistics {
        commits,
        writes,
        bytes_written,
        syncs,
        bytes_queued,
        bytes_on_disk,
        memtable_bytes,
        stopped,
        delayed_bytes_per_second,
    } = store.statistics();
    let counter = |name, help, value| Sample::new(name, help, Kind::Counter, value as f64);
    let gauge = |name, help, value| Sample::new(name, help, Kind::Gauge, value as f64);
    vec![
        counter("trivium_store_commits_total", "Batches committed.", commits),
        counter(
            "trivium_store_writes_total",
            "Writes, each of all batches that were waiting for it.",
            writes,
        ),
        counter(
            "trivium_store_written_bytes_total",
            "Key and value bytes committed.",
            bytes_written,
        ),
        counter(
            "trivium_store_syncs_total",
            "Syncs of the write-ahead log.",
            syncs,
        ),
        gauge(
            "trivium_store_queued_bytes",
            "Key and value bytes that wait to be written.",
            bytes_queued,
        ),
        gauge(
            "trivium_store_disk_bytes",
            "Bytes of tables and blob files on disk, without the write-ahead log.",
            bytes_on_disk,
        ),
        gauge(
            "trivium_store_memtable_bytes",
            "Written bytes in memory that are not yet in tables.",
            memtable_bytes,
        ),
        gauge(
            "trivium_store_stopped",
            "Whether writes are stopped until compaction catches up.",
            stopped.into(),
        ),
        gauge(
            "trivium_store_delayed_bytes_per_second",
            "Rate to which writes are slowed down; 0 is not at all.",
            delayed_bytes_per_second,
        ),
    ]
}
