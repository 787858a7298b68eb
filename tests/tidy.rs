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

/// How many statements each section of MQTT 5.0 has, of appendix B. There is no 2.2.1-1.
const MQTT_5: &str = "1.5.4:3 1.5.5:1 1.5.7:1 2.1.3:1 2.2.1:6 2.2.2:1 3.1.0:2 3.1.2:30 3.1.3:12 3.1.4:6 3.2.0:2 \
    3.2.2:22 3.3.1:13 3.3.2:20 3.3.4:10 3.4.2:3 3.5.2:3 3.6.1:1 3.6.2:3 3.7.2:3 3.8.1:1 3.8.3:5 3.8.4:8 3.9.2:2 3.9.3:2 \
    3.10.1:1 3.10.3:2 3.10.4:6 3.11.2:2 3.11.3:2 3.12.4:1 3.14.0:1 3.14.1:1 3.14.2:4 3.14.4:3 3.15.1:1 3.15.2:3 \
    4.1.0:2 4.2.0:1 4.3.1:1 4.3.2:5 4.3.3:13 4.4.0:2 4.5.0:2 4.6.0:6 4.7.0:1 4.7.1:2 4.7.2:1 4.7.3:4 4.8.2:6 4.9.0:3 \
    4.12.0:7 4.12.1:2 4.13.1:1 4.13.2:1";
/// As [`MQTT_5`], of 3.1.1.
const MQTT_311: &str = "1.5.3:3 2.2.2:2 2.3.1:7 3.1.0:2 3.1.2:24 3.1.3:11 3.1.4:5 3.2.0:1 3.2.2:6 3.3.1:12 3.3.2:3 \
    3.3.4:1 3.3.5:2 3.6.1:1 3.8.1:1 3.8.3:4 3.8.4:6 3.9.3:2 3.10.1:1 3.10.3:2 3.10.4:6 3.12.4:1 3.14.1:1 3.14.4:3 \
    4.1.0:2 4.3.1:1 4.3.2:2 4.3.3:2 4.4.0:1 4.5.0:2 4.6.0:6 4.7.1:3 4.7.2:1 4.7.3:4 4.8.0:2 7.0.0:2 7.1.1:1 7.1.2:1";
const MQTT_WEBSOCKET: &str = "6.0.0:4";

/// Each statement of MQTT has one row, with a test of its number, a file that is there, or a word about why there is
/// none; each numbered test is in the table; and each looks at something.
#[test]
fn every_statement_of_mqtt_has_its_test() {
    let page = fs::read_to_string(root().join("docs/mqtt-conformance.md")).unwrap();
    let chapters: Vec<&str> = page.split("\n## ").skip(1).collect();
    let versions = [
        (MQTT_5, "mqtt_"),
        (MQTT_311, "mqtt311_"),
        (MQTT_WEBSOCKET, "mqtt_"),
    ];
    assert_eq!(chapters.len(), versions.len());
    let mut listed = BTreeSet::new();
    for (chapter, (sections, prefix)) in chapters.into_iter().zip(versions) {
        let mut missing = statements(sections);
        for row in chapter.lines().filter(|row| row.starts_with("| MQTT-")) {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            let [_, statement, words, shown, _] = cells[..] else {
                panic!("not three cells: {row}");
            };
            assert!(
                missing.remove(statement),
                "a second row, or no statement: {row}"
            );
            assert!(!words.is_empty(), "{row}");
            let number = statement["MQTT-".len()..].replace(['.', '-'], "_");
            match shown.split('`').collect::<Vec<_>>()[..] {
                ["", test, ""] if test.contains("::") => {
                    assert!(
                        test.ends_with(&format!("::{prefix}{number}")),
                        "another number: {row}"
                    );
                    assert!(
                        listed.insert(test.to_owned()),
                        "{test} stands for two statements"
                    );
                }
                ["binds the client" | "none needed"] => {}
                ["", ref files @ .., ""] => {
                    let files = files.iter().filter(|it| it.trim() != ",");
                    files
                        .for_each(|file| assert!(root().join(file).is_file(), "{file} is missing"));
                }
                _ => panic!("neither a test nor why there is none: {row}"),
            }
        }
        assert!(missing.is_empty(), "no row for {missing:?}");
    }
    let mut written = BTreeSet::new();
    let folder = root().join("protocols/mqtt/tests/conformance");
    numbered_tests(&folder, "", &mut written);
    assert_eq!(listed, written);
}

/// The statements of sections that are written as `section:count`.
fn statements(sections: &str) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for section in sections.split_whitespace() {
        let (section, count) = section.split_once(':').unwrap();
        let count: u32 = count.parse().unwrap();
        all.extend((1..=count).map(|number| format!("MQTT-{section}-{number}")));
    }
    all.remove("MQTT-2.2.1-1");
    all
}

/// The tests below a folder whose names are numbers of statements, by module and name.
fn numbered_tests(folder: &Path, modules: &str, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let module = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            numbered_tests(&path, &format!("{modules}{module}::"), found);
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let functions: Vec<&str> = text.split("\nfn ").collect();
        for pair in functions.windows(2) {
            let (name, body) = pair[1].split_once('(').unwrap();
            if !name.starts_with("mqtt") {
                continue;
            }
            let attributes: Vec<&str> = pair[0]
                .lines()
                .rev()
                .take_while(|line| line.starts_with("#["))
                .collect();
            assert_eq!(attributes, ["#[test]"], "{name} is not run");
            let body = body.split("\n}").next().unwrap();
            assert!(body.lines().any(looks_at_something), "{name} cannot fail");
            assert!(
                found.insert(format!("{modules}{module}::{name}")),
                "{name} is there twice"
            );
        }
    }
}

/// Whether a line of a test compares something, waits for something in particular, or calls a function of its file that
/// does so.
fn looks_at_something(line: &str) -> bool {
    let line = line.trim();
    let looks = [
        "assert",
        ".expect(&",
        ".closed",
        ".take_all(",
        ".nothing_before(",
        ".connected(",
        ".disconnect(",
        "panic!",
    ];
    let calls = line.starts_with(|first: char| first.is_ascii_lowercase() || first == '_')
        && line
            .split('(')
            .next()
            .is_some_and(|name| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'));
    !line.starts_with("//") && (calls || looks.iter().any(|it| line.contains(it)))
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
