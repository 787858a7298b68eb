//! Logs as streams: declared as queues, read by consumers that leave what they read (RabbitMQ's docs/streams).

mod support;

use std::sync::Arc;

use support::{
    Client, body, broker,
    logs::{batch, log},
    message, open,
};
use trivium_core::{
    CancelReason, Change, Command, ConsumeSpec, ConsumerId, DeliveryId, Event, Message, Offset,
    Outcome, QueueSpec, Refusal, Reply, StreamFilter, StreamSpec, StreamStart, Value,
};

fn stream(arguments: &[(&'static str, Value)]) -> QueueSpec {
    let kind = ("x-queue-type".into(), Value::Text("stream".into()));
    let others = arguments
        .iter()
        .map(|(name, value)| ((*name).into(), value.clone()));
    QueueSpec {
        durable: true,
        arguments: std::iter::once(kind).chain(others).collect(),
        ..QueueSpec::default()
    }
}

async fn declare(client: &mut Client, name: &str, spec: QueueSpec) -> Result<Reply, Refusal> {
    let name = name.into();
    client.define(Change::DeclareQueue { name, spec }).await
}

fn from(from: StreamStart, prefetch: u32) -> ConsumeSpec {
    ConsumeSpec {
        prefetch: Some(prefetch),
        stream: Some(Box::new(StreamSpec {
            from,
            ..StreamSpec::default()
        })),
        ..ConsumeSpec::default()
    }
}

/// Takes so many messages, settling each.
async fn taken(client: &mut Client, consumer: u32, count: usize) -> Vec<String> {
    let mut bodies = Vec::new();
    for _ in 0..count {
        let delivery = client.delivery().await;
        bodies.push(body(&delivery.message));
        client
            .submit(Command::Settle {
                consumer: ConsumerId(consumer),
                deliveries: delivery.id..=delivery.id,
                outcome: Outcome::Accept,
            })
            .await;
    }
    bodies
}

#[tokio::test]
async fn each_consumer_reads_all_of_it_after_a_restart_too() {
    let (store, broker) = broker().await;
    let mut client = Client::new(&broker);
    declare(&mut client, "s", stream(&[]))
        .await
        .expect("it is new");
    for number in 0..20 {
        client.publish("", "s", &number.to_string()).await;
    }
    let all: Vec<String> = (0..20).map(|number| number.to_string()).collect();
    for consumer in 1..=2 {
        client
            .consume(consumer, "s", from(StreamStart::First, 3))
            .await;
        assert_eq!(taken(&mut client, consumer, 20).await, all);
    }
    assert_eq!(client.queue_counts("s").await, (20, 2));
    let after = open(Arc::new(store.crash(1))).await;
    let mut client = Client::new(&after);
    assert_eq!(client.queue_counts("s").await, (20, 0));
    client
        .consume(1, "s", from(StreamStart::Offset(Offset(15)), 3))
        .await;
    assert_eq!(taken(&mut client, 1, 5).await, all[15..]);
}

#[tokio::test]
async fn what_is_not_settled_keeps_room_and_ranges_count_once() {
    let (_, broker) = broker().await;
    let mut client = Client::new(&broker);
    declare(&mut client, "s", stream(&[]))
        .await
        .expect("it is new");
    for number in 0..10 {
        client.publish("", "s", &number.to_string()).await;
    }
    client.consume(1, "s", from(StreamStart::First, 2)).await;
    let settle = |deliveries: std::ops::RangeInclusive<u64>| Command::Settle {
        consumer: ConsumerId(1),
        deliveries: DeliveryId(*deliveries.start())..=DeliveryId(*deliveries.end()),
        outcome: Outcome::Requeue,
    };
    for _ in 0..2 {
        client.delivery().await;
    }
    assert!(!client.has_events().await);
    // Far too much, and twice: only two were delivered.
    client.submit(settle(0..=u64::MAX)).await;
    client.submit(settle(1..=2)).await;
    for _ in 0..2 {
        client.delivery().await;
    }
    assert!(!client.has_events().await);
    client.submit(settle(4..=4)).await;
    assert_eq!(client.delivery().await.id, DeliveryId(5));
    assert!(!client.has_events().await);
}

#[tokio::test]
async fn what_comes_while_a_consumer_waits_is_delivered() {
    let (_, broker) = broker().await;
    let (mut client, mut publisher) = (Client::new(&broker), Client::new(&broker));
    declare(&mut client, "s", stream(&[]))
        .await
        .expect("it is new");
    publisher.publish("", "s", "before").await;
    client.consume(1, "s", from(StreamStart::Next, 10)).await;
    assert!(!client.has_events().await);
    publisher.publish("", "s", "after").await;
    assert_eq!(taken(&mut client, 1, 1).await, ["after"]);
    client.consume(2, "s", from(StreamStart::Last, 10)).await;
    assert_eq!(taken(&mut client, 2, 1).await, ["after"]);
}

#[tokio::test]
async fn a_stream_keeps_exchange_key_and_timestamp() {
    let (_, broker) = broker().await;
    let mut client = Client::new(&broker);
    declare(&mut client, "s", stream(&[]))
        .await
        .expect("it is new");
    client.bind("amq.topic", "orders.#", "s").await;
    client.publish("amq.topic", "orders.eu", "1").await;
    client.consume(1, "s", from(StreamStart::First, 10)).await;
    let delivery = client.delivery().await;
    let Message {
        exchange,
        topic,
        timestamp,
        ..
    } = &*delivery.message;
    assert_eq!((&**exchange, &**topic.text()), ("amq.topic", "orders.eu"));
    assert_eq!(*timestamp, message("", "", "").timestamp);
    assert!(delivery.message.properties().headers.is_empty());
}

#[tokio::test]
async fn filters_look_at_the_header() {
    let (_, broker) = broker().await;
    let mut client = Client::new(&broker);
    client.with_log("t", &[]).await;
    client
        .append("t", 0, batch(&["none"], None))
        .await
        .expect("the log is there");
    let spec = |match_unfiltered| ConsumeSpec {
        prefetch: Some(1),
        stream: Some(Box::new(StreamSpec {
            from: StreamStart::First,
            filter: Some(StreamFilter {
                values: vec!["a".into()],
                match_unfiltered,
            }),
            follow: None,
        })),
        ..ConsumeSpec::default()
    };
    client.consume(1, "t", spec(false)).await;
    assert!(!client.has_events().await);
    client.consume(2, "t", spec(true)).await;
    assert_eq!(taken(&mut client, 2, 1).await, ["none"]);
}

#[tokio::test]
async fn every_partition_of_a_kafka_log_is_read() {
    let (_, broker) = broker().await;
    let mut client = Client::new(&broker);
    client.log("t", log(3, &[])).await.expect("it is new");
    for partition in 0..3 {
        let values = [partition.to_string(), "x".to_owned()];
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        client
            .append("t", partition, batch(&values, None))
            .await
            .expect("the log is there");
    }
    for (consumer, start, expected) in [
        (1, StreamStart::First, vec!["0", "1", "2", "x", "x", "x"]),
        (2, StreamStart::Offset(Offset(1)), vec!["x", "x", "x"]),
        // The whole last batch of each.
        (3, StreamStart::Last, vec!["0", "1", "2", "x", "x", "x"]),
    ] {
        client.consume(consumer, "t", from(start, 2)).await;
        let mut found = taken(&mut client, consumer, expected.len()).await;
        found.sort_unstable();
        assert_eq!(found, expected, "{start:?}");
        let consumer = ConsumerId(consumer);
        client
            .ask(|token| Command::Cancel { token, consumer })
            .await
            .expect("it is there");
    }
}

#[tokio::test]
async fn a_consumer_is_told_when_the_stream_goes() {
    let (_, broker) = broker().await;
    let (mut client, mut other) = (Client::new(&broker), Client::new(&broker));
    declare(&mut client, "s", stream(&[]))
        .await
        .expect("it is new");
    client.consume(1, "s", from(StreamStart::First, 1)).await;
    let deleted = other
        .define(Change::DeleteQueue {
            name: "s".into(),
            session: false,
            if_unused: true,
            if_empty: true,
        })
        .await;
    assert!(matches!(deleted, Ok(Reply::Deleted { messages: 0 })));
    let reason = client
        .expect(|event| match event {
            Event::Cancelled { reason, .. } => Some(*reason),
            _ => None,
        })
        .await;
    assert_eq!(reason, CancelReason::QueueDeleted);
    let again = declare(&mut other, "s", stream(&[])).await;
    assert!(matches!(
        again,
        Ok(Reply::Queue {
            messages: 0,
            created: true,
            ..
        })
    ));
}

#[tokio::test]
async fn streams_and_queues_share_names() {
    let (_, broker) = broker().await;
    let mut client = Client::new(&broker);
    client.queue("q").await;
    let refused = declare(&mut client, "q", stream(&[])).await;
    assert!(
        matches!(refused, Err(Refusal::Inequivalent { .. })),
        "{refused:?}"
    );
    let age = |age: &'static str| stream(&[("x-max-age", Value::Text(age.into()))]);
    declare(&mut client, "s", age("7D"))
        .await
        .expect("it is new");
    let same = declare(&mut client, "s", age("7D")).await;
    assert!(
        matches!(same, Ok(Reply::Queue { created: false, .. })),
        "{same:?}"
    );
    for other in [age("8D"), stream(&[])] {
        let refused = declare(&mut client, "s", other).await;
        assert!(
            matches!(refused, Err(Refusal::Inequivalent { .. })),
            "{refused:?}"
        );
    }
    let transient = QueueSpec {
        durable: false,
        ..age("7D")
    };
    let refused = declare(&mut client, "s", transient).await;
    assert!(
        matches!(refused, Err(Refusal::Inequivalent { .. })),
        "{refused:?}"
    );
}

/// DESIGN section 3.2: settings of logs are arguments with `x-` in front.
#[tokio::test]
async fn a_stream_captures_and_is_tapped_when_it_is_declared_so() {
    let (_, broker) = broker().await;
    let mut client = Client::new(&broker);
    let text = |text: &'static str| Value::Text(text.into());
    let spec = stream(&[
        ("x-mq.bind", text("amq.topic:sensors.#")),
        ("x-mq-tap", text("amq.topic")),
        ("x-mq.tap.root.wildcards", Value::Bool(true)),
    ]);
    declare(&mut client, "s", spec.clone())
        .await
        .expect("the name is free");
    declare(&mut client, "s", spec)
        .await
        .expect("it is the same");
    declare(&mut client, "s", stream(&[]))
        .await
        .expect("nothing is said against it");
    client.publish("amq.topic", "sensors.1", "captured").await;
    assert_eq!(client.read("s", 0, 0).await, ["captured"]);
    client.queue("all").await;
    client.bind("amq.topic", "#", "all").await;
    client.publish("", "s", "direct").await;
    while client.get("all").await.as_deref() != Some("direct") {
        tokio::task::yield_now().await;
    }
    for (other, expected) in [
        (("x-mq.bind", text("amq.topic:else")), "x-mq.bind"),
        (("x-mq.route.key", text("${key}")), "x-mq.route.key"),
    ] {
        let refusal = declare(&mut client, "s", stream(&[other])).await;
        let refusal = refusal.expect_err("it is not the same");
        assert!(matches!(refusal, Refusal::Inequivalent { .. }));
        assert!(refusal.to_string().contains(expected), "{refusal}");
    }
    for wrong in [
        ("x-mq.bind", text("no-colon")),
        ("x-mq.bind", text("absent:key")),
        ("x-mq.unheard", text("of")),
        ("x-mq.key", Value::Bool(true)),
    ] {
        let refusal = declare(&mut client, "t", stream(&[wrong])).await;
        assert!(refusal.is_err());
    }
}
