//! The data directory: a marker that says that it is ours and of which format, and RocksDB's files
//! in a folder of their own.
//!
//! ```text
//! trivium-data/TRIVIUM    "trivium data directory, format 1"
//! trivium-data/rocksdb/   all else
//! ```

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Read, Write},
    path::{Path, PathBuf},
};

use super::OpenError;

const MARKER: &str = "TRIVIUM";
const MARKER_TEXT: &str = "trivium data directory, format ";
/// Raised with every change that older versions would misread.
const FORMAT: u32 = 1;

/// RocksDB's own folder.
pub(super) fn rocksdb(path: &Path) -> PathBuf {
    path.join("rocksdb")
}

/// Checks that the directory is ours, or makes it so if it is missing or empty.
pub(super) fn prepare(path: &Path) -> Result<(), OpenError> {
    let io = |error| OpenError::io(path, error);
    match read_marker(path) {
        Ok(text) => check_format(path, &text)?,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            fs::create_dir_all(path).map_err(io)?;
            if !is_empty(path).map_err(io)? {
                return Err(OpenError::Foreign(path.to_owned()));
            }
            write_marker(path).map_err(io)?;
        }
        Err(error) => return Err(io(error)),
    }
    check_complete(path)
}

/// The marker's first bytes; a foreign file of that name may be of any size.
fn read_marker(path: &Path) -> io::Result<String> {
    let mut text = Vec::new();
    File::open(path.join(MARKER))?
        .take(100)
        .read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn check_format(path: &Path, text: &str) -> Result<(), OpenError> {
    let format = text
        .strip_prefix(MARKER_TEXT)
        .and_then(|rest| rest.trim_end().parse().ok());
    match format {
        Some(FORMAT) => Ok(()),
        Some(found) => Err(OpenError::Format {
            path: path.to_owned(),
            found,
            expected: FORMAT,
        }),
        None => Err(OpenError::Foreign(path.to_owned())),
    }
}

/// A new file system's `lost+found` and a marker that a crash left half made do not count.
fn is_empty(path: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(path)? {
        let name = entry?.file_name();
        if name != "lost+found" && name != temporary() {
            return Ok(false);
        }
    }
    Ok(true)
}

fn temporary() -> &'static str {
    "TRIVIUM.new"
}

/// Written aside and renamed, so that a marker is whole or not there.
fn write_marker(path: &Path) -> io::Result<()> {
    let new = path.join(temporary());
    let mut file = File::create(&new)?;
    writeln!(file, "{MARKER_TEXT}{FORMAT}")?;
    file.sync_all()?;
    fs::rename(new, path.join(MARKER))?;
    File::open(path)?.sync_all()
}

/// RocksDB would start afresh where its `CURRENT` is lost, beside the data it can no longer see.
fn check_complete(path: &Path) -> Result<(), OpenError> {
    let folder = rocksdb(path);
    if folder.join("CURRENT").exists() {
        return Ok(());
    }
    let Ok(entries) = fs::read_dir(&folder) else {
        return Ok(());
    };
    for entry in entries {
        let name = entry
            .map_err(|error| OpenError::io(path, error))?
            .file_name();
        if [".sst", ".blob", ".log"]
            .iter()
            .any(|end| name.to_string_lossy().ends_with(end))
        {
            let reason = "rocksdb/CURRENT is missing".to_owned();
            return Err(OpenError::Corrupt {
                path: path.to_owned(),
                reason,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_directory_becomes_ours() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/data");
        prepare(&path).unwrap();
        assert_eq!(
            fs::read_to_string(path.join(MARKER)).unwrap(),
            "trivium data directory, format 1\n"
        );
        prepare(&path).unwrap();
    }

    #[test]
    fn a_foreign_directory_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("thesis.txt"), "chapter one").unwrap();
        assert!(matches!(prepare(folder.path()), Err(OpenError::Foreign(_))));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);

        fs::write(folder.path().join(MARKER), vec![0xff; 1 << 20]).unwrap();
        assert!(matches!(prepare(folder.path()), Err(OpenError::Foreign(_))));
    }

    #[test]
    fn another_format_is_refused_by_number() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(MARKER), format!("{MARKER_TEXT}7\n")).unwrap();
        assert!(matches!(
            prepare(folder.path()),
            Err(OpenError::Format {
                found: 7,
                expected: 1,
                ..
            })
        ));
    }

    #[test]
    fn data_without_its_index_is_corrupt() {
        let folder = tempfile::tempdir().unwrap();
        prepare(folder.path()).unwrap();
        fs::create_dir(rocksdb(folder.path())).unwrap();
        fs::write(rocksdb(folder.path()).join("000123.sst"), "data").unwrap();
        let refused = prepare(folder.path());
        assert!(
            matches!(refused, Err(OpenError::Corrupt { .. })),
            "{refused:?}"
        );
    }

    #[test]
    fn what_cannot_be_written_is_named() {
        let error = prepare(Path::new("/proc/trivium")).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("cannot open data directory '/proc/trivium': "),
            "{error}"
        );
    }
}
