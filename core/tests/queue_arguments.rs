//! What queues do by their arguments: lifetimes, limits, priorities, one consumer at a time
//! (RabbitMQ's extensions to queue.declare).

mod support;

use std::{sync::Arc, time::Duration};

use support::{Client, advance, body, message, open, queues::*};
use trivium_core::{
    CancelReason, Change, Command, ConsumeSpec, ConsumerId, Event, Outcome, Refusal, Reply, Text,
    Value,
};

#[tokio::test]
async fn messages_expire_from_the_head_by_the_lower_of_both_lifetimes() {
    let broker = open(store()).await;
    let mut client = Client::new(&broker);
    client
        .declare("q", &[("x-message-ttl", Value::I32(60_000))])
        .await;
    client.publish("", "q", "by the queue").await;
    client
        .publish_message(with_lifetime("q", "own", 18_000))
        .await;
    client
        .publish_message(with_lifetime("q", "longer than the queue's", 300_000))
        .await;
    advance(Duration::from_secs(30));
    assert_eq!(
        client.count("q").await,
        3,
        "the head hides what is behind it"
    );
    advance(Duration::from_secs(36));
    assert_eq!(client.count("q").await, 0);
}

#[tokio::test]
async fn time_passes_without_anybody_asking() {
    let broker = open(store()).await;
    let mut client = Client::new(&broker);
    client.declare("dead", &[]).await;
    let to_dead = [
        ("x-message-ttl", Value::I32(30)),
        ("x-dead-letter-exchange", text("")),
        ("x-dead-letter-routing-key", text("dead")),
    ];
    client.declare("q", &to_dead).await;
    client.consume(1, "dead", ConsumeSpec::default()).await;
    client.publish("", "q", "a").await;
    // Nobody touches the queue: its own deadline makes the message arrive.
    assert_eq!(client.bodies(1).await, ["a"]);
}

#[tokio::test]
async fn a_lifetime_of_0_is_for_whoever_is_there() {
    let broker = open(store()).await;
    let mut client = Client::new(&broker);
    client
        .declare("q", &[("x-message-ttl", Value::I32(0))])
        .await;
    client.publish("", "q", "nobody is there").await;
    assert_eq!(client.get("q").await, None);
    client.consume(1, "q", ConsumeSpec::default()).await;
    client.publish("", "q", "here").await;
    assert_eq!(client.bodies(1).await, ["here"]);
}

/// What comes to the head with its time up leaves before anything else happens (RabbitMQ drops expired messages
/// after each that it takes or drops).
#[tokio::test]
async fn what_is_found_expired_behind_the_head_goes_with_it() {
    let broker = open(store()).await;
    let mut client = Client::new(&broker);
    for queue in ["dropped", "got", "consumed"] {
        let arguments = [
            ("x-max-length", Value::I32(3)),
            ("x-max-priority", Value::I32(1)),
        ];
        client.declare(queue, &arguments).await;
        client.publish("", queue, "head").await;
        let brief = with_lifetime(queue, "brief", 100);
        client.publish_message(brief).await;
        client.publish("", queue, "last").await;
    }
    advance(Duration::from_millis(200));
    client.publish("", "dropped", "new").await;
    assert_eq!(client.count("dropped").await, 2);
    let urgent = with_priority("dropped", "urgent", 1);
    client.publish_message(urgent).await;
    assert_eq!(
        client.get("dropped").await.as_deref(),
        Some("urgent"),
        "there is room for what an expired message took"
    );
    assert_eq!(client.get("got").await.as_deref(), Some("head"));
    assert_eq!(client.count("got").await, 1);
    client.consume(1, "consumed", ConsumeSpec::default()).await;
    assert_eq!(client.bodies(2).await, ["head", "last"]);
}

/// Messages that arrive in one turn make room one after the other.
#[tokio::test]
async fn what_arrives_together_is_dropped_as_if_it_came_alone() {
    let broker = open(store()).await;
    let mut client = Client::new(&broker);
    let arguments = [
        ("x-max-length-bytes", Value::I32(40)),
        ("x-max-priority", Value::I32(1)),
    ];
    client.declare("q", &arguments).await;
    client.publish("", "q", &"a".repeat(36)).await;
    let token = client.token();
    let together = vec![
        publish(None, message("", "q", "0123456789")),
        publish(Some(token), with_priority("q", "urgent", 1)),
    ];
    client.submit_all(together).await;
    client.confirmed(token).await.expect("there is room");
    assert_eq!(client.get("q").await.as_deref(), Some("urgent"));
    assert_eq!(client.get("q").await.as_deref(), Some("0123456789"));
}

#[tokio::test]
async fn lifetimes_are_kept_by_a_restart_with_the_backlog_unread() {
    let store = store();
    let broker = open(store.clone()).await;
    let mut client = Client::new(&broker);
    client.declare("q", &[]).await;
    client.publish_message(with_lifetime("q", "a", 100)).await;
    client.publish("", "q", "b").await;
    let broker = open(Arc::new(store.crash(1))).await;
    let mut client = Client::new(&broker);
    advance(Duration::from_millis(200));
    client.until("q", 1).await;
    assert_eq!(client.get("q").await.as_deref(), Some("b"));
}

#[tokio::test]
async fn a_queue_expires_unless_it_is_used() {
    let broker = open(store()).await;
    let mut client = Client::new(&broker);
    let expires = [("x-expires", Value::I32(60_000))];
    client.declare("q", &expires).await;
    let there = |result| !matches!(result, Err(Refusal::NotFound { .. }));
    for step in 0..6 {
        advance(Duration::from_secs(36));
        match step % 3 {
            0 => client.declare("q", &expires).await,
            1 => assert_eq!(client.get("q").await, None),
            _ => {
                client.consume(step, "q", ConsumeSpec::default()).await;
                advance(Duration::from_secs(300));
                let consumer = ConsumerId(step);
                let cancel = |token| Command::Cancel { token, consumer };
                client.ask(cancel).await.expect("it is there");
            }
        }
    }
    advance(Duration::from_secs(66));
    let mut other = Client::new(&broker);
    other.queue("any").await;
    for _ in 0..20_000 {
        other.queue("any").await;
        let expect = Change::ExpectQueue {
            name: "q".into(),
            session: false,
        };
        // Asking renews the lease, so let the time pass again.
        if !there(client.define(expect).await) {
            return;
        }
        advance(Duration::from_secs(66));
        for shard in 0..8 {
            other.queue(&format!("any{shard}")).await;
        }
    }
    panic!("the queue is still there");
}

#[tokio::test]
async fn the_oldest_make_room() {
    let broker = open(store()).await;
    let mut client = Client::new(&broker);
    client
        .declare("q", &[("x-max-length", Value::I32(3))])
        .await;
    for n in 0..10 {
        client.publish("", "q", &n.to_string()).await;
    }
    assert_eq!(client.count("q").await, 3);
    assert_eq!(client.get("q").await.as_deref(), Some("7"));
    client
        .declare("b", &[("x-max-length-bytes", Value::I32(10))])
        .await;
    for body in ["1234", "5678", "90", "ab"] {
        client.publish("", "b", body).await;
    }
    assert_eq!(client.count("b").await, 3);
    assert_eq!(client.get("b").await.as_deref(), Some("5678"));
    client.publish("", "b", "longer than the limit").await;
    assert_eq!(client.count("b").await, 0);
}

#[tokio::test]
async fn only_ready_messages_count_for_the_length() {
    let broker = open(store()).await;
    let mut client = Client::new(&broker);
    client
        .declare("q", &[("x-max-length", Value::I32(2))])
        .await;
    client.consume(1, "q", prefetch(3)).await;
    for n in 0..5 {
        client.publish("", "q", &n.to_string()).await;
    }
    assert_eq!(client.bodies(3).await, ["0", "1", "2"]);
    assert_eq!(client.count("q").await, 2);
    // What comes back is the oldest, so it goes.
    client.submit(settle(1, 1, Outcome::Requeue)).await;
    client.submit(settle(1, 2, Outcome::Accept)).await;
    assert_eq!(client.bodies(2).await, ["0", "3"]);
}

#[tokio::test]
async fn a_full_queue_refuses() {
    let broker = open(store()).await;
    let mut client = Client::new(&broker);
    let reject = [
        ("x-max-length", Value::I32(2)),
        ("x-overflow", text("reject-publish")),
    ];
    client.declare("q", &reject).await;
    for body in ["a", "b"] {
        client.offer("", "q", body).await.expect("there is room");
    }
    let refused = client.offer("", "q", "c").await;
    assert!(matches!(refused, Err(Refusal::Full { .. })), "{refused:?}");
    assert_eq!(client.get("q").await.as_deref(), Some("a"));
    client.offer("", "q", "d").await.expect("there is room");
    // A consumer makes room for any number.
    client.consume(1, "q", ConsumeSpec::default()).await;
    let tokens: Vec<_> = (0..10).map(|_| client.token()).collect();
    let publishes = tokens
        .iter()
        .map(|token| publish(Some(*token), message("", "q", "x")));
    client.submit_all(publishes.collect()).await;
    for token in tokens {
        client.confirmed(token).await.expect("there is room");
    }
}

/// RabbitMQ documents that the publisher hears of the queue that refuses, and that the others keep the message.
#[tokio::test]
async fn a_full_queue_does_not_keep_a_message_from_the_others() {
    let broker = open(store()).await;
    let mut client = Client::new(&broker);
    let full = [
        ("x-max-length", Value::I32(1)),
        ("x-overflow", text("reject-publish")),
    ];
    client.declare("full", &full).await;
    client.declare("one", &[]).await;
    client.declare("two", &[]).await;
    for queue in ["full", "one", "two"] {
        client.bind("amq.fanout", "", queue).await;
    }
    client.publish("amq.fanout", "", "first").await;
    let refused = client.offer("amq.fanout", "", "second").await;
    assert!(matches!(refused, Err(Refusal::Full { .. })), "{refused:?}");
    assert_eq!(client.count("full").await, 1);
    for queue in ["one", "two"] {
        assert_eq!(client.get(queue).await.as_deref(), Some("first"));
        assert_eq!(client.get(queue).await.as_deref(), Some("second"));
    }
}

/// What only a stream can do is refused by other queues, with RabbitMQ's text.
#[tokio::test]
async fn a_queue_has_no_offsets() {
    let broker = open(store()).await;
    let mut client = Client::new(&broker);
    client.declare("q", &[]).await;
    let spec = ConsumeSpec {
        stream: Some(Box::default()),
        ..ConsumeSpec::default()
    };
    let (consumer, queue) = (ConsumerId(1), "q".into());
    let consume = |token| Command::Consume {
        token,
        consumer,
        queue,
        spec,
    };
    let refused = client.ask(consume).await.unwrap_err();
    let text = "invalid arg 'x-stream-offset' for queue 'q' in vhost '/' of queue type rabbit_classic_queue";
    assert_eq!(refused, Refusal::Invalid(text.into()));
}

#[tokio::test]
async fn a_full_queue_dead_letters_what_it_refuses() {
    let broker = open(store()).await;
    let mut client = Client::new(&broker);
    client.declare("dead", &[]).await;
    let reject = [
        ("x-max-length", Value::I32(1)),
        ("x-overflow", text("reject-publish-dlx")),
        ("x-dead-letter-exchange", text("")),
        ("x-dead-letter-routing-key", text("dead")),
    ];
    client.declare("q", &reject).await;
    client.offer("", "q", "a").await.expect("there is room");
    let refused = client.offer("", "q", "b").await;
    assert!(matches!(refused, Err(Refusal::Full { .. })), "{refused:?}");
    client.until("dead", 1).await;
    let dead = client.take("dead").await.expect("it is there");
    assert_eq!(deaths(&dead.message), [death("q", "maxlen", 1)]);
    assert_eq!(client.get("q").await.as_deref(), Some("a"));
}

#[tokio::test]
async fn the_highest_priority_goes_first_also_from_the_store() {
    let store = store();
    let broker = open(store.clone()).await;
    let mut client = Client::new(&broker);
    client
        .declare("q", &[("x-max-priority", Value::U8(5))])
        .await;
    let filler = "x".repeat(600);
    let mut expected: Vec<(u8, u64, String)> = Vec::new();
    for n in 0..3000u64 {
        let priority = (n * 7 % 11) as u8;
        let body = format!("{n} {filler}");
        expected.push((5 - priority.min(5), n, body.clone()));
        client
            .submit(publish(None, with_priority("q", &body, priority)))
            .await;
    }
    assert_eq!(client.count("q").await, 3000);
    expected.sort();
    let mut left = expected.into_iter();
    for _ in 0..500 {
        let (_, _, body) = left.next().expect("there are more");
        assert_eq!(client.get("q").await, Some(body));
    }
    client.make_durable().await;
    let broker = open(Arc::new(store.crash(1))).await;
    let mut client = Client::new(&broker);
    assert_eq!(client.count("q").await, 2500);
    // One that is more urgent than what waits in the store.
    client
        .publish_message(with_priority("q", "urgent", 5))
        .await;
    let urgent_at = left.clone().filter(|(rank, ..)| *rank == 0).count();
    for at in 0..2501 {
        let got = client.get("q").await;
        if at == urgent_at {
            assert_eq!(got.as_deref(), Some("urgent"));
        } else {
            assert_eq!(got, left.next().map(|(_, _, body)| body), "at {at}");
        }
    }
}

#[tokio::test]
async fn a_queue_with_priorities_is_purged_whole() {
    let store = store();
    let broker = open(store.clone()).await;
    let mut client = Client::new(&broker);
    client
        .declare("q", &[("x-max-priority", Value::U8(3))])
        .await;
    for n in 0..1500 {
        let body = "x".repeat(700);
        client
            .submit(publish(None, with_priority("q", &body, n as u8 % 4)))
            .await;
    }
    let name = || Text::from("q");
    let before = client.count("q").await;
    let purged = client.define(Change::PurgeQueue { name: name() }).await;
    assert!(matches!(purged, Ok(Reply::Deleted { messages }) if messages == before));
    assert_eq!(client.count("q").await, 0);
    client.publish("", "q", "next").await;
    let broker = open(Arc::new(store.crash(1))).await;
    let mut client = Client::new(&broker);
    assert_eq!(client.count("q").await, 1);
    assert_eq!(client.get("q").await.as_deref(), Some("next"));
}

#[tokio::test]
async fn one_consumer_at_a_time() {
    let broker = open(store()).await;
    let (mut one, mut two) = (Client::new(&broker), Client::new(&broker));
    one.declare("q", &[("x-single-active-consumer", Value::Bool(true))])
        .await;
    one.consume(1, "q", prefetch(1)).await;
    two.consume(1, "q", ConsumeSpec::default()).await;
    for body in ["a", "b", "c"] {
        one.publish("", "q", body).await;
    }
    assert_eq!(one.bodies(1).await, ["a"]);
    assert_eq!(one.count("q").await, 2, "the other one waits");
    one.submit(settle(1, 1, Outcome::Accept)).await;
    assert_eq!(one.bodies(1).await, ["b"]);
    drop(one);
    assert_eq!(two.bodies(2).await, ["b", "c"]);
    let exclusive = ConsumeSpec {
        exclusive: true,
        ..ConsumeSpec::default()
    };
    let refused = two
        .ask(|token| Command::Consume {
            token,
            consumer: ConsumerId(2),
            queue: "q".into(),
            spec: exclusive,
        })
        .await;
    assert!(matches!(refused, Err(Refusal::ExclusiveUse { .. })));
}

#[tokio::test]
async fn only_a_classic_queue_with_one_consumer_at_a_time_can_be_asked_for_a_message() {
    let broker = open(store()).await;
    let mut client = Client::new(&broker);
    for kind in ["classic", "quorum"] {
        let single = [
            ("x-queue-type", text(kind)),
            ("x-single-active-consumer", Value::Bool(true)),
        ];
        client.declare(kind, &single).await;
        client.publish("", kind, "a").await;
        let get = |token| Command::Get {
            token,
            consumer: ConsumerId(u32::MAX),
            queue: kind.into(),
            auto_ack: true,
        };
        match (kind, client.ask(get).await) {
            ("classic", Ok(Reply::Got { delivery, .. })) => assert!(delivery.is_some()),
            ("quorum", Err(refusal @ Refusal::NoGet { .. })) => assert_eq!(
                refusal.to_string(),
                "cannot obtain access to locked queue 'quorum' in vhost '/'. basic.get operations are not supported \
                 by quorum queues with single active consumer"
            ),
            other => panic!("{other:?}"),
        }
    }
    client.consume(1, "quorum", ConsumeSpec::default()).await;
    assert_eq!(client.bodies(1).await, ["a"], "it is still there");
}

#[tokio::test]
async fn a_higher_priority_takes_over_in_a_quorum_queue() {
    let broker = open(store()).await;
    let (mut low, mut high) = (Client::new(&broker), Client::new(&broker));
    let single = [
        ("x-queue-type", text("quorum")),
        ("x-single-active-consumer", Value::Bool(true)),
    ];
    low.declare("q", &single).await;
    low.consume(1, "q", prefetch(1)).await;
    low.publish("", "q", "a").await;
    low.publish("", "q", "b").await;
    assert_eq!(low.bodies(1).await, ["a"]);
    let spec = ConsumeSpec {
        priority: 5,
        ..ConsumeSpec::default()
    };
    high.consume(1, "q", spec).await;
    assert_eq!(low.count("q").await, 1, "not before the old one is done");
    low.submit(settle(1, 1, Outcome::Accept)).await;
    assert_eq!(high.bodies(1).await, ["b"]);
}

#[tokio::test]
async fn consumers_of_a_higher_priority_are_served_first() {
    let broker = open(store()).await;
    let mut client = Client::new(&broker);
    client.declare("q", &[]).await;
    let mut high = Client::new(&broker);
    client.consume(1, "q", prefetch(10)).await;
    let spec = ConsumeSpec {
        priority: 1,
        ..prefetch(2)
    };
    high.consume(1, "q", spec).await;
    for body in ["a", "b", "c"] {
        client.publish("", "q", body).await;
    }
    assert_eq!(high.bodies(2).await, ["a", "b"]);
    assert_eq!(client.bodies(1).await, ["c"]);
    high.submit(settle(1, 1, Outcome::Accept)).await;
    client.publish("", "q", "d").await;
    assert_eq!(high.bodies(1).await, ["d"]);
}

#[tokio::test]
async fn consumers_of_a_channel_share_a_bound() {
    let broker = open(store()).await;
    let mut client = Client::new(&broker);
    // In different shards.
    for queue in ["a", "b", "c"] {
        client.declare(queue, &[]).await;
        for n in 0..10 {
            client.publish("", queue, &n.to_string()).await;
        }
    }
    let limit = Some(4);
    client
        .submit(Command::LimitChannel {
            channel: 1,
            limit,
            unsettled: 0,
        })
        .await;
    let spec = || ConsumeSpec {
        channel: Some(1),
        ..ConsumeSpec::default()
    };
    for (consumer, queue) in [(1, "a"), (2, "b"), (3, "c")] {
        client.consume(consumer, queue, spec()).await;
    }
    let mut open = std::collections::VecDeque::new();
    let mut done = 0;
    while done < 30 {
        let (consumer, delivery) = client
            .expect(|event| match event {
                Event::Deliver {
                    consumer,
                    deliveries,
                } => Some((*consumer, deliveries.remove(0))),
                _ => None,
            })
            .await;
        open.push_back((consumer.0, delivery.id.0));
        assert!(open.len() <= 4, "{open:?}");
        if open.len() == 4 || done >= 26 {
            let (consumer, delivery) = open.pop_front().expect("one is open");
            client
                .submit(settle(consumer, delivery, Outcome::Accept))
                .await;
            done += 1;
        }
        if done >= 26 {
            while let Some((consumer, delivery)) = open.pop_front() {
                client
                    .submit(settle(consumer, delivery, Outcome::Accept))
                    .await;
                done += 1;
            }
        }
    }
}

#[tokio::test]
async fn a_consumer_that_settles_too_late_is_cancelled() {
    let broker = open(store()).await;
    let mut client = Client::new(&broker);
    client
        .declare("q", &[("x-consumer-timeout", Value::I32(60_000))])
        .await;
    client.publish("", "q", "a").await;
    client.publish("", "q", "b").await;
    client.consume(1, "q", ConsumeSpec::default()).await;
    assert_eq!(client.bodies(2).await, ["a", "b"]);
    advance(Duration::from_secs(36));
    client.submit(settle(1, 1, Outcome::Accept)).await;
    advance(Duration::from_secs(36));
    client.until("q", 1).await;
    let reason = client
        .expect(|event| match event {
            Event::Cancelled { reason, .. } => Some(*reason),
            _ => None,
        })
        .await;
    assert_eq!(reason, CancelReason::TimedOut);
    let again = client.take("q").await.expect("it is back");
    assert!(again.redelivered);
    assert_eq!(body(&again.message), "b");
}
