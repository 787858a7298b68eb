//! What a queue knows when it is the session of an MQTT client: packet identifiers, which handshakes of QoS 2 are
//! between PUBLISH and PUBCOMP, the will, and whether the client is there.
//!
//! The packet identifier of a message follows from its sequence ([`packet_id`]), so it is the same whenever the
//! message is sent again, and nothing has to be stored to know it. A message whose identifier is still in use by one
//! that is [`OWN_IDS`] older waits until that one is acknowledged.

use std::{collections::BTreeSet, ops::RangeInclusive, sync::Arc, time::Duration};

use super::{Budget, Queue, overtaken::Overtaken, pressure::Pressure};
use crate::{
    command::ConsumeSpec,
    event::{Refusal, Reply},
    id::{ConnectionId, ConsumerId, DeliveryId, QueueId, Sequence},
    message::Message,
    rare::Rare,
    shard::Turn,
    store::{
        Table, keys,
        sessions::{SessionRow, WillRow},
    },
    time::Timestamp,
};

/// Packet identifiers of a session's own messages are 1 to this; greater ones are for messages that it gets from
/// queues that it shares with others.
pub const OWN_IDS: u16 = 49_152;

/// How far ahead of what was sent the store is told that it may have been sent, so that it is told seldom.
const SENT_AHEAD: u64 = 1000;

/// The packet identifier of the message at `sequence`.
pub(crate) fn packet_id(sequence: Sequence) -> u16 {
    (sequence.0 % u64::from(OWN_IDS)) as u16 + 1
}

/// A message that is published when its client has gone without saying goodbye.
#[derive(Clone, Debug)]
pub struct Will {
    /// What to publish.
    pub message: Arc<Message>,
    /// How long to wait for the client to come back.
    pub delay: Duration,
}

/// A will whose time has come.
#[derive(Debug)]
pub(crate) struct DueWill {
    pub(crate) queue: QueueId,
    pub(crate) message: Arc<Message>,
}

/// The state of a session besides its messages.
#[derive(Debug, Default)]
pub(crate) struct Session {
    /// The connection of its client.
    pub(crate) connection: Option<ConnectionId>,
    /// Until when a client is expected that has asked for the session and not yet attached to it: what it asked for
    /// counts from its own connection's end, not from the last one's.
    pub(super) awaited_until: Option<Timestamp>,
    /// Every message below was sent at least once, unless it was dropped before.
    sent_to: Sequence,
    /// As `sent_to`, as far as the store knows.
    stored_sent_to: Sequence,
    /// Identifiers of messages that the client has received and not yet released (PUBREL is under way), oldest first.
    releasing: Vec<u16>,
    /// Identifiers of messages that the client has published and not yet released.
    received: BTreeSet<u16>,
    /// Lookups of retained messages that are under way.
    pub(super) overtaken: Rare<Overtaken>,
    /// How far its client is behind, and who waits for it.
    pub(super) pressure: Option<Box<Pressure>>,
    will: Option<Box<Will>>,
    /// When the will is to be published, once the client has gone.
    will_at: Option<Timestamp>,
    /// The store has a row of the will.
    will_stored: bool,
    will_dirty: bool,
    dirty: bool,
    /// The store has a row of the session.
    stored: bool,
}

impl Session {
    /// A session as it was stored.
    pub(crate) fn recovered(row: SessionRow) -> Session {
        Session {
            sent_to: row.sent_to,
            stored_sent_to: row.sent_to,
            releasing: row.releasing,
            received: row.received.into_iter().collect(),
            stored: true,
            ..Session::default()
        }
    }

    /// A will as it was stored. Without a time its client was connected when the process ended.
    pub(crate) fn recover_will(&mut self, row: WillRow, expires: Option<Duration>, now: Timestamp) {
        let will = Will {
            message: row.message,
            delay: row.delay,
        };
        self.will_at = Some(row.at.unwrap_or_else(|| now.after(will.wait(expires))));
        self.will = Some(Box::new(will));
        self.will_stored = true;
        self.will_dirty = row.at.is_none();
    }

    /// Where sequences go on at the earliest, so that no identifier means two messages.
    pub(crate) fn next_at_least(&self) -> Sequence {
        self.sent_to
    }

    /// Whether the message at `sequence` may have been sent before.
    pub(crate) fn was_sent(&self, sequence: Sequence) -> bool {
        sequence < self.sent_to
    }

    /// Whether the message at `sequence` may be sent: `oldest` is the oldest one that is not acknowledged.
    pub(crate) fn may_send(&self, sequence: Sequence, oldest: Option<Sequence>) -> bool {
        let far = oldest
            .is_some_and(|oldest| sequence.0 - oldest.0.min(sequence.0) >= u64::from(OWN_IDS));
        !far && (self.releasing.is_empty() || !self.releasing.contains(&packet_id(sequence)))
    }

    /// The message at `sequence` is sent.
    pub(crate) fn sent(&mut self, sequence: Sequence) {
        let next = sequence.next();
        if next > self.sent_to {
            self.sent_to = next;
            self.dirty |= next > self.stored_sent_to;
        }
    }

    /// How many messages the client has received and not released.
    pub(crate) fn releasing(&self) -> &[u16] {
        &self.releasing
    }

    /// The client has received a message: it is not sent again, and its identifier is taken until it is released.
    pub(crate) fn release(&mut self, packet_id: u16) {
        self.releasing.push(packet_id);
        self.dirty = true;
    }

    /// The client has released messages.
    pub(crate) fn completed(&mut self, packet_ids: &[u16]) {
        let before = self.releasing.len();
        self.releasing
            .retain(|packet_id| !packet_ids.contains(packet_id));
        self.dirty |= self.releasing.len() < before;
    }

    /// What the client has published and not released.
    pub(crate) fn received(&self) -> impl Iterator<Item = u16> {
        self.received.iter().copied()
    }

    /// The client has published a message exactly once.
    pub(crate) fn receive(&mut self, packet_id: u16) {
        self.dirty |= self.received.insert(packet_id);
    }

    /// The client will not send that message again.
    pub(crate) fn forget_received(&mut self, packet_id: u16) {
        self.dirty |= self.received.remove(&packet_id);
    }

    /// A connection has asked for the session; unless it has it already, it will attach soon.
    pub(super) fn expect(&mut self, from: ConnectionId, until: Timestamp) {
        if from != ConnectionId(0) && self.connection != Some(from) {
            self.awaited_until = Some(until);
        }
    }

    /// The client has connected. Returns the will of the connection before, if that is to be published.
    pub(crate) fn attach(
        &mut self,
        connection: ConnectionId,
        will: Option<Box<Will>>,
    ) -> Option<Box<Will>> {
        self.awaited_until = None;
        // Those of the connection before come to nothing.
        self.overtaken = Rare::default();
        let taken_over = self.connection.replace(connection).is_some();
        let old = std::mem::replace(&mut self.will, will);
        self.will_at = None;
        self.will_dirty |= self.will.is_some() || self.will_stored;
        self.dirty = true;
        // MQTT 5, 3.1.3-9: a client that comes back in time is not dead.
        old.filter(|old| taken_over && old.delay.is_zero())
    }

    /// The client says goodbye; with whether its will is to be published all the same.
    pub(crate) fn say_goodbye(&mut self, connection: ConnectionId, publish_will: bool) {
        if self.connection == Some(connection) && !publish_will && self.will.take().is_some() {
            self.will_dirty = true;
        }
    }

    /// A connection has gone. Returns when the will is due, if it was this client's and has left one.
    pub(crate) fn detach(
        &mut self,
        connection: ConnectionId,
        expires: Option<Duration>,
        now: Timestamp,
    ) -> Option<Timestamp> {
        if self.connection != Some(connection) {
            return None;
        }
        self.connection = None;
        self.overtaken = Rare::default();
        self.dirty = true;
        self.will_at = self.will.as_ref().map(|will| now.after(will.wait(expires)));
        self.will_dirty |= self.will.is_some();
        self.will_at
    }

    /// When the will is to be published.
    pub(crate) fn will_at(&self) -> Option<Timestamp> {
        self.will_at
    }

    /// The will, if its time has come.
    pub(crate) fn take_due_will(&mut self, now: Timestamp) -> Option<Box<Will>> {
        if self.will_at.is_none_or(|at| at > now) {
            return None;
        }
        self.will_at = None;
        // Its row goes with the batch that publishes it, and not before.
        (self.will_dirty, self.will_stored) = (false, false);
        self.will.take()
    }

    /// A will has been published and its row has gone; that of a later one is written again.
    pub(crate) fn will_sent(&mut self) {
        self.will_dirty |= self.will.is_some();
    }

    /// The will, because the session ends (MQTT 5, 3.1.3.2.2).
    pub(crate) fn take_will(&mut self) -> Option<Box<Will>> {
        self.will_at = None;
        self.will_dirty = false;
        self.will.take()
    }

    /// Writes what has changed. `away_since` is since when the client is away.
    pub(crate) fn seal(&mut self, queue: QueueId, away_since: Option<Timestamp>, turn: &mut Turn) {
        if std::mem::take(&mut self.dirty) {
            let ahead = if self.connection.is_some() {
                SENT_AHEAD
            } else {
                0
            };
            self.stored_sent_to = Sequence(self.sent_to.0 + ahead);
            let row = SessionRow {
                sent_to: self.stored_sent_to,
                releasing: self.releasing.clone(),
                received: self.received().collect(),
                away_since: away_since.filter(|_| self.connection.is_none()),
            };
            self.stored = true;
            turn.batch
                .put(Table::State, keys::session(queue), row.encode());
        }
        self.seal_will(queue, turn);
    }

    /// Writes the will if it has changed.
    pub(crate) fn seal_will(&mut self, queue: QueueId, turn: &mut Turn) {
        if !std::mem::take(&mut self.will_dirty) {
            return;
        }
        match &self.will {
            Some(will) => {
                let row = WillRow {
                    message: will.message.clone(),
                    delay: will.delay,
                    at: self.will_at,
                };
                turn.batch
                    .put(Table::State, keys::will(queue), row.encode());
            }
            None if self.will_stored => turn.batch.delete(Table::State, keys::will(queue)),
            None => {}
        }
        self.will_stored = self.will.is_some();
    }
}

impl Will {
    /// How long after its client has gone it is published: no longer than the session lasts (MQTT 5, 3.1.3.2.2).
    fn wait(&self, expires: Option<Duration>) -> Duration {
        expires.map_or(self.delay, |expires| expires.min(self.delay))
    }
}

impl Queue {
    /// What the store held of a session besides its messages.
    pub(crate) fn recover_session(
        &mut self,
        row: Option<SessionRow>,
        will: Option<WillRow>,
        now: Timestamp,
    ) {
        let expires = self.entry.settings.expires;
        let Some(session) = &mut self.session else {
            return;
        };
        if let Some(row) = row {
            self.was_consumed = true;
            self.idle_since = Some(row.away_since.unwrap_or(now));
            **session = Session::recovered(row);
        }
        if let Some(will) = will {
            session.recover_will(will, expires, now);
        }
        let next = session.next_at_least();
        if let Some(lane) = self.lanes.first_mut() {
            lane.skip_to(next);
        }
    }

    /// Connects a client; what it has to know comes with the answer.
    pub(crate) fn attach(
        &mut self,
        connection: ConnectionId,
        consumer: ConsumerId,
        prefetch: u32,
        will: Option<Box<Will>>,
        budget: &mut Budget,
        turn: &mut Turn,
    ) -> Result<Reply, Refusal> {
        let spec = ConsumeSpec {
            prefetch: Some(prefetch),
            takeover: true,
            session: true,
            ..ConsumeSpec::default()
        };
        self.consume(connection, consumer, &spec, None, budget, turn)?;
        let id = self.entry.id;
        let Some(session) = &mut self.session else {
            return Err(Refusal::Invalid("queue is not a session".into()));
        };
        if let Some(will) = session.attach(connection, will) {
            let message = will.message;
            turn.wills.push(DueWill { queue: id, message });
        }
        Ok(Reply::Session {
            received: session.received().collect(),
            releasing: session.releasing().to_vec(),
        })
    }

    /// A connection has gone; has the will of its session published if that is due at once.
    pub(crate) fn detach(&mut self, connection: ConnectionId, turn: &mut Turn) {
        let expires = self.entry.settings.expires;
        if let Some(session) = &mut self.session {
            session.detach(connection, expires, turn.now.wall);
        }
        self.publish_due_will(turn);
    }

    /// Has the will published if its time has come.
    pub(super) fn publish_due_will(&mut self, turn: &mut Turn) {
        let queue = self.entry.id;
        let session = self.session.as_mut();
        if let Some(will) = session.and_then(|session| session.take_due_will(turn.now.wall)) {
            let message = will.message;
            turn.wills.push(DueWill { queue, message });
        }
    }

    pub(super) fn may_send(&self, slot: usize, sequence: Sequence) -> bool {
        let Some(session) = &self.session else {
            return true;
        };
        let (outstanding, prefetch, oldest) = self.consumers.load(slot);
        let taken = outstanding as usize + session.releasing().len();
        prefetch.is_none_or(|prefetch| taken < prefetch as usize)
            && session.may_send(sequence, oldest)
    }

    pub(super) fn note_sent(&mut self, slot: usize, sequence: Sequence) {
        if let Some(session) = &mut self.session {
            session.sent(sequence);
            self.consumers.name_last(slot, packet_id(sequence));
        }
    }

    /// The client has received deliveries at QoS 2: they are settled, and their identifiers kept.
    pub(crate) fn received(
        &mut self,
        connection: ConnectionId,
        consumer: ConsumerId,
        deliveries: &RangeInclusive<DeliveryId>,
        budget: &mut Budget,
        turn: &mut Turn,
    ) {
        let Some(slot) = self.consumers.find(connection, consumer) else {
            return;
        };
        for delivery in self.unsettled_of(slot, deliveries) {
            let Some(held) = self.take_delivery(slot, delivery, turn) else {
                continue;
            };
            self.forget(&held, budget);
            if let Some(session) = &mut self.session {
                session.release(packet_id(held.sequence));
            }
        }
    }

    /// The session ends: its will is published (MQTT 5, 3.1.3.2.2).
    pub(super) fn end_session(&mut self, turn: &mut Turn) {
        let queue = self.entry.id;
        let Some(mut session) = self.session.take() else {
            return;
        };
        match session.take_will() {
            // Its row goes with the batch that publishes it.
            Some(will) => turn.wills.push(DueWill {
                queue,
                message: will.message,
            }),
            None if session.will_stored => turn.batch.delete(Table::State, keys::will(queue)),
            None => {}
        }
        if session.stored {
            turn.batch.delete(Table::State, keys::session(queue));
        }
    }

    pub(super) fn seal_session(&mut self, turn: &mut Turn) {
        let Some(session) = &mut self.session else {
            return;
        };
        if self.entry.spec.durable {
            session.seal(self.entry.id, self.idle_since, turn);
        } else {
            // The end of the broker is the end of the connection, too (MQTT 5, 3.1.2-8).
            session.seal_will(self.entry.id, turn);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mqtt_2_2_1_4_an_identifier_in_use_is_not_taken() {
        let mut session = Session::default();
        let (first, second) = (Sequence(7), Sequence(7 + u64::from(OWN_IDS)));
        assert_eq!(packet_id(first), packet_id(second));
        assert!(!session.may_send(second, Some(first)));
        assert!(session.may_send(second, Some(first.next())));
        session.release(packet_id(first));
        assert!(!session.may_send(second, None));
        session.completed(&[packet_id(first)]);
        assert!(session.may_send(second, None));
    }

    #[test]
    fn identifiers_are_never_zero_and_stay_below_the_shared_ones() {
        for sequence in [0, 1, 49_151, 49_152, u64::MAX] {
            assert!((1..=OWN_IDS).contains(&packet_id(Sequence(sequence))));
        }
    }
}
