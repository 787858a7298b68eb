//! Messages that wait for their time at a delayed exchange (RabbitMQ's `x-delayed-message`).
//!
//! A message that is published with the header `x-delay` is written under its exchange and due time, and confirmed
//! when that is durable. Each exchange belongs to one shard, which keeps the messages that are due next in memory up
//! to [`NEAR_BYTES`] and reads on in the store as they go. When one is due, [`mover`] routes it, and the shards put
//! it into its queues and delete its row in one storage batch: it is moved exactly once, whenever the process ends.

pub(crate) mod mover;

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use bytes::Bytes;
use rustc_hash::FxHashMap;

use crate::{
    id::Token,
    message::Message,
    properties::{Text, Value},
    store::{
        Batch, StoreError, Table, keys,
        messages::{self, Dialects},
        values::{Reader, Writer},
    },
    time::Timestamp,
    topic::{Grammar, Topic},
};

/// The header that says for how many milliseconds a message waits.
pub(crate) const HEADER: &str = "x-delay";

/// Bytes of messages that an exchange keeps in memory.
const NEAR_BYTES: usize = 8 << 20;

/// Bytes of messages that are being moved, after which a shard moves no more for a moment.
const MOVING_BYTES: usize = 4 << 20;

/// What a waiting message costs besides what it says.
const OVERHEAD: usize = 200;

const FORMAT: u8 = 1;

/// A delayed exchange.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct DelayEntry {
    /// Never used again, so that what a deleted exchange left is nobody's.
    pub(crate) id: u64,
    pub(crate) vhost: Text,
    pub(crate) exchange: Text,
}

/// When a message is due, in milliseconds, and a number that makes it unique in its exchange.
pub(crate) type Due = (u64, u64);

/// A message that waits, with the topics that it was published by besides its own.
#[derive(Clone, Debug)]
pub(crate) struct Waiting {
    pub(crate) message: Arc<Message>,
    pub(crate) also: Arc<[Topic]>,
}

/// A message on its way to an exchange that will delay it.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) entry: Arc<DelayEntry>,
    pub(crate) delay_ms: u64,
    pub(crate) waiting: Waiting,
    pub(crate) token: Option<Token>,
}

/// A message whose time has come.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) entry: Arc<DelayEntry>,
    pub(crate) due: Due,
    pub(crate) waiting: Waiting,
}

/// A part of an exchange's messages to be read from the store.
#[derive(Clone, Debug)]
pub(crate) struct Read {
    pub(crate) exchange: u64,
    pub(crate) from: Due,
}

/// What was read: messages, and where the rest begins if there is more.
pub(crate) type Found = Result<(Vec<(Due, Waiting)>, Option<Due>), StoreError>;

/// For how long the headers of a message ask to delay it: more than 0 ms, a number or digits.
pub(crate) fn delay_ms(headers: &[(Text, Value)]) -> Option<u64> {
    let (_, value) = headers.iter().find(|(name, _)| name == HEADER)?;
    let delay = match value {
        Value::Text(text) => text.parse().ok()?,
        value => value.integer()?,
    };
    u64::try_from(delay).ok().filter(|delay| *delay > 0)
}

/// The header of a message that was delayed: negative.
pub(crate) fn negated(delay_ms: u64) -> Value {
    let delay = i64::try_from(delay_ms).unwrap_or(i64::MAX);
    i32::try_from(-delay).map_or(Value::I64(-delay), Value::I32)
}

/// The waiting messages of a shard's exchanges.
#[derive(Debug)]
pub(crate) struct Delays {
    exchanges: FxHashMap<u64, Exchange>,
    /// Unique in all processes that ever served the store.
    next_number: u64,
    moving_bytes: usize,
}

#[derive(Debug)]
struct Exchange {
    entry: Arc<DelayEntry>,
    /// All messages that are due before `horizon`, except those that are being moved.
    near: BTreeMap<Due, Waiting>,
    near_bytes: usize,
    /// What is due from here on is in the store only. `None`: nothing is.
    horizon: Option<Due>,
    /// What came while the store is being read, and is not before the horizon.
    meanwhile: Option<BTreeMap<Due, Waiting>>,
    /// What the store holds cannot be read.
    is_unreadable: bool,
}

impl Waiting {
    fn bytes(&self) -> usize {
        let also = self.also.iter().map(|topic| topic.text().len());
        self.message.size() + also.sum::<usize>() + OVERHEAD
    }

    fn encode(&self, now: Timestamp) -> Bytes {
        let mut writer = Writer::with_capacity(FORMAT, self.message.size() + 64);
        writer.bytes(&messages::encode_retained(&self.message, now));
        writer.list(&self.also, |writer, topic| {
            writer.u8(match topic.grammar() {
                Grammar::Dots => 0,
                Grammar::Slashes => 1,
            });
            writer.text(topic.text());
        });
        writer.done()
    }

    pub(crate) fn decode(value: Bytes, dialects: &Dialects) -> Result<Waiting, StoreError> {
        let mut reader = Reader::new(value, FORMAT)?;
        let (message, _) = messages::decode_retained(reader.bytes()?, dialects)?;
        let also = reader.list(|reader| {
            let grammar = match reader.u8()? {
                0 => Grammar::Dots,
                _ => Grammar::Slashes,
            };
            Ok(Topic::new(reader.text()?, grammar))
        })?;
        let also = also.into();
        Ok(Waiting { message, also })
    }
}

impl Delays {
    /// Numbers from `first_number` on were never used.
    pub(crate) fn new(first_number: u64) -> Delays {
        Delays {
            exchanges: FxHashMap::default(),
            next_number: first_number,
            moving_bytes: 0,
        }
    }

    /// An exchange that is new, or found in the store with what waits at it.
    pub(crate) fn add(&mut self, entry: Arc<DelayEntry>, is_new: bool) {
        let exchange = Exchange {
            entry: entry.clone(),
            near: BTreeMap::new(),
            near_bytes: 0,
            horizon: (!is_new).then_some((0, 0)),
            meanwhile: None,
            is_unreadable: false,
        };
        self.exchanges.insert(entry.id, exchange);
    }

    /// An exchange is deleted, and what waits at it is dropped.
    pub(crate) fn remove(&mut self, id: u64, batch: &mut Batch) {
        if self.exchanges.remove(&id).is_some() {
            batch.forget(Table::Delayed, keys::delayed_of(id));
        }
    }

    /// Stores a message until it is due.
    pub(crate) fn put(&mut self, arrival: Arrival, now: Timestamp, batch: &mut Batch) {
        let Arrival {
            entry,
            delay_ms,
            mut waiting,
            ..
        } = arrival;
        // One that has just gone takes the message with it.
        let Some(exchange) = self.exchanges.get_mut(&entry.id) else {
            return;
        };
        let due = (now.0.saturating_add(delay_ms), self.next_number);
        self.next_number += 1;
        let key = keys::delayed(entry.id, due.0, due.1);
        batch.put(Table::Delayed, key, waiting.encode(now));
        waiting.message = Message::detached(waiting.message);
        exchange.arrived(due, waiting);
    }

    /// Takes what is due.
    pub(crate) fn due(&mut self, now: Timestamp, ready: &mut Vec<Ready>) {
        for exchange in self.exchanges.values_mut() {
            while self.moving_bytes < MOVING_BYTES
                && let Some(first) = exchange.near.first_entry()
                && first.key().0 <= now.0
            {
                let (due, waiting) = first.remove_entry();
                let bytes = waiting.bytes();
                exchange.near_bytes -= bytes;
                self.moving_bytes += bytes;
                let entry = exchange.entry.clone();
                ready.push(Ready {
                    entry,
                    due,
                    waiting,
                });
            }
        }
    }

    /// A message is in its queues, in the same batch.
    pub(crate) fn moved(&mut self, ready: &Ready, batch: &mut Batch) {
        self.moving_bytes = self.moving_bytes.saturating_sub(ready.waiting.bytes());
        let (at, number) = ready.due;
        let key = keys::delayed(ready.entry.id, at, number);
        batch.delete(Table::Delayed, key);
    }

    /// When the next message is due, unless enough are being moved.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        if self.moving_bytes >= MOVING_BYTES {
            return None;
        }
        let firsts = self.exchanges.values();
        let firsts = firsts.filter_map(|exchange| exchange.near.first_key_value());
        firsts.map(|(due, _)| Timestamp(due.0)).min()
    }

    /// What is to be read so that memory has what is due next.
    pub(crate) fn reads(&mut self, reads: &mut Vec<Read>) {
        for exchange in self.exchanges.values_mut() {
            if let Some(from) = exchange.horizon
                && exchange.near_bytes < NEAR_BYTES / 2
                && exchange.meanwhile.is_none()
                && !exchange.is_unreadable
            {
                exchange.meanwhile = Some(BTreeMap::new());
                reads.push(Read {
                    exchange: exchange.entry.id,
                    from,
                });
            }
        }
    }

    /// A read has ended.
    pub(crate) fn loaded(&mut self, read: &Read, found: Found) {
        let Some(exchange) = self.exchanges.get_mut(&read.exchange) else {
            return;
        };
        let meanwhile = exchange.meanwhile.take().unwrap_or_default();
        if exchange.horizon != Some(read.from) {
            // Memory was full meanwhile; what was read is read again.
            return;
        }
        match found {
            Ok((messages, next)) => {
                exchange.horizon = next;
                for (due, waiting) in messages.into_iter().chain(meanwhile) {
                    exchange.arrived(due, waiting);
                }
            }
            Err(error) => {
                let name = &exchange.entry.exchange;
                tracing::error!(exchange = %name, %error, "cannot read what a delayed exchange holds");
                exchange.is_unreadable = true;
            }
        }
    }
}

impl Exchange {
    /// Keeps a message that is in the store in memory too, if it is due before the horizon.
    fn arrived(&mut self, due: Due, waiting: Waiting) {
        if self.horizon.is_some_and(|horizon| due >= horizon) {
            if let Some(meanwhile) = &mut self.meanwhile {
                meanwhile.insert(due, waiting);
            }
            return;
        }
        self.near_bytes += waiting.bytes();
        if let Some(twin) = self.near.insert(due, waiting) {
            self.near_bytes -= twin.bytes();
        }
        while self.near_bytes > NEAR_BYTES
            && self.near.len() > 1
            && let Some((due, farthest)) = self.near.pop_last()
        {
            self.near_bytes -= farthest.bytes();
            self.horizon = Some(due);
            if let Some(meanwhile) = &mut self.meanwhile {
                meanwhile.clear();
            }
        }
    }
}

/// The keys of what an exchange holds from `from` on.
pub(crate) fn range(read: &Read) -> Range<Bytes> {
    let (at, number) = read.from;
    keys::delayed(read.exchange, at, number)..keys::delayed_of(read.exchange).end
}
