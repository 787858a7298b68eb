//! Between messages of other protocols and records (DESIGN section 3.4).
//!
//! A record becomes a message whose native block is the record's header section behind a few bytes that say where
//! the record is, so record → message → record is the identity. Messages of other dialects go through their neutral
//! properties: names for what a record lacks, values as text, and `mq.types` for what was not text.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{
    batch::HEADER_BYTES,
    record::{Record, RecordHeader, header_count, headers, write_headers},
    settings::Settings,
};
use crate::{
    event::Refusal,
    id::{ConnectionId, Offset},
    message::{Dialect, Message, Native, Origin, Persistence},
    properties::{Properties, Text, Value},
    time::Timestamp,
    topic::{Grammar, Topic},
    typed,
};

/// Names of properties that records (and MQTT's user properties) lack.
pub(crate) mod names {
    pub const CONTENT_TYPE: &str = "content-type";
    pub const CONTENT_ENCODING: &str = "content-encoding";
    pub const MESSAGE_ID: &str = "message-id";
    pub const CORRELATION_ID: &str = "correlation-id";
    pub const REPLY_TO: &str = "reply-to";
    pub const USER_ID: &str = "user-id";
    pub const TYPE: &str = "mq.type";
    pub const APP_ID: &str = "mq.app-id";
    pub const PRIORITY: &str = "mq.priority";
    pub const TTL_MS: &str = "mq.ttl-ms";
    /// `0` where the publisher said that the message is not persistent; absent otherwise. Null in a stream where its
    /// publisher did not say.
    pub const PERSISTENT: &str = "mq.persistent";
    /// What MQTT has in place of it: the quality of service, where it is not 1.
    pub const QOS: &str = "mq.qos";
    pub const RETAIN: &str = "mq.retain";
    pub const CLIENT_ID: &str = "mq.client-id";
    pub const TYPES: &str = "mq.types";
    /// `true` makes the value null.
    pub const TOMBSTONE: &str = "mq.tombstone";
    /// The envelope of a message in a stream: see [`Settings::envelope`](super::Settings::envelope).
    pub const EXCHANGE: &str = "mq.exchange";
    pub const ROUTING_KEY: &str = "mq.routing-key";
    /// When the publisher says that it was made, in milliseconds.
    pub const TIMESTAMP: &str = "mq.timestamp-ms";
    /// Overrides the record's key.
    pub const KEY: &str = "x-key";
    /// Routes, and is removed.
    pub const BCC: &str = "BCC";
}

/// A record to be packed by the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NewRecord {
    /// The broker's clock decides where there is none.
    pub timestamp: Option<Timestamp>,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    /// A header section: see [`write_headers`].
    pub headers: Bytes,
}

impl NewRecord {
    /// Whether a log with these settings takes it; `bytes_max` is the bound of logs that have none of their own.
    pub fn check(&self, log: &Text, settings: &Settings, bytes_max: usize) -> Result<(), Refusal> {
        let size = self.batch_bytes();
        let limit = settings.batch_bytes_max.unwrap_or(bytes_max);
        if size > limit {
            let name = log.clone();
            return Err(Refusal::TooLarge { name, size, limit });
        }
        if settings.compact.is_some() && self.key.is_none() {
            let text = format!("log '{log}' is compacted: a message needs a key");
            return Err(Refusal::Invalid(text.into()));
        }
        Ok(())
    }

    /// Bytes of a batch that holds nothing else, at most.
    fn batch_bytes(&self) -> usize {
        let section = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        HEADER_BYTES
            + RECORD_OVERHEAD
            + section(&self.key)
            + section(&self.value)
            + self.headers.len()
    }
}

/// Attributes and five numbers of variable length: a record around its key, value and headers, at most.
const RECORD_OVERHEAD: usize = 1 + 5 + 10 + 5 + 5 + 5;

/// What becomes the key of a message whose publisher gave none (`mq.key`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum KeyRule {
    /// The topic, as AMQP and Kafka spell it.
    #[default]
    Topic,
    /// The publisher's client identifier.
    ClientId,
    /// A level of the topic, the first is 1.
    Level(usize),
    /// A property or header.
    Property(Text),
    /// No key.
    None,
}

impl KeyRule {
    /// Reads `topic`, `clientid`, `level(n)`, `property(name)` or `none`.
    pub fn parse(text: &str) -> Option<KeyRule> {
        let argument = |name: &str| {
            text.strip_prefix(name)?
                .strip_prefix('(')?
                .strip_suffix(')')
        };
        match text {
            "topic" => Some(KeyRule::Topic),
            "clientid" => Some(KeyRule::ClientId),
            "none" => Some(KeyRule::None),
            _ => match argument("level") {
                Some(level) => level
                    .parse()
                    .ok()
                    .filter(|level| *level > 0)
                    .map(KeyRule::Level),
                None => argument("property")
                    .filter(|name| !name.is_empty())
                    .map(|name| KeyRule::Property(name.into())),
            },
        }
    }

    /// The key of a message that came through an exchange; by the default exchange it has none unless the rule asks
    /// for something else than the topic.
    fn key(&self, message: &Message, headers: &[RecordHeader]) -> Option<Bytes> {
        match self {
            KeyRule::Topic if message.exchange.is_empty() => None,
            KeyRule::Topic => Some(message.topic.render(Grammar::Dots).into_bytes()),
            KeyRule::ClientId => {
                Some(message.origin.client.clone().into_bytes()).filter(|client| !client.is_empty())
            }
            KeyRule::Level(level) => message
                .topic
                .tokens()
                .nth(level - 1)
                .map(|token| token.into_owned().into()),
            KeyRule::Property(name) => headers
                .iter()
                .rev()
                .find(|(found, _)| found == name)?
                .1
                .clone(),
            KeyRule::None => None,
        }
    }
}

/// The record that a message becomes in a log of these settings.
pub(crate) fn record_from_message(message: &Message, settings: &Settings) -> NewRecord {
    let record = bare_record(message, settings);
    if settings.envelope {
        enveloped(record, message)
    } else {
        record
    }
}

/// The record with what it lacks of the message's own address and time. Its time is that of the append.
fn enveloped(record: NewRecord, message: &Message) -> NewRecord {
    let mut pairs: Vec<RecordHeader> = headers(record.headers)
        .filter(|(name, _)| !is_envelope(name))
        .collect();
    let mut put = |name, value: Bytes| pairs.push((Text::from_static(name), Some(value)));
    if !message.exchange.is_empty() {
        put(names::EXCHANGE, message.exchange.clone().into_bytes());
    }
    put(
        names::ROUTING_KEY,
        message.topic.render(Grammar::Dots).into_bytes(),
    );
    if let Some(Timestamp(ms)) = message.timestamp {
        put(names::TIMESTAMP, ms.to_string().into());
    }
    let Native { dialect, block } = &message.native;
    let is_open = pairs.iter().all(|(name, _)| name != names::PERSISTENT);
    if is_open && dialect.leaves_persistence_open(block) {
        pairs.push((Text::from_static(names::PERSISTENT), None));
    }
    NewRecord {
        timestamp: None,
        headers: write_headers(&pairs),
        ..record
    }
}

fn is_envelope(name: &str) -> bool {
    [names::EXCHANGE, names::ROUTING_KEY, names::TIMESTAMP].contains(&name)
}

fn bare_record(message: &Message, settings: &Settings) -> NewRecord {
    if message.native.dialect.id() == RECORDS_ID && message.origin.deaths.is_none() {
        return NewRecord {
            timestamp: message.timestamp,
            key: message.key.clone(),
            value: message.body.clone(),
            headers: header_section(&message.native.block),
        };
    }
    let mut properties = message.properties();
    let named_key = take_header(&mut properties, names::KEY).and_then(into_bytes);
    let is_tombstone =
        take_header(&mut properties, names::TOMBSTONE).is_some_and(|value| is_true(&value));
    // Clearing a retained message removes its key from a log that keeps the last record of each.
    let clears = settings.compact.is_some()
        && message.retain
        && message.body.as_ref().is_none_or(Bytes::is_empty);
    let headers = headers_from(message, properties, settings);
    NewRecord {
        timestamp: message.timestamp,
        key: message
            .key
            .clone()
            .or(named_key)
            .or_else(|| settings.key.key(message, &headers)),
        value: message.body.clone().filter(|_| !is_tombstone && !clears),
        headers: write_headers(&headers),
    }
}

/// Removes headers of that name; the last one counts.
fn take_header(properties: &mut Properties, name: &str) -> Option<Value> {
    let mut found = None;
    properties.headers.retain_mut(|(header, value)| {
        let matches = header == name;
        if matches {
            found = Some(std::mem::replace(value, Value::Null));
        }
        !matches
    });
    found
}

fn into_bytes(value: Value) -> Option<Bytes> {
    match value {
        Value::Null => None,
        Value::Text(text) => Some(text.into_bytes()),
        Value::Bytes(bytes) => Some(bytes),
        other => typed::to_bytes(&other).0,
    }
}

fn is_true(value: &Value) -> bool {
    match value {
        Value::Bool(value) => *value,
        Value::Text(text) => text == "true",
        _ => false,
    }
}

/// Headers of a record from a message of another dialect: properties under their common names, then the message's
/// own headers. One of these that has a property's name loses against the property.
fn headers_from(
    message: &Message,
    mut properties: Properties,
    settings: &Settings,
) -> Vec<RecordHeader> {
    let mut out: Vec<RecordHeader> = Vec::with_capacity(8 + properties.headers.len());
    let mut put = |name: &'static str, value: Option<Bytes>| {
        out.extend(value.map(|value| (Text::from_static(name), Some(value))));
    };
    let text = |text: Option<Text>| text.map(Text::into_bytes);
    let is_mqtt = MQTT_IDS.contains(&message.native.dialect.id());
    put(names::CONTENT_TYPE, text(properties.content_type.take()));
    put(
        names::CONTENT_ENCODING,
        text(properties.content_encoding.take()),
    );
    put(names::MESSAGE_ID, text(properties.message_id.take()));
    put(names::CORRELATION_ID, properties.correlation_id.take());
    put(
        names::REPLY_TO,
        properties.reply_to.take().map(|reply_to| {
            if is_mqtt {
                format!("mqtt:{reply_to}").into()
            } else {
                reply_to.into_bytes()
            }
        }),
    );
    put(names::USER_ID, text(properties.user_id.take()));
    put(names::TYPE, text(properties.kind.take()));
    put(names::APP_ID, text(properties.app_id.take()));
    put(
        names::PRIORITY,
        message.priority.map(|priority| priority.to_string().into()),
    );
    put(
        names::TTL_MS,
        message.expiry_ms.map(|ms| ms.to_string().into()),
    );
    let transient = if is_mqtt {
        names::QOS
    } else {
        names::PERSISTENT
    };
    put(
        transient,
        match message.persistence {
            Persistence::Transient if message.says_transient() => Some(Bytes::from_static(b"0")),
            Persistence::ExactlyOnce if is_mqtt => Some(Bytes::from_static(b"2")),
            _ => None,
        },
    );
    put(
        names::RETAIN,
        message.retain.then(|| Bytes::from_static(b"1")),
    );
    let client = Some(message.origin.client.clone())
        .filter(|client| settings.client_id && !client.is_empty());
    put(names::CLIENT_ID, text(client));
    let native = out.len();
    let mut types = typed::TypeList::of(&properties.headers);
    for (name, value) in properties.headers {
        let is_taken = out[..native].iter().any(|(taken, _)| *taken == name);
        if is_taken || name == names::TYPES || name == names::BCC {
            continue;
        }
        let (bytes, tags) = typed::to_bytes(&value);
        types.add(&name, &tags);
        out.push((name, bytes));
    }
    let types = types.finish().map(Bytes::from);
    out.extend(types.map(|types| (Text::from_static(names::TYPES), Some(types))));
    out
}

/// The partition of a record: by its key as the Java client does it, or one for all that a connection sends, so
/// that they stay in order (DESIGN section 3.4).
pub(crate) fn partition_for(
    key: Option<&[u8]>,
    partitions: usize,
    connection: ConnectionId,
) -> u32 {
    let partitions = partitions.max(1) as u64;
    let number = match key {
        Some(key) => u64::from(murmur2(key) & 0x7fff_ffff),
        None => connection.0,
    };
    (number % partitions) as u32
}

/// MurmurHash2 in 32 bits with the seed that Kafka's clients use.
fn murmur2(bytes: &[u8]) -> u32 {
    const MULTIPLIER: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ bytes.len() as u32;
    let (words, rest) = bytes.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(MULTIPLIER);
        k = (k ^ (k >> 24)).wrapping_mul(MULTIPLIER);
        hash = hash.wrapping_mul(MULTIPLIER) ^ k;
    }
    if !rest.is_empty() {
        let tail = rest
            .iter()
            .rev()
            .fold(0, |tail, byte| tail << 8 | u32::from(*byte));
        hash = (hash ^ tail).wrapping_mul(MULTIPLIER);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(MULTIPLIER);
    hash ^ (hash >> 15)
}

/// The message that a record at `offset` is to readers of other protocols, as if it were published to `exchange`
/// under the log's name. `origin` is shared by all messages of the reader.
pub(crate) fn message_from_record(
    log: &Text,
    partition: u32,
    offset: Offset,
    record: Record,
    exchange: &Text,
    origin: &Arc<Origin>,
) -> Message {
    let mut message = Message {
        exchange: exchange.clone(),
        topic: Topic::new(log.clone(), Grammar::Dots),
        body: record.value,
        key: record.key,
        timestamp: u64::try_from(record.timestamp).ok().map(Timestamp),
        expiry_ms: None,
        persistence: Persistence::Persistent,
        priority: None,
        retain: false,
        native: Native {
            dialect: &Records,
            block: native_block(partition, offset, &record.headers),
        },
        origin: origin.clone(),
    };
    let mut has_envelope = false;
    let mut stated = None;
    for (name, value) in headers(record.headers) {
        let text = || Text::try_from(value.clone()?).ok();
        let number = || {
            std::str::from_utf8(value.as_deref()?)
                .ok()?
                .parse::<u64>()
                .ok()
        };
        match &*name {
            names::TTL_MS => message.expiry_ms = number(),
            names::PRIORITY => {
                message.priority = number().and_then(|priority| priority.try_into().ok())
            }
            names::RETAIN => {
                message.retain = matches!(value.as_deref(), Some(b"1" | b"true"));
            }
            names::EXCHANGE => message.exchange = text().unwrap_or_default(),
            names::ROUTING_KEY => {
                message.topic = Topic::new(text().unwrap_or_default(), Grammar::Dots);
                has_envelope = true;
            }
            names::TIMESTAMP => stated = number().map(Timestamp),
            names::PERSISTENT if value.is_none() => message.persistence = Persistence::Unset,
            names::PERSISTENT if number() == Some(0) => {
                message.persistence = Persistence::Transient
            }
            _ => {}
        }
    }
    // Elsewhere the record's own time is the publisher's.
    if has_envelope {
        message.timestamp = stated;
    }
    message
}

const RECORDS_ID: u8 = 0;
/// The dialects whose reply-to is an MQTT topic: see [`Dialect::id`].
const MQTT_IDS: [u8; 2] = [2, 3];
/// Partition and offset, before the header section.
const PLACE_BYTES: usize = 12;

fn native_block(partition: u32, offset: Offset, headers: &[u8]) -> Bytes {
    let mut block = BytesMut::with_capacity(PLACE_BYTES + headers.len());
    block.put_u32(partition);
    block.put_u64(offset.0);
    block.put_slice(headers);
    block.freeze()
}

fn header_section(block: &Bytes) -> Bytes {
    let section = block.slice(PLACE_BYTES.min(block.len())..);
    if section.is_empty() {
        Bytes::from_static(b"\0")
    } else {
        section
    }
}

/// The partition and offset of a message that was read from a log; none of others.
pub fn record_place(native: &Native) -> Option<(u32, Offset)> {
    if native.dialect.id() != RECORDS_ID {
        return None;
    }
    let mut fields = native.block.get(..PLACE_BYTES)?;
    Some((fields.get_u32(), Offset(fields.get_u64())))
}

/// The dialect of messages that were records of a log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Records;

impl Dialect for Records {
    fn id(&self) -> u8 {
        RECORDS_ID
    }

    fn properties(&self, block: &Bytes) -> Properties {
        let found: Vec<RecordHeader> = headers(header_section(block)).collect();
        let types = found.iter().rev().find(|(name, _)| name == names::TYPES);
        let types = types
            .and_then(|(_, value)| value.clone())
            .unwrap_or_default();
        let mut types = typed::Types::parse(std::str::from_utf8(&types).unwrap_or_default());
        let mut properties = Properties::default();
        for (name, value) in found.into_iter().filter(|(name, _)| !is_envelope(name)) {
            // What cannot be the property stays a header, and so does what a later one of its name replaces.
            let header = match property(&mut properties, &name) {
                Some(Slot::Text(slot)) => match value.clone().map(Text::try_from) {
                    Some(Ok(text)) => slot.replace(text).map(Value::Text),
                    _ => Some(types.value(&name, value)),
                },
                Some(Slot::Bytes(slot)) if value.is_some() => {
                    std::mem::replace(slot, value).map(Value::Bytes)
                }
                Some(Slot::Message) if says_something(&name, value.as_deref()) => None,
                _ => Some(types.value(&name, value)),
            };
            properties.headers.extend(header.map(|value| (name, value)));
        }
        properties
    }

    fn headers(&self, block: &Bytes) -> usize {
        header_count(header_section(block))
    }
}

/// Whether [`message_from_record`] understands the value of a header that is for the message itself.
fn says_something(name: &str, value: Option<&[u8]>) -> bool {
    let text = value.and_then(|value| std::str::from_utf8(value).ok());
    match name {
        names::TTL_MS => text.is_some_and(|text| text.parse::<u64>().is_ok()),
        names::PRIORITY => text.is_some_and(|text| text.parse::<u8>().is_ok()),
        names::RETAIN => matches!(text, Some("0" | "1" | "false" | "true")),
        names::PERSISTENT => value.is_none() || matches!(text, Some("0" | "1")),
        _ => true,
    }
}

/// What a header of a reserved name fills.
enum Slot<'a> {
    Text(&'a mut Option<Text>),
    Bytes(&'a mut Option<Bytes>),
    /// A field of the message itself, filled by [`message_from_record`].
    Message,
}

fn property<'a>(properties: &'a mut Properties, name: &str) -> Option<Slot<'a>> {
    Some(match name {
        names::CONTENT_TYPE => Slot::Text(&mut properties.content_type),
        names::CONTENT_ENCODING => Slot::Text(&mut properties.content_encoding),
        names::MESSAGE_ID => Slot::Text(&mut properties.message_id),
        names::CORRELATION_ID => Slot::Bytes(&mut properties.correlation_id),
        names::REPLY_TO => Slot::Text(&mut properties.reply_to),
        names::USER_ID => Slot::Text(&mut properties.user_id),
        names::TYPE => Slot::Text(&mut properties.kind),
        names::APP_ID => Slot::Text(&mut properties.app_id),
        names::PRIORITY | names::TTL_MS | names::PERSISTENT | names::RETAIN | names::TYPES => {
            Slot::Message
        }
        _ => return None,
    })
}

#[cfg(test)]
mod laws;
#[cfg(test)]
mod tests;
