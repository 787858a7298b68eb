//! The committed end of a partition, shared between the shard that appends and the links that read.
//!
//! It knows what may be read (log start to high watermark), keeps the newest batches in memory within bounds,
//! and wakes the readers that wait for more. Its lock is held only to clone `Bytes`, once per batch of records.

use std::{
    collections::VecDeque,
    ops::Range,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use rustc_hash::FxHashMap;
use tokio::sync::Notify;

use super::{convert::names, record::may_have_headers};
use crate::{command::Isolation, event::FetchedBatch, id::Offset};

/// Bytes of batches that one partition keeps at most. Readers at the tail are a few batches behind.
const PARTITION_BYTES_MAX: usize = 2 << 20;

/// Below this a batch is copied into the cache, because a slice keeps the whole buffer that it was read into.
const COPY_BYTES_MAX: usize = 16 << 10;

/// A batch and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogBatch {
    pub base: Offset,
    /// The offset of its last record.
    pub last: Offset,
    /// See [`crate::store::keys::record_flags`].
    pub flags: u8,
    pub bytes: Bytes,
}

impl From<&LogBatch> for FetchedBatch {
    fn from(batch: &LogBatch) -> FetchedBatch {
        FetchedBatch {
            base: batch.base,
            flags: batch.flags,
            bytes: batch.bytes.clone(),
        }
    }
}

/// The memory that all tails of a broker share.
#[derive(Debug)]
pub(crate) struct TailBudget {
    used: AtomicUsize,
    bytes_max: usize,
}

impl TailBudget {
    pub fn new(bytes_max: usize) -> Arc<TailBudget> {
        Arc::new(TailBudget {
            used: AtomicUsize::new(0),
            bytes_max,
        })
    }

    /// Bytes in use.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    fn is_exceeded(&self) -> bool {
        self.used() > self.bytes_max
    }
}

/// The committed end of one partition.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    state: Mutex<State>,
    /// Consumers that read the log from here on as a stream; kept with its first partition.
    consumers: AtomicU32,
    /// Set by the partition's owner before anything is published.
    budget: OnceLock<Arc<TailBudget>>,
}

#[derive(Debug, Default)]
struct State {
    bounds: Bounds,
    tap: Option<Tapped>,
    /// Set while the tap has still to retain what it has passed already: see [`Tail::fill`].
    fill: Option<Offset>,
    closed: bool,
    /// The newest batches, without gaps, up to the high watermark.
    batches: VecDeque<LogBatch>,
    bytes: usize,
    /// Who waits, by the address of what wakes it.
    waiters: FxHashMap<usize, Arc<Notify>>,
}

/// How far the tap is.
#[derive(Clone, Copy, Debug)]
struct Tapped {
    /// All before it was offered, as far as there was anybody to offer it to.
    position: Offset,
    /// The routes by which nobody is reached, so that the position follows the end by itself.
    quiet: Option<u64>,
    /// Records that went before the tap had read them, or could not be read.
    lost: u64,
}

/// Where the tap of a partition is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TapPosition {
    /// The next record that it reads.
    pub position: Offset,
    /// Where it would have read all that is committed.
    pub end: Offset,
    /// Offsets that it could not read, because retention or damage was faster, since the broker was opened.
    pub lost: u64,
}

/// Whether a record in there may ask to be retained: not for sure, and what is compressed may always, where that is
/// heeded (`mq.retain.compressed`).
pub(crate) fn may_retain(batch: &[u8], compressed_too: bool) -> bool {
    match is_compressed(batch) {
        true => compressed_too,
        false => {
            may_have_headers(batch)
                && memchr::memmem::find(batch, names::RETAIN.as_bytes()).is_some()
        }
    }
}

/// Whether the records of a batch are compressed.
pub(crate) fn is_compressed(batch: &[u8]) -> bool {
    const ATTRIBUTES_LOW: usize = 22;
    batch.get(ATTRIBUTES_LOW).is_some_and(|byte| byte & 7 != 0)
}

/// What may be read: from `log_start` up to and without `high_watermark`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub log_start: Offset,
    pub high_watermark: Offset,
    /// Where readers of committed records stop: the first record of a transaction that has not ended, or the end.
    pub last_stable: Offset,
    /// No marker of an abort is here or beyond.
    pub aborted_to: Offset,
    /// Bytes of all batches.
    pub bytes: u64,
}

impl Bounds {
    /// Where readers stop.
    pub fn end(&self, isolation: Isolation) -> Offset {
        match isolation {
            Isolation::Uncommitted => self.high_watermark,
            Isolation::Committed => self.last_stable,
        }
    }
}

/// Where to read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Here they are.
    Cached(Vec<LogBatch>),
    /// In the store, between these offsets.
    Store(Range<Offset>),
    /// Nothing yet: the offset is the next one.
    End,
    /// Removed already, or not there yet.
    OutOfRange,
    /// The log was deleted.
    Closed,
}

impl Tail {
    /// A partition whose records are all in the store.
    #[cfg(test)]
    pub fn new(bounds: Bounds, budget: Arc<TailBudget>) -> Tail {
        let tail = Tail::default();
        tail.lock().bounds = bounds;
        tail.share(budget);
        tail
    }

    /// Shares memory with the other tails of the broker.
    pub fn share(&self, budget: Arc<TailBudget>) {
        // A second budget would be the same one: a tail has one owner.
        let _ = self.budget.set(budget);
    }

    fn budget(&self) -> &TailBudget {
        self.budget.get_or_init(|| TailBudget::new(usize::MAX))
    }

    pub fn bounds(&self) -> Bounds {
        self.lock().bounds
    }

    /// When the first record of the batch was made that holds this offset, in milliseconds, if it is in memory.
    pub fn time_of(&self, offset: Offset) -> Option<u64> {
        let state = self.lock();
        let at = state.batches.partition_point(|batch| batch.last < offset);
        let batch = state.batches.get(at)?.clone();
        drop(state);
        let header = super::parse(&batch.bytes).ok()?;
        (batch.base <= offset).then_some(u64::try_from(header.base_timestamp).ok()?)
    }

    /// How many consumers read it as a stream.
    pub fn consumers(&self) -> u32 {
        self.consumers.load(Ordering::Relaxed)
    }

    /// One more consumer, until the guard is dropped.
    pub fn consume(self: &Arc<Tail>) -> ConsumerGuard {
        self.consumers.fetch_add(1, Ordering::Relaxed);
        ConsumerGuard(self.clone())
    }

    /// Whole batches from the one that holds `from`, about `bytes_max` bytes of them but at least one.
    pub fn read(&self, from: Offset, bytes_max: usize, isolation: Isolation) -> (Source, Bounds) {
        let state = self.lock();
        (state.read(from, bytes_max, isolation), state.bounds)
    }

    /// Where the tap is, if there is one.
    pub fn tap(&self) -> Option<TapPosition> {
        let state = self.lock();
        state.tap.map(|tap| TapPosition {
            position: tap.position,
            end: state.bounds.last_stable,
            lost: tap.lost,
        })
    }

    /// Sets the tap's position, as it will be durable with the next commit; none ends the tap.
    pub fn set_tap(&self, position: Option<Offset>) {
        let mut state = self.lock();
        state.tap = position.map(|position| Tapped {
            position,
            quiet: None,
            lost: state.tap.map_or(0, |tap| tap.lost),
        });
    }

    /// The first record before the tap's position whose value is still to be retained, since the log became the retained
    /// store of its keys (`mq.retain.map`) when that was passed already. None where there is none, or no such store.
    pub fn fill(&self) -> Option<Offset> {
        self.lock().fill
    }

    /// Says what is to be retained.
    pub fn set_fill(&self, from: Option<Offset>) {
        self.lock().fill = from;
    }

    /// Moves it on, unless it was set meanwhile.
    pub fn move_fill(&self, from: Offset, to: Option<Offset>) -> bool {
        let mut state = self.lock();
        let unmoved = state.fill == Some(from);
        if unmoved {
            state.fill = to;
        }
        unmoved
    }

    /// Counts records that the tap will never read.
    pub fn lose(&self, records: u64) {
        if let Some(tap) = &mut self.lock().tap {
            tap.lost += records;
        }
    }

    /// Moves the tap over records that nobody was offered, without a commit. `quiet` is the generation of the routes by
    /// which none ever reaches anybody. Fails where a move that needs a commit is still under way.
    pub fn pass(&self, from: Offset, to: Offset, quiet: Option<u64>) -> bool {
        let mut state = self.lock();
        let at_end = to == state.bounds.high_watermark;
        let Some(tap) = state.tap.as_mut().filter(|tap| tap.position >= from) else {
            return false;
        };
        tap.position = tap.position.max(to);
        tap.quiet = quiet.filter(|_| at_end);
        true
    }

    /// Whether what comes next, if it does not ask to be retained, moves the tap along.
    pub fn is_quiet(&self, generation: u64) -> bool {
        let state = self.lock();
        state.tap.is_some_and(|tap| {
            tap.quiet == Some(generation) && tap.position == state.bounds.last_stable
        })
    }

    /// Makes committed batches readable and wakes who waits for them. Whether the tap has to look at them, of which
    /// some may ask to be retained.
    pub fn commit(
        &self,
        batches: Vec<LogBatch>,
        bounds: Bounds,
        generation: u64,
        retains: bool,
    ) -> bool {
        let is_quiet = !retains && self.is_quiet(generation);
        self.publish(batches, bounds);
        let mut state = self.lock();
        let Some(tap) = &mut state.tap else {
            return false;
        };
        match is_quiet {
            true => tap.position = tap.position.max(bounds.last_stable),
            false => tap.quiet = None,
        }
        !is_quiet && tap.position < bounds.last_stable
    }

    /// Makes committed batches readable and wakes who waits for them.
    pub fn publish(&self, batches: Vec<LogBatch>, bounds: Bounds) {
        let mut state = self.lock();
        debug_assert!(
            bounds.high_watermark >= state.bounds.high_watermark,
            "a commit never takes records back"
        );
        let moved = bounds.high_watermark != state.bounds.high_watermark;
        let before = state.bytes;
        state.bounds = bounds;
        for batch in batches {
            state.push(batch);
        }
        self.budget()
            .used
            .fetch_add(state.bytes.saturating_sub(before), Ordering::Relaxed);
        let before = state.bytes;
        state.evict(self.budget().is_exceeded());
        self.budget()
            .used
            .fetch_sub(before - state.bytes, Ordering::Relaxed);
        if moved {
            state.wake();
        }
    }

    /// Gives the memory back: nothing came for a while, so who reads at the tail has read it.
    pub fn release(&self) {
        self.lock().clear(self.budget());
    }

    /// The log is deleted: readers are told so.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.clear(self.budget());
        state.wake();
    }

    /// Wakes `waiter` whenever there is more, until it is forgotten.
    pub fn watch(&self, waiter: &Arc<Notify>) {
        self.lock().waiters.insert(address(waiter), waiter.clone());
    }

    pub fn forget(&self, waiter: &Arc<Notify>) {
        self.lock().waiters.remove(&address(waiter));
    }

    /// The state is whole after every statement, so a panic elsewhere does not spoil it.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A consumer that reads a log as a stream.
#[derive(Debug)]
pub(crate) struct ConsumerGuard(Arc<Tail>);

impl Drop for ConsumerGuard {
    fn drop(&mut self) {
        self.0.consumers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.release();
    }
}

impl State {
    fn read(&self, from: Offset, bytes_max: usize, isolation: Isolation) -> Source {
        let Bounds {
            log_start,
            high_watermark,
            ..
        } = self.bounds;
        // A transaction begins with a batch, so this is never inside of one.
        let end = self.bounds.end(isolation);
        if self.closed {
            return Source::Closed;
        }
        if from < log_start || from > high_watermark {
            return Source::OutOfRange;
        }
        if from >= end {
            return Source::End;
        }
        match self.batches.front() {
            Some(first) if first.base <= from => Source::Cached(self.cached(from, end, bytes_max)),
            Some(first) => Source::Store(from..first.base.min(end)),
            None => Source::Store(from..end),
        }
    }

    fn cached(&self, from: Offset, end: Offset, bytes_max: usize) -> Vec<LogBatch> {
        let first = self.batches.partition_point(|batch| batch.last < from);
        let mut bytes = 0;
        let fits = |batch: &&LogBatch| {
            let fits = batch.base < end && (bytes == 0 || bytes + batch.bytes.len() <= bytes_max);
            bytes += batch.bytes.len();
            fits
        };
        self.batches
            .range(first..)
            .take_while(fits)
            .cloned()
            .collect()
    }

    fn push(&mut self, mut batch: LogBatch) {
        if batch.bytes.len() < COPY_BYTES_MAX {
            batch.bytes = Bytes::copy_from_slice(&batch.bytes);
        }
        self.bytes += batch.bytes.len();
        self.batches.push_back(batch);
    }

    /// Drops the oldest; the newest batch stays whatever its size, for those who wait for it.
    fn evict(&mut self, budget_exceeded: bool) {
        while self.batches.len() > 1
            && (budget_exceeded || self.bytes > PARTITION_BYTES_MAX || self.is_trimmed())
        {
            let Some(oldest) = self.batches.pop_front() else {
                return;
            };
            self.bytes -= oldest.bytes.len();
        }
    }

    fn is_trimmed(&self) -> bool {
        self.batches
            .front()
            .is_some_and(|batch| batch.last < self.bounds.log_start)
    }

    fn clear(&mut self, budget: &TailBudget) {
        budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
        self.bytes = 0;
        self.batches = VecDeque::new();
    }

    fn wake(&self) {
        for waiter in self.waiters.values() {
            waiter.notify_one();
        }
    }
}

fn address(waiter: &Arc<Notify>) -> usize {
    Arc::as_ptr(waiter) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(base: u64, last: u64, size: usize) -> LogBatch {
        LogBatch {
            base: Offset(base),
            last: Offset(last),
            flags: 0,
            bytes: vec![base as u8; size].into(),
        }
    }

    fn bounds(log_start: u64, high_watermark: u64) -> Bounds {
        Bounds {
            log_start: Offset(log_start),
            high_watermark: Offset(high_watermark),
            last_stable: Offset(high_watermark),
            aborted_to: Offset(0),
            bytes: 0,
        }
    }

    fn tail(budget: &Arc<TailBudget>, start: Bounds) -> Tail {
        Tail::new(start, budget.clone())
    }

    fn bases(source: Source) -> Vec<u64> {
        match source {
            Source::Cached(batches) => batches.iter().map(|batch| batch.base.0).collect(),
            other => panic!("not cached: {other:?}"),
        }
    }

    #[test]
    fn reads_begin_with_the_batch_that_holds_the_offset() {
        let tail = tail(&TailBudget::new(1 << 20), bounds(0, 0));
        tail.publish(
            vec![batch(0, 2, 10), batch(3, 3, 10), batch(4, 9, 10)],
            bounds(0, 10),
        );
        assert_eq!(
            bases(tail.read(Offset(0), 1000, Isolation::Uncommitted).0),
            [0, 3, 4]
        );
        assert_eq!(
            bases(tail.read(Offset(2), 1000, Isolation::Uncommitted).0),
            [0, 3, 4]
        );
        assert_eq!(
            bases(tail.read(Offset(7), 1000, Isolation::Uncommitted).0),
            [4]
        );
        assert_eq!(
            bases(tail.read(Offset(1), 20, Isolation::Uncommitted).0),
            [0, 3]
        );
        assert_eq!(
            bases(tail.read(Offset(1), 0, Isolation::Uncommitted).0),
            [0],
            "at least one"
        );
    }

    #[test]
    fn the_high_watermark_is_the_end_and_what_is_beyond_is_out_of_range() {
        let tail = tail(&TailBudget::new(1 << 20), bounds(5, 10));
        assert_eq!(
            tail.read(Offset(10), 1, Isolation::Uncommitted).0,
            Source::End
        );
        assert_eq!(
            tail.read(Offset(11), 1, Isolation::Uncommitted).0,
            Source::OutOfRange
        );
        assert_eq!(
            tail.read(Offset(4), 1, Isolation::Uncommitted).0,
            Source::OutOfRange
        );
        assert_eq!(
            tail.read(Offset(5), 1, Isolation::Uncommitted).0,
            Source::Store(Offset(5)..Offset(10))
        );
    }

    #[test]
    fn what_was_evicted_is_in_the_store() {
        let budget = TailBudget::new(64 << 20);
        let tail = tail(&budget, bounds(0, 0));
        for n in 0..40 {
            tail.publish(vec![batch(n, n, 100 << 10)], bounds(0, n + 1));
        }
        assert!(budget.used() <= PARTITION_BYTES_MAX);
        assert_eq!(
            tail.read(Offset(3), 1, Isolation::Uncommitted).0,
            Source::Store(Offset(3)..Offset(20))
        );
        assert_eq!(
            bases(tail.read(Offset(39), 1, Isolation::Uncommitted).0),
            [39]
        );
    }

    #[test]
    fn the_budget_is_shared_and_given_back() {
        let budget = TailBudget::new(100);
        let (one, two) = (tail(&budget, bounds(0, 0)), tail(&budget, bounds(0, 0)));
        one.publish(vec![batch(0, 0, 90)], bounds(0, 1));
        two.publish(vec![batch(0, 0, 50), batch(1, 1, 50)], bounds(0, 2));
        assert_eq!(
            bases(two.read(Offset(1), 1, Isolation::Uncommitted).0),
            [1],
            "the newest stays"
        );
        assert_eq!(budget.used(), 140);
        one.release();
        drop(two);
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test]
    async fn a_waiter_is_woken_by_more_and_by_the_end() {
        let tail = tail(&TailBudget::new(100), bounds(0, 0));
        let waiter = Arc::new(Notify::new());
        tail.watch(&waiter);
        tail.publish(vec![batch(0, 0, 1)], bounds(0, 1));
        waiter.notified().await;
        tail.close();
        waiter.notified().await;
        assert_eq!(
            tail.read(Offset(0), 1, Isolation::Uncommitted).0,
            Source::Closed
        );
        tail.forget(&waiter);
        assert_eq!(Arc::strong_count(&waiter), 1);
    }

    /// KIP-98: readers of committed records stop at the first open transaction, in memory and in the store.
    #[test]
    fn committed_readers_stop_at_the_last_stable_offset() {
        let tail = tail(&TailBudget::new(1 << 20), bounds(0, 0));
        let open = Bounds {
            last_stable: Offset(2),
            ..bounds(0, 4)
        };
        tail.publish((0..4).map(|n| batch(n, n, 10)).collect(), open);
        let committed = |from| tail.read(Offset(from), 1000, Isolation::Committed).0;
        assert_eq!(bases(committed(0)), [0, 1]);
        assert_eq!(committed(2), Source::End);
        assert_eq!(committed(4), Source::End);
        assert_eq!(committed(5), Source::OutOfRange);
        assert_eq!(
            bases(tail.read(Offset(1), 1000, Isolation::Uncommitted).0),
            [1, 2, 3]
        );
        tail.release();
        assert_eq!(
            tail.read(Offset(0), 1, Isolation::Committed).0,
            Source::Store(Offset(0)..Offset(2))
        );
    }
}
