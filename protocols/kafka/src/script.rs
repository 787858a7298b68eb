//! Scripts for tests: a client's requests and the core's answers in, responses and commands out.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use trivium_core::{
    Command, Event, Kind, LogId, LogInfo, LogSpec, Now, Refusal, Reply, Text, Timestamp, Token,
};
use trivium_protocol::{CloseReason, Effects, Peer, Protocol};

use crate::{
    Options,
    api::ApiKey,
    connection::Connection,
    wire::{Frame, Reader, Wire},
};

/// A connection and its two neighbours, the client and the core.
pub(crate) struct Script {
    connection: Connection,
    input: BytesMut,
    effects: Effects,
    correlation_id: i32,
}

impl Script {
    /// A connection that has just been accepted.
    pub(crate) fn accepted() -> Script {
        Script::accepted_with(Options::default())
    }

    fn accepted_with(options: Options) -> Script {
        let [address, local]: [SocketAddr; 2] =
            ["127.0.0.1:50000", "127.0.0.1:9092"].map(|it| it.parse().unwrap());
        Script {
            connection: Connection::new(Arc::new(options), Peer { address, local }),
            input: BytesMut::new(),
            effects: Effects::new(),
            correlation_id: 0,
        }
    }

    /// A connection that is past its authentication.
    pub(crate) fn open() -> Script {
        Script::open_with(Options::default())
    }

    /// As `open`, with settings of the front end.
    pub(crate) fn open_with(options: Options) -> Script {
        let mut script = Script::accepted_with(options);
        script.bytes(&[0]).unwrap();
        let commands = script.commands();
        let [Command::Measure { .. }, Command::Authenticate { token, .. }] = commands[..] else {
            panic!("{commands:?}")
        };
        script.done(
            token,
            Ok(Reply::Authenticated {
                user: "guest".into(),
                tags: Vec::new(),
            }),
        );
        script.input.clear();
        script
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), CloseReason> {
        self.input.put_slice(bytes);
        self.connection
            .handle_input(now(), &mut self.input, &mut self.effects)
    }

    /// Sends a request.
    pub(crate) fn send(&mut self, key: ApiKey, version: i16, request: &impl Wire) {
        let frame = self.request(key, version, request);
        self.bytes(&frame).unwrap();
    }

    /// A request with its header and size.
    pub(crate) fn request(&mut self, key: ApiKey, version: i16, request: &impl Wire) -> Bytes {
        self.correlation_id += 1;
        let mut header = Frame::new(version, false);
        (key as i16).write(&mut header);
        version.write(&mut header);
        self.correlation_id.write(&mut header);
        Text::from("test").write(&mut header);
        if key.is_flexible(version) {
            header.put_uvarint(0);
        }
        let mut body = Frame::new(version, key.is_flexible(version));
        request.write(&mut body);
        let (header, body) = (taken(header), taken(body));
        [
            &((header.len() + body.len()) as u32).to_be_bytes()[..],
            &header,
            &body,
        ]
        .concat()
        .into()
    }

    pub(crate) fn done(&mut self, token: Token, result: Result<Reply, Refusal>) {
        self.event(Event::Done { token, result }).unwrap();
    }

    /// An event, and then what the connection loop does: what input is left is offered again.
    pub(crate) fn event(&mut self, event: Event) -> Result<(), CloseReason> {
        self.connection
            .handle_event(now(), event, &mut self.effects)?;
        match self.connection.wants_input() {
            true => self
                .connection
                .handle_input(now(), &mut self.input, &mut self.effects),
            false => Ok(()),
        }
    }

    /// The commands since last asked.
    pub(crate) fn commands(&mut self) -> Vec<Command> {
        std::mem::take(&mut self.effects.commands)
    }

    /// The one command since last asked, which `pick` takes.
    pub(crate) fn command<T>(&mut self, pick: impl FnOnce(Command) -> Option<T>) -> T {
        let mut commands = self.commands();
        assert_eq!(commands.len(), 1, "{commands:?}");
        let command = commands.remove(0);
        let text = format!("{command:?}");
        pick(command).unwrap_or_else(|| panic!("not the command expected: {text}"))
    }

    /// Everything sent since last asked.
    pub(crate) fn output(&mut self) -> Bytes {
        self.effects.output.take()
    }

    /// The one response since last asked.
    pub(crate) fn response<T: Wire>(&mut self, key: ApiKey, version: i16) -> T {
        let mut responses = self.responses(key, version);
        assert_eq!(responses.len(), 1, "responses");
        responses.remove(0).1
    }

    /// The responses since last asked, with their correlation ids.
    pub(crate) fn responses<T: Wire>(&mut self, key: ApiKey, version: i16) -> Vec<(i32, T)> {
        let mut output = self.output();
        let mut responses = Vec::new();
        while output.has_remaining() {
            let size = output.get_u32() as usize;
            let mut reader = Reader::new(output.split_to(size), version, key.is_flexible(version));
            let correlation_id = i32::read(&mut reader).unwrap();
            if key.has_flexible_response_header(version) {
                reader.tagged_fields(|_, _| Ok(())).unwrap();
            }
            responses.push((correlation_id, T::read(&mut reader).unwrap()));
            assert_eq!(reader.remaining(), 0, "nothing behind a response");
        }
        responses
    }

    /// Answers the description of logs that is asked for.
    pub(crate) fn describe(&mut self, answer: Vec<Result<LogInfo, Refusal>>) -> Option<Vec<Text>> {
        let (token, logs) = self.command(|command| match command {
            Command::DescribeLogs { token, logs } => Some((token, logs)),
            Command::FindLogs { token, .. } => Some((token, None)),
            _ => None,
        });
        self.done(token, Ok(Reply::Logs(answer)));
        logs
    }

    pub(crate) fn wants_input(&self) -> bool {
        self.connection.wants_input()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.connection.is_closed()
    }
}

fn taken(frame: Frame) -> Bytes {
    let mut output = trivium_protocol::Output::new();
    frame.send(&mut output);
    output.take().slice(4..)
}

fn now() -> Now {
    // Nothing here looks at the time; no clock is read, as everywhere below the server.
    thread_local!(static START: Instant = start());
    Now {
        instant: START.with(|start| *start + Duration::from_secs(1)),
        wall: Timestamp(1_700_000_000_000),
    }
}

#[allow(clippy::disallowed_methods)]
fn start() -> Instant {
    Instant::now()
}

/// A log whose id is its name's length over and over.
pub(crate) fn log(name: &str, partitions: u32) -> LogInfo {
    let spec = LogSpec {
        partitions,
        settings: vec![],
    };
    LogInfo {
        name: name.into(),
        id: LogId(1),
        uuid: [name.len() as u8; 16],
        spec,
    }
}

pub(crate) fn not_found(name: &str) -> Refusal {
    Refusal::NotFound {
        kind: Kind::Log,
        name: name.into(),
        vhost: "/".into(),
    }
}

pub(crate) fn exists(kind: Kind, name: &str) -> Refusal {
    Refusal::Exists {
        kind,
        name: name.into(),
        vhost: "/".into(),
    }
}
