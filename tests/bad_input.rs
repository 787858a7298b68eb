//! What hostile, broken and lost peers do to the broker: nothing that others notice.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

mod support;

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
    time::Duration,
};

use support::{Broker, set, wire};

/// What all the peers of a test together may cost.
const MEMORY_MAX: usize = 64 << 20;

/// Everything until the broker closes; a reset is a close.
fn read_to_close(stream: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    match stream.read_to_end(&mut all) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => {
            panic!("the broker does not close: {error}")
        }
        _ => all,
    }
}

/// Sends `bytes` and returns what comes back until the broker closes.
fn exchange(broker: &Broker, protocol: &str, bytes: &[u8]) -> Vec<u8> {
    let mut stream = broker.connect(protocol);
    // The broker may close before it has read everything.
    let _ = stream.write_all(bytes);
    read_to_close(&mut stream)
}

fn assert_well(broker: &Broker, resident_before: usize) {
    broker.assert_no_panic();
    assert!(broker.get("/health/ready").starts_with("HTTP/1.1 200"));
    let grown = broker.resident_bytes().saturating_sub(resident_before);
    assert!(grown < MEMORY_MAX, "memory grew by {} MiB", grown >> 20);
}

/// AMQP 0-9-1, 4.2.2: a protocol header that is not understood is answered with the one that is.
#[test]
fn a_wrong_amqp_header_is_answered_with_the_right_one() {
    let broker = Broker::start();
    for wrong in [
        b"AMQP\x01\x01\x00\x0a",
        b"AMQP\x00\x01\x00\x00",
        b"HELOHELO",
    ] {
        assert_eq!(exchange(&broker, "amqp", wrong), b"AMQP\x00\x00\x09\x01");
    }
}

#[test]
fn an_http_request_on_a_wrong_port_is_closed() {
    let broker = Broker::start();
    let before = broker.resident_bytes();
    let request = b"GET / HTTP/1.1\r\nHost: broker\r\nUser-Agent: test\r\nAccept: */*\r\n\r\n";
    assert_eq!(exchange(&broker, "amqp", request), b"AMQP\x00\x00\x09\x01");
    exchange(&broker, "kafka", request);
    exchange(&broker, "mqtt", request);
    assert_well(&broker, before);
}

#[test]
fn a_length_of_two_gibibytes_allocates_nothing() {
    let broker = Broker::start();
    let before = broker.resident_bytes();
    // A method frame on channel 0 that claims 2 GiB, after a good header.
    exchange(
        &broker,
        "amqp",
        b"AMQP\x00\x00\x09\x01\x01\x00\x00\x7f\xff\xff\xff",
    );
    // A request of 2 GiB, and one of negative length.
    exchange(&broker, "kafka", b"\x7f\xff\xff\xff\x00\x12\x00\x00");
    exchange(&broker, "kafka", b"\xff\xff\xff\xff\x00\x12\x00\x00");
    // The largest remaining length before CONNECT.
    let mut stream = broker.connect("mqtt");
    let _ = stream.write_all(b"\x10\xff\xff\xff\x7f");
    let _ = stream.write_all(&vec![0; 1 << 20]);
    read_to_close(&mut stream);
    assert_well(&broker, before);
}

/// MQTT 3.1.1, 2.2.3 and MQTT 5, 1.5.5: at most four bytes.
#[test]
fn a_malformed_remaining_length_is_closed() {
    let broker = Broker::start();
    exchange(&broker, "mqtt", b"\x10\xff\xff\xff\xff\x7f");
    assert_well(&broker, broker.resident_bytes());
}

/// MQTT 5, 4.13: a malformed packet is answered with DISCONNECT and 0x81.
#[test]
fn a_malformed_packet_in_a_session_is_told_and_closed() {
    let broker = Broker::start();
    let malformed: [&[u8]; 3] = [
        b"\x30\xff\xff\xff\xff\x7f",
        // A topic that is longer than its packet.
        b"\x30\x04\x7f\xff\x00\x00",
        // Properties of 256 MiB in a packet of nine bytes.
        b"\x30\x09\x00\x01t\xff\xff\xff\x7f\x00\x00",
    ];
    for packet in malformed {
        let mut stream = wire::mqtt(&broker);
        stream.write_all(packet).unwrap();
        let answer = read_to_close(&mut stream);
        assert_eq!((answer[0], answer[2]), (0xe0, 0x81), "{answer:?}");
    }
    assert_well(&broker, broker.resident_bytes());
}

#[test]
fn an_unknown_kafka_api_or_version_is_closed() {
    let broker = Broker::start();
    exchange(&broker, "kafka", &wire::request(999, 0, b""));
    exchange(
        &broker,
        "kafka",
        &wire::request(3, 999, b"\x00\x00\x00\x00"),
    );
    broker.assert_no_panic();
}

/// AMQP 0-9-1, 4.2.3: the size in a frame is checked before its payload has come.
#[test]
fn an_amqp_frame_over_the_negotiated_size_is_an_error_of_the_connection() {
    let broker = Broker::start();
    let before = broker.resident_bytes();
    for size in [wire::FRAME_MAX as u32 + 1, 0x7fff_ffff, u32::MAX] {
        let mut stream = wire::amqp(&broker);
        let head = [&b"\x01\x00\x01"[..], &size.to_be_bytes()].concat();
        stream.write_all(&head).unwrap();
        wire::expect_close(&mut stream, 501);
    }
    let mut stream = wire::amqp(&broker);
    let whole = wire::frame(1, 1, &vec![0; wire::FRAME_MAX + 1]);
    stream.write_all(&whole).unwrap();
    wire::expect_close(&mut stream, 501);
    assert_well(&broker, before);
}

#[test]
fn lengths_of_two_gibibytes_inside_good_frames_allocate_nothing() {
    let broker = Broker::start();
    let before = broker.resident_bytes();
    // queue.declare with a table of arguments of 2 GiB.
    let mut stream = wire::amqp(&broker);
    wire::send_method(
        &mut stream,
        1,
        (50, 10),
        b"\x00\x00\x01q\x00\x7f\xff\xff\xff",
    );
    wire::expect_close(&mut stream, 502);
    // Metadata of two thousand million topics, and a produce of as many.
    exchange(&broker, "kafka", &wire::request(3, 1, b"\x7f\xff\xff\xff"));
    let produce = b"\xff\xff\xff\xff\x00\x00\x00\x00\x7f\xff\xff\xff";
    exchange(&broker, "kafka", &wire::request(0, 3, produce));
    assert_well(&broker, before);
}

/// KIP-511: an unknown version of ApiVersions is answered in version 0 with UNSUPPORTED_VERSION (35).
#[test]
fn an_unknown_version_of_api_versions_is_answered() {
    let broker = Broker::start();
    let mut stream = broker.connect("kafka");
    stream
        .write_all(b"\x00\x00\x00\x0a\x00\x12\x03\xe7\x00\x00\x00\x01\xff\xff")
        .unwrap();
    let mut head = [0; 10];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(head[4..], *b"\x00\x00\x00\x01\x00\x23");
}

#[test]
fn peers_that_vanish_in_a_frame_leave_nothing_behind() {
    let broker = Broker::start();
    let before = broker.resident_bytes();
    let beginnings: [(&str, &[u8]); 4] = [
        ("amqp", b"AMQP\x00\x00"),
        ("amqp", b"AMQP\x00\x00\x09\x01\x01\x00\x00\x00"),
        ("kafka", b"\x00\x00\x10\x00\x00\x00\x00\x03"),
        ("mqtt", b"\x10\x80\x01\x00\x04MQ"),
    ];
    for _ in 0..50 {
        for (protocol, beginning) in beginnings {
            let mut stream = broker.connect(protocol);
            stream.write_all(beginning).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            read_to_close(&mut stream);
        }
    }
    assert_well(&broker, before);
    // In the middle of a message, when they were known.
    let mut publisher = wire::amqp(&broker);
    wire::send_method(&mut publisher, 1, (60, 40), b"\x00\x00\x00\x01q\x00");
    let content = b"\x00\x3c\x00\x00\x00\x00\x00\x00\x7f\xff\xff\xff\x00\x00";
    publisher.write_all(&wire::frame(2, 1, content)).unwrap();
    let mut device = wire::mqtt(&broker);
    device.write_all(b"\x30\x80\x08\x00\x01t\x00half").unwrap();
    drop((publisher, device));
    for protocol in ["amqp", "kafka", "mqtt"] {
        broker.wait_for(
            &format!("trivium_connections{{protocol=\"{protocol}\"}}"),
            |open| open < 1.0,
        );
    }
}

#[test]
fn a_peer_that_never_reads_is_not_served_without_end() {
    let broker = Broker::start();
    let before = broker.resident_bytes();
    // ApiVersions requests, whose answers are twenty times as long, by a client that reads none.
    let mut stream = broker.connect("kafka");
    stream
        .set_write_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    let request = b"\x00\x00\x00\x0a\x00\x12\x00\x00\x00\x00\x00\x01\xff\xff".repeat(1000);
    let mut taken = 0;
    while taken < 64 << 20 && stream.write_all(&request).is_ok() {
        taken += request.len();
    }
    assert!(taken < 64 << 20, "the broker went on reading");
    assert_well(&broker, before);
}

/// What the broker may keep in memory of messages and rows, for the tests that fill it.
fn small(command: &mut std::process::Command) {
    for key in ["queue_memory", "log_memory", "storage_memory"] {
        set(command, key, "16MiB");
    }
}

/// Bytes and messages of the load that the next three tests put in: 128 MiB.
const FILL: [&str; 4] = ["--size", "16384", "--count", "8192"];

#[test]
fn an_amqp_consumer_that_stops_reading_holds_a_bounded_window() {
    let broker = Broker::start_with(small);
    let fill = [
        "publish",
        "--queue",
        "jobs",
        "--keep",
        "--persistent",
        "--durable",
    ];
    broker.bench("amqp", &[&fill[..], &FILL].concat());
    let before = broker.resident_bytes();
    let mut stream = wire::amqp(&broker);
    // basic.consume without acknowledgements, so that nothing but the socket slows it down.
    wire::send_method(
        &mut stream,
        1,
        (60, 20),
        b"\x00\x00\x04jobs\x01c\x02\x00\x00\x00\x00",
    );
    wire::expect_method(&mut stream, (60, 21));
    settle_down(&broker);
    assert_well(&broker, before);
}

#[test]
fn a_kafka_consumer_that_stops_reading_is_not_fetched_for() {
    let broker = Broker::start_with(small);
    let fill = ["publish", "--topic", "stock", "--keep"];
    broker.bench("kafka", &[&fill[..], &FILL].concat());
    let before = broker.resident_bytes();
    let mut stream = broker.connect("kafka");
    stream.write_all(&wire::fetch("stock").repeat(100)).unwrap();
    settle_down(&broker);
    assert_well(&broker, before);
}

#[test]
fn an_mqtt_subscriber_that_stops_reading_loses_and_costs_nobody() {
    let broker = Broker::start_with(small);
    let before = broker.resident_bytes();
    let mut stream = wire::mqtt(&broker);
    stream
        .write_all(b"\x82\x0a\x00\x01\x00\x00\x04load\x00")
        .unwrap();
    let mut suback = [0; 6];
    stream.read_exact(&mut suback).unwrap();
    assert_eq!((suback[0], suback[5]), (0x90, 0));
    broker.bench(
        "mqtt",
        &[&["publish", "--topic", "load"][..], &FILL].concat(),
    );
    settle_down(&broker);
    assert_well(&broker, before);
    assert!(broker.metric("trivium_messages_dropped_total") > 0.0);
}

/// Waits until nothing more is sent: as many times in a row as anything that is on its way would need.
fn settle_down(broker: &Broker) {
    let sent = || -> f64 {
        let of = |protocol| {
            broker.metric(&format!(
                "trivium_sent_bytes_total{{protocol=\"{protocol}\"}}"
            ))
        };
        of("amqp") + of("kafka") + of("mqtt")
    };
    let start = std::time::Instant::now();
    let (mut last, mut same) = (-1.0, 0);
    while same < 100 {
        let now = sent();
        same = if now > last { 0 } else { same + 1 };
        last = now;
        assert!(
            start.elapsed() < support::PATIENCE,
            "the broker goes on sending"
        );
    }
}

#[test]
fn idle_connections_cost_little() {
    const CONNECTIONS: usize = 1000;
    let broker = Broker::start();
    let before = broker.resident_bytes();
    let _idle: Vec<TcpStream> = (0..CONNECTIONS).map(|_| broker.connect("mqtt")).collect();
    broker.wait_for("trivium_connections{protocol=\"mqtt\"}", |open| {
        open >= CONNECTIONS as f64
    });
    let each = broker.resident_bytes().saturating_sub(before) / CONNECTIONS;
    // About 20 KiB: the task, its state machine and link, and what the allocator rounds up to.
    assert!(each < 32 << 10, "{each} bytes for each idle connection");
}
