//! A connection takes any bytes after its protocol header, cut anywhere, without a panic; every command is answered.

#![no_main]

use std::time::Instant;

use bytes::{BufMut, BytesMut};
use libfuzzer_sys::fuzz_target;
use trivium_amqp::Amqp;
use trivium_core::{Change, Command, Event, Now, Reply, Timestamp, Token};
use trivium_protocol::{Effects, Frontend, Peer};

fuzz_target!(|input: (usize, &[u8])| {
    let (step, data) = input;
    let now = Now { instant: Instant::now(), wall: Timestamp(0) };
    let Ok(address) = "127.0.0.1:1".parse() else { return };
    let mut connection = Amqp::default().connect(Peer { address, local: address }, now);
    let mut effects = Effects::new();
    let mut pending = BytesMut::from(&b"AMQP\0\0\x09\x01"[..]);
    for piece in data.chunks(step % 64 + 1) {
        pending.put_slice(piece);
        while connection.wants_input() && !connection.is_closed() {
            let left = pending.len();
            if connection.handle_input(now, &mut pending, &mut effects).is_err() {
                return;
            }
            for command in std::mem::take(&mut effects.commands) {
                let Some((token, reply)) = answer(&command) else { continue };
                let answered = Event::Done { token, result: Ok(reply) };
                if connection.handle_event(now, answered, &mut effects).is_err() {
                    return;
                }
            }
            effects.output.take();
            if pending.len() == left {
                break;
            }
        }
    }
});

fn answer(command: &Command) -> Option<(Token, Reply)> {
    Some(match command {
        Command::Authenticate { token, .. } => (*token, Reply::Authenticated { user: "guest".into(), tags: Vec::new() }),
        Command::Get { token, .. } => (*token, Reply::Got { delivery: None, remaining: 0 }),
        Command::Define { token, change } => (*token, defined(change)),
        Command::TakeReplies { token, .. } => (*token, Reply::ReplyAddress { address: "amq.rabbitmq.reply-to.1".into() }),
        Command::Enter { token, .. }
        | Command::Transact { token, .. }
        | Command::FindReplies { token, .. }
        | Command::Consume { token, .. }
        | Command::Cancel { token, .. } => (*token, Reply::Ok),
        _ => return None,
    })
}

fn defined(change: &Change) -> Reply {
    match change {
        Change::DeclareQueue { name, .. } | Change::ExpectQueue { name, .. } => {
            Reply::Queue { name: name.clone(), messages: 0, consumers: 0, created: true }
        }
        Change::PurgeQueue { .. } | Change::DeleteQueue { .. } => Reply::Deleted { messages: 0 },
        _ => Reply::Ok,
    }
}
