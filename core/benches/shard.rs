//! What a message costs the core itself: link, shard and queue over the memory store, in one thread,
//! without a socket, a codec or a disk.
//!
//! `cargo bench -p trivium-core --bench shard`
#![allow(clippy::print_stdout, reason = "a bench reports on the terminal")]

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use trivium_core::{
    Binding, Broker, Change, Command, ConsumeSpec, ConsumerId, DeliveryId, Destination, Event,
    Grammar, Limits, Link, Message, Native, Now, Options, Origin, Outcome, Persistence, Plain,
    QueueSpec, Timestamp, Token, Topic,
    store::{Durability, memory::MemoryStore},
};

/// Messages that a connection reads at once.
const TURN: usize = 64;
const TURNS: usize = 4_000;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime starts");
    println!("{:<48} {:>12}", "64 messages of 100 B a turn", "ns/message");
    runtime.block_on(async {
        report(
            "transient, automatic acknowledgement",
            work(1, false, true).await,
        );
        report(
            "transient, acknowledged by the turn",
            work(1, false, false).await,
        );
        report(
            "durable, acknowledged by the turn",
            work(1, true, false).await,
        );
        report(
            "durable to 10 queues, per copy",
            work(10, true, false).await / 10.0,
        );
        report(
            "transient to 100 queues, per copy",
            work(100, false, true).await / 100.0,
        );
    });
}

fn report(what: &str, nanoseconds: f64) {
    println!("{what:<48} {nanoseconds:>12.0}");
}

/// Nanoseconds per published message, through to its settlement in all of `queues`.
async fn work(queues: u32, durable: bool, auto_ack: bool) -> f64 {
    let broker = open().await;
    let mut link = broker.connect(Origin {
        user: "guest".into(),
        ..Origin::default()
    });
    for queue in 0..queues {
        define(&mut link, declare(queue, durable)).await;
        define(&mut link, bind(queue)).await;
        let spec = ConsumeSpec {
            auto_ack,
            ..ConsumeSpec::default()
        };
        let (token, consumer, queue) = (Token(0), ConsumerId(queue), name(queue));
        submit(
            &mut link,
            vec![Command::Consume {
                token,
                consumer,
                queue,
                spec,
            }],
        )
        .await;
    }
    let message = Arc::new(message(durable));
    let turns = TURNS / queues as usize;
    let start = clock().instant;
    let mut events = Vec::new();
    for _ in 0..turns {
        submit(&mut link, (0..TURN).map(|_| publish(&message)).collect()).await;
        let mut missing = TURN * queues as usize;
        let mut settled = Vec::new();
        while missing > 0 {
            link.receive(&mut events).await;
            for event in events.drain(..) {
                if let Event::Deliver {
                    consumer,
                    deliveries,
                } = event
                {
                    missing -= deliveries.len();
                    settled.push(settle(
                        consumer,
                        deliveries[0].id,
                        deliveries[deliveries.len() - 1].id,
                    ));
                }
            }
        }
        if !auto_ack {
            submit(&mut link, settled).await;
        }
        link.flushed().await.expect("the broker is up");
    }
    start.elapsed().as_nanos() as f64 / (turns * TURN) as f64
}

async fn open() -> Broker {
    let options = Options {
        shards: 1,
        durability: Durability::Written,
        dialects: Vec::new(),
        queue_memory: 64 << 20,
        log_memory: 1 << 20,
        retained_messages_max: 0,
        retained_bytes_max: 0,
        session_subscriptions_max: 0,
        limits: Limits::default(),
        batch_bytes_max: 1_048_588,
        initial_rebalance_delay: std::time::Duration::ZERO,
        groups: Default::default(),
        default_queue_type: "classic",
        user: None,
        clock,
    };
    Broker::open(Arc::new(MemoryStore::new()), options)
        .await
        .expect("an empty store opens")
}

#[expect(clippy::disallowed_methods, reason = "a bench is a server to the core")]
fn clock() -> Now {
    Now {
        instant: Instant::now(),
        wall: Timestamp(1),
    }
}

async fn submit(link: &mut Link, mut commands: Vec<Command>) {
    link.submit(&mut commands).await.expect("the broker is up");
}

async fn define(link: &mut Link, change: Change) {
    submit(
        link,
        vec![Command::Define {
            token: Token(0),
            change,
        }],
    )
    .await;
}

fn name(queue: u32) -> trivium_core::Text {
    format!("q{queue}").into()
}

fn declare(queue: u32, durable: bool) -> Change {
    let spec = QueueSpec {
        durable,
        exclusive: false,
        auto_delete: false,
        expires: None,
        session: false,
        arguments: Vec::new(),
    };
    Change::DeclareQueue {
        name: name(queue),
        spec,
    }
}

fn bind(queue: u32) -> Change {
    Change::Bind(Binding {
        source: "amq.fanout".into(),
        destination: Destination::Queue(name(queue)),
        key: "".into(),
        grammar: Grammar::Dots,
        arguments: Vec::new(),
        subscription: None,
    })
}

fn publish(message: &Arc<Message>) -> Command {
    Command::Publish {
        token: None,
        message: message.clone(),
        mandatory: false,
    }
}

fn settle(consumer: ConsumerId, first: DeliveryId, last: DeliveryId) -> Command {
    Command::Settle {
        consumer,
        deliveries: first..=last,
        outcome: Outcome::Accept,
    }
}

fn message(durable: bool) -> Message {
    Message {
        exchange: "amq.fanout".into(),
        topic: Topic::new("key".into(), Grammar::Dots),
        body: Some(Bytes::from(vec![0; 100])),
        key: None,
        timestamp: None,
        expiry_ms: None,
        persistence: if durable {
            Persistence::Persistent
        } else {
            Persistence::Transient
        },
        priority: None,
        retain: false,
        native: Native {
            dialect: &Plain,
            block: Bytes::new(),
        },
        origin: Arc::default(),
    }
}
