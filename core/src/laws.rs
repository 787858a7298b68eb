//! Random messages for the laws of DESIGN section 3.4: what a protocol makes of neutral properties, it reads back.

use bytes::Bytes;
use proptest::{collection, option, prelude::*};

use crate::{
    message::{Dialect, Message, Native, Persistence},
    properties::{Properties, Text, Value},
    time::Timestamp,
    topic::{Grammar, Topic},
};

/// Cases of each law.
pub const CASES: u32 = 2_000;

/// A dialect whose messages all have the same properties.
struct Given {
    id: u8,
    properties: Properties,
}

impl Dialect for Given {
    fn id(&self) -> u8 {
        self.id
    }

    fn properties(&self, _: &Bytes) -> Properties {
        self.properties.clone()
    }
}

/// A message on `amq.topic` with these properties, as if the dialect of that number had read them.
pub fn message(properties: Properties, dialect: u8) -> Message {
    let dialect: &'static dyn Dialect = Box::leak(Box::new(Given {
        id: dialect,
        properties,
    }));
    let topic = Topic::new("a.b".into(), Grammar::Dots);
    let body = Bytes::from_static(b"body");
    Message {
        native: Native {
            dialect,
            block: Bytes::new(),
        },
        ..Message::plain("amq.topic".into(), topic, body, Default::default())
    }
}

/// What a message has besides its properties.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Details {
    /// See [`Message::timestamp`].
    pub timestamp: Option<Timestamp>,
    /// See [`Message::expiry_ms`].
    pub expiry_ms: Option<u64>,
    /// See [`Message::persistence`].
    pub persistence: Persistence,
    /// See [`Message::priority`].
    pub priority: Option<u8>,
    /// See [`Message::retain`].
    pub retain: bool,
    /// See [`Message::key`].
    pub key: Option<Bytes>,
    /// See [`Message::body`].
    pub body: Option<Bytes>,
}

impl Details {
    /// Those of a message.
    pub fn of(message: &Message) -> Details {
        Details {
            timestamp: message.timestamp,
            expiry_ms: message.expiry_ms,
            persistence: message.persistence,
            priority: message.priority,
            retain: message.retain,
            key: message.key.clone(),
            body: message.body.clone(),
        }
    }

    /// The message with these.
    pub fn put(self, message: Message) -> Message {
        Message {
            timestamp: self.timestamp,
            expiry_ms: self.expiry_ms,
            persistence: self.persistence,
            priority: self.priority,
            retain: self.retain,
            key: self.key,
            body: self.body,
            ..message
        }
    }
}

/// Details that every protocol but MQTT 3.1.1 can say.
pub fn details() -> impl Strategy<Value = Details> {
    let persistence = prop_oneof![Just(Persistence::Transient), Just(Persistence::Persistent)];
    (
        option::of(0..1_u64 << 42),
        option::of(any::<u64>()),
        persistence,
        any::<Option<u8>>(),
        any::<bool>(),
        option::of(bytes()),
        option::of(bytes()),
    )
        .prop_map(
            |(timestamp, expiry_ms, persistence, priority, retain, key, body)| Details {
                timestamp: timestamp.map(Timestamp),
                expiry_ms,
                persistence,
                priority,
                retain,
                key,
                body,
            },
        )
}

/// Properties without a reply address, which each protocol spells in its own way; header names come once.
pub fn properties() -> impl Strategy<Value = Properties> {
    // Over and under what a short string of AMQP holds.
    let text = || option::of("\\PC{0,20}|[a-z]{250,260}").prop_map(|it| it.map(Text::from));
    let headers = collection::btree_map("h[a-z.:,%\\[\\]é]{0,6}", value(), 0..6);
    let correlation = option::of(prop_oneof![
        bytes(),
        "\\PC{0,20}".prop_map(|text| Bytes::from(text.into_bytes()))
    ]);
    (
        (text(), text(), text(), text()),
        (text(), text(), correlation),
        headers,
    )
        .prop_map(
            |(
                (content_type, content_encoding, message_id, kind),
                (app_id, user_id, correlation_id),
                headers,
            )| Properties {
                content_type,
                content_encoding,
                message_id,
                correlation_id,
                reply_to: None,
                kind,
                app_id,
                user_id,
                headers: headers
                    .into_iter()
                    .map(|(name, value)| (name.into(), value))
                    .collect(),
            },
        )
}

/// A header value of any type, nested to a few levels.
pub fn value() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(3, 24, 4, |inner| {
        let entries = collection::btree_map("[a-c.:,%\\[\\]]{0,3}", inner.clone(), 0..4);
        prop_oneof![
            collection::vec(inner, 0..4).prop_map(Value::Array),
            entries
                .prop_map(|entries| entries.into_iter().collect::<Vec<_>>())
                .prop_shuffle()
                .prop_map(|entries| {
                    let entries = entries.into_iter();
                    Value::Table(entries.map(|(name, value)| (name.into(), value)).collect())
                }),
        ]
    })
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<bool>().prop_map(Value::Bool),
        any::<i8>().prop_map(Value::I8),
        any::<u8>().prop_map(Value::U8),
        any::<i16>().prop_map(Value::I16),
        any::<u16>().prop_map(Value::U16),
        any::<i32>().prop_map(Value::I32),
        any::<u32>().prop_map(Value::U32),
        any::<i64>().prop_map(Value::I64),
        any::<u64>().prop_map(Value::Timestamp),
        (-1e30_f32..1e30).prop_map(Value::F32),
        Just(Value::F32(f32::INFINITY)),
        (-1e300_f64..1e300).prop_map(Value::F64),
        Just(Value::F64(f64::NEG_INFINITY)),
        (0..30_u8, any::<i32>()).prop_map(|(scale, unscaled)| Value::Decimal(scale, unscaled)),
        "\\PC{0,8}".prop_map(|text| Value::Text(text.into())),
        bytes().prop_map(Value::Bytes),
        Just(Value::Null),
    ]
}

/// A few bytes.
pub fn bytes() -> impl Strategy<Value = Bytes> {
    collection::vec(any::<u8>(), 0..20).prop_map(Bytes::from)
}
