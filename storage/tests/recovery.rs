//! What opening does with directories that are in use, torn, damaged or not ours.

#![allow(clippy::unwrap_used, reason = "in helpers of tests too")]

mod copy;

use std::{
    fs::{self, OpenOptions},
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use trivium_core::store::{Batch, Durability, ScanLimit, Store, Table};
use trivium_storage::{OpenError, Options, RocksStore, open};

const NO_LIMIT: ScanLimit = ScanLimit {
    entries: usize::MAX,
    bytes: usize::MAX,
};

fn number(n: u32) -> Bytes {
    Bytes::copy_from_slice(&n.to_be_bytes())
}

async fn fill(store: &Arc<RocksStore>, count: u32) {
    for n in 0..count {
        let mut batch = Batch::new();
        batch.put(Table::Messages, number(n), vec![n as u8; 6000]);
        batch.put(Table::State, "last", number(n));
        store.commit(batch, Durability::Synced).await.unwrap();
    }
}

fn newest(path: &Path, extension: &str) -> PathBuf {
    let files = fs::read_dir(path.join("rocksdb"))
        .unwrap()
        .map(|entry| entry.unwrap().path());
    files
        .filter(|file| file.extension().is_some_and(|found| found == extension))
        .max()
        .unwrap()
}

#[tokio::test]
async fn a_torn_log_leaves_a_prefix() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(Options::new(folder.path())).unwrap();
    fill(&store, 20).await;

    let mut survivors = Vec::new();
    for cut in [0, 1, 5_999, 30_000, 70_001] {
        let copy = tempfile::tempdir().unwrap();
        copy::copy_folder(folder.path(), copy.path());
        let log = OpenOptions::new()
            .write(true)
            .open(newest(copy.path(), "log"))
            .unwrap();
        log.set_len(log.metadata().unwrap().len() - cut).unwrap();

        let torn = open(Options::new(copy.path())).unwrap();
        let page = torn
            .scan(Table::Messages, number(0)..number(100), NO_LIMIT)
            .await
            .unwrap();
        let count = page.entries.len() as u32;
        let keys: Vec<_> = page.entries.into_iter().map(|(key, _)| key).collect();
        assert_eq!(
            keys,
            (0..count).map(number).collect::<Vec<_>>(),
            "cut by {cut}"
        );
        let last = torn.get(Table::State, Bytes::from("last")).await.unwrap();
        assert_eq!(last, count.checked_sub(1).map(number), "cut by {cut}");
        survivors.push(count);
    }
    assert_eq!(survivors[0], 20);
    assert!(
        survivors.is_sorted_by(|longer, shorter| longer >= shorter),
        "{survivors:?}"
    );
    assert!(survivors[4] < 10, "{survivors:?}");
}

#[tokio::test]
async fn a_directory_in_use_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(Options::new(folder.path())).unwrap();
    let refused = open(Options::new(folder.path())).unwrap_err();
    assert!(matches!(refused, OpenError::Locked(_)), "{refused:?}");
    store.close().await.unwrap();
    open(Options::new(folder.path()))
        .expect("a closed store is no longer in use, though it is still referred to");
}

#[tokio::test]
async fn a_damaged_manifest_is_corrupt_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(Options::new(folder.path())).unwrap();
    fill(&store, 3).await;
    drop(store);
    let current = folder.path().join("rocksdb/CURRENT");
    fs::write(&current, "garbage").unwrap();
    let refused = open(Options::new(folder.path())).unwrap_err();
    assert!(matches!(refused, OpenError::Corrupt { .. }), "{refused:?}");
    assert_eq!(fs::read(&current).unwrap(), b"garbage");
}

#[tokio::test]
async fn damaged_values_are_reported_and_not_served() {
    let folder = tempfile::tempdir().unwrap();
    let options = || Options {
        memory: 8 << 20,
        ..Options::new(folder.path())
    };
    let store = open(options()).unwrap();
    let mut written = 0;
    while !fs::read_dir(folder.path().join("rocksdb"))
        .unwrap()
        .any(|file| {
            let file = file.unwrap().path();
            file.extension().is_some_and(|end| end == "blob")
                && fs::metadata(file).is_ok_and(|found| found.len() > 1 << 20)
        })
    {
        let mut batch = Batch::new();
        batch.put(Table::Records, number(written), vec![7; 64 << 10]);
        store.commit(batch, Durability::Written).await.unwrap();
        written += 1;
    }
    drop(store);
    // Closing may have cut a flush short; opening finishes what is only in the log.
    drop(open(options()).unwrap());

    let blob = newest(folder.path(), "blob");
    let mut bytes = fs::read(&blob).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&blob, bytes).unwrap();

    let store = open(options()).unwrap();
    let mut failures = 0;
    for n in 0..written {
        match store.get(Table::Records, number(n)).await {
            Ok(found) => assert!(
                found.is_some_and(|value| value.iter().all(|byte| *byte == 7)),
                "{n} was served damaged"
            ),
            Err(error) => {
                assert!(
                    matches!(error, trivium_core::store::StoreError::Corrupt(_)),
                    "{error:?}"
                );
                failures += 1;
            }
        }
    }
    assert_eq!(failures, 1);
}
