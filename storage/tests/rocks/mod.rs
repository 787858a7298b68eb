//! RocksDB as a backend under test.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use tempfile::TempDir;
use trivium_core::store::{Store, conformance::Backend};
use trivium_storage::{Options, RocksStore, open};

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

/// Copies a directory that is in use as it was at one moment: again, if files came or went meanwhile.
pub fn copy_folder(from: &Path, to: &Path) {
    loop {
        let before = files(from);
        let copied = before.iter().all(|(file, _)| {
            let target = to.join(file.strip_prefix(from).expect("the file was found there"));
            fs::create_dir_all(target.parent().expect("the target is below a directory")).is_ok()
                && fs::copy(file, target).is_ok()
        });
        if copied && files(from) == before {
            return;
        }
        fs::remove_dir_all(to).expect("the copy is removed");
    }
}

/// Every file below a directory, with its length.
fn files(folder: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("the directory is readable") {
        let path = entry.expect("the directory is readable").path();
        match path.metadata() {
            Ok(metadata) if metadata.is_dir() => found.extend(files(&path)),
            Ok(metadata) => found.push((path, metadata.len())),
            Err(_) => {}
        }
    }
    found.sort();
    found
}
