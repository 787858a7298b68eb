//! What the broker answers while publishers flood it.

mod support;

use std::sync::Arc;

use support::{Client, message, options, queues::publish};
use trivium_core::{Broker, store::memory::MemoryStore};

/// Of a batch that a publisher sends in one turn.
const BATCH: u64 = 3000;
const BATCHES: u64 = 8;

/// Counters and descriptions do not stand behind what publishers have sent: a turn takes some of it and all of these.
#[tokio::test]
async fn counters_are_not_kept_waiting() {
    let mut options = options();
    options.shards = 1;
    let store = Arc::new(MemoryStore::new());
    let broker = Broker::open(store, options)
        .await
        .expect("the store is sound");
    let mut client = Client::new(&broker);
    client.queue("q").await;
    for _ in 0..BATCHES {
        let batch = (0..BATCH).map(|_| publish(None, message("", "q", "body")));
        client.submit_all(batch.collect()).await;
    }
    let samples = broker.samples().await;
    let ready = samples
        .iter()
        .find(|it| it.name == "trivium_queue_messages_ready");
    let ready = ready.expect("it is counted").value;
    assert!(
        ready < BATCH * BATCHES,
        "answered after all {ready} were applied"
    );
    while client.queue("q").await.0 < BATCH * BATCHES {
        tokio::task::yield_now().await;
    }
}
