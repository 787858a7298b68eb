//! Dead letters: where they go and with what history, at most or at least once, and how often a message of a quorum
//! queue may come back before it is one.

mod support;

use std::{sync::Arc, time::Duration};

use support::{
    Client, advance, body, broker,
    logs::{batch, from},
    message, open,
    queues::*,
};
use trivium_core::{ConsumeSpec, DeliveryId, Message, Origin, Outcome, Value};

#[tokio::test]
async fn a_rejected_message_arrives_with_its_history() {
    let (_, broker) = broker().await;
    let mut client = Client::new(&broker);
    client.declare("dead", &[]).await;
    client.bind("amq.direct", "dead", "dead").await;
    let to_dead = [
        ("x-dead-letter-exchange", text("amq.direct")),
        ("x-dead-letter-routing-key", text("dead")),
    ];
    client.declare("q", &to_dead).await;
    client.bind("amq.topic", "some.key", "q").await;
    client.consume(1, "q", ConsumeSpec::default()).await;
    let lives = Message {
        expiry_ms: Some(60_000),
        ..message("amq.topic", "some.key", "a")
    };
    client.publish_message(lives).await;
    client.delivery().await;
    client.submit(settle(1, 1, Outcome::Reject)).await;
    client.until("dead", 1).await;
    let dead = client.take("dead").await.expect("it is there").message;
    assert_eq!(body(&dead), "a");
    assert_eq!(
        (&*dead.exchange, &**dead.topic.text()),
        ("amq.direct", "dead")
    );
    assert_eq!(dead.expiry_ms, None, "it does not expire again");
    assert_eq!(deaths(&dead), [death("q", "rejected", 1)]);
    let Some(Value::Array(records)) = header(&dead, "x-death") else {
        panic!("it has died");
    };
    let Value::Table(record) = &records[0] else {
        panic!("{records:?}");
    };
    let field = |name: &str| {
        let found = record.iter().find(|(of, _)| of == name);
        found.map(|(_, value)| value.clone())
    };
    assert_eq!(field("exchange"), Some(text("amq.topic")));
    let keys = Value::Array(vec![text("some.key")]);
    assert_eq!(field("routing-keys"), Some(keys));
    assert_eq!(field("original-expiration"), Some(text("60000")));
    for (name, value) in [
        ("x-first-death-queue", "q"),
        ("x-first-death-reason", "rejected"),
        ("x-first-death-exchange", "amq.topic"),
        ("x-last-death-queue", "q"),
    ] {
        assert_eq!(header(&dead, name), Some(text(value)), "{name}");
    }
}

#[tokio::test]
async fn deaths_are_counted_and_survive_the_store() {
    let (store, broker) = broker().await;
    let mut client = Client::new(&broker);
    // A retry: rejected, waits, comes back.
    let work = [
        ("x-dead-letter-exchange", text("")),
        ("x-dead-letter-routing-key", text("wait")),
    ];
    let wait = [
        ("x-message-ttl", Value::I32(100)),
        ("x-dead-letter-exchange", text("")),
        ("x-dead-letter-routing-key", text("work")),
    ];
    client.declare("work", &work).await;
    client.declare("wait", &wait).await;
    client.publish("", "work", "a").await;
    client.consume(1, "work", ConsumeSpec::default()).await;
    for round in 1..=3 {
        let delivery = client.delivery().await;
        assert_eq!(delivery.id, DeliveryId(round));
        client.submit(settle(1, round, Outcome::Reject)).await;
        client.until("wait", 1).await;
        advance(Duration::from_millis(150));
        client.until("wait", 0).await;
    }
    let delivery = client.delivery().await;
    let history = [death("wait", "expired", 3), death("work", "rejected", 3)];
    assert_eq!(deaths(&delivery.message), history);
    client.make_durable().await;
    let broker = open(Arc::new(store.crash(1))).await;
    let mut client = Client::new(&broker);
    client.until("work", 1).await;
    let again = client.take("work").await.expect("it is there");
    assert!(again.redelivered);
    assert_eq!(deaths(&again.message), history);
}

/// RabbitMQ's dead letter exchanges: a dead letter goes by all the routing keys that the message was published with.
#[tokio::test]
async fn keys_that_nobody_is_shown_count_again_also_after_a_crash() {
    let (store, broker) = broker().await;
    let mut client = Client::new(&broker);
    for (key, queue) in [("q", "dead"), ("hidden", "hidden")] {
        client.declare(queue, &[]).await;
        client.bind("amq.direct", key, queue).await;
    }
    let to_direct = [("x-dead-letter-exchange", text("amq.direct"))];
    client.declare("q", &to_direct).await;
    let origin = Origin {
        blind_copies: Some(Arc::new(vec!["hidden".into()])),
        ..Origin::default()
    };
    let copied = Message {
        origin: Arc::new(origin),
        ..message("", "q", "a")
    };
    client.publish_message(copied).await;
    client.make_durable().await;
    let broker = open(Arc::new(store.crash(1))).await;
    let mut client = Client::new(&broker);
    client.consume(1, "q", ConsumeSpec::default()).await;
    client.delivery().await;
    client.submit(settle(1, 1, Outcome::Reject)).await;
    for queue in ["dead", "hidden"] {
        client.until(queue, 1).await;
        let dead = client.take(queue).await.expect("it is there").message;
        assert_eq!(deaths(&dead), [death("q", "rejected", 1)]);
    }
}

#[tokio::test]
async fn a_circle_without_rejection_ends() {
    let (_, broker) = broker().await;
    let mut client = Client::new(&broker);
    let to_itself = [
        ("x-message-ttl", Value::I32(100)),
        ("x-dead-letter-exchange", text("")),
    ];
    client.declare("q", &to_itself).await;
    client.publish("", "q", "a").await;
    advance(Duration::from_millis(150));
    client.until("q", 0).await;
    client
        .declare("r", &[("x-dead-letter-exchange", text(""))])
        .await;
    client.publish("", "r", "b").await;
    client.consume(1, "r", ConsumeSpec::default()).await;
    for round in 1..=3 {
        // Rejected by a consumer, it may come back for ever.
        assert_eq!(body(&client.delivery().await.message), "b");
        client.submit(settle(1, round, Outcome::Reject)).await;
    }
    assert_eq!(
        deaths(&client.delivery().await.message),
        [death("r", "rejected", 3)]
    );
}

#[tokio::test]
async fn without_a_dead_letter_exchange_that_is_there_messages_are_dropped() {
    let (_, broker) = broker().await;
    let mut client = Client::new(&broker);
    let nowhere = [
        ("x-max-length", Value::I32(1)),
        ("x-dead-letter-exchange", text("not.there")),
    ];
    client.declare("q", &nowhere).await;
    for body in ["a", "b", "c"] {
        client.publish("", "q", body).await;
    }
    assert_eq!(client.count("q").await, 1);
    assert_eq!(client.get("q").await.as_deref(), Some("c"));
}

#[tokio::test]
async fn many_expire_at_once_and_each_arrives_once() {
    const COUNT: u64 = 20_000;
    let (store, broker) = broker().await;
    let mut client = Client::new(&broker);
    client.declare("dead", &[]).await;
    let to_dead = [
        ("x-message-ttl", Value::I32(60_000)),
        ("x-dead-letter-exchange", text("")),
        ("x-dead-letter-routing-key", text("dead")),
    ];
    client.declare("q", &to_dead).await;
    // More than the queue may hold in memory.
    let filler = "x".repeat(100);
    for n in 0..COUNT / 100 {
        let body = |i| format!("{} {filler}", n * 100 + i);
        let turn = (0..100).map(|i| publish(None, message("", "q", &body(i))));
        client.submit_all(turn.collect()).await;
    }
    assert_eq!(client.count("q").await, COUNT);
    advance(Duration::from_secs(61));
    client.until("dead", COUNT).await;
    assert_eq!(client.count("q").await, 0);
    let broker = open(Arc::new(store.crash(1))).await;
    let mut client = Client::new(&broker);
    client.consume(1, "dead", prefetch(1000)).await;
    for n in 0..COUNT {
        let delivery = client.delivery().await;
        let start = format!("{n} ");
        assert!(body(&delivery.message).starts_with(&start), "{n}");
        client.submit(settle(1, n + 1, Outcome::Accept)).await;
        client.flushed().await;
    }
}

#[tokio::test]
async fn a_crash_loses_no_dead_letter() {
    for barrier in 0..10 {
        let (store, broker) = broker().await;
        let mut client = Client::new(&broker);
        client.declare("dead", &[]).await;
        let to_dead = [
            ("x-max-length", Value::I32(10)),
            ("x-dead-letter-exchange", text("")),
            ("x-dead-letter-routing-key", text("dead")),
        ];
        client.declare("q", &to_dead).await;
        for n in 0..100 {
            client.publish("", "q", &n.to_string()).await;
        }
        let broker = open(Arc::new(store.crash(barrier))).await;
        let mut client = Client::new(&broker);
        client.until("dead", 90).await;
        for n in 0..90 {
            assert_eq!(client.get("dead").await, Some(n.to_string()));
        }
        for n in 90..100 {
            assert_eq!(client.get("q").await, Some(n.to_string()));
        }
    }
}

#[tokio::test]
async fn records_that_were_tapped_show_in_logs_how_they_died() {
    let (_, broker) = broker().await;
    let mut client = Client::new(&broker);
    let captured = [("mq.bind", "amq.direct:dead")];
    client.with_log("dead", &captured).await;
    client.with_log("source", &[]).await;
    let to_dead = [
        ("x-dead-letter-exchange", text("amq.direct")),
        ("x-dead-letter-routing-key", text("dead")),
    ];
    client.declare("q", &to_dead).await;
    client.bind("amq.topic", "source", "q").await;
    client.declare("also", &[]).await;
    client.bind("amq.direct", "dead", "also").await;
    client.consume(1, "q", ConsumeSpec::default()).await;
    let record = batch(&["a"], None);
    client
        .append("source", 0, record)
        .await
        .expect("it is there");
    let delivery = client.delivery().await;
    assert_eq!(&*delivery.message.origin.protocol, "kafka");
    client.submit(settle(1, 1, Outcome::Reject)).await;
    client.until("also", 1).await;
    let dead = client.take("also").await.expect("it is there").message;
    assert_eq!(deaths(&dead), [death("q", "rejected", 1)]);
    assert_eq!(client.read("dead", 0, 0).await, ["a"]);
    let fetched = client.fetch(from("dead", 0, 0), Duration::ZERO).await;
    let bytes = &fetched.result.expect("it is readable")[0].bytes;
    for name in ["x-death", "x-first-death-queue", "x-last-death-reason"] {
        let found = bytes
            .windows(name.len())
            .any(|window| window == name.as_bytes());
        assert!(found, "{name} is a header of the record");
    }
}

/// A quorum queue whose dead letters must arrive in the queue of that name.
fn at_least_once(target: &str) -> Vec<(&str, Value)> {
    vec![
        ("x-queue-type", text("quorum")),
        ("x-overflow", text("reject-publish")),
        ("x-max-length", Value::I32(3)),
        ("x-dead-letter-strategy", text("at-least-once")),
        ("x-dead-letter-exchange", text("")),
        ("x-dead-letter-routing-key", text(target)),
    ]
}

#[tokio::test]
async fn a_dead_letter_that_is_refused_stays_and_is_tried_again() {
    let (_, broker) = broker().await;
    let mut client = Client::new(&broker);
    let full = [
        ("x-max-length", Value::I32(1)),
        ("x-overflow", text("reject-publish")),
    ];
    client.declare("dead", &full).await;
    client.declare("q", &at_least_once("dead")).await;
    for body in ["a", "b", "c"] {
        client.offer("", "q", body).await.expect("there is room");
    }
    client.consume(1, "q", ConsumeSpec::default()).await;
    client.bodies(3).await;
    for delivery in 1..=3 {
        client.submit(settle(1, delivery, Outcome::Reject)).await;
    }
    client.until("dead", 1).await;
    // Those that found no room count for the length of their queue.
    let mut room = client.offer("", "q", "d").await;
    for _ in 0..1000 {
        if room.is_ok() {
            break;
        }
        room = client.offer("", "q", "d").await;
    }
    room.expect("the first has left");
    client.submit(settle(1, 4, Outcome::Requeue)).await;
    for expected in ["a", "b", "c"] {
        client.until("dead", 1).await;
        let dead = client.take("dead").await.expect("it is there");
        assert_eq!(body(&dead.message), expected);
        assert_eq!(deaths(&dead.message), [death("q", "rejected", 1)]);
        assert_eq!(client.count("dead").await, 0, "it is not tried at once");
        advance(Duration::from_secs(5));
        client.count("q").await;
    }
    // Nothing comes twice.
    advance(Duration::from_secs(10));
    client.count("q").await;
    client.touch_shards().await;
    assert_eq!(client.count("dead").await, 0);
}

#[tokio::test]
async fn a_dead_letter_without_a_target_waits_for_one() {
    let (_, broker) = broker().await;
    let mut client = Client::new(&broker);
    client.declare("q", &at_least_once("dead")).await;
    client.offer("", "q", "a").await.expect("there is room");
    client.consume(1, "q", ConsumeSpec::default()).await;
    client.delivery().await;
    client.submit(settle(1, 1, Outcome::Reject)).await;
    client.touch_shards().await;
    for _ in 0..3 {
        advance(Duration::from_secs(5));
        client.count("q").await;
        client.touch_shards().await;
    }
    client.declare("dead", &[]).await;
    let mut tries = 0;
    while client.count("dead").await == 0 {
        advance(Duration::from_secs(5));
        client.count("q").await;
        tokio::task::yield_now().await;
        tries += 1;
        assert!(tries < 1000, "it does not come");
    }
    assert_eq!(client.get("dead").await.as_deref(), Some("a"));
}

#[tokio::test]
async fn nothing_more_is_delivered_while_too_many_dead_letters_wait() {
    let (_, broker) = broker().await;
    let mut client = Client::new(&broker);
    let mut with = at_least_once("dead");
    with.retain(|(name, _)| *name != "x-max-length");
    client.declare("q", &with).await;
    let large = "x".repeat(3 << 20);
    for _ in 0..4 {
        client.offer("", "q", &large).await.expect("there is room");
    }
    client.consume(1, "q", prefetch(1)).await;
    for delivery in 1..=3 {
        client.delivery().await;
        client.submit(settle(1, delivery, Outcome::Reject)).await;
        client.flushed().await;
    }
    assert_eq!(client.count("q").await, 1);
    assert!(!client.has_events().await, "three fill what may wait");
    client.declare("dead", &[]).await;
    let mut tries = 0;
    while !client.has_events().await {
        advance(Duration::from_secs(5));
        client.count("q").await;
        tries += 1;
        assert!(tries < 1000, "it does not come");
    }
    client.until("dead", 3).await;
}

#[tokio::test]
async fn a_crash_loses_no_dead_letter_that_has_not_arrived() {
    let (store, broker) = broker().await;
    let mut client = Client::new(&broker);
    client.declare("q", &at_least_once("dead")).await;
    client.offer("", "q", "a").await.expect("there is room");
    client.consume(1, "q", ConsumeSpec::default()).await;
    client.delivery().await;
    client.submit(settle(1, 1, Outcome::Reject)).await;
    client.touch_shards().await;
    client.make_durable().await;
    let broker = open(Arc::new(store.crash(1))).await;
    let mut client = Client::new(&broker);
    assert_eq!(client.get("q").await.as_deref(), Some("a"));
}

/// A quorum queue whose messages may come back twice, and end in the queue `dead`.
fn two_returns() -> [(&'static str, Value); 4] {
    [
        ("x-queue-type", text("quorum")),
        ("x-delivery-limit", Value::I32(2)),
        ("x-dead-letter-exchange", text("")),
        ("x-dead-letter-routing-key", text("dead")),
    ]
}

#[tokio::test]
async fn what_comes_back_too_often_is_dead_lettered() {
    let (_, broker) = broker().await;
    let mut client = Client::new(&broker);
    client.declare("dead", &[]).await;
    client.declare("q", &two_returns()).await;
    client.publish("", "q", "a").await;
    for returns in 0..3 {
        let mut consumer = Client::new(&broker);
        consumer.consume(1, "q", ConsumeSpec::default()).await;
        let delivery = consumer.delivery().await;
        assert_eq!(delivery.returns, returns);
        assert_eq!(delivery.redelivered, returns > 0);
        if returns == 1 {
            // A lost connection counts as a return does.
            drop(consumer);
        } else {
            consumer.submit(settle(1, 1, Outcome::Requeue)).await;
            consumer.cancel(1).await;
        }
    }
    client.until("dead", 1).await;
    let dead = client.take("dead").await.expect("it is there");
    assert_eq!(deaths(&dead.message), [death("q", "delivery_limit", 1)]);
}

#[tokio::test]
async fn counts_of_returns_survive_a_crash() {
    let (store, broker) = broker().await;
    let mut client = Client::new(&broker);
    client.declare("dead", &[]).await;
    client.declare("q", &two_returns()).await;
    let publishes = ["a", "b", "c", "d"].map(|body| publish(None, message("", "q", body)));
    client.submit_all(publishes.into()).await;
    client.until("q", 4).await;
    // Each pass takes all and returns a and c; b is settled in the first.
    let mut store = store;
    let mut broker = broker;
    for pass in 0..2 {
        let mut consumer = Client::new(&broker);
        consumer.consume(1, "q", ConsumeSpec::default()).await;
        let mut found = Vec::new();
        for id in 1..=if pass == 0 { 4 } else { 3 } {
            let delivery = consumer.delivery().await;
            let name = body(&delivery.message);
            found.push((name.clone(), delivery.returns));
            if name == "b" {
                consumer.submit(settle(1, id, Outcome::Accept)).await;
            }
        }
        let expected: &[(&str, u16)] = match pass {
            0 => &[("a", 0), ("b", 0), ("c", 0), ("d", 0)],
            _ => &[("a", 1), ("c", 1), ("d", 0)],
        };
        let found: Vec<_> = found.iter().map(|(name, n)| (&**name, *n)).collect();
        assert_eq!(found, expected);
        consumer.cancel(1).await;
        let c = if pass == 0 { 3 } else { 2 };
        for id in [1, c] {
            consumer.submit(settle(1, id, Outcome::Requeue)).await;
        }
        consumer.make_durable().await;
        // What is unsettled at the crash was not counted: nobody returned it.
        store = Arc::new(store.crash(1));
        broker = open(store.clone()).await;
    }
    let mut client = Client::new(&broker);
    for (name, returns) in [("a", 2), ("c", 2), ("d", 0)] {
        let found = client.take("q").await.expect("it is there");
        assert_eq!((&*body(&found.message), found.returns), (name, returns));
        assert!(found.redelivered);
    }
}

#[tokio::test]
async fn a_limit_counts_over_restarts() {
    let mut store = store();
    for round in 0..3 {
        let broker = open(store.clone()).await;
        let mut client = Client::new(&broker);
        if round == 0 {
            client.declare("dead", &[]).await;
            client.declare("q", &two_returns()).await;
            client.publish("", "q", "a").await;
        }
        let mut consumer = Client::new(&broker);
        consumer.consume(1, "q", ConsumeSpec::default()).await;
        assert_eq!(consumer.delivery().await.returns, round);
        drop(consumer);
        if round < 2 {
            client.until("q", 1).await;
        } else {
            client.until("dead", 1).await;
        }
        client.make_durable().await;
        store = Arc::new(store.crash(1));
    }
    let broker = open(store).await;
    let dead = Client::new(&broker).take("dead").await;
    let dead = dead.expect("it came back three times").message;
    assert_eq!(deaths(&dead), [death("q", "delivery_limit", 1)]);
}
