//! The storage backend that the configuration asks for.

use std::{fs, io, sync::Arc};

use anyhow::Context;
use trivium_core::store::Store;

use crate::config::{Config, Durability};

/// Opens the data directory. Blocks while it recovers.
pub fn open(config: &Config) -> anyhow::Result<Arc<dyn Store>> {
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
