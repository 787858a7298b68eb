//! A scripted client: bytes in, bytes and commands out, and a core that answers by hand.
#![allow(dead_code, reason = "each test file uses a part")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{BufMut, Bytes, BytesMut};
use trivium_core::{
    Change, Command, ConsumerId, Delivery, DeliveryId, Event, Grammar, Message, Native, Now,
    Origin, Persistence, Plain, Reply, Timestamp, Token, Topic,
};
use trivium_mqtt::{
    Mqtt, Mqtt5, Options,
    packet::{ConnAck, Connect, Packet, Publish, Qos, Reason, Subscribe, Version},
};
use trivium_protocol::{CloseReason, Effects, Frontend, Peer as Address, Protocol};

/// How bytes reach the state machine.
#[derive(Clone, Copy, Debug)]
pub enum Feed {
    Whole,
    Bytewise,
}

/// A client of one version and the connection that it talks to.
pub struct Peer {
    pub version: Version,
    pub protocol: Box<dyn Protocol>,
    pub now: Now,
    /// All but the parting.
    pub commands: Vec<Command>,
    /// Whether the client has left its session, and then whether its will is to be published.
    pub parted: Option<bool>,
    feed: Feed,
    input: BytesMut,
    effects: Effects,
}

/// Tells a story with every version named, whole and byte by byte.
pub fn story(versions: &[Version], tell: impl Fn(Peer)) {
    for version in versions {
        for feed in [Feed::Whole, Feed::Bytewise] {
            tell(Peer::new(*version, feed));
        }
    }
}

/// As [`story`], with changed options.
pub fn story_with(versions: &[Version], change: impl Fn(&mut Options), tell: impl Fn(Peer)) {
    for version in versions {
        for feed in [Feed::Whole, Feed::Bytewise] {
            let mut options = options();
            change(&mut options);
            tell(Peer::with_options(*version, feed, options));
        }
    }
}

fn options() -> Options {
    Options {
        receive_maximum: 4,
        maximum_packet_size: 100_000,
        ..Options::default()
    }
}

pub const ALL: &[Version] = &[Version::V31, Version::V311, Version::V5];
pub const V3: &[Version] = &[Version::V31, Version::V311];
pub const V5: &[Version] = &[Version::V5];

/// The clocks' origin. Tests only ever add to it.
#[allow(
    clippy::disallowed_methods,
    reason = "an instant can only be made by the clock"
)]
fn epoch() -> Instant {
    Instant::now()
}

impl Peer {
    pub fn new(version: Version, feed: Feed) -> Peer {
        Peer::with_options(version, feed, options())
    }

    pub fn with_options(version: Version, feed: Feed, options: Options) -> Peer {
        let now = Now {
            instant: epoch(),
            wall: Timestamp(1_000_000),
        };
        let address = Address {
            address: "127.0.0.1:5000".parse().unwrap(),
            local: "127.0.0.1:1883".parse().unwrap(),
        };
        let protocol = Mqtt::new(options).connect(address, now);
        Peer::over(protocol, now, version, feed)
    }

    /// Another connection to one front end, at some time.
    pub fn of(frontend: &Mqtt, now: Now, version: Version) -> Peer {
        let address = Address {
            address: "127.0.0.1:5000".parse().unwrap(),
            local: "127.0.0.1:1883".parse().unwrap(),
        };
        Peer::over(frontend.connect(address, now), now, version, Feed::Whole)
    }

    fn over(protocol: Box<dyn Protocol>, now: Now, version: Version, feed: Feed) -> Peer {
        let (input, effects) = (BytesMut::new(), Effects::new());
        Peer {
            version,
            protocol,
            now,
            commands: Vec::new(),
            parted: None,
            feed,
            input,
            effects,
        }
    }

    fn collect(&mut self) {
        for command in self.effects.commands.drain(..) {
            match command {
                Command::Detach { publish_will } => {
                    assert_eq!(self.parted, None);
                    self.parted = Some(publish_will);
                }
                command => self.commands.push(command),
            }
        }
    }

    /// Bytes from the client.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> Result<(), CloseReason> {
        match self.feed {
            Feed::Whole => self.feed(bytes),
            Feed::Bytewise => bytes.iter().try_for_each(|byte| self.feed(&[*byte])),
        }
    }

    fn feed(&mut self, bytes: &[u8]) -> Result<(), CloseReason> {
        self.input.put_slice(bytes);
        self.resume()
    }

    /// What the connection loop does when input may be read again.
    fn resume(&mut self) -> Result<(), CloseReason> {
        let result = if self.protocol.wants_input() && !self.input.is_empty() {
            self.protocol
                .handle_input(self.now, &mut self.input, &mut self.effects)
        } else {
            Ok(())
        };
        self.collect();
        result
    }

    pub fn send(&mut self, packet: Packet) -> Result<(), CloseReason> {
        let mut bytes = BytesMut::new();
        packet.encode(self.version, &mut bytes);
        self.send_bytes(&bytes)
    }

    pub fn event(&mut self, event: Event) -> Result<(), CloseReason> {
        self.protocol
            .handle_event(self.now, event, &mut self.effects)?;
        self.collect();
        self.resume()
    }

    pub fn done(&mut self, token: Token, reply: Reply) {
        self.event(Event::Done {
            token,
            result: Ok(reply),
        })
        .unwrap();
    }

    pub fn wait(&mut self, duration: Duration) -> Result<(), CloseReason> {
        self.now.instant += duration;
        self.now.wall = self.now.wall.after(duration);
        let due = self
            .protocol
            .next_timeout()
            .is_some_and(|at| at <= self.now.instant);
        let result = if due {
            self.protocol.handle_timeout(self.now, &mut self.effects)
        } else {
            Ok(())
        };
        self.collect();
        result
    }

    pub fn vanish(&mut self) {
        self.protocol.handle_disconnect(self.now, &mut self.effects);
        self.collect();
    }

    /// The commands since the last call.
    pub fn take_commands(&mut self) -> Vec<Command> {
        std::mem::take(&mut self.commands)
    }

    /// The bytes written since the last call.
    pub fn take_bytes(&mut self) -> Bytes {
        self.effects.output.take()
    }

    /// The packets written since the last call.
    pub fn take_packets(&mut self) -> Vec<Packet> {
        let (mut bytes, mut packets) = (self.take_bytes(), Vec::new());
        while !bytes.is_empty() {
            packets.push(
                Packet::take(&mut bytes, self.version, usize::MAX)
                    .unwrap()
                    .expect("whole packets are written"),
            );
        }
        packets
    }

    /// The one packet written since the last call.
    pub fn take_packet(&mut self) -> Packet {
        let mut packets = self.take_packets();
        assert_eq!(packets.len(), 1, "{packets:?}");
        packets.remove(0)
    }

    /// Answers every definition of the last commands as if it were carried out; returns the commands.
    pub fn answer(&mut self, session_present: bool) -> Vec<Command> {
        let mut all = Vec::new();
        loop {
            let commands = self.take_commands();
            if commands.is_empty() {
                return all;
            }
            for command in &commands {
                if let Some((token, reply)) = carried_out(command, session_present) {
                    self.done(token, reply);
                }
            }
            all.extend(commands);
        }
    }

    /// A CONNECT with this peer's version, and all that follows until CONNACK.
    pub fn connect_with(&mut self, change: impl FnOnce(&mut Connect)) -> ConnAck {
        let mut connect = Connect::new(self.version, "c".into());
        change(&mut connect);
        self.send(Packet::Connect(Box::new(connect))).unwrap();
        self.answer(false);
        match self.take_packet() {
            Packet::ConnAck(ack) => ack,
            other => panic!("{other:?}"),
        }
    }

    pub fn connect(&mut self) {
        assert_eq!(self.connect_with(|_| ()).reason, Reason::SUCCESS);
    }

    pub fn connected(mut self) -> Peer {
        self.connect();
        self
    }

    pub fn subscribe(&mut self, filter: &str, qos: Qos) -> Vec<Command> {
        self.send(Packet::Subscribe(subscribe(filter, qos)))
            .unwrap();
        let commands = self.answer(false);
        self.take_packets();
        commands
    }

    pub fn deliver(&mut self, deliveries: Vec<Delivery>) -> Vec<Packet> {
        self.event(Event::Deliver {
            consumer: ConsumerId(1),
            deliveries,
        })
        .unwrap();
        self.take_packets()
    }

    /// That the connection is over, with this reason for a version 5 client.
    pub fn assert_closed(&mut self, result: Result<(), CloseReason>, reason: Reason) {
        if self.version.is_5() {
            assert_eq!(result, Ok(()));
            assert!(self.protocol.is_closed());
            let packets = self.take_packets();
            assert!(
                matches!(packets.last(), Some(Packet::Disconnect(last)) if last.reason == reason),
                "{packets:?}"
            );
        } else {
            assert!(result.is_err() || self.protocol.is_closed());
            assert!(
                !self
                    .take_packets()
                    .iter()
                    .any(|packet| matches!(packet, Packet::Disconnect(_)))
            );
        }
    }
}

fn carried_out(command: &Command, session_present: bool) -> Option<(Token, Reply)> {
    Some(match command {
        Command::Authenticate { token, .. } => (
            *token,
            Reply::Authenticated {
                user: "guest".into(),
                tags: Vec::new(),
            },
        ),
        Command::Define { token, change } => match change {
            Change::DeclareSession { client, .. } => (
                *token,
                Reply::Queue {
                    name: client.clone(),
                    messages: 0,
                    consumers: 0,
                    created: !session_present,
                },
            ),
            Change::Bind(_) | Change::Join { .. } => (*token, Reply::Bound { created: true }),
            Change::Unbind(_) | Change::Leave { .. } => (*token, Reply::Unbound { existed: true }),
            other => panic!("{other:?}"),
        },
        Command::Attach { token, .. } => (
            *token,
            Reply::Session {
                received: Vec::new(),
                releasing: Vec::new(),
            },
        ),
        _ => return None,
    })
}

pub fn subscribe(filter: &str, qos: Qos) -> Subscribe {
    let filter = trivium_mqtt::packet::Filter {
        filter: filter.into(),
        qos,
        no_local: false,
        retain_as_published: false,
        retain_handling: Default::default(),
    };
    Subscribe {
        packet_id: 7,
        subscription_id: None,
        start: None,
        filters: vec![filter],
    }
}

pub fn publish(topic: &str, qos: Qos, packet_id: u16) -> Publish {
    Publish {
        topic: topic.into(),
        qos,
        packet_id,
        payload: Bytes::from_static(b"hello"),
        ..Publish::default()
    }
}

/// A message as another client of MQTT 5 published it.
pub fn message(topic: &str) -> Message {
    Message {
        exchange: "amq.topic".into(),
        topic: Topic::new(topic.into(), Grammar::Slashes),
        body: Some(Bytes::from_static(b"hello")),
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
    }
}

/// A message as a client of another protocol published it.
pub fn foreign(topic: &str) -> Message {
    let topic = Topic::new(topic.into(), Grammar::Dots);
    Message {
        topic,
        native: Native {
            dialect: &Plain,
            block: Bytes::new(),
        },
        ..message("")
    }
}

/// A delivery of a message for a subscription with these tags.
pub fn delivery(id: u64, message: Message, tags: &[u64]) -> Delivery {
    Delivery {
        id: DeliveryId(id),
        message: Arc::new(message),
        accepted: Timestamp(1_000_000),
        redelivered: false,
        packet_id: id as u16,
        returns: 0,
        failures: 0,
        tags: tags
            .iter()
            .map(|tag| trivium_core::BindingTag(*tag))
            .collect(),
    }
}
