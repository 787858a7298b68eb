//! Delayed retries: what came back and waits before it is delivered again (`x-delayed-retry-*` of RabbitMQ 4.3).
//!
//! What waits is neither ready nor unsettled. Each message's row says when it is due, and the row of the queue's
//! counters how many wait and until when: so they are counted right from the start after a restart, although their
//! chunks have not been read.
//!
//! They wait in memory, up to [`DELAYED_BYTES_MAX`] for a queue. With more the queue delivers nothing until some are
//! due, because each delivery might come back.

use std::collections::BTreeMap;

use super::{Budget, Held, Queue, Tally};
use crate::{id::Sequence, store::messages, time::Timestamp};

/// Bytes of memory of what waits in one queue before it delivers no more.
const DELAYED_BYTES_MAX: usize = 32 << 20;

/// What waits for its next delivery.
#[derive(Default)]
pub(super) struct Delayed {
    /// By when they are due.
    messages: BTreeMap<(Timestamp, Sequence), Held>,
    /// Of memory.
    bytes: usize,
    /// Of `messages`.
    tally: Tally,
    /// Of `messages`, those that are durable.
    durable: Tally,
    /// What waited when the broker stopped and has not been read since.
    unread: Tally,
    /// When the last of these is due.
    unread_until: Timestamp,
    /// When they are to be read, so that each is ready in time.
    read_at: Option<Timestamp>,
}

impl Delayed {
    fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.unread.messages == 0
    }

    fn insert(&mut self, due: Timestamp, held: Held) {
        self.bytes += held.size;
        self.tally.add(&held.message);
        if held.durable {
            self.durable.add(&held.message);
        }
        self.messages.insert((due, held.sequence), held);
    }

    fn take_first(&mut self, due_by: Timestamp) -> Option<Held> {
        let first = self.messages.first_entry()?;
        if first.key().0 > due_by {
            return None;
        }
        let held = first.remove();
        self.bytes -= held.size;
        self.tally.remove(&held.message);
        if held.durable {
            self.durable.remove(&held.message);
        }
        Some(held)
    }
}

impl Queue {
    /// Messages that wait for their next delivery.
    pub(crate) fn delayed(&self) -> u64 {
        self.delayed.get().map_or(0, |delayed| {
            delayed.tally.messages + delayed.unread.messages
        })
    }

    /// Goes on with what the store says that waits. Until it is read, or due, it does not count as ready.
    pub(super) fn recover_delayed(&mut self, stored: messages::Delayed, now: Timestamp) {
        let messages::Delayed {
            messages,
            bytes,
            until,
        } = stored;
        let unread = Tally { messages, bytes }.min(self.ready);
        if until > now && unread.messages > 0 {
            self.ready.subtract(unread);
            let delayed = self.delayed.make();
            (delayed.unread, delayed.unread_until) = (unread, until);
            delayed.read_at = Some(now);
        }
    }

    /// What the store must know of it.
    pub(super) fn delayed_counters(&self) -> messages::Delayed {
        let Some(delayed) = self.delayed.get() else {
            return messages::Delayed::default();
        };
        let last = delayed.messages.last_key_value();
        let last = last.map_or(Timestamp::default(), |((due, _), _)| *due);
        messages::Delayed {
            messages: delayed.durable.messages + delayed.unread.messages,
            bytes: delayed.durable.bytes + delayed.unread.bytes,
            until: last.max(delayed.unread_until),
        }
    }

    /// When a message that has come back is delivered again, if it has to wait.
    pub(super) fn next_delivery_at(
        &self,
        held: &Held,
        failed: bool,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let retry = self.entry.settings.delayed_retry?;
        let waits = if failed { retry.failed } else { retry.returned };
        waits.then(|| Timestamp(now.0.saturating_add(retry.delay(held.failures))))
    }

    /// Keeps a message back until it is due.
    pub(super) fn hold_back(&mut self, held: Held, due: Timestamp) {
        self.delayed.make().insert(due, held);
        self.counters_dirty = true;
    }

    /// Takes what was read from the store and has to wait. `was_delayed` waited when the broker stopped; `expected` is
    /// what was believed to be there, and what of that counted as ready is the answer.
    pub(super) fn found_delayed(
        &mut self,
        found: Vec<(Timestamp, Held)>,
        was_delayed: Tally,
        mut expected: Tally,
    ) -> Tally {
        if was_delayed.messages == 0 {
            return expected;
        }
        let delayed = self.delayed.make();
        let known = was_delayed.min(delayed.unread);
        delayed.unread.subtract(known);
        for (due, held) in found {
            delayed.insert(due, held);
        }
        self.delayed.drop_if(Delayed::is_empty);
        self.counters_dirty = true;
        expected.subtract(known);
        expected
    }

    /// Makes ready what is due.
    pub(super) fn return_due(&mut self, now: Timestamp) {
        while let Some(delayed) = self.delayed.get_mut() {
            delayed.read_at.take_if(|at| *at <= now);
            if delayed.unread.messages > 0 && delayed.unread_until <= now {
                let unread = std::mem::take(&mut delayed.unread);
                self.ready.messages += unread.messages;
                self.ready.bytes += unread.bytes;
                self.counters_dirty = true;
            }
            let Some(held) = delayed.take_first(now) else {
                self.delayed.drop_if(Delayed::is_empty);
                return;
            };
            if let Some(lane) = self.lane_mut(held.sequence) {
                lane.note_return(&held, None);
            }
            self.counters_dirty = true;
            self.ready.add(&held.message);
            self.returned.insert(held.sequence, held);
        }
    }

    /// When something is due next.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        let delayed = self.delayed.get()?;
        let first = delayed.messages.first_key_value().map(|((due, _), _)| *due);
        let unread = (delayed.unread.messages > 0).then_some(delayed.unread_until);
        [first, unread, delayed.read_at].into_iter().flatten().min()
    }

    /// Whether the store has some of which only the number is known.
    pub(super) fn has_unread_delayed(&self) -> bool {
        let delayed = self.delayed.get();
        delayed.is_some_and(|delayed| delayed.unread.messages > 0)
    }

    /// Whether so much waits that nothing more may come back.
    pub(super) fn delays_too_much(&self) -> bool {
        let delayed = self.delayed.get();
        delayed.is_some_and(|delayed| delayed.bytes >= DELAYED_BYTES_MAX)
    }

    /// Drops what waits; how many.
    pub(super) fn forget_delayed(&mut self, budget: &mut Budget) -> u64 {
        let count = self.delayed();
        while let Some(held) = self
            .delayed
            .get_mut()
            .and_then(|delayed| delayed.take_first(Timestamp(u64::MAX)))
        {
            self.forget(&held, budget);
        }
        // What is unread goes with the backlog that it is in.
        self.delayed = Default::default();
        count
    }
}
