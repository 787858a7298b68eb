//! A broker over memory and clients that speak bytes: the state machine with the whole core underneath.

use std::{
    cell::Cell,
    collections::VecDeque,
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use bytes::{Buf, Bytes, BytesMut};
use tokio::runtime::{Builder, Runtime};
use trivium_core::{
    Broker, Command, Dialect, Event, Grammar, Link, Message, Native, Now, Origin, Persistence,
    Timestamp, Token, Topic,
    store::{Durability, memory::MemoryStore},
};
use trivium_mqtt::{
    Mqtt, Mqtt3, Mqtt5, Options,
    packet::{
        self, Ack, ConnAck, Connect, Disconnect, Filter, Packet, Publish, Qos, Reason, SubAck,
        Subscribe, UnsubAck, Unsubscribe, Version,
    },
};
use trivium_protocol::{CloseReason, Effects, Frontend, Peer, Protocol};

pub const V5: Version = Version::V5;
pub const V311: Version = Version::V311;
pub const V31: Version = Version::V31;
pub const ALL: [Version; 3] = [V31, V311, V5];
pub const V3: [Version; 2] = [V31, V311];

/// What is waited for comes well within this.
const PATIENCE: Duration = Duration::from_secs(120);

thread_local! {
    /// How far this thread's clocks are ahead. A test and its broker share a thread.
    static AHEAD: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// Makes the time pass; shards notice with the next operation.
pub fn advance(seconds: f64) {
    AHEAD.set(AHEAD.get() + Duration::from_secs_f64(seconds));
}

#[allow(clippy::disallowed_methods, reason = "a test is a server to the core")]
fn now() -> Now {
    let wall = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .unwrap_or_default()
        + AHEAD.get();
    Now {
        instant: Instant::now() + AHEAD.get(),
        wall: Timestamp(wall.as_millis() as u64),
    }
}

/// A broker.
pub struct World {
    runtime: Runtime,
    store: Arc<MemoryStore>,
    broker: Broker,
    front: Mqtt,
}

impl World {
    pub fn new() -> World {
        World::with(|_| ())
    }

    /// With changed options of the front end.
    pub fn with(change: impl FnOnce(&mut Options)) -> World {
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        let dialects: Vec<&'static dyn Dialect> = vec![&Mqtt5, &Mqtt3];
        let options = trivium_core::Options {
            shards: 2,
            durability: Durability::Synced,
            dialects,
            queue_memory: 1 << 20,
            log_memory: 1 << 20,
            retained_messages_max: 0,
            retained_bytes_max: 0,
            session_subscriptions_max: 0,
            limits: Default::default(),
            batch_bytes_max: 1_048_588,
            initial_rebalance_delay: Duration::ZERO,
            groups: Default::default(),
            user: None,
            default_queue_type: "classic",
            clock: now,
        };
        let store = Arc::new(MemoryStore::new());
        let broker = runtime
            .block_on(Broker::open(store.clone(), options))
            .unwrap();
        let mut options = Options::default();
        change(&mut options);
        World {
            runtime,
            store,
            broker,
            front: Mqtt::new(options),
        }
    }

    /// Lets the next write fail, and all that follow.
    pub fn break_store(&self) {
        self.store.fail_next_commit("the disk is on fire");
    }

    /// A message on any topic, as the broker itself and other protocols publish: also below `$`.
    pub fn announce(&self, topic: &str, payload: &str) {
        let message = Message {
            exchange: "amq.topic".into(),
            topic: Topic::new(topic.into(), Grammar::Slashes),
            body: Some(Bytes::copy_from_slice(payload.as_bytes())),
            key: None,
            timestamp: None,
            expiry_ms: None,
            persistence: Persistence::Persistent,
            priority: None,
            retain: false,
            native: Native {
                dialect: &Mqtt3,
                block: Bytes::new(),
            },
            origin: Arc::default(),
        };
        let mut link = self.broker.connect(Origin {
            user: "guest".into(),
            vhost: "/".into(),
            ..Origin::default()
        });
        let mut commands = vec![Command::Publish {
            token: Some(Token(1)),
            message: Arc::new(message),
            mandatory: false,
        }];
        let mut events = Vec::new();
        self.runtime.block_on(async {
            link.submit(&mut commands).await.unwrap();
            while !events
                .iter()
                .any(|it| matches!(it, Event::Confirmed { .. }))
            {
                link.receive(&mut events).await;
            }
        });
    }

    /// A client on this machine, whose connection is open and has said nothing.
    pub fn client(&self, version: Version) -> Client<'_> {
        self.client_from(version, "127.0.0.1:5000")
    }

    pub fn client_from(&self, version: Version, address: &str) -> Client<'_> {
        let peer = Peer {
            address: address.parse().unwrap(),
            local: "127.0.0.1:1883".parse().unwrap(),
        };
        let _entered = self.runtime.enter();
        Client {
            world: self,
            version,
            protocol: self.front.connect(peer, now()),
            link: self.broker.connect(Origin {
                protocol: "mqtt".into(),
                vhost: "/".into(),
                ..Origin::default()
            }),
            input: BytesMut::new(),
            effects: Effects::new(),
            output: BytesMut::new(),
            early: VecDeque::new(),
            end: None,
        }
    }

    /// A connected client with a clean session.
    pub fn connected(&self, version: Version, id: &str) -> Client<'_> {
        let mut client = self.client(version);
        assert_eq!(client.connect(id, |_| ()).reason, Reason::SUCCESS);
        client
    }

    /// A client of a session that outlives its connections.
    pub fn durable(&self, version: Version, id: &str) -> Client<'_> {
        let mut client = self.client(version);
        client.connect(id, lasting);
        client
    }
}

/// Makes a session outlive its connection.
pub fn lasting(connect: &mut Connect) {
    connect.clean_start = false;
    connect.session_expiry = 3600;
}

/// One connection, from the client's side.
pub struct Client<'w> {
    world: &'w World,
    pub version: Version,
    protocol: Box<dyn Protocol>,
    link: Link,
    input: BytesMut,
    effects: Effects,
    output: BytesMut,
    /// PUBLISH packets that came while something else was waited for.
    early: VecDeque<Publish>,
    end: Option<Result<(), CloseReason>>,
}

impl Client<'_> {
    /// Sends raw bytes.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.input.extend_from_slice(bytes);
        // Whatever the broker has to say about it comes while something is waited for; this much is certain to be read.
        self.turn();
        self
    }

    /// Sends a packet.
    pub fn send(&mut self, packet: Packet) -> &mut Self {
        let mut bytes = BytesMut::new();
        packet.encode(self.version, &mut bytes);
        self.bytes(&bytes)
    }

    /// Shows the front end the input, as far as it wants it, and hands its commands over.
    fn turn(&mut self) {
        while self.end.is_none() && self.protocol.wants_input() && !self.input.is_empty() {
            let before = self.input.len();
            let result = self
                .protocol
                .handle_input(now(), &mut self.input, &mut self.effects);
            self.after(result);
            if self.input.len() == before {
                break;
            }
        }
    }

    /// Hands over and takes in what came of a call.
    fn after(&mut self, result: Result<(), CloseReason>) {
        self.output.extend_from_slice(&self.effects.output.take());
        if self.end.is_none() {
            match result {
                Err(reason) => {
                    self.protocol.handle_disconnect(now(), &mut self.effects);
                    self.end = Some(Err(reason));
                }
                Ok(()) if self.protocol.is_closed() => self.end = Some(Ok(())),
                Ok(()) => {}
            }
        }
        if !self.effects.commands.is_empty() {
            let submitted = self.link.submit(&mut self.effects.commands);
            self.world.runtime.block_on(submitted).unwrap();
        }
    }

    /// Waits until `done`.
    fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        while !done(self) {
            let mut events = Vec::new();
            let flushed_and_received = async {
                self.link.flushed().await.unwrap();
                tokio::time::timeout(PATIENCE, self.link.receive(&mut events)).await
            };
            match self.world.runtime.block_on(flushed_and_received) {
                Ok(()) => {}
                Err(_) => panic!("{what} did not come; there is {:x?}", &self.output[..]),
            }
            for event in events {
                if self.end.is_none() {
                    let result = self.protocol.handle_event(now(), event, &mut self.effects);
                    self.after(result);
                }
            }
            self.turn();
        }
    }

    /// Waits for exactly these bytes.
    pub fn expect(&mut self, bytes: &[u8]) -> &mut Self {
        let what = format!("{bytes:x?}");
        self.until(&what, |it| {
            it.output.len() >= bytes.len() || it.end.is_some()
        });
        let length = bytes.len().min(self.output.len());
        assert_eq!(self.output.split_to(length), bytes);
        self
    }

    /// Waits for a packet, as it is on the wire.
    pub fn raw_packet(&mut self) -> Vec<u8> {
        self.until("a packet", |it| it.output.len() > 1 || it.end.is_some());
        let frame = packet::frame(&self.output, usize::MAX).unwrap().unwrap();
        self.raw(frame.total()).to_vec()
    }

    /// Waits for so many bytes.
    pub fn raw(&mut self, length: usize) -> BytesMut {
        self.until("bytes", |it| it.output.len() >= length);
        self.output.split_to(length)
    }

    /// Waits for a packet.
    pub fn packet(&mut self) -> Packet {
        self.until("a packet", |it| !it.output.is_empty() || it.end.is_some());
        let mut bytes = Bytes::copy_from_slice(&self.output);
        let packet = Packet::take(&mut bytes, self.version, usize::MAX)
            .unwrap()
            .expect("a whole packet");
        self.output.advance(self.output.len() - bytes.len());
        packet
    }

    /// Waits for a packet, or for the end.
    pub fn packet_or_end(&mut self) -> Option<Packet> {
        self.until("a packet", |it| !it.output.is_empty() || it.end.is_some());
        (!self.output.is_empty()).then(|| self.packet())
    }

    /// Lets the broker come to rest: whatever it has for this client has come.
    pub fn settle(&mut self) {
        let mut quiet = 0;
        while quiet < 4 {
            let mut events = Vec::new();
            self.world.runtime.block_on(async {
                for _ in 0..16 {
                    tokio::task::yield_now().await;
                }
                self.link.flushed().await.unwrap();
                let _ = at_once(self.link.receive(&mut events)).await;
            });
            quiet = if events.is_empty() { quiet + 1 } else { 0 };
            for event in events {
                if self.end.is_none() {
                    let result = self.protocol.handle_event(now(), event, &mut self.effects);
                    self.after(result);
                }
            }
            self.turn();
        }
    }

    /// Everything that comes up to the answer to a PINGREQ, which is sent when the broker has come to rest.
    pub fn before_pong(&mut self) -> Vec<Packet> {
        self.settle();
        self.send(Packet::PingReq);
        let mut before: Vec<_> = self.early.drain(..).map(Packet::Publish).collect();
        loop {
            match self.packet() {
                Packet::PingResp => return before,
                other => before.push(other),
            }
        }
    }

    /// Waits for a packet that is not PUBLISH.
    fn answer(&mut self) -> Packet {
        loop {
            match self.packet() {
                Packet::Publish(publish) => self.early.push_back(publish),
                other => return other,
            }
        }
    }

    /// Sends CONNECT and waits for CONNACK.
    pub fn connect(&mut self, id: &str, change: impl FnOnce(&mut Connect)) -> ConnAck {
        let mut connect = Connect::new(self.version, id.into());
        change(&mut connect);
        if !self.version.is_5() {
            connect.session_expiry = if connect.clean_start { 0 } else { u32::MAX };
        }
        self.send(Packet::Connect(Box::new(connect)));
        match self.packet() {
            Packet::ConnAck(ack) => ack,
            other => panic!("{other:?}"),
        }
    }

    pub fn subscribe(&mut self, filter: &str, qos: Qos) -> Vec<Reason> {
        self.subscribe_with(None, vec![filter_of(filter, qos)])
    }

    pub fn subscribe_with(&mut self, id: Option<u32>, filters: Vec<Filter>) -> Vec<Reason> {
        self.send(Packet::Subscribe(Subscribe {
            packet_id: 77,
            subscription_id: id,
            start: None,
            filters,
        }));
        match self.answer() {
            Packet::SubAck(SubAck {
                packet_id: 77,
                reasons,
            }) => reasons,
            other => panic!("{other:?}"),
        }
    }

    pub fn unsubscribe(&mut self, filters: &[&str]) -> Vec<Reason> {
        self.send(Packet::Unsubscribe(Unsubscribe {
            packet_id: 78,
            filters: filters.iter().map(|filter| (*filter).into()).collect(),
        }));
        match self.answer() {
            Packet::UnsubAck(UnsubAck {
                packet_id: 78,
                reasons,
            }) => reasons,
            other => panic!("{other:?}"),
        }
    }

    /// Publishes at QoS 1 and waits for PUBACK, by which time it is with everybody who gets it.
    pub fn publish(&mut self, topic: &str, payload: &str) -> Reason {
        self.publish_with(Publish {
            qos: Qos::AtLeastOnce,
            ..message(topic, payload)
        })
    }

    /// As [`Client::publish`], for a message of any QoS, of which it carries out the handshake.
    pub fn publish_with(&mut self, publish: Publish) -> Reason {
        let (qos, packet_id) = (publish.qos, 99);
        let packet_id = if qos == Qos::AtMostOnce { 0 } else { packet_id };
        self.send(Packet::Publish(Publish {
            packet_id,
            ..publish
        }));
        match qos {
            Qos::AtMostOnce => {
                self.send(Packet::PingReq);
                assert_eq!(self.answer(), Packet::PingResp);
                Reason::SUCCESS
            }
            Qos::AtLeastOnce => match self.answer() {
                Packet::PubAck(ack) => {
                    assert_eq!(ack.packet_id, packet_id);
                    ack.reason
                }
                other => panic!("{other:?}"),
            },
            Qos::ExactlyOnce => match self.answer() {
                Packet::PubRec(ack) if !ack.reason.is_error() => {
                    self.send(Packet::PubRel(Ack::new(packet_id, Reason::SUCCESS)));
                    assert_eq!(
                        self.answer(),
                        Packet::PubComp(Ack::new(packet_id, Reason::SUCCESS))
                    );
                    ack.reason
                }
                Packet::PubRec(ack) => ack.reason,
                other => panic!("{other:?}"),
            },
        }
    }

    /// Waits for a PUBLISH, without acknowledging it.
    pub fn message(&mut self) -> Publish {
        if let Some(early) = self.early.pop_front() {
            return early;
        }
        match self.packet() {
            Packet::Publish(publish) => publish,
            other => panic!("{other:?}"),
        }
    }

    /// Waits for a PUBLISH and acknowledges it, to the end of its handshake.
    pub fn take(&mut self) -> Publish {
        let publish = self.message();
        match publish.qos {
            Qos::AtMostOnce => {}
            Qos::AtLeastOnce => {
                self.send(Packet::PubAck(Ack::new(publish.packet_id, Reason::SUCCESS)));
            }
            Qos::ExactlyOnce => {
                self.send(Packet::PubRec(Ack::new(publish.packet_id, Reason::SUCCESS)));
                match self.answer() {
                    Packet::PubRel(ack) => assert_eq!(ack.packet_id, publish.packet_id),
                    other => panic!("{other:?}"),
                }
                self.send(Packet::PubComp(Ack::new(
                    publish.packet_id,
                    Reason::SUCCESS,
                )));
            }
        }
        publish
    }

    /// Waits for PUBLISH packets with these payloads, in order.
    pub fn take_all(&mut self, payloads: &[&str]) {
        for payload in payloads {
            assert_eq!(self.take().payload, *payload);
        }
    }

    /// That nothing has come up to a message that is published now, by `by` on `topic`, which this client subscribes to.
    pub fn nothing_before(&mut self, by: &mut Client<'_>, topic: &str) {
        by.publish(topic, "fence");
        assert_eq!(self.take().payload, "fence");
    }

    /// Waits for the end of the connection; everything that came has been taken.
    pub fn closed(&mut self) {
        self.until("the end", |it| it.end.is_some());
        assert!(self.output.is_empty(), "{:x?}", &self.output[..]);
    }

    /// Waits for the end of the connection; a version 5 client is told this reason as the last thing.
    pub fn closed_with(&mut self, reason: Reason) {
        self.until("the end", |it| it.end.is_some());
        if self.version.is_5() {
            match self.packet() {
                Packet::Disconnect(Disconnect { reason: told, .. }) => assert_eq!(told, reason),
                other => panic!("{other:?}"),
            }
        }
        assert!(self.output.is_empty(), "{:x?}", &self.output[..]);
    }

    pub fn is_closed(&self) -> bool {
        self.end.is_some()
    }

    /// Says goodbye and waits for the broker to close.
    pub fn disconnect(mut self) {
        self.send(Packet::Disconnect(Disconnect::default()));
        self.closed();
        self.gone();
    }

    /// Drops the connection without a word.
    pub fn vanish(mut self) {
        if self.end.is_none() {
            self.protocol.handle_disconnect(now(), &mut self.effects);
            self.after(Ok(()));
        }
        self.gone();
    }

    /// Lets the broker notice that the link has gone.
    fn gone(self) {
        let Client { world, link, .. } = self;
        world.runtime.block_on(async {
            drop(link);
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
        });
    }

    /// Lets the time pass for this connection as well.
    pub fn wait(&mut self, seconds: f64) -> &mut Self {
        advance(seconds);
        if self
            .protocol
            .next_timeout()
            .is_some_and(|at| at <= now().instant)
        {
            let result = self.protocol.handle_timeout(now(), &mut self.effects);
            self.after(result);
        }
        self
    }
}

pub fn message(topic: &str, payload: &str) -> Publish {
    Publish {
        topic: topic.into(),
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        ..Publish::default()
    }
}

pub fn filter_of(filter: &str, qos: Qos) -> Filter {
    Filter {
        filter: filter.into(),
        qos,
        no_local: false,
        retain_as_published: false,
        retain_handling: Default::default(),
    }
}

/// A will at QoS 1.
pub fn will(topic: &str, payload: &str) -> trivium_mqtt::packet::Will {
    trivium_mqtt::packet::Will {
        topic: topic.into(),
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        qos: Qos::AtLeastOnce,
        retain: false,
        delay: 0,
        expiry: None,
        block: Bytes::new(),
    }
}

/// That each of these bytes ends a connection of each version, with this reason in version 5.
pub fn each_closes(cases: &[(&[Version], &[u8])], reason: Reason) {
    let world = World::new();
    for (index, (versions, bytes)) in cases.iter().enumerate() {
        for version in *versions {
            let mut client = world.connected(*version, &format!("closes{index}"));
            client.bytes(bytes).closed_with(reason);
        }
    }
}

/// The identifiers of the properties in a packet of the broker, whose block begins at `at`; for those that it may send
/// outside of PUBLISH.
pub fn property_ids(packet: &[u8], at: usize) -> Vec<u8> {
    let mut block = &packet[at..];
    let length = usize::from(block[0]);
    block = &block[1..=length];
    let mut ids = Vec::new();
    while let Some((id, rest)) = block.split_first() {
        let text = || 2 + usize::from(u16::from_be_bytes([rest[0], rest[1]]));
        let length = match id {
            0x24 | 0x25 | 0x28 | 0x29 | 0x2a => 1,
            0x13 | 0x21 | 0x22 => 2,
            0x11 | 0x27 => 4,
            0x12 | 0x15 | 0x16 | 0x1a | 0x1c | 0x1f => text(),
            0x26 => text() + 2 + usize::from(u16::from_be_bytes([rest[text()], rest[text() + 1]])),
            other => panic!("property {other:#x}"),
        };
        ids.push(*id);
        block = &rest[length..];
    }
    ids
}

/// What a future has, if it has it now.
async fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    poll_fn(|context| {
        Poll::Ready(match future.as_mut().poll(context) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        })
    })
    .await
}
