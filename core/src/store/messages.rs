//! Layouts of queue messages: chunks, shared bodies, settled bitmaps, queue counters, retained messages.
//!
//! A chunk holds what one queue took in one turn: the publishers of its messages once, then each
//! message, with exchange and topic left out where they repeat the message before.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use bytes::Bytes;

use super::{
    StoreError,
    values::{Reader, Writer},
};
use crate::{
    deaths::{Death, Deaths, Reason},
    id::{BindingTag, Sequence},
    log::Records,
    message::{Dialect, Message, Native, Origin, Persistence, Plain},
    properties::Text,
    tags::Tags,
    time::Timestamp,
    topic::{Grammar, Topic},
};

const CHUNK: u8 = 1;
const BODIES: u8 = 1;
const SETTLED: u8 = 1;
const PROGRESS: u8 = 2;
/// Tells returns from failures, and says when a message may be delivered again.
const PROGRESS_WITH_DELAYS: u8 = 3;
const COUNTERS_OF_ONE_LANE: u8 = 1;
const COUNTERS: u8 = 2;
/// What waits for its next delivery comes first.
const COUNTERS_WITH_DELAYS: u8 = 3;
const RETAINED: u8 = 1;

/// The dialects a broker knows, by [`Dialect::id`].
#[derive(Clone, Debug)]
pub(crate) struct Dialects(Arc<[&'static dyn Dialect]>);

impl Dialects {
    /// The given ones and the core's own.
    pub(crate) fn new(mut dialects: Vec<&'static dyn Dialect>) -> Dialects {
        dialects.push(&Records);
        Dialects(dialects.into())
    }

    /// The dialect of a stored message; one that is not registered any more has no properties.
    fn find(&self, id: u8) -> &'static dyn Dialect {
        self.0
            .iter()
            .copied()
            .find(|dialect| dialect.id() == id)
            .unwrap_or(&Plain)
    }
}

/// Where a body is that several queues share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BodyReference {
    /// The body chunk.
    pub(crate) number: u64,
    /// Which of its bodies.
    pub(crate) index: u32,
}

/// A message as a queue holds it.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) sequence: Sequence,
    pub(crate) message: Arc<Message>,
    pub(crate) accepted: Timestamp,
    pub(crate) tags: Tags,
    /// Set when the body lives in a body chunk.
    pub(crate) body: Option<BodyReference>,
    /// Survives a restart; others are in the chunk because memory was short.
    pub(crate) durable: bool,
}

/// Beside the persistence of a message: its deaths follow the details.
const HAS_DIED: u8 = 0x80;
/// The same: routing keys that nobody is shown follow.
const HAS_BLIND_COPIES: u8 = 0x40;

mod flags {
    pub(super) const SAME_ROUTE: u8 = 1;
    pub(super) const SAME_ORIGIN: u8 = 2;
    pub(super) const SHARED_BODY: u8 = 4;
    pub(super) const NULL_BODY: u8 = 8;
    pub(super) const DURABLE: u8 = 16;
    pub(super) const DETAILS: u8 = 32;
    pub(super) const RETAIN: u8 = 64;
    pub(super) const SLASHES: u8 = 128;
}

/// Encodes a chunk. `messages` is not empty and ascends by sequence; the key holds the first one's.
pub(crate) fn encode_chunk<'a>(messages: impl Iterator<Item = &'a Stored>, size: usize) -> Bytes {
    let mut writer = Writer::with_capacity(CHUNK, size);
    let mut previous: Option<&Stored> = None;
    for stored in messages {
        encode_message(&mut writer, stored, previous);
        previous = Some(stored);
    }
    writer.done()
}

fn encode_message(writer: &mut Writer, stored: &Stored, previous: Option<&Stored>) {
    let message = &*stored.message;
    let before = previous.map(|previous| &*previous.message);
    let same_route =
        before.is_some_and(|b| b.topic == message.topic && b.exchange == message.exchange);
    let same_origin = before
        .is_some_and(|b| Arc::ptr_eq(&b.origin, &message.origin) || b.origin == message.origin);
    let details = has_details(stored);
    let mut bits = 0;
    for (set, bit) in [
        (same_route, flags::SAME_ROUTE),
        (same_origin, flags::SAME_ORIGIN),
        (stored.body.is_some(), flags::SHARED_BODY),
        (message.body.is_none(), flags::NULL_BODY),
        (stored.durable, flags::DURABLE),
        (details, flags::DETAILS),
        (message.retain, flags::RETAIN),
        (message.topic.grammar() == Grammar::Slashes, flags::SLASHES),
    ] {
        if set {
            bits |= bit;
        }
    }
    writer.u8(bits);
    let base = previous.map_or((0, 0), |previous| {
        (previous.sequence.0, previous.accepted.0)
    });
    writer.varint(stored.sequence.0 - base.0);
    writer.varint(stored.accepted.0.wrapping_sub(base.1));
    if !same_route {
        writer.text(&message.exchange);
        writer.text(message.topic.text());
    }
    if !same_origin {
        for text in [
            &message.origin.protocol,
            &message.origin.client,
            &message.origin.user,
            &message.origin.vhost,
        ] {
            writer.text(text);
        }
    }
    writer.u8(message.native.dialect.id());
    writer.bytes(&message.native.block);
    if details {
        encode_details(writer, stored);
    }
    match (&stored.body, &message.body) {
        (Some(reference), _) => {
            writer.varint(reference.number);
            writer.varint(reference.index.into());
        }
        (None, Some(body)) => writer.bytes(body),
        (None, None) => {}
    }
}

fn has_details(stored: &Stored) -> bool {
    let message = &*stored.message;
    message.origin.deaths.is_some()
        || message.origin.blind_copies.is_some()
        || message.key.is_some()
        || message.timestamp.is_some()
        || message.expiry_ms.is_some()
        || message.priority.is_some()
        || message.persistence != Persistence::Persistent
        || !stored.tags.is_empty()
}

fn encode_details(writer: &mut Writer, stored: &Stored) {
    let message = &*stored.message;
    writer.option(message.key.as_ref(), |writer, key| writer.bytes(key));
    writer.option(message.timestamp, |writer, timestamp| {
        writer.varint(timestamp.0)
    });
    writer.option(message.expiry_ms, Writer::varint);
    writer.option(message.priority, Writer::u8);
    let persistence = match message.persistence {
        Persistence::Unset => 0,
        Persistence::Transient => 1,
        Persistence::Persistent => 2,
        Persistence::ExactlyOnce => 3,
    };
    let deaths = message.origin.deaths.as_deref();
    let blind = message.origin.blind_copies.as_deref();
    let died = if deaths.is_some() { HAS_DIED } else { 0 };
    let copied = if blind.is_some() { HAS_BLIND_COPIES } else { 0 };
    writer.u8(persistence | died | copied);
    writer.list(&stored.tags, |writer, tag| writer.varint(tag.0));
    if let Some(deaths) = deaths {
        encode_deaths(writer, deaths);
    }
    if let Some(keys) = blind {
        writer.list(keys, |writer, key| writer.text(key));
    }
}

/// Decodes a chunk. Messages with a body elsewhere come without one.
pub(crate) fn decode_chunk(value: Bytes, dialects: &Dialects) -> Result<Vec<Stored>, StoreError> {
    let mut reader = Reader::new(value, CHUNK)?;
    let mut messages: Vec<Stored> = Vec::new();
    while !reader.is_empty() {
        let stored = decode_message(&mut reader, messages.last(), dialects)?;
        messages.push(stored);
    }
    Ok(messages)
}

fn decode_message(
    reader: &mut Reader,
    previous: Option<&Stored>,
    dialects: &Dialects,
) -> Result<Stored, StoreError> {
    let corrupt = || StoreError::Corrupt("first message of a chunk refers to one before it".into());
    let bits = reader.u8()?;
    let base = previous.map_or((0, 0), |previous| {
        (previous.sequence.0, previous.accepted.0)
    });
    let sequence = Sequence(base.0.wrapping_add(reader.varint()?));
    let accepted = Timestamp(base.1.wrapping_add(reader.varint()?));
    let (exchange, topic) = if bits & flags::SAME_ROUTE != 0 {
        let before = &previous.ok_or_else(corrupt)?.message;
        (before.exchange.clone(), before.topic.clone())
    } else {
        let grammar = if bits & flags::SLASHES != 0 {
            Grammar::Slashes
        } else {
            Grammar::Dots
        };
        (reader.text()?, Topic::new(reader.text()?, grammar))
    };
    let origin = if bits & flags::SAME_ORIGIN != 0 {
        previous.ok_or_else(corrupt)?.message.origin.clone()
    } else {
        let [protocol, client, user, vhost] = [
            reader.text()?,
            reader.text()?,
            reader.text()?,
            reader.text()?,
        ];
        Arc::new(Origin {
            protocol,
            client,
            user,
            vhost,
            deaths: None,
            blind_copies: None,
        })
    };
    let native = Native {
        dialect: dialects.find(reader.u8()?),
        block: reader.bytes()?,
    };
    let details = if bits & flags::DETAILS != 0 {
        decode_details(reader)?
    } else {
        Details::default()
    };
    let origin = if details.deaths.is_some() || details.blind_copies.is_some() {
        Arc::new(Origin {
            deaths: details.deaths.map(Arc::new),
            blind_copies: details.blind_copies,
            ..(*origin).clone()
        })
    } else {
        origin
    };
    let (body, reference) = if bits & flags::SHARED_BODY != 0 {
        (
            None,
            Some(BodyReference {
                number: reader.varint()?,
                index: reader.varint()? as u32,
            }),
        )
    } else if bits & flags::NULL_BODY != 0 {
        (None, None)
    } else {
        (Some(reader.bytes()?), None)
    };
    let message = Message {
        exchange,
        topic,
        body,
        key: details.key,
        timestamp: details.timestamp,
        expiry_ms: details.expiry_ms,
        persistence: details.persistence,
        priority: details.priority,
        retain: bits & flags::RETAIN != 0,
        native,
        origin,
    };
    let durable = bits & flags::DURABLE != 0;
    Ok(Stored {
        sequence,
        message: Arc::new(message),
        accepted,
        tags: details.tags,
        body: reference,
        durable,
    })
}

struct Details {
    key: Option<Bytes>,
    timestamp: Option<Timestamp>,
    expiry_ms: Option<u64>,
    priority: Option<u8>,
    persistence: Persistence,
    tags: Tags,
    deaths: Option<Deaths>,
    blind_copies: Option<Arc<Vec<Text>>>,
}

impl Default for Details {
    fn default() -> Details {
        let persistence = Persistence::Persistent;
        Details {
            key: None,
            timestamp: None,
            expiry_ms: None,
            priority: None,
            persistence,
            tags: Tags::default(),
            deaths: None,
            blind_copies: None,
        }
    }
}

fn decode_details(reader: &mut Reader) -> Result<Details, StoreError> {
    let mut details = Details {
        key: reader.option(Reader::bytes)?,
        timestamp: reader.option(Reader::varint)?.map(Timestamp),
        expiry_ms: reader.option(Reader::varint)?,
        priority: reader.option(Reader::u8)?,
        ..Details::default()
    };
    let persistence = reader.u8()?;
    details.persistence = match persistence & !(HAS_DIED | HAS_BLIND_COPIES) {
        0 => Persistence::Unset,
        1 => Persistence::Transient,
        3 => Persistence::ExactlyOnce,
        _ => Persistence::Persistent,
    };
    details.tags = reader
        .list(|reader| reader.varint().map(BindingTag))?
        .into_iter()
        .collect();
    if persistence & HAS_DIED != 0 {
        details.deaths = Some(decode_deaths(reader)?);
    }
    if persistence & HAS_BLIND_COPIES != 0 {
        details.blind_copies = Some(Arc::new(reader.list(Reader::text)?));
    }
    Ok(details)
}

fn encode_deaths(writer: &mut Writer, deaths: &Deaths) {
    writer.bool(deaths.without_copies);
    writer.text(&deaths.first.0);
    writer.u8(reason_number(deaths.first.1));
    writer.list(&deaths.records, |writer, death| {
        writer.text(&death.queue);
        writer.u8(reason_number(death.reason));
        writer.varint(death.count);
        writer.varint(death.time.0);
        writer.text(&death.exchange);
        writer.list(&death.routing_keys, |writer, key| writer.text(key));
        writer.option(death.original_expiration, Writer::varint);
    });
}

fn decode_deaths(reader: &mut Reader) -> Result<Deaths, StoreError> {
    Ok(Deaths {
        without_copies: reader.bool()?,
        first: (reader.text()?, read_reason(reader)?),
        records: reader.list(|reader| {
            Ok(Death {
                queue: reader.text()?,
                reason: read_reason(reader)?,
                count: reader.varint()?,
                time: Timestamp(reader.varint()?),
                exchange: reader.text()?,
                routing_keys: reader.list(Reader::text)?,
                original_expiration: reader.option(Reader::varint)?,
            })
        })?,
    })
}

fn reason_number(reason: Reason) -> u8 {
    match reason {
        Reason::Rejected => 0,
        Reason::Expired => 1,
        Reason::MaxLength => 2,
        Reason::DeliveryLimit => 3,
    }
}

fn read_reason(reader: &mut Reader) -> Result<Reason, StoreError> {
    Ok(match reader.u8()? {
        0 => Reason::Rejected,
        1 => Reason::Expired,
        2 => Reason::MaxLength,
        3 => Reason::DeliveryLimit,
        other => {
            return Err(StoreError::Corrupt(
                format!("unknown reason of a death {other}").into(),
            ));
        }
    })
}

/// Encodes the bodies of a body chunk.
pub(crate) fn encode_bodies(bodies: &[Bytes]) -> Bytes {
    let size = bodies.iter().map(|body| body.len() + 5).sum::<usize>() + 1;
    let mut writer = Writer::with_capacity(BODIES, size);
    for body in bodies {
        writer.bytes(body);
    }
    writer.done()
}

/// Decodes the bodies of a body chunk.
pub(crate) fn decode_bodies(value: Bytes) -> Result<Vec<Bytes>, StoreError> {
    let mut reader = Reader::new(value, BODIES)?;
    let mut bodies = Vec::new();
    while !reader.is_empty() {
        bodies.push(reader.bytes()?);
    }
    Ok(bodies)
}

/// What has become of a chunk's messages since it was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Settled sequences: ascending runs that do not touch.
    pub(crate) settled: Vec<Range<u64>>,
    /// What is known of messages that came back and are not settled, by sequence.
    pub(crate) returns: BTreeMap<u64, Comeback>,
}

/// What a queue that counts knows of a message that came back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Comeback {
    /// How often it did.
    pub(crate) count: u16,
    /// How often somebody failed to handle it.
    pub(crate) failures: u16,
    /// When it may be delivered again; 0 if it waits for nothing.
    pub(crate) due: Timestamp,
}

impl Comeback {
    /// Every time it came back was a failure, and it waits for nothing: all that the second format can say.
    fn is_plain(&self) -> bool {
        self.count == self.failures && self.due == Timestamp::default()
    }
}

/// Encodes the progress of the chunk that begins at `first`.
pub(crate) fn encode_progress(
    first: Sequence,
    settled: &[Range<u64>],
    returns: &BTreeMap<u64, Comeback>,
) -> Bytes {
    let counted = !returns.is_empty();
    let delays = !returns.values().all(Comeback::is_plain);
    let mut writer = Writer::new(match (counted, delays) {
        (false, _) => SETTLED,
        (true, false) => PROGRESS,
        (true, true) => PROGRESS_WITH_DELAYS,
    });
    if counted {
        writer.varint(returns.len() as u64);
        let mut base = first.0;
        for (&sequence, comeback) in returns {
            writer.varint(sequence - base);
            writer.varint(comeback.count.into());
            if delays {
                writer.varint(comeback.failures.into());
                writer.varint(comeback.due.0);
            }
            base = sequence;
        }
    }
    let mut base = first.0;
    for run in settled {
        writer.varint(run.start - base);
        writer.varint(run.end - run.start);
        base = run.end;
    }
    writer.done()
}

/// Decodes what [`encode_progress`] wrote.
pub(crate) fn decode_progress(first: Sequence, value: Bytes) -> Result<Progress, StoreError> {
    let (format, mut reader) = Reader::versioned(value, PROGRESS_WITH_DELAYS)?;
    let times = |reader: &mut Reader| {
        u16::try_from(reader.varint()?)
            .map_err(|_| StoreError::Corrupt("a message came back too often".into()))
    };
    let mut progress = Progress::default();
    if format >= PROGRESS {
        let mut sequence = first.0;
        for _ in 0..reader.varint()? {
            sequence = sequence.wrapping_add(reader.varint()?);
            let count = times(&mut reader)?;
            let mut comeback = Comeback {
                count,
                failures: count,
                due: Timestamp::default(),
            };
            if format == PROGRESS_WITH_DELAYS {
                comeback.failures = times(&mut reader)?;
                comeback.due = Timestamp(reader.varint()?);
            }
            progress.returns.insert(sequence, comeback);
        }
    }
    let mut base = first.0;
    while !reader.is_empty() {
        let start = base.wrapping_add(reader.varint()?);
        base = start.wrapping_add(reader.varint()?);
        progress.settled.push(start..base);
    }
    Ok(progress)
}

/// What a durable queue knows without reading its chunks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct QueueCounters {
    /// By the order of their sequences.
    pub(crate) lanes: Vec<Counters>,
    /// Some message may have a lifetime.
    pub(crate) timed: bool,
    /// What of it waits for its next delivery.
    pub(crate) delayed: Delayed,
}

/// Durable messages that came back and wait for their next delivery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Delayed {
    pub(crate) messages: u64,
    /// Of their bodies.
    pub(crate) bytes: u64,
    /// When the last of them may be delivered.
    pub(crate) until: Timestamp,
}

/// What a lane of a durable queue knows without reading its chunks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    /// The sequence that the next message gets.
    pub(crate) next: Sequence,
    /// Every chunk that begins below is forgotten.
    pub(crate) low: Sequence,
    /// Durable messages not settled.
    pub(crate) messages: u64,
    /// Bytes of their bodies.
    pub(crate) bytes: u64,
    /// Chunks in these ranges above `low` were purged.
    pub(crate) purged: Vec<Range<u64>>,
}

impl QueueCounters {
    pub(crate) fn encode(&self) -> Bytes {
        let delays = self.delayed.messages > 0;
        let mut writer = Writer::new(if delays {
            COUNTERS_WITH_DELAYS
        } else {
            COUNTERS
        });
        if delays {
            writer.varint(self.delayed.messages);
            writer.varint(self.delayed.bytes);
            writer.varint(self.delayed.until.0);
        }
        writer.bool(self.timed);
        writer.list(&self.lanes, |writer, lane| {
            writer.varint(lane.next.0);
            writer.varint(lane.low.0);
            writer.varint(lane.messages);
            writer.varint(lane.bytes);
            writer.list(&lane.purged, |writer, range| {
                writer.varint(range.start);
                writer.varint(range.end);
            });
        });
        writer.done()
    }

    /// Decodes what [`QueueCounters::encode`] wrote, or what the first format had: one lane of unknown size, of which
    /// nobody knows whether its messages have lifetimes.
    pub(crate) fn decode(value: Bytes) -> Result<QueueCounters, StoreError> {
        let (format, mut reader) = Reader::versioned(value, COUNTERS_WITH_DELAYS)?;
        let is_first = format == COUNTERS_OF_ONE_LANE;
        let mut delayed = Delayed::default();
        if format == COUNTERS_WITH_DELAYS {
            delayed = Delayed {
                messages: reader.varint()?,
                bytes: reader.varint()?,
                until: Timestamp(reader.varint()?),
            };
        }
        let counters = |reader: &mut Reader| {
            Ok(Counters {
                next: Sequence(reader.varint()?),
                low: Sequence(reader.varint()?),
                messages: reader.varint()?,
                bytes: if is_first { 0 } else { reader.varint()? },
                purged: reader.list(|reader| Ok(reader.varint()?..reader.varint()?))?,
            })
        };
        Ok(QueueCounters {
            delayed,
            timed: is_first || reader.bool()?,
            lanes: if is_first {
                vec![counters(&mut reader)?]
            } else {
                reader.list(counters)?
            },
        })
    }
}

/// Encodes a retained message.
pub(crate) fn encode_retained(message: &Arc<Message>, accepted: Timestamp) -> Bytes {
    let stored = Stored {
        sequence: Sequence(0),
        message: message.clone(),
        accepted,
        tags: Tags::default(),
        body: None,
        durable: true,
    };
    let mut writer = Writer::with_capacity(RETAINED, message.size() + 64);
    encode_message(&mut writer, &stored, None);
    writer.done()
}

/// Decodes what [`encode_retained`] wrote.
pub(crate) fn decode_retained(
    value: Bytes,
    dialects: &Dialects,
) -> Result<(Arc<Message>, Timestamp), StoreError> {
    let mut reader = Reader::new(value, RETAINED)?;
    let stored = decode_message(&mut reader, None, dialects)?;
    Ok((stored.message, stored.accepted))
}

/// The texts that every message of a queue repeats; only for tests.
#[cfg(test)]
pub(crate) fn message(topic: &str, body: &str) -> Arc<Message> {
    Arc::new(Message {
        exchange: crate::Text::from_static(""),
        topic: Topic::new(topic.into(), Grammar::Dots),
        body: Some(Bytes::copy_from_slice(body.as_bytes())),
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
        origin: Arc::default(),
    })
}

#[cfg(test)]
mod tests {

    use super::*;

    fn stored(sequence: u64, message: Arc<Message>) -> Stored {
        let accepted = Timestamp(1_700_000_000_000 + sequence);
        Stored {
            sequence: Sequence(sequence),
            message,
            accepted,
            tags: Tags::default(),
            body: None,
            durable: true,
        }
    }

    #[test]
    fn chunks_round_trip() {
        let mut odd = (*message("a.b", "x")).clone();
        odd.body = None;
        odd.key = Some(Bytes::from_static(b"k"));
        odd.expiry_ms = Some(5);
        odd.priority = Some(9);
        odd.persistence = Persistence::Transient;
        odd.origin = Arc::new(Origin {
            client: "c".into(),
            blind_copies: Some(Arc::new(vec!["hidden".into(), "more".into()])),
            ..Origin::default()
        });
        let mut tagged = stored(12, message("q", "third"));
        tagged.tags = [BindingTag(7), BindingTag(8)].into_iter().collect();
        tagged.body = Some(BodyReference {
            number: 4,
            index: 2,
        });
        tagged.durable = false;
        let chunk = vec![
            stored(7, message("q", "first")),
            stored(8, message("q", "second")),
            stored(11, Arc::new(odd)),
            tagged,
        ];
        let decoded = decode_chunk(encode_chunk(chunk.iter(), 64), &Dialects::new(vec![])).unwrap();
        assert_eq!(decoded.len(), chunk.len());
        for (decoded, chunk) in decoded.iter().zip(&chunk) {
            assert_eq!(
                (decoded.sequence, decoded.accepted),
                (chunk.sequence, chunk.accepted)
            );
            assert_eq!(
                (&decoded.tags, decoded.body, decoded.durable),
                (&chunk.tags, chunk.body, chunk.durable)
            );
            assert_eq!(decoded.message.topic, chunk.message.topic);
            assert_eq!(decoded.message.key, chunk.message.key);
            assert_eq!(decoded.message.origin, chunk.message.origin);
            assert_eq!(decoded.message.expiry_ms, chunk.message.expiry_ms);
            assert_eq!(decoded.message.priority, chunk.message.priority);
            assert_eq!(decoded.message.persistence, chunk.message.persistence);
            assert_eq!(decoded.message.origin, chunk.message.origin);
            if chunk.body.is_none() {
                assert_eq!(decoded.message.body, chunk.message.body);
            }
        }
    }

    #[test]
    fn a_damaged_chunk_is_an_error() {
        let chunk = encode_chunk([stored(7, message("q", "first"))].iter(), 64);
        for length in 1..chunk.len() {
            if length > 1 {
                assert!(decode_chunk(chunk.slice(..length), &Dialects::new(vec![])).is_err());
            }
        }
        assert!(decode_chunk(Bytes::from_static(&[9]), &Dialects::new(vec![])).is_err());
    }

    fn times(count: u16, failures: u16, due: u64) -> Comeback {
        Comeback {
            count,
            failures,
            due: Timestamp(due),
        }
    }

    #[test]
    fn progress_round_trips() {
        for (settled, returns) in [
            (vec![10..12, 15..16, 20..400], BTreeMap::new()),
            (vec![], BTreeMap::from([(10, times(1, 1, 0))])),
            (
                vec![11..12, 14..15],
                BTreeMap::from([(10, times(3, 1, 1 << 40)), (17, times(2, 2, 0))]),
            ),
            (
                vec![11..13, 14..15],
                BTreeMap::from([(10, times(3, 3, 0)), (500, times(u16::MAX, u16::MAX, 0))]),
            ),
        ] {
            let value = encode_progress(Sequence(10), &settled, &returns);
            assert_eq!(
                value[0] == SETTLED,
                returns.is_empty(),
                "old readers read it"
            );
            let plain = returns.values().all(Comeback::is_plain);
            assert_eq!(value[0] <= PROGRESS, plain, "old readers read it");
            let progress = Progress { settled, returns };
            assert_eq!(decode_progress(Sequence(10), value).unwrap(), progress);
        }
    }

    #[test]
    fn damaged_progress_is_an_error() {
        for value in [
            &[][..],
            &[4],
            &[PROGRESS_WITH_DELAYS, 1, 0, 1],
            &[PROGRESS],
            &[PROGRESS, 1, 0],
            &[PROGRESS, 0xff, 0xff, 0xff, 0xff, 0x0f, 0, 1],
            &[PROGRESS, 1, 0, 0xff, 0xff, 0xff, 0x0f],
        ] {
            let value = Bytes::copy_from_slice(value);
            assert!(decode_progress(Sequence(0), value).is_err());
        }
    }
}
