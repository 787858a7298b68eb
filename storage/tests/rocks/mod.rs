//! RocksDB as a backend under test.

use std::sync::Arc;

use tempfile::TempDir;
use trivium_core::store::{Store, conformance::Backend};
use trivium_storage::{Options, RocksStore, open};

use crate::copy::copy_folder;

/// A data directory over the lives of its store.
pub struct Rocks {
    folder: TempDir,
    store: Option<Arc<RocksStore>>,
}

impl Default for Rocks {
    fn default() -> Rocks {
        Rocks {
            folder: tempfile::tempdir().expect("a temporary directory is made"),
            store: None,
        }
    }
}

impl Backend for Rocks {
    fn open(&mut self) -> Arc<dyn Store> {
        self.store = None;
        let options = Options {
            memory: 16 << 20,
            ..Options::new(self.folder.path())
        };
        let store = open(options).expect("the store opens");
        self.store = Some(store.clone());
        store
    }

    /// Goes on with a copy of the files as they are while the store is open: what a killed process leaves.
    fn crash(&mut self, _seed: u64) {
        let copy = tempfile::tempdir().expect("a temporary directory is made");
        copy_folder(self.folder.path(), copy.path());
        self.store = None;
        self.folder = copy;
    }

    /// The limit on file sizes will see to it.
    fn fail_writes(&mut self) {}
}
