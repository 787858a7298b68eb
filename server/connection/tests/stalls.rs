//! Nobody waits for what does not come: publishers and subscribers over pipes of all sizes, whose ends get their turns in
//! random order, with little memory for queues and little that may be under way. Whatever is published is acknowledged,
//! and reaches whoever can take it, once and in order.
//!
//! A step that nobody can make any more is a failure that names its seed; `TRIVIUM_SEEDS=from..to` runs others.

use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex, split},
    task::JoinSet,
    time::timeout,
};
use trivium_core::{Broker, Options, Origin, Text, store::memory::MemoryStore};
use trivium_mqtt::{
    Mqtt,
    packet::{
        Ack, Connect, Filter, Packet, Publish, Qos, Reason, RetainHandling, Subscribe, Version,
    },
};
use trivium_protocol::{Frontend, Peer};

use super::super::{About, serve};
use crate::{clock, testing, traffic::Traffic};

/// Worlds of a run.
const SEEDS: u64 = 12;

/// Nobody who still does something is silent for so long, on any machine.
const STALLED: Duration = Duration::from_secs(60);

/// A packet that a client takes whose maximum is small.
const SMALL: u32 = 300;
/// Bodies over that, and so large that the first ones of a publisher are more than may be on its way to one consumer.
const LARGE: usize = 40_000;
const LARGE_ONES: u64 = 40;

/// As deterministic as the seed.
#[derive(Clone)]
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 33) % limit
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }

    fn fork(&mut self) -> Dice {
        Dice(self.below(1 << 31) << 20 | self.below(1 << 20))
    }
}

/// Does not always go on when it could.
struct Reluctant<F> {
    future: Pin<Box<F>>,
    dice: Dice,
    /// One turn in so many is let pass; 0 is none.
    lets_pass: u64,
}

impl<F: Future> Future for Reluctant<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let lets_pass = self.lets_pass;
        if lets_pass > 0 && self.dice.one_in(lets_pass) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.future.as_mut().poll(context)
    }
}

/// How many there are and how they behave, by seed.
struct World {
    dice: Dice,
    broker: Broker,
    frontend: Mqtt,
    tasks: JoinSet<()>,
}

impl World {
    async fn new(seed: u64) -> World {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let options = Options {
            shards: dice.pick(&[1, 2, 3]),
            queue_memory: dice.pick(&[64 << 10, 1 << 20, 16 << 20]),
            dialects: vec![&trivium_mqtt::Mqtt5, &trivium_mqtt::Mqtt3],
            ..testing::options()
        };
        let broker = Broker::open(Arc::new(MemoryStore::new()), options).await;
        let frontend = Mqtt::new(trivium_mqtt::Options {
            inflight_max: dice.pick(&[1, 2, 7, 100, 1024]),
            receive_maximum: dice.pick(&[1, 3, 100]),
            ..trivium_mqtt::Options::default()
        });
        World {
            dice,
            broker: broker.unwrap(),
            frontend,
            tasks: JoinSet::new(),
        }
    }

    /// A client, whose connection is served by a task that is as reluctant as the dice say.
    async fn connect(&mut self, connect: Connect) -> Client {
        let dice = &mut self.dice;
        let (ours, theirs) = duplex(dice.pick(&[200, 4 << 10, 64 << 10, 256 << 10]));
        let address = "127.0.0.1:1".parse().unwrap();
        let peer = Peer {
            address,
            local: address,
        };
        let about = About {
            protocol: "mqtt",
            peer: address,
        };
        let protocol = self.frontend.connect(peer, clock::now());
        let link = self.broker.connect(Origin {
            protocol: "mqtt".into(),
            ..Origin::default()
        });
        let (dice, lets_pass) = (dice.fork(), dice.pick(&[0, 2, 4, 20]));
        self.tasks.spawn(async move {
            let traffic = Traffic::default();
            let served = serve(theirs, protocol, link, about, &traffic);
            let future = Box::pin(served);
            Reluctant {
                future,
                dice,
                lets_pass,
            }
            .await;
        });
        let mut client = Client::new(ours, &connect, self.dice.fork());
        client.send(&Packet::Connect(Box::new(connect)));
        match client.next().await {
            Packet::ConnAck(connack) => assert_eq!(connack.reason, Reason::SUCCESS),
            other => panic!("{other:?}"),
        }
        client
    }
}

/// A client that writes and reads at once, but not always when it could.
struct Client {
    name: Text,
    version: Version,
    reader: ReadHalf<DuplexStream>,
    writer: WriteHalf<DuplexStream>,
    input: BytesMut,
    output: BytesMut,
    dice: Dice,
}

impl Client {
    fn new(stream: DuplexStream, connect: &Connect, dice: Dice) -> Client {
        let (reader, writer) = split(stream);
        let (input, output) = (BytesMut::new(), BytesMut::new());
        Client {
            name: connect.client_id.clone(),
            version: connect.version,
            reader,
            writer,
            input,
            output,
            dice,
        }
    }

    fn send(&mut self, packet: &Packet) {
        packet.encode(self.version, &mut self.output);
    }

    async fn next(&mut self) -> Packet {
        loop {
            let mut whole = Bytes::copy_from_slice(&self.input);
            if let Some(packet) = Packet::take(&mut whole, self.version, 1 << 20).unwrap() {
                self.input.advance(self.input.len() - whole.len());
                return packet;
            }
            for _ in 0..self.dice.below(4) {
                tokio::task::yield_now().await;
            }
            tokio::select! {
                read = self.reader.read_buf(&mut self.input) => {
                    assert!(read.unwrap() > 0, "{} is closed", self.name);
                }
                written = self.writer.write_buf(&mut self.output), if !self.output.is_empty() => {
                    written.unwrap();
                }
            }
        }
    }
}

fn body(publisher: usize, number: u64, is_large: bool, dice: &mut Dice) -> Bytes {
    let mut text = format!("{publisher} {number} ");
    let length = match is_large {
        true => LARGE,
        false => text.len() + dice.below(100) as usize,
    };
    while text.len() < length {
        text.push('x');
    }
    text.into()
}

/// Publishes so many messages and a last small one, some of them under way at once, until all are acknowledged.
async fn publish(mut client: Client, publisher: usize, qos: Qos, count: u64, large_ones: u64) {
    let window = 1 + client.dice.below(5);
    let (mut sent, mut done) = (0, 0);
    while done <= count {
        while sent <= count && sent < done + window {
            sent += 1;
            let is_large = sent <= large_ones.min(count);
            let payload = body(publisher, sent, is_large, &mut client.dice);
            client.send(&Packet::Publish(Publish {
                qos,
                topic: format!("t/{publisher}").into(),
                packet_id: sent as u16,
                payload,
                ..Publish::default()
            }));
        }
        match client.next().await {
            Packet::PubRec(ack) => {
                client.send(&Packet::PubRel(Ack::new(ack.packet_id, Reason::SUCCESS)))
            }
            Packet::PubAck(ack) | Packet::PubComp(ack) => {
                assert!(!ack.reason.is_error(), "{ack:?}");
                done += 1;
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Takes messages until each publisher's last one has come, which is number `last`. Large ones may be left out for it.
async fn subscribe(mut client: Client, publishers: usize, last: u64, may_miss: bool) {
    let mut seen: BTreeMap<u64, u64> = BTreeMap::new();
    while seen.len() < publishers || seen.values().any(|number| *number < last) {
        match client.next().await {
            Packet::Publish(publish) => {
                let text = std::str::from_utf8(&publish.payload).unwrap();
                let mut numbers = text.split(' ').map(str::parse::<u64>);
                let publisher = numbers.next().unwrap().unwrap();
                let number = numbers.next().unwrap().unwrap();
                let before = seen.insert(publisher, number).unwrap_or(0);
                assert!(
                    number == before + 1 || may_miss && number > before,
                    "{number} of {publisher} after {before}"
                );
                let ack = Ack::new(publish.packet_id, Reason::SUCCESS);
                client.send(&match publish.qos {
                    Qos::ExactlyOnce => Packet::PubRec(ack),
                    _ => Packet::PubAck(ack),
                });
            }
            Packet::PubRel(ack) => {
                client.send(&Packet::PubComp(Ack::new(ack.packet_id, Reason::SUCCESS)))
            }
            other => panic!("{other:?}"),
        }
    }
}

fn everything(qos: Qos) -> Packet {
    Packet::Subscribe(Subscribe {
        packet_id: 1,
        subscription_id: None,
        start: None,
        filters: vec![Filter {
            filter: "t/#".into(),
            qos,
            no_local: false,
            retain_as_published: false,
            retain_handling: RetainHandling::Always,
        }],
    })
}

/// One world: all that was published is acknowledged and has arrived.
async fn run(seed: u64) {
    const VERSIONS: [Version; 3] = [Version::V31, Version::V311, Version::V5];
    const QOS: [Qos; 2] = [Qos::AtLeastOnce, Qos::ExactlyOnce];
    let mut world = World::new(seed).await;
    // Also more publishers than requests that a shard lets wait.
    let (publishers, count) = world
        .dice
        .pick(&[(1, 400), (2, 200), (7, 100), (30, 20), (200, 3)]);
    let mut work = JoinSet::new();
    for number in 0..1 + world.dice.below(3) {
        let is_small = world.dice.one_in(3);
        let version = match is_small {
            true => Version::V5,
            false => world.dice.pick(&VERSIONS),
        };
        let connect = Connect {
            receive_maximum: world.dice.pick(&[1, 5, 65_535]),
            maximum_packet_size: is_small.then_some(SMALL),
            clean_start: world.dice.one_in(2),
            ..Connect::new(version, format!("subscriber{number}").into())
        };
        let mut client = world.connect(connect).await;
        client.send(&everything(world.dice.pick(&QOS)));
        assert!(matches!(client.next().await, Packet::SubAck(_)));
        work.spawn(subscribe(client, publishers, count + 1, is_small));
    }
    for number in 0..publishers {
        let version = world.dice.pick(&VERSIONS);
        let connect = Connect::new(version, format!("publisher{number}").into());
        let client = world.connect(connect).await;
        let qos = world.dice.pick(&QOS);
        let large_ones = if number < 2 { LARGE_ONES } else { 0 };
        work.spawn(publish(client, number, qos, count, large_ones));
    }
    let all = async {
        while let Some(done) = work.join_next().await {
            done.unwrap();
        }
    };
    let in_time = timeout(STALLED, all).await;
    assert!(in_time.is_ok(), "{} clients wait for ever", work.len());
}

#[test]
fn whatever_is_published_is_acknowledged_and_arrives() {
    #[expect(clippy::disallowed_methods, reason = "a switch of the tests")]
    let wanted = std::env::var("TRIVIUM_SEEDS").ok();
    let seeds = wanted.map_or(0..SEEDS, |wanted| {
        let (from, to) = wanted.split_once("..").unwrap();
        from.parse().unwrap()..to.parse().unwrap()
    });
    for seed in seeds {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let run = std::panic::AssertUnwindSafe(|| runtime.block_on(run(seed)));
        if let Err(panic) = std::panic::catch_unwind(run) {
            eprintln!(
                "failed with seed {seed}: TRIVIUM_SEEDS={seed}..{}",
                seed + 1
            );
            std::panic::resume_unwind(panic);
        }
    }
}
