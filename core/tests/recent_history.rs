//! Exchanges of the type `x-recent-history`: what they remember, and which bindings get it.

mod support;

use std::{sync::Arc, time::Duration};

use support::{Client, exchange, logs::from, message, open, queues::Declaring};
use trivium_core::{
    Binding, Broker, Change, Destination, ExchangeKind, ExchangeSpec, Grammar, Refusal, Value,
    store::memory::MemoryStore,
};

async fn declare(client: &mut Client, arguments: &[(&str, Value)]) -> Result<(), Refusal> {
    let arguments = arguments
        .iter()
        .map(|(name, value)| ((*name).into(), value.clone()));
    let spec = ExchangeSpec {
        arguments: arguments.collect(),
        ..exchange(ExchangeKind::RecentHistory)
    };
    let name = "x".into();
    let declared = client.define(Change::DeclareExchange { name, spec }).await;
    declared.map(drop)
}

async fn of_length(length: i32) -> (Arc<MemoryStore>, Broker, Client) {
    let store = Arc::new(MemoryStore::new());
    let broker = open(store.clone()).await;
    let mut client = Client::new(&broker);
    declare(
        &mut client,
        &[("x-recent-history-length", Value::I32(length))],
    )
    .await
    .expect("a length");
    (store, broker, client)
}

fn binding(destination: Destination) -> Binding {
    Binding {
        source: "x".into(),
        destination,
        key: "k".into(),
        grammar: Grammar::Dots,
        arguments: Vec::new(),
        subscription: None,
    }
}

async fn publish_all(client: &mut Client, bodies: &[&str]) {
    for body in bodies {
        // Nobody may be there: that is no reason to forget it.
        client.offer("x", "k", body).await.expect("it is taken");
    }
}

/// The latest messages come first and in order, also those that had no binding; what comes later comes once; a binding
/// that is there already is not a new one, and one that is made again is.
#[tokio::test]
async fn a_new_binding_gets_what_is_remembered() {
    let (_store, _broker, mut client) = of_length(3).await;
    publish_all(&mut client, &["1", "2", "3", "4"]).await;
    client.queue("q").await;
    client.bind("x", "k", "q").await;
    assert_eq!(client.drained("q").await, ["2", "3", "4"]);
    publish_all(&mut client, &["5"]).await;
    client.bind("x", "k", "q").await;
    assert_eq!(client.drained("q").await, ["5"]);
    client.queue("other").await;
    client.bind("x", "", "other").await;
    assert_eq!(client.drained("other").await, ["3", "4", "5"]);
    let to = Destination::Queue("q".into());
    client.define(Change::Unbind(binding(to))).await.unwrap();
    client.bind("x", "k", "q").await;
    assert_eq!(client.drained("q").await, ["3", "4", "5"]);
}

/// Twenty messages without an argument, and a positive number of them with one, of any integer type.
#[tokio::test]
async fn how_much_is_remembered() {
    let broker = open(Arc::new(MemoryStore::new())).await;
    let mut client = Client::new(&broker);
    for (wrong, told) in [
        (Value::I32(0), "0"),
        (Value::I64(-1), "-1"),
        (Value::Text("ten".into()), "<<\"ten\">>"),
    ] {
        let refused = declare(&mut client, &[("x-recent-history-length", wrong)]).await;
        let text = format!(
            "Invalid argument {told}, 'x-recent-history-length' must be a positive integer"
        );
        assert_eq!(refused, Err(Refusal::Invalid(text.into())));
    }
    declare(&mut client, &[]).await.unwrap();
    for number in 0..30 {
        client.publish("x", "k", &number.to_string()).await;
    }
    client.queue("q").await;
    client.bind("x", "k", "q").await;
    let latest: Vec<_> = (10..30).map(|number| number.to_string()).collect();
    assert_eq!(client.drained("q").await, latest);
}

/// Memory is bounded whatever the length is: the oldest go, and the latest message stays however large it is.
#[tokio::test]
async fn large_messages_are_remembered_up_to_a_bound() {
    let (_store, _broker, mut client) = of_length(1_000_000).await;
    let large = "x".repeat(3 << 20);
    for _ in 0..4 {
        client.publish("x", "k", &large).await;
    }
    client.queue("q").await;
    client.bind("x", "k", "q").await;
    assert_eq!(client.drained("q").await.len(), 2);
    client.publish("x", "k", &"y".repeat(9 << 20)).await;
    client.queue("other").await;
    client.bind("x", "k", "other").await;
    assert_eq!(client.drained("other").await.len(), 1);
}

/// Through an exchange it goes where that leads by the message's own key, and into a log.
#[tokio::test]
async fn exchanges_and_logs_get_it_too() {
    let (_store, _broker, mut client) = of_length(5).await;
    publish_all(&mut client, &["1", "2"]).await;
    client.declare_exchange("next", ExchangeKind::Direct).await;
    client.queue("q").await;
    client.bind("next", "k", "q").await;
    client.queue("elsewhere").await;
    client.bind("next", "other", "elsewhere").await;
    let to = Destination::Exchange("next".into());
    client.define(Change::Bind(binding(to))).await.unwrap();
    assert_eq!(client.drained("q").await, ["1", "2"]);
    assert_eq!(client.drained("elsewhere").await, [""; 0]);
    client
        .with_log("log", &[("mq.tap", "off"), ("mq.bind", "")])
        .await;
    let to = Destination::Log("log".into());
    client.define(Change::Bind(binding(to))).await.unwrap();
    client
        .fetch(from("log", 0, 0), Duration::from_secs(30))
        .await;
    assert_eq!(client.read("log", 0, 0).await, ["1", "2"]);
}

/// What a delayed exchange or a dead letter brings is remembered as well; what is published to other exchanges is not.
#[tokio::test]
async fn what_comes_from_other_exchanges_is_remembered() {
    let (_store, _broker, mut client) = of_length(5).await;
    client.declare_exchange("first", ExchangeKind::Fanout).await;
    let to = Binding {
        source: "first".into(),
        ..binding(Destination::Exchange("x".into()))
    };
    client.define(Change::Bind(to)).await.unwrap();
    client.publish("first", "k", "by an exchange").await;
    let dying = [
        ("x-dead-letter-exchange", Value::Text("x".into())),
        ("x-max-length", Value::I32(0)),
    ];
    client.declare("dying", &dying).await;
    client
        .publish_message(message("", "dying", "a dead letter"))
        .await;
    client.queue("sees").await;
    client.bind("x", "k", "sees").await;
    client.until("sees", 2).await;
    assert_eq!(
        client.drained("sees").await,
        ["by an exchange", "a dead letter"]
    );
}

/// The exchange survives; what it remembers does not.
#[tokio::test]
async fn the_history_ends_with_the_broker() {
    let (store, broker, mut client) = of_length(5).await;
    publish_all(&mut client, &["1"]).await;
    drop((client, broker));
    let broker = open(Arc::new(store.kill(1))).await;
    let mut client = Client::new(&broker);
    publish_all(&mut client, &["2"]).await;
    client.queue("q").await;
    client.bind("x", "k", "q").await;
    assert_eq!(client.drained("q").await, ["2"]);
}
