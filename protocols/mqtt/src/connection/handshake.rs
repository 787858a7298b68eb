//! From CONNECT to CONNACK: who the client is, and its session.
//!
//! ```text
//! CONNECT ──► Authenticate ──► DeclareSession Attach ──► CONNACK, PUBREL …, PUBLISH …
//! ```

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{BufMut, Bytes, BytesMut};
use tracing::info;
use trivium_core::{
    Change, Command, ConversionTally, Credentials, Delivery, Now, Origin, QueueSpec, Refusal,
    Reply, Text, Token, Value, Will as SessionWill,
};
use trivium_protocol::{CloseReason, Effects};

use super::{
    Connection, Phase,
    auth::Login,
    breach::Breaches,
    inbound::Inbound,
    open::{Open, Shortage},
    outbound::{CONSUMER, Outbound},
    shares::Shares,
    subscriptions::Subscriptions,
};
use crate::{
    counters::Tally,
    options::{OnBreach, Options},
    packet::{
        ConnAck, Connect, Disconnect, Level, Packet, Reason, Version, Violation, property,
        wire::{FIELD_MAX, Reader, VARINT_MAX},
    },
};

pub const AUTHENTICATE: Token = Token(1);
pub const FIND_SCRAM: Token = Token(2);
const DECLARE: Token = Token(3);
const ATTACH: Token = Token(4);
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
    /// Until when nothing is done about it, because the session changes hands too often.
    held: Option<Instant>,
    /// Whether the session was there before.
    present: bool,
    /// A login by enhanced authentication.
    pub(super) login: Option<Login>,
    /// What came before CONNACK could be sent.
    pub(super) early: Vec<Delivery>,
}

impl Connection {
    pub(super) fn handle_connect(
        &mut self,
        now: Now,
        first: u8,
        reader: Reader<'_>,
        effects: &mut Effects,
    ) -> Result<(), CloseReason> {
        let version = match Level::read(&mut reader.clone()) {
            Ok(Level::Spoken(version)) => version,
            Ok(Level::Bridge(version)) if self.shared.options.strict.bridge == OnBreach::Log => {
                version
            }
            // Bridges understand it, and try again without the bit.
            Ok(Level::Bridge(_)) => return self.refuse_level(0x80, effects),
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
            Ok(connect) => {
                self.shared.counters.connect();
                self.open(now, *connect, effects);
            }
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

    pub(super) fn refuse(&mut self, version: Version, reason: Reason, effects: &mut Effects) {
        let mut ack = ConnAck {
            reason,
            ..ConnAck::default()
        };
        if matches!(reason, Reason::USE_ANOTHER_SERVER | Reason::SERVER_MOVED) {
            ack.server_reference = Some(self.shared.options.server_reference.clone());
        }
        self.shared.counters.early(0, 1);
        Packet::ConnAck(ack).encode(version, effects.output.buffer());
        self.phase = Phase::Closed;
    }

    fn open(&mut self, now: Now, mut connect: Connect, effects: &mut Effects) {
        if let Some(reason) = unacceptable(&connect, &self.shared.options) {
            return self.refuse(connect.version, reason, effects);
        }
        let assigned = connect.client_id.is_empty();
        // A copy, so that the session does not hold on to the read buffer.
        connect.client_id = if assigned {
            self.shared.assign_client_id()
        } else {
            Text::from(&*connect.client_id)
        };
        let held = self.shared.takeovers.wait(&connect.client_id, now.instant);
        if held.is_some() {
            info!(client = %connect.client_id, "several connections of one client identifier: CONNACK is delayed");
        }
        let opening = Box::new(Opening {
            connect,
            assigned,
            anonymous: false,
            inbound: None,
            held,
            present: false,
            login: None,
            early: Vec::new(),
        });
        self.phase = Phase::Opening(opening);
        if held.is_none() {
            self.authenticate(now, effects);
        }
    }

    /// The client has waited for long enough.
    pub(super) fn release(&mut self, now: Now, effects: &mut Effects) {
        if let Phase::Opening(opening) = &mut self.phase
            && opening.held.take().is_some()
        {
            self.authenticate(now, effects);
        }
    }

    fn authenticate(&mut self, now: Now, effects: &mut Effects) {
        let Phase::Opening(opening) = &mut self.phase else {
            return;
        };
        let loopback = self.loopback;
        let begun = opening.authenticate(loopback, now, &self.shared.options, effects);
        if let Err(violation) = begun {
            let version = opening.connect.version;
            self.refuse(version, violation.reason, effects);
        }
    }

    /// Takes one of the core's answers on the way.
    pub(super) fn handle_opening(
        &mut self,
        now: Now,
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
            (AUTHENTICATE, Ok(Reply::Authenticated { user, .. })) => {
                opening.handle_authenticated(user, &self.shared.options, effects);
            }
            (FIND_SCRAM, Ok(Reply::Scram(keys))) => {
                let packet_max = packet_max(&opening.connect);
                if let Some(login) = &mut opening.login {
                    let out = effects.output.buffer();
                    match login.challenge(keys, packet_max, out) {
                        Ok(()) => self.shared.counters.early(0, 1),
                        Err(violation) => self.refuse(Version::V5, violation.reason, effects),
                    }
                }
            }
            (DECLARE, Ok(Reply::Queue { created, .. })) => opening.present = !created,
            (
                ATTACH,
                Ok(Reply::Session {
                    received,
                    releasing,
                }),
            ) => self.handle_attached(now, &received, &releasing, effects),
            _ => {}
        }
    }

    fn handle_attached(
        &mut self,
        now: Now,
        received: &[u16],
        releasing: &[u16],
        effects: &mut Effects,
    ) {
        let Phase::Opening(opening) = std::mem::replace(&mut self.phase, Phase::Closed) else {
            return;
        };
        let Opening {
            connect,
            assigned,
            inbound: Some(mut inbound),
            present: session_present,
            mut login,
            early,
            ..
        } = *opening
        else {
            return;
        };
        let options = &self.shared.options;
        let server_keep_alive = server_keep_alive(&connect, options);
        let ack = ConnAck {
            session_present,
            receive_maximum: Some(options.receive_maximum),
            maximum_packet_size: Some(options.maximum_packet_size),
            assigned_client_id: assigned.then(|| connect.client_id.clone()),
            topic_alias_maximum: Some(options.topic_alias_maximum),
            server_keep_alive,
            response_information: response_information(&connect, options),
            authentication_method: login.as_ref().map(|login| login.method().clone()),
            authentication_data: login.as_mut().and_then(|login| login.last.take()),
            ..ConnAck::default()
        };
        let packet_max = packet_max(&connect);
        if !acknowledge(ack, connect.version, packet_max, effects.output.buffer()) {
            return;
        }
        inbound.resume(received);
        let window = window(&connect, options.inflight_max);
        let mut outbound = Outbound::new(
            connect.version,
            window,
            packet_max,
            connect.topic_alias_maximum.min(options.topic_aliases_sent),
            options.translation,
            ConversionTally::new(&self.shared.conversions),
        );
        let Effects { output, commands } = effects;
        outbound.resume(releasing, output);
        for delivery in early {
            outbound.deliver(now, CONSUMER, delivery, None, output, commands);
        }
        let mut subscriptions = Subscriptions::new(
            connect.version,
            connect.client_id.clone(),
            options.translation,
            SUBSCRIPTIONS,
        );
        if session_present {
            let token = subscriptions.take_token();
            commands.push(Command::Shares { token });
        }
        let shortage = match self.is_short {
            true => Shortage::On,
            false => Shortage::Over,
        };
        self.phase = Phase::Open(Box::new(Open {
            shortage,
            version: connect.version,
            session_expiry: connect.session_expiry,
            keep_alive: server_keep_alive.unwrap_or(connect.keep_alive),
            bridge: connect.bridge,
            login: login.map(Box::new),
            breaches: Breaches::default(),
            problem_information: connect.request_problem_information,
            receive_maximum: options.receive_maximum,
            inbound,
            outbound,
            shares: Shares::new(window),
            subscriptions,
            tally: Tally::new(&self.shared.counters, now),
            client_id: connect.client_id,
        }));
    }

    /// What version 5 clients are told when the broker goes away (4.11).
    fn farewell(&self) -> Disconnect {
        let reference = &self.shared.options.server_reference;
        if reference.is_empty() {
            return Disconnect::new(Reason::SERVER_SHUTTING_DOWN);
        }
        Disconnect {
            server_reference: Some(reference.clone()),
            ..Disconnect::new(Reason::USE_ANOTHER_SERVER)
        }
    }

    /// The broker is going away.
    pub(super) fn shut_down(&mut self, effects: &mut Effects) {
        match &self.phase {
            Phase::Opening(opening) => {
                let reason = match self.shared.options.server_reference.is_empty() {
                    true => Reason::SERVER_UNAVAILABLE,
                    false => Reason::USE_ANOTHER_SERVER,
                };
                self.refuse(opening.connect.version, reason, effects)
            }
            _ => self.close_with(self.farewell(), effects),
        }
    }
}

impl Opening {
    pub(super) fn held(&self) -> Option<Instant> {
        self.held
    }

    pub(super) fn client_id(&self) -> &Text {
        &self.connect.client_id
    }

    /// Begins to find out who the client is, by its user and password or by the method that it names.
    fn authenticate(
        &mut self,
        loopback: bool,
        now: Now,
        options: &Options,
        effects: &mut Effects,
    ) -> Result<(), Violation> {
        if let Some(method) = self.connect.authentication_method.take() {
            let data = self.connect.authentication_data.take();
            let login = Login::begin(&method, data.as_ref(), now, options, &mut effects.commands)?;
            self.login = Some(login);
            return Ok(());
        }
        let credentials = credentials(&mut self.connect, loopback);
        self.anonymous = matches!(credentials, Credentials::Anonymous { .. });
        effects.commands.push(Command::Authenticate {
            token: AUTHENTICATE,
            credentials,
        });
        Ok(())
    }

    /// Whether it is the client's turn.
    pub(super) fn awaits_proof(&self) -> bool {
        self.login.as_ref().is_some_and(|login| login.awaits_proof)
    }

    fn handle_authenticated(&mut self, user: Text, options: &Options, effects: &mut Effects) {
        let connect = &mut self.connect;
        let client = connect.client_id.clone();
        let origin = Origin {
            protocol: "mqtt".into(),
            client: client.clone(),
            user,
            vhost: "/".into(),
            ..Origin::default()
        };
        self.inbound = Some(Inbound::new(connect.version, Arc::new(origin), options));
        let will = connect.will.as_ref().and_then(|will| {
            let message = self.inbound.as_ref()?.will(will)?;
            let delay = Duration::from_secs(will.delay.into());
            Some(Box::new(SessionWill { message, delay }))
        });
        effects.commands.push(declare(
            &client,
            connect.clean_start,
            connect.session_expiry,
            options,
        ));
        effects.commands.push(Command::Attach {
            token: ATTACH,
            consumer: CONSUMER,
            client,
            prefetch: window(connect, options.inflight_max).into(),
            will,
        });
    }
}

/// Declares a session, or changes how long it outlives its connection.
pub fn declare(client_id: &Text, clean: bool, session_expiry: u32, options: &Options) -> Command {
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
        arguments: bounds(session_expiry, options),
    };
    Command::Define {
        token: DECLARE,
        change: Change::DeclareSession {
            client: client_id.clone(),
            clean,
            spec,
        },
    }
}

/// What may wait for a client that is away.
fn bounds(session_expiry: u32, options: &Options) -> Vec<(Text, Value)> {
    let bounds = [
        ("x-max-length", options.session_messages_max),
        ("x-max-length-bytes", options.session_bytes_max),
    ];
    bounds
        .into_iter()
        .filter(|(_, max)| session_expiry > 0 && *max > 0)
        .map(|(name, max)| {
            let max = i64::try_from(max).unwrap_or(i64::MAX);
            (Text::from_static(name), Value::I64(max))
        })
        .collect()
}

/// Why a well formed CONNECT is refused without asking the core.
fn unacceptable(connect: &Connect, options: &Options) -> Option<Reason> {
    // 3.1.3-8 of 3.1.1: only a clean session may be without a name; 3.1 always names its client.
    let nameless = match connect.version {
        Version::V5 => false,
        Version::V311 => connect.client_id.is_empty() && !connect.clean_start,
        Version::V31 => connect.client_id.is_empty(),
    };
    // 3.1 section 3.1: up to 23 characters.
    let long = connect.version == Version::V31 && connect.client_id.chars().count() > 23;
    if long && options.strict.client_id == OnBreach::Log {
        info!(client = %connect.client_id, "client identifier of more than 23 characters in 3.1");
    }
    if nameless || long && options.strict.client_id == OnBreach::Disconnect {
        Some(Reason::CLIENT_ID_NOT_VALID)
    } else if options.server_moved && !options.server_reference.is_empty() {
        Some(Reason::SERVER_MOVED)
    } else if options.validate_payload_format && !will_is_as_it_says(connect) {
        Some(Reason::PAYLOAD_FORMAT_INVALID)
    } else {
        None
    }
}

/// 3.1.3.2.3: as [`is_as_it_says`](super::open::is_as_it_says).
fn will_is_as_it_says(connect: &Connect) -> bool {
    connect.will.as_ref().is_none_or(|will| {
        !property::says_utf8(&will.block) || std::str::from_utf8(&will.payload).is_ok()
    })
}

/// The keep alive that the client is told to use instead of its own (3.2.2-21). Version 3 cannot be told.
fn server_keep_alive(connect: &Connect, options: &Options) -> Option<u16> {
    let over = connect.keep_alive == 0 || connect.keep_alive > options.keep_alive_max;
    (connect.version.is_5() && options.keep_alive_max > 0 && over).then_some(options.keep_alive_max)
}

/// Topics that nobody else is given, for who asks (3.1.2-28). A client identifier that is no topic level has none.
fn response_information(connect: &Connect, options: &Options) -> Option<Text> {
    let (prefix, client) = (&options.response_information, &connect.client_id);
    let level = !client.contains(['/', '+', '#']);
    let information = format!("{prefix}/{client}/");
    let wanted = connect.request_response_information && !prefix.is_empty() && level;
    (wanted && information.len() <= FIELD_MAX).then(|| information.into())
}

/// Writes CONNACK; what the client can do without is left out when it does not fit (3.2.2-19, 3.2.2-20): first what
/// it asked for, then limits that nobody who takes packets so small will reach. False when it still does not fit:
/// there is nothing to say to such a client (3.1.2-24).
fn acknowledge(mut ack: ConnAck, version: Version, packet_max: usize, out: &mut BytesMut) -> bool {
    let mut packet = BytesMut::new();
    for step in 0..3 {
        match step {
            0 => {}
            1 => ack.response_information = None,
            _ => {
                ack.receive_maximum = None;
                ack.maximum_packet_size = None;
                ack.topic_alias_maximum = None;
            }
        }
        packet.clear();
        Packet::ConnAck(ack.clone()).encode(version, &mut packet);
        if packet.len() <= packet_max {
            out.put_slice(&packet);
            return true;
        }
    }
    false
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

/// The largest packet that the client takes.
fn packet_max(connect: &Connect) -> usize {
    connect
        .maximum_packet_size
        .map_or(VARINT_MAX + 5, |size| size as usize)
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
        | Refusal::NotAllowed(_)
        | Refusal::NoVhost(_) => Reason::NOT_AUTHORIZED,
        _ => Reason::SERVER_UNAVAILABLE,
    }
}
