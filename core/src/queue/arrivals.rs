//! Messages coming in: their place, and whether there is room for them.

use std::sync::Arc;

use super::{BodyChunk, Budget, Held, Lane, Overflow, Queue, lane_start, overtaken, size, weight};
use crate::{
    catalog::QueueTarget, dead_letters::Reason, event::Refusal, message::Message, shard::Turn,
    tags::Tags,
};

/// A queue may hold so much in memory even when the shard's budget is spent.
const WINDOW_MIN: usize = 64 << 10;

/// What a session that does not keep up may hold of messages that nobody promised to deliver, however little memory is
/// left.
const FLEETING_MIN: usize = 16 << 20;

/// The same while memory is left: as much as it leaves to all others.
pub(super) fn fleeting_max(budget: &Budget) -> usize {
    FLEETING_MIN.max(budget.limit.saturating_sub(budget.used))
}

/// A message on its way into a queue.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) message: Arc<Message>,
    pub(crate) tags: Tags,
    /// No subscription that matched promised delivery.
    pub(crate) best_effort: bool,
    /// It has been delivered to the session's client by a group: there is room for it, whatever the bound.
    pub(crate) promised: bool,
    /// Where the body is stored when other queues take it too.
    pub(crate) body: Option<(Arc<BodyChunk>, u32)>,
}

impl Arrival {
    /// A message that has a place to come to, by what these tags are of.
    pub(crate) fn new(message: Arc<Message>, tags: impl Into<Tags>) -> Arrival {
        Arrival {
            message,
            tags: tags.into(),
            best_effort: false,
            promised: false,
            body: None,
        }
    }

    /// A message on its way to one of its targets.
    pub(crate) fn to(target: &QueueTarget, message: &Arc<Message>) -> Arrival {
        Arrival {
            best_effort: target.best_effort,
            ..Arrival::new(message.clone(), target.tags.clone())
        }
    }
}

impl Queue {
    /// Takes a message at the end of the queue, if there is room.
    pub(crate) fn enqueue(
        &mut self,
        arrival: Arrival,
        budget: &mut Budget,
        turn: &mut Turn,
    ) -> Result<(), Refusal> {
        if self.is_full_for(&arrival.message, budget, turn) {
            return Err(self.refuse(arrival.message, turn));
        }
        let is_bounded = self.session.is_some() && !arrival.promised;
        if is_bounded && self.has_no_room_for(&arrival, budget, turn) {
            turn.count.dropped += 1;
            return Ok(());
        }
        self.take_in(arrival, budget, turn);
        // With priorities, what has to go now may not be what would go after the next arrival.
        if self.entry.settings.max_priority.is_some() && self.is_over() {
            self.pump(budget, turn);
        }
        Ok(())
    }

    /// Whether nobody promised to deliver it.
    pub(crate) fn is_fleeting(&self, arrival: &Arrival) -> bool {
        self.entry.spec.session && (arrival.best_effort || arrival.message.is_fire_and_forget())
    }

    fn take_in(&mut self, arrival: Arrival, budget: &mut Budget, turn: &mut Turn) {
        let message = &arrival.message;
        // What a publisher left open is up to the subscription, as its QoS is.
        let persists =
            || message.is_persistent() || self.entry.spec.session && !message.says_transient();
        let durable = self.entry.spec.durable && !arrival.best_effort && persists();
        let fleeting = self.is_fleeting(&arrival);
        let size = size(message);
        let in_memory = self.may_hold(size, budget);
        self.timed |= message.expiry_ms.is_some();
        let has_room = !fleeting || self.has_fleeting_room(size, budget, turn);
        let at = self.lane_for(message);
        let lane = &mut self.lanes[at];
        // Behind a backlog it would have to be stored to keep its place.
        let in_time = self.consumers.active() > 0 && lane.backlog.is_none();
        if fleeting && !(in_time && has_room) {
            turn.count.dropped += 1;
            return;
        }
        self.ready.add(message);
        if message.retain && !arrival.promised {
            overtaken::note(&mut self.session, message);
        }
        let held = Held {
            sequence: lane.next_sequence(fleeting),
            accepted: turn.now.wall,
            durable,
            stored: false,
            fleeting,
            redelivered: false,
            returns: 0,
            failures: 0,
            size,
            message: arrival.message,
            tags: arrival.tags,
            body: arrival.body,
        };
        let in_memory = lane.backlog.is_none() && (fleeting || in_memory);
        lane.append(held, in_memory);
        if in_memory {
            self.hold(size, budget);
        }
    }

    fn may_hold(&self, size: usize, budget: &Budget) -> bool {
        budget.used + size <= budget.limit || self.held_bytes + size <= WINDOW_MIN
    }

    /// Which lane a message belongs to; made if it is the first of its priority.
    fn lane_for(&mut self, message: &Message) -> usize {
        if self.entry.settings.max_priority.is_none() {
            return 0;
        }
        let start = lane_start(self.entry.settings.priority(message.priority));
        match self.lanes.binary_search_by_key(&start, |lane| lane.start) {
            Ok(at) => at,
            Err(at) => {
                self.lanes.insert(at, Lane::new(self.entry.id, start));
                at
            }
        }
    }

    /// Whether a message has to be refused for want of room. What consumers take at once needs none.
    fn is_full_for(&mut self, message: &Message, budget: &mut Budget, turn: &mut Turn) -> bool {
        if self.entry.settings.overflow == Overflow::DropHead || !self.overflows_with(message) {
            return false;
        }
        self.pump(budget, turn);
        self.overflows_with(message)
    }

    /// A session that has as much as it may drops what comes, as Mosquitto does: its publisher is not to suffer.
    fn has_no_room_for(&mut self, arrival: &Arrival, budget: &mut Budget, turn: &mut Turn) -> bool {
        if !self.overflows_with(&arrival.message) {
            return false;
        }
        self.pump(budget, turn);
        self.overflows_with(&arrival.message)
    }

    fn overflows_with(&self, message: &Message) -> bool {
        let (mut messages, mut bytes) =
            (self.ready.messages + 1, self.ready.bytes + weight(message));
        if self.entry.settings.dead_letters_must_arrive {
            let dying = self.dying();
            messages += dying.messages;
            bytes += dying.bytes;
        }
        self.exceeds(messages, bytes)
    }

    fn exceeds(&self, messages: u64, bytes: u64) -> bool {
        let settings = &self.entry.settings;
        settings.max_length.is_some_and(|max| messages > max)
            || settings.max_length_bytes.is_some_and(|max| bytes > max)
    }

    fn refuse(&mut self, message: Arc<Message>, turn: &mut Turn) -> Refusal {
        if self.entry.settings.overflow == Overflow::RejectPublishDlx {
            self.dead_letter(None, message, Reason::MaxLength, turn);
        }
        Refusal::Full {
            name: self.entry.name.clone(),
            vhost: self.entry.vhost.clone(),
        }
    }

    /// Whether the oldest messages have to go.
    pub(super) fn is_over(&self) -> bool {
        self.session.is_none()
            && self.entry.settings.overflow == Overflow::DropHead
            && self.exceeds(self.ready.messages, self.ready.bytes)
    }

    /// Drops the oldest messages as long as there are too many. True if messages expired that came to the head thereby.
    pub(super) fn make_room(&mut self, budget: &mut Budget, turn: &mut Turn) -> bool {
        let mut expired = false;
        while self.is_over() && self.may_die() {
            let Some(held) = self.take_head() else { break };
            self.bury(held, Reason::MaxLength, budget, turn);
            expired |= self.expire(true, budget, turn);
        }
        expired
    }
}
