//! The program as its operator sees it: starting, refusing to start, watching it, stopping it.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

mod support;

use std::{
    fs,
    io::Read,
    net::TcpListener,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::Path,
    process::Command,
};

use support::{Broker, last_line, run, set, trivium, wire};

/// The user who owns nothing.
const NOBODY: u32 = 65534;

#[test]
fn starts_tells_where_it_listens_and_stops_with_zero() {
    let broker = Broker::start();
    for protocol in ["amqp", "kafka", "mqtt"] {
        drop(broker.connect(protocol));
    }
    assert!(broker.get("/health/live").starts_with("HTTP/1.1 200"));
    assert!(broker.get("/health/ready").starts_with("HTTP/1.1 200"));
    assert!(broker.get("/nowhere").starts_with("HTTP/1.1 404"));
    assert_eq!(broker.stop(), Some(0));
}

#[test]
fn open_connections_do_not_keep_it_from_stopping() {
    let broker = Broker::start();
    let mut connections =
        ["amqp", "kafka", "mqtt", "http"].map(|protocol| broker.connect(protocol));
    // They are given ten seconds.
    assert_eq!(broker.stop(), Some(0));
    for connection in &mut connections {
        let _ = connection.read_to_end(&mut Vec::new());
    }
}

#[test]
fn metrics_count_connections_and_bytes() {
    let broker = Broker::start();
    // An answer: it has been accepted.
    drop(wire::mqtt(&broker));
    assert!(broker.metric("trivium_connections_opened_total{protocol=\"mqtt\"}") >= 1.0);
    assert!(broker.metric("process_resident_memory_bytes") > 1e6);
    assert!(broker.metric("process_open_fds") > 3.0);
    assert!(broker.metric("trivium_ready") > 0.0);
    assert!(broker.metric("trivium_storage_failed") < 1.0);
    assert!(broker.metric("trivium_store_memtable_bytes") > 0.0);
    let publish = ["publish", "--topic", "t", "--count", "100"];
    broker.bench("mqtt", &publish);
    // Written by the one process is not yet read by the other.
    broker.wait_for("trivium_messages_published_total", |count| count >= 100.0);
    let text = broker.get("/metrics");
    assert!(
        text.contains("content-type: text/plain; version=0.0.4"),
        "{text}"
    );
    assert!(
        text.contains("# TYPE trivium_received_bytes_total counter"),
        "{text}"
    );
}

#[test]
fn a_protocol_that_is_off_binds_nothing() {
    let broker = Broker::start_with(|command| {
        set(command, "amqp.enabled", "false");
        set(command, "kafka.enabled", "false");
    });
    assert_eq!(broker.find("amqp"), None);
    assert_eq!(broker.find("kafka"), None);
    assert!(broker.find("mqtt").is_some());
    assert_eq!(broker.stop(), Some(0));
}

#[test]
fn what_is_there_survives_a_restart_of_the_program() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(Broker::spawn(trivium(folder.path())).stop(), Some(0));
    assert_eq!(Broker::spawn(trivium(folder.path())).stop(), Some(0));
}

#[test]
fn one_data_directory_has_one_broker() {
    let folder = tempfile::tempdir().unwrap();
    let first = Broker::spawn(trivium(folder.path()));
    let second = run(&mut trivium(folder.path()));
    assert_eq!(second.status.code(), Some(1));
    let line = last_line(&second);
    let expected = format!(
        "trivium: data directory '{}' is in use by another broker",
        folder.path().display()
    );
    assert!(line.starts_with(&expected), "{line}");
    assert!(line.contains(&first.pid().to_string()), "{line}");
    assert_eq!(first.stop(), Some(0));
}

#[test]
fn a_port_in_use_is_one_line_that_names_the_key() {
    let folder = tempfile::tempdir().unwrap();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap().to_string();
    for key in ["mqtt.listen", "http.listen"] {
        let mut command = trivium(folder.path());
        set(&mut command, key, &address);
        let output = run(&mut command);
        assert_eq!(output.status.code(), Some(1));
        let line = last_line(&output);
        assert!(
            line.starts_with(&format!("trivium: cannot listen on {address} ({key}): ")),
            "{line}"
        );
    }
}

#[test]
fn a_setting_that_makes_no_sense_is_one_line_that_names_key_and_layer() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("settings.toml");
    fs::write(&file, "[mqtt]\nport = 1883\n").unwrap();
    let refused = |change: &dyn Fn(&mut std::process::Command)| {
        let mut command = trivium(&folder.path().join("data"));
        change(&mut command);
        let output = run(&mut command);
        assert_eq!(output.status.code(), Some(2));
        assert_eq!(String::from_utf8_lossy(&output.stderr).lines().count(), 1);
        last_line(&output)
    };
    let line = refused(&|command| {
        command.arg("--config").arg(&file);
    });
    assert!(
        line.starts_with(&format!(
            "trivium: unknown key 'mqtt.port' in file {}",
            file.display()
        )),
        "{line}"
    );
    let line = refused(&|command| {
        command.env("TRIVIUM_DURABILITY", "maybe");
    });
    assert!(
        line.contains("'durability' in environment variable TRIVIUM_DURABILITY: 'maybe'"),
        "{line}"
    );
    let line = refused(&|command| set(command, "shards", "none"));
    assert!(
        line.contains("'shards' in flag --set shards: 'none'"),
        "{line}"
    );
    let line = refused(&|command| set(command, "shards", "65"));
    assert!(line.ends_with("expected a number from 1 to 64"), "{line}");
    assert!(
        !folder.path().join("data").exists(),
        "nothing is created before the settings are understood"
    );
}

#[test]
fn a_foreign_directory_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("thesis.txt"), "chapter one").unwrap();
    let line = refused_directory(folder.path());
    assert!(line.contains("is not a data directory"), "{line}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_corrupt_directory_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(Broker::spawn(trivium(folder.path())).stop(), Some(0));
    let mut damaged = 0;
    for entry in walk(folder.path()) {
        if entry
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("MANIFEST-"))
        {
            let length = fs::metadata(&entry).unwrap().len() as usize;
            fs::write(&entry, vec![0xa5; length]).unwrap();
            damaged += 1;
        }
    }
    assert!(damaged > 0);
    let line = refused_directory(folder.path());
    assert!(line.contains("corrupt"), "{line}");
}

#[test]
fn a_directory_that_cannot_be_written_is_refused() {
    let line = refused_directory(Path::new("/proc/trivium"));
    assert!(
        line.starts_with("trivium: cannot open data directory '/proc/trivium'"),
        "{line}"
    );

    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o555)).unwrap();
    let mut command = trivium(folder.path());
    // Permissions do not bind the superuser.
    if fs::write(folder.path().join("probe"), "").is_ok() {
        fs::remove_file(folder.path().join("probe")).unwrap();
        command.uid(NOBODY);
        if Command::new(command.get_program())
            .arg("--version")
            .uid(NOBODY)
            .output()
            .is_err()
        {
            return;
        }
    }
    let output = run(&mut command);
    assert_eq!(output.status.code(), Some(1));
    let line = last_line(&output);
    assert!(
        line.contains(&folder.path().display().to_string()),
        "{line}"
    );
    assert!(line.to_lowercase().contains("permission denied"), "{line}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// With `durability=interval` an acknowledgement means written; nobody waits for the interval.
#[test]
fn acknowledgements_do_not_wait_for_the_interval() {
    let folder = tempfile::tempdir().unwrap();
    let with_an_hour = || {
        let mut command = trivium(folder.path());
        set(&mut command, "durability", "interval:3600000");
        Broker::spawn(command)
    };
    let mut broker = with_an_hour();
    let publish = "publish --queue jobs --durable --persistent --keep --confirm 1 --count 100";
    broker.bench("amqp", &publish.split(' ').collect::<Vec<_>>());
    assert!(broker.metric("trivium_store_syncs_total") < 100.0);
    assert!(broker.metric("trivium_messages_published_total") >= 100.0);
    // Written is more than in memory: it survives a kill.
    broker.signal("KILL");
    assert_eq!(broker.wait(), None);
    let broker = with_an_hour();
    let mut stream = wire::amqp(&broker);
    // queue.declare, passive.
    wire::send_method(
        &mut stream,
        1,
        (50, 10),
        b"\x00\x00\x04jobs\x01\x00\x00\x00\x00",
    );
    let declared = wire::expect_method(&mut stream, (50, 11));
    assert_eq!(declared[5..9], 100_u32.to_be_bytes());
}

/// The one line that a start on `path` ends with.
fn refused_directory(path: &Path) -> String {
    let output = run(&mut trivium(path));
    assert_eq!(output.status.code(), Some(1));
    let line = last_line(&output);
    assert!(line.contains(&path.display().to_string()), "{line}");
    line
}

fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| {
            if path.is_dir() {
                walk(&path)
            } else {
                vec![path]
            }
        })
        .collect()
}
