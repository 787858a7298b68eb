//! Logs over the whole core: appended to, read, waited for, deleted, and found again after a restart.

mod support;

use std::{sync::Arc, time::Duration};

use support::{
    Client,
    logs::{Producer, batch, from, log, values},
    open,
};
use trivium_core::{
    Change, Command, Kind, Offset, OffsetSpec, Refusal, Reply,
    store::{Store, memory::MemoryStore},
};

const LONG: Duration = Duration::from_secs(15);

#[tokio::test]
async fn appended_records_are_read_from_any_offset() {
    let broker = open(Arc::new(MemoryStore::new())).await;
    let mut client = Client::new(&broker);
    client
        .log("t", log(2, &[]))
        .await
        .expect("the name is free");
    assert_eq!(client.append("t", 0, batch(&["a", "b"], None)).await, Ok(0));
    assert_eq!(client.append("t", 0, batch(&["c"], None)).await, Ok(2));
    assert_eq!(client.append("t", 1, batch(&["other"], None)).await, Ok(0));
    assert_eq!(client.read("t", 0, 0).await, ["a", "b", "c"]);
    assert_eq!(client.read("t", 0, 1).await, ["b", "c"]);
    assert_eq!(client.read("t", 1, 0).await, ["other"]);
    assert_eq!(client.offset("t", OffsetSpec::Earliest).await, Some(0));
    assert_eq!(client.offset("t", OffsetSpec::Latest).await, Some(3));
    assert_eq!(client.offset("t", OffsetSpec::AtTime(0)).await, Some(0));
    assert_eq!(client.offset("t", OffsetSpec::AtTime(u64::MAX)).await, None);
    let beyond = client.fetch(from("t", 0, 4), Duration::ZERO).await;
    assert_eq!(
        beyond.result.unwrap_err(),
        Refusal::OffsetOutOfRange(Offset(4))
    );
}

#[tokio::test]
async fn a_fetch_waits_for_the_first_record() {
    let broker = open(Arc::new(MemoryStore::new())).await;
    let (mut reader, mut writer) = (Client::new(&broker), Client::new(&broker));
    writer
        .log("t", log(1, &[]))
        .await
        .expect("the name is free");
    let waiting = tokio::spawn(async move { reader.fetch(from("t", 0, 0), LONG).await });
    tokio::task::yield_now().await;
    writer
        .append("t", 0, batch(&["a"], None))
        .await
        .expect("the log is there");
    let fetched = waiting.await.expect("the reader does not panic");
    assert_eq!(values(&fetched.result.unwrap()[0]), ["a"]);
}

#[tokio::test]
async fn a_fetch_waits_no_longer_than_it_says() {
    let broker = open(Arc::new(MemoryStore::new())).await;
    let mut client = Client::new(&broker);
    client
        .log("t", log(1, &[]))
        .await
        .expect("the name is free");
    let fetched = client
        .fetch(from("t", 0, 0), Duration::from_millis(5))
        .await;
    assert!(fetched.result.unwrap().is_empty());
}

#[tokio::test]
async fn a_waiting_fetch_is_told_that_the_log_is_deleted() {
    let broker = open(Arc::new(MemoryStore::new())).await;
    let (mut reader, mut writer) = (Client::new(&broker), Client::new(&broker));
    writer
        .log("t", log(1, &[]))
        .await
        .expect("the name is free");
    let waiting = tokio::spawn(async move { reader.fetch(from("t", 0, 0), LONG).await });
    tokio::task::yield_now().await;
    writer.delete_log("t").await.expect("the log is there");
    let fetched = waiting.await.expect("the reader does not panic");
    let refusal = fetched.result.unwrap_err();
    assert!(
        matches!(
            refusal,
            Refusal::NotFound {
                kind: Kind::Log,
                ..
            }
        ),
        "{refusal:?}"
    );
}

#[tokio::test]
async fn a_log_that_is_created_again_is_another() {
    let broker = open(Arc::new(MemoryStore::new())).await;
    let mut client = Client::new(&broker);
    let Ok(Reply::Logs(first)) = client.log("t", log(1, &[])).await else {
        panic!("the name is free");
    };
    assert!(matches!(
        client.log("t", log(1, &[])).await,
        Err(Refusal::Exists {
            kind: Kind::Log,
            ..
        })
    ));
    client
        .append("t", 0, batch(&["old"], None))
        .await
        .expect("the log is there");
    client.delete_log("t").await.expect("the log is there");
    assert!(client.delete_log("t").await.is_err());
    assert!(client.append("t", 0, batch(&["x"], None)).await.is_err());
    let Ok(Reply::Logs(second)) = client.log("t", log(1, &[])).await else {
        panic!("the name is free again");
    };
    let uuid = |logs: &[Result<trivium_core::LogInfo, Refusal>]| {
        logs[0].as_ref().map(|info| info.uuid).expect("it is there")
    };
    assert_ne!(uuid(&first), uuid(&second));
    assert_eq!(client.read("t", 0, 0).await, [""; 0]);
    assert_eq!(client.append("t", 0, batch(&["new"], None)).await, Ok(0));
    assert_eq!(client.read("t", 0, 0).await, ["new"]);
}

#[tokio::test]
async fn a_restart_keeps_records_and_settings() {
    let store = Arc::new(MemoryStore::new());
    let broker = open(store.clone()).await;
    let mut client = Client::new(&broker);
    let spec = log(1, &[("max.message.bytes", "200")]);
    client.log("t", spec).await.expect("the name is free");
    for n in 0..50 {
        let value = format!("value {n}");
        assert_eq!(client.append("t", 0, batch(&[&value], None)).await, Ok(n));
    }
    let broker = open(Arc::new(store.crash(3))).await;
    let mut client = Client::new(&broker);
    let kept: Vec<String> = (0..50).map(|n| format!("value {n}")).collect();
    assert_eq!(client.read("t", 0, 0).await, kept);
    let large = "x".repeat(200);
    assert!(matches!(
        client.append("t", 0, batch(&[&large], None)).await,
        Err(Refusal::TooLarge { limit: 200, .. })
    ));
    assert_eq!(client.append("t", 0, batch(&["next"], None)).await, Ok(50));
}

#[tokio::test]
async fn a_batch_that_comes_twice_is_stored_once_also_after_a_crash() {
    let store = Arc::new(MemoryStore::new());
    let broker = open(store.clone()).await;
    let mut client = Client::new(&broker);
    client
        .log("t", log(1, &[]))
        .await
        .expect("the name is free");
    let Ok(Reply::Producer { id, .. }) = client.ask(|token| Command::InitProducer { token }).await
    else {
        panic!("a producer id is always there");
    };
    let numbered = |sequence, value| batch(&[value], Some(Producer { id, sequence }));
    assert_eq!(client.append("t", 0, numbered(0, "a")).await, Ok(0));
    assert_eq!(client.append("t", 0, numbered(0, "a")).await, Ok(0));
    assert_eq!(client.append("t", 0, numbered(1, "b")).await, Ok(1));
    assert_eq!(
        client.append("t", 0, numbered(5, "gap")).await,
        Err(Refusal::OutOfOrderSequence)
    );
    let broker = open(Arc::new(store.crash(9))).await;
    let mut client = Client::new(&broker);
    assert_eq!(client.append("t", 0, numbered(1, "b")).await, Ok(1));
    assert_eq!(client.append("t", 0, numbered(2, "c")).await, Ok(2));
    assert_eq!(client.read("t", 0, 0).await, ["a", "b", "c"]);
    let Ok(Reply::Producer { id: other, .. }) =
        client.ask(|token| Command::InitProducer { token }).await
    else {
        panic!("a producer id is always there");
    };
    assert_ne!(id, other, "a restart gives no id a second time");
}

#[tokio::test]
async fn nothing_is_answered_or_seen_before_it_is_durable() {
    let store = Arc::new(MemoryStore::new());
    let broker = open(store.clone()).await;
    let mut client = Client::new(&broker);
    client
        .log("t", log(1, &[]))
        .await
        .expect("the name is free");
    store.hold();
    let token = client.token();
    client
        .submit(Command::Append {
            id: None,
            token,
            log: "t".into(),
            partition: 0,
            batch: batch(&["a"], None),
            transaction: None,
        })
        .await;
    let mut reader = Client::new(&broker);
    let unseen = reader
        .fetch(from("t", 0, 0), Duration::from_millis(5))
        .await;
    assert!(unseen.result.unwrap().is_empty());
    assert!(store.held() > 0);
    store.release();
    let fetched = reader.fetch(from("t", 0, 0), LONG).await;
    assert_eq!(values(&fetched.result.unwrap()[0]), ["a"]);
}

#[tokio::test]
async fn an_append_that_the_store_fails_is_refused() {
    let store = Arc::new(MemoryStore::new());
    let broker = open(store.clone()).await;
    let mut client = Client::new(&broker);
    client
        .log("t", log(1, &[]))
        .await
        .expect("the name is free");
    store.fail_next_commit("the disk is full");
    for _ in 0..2 {
        assert!(matches!(
            client.append("t", 0, batch(&["a"], None)).await,
            Err(Refusal::StorageFailed(_))
        ));
    }
    assert!(broker.failure().is_some());
}

#[tokio::test]
async fn what_a_deleted_log_left_is_forgotten_when_the_broker_opens() {
    let store = Arc::new(MemoryStore::new());
    let broker = open(store.clone()).await;
    let mut client = Client::new(&broker);
    client
        .log("t", log(1, &[]))
        .await
        .expect("the name is free");
    let large = "x".repeat(10_000);
    client
        .append("t", 0, batch(&[&large], None))
        .await
        .expect("the log is there");
    store.hold();
    let change = Change::DeleteLog { name: "t".into() };
    let token = client.token();
    let deleting = tokio::spawn(async move {
        client.submit(Command::Define { token, change }).await;
    });
    while store.held() < 1 {
        tokio::task::yield_now().await;
    }
    // The catalog's commit gets through, what the shards do about it does not.
    store.release_one();
    deleting.await.expect("the client does not panic");
    let crashed = Arc::new(store.crash(0));
    let broker = open(crashed.clone()).await;
    broker.close().await.expect("the store is sound");
    assert!(crashed.bytes() < 2_000, "{} bytes", crashed.bytes());
    let kept: Arc<dyn Store> = crashed;
    drop(kept);
}
