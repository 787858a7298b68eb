//! What the Kafka front end costs per request, apart from the socket and the core:
//! `cargo bench -p trivium-kafka --bench codec`.
#![allow(clippy::print_stdout, reason = "a bench reports on the terminal")]

use std::time::Instant;

use bytes::{BufMut, Bytes, BytesMut};
use trivium_core::{Command, Event, LogId, LogInfo, LogSpec, Now, Offset, Reply, Timestamp, Token};
use trivium_kafka::Kafka;
use trivium_protocol::{Effects, Frontend, Peer, Protocol};

/// Bytes of records in a batch, as `batch.size` of 64 KiB fills it.
const PAYLOAD: usize = 64 << 10;
const REQUESTS: u32 = 50_000;

fn main() {
    let address = ([127, 0, 0, 1], 9092).into();
    let peer = Peer {
        address,
        local: address,
    };
    let mut connection = Kafka::default().connect(peer, now());
    let mut effects = Effects::new();
    let request = produce();
    // The first request waits until the connection is authenticated.
    serve(&mut *connection, request.clone(), &mut effects);
    assert!(!effects.output.take().is_empty(), "the request is answered");
    let start = now().instant;
    for _ in 0..REQUESTS {
        serve(&mut *connection, request.clone(), &mut effects);
        effects.output.take();
    }
    let each = start.elapsed() / REQUESTS;
    println!(
        "produce, one batch of 64 KiB, its checksum and a copy of the request included: {} ns",
        each.as_nanos()
    );
}

/// One request from its bytes to the bytes of its response; the core answers at once.
fn serve(connection: &mut dyn Protocol, request: Bytes, effects: &mut Effects) {
    let mut input = BytesMut::from(request);
    handle(connection, &mut input, effects);
    while let Some(command) = effects.commands.pop() {
        let event = answer(command);
        connection
            .handle_event(now(), event, effects)
            .expect("the connection goes on");
        handle(connection, &mut input, effects);
    }
}

fn handle(connection: &mut dyn Protocol, input: &mut BytesMut, effects: &mut Effects) {
    if connection.wants_input() {
        connection
            .handle_input(now(), input, effects)
            .expect("the request is well-formed");
    }
}

fn answer(command: Command) -> Event {
    let (token, reply) = match command {
        Command::Authenticate { token, .. } => (
            token,
            Reply::Authenticated {
                user: "guest".into(),
                tags: Vec::new(),
            },
        ),
        Command::DescribeLogs { token, .. } => (token, Reply::Logs(vec![Ok(log())])),
        Command::Append { token, .. } => (token, appended()),
        other => panic!("not asked of a produce: {other:?}"),
    };
    done(token, reply)
}

fn done(token: Token, reply: Reply) -> Event {
    Event::Done {
        token,
        result: Ok(reply),
    }
}

fn appended() -> Reply {
    Reply::Appended {
        base: Offset(0),
        timestamp: None,
        log_start: Offset(0),
    }
}

fn log() -> LogInfo {
    let spec = LogSpec {
        partitions: 1,
        settings: Vec::new(),
    };
    LogInfo {
        name: "t".into(),
        id: LogId(1),
        uuid: [1; 16],
        spec,
    }
}

/// Produce version 7: one topic, one partition, acks of all.
fn produce() -> Bytes {
    let batch = batch();
    let mut body = BytesMut::new();
    body.put_slice(&[0, 0, 0, 7, 0, 0, 0, 1, 0, 1, b'c']);
    body.put_i16(-1);
    body.put_i16(-1);
    body.put_i32(30_000);
    body.put_i32(1);
    body.put_slice(&[0, 1, b't']);
    body.put_i32(1);
    body.put_i32(0);
    body.put_i32(batch.len() as i32);
    body.put_slice(&batch);
    let mut request = BytesMut::new();
    request.put_i32(body.len() as i32);
    request.put_slice(&body);
    request.freeze()
}

/// A batch that says it holds one record of 64 KiB.
fn batch() -> Bytes {
    let mut checked = BytesMut::new();
    checked.put_i16(0);
    checked.put_i32(0);
    checked.put_i64(1);
    checked.put_i64(1);
    checked.put_i64(-1);
    checked.put_i16(-1);
    checked.put_i32(-1);
    checked.put_i32(1);
    checked.put_bytes(0, PAYLOAD);
    let mut batch = BytesMut::new();
    batch.put_i64(0);
    batch.put_i32(9 + checked.len() as i32);
    batch.put_i32(-1);
    batch.put_u8(2);
    batch.put_u32(crc32c::crc32c(&checked));
    batch.put_slice(&checked);
    batch.freeze()
}

#[expect(clippy::disallowed_methods, reason = "a bench reads the clock")]
fn now() -> Now {
    Now {
        instant: Instant::now(),
        wall: Timestamp(1),
    }
}
