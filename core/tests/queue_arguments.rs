//! What queues do by their arguments: lifetimes, limits, dead letters, priorities, one consumer at a time
//! (RabbitMQ's extensions to queue.declare).

mod support;

use std::{sync::Arc, time::Duration};

use support::{Client, advance, body, durable, message, open};
use trivium_core::{
    CancelReason, Change, Command, ConsumeSpec, ConsumerId, Delivery, DeliveryId, Event, Message,
    Outcome, QueueSpec, Refusal, Reply, Text, Token, Value, store::memory::MemoryStore,
};

fn store() -> Arc<MemoryStore> {
    Arc::new(MemoryStore::new())
}

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

fn arguments(arguments: &[(&str, Value)]) -> Vec<(Text, Value)> {
    arguments
        .iter()
        .map(|(name, value)| ((*name).into(), value.clone()))
        .collect()
}

/// A client that declares queues with arguments.
trait Declaring {
    async fn declare(&mut self, name: &str, with: &[(&str, Value)]);
    async fn count(&mut self, name: &str) -> u64;
    /// Waits until a queue has so many messages ready.
    async fn until(&mut self, name: &str, count: u64);
    /// Whether the publish was taken.
    async fn offer(&mut self, exchange: &str, key: &str, body: &str) -> Result<(), Refusal>;
    async fn publish_message(&mut self, message: Message);
    async fn take(&mut self, queue: &str) -> Option<Delivery>;
    /// Waits until what was done before would survive a crash.
    async fn make_durable(&mut self);
}

impl Declaring for Client {
    async fn declare(&mut self, name: &str, with: &[(&str, Value)]) {
        let spec = QueueSpec {
            arguments: arguments(with),
            ..durable()
        };
        let name = name.into();
        self.define(Change::DeclareQueue { name, spec })
            .await
            .expect("the arguments are sound");
    }

    async fn count(&mut self, name: &str) -> u64 {
        let (name, session) = (name.into(), false);
        match self.define(Change::ExpectQueue { name, session }).await {
            Ok(Reply::Queue { messages, .. }) => messages,
            other => panic!("{other:?}"),
        }
    }

    async fn until(&mut self, name: &str, count: u64) {
        let mut found = 0;
        for _ in 0..20_000 {
            found = self.count(name).await;
            if found == count {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("{found} messages in {name}, not {count}");
    }

    async fn offer(&mut self, exchange: &str, key: &str, body: &str) -> Result<(), Refusal> {
        let token = self.token();
        self.submit(publish(Some(token), message(exchange, key, body)))
            .await;
        self.confirmed(token).await
    }

    async fn publish_message(&mut self, message: Message) {
        let token = self.token();
        self.submit(publish(Some(token), message)).await;
        self.confirmed(token).await.expect("nothing refuses it");
    }

    async fn take(&mut self, queue: &str) -> Option<Delivery> {
        let (consumer, queue) = (ConsumerId(u32::MAX), Text::from(queue));
        let get = |token| Command::Get {
            token,
            consumer,
            queue,
            auto_ack: true,
        };
        match self.ask(get).await {
            Ok(Reply::Got { delivery, .. }) => delivery,
            other => panic!("{other:?}"),
        }
    }

    async fn make_durable(&mut self) {
        self.queue("barrier").await;
        self.publish("", "barrier", "").await;
    }
}

fn publish(token: Option<Token>, message: Message) -> Command {
    Command::Publish {
        token,
        message: Arc::new(message),
        mandatory: false,
    }
}

fn with_lifetime(key: &str, body: &str, expiry_ms: u64) -> Message {
    Message {
        expiry_ms: Some(expiry_ms),
        ..message("", key, body)
    }
}

fn with_priority(key: &str, body: &str, priority: u8) -> Message {
    Message {
        priority: Some(priority),
        ..message("", key, body)
    }
}

fn prefetch(limit: u32) -> ConsumeSpec {
    ConsumeSpec {
        prefetch: Some(limit),
        ..ConsumeSpec::default()
    }
}

fn settle(consumer: u32, delivery: u64, outcome: Outcome) -> Command {
    Command::Settle {
        consumer: ConsumerId(consumer),
        deliveries: DeliveryId(delivery)..=DeliveryId(delivery),
        outcome,
    }
}

/// A header of a message, as its readers see it.
fn header(message: &Message, name: &str) -> Option<Value> {
    let headers = message.properties().headers;
    headers
        .into_iter()
        .find(|(of, _)| of == name)
        .map(|(_, value)| value)
}

/// The deaths of a message: queue, reason and count, the latest first.
fn deaths(message: &Message) -> Vec<(String, String, i64)> {
    let Some(Value::Array(records)) = header(message, "x-death") else {
        return Vec::new();
    };
    let field = |record: &Value, name: &str| match record {
        Value::Table(fields) => fields
            .iter()
            .find(|(of, _)| of == name)
            .map(|(_, value)| value.clone()),
        _ => None,
    };
    let string = |record: &Value, name| match field(record, name) {
        Some(Value::Text(text)) => text.to_string(),
        other => panic!("{other:?}"),
    };
    let count = |record: &Value| match field(record, "count") {
        Some(Value::I64(count)) => count,
        other => panic!("{other:?}"),
    };
    records
        .iter()
        .map(|record| {
            (
                string(record, "queue"),
                string(record, "reason"),
                count(record),
            )
        })
        .collect()
}

fn death(queue: &str, reason: &str, count: i64) -> (String, String, i64) {
    (queue.to_owned(), reason.to_owned(), count)
}

#[tokio::test]
async fn messages_expire_from_the_head_by_the_lower_of_both_lifetimes() {
    let broker = open(store()).await;
    let mut client = Client::new(&broker);
    client
        .declare("q", &[("x-message-ttl", Value::I32(1000))])
        .await;
    client.publish("", "q", "by the queue").await;
    client.publish_message(with_lifetime("q", "own", 300)).await;
    client
        .publish_message(with_lifetime("q", "longer than the queue's", 5000))
        .await;
    advance(Duration::from_millis(500));
    assert_eq!(
        client.count("q").await,
        3,
        "the head hides what is behind it"
    );
    advance(Duration::from_millis(600));
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
    let expires = [("x-expires", Value::I32(1000))];
    client.declare("q", &expires).await;
    let there = |result| !matches!(result, Err(Refusal::NotFound { .. }));
    for step in 0..6 {
        advance(Duration::from_millis(600));
        match step % 3 {
            0 => client.declare("q", &expires).await,
            1 => assert_eq!(client.get("q").await, None),
            _ => {
                client.consume(step, "q", ConsumeSpec::default()).await;
                advance(Duration::from_millis(5000));
                let consumer = ConsumerId(step);
                let cancel = |token| Command::Cancel { token, consumer };
                client.ask(cancel).await.expect("it is there");
            }
        }
    }
    advance(Duration::from_millis(1100));
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
        advance(Duration::from_millis(1100));
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
async fn a_rejected_message_arrives_with_its_history() {
    let broker = open(store()).await;
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
    let store = store();
    let broker = open(store.clone()).await;
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

#[tokio::test]
async fn a_circle_without_rejection_ends() {
    let broker = open(store()).await;
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
    let broker = open(store()).await;
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
    let store = store();
    let broker = open(store.clone()).await;
    let mut client = Client::new(&broker);
    client.declare("dead", &[]).await;
    let to_dead = [
        ("x-message-ttl", Value::I32(1000)),
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
    advance(Duration::from_millis(1100));
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
        let store = store();
        let broker = open(store.clone()).await;
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
    let store = store();
    let broker = open(store.clone()).await;
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
    let store = store();
    let broker = open(store.clone()).await;
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
    let broker = open(store()).await;
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
    let store = store();
    let broker = open(store.clone()).await;
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
async fn what_comes_back_too_often_is_dead_lettered() {
    let broker = open(store()).await;
    let mut client = Client::new(&broker);
    client.declare("dead", &[]).await;
    let quorum = [
        ("x-queue-type", text("quorum")),
        ("x-delivery-limit", Value::I32(2)),
        ("x-dead-letter-exchange", text("")),
        ("x-dead-letter-routing-key", text("dead")),
    ];
    client.declare("q", &quorum).await;
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
            let cancel = |token| Command::Cancel {
                token,
                consumer: ConsumerId(1),
            };
            consumer.ask(cancel).await.expect("it is there");
        }
    }
    client.until("dead", 1).await;
    let dead = client.take("dead").await.expect("it is there");
    assert_eq!(deaths(&dead.message), [death("q", "delivery_limit", 1)]);
}

#[tokio::test]
async fn counts_of_returns_survive_a_crash() {
    let store = store();
    let broker = open(store.clone()).await;
    let mut client = Client::new(&broker);
    client.declare("dead", &[]).await;
    let quorum = [
        ("x-queue-type", text("quorum")),
        ("x-delivery-limit", Value::I32(2)),
        ("x-dead-letter-exchange", text("")),
        ("x-dead-letter-routing-key", text("dead")),
    ];
    client.declare("q", &quorum).await;
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
        let cancel = |token| Command::Cancel {
            token,
            consumer: ConsumerId(1),
        };
        consumer.ask(cancel).await.expect("it is there");
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
            let quorum = [
                ("x-queue-type", text("quorum")),
                ("x-delivery-limit", Value::I32(2)),
                ("x-dead-letter-exchange", text("")),
                ("x-dead-letter-routing-key", text("dead")),
            ];
            client.declare("q", &quorum).await;
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
        .submit(Command::LimitChannel { channel: 1, limit })
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
        .declare("q", &[("x-consumer-timeout", Value::I32(1000))])
        .await;
    client.publish("", "q", "a").await;
    client.publish("", "q", "b").await;
    client.consume(1, "q", ConsumeSpec::default()).await;
    assert_eq!(client.bodies(2).await, ["a", "b"]);
    advance(Duration::from_millis(600));
    client.submit(settle(1, 1, Outcome::Accept)).await;
    advance(Duration::from_millis(600));
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
