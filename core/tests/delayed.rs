//! Delayed exchanges: when messages come, that they survive, that they come once, and that they go with their
//! exchange.

mod support;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use support::{Client, advance, exchange, message, open, options};
use trivium_core::{
    Broker, Change, Command, Dialect, ExchangeKind, ExchangeSpec, Message, Native, Properties,
    Refusal, Text, Value, store::memory::MemoryStore,
};

/// Blocks that are the digits of a delay, with a sign.
struct DelayOnly;

static DELAY_ONLY: DelayOnly = DelayOnly;

impl Dialect for DelayOnly {
    fn id(&self) -> u8 {
        77
    }

    fn properties(&self, block: &Bytes) -> Properties {
        let text = std::str::from_utf8(block).unwrap_or_default();
        let delay = text.parse().map(Value::I64);
        Properties {
            headers: delay
                .into_iter()
                .map(|delay| ("x-delay".into(), delay))
                .collect(),
            ..Properties::default()
        }
    }

    fn with_header(&self, _: &Bytes, _: &str, value: &Value) -> Bytes {
        match value {
            Value::I32(delay) => delay.to_string().into(),
            value => panic!("{value:?}"),
        }
    }
}

fn delayed(kind: &str) -> ExchangeSpec {
    let kind = Value::Text(kind.into());
    ExchangeSpec {
        arguments: vec![("x-delayed-type".into(), kind)],
        ..exchange(ExchangeKind::Delayed)
    }
}

fn after(key: &str, body: &str, delay: i64) -> Message {
    Message {
        native: Native {
            dialect: &DELAY_ONLY,
            block: delay.to_string().into(),
        },
        ..message("delayed", key, body)
    }
}

async fn open_with(store: Arc<MemoryStore>) -> Broker {
    let mut options = options();
    options.dialects.push(&DELAY_ONLY);
    Broker::open(store, options)
        .await
        .expect("the store is sound")
}

async fn declare(client: &mut Client, spec: ExchangeSpec) {
    let name = "delayed".into();
    client
        .define(Change::DeclareExchange { name, spec })
        .await
        .expect("it is as it was");
}

async fn publish(client: &mut Client, message: Message) {
    let token = client.token();
    let message = Arc::new(message);
    client
        .submit(Command::Publish {
            token: Some(token),
            message,
            mandatory: true,
        })
        .await;
    client.confirmed(token).await.expect("nothing refuses it");
}

/// Makes the time pass, and every shard look at the clock.
async fn pass(broker: &Broker, time: Duration) {
    advance(time);
    broker.samples().await;
}

/// Messages come in the order of their due times, not before, with the header negated; without a positive delay at
/// once and as they are.
#[tokio::test]
async fn messages_come_when_they_are_due() {
    let broker = open_with(Arc::new(MemoryStore::new())).await;
    let mut client = Client::new(&broker);
    declare(&mut client, delayed("direct")).await;
    client.queue("q").await;
    client.bind("delayed", "k", "q").await;
    publish(&mut client, after("k", "late", 7_200_000)).await;
    publish(&mut client, after("k", "soon", 3_600_000)).await;
    publish(&mut client, after("other", "nowhere", 1)).await;
    publish(&mut client, after("k", "at once", -5)).await;
    assert_eq!(client.get("q").await.as_deref(), Some("at once"));
    pass(&broker, Duration::from_secs(3599)).await;
    assert_eq!(client.get("q").await, None, "not before its time");
    pass(&broker, Duration::from_secs(2)).await;
    client.filled("q", 1).await;
    client.consume(1, "q", Default::default()).await;
    let delivery = client.delivery().await;
    assert_eq!(support::body(&delivery.message), "soon");
    assert_eq!(delivery.message.native.block, "-3600000");
    pass(&broker, Duration::from_secs(3600)).await;
    assert_eq!(client.bodies(1).await, ["late"]);
}

/// What waits is as durable as a message in a queue, and is moved once whatever happens.
#[tokio::test]
async fn what_waits_survives_a_crash_and_comes_once() {
    let mut store = Arc::new(MemoryStore::new());
    let broker = open_with(store.clone()).await;
    let mut client = Client::new(&broker);
    declare(&mut client, delayed("topic")).await;
    client.queue("q").await;
    client.bind("delayed", "a.*", "q").await;
    for number in 0..200 {
        let message = after("a.b", &number.to_string(), 1000 + number);
        publish(&mut client, message).await;
    }
    drop((client, broker));
    for seed in 1..3 {
        // The second time, some have been moved before.
        store = Arc::new(store.crash(seed));
        let broker = open_with(store.clone()).await;
        let mut client = Client::new(&broker);
        declare(&mut client, delayed("topic")).await;
        if seed == 1 {
            pass(&broker, Duration::from_millis(1100)).await;
            client.filled("q", 1).await;
        } else {
            pass(&broker, Duration::from_secs(10)).await;
            client.filled("q", 200).await;
            assert_eq!(client.queue("q").await.0, 200);
            let mut bodies = Vec::new();
            while let Some(body) = client.get("q").await {
                bodies.push(body.parse::<usize>().unwrap());
            }
            bodies.sort_unstable();
            assert_eq!(bodies, (0..200).collect::<Vec<_>>());
        }
    }
}

/// More than is kept in memory comes all the same, in order.
#[tokio::test]
async fn what_is_far_away_is_read_back() {
    let broker = open_with(Arc::new(MemoryStore::new())).await;
    let mut client = Client::new(&broker);
    declare(&mut client, delayed("fanout")).await;
    client.queue("q").await;
    client.bind("delayed", "", "q").await;
    let body = "x".repeat(100_000);
    // 20 MB, the last ones first.
    for number in (0..200).rev() {
        let message = after("", &format!("{number:03}{body}"), 10_000 + number * 60_000);
        publish(&mut client, message).await;
    }
    pass(&broker, Duration::from_secs(20_000)).await;
    client.consume(1, "q", Default::default()).await;
    for number in 0..200 {
        let delivery = client.delivery().await;
        let text = support::body(&delivery.message);
        assert_eq!(&text[..3], format!("{number:03}"));
        client.flushed().await;
    }
}

/// Deleting the exchange drops what waits at it, also for one of the same name.
#[tokio::test]
async fn what_waits_goes_with_the_exchange() {
    let store = Arc::new(MemoryStore::new());
    let broker = open_with(store.clone()).await;
    let mut client = Client::new(&broker);
    declare(&mut client, delayed("fanout")).await;
    client.queue("q").await;
    publish(&mut client, after("", "dropped", 1000)).await;
    let name = Text::from("delayed");
    client
        .define(Change::DeleteExchange {
            name,
            if_unused: false,
        })
        .await
        .unwrap();
    declare(&mut client, delayed("fanout")).await;
    client.bind("delayed", "", "q").await;
    publish(&mut client, after("", "kept", 2000)).await;
    advance(Duration::from_secs(1));
    drop((client, broker));
    let broker = open_with(Arc::new(store.crash(1))).await;
    let mut client = Client::new(&broker);
    pass(&broker, Duration::from_secs(5)).await;
    client.filled("q", 1).await;
    assert_eq!(client.get("q").await.as_deref(), Some("kept"));
    assert_eq!(client.get("q").await, None);
}

/// A delayed exchange says how it routes, and is the same only if it says the same.
#[tokio::test]
async fn the_type_is_checked() {
    let broker = open(Arc::new(MemoryStore::new())).await;
    let mut client = Client::new(&broker);
    let mut declare = async |spec| {
        let name = "delayed".into();
        client.define(Change::DeclareExchange { name, spec }).await
    };
    for spec in [
        exchange(ExchangeKind::Delayed),
        delayed("nosuch"),
        delayed("x-delayed-message"),
    ] {
        let refused = declare(spec).await;
        let text = "Invalid argument, 'x-delayed-type' must be an existing exchange type";
        assert_eq!(refused.unwrap_err(), Refusal::Invalid(text.into()));
    }
    declare(delayed("direct")).await.unwrap();
    declare(delayed("direct")).await.unwrap();
    let refused = declare(delayed("topic")).await.unwrap_err().to_string();
    assert!(refused.contains("'x-delayed-type'"), "{refused}");
}
