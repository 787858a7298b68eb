//! The state machine of one connection (section 2.2.4).
//!
//! ```text
//! Header ─► StartOk ─► Authenticating ─► TuneOk ─► Open ─► Entering ─► Running ─► Closing ─► Closed
//!    └─ wrong header: ours, Closed           any error of the connection: close ─┘  close-ok, or too late
//! ```

mod blocking;
mod channels;
mod events;
mod handshake;

use std::time::{Duration, Instant};

use bytes::BytesMut;
use rustc_hash::FxHashMap;
use tracing::debug;
use trivium_core::{Change, Command, ConversionTally, Event, Now, Text};
use trivium_protocol::{CloseReason, Effects, Peer, Protocol};

use self::blocking::Blocking;
use crate::{
    Options,
    channel::{Channel, PUBLISH},
    error::{Error, ReplyCode},
    frame::{Frame, FrameKind, next_frame, put_heartbeat, put_method},
    method::{self, Method},
    session::{Session, Then},
    wire::cut,
};

/// The frame size before one is negotiated.
pub const HANDSHAKE_FRAME_MAX: u32 = 8192;

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long connection.close waits for its close-ok.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long that may take when the broker stops. RabbitMQ does not wait at all then: a client that does not answer must
/// not hold up whoever stops the broker.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

/// One connection of an AMQP client.
pub struct Connection {
    state: State,
    session: Session,
    channels: FxHashMap<u16, Slot>,
    channel_max: u16,
    loopback: bool,
    /// The client hears of a refused login by connection.close.
    failure_close: bool,
    blocking: Blocking,
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

impl State {
    /// RabbitMQ's name of the state.
    fn name(self) -> &'static str {
        match self {
            State::Header | State::StartOk => "starting",
            State::Authenticating => "securing",
            State::TuneOk => "tuning",
            State::Open | State::Entering => "opening",
            State::Running => "running",
            State::Closing { .. } => "closing",
            State::Closed => "closed",
        }
    }
}

/// A channel, or what is left of one until the client has agreed that it is closed.
enum Slot {
    Open(Box<Channel>),
    Closing,
}

impl Connection {
    /// A connection that has said nothing yet.
    pub fn new(options: Options, converted: ConversionTally, peer: Peer, now: Now) -> Connection {
        let tag_prefix = format!("{:x}{:04x}", now.wall.0, peer.address.port());
        Connection {
            state: State::Header,
            session: Session::new(options, converted, tag_prefix),
            channels: FxHashMap::default(),
            channel_max: options.channel_max,
            loopback: peer.is_loopback(),
            failure_close: false,
            blocking: Blocking::default(),
            heartbeat: Duration::ZERO,
            last_received: now.instant,
            last_sent: now.instant,
            handshake_until: now.instant + HANDSHAKE_TIMEOUT,
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
            let (channel, method) = (frame.channel, self.failing_method(&frame));
            if let Err(error) = self.handle_frame(frame, effects) {
                self.fail(error, method, channel, now, effects);
            }
        }
    }

    /// The method that is to blame if the frame leads to an error. What comes in the middle of a message is blamed on
    /// its publish.
    fn failing_method(&self, frame: &Frame) -> (u16, u16) {
        let channel = self.channels.get(&frame.channel);
        let publishes = matches!(channel, Some(Slot::Open(open)) if open.awaits_content());
        match frame.kind {
            FrameKind::Heartbeat => (0, 0),
            _ if publishes => PUBLISH,
            FrameKind::Method => method::ids(&frame.payload),
            FrameKind::Header | FrameKind::Body => (0, 0),
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
            (State::Running, Method::ConnectionClose { .. })
                if self.session.has_exclusive_queues =>
            {
                // They have gone when the client hears of it, and nothing else is said until then.
                self.channels.clear();
                let change = Change::DeleteExclusiveQueues;
                self.session
                    .ask(0, (10, 50), Then::Left, effects, |token| Command::Define {
                        token,
                        change,
                    });
                Ok(())
            }
            (_, Method::ConnectionClose { .. }) => {
                self.leave(effects);
                Ok(())
            }
            (State::Running, Method::ConnectionUpdateSecret { .. }) => {
                self.send(&Method::ConnectionUpdateSecretOk {}, effects);
                Ok(())
            }
            (state, method) => {
                let (class, id) = method.id();
                debug!(class, id, "unexpected method");
                let text = format!("unexpected method in connection state {}", state.name());
                Err(Error::connection(ReplyCode::ChannelError, text))
            }
        }
    }

    fn handle_closing(&mut self, frame: Frame, effects: &mut Effects) {
        if frame.kind != FrameKind::Method || frame.channel != 0 {
            return;
        }
        match Method::decode(frame.payload) {
            Ok(Method::ConnectionCloseOk {}) => self.state = State::Closed,
            Ok(Method::ConnectionClose { .. }) => self.leave(effects),
            _ => {}
        }
    }

    /// The client has asked to be let go.
    fn leave(&mut self, effects: &mut Effects) {
        self.send(&Method::ConnectionCloseOk {}, effects);
        self.state = State::Closed;
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
        self.session.now = now.wall;
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
            Event::Cancelled { consumer, reason } => {
                self.handle_cancelled(consumer, reason, now, effects);
            }
            Event::Blocked { reason } => self.blocking.begin(reason),
            Event::Unblocked => self.unblock(now, effects),
            Event::Shutdown if self.state == State::Header => self.state = State::Closed,
            Event::Shutdown => {
                let text = "broker forced connection closure with reason 'shutdown'";
                self.close(ReplyCode::ConnectionForced, text, (0, 0), now, effects);
                if let State::Closing { until } = &mut self.state {
                    *until = (*until).min(now.instant + SHUTDOWN_TIMEOUT);
                }
            }
            // What only other protocols ask for.
            _ => {}
        }
        if effects.output.len() != written {
            self.last_sent = now.instant;
            self.session.converted.fold();
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

    fn was_unheard(&mut self, now: Now) {
        self.last_received = now.instant;
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
        self.session.pending.is_none() && !self.blocking.holds_back()
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
            if self.wants_input() {
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

/// What is told of an error: a short string, and where that is cut, it ends with three dots.
fn reply_text(code: ReplyCode, text: &str) -> Text {
    const DOTS: &str = "...";
    let mut told = format!("{code} - {text}");
    if told.len() > usize::from(u8::MAX) {
        let length = cut(&told, usize::from(u8::MAX) - DOTS.len()).len();
        told.replace_range(length.., DOTS);
    }
    told.into()
}
