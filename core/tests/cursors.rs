//! Cursors: queues that are a view over a log (DESIGN sections 1 and 3).

mod support;

use std::{sync::Arc, time::Duration};

use support::{
    Client, advance, body,
    logs::{batch, damage_records, keyed, log},
    open,
    queues::{Declaring, arguments, death, deaths, prefetch, settle, store, text},
};
use trivium_core::{
    Binding, CancelReason, Change, Command, ConsumerId, Destination, Event, Grammar, Offset,
    Outcome, QueueSpec, Refusal, Reply, StreamStart, Value, store::Store,
};

/// A cursor of the log `orders`.
fn cursor(with: &[(&str, Value)]) -> QueueSpec {
    let kind = [
        ("x-queue-type", text("cursor")),
        ("x-source", text("orders")),
    ];
    QueueSpec {
        durable: true,
        arguments: arguments(&[&kind, with].concat()),
        ..QueueSpec::default()
    }
}

async fn declare(client: &mut Client, name: &str, spec: QueueSpec) -> Result<Reply, Refusal> {
    let name = name.into();
    client.define(Change::DeclareQueue { name, spec }).await
}

fn first() -> (&'static str, Value) {
    ("x-stream-offset", text("first"))
}

/// A broker with the log `orders` of so many partitions, untapped.
async fn orders(store: Arc<dyn Store>, partitions: u32) -> (trivium_core::Broker, Client) {
    let broker = open(store).await;
    let mut client = Client::new(&broker);
    let spec = log(partitions, &[("mq.tap", "off"), ("mq.bind", "off")]);
    client
        .log("orders", spec)
        .await
        .expect("nothing refuses it");
    (broker, client)
}

async fn append(client: &mut Client, values: &[&str]) {
    client
        .append("orders", 0, batch(values, None))
        .await
        .expect("nothing refuses it");
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[tokio::test]
async fn competing_consumers_share_the_records_of_a_log() {
    let (_broker, mut client) = orders(store(), 3).await;
    for partition in 0..3 {
        let values: Vec<String> = (0..40).map(|at| format!("{partition}-{at}")).collect();
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        client
            .append("orders", partition, batch(&values, None))
            .await
            .unwrap();
    }
    declare(&mut client, "work", cursor(&[first()]))
        .await
        .unwrap();
    assert_eq!(client.count("work").await, 120);
    client.consume(1, "work", prefetch(10)).await;
    client.consume(2, "work", prefetch(10)).await;
    let mut found = Vec::new();
    while found.len() < 120 {
        let (consumer, delivery) = client
            .expect(|event| match event {
                Event::Deliver {
                    consumer,
                    deliveries,
                } if !deliveries.is_empty() => Some((consumer.0, deliveries.remove(0))),
                _ => None,
            })
            .await;
        assert!(!delivery.redelivered);
        found.push((consumer, body(&delivery.message)));
        client
            .submit(settle(consumer, delivery.id.0, Outcome::Accept))
            .await;
    }
    let by = |consumer| found.iter().filter(|(by, _)| *by == consumer).count();
    assert!(by(1) >= 10 && by(2) >= 10, "{} and {}", by(1), by(2));
    let mut bodies: Vec<_> = found.into_iter().map(|(_, body)| body).collect();
    bodies.sort();
    bodies.dedup();
    assert_eq!(bodies.len(), 120);
    // What comes now is delivered too.
    append(&mut client, &["later"]).await;
    assert_eq!(body(&client.delivery().await.message), "later");
    assert_eq!(client.count("work").await, 0);
}

#[tokio::test]
async fn cursors_of_one_log_are_independent_and_begin_where_they_were_declared_to() {
    let (_broker, mut client) = orders(store(), 1).await;
    append(&mut client, &["a", "b"]).await;
    advance(Duration::from_secs(60));
    let then = support::now().wall.0 / 1000;
    append(&mut client, &["c"]).await;
    append(&mut client, &["d", "e"]).await;
    let offset = |value| cursor(&[("x-stream-offset", value)]);
    declare(&mut client, "next", cursor(&[])).await.unwrap();
    declare(&mut client, "first", offset(text("first")))
        .await
        .unwrap();
    declare(&mut client, "last", offset(text("last")))
        .await
        .unwrap();
    declare(&mut client, "third", offset(Value::I32(2)))
        .await
        .unwrap();
    declare(&mut client, "then", offset(Value::Timestamp(then)))
        .await
        .unwrap();
    append(&mut client, &["f"]).await;
    for (name, expected) in [
        ("next", &["f"][..]),
        ("first", &["a", "b", "c", "d", "e", "f"]),
        ("last", &["d", "e", "f"]),
        ("third", &["c", "d", "e", "f"]),
        ("then", &["c", "d", "e", "f"]),
    ] {
        let mut found = Vec::new();
        while let Some(body) = client.get(name).await {
            found.push(body);
        }
        assert_eq!(found, words(expected), "{name}");
    }
}

/// As for queues: what is acknowledged is never delivered again, what is not is, and it says so.
#[tokio::test]
async fn what_is_settled_survives_and_what_is_not_comes_again() {
    let store = store();
    let (broker, mut client) = orders(store.clone(), 1).await;
    append(&mut client, &["a", "b", "c", "d", "e"]).await;
    declare(&mut client, "work", cursor(&[first()]))
        .await
        .unwrap();
    client.consume(1, "work", prefetch(4)).await;
    assert_eq!(client.bodies(4).await, words(&["a", "b", "c", "d"]));
    client.submit(settle(1, 2, Outcome::Accept)).await;
    client.submit(settle(1, 4, Outcome::Accept)).await;
    assert_eq!(client.bodies(1).await, words(&["e"]));
    client.make_durable().await;
    drop((client, broker));
    let broker = open(std::sync::Arc::new(store.crash(1))).await;
    let mut client = Client::new(&broker);
    assert_eq!(client.count("work").await, 3);
    for (body, redelivered) in [("a", true), ("c", true), ("e", true)] {
        let delivery = client.take("work").await.unwrap();
        assert_eq!(support::body(&delivery.message), body);
        assert_eq!((delivery.redelivered, delivery.returns), (redelivered, 1));
    }
    assert!(client.take("work").await.is_none());
}

#[tokio::test]
async fn what_comes_back_too_often_is_dead_lettered() {
    let (_broker, mut client) = orders(store(), 1).await;
    append(&mut client, &["poison", "good"]).await;
    client.queue("dead").await;
    let letters = [
        ("x-dead-letter-exchange", text("")),
        ("x-dead-letter-routing-key", text("dead")),
        ("x-delivery-limit", Value::I32(2)),
        first(),
    ];
    declare(&mut client, "work", cursor(&letters))
        .await
        .unwrap();
    client.consume(1, "work", prefetch(1)).await;
    for times in 0..3 {
        let delivery = client.delivery().await;
        assert_eq!(body(&delivery.message), "poison");
        assert_eq!((delivery.redelivered, delivery.returns), (times > 0, times));
        client
            .submit(settle(1, delivery.id.0, Outcome::Requeue))
            .await;
    }
    let delivery = client.delivery().await;
    assert_eq!(body(&delivery.message), "good");
    client
        .submit(settle(1, delivery.id.0, Outcome::Reject))
        .await;
    client.until("dead", 2).await;
    for (expected, reason) in [("poison", "delivery_limit"), ("good", "rejected")] {
        let letter = client.take("dead").await.unwrap();
        assert_eq!(body(&letter.message), expected);
        assert_eq!(deaths(&letter.message), [death("work", reason, 1)]);
    }
    assert_eq!(client.count("work").await, 0);
    // The records are where they were.
    assert_eq!(
        client.read("orders", 0, 0).await,
        words(&["poison", "good"])
    );
}

#[tokio::test]
async fn purging_goes_to_the_end() {
    let (_broker, mut client) = orders(store(), 1).await;
    append(&mut client, &["a", "b", "c"]).await;
    declare(&mut client, "work", cursor(&[first()]))
        .await
        .unwrap();
    client.consume(1, "work", prefetch(1)).await;
    assert_eq!(client.bodies(1).await, words(&["a"]));
    let purged = client
        .define(Change::PurgeQueue {
            name: "work".into(),
        })
        .await;
    assert!(
        matches!(purged, Ok(Reply::Deleted { messages: 2 })),
        "{purged:?}"
    );
    append(&mut client, &["d"]).await;
    // What is with a consumer is still there.
    client.submit(settle(1, 1, Outcome::Requeue)).await;
    let again = client.delivery().await;
    assert_eq!(
        (body(&again.message).as_str(), again.redelivered),
        ("a", true)
    );
    client.submit(settle(1, again.id.0, Outcome::Accept)).await;
    assert_eq!(client.bodies(1).await, words(&["d"]));
}

/// A replay: what is unsettled then is of before, and what becomes of it does not matter.
#[tokio::test]
async fn a_cursor_is_sent_back() {
    let (_broker, mut client) = orders(store(), 1).await;
    append(&mut client, &["a", "b", "c"]).await;
    declare(&mut client, "work", cursor(&[first()]))
        .await
        .unwrap();
    client.consume(1, "work", prefetch(2)).await;
    assert_eq!(client.bodies(2).await, words(&["a", "b"]));
    client.submit(settle(1, 1, Outcome::Accept)).await;
    assert_eq!(client.bodies(1).await, words(&["c"]));
    let reset = |to, partition| {
        let queue = "work".into();
        move |token| Command::ResetCursor {
            token,
            queue,
            to,
            partition,
        }
    };
    client.ask(reset(StreamStart::First, None)).await.unwrap();
    assert_eq!(client.count("work").await, 3);
    client.submit(settle(1, 2, Outcome::Accept)).await;
    client.submit(settle(1, 3, Outcome::Requeue)).await;
    assert_eq!(client.bodies(2).await, words(&["a", "b"]));
    client.submit(settle(1, 4, Outcome::Accept)).await;
    client.submit(settle(1, 5, Outcome::Accept)).await;
    assert_eq!(client.bodies(1).await, words(&["c"]));
    client.submit(settle(1, 6, Outcome::Accept)).await;
    let offset = StreamStart::Offset(Offset(2));
    client.ask(reset(offset, Some(0))).await.unwrap();
    assert_eq!(client.bodies(1).await, words(&["c"]));
    let refused = client.ask(reset(offset, Some(1))).await;
    assert!(matches!(refused, Err(Refusal::Invalid(_))), "{refused:?}");
}

#[tokio::test]
async fn expired_records_are_skipped() {
    let (_broker, mut client) = orders(store(), 1).await;
    append(&mut client, &["old"]).await;
    advance(Duration::from_secs(5));
    append(&mut client, &["new"]).await;
    let spec = cursor(&[first(), ("x-message-ttl", Value::I32(3000))]);
    declare(&mut client, "work", spec).await.unwrap();
    assert_eq!(client.get("work").await.as_deref(), Some("new"));
    assert_eq!(client.count("work").await, 0);
}

/// The loss is counted, and the cursor goes on with what is there.
#[tokio::test]
async fn retention_that_overtakes_a_cursor_is_counted() {
    let (broker, mut client) = orders(store(), 1).await;
    append(&mut client, &["a", "b", "c"]).await;
    append(&mut client, &["d"]).await;
    declare(&mut client, "work", cursor(&[first()]))
        .await
        .unwrap();
    let trim = |token| Command::Trim {
        token,
        log: "orders".into(),
        partition: 0,
        to: Some(Offset(3)),
    };
    client.ask(trim).await.unwrap();
    assert_eq!(client.count("work").await, 1);
    assert_eq!(client.get("work").await.as_deref(), Some("d"));
    let samples = broker.samples().await;
    let lost = samples
        .iter()
        .find(|it| it.name == "trivium_cursor_lost_total");
    assert_eq!(lost.unwrap().value, 3);
}

/// `x-filter`: headers as of a binding, keys as of a topic exchange.
#[tokio::test]
async fn a_filter_chooses_records() {
    let (_broker, mut client) = orders(store(), 1).await;
    let records = [
        ("eu.de", Some("1")),
        ("us.ny", Some("2")),
        ("eu.fr", Some("3")),
    ];
    client.append("orders", 0, keyed(&records)).await.unwrap();
    let filter = Value::Table(arguments(&[("x-key", text("eu.*"))]));
    let spec = cursor(&[first(), ("x-filter", filter)]);
    declare(&mut client, "eu", spec.clone()).await.unwrap();
    assert_eq!(client.get("eu").await.as_deref(), Some("1"));
    assert_eq!(client.get("eu").await.as_deref(), Some("3"));
    assert!(client.get("eu").await.is_none());
    assert_eq!(client.count("eu").await, 0);
    // It is what it was declared to be.
    declare(&mut client, "eu", spec).await.unwrap();
    let other = declare(&mut client, "eu", cursor(&[first()])).await;
    assert!(
        matches!(other, Err(Refusal::Inequivalent { .. })),
        "{other:?}"
    );
    let wrong = Value::Table(arguments(&[("x-match", text("some"))]));
    let wrong = declare(&mut client, "wrong", cursor(&[("x-filter", wrong)])).await;
    assert!(matches!(wrong, Err(Refusal::Invalid(_))), "{wrong:?}");
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let (_broker, mut client) = orders(store(), 2).await;
    let number = cursor(&[("x-stream-offset", Value::I32(5))]);
    for spec in [
        QueueSpec {
            durable: false,
            ..cursor(&[])
        },
        QueueSpec {
            auto_delete: true,
            ..cursor(&[])
        },
        cursor(&[("x-max-length", Value::I32(5))]),
        cursor(&[("x-max-priority", Value::I32(5))]),
        cursor(&[("x-stream-offset", text("soon"))]),
        number,
        QueueSpec {
            arguments: arguments(&[("x-queue-type", text("cursor"))]),
            ..cursor(&[])
        },
    ] {
        let refused = declare(&mut client, "q", spec.clone()).await;
        assert!(
            matches!(refused, Err(Refusal::Invalid(_))),
            "{spec:?}: {refused:?}"
        );
    }
    let nowhere = QueueSpec {
        arguments: arguments(&[("x-queue-type", text("cursor")), ("x-source", text("none"))]),
        ..cursor(&[])
    };
    let refused = declare(&mut client, "q", nowhere).await;
    assert!(
        matches!(refused, Err(Refusal::NotFound { .. })),
        "{refused:?}"
    );
    declare(&mut client, "q", cursor(&[])).await.unwrap();
    let binding = Binding {
        source: "amq.direct".into(),
        destination: Destination::Queue("q".into()),
        key: "k".into(),
        grammar: Grammar::Dots,
        arguments: Vec::new(),
        subscription: None,
    };
    let refused = client.define(Change::Bind(binding)).await;
    assert!(matches!(refused, Err(Refusal::Invalid(_))), "{refused:?}");
    // Nothing leads there but its log.
    client.publish("", "q", "lost").await;
    assert_eq!(client.count("q").await, 0);
}

#[tokio::test]
async fn a_cursor_goes_with_its_log_and_grows_with_it() {
    let store = store();
    let (broker, mut client) = orders(store.clone(), 1).await;
    declare(&mut client, "work", cursor(&[])).await.unwrap();
    client.consume(1, "work", prefetch(10)).await;
    let more = Change::AddPartitions {
        name: "orders".into(),
        partitions: 2,
        validate_only: false,
    };
    client.define(more).await.unwrap();
    client
        .append("orders", 1, batch(&["there"], None))
        .await
        .unwrap();
    assert_eq!(client.bodies(1).await, words(&["there"]));
    client.delete_log("orders").await.unwrap();
    let cancelled = client.expect(|event| match event {
        Event::Cancelled { reason, .. } => Some(*reason),
        _ => None,
    });
    assert_eq!(cancelled.await, CancelReason::QueueDeleted);
    let (name, session) = ("work".into(), false);
    let gone = client.define(Change::ExpectQueue { name, session }).await;
    assert!(matches!(gone, Err(Refusal::NotFound { .. })), "{gone:?}");
    drop((client, broker));
    let broker = open(std::sync::Arc::new(store.crash(1))).await;
    let mut client = Client::new(&broker);
    client.log("orders", log(1, &[])).await.unwrap();
    declare(&mut client, "work", cursor(&[first()]))
        .await
        .unwrap();
    assert_eq!(client.count("work").await, 0);
}

#[tokio::test]
async fn a_single_active_consumer_is_followed_by_the_next() {
    let (_broker, mut client) = orders(store(), 1).await;
    let spec = cursor(&[("x-single-active-consumer", Value::Bool(true))]);
    declare(&mut client, "work", spec).await.unwrap();
    client.consume(1, "work", prefetch(1)).await;
    client.consume(2, "work", prefetch(1)).await;
    append(&mut client, &["a", "b"]).await;
    assert_eq!(client.bodies(1).await, words(&["a"]));
    assert!(!client.has_events().await);
    let (consumer, reason) = (ConsumerId(1), Outcome::Accept);
    client
        .ask(|token| Command::Cancel { token, consumer })
        .await
        .unwrap();
    client.submit(settle(1, 1, reason)).await;
    assert_eq!(client.bodies(1).await, words(&["b"]));
}

/// A batch that is damaged in the store is left out and counted, and what comes behind it is delivered.
#[tokio::test]
async fn damage_does_not_stop_a_cursor() {
    let store = store();
    let (broker, mut client) = orders(store.clone(), 2).await;
    declare(&mut client, "q", cursor(&[first()])).await.unwrap();
    append(&mut client, &["a", "b"]).await;
    append(&mut client, &["c"]).await;
    client.touch_shards().await;
    drop((client, broker));
    let store = Arc::new(store.crash(1));
    damage_records(&*store, 2).await;
    let broker = open(store).await;
    let mut client = Client::new(&broker);
    append(&mut client, &["behind"]).await;
    let elsewhere = batch(&["elsewhere"], None);
    client.append("orders", 1, elsewhere).await.unwrap();
    client.consume(1, "q", prefetch(10)).await;
    let mut found = client.bodies(2).await;
    found.sort();
    assert_eq!(found, ["behind", "elsewhere"]);
    client.submit(settle(1, 1, Outcome::Accept)).await;
    client.submit(settle(1, 2, Outcome::Accept)).await;
    client.touch_shards().await;
    let lag = broker.lag().await.unwrap();
    assert!(lag.iter().all(|it| it.lag == 0), "{lag:?}");
    let samples = broker.samples().await;
    let lost = samples
        .iter()
        .find(|it| it.name == "trivium_cursor_lost_total");
    assert_eq!(lost.map(|it| it.value), Some(3));
}
