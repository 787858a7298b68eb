//! The consumers of a queue: who has credit, whose turn it is, and what each holds unsettled.

use std::{collections::VecDeque, ops::Range, sync::Arc, time::Duration};

use smallvec::SmallVec;

use super::{ChannelLimit, Held};
use crate::{
    command::ConsumeSpec,
    event::Delivery,
    id::{ConnectionId, ConsumerId, DeliveryId, Sequence},
    time::Timestamp,
};

/// Bytes a consumer may have on the way to its peer's socket before it gets no more.
pub(crate) const WINDOW: i64 = 1 << 20;

/// The same for one whose peer has read all of it while more waited, again and again.
const WINDOW_MAX: i64 = 16 << 20;

/// One consumer. A connection's `basic.get`s share one that never has credit.
pub(crate) struct Consumer {
    pub(crate) connection: ConnectionId,
    pub(crate) id: ConsumerId,
    pub(crate) auto_ack: bool,
    pub(crate) exclusive: bool,
    /// Others get nothing while one of a higher priority takes messages.
    priority: i64,
    /// Grows with every consumer of the queue.
    order: u64,
    prefetch: Option<u32>,
    /// How long it may keep a delivery, whatever the queue says.
    timeout: Option<Duration>,
    /// What the consumers of its channel share.
    channel: Option<Arc<ChannelLimit>>,
    /// Bytes that may still be sent before the connection says that it has flushed.
    window: i32,
    /// Bytes that it had when nothing was on its way: [`WINDOW`] to [`WINDOW_MAX`].
    window_size: i32,
    /// Takes no more deliveries, but may hold some.
    cancelled: bool,
    in_ring: bool,
    next_delivery: DeliveryId,
    /// Deliveries from `next_delivery - unsettled.len()` on; settled ones are `None` until they reach the front.
    unsettled: VecDeque<Option<Held>>,
    outstanding: u32,
    /// From which delivery on they were made when, where that matters.
    times: VecDeque<(DeliveryId, Timestamp)>,
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
            priority: spec.priority,
            order: 0,
            channel: None,
            prefetch: spec.prefetch,
            timeout: spec.timeout,
            window: WINDOW as i32,
            window_size: WINDOW as i32,
            cancelled: false,
            in_ring: false,
            next_delivery: DeliveryId(1),
            unsettled: VecDeque::new(),
            outstanding: 0,
            times: VecDeque::new(),
            outgoing: Vec::new(),
        }
    }

    fn takes(&self, fleeting: bool) -> bool {
        let within_prefetch =
            fleeting || self.auto_ack || self.prefetch.is_none_or(|limit| self.outstanding < limit);
        !self.cancelled
            && self.window > 0
            && within_prefetch
            && (fleeting || self.auto_ack || self.channel.as_ref().is_none_or(|c| c.has_room()))
    }

    /// Takes a place for a delivery that is to be made now.
    fn take_place(&self, fleeting: bool) -> bool {
        fleeting || self.auto_ack || self.channel.as_ref().is_none_or(|c| c.take())
    }

    /// Hands a message over. What is returned is settled by that: it is not kept. `at` is set when it matters how long
    /// it stays unsettled.
    fn deliver(&mut self, held: Held, fleeting: bool, at: Option<Timestamp>) -> Option<Held> {
        self.window = self.window.saturating_sub_unsigned(held.size as u32);
        let settled = fleeting || self.auto_ack;
        let id = if fleeting {
            DeliveryId(0)
        } else {
            self.next_delivery
        };
        self.outgoing.push(held.delivery(id));
        if let Some(at) = at.filter(|at| self.times.back().is_none_or(|(_, last)| last != at)) {
            self.times.push_back((self.next_delivery, at));
        }
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
        let at = delivery.0.checked_sub(self.first_unsettled().0)?;
        let held = self.unsettled.get_mut(at as usize)?.take()?;
        self.outstanding -= 1;
        while let Some(None) = self.unsettled.front() {
            self.unsettled.pop_front();
        }
        let first = self.first_unsettled();
        while self.times.get(1).is_some_and(|(from, _)| *from <= first) {
            self.times.pop_front();
        }
        Some(held)
    }

    /// All before has reached the peer's socket, `bytes` of it since the last time. `hurries` says that what nobody
    /// promised to deliver waits and may have to be dropped: then a peer that keeps up gets more at once.
    fn credit(&mut self, bytes: u32, hurries: bool) {
        let size = i64::from(self.window_size);
        let resized = match (self.window <= 0, hurries) {
            (true, true) => (size * 2).min(WINDOW_MAX),
            (false, false) => (size / 2).max(WINDOW),
            _ => size,
        };
        let window = i64::from(self.window) + i64::from(bytes) + resized - size;
        self.window = window.min(resized) as i32;
        self.window_size = resized as i32;
    }

    fn first_unsettled(&self) -> DeliveryId {
        DeliveryId(self.next_delivery.0 - self.unsettled.len() as u64)
    }

    /// When it has kept a delivery for too long; `limit` is its queue's.
    fn times_out_at(&self, limit: Option<Duration>) -> Option<Timestamp> {
        let limit = self.timeout.or(limit)?;
        Some(self.oldest_delivery()?.after(limit))
    }

    /// When the oldest unsettled delivery was made.
    fn oldest_delivery(&self) -> Option<Timestamp> {
        let first = self.first_unsettled();
        let made = self.times.iter().rev().find(|(from, _)| *from <= first);
        made.filter(|_| self.outstanding > 0).map(|(_, at)| *at)
    }

    /// What it has not settled.
    pub(crate) fn held(&self) -> impl Iterator<Item = &Held> {
        self.unsettled.iter().flatten()
    }

    fn is_done(&self) -> bool {
        self.cancelled && self.outstanding == 0
    }
}

/// The consumers of one queue.
#[derive(Default)]
pub(crate) struct Consumers {
    slots: Vec<Option<Consumer>>,
    /// The highest priority first.
    rings: SmallVec<[Ring; 1]>,
    active: u32,
    last_order: u64,
    /// Set when only one gets messages at a time.
    single: Option<Single>,
}

/// Slots of consumers of one priority that may have credit, in turn. Each that takes messages is in here once.
struct Ring {
    priority: i64,
    slots: VecDeque<usize>,
}

/// The single active consumer.
#[derive(Clone, Copy, Default)]
struct Single {
    chosen: Option<usize>,
    /// One of a higher priority takes over once the chosen one has settled everything.
    preempts: bool,
}

impl Consumers {
    /// Only one consumer gets messages at a time. With `preempts`, one of a higher priority takes over.
    pub(crate) fn single(preempts: bool) -> Consumers {
        Consumers {
            single: Some(Single {
                chosen: None,
                preempts,
            }),
            ..Consumers::default()
        }
    }

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

    /// All that take messages or hold some, by name.
    pub(crate) fn all_ids(&self) -> Vec<(ConnectionId, ConsumerId)> {
        self.iter()
            .map(|consumer| (consumer.connection, consumer.id))
            .collect()
    }

    /// When the first delivery has been unsettled for too long.
    pub(crate) fn timeout(&self, limit: Option<Duration>) -> Option<Timestamp> {
        let times = self.iter().map(|consumer| consumer.times_out_at(limit));
        times.flatten().min()
    }

    /// Those that have kept a delivery for too long.
    pub(crate) fn overdue(
        &self,
        limit: Option<Duration>,
        now: Timestamp,
    ) -> Vec<(ConnectionId, ConsumerId)> {
        let is_late =
            |consumer: &&Consumer| consumer.times_out_at(limit).is_some_and(|at| at <= now);
        self.iter()
            .filter(is_late)
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

    pub(crate) fn add(
        &mut self,
        connection: ConnectionId,
        id: ConsumerId,
        spec: &ConsumeSpec,
        channel: Option<Arc<ChannelLimit>>,
    ) {
        let mut consumer = Consumer::new(connection, id, spec);
        // Whoever is next when the chosen one goes is so at once, not when the next message comes.
        self.elect();
        self.last_order += 1;
        consumer.order = self.last_order;
        consumer.channel = channel;
        let slot = self.insert(consumer);
        self.active += 1;
        self.elect();
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
        if self.single.is_some() {
            return self.next_single(fleeting);
        }
        for ring in &mut self.rings {
            while let Some(&slot) = ring.slots.front() {
                let consumer = self.slots[slot]
                    .as_mut()
                    .expect("slots in a ring are filled");
                if consumer.takes(fleeting) && consumer.take_place(fleeting) {
                    return Some(slot);
                }
                ring.slots.pop_front();
                consumer.in_ring = false;
            }
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

    fn next_single(&mut self, fleeting: bool) -> Option<usize> {
        let slot = self.elect()?;
        let consumer = self.slots[slot].as_ref()?;
        (consumer.takes(fleeting) && consumer.take_place(fleeting)).then_some(slot)
    }

    /// The single active consumer; `None` also while one hands over to another.
    fn elect(&mut self) -> Option<usize> {
        let single = self.single.as_mut()?;
        let candidates = self.slots.iter().enumerate().filter_map(|(at, slot)| {
            let consumer = slot.as_ref().filter(|consumer| !consumer.cancelled)?;
            Some((at, consumer))
        });
        let rank = |consumer: &Consumer| (consumer.priority, std::cmp::Reverse(consumer.order));
        let (best, favourite) = candidates.max_by_key(|(_, consumer)| rank(consumer))?;
        let chosen = single.chosen.and_then(|slot| {
            let consumer = self.slots[slot].as_ref()?;
            (!consumer.cancelled).then_some((slot, consumer))
        });
        match chosen {
            Some((_, old)) if single.preempts && favourite.priority > old.priority => {
                if old.outstanding > 0 {
                    return None;
                }
                single.chosen = Some(best);
            }
            Some(_) => {}
            None => single.chosen = Some(best),
        }
        single.chosen
    }

    /// Delivers to the consumer at `slot` and gives the turn to the one behind it. `timed` says whether the queue
    /// limits how long a delivery may be kept.
    pub(crate) fn deliver(
        &mut self,
        slot: usize,
        held: Held,
        fleeting: bool,
        timed: bool,
        now: Timestamp,
    ) -> Option<Held> {
        let consumer = self.slots[slot]
            .as_mut()
            .expect("next() named a filled slot");
        let ring = self
            .rings
            .iter_mut()
            .find(|ring| ring.priority == consumer.priority);
        if let Some(ring) = ring.filter(|ring| ring.slots.front() == Some(&slot)) {
            ring.slots.rotate_left(1);
        }
        let at = (timed || consumer.timeout.is_some()).then_some(now);
        consumer.deliver(held, fleeting, at)
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
    pub(crate) fn credit(
        &mut self,
        connection: ConnectionId,
        id: ConsumerId,
        bytes: u32,
        hurries: bool,
    ) {
        if let Some(slot) = self.find(connection, id) {
            if let Some(consumer) = &mut self.slots[slot] {
                consumer.credit(bytes, hurries);
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
        for ring in &mut self.rings {
            ring.slots.retain(|&other| other != slot);
        }
        if let Some(single) = &mut self.single {
            single.chosen.take_if(|chosen| *chosen == slot);
        }
        let mut others = self.slots.iter().flatten();
        if !others.any(|other| other.priority == consumer.priority) {
            self.rings.retain(|ring| ring.priority != consumer.priority);
        }
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
            let priority = consumer.priority;
            let at = self.rings.partition_point(|ring| ring.priority > priority);
            if self
                .rings
                .get(at)
                .is_none_or(|ring| ring.priority != priority)
            {
                let slots = VecDeque::new();
                self.rings.insert(at, Ring { priority, slots });
            }
            self.rings[at].slots.push_back(slot);
        }
    }
}
