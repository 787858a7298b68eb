//! A queue: messages in order, consumers in turn, and what is delivered but not settled.
//!
//! ```text
//!  returned < ready  < backlog
//!  requeued   window   in the store only, read ahead of the consumers
//! ```
//!
//! Every message has a sequence; the three parts ascend from left to right. A new message goes to
//! `ready` while there is no backlog and memory allows, otherwise it extends the backlog. Durable
//! messages that a turn leaves unsettled are written at its end ([`Queue::seal`]); others only when
//! they join the backlog.

mod bodies;
mod chunks;
mod consumers;
mod session;
mod settings;

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Range,
    sync::Arc,
};

use smallvec::SmallVec;

pub(crate) use bodies::BodyChunk;
pub(crate) use consumers::WINDOW;
pub(crate) use session::{DueWill, Session};
pub use session::{OWN_IDS, Will};
pub(crate) use settings::is_known;
pub use settings::{Overflow, QueueSettings, QueueType};

use self::{
    chunks::{Chunk, Chunks},
    consumers::Consumers,
};
use crate::{
    catalog::QueueEntry,
    command::{ConsumeSpec, Outcome},
    event::{CancelReason, Delivery, Event, Kind, Refusal, Reply},
    id::{BindingTag, ConnectionId, ConsumerId, DeliveryId, QueueId, Sequence, Token},
    message::Message,
    shard::Turn,
    store::{
        Table, keys,
        messages::{self, Counters, Stored},
    },
    time::Timestamp,
};

/// Memory that a message takes besides its own bytes.
const MESSAGE_OVERHEAD: usize = 320;

/// A queue may hold so much in memory even when the shard's budget is spent.
const WINDOW_MIN: usize = 64 << 10;

/// Bytes of the store read ahead at once.
const READ_AHEAD: usize = 1 << 20;

/// What a session that does not keep up may hold of messages that nobody promised to deliver.
const FLEETING_MAX: usize = 16 << 20;

/// What a message counts for in memory budgets and windows.
pub(crate) fn size(message: &Message) -> usize {
    message.size() + MESSAGE_OVERHEAD
}

/// A message in memory.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    sequence: Sequence,
    message: Arc<Message>,
    accepted: Timestamp,
    tags: SmallVec<[BindingTag; 2]>,
    body: Option<(Arc<BodyChunk>, u32)>,
    redelivered: bool,
    /// Survives a restart while unsettled.
    durable: bool,
    /// Has a place in a chunk (also one that is only about to be written).
    stored: bool,
    /// Settled by delivery and dropped when nobody is there.
    fleeting: bool,
    pub(crate) size: usize,
}

impl Held {
    fn delivery(&self, id: DeliveryId) -> Delivery {
        Delivery {
            id,
            message: self.message.clone(),
            accepted: self.accepted,
            redelivered: self.redelivered,
            packet_id: 0,
            tags: self.tags.clone(),
        }
    }

    fn to_stored(&self) -> Stored {
        Stored {
            sequence: self.sequence,
            message: self.message.clone(),
            accepted: self.accepted,
            tags: self.tags.clone(),
            body: self
                .body
                .as_ref()
                .map(|(chunk, index)| chunk.reference(*index)),
            durable: self.durable,
        }
    }
}

/// A message on its way into a queue.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) message: Arc<Message>,
    pub(crate) tags: SmallVec<[BindingTag; 2]>,
    /// No subscription that matched promised delivery.
    pub(crate) best_effort: bool,
    /// Where the body is stored when other queues take it too.
    pub(crate) body: Option<(Arc<BodyChunk>, u32)>,
}

/// Bytes of messages in memory, over all queues of a shard.
#[derive(Debug)]
pub(crate) struct Budget {
    pub(crate) used: usize,
    pub(crate) limit: usize,
}

/// A stretch of messages that are in the store only.
#[derive(Debug)]
struct Backlog {
    range: Range<Sequence>,
    reading: bool,
    /// Why its beginning could not be read.
    failure: Option<Refusal>,
}

impl Backlog {
    fn new(range: Range<Sequence>) -> Backlog {
        Backlog {
            range,
            reading: false,
            failure: None,
        }
    }
}

/// A read of the store that a queue wants.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) queue: QueueId,
    pub(crate) range: Range<Sequence>,
    pub(crate) bytes: usize,
}

/// What a [`Read`] found.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// Where the read began.
    pub(crate) from: Sequence,
    /// The chunks from there on; everything below the sequence has been looked at.
    pub(crate) found: Result<(Vec<LoadedChunk>, Sequence), Refusal>,
}

/// A chunk that was read.
#[derive(Debug)]
pub(crate) struct LoadedChunk {
    pub(crate) first: Sequence,
    pub(crate) messages: Vec<Stored>,
    pub(crate) settled: Vec<Range<u64>>,
    pub(crate) bytes: usize,
}

/// A `basic.get` that waits for the backlog to be read.
struct PendingGet {
    connection: ConnectionId,
    token: Token,
    consumer: ConsumerId,
    auto_ack: bool,
}

/// A queue, owned by its shard.
pub(crate) struct Queue {
    pub(crate) entry: Arc<QueueEntry>,
    next: Sequence,
    returned: BTreeMap<Sequence, Held>,
    ready: VecDeque<Held>,
    backlog: Option<Backlog>,
    consumers: Consumers,
    gets: VecDeque<PendingGet>,
    /// To be written at the end of the turn, unless settled by then; with whether it stays in memory.
    pending: Vec<(Held, bool)>,
    chunks: Chunks,
    /// Ready messages, in memory or not.
    ready_count: u64,
    unsettled_count: u64,
    durable_count: u64,
    held_bytes: usize,
    /// Messages that are in the store only for want of memory and below this sequence died with an earlier process.
    recovered_to: Sequence,
    purged: Vec<Range<u64>>,
    counters_dirty: bool,
    /// Since when there has been no consumer.
    pub(crate) idle_since: Option<Timestamp>,
    /// What else an MQTT session knows.
    pub(crate) session: Option<Box<Session>>,
    pub(crate) touched: bool,
}

impl Queue {
    /// A new queue, or one whose counters were found in the store.
    pub(crate) fn new(entry: Arc<QueueEntry>, counters: Option<Counters>, now: Timestamp) -> Queue {
        let counters = counters.unwrap_or_default();
        let backlog = (counters.messages > 0).then_some(Backlog::new(counters.low..counters.next));
        Queue {
            session: entry.spec.session.then(Box::default),
            entry,
            next: counters.next,
            returned: BTreeMap::new(),
            ready: VecDeque::new(),
            backlog,
            consumers: Consumers::default(),
            gets: VecDeque::new(),
            pending: Vec::new(),
            chunks: Chunks::recovered(counters.low),
            ready_count: counters.messages,
            unsettled_count: 0,
            durable_count: counters.messages,
            held_bytes: 0,
            recovered_to: counters.next,
            purged: counters.purged,
            counters_dirty: false,
            idle_since: Some(now),
            touched: false,
        }
    }

    /// Ready messages.
    pub(crate) fn ready(&self) -> u64 {
        self.ready_count
    }

    /// Messages delivered and not settled.
    pub(crate) fn unsettled(&self) -> u64 {
        self.unsettled_count
    }

    /// Consumers that take messages.
    pub(crate) fn consumers(&self) -> u32 {
        self.consumers.active()
    }

    /// Takes a message at the end of the queue.
    pub(crate) fn enqueue(&mut self, arrival: Arrival, budget: &mut Budget, turn: &mut Turn) {
        let message = &arrival.message;
        let persistent = message.is_persistent() && !arrival.best_effort;
        let fleeting =
            self.entry.spec.session && (arrival.best_effort || message.is_fire_and_forget());
        let size = size(message);
        // Behind a backlog it would have to be stored to keep its place.
        let in_time = self.consumers.active() > 0 && self.backlog.is_none();
        if fleeting && (!in_time || self.held_bytes + size > FLEETING_MAX) {
            turn.count.dropped += 1;
            return;
        }
        let held = Held {
            sequence: self.next,
            accepted: turn.now.wall,
            durable: self.entry.spec.durable && persistent,
            stored: false,
            fleeting,
            redelivered: false,
            size,
            message: arrival.message,
            tags: arrival.tags,
            body: arrival.body,
        };
        // What is never settled needs no place of its own, and sequences become packet identifiers.
        if !fleeting {
            self.next = self.next.next();
        }
        self.ready_count += 1;
        self.durable_count += u64::from(held.durable);
        let in_memory = self.backlog.is_none() && (fleeting || self.may_hold(size, budget));
        self.append(held, in_memory, budget);
    }

    fn may_hold(&self, size: usize, budget: &Budget) -> bool {
        budget.used + size <= budget.limit || self.held_bytes + size <= WINDOW_MIN
    }

    fn append(&mut self, mut held: Held, in_memory: bool, budget: &mut Budget) {
        held.stored = held.durable || !in_memory;
        if held.stored {
            self.pending.push((held.clone(), in_memory));
        }
        if in_memory {
            self.hold(held.size, budget);
            self.ready.push_back(held);
            return;
        }
        let sequence = held.sequence;
        let backlog = self.backlog.get_or_insert(Backlog::new(sequence..sequence));
        backlog.range.end = sequence.next();
    }

    fn hold(&mut self, size: usize, budget: &mut Budget) {
        self.held_bytes += size;
        budget.used += size;
    }

    fn release(&mut self, size: usize, budget: &mut Budget) {
        self.held_bytes -= size;
        budget.used -= size;
    }

    /// Delivers what can be delivered, and asks for more of the backlog when the window runs low.
    pub(crate) fn pump(&mut self, budget: &mut Budget, turn: &mut Turn) {
        self.expire(budget, turn);
        self.serve_gets(budget, turn);
        while let Some((fleeting, sequence)) =
            self.head().map(|head| (head.fleeting, head.sequence))
        {
            let Some(slot) = self.consumers.next(fleeting) else {
                break;
            };
            if !fleeting && !self.may_send(slot, sequence) {
                break;
            }
            let held = self.take_head().expect("head was just seen");
            turn.count.delivered += 1;
            match self.consumers.deliver(slot, held, fleeting) {
                Some(held) => self.forget(&held, budget),
                None => self.unsettled_count += 1,
            }
            if !fleeting {
                self.note_sent(slot, sequence);
            }
        }
        for (connection, consumer, deliveries) in self.consumers.drain_outgoing() {
            turn.free.push(
                connection,
                Event::Deliver {
                    consumer,
                    deliveries,
                },
            );
        }
        self.give_up(turn);
        self.read_ahead(turn);
    }

    /// Tells those who wait for a backlog that cannot be read. It stays where it is, and whoever comes next
    /// has it read again.
    fn give_up(&mut self, turn: &mut Turn) {
        if self.head().is_some() {
            return;
        }
        let failure = self
            .backlog
            .as_mut()
            .and_then(|backlog| backlog.failure.take());
        let Some(failure) = failure else { return };
        self.refuse_gets(&failure, turn);
        let reason = CancelReason::Unreadable;
        for (connection, consumer) in self.consumers.active_ids() {
            let event = Event::Cancelled { consumer, reason };
            turn.free.push(connection, event);
            if let Some(slot) = self.consumers.find(connection, consumer) {
                self.consumers.cancel(slot);
            }
        }
        // Not as when a consumer leaves: that might delete the queue.
        self.idle_since = Some(turn.now.wall);
    }

    fn read_again(&mut self) {
        if let Some(backlog) = &mut self.backlog {
            backlog.failure = None;
        }
    }

    /// Drops messages at the head whose time is up. Those behind an unexpired one wait for their turn, as in RabbitMQ.
    fn expire(&mut self, budget: &mut Budget, turn: &mut Turn) {
        while self
            .head()
            .is_some_and(|held| held.message.is_expired(held.accepted, turn.now.wall))
        {
            let held = self.take_head().expect("head was just seen");
            turn.count.expired += 1;
            self.forget(&held, budget);
        }
    }

    fn head(&self) -> Option<&Held> {
        self.returned
            .first_key_value()
            .map(|(_, held)| held)
            .or_else(|| self.ready.front())
    }

    fn take_head(&mut self) -> Option<Held> {
        let held = match self.returned.pop_first() {
            Some((_, held)) => held,
            None => self.ready.pop_front()?,
        };
        self.ready_count -= 1;
        Some(held)
    }

    fn read_ahead(&mut self, turn: &mut Turn) {
        let wanted = !self.gets.is_empty() || self.consumers.active() > 0;
        if let Some(backlog) = &mut self.backlog
            && wanted
            && !backlog.reading
            && backlog.failure.is_none()
            && self.ready.len() < 256
        {
            backlog.reading = true;
            turn.reads.push(Read {
                queue: self.entry.id,
                range: backlog.range.clone(),
                bytes: READ_AHEAD,
            });
        }
    }

    /// Takes what a [`Read`] found.
    pub(crate) fn loaded(&mut self, loaded: Loaded, budget: &mut Budget) {
        // Another backlog may have begun since the one that was read was purged.
        let Some(backlog) = self
            .backlog
            .as_mut()
            .filter(|backlog| backlog.reading && backlog.range.start == loaded.from)
        else {
            return;
        };
        backlog.reading = false;
        let (chunks, read_to) = match loaded.found {
            Ok(found) => found,
            Err(refusal) => {
                backlog.failure = Some(refusal);
                return;
            }
        };
        backlog.range.start = read_to;
        if backlog.range.is_empty() {
            self.backlog = None;
        }
        for chunk in chunks {
            if !self
                .purged
                .iter()
                .any(|range| range.contains(&chunk.first.0))
            {
                self.load(chunk, budget);
            }
        }
        if self.backlog.is_none() {
            // Whatever the counters said: nothing else is there.
            self.ready_count = (self.returned.len() + self.ready.len()) as u64;
        }
    }

    fn load(&mut self, loaded: LoadedChunk, budget: &mut Budget) {
        let Some(last) = loaded.messages.last().map(|stored| stored.sequence) else {
            return;
        };
        let mut chunk = Chunk {
            first: loaded.first,
            last,
            remaining: loaded.messages.len() as u32,
            bodies: bodies_of(loaded.messages.iter().filter_map(|stored| stored.body)),
            bytes: loaded.bytes,
            has_row: !loaded.settled.is_empty(),
            settled: loaded.settled,
            dirty: false,
        };
        let mut lost = Vec::new();
        for stored in loaded.messages {
            let sequence = stored.sequence;
            if chunk.settled.iter().any(|run| run.contains(&sequence.0)) {
                chunk.remaining -= 1;
                continue;
            }
            if !stored.durable && sequence < self.recovered_to {
                lost.push(sequence);
                continue;
            }
            let held = Held {
                sequence,
                size: size(&stored.message),
                message: stored.message,
                accepted: stored.accepted,
                tags: stored.tags,
                body: None,
                redelivered: self.may_have_been_sent(sequence),
                durable: stored.durable,
                stored: true,
                fleeting: false,
            };
            self.hold(held.size, budget);
            self.ready.push_back(held);
        }
        self.chunks.add(chunk);
        for sequence in lost {
            self.chunks.settle(sequence);
        }
    }

    /// A message is settled for good.
    fn forget(&mut self, held: &Held, budget: &mut Budget) {
        self.release(held.size, budget);
        self.forget_stored(held);
    }

    fn forget_stored(&mut self, held: &Held) {
        if held.durable {
            self.durable_count -= 1;
        }
        if !held.stored {
            return;
        }
        self.counters_dirty = true;
        match self
            .pending
            .binary_search_by_key(&held.sequence, |(pending, _)| pending.sequence)
        {
            Ok(at) => self.pending[at].0.stored = false,
            Err(_) => self.chunks.settle(held.sequence),
        }
    }

    /// Settles deliveries of one consumer.
    pub(crate) fn settle(
        &mut self,
        connection: ConnectionId,
        consumer: ConsumerId,
        deliveries: std::ops::RangeInclusive<DeliveryId>,
        outcome: Outcome,
        budget: &mut Budget,
        turn: &mut Turn,
    ) {
        let Some(slot) = self.consumers.find(connection, consumer) else {
            return;
        };
        let unsettled = self.consumers.unsettled(slot);
        let first = unsettled.start.max(deliveries.start().0);
        let end = unsettled.end.min(deliveries.end().0.saturating_add(1));
        for delivery in first..end {
            let Some(held) = self.consumers.take(slot, DeliveryId(delivery)) else {
                continue;
            };
            self.unsettled_count -= 1;
            turn.count.settled += 1;
            match outcome {
                Outcome::Accept | Outcome::Reject => self.forget(&held, budget),
                Outcome::Requeue => self.requeue(held),
            }
        }
        self.consumers.free_if_done(slot);
    }

    fn requeue(&mut self, mut held: Held) {
        held.redelivered = true;
        self.ready_count += 1;
        self.returned.insert(held.sequence, held);
    }

    /// Starts a consumer.
    pub(crate) fn consume(
        &mut self,
        connection: ConnectionId,
        consumer: ConsumerId,
        spec: &ConsumeSpec,
        turn: &mut Turn,
    ) -> Result<(), Refusal> {
        self.check_owner(connection)?;
        if spec.takeover {
            self.take_over(turn);
        }
        let exclusive_use = self.consumers.actives().any(|other| other.exclusive);
        if exclusive_use || (spec.exclusive && self.consumers.active() > 0) {
            let (name, vhost) = (self.entry.name.clone(), self.entry.vhost.clone());
            return Err(Refusal::ExclusiveUse { name, vhost });
        }
        self.read_again();
        self.consumers.add(connection, consumer, spec);
        self.idle_since = None;
        Ok(())
    }

    fn take_over(&mut self, turn: &mut Turn) {
        let old: Vec<_> = self
            .consumers
            .iter()
            .map(|old| (old.connection, old.id))
            .collect();
        for (connection, consumer) in old {
            turn.free.push(
                connection,
                Event::Cancelled {
                    consumer,
                    reason: CancelReason::TakenOver,
                },
            );
            if let Some(slot) = self.consumers.find(connection, consumer) {
                let held = self.consumers.remove(slot);
                self.requeue_all(held);
            }
        }
    }

    fn requeue_all(&mut self, held: Vec<Held>) {
        self.unsettled_count -= held.len() as u64;
        held.into_iter().for_each(|held| self.requeue(held));
    }

    fn check_owner(&self, connection: ConnectionId) -> Result<(), Refusal> {
        match self.entry.owner {
            Some(owner) if owner != connection => {
                let (name, vhost) = (self.entry.name.clone(), self.entry.vhost.clone());
                Err(Refusal::Locked { name, vhost })
            }
            _ => Ok(()),
        }
    }

    /// Takes one message, when it is there; otherwise once the backlog is read.
    pub(crate) fn get(
        &mut self,
        connection: ConnectionId,
        token: Token,
        consumer: ConsumerId,
        auto_ack: bool,
    ) -> Result<(), Refusal> {
        self.check_owner(connection)?;
        self.read_again();
        self.gets.push_back(PendingGet {
            connection,
            token,
            consumer,
            auto_ack,
        });
        Ok(())
    }

    fn serve_gets(&mut self, budget: &mut Budget, turn: &mut Turn) {
        while !self.gets.is_empty() && (self.head().is_some() || self.backlog.is_none()) {
            let get = self.gets.pop_front().expect("there is a get");
            let delivery = self
                .take_head()
                .map(|held| self.deliver_get(&get, held, budget, turn));
            let reply = Reply::Got {
                delivery,
                remaining: self.ready_count,
            };
            turn.free.push(
                get.connection,
                Event::Done {
                    token: get.token,
                    result: Ok(reply),
                },
            );
        }
    }

    fn deliver_get(
        &mut self,
        get: &PendingGet,
        held: Held,
        budget: &mut Budget,
        turn: &mut Turn,
    ) -> Delivery {
        turn.count.delivered += 1;
        let (delivery, settled) =
            self.consumers
                .get(get.connection, get.consumer, held, get.auto_ack);
        match settled {
            Some(held) => self.forget(&held, budget),
            None => self.unsettled_count += 1,
        }
        delivery
    }

    /// More room towards a consumer's peer.
    pub(crate) fn credit(&mut self, connection: ConnectionId, consumer: ConsumerId, bytes: u32) {
        self.consumers.credit(connection, consumer, bytes);
    }

    /// Ends a consumer from its own side. What it holds stays unsettled.
    pub(crate) fn cancel(
        &mut self,
        connection: ConnectionId,
        consumer: ConsumerId,
        budget: &mut Budget,
        turn: &mut Turn,
    ) {
        if let Some(slot) = self.consumers.find(connection, consumer)
            && self.consumers.cancel(slot)
        {
            self.consumer_left(budget, turn);
        }
    }

    /// A connection has gone.
    pub(crate) fn disconnect(
        &mut self,
        connection: ConnectionId,
        budget: &mut Budget,
        turn: &mut Turn,
    ) {
        let active = self.consumers.active();
        let held = self.consumers.disconnect(connection);
        self.requeue_all(held);
        self.gets.retain(|get| get.connection != connection);
        if self.consumers.active() < active {
            self.consumer_left(budget, turn);
        }
    }

    fn consumer_left(&mut self, budget: &mut Budget, turn: &mut Turn) {
        if self.consumers.active() > 0 {
            return;
        }
        self.idle_since = Some(turn.now.wall);
        if self.entry.spec.session {
            self.drop_fleeting(budget, turn);
        }
        let at_once = self
            .entry
            .settings
            .expires
            .is_some_and(|after| after.is_zero());
        if self.entry.spec.auto_delete || at_once {
            turn.idle.push(self.entry.id);
        }
    }

    fn drop_fleeting(&mut self, budget: &mut Budget, turn: &mut Turn) {
        let (mut dropped, mut bytes) = (0, 0);
        self.ready.retain(|held| {
            if held.fleeting {
                (dropped, bytes) = (dropped + 1, bytes + held.size);
            }
            !held.fleeting
        });
        self.ready_count -= dropped;
        turn.count.dropped += dropped;
        self.release(bytes, budget);
    }

    /// Drops the ready messages; how many.
    pub(crate) fn purge(&mut self, budget: &mut Budget, turn: &mut Turn) -> u64 {
        let count = self.ready_count;
        while let Some(held) = self.take_head() {
            self.forget(&held, budget);
        }
        if let Some(backlog) = self.backlog.take() {
            self.pending.retain(|(_, in_memory)| *in_memory);
            self.durable_count = self.unsettled_durable();
            self.purged.push(backlog.range.start.0..backlog.range.end.0);
            self.counters_dirty = true;
            self.chunks.abandon(backlog.range.clone());
            turn.abandoned.push((self.entry.id, backlog.range));
        }
        self.ready_count = 0;
        count
    }

    fn refuse_gets(&mut self, refusal: &Refusal, turn: &mut Turn) {
        for get in self.gets.drain(..) {
            let event = Event::Done {
                token: get.token,
                result: Err(refusal.clone()),
            };
            turn.free.push(get.connection, event);
        }
    }

    fn unsettled_durable(&self) -> u64 {
        self.consumers
            .iter()
            .map(|consumer| consumer.unsettled_where(|held| held.durable))
            .sum()
    }

    /// Empties the queue because it goes; its consumers are told. How many messages were ready.
    pub(crate) fn remove(&mut self, budget: &mut Budget, turn: &mut Turn) -> u64 {
        let ready = self.ready_count;
        let consumers: Vec<_> = self
            .consumers
            .iter()
            .map(|c| (c.connection, c.id))
            .collect();
        for (connection, consumer) in self.consumers.active_ids() {
            turn.free.push(
                connection,
                Event::Cancelled {
                    consumer,
                    reason: CancelReason::QueueDeleted,
                },
            );
        }
        for (connection, consumer) in consumers {
            if let Some(slot) = self.consumers.find(connection, consumer) {
                self.consumers.remove(slot);
            }
        }
        let (name, vhost) = (self.entry.name.clone(), self.entry.vhost.clone());
        let kind = Kind::Queue;
        self.refuse_gets(&Refusal::NotFound { kind, name, vhost }, turn);
        let id = self.entry.id;
        if let Some(backlog) = self.backlog.take() {
            self.chunks.abandon(backlog.range.clone());
            turn.abandoned.push((id, backlog.range));
        }
        self.end_session(turn);
        self.chunks.clear(id, self.next, turn);
        turn.batch.delete(Table::State, keys::queue_state(id));
        budget.used -= self.held_bytes;
        self.held_bytes = 0;
        ready
    }

    /// Writes what the turn left behind.
    pub(crate) fn seal(&mut self, turn: &mut Turn) {
        if !self.pending.is_empty() {
            let mut pending = std::mem::take(&mut self.pending);
            let split = pending.partition_point(|(_, in_memory)| *in_memory);
            self.write_chunk(&pending[..split], true, turn);
            self.write_chunk(&pending[split..], false, turn);
            pending.clear();
            self.pending = pending;
            self.counters_dirty = true;
        }
        let end = self
            .backlog
            .as_ref()
            .map_or(self.next, |backlog| backlog.range.start);
        self.chunks.seal(self.entry.id, end, turn);
        if std::mem::take(&mut self.counters_dirty) && self.entry.spec.durable {
            let low = self.chunks.low().unwrap_or(end);
            self.purged.retain(|range| range.end > low.0);
            let purged = self.purged.clone();
            let counters = Counters {
                next: self.next,
                low,
                messages: self.durable_count,
                purged,
            };
            turn.batch.put(
                Table::State,
                keys::queue_state(self.entry.id),
                counters.encode(),
            );
        }
        self.seal_session(turn);
    }

    fn write_chunk(&mut self, pending: &[(Held, bool)], in_memory: bool, turn: &mut Turn) {
        let messages: Vec<Stored> = pending
            .iter()
            .filter(|(held, _)| held.stored)
            .map(|(held, _)| held.to_stored())
            .collect();
        let (Some(first), Some(last)) = (messages.first(), messages.last()) else {
            return;
        };
        let (first, last, id) = (first.sequence, last.sequence, self.entry.id);
        let size = messages
            .iter()
            .map(|stored| stored.message.size() + 48)
            .sum();
        let value = messages::encode_chunk(messages.iter(), size);
        let bodies = bodies_of(messages.iter().filter_map(|stored| stored.body));
        for &number in &bodies {
            turn.batch.put(
                Table::State,
                keys::body_reference(number, id, first),
                &b""[..],
            );
        }
        for (chunk, _) in pending
            .iter()
            .filter(|(held, _)| held.stored)
            .filter_map(|(held, _)| held.body.as_ref())
        {
            chunk.write(&mut turn.batch);
        }
        if in_memory {
            let (remaining, bytes) = (messages.len() as u32, value.len());
            let settled = Vec::new();
            self.chunks.add(Chunk {
                first,
                last,
                remaining,
                settled,
                bodies,
                bytes,
                has_row: false,
                dirty: false,
            });
        }
        turn.batch
            .put(Table::Messages, keys::chunk(id, first), value);
    }
}

fn bodies_of(references: impl Iterator<Item = messages::BodyReference>) -> SmallVec<[u64; 1]> {
    let mut numbers: SmallVec<[u64; 1]> = references.map(|reference| reference.number).collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}
