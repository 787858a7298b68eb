//! Compacted logs over the whole core (Kafka's `cleanup.policy=compact`).

mod support;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use rand::{RngExt, SeedableRng, rngs::SmallRng};
use support::{
    Client, advance,
    logs::{contents, from, keyed, log},
    open,
};
use trivium_core::{OffsetSpec, store::memory::MemoryStore};

const SETTINGS: [(&str, &str); 5] = [
    ("cleanup.policy", "compact"),
    ("segment.ms", "1000"),
    ("min.cleanable.dirty.ratio", "0.01"),
    ("delete.retention.ms", "60000"),
    ("mq.tap", "off"),
];

type Record = (u64, String, Option<String>);

/// All records of the log, and its end.
async fn read_all(client: &mut Client) -> (Vec<Record>, u64) {
    let (mut all, mut next) = (Vec::new(), 0);
    loop {
        let fetched = client.fetch(from("t", 0, next), Duration::ZERO).await;
        let batches = fetched.result.expect("the log is readable");
        let Some(last) = batches.last() else {
            return (all, fetched.high_watermark.0);
        };
        all.extend(batches.iter().flat_map(contents));
        let delta = u32::from_be_bytes(last.bytes[23..27].try_into().expect("four bytes"));
        next = last.base.0 + u64::from(delta) + 1;
    }
}

/// Lets the log's time pass until it reads as it should.
async fn compacted(client: &mut Client, wanted: impl Fn(&[Record]) -> bool) -> Vec<Record> {
    for _ in 0..2_000 {
        let (records, _) = read_all(client).await;
        if wanted(&records) {
            return records;
        }
        advance(Duration::from_millis(500));
        // Shards notice the time with the next operation.
        client.offset("t", OffsetSpec::Latest).await;
        client.touch_shards().await;
    }
    panic!("never compacted: {:?}", read_all(client).await);
}

fn record(offset: u64, key: &str, value: &str) -> Record {
    (offset, key.into(), Some(value.into()))
}

#[tokio::test]
async fn only_the_newest_record_of_a_key_stays_and_offsets_do_not_move() {
    let store = Arc::new(MemoryStore::new());
    let broker = open(store.clone()).await;
    let mut client = Client::new(&broker);
    client.log("t", log(1, &SETTINGS)).await.expect("it is new");
    for batch in [
        keyed(&[("a", Some("1")), ("b", Some("1"))]),
        keyed(&[("a", Some("2"))]),
        keyed(&[("c", Some("1")), ("b", Some("2"))]),
    ] {
        client.append("t", 0, batch).await.expect("it is taken");
    }
    let left = compacted(&mut client, |records| records.len() < 5).await;
    assert_eq!(
        left,
        [
            record(2, "a", "2"),
            record(3, "c", "1"),
            record(4, "b", "2")
        ]
    );
    assert_eq!(
        client.append("t", 0, keyed(&[("d", Some("1"))])).await,
        Ok(5)
    );
    let broker = open(Arc::new(store.crash(7))).await;
    let mut client = Client::new(&broker);
    let (records, end) = read_all(&mut client).await;
    assert_eq!((records.len(), end), (4, 6));
    assert_eq!(client.offset("t", OffsetSpec::Earliest).await, Some(0));
}

#[tokio::test]
async fn a_tombstone_goes_once_readers_had_their_time() {
    let broker = open(Arc::new(MemoryStore::new())).await;
    let mut client = Client::new(&broker);
    client.log("t", log(1, &SETTINGS)).await.expect("it is new");
    client
        .append("t", 0, keyed(&[("a", Some("1")), ("a", None)]))
        .await
        .expect("it is taken");
    let left = compacted(&mut client, |records| records.len() < 2).await;
    assert_eq!(left, [(1, "a".into(), None)]);
    advance(Duration::from_secs(61));
    client
        .append("t", 0, keyed(&[("b", Some("1"))]))
        .await
        .expect("it is taken");
    let left = compacted(&mut client, |records| records.len() < 2).await;
    assert_eq!(left, [record(2, "b", "1")]);
}

/// Random keys and tombstones, compacted again and again with crashes between: what a reader that began at the
/// start has at the end is what every append says.
#[tokio::test]
async fn a_compacted_log_always_reads_as_the_last_value_of_each_key() {
    let mut removed = 0;
    for seed in 0..20 {
        let mut random = SmallRng::seed_from_u64(seed);
        let mut store = Arc::new(MemoryStore::new());
        let mut broker = open(store.clone()).await;
        let mut client = Client::new(&broker);
        client.log("t", log(1, &SETTINGS)).await.expect("it is new");
        let mut model: BTreeMap<String, Option<String>> = BTreeMap::new();
        let mut end = 0;
        for step in 0..60 {
            let records: Vec<_> = (0..random.random_range(1..6))
                .map(|at| {
                    let value = random.random_bool(0.8).then(|| format!("{step}-{at}"));
                    (format!("k{}", random.random_range(0..8)), value)
                })
                .collect();
            let borrowed: Vec<_> = records
                .iter()
                .map(|(key, value)| (&**key, value.as_deref()))
                .collect();
            assert_eq!(
                client.append("t", 0, keyed(&borrowed)).await,
                Ok(end),
                "seed {seed}"
            );
            end += records.len() as u64;
            model.extend(records);
            if random.random_bool(0.3) {
                advance(Duration::from_secs(random.random_range(1..40)));
                client.touch_shards().await;
            }
            if random.random_bool(0.05) {
                store = Arc::new(store.crash(seed));
                broker = open(store.clone()).await;
                client = Client::new(&broker);
            }
            let (records, found_end) = read_all(&mut client).await;
            assert_eq!(found_end, end, "seed {seed}");
            removed += end - records.len() as u64;
            assert!(records.is_sorted_by_key(|record| record.0), "seed {seed}");
            let mut seen: BTreeMap<_, _> = BTreeMap::new();
            seen.extend(records.into_iter().map(|(_, key, value)| (key, value)));
            for (key, value) in &model {
                let found = seen.get(key).cloned().flatten();
                assert_eq!(&found, value, "seed {seed}, step {step}, {key}");
            }
        }
    }
    assert!(removed > 1_000, "nothing was compacted");
}
