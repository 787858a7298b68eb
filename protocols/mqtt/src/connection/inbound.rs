//! What the client publishes: topic aliases, messages for the core, and acknowledgements in order.

use std::{collections::VecDeque, sync::Arc};

use bytes::{Bytes, BytesMut};
use rustc_hash::FxHashMap;
use trivium_core::{
    Command, Grammar, Message, Native, Origin, Persistence, Refusal, Text, Token, Topic,
};

use crate::{
    convert::{Mqtt3, Mqtt5, QUEUE_TOPIC, Reserved},
    options::Options,
    packet::{Ack, Publish, Qos, Reason, Version, Violation, Will, kind},
    translation::Translation,
};

/// In tokens of releases, with the packet identifier.
pub const RELEASE: u64 = 1 << 62;

/// In tokens of releases that the client did not ask for.
const UNASKED: u64 = RELEASE | 1 << 32;

/// The exchange where all protocols meet.
pub fn topic_exchange() -> Text {
    Text::from_static("amq.topic")
}

/// Published messages under way to the core.
pub struct Inbound {
    version: Version,
    origin: Arc<Origin>,
    translation: Translation,
    /// By alias, from 1.
    aliases: Vec<Text>,
    /// The greatest topic alias that the client may use.
    alias_max: u16,
    /// PUBLISH packets of QoS 1 and 2 that are not acknowledged, oldest first (4.6.0-2, 4.6.0-3).
    pending: VecDeque<Pending>,
    /// The token of the first of `pending`; the others follow.
    first: u64,
    /// PUBLISH packets of QoS 2 whose PUBREL is still to come; the same identifier until then is the same message
    /// (4.3.3-10). With whether this connection saw it.
    received: FxHashMap<u16, bool>,
    /// How many of `received` this connection saw.
    received_here: usize,
    /// Identifiers whose PUBCOMP waits until their release is durable.
    completing: Vec<u16>,
    /// How many of `pending` are QoS 1.
    pending_once: usize,
    /// Packets written since somebody looked.
    pub(super) sent: u32,
}

struct Pending {
    packet_id: u16,
    qos: Qos,
    /// Whether the core has it; its PUBREL is still to come then.
    done: bool,
    reason: Reason,
    text: Option<Text>,
}

impl Inbound {
    /// Nothing under way; messages say that they come from `origin`.
    pub fn new(version: Version, origin: Arc<Origin>, options: &Options) -> Inbound {
        Inbound {
            version,
            origin,
            translation: options.translation,
            aliases: Vec::new(),
            alias_max: options.topic_alias_maximum,
            pending: VecDeque::new(),
            first: 0,
            received: FxHashMap::default(),
            received_here: 0,
            completing: Vec::new(),
            pending_once: 0,
            sent: 0,
        }
    }

    /// Gives back memory that is made anew when it is needed.
    pub fn rest(&mut self) {
        self.pending.shrink_to_fit();
        self.received.shrink_to_fit();
    }

    /// How many PUBLISH packets wait for their acknowledgement.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// How many PUBLISH packets count for the receive maximum: until PUBACK or PUBCOMP (4.9.0-1).
    pub fn outstanding(&self) -> usize {
        self.pending_once + self.received_here
    }

    /// What the client has published and not released, as its session remembers it.
    pub fn resume(&mut self, received: &[u16]) {
        self.received.extend(received.iter().map(|id| (*id, false)));
    }

    /// Who the client is.
    pub fn user(&self) -> &Text {
        &self.origin.user
    }

    /// Whether a PUBLISH with this identifier waits for its acknowledgement.
    pub fn is_under_way(&self, packet_id: u16) -> bool {
        self.pending
            .iter()
            .any(|pending| pending.packet_id == packet_id)
    }

    /// Takes a PUBLISH, unless there is a reason to refuse it. [`Inbound::acknowledge`] must follow before input is
    /// awaited.
    pub fn handle_publish(
        &mut self,
        mut publish: Publish,
        refusal: Option<&'static str>,
        commands: &mut Vec<Command>,
    ) -> Result<(), Violation> {
        // 3.3.4-6
        if !publish.subscriptions.is_empty() {
            return Err(Violation::protocol("subscription identifier from a client"));
        }
        self.resolve_alias(&mut publish)?;
        let (qos, packet_id) = (publish.qos, publish.packet_id);
        let again = qos == Qos::ExactlyOnce && self.receive(packet_id);
        let token = self.expect_ack(&publish);
        if again {
            self.finish(token, Reason::SUCCESS, None);
        } else if let Some(text) = refusal {
            self.forget(packet_id);
            self.finish(token, Reason::QUOTA_EXCEEDED, Some(text.into()));
        } else if let Some((exchange, topic)) = address(&self.translation.name(&publish.topic)) {
            let message = self.message(publish, exchange, topic);
            commands.push(match token {
                Some(token) if qos == Qos::ExactlyOnce => Command::PublishOnce {
                    token,
                    message,
                    packet_id,
                },
                _ => Command::Publish {
                    token,
                    message,
                    mandatory: false,
                },
            });
        } else {
            self.forget(packet_id);
            self.finish(
                token,
                Reason::NOT_AUTHORIZED,
                Some("topics that begin with $ are the broker's".into()),
            );
        }
        Ok(())
    }

    /// Whether a message of QoS 2 has come before; from now on it has.
    fn receive(&mut self, packet_id: u16) -> bool {
        let before = self.received.insert(packet_id, true);
        self.received_here += usize::from(before != Some(true));
        before.is_some()
    }

    /// The identifier is the client's again; false when it was already.
    fn forget(&mut self, packet_id: u16) -> bool {
        let before = self.received.remove(&packet_id);
        self.received_here -= usize::from(before == Some(true));
        before.is_some()
    }

    /// Answers a PUBLISH whose payload is not what it says; at QoS 0 there is no answer but to end the connection.
    pub fn refuse_format(&mut self, mut publish: Publish) -> Result<(), Violation> {
        self.resolve_alias(&mut publish)?;
        let token = self.expect_ack(&publish);
        if token.is_none() {
            return Err(Violation {
                reason: Reason::PAYLOAD_FORMAT_INVALID,
                text: "payload is not UTF-8",
            });
        }
        self.finish(token, Reason::PAYLOAD_FORMAT_INVALID, None);
        Ok(())
    }

    fn resolve_alias(&mut self, publish: &mut Publish) -> Result<(), Violation> {
        let Some(alias) = publish.alias else {
            return Ok(());
        };
        if alias > self.alias_max {
            return Err(Violation {
                reason: Reason::TOPIC_ALIAS_INVALID,
                text: "topic alias is over the maximum",
            });
        }
        let slot = usize::from(alias) - 1;
        if !publish.topic.is_empty() {
            self.aliases
                .resize(self.aliases.len().max(slot + 1), Text::new());
            // A copy, so that the alias does not hold on to the read buffer.
            self.aliases[slot] = Text::from(&*publish.topic);
            return Ok(());
        }
        match self.aliases.get(slot).filter(|topic| !topic.is_empty()) {
            Some(topic) => publish.topic = topic.clone(),
            None => return Err(Violation::protocol("topic alias is not known")),
        }
        Ok(())
    }

    fn expect_ack(&mut self, publish: &Publish) -> Option<Token> {
        if publish.qos == Qos::AtMostOnce {
            return None;
        }
        let token = Token(self.first + self.pending.len() as u64);
        let (packet_id, qos) = (publish.packet_id, publish.qos);
        self.pending_once += usize::from(qos == Qos::AtLeastOnce);
        self.pending.push_back(Pending {
            packet_id,
            qos,
            done: false,
            reason: Reason::SUCCESS,
            text: None,
        });
        Some(token)
    }

    fn message(&self, publish: Publish, exchange: Text, topic: Topic) -> Arc<Message> {
        let reserved = match self.version {
            Version::V5 => Reserved::of(&publish.block),
            _ => Reserved::default(),
        };
        let expiry_ms = publish.expiry.map(|seconds| u64::from(seconds) * 1000);
        Arc::new(Message {
            exchange,
            topic,
            body: Some(publish.payload),
            key: None,
            timestamp: reserved.timestamp,
            expiry_ms: expiry_ms.or(reserved.expiry_ms),
            persistence: persistence(publish.qos),
            priority: reserved.priority,
            retain: publish.retain,
            native: self.native(publish.block),
            origin: self.origin.clone(),
        })
    }

    fn native(&self, block: Bytes) -> Native {
        match self.version {
            Version::V5 => Native {
                dialect: &Mqtt5,
                block,
            },
            _ => Native {
                dialect: &Mqtt3,
                block,
            },
        }
    }

    /// The message of a will; `None` when its topic is not the client's to publish on. Its parts are copies,
    /// so that a will does not hold on to the read buffer for as long as the connection lasts.
    pub fn will(&self, will: &Will) -> Option<Arc<Message>> {
        let name = Text::from(&*will.topic);
        let (exchange, topic) = address(&self.translation.name(&name))?;
        let publish = Publish {
            payload: Bytes::copy_from_slice(&will.payload),
            qos: will.qos,
            retain: will.retain,
            expiry: will.expiry,
            block: Bytes::copy_from_slice(&will.block),
            ..Publish::default()
        };
        Some(self.message(publish, exchange, topic))
    }

    /// The core has taken a publish.
    pub fn handle_confirmed(&mut self, token: Token, commands: &mut Vec<Command>) {
        let Some(pending) = self.find(token) else {
            return;
        };
        pending.done = true;
        if pending.reason.is_error() {
            self.give_up(token, commands);
        }
    }

    /// A publish is not retained, for want of room; its confirmation is still to come. Version 3 cannot say so.
    pub fn handle_unretained(&mut self, token: Token) {
        if self.version.is_5()
            && let Some(pending) = self.find(token)
        {
            pending.reason = Reason::QUOTA_EXCEEDED;
        }
    }

    /// Nobody was interested; its confirmation is still to come.
    pub fn handle_unrouted(&mut self, token: Token) {
        if let Some(pending) = self.find(token) {
            pending.reason = Reason::NO_MATCHING_SUBSCRIBERS;
        }
    }

    /// The core has refused these publishes. Version 3 cannot say so: what is forbidden is acknowledged and dropped
    /// (3.1.1 section 3.3.5), anything else must end the connection, so that no failure looks like success.
    pub fn handle_refused(
        &mut self,
        tokens: &[Token],
        refusal: &Refusal,
        commands: &mut Vec<Command>,
    ) -> Result<(), Violation> {
        if !self.version.is_5() && !matches!(refusal, Refusal::Denied(_)) {
            return Err(Violation {
                reason: Reason::UNSPECIFIED,
                text: "message could not be stored",
            });
        }
        for token in tokens {
            self.give_up(*token, commands);
            self.finish(
                Some(*token),
                puback_reason(refusal),
                Some(refusal.to_string().into()),
            );
        }
        Ok(())
    }

    /// PUBREC will say that a message of QoS 2 failed, which makes its identifier the client's again. What one
    /// destination refused may have been stored with its identifier by others.
    fn give_up(&mut self, token: Token, commands: &mut Vec<Command>) {
        let once = self
            .find(token)
            .map(|pending| (pending.qos, pending.packet_id));
        if let Some((Qos::ExactlyOnce, packet_id)) = once {
            self.forget(packet_id);
            let token = Token(UNASKED | u64::from(packet_id));
            commands.push(Command::Release { token, packet_id });
        }
    }

    fn finish(&mut self, token: Option<Token>, reason: Reason, text: Option<Text>) {
        let Some(pending) = token.and_then(|token| self.find(token)) else {
            return;
        };
        (pending.done, pending.reason, pending.text) = (true, reason, text);
    }

    fn find(&mut self, token: Token) -> Option<&mut Pending> {
        let index = token.0.checked_sub(self.first)?;
        self.pending.get_mut(index as usize)
    }

    /// Writes the acknowledgements whose turn it is. `explain` says whether a packet of some length may carry a reason string.
    pub fn acknowledge(&mut self, explain: impl Fn(usize) -> bool, out: &mut BytesMut) {
        while self.pending.front().is_some_and(|front| front.done) {
            let Some(front) = self.pending.pop_front() else {
                return;
            };
            self.first += 1;
            self.pending_once -= usize::from(front.qos == Qos::AtLeastOnce);
            let kind = if front.qos == Qos::ExactlyOnce {
                kind::PUBREC
            } else {
                kind::PUBACK
            };
            self.sent += 1;
            let reason_string = front.text.filter(|text| explain(text.len() + ACK_OVERHEAD));
            Ack {
                packet_id: front.packet_id,
                reason: front.reason,
                reason_string,
            }
            .encode(kind, self.version, out);
        }
    }

    /// Takes a PUBREL. It is answered once the client's identifier is free for good: were that forgotten, the next
    /// message under it would be taken for this one.
    pub fn handle_pubrel(
        &mut self,
        packet_id: u16,
        commands: &mut Vec<Command>,
        out: &mut BytesMut,
    ) {
        if self.forget(packet_id) {
            self.completing.push(packet_id);
            let token = Token(RELEASE | u64::from(packet_id));
            commands.push(Command::Release { token, packet_id });
        } else if !self.completing.contains(&packet_id) {
            self.sent += 1;
            let answer = Ack::new(packet_id, Reason::PACKET_ID_NOT_FOUND);
            answer.encode(kind::PUBCOMP, self.version, out);
        }
    }

    /// A release is durable.
    pub fn handle_released(&mut self, token: Token, out: &mut BytesMut) {
        let Ok(packet_id) = u16::try_from(token.0 & !RELEASE) else {
            return;
        };
        self.completing.retain(|id| *id != packet_id);
        self.sent += 1;
        Ack::new(packet_id, Reason::SUCCESS).encode(kind::PUBCOMP, self.version, out);
    }
}

/// What an acknowledgement takes besides its reason string, at most.
const ACK_OVERHEAD: usize = 16;

/// Where a topic leads; `None` for the broker's own topics, which begin with `$` (4.7.2).
fn address(name: &Text) -> Option<(Text, Topic)> {
    if let Some(queue) = name.strip_prefix(QUEUE_TOPIC) {
        // The response topic of a request that came from a queue's user.
        return Some((Text::new(), Topic::new(Text::from(queue), Grammar::Dots)));
    }
    (!name.starts_with('$')).then(|| (topic_exchange(), Topic::new(name.clone(), Grammar::Slashes)))
}

fn persistence(qos: Qos) -> Persistence {
    match qos {
        Qos::AtMostOnce => Persistence::Transient,
        Qos::AtLeastOnce => Persistence::Persistent,
        Qos::ExactlyOnce => Persistence::ExactlyOnce,
    }
}

/// What a PUBACK says about a refusal (DESIGN section 3.5).
fn puback_reason(refusal: &Refusal) -> Reason {
    match refusal {
        Refusal::Denied(_)
        | Refusal::NotAllowed(_)
        | Refusal::LoginRefused
        | Refusal::Locked { .. }
        | Refusal::NoGet { .. }
        | Refusal::ExclusiveUse { .. } => Reason::NOT_AUTHORIZED,
        Refusal::TooLarge { .. }
        | Refusal::Full { .. }
        | Refusal::Quota(_)
        | Refusal::StorageFailed(_) => Reason::QUOTA_EXCEEDED,
        Refusal::Invalid(_)
        | Refusal::Records(_)
        | Refusal::Batch(_)
        | Refusal::NotImplemented(_)
        | Refusal::Corrupt(_) => Reason::IMPLEMENTATION_SPECIFIC,
        Refusal::NotFound { .. }
        | Refusal::Replaced { .. }
        | Refusal::Exists { .. }
        | Refusal::Inequivalent { .. }
        | Refusal::InUse { .. }
        | Refusal::NotEmpty { .. }
        | Refusal::NoVhost(_)
        | Refusal::OffsetOutOfRange(_)
        | Refusal::OutOfOrderSequence
        | Refusal::ProducerFenced
        | Refusal::Transaction(_)
        | Refusal::Stopping => Reason::UNSPECIFIED,
    }
}
