//! What a PUBLISH costs: `cargo bench -p trivium-mqtt`.
//!
//! Topic of 24 bytes, payload of 100 bytes. `in` is bytes → command through the whole front end,
//! `out` is delivery → bytes.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark may panic and print"
)]

use std::{hint::black_box, sync::Arc, time::Instant};

use bytes::{Bytes, BytesMut};
use trivium_core::{
    Change, Command, ConsumerId, Delivery, DeliveryId, Event, Grammar, Message, Native, Now,
    Origin, Persistence, Reply, Text, Timestamp, Topic,
};
use trivium_mqtt::{
    Mqtt, Mqtt5, Options,
    packet::{
        Ack, Connect, Outgoing, Packet, Publish, Qos, Reason, Version, frame, property::put_user,
        wire::Reader,
    },
};
use trivium_protocol::{Effects, Frontend, Output, Peer, Protocol};

const TOPIC: &str = "sensors/hall-7/meter/042";
const BATCH: usize = 500;
const ROUNDS: usize = 5_000;

#[allow(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn instant() -> Instant {
    Instant::now()
}

/// The best batch, in nanoseconds per packet: short enough to fall between two interruptions.
fn measure(name: &str, mut run: impl FnMut()) {
    let time = |_| {
        let start = instant();
        run();
        start.elapsed().as_nanos()
    };
    let best = (0..ROUNDS).map(time).min().unwrap_or_default();
    println!("{name:<28} {:>5} ns", best / BATCH as u128);
}

fn publish(qos: Qos, topic: &str, users: usize) -> Publish {
    let mut block = BytesMut::new();
    (0..users).for_each(|i| put_user(&mut block, &format!("name-{i}"), "value"));
    let packet_id = if qos == Qos::AtMostOnce { 0 } else { 9 };
    let payload = Bytes::from(vec![b'x'; 100]);
    Publish {
        qos,
        topic: topic.into(),
        packet_id,
        payload,
        block: block.freeze(),
        ..Publish::default()
    }
}

fn batch(version: Version, qos: Qos, topics: &[&str], users: usize) -> Bytes {
    let mut out = BytesMut::new();
    for i in 0..BATCH {
        Packet::Publish(publish(qos, topics[i % topics.len()], users)).encode(version, &mut out);
    }
    out.freeze()
}

fn decode(name: &str, version: Version, qos: Qos, topics: &[&str], users: usize) {
    let batch = batch(version, qos, topics, users);
    measure(name, || {
        let (mut at, mut topic) = (0, Text::new());
        while let Ok(Some(frame)) = frame(&batch[at..], batch.len()) {
            let reader = Reader::new(&batch, at + frame.header..at + frame.total());
            black_box(Packet::decode(frame.first, reader, version, &mut topic).unwrap());
            at += frame.total();
        }
    });
}

fn encode(name: &str, version: Version, qos: Qos, users: usize) {
    let publish = publish(qos, TOPIC, users);
    let outgoing = Outgoing {
        dup: false,
        qos,
        retain: false,
        topic: TOPIC,
        packet_id: publish.packet_id,
        alias: None,
        expiry: None,
        subscriptions: &[],
        block: &publish.block,
        payload: &publish.payload,
    };
    let mut output = Output::new();
    measure(name, || {
        (0..BATCH).for_each(|_| black_box(&outgoing).encode(version, &mut output));
        output.advance(output.len());
        output.buffer().clear();
    });
}

fn connected(version: Version, now: Now) -> Box<dyn Protocol> {
    let local = "127.0.0.1:1883".parse().unwrap();
    let mut protocol = Mqtt::new(Options::default()).connect(
        Peer {
            address: local,
            local,
        },
        now,
    );
    let (mut input, mut effects) = (BytesMut::new(), Effects::new());
    Packet::Connect(Box::new(Connect::new(version, "c".into()))).encode(version, &mut input);
    protocol
        .handle_input(now, &mut input, &mut effects)
        .unwrap();
    while !effects.commands.is_empty() {
        for command in std::mem::take(&mut effects.commands) {
            let (token, reply) = match command {
                Command::Authenticate { token, .. } => (
                    token,
                    Reply::Authenticated {
                        user: "guest".into(),
                        tags: Vec::new(),
                    },
                ),
                Command::Define {
                    token,
                    change: Change::DeclareQueue { name, .. },
                } => (
                    token,
                    Reply::Queue {
                        name,
                        messages: 0,
                        consumers: 0,
                        created: true,
                    },
                ),
                Command::Define { token, .. } | Command::Consume { token, .. } => {
                    (token, Reply::Ok)
                }
                other => panic!("{other:?}"),
            };
            protocol
                .handle_event(
                    now,
                    Event::Done {
                        token,
                        result: Ok(reply),
                    },
                    &mut effects,
                )
                .unwrap();
        }
    }
    protocol
}

fn input(name: &str, version: Version, topics: &[&str]) {
    let now = Now {
        instant: instant(),
        wall: Timestamp(0),
    };
    let mut protocol = connected(version, now);
    let batch = batch(version, Qos::AtMostOnce, topics, 0);
    let (mut input, mut effects) = (BytesMut::new(), Effects::new());
    measure(name, || {
        input.extend_from_slice(&batch);
        protocol
            .handle_input(now, &mut input, &mut effects)
            .unwrap();
        assert_eq!(effects.commands.len(), BATCH);
        effects.commands.clear();
    });
}

fn output(name: &str, version: Version, qos: Qos) {
    let now = Now {
        instant: instant(),
        wall: Timestamp(0),
    };
    let mut protocol = connected(version, now);
    let mut effects = Effects::new();
    let message = Arc::new(Message {
        exchange: "amq.topic".into(),
        topic: Topic::new(TOPIC.into(), Grammar::Slashes),
        body: Some(Bytes::from(vec![b'x'; 100])),
        key: None,
        timestamp: None,
        expiry_ms: None,
        persistence: Persistence::Persistent,
        priority: None,
        retain: false,
        native: Native {
            dialect: &Mqtt5,
            block: Bytes::new(),
        },
        origin: Arc::new(Origin::default()),
    });
    let mut packet_id = 0u16;
    measure(name, || {
        let delivery = |i: usize| Delivery {
            id: DeliveryId(if qos == Qos::AtMostOnce {
                0
            } else {
                i as u64 + 1
            }),
            message: message.clone(),
            accepted: Timestamp(0),
            redelivered: false,
            packet_id: (i % 60_000) as u16 + 1,
            returns: 0,
            failures: 0,
            tags: [trivium_core::BindingTag(qos as u64)].into_iter().collect(),
        };
        let deliveries = (0..BATCH).map(delivery).collect();
        let event = Event::Deliver {
            consumer: ConsumerId(1),
            deliveries,
        };
        protocol.handle_event(now, event, &mut effects).unwrap();
        effects.output.advance(effects.output.len());
        effects.output.buffer().clear();
        if qos > Qos::AtMostOnce {
            let mut acks = BytesMut::new();
            for _ in 0..BATCH {
                packet_id = packet_id.checked_add(1).unwrap_or(1);
                Packet::PubAck(Ack::new(packet_id, Reason::SUCCESS)).encode(version, &mut acks);
            }
            protocol.handle_input(now, &mut acks, &mut effects).unwrap();
            effects.commands.clear();
        }
    });
}

fn main() {
    let (v3, v5) = (Version::V311, Version::V5);
    let two = ["sensors/hall-7/meter/042", "sensors/hall-7/meter/043"];
    decode("decode 3.1.1 QoS 0", v3, Qos::AtMostOnce, &[TOPIC], 0);
    decode("decode 3.1.1 QoS 1", v3, Qos::AtLeastOnce, &[TOPIC], 0);
    decode("decode 5 QoS 0", v5, Qos::AtMostOnce, &[TOPIC], 0);
    decode("decode 5 QoS 0, other topic", v5, Qos::AtMostOnce, &two, 0);
    decode("decode 5 QoS 1, 3 users", v5, Qos::AtLeastOnce, &[TOPIC], 3);
    encode("encode 3.1.1 QoS 0", v3, Qos::AtMostOnce, 0);
    encode("encode 5 QoS 1, 3 users", v5, Qos::AtLeastOnce, 3);
    input("in 3.1.1 QoS 0", v3, &[TOPIC]);
    input("in 5 QoS 0, other topic", v5, &two);
    output("out 5 QoS 0", v5, Qos::AtMostOnce);
    output("out 5 QoS 1 with PUBACK", v5, Qos::AtLeastOnce);
}
