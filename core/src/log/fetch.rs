//! Reads of logs: whole batches from the tails' memory or the store, waiting where there is nothing yet, and the
//! search for offsets by time. It runs on the reader's task; shards have no part in it.

use std::{
    ops::{ControlFlow, Range},
    sync::Arc,
};

use bytes::Bytes;
use tokio::sync::Notify;

use super::{
    batch::{self, Header},
    partition::AbortedRow,
    record,
    segment::Segment,
    tail::{Bounds, LogBatch, Source, Tail},
};
use crate::{
    command::{Fetch, FetchPartition, Isolation, OffsetSpec},
    event::{Aborted, Fetched, FetchedBatch, Kind, Refusal},
    id::{LogId, Offset},
    properties::Text,
    store::{ScanLimit, Store, StoreError, Table, keys},
    time::Timestamp,
};

/// Batches that one scan returns at most.
const SCAN_BATCHES: usize = 4096;
/// Bytes that a search by time reads at a time.
const SEARCH_BYTES: usize = 1 << 20;
/// What a batch may expand to while a record is searched in it by time.
const SEARCH_EXPANDED_BYTES: usize = 64 << 20;

/// A partition that its reader found and may read.
#[derive(Clone, Debug)]
struct Readable {
    log: LogId,
    partition: u32,
    tail: Arc<Tail>,
}

/// Carries out `wanted`, whose partitions lead to `tails`, one for one. Answers as soon as there are `min_bytes` in
/// all or an error, and at the latest after its `wait`.
pub(crate) async fn fetch(
    store: Arc<dyn Store>,
    vhost: Text,
    tails: Vec<Option<(LogId, Arc<Tail>)>>,
    wanted: Fetch,
) -> Vec<Fetched> {
    debug_assert_eq!(wanted.partitions.len(), tails.len());
    let found = wanted.partitions.iter().zip(tails).map(|(wanted, tail)| {
        let (log, tail) = tail.ok_or_else(|| not_found(&vhost, &wanted.log))?;
        Ok(Readable {
            log,
            partition: wanted.partition,
            tail,
        })
    });
    let found: Vec<_> = found.collect();
    wait(&*store, &vhost, &wanted, &found).await
}

/// Finds an offset; `None` when no record is at or after the time.
pub(crate) async fn find_offset(
    store: Arc<dyn Store>,
    log: LogId,
    partition: u32,
    tail: Arc<Tail>,
    at: OffsetSpec,
    isolation: Isolation,
) -> Result<Found, Refusal> {
    let readable = Readable {
        log,
        partition,
        tail,
    };
    let bounds = readable.tail.bounds();
    let end = bounds.end(isolation);
    let found = match at {
        OffsetSpec::Earliest => return Ok(Some((bounds.log_start, None))),
        OffsetSpec::Latest => return Ok(Some((end, None))),
        OffsetSpec::AtTime(time) => readable.first_since(&*store, bounds, time).await?,
        OffsetSpec::MaxTimestamp => readable.greatest_timestamp(&*store, bounds).await?,
    };
    Ok(found.filter(|(offset, _)| *offset < end))
}

/// An offset and, where it belongs to a record, its timestamp.
type Found = Option<(Offset, Option<Timestamp>)>;

async fn wait(
    store: &dyn Store,
    vhost: &Text,
    fetch: &Fetch,
    found: &[Result<Readable, Refusal>],
) -> Vec<Fetched> {
    let min_bytes = fetch.min_bytes.min(fetch.max_bytes);
    let fetched = read(store, vhost, fetch, found).await;
    if fetch.wait.is_zero() || is_enough(&fetched, min_bytes) {
        return fetched;
    }
    let deadline = tokio::time::sleep(fetch.wait);
    tokio::pin!(deadline);
    // Watching begins before the next read, so nothing that comes in between is missed.
    let waiting = Waiting::on(found);
    loop {
        let fetched = read(store, vhost, fetch, found).await;
        if is_enough(&fetched, min_bytes) {
            return fetched;
        }
        tokio::select! {
            () = waiting.notify.notified() => {}
            () = &mut deadline => return fetched,
        }
    }
}

/// Registers with every tail for as long as it lives.
struct Waiting<'a> {
    notify: Arc<Notify>,
    found: &'a [Result<Readable, Refusal>],
}

impl<'a> Waiting<'a> {
    fn on(found: &'a [Result<Readable, Refusal>]) -> Waiting<'a> {
        let notify = Arc::new(Notify::new());
        for readable in found.iter().flatten() {
            readable.tail.watch(&notify);
        }
        Waiting { notify, found }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        for readable in self.found.iter().flatten() {
            readable.tail.forget(&self.notify);
        }
    }
}

fn is_enough(fetched: &[Fetched], min_bytes: usize) -> bool {
    let mut bytes = 0;
    for partition in fetched {
        match &partition.result {
            Ok(batches) => bytes += size(batches),
            Err(_) => return true,
        }
    }
    bytes >= min_bytes
}

fn size(batches: &[FetchedBatch]) -> usize {
    batches.iter().map(|batch| batch.bytes.len()).sum()
}

async fn read(
    store: &dyn Store,
    vhost: &Text,
    fetch: &Fetch,
    found: &[Result<Readable, Refusal>],
) -> Vec<Fetched> {
    let mut left = fetch.max_bytes;
    // KIP-74: the first batch found is returned whatever its size, so that readers always get on.
    let mut first = true;
    let mut all = Vec::with_capacity(found.len());
    for (wanted, readable) in fetch.partitions.iter().zip(found) {
        let (result, bounds) = match readable {
            Ok(readable) => {
                readable
                    .read(store, vhost, wanted, left, first, fetch.isolation)
                    .await
            }
            Err(refusal) => (Err(refusal.clone()), Bounds::default()),
        };
        let (result, aborted) = match (result, readable) {
            (Ok(batches), Ok(readable)) if fetch.isolation == Isolation::Committed => {
                match readable.aborted(store, wanted.from, &batches, bounds).await {
                    Ok(aborted) => (Ok(batches), aborted),
                    Err(refusal) => (Err(refusal), Vec::new()),
                }
            }
            (result, _) => (result, Vec::new()),
        };
        let bytes = result.as_deref().map_or(0, size);
        left = left.saturating_sub(bytes);
        first &= bytes == 0;
        all.push(Fetched {
            log: wanted.log.clone(),
            partition: wanted.partition,
            result,
            high_watermark: bounds.high_watermark,
            log_start: bounds.log_start,
            last_stable: bounds.last_stable,
            aborted,
        });
    }
    all
}

impl Readable {
    /// Batches from the wanted offset on, within `bytes_max`; one more than that allows when it is the `first`.
    async fn read(
        &self,
        store: &dyn Store,
        vhost: &Text,
        wanted: &FetchPartition,
        bytes_max: usize,
        first: bool,
        isolation: Isolation,
    ) -> (Result<Vec<FetchedBatch>, Refusal>, Bounds) {
        let mut left = wanted.max_bytes.min(bytes_max);
        let mut batches: Vec<FetchedBatch> = Vec::new();
        let mut from = wanted.from;
        loop {
            let (source, bounds) = self.tail.read(from, left, isolation);
            let mut stored_to = from;
            let more = match source {
                Source::Cached(more) => Ok(more),
                Source::Store(range) => {
                    stored_to = range.end;
                    self.scan(store, range, left).await
                }
                Source::End => Ok(Vec::new()),
                Source::OutOfRange => Err(Refusal::OffsetOutOfRange(from)),
                Source::Closed => Err(not_found(vhost, &wanted.log)),
            };
            let more = match more {
                Ok(more) => more,
                // What was read before the damage is good; the next read meets the damage first.
                Err(_) if !batches.is_empty() => return (Ok(batches), bounds),
                Err(refusal) => return (Err(refusal), bounds),
            };
            let before = batches.len();
            for batch in more {
                let forced = first && batches.is_empty();
                if batch.bytes.len() > left && !forced {
                    return (Ok(batches), bounds);
                }
                left = left.saturating_sub(batch.bytes.len());
                from = batch.last.next();
                batches.push(FetchedBatch::from(&batch));
            }
            // A scan that ended for its size is not asked again for the little that is left.
            if batches.len() == before || left == 0 || from < stored_to {
                return (Ok(batches), bounds);
            }
        }
    }

    /// The aborted transactions with records among `batches`, by first offset (KIP-98). All of them: a reader that
    /// is not told of one shows what was aborted.
    async fn aborted(
        &self,
        store: &dyn Store,
        from: Offset,
        batches: &[FetchedBatch],
        bounds: Bounds,
    ) -> Result<Vec<Aborted>, Refusal> {
        let Some(last) = batches.last().filter(|_| from < bounds.aborted_to) else {
            return Ok(Vec::new());
        };
        let header = batch::parse(&last.bytes)?;
        let end = Offset(last.base.0 + u64::from(header.last_offset_delta) + 1);
        let mut aborted = Vec::new();
        // A transaction is over before its marker, so those that ended before `from` are not looked at.
        let range = keys::aborted_range(self.log, self.partition, from, bounds.aborted_to);
        each(store, Table::State, range, |_, value| {
            let row = AbortedRow::read(value)?;
            if row.first < end {
                aborted.push(Aborted {
                    producer: row.producer,
                    first: row.first,
                });
            }
            Ok(match row.last_stable >= end {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            })
        })
        .await?;
        aborted.sort_unstable_by_key(|aborted| aborted.first);
        Ok(aborted)
    }

    /// Batches from the store, each checked, from the one that holds `range.start` on without a hole.
    async fn scan(
        &self,
        store: &dyn Store,
        range: Range<Offset>,
        bytes_max: usize,
    ) -> Result<Vec<LogBatch>, Refusal> {
        let mut batches: Vec<LogBatch> = Vec::new();
        let mut expected = range.start;
        let limit = ScanLimit {
            entries: SCAN_BATCHES,
            bytes: bytes_max,
        };
        let keys = keys::record_batches(self.log, self.partition, range.start, range.end);
        for (key, value) in store.scan(Table::Records, keys, limit).await?.entries {
            match stored(&key, value) {
                Ok((batch, _)) if batch.base <= expected => {
                    expected = batch.last.next();
                    batches.push(batch);
                }
                _ if !batches.is_empty() => return Ok(batches),
                Ok(_) => return self.missing(expected),
                Err(damage) => return Err(damage),
            }
        }
        if batches.is_empty() {
            self.missing(expected)
        } else {
            Ok(batches)
        }
    }

    /// What should be at `offset` is not: removed by retention since its bounds were read, or lost.
    fn missing(&self, offset: Offset) -> Result<Vec<LogBatch>, Refusal> {
        if self.tail.bounds().log_start > offset {
            return Err(Refusal::OffsetOutOfRange(offset));
        }
        Err(Refusal::Corrupt(
            format!("the batch that holds offset {offset} is missing").into(),
        ))
    }

    /// The first record at `time` or later: segments first, then batches, then the records of one batch.
    async fn first_since(
        &self,
        store: &dyn Store,
        bounds: Bounds,
        time: u64,
    ) -> Result<Found, Refusal> {
        let mut from = bounds.log_start;
        self.each_segment(store, bounds, |segment| {
            if segment.max_timestamp >= time {
                return ControlFlow::Break(());
            }
            from = from.max(segment.last.next());
            ControlFlow::Continue(())
        })
        .await?;
        let mut found = Ok(None);
        self.each_batch(store, from..bounds.high_watermark, |batch, header| {
            if header.max_timestamp < 0 || (header.max_timestamp as u64) < time {
                return ControlFlow::Continue(());
            }
            found = first_record(&batch, |offset, timestamp| {
                offset >= bounds.log_start && timestamp >= time
            });
            if matches!(found, Ok(None)) {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        })
        .await?;
        found
    }

    /// The first of the records with the greatest timestamp.
    async fn greatest_timestamp(
        &self,
        store: &dyn Store,
        bounds: Bounds,
    ) -> Result<Found, Refusal> {
        let mut best: Option<Segment> = None;
        let mut open = bounds.log_start;
        self.each_segment(store, bounds, |segment| {
            open = open.max(segment.last.next());
            if best.is_none_or(|best| segment.max_timestamp > best.max_timestamp) {
                best = Some(segment);
            }
            ControlFlow::Continue(())
        })
        .await?;
        let full = best.map(|segment| segment.first.max(bounds.log_start)..segment.last.next());
        let mut greatest: Option<(i64, LogBatch)> = None;
        for range in full.into_iter().chain([open..bounds.high_watermark]) {
            self.each_batch(store, range, |batch, header| {
                if greatest
                    .as_ref()
                    .is_none_or(|(timestamp, _)| header.max_timestamp > *timestamp)
                {
                    greatest = Some((header.max_timestamp, batch));
                }
                ControlFlow::Continue(())
            })
            .await?;
        }
        match greatest {
            Some((greatest, batch)) if greatest >= 0 => {
                first_record(&batch, |_, timestamp| timestamp >= greatest as u64)
            }
            _ => Ok(None),
        }
    }

    async fn each_segment(
        &self,
        store: &dyn Store,
        bounds: Bounds,
        mut visit: impl FnMut(Segment) -> ControlFlow<()>,
    ) -> Result<(), Refusal> {
        let range = keys::segments(
            self.log,
            self.partition,
            bounds.log_start,
            bounds.high_watermark,
        );
        each(store, Table::State, range, |_, value| {
            Ok(visit(Segment::read(value)?))
        })
        .await
    }

    async fn each_batch(
        &self,
        store: &dyn Store,
        offsets: Range<Offset>,
        mut visit: impl FnMut(LogBatch, Header) -> ControlFlow<()>,
    ) -> Result<(), Refusal> {
        // The batch that reaches over the end of the range belongs to it as well: it ends at or after `end`.
        let range = keys::record_batches(self.log, self.partition, offsets.start, offsets.end);
        each(store, Table::Records, range, |key, value| {
            let (batch, header) = stored(&key, value)?;
            Ok(visit(batch, header))
        })
        .await
    }
}

fn first_record(
    batch: &LogBatch,
    mut is_wanted: impl FnMut(Offset, u64) -> bool,
) -> Result<Found, Refusal> {
    for record in record::records(&batch.bytes, SEARCH_EXPANDED_BYTES)? {
        let record = record?;
        let offset = Offset(batch.base.0 + u64::from(record.offset_delta));
        let Ok(timestamp) = u64::try_from(record.timestamp) else {
            continue;
        };
        if is_wanted(offset, timestamp) {
            return Ok(Some((offset, Some(Timestamp(timestamp)))));
        }
    }
    Ok(None)
}

/// Visits the entries of a range, a page at a time.
async fn each(
    store: &dyn Store,
    table: Table,
    mut range: Range<Bytes>,
    mut visit: impl FnMut(Bytes, Bytes) -> Result<ControlFlow<()>, Refusal>,
) -> Result<(), Refusal> {
    let limit = ScanLimit {
        entries: SCAN_BATCHES,
        bytes: SEARCH_BYTES,
    };
    loop {
        let page = store.scan(table, range.clone(), limit).await?;
        for (key, value) in page.entries {
            if visit(key, value)?.is_break() {
                return Ok(());
            }
        }
        match page.next {
            Some(next) => range.start = next,
            None => return Ok(()),
        }
    }
}

/// A batch from the store, if it is undamaged.
fn stored(key: &[u8], bytes: Bytes) -> Result<(LogBatch, Header), Refusal> {
    let damaged = |what: &str| Refusal::Corrupt(what.into());
    let (last, flags) =
        keys::record_batch_last(key).ok_or_else(|| damaged("the key of a batch is malformed"))?;
    let header =
        batch::verify(&bytes).map_err(|error| Refusal::Corrupt(error.to_string().into()))?;
    let base = last.0.checked_sub(header.last_offset_delta.into());
    let base =
        Offset(base.ok_or_else(|| damaged("a batch has more records than its place allows"))?);
    Ok((
        LogBatch {
            base,
            last,
            flags,
            bytes,
        },
        header,
    ))
}

fn not_found(vhost: &Text, log: &Text) -> Refusal {
    Refusal::NotFound {
        kind: Kind::Log,
        name: log.clone(),
        vhost: vhost.clone(),
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Refusal {
        let text = error.to_string().into();
        match error {
            StoreError::Corrupt(_) => Refusal::Corrupt(text),
            _ => Refusal::StorageFailed(text),
        }
    }
}

#[cfg(test)]
mod tests {
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
        log::{
            Partition, Settings,
            batch::tests::{batch, batch_at},
            validate,
        },
        store::{Batch, BoxFuture, Durability, Page, Write},
        time::Now,
    };

    /// Just enough of a store for readers.
    #[derive(Default)]
    struct Rows {
        rows: Mutex<BTreeMap<(Table, Bytes), Bytes>>,
        scans: AtomicUsize,
    }

    impl Store for Rows {
        fn commit(
            &self,
            batch: Batch,
            _: Durability,
        ) -> BoxFuture<'static, Result<(), StoreError>> {
            for write in batch.into_writes() {
                match write {
                    Write::Put(table, key, value) => {
                        drop(self.rows.lock().unwrap().insert((table, key), value))
                    }
                    Write::Delete(table, key) => {
                        drop(self.rows.lock().unwrap().remove(&(table, key)))
                    }
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
            let committed = self.partition.seal(&mut batch);
            self.store
                .commit(batch, Durability::Buffered)
                .now_or_never()
                .unwrap()
                .unwrap();
            if let Some(committed) = committed {
                committed.publish();
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
}
