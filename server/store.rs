//! The storage backend that the configuration asks for.

use std::sync::Arc;

use trivium_core::store::Store;

use crate::config::Config;

/// Opens the data directory. Blocks while it recovers.
pub fn open(config: &Config) -> anyhow::Result<Arc<dyn Store>> {
    anyhow::bail!("no storage backend for '{}'", config.data_dir.display())
}
