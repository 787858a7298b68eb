//! A message on its way: what the core acts on, and the origin's own bytes.

use std::{fmt, sync::Arc};

use bytes::{BufMut, Bytes, BytesMut};

use crate::{
    deaths::Deaths,
    properties::{Properties, Text, Value},
    time::Timestamp,
    topic::{Grammar, Topic},
};

/// Below this a message that is to stay is worth a copy.
const DETACHED_BYTES_MAX: usize = 16 << 10;

/// A published message (DESIGN section 3.3).
///
/// The core reads only these fields. Everything else the publisher said stays in `native`, in the
/// publisher's own encoding, and is converted when a reader of another protocol asks.
#[derive(Clone, Debug)]
pub struct Message {
    /// The exchange it was published to; empty for the default exchange.
    pub exchange: Text,
    /// The routing key, MQTT topic or log name.
    pub topic: Topic,
    /// The payload. Absent (a Kafka null) is not empty.
    pub body: Option<Bytes>,
    /// The record key, when the publisher set one.
    pub key: Option<Bytes>,
    /// When the publisher says it was made; absent means that the broker's clock decides.
    pub timestamp: Option<Timestamp>,
    /// Lifetime in milliseconds from when the broker accepted it.
    pub expiry_ms: Option<u64>,
    /// Whether it asks to survive a restart; unset is not transient.
    pub persistence: Persistence,
    /// 0 to 255, when set.
    pub priority: Option<u8>,
    /// Whether it replaces (or, with an empty body, clears) the retained message of its topic.
    pub retain: bool,
    /// The rest, as the publisher encoded it.
    pub native: Native,
    /// Who sent it; shared by all messages of a connection.
    pub origin: Arc<Origin>,
}

impl Message {
    /// A message of a publisher that says no more than this; it asks to survive a restart.
    pub fn plain(exchange: Text, topic: Topic, body: Bytes, origin: Arc<Origin>) -> Message {
        Message {
            exchange,
            topic,
            body: Some(body),
            key: None,
            timestamp: None,
            expiry_ms: None,
            persistence: Persistence::Persistent,
            priority: None,
            retain: false,
            native: Native {
                dialect: &Plain,
                block: Bytes::new(),
            },
            origin,
        }
    }

    /// The neutral form of what is in `native`, and how it died.
    pub fn properties(&self) -> Properties {
        let mut properties = self.native.dialect.properties(&self.native.block);
        if let Some(deaths) = &self.origin.deaths {
            deaths.add_to(&mut properties.headers);
        }
        properties
    }

    /// Whether durable destinations must store it. Unset counts as the protocol's own default,
    /// which front ends put into `persistence`; for other protocols unset is persistent.
    pub fn is_persistent(&self) -> bool {
        self.persistence != Persistence::Transient
    }

    /// Whether its publisher said that it need not survive. Unset is not that.
    pub fn says_transient(&self) -> bool {
        let Native { dialect, block } = &self.native;
        self.persistence == Persistence::Transient && !dialect.leaves_persistence_open(block)
    }

    /// Whether its publisher sent it at most once (MQTT QoS 0), so that no session keeps it. An AMQP publisher
    /// that asks for no persistence still wants its message delivered.
    pub fn is_fire_and_forget(&self) -> bool {
        self.persistence == Persistence::Transient && self.topic.grammar() == Grammar::Slashes
    }

    /// Whether its time is up, if the broker accepted it at `accepted`.
    pub fn is_expired(&self, accepted: Timestamp, now: Timestamp) -> bool {
        self.expiry_ms
            .is_some_and(|expiry_ms| accepted.0.saturating_add(expiry_ms) <= now.0)
    }

    /// The message in memory of its own, if it is small: a slice keeps the whole buffer that it was read into.
    pub(crate) fn detached(message: Arc<Message>) -> Arc<Message> {
        if message.size() > DETACHED_BYTES_MAX {
            return message;
        }
        let mut memory = BytesMut::with_capacity(message.size() + message.exchange.len());
        let mut copy = |bytes: &[u8]| {
            memory.put_slice(bytes);
            memory.split().freeze()
        };
        let mut copy_text =
            |text: &Text| Text::try_from(copy(text.as_bytes())).expect("a copy of text is text");
        let exchange = copy_text(&message.exchange);
        let topic = Topic::new(copy_text(message.topic.text()), message.topic.grammar());
        Arc::new(Message {
            exchange,
            topic,
            body: message.body.as_deref().map(&mut copy),
            key: message.key.as_deref().map(&mut copy),
            native: Native {
                dialect: message.native.dialect,
                block: copy(&message.native.block),
            },
            ..(*message).clone()
        })
    }

    /// Bytes it occupies in memory, for budgets.
    pub fn size(&self) -> usize {
        self.body.as_ref().map_or(0, Bytes::len)
            + self.key.as_ref().map_or(0, Bytes::len)
            + self.native.block.len()
            + self.topic.text().len()
    }
}

/// Whether a message asks to survive a restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Persistence {
    /// The publisher did not say.
    #[default]
    Unset,
    /// It may be lost with the process (AMQP delivery mode 1 or none, MQTT QoS 0).
    Transient,
    /// It must survive (AMQP delivery mode 2, MQTT QoS 1, Kafka).
    Persistent,
    /// It must survive, and be delivered once where a protocol can do that (MQTT QoS 2).
    ExactlyOnce,
}

/// A property block in the encoding of the protocol that the message came by.
#[derive(Clone, Debug)]
pub struct Native {
    /// Who can read it.
    pub dialect: &'static dyn Dialect,
    /// The bytes as they came, already validated by the front end.
    pub block: Bytes,
}

/// How one protocol encodes properties. Front ends hand their dialects to the broker when it opens,
/// so that a stored message finds its own again.
pub trait Dialect: Send + Sync + 'static {
    /// A stable number, part of the on-disk format: 0 records (the core's own), 1 AMQP 0-9-1,
    /// 2 MQTT 5, 3 MQTT 3; 16 and above for others.
    fn id(&self) -> u8;

    /// Decodes a block that this dialect's front end accepted earlier. What cannot be read
    /// (a newer format) is left out; nothing panics.
    fn properties(&self, block: &Bytes) -> Properties;

    /// How many headers a block has.
    fn headers(&self, block: &Bytes) -> usize {
        self.properties(block).headers.len()
    }

    /// Whether the publisher asks in so many words that the message need not survive (AMQP's delivery mode 1).
    fn asks_for_transience(&self, block: &Bytes) -> bool {
        let _ = block;
        false
    }

    /// Whether the publisher left open whether the message has to survive, whatever its protocol then takes it for.
    fn leaves_persistence_open(&self, block: &Bytes) -> bool {
        let _ = block;
        false
    }

    /// The block with the value of a header that it has replaced. A dialect that cannot say it leaves it as it is.
    fn with_header(&self, block: &Bytes, name: &str, value: &Value) -> Bytes {
        let _ = (name, value);
        block.clone()
    }
}

impl fmt::Debug for dyn Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dialect({})", self.id())
    }
}

/// The dialect of messages without properties, and of tests.
#[derive(Clone, Copy, Debug)]
pub struct Plain;

impl Dialect for Plain {
    fn id(&self) -> u8 {
        255
    }

    fn properties(&self, _block: &Bytes) -> Properties {
        Properties::default()
    }
}

/// Where a message came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// `amqp`, `kafka`, `mqtt`, or a plug-in's name.
    pub protocol: Text,
    /// MQTT client identifier, Kafka client id, or empty.
    pub client: Text,
    /// The authenticated user.
    pub user: Text,
    /// The vhost of the connection.
    pub vhost: Text,
    /// What it went through since, if it is a dead letter.
    pub deaths: Option<Arc<Deaths>>,
    /// More routing keys of it that nobody is shown, and that count again when it dies (AMQP's BCC).
    pub blind_copies: Option<Arc<Vec<Text>>>,
}
