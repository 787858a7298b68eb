//! The store's contract, kept by RocksDB.

mod copy;
mod rocks;

use std::process::Command;

use rocks::Rocks;
use trivium_core::store::conformance;

#[tokio::test]
async fn keeps_the_contract() {
    conformance::contract(Rocks::default).await;
}

#[tokio::test]
async fn agrees_with_the_model() {
    for seed in 0..10 {
        conformance::model(&mut Rocks::default(), seed, 100).await;
    }
}

/// Set in the process that has a full disk.
const LIMITED: &str = "TRIVIUM_TEST_LIMITED";

/// A file size limit is a disk that is full, as far as a write can tell. It is a limit of the whole
/// process, so the test runs itself in one of its own; a shell sets the limit and turns its signal into an error.
#[tokio::test]
async fn a_full_disk_ends_writing_for_good() {
    if std::env::var_os(LIMITED).is_some() {
        return conformance::poisons(&mut Rocks::default()).await;
    }
    let tests = std::env::current_exe().expect("the test knows its own program");
    let limited = Command::new("sh")
        .args([
            "-c",
            "trap '' XFSZ; ulimit -f 8192; exec \"$0\" --exact a_full_disk_ends_writing_for_good",
        ])
        .arg(tests)
        .env(LIMITED, "1")
        .output()
        .expect("there is a shell");
    let output = String::from_utf8_lossy(&limited.stdout);
    assert!(
        limited.status.success() && output.contains("1 passed"),
        "{output}"
    );
}
