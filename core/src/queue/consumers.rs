//! The consumers of a queue: who has credit, whose turn it is, and what each holds unsettled.

use std::{collections::VecDeque, ops::Range};

use crate::{
    command::ConsumeSpec,
    event::Delivery,
    id::{ConnectionId, ConsumerId, DeliveryId, Sequence},
    queue::Held,
};

/// Bytes a consumer may have on the way to its peer's socket before it gets no more.
pub(crate) const WINDOW: i64 = 1 << 20;

/// One consumer. A connection's `basic.get`s share one that never has credit.
pub(crate) struct Consumer {
    pub(crate) connection: ConnectionId,
    pub(crate) id: ConsumerId,
    pub(crate) auto_ack: bool,
    pub(crate) exclusive: bool,
    prefetch: Option<u32>,
    /// Bytes that may still be sent before the connection says that it has flushed.
    window: i64,
    /// Takes no more deliveries, but may hold some.
    cancelled: bool,
    in_ring: bool,
    next_delivery: DeliveryId,
    /// Deliveries from `next_delivery - unsettled.len()` on; settled ones are `None` until they reach the front.
    unsettled: VecDeque<Option<Held>>,
    outstanding: u32,
    /// Delivered in this turn, not yet put into an event.
    pub(crate) outgoing: Vec<Delivery>,
}

impl Consumer {
    fn new(connection: ConnectionId, id: ConsumerId, spec: &ConsumeSpec) -> Consumer {
        Consumer {
            connection,
            id,
            auto_ack: spec.auto_ack,
            exclusive: spec.exclusive,
            prefetch: spec.prefetch,
            window: WINDOW,
            cancelled: false,
            in_ring: false,
            next_delivery: DeliveryId(1),
            unsettled: VecDeque::new(),
            outstanding: 0,
            outgoing: Vec::new(),
        }
    }

    fn takes(&self, fleeting: bool) -> bool {
        let within_prefetch =
            fleeting || self.auto_ack || self.prefetch.is_none_or(|limit| self.outstanding < limit);
        !self.cancelled && self.window > 0 && within_prefetch
    }

    /// Hands a message over. What is returned is settled by that: it is not kept.
    fn deliver(&mut self, held: Held, fleeting: bool) -> Option<Held> {
        self.window -= held.size as i64;
        let settled = fleeting || self.auto_ack;
        let id = if fleeting {
            DeliveryId(0)
        } else {
            self.next_delivery
        };
        self.outgoing.push(held.delivery(id));
        if !fleeting {
            self.next_delivery = self.next_delivery.next();
        }
        if settled {
            return Some(held);
        }
        self.hold(held);
        None
    }

    fn hold(&mut self, held: Held) {
        self.unsettled.push_back(Some(held));
        self.outstanding += 1;
    }

    fn take(&mut self, delivery: DeliveryId) -> Option<Held> {
        let first = self.next_delivery.0 - self.unsettled.len() as u64;
        let at = delivery.0.checked_sub(first)?;
        let held = self.unsettled.get_mut(at as usize)?.take()?;
        self.outstanding -= 1;
        while let Some(None) = self.unsettled.front() {
            self.unsettled.pop_front();
        }
        Some(held)
    }

    /// How many of its unsettled messages are so.
    pub(crate) fn unsettled_where(&self, is: impl Fn(&Held) -> bool) -> u64 {
        self.unsettled
            .iter()
            .flatten()
            .filter(|held| is(held))
            .count() as u64
    }

    fn is_done(&self) -> bool {
        self.cancelled && self.outstanding == 0
    }
}

/// The consumers of one queue.
#[derive(Default)]
pub(crate) struct Consumers {
    slots: Vec<Option<Consumer>>,
    /// Slots that may have credit, in turn. Every consumer that takes messages is in here once.
    ring: VecDeque<usize>,
    active: u32,
}

impl Consumers {
    /// How many take messages.
    pub(crate) fn active(&self) -> u32 {
        self.active
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Consumer> {
        self.slots.iter().flatten()
    }

    /// Those that take messages.
    pub(crate) fn actives(&self) -> impl Iterator<Item = &Consumer> {
        self.iter().filter(|consumer| !consumer.cancelled)
    }

    /// Those that take messages, by name.
    pub(crate) fn active_ids(&self) -> Vec<(ConnectionId, ConsumerId)> {
        self.actives()
            .map(|consumer| (consumer.connection, consumer.id))
            .collect()
    }

    /// The deliveries of a consumer among which are all unsettled ones.
    pub(crate) fn unsettled(&self, slot: usize) -> Range<u64> {
        self.slots[slot].as_ref().map_or(0..0, |consumer| {
            let end = consumer.next_delivery.0;
            end - consumer.unsettled.len() as u64..end
        })
    }

    pub(crate) fn add(&mut self, connection: ConnectionId, id: ConsumerId, spec: &ConsumeSpec) {
        let slot = self.insert(Consumer::new(connection, id, spec));
        self.active += 1;
        self.enter_ring(slot);
    }

    /// A delivery outside of the turns, for `basic.get`; with the message if it is settled by that.
    pub(crate) fn get(
        &mut self,
        connection: ConnectionId,
        id: ConsumerId,
        held: Held,
        auto_ack: bool,
    ) -> (Delivery, Option<Held>) {
        if auto_ack {
            return (held.delivery(DeliveryId(0)), Some(held));
        }
        let slot = self.find(connection, id).unwrap_or_else(|| {
            let mut consumer = Consumer::new(connection, id, &ConsumeSpec::default());
            consumer.cancelled = true;
            self.insert(consumer)
        });
        let consumer = self.slots[slot]
            .as_mut()
            .expect("slot was just found or filled");
        let delivery = held.delivery(consumer.next_delivery);
        consumer.next_delivery = consumer.next_delivery.next();
        consumer.hold(held);
        (delivery, None)
    }

    /// The next consumer in turn that takes a message now.
    pub(crate) fn next(&mut self, fleeting: bool) -> Option<usize> {
        while let Some(&slot) = self.ring.front() {
            let consumer = self.slots[slot]
                .as_mut()
                .expect("slots in the ring are filled");
            if consumer.takes(fleeting) {
                return Some(slot);
            }
            self.ring.pop_front();
            consumer.in_ring = false;
        }
        // A full prefetch does not hold back what is not to be settled.
        let parked =
            |slot: &Option<Consumer>| slot.as_ref().is_some_and(|consumer| consumer.takes(true));
        if fleeting {
            self.slots.iter().position(parked)
        } else {
            None
        }
    }

    /// Delivers to the consumer at `slot` and gives the turn to the one behind it.
    pub(crate) fn deliver(&mut self, slot: usize, held: Held, fleeting: bool) -> Option<Held> {
        if self.ring.front() == Some(&slot) {
            self.ring.rotate_left(1);
        }
        self.slots[slot]
            .as_mut()
            .expect("next() named a filled slot")
            .deliver(held, fleeting)
    }

    /// What limits a consumer: how many of its messages are unsettled, how many may be, and the oldest of them.
    pub(crate) fn load(&self, slot: usize) -> (u32, Option<u32>, Option<Sequence>) {
        self.slots[slot]
            .as_ref()
            .map_or((0, None, None), |consumer| {
                let oldest = consumer.unsettled.iter().flatten().next();
                let oldest = oldest.map(|held| held.sequence);
                (consumer.outstanding, consumer.prefetch, oldest)
            })
    }

    /// Gives the last delivery of this turn its packet identifier.
    pub(crate) fn name_last(&mut self, slot: usize, packet_id: u16) {
        let last = self.slots[slot]
            .as_mut()
            .and_then(|consumer| consumer.outgoing.last_mut());
        if let Some(delivery) = last {
            delivery.packet_id = packet_id;
        }
    }

    /// Takes one delivery back, if it is unsettled.
    pub(crate) fn take(&mut self, slot: usize, delivery: DeliveryId) -> Option<Held> {
        let held = self.slots[slot].as_mut()?.take(delivery)?;
        self.enter_ring(slot);
        Some(held)
    }

    /// More room towards a consumer's peer.
    pub(crate) fn credit(&mut self, connection: ConnectionId, id: ConsumerId, bytes: u32) {
        if let Some(slot) = self.find(connection, id) {
            if let Some(consumer) = &mut self.slots[slot] {
                consumer.window = (consumer.window + i64::from(bytes)).min(WINDOW);
            }
            self.enter_ring(slot);
        }
    }

    pub(crate) fn find(&self, connection: ConnectionId, id: ConsumerId) -> Option<usize> {
        self.slots.iter().position(|slot| {
            slot.as_ref()
                .is_some_and(|consumer| consumer.connection == connection && consumer.id == id)
        })
    }

    /// Ends a consumer; what it holds stays with it. True if it took messages until now.
    pub(crate) fn cancel(&mut self, slot: usize) -> bool {
        let Some(consumer) = self.slots[slot].as_mut() else {
            return false;
        };
        let was_active = !std::mem::replace(&mut consumer.cancelled, true);
        self.active -= u32::from(was_active);
        self.free_if_done(slot);
        was_active
    }

    /// Frees the slot of a cancelled consumer that holds nothing.
    pub(crate) fn free_if_done(&mut self, slot: usize) {
        if self.slots[slot]
            .as_ref()
            .is_some_and(|consumer| consumer.is_done() && consumer.outgoing.is_empty())
        {
            self.remove(slot);
        }
    }

    /// Removes all consumers of a connection; what they held comes back.
    pub(crate) fn disconnect(&mut self, connection: ConnectionId) -> Vec<Held> {
        let mut held = Vec::new();
        for slot in 0..self.slots.len() {
            if self.slots[slot]
                .as_ref()
                .is_some_and(|consumer| consumer.connection == connection)
            {
                held.extend(self.remove(slot));
            }
        }
        held
    }

    /// Removes one consumer; what it held comes back.
    pub(crate) fn remove(&mut self, slot: usize) -> Vec<Held> {
        let Some(consumer) = self.slots[slot].take() else {
            return Vec::new();
        };
        self.active -= u32::from(!consumer.cancelled);
        self.ring.retain(|&other| other != slot);
        consumer.unsettled.into_iter().flatten().collect()
    }

    /// The consumers that got something in this turn.
    pub(crate) fn drain_outgoing(
        &mut self,
    ) -> impl Iterator<Item = (ConnectionId, ConsumerId, Vec<Delivery>)> {
        self.slots
            .iter_mut()
            .flatten()
            .filter(|consumer| !consumer.outgoing.is_empty())
            .map(|consumer| {
                (
                    consumer.connection,
                    consumer.id,
                    std::mem::take(&mut consumer.outgoing),
                )
            })
    }

    fn insert(&mut self, consumer: Consumer) -> usize {
        match self.slots.iter().position(Option::is_none) {
            Some(slot) => {
                self.slots[slot] = Some(consumer);
                slot
            }
            None => {
                // Most queues have one consumer, and sessions never more.
                if self.slots.is_empty() {
                    self.slots.reserve_exact(1);
                }
                self.slots.push(Some(consumer));
                self.slots.len() - 1
            }
        }
    }

    fn enter_ring(&mut self, slot: usize) {
        if let Some(consumer) = &mut self.slots[slot]
            && !consumer.in_ring
            && consumer.takes(false)
        {
            consumer.in_ring = true;
            self.ring.push_back(slot);
        }
    }
}
