//! Bindings by way of a log: `x-backfill` (docs/across.md).

mod support;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use support::{
    Client, advance, for_each_seed,
    logs::{batch, damage_records, log},
    now, open,
    queues::{Declaring, arguments, store, text},
};
use trivium_core::{
    Binding, Broker, Change, Command, Destination, ExchangeKind, Grammar, Offset, Refusal, Reply,
    Value, store::memory::MemoryStore,
};

fn binding(exchange: &str, key: &str, queue: &str, with: &[(&str, Value)]) -> Binding {
    Binding {
        source: exchange.into(),
        destination: Destination::Queue(queue.into()),
        key: key.into(),
        grammar: Grammar::Dots,
        arguments: arguments(with),
        subscription: None,
    }
}

fn first() -> (&'static str, Value) {
    ("x-backfill", text("first"))
}

async fn bind(client: &mut Client, binding: Binding) -> Result<Reply, Refusal> {
    client.define(Change::Bind(binding)).await
}

async fn broker() -> (Arc<MemoryStore>, Broker, Client) {
    let store = store();
    let broker = open(store.clone()).await;
    let mut client = Client::new(&broker);
    client
        .log("orders", log(1, &[]))
        .await
        .expect("nothing refuses it");
    (store, broker, client)
}

async fn append(client: &mut Client, values: &[&str]) {
    let appended = client.append("orders", 0, batch(values, None)).await;
    appended.expect("nothing refuses it");
}

/// The next messages of a queue.
async fn taken(client: &mut Client, queue: &str, count: usize) -> Vec<String> {
    client.until(queue, count as u64).await;
    let mut found = Vec::new();
    for _ in 0..count {
        found.extend(client.get(queue).await);
    }
    found
}

/// What is appended and what is captured, before and after.
#[tokio::test]
async fn what_is_there_comes_first_and_each_record_once() {
    let (_store, _broker, mut client) = broker().await;
    append(&mut client, &["a", "b"]).await;
    client.publish("amq.topic", "orders", "c").await;
    client.queue("new").await;
    bind(
        &mut client,
        binding("amq.topic", "orders", "new", &[first()]),
    )
    .await
    .unwrap();
    append(&mut client, &["d"]).await;
    client.publish("amq.topic", "orders", "e").await;
    append(&mut client, &["f"]).await;
    assert_eq!(
        taken(&mut client, "new", 6).await,
        ["a", "b", "c", "d", "e", "f"]
    );
    // Binding it again changes nothing.
    bind(
        &mut client,
        binding("amq.topic", "orders", "new", &[first()]),
    )
    .await
    .unwrap();
    append(&mut client, &["g"]).await;
    assert_eq!(taken(&mut client, "new", 1).await, ["g"]);
    // Unbound, it gets nothing more; bound anew, all of it.
    let unbind = Change::Unbind(binding("amq.topic", "orders", "new", &[first()]));
    client.define(unbind).await.unwrap();
    append(&mut client, &["h"]).await;
    assert_eq!(client.count("new").await, 0);
    bind(
        &mut client,
        binding("amq.topic", "orders", "new", &[first()]),
    )
    .await
    .unwrap();
    assert_eq!(
        taken(&mut client, "new", 8).await,
        ["a", "b", "c", "d", "e", "f", "g", "h"]
    );
}

#[tokio::test]
async fn a_backfill_begins_at_a_time_and_chooses_as_its_exchange() {
    let (_store, _broker, mut client) = broker().await;
    append(&mut client, &["a"]).await;
    advance(Duration::from_secs(60));
    let then = Value::Timestamp(now().wall.0 / 1000);
    append(&mut client, &["b"]).await;
    for queue in ["late", "fan", "none"] {
        client.queue(queue).await;
    }
    let of_orders = ("x-source", text("orders"));
    let with = [("x-backfill", then), of_orders.clone()];
    bind(&mut client, binding("amq.topic", "#", "late", &with))
        .await
        .unwrap();
    let with = [first(), of_orders];
    bind(&mut client, binding("amq.fanout", "", "fan", &with))
        .await
        .unwrap();
    bind(&mut client, binding("amq.topic", "other.*", "none", &with))
        .await
        .unwrap();
    append(&mut client, &["c"]).await;
    assert_eq!(taken(&mut client, "late", 2).await, ["b", "c"]);
    assert_eq!(taken(&mut client, "fan", 3).await, ["a", "b", "c"]);
    assert_eq!(client.count("none").await, 0);
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let (_store, _broker, mut client) = broker().await;
    client.queue("q").await;
    for (key, with) in [
        ("orders", vec![("x-backfill", text("soon"))]),
        ("orders", vec![("x-backfill", Value::Bool(true))]),
        ("orders", vec![first(), ("x-source", Value::I32(1))]),
    ] {
        let refused = bind(&mut client, binding("amq.topic", key, "q", &with)).await;
        assert!(matches!(refused, Err(Refusal::Invalid(_))), "{refused:?}");
    }
    let refused = bind(&mut client, binding("amq.topic", "none", "q", &[first()])).await;
    assert!(
        matches!(refused, Err(Refusal::NotFound { .. })),
        "{refused:?}"
    );
    let spread = Change::DeclareExchange {
        name: "spread".into(),
        spec: support::exchange(ExchangeKind::Random),
    };
    client.define(spread).await.unwrap();
    let with = [first(), ("x-source", text("orders"))];
    let refused = bind(&mut client, binding("spread", "", "q", &with)).await;
    assert!(matches!(refused, Err(Refusal::Invalid(_))), "{refused:?}");
}

/// Its binding goes with the log, and one of the same name is another.
#[tokio::test]
async fn a_binding_ends_with_its_log() {
    let (_store, _broker, mut client) = broker().await;
    append(&mut client, &["a"]).await;
    client.queue("q").await;
    bind(&mut client, binding("amq.topic", "orders", "q", &[first()]))
        .await
        .unwrap();
    assert_eq!(taken(&mut client, "q", 1).await, ["a"]);
    client.delete_log("orders").await.unwrap();
    client.log("orders", log(1, &[])).await.unwrap();
    append(&mut client, &["b"]).await;
    client.touch_shards().await;
    assert_eq!(client.count("q").await, 0);
}

/// A crash at any time: nothing is there twice, nothing is missing, and the order is that of the log.
async fn crashes(seed: u64) {
    let (mut store, mut broker, mut client) = broker().await;
    let values: Vec<String> = (0..200).map(|at| format!("{at:03}")).collect();
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    for some in values[..100].chunks(7) {
        append(&mut client, some).await;
    }
    client.queue("q").await;
    let fed = binding("amq.topic", "orders", "q", &[first()]);
    bind(&mut client, fed).await.expect("nothing refuses it");
    for (at, some) in values[100..].chunks(10).enumerate() {
        append(&mut client, some).await;
        if (at as u64 + seed).is_multiple_of(4) {
            drop((client, broker));
            store = Arc::new(store.crash(seed + at as u64));
            broker = open(store.clone()).await;
            client = Client::new(&broker);
        }
    }
    assert_eq!(taken(&mut client, "q", 200).await, values);
    assert_eq!(client.count("q").await, 0);
    let distinct: BTreeSet<_> = values.iter().collect();
    assert_eq!(distinct.len(), 200);
    let trim = |token| Command::Trim {
        token,
        log: "orders".into(),
        partition: 0,
        to: Some(Offset(200)),
    };
    client.ask(trim).await.expect("nothing refuses it");
    append(&mut client, &["last"]).await;
    assert_eq!(taken(&mut client, "q", 1).await, ["last"]);
}

#[test]
fn a_crash_loses_and_doubles_nothing() {
    for_each_seed(0..12, crashes);
}

/// A batch that is damaged in the store is left out and counted, and what comes behind it arrives.
#[tokio::test]
async fn damage_does_not_stop_a_backfill() {
    let (store, broker, mut client) = broker().await;
    append(&mut client, &["a", "b"]).await;
    drop((client, broker));
    let store = Arc::new(store.crash(1));
    damage_records(&*store, 1).await;
    let broker = open(store).await;
    let mut client = Client::new(&broker);
    client.declare("q", &[]).await;
    let fed = binding("amq.topic", "orders", "q", &[first()]);
    bind(&mut client, fed).await.unwrap();
    append(&mut client, &["behind"]).await;
    assert_eq!(taken(&mut client, "q", 1).await, ["behind"]);
    let samples = broker.samples().await;
    let lost = samples
        .iter()
        .find(|it| it.name == "trivium_backfill_lost_total");
    assert_eq!(lost.map(|it| it.value), Some(2));
}
