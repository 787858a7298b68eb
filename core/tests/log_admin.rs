//! Logs over the whole core, as administrators change them: settings, partitions, deleted records.

mod support;

use std::sync::Arc;

use support::{
    Client, broker, exchange,
    logs::{batch, log},
    open,
};
use trivium_core::{
    Change, Command, ExchangeKind, ExchangeSpec, Offset, OffsetSpec, PartitionInfo, Refusal, Reply,
    store::memory::MemoryStore,
};

async fn alter(
    client: &mut Client,
    settings: &[(&'static str, Option<&'static str>)],
) -> Result<Reply, Refusal> {
    let settings = settings.iter();
    client
        .define(Change::AlterLog {
            name: "t".into(),
            settings: settings
                .map(|(name, value)| ((*name).into(), value.map(Into::into)))
                .collect(),
            validate_only: false,
        })
        .await
}

async fn trim(client: &mut Client, to: Option<u64>) -> Result<Reply, Refusal> {
    client
        .ask(|token| Command::Trim {
            token,
            log: "t".into(),
            partition: 0,
            to: to.map(Offset),
        })
        .await
}

async fn partitions(client: &mut Client) -> Vec<PartitionInfo> {
    let answer = client
        .ask(|token| Command::DescribePartitions { token, logs: None })
        .await;
    match answer {
        Ok(Reply::Partitions(partitions)) => partitions,
        other => panic!("{other:?}"),
    }
}

/// Settings count for the next append, and after a restart.
#[tokio::test]
async fn altered_settings_are_enforced_at_once_and_survive() {
    let store = Arc::new(MemoryStore::new());
    let broker = open(store.clone()).await;
    let mut client = Client::new(&broker);
    client
        .log("t", log(1, &[]))
        .await
        .expect("the name is free");
    let too_large = |answer| matches!(answer, Err(Refusal::TooLarge { limit: 70, .. }));
    assert_eq!(client.append("t", 0, batch(&["a"], None)).await, Ok(0));
    alter(&mut client, &[("max.message.bytes", Some("70"))])
        .await
        .expect("the value is fine");
    assert!(too_large(
        client
            .append("t", 0, batch(&["a longer value"], None))
            .await
    ));
    drop(client);
    broker.close().await.expect("the store is fine");
    let store = Arc::new(store.crash(7));

    let broker = open(store).await;
    let mut client = Client::new(&broker);
    assert!(too_large(
        client
            .append("t", 0, batch(&["a longer value"], None))
            .await
    ));
    alter(&mut client, &[("max.message.bytes", None)])
        .await
        .expect("it was set");
    assert_eq!(
        client
            .append("t", 0, batch(&["a longer value"], None))
            .await,
        Ok(1)
    );
    let refused = alter(&mut client, &[("retention.ms", Some("soon"))]).await;
    assert!(matches!(refused, Err(Refusal::Invalid(_))));
}

#[tokio::test]
async fn partitions_are_added_and_never_taken_away() {
    let store = Arc::new(MemoryStore::new());
    let broker = open(store.clone()).await;
    let mut client = Client::new(&broker);
    client
        .log("t", log(1, &[]))
        .await
        .expect("the name is free");
    client
        .append("t", 0, batch(&["a"], None))
        .await
        .expect("it is there");
    let add = |partitions| Change::AddPartitions {
        name: "t".into(),
        partitions,
        validate_only: false,
    };
    client
        .define(add(3))
        .await
        .expect("three are more than one");
    assert!(matches!(
        client.define(add(3)).await,
        Err(Refusal::Invalid(_))
    ));
    assert_eq!(client.append("t", 2, batch(&["b"], None)).await, Ok(0));
    drop(client);
    broker.close().await.expect("the store is fine");
    let store = Arc::new(store.crash(7));

    let broker = open(store).await;
    let mut client = Client::new(&broker);
    assert_eq!(client.read("t", 0, 0).await, ["a"]);
    assert_eq!(client.read("t", 2, 0).await, ["b"]);
    assert_eq!(partitions(&mut client).await.len(), 3);
}

/// DeleteRecords: before an offset, or all; the offsets go on.
#[tokio::test]
async fn records_are_deleted_from_the_beginning() {
    let store = Arc::new(MemoryStore::new());
    let broker = open(store.clone()).await;
    let mut client = Client::new(&broker);
    client
        .log("t", log(1, &[]))
        .await
        .expect("the name is free");
    for value in ["a", "b", "c"] {
        client
            .append("t", 0, batch(&[value], None))
            .await
            .expect("it is there");
    }
    let start = |answer| match answer {
        Ok(Reply::Trimmed { log_start }) => log_start.0,
        other => panic!("{other:?}"),
    };
    assert_eq!(start(trim(&mut client, Some(2)).await), 2);
    assert_eq!(client.read("t", 0, 2).await, ["c"]);
    assert_eq!(start(trim(&mut client, Some(1)).await), 2);
    assert_eq!(
        trim(&mut client, Some(4)).await.unwrap_err(),
        Refusal::OffsetOutOfRange(Offset(4))
    );
    assert_eq!(start(trim(&mut client, None).await), 3);
    assert_eq!(partitions(&mut client).await[0].bytes, 0);
    assert_eq!(client.append("t", 0, batch(&["d"], None)).await, Ok(3));
    drop(client);
    broker.close().await.expect("the store is fine");
    let store = Arc::new(store.crash(7));

    let broker = open(store).await;
    let mut client = Client::new(&broker);
    assert_eq!(client.offset("t", OffsetSpec::Earliest).await, Some(3));
    assert_eq!(client.read("t", 0, 3).await, ["d"]);
}

/// As Kafka: a log that is only compacted keeps what nobody replaced.
#[tokio::test]
async fn records_of_a_compacted_log_are_not_deleted() {
    let broker = open(Arc::new(MemoryStore::new())).await;
    let mut client = Client::new(&broker);
    let settings = [("cleanup.policy", "compact")];
    client
        .log("t", log(1, &settings))
        .await
        .expect("the name is free");
    assert!(matches!(
        trim(&mut client, None).await,
        Err(Refusal::NotAllowed(_))
    ));
}

/// A binding of an `mq.bind` is made before another is taken away: an exchange that goes with its last binding stays.
#[tokio::test]
async fn a_changed_capture_keeps_its_exchange() {
    let (_, broker) = broker().await;
    let mut client = Client::new(&broker);
    let spec = ExchangeSpec {
        auto_delete: true,
        ..exchange(ExchangeKind::Direct)
    };
    let name = "passing".into();
    client
        .define(Change::DeclareExchange { name, spec })
        .await
        .unwrap();
    client.with_log("t", &[("mq.bind", "passing:a")]).await;
    alter(&mut client, &[("mq.bind", Some("passing:b"))])
        .await
        .expect("the exchange is there");
    client.publish("passing", "a", "no").await;
    client.publish("passing", "b", "yes").await;
    assert_eq!(client.read("t", 0, 0).await, ["yes"]);
    alter(&mut client, &[("mq.bind", Some(""))]).await.unwrap();
    let name = "passing".into();
    let gone = client.define(Change::ExpectExchange { name }).await;
    assert!(matches!(gone, Err(Refusal::NotFound { .. })), "{gone:?}");
}

/// A change of which one part is refused changes nothing: neither settings nor what is captured.
#[tokio::test]
async fn a_refused_change_leaves_all_as_it_was() {
    let (_, broker) = broker().await;
    let mut client = Client::new(&broker);
    client.with_log("t", &[("mq.bind", "amq.direct:a")]).await;
    let refused = alter(
        &mut client,
        &[
            ("max.message.bytes", Some("100")),
            ("mq.bind", Some("amq.direct:b,nowhere:c")),
        ],
    )
    .await;
    assert!(
        matches!(refused, Err(Refusal::NotFound { .. })),
        "{refused:?}"
    );
    client.publish("amq.direct", "b", "not captured").await;
    client.publish("amq.direct", "a", &"x".repeat(200)).await;
    assert_eq!(client.read("t", 0, 0).await, ["x".repeat(200)]);
}
