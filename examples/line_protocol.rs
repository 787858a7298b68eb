//! A made-up text protocol, complete: what it takes to add a protocol to the broker.
//!
//! ```text
//! PUB orders/eu hello    publishes on the topic; OK once it is as durable as its destinations ask
//! SUB orders/+           from now on: MSG <n> orders/eu hello
//! ACK 3                  message 3 is done with
//! QUIT                   BYE
//! ```
//!
//! `cargo run --release --example line_protocol`, then `nc 127.0.0.1 7000`. The broker is the usual one,
//! so MQTT, AMQP and Kafka clients are on the same topics. `docs/add-a-protocol.md` walks through this file.

use std::{net::SocketAddr, str, sync::Arc, time::Instant};

use bytes::{Bytes, BytesMut};
use trivium::{Config, Endpoint, Signals, args::ServeArgs, frontends, log};
use trivium_core::{
    Binding, Change, Command, ConsumeSpec, ConsumerId, Credentials, Delivery, DeliveryId,
    Destination, Dialect, Event, Grammar, Message, Native, Now, Origin, Outcome, Persistence,
    Plain, QueueSpec, Reply, Text, Token, Topic,
};
use trivium_protocol::{CloseReason, Effects, Frontend, Peer, Protocol};

/// A line may not be longer than this.
const LINE_MAX: usize = 64 << 10;
/// One command is under way at a time, so one token and one consumer do for all.
const TOKEN: Token = Token(1);
const CONSUMER: ConsumerId = ConsumerId(1);
/// Where topics live: what is published here reaches MQTT subscribers and Kafka topics too.
const EXCHANGE: &str = "amq.topic";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let config = Config::load(&ServeArgs::default())?;
    log::start(&config.log);
    let mut endpoints = frontends::standard(&config);
    endpoints.push(endpoint(SocketAddr::from(([127, 0, 0, 1], 7000))));
    trivium::run(config, endpoints, Signals::listen()?.wait()).await
}

/// The registration: this is all that the server needs to know.
pub fn endpoint(listen: SocketAddr) -> Endpoint {
    Endpoint {
        name: "lines",
        listen,
        frontend: Box::new(|_| Arc::new(Lines)),
        client: |address| format!("nc {} {}", address.ip(), address.port()),
    }
}

/// The protocol: makes its connections.
struct Lines;

impl Frontend for Lines {
    fn name(&self) -> &'static str {
        "lines"
    }

    fn connect(&self, peer: Peer, _: Now) -> Box<dyn Protocol> {
        let origin = Origin {
            protocol: "lines".into(),
            vhost: "/".into(),
            ..Origin::default()
        };
        Box::new(Connection {
            peer,
            origin: Arc::new(origin),
            state: State::Fresh,
            queue: None,
        })
    }

    fn dialects(&self) -> Vec<&'static dyn Dialect> {
        vec![&Plain]
    }
}

/// One connection.
struct Connection {
    peer: Peer,
    origin: Arc<Origin>,
    state: State,
    /// Holds what the connection subscribed to; declared by the first SUB.
    queue: Option<Text>,
}

/// What the connection waits for.
enum State {
    /// The first input.
    Fresh,
    /// The next line.
    Ready,
    /// The answer to `Authenticate`.
    Login,
    /// A queue, to bind to this filter.
    Queue(Text),
    /// The first binding of a new queue, to consume from it.
    FirstBinding(Text),
    /// Any answer; then the command is done.
    Last,
    /// Nothing any more.
    Closed,
}

impl Protocol for Connection {
    fn handle_input(
        &mut self,
        _: Now,
        input: &mut BytesMut,
        effects: &mut Effects,
    ) -> Result<(), CloseReason> {
        if matches!(self.state, State::Fresh) {
            let credentials = Credentials::Anonymous {
                loopback: self.peer.is_loopback(),
            };
            self.ask(
                State::Login,
                Command::Authenticate {
                    token: TOKEN,
                    credentials,
                },
                effects,
            );
        }
        while matches!(self.state, State::Ready) {
            let Some(end) = input.iter().position(|&byte| byte == b'\n') else {
                break;
            };
            let line = input.split_to(end + 1).freeze();
            self.handle_line(&line, effects);
        }
        if matches!(self.state, State::Ready) && input.len() > LINE_MAX {
            say(effects, "ERR line too long");
            self.state = State::Closed;
        }
        Ok(())
    }

    fn handle_event(
        &mut self,
        _: Now,
        event: Event,
        effects: &mut Effects,
    ) -> Result<(), CloseReason> {
        match event {
            Event::Deliver { deliveries, .. } => deliveries
                .iter()
                .for_each(|delivery| deliver(delivery, effects)),
            Event::Done {
                result: Ok(reply), ..
            } => self.advance(reply, effects),
            Event::Confirmed { .. } => self.finish("OK", effects),
            Event::Done {
                result: Err(refusal),
                ..
            }
            | Event::Refused {
                reason: refusal, ..
            } => {
                self.finish(&format!("ERR {refusal}"), effects);
            }
            Event::Shutdown => {
                say(effects, "BYE");
                self.state = State::Closed;
            }
            _ => {}
        }
        Ok(())
    }

    fn handle_timeout(&mut self, _: Now, _: &mut Effects) -> Result<(), CloseReason> {
        Ok(())
    }

    fn next_timeout(&self) -> Option<Instant> {
        None
    }

    fn wants_input(&self) -> bool {
        matches!(self.state, State::Fresh | State::Ready)
    }

    fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }
}

impl Connection {
    fn handle_line(&mut self, line: &Bytes, effects: &mut Effects) {
        let Ok(text) = str::from_utf8(line) else {
            return say(effects, "ERR not UTF-8");
        };
        let (word, rest) = text
            .trim_end()
            .split_once(' ')
            .unwrap_or((text.trim_end(), ""));
        match (word, rest.split_once(' ').unwrap_or((rest, ""))) {
            ("PUB", (topic, body)) if !topic.is_empty() => {
                let message = self.message(topic, line.slice_ref(body.as_bytes()));
                let publish = Command::Publish {
                    token: Some(TOKEN),
                    message: Arc::new(message),
                    mandatory: false,
                };
                self.ask(State::Last, publish, effects);
            }
            ("SUB", (filter, "")) if !filter.is_empty() => match &self.queue {
                Some(queue) => {
                    self.define(State::Last, bind(queue.clone(), filter.into()), effects)
                }
                None => self.define(State::Queue(filter.into()), declare(), effects),
            },
            ("ACK", (number, "")) => match number.parse().map(DeliveryId) {
                Ok(id) => {
                    let deliveries = id..=id;
                    effects.commands.push(Command::Settle {
                        consumer: CONSUMER,
                        deliveries,
                        outcome: Outcome::Accept,
                    });
                    say(effects, "OK");
                }
                Err(_) => say(effects, "ERR not a number"),
            },
            ("QUIT", _) => {
                say(effects, "BYE");
                self.state = State::Closed;
            }
            _ => say(
                effects,
                "ERR expected PUB topic text, SUB filter, ACK n or QUIT",
            ),
        }
    }

    /// The answer to the last command: either there is a next step, or the line is done with.
    fn advance(&mut self, reply: Reply, effects: &mut Effects) {
        match (std::mem::replace(&mut self.state, State::Ready), reply) {
            (State::Login, _) => {}
            (State::Queue(filter), Reply::Queue { name, .. }) => {
                self.queue = Some(name.clone());
                self.define(
                    State::FirstBinding(name.clone()),
                    bind(name, filter),
                    effects,
                );
            }
            (State::FirstBinding(queue), _) => {
                let spec = ConsumeSpec {
                    prefetch: Some(100),
                    ..ConsumeSpec::default()
                };
                let consume = Command::Consume {
                    token: TOKEN,
                    consumer: CONSUMER,
                    queue,
                    spec,
                };
                self.ask(State::Last, consume, effects);
            }
            _ => say(effects, "OK"),
        }
    }

    fn finish(&mut self, answer: &str, effects: &mut Effects) {
        say(effects, answer);
        // Who was not let in is not listened to.
        self.state = if matches!(self.state, State::Login) {
            State::Closed
        } else {
            State::Ready
        };
    }

    fn define(&mut self, next: State, change: Change, effects: &mut Effects) {
        self.ask(
            next,
            Command::Define {
                token: TOKEN,
                change,
            },
            effects,
        );
    }

    fn ask(&mut self, next: State, command: Command, effects: &mut Effects) {
        effects.commands.push(command);
        self.state = next;
    }

    fn message(&self, topic: &str, body: Bytes) -> Message {
        Message {
            exchange: EXCHANGE.into(),
            topic: Topic::new(topic.into(), Grammar::Slashes),
            body: Some(body),
            key: None,
            timestamp: None,
            expiry_ms: None,
            persistence: Persistence::Persistent,
            priority: None,
            retain: false,
            native: Native {
                dialect: &Plain,
                block: Bytes::new(),
            },
            origin: self.origin.clone(),
        }
    }
}

/// A queue that goes away with the connection.
fn declare() -> Change {
    let spec = QueueSpec {
        durable: false,
        exclusive: true,
        auto_delete: false,
        expires: None,
        session: false,
        arguments: Vec::new(),
    };
    Change::DeclareQueue {
        name: Text::new(),
        spec,
    }
}

fn bind(queue: Text, filter: Text) -> Change {
    Change::Bind(Binding {
        source: EXCHANGE.into(),
        destination: Destination::Queue(queue),
        key: filter,
        grammar: Grammar::Slashes,
        arguments: Vec::new(),
        subscription: None,
    })
}

fn deliver(delivery: &Delivery, effects: &mut Effects) {
    let message = &delivery.message;
    let body = String::from_utf8_lossy(message.body.as_deref().unwrap_or_default());
    let topic = message.topic.render(Grammar::Slashes);
    say(
        effects,
        &format!("MSG {} {topic} {}", delivery.id, body.replace('\n', "\\n")),
    );
}

fn say(effects: &mut Effects, line: &str) {
    effects.output.buffer().extend_from_slice(line.as_bytes());
    effects.output.buffer().extend_from_slice(b"\n");
}
