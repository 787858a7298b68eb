//! What RocksDB's errors mean to those who must act.

use std::{
    io,
    path::{Path, PathBuf},
};

use rocksdb::ErrorKind;
use trivium_core::store::StoreError;

/// Why a data directory was not opened. Nothing in it was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process, or this one, has it open.
    #[error("data directory '{}' is in use by another broker", .0.display())]
    Locked(PathBuf),
    /// It holds files, and they are not ours.
    #[error("'{}' is not a data directory of trivium, and not empty", .0.display())]
    Foreign(PathBuf),
    /// It is ours, and some of it cannot be read.
    #[error("data directory '{}' is corrupt: {reason}", path.display())]
    Corrupt { path: PathBuf, reason: String },
    /// It was written by a version that lays it out differently.
    #[error("data directory '{}' has format {found}, this version reads format {expected}", path.display())]
    Format {
        path: PathBuf,
        found: u32,
        expected: u32,
    },
    /// The operating system refused.
    #[error("cannot open data directory '{}': {reason}", path.display())]
    Io { path: PathBuf, reason: String },
}

impl OpenError {
    pub(super) fn io(path: &Path, error: io::Error) -> OpenError {
        OpenError::Io {
            path: path.to_owned(),
            reason: error.to_string(),
        }
    }

    pub(super) fn rocks(path: &Path, error: &rocksdb::Error) -> OpenError {
        let (path, reason) = (path.to_owned(), error.to_string());
        match error.kind() {
            // Both forms of the message, for another process and for this one, name the lock.
            ErrorKind::IOError if reason.to_lowercase().contains("lock") => OpenError::Locked(path),
            ErrorKind::Corruption | ErrorKind::InvalidArgument => {
                OpenError::Corrupt { path, reason }
            }
            _ => OpenError::Io { path, reason },
        }
    }
}

pub(super) fn store_error(error: &rocksdb::Error) -> StoreError {
    match error.kind() {
        ErrorKind::Corruption => StoreError::Corrupt(error.as_ref().into()),
        _ => StoreError::Unavailable(error.as_ref().into()),
    }
}
