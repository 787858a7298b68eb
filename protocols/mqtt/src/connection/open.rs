//! A connection after CONNACK: packets and answers, and what they lead to.

use std::sync::Arc;

use trivium_core::{Command, Message, Now, Refusal, Reply, Text, Token};
use trivium_protocol::{CloseReason, Effects};

use super::{handshake, inbound::Inbound, outbound::Outbound, subscriptions::Subscriptions};
use crate::packet::{
    Ack, Disconnect, Packet, Publish, Qos, Reason, Version, Violation, kind, wire::Reader,
};

/// A connection after CONNACK.
pub struct Open {
    pub(super) version: Version,
    pub(super) client_id: Text,
    /// Seconds.
    pub(super) session_expiry: u32,
    /// Seconds; 0 is off.
    pub(super) keep_alive: u16,
    /// Whether any packet may carry a reason string.
    pub(super) problem_information: bool,
    /// PUBLISH packets of QoS 1 and 2 that we take at once.
    pub(super) receive_maximum: u16,
    /// Published unless the client says goodbye.
    pub(super) will: Option<Arc<Message>>,
    pub(super) inbound: Inbound,
    pub(super) outbound: Outbound,
    pub(super) subscriptions: Subscriptions,
}

/// What a packet leads to.
pub enum Next {
    /// The next packet.
    Go,
    /// The client has said goodbye.
    Close,
}

impl Open {
    /// Takes one packet. [`Open::finish_turn`] must follow before input is awaited.
    pub(super) fn handle_packet(
        &mut self,
        now: Now,
        first: u8,
        mut reader: Reader<'_>,
        previous: &mut Text,
        effects: &mut Effects,
    ) -> Result<Next, Violation> {
        if first >> 4 == kind::PUBLISH {
            let publish = Publish::decode(first, &mut reader, self.version, previous)?;
            self.handle_publish(publish, effects)?;
            return Ok(Next::Go);
        }
        let Effects { output, commands } = effects;
        match Packet::decode(first, reader, self.version, previous)? {
            Packet::PubAck(Ack { packet_id, .. }) => {
                self.outbound.handle_ack(now, packet_id, output, commands)
            }
            Packet::PubRel(Ack { packet_id, .. }) => {
                self.inbound.handle_pubrel(packet_id, output.buffer())
            }
            // Nothing is sent at QoS 2, so any PUBREC is a stranger's.
            Packet::PubRec(ack) if !ack.reason.is_error() => {
                let answer = Ack::new(ack.packet_id, Reason::PACKET_ID_NOT_FOUND);
                answer.encode(kind::PUBREL, self.version, output.buffer());
            }
            Packet::PubRec(_) | Packet::PubComp(_) => {}
            Packet::Subscribe(subscribe) => {
                self.subscriptions
                    .handle_subscribe(subscribe, commands, output.buffer())?
            }
            Packet::Unsubscribe(unsubscribe) => {
                self.subscriptions
                    .handle_unsubscribe(unsubscribe, commands, output.buffer())
            }
            Packet::PingReq => Packet::PingResp.encode(self.version, output.buffer()),
            Packet::Disconnect(disconnect) => return self.handle_disconnect(&disconnect, effects),
            Packet::Connect(_) => return Err(Violation::protocol("second CONNECT")),
            Packet::Auth(_) => {
                return Err(Violation::protocol("AUTH without an authentication method"));
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

    fn handle_publish(&mut self, publish: Publish, effects: &mut Effects) -> Result<(), Violation> {
        if self.version.is_5() {
            // 3.2.2-11: the identifier of a QoS 2 message does not outlive the connection yet.
            if publish.qos == Qos::ExactlyOnce {
                return Err(Violation {
                    reason: Reason::QOS_NOT_SUPPORTED,
                    text: "QoS 2 over the maximum QoS",
                });
            }
            // 3.3.4-8
            if publish.qos > Qos::AtMostOnce
                && self.inbound.pending() >= self.receive_maximum.into()
            {
                return Err(Violation {
                    reason: Reason::RECEIVE_MAXIMUM_EXCEEDED,
                    text: "receive maximum exceeded",
                });
            }
        }
        self.inbound.handle_publish(publish, &mut effects.commands)
    }

    /// Takes the core's answer to a command.
    pub(super) fn handle_done(
        &mut self,
        now: Now,
        token: Token,
        result: Result<Reply, Refusal>,
        effects: &mut Effects,
    ) -> Result<(), CloseReason> {
        if token == handshake::CONSUME {
            return result
                .map(drop)
                .map_err(|refusal| CloseReason::Protocol(refusal.to_string()));
        }
        let Effects { output, commands } = effects;
        let Some(options) = self.subscriptions.take_retained(token) else {
            self.subscriptions
                .handle_done(token, &result, commands, output.buffer());
            return Ok(());
        };
        if let Ok(Reply::Retained(messages)) = result {
            for retained in messages {
                self.outbound
                    .send_retained(now, retained, options, output, commands);
            }
        }
        Ok(())
    }

    /// The client says goodbye (3.14): its will is dropped, unless it asks for it.
    fn handle_disconnect(
        &mut self,
        disconnect: &Disconnect,
        effects: &mut Effects,
    ) -> Result<Next, Violation> {
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
                .push(handshake::declare(&self.client_id, expiry));
        }
        self.finish_turn(effects);
        if disconnect.reason == Reason::SUCCESS {
            self.will = None;
        }
        self.publish_will(effects);
        Ok(Next::Close)
    }

    /// Acknowledges and settles what the turn brought.
    pub(super) fn finish_turn(&mut self, effects: &mut Effects) {
        let packet_max = self.outbound.packet_max();
        let explain = |length: usize| self.problem_information && length <= packet_max;
        self.inbound.acknowledge(explain, effects.output.buffer());
        self.outbound.flush(&mut effects.commands);
    }

    /// Publishes the will, once.
    pub(super) fn publish_will(&mut self, effects: &mut Effects) {
        if let Some(message) = self.will.take() {
            effects.commands.push(Command::Publish {
                token: None,
                message,
                mandatory: false,
            });
        }
    }

    /// Version 3 knows no receive maximum: its publishers wait in their sockets.
    pub(super) fn wants_input(&self) -> bool {
        let within = self.version.is_5() || self.inbound.pending() < self.receive_maximum.into();
        within && !self.subscriptions.is_pending()
    }
}
