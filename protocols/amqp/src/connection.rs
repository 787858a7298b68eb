//! The state machine of one connection (section 2.2.4).
//!
//! ```text
//! Header ─► StartOk ─► Authenticating ─► TuneOk ─► Open ─► Entering ─► Running ─► Closing ─► Closed
//!    └─ wrong header: ours, Closed           any error of the connection: close ─┘  close-ok, or too late
//! ```

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use tracing::debug;
use trivium_core::{
    Command, Event, Message, Now, Origin, Outcome, Refusal, Reply, Text, Token, Value,
};
use trivium_protocol::{CloseReason, Effects, Peer, Protocol};

use crate::{
    Options,
    channel::{Channel, PUBLISH},
    confirm::PublishToken,
    error::{Error, ReplyCode},
    field_table::Table,
    frame::{self, Frame, FrameKind, next_frame, put_heartbeat, put_method},
    method::{self, Method},
    sasl,
    session::{Pending, Session, Then},
    settle::settle,
    wire::cut,
};

/// The frame size before one is negotiated.
pub const HANDSHAKE_FRAME_MAX: u32 = 8192;

const PROTOCOL_HEADER: &[u8; 8] = b"AMQP\0\0\x09\x01";
/// What clients of 0-9 sent; RabbitMQ takes it for 0-9-1.
const OLD_PROTOCOL_HEADER: &[u8; 8] = b"AMQP\x01\x01\x00\x09";
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long connection.close waits for its close-ok.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a refused login waits for its end, so that guessing takes time.
const REFUSED_LOGIN_DELAY: Duration = Duration::from_secs(1);
/// The version of RabbitMQ whose behaviour clients may assume (docs/amqp.md says why).
const COMPATIBLE_VERSION: &str = "4.0.0";

/// One connection of an AMQP client.
pub struct Connection {
    state: State,
    session: Session,
    channels: FxHashMap<u16, Slot>,
    channel_max: u16,
    loopback: bool,
    /// The client hears of a refused login by connection.close.
    failure_close: bool,
    heartbeat: Duration,
    last_received: Instant,
    last_sent: Instant,
    handshake_until: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Waits for the protocol header.
    Header,
    /// Waits for connection.start-ok.
    StartOk,
    /// Waits for the core.
    Authenticating,
    /// Waits for connection.tune-ok.
    TuneOk,
    /// Waits for connection.open.
    Open,
    /// Waits for the core.
    Entering,
    /// Open for channels.
    Running,
    /// connection.close was sent (or the connection is being left silently); only its answer is of interest.
    Closing { until: Instant },
    /// Over.
    Closed,
}

/// A channel, or what is left of one until the client has agreed that it is closed.
enum Slot {
    Open(Box<Channel>),
    Closing,
}

impl Connection {
    /// A connection that has said nothing yet.
    pub fn new(options: Options, peer: Peer, now: Now) -> Connection {
        let tag_prefix = format!("{:x}{:04x}", now.wall.0, peer.address.port());
        Connection {
            state: State::Header,
            session: Session::new(options, tag_prefix),
            channels: FxHashMap::default(),
            channel_max: options.channel_max,
            loopback: peer.is_loopback(),
            failure_close: false,
            heartbeat: Duration::ZERO,
            last_received: now.instant,
            last_sent: now.instant,
            handshake_until: now.instant + HANDSHAKE_TIMEOUT,
        }
    }

    fn handle_header(&mut self, input: &mut BytesMut, effects: &mut Effects) {
        let seen = input.len().min(PROTOCOL_HEADER.len());
        if ![PROTOCOL_HEADER, OLD_PROTOCOL_HEADER]
            .iter()
            .any(|header| header[..seen] == input[..seen])
        {
            effects.output.buffer().put_slice(PROTOCOL_HEADER);
            input.clear();
            self.state = State::Closed;
        } else if seen == PROTOCOL_HEADER.len() {
            input.advance(seen);
            self.state = State::StartOk;
            self.send(&start(), effects);
        }
    }

    fn handle_frames(&mut self, now: Now, input: &mut BytesMut, effects: &mut Effects) {
        while self.wants_input() && !self.is_closed() {
            let frame = match next_frame(input, self.session.frame_max) {
                Ok(Some(frame)) => frame,
                Ok(None) => return,
                Err(error) => {
                    // Where the next frame begins is not known any more.
                    input.clear();
                    return self.fail(error, (0, 0), 0, now, effects);
                }
            };
            let (channel, method) = (frame.channel, failing_method(&frame));
            if let Err(error) = self.handle_frame(frame, effects) {
                self.fail(error, method, channel, now, effects);
            }
        }
    }

    fn handle_frame(&mut self, frame: Frame, effects: &mut Effects) -> Result<(), Error> {
        match (self.state, frame.kind) {
            (State::Closing { .. }, _) => {
                self.handle_closing(frame, effects);
                Ok(())
            }
            (_, FrameKind::Heartbeat) => Ok(()),
            (State::Running, _) if frame.channel != 0 => self.handle_channel_frame(frame, effects),
            (_, FrameKind::Method) if frame.channel == 0 => {
                self.handle_method(Method::decode(frame.payload)?, effects)
            }
            (State::Running, _) => Err(Error::connection(
                ReplyCode::UnexpectedFrame,
                "expected method frame, got non method frame instead",
            )),
            _ => Err(Error::connection(
                ReplyCode::ChannelError,
                "channel used before the connection is open",
            )),
        }
    }

    /// Methods on channel 0.
    fn handle_method(&mut self, method: Method, effects: &mut Effects) -> Result<(), Error> {
        match (self.state, method) {
            (
                State::StartOk,
                Method::ConnectionStartOk {
                    client_properties,
                    mechanism,
                    response,
                    ..
                },
            ) => self.handle_start_ok(&client_properties, mechanism, &response, effects),
            (
                State::TuneOk,
                Method::ConnectionTuneOk {
                    channel_max,
                    frame_max,
                    heartbeat,
                },
            ) => self.handle_tune_ok(channel_max, frame_max, heartbeat),
            (State::Open, Method::ConnectionOpen { virtual_host, .. }) => {
                self.state = State::Entering;
                let then = Then::Entered {
                    vhost: virtual_host.clone(),
                };
                self.session
                    .ask(0, (10, 40), then, effects, |token| Command::Enter {
                        token,
                        vhost: virtual_host,
                    });
                Ok(())
            }
            (_, Method::ConnectionClose { .. }) => {
                self.send(&Method::ConnectionCloseOk {}, effects);
                self.state = State::Closed;
                Ok(())
            }
            (State::Running, Method::ConnectionUpdateSecret { .. }) => {
                self.send(&Method::ConnectionUpdateSecretOk {}, effects);
                Ok(())
            }
            (state, method) => {
                let (class, id) = method.id();
                let text = format!("unexpected method {class}.{id} in connection state {state:?}");
                Err(Error::connection(ReplyCode::ChannelError, text))
            }
        }
    }

    fn handle_start_ok(
        &mut self,
        client_properties: &Table,
        mechanism: Text,
        response: &Bytes,
        effects: &mut Effects,
    ) -> Result<(), Error> {
        self.failure_close = has_capability(client_properties, "authentication_failure_close");
        self.session.cancel_notify = has_capability(client_properties, "consumer_cancel_notify");
        let credentials = sasl::credentials(&mechanism, response, self.loopback)?;
        self.state = State::Authenticating;
        let then = Then::Authenticated { mechanism };
        self.session
            .ask(0, (10, 11), then, effects, |token| Command::Authenticate {
                token,
                credentials,
            });
        Ok(())
    }

    fn handle_tune_ok(
        &mut self,
        channel_max: u16,
        frame_max: u32,
        heartbeat: u16,
    ) -> Result<(), Error> {
        let options = self.session.options;
        check_negotiated(
            "channel_max",
            channel_max.into(),
            1,
            options.channel_max.into(),
        )?;
        check_negotiated("frame_max", frame_max, frame::SIZE_MIN, options.frame_max)?;
        self.channel_max = channel_max;
        self.session.frame_max = frame_max;
        self.heartbeat = Duration::from_secs(heartbeat.into());
        self.state = State::Open;
        Ok(())
    }

    fn handle_channel_frame(&mut self, frame: Frame, effects: &mut Effects) -> Result<(), Error> {
        let number = frame.channel;
        match self.channels.get_mut(&number) {
            Some(Slot::Open(channel)) => match frame.kind {
                FrameKind::Header => channel.handle_header(frame.payload, &self.session, effects),
                FrameKind::Body => channel.handle_body(frame.payload, &self.session, effects),
                _ => match Method::decode(frame.payload)? {
                    Method::ChannelClose { .. } => {
                        channel.close(&mut self.session, effects);
                        self.channels.remove(&number);
                        put_method(effects.output.buffer(), number, &Method::ChannelCloseOk {});
                        Ok(())
                    }
                    Method::ChannelCloseOk {} => Ok(()),
                    method => channel.handle_method(method, &mut self.session, effects),
                },
            },
            Some(Slot::Closing) => {
                self.handle_closing_channel(&frame, effects);
                Ok(())
            }
            None => self.open_channel(frame, effects),
        }
    }

    /// After channel.close only its answer counts, or the client's own close that crossed it (1.5.2.5).
    fn handle_closing_channel(&mut self, frame: &Frame, effects: &mut Effects) {
        if frame.kind != FrameKind::Method {
            return;
        }
        match Method::decode(frame.payload.clone()) {
            Ok(Method::ChannelCloseOk {}) => {
                self.channels.remove(&frame.channel);
            }
            Ok(Method::ChannelClose { .. }) => {
                self.channels.remove(&frame.channel);
                put_method(
                    effects.output.buffer(),
                    frame.channel,
                    &Method::ChannelCloseOk {},
                );
            }
            _ => {}
        }
    }

    fn open_channel(&mut self, frame: Frame, effects: &mut Effects) -> Result<(), Error> {
        let opens = frame.kind == FrameKind::Method && method::ids(&frame.payload) == (20, 10);
        if !opens {
            // A close-ok may be left over from a close that crossed ours.
            let left_over =
                frame.kind == FrameKind::Method && method::ids(&frame.payload) == (20, 41);
            return if left_over {
                Ok(())
            } else {
                Err(channel_error("expected 'channel.open'"))
            };
        }
        Method::decode(frame.payload)?;
        if frame.channel > self.channel_max || self.channels.len() >= self.channel_max.into() {
            let text = format!(
                "number of channels opened ({}) has reached the negotiated channel_max ({})",
                self.channels.len(),
                self.channel_max
            );
            return Err(Error::connection(ReplyCode::NotAllowed, text));
        }
        self.channels.insert(
            frame.channel,
            Slot::Open(Box::new(Channel::new(frame.channel, &self.session))),
        );
        put_method(
            effects.output.buffer(),
            frame.channel,
            &Method::ChannelOpenOk {
                reserved_1: Bytes::new(),
            },
        );
        Ok(())
    }

    fn handle_closing(&mut self, frame: Frame, effects: &mut Effects) {
        if frame.kind != FrameKind::Method || frame.channel != 0 {
            return;
        }
        match Method::decode(frame.payload) {
            Ok(Method::ConnectionCloseOk {}) => self.state = State::Closed,
            Ok(Method::ConnectionClose { .. }) => {
                self.send(&Method::ConnectionCloseOk {}, effects);
                self.state = State::Closed;
            }
            _ => {}
        }
    }

    fn handle_done(
        &mut self,
        token: Token,
        result: Result<Reply, Refusal>,
        now: Now,
        effects: &mut Effects,
    ) {
        let Some(pending) = self
            .session
            .pending
            .take_if(|pending| pending.token == token)
        else {
            return;
        };
        // The client was not read meanwhile, so its silence does not count.
        self.last_received = now.instant;
        let Pending {
            channel,
            method,
            then,
            ..
        } = pending;
        let handled = match (then, self.channels.get_mut(&channel)) {
            (Then::Authenticated { mechanism }, _) => {
                self.handle_authenticated(result, &mechanism, now, effects)
            }
            (Then::Entered { vhost }, _) => self.handle_entered(vhost, result, effects),
            (then, Some(Slot::Open(channel))) => {
                channel.handle_reply(then, result, &mut self.session, effects)
            }
            (then, _) => {
                give_back(then, result, effects);
                Ok(())
            }
        };
        if let Err(error) = handled {
            self.fail(error, method, channel, now, effects);
        }
    }

    fn handle_authenticated(
        &mut self,
        result: Result<Reply, Refusal>,
        mechanism: &str,
        now: Now,
        effects: &mut Effects,
    ) -> Result<(), Error> {
        match result {
            Ok(reply) => {
                if let Reply::Authenticated { user } = reply {
                    self.set_origin(|origin| origin.user = user);
                }
                let Options {
                    channel_max,
                    frame_max,
                    heartbeat,
                    ..
                } = self.session.options;
                self.state = State::TuneOk;
                self.send(
                    &Method::ConnectionTune {
                        channel_max,
                        frame_max,
                        heartbeat,
                    },
                    effects,
                );
                Ok(())
            }
            Err(Refusal::LoginRefused) if !self.failure_close => {
                self.state = State::Closing {
                    until: now.instant + REFUSED_LOGIN_DELAY,
                };
                Ok(())
            }
            Err(Refusal::LoginRefused) => Err(Error::connection(
                ReplyCode::AccessRefused,
                format!(
                    "Login was refused using authentication mechanism {mechanism}. For details see the broker logfile."
                ),
            )),
            Err(refusal) => Err(refusal.into()),
        }
    }

    fn handle_entered(
        &mut self,
        vhost: Text,
        result: Result<Reply, Refusal>,
        effects: &mut Effects,
    ) -> Result<(), Error> {
        match result {
            Ok(_) => {
                self.set_origin(|origin| origin.vhost = vhost);
                self.state = State::Running;
                self.send(
                    &Method::ConnectionOpenOk {
                        reserved_1: Text::new(),
                    },
                    effects,
                );
                Ok(())
            }
            Err(refusal @ (Refusal::Denied(_) | Refusal::NoVhost(_))) => Err(Error::connection(
                ReplyCode::NotAllowed,
                refusal.to_string(),
            )),
            Err(refusal) => Err(refusal.into()),
        }
    }

    fn handle_confirmed(&mut self, tokens: &[Token], effects: &mut Effects) {
        let mut touched: SmallVec<[u16; 8]> = SmallVec::new();
        for token in tokens.iter().map(|token| PublishToken::from(*token)) {
            if let Some(Slot::Open(channel)) = self.channels.get_mut(&token.channel) {
                channel.handle_confirmed(token.number);
                if !touched.contains(&token.channel) {
                    touched.push(token.channel);
                }
            }
        }
        for number in touched {
            if let Some(Slot::Open(channel)) = self.channels.get_mut(&number) {
                channel.flush_confirms(&mut effects.output);
            }
        }
    }

    fn handle_refused(
        &mut self,
        tokens: &[Token],
        reason: &Refusal,
        now: Now,
        effects: &mut Effects,
    ) {
        for token in tokens.iter().map(|token| PublishToken::from(*token)) {
            if let Some(Slot::Open(channel)) = self.channels.get_mut(&token.channel)
                && let Err(error) =
                    channel.handle_refused(token.number, reason, &mut effects.output)
            {
                self.fail(error, PUBLISH, token.channel, now, effects);
            }
        }
    }

    fn handle_returned(&mut self, token: Option<Token>, message: &Message, effects: &mut Effects) {
        let Some(token) = token.map(PublishToken::from) else {
            return;
        };
        if let Some(Slot::Open(channel)) = self.channels.get_mut(&token.channel) {
            channel.handle_returned(message, &self.session, &mut effects.output);
        }
    }

    fn handle_deliver(
        &mut self,
        id: trivium_core::ConsumerId,
        deliveries: &[trivium_core::Delivery],
        effects: &mut Effects,
    ) {
        let number = self
            .session
            .consumers
            .get(&id)
            .map(|consumer| consumer.channel);
        match number.and_then(|number| self.channels.get_mut(&number)) {
            Some(Slot::Open(channel)) => {
                channel.deliver(id, deliveries, &self.session, &mut effects.output)
            }
            // They were on their way when the channel closed.
            _ => deliveries.iter().for_each(|delivery| {
                settle(&mut effects.commands, id, delivery.id, Outcome::Requeue)
            }),
        }
    }

    /// Closes what an error says is to be closed.
    fn fail(
        &mut self,
        error: Error,
        method: (u16, u16),
        channel: u16,
        now: Now,
        effects: &mut Effects,
    ) {
        let (class_id, method_id) = method;
        match error {
            Error::Channel { code, text } if channel != 0 => {
                debug!(channel, %code, %text, "channel closed");
                if let Some(Slot::Open(open)) = self.channels.get_mut(&channel) {
                    open.close(&mut self.session, effects);
                }
                self.channels.insert(channel, Slot::Closing);
                let (reply_code, reply_text) = (code as u16, reply_text(code, &text));
                let close = Method::ChannelClose {
                    reply_code,
                    reply_text,
                    class_id,
                    method_id,
                };
                put_method(effects.output.buffer(), channel, &close);
            }
            Error::Channel { code, text } | Error::Connection { code, text } => {
                debug!(%code, %text, "connection closed");
                self.close(code, &text, method, now, effects);
            }
        }
    }

    fn close(
        &mut self,
        code: ReplyCode,
        text: &str,
        method: (u16, u16),
        now: Now,
        effects: &mut Effects,
    ) {
        if matches!(self.state, State::Closing { .. } | State::Closed) {
            return;
        }
        let (reply_code, reply_text) = (code as u16, reply_text(code, text));
        let (class_id, method_id) = method;
        self.send(
            &Method::ConnectionClose {
                reply_code,
                reply_text,
                class_id,
                method_id,
            },
            effects,
        );
        self.session.pending = None;
        self.channels.clear();
        self.state = State::Closing {
            until: now.instant + CLOSE_TIMEOUT,
        };
    }

    fn set_origin(&mut self, set: impl FnOnce(&mut Origin)) {
        set(Arc::make_mut(&mut self.session.origin));
    }

    fn send(&self, method: &Method, effects: &mut Effects) {
        put_method(effects.output.buffer(), 0, method);
    }
}

impl Protocol for Connection {
    fn handle_input(
        &mut self,
        now: Now,
        input: &mut BytesMut,
        effects: &mut Effects,
    ) -> Result<(), CloseReason> {
        let written = effects.output.len();
        self.last_received = now.instant;
        self.session.turn += 1;
        if self.state == State::Header {
            self.handle_header(input, effects);
        }
        if self.state != State::Header {
            self.handle_frames(now, input, effects);
        }
        if effects.output.len() != written {
            self.last_sent = now.instant;
        }
        Ok(())
    }

    fn handle_event(
        &mut self,
        now: Now,
        event: Event,
        effects: &mut Effects,
    ) -> Result<(), CloseReason> {
        let written = effects.output.len();
        match event {
            Event::Done { token, result } => self.handle_done(token, result, now, effects),
            Event::Confirmed { tokens } => self.handle_confirmed(&tokens, effects),
            Event::Refused { tokens, reason } => {
                self.handle_refused(&tokens, &reason, now, effects)
            }
            Event::Returned { token, message } => self.handle_returned(token, &message, effects),
            Event::Deliver {
                consumer,
                deliveries,
            } => self.handle_deliver(consumer, &deliveries, effects),
            Event::Cancelled { consumer, .. } => {
                let number = self
                    .session
                    .consumers
                    .get(&consumer)
                    .map(|consumer| consumer.channel);
                if let Some(Slot::Open(channel)) =
                    number.and_then(|number| self.channels.get_mut(&number))
                {
                    channel.handle_cancelled(consumer, &mut self.session, effects);
                }
            }
            Event::Shutdown if self.state == State::Header => self.state = State::Closed,
            Event::Shutdown => {
                let text = "broker forced connection closure with reason 'shutdown'";
                self.close(ReplyCode::ConnectionForced, text, (0, 0), now, effects);
            }
            // What only other protocols ask for.
            _ => {}
        }
        if effects.output.len() != written {
            self.last_sent = now.instant;
        }
        Ok(())
    }

    fn handle_timeout(&mut self, now: Now, effects: &mut Effects) -> Result<(), CloseReason> {
        match self.state {
            State::Closing { until } if now.instant >= until => self.state = State::Closed,
            State::Closing { .. } | State::Closed => {}
            State::Running => self.handle_heartbeat(now, effects)?,
            _ if now.instant >= self.handshake_until => {
                return Err(CloseReason::Timeout(
                    "the handshake took too long".to_owned(),
                ));
            }
            _ => {}
        }
        Ok(())
    }

    fn next_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Closed => None,
            State::Closing { until } => Some(until),
            State::Running if self.heartbeat.is_zero() => None,
            State::Running => Some(
                self.silence_until()
                    .min(self.last_sent + self.heartbeat / 2),
            ),
            _ => Some(self.handshake_until),
        }
    }

    fn wants_input(&self) -> bool {
        self.session.pending.is_none()
    }

    fn is_closed(&self) -> bool {
        self.state == State::Closed
    }
}

/// Heartbeats (4.2.7).
impl Connection {
    fn handle_heartbeat(&mut self, now: Now, effects: &mut Effects) -> Result<(), CloseReason> {
        if self.heartbeat.is_zero() {
            return Ok(());
        }
        if now.instant >= self.silence_until() {
            if self.session.pending.is_none() {
                let seconds = self.heartbeat.as_secs();
                return Err(CloseReason::Timeout(format!(
                    "missed heartbeats from client, timeout: {seconds}s"
                )));
            }
            // It is not being read, so its silence does not count.
            self.last_received = now.instant;
        }
        if now.instant >= self.last_sent + self.heartbeat / 2 {
            put_heartbeat(effects.output.buffer());
            self.last_sent = now.instant;
        }
        Ok(())
    }

    fn silence_until(&self) -> Instant {
        self.last_received + self.heartbeat * 2
    }
}

/// A message that came for a channel that closed meanwhile goes back.
fn give_back(then: Then, result: Result<Reply, Refusal>, effects: &mut Effects) {
    if let (
        Then::Got {
            consumer,
            auto_ack: false,
        },
        Ok(Reply::Got {
            delivery: Some(delivery),
            ..
        }),
    ) = (then, result)
    {
        settle(
            &mut effects.commands,
            consumer,
            delivery.id,
            Outcome::Requeue,
        );
    }
}

fn failing_method(frame: &Frame) -> (u16, u16) {
    match frame.kind {
        FrameKind::Method => method::ids(&frame.payload),
        FrameKind::Header | FrameKind::Body => PUBLISH,
        FrameKind::Heartbeat => (0, 0),
    }
}

fn channel_error(text: &'static str) -> Error {
    Error::connection(ReplyCode::ChannelError, text)
}

fn reply_text(code: ReplyCode, text: &str) -> Text {
    cut(&format!("{code} - {text}"), u8::MAX.into()).into()
}

/// A client may ask for less than it was offered; 0, no limit, is more.
fn check_negotiated(field: &str, value: u32, min: u32, max: u32) -> Result<(), Error> {
    let (comparison, bound, limit) = match value {
        0 => ("higher", "maximum", max),
        _ if value < min => ("lower", "minimum", min),
        _ if value > max => ("higher", "maximum", max),
        _ => return Ok(()),
    };
    let detail = if value == 0 { " (no limit)" } else { "" };
    let text = format!(
        "negotiated {field} = {value}{detail} is {comparison} than the {bound} allowed value ({limit})"
    );
    Err(Error::connection(ReplyCode::NotAllowed, text))
}

fn has_capability(client_properties: &Table, wanted: &str) -> bool {
    client_properties.iter().any(|(name, value)| match value {
        Value::Table(capabilities) if name == "capabilities" => capabilities
            .iter()
            .any(|(name, value)| name == wanted && *value == Value::Bool(true)),
        _ => false,
    })
}

fn start() -> Method {
    let text = |text: &'static str| Value::Text(Text::from_static(text));
    let capabilities = [
        "publisher_confirms",
        "exchange_exchange_bindings",
        "basic.nack",
        "consumer_cancel_notify",
        "authentication_failure_close",
        "per_consumer_qos",
    ];
    let capabilities = capabilities
        .map(|name| (Text::from_static(name), Value::Bool(true)))
        .to_vec();
    Method::ConnectionStart {
        version_major: 0,
        version_minor: 9,
        server_properties: vec![
            (
                Text::from_static("capabilities"),
                Value::Table(capabilities),
            ),
            (Text::from_static("cluster_name"), text("trivium")),
            (Text::from_static("platform"), text("Rust")),
            (Text::from_static("product"), text("Trivium")),
            (Text::from_static("version"), text(COMPATIBLE_VERSION)),
            (
                Text::from_static("trivium_version"),
                text(env!("CARGO_PKG_VERSION")),
            ),
        ],
        mechanisms: Bytes::from_static(sasl::MECHANISMS.as_bytes()),
        locales: Bytes::from_static(b"en_US"),
    }
}
