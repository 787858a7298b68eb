//! Delayed retries of quorum queues (`x-delayed-retry-*`), and how long a consumer may keep a delivery.

mod support;

use std::{sync::Arc, time::Duration};

use support::{Client, advance, body, open, queues::*};
use trivium_core::{
    CancelReason, Command, ConsumeSpec, ConsumerId, Delivery, Event, Outcome, Value,
};

/// A quorum queue whose messages wait.
fn retrying(kind: &str, min: i32, max: i32) -> [(&'static str, Value); 4] {
    [
        ("x-queue-type", text("quorum")),
        ("x-delayed-retry-type", text(kind)),
        ("x-delayed-retry-min", Value::I32(min)),
        ("x-delayed-retry-max", Value::I32(max)),
    ]
}

/// Takes the next message by `basic.get` and settles it.
async fn take_and(client: &mut Client, queue: &str, outcome: Outcome) -> Delivery {
    let (consumer, queue) = (ConsumerId(7), queue.into());
    let get = |token| Command::Get {
        token,
        consumer,
        queue,
        auto_ack: false,
    };
    let delivery = match client.ask(get).await {
        Ok(trivium_core::Reply::Got {
            delivery: Some(delivery),
            ..
        }) => delivery,
        other => panic!("{other:?}"),
    };
    client.submit(settle(7, delivery.id.0, outcome)).await;
    delivery
}

fn counts(delivery: &Delivery) -> (u16, u16) {
    (delivery.returns, delivery.failures)
}

#[tokio::test]
async fn each_failure_makes_a_message_wait_longer_up_to_the_maximum() {
    let broker = open(store()).await;
    let mut client = Client::new(&broker);
    client
        .declare("q", &retrying("failed", 60_000, 150_000))
        .await;
    client.publish("", "q", "a").await;
    client.until("q", 1).await;
    for (failures, seconds) in [(0, 60), (1, 120), (2, 150), (3, 150)] {
        let delivery = take_and(&mut client, "q", Outcome::Requeue).await;
        assert_eq!(counts(&delivery), (failures, failures));
        client.until("q", 0).await;
        advance(Duration::from_secs(seconds - 20));
        client.touch_shards().await;
        assert_eq!(client.count("q").await, 0, "it waits {seconds} s");
        advance(Duration::from_secs(20));
        client.until("q", 1).await;
    }
}

#[tokio::test]
async fn what_waits_does_not_hold_up_others_and_comes_back_to_its_place() {
    let broker = open(store()).await;
    let mut client = Client::new(&broker);
    client.declare("q", &retrying("all", 60_000, 60_000)).await;
    for body in ["a", "b", "c"] {
        client.publish("", "q", body).await;
    }
    client.until("q", 3).await;
    take_and(&mut client, "q", Outcome::Requeue).await;
    let next = take_and(&mut client, "q", Outcome::Accept).await;
    assert_eq!(body(&next.message), "b");
    advance(Duration::from_secs(60));
    client.until("q", 2).await;
    let first = client.take("q").await.expect("it is due");
    assert_eq!(body(&first.message), "a");
    assert!(first.redelivered);
}

#[tokio::test]
async fn a_message_that_was_only_given_back_waits_where_that_is_asked_for_and_is_no_failure() {
    let broker = open(store()).await;
    let mut client = Client::new(&broker);
    client
        .declare("failed", &retrying("failed", 60_000, 90_000))
        .await;
    client
        .declare("returned", &retrying("returned", 60_000, 90_000))
        .await;
    for queue in ["failed", "returned"] {
        client.publish("", queue, "a").await;
        client.until(queue, 1).await;
    }
    for returns in 0..30 {
        let delivery = take_and(&mut client, "failed", Outcome::Release).await;
        assert_eq!(counts(&delivery), (returns, 0), "no limit counts it");
        client.until("failed", 1).await;
    }
    for returns in 0..3 {
        let delivery = take_and(&mut client, "returned", Outcome::Release).await;
        assert_eq!(counts(&delivery), (returns, 0));
        client.until("returned", 0).await;
        advance(Duration::from_secs(60));
        client.until("returned", 1).await;
    }
    let delivery = take_and(&mut client, "returned", Outcome::Requeue).await;
    assert_eq!(counts(&delivery), (3, 0));
    client.until("returned", 1).await;
    let delivery = client.take("returned").await.expect("failures do not wait");
    assert_eq!(counts(&delivery), (4, 1));
}

#[tokio::test]
async fn what_waits_survives_a_crash_and_is_not_ready_before_its_time() {
    let mut store = store();
    let broker = open(store.clone()).await;
    let mut client = Client::new(&broker);
    client.declare("q", &retrying("all", 60_000, 600_000)).await;
    for body in ["a", "b", "c"] {
        client.publish("", "q", body).await;
    }
    client.until("q", 3).await;
    take_and(&mut client, "q", Outcome::Requeue).await;
    client.until("q", 2).await;
    take_and(&mut client, "q", Outcome::Requeue).await;
    client.until("q", 1).await;
    client.make_durable().await;
    for crash in 0..2 {
        store = Arc::new(store.crash(crash));
        let broker = open(store.clone()).await;
        let mut client = Client::new(&broker);
        if crash == 0 {
            assert_eq!(client.count("q").await, 1, "before anything is read");
            let ready = client.take("q").await.expect("one does not wait");
            assert_eq!(body(&ready.message), "c");
            assert_eq!(client.count("q").await, 0);
            client.make_durable().await;
        } else {
            assert_eq!(client.count("q").await, 0, "before anything is read");
            // Nobody reads them, and they are ready in time all the same.
            advance(Duration::from_secs(60));
            client.until("q", 2).await;
            for expected in ["a", "b"] {
                let found = client.take("q").await.expect("it is due");
                assert_eq!(body(&found.message), expected);
                assert_eq!(counts(&found), (1, 1));
            }
        }
    }
}

#[tokio::test]
async fn a_purge_takes_what_waits_too() {
    let broker = open(store()).await;
    let mut client = Client::new(&broker);
    client.declare("q", &retrying("all", 60_000, 60_000)).await;
    client.publish("", "q", "a").await;
    client.publish("", "q", "b").await;
    client.until("q", 2).await;
    take_and(&mut client, "q", Outcome::Requeue).await;
    client.until("q", 1).await;
    let name = "q".into();
    match client
        .define(trivium_core::Change::PurgeQueue { name })
        .await
    {
        Ok(trivium_core::Reply::Deleted { messages: 2 }) => {}
        other => panic!("{other:?}"),
    }
    advance(Duration::from_secs(120));
    client.touch_shards().await;
    assert_eq!(client.count("q").await, 0);
}

#[tokio::test]
async fn while_too_much_waits_nothing_more_is_delivered() {
    let broker = open(store()).await;
    let mut client = Client::new(&broker);
    client.declare("q", &retrying("all", 60_000, 60_000)).await;
    let large = "x".repeat(9 << 20);
    for _ in 0..5 {
        client.publish("", "q", &large).await;
    }
    client.until("q", 5).await;
    for left in [4, 3, 2, 1] {
        take_and(&mut client, "q", Outcome::Requeue).await;
        client.until("q", left).await;
    }
    assert!(client.take("q").await.is_none(), "36 MiB wait");
    advance(Duration::from_secs(60));
    client.until("q", 5).await;
    assert!(client.take("q").await.is_some());
}

#[tokio::test]
async fn a_consumer_may_ask_for_a_time_limit_of_its_own() {
    let broker = open(store()).await;
    let mut client = Client::new(&broker);
    client
        .declare(
            "q",
            &[
                ("x-queue-type", text("quorum")),
                ("x-consumer-timeout", Value::I32(60_000)),
            ],
        )
        .await;
    client.publish("", "q", "a").await;
    let patient = ConsumeSpec {
        timeout: Some(Duration::from_secs(300)),
        ..ConsumeSpec::default()
    };
    let mut consumer = Client::new(&broker);
    consumer.consume(1, "q", patient).await;
    consumer.delivery().await;
    advance(Duration::from_secs(120));
    client.touch_shards().await;
    assert_eq!(client.count("q").await, 0, "its own limit counts");
    advance(Duration::from_secs(200));
    client.until("q", 1).await;
    let reason = consumer
        .expect(|event| match event {
            Event::Cancelled { reason, .. } => Some(*reason),
            _ => None,
        })
        .await;
    assert_eq!(reason, CancelReason::TimedOut);
}

#[tokio::test]
async fn after_a_crash_each_message_is_ready_in_its_own_time() {
    let store = store();
    let broker = open(store.clone()).await;
    let mut client = Client::new(&broker);
    client.declare("q", &retrying("all", 60_000, 600_000)).await;
    for (body, passes) in [("a", 30), ("b", 0)] {
        client.publish("", "q", body).await;
        client.until("q", 1).await;
        take_and(&mut client, "q", Outcome::Requeue).await;
        client.until("q", 0).await;
        advance(Duration::from_secs(passes));
    }
    client.make_durable().await;
    let broker = open(Arc::new(store.crash(1))).await;
    let mut client = Client::new(&broker);
    assert_eq!(client.count("q").await, 0);
    for ready in [1, 2] {
        advance(Duration::from_secs(35));
        client.until("q", ready).await;
    }
}
