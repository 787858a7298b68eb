//! A connection after CONNACK: packets and answers, and what they lead to.

use bytes::{BufMut, BytesMut};
use trivium_core::{Command, Now, Refusal, Reply, Text, Token};
use trivium_protocol::{CloseReason, Effects};

use super::{
    auth::Login,
    breach::{Breaches, Rule},
    handshake,
    inbound::{Inbound, RELEASE},
    outbound::{Outbound, RECEIVED},
    shares::{Client, Shares},
    subscriptions::Subscriptions,
};
use crate::{
    counters::{Passed, Tally},
    options::Options,
    packet::{
        Ack, Disconnect, Packet, Publish, Qos, Reason, Subscribe, Version, Violation, kind,
        property, wire::Reader,
    },
    topic,
};

/// A connection after CONNACK.
pub struct Open {
    pub(super) version: Version,
    pub(super) client_id: Text,
    /// Whether it is another broker, which wants back nothing of what it publishes.
    pub(super) bridge: bool,
    /// How it was authenticated, if by enhanced authentication.
    pub(super) login: Option<Box<Login>>,
    pub(super) breaches: Breaches,
    /// Seconds.
    pub(super) session_expiry: u32,
    /// Seconds; 0 is off.
    pub(super) keep_alive: u16,
    /// Whether any packet may carry a reason string.
    pub(super) problem_information: bool,
    /// PUBLISH packets of QoS 1 and 2 that we take at once.
    pub(super) receive_maximum: u16,
    pub(super) inbound: Inbound,
    pub(super) outbound: Outbound,
    pub(super) shares: Shares,
    pub(super) subscriptions: Subscriptions,
    pub(super) tally: Tally,
    pub(super) shortage: Shortage,
}

/// Whether the broker has room for messages. While it has none, what can be refused with a reason is (DESIGN section
/// 3.5), and who could not be told waits in its socket from its next PUBLISH on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shortage {
    #[default]
    Over,
    On,
    /// This client has published since, and is not read.
    HoldsBack,
}

/// What a packet leads to.
pub enum Next {
    /// The next packet.
    Go,
    /// The client has said goodbye.
    Close,
}

impl Open {
    /// Counts a packet by the first byte of its header. The payload of a PUBLISH is counted when it is decoded.
    pub(super) fn count_received(&mut self, first: u8) {
        let received = &mut self.tally.received;
        match first >> 4 {
            kind::PUBLISH => received.publishes += 1,
            _ => received.others += 1,
        }
    }

    /// Takes one packet. [`Open::finish_turn`] must follow before input is awaited.
    pub(super) fn handle_packet(
        &mut self,
        now: Now,
        first: u8,
        mut reader: Reader<'_>,
        previous: &mut Text,
        options: &Options,
        effects: &mut Effects,
    ) -> Result<Next, Violation> {
        if first >> 4 == kind::PUBLISH {
            let publish = Publish::decode(first, &mut reader, self.version, previous)?;
            self.tally.received.payload += publish.payload.len() as u64;
            self.handle_publish(publish, options, effects)?;
            return Ok(Next::Go);
        }
        let first = self.without_old_dup(first, options)?;
        let Effects { output, commands } = effects;
        match Packet::decode(first, reader, self.version, previous)? {
            Packet::PubAck(Ack { packet_id, .. }) => self
                .outbound
                .handle_puback(now, packet_id, output, commands)?,
            Packet::PubRel(Ack { packet_id, .. }) => {
                self.inbound
                    .handle_pubrel(packet_id, commands, output.buffer())
            }
            Packet::PubRec(ack) => self.outbound.handle_pubrec(now, &ack, output, commands),
            Packet::PubComp(Ack { packet_id, .. }) => self
                .outbound
                .handle_pubcomp(now, packet_id, output, commands),
            Packet::Subscribe(subscribe) => {
                let subscribe = self.for_bridge(subscribe);
                self.check_answer_fits(subscribe.filters.len())?;
                let client = Client {
                    id: &self.client_id,
                    lasts: self.session_expiry > 0,
                    now,
                };
                let (shares, out) = (&mut self.shares, output.buffer());
                self.subscriptions
                    .handle_subscribe(subscribe, client, shares, commands, out)?
            }
            Packet::Unsubscribe(unsubscribe) => {
                self.check_answer_fits(unsubscribe.filters.len())?;
                let (shares, out) = (&mut self.shares, output.buffer());
                self.subscriptions
                    .handle_unsubscribe(unsubscribe, shares, commands, out)
            }
            Packet::PingReq => {
                self.tally.sent.others += 1;
                Packet::PingResp.encode(self.version, output.buffer());
            }
            Packet::Disconnect(disconnect) => {
                return self.handle_disconnect(&disconnect, options, effects);
            }
            Packet::Connect(_) => return Err(Violation::protocol("second CONNECT")),
            Packet::Auth(auth) => {
                let Some(login) = &mut self.login else {
                    return Err(Violation::protocol("AUTH without an authentication method"));
                };
                let user = self.inbound.user().clone();
                let proof = login.awaits_proof;
                let packet_max = self.outbound.packet_max();
                login.again(&auth, &user, now, options, packet_max, effects)?;
                self.tally.sent.others += u32::from(proof);
            }
            Packet::Publish(_)
            | Packet::ConnAck(_)
            | Packet::SubAck(_)
            | Packet::UnsubAck(_)
            | Packet::PingResp => {
                return Err(Violation::protocol("packet is the server's to send"));
            }
        }
        Ok(Next::Go)
    }

    /// DUP on packets that had it in 3.1, and of devices that have not noticed since (2.2.2-1 of 3.1.1).
    fn without_old_dup(&mut self, first: u8, options: &Options) -> Result<u8, Violation> {
        const DUP: u8 = 0b1000;
        let had_it = matches!(
            first >> 4,
            kind::SUBSCRIBE | kind::UNSUBSCRIBE | kind::PUBREL
        );
        if self.version != Version::V311 || !had_it || first & 0b1111 != DUP | 0b0010 {
            return Ok(first);
        }
        let violation = Violation::malformed("DUP on a packet that is not PUBLISH");
        let then = options.strict.resend;
        self.breaches
            .note(Rule::Resend, then, &self.client_id, violation)?;
        Ok(first & !DUP)
    }

    fn for_bridge(&self, mut subscribe: Subscribe) -> Subscribe {
        if self.bridge {
            for filter in &mut subscribe.filters {
                filter.no_local = !topic::is_shared(&filter.filter);
                filter.retain_as_published = true;
            }
        }
        subscribe
    }

    /// SUBACK and UNSUBACK have nothing that could be left out of them (3.1.2-24).
    fn check_answer_fits(&self, reasons: usize) -> Result<(), Violation> {
        const REST: usize = 8;
        if reasons + REST > self.outbound.packet_max() {
            return Err(Violation {
                reason: Reason::PACKET_TOO_LARGE,
                text: "the answer is over the client's maximum packet size",
            });
        }
        Ok(())
    }

    /// Tells a version 5 client why; what is for people is left out when it does not fit (3.14.2-3).
    pub(super) fn say_goodbye(&mut self, mut disconnect: Disconnect, out: &mut BytesMut) {
        if !self.version.is_5() {
            return;
        }
        let mut packet = BytesMut::new();
        Packet::Disconnect(disconnect.clone()).encode(self.version, &mut packet);
        if packet.len() > self.outbound.packet_max() {
            packet.clear();
            disconnect.reason_string = None;
            Packet::Disconnect(disconnect).encode(self.version, &mut packet);
        }
        if packet.len() <= self.outbound.packet_max() {
            self.tally.sent.others += 1;
            out.put_slice(&packet);
        }
    }

    fn handle_publish(
        &mut self,
        publish: Publish,
        options: &Options,
        effects: &mut Effects,
    ) -> Result<(), Violation> {
        if self.version.is_5() {
            // 3.3.4-9
            if publish.qos > Qos::AtMostOnce
                && self.inbound.outstanding() >= self.receive_maximum.into()
            {
                let violation = Violation {
                    reason: Reason::RECEIVE_MAXIMUM_EXCEEDED,
                    text: "receive maximum exceeded",
                };
                let then = options.strict.receive_maximum;
                self.breaches
                    .note(Rule::ReceiveMaximum, then, &self.client_id, violation)?;
            }
            // 4.4.0-1
            if publish.dup && self.inbound.is_under_way(publish.packet_id) {
                let violation = Violation::protocol("PUBLISH sent again on a live connection");
                let then = options.strict.resend;
                self.breaches
                    .note(Rule::Resend, then, &self.client_id, violation)?;
            }
            if options.validate_payload_format && !is_as_it_says(&publish) {
                return self.inbound.refuse_format(publish);
            }
        }
        let mut refusal = None;
        if self.shortage != Shortage::Over {
            if self.version.is_5() && publish.qos > Qos::AtMostOnce {
                refusal = Some("the broker is low on disk or memory");
            } else {
                self.shortage = Shortage::HoldsBack;
            }
        }
        self.inbound
            .handle_publish(publish, refusal, &mut effects.commands)
    }

    /// The broker has no room for messages, or has it again.
    pub(super) fn set_shortage(&mut self, on: bool) {
        self.shortage = match (on, self.shortage) {
            (true, Shortage::Over) => Shortage::On,
            (true, shortage) => shortage,
            (false, _) => Shortage::Over,
        };
    }

    /// Takes the core's answer to a command.
    pub(super) fn handle_done(
        &mut self,
        now: Now,
        token: Token,
        result: Result<Reply, Refusal>,
        effects: &mut Effects,
    ) -> Result<(), CloseReason> {
        if let (Ok(Reply::Scram(keys)), Some(login)) = (&result, &mut self.login) {
            let packet_max = self.outbound.packet_max();
            login
                .challenge(keys.clone(), packet_max, effects.output.buffer())
                .map_err(|violation| CloseReason::Protocol(violation.to_string()))?;
            self.tally.sent.others += 1;
            return Ok(());
        }
        let Effects { output, commands } = effects;
        if let Ok(Reply::Shares(groups)) = result {
            let token = || self.subscriptions.take_token();
            let client = Client {
                id: &self.client_id,
                lasts: self.session_expiry > 0,
                now,
            };
            self.shares.follow(client, groups, token, commands);
            return Ok(());
        }
        let Some(options) = self.subscriptions.take_retained(token) else {
            let (shares, out) = (&mut self.shares, output.buffer());
            self.subscriptions
                .handle_done(token, &result, shares, commands, out);
            return Ok(());
        };
        match result {
            Ok(Reply::Retained(found)) => {
                let more = self.outbound.replay(now, found, options, token, commands);
                self.subscriptions
                    .retained
                    .extend(more.then_some((token, options)));
            }
            Ok(Reply::Replayed(found)) => {
                self.outbound.send_retained(now, found, options, output);
            }
            _ => {}
        }
        Ok(())
    }

    /// The client says goodbye (3.14): its will is dropped, unless it asks for it.
    fn handle_disconnect(
        &mut self,
        disconnect: &Disconnect,
        options: &Options,
        effects: &mut Effects,
    ) -> Result<Next, Violation> {
        if !is_clients(disconnect.reason) {
            return Err(Violation::protocol(
                "DISCONNECT with a reason of the server's",
            ));
        }
        if let Some(expiry) = disconnect
            .session_expiry
            .filter(|expiry| *expiry != self.session_expiry)
        {
            // 3.14.2.2.2
            if self.session_expiry == 0 {
                return Err(Violation::protocol(
                    "session expiry changed from 0 at DISCONNECT",
                ));
            }
            effects
                .commands
                .push(handshake::declare(&self.client_id, false, expiry, options));
        }
        self.finish_turn(effects);
        // 3.14.4-3
        let publish_will = disconnect.reason != Reason::SUCCESS;
        effects.commands.push(Command::Detach { publish_will });
        Ok(Next::Close)
    }

    /// Acknowledges and settles what the turn brought.
    pub(super) fn finish_turn(&mut self, effects: &mut Effects) {
        let packet_max = self.outbound.packet_max();
        let explain = |length: usize| self.problem_information && length <= packet_max;
        self.inbound.acknowledge(explain, effects.output.buffer());
        self.outbound.flush(&mut effects.commands);
        self.tally.sent.others += std::mem::take(&mut self.inbound.sent);
        self.outbound.converted.fold();
        let Passed {
            others,
            publishes,
            payload,
        } = std::mem::take(&mut self.outbound.sent);
        let sent = &mut self.tally.sent;
        sent.others += others + self.subscriptions.take_sent();
        sent.publishes += publishes;
        sent.payload += payload;
    }

    /// The core is done with these publishes and steps of handshakes.
    pub(super) fn handle_confirmed(&mut self, tokens: &[Token], effects: &mut Effects) {
        let Effects { output, commands } = effects;
        let out = output.buffer();
        for &token in tokens {
            match token.0 {
                RECEIVED.. => self.outbound.handle_received(token, out),
                RELEASE.. => self.inbound.handle_released(token, out),
                _ => self.inbound.handle_confirmed(token, commands),
            }
        }
    }

    /// The core has refused these. A step of a handshake that could not be stored ends the connection.
    pub(super) fn handle_refused(
        &mut self,
        tokens: &[Token],
        refusal: &Refusal,
        commands: &mut Vec<Command>,
    ) -> Result<(), Violation> {
        if tokens.iter().any(|token| token.0 >= RELEASE) {
            return Err(Violation {
                reason: Reason::UNSPECIFIED,
                text: "acknowledgement could not be stored",
            });
        }
        self.inbound.handle_refused(tokens, refusal, commands)
    }

    /// The connection is lost or closed from this side: the will is the session's to publish (3.1.2-8).
    pub(super) fn detach(&mut self, effects: &mut Effects) {
        let publish_will = true;
        effects.commands.push(Command::Detach { publish_will });
    }

    /// Version 3 knows no receive maximum: its publishers wait in their sockets, and so do those of version 5
    /// who do not keep to it.
    pub(super) fn wants_input(&self) -> bool {
        let within = self.inbound.pending() < self.receive_maximum.into();
        (within || self.keeps_to_maximum())
            && !self.subscriptions.is_pending()
            && self.shortage != Shortage::HoldsBack
    }

    fn keeps_to_maximum(&self) -> bool {
        self.version.is_5() && !self.breaches.any(Rule::ReceiveMaximum)
    }
}

/// Whether the payload is UTF-8 where the client says that it is (3.3.2.3.2).
pub fn is_as_it_says(publish: &Publish) -> bool {
    !property::says_utf8(&publish.block) || std::str::from_utf8(&publish.payload).is_ok()
}

/// The reasons that a client may give (3.14.2.1).
fn is_clients(reason: Reason) -> bool {
    matches!(reason.0, 0x00 | 0x04 | 0x80..=0x83 | 0x90 | 0x93..=0x99)
}
