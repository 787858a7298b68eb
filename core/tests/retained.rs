//! Retained messages: limits, and what happens when their time is up.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use support::{Client, advance, durable, message, open, options};
use trivium_core::{
    Binding, BindingTag, Broker, Change, Command, Destination, Event, Grammar, Message, Options,
    Pattern, QueueSpec, Refusal, Reply, Subscription, Text, Topic,
    store::{ScanLimit, Store, Table, memory::MemoryStore},
};

fn retained(topic: &str, body: &str) -> Message {
    Message {
        topic: Topic::new(Text::from(topic), Grammar::Slashes),
        retain: true,
        ..message("amq.topic", "", body)
    }
}

/// Publishes; whether that is retained. It is confirmed in any case, and after that is told.
async fn keep(client: &mut Client, message: Message) -> bool {
    let token = client.token();
    client
        .submit(Command::Publish {
            token: Some(token),
            message: Arc::new(message),
            mandatory: false,
        })
        .await;
    let first = client.expect(|event| match event {
        Event::Unretained { token: refused } if *refused == token => Some(false),
        Event::Confirmed { tokens } if tokens.contains(&token) => Some(true),
        _ => None,
    });
    let kept = first.await;
    if !kept {
        client.confirmed(token).await.unwrap();
    }
    kept
}

/// The bodies that a filter finds.
async fn found(client: &mut Client, filter: &str) -> Vec<String> {
    let filter = Pattern::new(Text::from(filter), Grammar::Slashes);
    let reply = client
        .ask(|token| Command::Retained { token, filter })
        .await;
    let Ok(Reply::Retained(found)) = reply else {
        panic!("{reply:?}")
    };
    let mut bodies: Vec<_> = found
        .iter()
        .map(|found| support::body(&found.message))
        .collect();
    bodies.sort();
    bodies
}

async fn rows(store: &MemoryStore) -> usize {
    let everything = Bytes::new()..Bytes::from_static(&[0xFF; 8]);
    let limit = ScanLimit {
        entries: usize::MAX,
        bytes: usize::MAX,
    };
    let page = store.scan(Table::Retained, everything, limit).await;
    page.expect("it can be read").entries.len()
}

/// Waits until the store holds no more than so many.
async fn deleted_but(store: &MemoryStore, left: usize, client: &mut Client) {
    let gone = async {
        while rows(store).await > left {
            client.touch_shards().await;
        }
    };
    tokio::time::timeout(support::PATIENCE, gone)
        .await
        .expect("the others are deleted");
}

async fn sample(broker: &Broker, name: &str) -> u64 {
    let samples = broker.samples().await;
    let sample = samples.iter().find(|sample| sample.name == name);
    sample.expect("it is counted").value
}

async fn limited(store: &Arc<MemoryStore>, change: impl FnOnce(&mut Options)) -> Broker {
    let mut options = options();
    change(&mut options);
    Broker::open(store.clone(), options)
        .await
        .expect("the store is sound")
}

#[tokio::test]
async fn beyond_the_limit_nothing_more_is_retained() {
    let store = Arc::new(MemoryStore::new());
    let broker = limited(&store, |options| options.retained_messages_max = 3).await;
    let mut client = Client::new(&broker);
    for topic in ["a", "b", "c"] {
        assert!(keep(&mut client, retained(topic, topic)).await);
    }
    assert!(!keep(&mut client, retained("d", "d")).await);
    client
        .submit(Command::Publish {
            token: None,
            message: Arc::new(retained("e", "e")),
            mandatory: false,
        })
        .await;
    assert_eq!(found(&mut client, "+").await, ["a", "b", "c"]);
    assert_eq!(sample(&broker, "trivium_retained_refused_total").await, 2);
    assert!(keep(&mut client, retained("a", "new")).await);
    assert!(keep(&mut client, retained("b", "")).await);
    assert!(keep(&mut client, retained("d", "d")).await);
    assert_eq!(found(&mut client, "+").await, ["c", "d", "new"]);
    assert_eq!(rows(&store).await, 3);
    // What is there counts after a restart, and a lower limit deletes nothing.
    let store = Arc::new(store.crash(0));
    let broker = limited(&store, |options| options.retained_messages_max = 2).await;
    let mut client = Client::new(&broker);
    assert!(!keep(&mut client, retained("e", "e")).await);
    assert_eq!(found(&mut client, "+").await, ["c", "d", "new"]);
}

#[tokio::test]
async fn bytes_are_limited() {
    let store = Arc::new(MemoryStore::new());
    let broker = limited(&store, |options| options.retained_bytes_max = 100).await;
    let mut client = Client::new(&broker);
    let body = "x".repeat(80);
    assert!(keep(&mut client, retained("a", &body)).await);
    assert!(!keep(&mut client, retained("b", &body)).await);
    assert!(keep(&mut client, retained("a", "short")).await);
    assert!(keep(&mut client, retained("b", &body)).await);
}

#[tokio::test]
async fn mqtt_5_section_3_3_2_3_3_expired_messages_are_deleted() {
    const MESSAGES: usize = 2000;
    let store = Arc::new(MemoryStore::new());
    let broker = open(store.clone()).await;
    let mut client = Client::new(&broker);
    assert!(keep(&mut client, retained("stays", "stays")).await);
    for number in 0..MESSAGES {
        let message = Message {
            expiry_ms: Some(60_000),
            ..retained(&format!("t/{number}"), "x")
        };
        assert!(keep(&mut client, message).await);
    }
    assert_eq!(rows(&store).await, MESSAGES + 1);
    advance(Duration::from_secs(61));
    deleted_but(&store, 1, &mut client).await;
    assert_eq!(sample(&broker, "trivium_retained_messages").await, 1);
    assert_eq!(found(&mut client, "#").await, ["stays"]);
}

#[tokio::test]
async fn what_expired_while_nobody_ran_is_deleted() {
    let store = Arc::new(MemoryStore::new());
    let broker = open(store.clone()).await;
    let mut client = Client::new(&broker);
    let message = Message {
        expiry_ms: Some(60_000),
        ..retained("t", "x")
    };
    assert!(keep(&mut client, message).await);
    let store = Arc::new(store.crash(0));
    assert_eq!(rows(&store).await, 1);
    advance(Duration::from_secs(61));
    let broker = open(store.clone()).await;
    deleted_but(&store, 0, &mut Client::new(&broker)).await;
}

#[tokio::test]
async fn a_session_has_so_many_subscriptions_and_no_more() {
    let store = Arc::new(MemoryStore::new());
    let broker = limited(&store, |options| options.session_subscriptions_max = 2).await;
    let mut client = Client::named(&broker, "c");
    let spec = QueueSpec {
        session: true,
        ..durable()
    };
    client
        .define(Change::DeclareSession {
            client: "c".into(),
            clean: false,
            spec,
        })
        .await
        .unwrap();
    let subscription = Subscription {
        tag: BindingTag(1),
        best_effort: false,
        no_local: false,
    };
    let binding = |key: &str| Binding {
        source: "amq.topic".into(),
        destination: Destination::Session("c".into()),
        key: Text::from(key),
        grammar: Grammar::Slashes,
        arguments: Vec::new(),
        subscription: Some(subscription),
    };
    let join = |filter: &str| Change::Join {
        client: "c".into(),
        group: "g".into(),
        filter: Text::from(filter),
        subscription,
        log: None,
    };
    client.define(Change::Bind(binding("a"))).await.unwrap();
    client.define(join("b")).await.unwrap();
    for change in [Change::Bind(binding("c")), join("c")] {
        let refused = client.define(change).await;
        assert!(matches!(refused, Err(Refusal::Quota(_))), "{refused:?}");
    }
    client.define(Change::Bind(binding("a"))).await.unwrap();
    client.define(join("b")).await.unwrap();
    client.define(Change::Unbind(binding("a"))).await.unwrap();
    client.define(join("c")).await.unwrap();
}
