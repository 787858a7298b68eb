//! What the broker answers while publishers flood it.

mod support;

use std::sync::Arc;

use support::{
    Client, message, options,
    queues::{prefetch, publish, settle},
};
use trivium_core::{Broker, Outcome, store::memory::MemoryStore};

/// Of a batch that a publisher sends in one turn.
const BATCH: u64 = 3000;
const BATCHES: u64 = 8;

async fn broker() -> Broker {
    let mut options = options();
    options.shards = 1;
    let store = Arc::new(MemoryStore::new());
    Broker::open(store, options)
        .await
        .expect("the store is sound")
}

/// More than a shard takes in a turn waits for it.
async fn flood(client: &mut Client) {
    for _ in 0..BATCHES {
        let batch = (0..BATCH).map(|_| publish(None, message("", "q", "body")));
        client.submit_all(batch.collect()).await;
    }
}

/// How many messages are unsettled, as the shard finds them while some of the flood waits still.
async fn unsettled(broker: &Broker) -> u64 {
    let samples = broker.samples().await;
    let value = |name| {
        let sample = samples.iter().find(|it| it.name == name);
        sample.expect("it is counted").value
    };
    let ready = value("trivium_queue_messages_ready");
    assert!(
        ready < BATCH * BATCHES,
        "answered after all {ready} were applied"
    );
    value("trivium_queue_messages_unsettled")
}

/// Counters and descriptions do not stand behind what publishers have sent: a turn takes some of it and all of these.
#[tokio::test]
async fn counters_are_not_kept_waiting() {
    let broker = broker().await;
    let mut client = Client::new(&broker);
    client.queue("q").await;
    flood(&mut client).await;
    unsettled(&broker).await;
    while client.queue("q").await.0 < BATCH * BATCHES {
        tokio::task::yield_now().await;
    }
}

/// Who takes a message and acknowledges it gets the next one, whatever others publish meanwhile: the subscriber of ten
/// thousand publishers would have to wait for all of them after each message.
#[tokio::test]
async fn acknowledgements_are_not_kept_waiting() {
    let broker = broker().await;
    let (mut publisher, mut consumer) = (Client::new(&broker), Client::new(&broker));
    publisher.queue("q").await;
    publisher.queue("taken").await;
    for body in ["one", "two"] {
        publisher.publish("", "taken", body).await;
    }
    consumer.consume(1, "taken", prefetch(1)).await;
    let first = consumer.delivery().await;
    flood(&mut publisher).await;
    consumer
        .submit(settle(1, first.id.0, Outcome::Accept))
        .await;
    // What comes of it is delivered at the end of the turn.
    assert_eq!(unsettled(&broker).await, 0);
    assert_eq!(support::body(&consumer.delivery().await.message), "two");
}
