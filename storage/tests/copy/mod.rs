//! The files of a directory that is in use, as a killed process would leave them.

use std::{
    fs,
    path::{Path, PathBuf},
};

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
