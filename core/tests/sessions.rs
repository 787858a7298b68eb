//! Sessions of MQTT clients: what is kept for them, what they get again, and retained messages.

mod support;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use support::{
    Client, body, broker, durable, message, open,
    sessions::{consume, publish},
};
use trivium_core::{
    BindingTag, Change, Command, ConsumeSpec, ConsumerId, DeliveryId, Event, Grammar, Message,
    Origin, Outcome, Pattern, QueueSpec, Reply, Value,
};

fn retained(topic: &str, body: &str) -> Message {
    Message {
        retain: true,
        ..publish(topic, body, 1)
    }
}

impl Client {
    async fn retained(&mut self, filter: &str) -> Vec<Arc<Message>> {
        let filter = Pattern::new(filter.into(), Grammar::Slashes);
        match self.ask(|token| Command::Retained { token, filter }).await {
            Ok(Reply::Retained(found)) => found.into_iter().map(|found| found.message).collect(),
            other => panic!("{other:?}"),
        }
    }

    async fn retained_bodies(&mut self, filter: &str) -> Vec<String> {
        let mut bodies: Vec<_> = self
            .retained(filter)
            .await
            .iter()
            .map(|message| body(message))
            .collect();
        bodies.sort();
        bodies
    }
}

#[tokio::test]
async fn an_offline_session_keeps_what_was_promised_and_nothing_else() {
    let (store, broker) = broker().await;
    let mut client = Client::named(&broker, "publisher");
    assert!(client.session("c", None).await);
    client.subscribe("c", "a/+", 1, 1, false).await;
    client.subscribe("c", "b/+", 2, 0, false).await;
    client.send(publish("a/x", "kept", 1)).await;
    client.send(publish("a/x", "sent with QoS 0", 0)).await;
    client
        .send(publish("b/x", "subscribed with QoS 0", 1))
        .await;
    client.send(publish("a/y", "kept too", 1)).await;
    let broker = open(Arc::new(store.crash(4))).await;
    let mut client = Client::named(&broker, "c");
    assert!(!client.session("c", None).await, "it is still there");
    assert_eq!(client.ready("c").await, Some((2, 0)));
    client.consume(1, "c", consume()).await;
    assert_eq!(client.bodies(2).await, ["kept", "kept too"]);
    client.send(publish("a/x", "now", 0)).await;
    let now = client.delivery().await;
    assert_eq!(body(&now.message), "now");
    assert_eq!(now.id, DeliveryId(0), "nothing to settle");
}

#[tokio::test]
async fn memory_of_dropped_messages_is_given_back() {
    let (_, broker) = broker().await;
    let (mut client, mut publisher) = (Client::named(&broker, "c"), Client::new(&broker));
    client.session("c", None).await;
    client.subscribe("c", "#", 1, 1, false).await;
    let spec = ConsumeSpec {
        prefetch: Some(1),
        ..consume()
    };
    client.consume(1, "c", spec).await;
    publisher.send(publish("t", "first", 1)).await;
    publisher.send(publish("t", "blocks", 1)).await;
    for _ in 0..100 {
        publisher.send(publish("t", &"x".repeat(500), 0)).await;
    }
    assert_eq!(client.bodies(1).await, ["first"]);
    assert_eq!(publisher.ready("c").await, Some((101, 1)));
    drop(client);
    while publisher.ready("c").await != Some((2, 0)) {
        tokio::task::yield_now().await;
    }
    let held = broker
        .samples()
        .await
        .into_iter()
        .find(|sample| sample.name == "trivium_queue_memory_bytes")
        .expect("it is counted");
    assert!(held.value < 1000, "{} bytes", held.value);
}

#[tokio::test]
async fn a_takeover_gets_everything_again_in_order() {
    let (_, broker) = broker().await;
    let (mut old, mut new) = (Client::named(&broker, "c"), Client::named(&broker, "c"));
    old.session("c", None).await;
    old.subscribe("c", "t", 1, 1, false).await;
    old.consume(1, "c", consume()).await;
    for n in 0..5 {
        new.send(publish("t", &n.to_string(), 1)).await;
    }
    assert_eq!(old.bodies(5).await.len(), 5);
    old.submit(Command::Settle {
        consumer: ConsumerId(1),
        deliveries: DeliveryId(2)..=DeliveryId(3),
        outcome: Outcome::Accept,
    })
    .await;
    old.session("c", None).await;
    new.consume(1, "c", consume()).await;
    old.expect(|event| matches!(event, Event::Cancelled { .. }).then_some(()))
        .await;
    for expected in ["0", "3", "4"] {
        let delivery = new.delivery().await;
        assert_eq!(body(&delivery.message), expected);
        assert!(delivery.redelivered);
    }
    new.send(publish("t", "5", 1)).await;
    let fresh = new.delivery().await;
    assert_eq!(
        (body(&fresh.message).as_str(), fresh.redelivered),
        ("5", false)
    );
}

/// MQTT 5, 4.8.2-4: a group gives a message of QoS 2 to one member for good.
#[tokio::test]
async fn a_session_at_its_bound_takes_what_its_client_has_from_a_group() {
    let (_, broker) = broker().await;
    let mut client = Client::named(&broker, "c");
    let spec = QueueSpec {
        session: true,
        arguments: vec![("x-max-length".into(), Value::I64(1))],
        ..durable()
    };
    let name = "c".into();
    client
        .define(Change::DeclareQueue { name, spec })
        .await
        .expect("a session is declared");
    client.subscribe("c", "t", 1, 1, false).await;
    client
        .define(Change::DeclareQueue {
            name: "group".into(),
            spec: durable(),
        })
        .await
        .expect("it is declared");
    let attach = |token| Command::Attach {
        token,
        consumer: ConsumerId(1),
        client: "c".into(),
        prefetch: 1,
        will: None,
    };
    let reply = client.ask(attach).await;
    assert!(matches!(reply, Ok(Reply::Session { .. })), "{reply:?}");
    for n in 0..3 {
        client.send(publish("t", &format!("own {n}"), 1)).await;
    }
    let consume = ConsumeSpec::default();
    client.consume(2, "group", consume).await;
    client.send(message("", "group", "shared")).await;
    let shared = loop {
        let delivery = client.delivery().await;
        if body(&delivery.message) == "shared" {
            break delivery;
        }
        assert_eq!(
            body(&delivery.message),
            "own 0",
            "of those one is sent, one waits, one is dropped"
        );
    };
    client
        .submit(Command::Adopt {
            consumer: ConsumerId(2),
            delivery: shared.id,
            message: shared.message,
            tag: BindingTag(2),
        })
        .await;
    client
        .submit(Command::Settle {
            consumer: ConsumerId(1),
            deliveries: DeliveryId(1)..=DeliveryId(1),
            outcome: Outcome::Accept,
        })
        .await;
    assert_eq!(body(&client.delivery().await.message), "own 1");
    client
        .submit(Command::Settle {
            consumer: ConsumerId(1),
            deliveries: DeliveryId(2)..=DeliveryId(2),
            outcome: Outcome::Accept,
        })
        .await;
    let adopted = client.delivery().await;
    assert_eq!(body(&adopted.message), "shared");
    assert_eq!(adopted.tags[..], [BindingTag(2)]);
}

#[tokio::test]
async fn a_session_expires_when_its_client_stays_away() {
    let (store, broker) = broker().await;
    let mut other = Client::new(&broker);
    let mut client = Client::named(&broker, "c");
    client.session("c", Some(Duration::from_secs(20))).await;
    client.subscribe("c", "t", 1, 1, false).await;
    client.consume(1, "c", consume()).await;
    support::advance(Duration::from_secs(40));
    assert_eq!(other.ready("c").await, Some((0, 1)), "its client is there");
    drop(client);
    while other.ready("c").await.is_some() {
        support::advance(Duration::from_secs(1));
    }
    let mut client = Client::named(&broker, "c");
    assert!(client.session("c", None).await, "it is a new one");
    client.send(publish("t", "nobody subscribes", 1)).await;
    assert_eq!(client.ready("c").await, Some((0, 0)));
    let broker = open(Arc::new(store.crash(1))).await;
    assert_eq!(Client::new(&broker).ready("c").await, Some((0, 0)));
}

#[tokio::test]
async fn a_declaration_changes_the_session_that_is_there() {
    let (store, broker) = broker().await;
    let mut other = Client::new(&broker);
    let mut client = Client::named(&broker, "c");
    client.session("c", Some(Duration::from_secs(10))).await;
    client.consume(1, "c", consume()).await;
    assert!(!client.session("c", None).await);
    drop(client);
    while other.ready("c").await != Some((0, 0)) {
        tokio::task::yield_now().await;
    }
    support::advance(Duration::from_secs(30));
    assert_eq!(other.ready("c").await, Some((0, 0)), "it expires no more");
    let broker = open(Arc::new(store.crash(1))).await;
    assert_eq!(Client::new(&broker).ready("c").await, Some((0, 0)));
}

/// MQTT 5, 3.1.2.11.2: an expiry of 0 counts from the end of the connection that asks for it.
#[tokio::test]
async fn a_client_that_comes_back_for_the_last_time_finds_its_session() {
    let (_, broker) = broker().await;
    let mut other = Client::new(&broker);
    let mut client = Client::named(&broker, "c");
    client.session("c", Some(Duration::from_secs(60))).await;
    client.subscribe("c", "t", 1, 1, false).await;
    client.consume(1, "c", consume()).await;
    drop(client);
    while other.ready("c").await != Some((0, 0)) {
        tokio::task::yield_now().await;
    }
    other.send(publish("t", "kept", 1)).await;
    let mut client = Client::named(&broker, "c");
    assert!(!client.session("c", Some(Duration::ZERO)).await);
    // Time passes before it attaches, and whoever removes what nobody uses has a look.
    for _ in 0..10 {
        support::advance(Duration::from_millis(100));
        assert_eq!(other.ready("c").await, Some((1, 0)));
    }
    client.consume(1, "c", consume()).await;
    assert_eq!(client.bodies(1).await, ["kept"]);
    drop(client);
    while other.ready("c").await.is_some() {
        support::advance(Duration::from_secs(1));
    }
}

#[tokio::test]
async fn overlapping_subscriptions_bring_one_delivery_with_all_tags() {
    let (store, broker) = broker().await;
    let mut client = Client::named(&broker, "c");
    client.session("c", None).await;
    client.subscribe("c", "a/#", 1, 0, false).await;
    client.subscribe("c", "a/+", 2, 1, false).await;
    client.subscribe("c", "+/b", 3, 0, false).await;
    client.send(publish("a/b", "x", 1)).await;
    let broker = open(Arc::new(store.crash(1))).await;
    let mut client = Client::named(&broker, "c");
    client.consume(1, "c", consume()).await;
    let delivery = client.delivery().await;
    assert_eq!(
        delivery.tags[..],
        [BindingTag(1), BindingTag(2), BindingTag(3)]
    );
    client.send(publish("a/c", "y", 1)).await;
    assert_eq!(client.bodies(1).await, ["y"], "nothing in between");
}

#[tokio::test]
async fn no_local_leaves_out_what_the_client_itself_publishes() {
    let (_, broker) = broker().await;
    let (mut one, mut two) = (Client::named(&broker, "one"), Client::named(&broker, "two"));
    one.session("one", None).await;
    one.subscribe("one", "t", 1, 1, true).await;
    one.consume(1, "one", consume()).await;
    let from = |client: &str, body| Message {
        origin: Arc::new(Origin {
            client: client.into(),
            ..Origin::default()
        }),
        ..publish("t", body, 1)
    };
    one.send(from("one", "own")).await;
    two.send(from("two", "other")).await;
    assert_eq!(one.bodies(1).await, ["other"]);
}

#[tokio::test]
async fn retained_messages_are_replaced_cleared_and_kept_over_a_restart() {
    let (store, broker) = broker().await;
    let mut client = Client::new(&broker);
    for topic in ["a/b", "a/c", "b", "$own/x"] {
        client.send(retained(topic, topic)).await;
    }
    client.send(retained("a/b", "newer")).await;
    client.send(retained("b", "")).await;
    let broker = open(Arc::new(store.crash(1))).await;
    let mut client = Client::new(&broker);
    assert_eq!(client.retained_bodies("a/+").await, ["a/c", "newer"]);
    assert_eq!(client.retained_bodies("#").await, ["a/c", "newer"]);
    assert_eq!(client.retained_bodies("$own/#").await, ["$own/x"]);
    assert_eq!(client.retained_bodies("b").await, [""; 0]);
    client.send(retained("a/c", "")).await;
    assert_eq!(client.retained_bodies("a/+").await, ["newer"]);
}

#[tokio::test]
async fn a_retained_message_that_has_expired_is_not_shown() {
    let (_, broker) = broker().await;
    let mut client = Client::new(&broker);
    let message = Message {
        expiry_ms: Some(0),
        ..retained("t", "x")
    };
    client.send(message).await;
    assert_eq!(client.retained_bodies("#").await, [""; 0]);
}

#[tokio::test]
async fn a_small_retained_message_does_not_keep_the_buffer_it_came_in() {
    let (_, broker) = broker().await;
    let mut client = Client::new(&broker);
    let buffer = Bytes::from(vec![b'x'; 128 << 10]);
    let message = Message {
        body: Some(buffer.slice(100..110)),
        key: Some(buffer.slice(..3)),
        ..retained("t", "")
    };
    client.send(message.clone()).await;
    let found = client.retained("t").await;
    assert_eq!(found[0].body, message.body);
    assert_eq!(found[0].key, message.key);
    assert_eq!(found[0].topic, message.topic);
    drop((message, client));
    // The publisher's Arc may be in a shard's hands for a moment longer.
    let sole = async {
        while !buffer.is_unique() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(support::PATIENCE, sole)
        .await
        .expect("nothing else holds the buffer");
}
