//! Any bytes of a client, with a core that carries out everything: nothing panics.
#![no_main]

use std::time::Instant;

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use trivium_core::{Change, Command, Event, Now, Reply, Timestamp, Token};
use trivium_mqtt::{Mqtt, Options};
use trivium_protocol::{Effects, Frontend, Peer, Protocol};

fuzz_target!(|data: &[u8]| {
    let now = Now { instant: Instant::now(), wall: Timestamp(0) };
    let address = "127.0.0.1:1883".parse().expect("an address");
    let mut protocol = Mqtt::new(Options::default()).connect(Peer { address, local: address }, now);
    let (mut input, mut effects) = (BytesMut::new(), Effects::new());
    for byte in data.chunks(7) {
        input.extend_from_slice(byte);
        while protocol.wants_input() && !input.is_empty() {
            if protocol.handle_input(now, &mut input, &mut effects).is_err() || effects.commands.is_empty() {
                break;
            }
            carry_out(&mut *protocol, now, &mut effects);
        }
        if protocol.is_closed() {
            return;
        }
    }
    protocol.handle_disconnect(now, &mut effects);
});

fn carry_out(protocol: &mut dyn Protocol, now: Now, effects: &mut Effects) {
    while !effects.commands.is_empty() {
        for command in std::mem::take(&mut effects.commands) {
            if let Some(event) = answer(command) {
                let _ = protocol.handle_event(now, event, effects);
            }
        }
    }
}

fn answer(command: Command) -> Option<Event> {
    let done = |token: Token, reply| Some(Event::Done { token, result: Ok(reply) });
    match command {
        Command::Authenticate { token, .. } => done(token, Reply::Authenticated { user: "guest".into(), tags: Vec::new() }),
        Command::Define { token, change: Change::DeclareQueue { name, .. } } => {
            done(token, Reply::Queue { name, messages: 0, consumers: 0, created: true })
        }
        Command::Define { token, change: Change::Bind(_) } => done(token, Reply::Bound { created: true }),
        Command::Define { token, .. } | Command::Consume { token, .. } => done(token, Reply::Ok),
        Command::Retained { token, .. } => done(token, Reply::Retained(Vec::new())),
        Command::Replay { token, direct, .. } => done(token, Reply::Replayed(direct)),
        Command::Publish { token: Some(token), .. } => Some(Event::Confirmed { tokens: vec![token] }),
        _ => None,
    }
}
