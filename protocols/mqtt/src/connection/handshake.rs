//! From CONNECT to CONNACK: who the client is, and its session.
//!
//! ```text
//! CONNECT ──► Authenticate ──► [DeleteQueue] DeclareQueue Consume ──► CONNACK
//! ```

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use trivium_core::{
    Change, Command, ConsumeSpec, Credentials, Origin, QueueSpec, Refusal, Reply, Text, Token,
};
use trivium_protocol::{CloseReason, Effects};

use super::{
    Connection, Phase,
    inbound::{Inbound, TOPIC_ALIAS_MAXIMUM},
    open::Open,
    outbound::{CONSUMER, Outbound},
    subscriptions::Subscriptions,
};
use crate::packet::{
    ConnAck, Connect, Level, Packet, Qos, Reason, Version, Violation,
    wire::{Reader, VARINT_MAX},
};

const AUTHENTICATE: Token = Token(1);
const DELETE: Token = Token(2);
const DECLARE: Token = Token(3);
/// The answer may come after CONNACK.
pub const CONSUME: Token = Token(4);
/// The first token of subscriptions.
const SUBSCRIPTIONS: Token = Token(5);

/// A CONNECT that the core is at work on.
pub struct Opening {
    connect: Connect,
    /// Whether the client identifier is of our choice.
    assigned: bool,
    /// Whether the client gave neither user nor password.
    anonymous: bool,
    /// Set once the user is known.
    inbound: Option<Inbound>,
}

impl Connection {
    pub(super) fn handle_connect(
        &mut self,
        first: u8,
        reader: Reader<'_>,
        effects: &mut Effects,
    ) -> Result<(), CloseReason> {
        let version = match Level::read(&mut reader.clone()) {
            Ok(Level::Spoken(version)) => version,
            Ok(Level::Other(level)) => return self.refuse_level(level, effects),
            Ok(Level::Foreign) | Err(_) => return Err(CloseReason::Protocol("not MQTT".into())),
        };
        let checked =
            Packet::decode(first, reader, version, &mut Text::new()).and_then(
                |packet| match packet {
                    Packet::Connect(connect) => Ok(connect),
                    _ => Err(Violation::protocol("first packet is not CONNECT")),
                },
            );
        match checked {
            Ok(connect) => self.open(*connect, effects),
            // 3.1.4-1: version 5 may be told why.
            Err(violation) if version.is_5() => self.refuse(version, violation.reason, effects),
            Err(violation) => return Err(CloseReason::Protocol(violation.to_string())),
        }
        Ok(())
    }

    /// 3.1.2-2 of 3.1.1 wants return code 1, which bridges understand that set the high bit of the level;
    /// a later version than ours can read the form of version 5.
    fn refuse_level(&mut self, level: u8, effects: &mut Effects) -> Result<(), CloseReason> {
        let version = if (6..0x80).contains(&level) {
            Version::V5
        } else {
            Version::V311
        };
        self.refuse(version, Reason::UNSUPPORTED_VERSION, effects);
        Ok(())
    }

    fn refuse(&mut self, version: Version, reason: Reason, effects: &mut Effects) {
        Packet::ConnAck(ConnAck {
            reason,
            ..ConnAck::default()
        })
        .encode(version, effects.output.buffer());
        self.phase = Phase::Closed;
    }

    fn open(&mut self, mut connect: Connect, effects: &mut Effects) {
        if let Some(reason) = unacceptable(&connect) {
            return self.refuse(connect.version, reason, effects);
        }
        let assigned = connect.client_id.is_empty();
        // A copy, so that the session does not hold on to the read buffer.
        connect.client_id = if assigned {
            self.shared.assign_client_id()
        } else {
            Text::from(&*connect.client_id)
        };
        let credentials = credentials(&mut connect, self.peer.is_loopback());
        let anonymous = matches!(credentials, Credentials::Anonymous { .. });
        effects.commands.push(Command::Authenticate {
            token: AUTHENTICATE,
            credentials,
        });
        self.phase = Phase::Opening(Box::new(Opening {
            connect,
            assigned,
            anonymous,
            inbound: None,
        }));
    }

    /// Takes one of the core's answers on the way.
    pub(super) fn handle_opening(
        &mut self,
        token: Token,
        result: Result<Reply, Refusal>,
        effects: &mut Effects,
    ) {
        let Phase::Opening(opening) = &mut self.phase else {
            return;
        };
        match (token, result) {
            (_, Err(refusal)) => {
                let (version, reason) = (
                    opening.connect.version,
                    refused(&refusal, opening.anonymous),
                );
                self.refuse(version, reason, effects);
            }
            (AUTHENTICATE, Ok(Reply::Authenticated { user })) => {
                opening.handle_authenticated(user, self.shared.options.inflight_max, effects);
            }
            (DECLARE, Ok(Reply::Queue { created, .. })) => self.handle_declared(!created, effects),
            _ => {}
        }
    }

    fn handle_declared(&mut self, session_present: bool, effects: &mut Effects) {
        let Phase::Opening(opening) = std::mem::replace(&mut self.phase, Phase::Closed) else {
            return;
        };
        let Opening {
            connect,
            assigned,
            inbound: Some(inbound),
            ..
        } = *opening
        else {
            return;
        };
        let options = &self.shared.options;
        let ack = ConnAck {
            session_present,
            receive_maximum: Some(options.receive_maximum),
            maximum_qos: Some(Qos::AtLeastOnce),
            maximum_packet_size: Some(options.maximum_packet_size),
            assigned_client_id: assigned.then(|| connect.client_id.clone()),
            topic_alias_maximum: Some(TOPIC_ALIAS_MAXIMUM),
            shared_available: Some(false),
            ..ConnAck::default()
        };
        Packet::ConnAck(ack).encode(connect.version, effects.output.buffer());
        let packet_max = connect
            .maximum_packet_size
            .map_or(VARINT_MAX + 5, |size| size as usize);
        self.phase = Phase::Open(Box::new(Open {
            version: connect.version,
            session_expiry: connect.session_expiry,
            keep_alive: connect.keep_alive,
            problem_information: connect.request_problem_information,
            receive_maximum: options.receive_maximum,
            will: connect.will.as_ref().and_then(|will| inbound.will(will)),
            inbound,
            outbound: Outbound::new(
                connect.version,
                window(&connect, options.inflight_max),
                packet_max,
            ),
            subscriptions: Subscriptions::new(
                connect.version,
                connect.client_id.clone(),
                SUBSCRIPTIONS,
            ),
            client_id: connect.client_id,
        }));
    }

    /// The broker is going away.
    pub(super) fn shut_down(&mut self, effects: &mut Effects) {
        match &self.phase {
            Phase::Opening(opening) => {
                self.refuse(opening.connect.version, Reason::SERVER_UNAVAILABLE, effects)
            }
            _ => self.close(Reason::SERVER_SHUTTING_DOWN, effects),
        }
    }
}

impl Opening {
    fn handle_authenticated(&mut self, user: Text, inflight_max: u16, effects: &mut Effects) {
        let connect = &mut self.connect;
        let client = connect.client_id.clone();
        let origin = Origin {
            protocol: "mqtt".into(),
            client: client.clone(),
            user,
            vhost: "/".into(),
        };
        self.inbound = Some(Inbound::new(connect.version, Arc::new(origin)));
        if connect.clean_start {
            let change = Change::DeleteQueue {
                name: client.clone(),
                session: true,
                if_unused: false,
                if_empty: false,
            };
            effects.commands.push(Command::Define {
                token: DELETE,
                change,
            });
        }
        effects
            .commands
            .push(declare(&client, connect.session_expiry));
        let prefetch = Some(window(connect, inflight_max).into());
        let spec = ConsumeSpec {
            prefetch,
            takeover: true,
            session: true,
            ..ConsumeSpec::default()
        };
        effects.commands.push(Command::Consume {
            token: CONSUME,
            consumer: CONSUMER,
            queue: client,
            spec,
        });
    }
}

/// Declares a session, or changes how long it outlives its connection.
pub fn declare(client_id: &Text, session_expiry: u32) -> Command {
    let expires = match session_expiry {
        u32::MAX => None,
        seconds => Some(Duration::from_secs(seconds.into())),
    };
    let spec = QueueSpec {
        durable: session_expiry > 0,
        exclusive: false,
        auto_delete: false,
        expires,
        session: true,
        arguments: Vec::new(),
    };
    Command::Define {
        token: DECLARE,
        change: Change::DeclareQueue {
            name: client_id.clone(),
            spec,
        },
    }
}

/// Why a well formed CONNECT is refused without asking the core.
fn unacceptable(connect: &Connect) -> Option<Reason> {
    // 3.1.3-8 of 3.1.1: only a clean session may be without a name; 3.1 always names its client.
    let nameless = match connect.version {
        Version::V5 => false,
        Version::V311 => connect.client_id.is_empty() && !connect.clean_start,
        Version::V31 => connect.client_id.is_empty(),
    };
    // 3.2.2-12
    let will_too_sure = connect
        .will
        .as_ref()
        .is_some_and(|will| will.qos > Qos::AtLeastOnce);
    if nameless {
        Some(Reason::CLIENT_ID_NOT_VALID)
    } else if connect.authentication_method.is_some() {
        Some(Reason::BAD_AUTHENTICATION_METHOD)
    } else if will_too_sure && connect.version.is_5() {
        Some(Reason::QOS_NOT_SUPPORTED)
    } else {
        None
    }
}

fn credentials(connect: &mut Connect, loopback: bool) -> Credentials {
    match (connect.user.take(), connect.password.take()) {
        (None, None) => Credentials::Anonymous { loopback },
        (user, password) => Credentials::Password {
            user: user.map_or_else(Text::new, |user| Text::from(&*user)),
            password: password
                .map_or_else(Bytes::new, |password| Bytes::copy_from_slice(&password)),
            loopback,
        },
    }
}

/// Unacknowledged messages that may be under way to the client.
fn window(connect: &Connect, inflight_max: u16) -> u16 {
    connect.receive_maximum.min(inflight_max)
}

fn refused(refusal: &Refusal, anonymous: bool) -> Reason {
    match refusal {
        Refusal::LoginRefused if !anonymous => Reason::BAD_USER_OR_PASSWORD,
        Refusal::LoginRefused
        | Refusal::Denied(_)
        | Refusal::Locked { .. }
        | Refusal::NoVhost(_) => Reason::NOT_AUTHORIZED,
        _ => Reason::SERVER_UNAVAILABLE,
    }
}
