//! Headers and routing keys of messages that came by another protocol (DESIGN sections 3.1 and 3.4).

use std::borrow::Cow;

use sha1::{Digest, Sha1};
use trivium_core::{Grammar, Message, Text, Timestamp, Topic, Value, record_place};

use crate::{
    field_table::{Table, text_or_bytes},
    properties::{KEY_HEADER, RETAIN_HEADER, TIME_HEADER},
    wire::cut,
};

/// The full topic, when it is too long for a routing key.
const TOPIC_HEADER: &str = "x-mqtt-topic";

/// All values of the headers that came several times, by name.
const DUPLICATES: &str = "x-dup-headers";

/// A routing key's longest length, and how much of a longer topic is kept before `~` and 40 hex digits.
const KEY_MAX: usize = 255;
const KEY_KEPT: usize = 214;

/// The routing key that an AMQP client sees for a topic.
pub fn routing_key(topic: &Topic) -> Cow<'_, str> {
    if topic.grammar() == Grammar::Dots && topic.text().len() <= KEY_MAX {
        return Cow::Borrowed(topic.text());
    }
    let key = topic.render(Grammar::Dots);
    if key.len() <= KEY_MAX {
        return Cow::Owned(key.to_string());
    }
    let digest: String = Sha1::digest(key.as_bytes())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Cow::Owned(format!("{}~{digest}", cut(&key, KEY_KEPT)))
}

/// The header table: the message's own headers without duplicates, and what AMQP has no property for.
pub fn headers(message: &Message, own: &[(Text, Value)]) -> Table {
    let mut headers = unique(own.to_vec());
    let mut set = |name: &str, value| {
        headers.retain(|(of, _)| of != name);
        headers.push((name.into(), value));
    };
    if let Some(key) = &message.key {
        set(KEY_HEADER, text_or_bytes(key.clone()));
    }
    if message.body.is_none() {
        set("mq.tombstone", Value::Bool(true));
    }
    if message.retain {
        set(RETAIN_HEADER, Value::Bool(true));
    }
    if let Some(Timestamp(ms)) = message.timestamp {
        set(TIME_HEADER, Value::I64(ms as i64));
    }
    if let Some((partition, offset)) = record_place(&message.native) {
        set("x-stream-offset", Value::I64(offset.0 as i64));
        set("x-stream-partition", Value::I64(partition.into()));
    }
    if message.topic.text().len() > KEY_MAX / 3 {
        let key = message.topic.render(Grammar::Dots);
        if key.len() > KEY_MAX {
            set(TOPIC_HEADER, Value::Text(key));
        }
    }
    headers
}

/// Whether it can be the name of a header.
pub fn fits(name: &str) -> bool {
    name.len() <= KEY_MAX
}

/// A field table has each name once: the last value wins, and `x-dup-headers` holds all of those that came more
/// than once. Names over 255 bytes do not fit and are left out.
fn unique(headers: Table) -> Table {
    let mut unique: Vec<(Text, Vec<Value>)> = Vec::with_capacity(headers.len() + 4);
    let mut positions = rustc_hash::FxHashMap::default();
    for (name, value) in headers.into_iter().filter(|(name, _)| fits(name)) {
        let position = *positions.entry(name.clone()).or_insert(unique.len());
        match unique.get_mut(position) {
            Some((_, values)) => values.push(value),
            None => unique.push((name, vec![value])),
        }
    }
    let duplicates: Table = unique
        .iter()
        .filter(|(_, values)| values.len() > 1)
        .map(|(name, values)| (name.clone(), Value::Array(values.clone())))
        .collect();
    let mut table: Table = unique
        .into_iter()
        .filter_map(|(name, mut values)| Some((name, values.pop()?)))
        .collect();
    if !duplicates.is_empty() {
        table.push((DUPLICATES.into(), Value::Table(duplicates)));
    }
    table
}

/// The headers as they were before [`unique`]: what a client of AMQP hands on unchanged comes several times again.
pub fn repeated(mut headers: Table) -> Table {
    let Some(at) = headers.iter().position(|(name, _)| name == DUPLICATES) else {
        return headers;
    };
    let Value::Table(duplicates) = &headers[at].1 else {
        return headers;
    };
    let all_of = |(name, last): &(Text, Value)| {
        let found = duplicates.iter().find(|(it, _)| it == name);
        match found {
            Some((_, Value::Array(all))) if all.len() > 1 && all.last() == Some(last) => {
                Some(all.clone())
            }
            _ => None,
        }
    };
    let all: Vec<Option<Vec<Value>>> = headers.iter().map(all_of).collect();
    if all.iter().flatten().count() != duplicates.len() {
        // Somebody has changed them since, or meant something else.
        return headers;
    }
    let mut table = Table::with_capacity(headers.len() + duplicates.len());
    headers.remove(at);
    let all = all.into_iter().enumerate().filter(|(of, _)| *of != at);
    for ((name, value), (_, all)) in headers.into_iter().zip(all) {
        let values = all.unwrap_or_else(|| vec![value]);
        table.extend(values.into_iter().map(|value| (name.clone(), value)));
    }
    table
}
