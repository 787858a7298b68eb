use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt;

use super::*;
use crate::{
    command::OffsetSpec,
    log::{
        Partition, Settings,
        batch::tests::{batch, batch_at},
        validate,
    },
    store::{Batch, BoxFuture, Durability, Page, Write},
    time::{Now, Timestamp},
};

/// Just enough of a store for readers.
#[derive(Default)]
struct Rows {
    rows: Mutex<BTreeMap<(Table, Bytes), Bytes>>,
    scans: AtomicUsize,
}

impl Store for Rows {
    fn commit(&self, batch: Batch, _: Durability) -> BoxFuture<'static, Result<(), StoreError>> {
        for write in batch.into_writes() {
            match write {
                Write::Put(table, key, value) => {
                    drop(self.rows.lock().unwrap().insert((table, key), value))
                }
                Write::Delete(table, key) => drop(self.rows.lock().unwrap().remove(&(table, key))),
                Write::Forget(..) => {}
            }
        }
        Box::pin(async { Ok(()) })
    }

    fn get(
        &self,
        table: Table,
        key: Bytes,
    ) -> BoxFuture<'static, Result<Option<Bytes>, StoreError>> {
        let value = self.rows.lock().unwrap().get(&(table, key)).cloned();
        Box::pin(async { Ok(value) })
    }

    fn scan(
        &self,
        table: Table,
        range: Range<Bytes>,
        limit: ScanLimit,
    ) -> BoxFuture<'static, Result<Page, StoreError>> {
        self.scans.fetch_add(1, Ordering::Relaxed);
        let mut page = Page::default();
        let mut bytes = 0;
        for ((_, key), value) in self
            .rows
            .lock()
            .unwrap()
            .range((table, range.start)..(table, range.end))
        {
            bytes += key.len() + value.len();
            if !page.entries.is_empty()
                && (bytes > limit.bytes || page.entries.len() == limit.entries)
            {
                page.next = Some(key.clone());
                break;
            }
            page.entries.push((key.clone(), value.clone()));
        }
        Box::pin(async { Ok(page) })
    }

    fn close(&self) -> BoxFuture<'static, Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }
}

struct World {
    store: Arc<Rows>,
    partition: Partition,
}

impl World {
    fn new(batches: &[Bytes]) -> World {
        let partition = Partition::new(LogId(1), 0, Settings::default(), Arc::default());
        let mut world = World {
            store: Arc::default(),
            partition,
        };
        batches.iter().for_each(|bytes| world.append(bytes));
        world
    }

    #[expect(clippy::disallowed_methods, reason = "the instant plays no part")]
    fn append(&mut self, bytes: &Bytes) {
        let now = Now {
            instant: std::time::Instant::now(),
            wall: Timestamp(0),
        };
        self.partition
            .append(now, &validate(bytes).unwrap(), bytes.clone(), 0)
            .unwrap();
        self.turn();
    }

    fn turn(&mut self) {
        let mut batch = Batch::new();
        let committed = self.partition.seal(&mut batch, 0);
        self.store
            .commit(batch, Durability::Buffered)
            .now_or_never()
            .unwrap()
            .unwrap();
        if let Some(committed) = committed {
            let _ = committed.publish(0);
        }
    }

    fn readable(&self) -> Option<(LogId, Arc<Tail>)> {
        Some((LogId(1), self.partition.tail().clone()))
    }

    fn damage(&self, last: u64) {
        let key = (
            Table::Records,
            keys::record_batch(LogId(1), 0, Offset(last), 0),
        );
        let mut rows = self.store.rows.lock().unwrap();
        let value = rows.get_mut(&key).unwrap();
        let mut bytes = value.to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        *value = bytes.into();
    }

    async fn find(&self, spec: OffsetSpec) -> Option<(u64, Option<u64>)> {
        let tail = self.partition.tail().clone();
        let found = find_offset(
            self.store.clone(),
            LogId(1),
            0,
            tail,
            spec,
            Isolation::Uncommitted,
        )
        .await
        .unwrap();
        found.map(|(offset, timestamp)| (offset.0, timestamp.map(|timestamp| timestamp.0)))
    }
}

fn wanted(from: u64, max_bytes: usize) -> FetchPartition {
    FetchPartition {
        log: "t".into(),
        id: None,
        partition: 0,
        from: Offset(from),
        max_bytes,
    }
}

fn plan(
    partitions: Vec<FetchPartition>,
    min_bytes: usize,
    max_bytes: usize,
    wait_ms: u64,
) -> Fetch {
    Fetch {
        partitions,
        min_bytes,
        max_bytes,
        wait: Duration::from_millis(wait_ms),
        isolation: Isolation::Uncommitted,
    }
}

fn bases(fetched: &Fetched) -> Vec<u64> {
    fetched
        .result
        .as_ref()
        .unwrap()
        .iter()
        .map(|batch| batch.base.0)
        .collect()
}

async fn read_from(world: &World, from: u64, max_bytes: usize) -> Fetched {
    let plan = plan(vec![wanted(from, max_bytes)], 0, 1 << 20, 0);
    fetch(
        world.store.clone(),
        "/".into(),
        vec![world.readable()],
        plan,
    )
    .await
    .remove(0)
}

#[tokio::test]
async fn the_same_is_read_from_memory_and_from_the_store() {
    let world = World::new(&[batch(&["a", "b", "c"]), batch(&["d"]), batch(&["e", "f"])]);
    for released in [false, true] {
        if released {
            world.partition.tail().release();
        }
        assert_eq!(bases(&read_from(&world, 0, 1 << 20).await), [0, 3, 4]);
        assert_eq!(
            bases(&read_from(&world, 2, 1 << 20).await),
            [0, 3, 4],
            "the batch is returned whole"
        );
        assert_eq!(bases(&read_from(&world, 5, 1 << 20).await), [4]);
        assert_eq!(
            bases(&read_from(&world, 1, 1).await),
            [0],
            "the first is returned whatever its size"
        );
        assert_eq!(bases(&read_from(&world, 6, 1).await), [0; 0]);
        assert_eq!(
            read_from(&world, 7, 1).await.result.unwrap_err(),
            Refusal::OffsetOutOfRange(Offset(7))
        );
        assert_eq!(world.store.scans.load(Ordering::Relaxed) > 0, released);
    }
}

#[tokio::test]
async fn a_read_goes_on_from_the_store_into_memory() {
    let mut world = World::new(&[batch(&["a"]), batch(&["b"])]);
    world.partition.tail().release();
    world.append(&batch(&["c"]));
    assert_eq!(bases(&read_from(&world, 0, 1 << 20).await), [0, 1, 2]);
}

#[tokio::test]
async fn damage_is_reported_and_what_is_before_it_is_served() {
    let world = World::new(&[batch(&["a"]), batch(&["b"]), batch(&["c"])]);
    world.partition.tail().release();
    world.damage(1);
    assert_eq!(bases(&read_from(&world, 0, 1 << 20).await), [0]);
    assert!(matches!(
        read_from(&world, 1, 1 << 20).await.result,
        Err(Refusal::Corrupt(_))
    ));
    assert_eq!(bases(&read_from(&world, 2, 1 << 20).await), [2]);
    world.store.rows.lock().unwrap().clear();
    assert!(
        matches!(
            read_from(&world, 0, 1 << 20).await.result,
            Err(Refusal::Corrupt(_))
        ),
        "lost is damage"
    );
}

#[tokio::test]
async fn the_whole_fetch_is_bounded_and_only_its_first_batch_is_forced() {
    let (one, two) = (World::new(&[batch(&["a"])]), World::new(&[batch(&["b"])]));
    let size = batch(&["a"]).len();
    let tails = vec![one.readable(), two.readable()];
    for (max_bytes, expected) in [
        (1, [1, 0]),
        (size, [1, 0]),
        (2 * size - 1, [1, 0]),
        (2 * size, [1, 1]),
    ] {
        let plan = plan(
            vec![wanted(0, 1 << 20), wanted(0, 1 << 20)],
            0,
            max_bytes,
            0,
        );
        let fetched = fetch(one.store.clone(), "/".into(), tails.clone(), plan).await;
        assert_eq!(
            fetched.iter().map(|it| bases(it).len()).collect::<Vec<_>>(),
            expected,
            "{max_bytes}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_fetch_waits_for_enough_and_no_longer_than_it_was_told() {
    let mut world = World::new(&[]);
    let tails = vec![world.readable()];
    let size = batch(&["a"]).len();
    let plan = plan(vec![wanted(0, 1 << 20)], size + 1, 1 << 20, 500);
    let store = world.store.clone();
    let mut waiting = std::pin::pin!(fetch(
        store.clone(),
        "/".into(),
        tails.clone(),
        plan.clone()
    ));
    assert!((&mut waiting).now_or_never().is_none());
    world.append(&batch(&["a"]));
    assert!(
        (&mut waiting).now_or_never().is_none(),
        "one byte is missing"
    );
    world.append(&batch(&["b"]));
    assert_eq!(bases(&waiting.await[0]), [0, 1]);

    let start = tokio::time::Instant::now();
    let mut late = plan.clone();
    late.partitions[0].from = Offset(2);
    assert_eq!(
        bases(&fetch(store, "/".into(), tails, late).await[0]),
        [0; 0]
    );
    assert_eq!(start.elapsed(), Duration::from_millis(500));
}

#[tokio::test(start_paused = true)]
async fn an_error_and_a_deleted_log_end_the_wait() {
    let world = World::new(&[]);
    let missing = not_found(&"/".into(), &"t".into());
    let plan = plan(vec![wanted(0, 1), wanted(0, 1)], 1, 1, 10_000);
    let start = tokio::time::Instant::now();
    let fetched = fetch(
        world.store.clone(),
        "/".into(),
        vec![world.readable(), None],
        plan.clone(),
    )
    .await;
    assert_eq!(fetched[1].result.as_ref().unwrap_err(), &missing);
    let tails = vec![world.readable(), world.readable()];
    let mut waiting = std::pin::pin!(fetch(world.store.clone(), "/".into(), tails, plan));
    assert!((&mut waiting).now_or_never().is_none());
    world.partition.tail().close();
    assert!(matches!(
        waiting.await[0].result,
        Err(Refusal::NotFound { .. })
    ));
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test]
async fn offsets_are_found_by_time() {
    let mut world = World::new(&[
        batch_at(100, &["a", "b"]),
        batch_at(300, &["c"]),
        batch_at(200, &["d"]),
    ]);
    assert_eq!(world.find(OffsetSpec::Earliest).await, Some((0, None)));
    assert_eq!(world.find(OffsetSpec::Latest).await, Some((4, None)));
    assert_eq!(
        world.find(OffsetSpec::AtTime(0)).await,
        Some((0, Some(100)))
    );
    assert_eq!(
        world.find(OffsetSpec::AtTime(101)).await,
        Some((2, Some(300)))
    );
    assert_eq!(world.find(OffsetSpec::AtTime(301)).await, None);
    assert_eq!(
        world.find(OffsetSpec::MaxTimestamp).await,
        Some((2, Some(300)))
    );
    world.partition.trim(Offset(1)).unwrap();
    world.turn();
    assert_eq!(
        world.find(OffsetSpec::AtTime(0)).await,
        Some((1, Some(100))),
        "never below the log start"
    );
}

#[tokio::test]
async fn full_segments_narrow_the_search() {
    let value = "x".repeat(6 << 20);
    let batches: Vec<_> = (0..9).map(|n| batch_at(100 * n, &[&value])).collect();
    let world = World::new(&batches);
    world.store.scans.store(0, Ordering::Relaxed);
    assert_eq!(
        world.find(OffsetSpec::AtTime(601)).await,
        Some((7, Some(700)))
    );
    assert!(world.store.scans.load(Ordering::Relaxed) <= 4);
    assert_eq!(
        world.find(OffsetSpec::MaxTimestamp).await,
        Some((8, Some(800)))
    );
    assert_eq!(World::new(&[]).find(OffsetSpec::MaxTimestamp).await, None);
}
