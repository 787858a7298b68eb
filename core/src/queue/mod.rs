//! A queue: messages in order, consumers in turn, and what is delivered but not settled.
//!
//! ```text
//!  returned < ready  < backlog
//!  requeued   window   in the store only, read ahead of the consumers
//! ```
//!
//! Every message has a sequence; the three parts ascend from left to right, and so do the lanes of a queue with
//! priorities ([`lane`]). A new message goes to `ready` while there is no backlog and memory allows, otherwise it
//! extends the backlog. Durable messages that a turn leaves unsettled are written at its end ([`Queue::seal`]);
//! others only when they join the backlog.
//!
//! A message that came back may have to wait for its next delivery ([`delayed`]); until then it is in none of them.
//!
//! A message leaves by being settled, or it dies: its time is up, there is no room, it was rejected or came back too
//! often. One that dies in a queue with a dead-letter exchange stays, out of reach, until it has arrived elsewhere
//! ([`dying`]).

mod arrivals;
mod bodies;
mod channel;
mod chunks;
mod consumers;
mod cursor;
mod delayed;
mod deliveries;
mod dying;
mod lane;
mod overtaken;
mod pressure;
mod session;
mod settings;
mod settlement;

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Range,
    sync::Arc,
    time::Duration,
};

use smallvec::{SmallVec, smallvec};

pub(crate) use arrivals::Arrival;
pub(crate) use bodies::BodyChunk;
pub(crate) use channel::ChannelLimit;
pub(crate) use consumers::WINDOW;
pub(crate) use cursor::{CursorLoaded, CursorRead};
pub(crate) use overtaken::Replay;
pub use pressure::{Hold, Wait};
pub(crate) use session::{DueWill, Session};
pub use session::{OWN_IDS, Will};
pub(crate) use settings::is_known;
pub use settings::{Overflow, QueueSettings, QueueType};

use self::{
    consumers::Consumers,
    cursor::Cursor,
    deliveries::PendingGet,
    lane::{Lane, lane_of, lane_start},
};
use crate::{
    catalog::{QueueEntry, is_group},
    event::{CancelReason, Delivery, Event, Kind, Refusal},
    id::{ConnectionId, DeliveryId, QueueId, Sequence},
    message::Message,
    rare::Rare,
    shard::{Leaving, Turn},
    store::{
        Table, keys,
        messages::{Progress, QueueCounters, Stored},
    },
    tags::Tags,
    time::Timestamp,
};

/// Memory that a message takes besides its own bytes.
const MESSAGE_OVERHEAD: usize = 320;

/// Bytes of the store read ahead of consumers at once.
const READ_AHEAD: usize = 1 << 20;

/// A session that goes away without its client is given this long to get it.
const FIRST_CONSUMER: Duration = Duration::from_secs(10);

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
    tags: Tags,
    body: Option<(Arc<BodyChunk>, u32)>,
    /// How often it came back, where that is limited.
    returns: u16,
    /// How often that counts for the limit.
    failures: u16,
    redelivered: bool,
    /// Survives a restart while unsettled.
    durable: bool,
    /// Has a place in a chunk (also one that is only about to be written).
    stored: bool,
    /// Settled by delivery and dropped when nobody is there.
    fleeting: bool,
    pub(crate) size: usize,
}

/// One line of the processor's cache.
const _: () = assert!(size_of::<Held>() <= 64);

impl Held {
    fn delivery(&self, id: DeliveryId) -> Delivery {
        Delivery {
            id,
            message: self.message.clone(),
            accepted: self.accepted,
            redelivered: self.redelivered,
            returns: self.returns,
            failures: self.failures,
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

/// A number of messages and the bytes of their bodies, which is what RabbitMQ's limits count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    messages: u64,
    bytes: u64,
}

impl Tally {
    fn add(&mut self, message: &Message) {
        self.messages += 1;
        self.bytes += weight(message);
    }

    fn remove(&mut self, message: &Message) {
        self.messages -= 1;
        // A queue written by the first version does not know the bytes of what it held.
        self.bytes = self.bytes.saturating_sub(weight(message));
    }

    fn subtract(&mut self, other: Tally) {
        self.messages = self.messages.saturating_sub(other.messages);
        self.bytes = self.bytes.saturating_sub(other.bytes);
    }

    fn min(self, other: Tally) -> Tally {
        Tally {
            messages: self.messages.min(other.messages),
            bytes: self.bytes.min(other.bytes),
        }
    }
}

/// Bytes of the body.
fn weight(message: &Message) -> u64 {
    message.body.as_ref().map_or(0, |body| body.len() as u64)
}

/// Bytes of messages in memory, over all queues of a shard.
#[derive(Debug)]
pub(crate) struct Budget {
    pub(crate) used: usize,
    pub(crate) limit: usize,
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
    pub(crate) progress: Progress,
    pub(crate) bytes: usize,
}

/// Where the next message to be delivered is.
#[derive(Clone, Copy)]
enum Front {
    Returned,
    Lane(usize),
}

/// A queue, owned by its shard.
pub(crate) struct Queue {
    pub(crate) entry: Arc<QueueEntry>,
    /// By their sequences; one unless the queue tells priorities apart.
    lanes: SmallVec<[Lane; 1]>,
    returned: BTreeMap<Sequence, Held>,
    consumers: Consumers,
    gets: Rare<VecDeque<PendingGet>>,
    /// Dead, until they have arrived elsewhere.
    dying: Rare<dying::Dying>,
    /// Those of them that could not be delivered.
    undelivered: Option<Box<dying::Returned>>,
    /// What came back and waits for its next delivery.
    delayed: Rare<delayed::Delayed>,
    /// Messages that can be delivered, in memory or not.
    ready: Tally,
    unsettled_count: u64,
    held_bytes: usize,
    /// Some message may have a lifetime.
    timed: bool,
    counters_dirty: bool,
    /// The store has a row of the counters.
    counters_stored: bool,
    /// Since when nobody has used it.
    idle_since: Option<Timestamp>,
    /// Somebody consumed it since it is in memory.
    was_consumed: bool,
    /// It has asked to be removed.
    is_leaving: bool,
    /// When its shard will look at it by itself, at the latest.
    alarm: Option<Timestamp>,
    /// The log that its messages are of, and what is done with there.
    cursor: Option<Box<Cursor>>,
    /// What else an MQTT session knows.
    pub(crate) session: Option<Box<Session>>,
    pub(crate) touched: bool,
}

impl Queue {
    /// A new queue, or one whose counters were found in the store.
    pub(crate) fn new(
        entry: Arc<QueueEntry>,
        counters: Option<QueueCounters>,
        now: Timestamp,
    ) -> Queue {
        let counters_stored = counters.is_some();
        let QueueCounters {
            lanes,
            timed,
            delayed,
        } = counters.unwrap_or_default();
        let mut lanes: SmallVec<[Lane; 1]> = lanes
            .into_iter()
            .map(|lane| Lane::recovered(entry.id, lane))
            .collect();
        if lanes.is_empty() && entry.settings.max_priority.is_none() {
            lanes = smallvec![Lane::new(entry.id, lane_start(u8::MAX))];
        }
        let mut ready = Tally::default();
        for lane in &lanes {
            ready.messages += lane.durable.messages;
            ready.bytes += lane.durable.bytes;
        }
        let mut queue = Queue {
            timed: timed || entry.settings.message_ttl.is_some(),
            lanes,
            returned: BTreeMap::new(),
            consumers: match &entry.settings {
                settings if settings.single_active_consumer => {
                    Consumers::single(settings.kind.counts_returns())
                }
                _ => Consumers::default(),
            },
            gets: Rare::default(),
            dying: Rare::default(),
            undelivered: None,
            delayed: Rare::default(),
            ready,
            unsettled_count: 0,
            held_bytes: 0,
            counters_dirty: false,
            counters_stored,
            idle_since: Some(now),
            was_consumed: false,
            is_leaving: false,
            alarm: None,
            cursor: Cursor::new(&entry),
            session: (entry.spec.session && !is_group(&entry.name)).then(Box::default),
            touched: false,
            entry,
        };
        queue.recover_delayed(delayed, now);
        queue
    }

    /// Ready messages.
    pub(crate) fn ready(&self) -> u64 {
        match &self.cursor {
            Some(cursor) => cursor.ready(),
            None => self.ready.messages,
        }
    }

    /// Bytes of the bodies of messages ready for delivery.
    pub(crate) fn ready_bytes(&self) -> u64 {
        self.ready.bytes
    }

    /// Messages delivered and not settled.
    pub(crate) fn unsettled(&self) -> u64 {
        self.unsettled_count
    }

    /// The connections of consumers that take messages, in no order.
    pub(crate) fn consumer_connections(&self) -> impl Iterator<Item = ConnectionId> {
        self.consumers.actives().map(|consumer| consumer.connection)
    }

    /// Consumers that take messages.
    pub(crate) fn consumers(&self) -> u32 {
        self.consumers.active()
    }

    /// Goes on as its declaration or policies now say. `from` is whose wish that is.
    pub(crate) fn change(&mut self, entry: Arc<QueueEntry>, from: ConnectionId, now: Timestamp) {
        if let (Some(cursor), Some(log)) = (&mut self.cursor, &entry.source) {
            cursor.change(log);
        }
        // A new time begins now.
        if entry.settings.expires != self.entry.settings.expires && self.idle_since.is_some() {
            self.idle_since = Some(now);
        }
        self.entry = entry;
        if let Some(session) = &mut self.session {
            session.expect(from, now.after(FIRST_CONSUMER));
        }
        let timed = self.timed || self.entry.settings.message_ttl.is_some();
        self.counters_dirty |= timed != self.timed;
        self.timed = timed;
        self.is_leaving = false;
    }

    /// Somebody used it without consuming. A session is used by its client only.
    pub(crate) fn renew(&mut self, now: Timestamp) {
        let renewable = !self.is_leaving && !self.entry.spec.session;
        if let Some(since) = self.idle_since.as_mut().filter(|_| renewable) {
            *since = now;
        }
    }

    /// Delivers what can be delivered, drops what must go, and asks for more of the backlog when that is wanted.
    pub(crate) fn pump(&mut self, budget: &mut Budget, turn: &mut Turn) {
        self.return_due(turn.now.wall);
        let mut expired = self.expire(false, budget, turn);
        expired |= self.deliver(budget, turn);
        self.relieve(budget, turn);
        // Only now: what may not wait at all has had its chance.
        expired |= self.expire(true, budget, turn);
        expired |= self.make_room(budget, turn);
        expired |= self.serve_gets(budget, turn);
        self.give_up(turn);
        self.read_ahead(expired, budget, turn);
    }

    /// When the queue next has something to do by itself.
    fn deadline(&self) -> Option<Timestamp> {
        let expiry = (self.timed && self.may_die())
            .then(|| self.head().and_then(|held| self.expires_at(held)))
            .flatten();
        let leave = self.leaves_at().filter(|_| !self.is_leaving);
        let timeout = self.consumers.timeout(self.entry.settings.consumer_timeout);
        let due = self.next_due();
        let will = self.session.as_ref().and_then(|session| session.will_at());
        let retry = self.retries_at();
        [expiry, leave, timeout, will, retry, due]
            .into_iter()
            .flatten()
            .min()
    }

    /// A deadline that the shard does not know of yet.
    pub(crate) fn new_alarm(&mut self) -> Option<Timestamp> {
        let deadline = self.deadline()?;
        if self.alarm.is_some_and(|alarm| alarm <= deadline) {
            return None;
        }
        self.alarm = Some(deadline);
        Some(deadline)
    }

    /// An alarm has gone off: does what is due and not done by [`Queue::pump`].
    pub(crate) fn alarmed(&mut self, at: Timestamp, budget: &mut Budget, turn: &mut Turn) {
        if self.alarm == Some(at) {
            self.alarm = None;
        }
        self.time_out(budget, turn);
        self.retry(turn);
        self.publish_due_will(turn);
        if self.leaves_at().is_some_and(|at| at <= turn.now.wall) && !self.is_leaving {
            self.is_leaving = true;
            turn.idle.push(Leaving::new(self.entry.id));
        }
    }

    /// When it goes away if nobody uses it.
    fn leaves_at(&self) -> Option<Timestamp> {
        let expires = self.entry.settings.expires?;
        let since = self.idle_since.filter(|_| self.consumers.active() == 0)?;
        let first = self.entry.spec.session && !self.was_consumed;
        let at = since.after(if first {
            expires.max(FIRST_CONSUMER)
        } else {
            expires
        });
        Some(at.max(self.awaited_until()))
    }

    /// Until when a client is expected that has asked for its session and not yet attached to it.
    fn awaited_until(&self) -> Timestamp {
        self.session
            .as_ref()
            .and_then(|session| session.awaited_until)
            .unwrap_or_default()
    }

    /// Whether somebody uses it, or is about to.
    pub(crate) fn is_used(&self, now: Timestamp) -> bool {
        self.consumers() > 0 || self.awaited_until() > now
    }

    fn hold(&mut self, size: usize, budget: &mut Budget) {
        self.held_bytes += size;
        budget.used += size;
    }

    fn release(&mut self, size: usize, budget: &mut Budget) {
        self.held_bytes -= size;
        budget.used -= size;
    }

    /// Where the next message is, if it is in memory.
    fn front(&self) -> Option<Front> {
        let mut lanes = self.lanes.iter().enumerate();
        let lane = lanes.find_map(|(at, lane)| Some((at, lane.front()?)));
        let Some((first_returned, _)) = self.returned.first_key_value() else {
            let (at, front) = lane?;
            return front.is_ok().then_some(Front::Lane(at));
        };
        match lane {
            Some((at, Ok(held))) if held.sequence < *first_returned => Some(Front::Lane(at)),
            Some((_, Err(backlog))) if backlog < *first_returned => None,
            _ => Some(Front::Returned),
        }
    }

    fn head(&self) -> Option<&Held> {
        self.at(self.front()?)
    }

    fn at(&self, front: Front) -> Option<&Held> {
        match front {
            Front::Returned => self.returned.first_key_value().map(|(_, held)| held),
            Front::Lane(at) => self.lanes[at].ready.front(),
        }
    }

    fn take_head(&mut self) -> Option<Held> {
        self.take(self.front()?)
    }

    fn take(&mut self, front: Front) -> Option<Held> {
        let held = match front {
            Front::Returned => self.returned.pop_first()?.1,
            Front::Lane(at) => self.lanes[at].ready.pop_front()?,
        };
        self.ready.remove(&held.message);
        self.take_from_log(held.sequence);
        Some(held)
    }

    /// The lane of a message that is or was in the queue.
    fn lane_mut(&mut self, sequence: Sequence) -> Option<&mut Lane> {
        let start = lane_of(sequence);
        self.lanes.iter_mut().find(|lane| lane.start == start)
    }

    fn read_ahead(&mut self, expired: bool, budget: &Budget, turn: &mut Turn) {
        let wanted = self.has_gets()
            || self.consumers.active() > 0
            || expired
            || self.is_over()
            || self.has_unread_delayed();
        if self.cursor.is_some() {
            return self.read_log(wanted, budget, turn);
        }
        let first_is_wanted = self.timed && self.head().is_none();
        if !wanted && !first_is_wanted {
            return;
        }
        // Without anybody who wants messages, one chunk says when the first of them expires.
        let bytes = if wanted { READ_AHEAD } else { 1 };
        // What waits for its next delivery may be in any lane.
        if self.has_unread_delayed() {
            self.lanes
                .iter_mut()
                .for_each(|lane| lane.read_ahead(bytes, turn));
        } else if let Some(lane) = self.lanes.iter_mut().find(|lane| lane.front().is_some()) {
            lane.read_ahead(bytes, turn);
        }
    }

    /// Takes what a [`Read`] found.
    pub(crate) fn loaded(&mut self, loaded: Loaded, budget: &mut Budget, now: Timestamp) {
        let start = lane_of(loaded.from);
        let Some(lane) = self.lanes.iter_mut().find(|lane| lane.start == start) else {
            return;
        };
        let gain = lane.loaded(loaded, self.session.as_deref(), now);
        self.hold(gain.size, budget);
        let believed_ready = self.found_delayed(gain.delayed, gain.was_delayed, gain.expected);
        self.ready.subtract(believed_ready);
        self.ready.messages += gain.found.messages;
        self.ready.bytes += gain.found.bytes;
    }

    /// Tells those who wait for a backlog that cannot be read. It stays where it is, and whoever comes next
    /// has it read again.
    fn give_up(&mut self, turn: &mut Turn) {
        if self.cursor.is_some() {
            return self.give_up_log(turn);
        }
        if self.head().is_some() {
            return;
        }
        let backlogs = self
            .lanes
            .iter_mut()
            .filter_map(|lane| lane.backlog.as_mut());
        let failure = backlogs.filter_map(|backlog| backlog.failure.take()).next();
        let Some(failure) = failure else { return };
        self.refuse_gets(&failure, turn);
        self.cancel_all(CancelReason::Unreadable, turn);
        // Not as when a consumer leaves: that might delete the queue.
        self.idle_since = Some(turn.now.wall);
    }

    fn read_again(&mut self) {
        if let Some(cursor) = &mut self.cursor {
            cursor.read_again();
        }
        for backlog in self
            .lanes
            .iter_mut()
            .filter_map(|lane| lane.backlog.as_mut())
        {
            backlog.failure = None;
        }
    }

    /// A message is settled for good.
    fn forget(&mut self, held: &Held, budget: &mut Budget) {
        self.release(held.size, budget);
        if let Some(cursor) = &mut self.cursor {
            return cursor.finish(held.sequence);
        }
        let stored = self
            .lane_mut(held.sequence)
            .is_some_and(|lane| lane.forget(held));
        self.counters_dirty |= stored;
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

    /// Drops the messages that are ready or wait for their next delivery; how many.
    pub(crate) fn purge(&mut self, budget: &mut Budget, turn: &mut Turn) -> u64 {
        if self.cursor.is_some() {
            return self.purge_log(budget);
        }
        let count = self.ready.messages + self.forget_delayed(budget);
        loop {
            while let Some(held) = self.take_head() {
                self.forget(&held, budget);
            }
            // What is left of a lane is in the store only, and may hide lower ones.
            let Some(at) = self.lanes.iter().position(|lane| lane.backlog.is_some()) else {
                break;
            };
            let left = self.out_of_reach(self.lanes[at].start);
            self.lanes[at].purge_backlog(left, turn);
            self.counters_dirty = true;
        }
        self.ready = Tally::default();
        count
    }

    /// Durable messages of a lane that are delivered or dying.
    fn out_of_reach(&self, lane: Sequence) -> Tally {
        let mut tally = Tally::default();
        let unsettled = self.consumers.iter().flat_map(|consumer| consumer.held());
        for held in unsettled.chain(
            self.dying
                .get()
                .into_iter()
                .flat_map(|dying| dying.messages.values()),
        ) {
            if held.durable && lane_of(held.sequence) == lane {
                tally.add(&held.message);
            }
        }
        tally
    }

    /// Empties the queue because it goes; its consumers are told. How many messages were ready.
    pub(crate) fn remove(&mut self, budget: &mut Budget, turn: &mut Turn) -> u64 {
        let ready = self.ready();
        let consumers = self.consumers.all_ids();
        self.cancel_all(CancelReason::QueueDeleted, turn);
        for (connection, consumer) in consumers {
            if let Some(slot) = self.consumers.find(connection, consumer) {
                self.consumers.remove(slot);
            }
        }
        let (name, vhost) = (self.entry.name.clone(), self.entry.vhost.clone());
        let kind = Kind::Queue;
        self.refuse_gets(&Refusal::NotFound { kind, name, vhost }, turn);
        self.end_session(turn);
        self.remove_cursor(turn);
        for lane in &mut self.lanes {
            lane.remove(turn);
        }
        if self.counters_stored {
            turn.batch
                .delete(Table::State, keys::queue_state(self.entry.id));
        }
        budget.used -= self.held_bytes;
        self.held_bytes = 0;
        ready
    }

    fn cancel_all(&mut self, reason: CancelReason, turn: &mut Turn) {
        for (connection, consumer) in self.consumers.active_ids() {
            let event = Event::Cancelled { consumer, reason };
            turn.free.push(connection, event);
            if let Some(slot) = self.consumers.find(connection, consumer) {
                self.consumers.cancel(slot);
            }
        }
    }

    /// Writes what the turn left behind.
    pub(crate) fn seal(&mut self, turn: &mut Turn) {
        for lane in &mut self.lanes {
            self.counters_dirty |= lane.seal(turn);
        }
        self.forget_lifetimes();
        if self.cursor.is_some() {
            return self.seal_cursor(turn);
        }
        if std::mem::take(&mut self.counters_dirty) && self.entry.spec.durable {
            let counters = QueueCounters {
                lanes: self.lanes.iter_mut().map(Lane::counters).collect(),
                timed: self.timed,
                delayed: self.delayed_counters(),
            };
            self.counters_stored = true;
            turn.batch.put(
                Table::State,
                keys::queue_state(self.entry.id),
                counters.encode(),
            );
        }
        self.seal_session(turn);
    }

    /// An empty queue has no message with a lifetime.
    fn forget_lifetimes(&mut self) {
        let empty = self.ready.messages == 0
            && self.unsettled_count == 0
            && self.dying().messages == 0
            && self.delayed() == 0;
        if self.timed && empty && self.entry.settings.message_ttl.is_none() {
            self.timed = false;
        }
    }
}
