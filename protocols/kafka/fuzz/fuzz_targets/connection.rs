//! A whole connection: frames of any content, each command refused by the core.

#![no_main]

use std::time::Instant;

use bytes::{BufMut, BytesMut};
use libfuzzer_sys::fuzz_target;
use trivium_core::{Command, Event, Now, Refusal, Reply, Timestamp, Token};
use trivium_kafka::Kafka;
use trivium_protocol::{Effects, Frontend, Peer};

fuzz_target!(|frames: Vec<Vec<u8>>| {
    let now = Now { instant: Instant::now(), wall: Timestamp(1_700_000_000_000) };
    let local = ([127, 0, 0, 1], 9092).into();
    let mut connection = Kafka::default().connect(Peer { address: local, local }, now);
    let (mut input, mut effects) = (BytesMut::new(), Effects::new());
    for frame in frames {
        input.put_u32(frame.len() as u32);
        input.put_slice(&frame);
        loop {
            if connection.wants_input() && connection.handle_input(now, &mut input, &mut effects).is_err() {
                return;
            }
            if effects.commands.is_empty() {
                break;
            }
            for command in std::mem::take(&mut effects.commands) {
                let event = answer(&command);
                if event.is_some_and(|event| connection.handle_event(now, event, &mut effects).is_err()) {
                    return;
                }
            }
        }
        effects.output.take();
    }
});

/// The authentication succeeds, everything else is refused.
fn answer(command: &Command) -> Option<Event> {
    let refused = |token: Token| Event::Done { token, result: Err(Refusal::Stopping) };
    match command {
        Command::Authenticate { token, .. } => {
            Some(Event::Done { token: *token, result: Ok(Reply::Authenticated { user: "guest".into(), tags: Vec::new() }) })
        }
        Command::Define { token, .. }
        | Command::Append { token, .. }
        | Command::Fetch { token, .. }
        | Command::FindOffset { token, .. }
        | Command::Group { token, .. }
        | Command::DescribeLogs { token, .. }
        | Command::Transaction { token, .. }
        | Command::ListTransactions { token }
        | Command::ListGroups { token }
        | Command::WriteMarker { token, .. }
        | Command::DescribeProducers { token, .. }
        | Command::InitProducer { token } => Some(refused(*token)),
        _ => None,
    }
}
