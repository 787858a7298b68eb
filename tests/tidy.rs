//! The house rules that a compiler does not check: which crate knows which, how long a file is, and
//! that the pages a reader is sent to are there.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

/// Lines of a source file at most.
const LINES_MAX: usize = 1000;
/// Lines of a file of tests at most: many stories are no reason to look for another idea.
const TEST_LINES_MAX: usize = 1200;
/// Folders that hold what is written by hand.
const FOLDERS: [&str; 8] = [
    "core",
    "storage",
    "protocols",
    "server",
    "tests",
    "benches",
    "examples",
    "docs",
];
/// Pages that other pages and messages refer to.
const PAGES: [&str; 5] = [
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "docs/configuration.md",
    "docs/add-a-protocol.md",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Each crate of the workspace, and the crates of the workspace that it is built on (not those of its tests).
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version=1"])
        .current_dir(root())
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let name = |value: &Value| value["name"].as_str().unwrap().to_owned();
    let ours: BTreeSet<String> = packages.iter().map(name).collect();
    let built_on = |package: &Value| {
        let all = package["dependencies"].as_array().unwrap().iter();
        all.filter(|it| it["kind"].as_str() != Some("dev"))
            .map(name)
            .filter(|it| ours.contains(it))
            .collect()
    };
    packages
        .iter()
        .map(|package| (name(package), built_on(package)))
        .collect()
}

#[test]
fn dependencies_point_one_way() {
    let crates = dependencies();
    assert!(
        crates["trivium-core"].is_empty(),
        "the core knows no other crate"
    );
    for (name, built_on) in &crates {
        let allowed: &[&str] = match name.as_str() {
            "trivium" => continue,
            "trivium-core" => &[],
            "trivium-storage" | "trivium-protocol" => &["trivium-core"],
            _ => &["trivium-core", "trivium-protocol"],
        };
        for other in built_on {
            assert!(
                allowed.contains(&other.as_str()),
                "{name} must not know {other}"
            );
        }
    }
    for protocol in [
        "trivium-amqp",
        "trivium-kafka",
        "trivium-mqtt",
        "trivium-storage",
    ] {
        assert!(
            crates["trivium"].contains(protocol),
            "the server knows {protocol}"
        );
    }
}

/// `make` compiles RocksDB by the second; what it links must be what the first asks for.
#[test]
fn both_lock_files_have_one_rocksdb() {
    let versions = |path: &str| -> Vec<String> {
        let text = fs::read_to_string(root().join(path)).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let of_rocksdb = lines
            .windows(3)
            .filter(|it| it[0].starts_with("name") && it[0].contains("rocksdb"));
        let released = of_rocksdb.filter(|it| it[2].starts_with("source"));
        released.map(|it| it.concat()).collect()
    };
    let ours = versions("Cargo.lock");
    assert_eq!(ours.len(), 2, "{ours:?}");
    assert_eq!(ours, versions("storage/rocksdb-build/Cargo.lock"));
}

#[test]
fn files_are_short_and_finished() {
    let unfinished = [
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
        concat!("FIX", "ME"),
    ];
    let files = sources();
    assert!(files.len() > 40, "only {} files found", files.len());
    for path in files {
        let text = fs::read_to_string(&path).unwrap();
        let name = path.strip_prefix(root()).unwrap().display();
        let is_test = path.file_stem().is_some_and(|stem| stem == "tests")
            || path.components().any(|part| part.as_os_str() == "tests");
        assert!(
            text.lines().count() <= if is_test { TEST_LINES_MAX } else { LINES_MAX },
            "{name} has {} lines",
            text.lines().count()
        );
        for mark in unfinished {
            assert!(!text.contains(mark), "{name} holds {mark}");
        }
    }
}

#[test]
fn pages_are_there_and_name_the_folders() {
    for page in PAGES {
        assert!(root().join(page).is_file(), "{page} is missing");
    }
    for page in ["README.md", "ARCHITECTURE.md"] {
        let text = fs::read_to_string(root().join(page)).unwrap();
        for folder in FOLDERS.iter().filter(|folder| root().join(folder).is_dir()) {
            assert!(
                text.contains(&format!("`{folder}/")),
                "{page} does not name {folder}/"
            );
        }
    }
}

#[test]
fn relative_links_of_pages_lead_somewhere() {
    for page in PAGES {
        let path = root().join(page);
        let text = fs::read_to_string(&path).unwrap();
        for target in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let target = target.split('#').next().unwrap();
            if !target.is_empty() && !target.contains("://") {
                assert!(
                    path.parent().unwrap().join(target).exists(),
                    "{page} links to {target}"
                );
            }
        }
    }
}

/// Each row of the table of MQTT's statements names a test that is there, and each numbered test is in the table.
#[test]
fn every_statement_of_mqtt_has_its_test() {
    let table = fs::read_to_string(root().join("docs/mqtt-conformance.md")).unwrap();
    let mut listed = BTreeSet::new();
    for row in table.lines().filter(|row| row.starts_with("| MQTT-")) {
        listed.extend(
            row.split('`')
                .filter(|it| it.contains("::mqtt"))
                .map(str::to_owned),
        );
    }
    let mut written = BTreeSet::new();
    let folder = root().join("protocols/mqtt/tests/conformance");
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let module = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(&path).unwrap();
        let names = text.split("#[test]\nfn ").skip(1);
        let names = names.filter_map(|rest| rest.split('(').next());
        written.extend(
            names
                .filter(|name| name.starts_with("mqtt"))
                .map(|name| format!("{module}::{name}")),
        );
    }
    assert!(listed.len() > 250, "{} statements listed", listed.len());
    assert_eq!(listed, written);
}

fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = FOLDERS.iter().map(|folder| root().join(folder)).collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            match path.extension().and_then(|extension| extension.to_str()) {
                _ if path.is_dir() => folders.push(path),
                Some("rs" | "py" | "sh") => found.push(path),
                _ => {}
            }
        }
    }
    found
}
