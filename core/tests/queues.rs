//! Queues over the whole core: links, catalog, shards and the memory store.

mod support;

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use support::{Client, durable, message, now, open};
use trivium_core::{
    Broker, CancelReason, Change, Command, ConsumeSpec, ConsumerId, DeliveryId, Event, LogSpec,
    Outcome, QueueSpec, Refusal, Reply, Text,
    store::{
        Batch, BoxFuture, Durability, Page, ScanLimit, Store, StoreError, Table,
        memory::MemoryStore,
    },
};

/// A store that fails to read queues' messages for a while.
struct Damaged {
    store: MemoryStore,
    failing: AtomicBool,
}

impl Store for Damaged {
    fn commit(
        &self,
        batch: Batch,
        durability: Durability,
    ) -> BoxFuture<'static, Result<(), StoreError>> {
        self.store.commit(batch, durability)
    }

    fn get(
        &self,
        table: Table,
        key: Bytes,
    ) -> BoxFuture<'static, Result<Option<Bytes>, StoreError>> {
        self.store.get(table, key)
    }

    fn scan(
        &self,
        table: Table,
        range: Range<Bytes>,
        limit: ScanLimit,
    ) -> BoxFuture<'static, Result<Page, StoreError>> {
        if table == Table::Messages && self.failing.load(Ordering::Relaxed) {
            return Box::pin(async { Err(StoreError::Corrupt("a bad sector".into())) });
        }
        self.store.scan(table, range, limit)
    }

    fn close(&self) -> BoxFuture<'static, Result<(), StoreError>> {
        self.store.close()
    }
}

fn store() -> Arc<MemoryStore> {
    Arc::new(MemoryStore::new())
}

fn prefetch(limit: u32) -> ConsumeSpec {
    ConsumeSpec {
        prefetch: Some(limit),
        ..ConsumeSpec::default()
    }
}

fn settle(first: u64, last: u64, outcome: Outcome) -> Command {
    Command::Settle {
        consumer: ConsumerId(1),
        deliveries: DeliveryId(first)..=DeliveryId(last),
        outcome,
    }
}

#[tokio::test]
async fn a_message_goes_in_and_comes_out() {
    let broker = open(store()).await;
    let mut client = Client::new(&broker);
    assert_eq!(client.queue("q").await, (0, 0));
    client.publish("", "q", "one").await;
    client.publish("", "q", "two").await;
    assert_eq!(client.queue("q").await, (2, 0));
    client.consume(1, "q", ConsumeSpec::default()).await;
    assert_eq!(client.bodies(2).await, ["one", "two"]);
    assert_eq!(
        client.queue("q").await,
        (0, 1),
        "unsettled messages are not counted as ready"
    );
}

#[tokio::test]
async fn a_requeued_message_returns_to_its_place() {
    let broker = open(store()).await;
    let mut client = Client::new(&broker);
    client.queue("q").await;
    for body in ["a", "b", "c"] {
        client.publish("", "q", body).await;
    }
    client.consume(1, "q", prefetch(2)).await;
    assert_eq!(client.bodies(2).await, ["a", "b"]);
    client.submit(settle(1, 1, Outcome::Requeue)).await;
    let again = client.delivery().await;
    assert_eq!(support::body(&again.message), "a");
    assert!(again.redelivered);
    assert_eq!(again.id, DeliveryId(3));
    client.submit(settle(2, 3, Outcome::Accept)).await;
    assert_eq!(client.bodies(1).await, ["c"]);
}

#[tokio::test]
async fn prefetch_bounds_what_is_unsettled_and_consumers_take_turns() {
    let broker = open(store()).await;
    let (mut one, mut two) = (Client::new(&broker), Client::new(&broker));
    one.queue("q").await;
    one.consume(1, "q", prefetch(1)).await;
    two.consume(1, "q", prefetch(1)).await;
    for body in ["a", "b", "c"] {
        one.publish("", "q", body).await;
    }
    assert_eq!(one.bodies(1).await, ["a"]);
    assert_eq!(two.bodies(1).await, ["b"]);
    two.submit(settle(1, 1, Outcome::Accept)).await;
    assert_eq!(two.bodies(1).await, ["c"]);
}

#[tokio::test]
async fn what_a_vanished_connection_held_is_delivered_again() {
    let broker = open(store()).await;
    let mut one = Client::new(&broker);
    one.queue("q").await;
    one.publish("", "q", "a").await;
    one.publish("", "q", "b").await;
    one.consume(1, "q", ConsumeSpec::default()).await;
    assert_eq!(one.bodies(2).await, ["a", "b"]);
    drop(one);
    let mut two = Client::new(&broker);
    two.consume(1, "q", ConsumeSpec::default()).await;
    let first = two.delivery().await;
    assert!(first.redelivered);
    assert_eq!(support::body(&first.message), "a");
    assert_eq!(two.bodies(1).await, ["b"]);
}

#[tokio::test]
async fn unsettled_messages_survive_a_crash_and_settled_ones_do_not_return() {
    let store = store();
    let broker = open(store.clone()).await;
    let mut client = Client::new(&broker);
    client.queue("q").await;
    for n in 0..100 {
        client.publish("", "q", &n.to_string()).await;
    }
    client.consume(1, "q", ConsumeSpec::default()).await;
    assert_eq!(client.bodies(100).await.len(), 100);
    client.submit(settle(1, 40, Outcome::Accept)).await;
    client.submit(settle(51, 60, Outcome::Accept)).await;
    // The reply comes from behind the settlements, and the publish makes them durable.
    client.publish("", "q", "last").await;
    let crashed = Arc::new(store.crash(1));
    let broker = open(crashed).await;
    let mut client = Client::new(&broker);
    assert_eq!(client.queue("q").await.0, 51);
    client.consume(1, "q", ConsumeSpec::default()).await;
    let left: Vec<String> = (40..50)
        .chain(60..100)
        .map(|n| n.to_string())
        .chain(["last".into()])
        .collect();
    assert_eq!(client.bodies(51).await, left);
}

#[tokio::test]
async fn a_backlog_larger_than_memory_is_read_back_in_order() {
    let store = store();
    let broker = open(store.clone()).await;
    let mut client = Client::new(&broker);
    client.queue("q").await;
    let filler = "x".repeat(1000);
    for n in 0..5000 {
        let message = Arc::new(message("", "q", &format!("{n} {filler}")));
        client
            .submit(Command::Publish {
                token: None,
                message,
                mandatory: false,
            })
            .await;
    }
    assert_eq!(client.queue("q").await.0, 5000);
    client.consume(1, "q", prefetch(100)).await;
    for n in 0..5000u64 {
        let delivery = client.delivery().await;
        assert!(
            support::body(&delivery.message).starts_with(&format!("{n} ")),
            "message {n}"
        );
        assert_eq!(delivery.id, DeliveryId(n + 1));
        client.submit(settle(n + 1, n + 1, Outcome::Accept)).await;
        client.flushed().await;
    }
    client.publish("", "q", "end").await;
    assert_eq!(client.bodies(1).await, ["end"]);
}

#[tokio::test]
async fn a_body_for_many_queues_is_stored_once_and_goes_with_the_last() {
    let store = store();
    let broker = open(store.clone()).await;
    let mut client = Client::new(&broker);
    for n in 0..10 {
        client.queue(&format!("q{n}")).await;
        client.bind("amq.fanout", "", &format!("q{n}")).await;
    }
    let large = "b".repeat(100_000);
    client.publish("amq.fanout", "", &large).await;
    assert!(store.bytes() < 200_000, "stored {} bytes", store.bytes());
    let reopened = Arc::new(store.crash(7));
    let broker = open(reopened.clone()).await;
    let mut client = Client::new(&broker);
    for n in 0..10 {
        assert_eq!(
            client.get(&format!("q{n}")).await.expect("it survived"),
            large
        );
    }
    let gone = async {
        while reopened.bytes() >= 100_000 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(support::PATIENCE, gone)
        .await
        .expect("the body is removed");
}

#[tokio::test]
async fn a_publish_to_queues_of_several_shards_is_all_or_nothing() {
    for seed in 0..40 {
        let store = store();
        let broker = open(store.clone()).await;
        let mut client = Client::new(&broker);
        for n in 0..6 {
            client.queue(&format!("q{n}")).await;
            client.bind("amq.fanout", "", &format!("q{n}")).await;
        }
        for n in 0..20 {
            let token = Some(client.token());
            let message = Arc::new(message("amq.fanout", "", &n.to_string()));
            client
                .submit(Command::Publish {
                    token,
                    message,
                    mandatory: false,
                })
                .await;
            tokio::task::yield_now().await;
        }
        let broker = open(Arc::new(store.crash(seed))).await;
        let mut client = Client::new(&broker);
        let mut counts = Vec::new();
        for n in 0..6 {
            counts.push(client.queue(&format!("q{n}")).await.0);
        }
        assert!(
            counts.iter().all(|count| *count == counts[0]),
            "seed {seed}: {counts:?}"
        );
    }
}

#[tokio::test]
async fn a_failed_write_is_never_a_confirm() {
    let store = store();
    let broker = open(store.clone()).await;
    let mut client = Client::new(&broker);
    client.queue("q").await;
    store.fail_next_commit("disk full");
    let token = client.token();
    let message = Arc::new(message("", "q", "a"));
    client
        .submit(Command::Publish {
            token: Some(token),
            message: message.clone(),
            mandatory: false,
        })
        .await;
    assert!(matches!(
        client.confirmed(token).await,
        Err(Refusal::StorageFailed(_))
    ));
    let token = client.token();
    client
        .submit(Command::Publish {
            token: Some(token),
            message,
            mandatory: false,
        })
        .await;
    assert!(
        matches!(
            client.confirmed(token).await,
            Err(Refusal::StorageFailed(_))
        ),
        "nothing is accepted any more"
    );
    assert!(broker.failure().is_some());
}

#[tokio::test]
async fn confirms_wait_for_the_store() {
    let store = store();
    let broker = open(store.clone()).await;
    let mut client = Client::new(&broker);
    client.queue("q").await;
    store.hold();
    let token = client.token();
    let message = Arc::new(message("", "q", "a"));
    client
        .submit(Command::Publish {
            token: Some(token),
            message,
            mandatory: false,
        })
        .await;
    // The queue has it already, and delivers it before it is durable.
    client.consume(1, "q", ConsumeSpec::default()).await;
    assert_eq!(client.bodies(1).await, ["a"]);
    let early = tokio::time::timeout(
        std::time::Duration::from_millis(20),
        client.confirmed(token),
    )
    .await;
    assert!(early.is_err(), "confirmed before the commit");
    store.release();
    client.confirmed(token).await.expect("it is stored now");
}

#[tokio::test]
async fn an_unroutable_message_is_confirmed_and_returned_if_mandatory() {
    let broker = open(store()).await;
    let mut client = Client::new(&broker);
    let token = client.token();
    let message = Arc::new(message("amq.direct", "nobody", "a"));
    client
        .submit(Command::Publish {
            token: Some(token),
            message,
            mandatory: true,
        })
        .await;
    client
        .expect(|event| matches!(event, Event::Returned { .. }).then_some(()))
        .await;
    client
        .confirmed(token)
        .await
        .expect("unroutable is not a failure");
}

#[tokio::test]
async fn a_publish_to_a_missing_exchange_is_refused() {
    let broker = open(store()).await;
    let mut client = Client::new(&broker);
    let message = Arc::new(message("nowhere", "k", "a"));
    client
        .submit(Command::Publish {
            token: None,
            message,
            mandatory: false,
        })
        .await;
    let reason = client.expect(|event| match event {
        Event::Rejected { reason, .. } => Some(reason.clone()),
        _ => None,
    });
    assert!(matches!(reason.await, Refusal::NotFound { .. }));
}

#[tokio::test]
async fn exclusive_queues_go_with_their_connection() {
    let broker = open(store()).await;
    let (mut one, mut two) = (Client::new(&broker), Client::new(&broker));
    let spec = QueueSpec {
        durable: false,
        exclusive: true,
        ..durable()
    };
    one.define(Change::DeclareQueue {
        name: "mine".into(),
        spec,
    })
    .await
    .expect("the name is free");
    let expect = || Change::ExpectQueue {
        name: "mine".into(),
        session: false,
    };
    assert!(matches!(
        two.define(expect()).await,
        Err(Refusal::Locked { .. })
    ));
    drop(one);
    let gone = async {
        while !matches!(two.define(expect()).await, Err(Refusal::NotFound { .. })) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(support::PATIENCE, gone)
        .await
        .expect("it is removed");
}

#[tokio::test]
async fn an_auto_delete_queue_goes_with_its_last_consumer() {
    let broker = open(store()).await;
    let mut client = Client::new(&broker);
    let spec = QueueSpec {
        auto_delete: true,
        ..durable()
    };
    client
        .define(Change::DeclareQueue {
            name: "q".into(),
            spec,
        })
        .await
        .expect("the name is free");
    client.consume(1, "q", ConsumeSpec::default()).await;
    client
        .ask(|token| Command::Cancel {
            token,
            consumer: ConsumerId(1),
        })
        .await
        .expect("it is there");
    let expect = || Change::ExpectQueue {
        name: "q".into(),
        session: false,
    };
    let gone = async { while client.define(expect()).await.is_ok() {} };
    tokio::time::timeout(support::PATIENCE, gone)
        .await
        .expect("it is removed");
}

#[tokio::test]
async fn purge_and_delete_say_how_many_messages_went() {
    let store = store();
    let broker = open(store.clone()).await;
    let mut client = Client::new(&broker);
    client.queue("q").await;
    for body in ["a", "b", "c"] {
        client.publish("", "q", body).await;
    }
    client.consume(1, "q", prefetch(1)).await;
    assert_eq!(client.bodies(1).await, ["a"]);
    let purged = client.define(Change::PurgeQueue { name: "q".into() }).await;
    assert!(
        matches!(purged, Ok(Reply::Deleted { messages: 2 })),
        "{purged:?}"
    );
    client.publish("", "q", "d").await;
    let broker = open(Arc::new(store.crash(3))).await;
    let mut client = Client::new(&broker);
    assert_eq!(
        client.queue("q").await.0,
        2,
        "the unsettled one and the new one"
    );
    assert_eq!(client.get("q").await.as_deref(), Some("a"));
    assert_eq!(client.get("q").await.as_deref(), Some("d"));
    client.publish("", "q", "e").await;
    let delete = |if_empty| Change::DeleteQueue {
        name: "q".into(),
        session: false,
        if_unused: false,
        if_empty,
    };
    assert!(matches!(
        client.define(delete(true)).await,
        Err(Refusal::NotEmpty { .. })
    ));
    let deleted = client.define(delete(false)).await;
    assert!(
        matches!(deleted, Ok(Reply::Deleted { messages: 1 })),
        "{deleted:?}"
    );
    // What is not there any more is deleted, and the answer is of the same kind.
    let deleted = client.define(delete(false)).await;
    assert!(
        matches!(deleted, Ok(Reply::Deleted { messages: 0 })),
        "{deleted:?}"
    );
}

#[tokio::test]
async fn a_consumer_is_told_when_its_queue_is_deleted() {
    let broker = open(store()).await;
    let (mut one, mut two) = (Client::new(&broker), Client::new(&broker));
    one.queue("q").await;
    one.consume(1, "q", ConsumeSpec::default()).await;
    let change = Change::DeleteQueue {
        name: "q".into(),
        session: false,
        if_unused: false,
        if_empty: false,
    };
    two.define(change).await.expect("nothing keeps it");
    one.expect(|event| matches!(event, Event::Cancelled { .. }).then_some(()))
        .await;
}

#[tokio::test]
async fn a_session_is_taken_over() {
    let broker = open(store()).await;
    let (mut old, mut new) = (Client::named(&broker, "c"), Client::named(&broker, "c"));
    let spec = QueueSpec {
        session: true,
        ..durable()
    };
    let declare = || Change::DeclareQueue {
        name: "c".into(),
        spec: spec.clone(),
    };
    assert!(matches!(
        old.define(declare()).await,
        Ok(Reply::Queue { created: true, .. })
    ));
    let consume = || ConsumeSpec {
        session: true,
        takeover: true,
        prefetch: Some(10),
        ..ConsumeSpec::default()
    };
    old.consume(1, "c", consume()).await;
    assert!(matches!(
        new.define(declare()).await,
        Ok(Reply::Queue { created: false, .. })
    ));
    new.consume(1, "c", consume()).await;
    old.expect(|event| matches!(event, Event::Cancelled { .. }).then_some(()))
        .await;
}

#[tokio::test]
async fn everything_is_durable_after_close() {
    let store = store();
    let broker = open(store.clone()).await;
    let mut client = Client::new(&broker);
    client.queue("q").await;
    let message = Arc::new(message("", "q", "a"));
    client
        .submit(Command::Publish {
            token: None,
            message,
            mandatory: false,
        })
        .await;
    drop(client);
    broker.close().await.expect("the store is sound");
    let kept: Arc<dyn Store> = Arc::new(store.crash(5));
    let broker = open(kept).await;
    let mut client = Client::new(&broker);
    assert_eq!(client.get("q").await.as_deref(), Some("a"));
    let _: Text = now().wall.0.to_string().into();
}

/// More than the queue may keep in memory, confirmed.
async fn backlog(client: &mut Client, exchange: &str, queue: &str, count: usize) {
    let filler = "x".repeat(3000);
    for n in 0..count {
        client
            .publish(exchange, queue, &format!("{n} {filler}"))
            .await;
    }
}

#[tokio::test]
async fn a_backlog_that_cannot_be_read_is_reported_and_kept() {
    let store = Arc::new(Damaged {
        store: MemoryStore::new(),
        failing: AtomicBool::new(false),
    });
    let broker = open(store.clone()).await;
    let (mut client, mut publisher) = (Client::new(&broker), Client::new(&broker));
    client.queue("q").await;
    backlog(&mut publisher, "", "q", 400).await;
    store.failing.store(true, Ordering::Relaxed);
    client.consume(1, "q", prefetch(1000)).await;
    let mut in_memory = 0;
    // What is in memory comes, then the end of the consumer instead of a hole.
    let reason = client
        .expect(|event| match event {
            Event::Deliver { deliveries, .. } => {
                in_memory += deliveries.len();
                deliveries.clear();
                None
            }
            Event::Cancelled { reason, .. } => Some(*reason),
            _ => None,
        })
        .await;
    assert_eq!(reason, CancelReason::Unreadable);
    let (consumer, queue) = (ConsumerId(9), Text::from_static("q"));
    let refused = client
        .ask(|token| Command::Get {
            token,
            consumer,
            queue,
            auto_ack: true,
        })
        .await;
    assert!(matches!(refused, Err(Refusal::Corrupt(_))), "{refused:?}");
    drop(client);
    let mut client = Client::new(&broker);
    while client.queue("q").await != (400, 0) {
        tokio::task::yield_now().await;
    }
    store.failing.store(false, Ordering::Relaxed);
    let crashed = Arc::new(store.store.crash(1));
    let broker = open(crashed).await;
    let mut client = Client::new(&broker);
    assert_eq!(client.queue("q").await.0, 400, "nothing was forgotten");
    client.consume(1, "q", prefetch(1000)).await;
    for n in 0..400 {
        let body = support::body(&client.delivery().await.message);
        assert!(body.starts_with(&format!("{n} ")), "message {n}: {body}");
        client.flushed().await;
    }
}

#[tokio::test]
async fn a_consumer_that_comes_after_a_failed_read_gets_everything() {
    let store = Arc::new(Damaged {
        store: MemoryStore::new(),
        failing: AtomicBool::new(true),
    });
    store.failing.store(false, Ordering::Relaxed);
    let broker = open(store.clone()).await;
    let mut client = Client::new(&broker);
    client.queue("q").await;
    backlog(&mut client, "", "q", 400).await;
    store.failing.store(true, Ordering::Relaxed);
    client.consume(1, "q", prefetch(10)).await;
    client.bodies(10).await;
    client.submit(settle(1, u64::MAX, Outcome::Requeue)).await;
    client.bodies(10).await;
    store.failing.store(false, Ordering::Relaxed);
    drop(client);
    let mut client = Client::new(&broker);
    client.consume(1, "q", prefetch(1000)).await;
    for n in 0..400 {
        let body = support::body(&client.delivery().await.message);
        assert!(body.starts_with(&format!("{n} ")), "message {n}: {body}");
        client.flushed().await;
    }
}

#[tokio::test]
async fn a_purge_while_the_backlog_is_read_leaves_the_queue_sound() {
    let broker = open(store()).await;
    let (mut client, mut publisher) = (Client::new(&broker), Client::new(&broker));
    client.queue("q").await;
    for round in 0..5 {
        backlog(&mut publisher, "", "q", 400).await;
        client.consume(round + 1, "q", prefetch(1)).await;
        let purge = Change::PurgeQueue { name: "q".into() };
        publisher.define(purge).await.expect("the queue is there");
        backlog(&mut publisher, "", "q", 450).await;
        let consumer = ConsumerId(round + 1);
        client
            .ask(|token| Command::Cancel { token, consumer })
            .await
            .expect("it is there");
        client
            .submit(Command::Settle {
                consumer,
                deliveries: DeliveryId(1)..=DeliveryId(u64::MAX),
                outcome: Outcome::Accept,
            })
            .await;
        let left = client.queue("q").await.0;
        assert!((449..=450).contains(&left), "{left}");
        let mut last = None;
        for _ in 0..left {
            let body = client.get("q").await.expect("it was counted");
            let n: usize = body.split(' ').next().unwrap().parse().unwrap();
            assert!(last.is_none_or(|last| last + 1 == n), "{last:?} {n}");
            last = Some(n);
        }
        assert_eq!((last, client.get("q").await), (Some(449), None));
    }
}

fn delete(queue: &str) -> Change {
    Change::DeleteQueue {
        name: queue.into(),
        session: false,
        if_unused: false,
        if_empty: false,
    }
}

/// Waits until next to nothing is in the store.
async fn swept(store: &MemoryStore, round: u64) {
    let swept = async {
        while store.bytes() > 2_000 {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    };
    let swept = tokio::time::timeout(support::PATIENCE, swept).await;
    assert!(swept.is_ok(), "round {round}: {} bytes left", store.bytes());
}

/// Two queues with a backlog that share its bodies.
async fn sharing(store: &Arc<MemoryStore>) -> (Broker, Client) {
    let broker = open(store.clone()).await;
    let mut client = Client::new(&broker);
    for queue in ["q", "r"] {
        client.queue(queue).await;
        client.bind("amq.fanout", "", queue).await;
    }
    backlog(&mut client, "amq.fanout", "", 500).await;
    assert!(store.bytes() > 1_400_000);
    (broker, client)
}

#[tokio::test]
async fn shared_bodies_are_forgotten_with_the_queues() {
    let store = store();
    let (_broker, mut client) = sharing(&store).await;
    let purge = Change::PurgeQueue { name: "q".into() };
    client.define(purge).await.expect("the queue is there");
    client.define(delete("r")).await.expect("nothing keeps it");
    swept(&store, 0).await;
}

#[tokio::test]
async fn shared_bodies_are_forgotten_also_when_the_power_was_cut_in_between() {
    for round in 0..12 {
        let store = store();
        let (_broker, mut client) = sharing(&store).await;
        store.hold();
        let purging = tokio::spawn(async move {
            let purge = Change::PurgeQueue { name: "q".into() };
            client.define(purge).await.expect("the queue is there");
            client.define(delete("r")).await.expect("nothing keeps it");
        });
        for _ in 0..round {
            while store.held() == 0 && !purging.is_finished() {
                tokio::task::yield_now().await;
            }
            store.release_one();
        }
        let store = Arc::new(store.crash(0));
        purging.abort();
        let broker = open(store.clone()).await;
        let mut client = Client::new(&broker);
        for queue in ["q", "r"] {
            client
                .define(delete(queue))
                .await
                .expect("nothing keeps it");
        }
        swept(&store, round).await;
    }
}

#[tokio::test]
async fn a_log_that_cannot_take_a_message_spares_all_destinations() {
    let broker = open(store()).await;
    let mut client = Client::new(&broker);
    client.queue("q").await;
    client.bind("amq.topic", "l.*", "q").await;
    let create = |name: &str, settings: Vec<(Text, Text)>| Change::CreateLog {
        name: name.into(),
        spec: LogSpec {
            partitions: 1,
            settings,
        },
        validate_only: false,
    };
    let setting = |name: &str, value: &str| (name.into(), value.into());
    let small = vec![
        setting("max.message.bytes", "200"),
        setting("mq.bind", "amq.topic:l.small"),
    ];
    let keyed = vec![
        setting("cleanup.policy", "compact"),
        setting("mq.key", "none"),
        setting("mq.bind", "amq.topic:l.keyed"),
    ];
    client.define(create("l.small", small)).await.unwrap();
    client.define(create("l.keyed", keyed)).await.unwrap();
    let mut refused = async |key: &str, body: &str| {
        let token = client.token();
        let command = Command::Publish {
            token: Some(token),
            message: Arc::new(message("amq.topic", key, body)),
            mandatory: false,
        };
        client.submit(command).await;
        client.confirmed(token).await.unwrap_err()
    };
    let refusal = refused("l.small", &"x".repeat(200)).await;
    assert!(
        matches!(refusal, Refusal::TooLarge { limit: 200, .. }),
        "{refusal:?}"
    );
    let refusal = refused("l.keyed", "x").await;
    assert!(matches!(refusal, Refusal::Invalid(_)), "{refusal:?}");
    client.publish("amq.topic", "l.small", "fits").await;
    assert_eq!(client.get("q").await.as_deref(), Some("fits"));
    assert_eq!(client.get("q").await, None);
}

/// The answer to the cancellation of the last consumer of an auto-delete queue says that the queue has gone, too
/// (RabbitMQ deletes it before basic.cancel-ok).
#[tokio::test]
async fn an_auto_delete_queue_has_gone_when_its_last_consumer_is_cancelled() {
    let broker = open(store()).await;
    let mut client = Client::new(&broker);
    for round in 0..50 {
        let name = Text::from("q");
        let spec = QueueSpec {
            auto_delete: true,
            ..QueueSpec::default()
        };
        let declare = Change::DeclareQueue {
            name: name.clone(),
            spec,
        };
        client.define(declare).await.expect("it is not there");
        client.consume(round, "q", ConsumeSpec::default()).await;
        let consumer = ConsumerId(round);
        let cancel = |token| Command::Cancel { token, consumer };
        client.ask(cancel).await.expect("it is there");
        let session = false;
        let expected = client.define(Change::ExpectQueue { name, session }).await;
        assert!(
            matches!(expected, Err(Refusal::NotFound { .. })),
            "{expected:?}"
        );
    }
}
