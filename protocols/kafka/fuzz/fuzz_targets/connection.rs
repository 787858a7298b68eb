//! A whole connection: requests of any content, their commands carried out or refused by a core of a few lines.

#![no_main]

use std::time::Instant;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use trivium_core::{
    Command, Event, Fetch, Fetched, FetchedBatch, LogId, LogInfo, LogSpec, Now, Offset, Refusal, Reply, Text,
    Timestamp, Token,
};
use trivium_kafka::Kafka;
use trivium_protocol::{Effects, Frontend, Peer};

// Two bytes of length before each request, so that what is inserted into one does not move the others.
fuzz_target!(|input: &[u8]| {
    let mut rest = input;
    let now = Now { instant: Instant::now(), wall: Timestamp(1_700_000_000_000) };
    let local = ([127, 0, 0, 1], 9092).into();
    let mut connection = Kafka::default().connect(Peer { address: local, local }, now);
    let (mut bytes, mut effects) = (BytesMut::new(), Effects::new());
    while rest.len() > 2 {
        let length = usize::from(rest.get_u16()).min(rest.len());
        bytes.put_u32(length as u32);
        bytes.put_slice(&rest[..length]);
        rest.advance(length);
        loop {
            if connection.wants_input() && connection.handle_input(now, &mut bytes, &mut effects).is_err() {
                return;
            }
            if effects.commands.is_empty() {
                break;
            }
            for command in std::mem::take(&mut effects.commands) {
                let event = answer(command);
                if event.is_some_and(|event| connection.handle_event(now, event, &mut effects).is_err()) {
                    return;
                }
            }
        }
        effects.output.take();
    }
});

/// Logs whose names begin with `a` are there and empty, those with `b` hold something that is no batch.
fn answer(command: Command) -> Option<Event> {
    let (token, result) = match command {
        Command::Authenticate { token, .. } => {
            (token, Ok(Reply::Authenticated { user: "guest".into(), tags: Vec::new() }))
        }
        Command::DescribeLogs { token, logs } => {
            let logs = logs.unwrap_or_else(|| vec!["a".into(), "b".into()]);
            (token, Ok(Reply::Logs(logs.into_iter().map(log).collect())))
        }
        Command::Append { token, log: name, .. } => {
            let appended = Reply::Appended { base: Offset(7), timestamp: None, log_start: Offset(0) };
            (token, log(name).map(|_| appended))
        }
        Command::FindOffset { token, at, .. } => {
            (token, Ok(Reply::Offset { spec: at, found: Some((Offset(3), Some(Timestamp(5)))) }))
        }
        Command::Fetch { token, fetch } => return Some(fetched(token, fetch)),
        Command::InitProducer { token } => (token, Ok(Reply::Producer { id: 7, epoch: 0 })),
        Command::Define { token, .. }
        | Command::Group { token, .. }
        | Command::Transaction { token, .. }
        | Command::ListTransactions { token }
        | Command::ListGroups { token }
        | Command::WriteMarker { token, .. }
        | Command::DescribeProducers { token, .. } => (token, Err(Refusal::Stopping)),
        _ => return None,
    };
    Some(Event::Done { token, result })
}

fn log(name: Text) -> Result<LogInfo, Refusal> {
    match &name.as_bytes()[..] {
        [first @ (b'a' | b'b'), ..] => Ok(LogInfo {
            name: name.clone(),
            id: LogId(u64::from(*first)),
            uuid: [*first; 16],
            spec: LogSpec { partitions: 3, settings: Vec::new() },
        }),
        _ => Err(Refusal::Stopping),
    }
}

fn fetched(token: Token, fetch: Fetch) -> Event {
    let one = |wanted: trivium_core::FetchPartition| {
        let junk = FetchedBatch { base: wanted.from, flags: 0, bytes: Bytes::from_static(&[b'x'; 61]) };
        let batches = if wanted.log.starts_with('b') { vec![junk] } else { Vec::new() };
        Fetched {
            result: log(wanted.log.clone()).map(|_| batches),
            log: wanted.log,
            partition: wanted.partition,
            high_watermark: wanted.from,
            log_start: Offset(0),
            last_stable: wanted.from,
            aborted: Vec::new(),
        }
    };
    Event::Fetched { token, partitions: fetch.partitions.into_iter().map(one).collect() }
}
