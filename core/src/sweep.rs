//! Cleaning up: what nobody reads any more is forgotten, in the background and when the broker opens.
//!
//! Whatever a queue or log no longer needs is said in the batch that made it so, but as a hint
//! ([`crate::store::Batch::forget`]), and hints may be lost with the process. So when the broker opens, all that lies
//! outside of what queues and partitions still read is forgotten once more.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use futures_util::future::join_all;
use rustc_hash::{FxHashMap, FxHashSet};
use tokio::sync::mpsc;

use crate::{
    broker::Inner,
    id::{LogId, QueueId, Sequence},
    log::Bounds,
    recovery::{PAGE, everything},
    shard::Turn,
    store::{
        Batch, ScanLimit, Store, StoreError, Table, keys,
        messages::{self, Dialects, QueueCounters},
    },
};

/// For looking whether there is anything.
const ONE: ScanLimit = ScanLimit {
    entries: 1,
    bytes: usize::MAX,
};

/// Ranges are looked at in so many pieces at a time, of not fewer than [`PIECE_MIN`].
const PIECES: usize = 16;
const PIECE_MIN: usize = 256;

/// Something to clean up once nobody needs it.
#[derive(Debug)]
pub(crate) enum Sweep {
    /// A body chunk lost a reference.
    Body(u64),
    /// A stretch of a queue will never be read.
    Abandoned(QueueId, Range<Sequence>),
}

impl Sweep {
    /// What a turn leaves to clean up.
    pub(crate) fn of(turn: &mut Turn) -> Vec<Sweep> {
        let bodies = turn.bodies.drain(..).map(Sweep::Body);
        let abandoned = turn
            .abandoned
            .drain(..)
            .map(|(queue, range)| Sweep::Abandoned(queue, range));
        abandoned.chain(bodies).collect()
    }
}

/// Forgets body chunks without references, and what abandoned stretches of queues hold. `found` is what queues
/// had when the broker opened.
pub(crate) async fn run(
    inner: Arc<Inner>,
    found: Stored,
    mut sweeps: mpsc::UnboundedReceiver<Sweep>,
) {
    let store = inner.committer.store().clone();
    if let Err(error) = sweep_orphans(&inner, &found).await {
        tracing::warn!(%error, "cannot look for bodies without references");
    }
    let mut waiting = Vec::new();
    while sweeps.recv_many(&mut waiting, 1024).await > 0 {
        // Commits are in order: once this one is through, so is every deletion that was reported.
        let settled = inner.committer.commit(Batch::new(), &[]).done.await;
        let mut bodies = FxHashSet::default();
        let mut batch = Batch::new();
        let mut result = settled;
        for sweep in waiting.drain(..) {
            match sweep {
                Sweep::Body(number) => drop(bodies.insert(number)),
                Sweep::Abandoned(queue, range) if result.is_ok() => {
                    result = drop_references(&store, queue, range, &mut batch, &mut bodies).await;
                }
                Sweep::Abandoned(..) => {}
            }
        }
        if result.is_ok() && !batch.is_empty() {
            result = inner.committer.commit(batch, &[]).done.await;
        }
        for number in bodies {
            if result.is_ok() {
                result = forget_body(&inner, number).await;
            }
        }
        if let Err(error) = result {
            tracing::debug!(%error, "sweep left undone until the next start");
        }
    }
}

async fn drop_references(
    store: &Arc<dyn Store>,
    queue: QueueId,
    range: Range<Sequence>,
    batch: &mut Batch,
    bodies: &mut FxHashSet<u64>,
) -> Result<(), StoreError> {
    let dialects = Dialects::new(Vec::new());
    let mut rest = keys::chunk_range(queue, range.start, range.end);
    while !rest.is_empty() {
        let page = store.scan(Table::Messages, rest.clone(), PAGE).await?;
        for (key, value) in page.entries {
            let first =
                keys::chunk_first(&key).ok_or_else(|| StoreError::Corrupt("chunk key".into()))?;
            for reference in messages::decode_chunk(value, &dialects)?
                .iter()
                .filter_map(|stored| stored.body)
            {
                batch.delete(
                    Table::State,
                    keys::body_reference(reference.number, queue, first),
                );
                bodies.insert(reference.number);
            }
            batch.delete(Table::Messages, key);
        }
        match page.next {
            Some(next) => rest.start = next,
            None => break,
        }
    }
    batch.forget(
        Table::Messages,
        keys::chunk_range(queue, range.start, range.end),
    );
    batch.forget(
        Table::State,
        keys::settled_range(queue, range.start, range.end),
    );
    Ok(())
}

async fn forget_body(inner: &Inner, number: u64) -> Result<(), StoreError> {
    let references = inner
        .committer
        .store()
        .scan(Table::State, keys::body_references(number), ONE)
        .await?;
    if !references.entries.is_empty() {
        return Ok(());
    }
    let mut batch = Batch::new();
    batch.delete(Table::Bodies, keys::body_chunk(number));
    batch.forget(
        Table::Bodies,
        keys::body_chunk(number)..keys::body_chunk(number + 1),
    );
    inner.committer.commit(batch, &[]).done.await
}

/// What queues had in the store when the broker opened.
#[derive(Debug, Default)]
pub(crate) struct Stored(pub(crate) FxHashMap<QueueId, QueueCounters>);

impl Stored {
    fn holds(&self, queue: QueueId, first: Sequence) -> bool {
        let lanes = self
            .0
            .get(&queue)
            .into_iter()
            .flat_map(|found| &found.lanes);
        lanes
            .filter(|lane| lane.messages > 0 && (lane.low..lane.next).contains(&first))
            .any(|lane| !lane.purged.iter().any(|range| range.contains(&first.0)))
    }

    /// The sequences of each queue that may still be read, by queue.
    fn ranges(&self) -> Vec<(QueueId, Range<Sequence>)> {
        let mut ranges: Vec<_> = self
            .0
            .iter()
            .flat_map(|(id, found)| found.lanes.iter().map(|lane| (*id, lane)))
            .filter(|(_, lane)| lane.messages > 0)
            .map(|(id, lane)| (id, lane.low..lane.next))
            .collect();
        ranges.sort_unstable_by_key(|(id, range)| (*id, range.start));
        ranges
    }
}

/// A kill leaves body chunks behind that nothing refers to, and references from chunks that are not there.
async fn sweep_orphans(inner: &Inner, found: &Stored) -> Result<(), StoreError> {
    let mut range = Bytes::new()..keys::body_chunk(inner.first_body_chunk());
    while !range.is_empty() {
        // Bodies are large: only their keys matter here, so a few at a time.
        let limit = ScanLimit {
            entries: 64,
            bytes: 1 << 20,
        };
        let store = inner.committer.store();
        let page = store.scan(Table::Bodies, range.clone(), limit).await?;
        for (key, _) in &page.entries {
            if let Some(number) = keys::body_chunk_number(key) {
                drop_dead_references(inner, number, found).await?;
                forget_body(inner, number).await?;
            }
        }
        match page.next {
            Some(next) => range.start = next,
            None => break,
        }
    }
    Ok(())
}

async fn drop_dead_references(
    inner: &Inner,
    number: u64,
    found: &Stored,
) -> Result<(), StoreError> {
    let mut batch = Batch::new();
    let mut range = keys::body_references(number);
    loop {
        let store = inner.committer.store();
        let page = store.scan(Table::State, range.clone(), PAGE).await?;
        for (key, _) in page.entries {
            let (queue, first) = keys::body_referrer(&key)
                .ok_or_else(|| StoreError::Corrupt("key of a body reference".into()))?;
            if !found.holds(queue, first) {
                batch.delete(Table::State, key);
            }
        }
        match page.next {
            Some(next) => range.start = next,
            None => break,
        }
    }
    if batch.is_empty() {
        return Ok(());
    }
    inner.committer.commit(batch, &[]).done.await
}

/// Forgets again what is outside of what queues and partitions read.
pub(crate) async fn forget_leftovers(
    store: &Arc<dyn Store>,
    queues: &Stored,
    partitions: &[((LogId, u32), Bounds)],
    batch: &mut Batch,
) -> Result<(), StoreError> {
    let queues = queues.ranges();
    let chunks = queues
        .iter()
        .map(|(id, range)| keys::chunk_range(*id, range.start, range.end));
    forget_between(store, Table::Messages, everything(), chunks, batch).await?;
    let settled = queues
        .iter()
        .map(|(id, range)| keys::settled_range(*id, range.start, range.end));
    forget_between(store, Table::State, keys::all_settled(), settled, batch).await?;
    let records = partitions.iter().map(|((log, number), bounds)| {
        keys::record_batches(*log, *number, bounds.log_start, bounds.high_watermark)
    });
    forget_between(store, Table::Records, everything(), records, batch).await?;
    let logs = || {
        let mut logs: Vec<_> = partitions.iter().map(|((log, _), _)| *log).collect();
        logs.dedup();
        logs.into_iter()
    };
    let (states, producers, segments, aborted) = (
        logs().map(keys::partition_states),
        logs().map(keys::producers),
        logs().map(keys::log_segments),
        logs().map(keys::log_aborted),
    );
    forget_between(store, Table::State, keys::all_aborted(), aborted, batch).await?;
    forget_between(
        store,
        Table::State,
        keys::all_partition_states(),
        states,
        batch,
    )
    .await?;
    forget_between(store, Table::State, keys::all_producers(), producers, batch).await?;
    forget_between(store, Table::State, keys::all_segments(), segments, batch).await
}

/// Forgets what of `whole` is in none of `kept`, which ascend.
async fn forget_between(
    store: &Arc<dyn Store>,
    table: Table,
    whole: Range<Bytes>,
    kept: impl Iterator<Item = Range<Bytes>>,
    batch: &mut Batch,
) -> Result<(), StoreError> {
    let kept = joined(kept);
    let size = kept.len().div_ceil(PIECES).max(PIECE_MIN);
    let mut pieces = Vec::new();
    let mut start = whole.start;
    for piece in kept.chunks(size) {
        let end = piece.last().map_or(&start, |last| &last.end).clone();
        pieces.push(leftovers(store, table, start..end.clone(), piece));
        start = end;
    }
    pieces.push(leftovers(store, table, start..whole.end, &[]));
    for found in join_all(pieces).await {
        for range in found? {
            batch.forget(table, range);
        }
    }
    Ok(())
}

/// The same ranges, neighbours as one and without empty ones.
fn joined(ranges: impl Iterator<Item = Range<Bytes>>) -> Vec<Range<Bytes>> {
    let mut joined: Vec<Range<Bytes>> = Vec::new();
    for range in ranges.filter(|range| !range.is_empty()) {
        match joined.last_mut() {
            Some(last) if last.end >= range.start => last.end = range.end,
            _ => joined.push(range),
        }
    }
    joined
}

/// Where entries of `whole` are that are in none of `kept`. One look per range that holds something, whatever the
/// number of empty ones.
async fn leftovers(
    store: &Arc<dyn Store>,
    table: Table,
    whole: Range<Bytes>,
    kept: &[Range<Bytes>],
) -> Result<Vec<Range<Bytes>>, StoreError> {
    let mut found = Vec::new();
    let mut kept = kept.iter().peekable();
    let mut from = whole.start;
    while from < whole.end {
        let page = store.scan(table, from..whole.end.clone(), ONE).await?;
        let Some((entry, _)) = page.entries.into_iter().next() else {
            break;
        };
        while kept.next_if(|range| range.end <= entry).is_some() {}
        match kept.peek() {
            Some(range) => {
                if entry < range.start {
                    found.push(entry..range.start.clone());
                }
                from = range.end.clone();
            }
            None => {
                found.push(entry..whole.end);
                break;
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Durability, memory::MemoryStore};

    fn key(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    async fn store_of(keys: &[&'static str]) -> Arc<dyn Store> {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let mut batch = Batch::new();
        for it in keys {
            batch.put(Table::State, key(it), Bytes::new());
        }
        store.commit(batch, Durability::Written).await.unwrap();
        store
    }

    /// What is left of these keys when all but what is in these ranges was forgotten.
    async fn left(keys: &[&'static str], kept: &[(&'static str, &'static str)]) -> Vec<Bytes> {
        let store = store_of(keys).await;
        let mut batch = Batch::new();
        let kept = kept.iter().map(|(start, end)| key(start)..key(end));
        forget_between(&store, Table::State, everything(), kept, &mut batch)
            .await
            .unwrap();
        store.commit(batch, Durability::Written).await.unwrap();
        let page = store.scan(Table::State, everything(), PAGE).await.unwrap();
        page.entries.into_iter().map(|(key, _)| key).collect()
    }

    #[tokio::test]
    async fn what_lies_between_before_and_behind_goes() {
        let keys = ["a", "b1", "b2", "c", "d1", "e", "f"];
        assert_eq!(
            left(&keys, &[("b", "c"), ("d", "e")]).await,
            ["b1", "b2", "d1"]
        );
        assert_eq!(
            left(&keys, &[("b", "c"), ("c", "e")]).await,
            ["b1", "b2", "c", "d1"]
        );
        assert_eq!(
            left(&keys, &[("a", "b"), ("b", "b"), ("f", "g")]).await,
            ["a", "f"]
        );
        assert!(left(&keys, &[]).await.is_empty());
        assert!(left(&[], &[("b", "c")]).await.is_empty());
    }

    /// More ranges than one piece takes, with leftovers on the borders of pieces.
    #[tokio::test]
    async fn pieces_meet_without_a_gap() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let count = (PIECES * PIECE_MIN + 7) as u32;
        let key = |number: u32| Bytes::copy_from_slice(&number.to_be_bytes());
        let mut batch = Batch::new();
        for number in 0..count * 2 {
            batch.put(Table::State, key(number), Bytes::new());
        }
        store.commit(batch, Durability::Written).await.unwrap();
        let mut batch = Batch::new();
        let even = (0..count).map(|number| key(number * 2)..key(number * 2 + 1));
        forget_between(&store, Table::State, everything(), even, &mut batch)
            .await
            .unwrap();
        store.commit(batch, Durability::Written).await.unwrap();
        let (mut range, mut expected) = (everything(), 0);
        loop {
            let page = store.scan(Table::State, range.clone(), PAGE).await.unwrap();
            for (found, _) in page.entries {
                assert_eq!(found, key(expected));
                expected += 2;
            }
            let Some(next) = page.next else { break };
            range.start = next;
        }
        assert_eq!(expected, count * 2);
    }
}
