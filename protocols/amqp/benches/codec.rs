//! What one message costs this front end: `cargo bench -p trivium-amqp`.
//!
//! Prints nanoseconds per message, the best of several rounds: publish (method, header and body frame to a
//! command) and deliver (event to frames), as one connection does them in turns of 64 messages.

#![expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]
#![expect(clippy::print_stdout, reason = "a measurement prints its result")]
#![expect(clippy::unwrap_used, reason = "a measurement may fail")]

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{BufMut, Bytes, BytesMut};
use trivium_amqp::{
    Amqp,
    frame::{FrameKind, put_frame, put_method},
    method::Method,
};
use trivium_core::{
    Command, ConsumerId, Delivery, DeliveryId, Event, Message, Now, Reply, Text, Timestamp, Token,
};
use trivium_protocol::{Effects, Frontend, Peer, Protocol};

const TURN: usize = 64;
const ROUNDS: usize = 2_000;

fn main() {
    for (name, block) in [
        ("no properties", &b"\0\0"[..]),
        ("3 headers", &three_headers()),
    ] {
        for size in [100, 1024, 16 * 1024] {
            let (message, publish) = measure_publish(block, size);
            let deliver = measure_deliver(&message);
            println!("{name}, {size} B: publish {publish} ns, deliver {deliver} ns");
        }
    }
}

fn measure_publish(block: &[u8], size: usize) -> (Arc<Message>, u64) {
    let (mut connection, now) = opened();
    let mut turn = BytesMut::new();
    for _ in 0..TURN {
        put_publish(&mut turn, block, &vec![b'x'; size]);
    }
    let mut effects = Effects::new();
    let mut best = Duration::MAX;
    let mut message = None;
    for _ in 0..ROUNDS {
        let mut input = BytesMut::from(&turn[..]);
        let started = Instant::now();
        connection
            .handle_input(now, &mut input, &mut effects)
            .unwrap();
        best = best.min(started.elapsed());
        assert_eq!(effects.commands.len(), TURN);
        for command in effects.commands.drain(..) {
            if let Command::Publish {
                message: published, ..
            } = black_box(command)
            {
                message = Some(published);
            }
        }
    }
    (message.unwrap(), per_message(best))
}

fn measure_deliver(message: &Arc<Message>) -> u64 {
    let (mut connection, now) = opened();
    let mut effects = Effects::new();
    send(&mut *connection, now, 1, &consume(), &mut effects);
    let token = Token(3);
    connection
        .handle_event(
            now,
            Event::Done {
                token,
                result: Ok(Reply::Ok),
            },
            &mut effects,
        )
        .unwrap();
    let delivery = |id| Delivery {
        id: DeliveryId(id),
        message: message.clone(),
        accepted: Timestamp(0),
        redelivered: false,
        packet_id: 0,
        returns: 0,
        failures: 0,
        tags: Default::default(),
    };
    let mut best = Duration::MAX;
    for _ in 0..ROUNDS {
        let deliveries = (0..TURN as u64).map(delivery).collect();
        let started = Instant::now();
        let event = Event::Deliver {
            consumer: ConsumerId(1),
            deliveries,
        };
        connection.handle_event(now, event, &mut effects).unwrap();
        best = best.min(started.elapsed());
        assert!(effects.output.len() > TURN * message.body.as_ref().map_or(0, Bytes::len));
        effects.output.advance(effects.output.len());
    }
    per_message(best)
}

fn per_message(turn: Duration) -> u64 {
    turn.as_nanos() as u64 / TURN as u64
}

fn opened() -> (Box<dyn Protocol>, Now) {
    let now = Now {
        instant: Instant::now(),
        wall: Timestamp(0),
    };
    let address = "127.0.0.1:1".parse().unwrap();
    let mut connection = Amqp::default().connect(
        Peer {
            address,
            local: address,
        },
        now,
    );
    let mut effects = Effects::new();
    let mut input = BytesMut::from(&b"AMQP\0\0\x09\x01"[..]);
    connection
        .handle_input(now, &mut input, &mut effects)
        .unwrap();
    let start_ok = Method::ConnectionStartOk {
        client_properties: vec![],
        mechanism: "PLAIN".into(),
        response: Bytes::from_static(b"\0guest\0guest"),
        locale: Text::new(),
    };
    send(&mut *connection, now, 0, &start_ok, &mut effects);
    let authenticated = Event::Done {
        token: Token(1),
        result: Ok(Reply::Authenticated {
            user: "guest".into(),
            tags: Vec::new(),
        }),
    };
    connection
        .handle_event(now, authenticated, &mut effects)
        .unwrap();
    let tune_ok = Method::ConnectionTuneOk {
        channel_max: 10,
        frame_max: 131_072,
        heartbeat: 60,
    };
    send(&mut *connection, now, 0, &tune_ok, &mut effects);
    let open = Method::ConnectionOpen {
        virtual_host: "/".into(),
        reserved_1: Text::new(),
        reserved_2: false,
    };
    send(&mut *connection, now, 0, &open, &mut effects);
    connection
        .handle_event(
            now,
            Event::Done {
                token: Token(2),
                result: Ok(Reply::Ok),
            },
            &mut effects,
        )
        .unwrap();
    send(
        &mut *connection,
        now,
        1,
        &Method::ChannelOpen {
            reserved_1: Text::new(),
        },
        &mut effects,
    );
    (connection, now)
}

fn send(
    connection: &mut dyn Protocol,
    now: Now,
    channel: u16,
    method: &Method,
    effects: &mut Effects,
) {
    let mut input = BytesMut::new();
    put_method(&mut input, channel, method);
    connection.handle_input(now, &mut input, effects).unwrap();
    effects.output.advance(effects.output.len());
}

fn consume() -> Method {
    Method::BasicConsume {
        reserved_1: 0,
        queue: "q".into(),
        consumer_tag: "consumer".into(),
        no_local: false,
        no_ack: true,
        exclusive: false,
        no_wait: false,
        arguments: vec![],
    }
}

fn put_publish(out: &mut BytesMut, block: &[u8], body: &[u8]) {
    let publish = Method::BasicPublish {
        reserved_1: 0,
        exchange: "amq.topic".into(),
        routing_key: "orders.eu.created".into(),
        mandatory: false,
        immediate: false,
    };
    put_method(out, 1, &publish);
    put_frame(out, FrameKind::Header, 1, |out| {
        out.put_u32(60 << 16);
        out.put_u64(body.len() as u64);
        out.put_slice(block);
    });
    put_frame(out, FrameKind::Body, 1, |out| out.put_slice(body));
}

/// Three headers, content type, delivery mode 2.
fn three_headers() -> Vec<u8> {
    let mut block = b"\xb0\0\x10application/json\0\0\0\x2f".to_vec();
    block.extend_from_slice(
        b"\x07tracingS\0\0\0\x08abcdefgh\x05countI\0\0\0\x01\x05retryl\0\0\0\0\0\0\0\x07",
    );
    block.push(2);
    block
}
