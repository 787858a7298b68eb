//! Where logs meet exchanges (DESIGN section 3.2): captures write what is published into logs, the tap offers what
//! is appended to logs to queues and sessions.

mod support;

use std::sync::Arc;

use support::{
    Client, body, broker, durable,
    logs::{batch, log},
    message, open,
};
use trivium_core::{
    BatchError, Binding, BindingTag, Change, Command, ConsumeSpec, Destination, ExchangeKind,
    Grammar, Message, Pattern, QueueSpec, Refusal, Reply, Subscription, Topic,
};

/// Appends one more record and waits until the tap has offered it: everything before has been offered then.
async fn tapped(client: &mut Client, topic: &str) {
    client.queue("mark").await;
    client.bind("amq.topic", topic, "mark").await;
    client
        .append(topic, 0, batch(&["mark"], None))
        .await
        .expect("the log is there");
    while client.get("mark").await.as_deref() != Some("mark") {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_publish_is_captured_once_however_many_bindings_match() {
    let (_, broker) = broker().await;
    let mut client = Client::new(&broker);
    let bindings = "amq.topic:orders.#,amq.topic:*.eu,amq.topic:orders.eu";
    client.with_log("orders", &[("mq.bind", bindings)]).await;
    client.publish("amq.topic", "orders.eu", "a").await;
    client.publish("amq.topic", "other.us", "no").await;
    client.publish("amq.topic", "orders.us", "b").await;
    assert_eq!(client.read("orders", 0, 0).await, ["a", "b"]);
}

#[tokio::test]
async fn what_is_published_under_its_name_reaches_a_log_without_settings() {
    let (_, broker) = broker().await;
    let mut client = Client::new(&broker);
    client.with_log("orders.eu", &[]).await;
    let token = client.token();
    let spelled = Message {
        topic: Topic::new("orders/eu".into(), Grammar::Slashes),
        ..message("amq.topic", "", "from a device")
    };
    client
        .submit(Command::Publish {
            token: Some(token),
            message: Arc::new(spelled),
            mandatory: false,
        })
        .await;
    client.confirmed(token).await.expect("nothing refuses it");
    assert_eq!(client.read("orders.eu", 0, 0).await, ["from a device"]);
}

#[tokio::test]
async fn an_append_reaches_queues_and_sessions() {
    let (_, broker) = broker().await;
    let mut client = Client::named(&broker, "device");
    client.with_log("orders.eu", &[]).await;
    client.queue("q").await;
    client.bind("amq.topic", "orders.*", "q").await;
    client.bind("amq.topic", "#.eu", "q").await;
    let spec = QueueSpec {
        session: true,
        ..durable()
    };
    client
        .define(Change::DeclareQueue {
            name: "device".into(),
            spec,
        })
        .await
        .expect("a session is always declared");
    client
        .define(Change::Bind(Binding {
            source: "amq.topic".into(),
            destination: Destination::Session("device".into()),
            key: "orders/+".into(),
            grammar: Grammar::Slashes,
            arguments: Vec::new(),
            subscription: Some(Subscription {
                tag: BindingTag(7),
                best_effort: false,
                no_local: true,
            }),
        }))
        .await
        .expect("both ends are there");
    client
        .append("orders.eu", 0, batch(&["a", "b"], None))
        .await
        .expect("the log is there");
    client.filled("q", 2).await;
    assert_eq!(client.drained("q").await, ["a", "b"]);
    let spec = ConsumeSpec {
        session: true,
        ..ConsumeSpec::default()
    };
    client.consume(1, "device", spec).await;
    for expected in ["a", "b"] {
        let delivery = client.delivery().await;
        assert_eq!(body(&delivery.message), expected);
        assert_eq!(&delivery.tags[..], [BindingTag(7)]);
        assert_eq!(delivery.message.topic.text(), "orders.eu");
    }
}

#[tokio::test]
async fn captured_records_are_not_tapped_and_direct_ones_are() {
    let (_, broker) = broker().await;
    let mut client = Client::new(&broker);
    client.with_log("orders", &[]).await;
    client.queue("q").await;
    client.bind("amq.topic", "orders", "q").await;
    client.publish("amq.topic", "orders", "captured").await;
    client.publish("", "orders", "direct").await;
    assert_eq!(client.read("orders", 0, 0).await, ["captured", "direct"]);
    client.filled("q", 2).await;
    tapped(&mut client, "orders").await;
    assert_eq!(
        client.drained("q").await,
        ["captured", "direct", "mark"],
        "the captured one came by its binding only"
    );
}

#[tokio::test]
async fn two_logs_that_capture_and_tap_one_exchange_make_no_loop() {
    let (_, broker) = broker().await;
    let mut client = Client::new(&broker);
    let both = [("mq.bind", "amq.topic:#"), ("mq.tap", "amq.topic")];
    client
        .log("a", log(1, &both))
        .await
        .expect("the name is free");
    client
        .log("b", log(1, &both))
        .await
        .expect("the name is free");
    client
        .append("a", 0, batch(&["x"], None))
        .await
        .expect("the log is there");
    client.publish("amq.topic", "b", "y").await;
    tapped(&mut client, "a").await;
    tapped(&mut client, "b").await;
    assert_eq!(client.read("a", 0, 0).await, ["x", "y", "mark"]);
    assert_eq!(client.read("b", 0, 0).await, ["y", "mark"]);
}

#[tokio::test]
async fn a_leading_wildcard_does_not_see_records_unless_the_log_opts_in() {
    let (_, broker) = broker().await;
    let mut client = Client::new(&broker);
    client.with_log("quiet.eu", &[]).await;
    let open = log(1, &[("mq.tap.root.wildcards", "true")]);
    client.log("loud.eu", open).await.expect("the name is free");
    for (queue, key) in [("all", "#"), ("eu", "*.eu"), ("both", "#")] {
        client.queue(queue).await;
        client.bind("amq.topic", key, queue).await;
    }
    client.bind("amq.topic", "quiet.#", "both").await;
    client
        .append("quiet.eu", 0, batch(&["quiet"], None))
        .await
        .expect("the log is there");
    client
        .append("loud.eu", 0, batch(&["loud"], None))
        .await
        .expect("the log is there");
    tapped(&mut client, "quiet.eu").await;
    client.filled("all", 1).await;
    client.filled("eu", 1).await;
    client.filled("both", 3).await;
    assert_eq!(client.drained("all").await, ["loud"]);
    assert_eq!(client.drained("eu").await, ["loud"]);
    let mut both = client.drained("both").await;
    both.sort();
    assert_eq!(both, ["loud", "mark", "quiet"]);
}

#[tokio::test]
async fn the_tap_goes_through_exchanges_and_only_where_it_is_on() {
    let (_, broker) = broker().await;
    let mut client = Client::new(&broker);
    client.declare_exchange("out", ExchangeKind::Fanout).await;
    client.with_log("on", &[("mq.tap", "out")]).await;
    client.with_log("off", &[("mq.tap", "off")]).await;
    for queue in ["q", "square"] {
        client.queue(queue).await;
    }
    client.bind("out", "", "q").await;
    client.bind("amq.topic", "on", "square").await;
    client.bind("amq.topic", "off", "square").await;
    client
        .append("off", 0, batch(&["no"], None))
        .await
        .expect("the log is there");
    client
        .append("on", 0, batch(&["yes"], None))
        .await
        .expect("the log is there");
    client.filled("q", 1).await;
    assert_eq!(client.drained("q").await, ["yes"]);
    assert_eq!(client.drained("square").await, [""; 0]);
}

#[tokio::test]
async fn records_that_cannot_be_read_are_not_taken() {
    let (_, broker) = broker().await;
    let mut client = Client::new(&broker);
    client.with_log("t", &[]).await;
    client.queue("q").await;
    client.bind("amq.topic", "t", "q").await;
    client
        .append("t", 0, batch(&["a"], None))
        .await
        .expect("the log is there");
    // It says that it is compressed (gzip), and is not.
    let refused = client
        .append(
            "t",
            0,
            support::logs::claiming_codec(&batch(&["b"], None), 1),
        )
        .await;
    assert_eq!(refused, Err(Refusal::Batch(BatchError::Compression)));
    client
        .append("t", 0, batch(&["c"], None))
        .await
        .expect("the log is there");
    client.filled("q", 2).await;
    assert_eq!(client.drained("q").await, ["a", "c"]);
}

#[tokio::test]
async fn a_deleted_log_is_tapped_no_more_and_its_successor_from_the_start() {
    let (_, broker) = broker().await;
    let mut client = Client::new(&broker);
    client.queue("q").await;
    client.bind("amq.topic", "t", "q").await;
    for round in ["a", "b", "c"] {
        client.with_log("t", &[]).await;
        client
            .append("t", 0, batch(&[round], None))
            .await
            .expect("the log is there");
        client.filled("q", 1).await;
        assert_eq!(client.drained("q").await, [round]);
        client.delete_log("t").await.expect("the log is there");
    }
}

/// Appends to several partitions while batches are offered, cuts the power at some point, and counts.
#[tokio::test]
async fn every_record_is_offered_exactly_once_whenever_the_power_is_cut() {
    for seed in 0..60u64 {
        let (store, broker) = broker().await;
        let mut client = Client::new(&broker);
        client
            .log("t", log(3, &[]))
            .await
            .expect("the name is free");
        for queue in ["q", "r", "s"] {
            client.queue(queue).await;
            client.bind("amq.topic", "t", queue).await;
        }
        let mut expected = Vec::new();
        let before = 1 + seed % 7;
        for n in 0..before {
            let value = format!("{n:03}");
            client
                .append("t", (n % 3) as u32, batch(&[&value, &value], None))
                .await
                .expect("the log is there");
            expected.extend([value.clone(), value]);
            if seed % 5 == n % 5 {
                store.hold();
                for _ in 0..seed % 4 {
                    tokio::task::yield_now().await;
                    store.release_one();
                }
                if n + 1 < before {
                    store.release();
                }
            }
        }
        let store = Arc::new(if seed % 2 == 0 {
            store.crash(seed)
        } else {
            store.kill(seed)
        });
        let broker = open(store).await;
        let mut client = Client::new(&broker);
        for queue in ["q", "r", "s"] {
            client.filled(queue, expected.len() as u64).await;
        }
        client
            .append("t", 0, batch(&["end"], None))
            .await
            .expect("the log is there");
        for queue in ["q", "r", "s"] {
            client.filled(queue, expected.len() as u64 + 1).await;
            let mut got = client.drained(queue).await;
            got.retain(|body| body != "end");
            got.sort();
            assert_eq!(got, expected, "seed {seed}, queue {queue}");
        }
    }
}

/// A publish that is retained, captured and queued in several shards is there altogether or not at all.
#[tokio::test]
async fn a_publish_to_all_kinds_of_destinations_is_atomic() {
    for seed in 0..100u64 {
        let (store, broker) = broker().await;
        let mut client = Client::new(&broker);
        client
            .log("t.x", log(3, &[]))
            .await
            .expect("the name is free");
        for queue in ["q", "r", "s"] {
            client.queue(queue).await;
            client.bind("amq.topic", "t.*", queue).await;
        }
        store.hold();
        let mut other = Client::new(&broker);
        for n in 0..4 {
            let retained = Message {
                topic: Topic::new("t/x".into(), Grammar::Slashes),
                retain: true,
                ..message("amq.topic", "", &format!("body {n}"))
            };
            let publish = Command::Publish {
                token: None,
                message: Arc::new(retained),
                mandatory: false,
            };
            other.submit(publish).await;
            for _ in 0..seed % 3 {
                tokio::task::yield_now().await;
            }
        }
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        let crashed = Arc::new(store.crash(seed));
        let broker = open(crashed).await;
        let mut client = Client::new(&broker);
        let mut logged = Vec::new();
        for partition in 0..3 {
            logged.extend(client.read("t.x", partition, 0).await);
        }
        let expected: Vec<String> = (0..logged.len()).map(|n| format!("body {n}")).collect();
        assert_eq!(logged, expected, "seed {seed}");
        for queue in ["q", "r", "s"] {
            assert_eq!(client.drained(queue).await, expected, "seed {seed}");
        }
        let filter = Pattern::new("t/x".into(), Grammar::Slashes);
        let Ok(Reply::Retained(found)) = client
            .ask(|token| Command::Retained { token, filter })
            .await
        else {
            panic!("retained messages can be asked for");
        };
        let last: Vec<_> = found.iter().map(|found| body(&found.message)).collect();
        assert_eq!(
            last,
            expected.last().cloned().into_iter().collect::<Vec<_>>()
        );
    }
}
