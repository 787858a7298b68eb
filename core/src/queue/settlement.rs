//! What becomes of deliveries, and consumers coming and going.

use std::{
    ops::{Range, RangeInclusive},
    sync::Arc,
};

use super::{Budget, ChannelLimit, Held, Queue};
use crate::{
    catalog::QueueEntry,
    command::{ConsumeSpec, Outcome, StreamStart},
    dead_letters::Reason,
    event::{CancelReason, Event, Refusal},
    id::{ConnectionId, ConsumerId, DeliveryId},
    shard::{Leaving, Turn},
};

impl Queue {
    /// Settles deliveries of one consumer.
    pub(crate) fn settle(
        &mut self,
        connection: ConnectionId,
        consumer: ConsumerId,
        deliveries: RangeInclusive<DeliveryId>,
        outcome: Outcome,
        budget: &mut Budget,
        turn: &mut Turn,
    ) {
        let Some(slot) = self.consumers.find(connection, consumer) else {
            return;
        };
        for delivery in self.unsettled_of(slot, &deliveries) {
            let Some(held) = self.take_delivery(slot, delivery, turn) else {
                continue;
            };
            match outcome {
                Outcome::Accept => self.forget(&held, budget),
                Outcome::Reject => self.bury(held, Reason::Rejected, budget, turn),
                Outcome::Requeue => self.requeue(held, true, budget, turn),
                Outcome::Release => self.requeue(held, false, budget, turn),
            }
        }
        self.consumers.free_if_done(slot);
    }

    /// Which of these deliveries a consumer may still hold.
    pub(super) fn unsettled_of(
        &self,
        slot: usize,
        deliveries: &RangeInclusive<DeliveryId>,
    ) -> Range<u64> {
        let unsettled = self.consumers.unsettled(slot);
        let first = unsettled.start.max(deliveries.start().0);
        first..unsettled.end.min(deliveries.end().0.saturating_add(1))
    }

    /// Takes a delivery from the consumer that holds it, to be settled.
    pub(super) fn take_delivery(
        &mut self,
        slot: usize,
        delivery: u64,
        turn: &mut Turn,
    ) -> Option<Held> {
        let held = self.consumers.take(slot, DeliveryId(delivery))?;
        self.unsettled_count -= 1;
        turn.count.settled += 1;
        Some(held)
    }

    /// Puts a message back into its place, at once or after a while, unless it has come back too often. `failed` says
    /// whether whoever had it did.
    fn requeue(&mut self, mut held: Held, failed: bool, budget: &mut Budget, turn: &mut Turn) {
        if self.is_moved(&held) {
            return self.release(held.size, budget);
        }
        held.redelivered = true;
        if self.entry.settings.kind.counts_returns() {
            held.returns = held.returns.saturating_add(1);
            if failed || self.entry.settings.delayed_retry.is_none() {
                held.failures = held.failures.saturating_add(1);
                let limit = self.entry.settings.delivery_limit;
                if limit.is_some_and(|limit| u32::from(held.failures) > limit) {
                    return self.bury(held, Reason::DeliveryLimit, budget, turn);
                }
            }
            let due = self.next_delivery_at(&held, failed, turn.now.wall);
            if let Some(lane) = self.lane_mut(held.sequence) {
                lane.note_return(&held, due);
            }
            if let Some(due) = due {
                return self.hold_back(held, due);
            }
        }
        if let Some(cursor) = &mut self.cursor {
            cursor.release(held.sequence);
        }
        self.ready.add(&held.message);
        self.returned.insert(held.sequence, held);
    }

    fn requeue_all(&mut self, held: Vec<Held>, failed: bool, budget: &mut Budget, turn: &mut Turn) {
        self.unsettled_count -= held.len() as u64;
        for held in held {
            self.requeue(held, failed, budget, turn);
        }
    }

    /// Starts a consumer.
    pub(crate) fn consume(
        &mut self,
        connection: ConnectionId,
        consumer: ConsumerId,
        spec: &ConsumeSpec,
        channel: Option<Arc<ChannelLimit>>,
        budget: &mut Budget,
        turn: &mut Turn,
    ) -> Result<(), Refusal> {
        self.check_owner(connection)?;
        self.check_for_streams(spec)?;
        if spec.takeover {
            self.take_over(budget, turn);
        }
        let exclusive_use = self.consumers.actives().any(|other| other.exclusive);
        let not_alone = self.consumers.active() > 0 || self.entry.settings.single_active_consumer;
        if exclusive_use || (spec.exclusive && not_alone) {
            let (name, vhost) = (self.entry.name.clone(), self.entry.vhost.clone());
            return Err(Refusal::ExclusiveUse { name, vhost });
        }
        self.read_again();
        self.consumers.add(connection, consumer, spec, channel);
        self.idle_since = None;
        self.was_consumed = true;
        self.is_leaving = false;
        Ok(())
    }

    /// Refuses what only a stream can do.
    fn check_for_streams(&self, spec: &ConsumeSpec) -> Result<(), Refusal> {
        let Some(stream) = &spec.stream else {
            return Ok(());
        };
        let follows = stream.follow.as_ref();
        let argument = match stream.filter {
            None if follows.is_some_and(|follow| !follow.required) => return Ok(()),
            None if follows.is_some() => "x-group",
            Some(_) if stream.from == StreamStart::default() => "x-stream-filter",
            _ => "x-stream-offset",
        };
        let QueueEntry { name, vhost, .. } = &*self.entry;
        let kind = self.entry.settings.kind.name();
        let text = format!(
            "invalid arg '{argument}' for queue '{name}' in vhost '{vhost}' of queue type rabbit_{kind}_queue"
        );
        Err(Refusal::Invalid(text.into()))
    }

    fn take_over(&mut self, budget: &mut Budget, turn: &mut Turn) {
        for (connection, consumer) in self.consumers.all_ids() {
            turn.free.push(
                connection,
                Event::Cancelled {
                    consumer,
                    reason: CancelReason::TakenOver,
                },
            );
            if let Some(slot) = self.consumers.find(connection, consumer) {
                let held = self.consumers.remove(slot);
                self.requeue_all(held, true, budget, turn);
            }
        }
    }

    /// Ends consumers that keep a delivery for too long; what they hold comes back.
    pub(super) fn time_out(&mut self, budget: &mut Budget, turn: &mut Turn) {
        let limit = self.entry.settings.consumer_timeout;
        let active = self.consumers.active();
        for (connection, consumer) in self.consumers.overdue(limit, turn.now.wall) {
            let reason = CancelReason::TimedOut;
            turn.free
                .push(connection, Event::Cancelled { consumer, reason });
            if let Some(slot) = self.consumers.find(connection, consumer) {
                let held = self.consumers.remove(slot);
                // As in RabbitMQ, to be slow is not to fail.
                self.requeue_all(held, false, budget, turn);
            }
        }
        if self.consumers.active() < active {
            self.consumer_left(budget, turn);
        }
    }

    /// More room towards a consumer's peer.
    pub(crate) fn credit(
        &mut self,
        connection: ConnectionId,
        consumer: ConsumerId,
        bytes: u32,
        turn: &Turn,
    ) {
        self.progress(turn.now.instant);
        let hurries = self.head().is_some_and(|held| held.fleeting);
        self.consumers.credit(connection, consumer, bytes, hurries);
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
        self.requeue_all(held, true, budget, turn);
        if let Some(gets) = self.gets.get_mut() {
            gets.retain(|get| get.connection != connection);
        }
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
        if (self.entry.spec.auto_delete || at_once) && !self.is_used(turn.now.wall) {
            self.is_leaving = true;
            turn.idle.push(Leaving::new(self.entry.id));
        }
    }

    fn drop_fleeting(&mut self, budget: &mut Budget, turn: &mut Turn) {
        let mut fleeting = Vec::new();
        for lane in &mut self.lanes {
            lane.ready.retain(|held| {
                if held.fleeting {
                    fleeting.push((held.message.clone(), held.size));
                }
                !held.fleeting
            });
        }
        turn.count.dropped += fleeting.len() as u64;
        for (message, size) in fleeting {
            self.ready.remove(&message);
            self.release(size, budget);
        }
    }
}
