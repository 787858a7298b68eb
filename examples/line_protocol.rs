//! A made-up text protocol, complete: what it takes to add a protocol to the broker.
//!
//! ```text
//! PUB orders/eu hello    publishes on the topic; OK once it is as durable as its destinations ask
//! SUB orders/+           from now on: MSG 1 orders/eu hello
//! ACK 1                  message 1 is done with
//! QUIT                   BYE
//! ```
//!
//! `cargo run --release --example line_protocol`, then `nc 127.0.0.1 7000`. The broker is the usual one,
//! so MQTT, AMQP and Kafka clients are on the same topics. `docs/add-a-protocol.md` walks through this file.

use std::{net::SocketAddr, str, sync::Arc};

use bytes::{Bytes, BytesMut};
use trivium::{Config, Endpoint, Signals, args::ServeArgs, frontends, log};
use trivium_core::*;
use trivium_protocol::{CloseReason, Effects, Frontend, Peer, Protocol};

/// A line may not be longer than this.
const LINE_MAX: usize = 64 << 10;
const CONSUMER: ConsumerId = ConsumerId(1);
/// What is asked for when a connection begins, and for a line. Of each there is one under way at most.
const GREETING: Token = Token(0);
const LINE: Token = Token(1);
/// Where topics live: what is published here reaches MQTT subscribers and Kafka topics too.
const EXCHANGE: &str = "amq.topic";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let config = Config::load(&ServeArgs::default())?;
    log::start(&config.log);
    let mut endpoints = frontends::standard(&config);
    endpoints.push(endpoint(([127, 0, 0, 1], 7000).into()));
    trivium::run(config, endpoints, Signals::listen()?.wait()).await
}

/// The registration: this is all that the server needs to know.
pub fn endpoint(listen: SocketAddr) -> Endpoint {
    Endpoint {
        name: "lines",
        listen,
        frontend: Box::new(|_| Arc::new(Lines)),
        transport: Default::default(),
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
        Box::new(Connection {
            peer,
            state: State::Fresh,
        })
    }

    fn dialects(&self) -> Vec<&'static dyn Dialect> {
        vec![&Plain]
    }
}

/// One connection.
struct Connection {
    peer: Peer,
    state: State,
}

#[derive(PartialEq)]
enum State {
    /// Nothing has been said yet.
    Fresh,
    /// The next line can come.
    Ready,
    /// A line is not answered yet.
    Busy,
    Closed,
}

type Handled = Result<(), CloseReason>;

impl Protocol for Connection {
    fn handle_input(&mut self, _: Now, input: &mut BytesMut, effects: &mut Effects) -> Handled {
        if self.state == State::Fresh {
            self.state = State::Ready;
            self.greet(effects);
        }
        while self.state == State::Ready {
            match input.iter().position(|&byte| byte == b'\n') {
                Some(end) if end < LINE_MAX => {
                    self.handle_line(&input.split_to(end + 1).freeze(), effects)
                }
                None if input.len() < LINE_MAX => break,
                _ => self.close("ERR line too long", effects),
            }
        }
        Ok(())
    }

    fn handle_event(&mut self, _: Now, event: Event, effects: &mut Effects) -> Handled {
        match event {
            Event::Deliver { deliveries, .. } => {
                deliveries.iter().for_each(|it| deliver(it, effects))
            }
            Event::Confirmed { .. } => self.answer("OK", effects),
            Event::Refused { reason, .. } => self.answer(&format!("ERR {reason}"), effects),
            Event::Done { token, result } => match result {
                Ok(_) if token == LINE => self.answer("OK", effects),
                Ok(_) => {}
                Err(refusal) if token == LINE => self.answer(&format!("ERR {refusal}"), effects),
                Err(refusal) => self.close(&format!("ERR {refusal}"), effects),
            },
            Event::Shutdown => self.close("BYE", effects),
            _ => {}
        }
        Ok(())
    }

    fn wants_input(&self) -> bool {
        matches!(self.state, State::Fresh | State::Ready)
    }

    fn is_closed(&self) -> bool {
        self.state == State::Closed
    }
}

impl Connection {
    /// Comes as whoever may come without a name, and consumes from a queue that goes with the connection.
    fn greet(&mut self, effects: &mut Effects) {
        let loopback = self.peer.is_loopback();
        let credentials = Credentials::Anonymous { loopback };
        let spec = QueueSpec {
            exclusive: true,
            ..QueueSpec::default()
        };
        let name = self.queue();
        let change = Change::DeclareQueue { name, spec };
        let consume = Command::Consume {
            token: GREETING,
            consumer: CONSUMER,
            queue: self.queue(),
            spec: ConsumeSpec {
                prefetch: Some(100),
                ..ConsumeSpec::default()
            },
        };
        effects.commands.extend([
            Command::Authenticate {
                token: GREETING,
                credentials,
            },
            Command::Define {
                token: GREETING,
                change,
            },
            consume,
        ]);
    }

    fn queue(&self) -> Text {
        format!("lines-{}", self.peer.address).into()
    }

    fn handle_line(&mut self, line: &Bytes, effects: &mut Effects) {
        let text = str::from_utf8(line).unwrap_or_default().trim_end();
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        let command = match (word, rest.split_once(' ').unwrap_or((rest, ""))) {
            ("PUB", (topic, body)) if !topic.is_empty() => {
                publish(topic, line.slice_ref(body.as_bytes()))
            }
            ("SUB", (filter, "")) if !filter.is_empty() => bind(self.queue(), filter.into()),
            ("ACK", (number, "")) => return acknowledge(number, effects),
            ("QUIT", _) => return self.close("BYE", effects),
            _ => {
                return say(
                    "ERR expected PUB topic text, SUB filter, ACK n or QUIT",
                    effects,
                );
            }
        };
        self.state = State::Busy;
        effects.commands.push(command);
    }

    /// The line is done with, and the next one may come.
    fn answer(&mut self, answer: &str, effects: &mut Effects) {
        say(answer, effects);
        self.state = State::Ready;
    }

    fn close(&mut self, last_words: &str, effects: &mut Effects) {
        say(last_words, effects);
        self.state = State::Closed;
    }
}

fn publish(topic: &str, body: Bytes) -> Command {
    let topic = Topic::new(topic.into(), Grammar::Slashes);
    let origin = Origin {
        protocol: "lines".into(),
        vhost: "/".into(),
        ..Origin::default()
    };
    Command::Publish {
        token: Some(LINE),
        message: Arc::new(Message::plain(
            EXCHANGE.into(),
            topic,
            body,
            Arc::new(origin),
        )),
        mandatory: false,
    }
}

fn bind(queue: Text, filter: Text) -> Command {
    Command::Define {
        token: LINE,
        change: Change::Bind(Binding {
            source: EXCHANGE.into(),
            destination: Destination::Queue(queue),
            key: filter,
            grammar: Grammar::Slashes,
            arguments: Vec::new(),
            subscription: None,
        }),
    }
}

fn acknowledge(number: &str, effects: &mut Effects) {
    let Ok(id) = number.parse().map(DeliveryId) else {
        return say("ERR not a number", effects);
    };
    effects.commands.push(Command::Settle {
        consumer: CONSUMER,
        deliveries: id..=id,
        outcome: Outcome::Accept,
    });
    say("OK", effects);
}

fn deliver(delivery: &Delivery, effects: &mut Effects) {
    let message = &delivery.message;
    let topic = message.topic.render(Grammar::Slashes);
    let body =
        String::from_utf8_lossy(message.body.as_deref().unwrap_or_default()).replace('\n', "\\n");
    say(&format!("MSG {} {topic} {body}", delivery.id), effects);
}

fn say(line: &str, effects: &mut Effects) {
    effects.output.buffer().extend_from_slice(line.as_bytes());
    effects.output.buffer().extend_from_slice(b"\n");
}
