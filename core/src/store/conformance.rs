//! The store's contract as tests, for every backend: implement [`Backend`] and run [`contract`],
//! [`poisons`] and, over many seeds, [`model`].
//!
//! Each test is named after the line of the contract in [`super`] that it proves. All of them panic
//! where the contract is broken; those with randomness name the seed.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{Arc, Barrier},
    thread,
};

use bytes::Bytes;
use futures_util::future::join_all;

use super::{Batch, Durability, Page, ScanLimit, Store, StoreError, Table, memory::split_mix};

/// One store under test over its lives, empty in the first.
pub trait Backend {
    /// Opens the store as the last life left it.
    fn open(&mut self) -> Arc<dyn Store>;

    /// Ends a life as the power or the operating system would: without `close`. What was not synced
    /// may be lost as the backend can bring about, by `seed`.
    fn crash(&mut self, seed: u64);

    /// Makes a write fail soon: one of the next few thousand at the latest.
    fn fail_writes(&mut self);
}

/// Every line of the contract but the one about failed writes.
pub async fn contract<B: Backend>(fresh: impl Fn() -> B) {
    line_1_a_batch_is_all_or_nothing(&mut fresh()).await;
    line_2_the_call_decides_the_order(&mut fresh()).await;
    line_2_threads_keep_their_own_order(&mut fresh()).await;
    line_3_a_prefix_survives_a_crash(&fresh).await;
    line_4_synced_survives_with_all_before_it(&fresh).await;
    line_5_resolved_is_visible(&mut fresh()).await;
    line_6_scan_is_ascending_and_bounded(&mut fresh()).await;
    line_6_scan_keeps_to_its_range_and_table(&mut fresh()).await;
    line_8_forgetting_spares_the_rest(&mut fresh()).await;
    line_8_delete_is_no_hint(&mut fresh()).await;
    close_keeps_everything_and_ends_the_store(&mut fresh()).await;
}

const NO_LIMIT: ScanLimit = ScanLimit {
    entries: usize::MAX,
    bytes: usize::MAX,
};

async fn line_1_a_batch_is_all_or_nothing(backend: &mut impl Backend) {
    let store = backend.open();
    let mut batch = Batch::new();
    for table in Table::ALL {
        batch.put(table, "a", table.name());
        batch.put(table, "b", "gone");
        batch.delete(table, "b");
        batch.put(table, "c", "old");
        batch.put(table, "c", "new");
    }
    store
        .commit(batch, Durability::Synced)
        .await
        .expect("the batch is committed");
    drop(store);
    backend.crash(1);
    let store = backend.open();
    for table in Table::ALL {
        assert_eq!(
            get(&store, table, "a").await.as_deref(),
            Some(table.name().as_bytes()),
            "{table:?}"
        );
        assert_eq!(
            get(&store, table, "b").await,
            None,
            "writes of a batch happen in order"
        );
        assert_eq!(
            get(&store, table, "c").await.as_deref(),
            Some(&b"new"[..]),
            "the last write of a key wins"
        );
    }
}

async fn line_2_the_call_decides_the_order(backend: &mut impl Backend) {
    let store = backend.open();
    let commits: Vec<_> = (0..100u32)
        .map(|n| store.commit(counter(n), Durability::Written))
        .collect();
    for commit in commits.into_iter().rev() {
        commit.await.expect("the batch is committed");
    }
    assert_eq!(
        get(&store, Table::State, "counter").await,
        Some(number(99)),
        "the last call wins"
    );

    drop(store.commit(counter(100), Durability::Buffered));
    store
        .commit(Batch::new(), Durability::Buffered)
        .await
        .expect("an empty batch is committed");
    assert_eq!(
        get(&store, Table::State, "counter").await,
        Some(number(100)),
        "a commit needs no polling"
    );
}

async fn line_2_threads_keep_their_own_order(backend: &mut impl Backend) {
    const THREADS: u32 = 4;
    let store = backend.open();
    let start = Barrier::new(THREADS as usize);
    let commits: Vec<_> = thread::scope(|scope| {
        let writers: Vec<_> = (0..THREADS)
            .map(|writer| {
                let (store, start) = (&store, &start);
                scope.spawn(move || {
                    start.wait();
                    let write = |n| {
                        let mut batch = Batch::new();
                        batch.put(Table::State, number(writer), number(n));
                        store.commit(batch, Durability::Buffered)
                    };
                    (0..200).map(write).collect::<Vec<_>>()
                })
            })
            .collect();
        writers
            .into_iter()
            .flat_map(|writer| writer.join().expect("the writer runs to its end"))
            .collect()
    });
    for result in join_all(commits).await {
        result.expect("the batch is committed");
    }
    for writer in 0..THREADS {
        let found = store
            .get(Table::State, number(writer))
            .await
            .expect("the store reads");
        assert_eq!(found, Some(number(199)));
    }
}

async fn line_3_a_prefix_survives_a_crash<B: Backend>(fresh: &impl Fn() -> B) {
    for seed in 0..10 {
        let mut backend = fresh();
        let store = backend.open();
        let commits: Vec<_> = (0..50u32)
            .map(|n| {
                let mut batch = counter(n);
                batch.put(Table::Messages, number(n), vec![n as u8; 5000]);
                store.commit(batch, Durability::Written)
            })
            .collect();
        join_all(commits).await;
        drop(store);
        backend.crash(seed);

        let store = backend.open();
        let rows = scan(&store, Table::Messages, all(), NO_LIMIT).await.entries;
        let expected: Vec<_> = (0..rows.len() as u32).map(number).collect();
        let keys: Vec<_> = rows.into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, expected, "not a prefix, seed {seed}");
        let last = expected.last().cloned();
        assert_eq!(
            get(&store, Table::State, "counter").await,
            last,
            "tables disagree, seed {seed}"
        );
    }
}

async fn line_4_synced_survives_with_all_before_it<B: Backend>(fresh: &impl Fn() -> B) {
    for seed in 0..10 {
        let mut backend = fresh();
        let store = backend.open();
        for n in 0..10 {
            drop(store.commit(counter(n), Durability::Buffered));
        }
        store
            .commit(counter(10), Durability::Synced)
            .await
            .expect("the batch is committed");
        drop(store);
        backend.crash(seed);
        let store = backend.open();
        assert_eq!(
            get(&store, Table::State, "counter").await,
            Some(number(10)),
            "seed {seed}"
        );
    }
}

async fn line_5_resolved_is_visible(backend: &mut impl Backend) {
    let store = backend.open();
    for (n, durability) in (0..).zip([
        Durability::Buffered,
        Durability::Written,
        Durability::Synced,
    ]) {
        store
            .commit(counter(n), durability)
            .await
            .expect("the batch is committed");
        assert_eq!(
            get(&store, Table::State, "counter").await,
            Some(number(n)),
            "{durability:?}"
        );
        let page = scan(&store, Table::State, all(), NO_LIMIT).await;
        assert_eq!(
            page.entries,
            [(Bytes::from("counter"), number(n))],
            "{durability:?}"
        );
    }
}

async fn line_6_scan_is_ascending_and_bounded(backend: &mut impl Backend) {
    let store = backend.open();
    let mut batch = Batch::new();
    for n in (0..100).rev() {
        batch.put(Table::Records, number(n), vec![0; 1000]);
    }
    store
        .commit(batch, Durability::Written)
        .await
        .expect("the batch is committed");

    for (limit, pages) in [
        (
            ScanLimit {
                entries: 30,
                bytes: usize::MAX,
            },
            vec![30, 30, 30, 10],
        ),
        (
            ScanLimit {
                entries: usize::MAX,
                bytes: 50_200,
            },
            vec![50, 50],
        ),
        (
            ScanLimit {
                entries: 100,
                bytes: usize::MAX,
            },
            vec![100],
        ),
    ] {
        let mut sizes = Vec::new();
        let mut seen = Vec::new();
        let mut from = Some(number(0));
        while let Some(start) = from {
            let page = scan(&store, Table::Records, start..number(1000), limit).await;
            sizes.push(page.entries.len());
            seen.extend(page.entries.into_iter().map(|(key, _)| key));
            from = page.next;
        }
        assert_eq!(sizes, pages, "{limit:?}");
        assert_eq!(seen, (0..100).map(number).collect::<Vec<_>>(), "{limit:?}");
    }

    let small = ScanLimit {
        entries: 10,
        bytes: 1,
    };
    let page = scan(&store, Table::Records, number(7)..number(9), small).await;
    assert_eq!(
        page.entries.len(),
        1,
        "a first entry over the limit is returned"
    );
    assert_eq!(page.next, Some(number(8)));
    let page = scan(&store, Table::Records, number(7)..number(8), small).await;
    assert_eq!(page.next, None, "the range ended the scan");
}

async fn line_6_scan_keeps_to_its_range_and_table(backend: &mut impl Backend) {
    let store = backend.open();
    let mut batch = Batch::new();
    for key in ["a", "b", "ba", "c"] {
        batch.put(Table::State, key, key);
        batch.put(Table::Catalog, format!("{key}!"), "elsewhere");
    }
    store
        .commit(batch, Durability::Written)
        .await
        .expect("the batch is committed");
    for (range, expected) in [
        ("a".."c", &["a", "b", "ba"][..]),
        ("aa".."bz", &["b", "ba"]),
        ("b".."b", &[]),
        ("c".."a", &[]),
        ("d".."z", &[]),
        ("".."z", &["a", "b", "ba", "c"]),
    ] {
        let page = scan(
            &store,
            Table::State,
            Bytes::from(range.start)..Bytes::from(range.end),
            NO_LIMIT,
        )
        .await;
        let keys: Vec<_> = page.entries.into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, expected, "{range:?}");
        assert_eq!(page.next, None, "{range:?}");
    }
}

async fn line_8_forgetting_spares_the_rest(backend: &mut impl Backend) {
    let store = backend.open();
    for n in 0..100 {
        let mut batch = Batch::new();
        batch.put(Table::Messages, number(n), vec![n as u8; 5000]);
        drop(store.commit(batch, Durability::Buffered));
    }
    for n in (0..90).step_by(10) {
        let mut batch = Batch::new();
        batch.forget(Table::Messages, number(n)..number(n + 10));
        batch.forget(Table::Messages, number(5)..number(5));
        store
            .commit(batch, Durability::Written)
            .await
            .expect("the batch is committed");
    }
    let survivors: Vec<_> = (90..100).map(number).collect();
    assert_eq!(keys(&store, number(90)..number(1000)).await, survivors);

    // A range may be wide and forgotten before some of its keys exist: those are not meant.
    let mut batch = Batch::new();
    batch.forget(Table::Messages, number(1000)..number(u32::MAX));
    store
        .commit(batch, Durability::Written)
        .await
        .expect("the batch is committed");
    let mut batch = Batch::new();
    batch.put(Table::Messages, number(2000), "later");
    store
        .commit(batch, Durability::Synced)
        .await
        .expect("the batch is committed");
    assert_eq!(
        keys(&store, number(1000)..number(3000)).await,
        [number(2000)]
    );

    store.close().await.expect("the store closes");
    drop(store);
    let store = backend.open();
    assert_eq!(keys(&store, number(90)..number(1000)).await, survivors);
    assert_eq!(
        keys(&store, number(1000)..number(3000)).await,
        [number(2000)]
    );
}

async fn line_8_delete_is_no_hint(backend: &mut impl Backend) {
    let store = backend.open();
    store
        .commit(counter(1), Durability::Synced)
        .await
        .expect("the batch is committed");
    let mut batch = Batch::new();
    batch.delete(Table::State, "counter");
    batch.delete(Table::State, "never there");
    store
        .commit(batch, Durability::Synced)
        .await
        .expect("the batch is committed");
    assert_eq!(get(&store, Table::State, "counter").await, None);
    drop(store);
    backend.crash(1);
    assert_eq!(get(&backend.open(), Table::State, "counter").await, None);
}

async fn close_keeps_everything_and_ends_the_store(backend: &mut impl Backend) {
    let store = backend.open();
    let waiting: Vec<_> = (0..100)
        .map(|n| store.commit(counter(n), Durability::Buffered))
        .collect();
    store.close().await.expect("the store closes");
    for result in join_all(waiting).await {
        result.expect("what was enqueued before the close is committed");
    }
    assert_eq!(
        store.commit(counter(100), Durability::Buffered).await,
        Err(StoreError::Closed)
    );
}

/// Line 7: after one failed write every later commit fails, and what was acknowledged still reads.
pub async fn poisons(backend: &mut impl Backend) {
    let store = backend.open();
    store
        .commit(counter(0), Durability::Written)
        .await
        .expect("the first batch is committed");
    backend.fail_writes();
    let (failed, error) = first_failure(&store).await;
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");

    for durability in [
        Durability::Buffered,
        Durability::Written,
        Durability::Synced,
    ] {
        let later = store.commit(counter(failed + 1), durability).await;
        assert!(matches!(later, Err(StoreError::Poisoned(_))), "{later:?}");
    }
    let found = get(&store, Table::State, "counter").await;
    assert!(
        found == Some(number(failed - 1)) || found == Some(number(failed)),
        "{found:?} after {failed} failed"
    );
    assert!(
        store.close().await.is_err(),
        "what was enqueued is not all there"
    );
}

async fn first_failure(store: &Arc<dyn Store>) -> (u32, StoreError) {
    for n in 1..5000 {
        let mut batch = counter(n);
        batch.put(Table::Records, number(n), vec![n as u8; 16 << 10]);
        if let Err(error) = store.commit(batch, Durability::Written).await {
            return (n, error);
        }
    }
    panic!("no write failed");
}

/// Does `steps` random things to the store and to a naive model of it, and compares. Crashes and
/// closes are among them: the store must then be what the model was after some commit, no earlier
/// than the last synced one.
pub async fn model(backend: &mut impl Backend, seed: u64, steps: usize) {
    let mut random = Random(seed);
    let mut store = backend.open();
    let mut model = Model::default();
    for step in 0..steps {
        let context = format!("seed {seed}, step {step}");
        match random.below(20) {
            0 => {
                drop(store);
                backend.crash(random.next());
                store = backend.open();
                model.settle_on(dump(&store).await, &context);
            }
            1 => {
                store.close().await.expect("the store closes");
                drop(store);
                store = backend.open();
                assert!(
                    same(&dump(&store).await, &model.now),
                    "a close lost something, {context}"
                );
                model.on_synced();
            }
            2..5 => model.check_page(&store, &mut random, &context).await,
            _ => {
                let batch = model.write(&mut random);
                let durability = [
                    Durability::Buffered,
                    Durability::Written,
                    Durability::Synced,
                ][random.below(3)];
                store
                    .commit(batch, durability)
                    .await
                    .expect("the batch is committed");
                if durability == Durability::Synced {
                    model.on_synced();
                }
            }
        }
    }
    store.close().await.expect("the store closes");
}

type Rows = BTreeMap<(Table, Bytes), Bytes>;

/// What the store should hold. Keys are forgotten in ascending order below a mark, as the core does.
#[derive(Default)]
struct Model {
    now: Rows,
    /// The state before each commit since the last synced one.
    before: Vec<Rows>,
}

impl Model {
    fn write(&mut self, random: &mut Random) -> Batch {
        self.before.push(self.now.clone());
        let mut batch = Batch::new();
        for _ in 0..random.below(8) {
            let table = Table::ALL[random.below(Table::ALL.len())];
            let key = random.key();
            if random.below(4) == 0 {
                batch.delete(table, key.clone());
                self.now.remove(&(table, key));
            } else {
                let value = Bytes::from(vec![random.next() as u8; random.size()]);
                batch.put(table, key.clone(), value.clone());
                self.now.insert((table, key), value);
            }
        }
        batch
    }

    fn on_synced(&mut self) {
        self.before.clear();
    }

    /// After a crash: goes on from the state that survived, which must be one that there was.
    fn settle_on(&mut self, survived: Rows, context: &str) {
        let known =
            same(&survived, &self.now) || self.before.iter().any(|rows| same(&survived, rows));
        assert!(
            known,
            "what survived was never the state after a commit, {context}"
        );
        self.now = survived;
        self.before.clear();
    }

    async fn check_page(&self, store: &Arc<dyn Store>, random: &mut Random, context: &str) {
        let table = Table::ALL[random.below(Table::ALL.len())];
        let (start, end) = (random.key(), random.key());
        let limit = ScanLimit {
            entries: 1 + random.below(6),
            bytes: random.below(30_000),
        };
        let page = scan(store, table, start.clone()..end.clone(), limit).await;

        let rows: Vec<_> = self
            .now
            .iter()
            .filter(|((t, key), _)| *t == table && *key >= start && *key < end)
            .collect();
        let expected = rows
            .iter()
            .map(|((_, key), value)| (key, *value))
            .take(page.entries.len());
        assert!(
            page.entries
                .iter()
                .map(|(key, value)| (key, value))
                .eq(expected),
            "{context}"
        );
        let next = rows
            .get(page.entries.len())
            .map(|((_, key), _)| key.clone());
        assert_eq!(page.next, next, "{context}");
        assert!(page.entries.len() <= limit.entries, "{context}");
        let bytes: usize = page
            .entries
            .iter()
            .map(|(key, value)| key.len() + value.len())
            .sum();
        assert!(bytes <= limit.bytes || page.entries.len() == 1, "{context}");
        assert!(
            !page.entries.is_empty() || rows.is_empty(),
            "a page is not empty while there is an entry, {context}"
        );

        let key = random.key();
        let found = store
            .get(table, key.clone())
            .await
            .expect("the store reads");
        assert_eq!(found.as_ref(), self.now.get(&(table, key)), "{context}");
    }
}

/// As `==`, without printing every value.
fn same(left: &Rows, right: &Rows) -> bool {
    left == right
}

async fn dump(store: &Arc<dyn Store>) -> Rows {
    let mut rows = Rows::new();
    for table in Table::ALL {
        let page = scan(store, table, all(), NO_LIMIT).await;
        rows.extend(
            page.entries
                .into_iter()
                .map(|(key, value)| ((table, key), value)),
        );
    }
    rows
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        split_mix(self.0)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// One of few keys, so that they meet again.
    fn key(&mut self) -> Bytes {
        number(self.below(40) as u32)
    }

    /// Mostly small, now and then large enough for any backend to treat it differently.
    fn size(&mut self) -> usize {
        if self.below(4) == 0 {
            self.below(20_000)
        } else {
            self.below(100)
        }
    }
}

fn number(n: u32) -> Bytes {
    Bytes::copy_from_slice(&n.to_be_bytes())
}

fn counter(n: u32) -> Batch {
    let mut batch = Batch::new();
    batch.put(Table::State, "counter", number(n));
    batch
}

fn all() -> Range<Bytes> {
    Bytes::new()..Bytes::from_static(&[0xff; 8])
}

async fn get(store: &Arc<dyn Store>, table: Table, key: &'static str) -> Option<Bytes> {
    store
        .get(table, Bytes::from(key))
        .await
        .expect("the store reads")
}

async fn scan(store: &Arc<dyn Store>, table: Table, range: Range<Bytes>, limit: ScanLimit) -> Page {
    store
        .scan(table, range, limit)
        .await
        .expect("the store reads")
}

async fn keys(store: &Arc<dyn Store>, range: Range<Bytes>) -> Vec<Bytes> {
    scan(store, Table::Messages, range, NO_LIMIT)
        .await
        .entries
        .into_iter()
        .map(|(key, _)| key)
        .collect()
}
