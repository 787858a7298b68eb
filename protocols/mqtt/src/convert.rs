//! Property blocks of MQTT 5 ↔ neutral [`Properties`] (DESIGN section 3.4).
//!
//! Between MQTT clients a block goes on as it came. This is for the hops between protocols: what MQTT has no
//! property for becomes a user property of a fixed name, and `mq.types` says which user properties were not
//! texts, as `name:tag` separated by commas, with the field-type letters of AMQP 0-9-1 as tags.

use bytes::{Bytes, BytesMut};
use trivium_core::{
    Dialect, Grammar, Message, Properties, Text, Timestamp, Topic, Value,
    typed::{self, TypeList, TypeTags, Types},
};

use crate::{
    packet::{
        Violation,
        property::{self, id},
        wire::{FIELD_MAX, Reader},
    },
    topic,
};

/// The property block of a PUBLISH of MQTT 5, without topic alias, subscription identifiers and expiry.
pub struct Mqtt5;

/// Messages of MQTT 3.1 and 3.1.1, which have no properties.
pub struct Mqtt3;

impl Dialect for Mqtt5 {
    fn id(&self) -> u8 {
        2
    }

    fn properties(&self, block: &Bytes) -> Properties {
        let mut properties = Properties::default();
        // A block was checked when it came in; of one that cannot be read to its end, the start counts.
        let _ = read(block, &mut properties);
        restore_types(&mut properties.headers);
        fill_reserved(&mut properties);
        let fills_message = |name: &str, value: &Value| match value {
            Value::Text(text) => Reserved::default().take(name.as_bytes(), text.as_bytes()),
            _ => false,
        };
        properties
            .headers
            .retain(|(name, value)| !fills_message(name, value));
        properties
    }
}

impl Dialect for Mqtt3 {
    fn id(&self) -> u8 {
        3
    }

    fn properties(&self, _block: &Bytes) -> Properties {
        Properties::default()
    }
}

/// Lists the user properties that were not texts.
const TYPES: &str = "mq.types";
/// Stands for payload format 1.
const UTF8: &str = "mq.utf8";
/// Says that there was no body.
const TOMBSTONE: &str = "mq.tombstone";
/// How a reply to MQTT is addressed in AMQP.
const AMQP_REPLY: &str = "amq.mqtt-reply.";
/// How a reply to MQTT is addressed elsewhere.
const MQTT_REPLY: &str = "mqtt:";
/// How a reply to a queue is addressed in MQTT.
pub use crate::reader::QUEUE as QUEUE_TOPIC;

fn read(block: &Bytes, into: &mut Properties) -> Result<(), Violation> {
    let mut value = Reader::new(block, 0..block.len());
    while value.remaining() > 0 {
        match value.u8()? {
            id::PAYLOAD_FORMAT => {
                if value.flag()? {
                    into.headers.push((UTF8.into(), Value::Text("1".into())));
                }
            }
            id::CONTENT_TYPE => into.content_type = Some(value.text()?),
            id::RESPONSE_TOPIC => into.reply_to = Some(value.text()?),
            id::CORRELATION_DATA => into.correlation_id = Some(value.binary()?),
            id::USER_PROPERTY => into
                .headers
                .push((value.text()?, Value::Text(value.text()?))),
            _ => return Err(property::not_allowed()),
        }
    }
    Ok(())
}

/// What user properties of reserved names say of the message itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Reserved {
    /// `mq.priority`
    pub priority: Option<u8>,
    /// `mq.ttl-ms`, for messages that have no Message Expiry Interval.
    pub expiry_ms: Option<u64>,
    /// `mq.timestamp-ms`: when the publisher says that it was made.
    pub timestamp: Option<Timestamp>,
}

impl Reserved {
    /// Reads a checked property block.
    pub fn of(block: &Bytes) -> Reserved {
        let mut reserved = Reserved::default();
        property::each_user(block, |name, value| {
            reserved.take(name, value);
        });
        reserved
    }

    /// Takes a user property, if it is one of these and says something.
    fn take(&mut self, name: &[u8], value: &[u8]) -> bool {
        match name {
            b"mq.priority" => fill(&mut self.priority, number(value)),
            b"mq.ttl-ms" => fill(&mut self.expiry_ms, number(value)),
            b"mq.timestamp-ms" => fill(&mut self.timestamp, timestamp(value)),
            _ => false,
        }
    }
}

fn fill<T>(slot: &mut Option<T>, value: Option<T>) -> bool {
    let is_some = value.is_some();
    *slot = value.or_else(|| slot.take());
    is_some
}

/// Records and AMQP's headers have signed milliseconds.
fn timestamp(digits: &[u8]) -> Option<Timestamp> {
    let ms: i64 = number(digits)?;
    ms.try_into().ok().map(Timestamp)
}

fn number<N: std::str::FromStr>(digits: &[u8]) -> Option<N> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn restore_types(headers: &mut Vec<(Text, Value)>) {
    let Some(at) = headers.iter().position(|(name, _)| *name == TYPES) else {
        return;
    };
    let (_, Value::Text(types)) = headers.remove(at) else {
        return;
    };
    let mut types = Types::parse(&types);
    for (name, value) in headers {
        if let Value::Text(text) = value {
            *value = types.value_of_text(name, text);
        }
    }
}

/// User properties with reserved names fill the properties that are not set.
fn fill_reserved(properties: &mut Properties) {
    let Properties {
        content_type,
        content_encoding,
        message_id,
        correlation_id,
        reply_to,
        kind,
        app_id,
        user_id,
        headers,
    } = properties;
    headers.retain(|(name, value)| {
        let text = match value {
            Value::Text(text) => text.clone(),
            // A text that no MQTT text can hold.
            Value::Bytes(bytes) => match Text::try_from(bytes.clone()) {
                Ok(text) => text,
                Err(_) => return true,
            },
            _ => return true,
        };
        let slot = match &**name {
            "content-type" => &mut *content_type,
            "content-encoding" => &mut *content_encoding,
            "message-id" => &mut *message_id,
            "reply-to" => &mut *reply_to,
            "user-id" => &mut *user_id,
            "mq.type" => &mut *kind,
            "mq.app-id" => &mut *app_id,
            "correlation-id" if correlation_id.is_none() => {
                *correlation_id = Some(text.as_bytes().clone());
                return false;
            }
            _ => return true,
        };
        if slot.is_some() {
            return true;
        }
        *slot = Some(text);
        false
    });
}

/// Appends the property block of a message that came by another protocol. How many properties and headers are left out.
pub fn put_block(message: &Message, out: &mut BytesMut) -> usize {
    let mut properties = message.properties();
    fill_reserved(&mut properties);
    let mut user = User {
        out,
        types: TypeList::of(&properties.headers),
        dropped: 0,
    };
    user.native(message, &properties);
    user.named(message, &properties);
    for (name, value) in &properties.headers {
        match (&**name, value) {
            (UTF8, Value::Text(text)) if *text == "1" => {
                property::put_u8(user.out, id::PAYLOAD_FORMAT, Some(1))
            }
            (name, _) if says_itself(message, name) => {}
            (name, value) => user.put(name, value),
        }
    }
    let User {
        out,
        types,
        dropped,
    } = user;
    if let Some(types) = types.finish().filter(|types| is_text(types)) {
        property::put_user(out, TYPES, &types);
    }
    dropped
}

/// Whether a user property of this name comes from the message itself, or its lifetime is that of the PUBLISH.
fn says_itself(message: &Message, name: &str) -> bool {
    match name {
        "mq.priority" => message.priority.is_some(),
        "mq.ttl-ms" => message.expiry_ms.is_some(),
        "mq.timestamp-ms" => message.timestamp.is_some(),
        "x-key" => message.key.is_some(),
        TOMBSTONE => message.body.is_none(),
        _ => false,
    }
}

/// Writes user properties and remembers the types of those that are not texts.
struct User<'a> {
    out: &'a mut BytesMut,
    types: TypeList,
    /// What no MQTT text can hold.
    dropped: usize,
}

impl User<'_> {
    /// What MQTT has properties for.
    fn native(&mut self, message: &Message, properties: &Properties) {
        match properties.content_type.as_deref() {
            Some(text) if is_text(text) => {
                property::put_binary(self.out, id::CONTENT_TYPE, Some(text))
            }
            other => self.known("content-type", other),
        }
        match &properties.correlation_id {
            Some(data) if data.len() <= FIELD_MAX => {
                property::put_binary(self.out, id::CORRELATION_DATA, Some(data));
            }
            other => self.dropped += usize::from(other.is_some()),
        }
        let Some(reply_to) = &properties.reply_to else {
            return;
        };
        match response_topic(reply_to, message.native.dialect.id())
            .filter(|name| topic::is_name(name) && is_text(name))
        {
            Some(name) => property::put_binary(self.out, id::RESPONSE_TOPIC, Some(&*name)),
            None => self.known("reply-to", Some(reply_to)),
        }
    }

    /// What MQTT has no properties for.
    fn named(&mut self, message: &Message, properties: &Properties) {
        self.known("content-encoding", properties.content_encoding.as_deref());
        self.known("message-id", properties.message_id.as_deref());
        self.known("user-id", properties.user_id.as_deref());
        self.known("mq.type", properties.kind.as_deref());
        self.known("mq.app-id", properties.app_id.as_deref());
        if let Some(priority) = message.priority {
            self.text("mq.priority", Some(&priority.to_string()));
        }
        if let Some(Timestamp(ms)) = message.timestamp {
            self.text("mq.timestamp-ms", Some(&ms.to_string()));
        }
        if message.says_transient() {
            self.text("mq.persistent", Some("0"));
        }
        if let Some(key) = &message.key {
            let text = Text::try_from(key.clone()).ok();
            self.put(
                "x-key",
                &text.map_or_else(|| Value::Bytes(key.clone()), Value::Text),
            );
        }
        if message.body.is_none() {
            self.text(TOMBSTONE, Some("true"));
        }
    }

    /// A property by its common name.
    fn known(&mut self, name: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.put(name, &Value::Text(text.into()));
        }
    }

    fn put(&mut self, name: &str, value: &Value) {
        let (written, tags) = match value {
            Value::Text(text) if is_text(text) => {
                (self.text(name, Some(text)), TypeTags::default())
            }
            Value::Text(text) => self.typed(name, &Value::Bytes(text.as_bytes().clone())),
            other => self.typed(name, other),
        };
        if written {
            self.types.add(name, &tags);
        }
    }

    fn typed(&mut self, name: &str, value: &Value) -> (bool, TypeTags) {
        let (text, tags) = typed::to_text(value);
        (self.text(name, Some(&text)), tags)
    }

    /// Leaves out what no MQTT text can hold: over 65,535 bytes, or with U+0000. Whether it is written.
    fn text(&mut self, name: &str, value: Option<&str>) -> bool {
        let Some(value) = value else {
            return false;
        };
        let fits = is_text(name) && is_text(value);
        if fits {
            property::put_user(self.out, name, value);
        } else {
            self.dropped += 1;
        }
        fits
    }
}

fn is_text(text: &str) -> bool {
    text.len() <= FIELD_MAX && !text.as_bytes().contains(&0)
}

/// What an address of another protocol is as a response topic.
fn response_topic(reply_to: &Text, dialect: u8) -> Option<String> {
    if let Some(key) = reply_to.strip_prefix(AMQP_REPLY) {
        return Some(
            Topic::new(key.into(), Grammar::Dots)
                .render(Grammar::Slashes)
                .to_string(),
        );
    }
    if let Some(topic) = reply_to.strip_prefix(MQTT_REPLY) {
        return Some(topic.to_owned());
    }
    // What a publisher of MQTT says is a topic already.
    (dialect != Mqtt5.id()).then(|| format!("{QUEUE_TOPIC}{reply_to}"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use trivium_core::{Native, Origin, Persistence, laws};

    use super::*;

    /// A dialect of another protocol that always says the same.
    struct Foreign(Properties);

    /// The dialect of AMQP 0-9-1.
    const AMQP: u8 = 1;

    impl Dialect for Foreign {
        fn id(&self) -> u8 {
            AMQP
        }

        fn properties(&self, _: &Bytes) -> Properties {
            self.0.clone()
        }
    }

    fn message(properties: Properties) -> Message {
        Message {
            exchange: "amq.topic".into(),
            topic: Topic::new("a.b".into(), Grammar::Dots),
            body: Some(Bytes::from_static(b"x")),
            key: None,
            timestamp: None,
            expiry_ms: None,
            persistence: Persistence::Persistent,
            priority: None,
            retain: false,
            native: Native {
                dialect: Box::leak(Box::new(Foreign(properties))),
                block: Bytes::new(),
            },
            origin: Arc::new(Origin::default()),
        }
    }

    fn there_and_back(message: &Message) -> Properties {
        let mut block = BytesMut::new();
        put_block(message, &mut block);
        Mqtt5.properties(&block.freeze())
    }

    #[test]
    fn texts_with_u_0000_are_base64_and_what_is_too_long_is_counted() {
        let nul = Text::from("a\0b");
        let given = Properties {
            content_type: Some(nul.clone()),
            message_id: Some(nul.clone()),
            correlation_id: Some(vec![0; FIELD_MAX + 1].into()),
            headers: vec![
                ("h".into(), Value::Text("v".repeat(FIELD_MAX + 1).into())),
                ("n\0".into(), Value::Text("v".into())),
            ],
            ..Properties::default()
        };
        let mut block = BytesMut::new();
        assert_eq!(put_block(&message(given), &mut block), 3);
        let expected = Properties {
            content_type: Some(nul.clone()),
            message_id: Some(nul),
            ..Properties::default()
        };
        assert_eq!(Mqtt5.properties(&block.freeze()), expected);
    }

    #[test]
    fn design_3_4_every_basic_property_and_header_type_comes_back() {
        let text = |text: &str| Some(Text::from(text));
        let properties = Properties {
            content_type: text("application/json"),
            content_encoding: text("gzip"),
            message_id: text("m-1"),
            correlation_id: Some(Bytes::from_static(&[0, 255])),
            reply_to: None,
            kind: text("order"),
            app_id: text("shop"),
            user_id: text("guest"),
            headers: vec![
                ("traceparent".into(), Value::Text("00-1".into())),
                ("null".into(), Value::Null),
                ("bool".into(), Value::Bool(true)),
                ("i8".into(), Value::I8(-1)),
                ("u8".into(), Value::U8(200)),
                ("i16".into(), Value::I16(-300)),
                ("u16".into(), Value::U16(60_000)),
                ("i32".into(), Value::I32(-70_000)),
                ("u32".into(), Value::U32(4_000_000_000)),
                ("i64".into(), Value::I64(i64::MIN)),
                ("f32".into(), Value::F32(0.1)),
                ("f64".into(), Value::F64(1e300)),
                ("decimal".into(), Value::Decimal(2, -12_305)),
                ("bytes".into(), Value::Bytes(Bytes::from_static(&[0xff, 0]))),
                ("time".into(), Value::Timestamp(1_700_000_000)),
                (
                    "list".into(),
                    Value::Array(vec![Value::I64(1), Value::Text("a".into()), Value::Null]),
                ),
                (
                    "table".into(),
                    Value::Table(vec![("k".into(), Value::Bool(false))]),
                ),
            ],
        };
        assert_eq!(there_and_back(&message(properties.clone())), properties);
    }

    #[test]
    fn design_3_4_reply_addresses() {
        let name = |reply_to: &str| response_topic(&reply_to.into(), AMQP).unwrap();
        assert_eq!(name("replies"), "$queue/replies");
        assert_eq!(name("amq.mqtt-reply.a.b%2Ec"), "a/b.c");
        assert_eq!(response_topic(&"mqtt:a/b".into(), 0).unwrap(), "a/b");
        assert_eq!(response_topic(&"queue".into(), 0).unwrap(), "$queue/queue");
    }

    #[test]
    fn design_3_4_a_null_body_is_marked_and_what_fits_no_text_is_left_out() {
        let long = "x".repeat(FIELD_MAX + 1);
        let headers = vec![
            ("long".into(), Value::Text(long.into())),
            ("nul".into(), Value::Text("a\0".into())),
        ];
        let mut message = message(Properties {
            headers,
            ..Properties::default()
        });
        message.body = None;
        let back = there_and_back(&message).headers;
        assert!(back.contains(&(TOMBSTONE.into(), Value::Text("true".into()))));
        assert!(back.contains(&("nul".into(), Value::Bytes(Bytes::from_static(b"a\0")))));
        assert!(!back.iter().any(|(name, _)| *name == "long"));
    }

    #[test]
    fn design_3_4_user_properties_of_reserved_names_fill_the_message() {
        let mut message = message(Properties::default());
        (message.priority, message.expiry_ms) = (Some(3), Some(5_000));
        message.timestamp = Some(Timestamp(1_700_000_000_123));
        let mut block = BytesMut::new();
        put_block(&message, &mut block);
        property::put_user(&mut block, "mq.ttl-ms", "9");
        property::put_user(&mut block, "mq.ttl-ms", "nine");
        let block = block.freeze();
        let reserved = Reserved {
            priority: Some(3),
            expiry_ms: Some(9),
            timestamp: Some(Timestamp(1_700_000_000_123)),
        };
        assert_eq!(Reserved::of(&block), reserved);
        let headers = Mqtt5.properties(&block).headers;
        assert_eq!(headers, [("mq.ttl-ms".into(), Value::Text("nine".into()))]);
        assert_eq!(Reserved::of(&block.slice(..5)), Reserved::default());
    }

    #[test]
    fn a_native_property_wins_over_a_user_property_of_its_name() {
        let mut block = BytesMut::new();
        property::put_binary(&mut block, id::CONTENT_TYPE, Some("a"));
        property::put_user(&mut block, "content-type", "b");
        property::put_user(&mut block, "message-id", "1");
        property::put_user(&mut block, "message-id", "2");
        let properties = Mqtt5.properties(&block.freeze());
        assert_eq!(properties.content_type.as_deref(), Some("a"));
        assert_eq!(properties.message_id.as_deref(), Some("1"));
        let names: Vec<_> = properties.headers.iter().map(|(name, _)| &**name).collect();
        assert_eq!(names, ["content-type", "message-id"]);
    }

    #[test]
    fn a_block_that_cannot_be_read_is_left_out() {
        for bad in [
            &[0xff][..],
            &[id::CONTENT_TYPE, 0xff, 0xff],
            &[id::USER_PROPERTY, 0, 1, b'a', 0],
        ] {
            assert_eq!(
                Mqtt5.properties(&Bytes::copy_from_slice(bad)),
                Properties::default()
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(laws::CASES))]

        #[test]
        fn design_3_4_what_became_user_properties_is_read_back(
            properties in laws::properties(),
            details in laws::details(),
        ) {
            let given = details.clone().put(laws::message(properties.clone(), AMQP));
            let mut block = BytesMut::new();
            put_block(&given, &mut block);
            let block = block.freeze();
            let mut back = Mqtt5.properties(&block);
            // These two are for whoever hands the message on.
            back.headers.retain(|(name, _)| !["mq.persistent", "x-key", TOMBSTONE].contains(&&**name));
            prop_assert_eq!(back, properties);
            let reserved = Reserved { priority: details.priority, expiry_ms: None, timestamp: details.timestamp };
            prop_assert_eq!(Reserved::of(&block), reserved);
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            Mqtt5.properties(&bytes.into());
        }
    }
}
