//! One broker per data directory.
//!
//! The lock is on the directory itself, so that it needs no file in a directory which may turn out not
//! to be ours. The operating system lets go of it with the process, however that ends.

use std::{
    fs::{self, File},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// Held while the broker runs.
#[derive(Debug)]
pub struct DirectoryLock {
    _directory: File,
}

/// Why a directory is not ours to use.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another broker has it.
    #[error("data directory '{}' is in use by another broker{}", path.display(), holder(*pid))]
    InUse { path: PathBuf, pid: Option<u32> },
    /// It cannot be created or opened.
    #[error("cannot open data directory '{}': {error}", path.display())]
    Io {
        path: PathBuf,
        error: std::io::Error,
    },
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (process {pid})"))
}

impl DirectoryLock {
    /// Locks `path`, which is created when it is not there.
    pub fn acquire(path: &Path) -> Result<DirectoryLock, LockError> {
        let failed = |error| LockError::Io {
            path: path.to_owned(),
            error,
        };
        fs::create_dir_all(path).map_err(failed)?;
        let directory = File::open(path).map_err(failed)?;
        match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(DirectoryLock {
                _directory: directory,
            }),
            Err(Errno::WOULDBLOCK) => Err(LockError::InUse {
                path: path.to_owned(),
                pid: holder_of(&directory),
            }),
            Err(error) => Err(failed(error.into())),
        }
    }
}

/// Looks the lock up in the kernel's table: `1: FLOCK ADVISORY WRITE <pid> <major>:<minor>:<inode> 0 EOF`.
fn holder_of(directory: &File) -> Option<u32> {
    let inode = format!(":{}", directory.metadata().ok()?.ino());
    let table = fs::read_to_string("/proc/locks").ok()?;
    table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, "FLOCK", _, "WRITE", pid, file, ..] = fields[..] else {
            return None;
        };
        file.ends_with(&inode).then(|| pid.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_one_broker_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        let lock = DirectoryLock::acquire(&path).unwrap();
        let error = DirectoryLock::acquire(&path).unwrap_err();
        let expected = format!(
            "data directory '{}' is in use by another broker",
            path.display()
        );
        assert!(error.to_string().starts_with(&expected), "{error}");
        drop(lock);
        DirectoryLock::acquire(&path).unwrap();
    }

    #[test]
    fn a_path_that_is_no_directory_is_named() {
        let error = DirectoryLock::acquire(Path::new("/dev/null")).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("cannot open data directory '/dev/null'"),
            "{error}"
        );
    }
}
