//! What the client receives: live, queued and retained messages, packet identifiers, acknowledgements.

use std::{borrow::Cow, collections::VecDeque, ops::RangeInclusive, sync::Arc};

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;
use trivium_core::{
    Command, ConsumerId, Delivery, DeliveryId, Dialect, Grammar, Message, Now, Outcome,
    Persistence, Retained, Timestamp,
};
use trivium_protocol::Output;

use super::alias::{Aliases, Naming};
use crate::{
    convert::{self, Mqtt3, Mqtt5},
    inflight::Inflight,
    packet::{Outgoing, Qos, Version},
    subscription::Options,
};

/// The one consumer of a connection: its session's.
pub const CONSUMER: ConsumerId = ConsumerId(1);

/// What the core settles itself: a delivery at QoS 0.
const SETTLED: DeliveryId = DeliveryId(0);

/// The payload of a message without a body.
static NO_BODY: Bytes = Bytes::new();

/// Messages under way to the client.
pub struct Outbound {
    version: Version,
    /// The largest packet that the client takes.
    packet_max: usize,
    /// What to settle when the client acknowledges; [`SETTLED`] for retained messages.
    inflight: Inflight<DeliveryId>,
    /// Messages of QoS 1 that the window has no room for. Bounded by the consumer's prefetch and by what
    /// subscriptions were answered with as retained.
    waiting: VecDeque<Waiting>,
    /// Accepted deliveries that the core has not been told of.
    settled: Option<RangeInclusive<DeliveryId>>,
    /// The property block of a message from another protocol.
    block: BytesMut,
    aliases: Aliases,
}

/// A message of QoS 1 for the client.
struct Waiting {
    message: Arc<Message>,
    accepted: Timestamp,
    id: DeliveryId,
    how: How,
}

/// How a message is sent.
#[derive(Clone)]
struct How {
    qos: Qos,
    dup: bool,
    retain: bool,
    subscriptions: SmallVec<[u32; 2]>,
}

impl Outbound {
    /// Nothing under way to a client that takes `window` unacknowledged messages, packets of `packet_max` bytes
    /// and `alias_max` topic aliases.
    pub fn new(version: Version, window: u16, packet_max: usize, alias_max: u16) -> Outbound {
        Outbound {
            version,
            packet_max,
            inflight: Inflight::new(window),
            waiting: VecDeque::new(),
            settled: None,
            block: BytesMut::new(),
            aliases: Aliases::new(alias_max),
        }
    }

    /// The largest packet that the client takes.
    pub fn packet_max(&self) -> usize {
        self.packet_max
    }

    /// Gives back memory that is made anew when it is needed.
    pub fn rest(&mut self) {
        self.waiting.shrink_to_fit();
        self.inflight.rest();
        self.block = BytesMut::new();
    }

    /// Sends a delivery, or lets it wait for the window.
    pub fn deliver(
        &mut self,
        now: Now,
        delivery: Delivery,
        output: &mut Output,
        commands: &mut Vec<Command>,
    ) {
        let how = self.how(&delivery);
        if how.qos == Qos::AtMostOnce {
            self.write(now, &delivery.message, delivery.accepted, &how, 0, output);
            self.settle(delivery.id, commands);
            return;
        }
        let Delivery {
            id,
            message,
            accepted,
            ..
        } = delivery;
        self.offer(
            now,
            Waiting {
                message,
                accepted,
                id,
                how,
            },
            output,
            commands,
        );
    }

    /// Sends the retained message of a topic to a new subscription (3.3.1-8: with RETAIN).
    pub fn send_retained(
        &mut self,
        now: Now,
        retained: Retained,
        options: Options,
        output: &mut Output,
        commands: &mut Vec<Command>,
    ) {
        let Retained { message, accepted } = retained;
        let qos = options.qos.min(published_qos(&message));
        let how = How {
            qos,
            dup: false,
            retain: true,
            subscriptions: options.identifier.into_iter().collect(),
        };
        if how.qos == Qos::AtMostOnce {
            self.write(now, &message, accepted, &how, 0, output);
            return;
        }
        self.offer(
            now,
            Waiting {
                message,
                accepted,
                id: SETTLED,
                how,
            },
            output,
            commands,
        );
    }

    /// The client has acknowledged a PUBLISH, in whatever words; an unknown identifier is ignored.
    pub fn handle_ack(
        &mut self,
        now: Now,
        packet_id: u16,
        output: &mut Output,
        commands: &mut Vec<Command>,
    ) {
        let Some(id) = self.inflight.release(packet_id) else {
            return;
        };
        self.settle(id, commands);
        while !self.inflight.is_full()
            && let Some(next) = self.waiting.pop_front()
        {
            self.send(now, next, output, commands);
        }
    }

    /// Tells the core what is settled; to be called at the end of a turn.
    pub fn flush(&mut self, commands: &mut Vec<Command>) {
        if let Some(deliveries) = self.settled.take() {
            commands.push(Command::Settle {
                consumer: CONSUMER,
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
        };
        for options in delivery.tags.iter().map(|tag| Options::from_tag(*tag)) {
            how.qos = how.qos.max(options.qos);
            how.retain |= delivery.message.retain && options.retain_as_published;
            how.subscriptions.extend(options.identifier);
        }
        how.qos = match delivery.id {
            SETTLED => Qos::AtMostOnce,
            _ if delivery.tags.is_empty() => Qos::AtLeastOnce,
            _ => how.qos.min(published_qos(&delivery.message)),
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
        if self.inflight.is_full() || !self.waiting.is_empty() {
            self.waiting.push_back(waiting);
        } else {
            self.send(now, waiting, output, commands);
        }
    }

    /// Sends a message of QoS 1; the window has room.
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
            id,
            how,
        } = waiting;
        let Some(packet_id) = self.inflight.take(id) else {
            return;
        };
        if !self.write(now, &message, accepted, &how, packet_id, output) {
            self.inflight.release(packet_id);
            self.settle(id, commands);
        }
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
        let topic = match message.topic.grammar() {
            Grammar::Slashes => Cow::Borrowed(&**message.topic.text()),
            Grammar::Dots => Cow::Owned(message.topic.render(Grammar::Slashes).to_string()),
        };
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
        let outgoing = Outgoing {
            dup: how.dup,
            qos: how.qos,
            retain: how.retain,
            topic: name,
            packet_id,
            alias,
            expiry,
            subscriptions: &how.subscriptions,
            block: block(message, self.version, &mut self.block),
            payload: message.body.as_ref().unwrap_or(&NO_BODY),
        };
        if outgoing.total(self.version) > self.packet_max {
            return false;
        }
        outgoing.encode(self.version, output);
        if let Naming::Introduce(alias) = naming {
            self.aliases.introduced(&topic, alias);
        }
        true
    }

    fn settle(&mut self, id: DeliveryId, commands: &mut Vec<Command>) {
        if id == SETTLED {
            return;
        }
        if let Some(range) = &mut self.settled
            && range.end().next() == id
        {
            *range = *range.start()..=id;
            return;
        }
        self.flush(commands);
        self.settled = Some(id..=id);
    }
}

/// The property block of a message: as it came from MQTT 5, converted into `scratch` from another protocol.
fn block<'a>(message: &'a Message, version: Version, scratch: &'a mut BytesMut) -> &'a [u8] {
    let dialect = message.native.dialect.id();
    if !version.is_5() || dialect == Mqtt3.id() {
        return &[];
    }
    if dialect == Mqtt5.id() {
        return &message.native.block;
    }
    scratch.clear();
    convert::put_block(message, scratch);
    scratch
}

/// The QoS that a message was published with. What came by another protocol has none, so the subscription decides.
fn published_qos(message: &Message) -> Qos {
    let dialect = message.native.dialect.id();
    let native = dialect == Mqtt5.id() || dialect == Mqtt3.id();
    match message.persistence {
        Persistence::Transient if native => Qos::AtMostOnce,
        _ => Qos::AtLeastOnce,
    }
}

/// The lifetime that is left in seconds, rounded up (3.3.2-6); `None` when it is over.
fn remaining(message: &Message, accepted: Timestamp, now: Now) -> Option<Option<u32>> {
    let Some(lifetime) = message.expiry_ms else {
        return Some(None);
    };
    let waited = now.wall.0.saturating_sub(accepted.0);
    let left = lifetime.checked_sub(waited)?.div_ceil(1000);
    Some(Some(u32::try_from(left).unwrap_or(u32::MAX)))
}
