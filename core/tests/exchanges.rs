//! Exchanges that send a message to one of their bindings: by hash, by chance.

mod support;

use std::{collections::BTreeMap, sync::Arc};

use support::{Client, exchange, open};
use trivium_core::{
    Binding, Broker, Change, Destination, ExchangeKind, Grammar, Refusal, Reply, Value,
    store::memory::MemoryStore,
};

async fn broker_with(kind: ExchangeKind, queues: &[(&str, &str)]) -> (Broker, Client) {
    let broker = open(Arc::new(MemoryStore::new())).await;
    let mut client = Client::new(&broker);
    let spec = exchange(kind);
    let name = "x".into();
    client
        .define(Change::DeclareExchange { name, spec })
        .await
        .expect("the name is free");
    for (queue, key) in queues {
        client.queue(queue).await;
        client.bind("x", key, queue).await;
    }
    (broker, client)
}

/// Publishes so many messages with keys of their own; which keys each queue got.
async fn spread(client: &mut Client, queues: &[&str], count: usize) -> BTreeMap<String, String> {
    for number in 0..count {
        let key = format!("key-{number}");
        client.publish("x", &key, &key).await;
    }
    let mut found = BTreeMap::new();
    for queue in queues {
        while let Some(key) = client.get(queue).await {
            found.insert(key, (*queue).to_owned());
        }
    }
    assert_eq!(found.len(), count, "each message is in one queue");
    found
}

fn share(found: &BTreeMap<String, String>, queue: &str) -> usize {
    found.values().filter(|at| *at == queue).count()
}

/// rabbitmq_consistent_hash_exchange: shares follow the weights, a key stays where it is, and a queue that goes
/// moves only what it had.
#[tokio::test]
async fn a_consistent_hash_spreads_by_weight() {
    let queues = [("a", "1"), ("b", "1"), ("c", "2")];
    let (_broker, mut client) = broker_with(ExchangeKind::ConsistentHash, &queues).await;
    let before = spread(&mut client, &["a", "b", "c"], 400).await;
    assert!((60..140).contains(&share(&before, "a")), "{before:?}");
    assert!((150..250).contains(&share(&before, "c")), "{before:?}");
    assert_eq!(spread(&mut client, &["a", "b", "c"], 400).await, before);
    client
        .define(Change::DeleteQueue {
            name: "b".into(),
            session: false,
            if_unused: false,
            if_empty: false,
        })
        .await
        .unwrap();
    let after = spread(&mut client, &["a", "c"], 400).await;
    for (key, queue) in &before {
        assert!(queue == "b" || after[key] == *queue, "{key} has moved");
    }
}

#[tokio::test]
async fn a_weight_is_a_positive_number() {
    let (_broker, mut client) = broker_with(ExchangeKind::ConsistentHash, &[]).await;
    client.queue("q").await;
    for key in ["", "k", "0", "-1"] {
        let binding = Binding {
            source: "x".into(),
            destination: Destination::Queue("q".into()),
            key: key.into(),
            grammar: Grammar::Dots,
            arguments: Vec::new(),
            subscription: None,
        };
        let refused = client.define(Change::Bind(binding)).await;
        assert!(matches!(refused, Err(Refusal::Invalid(_))), "{refused:?}");
    }
    let mut spec = exchange(ExchangeKind::ConsistentHash);
    let text = |text: &str| Value::Text(text.into());
    spec.arguments = vec![
        ("hash-header".into(), text("h")),
        ("hash-property".into(), text("message_id")),
    ];
    let name = "y".into();
    let refused = client.define(Change::DeclareExchange { name, spec }).await;
    assert!(matches!(refused, Err(Refusal::Invalid(_))), "{refused:?}");
}

/// x-modulus-hash: one queue per message, the same for the same key, whatever the binding's key is.
#[tokio::test]
async fn a_modulus_hash_keeps_keys_together() {
    let queues = [("a", "p"), ("b", "q"), ("c", "r")];
    let (_broker, mut client) = broker_with(ExchangeKind::ModulusHash, &queues).await;
    let before = spread(&mut client, &["a", "b", "c"], 90).await;
    for queue in ["a", "b", "c"] {
        assert!(share(&before, queue) > 10, "{before:?}");
    }
    assert_eq!(spread(&mut client, &["a", "b", "c"], 90).await, before);
}

/// x-random and x-local-random: one queue per message, also when key after key is the same.
#[tokio::test]
async fn a_random_exchange_spreads_messages_of_one_key() {
    for kind in [ExchangeKind::Random, ExchangeKind::LocalRandom] {
        let queues = [("a", ""), ("b", "")];
        let (_broker, mut client) = broker_with(kind, &queues).await;
        for _ in 0..60 {
            client.publish("x", "k", "m").await;
        }
        let (a, b) = (client.queue("a").await.0, client.queue("b").await.0);
        assert_eq!(a + b, 60);
        assert!(a > 10 && b > 10, "{a} and {b}");
    }
}

/// What is declared is there after a restart with its kind.
#[tokio::test]
async fn kinds_survive_a_restart() {
    let store = Arc::new(MemoryStore::new());
    let kinds = [
        ExchangeKind::ConsistentHash,
        ExchangeKind::Random,
        ExchangeKind::LocalRandom,
        ExchangeKind::ModulusHash,
    ];
    let declare = |kind: ExchangeKind| Change::DeclareExchange {
        name: kind.name().into(),
        spec: exchange(kind),
    };
    let broker = open(store.clone()).await;
    let mut client = Client::new(&broker);
    for kind in kinds {
        client.define(declare(kind)).await.unwrap();
    }
    drop((client, broker));
    let broker = open(Arc::new(store.crash(1))).await;
    let mut client = Client::new(&broker);
    for kind in kinds {
        assert!(matches!(client.define(declare(kind)).await, Ok(Reply::Ok)));
        let other = Change::DeclareExchange {
            name: kind.name().into(),
            spec: exchange(ExchangeKind::Fanout),
        };
        let refused = client.define(other).await.unwrap_err().to_string();
        assert!(
            refused.ends_with(&format!(
                "received 'fanout' but current is '{}'",
                kind.name()
            )),
            "{refused}"
        );
    }
}
