//! A client and a core in one, as scripts use them.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use trivium_amqp::{
    Amqp, Options,
    frame::{Frame, FrameKind, next_frame, put_frame, put_method},
    method::Method,
};
use trivium_core::{
    Command, ConsumerId, Delivery, DeliveryId, Event, Message, Now, Part, Refusal, Reply, Text,
    Timestamp, Token, Topic, Value,
};
use trivium_protocol::{CloseReason, Effects, Frontend, Peer, Protocol};

pub const HEADER: &[u8] = b"AMQP\0\0\x09\x01";
pub const NO_PROPERTIES: &[u8] = &[0, 0];

/// How bytes are fed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Feed {
    Whole,
    ByteByByte,
}

/// Runs a story on an open connection with channel 1 open.
pub fn story(script: impl Fn(&mut Client)) {
    for_both(Options::default(), |client| {
        client.open();
        script(client);
    });
}

/// Runs a story on a connection that has said nothing yet.
pub fn from_start(script: impl Fn(&mut Client)) {
    for_both(Options::default(), script);
}

/// Runs a story with other options, on an open connection with channel 1 open.
pub fn story_with(options: Options, script: impl Fn(&mut Client)) {
    for_both(options, |client| {
        client.open();
        script(client);
    });
}

/// Runs a story once, for those that use up what they hold.
pub fn once(script: impl FnOnce(&mut Client)) {
    let mut client = Client::new(Options::default(), Feed::Whole);
    client.open();
    script(&mut client);
}

fn for_both(options: Options, script: impl Fn(&mut Client)) {
    for feed in [Feed::Whole, Feed::ByteByByte] {
        script(&mut Client::new(options, feed));
    }
}

pub struct Client {
    connection: Box<dyn Protocol>,
    feed: Feed,
    input: BytesMut,
    effects: Effects,
    now: Now,
    /// Commands that no script has looked at yet.
    noted: Vec<Command>,
    /// Tokens of commands that are not answered yet, oldest first.
    asked: Vec<Token>,
    /// The messages published, oldest first.
    pub published: Vec<(Option<Token>, Arc<Message>)>,
    frame_max: u32,
}

impl Client {
    /// A client whose bytes arrive as they were sent.
    pub fn whole(options: Options) -> Client {
        Client::new(options, Feed::Whole)
    }

    fn new(options: Options, feed: Feed) -> Client {
        let now = Now {
            instant: instant(),
            wall: Timestamp(0),
        };
        let address = "127.0.0.1:4321".parse().unwrap();
        let amqp = Amqp::new(options);
        Client {
            connection: amqp.connect(
                Peer {
                    address,
                    local: address,
                },
                now,
            ),
            feed,
            input: BytesMut::new(),
            effects: Effects::new(),
            now,
            noted: Vec::new(),
            asked: Vec::new(),
            published: Vec::new(),
            frame_max: options.frame_max,
        }
    }

    /// The whole handshake, and channel 1.
    pub fn open(&mut self) {
        self.open_with(start_ok(true));
    }

    /// As [`Client::open`], with what the client says of itself.
    pub fn open_with(&mut self, start_ok: Method) {
        self.authenticated(start_ok, &[]);
    }

    /// As [`Client::open`], as a user with these tags.
    pub fn open_as(&mut self, tags: &[&'static str]) {
        self.authenticated(start_ok(true), tags);
    }

    fn authenticated(&mut self, start_ok: Method, tags: &[&'static str]) {
        self.bytes(HEADER);
        self.send(0, start_ok);
        self.answer(Reply::Authenticated {
            user: "guest".into(),
            tags: tags.iter().map(|tag| (*tag).into()).collect(),
        });
        self.send(
            0,
            Method::ConnectionTuneOk {
                channel_max: 2047,
                frame_max: self.frame_max,
                heartbeat: 60,
            },
        );
        self.send(0, open("/"));
        self.answer(Reply::Ok);
        self.send(
            1,
            Method::ChannelOpen {
                reserved_1: Text::new(),
            },
        );
        self.commands();
        self.frames();
    }

    pub fn bytes(&mut self, bytes: &[u8]) {
        let step = if self.feed == Feed::Whole {
            bytes.len().max(1)
        } else {
            1
        };
        for piece in bytes.chunks(step) {
            self.input.put_slice(piece);
            self.handle_input();
        }
    }

    fn handle_input(&mut self) {
        if self.connection.wants_input() && !self.connection.is_closed() {
            self.connection
                .handle_input(self.now, &mut self.input, &mut self.effects)
                .unwrap();
        }
    }

    pub fn send(&mut self, channel: u16, method: Method) {
        let mut out = BytesMut::new();
        put_method(&mut out, channel, &method);
        self.bytes(&out);
    }

    pub fn frame(&mut self, kind: FrameKind, channel: u16, payload: &[u8]) {
        let mut out = BytesMut::new();
        put_frame(&mut out, kind, channel, |out| out.put_slice(payload));
        self.bytes(&out);
    }

    /// A content header.
    pub fn content_header(&mut self, channel: u16, size: u64, block: &[u8]) {
        let mut payload = BytesMut::new();
        payload.put_u32(60 << 16);
        payload.put_u64(size);
        payload.put_slice(block);
        self.frame(FrameKind::Header, channel, &payload);
    }

    /// A message in one body frame.
    pub fn publish(&mut self, channel: u16, exchange: &str, key: &str, block: &[u8], body: &[u8]) {
        self.send(channel, publish(exchange, key, false));
        self.content_header(channel, body.len() as u64, block);
        if !body.is_empty() {
            self.frame(FrameKind::Body, channel, body);
        }
    }

    pub fn event(&mut self, event: Event) {
        self.connection
            .handle_event(self.now, event, &mut self.effects)
            .unwrap();
        self.handle_input();
    }

    /// Answers the oldest command that has no answer yet.
    pub fn answer(&mut self, reply: Reply) {
        self.done(Ok(reply));
    }

    pub fn refuse(&mut self, refusal: Refusal) {
        self.done(Err(refusal));
    }

    fn done(&mut self, result: Result<Reply, Refusal>) {
        self.note_tokens();
        let token = self.asked.remove(0);
        self.event(Event::Done { token, result });
    }

    pub fn deliver(&mut self, consumer: u32, deliveries: Vec<Delivery>) {
        self.event(Event::Deliver {
            consumer: ConsumerId(consumer),
            deliveries,
        });
    }

    pub fn wait(&mut self, seconds: u64) -> Result<(), CloseReason> {
        self.now.instant += Duration::from_secs(seconds);
        let due = self
            .connection
            .next_timeout()
            .is_some_and(|at| at <= self.now.instant);
        if due {
            self.connection.handle_timeout(self.now, &mut self.effects)
        } else {
            Ok(())
        }
    }

    pub fn is_closed(&self) -> bool {
        self.connection.is_closed()
    }

    pub fn wants_input(&self) -> bool {
        self.connection.wants_input()
    }

    /// What the broker wrote since the last time, unread.
    pub fn output(&mut self) -> Bytes {
        self.effects.output.take()
    }

    /// What the broker wrote since the last time.
    pub fn frames(&mut self) -> Vec<String> {
        self.raw_frames()
            .into_iter()
            .map(|frame| describe_frame(&frame))
            .collect()
    }

    pub fn raw_frames(&mut self) -> Vec<Frame> {
        let mut out = BytesMut::from(&self.effects.output.take()[..]);
        let mut frames = Vec::new();
        while let Some(frame) = next_frame(&mut out, self.frame_max).unwrap() {
            frames.push(frame);
        }
        assert!(out.is_empty(), "part of a frame is left: {out:?}");
        frames
    }

    /// What was asked of the core since the last time.
    pub fn commands(&mut self) -> Vec<String> {
        self.note_tokens();
        self.noted
            .drain(..)
            .map(|command| describe_command(&command))
            .collect()
    }

    fn note_tokens(&mut self) {
        for command in std::mem::take(&mut self.effects.commands) {
            match &command {
                Command::Publish { token, message, .. } => {
                    self.published.push((*token, message.clone()))
                }
                Command::PublishCopies { token, message, .. } => {
                    self.published.push((*token, message.clone()))
                }
                Command::Settle { .. } | Command::Probe { .. } => {}
                Command::Define { token, .. }
                | Command::Consume { token, .. }
                | Command::Get { token, .. }
                | Command::Cancel { token, .. }
                | Command::Transact { token, .. }
                | Command::TakeReplies { token, .. }
                | Command::FindReplies { token, .. }
                | Command::Enter { token, .. }
                | Command::Authenticate { token, .. } => self.asked.push(*token),
                other => panic!("{other:?}"),
            }
            self.noted.push(command);
        }
    }

    /// A message to deliver.
    pub fn message(&mut self) -> Arc<Message> {
        self.note_tokens();
        let published = self.published.last().map(|(_, message)| message.clone());
        published.unwrap_or_else(|| {
            let topic = Topic::new("q".into(), trivium_core::Grammar::Dots);
            Arc::new(Message::plain(
                Text::new(),
                topic,
                "x".into(),
                Arc::default(),
            ))
        })
    }

    /// The last command that no script has looked at.
    pub fn last_command(&mut self) -> Command {
        self.note_tokens();
        self.noted.pop().expect("something was asked")
    }

    /// The token of the last probe.
    pub fn probed(&mut self) -> Token {
        self.note_tokens();
        let probes = self.noted.iter().rev().filter_map(|command| match command {
            Command::Probe { token, .. } => Some(*token),
            _ => None,
        });
        probes.into_iter().next().expect("something was probed")
    }

    /// The first publish of the last transaction.
    pub fn staged(&mut self) -> (Token, Arc<Message>) {
        self.note_tokens();
        let Some(Command::Transact { parts, .. }) = self.noted.last() else {
            panic!("a transaction is the last command");
        };
        let publishes = parts.iter().filter_map(|part| match part {
            Part::Publish { token, message, .. } => Some((*token, message.clone())),
            Part::Settle { .. } => None,
        });
        publishes.into_iter().next().expect("it publishes")
    }

    /// Tokens of what was published, for confirming.
    pub fn tokens(&mut self) -> Vec<Token> {
        self.commands();
        self.published
            .iter()
            .filter_map(|(token, _)| *token)
            .collect()
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "there is no other way to make an `Instant` to count from"
)]
fn instant() -> Instant {
    Instant::now()
}

fn describe_frame(frame: &Frame) -> String {
    let channel = frame.channel;
    match frame.kind {
        FrameKind::Heartbeat => "heartbeat".to_owned(),
        FrameKind::Body => format!("{channel} body {}", frame.payload.escape_ascii()),
        FrameKind::Header => {
            let mut payload = frame.payload.clone();
            payload.advance(4);
            format!(
                "{channel} header {} {}",
                payload.get_u64(),
                payload.escape_ascii()
            )
        }
        FrameKind::Method => match Method::decode(frame.payload.clone()).unwrap() {
            Method::ConnectionClose {
                reply_text,
                class_id,
                method_id,
                reply_code,
            } => {
                format!("connection.close {reply_code} {reply_text} [{class_id}.{method_id}]")
            }
            Method::ChannelClose {
                reply_text,
                class_id,
                method_id,
                reply_code,
            } => {
                format!(
                    "{channel} channel.close {reply_code} {reply_text} [{class_id}.{method_id}]"
                )
            }
            method => format!("{channel} {method:?}"),
        },
    }
}

fn describe_command(command: &Command) -> String {
    match command {
        Command::Publish {
            message, mandatory, ..
        } => describe_publish(message, *mandatory, &[]),
        Command::PublishCopies {
            message,
            mandatory,
            also,
            ..
        } => describe_publish(message, *mandatory, also),
        Command::Probe { message, .. } => {
            format!("probe '{}' {}", message.exchange, message.topic.text())
        }
        Command::Transact { parts, .. } => {
            let parts: Vec<String> = parts.iter().map(describe_part).collect();
            format!("transact [{}]", parts.join(", "))
        }
        Command::TakeReplies { consumer, .. } => format!("take replies c{consumer}"),
        Command::FindReplies { address, .. } => format!("find replies {address}"),
        Command::Settle {
            consumer,
            deliveries,
            outcome,
        } => {
            format!(
                "settle c{consumer} {}..={} {outcome:?}",
                deliveries.start(),
                deliveries.end()
            )
        }
        Command::Consume {
            consumer,
            queue,
            spec,
            ..
        } => {
            let auto = if spec.auto_ack { " auto" } else { "" };
            let exclusive = if spec.exclusive { " exclusive" } else { "" };
            format!(
                "consume c{consumer} {queue}{auto}{exclusive} prefetch {:?}",
                spec.prefetch
            )
        }
        Command::Get {
            consumer,
            queue,
            auto_ack,
            ..
        } => {
            format!(
                "get c{consumer} {queue}{}",
                if *auto_ack { " auto" } else { "" }
            )
        }
        Command::Cancel { consumer, .. } => format!("cancel c{consumer}"),
        Command::Define { change, .. } => format!("{change:?}"),
        Command::Enter { vhost, .. } => format!("enter {vhost}"),
        Command::Authenticate { credentials, .. } => format!("authenticate {credentials:?}"),
        other => panic!("{other:?}"),
    }
}

fn describe_publish(message: &Message, mandatory: bool, also: &[Topic]) -> String {
    let body = message.body.as_ref().unwrap().escape_ascii().to_string();
    let mandatory = if mandatory { " mandatory" } else { "" };
    let also: String = also
        .iter()
        .map(|topic| format!(" also {}", topic.text()))
        .collect();
    format!(
        "publish '{}' {} \"{body}\"{mandatory}{also}",
        message.exchange,
        message.topic.text()
    )
}

fn describe_part(part: &Part) -> String {
    match part {
        Part::Publish {
            message,
            mandatory,
            also,
            ..
        } => describe_publish(message, *mandatory, also),
        Part::Settle {
            consumer,
            deliveries,
            outcome,
        } => format!(
            "settle c{consumer} {}..={} {outcome:?}",
            deliveries.start(),
            deliveries.end()
        ),
    }
}

pub fn start_ok(failure_close: bool) -> Method {
    let capabilities = vec![
        (
            "authentication_failure_close".into(),
            Value::Bool(failure_close),
        ),
        ("consumer_cancel_notify".into(), Value::Bool(true)),
        ("connection.blocked".into(), Value::Bool(failure_close)),
    ];
    Method::ConnectionStartOk {
        client_properties: vec![("capabilities".into(), Value::Table(capabilities))],
        mechanism: "PLAIN".into(),
        response: Bytes::from_static(b"\0guest\0guest"),
        locale: "en_US".into(),
    }
}

pub fn open(vhost: &'static str) -> Method {
    Method::ConnectionOpen {
        virtual_host: vhost.into(),
        reserved_1: Text::new(),
        reserved_2: false,
    }
}

pub fn publish(exchange: &str, key: &str, mandatory: bool) -> Method {
    Method::BasicPublish {
        reserved_1: 0,
        exchange: exchange.into(),
        routing_key: key.into(),
        mandatory,
        immediate: false,
    }
}

pub fn consume(queue: &str, tag: &str, no_ack: bool) -> Method {
    Method::BasicConsume {
        reserved_1: 0,
        queue: queue.into(),
        consumer_tag: tag.into(),
        no_local: false,
        no_ack,
        exclusive: false,
        no_wait: false,
        arguments: vec![],
    }
}

pub fn declare(queue: &str) -> Method {
    declare_with(queue, vec![])
}

pub fn declare_with(queue: &str, arguments: Vec<(Text, Value)>) -> Method {
    Method::QueueDeclare {
        reserved_1: 0,
        queue: queue.into(),
        passive: false,
        durable: true,
        exclusive: false,
        auto_delete: false,
        no_wait: false,
        arguments,
    }
}

pub fn delivery(id: u64, message: &Arc<Message>) -> Delivery {
    Delivery {
        id: DeliveryId(id),
        message: message.clone(),
        accepted: Timestamp(0),
        redelivered: false,
        packet_id: 0,
        returns: 0,
        failures: 0,
        tags: Default::default(),
    }
}
