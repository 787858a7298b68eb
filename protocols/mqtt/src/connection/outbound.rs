//! What the client receives: live, queued and retained messages, packet identifiers, acknowledgements.

use std::{collections::VecDeque, ops::RangeInclusive, sync::Arc};

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;
use trivium_core::{
    BindingTag, Command, ConsumerId, ConversionTally, Delivery, DeliveryId, Dialect, Grammar, Kind,
    Message, Now, Outcome, Retained, Timestamp, Token, Topic,
};
use trivium_protocol::Output;

use super::{
    alias::{Aliases, Naming},
    shares::Share,
};
use crate::{
    convert::{self, Mqtt3, Mqtt5},
    counters::Passed,
    inflight::{Inflight, Sent},
    packet::{Ack, Outgoing, Qos, Reason, Version, Violation, kind},
    reader::Source,
    subscription::Options,
    topic,
    translation::Translation,
};

/// The one consumer of a connection: its session's.
pub const CONSUMER: ConsumerId = ConsumerId(1);

/// What the core settles itself: a delivery at QoS 0.
const SETTLED: DeliveryId = DeliveryId(0);

/// Tokens from here on are of [`Command::Received`].
pub const RECEIVED: u64 = 1 << 63;

/// The payload of a message without a body.
static NO_BODY: Bytes = Bytes::new();

/// Messages under way to the client.
pub struct Outbound {
    version: Version,
    translation: Translation,
    /// The largest packet that the client takes.
    packet_max: usize,
    inflight: Inflight,
    /// Messages of QoS 1 and 2 that the window has no room for. Bounded by the consumers' prefetch.
    waiting: VecDeque<Waiting>,
    /// Accepted deliveries that the core has not been told of.
    settled: Option<(ConsumerId, RangeInclusive<DeliveryId>)>,
    /// Handshakes of QoS 2.
    handshakes: Option<Box<Handshakes>>,
    /// Messages of groups on their way into the session.
    adopting: usize,
    next_token: u64,
    /// The property block of a message from another protocol.
    block: Option<Box<BytesMut>>,
    aliases: Aliases,
    /// Packets written since somebody looked.
    pub(super) sent: Passed,
    /// What was sent that came by other protocols.
    pub(super) converted: ConversionTally,
}

/// Handshakes of QoS 2 on their way through the core.
#[derive(Default)]
struct Handshakes {
    /// Deliveries that PUBREC has settled and the core has not been told of, with their packet identifiers.
    received: Vec<(DeliveryId, u16)>,
    /// What the core was told of by `received`, by token: PUBREL follows once that is durable.
    releasing: VecDeque<(Token, Vec<u16>)>,
    /// Packet identifiers that PUBCOMP has freed and the core has not been told of.
    completed: Vec<u16>,
}

impl Handshakes {
    fn is_empty(&self) -> bool {
        self.received.is_empty() && self.releasing.is_empty() && self.completed.is_empty()
    }
}

/// A message of QoS 1 or 2 for the client.
struct Waiting {
    message: Arc<Message>,
    accepted: Timestamp,
    consumer: ConsumerId,
    id: DeliveryId,
    packet_id: u16,
    how: How,
}

/// How a message is sent.
#[derive(Clone)]
struct How {
    qos: Qos,
    dup: bool,
    retain: bool,
    subscriptions: SmallVec<[u32; 2]>,
    /// The subscription's, when it is a shared one.
    tag: BindingTag,
    /// It came out of a queue, which hears whether the client could have it.
    from_queue: bool,
}

impl Outbound {
    /// Nothing under way to a client that takes `window` unacknowledged messages, packets of `packet_max` bytes
    /// and `alias_max` topic aliases.
    pub fn new(
        version: Version,
        window: u16,
        packet_max: usize,
        alias_max: u16,
        translation: Translation,
        converted: ConversionTally,
    ) -> Outbound {
        Outbound {
            version,
            translation,
            packet_max,
            inflight: Inflight::new(window),
            waiting: VecDeque::new(),
            settled: None,
            handshakes: None,
            adopting: 0,
            next_token: RECEIVED,
            block: None,
            aliases: Aliases::new(alias_max),
            sent: Passed::default(),
            converted,
        }
    }

    /// The largest packet that the client takes.
    pub fn packet_max(&self) -> usize {
        self.packet_max
    }

    /// Gives back memory that is made anew when it is needed.
    pub fn rest(&mut self) {
        self.waiting.shrink_to_fit();
        self.handshakes.take_if(|it| it.is_empty());
        self.adopting = 0;
        self.inflight.rest();
        self.block = None;
    }

    /// Goes on where an earlier connection has left off: these were received and not released (4.4.0-1).
    pub fn resume(&mut self, releasing: &[u16], output: &mut Output) {
        for &packet_id in releasing {
            self.inflight.insert(packet_id, Sent::Released);
            self.send_pubrel(packet_id, Reason::SUCCESS, output.buffer());
        }
    }

    /// Sends a delivery, or lets it wait for the window.
    pub fn deliver(
        &mut self,
        now: Now,
        consumer: ConsumerId,
        mut delivery: Delivery,
        share: Option<&Share>,
        output: &mut Output,
        commands: &mut Vec<Command>,
    ) {
        let how = match share {
            Some(share) => {
                if let Some(source) = &share.source {
                    name_topic(&mut delivery.message, source);
                }
                shared(&delivery, share, self.translation)
            }
            None if consumer == CONSUMER => self.how(&delivery),
            // Its subscription has ended meanwhile: somebody else may have it.
            None => return self.give_back(consumer, delivery.id, commands),
        };
        if consumer == CONSUMER && how.qos == Qos::ExactlyOnce {
            self.adopting = self.adopting.saturating_sub(1);
        }
        if how.qos == Qos::AtMostOnce {
            self.write(now, &delivery.message, delivery.accepted, &how, 0, output);
            self.settle(consumer, delivery.id, commands);
            return;
        }
        let Delivery {
            id,
            message,
            accepted,
            packet_id,
            ..
        } = delivery;
        self.offer(
            now,
            Waiting {
                message,
                accepted,
                consumer,
                id,
                packet_id,
                how,
            },
            output,
            commands,
        );
    }

    /// Has retained messages sent that match a new subscription, unless newer ones have come. Those of QoS 1 and 2 go
    /// through the session, so that they get identifiers and are not lost with the connection. Whether there are others,
    /// which [`Outbound::send_retained`] is to send.
    pub fn replay(
        &self,
        now: Now,
        retained: Vec<Retained>,
        options: Options,
        token: Token,
        commands: &mut Vec<Command>,
    ) -> bool {
        let options = Options {
            replay: true,
            ..options
        };
        let goes_through_session =
            |it: &Retained| options.qos.min(self.translation.qos(&it.message)) > Qos::AtMostOnce;
        let (promised, direct): (Vec<_>, Vec<_>) =
            retained.into_iter().partition(goes_through_session);
        let messages = promised
            .into_iter()
            .filter_map(|it| aged(it.message, it.accepted, now));
        let are_direct = !direct.is_empty();
        commands.push(Command::Replay {
            token,
            messages: messages.collect(),
            tag: options.tag(),
            direct,
        });
        are_direct
    }

    /// Sends the retained messages of QoS 0 that match a new subscription (3.3.1-8: with RETAIN).
    pub fn send_retained(
        &mut self,
        now: Now,
        retained: Vec<Retained>,
        options: Options,
        output: &mut Output,
    ) {
        let how = How {
            qos: Qos::AtMostOnce,
            dup: false,
            retain: true,
            subscriptions: options.identifier.into_iter().collect(),
            tag: BindingTag::default(),
            from_queue: false,
        };
        for Retained { message, accepted } in retained {
            self.write(now, &message, accepted, &how, 0, output);
        }
    }

    /// Takes a PUBACK, of whatever reason; an unknown identifier is ignored.
    pub fn handle_puback(
        &mut self,
        now: Now,
        packet_id: u16,
        output: &mut Output,
        commands: &mut Vec<Command>,
    ) -> Result<(), Violation> {
        match self.inflight.get(packet_id) {
            Some(Sent::AtLeastOnce(consumer, id)) => {
                self.settle(consumer, id, commands);
                self.free(now, packet_id, output, commands);
                Ok(())
            }
            Some(_) => Err(Violation::protocol("PUBACK for a PUBLISH of QoS 2")),
            None => Ok(()),
        }
    }

    /// Takes a PUBREC. PUBREL follows once it is durable that the message was received (4.3.3-4); with a reason of
    /// 0x80 and above the handshake ends here (4.3.3-4).
    pub fn handle_pubrec(
        &mut self,
        now: Now,
        ack: &Ack,
        output: &mut Output,
        commands: &mut Vec<Command>,
    ) {
        let packet_id = ack.packet_id;
        match self.inflight.get(packet_id) {
            Some(Sent::ExactlyOnce(id)) if ack.reason.is_error() => {
                self.settle(CONSUMER, id, commands);
                self.free(now, packet_id, output, commands);
            }
            Some(Sent::ExactlyOnce(id)) => {
                self.inflight.insert(packet_id, Sent::Received);
                let handshakes = self.handshakes.get_or_insert_default();
                handshakes.received.push((id, packet_id));
            }
            Some(Sent::Received) => {}
            Some(Sent::Released) => {
                self.send_pubrel(packet_id, Reason::SUCCESS, output.buffer());
            }
            Some(Sent::AtLeastOnce(..)) | None if ack.reason.is_error() => {}
            Some(Sent::AtLeastOnce(..)) | None => {
                self.send_pubrel(packet_id, Reason::PACKET_ID_NOT_FOUND, output.buffer());
            }
        }
    }

    fn send_pubrel(&mut self, packet_id: u16, reason: Reason, out: &mut BytesMut) {
        self.sent.others += 1;
        Ack::new(packet_id, reason).encode(kind::PUBREL, self.version, out);
    }

    /// What one [`Command::Received`] told the core is durable.
    pub fn handle_received(&mut self, token: Token, out: &mut BytesMut) {
        while let Some(handshakes) = &mut self.handshakes
            && let Some((first, _)) = handshakes.releasing.front()
            && *first <= token
            && let Some((_, packet_ids)) = handshakes.releasing.pop_front()
        {
            for packet_id in packet_ids {
                self.inflight.insert(packet_id, Sent::Released);
                self.send_pubrel(packet_id, Reason::SUCCESS, out);
            }
        }
    }

    /// Takes a PUBCOMP; an unknown identifier is ignored.
    pub fn handle_pubcomp(
        &mut self,
        now: Now,
        packet_id: u16,
        output: &mut Output,
        commands: &mut Vec<Command>,
    ) {
        if self.inflight.get(packet_id) == Some(Sent::Released) {
            let handshakes = self.handshakes.get_or_insert_default();
            handshakes.completed.push(packet_id);
            self.free(now, packet_id, output, commands);
        }
    }

    /// An identifier is free, and with it a place in the window.
    fn free(&mut self, now: Now, packet_id: u16, output: &mut Output, commands: &mut Vec<Command>) {
        self.inflight.remove(packet_id);
        self.send_waiting(now, output, commands);
    }

    /// Tells the core what has happened; to be called at the end of a turn.
    pub fn flush(&mut self, commands: &mut Vec<Command>) {
        self.flush_settled(commands);
        let Some(handshakes) = &mut self.handshakes else {
            return;
        };
        let received = std::mem::take(&mut handshakes.received);
        let mut received = received.into_iter().peekable();
        while let Some((first, packet_id)) = received.next() {
            let (mut last, mut packet_ids) = (first, vec![packet_id]);
            while let Some((id, packet_id)) = received.next_if(|(id, _)| *id == last.next()) {
                last = id;
                packet_ids.push(packet_id);
            }
            let token = Token(self.next_token);
            self.next_token += 1;
            handshakes.releasing.push_back((token, packet_ids));
            commands.push(Command::Received {
                token,
                consumer: CONSUMER,
                deliveries: first..=last,
            });
        }
        if !handshakes.completed.is_empty() {
            let packet_ids = std::mem::take(&mut handshakes.completed);
            commands.push(Command::Completed { packet_ids });
        }
    }

    fn flush_settled(&mut self, commands: &mut Vec<Command>) {
        if let Some((consumer, deliveries)) = self.settled.take() {
            commands.push(Command::Settle {
                consumer,
                deliveries,
                outcome: Outcome::Accept,
            });
        }
    }

    /// Overlapping subscriptions make one delivery: the greatest QoS, all identifiers (3.3.4-2, 3.3.4-4).
    fn how(&self, delivery: &Delivery) -> How {
        let mut how = How {
            qos: Qos::AtMostOnce,
            dup: false,
            retain: false,
            subscriptions: SmallVec::new(),
            tag: BindingTag::default(),
            from_queue: false,
        };
        for options in delivery.tags.iter().map(|tag| Options::from_tag(*tag)) {
            how.qos = how.qos.max(options.qos);
            how.retain |= options.replay || delivery.message.retain && options.retain_as_published;
            how.subscriptions.extend(options.identifier);
        }
        how.qos = match delivery.id {
            SETTLED => Qos::AtMostOnce,
            _ if delivery.tags.is_empty() => Qos::AtLeastOnce,
            _ => how.qos.min(self.translation.qos(&delivery.message)),
        };
        // 3.3.1-2: never at QoS 0.
        how.dup = delivery.redelivered && how.qos > Qos::AtMostOnce;
        how
    }

    fn offer(
        &mut self,
        now: Now,
        waiting: Waiting,
        output: &mut Output,
        commands: &mut Vec<Command>,
    ) {
        if self.waiting.is_empty() && self.has_room_for(waiting.consumer) {
            self.send(now, waiting, output, commands);
        } else {
            self.waiting.push_back(waiting);
            self.send_waiting(now, output, commands);
        }
    }

    /// Sends what the window has room for. What waits for messages on their way into the session lets those of the
    /// session pass: they come before them, and the session gives out no more while they wait.
    fn send_waiting(&mut self, now: Now, output: &mut Output, commands: &mut Vec<Command>) {
        while let Some(at) = self
            .waiting
            .iter()
            .position(|waiting| self.has_room_for(waiting.consumer))
            && let Some(next) = self.waiting.remove(at)
        {
            self.send(now, next, output, commands);
        }
    }

    /// Sends a message of QoS 1 or 2; the window has room.
    fn send(
        &mut self,
        now: Now,
        waiting: Waiting,
        output: &mut Output,
        commands: &mut Vec<Command>,
    ) {
        let Waiting {
            message,
            accepted,
            consumer,
            id,
            mut packet_id,
            how,
        } = waiting;
        if consumer != CONSUMER && how.qos == Qos::ExactlyOnce {
            return self.adopt(now, message, accepted, consumer, id, &how, commands);
        }
        if consumer != CONSUMER {
            match self.inflight.shared_id() {
                Some(free) => packet_id = free,
                None => return self.give_back(consumer, id, commands),
            }
        }
        if !self.write(now, &message, accepted, &how, packet_id, output) {
            if how.from_queue {
                return self.hand_back(now, &message, accepted, consumer, id, commands);
            }
            return self.settle(consumer, id, commands);
        }
        let sent = match how.qos {
            Qos::ExactlyOnce => Sent::ExactlyOnce(id),
            _ => Sent::AtLeastOnce(consumer, id),
        };
        self.inflight.insert(packet_id, sent);
    }

    /// Writes a PUBLISH; false when the client cannot have it: it has expired (3.3.2-5), is over the client's maximum
    /// packet size (3.1.2-25), or has a topic that MQTT cannot say.
    fn write(
        &mut self,
        now: Now,
        message: &Message,
        accepted: Timestamp,
        how: &How,
        packet_id: u16,
        output: &mut Output,
    ) -> bool {
        let Some(expiry) = remaining(message, accepted, now) else {
            return false;
        };
        let topic = self.translation.rendered(&message.topic);
        if topic.is_empty() || topic.len() > usize::from(u16::MAX) || topic.as_bytes().contains(&0)
        {
            return false;
        }
        let naming = self.aliases.naming(&topic);
        let (name, alias) = match naming {
            Naming::Name => (&*topic, None),
            Naming::Introduce(alias) => (&*topic, Some(alias)),
            Naming::Alias(alias) => ("", Some(alias)),
        };
        let (block, dropped) = block(message, self.version, &mut self.block);
        let outgoing = Outgoing {
            dup: how.dup,
            qos: how.qos,
            retain: how.retain,
            topic: name,
            packet_id,
            alias,
            expiry,
            subscriptions: &how.subscriptions,
            block,
            payload: message.body.as_ref().unwrap_or(&NO_BODY),
        };
        if outgoing.total(self.version) > self.packet_max {
            return false;
        }
        outgoing.encode(self.version, output);
        self.sent.publish(outgoing.payload.len());
        if let Some(dropped) = dropped {
            self.converted.count(message, dropped);
        }
        if let Naming::Introduce(alias) = naming {
            self.aliases.introduced(&topic, alias);
        }
        true
    }

    /// Whether the window has room; messages of groups leave some for those on their way into the session.
    fn has_room_for(&self, consumer: ConsumerId) -> bool {
        let coming = if consumer == CONSUMER {
            0
        } else {
            self.adopting
        };
        !self.inflight.is_full_with(coming)
    }

    /// A message of QoS 2 for this member of a group becomes its session's, so that it stays with it (4.8.2-4).
    #[expect(clippy::too_many_arguments, reason = "the parts of what waits")]
    fn adopt(
        &mut self,
        now: Now,
        message: Arc<Message>,
        accepted: Timestamp,
        consumer: ConsumerId,
        delivery: DeliveryId,
        how: &How,
        commands: &mut Vec<Command>,
    ) {
        let Some(message) = aged(message, accepted, now) else {
            return self.settle(consumer, delivery, commands);
        };
        self.adopting += 1;
        let tag = how.tag;
        commands.push(Command::Adopt {
            consumer,
            delivery,
            message,
            tag,
        });
    }

    fn give_back(&self, consumer: ConsumerId, id: DeliveryId, commands: &mut Vec<Command>) {
        self.end(consumer, id, Outcome::Requeue, commands);
    }

    fn end(
        &self,
        consumer: ConsumerId,
        id: DeliveryId,
        outcome: Outcome,
        commands: &mut Vec<Command>,
    ) {
        if id != SETTLED {
            commands.push(Command::Settle {
                consumer,
                deliveries: id..=id,
                outcome,
            });
        }
    }

    /// A message of a queue cannot be sent: one whose time is up goes back, for the queue to deal with; one that the client
    /// cannot take is rejected, so that it is dead-lettered where that is wanted.
    fn hand_back(
        &self,
        now: Now,
        message: &Message,
        accepted: Timestamp,
        consumer: ConsumerId,
        id: DeliveryId,
        commands: &mut Vec<Command>,
    ) {
        let outcome = match remaining(message, accepted, now) {
            None => Outcome::Requeue,
            Some(_) => Outcome::Reject,
        };
        self.end(consumer, id, outcome, commands);
    }

    fn settle(&mut self, consumer: ConsumerId, id: DeliveryId, commands: &mut Vec<Command>) {
        if id == SETTLED {
            return;
        }
        if let Some((of, range)) = &mut self.settled
            && *of == consumer
            && range.end().next() == id
        {
            *range = *range.start()..=id;
            return;
        }
        self.flush_settled(commands);
        self.settled = Some((consumer, id..=id));
    }
}

/// How a message of a group is sent to this member. To this client it is never a message sent again; one that comes back
/// to a queue is, whoever had it.
fn shared(delivery: &Delivery, share: &Share, translation: Translation) -> How {
    let options = share.options;
    let qos = match delivery.id {
        SETTLED => Qos::AtMostOnce,
        _ if share.source.is_none() => options.qos.min(translation.qos(&delivery.message)),
        // Acknowledging is between the reader and what it reads.
        _ => options.qos,
    };
    let of_queue = share.source.as_ref().map(|it| it.kind) == Some(Kind::Queue);
    How {
        qos,
        dup: of_queue && delivery.redelivered && qos > Qos::AtMostOnce,
        from_queue: of_queue,
        retain: delivery.message.retain && options.retain_as_published,
        subscriptions: options.identifier.into_iter().collect(),
        tag: options.tag(),
    }
}

/// What is read has a topic: its own if MQTT can say it, else that of what it is read from.
fn name_topic(message: &mut Arc<Message>, source: &Source) {
    let topic = message.topic.render(Grammar::Slashes);
    if topic.is_empty() || topic.len() > usize::from(u16::MAX) || !topic::is_name(&topic) {
        *message = Arc::new(Message {
            topic: Topic::new(source.topic(), Grammar::Slashes),
            ..(**message).clone()
        });
    }
}

/// The property block of a message: as it came from MQTT 5, or written into `scratch` when it came by another protocol
/// or has died in a queue since. With what is left out of it, if it came by another protocol.
fn block<'a>(
    message: &'a Message,
    version: Version,
    scratch: &'a mut Option<Box<BytesMut>>,
) -> (&'a [u8], Option<usize>) {
    let native = &message.native;
    let is_mqtt = [Mqtt3.id(), Mqtt5.id()].contains(&native.dialect.id());
    if !version.is_5() {
        let dropped = (!is_mqtt).then(|| native.dialect.headers(&native.block));
        return (&[], dropped);
    }
    if is_mqtt && message.origin.deaths.is_none() {
        // A message of 3.1.1 has none.
        return (&native.block, None);
    }
    let scratch = scratch.get_or_insert_default();
    scratch.clear();
    let dropped = convert::put_block(message, scratch);
    (scratch, (!is_mqtt).then_some(dropped))
}

/// A retained message that begins its life in a session, with what is left of its lifetime; `None` when that is over.
fn aged(message: Arc<Message>, accepted: Timestamp, now: Now) -> Option<Arc<Message>> {
    let Some(lifetime) = message.expiry_ms else {
        return Some(message);
    };
    let left = lifetime.checked_sub(now.wall.0.saturating_sub(accepted.0))?;
    Some(Arc::new(Message {
        expiry_ms: Some(left),
        ..(*message).clone()
    }))
}

/// The lifetime that is left in seconds, rounded up (3.3.2-6), and at least one if it was not MQTT that counted it;
/// `None` when it is over.
fn remaining(message: &Message, accepted: Timestamp, now: Now) -> Option<Option<u32>> {
    let Some(lifetime) = message.expiry_ms else {
        return Some(None);
    };
    let waited = now.wall.0.saturating_sub(accepted.0);
    let least = u64::from(message.native.dialect.id() != Mqtt5.id());
    let left = lifetime.checked_sub(waited)?.div_ceil(1000).max(least);
    Some(Some(u32::try_from(left).unwrap_or(u32::MAX)))
}
