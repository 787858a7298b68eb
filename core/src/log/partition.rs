//! A partition as its shard sees it: assigns offsets, keeps producers in order, collects what bindings route
//! here, and says at the end of a turn what to store and what readers may see once it is.
//!
//! It runs ahead of the store by the commits in flight; readers see only the [`Tail`], which moves when a
//! commit has resolved.

mod compaction;
mod transactions;
mod upkeep;

use std::{
    collections::{BTreeSet, VecDeque},
    ops::Range,
    sync::Arc,
};

use bytes::Bytes;
use rustc_hash::{FxHashMap, FxHashSet};

use super::{
    Header,
    builder::Builder,
    convert::NewRecord,
    intake,
    producer::{self, Arrival, Producer},
    segment::Segment,
    settings::Settings,
    tail::{Bounds, LogBatch, Tail, may_retain},
};
use crate::{
    event::Refusal,
    id::{LogId, Offset},
    store::{
        Batch, ScanLimit, Store, StoreError, Table, keys,
        values::{Reader, Writer},
    },
    time::{Now, Timestamp},
};

pub(crate) use compaction::{Change, Compaction};
pub(super) use transactions::AbortedRow;

/// Producers remembered at most; the one that was silent for longest is forgotten for a new one.
const PRODUCERS_MAX: usize = 4096;
/// Collected messages are cut into batches of about this size, so that readers get them in pieces.
const COLLECTED_BYTES_MAX: usize = 256 << 10;
/// Format 1 had no transactions, 2 no compaction.
const FORMAT: u8 = 3;

/// One partition of a log.
#[derive(Debug)]
pub(crate) struct Partition {
    log: LogId,
    number: u32,
    settings: Settings,
    tail: Arc<Tail>,
    next: Offset,
    log_start: Offset,
    /// The next record that the tap reads; `None` where there is no tap.
    tap: Option<Offset>,
    /// The end of the last batch in which a record may ask to be retained.
    retains_to: Offset,
    /// Full segments, oldest first, then the open one.
    segments: VecDeque<Segment>,
    /// Bytes of the full segments.
    full_bytes: u64,
    open: Segment,
    producers: FxHashMap<i64, Producer>,
    /// First records and producers of open transactions.
    open_transactions: BTreeSet<(Offset, i64)>,
    /// No marker of an abort is here or beyond.
    aborted_to: Offset,
    /// Everything before it has been compacted.
    clean_to: Offset,
    /// A compaction is under way, or failed.
    compacting: bool,
    /// When the open segment got its first batch; unknown after a restart.
    opened: Option<Timestamp>,
    /// Messages that wait to become a batch, all of these flags.
    collected: Builder,
    collected_flags: u8,
    turn: Turn,
    last_append: Option<Now>,
    /// When its shard looks at it next.
    upkeep: Option<Timestamp>,
}

/// What happened since the last [`Partition::seal`].
#[derive(Debug, Default)]
struct Turn {
    batches: Vec<LogBatch>,
    /// Rows to write besides those of the batches.
    rows: Batch,
    producers: FxHashSet<i64>,
    dirty: bool,
    /// Stored batches were replaced, so what the tail has of them in memory is not what is stored.
    compacted: bool,
}

/// Where a batch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Appended {
    /// The offset of its first record.
    pub base: Offset,
    pub log_start: Offset,
    /// The broker's time, where that counts.
    pub timestamp: Option<Timestamp>,
    /// It came a second time and was not stored again. What it repeats may be in a commit that is still in
    /// flight, so the answer must wait for that even when this turn writes nothing.
    pub duplicate: bool,
}

/// What readers may see once the commit of a turn has resolved.
#[derive(Debug)]
#[must_use = "readers see nothing until it is published"]
pub(crate) struct Committed {
    tail: Arc<Tail>,
    batches: Vec<LogBatch>,
    bounds: Bounds,
    compacted: bool,
    retains: bool,
}

impl Committed {
    /// Call when the commit has resolved, in the order of the commits. Whether the tap has to look at it, by the
    /// routes of this generation.
    #[must_use = "the tap is to be told"]
    pub fn publish(self, generation: u64) -> bool {
        if self.compacted {
            self.tail.release();
        }
        self.tail
            .commit(self.batches, self.bounds, generation, self.retains)
    }
}

impl Partition {
    /// An empty partition.
    pub fn new(log: LogId, number: u32, settings: Settings, tail: Arc<Tail>) -> Partition {
        Partition {
            log,
            number,
            settings,
            tail,
            next: Offset(0),
            log_start: Offset(0),
            tap: None,
            retains_to: Offset(0),
            segments: VecDeque::new(),
            full_bytes: 0,
            open: Segment::default(),
            producers: FxHashMap::default(),
            open_transactions: BTreeSet::new(),
            aborted_to: Offset(0),
            clean_to: Offset(0),
            compacting: false,
            opened: None,
            collected: Builder::default(),
            collected_flags: 0,
            turn: Turn::default(),
            last_append: None,
            upkeep: None,
        }
    }

    /// The committed end, for readers.
    pub fn tail(&self) -> &Arc<Tail> {
        &self.tail
    }

    /// The next record that the tap reads.
    pub fn tap(&self) -> Option<Offset> {
        let passed = self.tail.tap().map(|tap| tap.position);
        self.tap.map(|tap| passed.map_or(tap, |it| it.max(tap)))
    }

    /// Moves the tap's position, or ends the tap.
    pub fn set_tap(&mut self, tap: Option<Offset>) {
        self.turn.dirty |= self.tap != tap;
        self.tap = tap;
        self.tail.set_tap(tap);
    }

    /// Appends a batch that [`super::validate`] accepted. `transaction` is the coordinator's number of the one
    /// that it is part of, else 0.
    pub fn append(
        &mut self,
        now: Now,
        header: &Header,
        bytes: Bytes,
        transaction: u64,
    ) -> Result<Appended, Refusal> {
        if let Arrival::Duplicate(base) = self.arrival(header, transaction)? {
            return Ok(Appended {
                base,
                log_start: self.log_start,
                timestamp: None,
                duplicate: true,
            });
        }
        let (header, bytes, timestamp) = intake::stamp(header, bytes, &self.settings, now.wall)?;
        self.pack();
        let base = self.next;
        if header.producer_id >= 0 {
            self.note_producer(&header, base, now.wall);
        }
        self.push(
            now,
            0,
            header.last_offset_delta,
            header.max_timestamp,
            bytes,
        );
        Ok(Appended {
            base,
            log_start: self.log_start,
            timestamp,
            duplicate: false,
        })
    }

    fn arrival(&self, header: &Header, transaction: u64) -> Result<Arrival, Refusal> {
        if header.producer_id < 0 {
            return Ok(Arrival::Next);
        }
        let known = self.producers.get(&header.producer_id);
        producer::check(known, header, transaction)
    }

    /// Adds a message as a record to the batch that [`Partition::seal`] makes of this turn's messages.
    /// `captured` says that a binding led it here, so that the tap leaves it out.
    pub fn collect(&mut self, now: Now, record: &NewRecord, captured: bool) {
        let flags = if captured {
            keys::record_flags::CAPTURED
        } else {
            0
        };
        if self.collected_flags != flags || self.collected.bytes() >= COLLECTED_BYTES_MAX {
            self.pack();
        }
        self.collected_flags = flags;
        let timestamp = match record.timestamp {
            Some(timestamp) if !self.settings.log_append_time => timestamp,
            _ => now.wall,
        };
        self.collected.push(
            timestamp.0 as i64,
            record.key.as_deref(),
            record.value.as_deref(),
            &record.headers,
        );
        self.last_append = Some(now);
    }

    /// Turns what was collected into a batch.
    fn pack(&mut self) {
        let Some(last_offset_delta) = self.collected.count().checked_sub(1) else {
            return;
        };
        let Some(now) = self.last_append else { return };
        let max_timestamp = self.collected.max_timestamp();
        let bytes = self.collected.finish();
        self.push(
            now,
            self.collected_flags,
            last_offset_delta,
            max_timestamp,
            bytes,
        );
    }

    fn push(
        &mut self,
        now: Now,
        flags: u8,
        last_offset_delta: u32,
        max_timestamp: i64,
        bytes: Bytes,
    ) {
        let base = self.next;
        let last = Offset(base.0 + u64::from(last_offset_delta));
        self.next = last.next();
        self.last_append = Some(now);
        if self.open.bytes == 0 {
            self.opened = Some(now.wall);
        }
        self.open.add(
            last,
            bytes.len(),
            u64::try_from(max_timestamp).unwrap_or(now.wall.0),
        );
        if self.open.is_full(self.settings.segment_bytes) {
            self.close_segment();
        }
        self.turn.batches.push(LogBatch {
            base,
            last,
            flags,
            bytes,
        });
    }

    fn close_segment(&mut self) {
        let full = std::mem::replace(&mut self.open, Segment::new(self.next));
        self.turn.rows.put(
            Table::State,
            keys::segment(self.log, self.number, full.last),
            full.write(),
        );
        self.full_bytes += full.bytes;
        self.segments.push_back(full);
    }

    fn note_producer(&mut self, header: &Header, base: Offset, now: Timestamp) {
        let id = header.producer_id;
        match self.producers.get_mut(&id) {
            Some(producer) => producer.add(header, base, now),
            None => {
                self.make_room_for_producer();
                self.producers.insert(id, Producer::new(header, base, now));
            }
        }
        if let Some(open) = self.producers.get(&id).and_then(|producer| producer.open) {
            self.open_transactions.insert((open, id));
        }
        self.turn.producers.insert(id);
    }

    fn make_room_for_producer(&mut self) {
        if self.producers.len() < PRODUCERS_MAX {
            return;
        }
        let oldest = self
            .producers
            .iter()
            .filter(|(_, producer)| producer.open.is_none())
            .min_by_key(|(_, producer)| producer.touched)
            .map(|(id, _)| *id);
        if let Some(id) = oldest {
            self.producers.remove(&id);
            self.turn.producers.insert(id);
        }
    }

    /// Removes what is before `to`, which is at most the end. Whole batches go; a reader may still see the
    /// beginning of the batch that holds `to`.
    pub fn trim(&mut self, to: Offset) -> Result<(), Refusal> {
        self.pack();
        if to > self.next {
            return Err(Refusal::OffsetOutOfRange(to));
        }
        if to <= self.log_start {
            return Ok(());
        }
        let rows = &mut self.turn.rows;
        rows.forget(
            Table::Records,
            keys::record_batches(self.log, self.number, self.log_start, to),
        );
        while let Some(segment) = self.segments.front().filter(|segment| segment.last < to) {
            rows.delete(
                Table::State,
                keys::segment(self.log, self.number, segment.last),
            );
            self.full_bytes -= segment.bytes;
            self.segments.pop_front();
        }
        if to == self.next {
            self.open = Segment::new(to);
        }
        rows.forget(
            Table::State,
            keys::aborted_range(self.log, self.number, self.log_start, to),
        );
        self.log_start = to;
        if let Some(tap) = self.tap().filter(|tap| *tap < to) {
            self.tail.lose(to.0 - tap.0);
            self.set_tap(Some(to));
        }
        self.turn.dirty = true;
        Ok(())
    }

    /// Acts on other settings from now on. A tap that begins now offers what comes from now on.
    pub fn change(&mut self, settings: Settings, tapped: bool) {
        self.settings = settings;
        if tapped != self.tap.is_some() {
            self.pack();
            self.set_tap(tapped.then_some(self.next));
        }
    }

    /// As [`Partition::trim`], on behalf of a client (DeleteRecords): up to what every reader may see. Where the
    /// partition now begins.
    pub fn delete_records(&mut self, to: Option<Offset>) -> Result<Offset, Refusal> {
        if !self.settings.delete {
            let text = "Records of partition can not be deleted due to the configured policy";
            return Err(Refusal::NotAllowed(text.into()));
        }
        self.pack();
        self.trim(to.unwrap_or(self.next))?;
        Ok(self.log_start)
    }

    /// Puts what this turn did into `batch`; what it returns is to be published when the commit has resolved.
    /// `generation` is that of the routes.
    pub fn seal(&mut self, batch: &mut Batch, generation: u64) -> Option<Committed> {
        self.pack();
        if !self.has_changed() {
            return None;
        }
        let turn = std::mem::take(&mut self.turn);
        let retains = self.tap.is_some() && self.note_retains(&turn.batches);
        // What nobody hears of needs no commit of its own to be behind the tap.
        let quiet = self.tap.is_some() && self.tail.is_quiet(generation);
        self.tap = match self.tap() {
            Some(tap) if quiet && tap >= self.retains_to => Some(self.last_stable()),
            tap => tap,
        };
        for LogBatch {
            last, flags, bytes, ..
        } in &turn.batches
        {
            batch.put(
                Table::Records,
                keys::record_batch(self.log, self.number, *last, *flags),
                bytes.clone(),
            );
        }
        batch.append(turn.rows);
        for id in turn.producers {
            let key = keys::producer(self.log, self.number, id);
            match self.producers.get(&id) {
                Some(producer) => batch.put(Table::State, key, producer.write()),
                None => batch.delete(Table::State, key),
            }
        }
        batch.put(
            Table::State,
            keys::partition_state(self.log, self.number),
            self.write(),
        );
        Some(Committed {
            tail: self.tail.clone(),
            batches: turn.batches,
            bounds: self.bounds(),
            compacted: turn.compacted,
            retains,
        })
    }

    /// Remembers where the tap has to look for records that ask to be retained.
    fn note_retains(&mut self, batches: &[LogBatch]) -> bool {
        let compressed_too = self.settings.retain_compressed;
        let direct = |it: &&LogBatch| it.flags & keys::record_flags::CAPTURED == 0;
        let mut candidates = batches.iter().rev().filter(direct);
        let Some(batch) = candidates.find(|it| may_retain(&it.bytes, compressed_too)) else {
            return false;
        };
        self.retains_to = batch.last.next();
        true
    }

    /// Shows readers what was restored.
    fn show(&self) {
        self.tail.set_tap(self.tap);
        self.tail.publish(Vec::new(), self.bounds());
    }

    fn bounds(&self) -> Bounds {
        Bounds {
            log_start: self.log_start,
            high_watermark: self.next,
            last_stable: self.last_stable(),
            aborted_to: self.aborted_to,
            bytes: self.bytes(),
        }
    }

    /// Bytes of all batches, those that a trim has cut into included.
    fn bytes(&self) -> u64 {
        self.open.bytes + self.full_bytes
    }

    fn write(&self) -> Bytes {
        let mut writer = Writer::with_capacity(FORMAT, 64);
        writer.varint(self.next.0);
        writer.varint(self.log_start.0);
        writer.option(self.tap, |writer, tap| writer.varint(tap.0));
        self.open.write_fields(&mut writer);
        writer.varint(self.aborted_to.0);
        writer.varint(self.clean_to.0);
        writer.done()
    }

    fn restore(&mut self, value: Bytes) -> Result<(), StoreError> {
        let (format, mut reader) = Reader::versioned(value, FORMAT)?;
        self.next = Offset(reader.varint()?);
        self.log_start = Offset(reader.varint()?);
        self.tap = reader.option(|reader| reader.varint().map(Offset))?;
        self.open = Segment::read_fields(&mut reader)?;
        if format > 1 {
            self.aborted_to = Offset(reader.varint()?);
        }
        if format > 2 {
            self.clean_to = Offset(reader.varint()?);
        }
        Ok(())
    }

    fn restore_segment(&mut self, _last: u64, value: Bytes) -> Result<(), StoreError> {
        let segment = Segment::read(value)?;
        self.full_bytes += segment.bytes;
        self.segments.push_back(segment);
        Ok(())
    }

    fn restore_producer(&mut self, id: u64, value: Bytes) -> Result<(), StoreError> {
        let id = id as i64;
        let producer = Producer::read(value)?;
        self.open_transactions
            .extend(producer.open.map(|open| (open, id)));
        self.producers.insert(id, producer);
        Ok(())
    }
}

/// Removes everything of a log whose partitions' tails were closed.
pub(crate) fn delete_log(log: LogId, batch: &mut Batch) {
    batch.forget(Table::Records, keys::log_records(log));
    for range in [
        keys::partition_states(log),
        keys::producers(log),
        keys::log_segments(log),
        keys::log_aborted(log),
    ] {
        batch.forget(Table::State, range);
    }
}

/// Entries that recovery reads at a time.
const RECOVERY_PAGE: ScanLimit = ScanLimit {
    entries: 4096,
    bytes: 1 << 20,
};

/// Reads the state of the given new partitions from the store. Rows of other partitions are left alone.
pub(crate) async fn recover(
    store: &dyn Store,
    partitions: &mut FxHashMap<(LogId, u32), Partition>,
) -> Result<(), StoreError> {
    type Restore = fn(&mut Partition, u64, Bytes) -> Result<(), StoreError>;
    let kinds: [(Range<Bytes>, Restore); 3] = [
        (keys::all_partition_states(), |partition, _, value| {
            partition.restore(value)
        }),
        (keys::all_segments(), Partition::restore_segment),
        (keys::all_producers(), Partition::restore_producer),
    ];
    for (mut range, restore) in kinds {
        loop {
            let page = store
                .scan(Table::State, range.clone(), RECOVERY_PAGE)
                .await?;
            for (key, value) in page.entries {
                let Some(id) = keys::state_partition(&key) else {
                    return Err(StoreError::Corrupt(
                        "the key of a partition's row is too short".into(),
                    ));
                };
                if let Some(partition) = partitions.get_mut(&id) {
                    restore(
                        partition,
                        keys::state_number(&key).unwrap_or_default(),
                        value,
                    )?;
                }
            }
            match page.next {
                Some(next) => range.start = next,
                None => break,
            }
        }
    }
    for partition in partitions.values() {
        partition.show();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{upkeep::PRODUCER_EXPIRY, *};
    use crate::{
        command::Isolation,
        log::{
            TailBudget,
            batch::tests::{batch, batch_at, produced},
            tail::Source,
            validate,
        },
        store::Write,
    };

    #[expect(clippy::disallowed_methods, reason = "only differences count")]
    fn at(ms: u64) -> Now {
        thread_local!(static START: Instant = Instant::now());
        Now {
            instant: START.with(|start| *start) + Duration::from_millis(ms),
            wall: Timestamp(ms),
        }
    }

    fn partition(settings: Settings) -> Partition {
        let tail = Arc::new(Tail::new(Bounds::default(), TailBudget::new(64 << 20)));
        Partition::new(LogId(1), 0, settings, tail)
    }

    fn append(partition: &mut Partition, bytes: &Bytes) -> Result<Appended, Refusal> {
        partition.append(at(0), &validate(bytes).unwrap(), bytes.clone(), 0)
    }

    fn base(partition: &mut Partition, bytes: &Bytes) -> u64 {
        append(partition, bytes).unwrap().base.0
    }

    /// Ends a turn whose commit succeeds.
    fn turn(partition: &mut Partition) -> Vec<Write> {
        let mut batch = Batch::new();
        if let Some(committed) = partition.seal(&mut batch, 0) {
            let _ = committed.publish(0);
        }
        batch.into_writes()
    }

    /// DESIGN section 3.2: retention does not remove what the tap has still to read, up to a configured lag.
    #[test]
    fn what_the_tap_has_to_read_outlives_retention_for_a_while() {
        let settings = [("retention.ms", "1000"), ("mq.tap.max.lag.ms", "5000")];
        let settings = settings.map(|(name, value)| (name.into(), value.into()));
        let mut partition = partition(Settings::parse(&settings).unwrap());
        partition.set_tap(Some(Offset(0)));
        for _ in 0..3 {
            base(&mut partition, &batch(&["a"]));
            partition.close_segment();
        }
        let _ = turn(&mut partition);
        let written = 1_000;
        partition.set_tap(Some(Offset(1)));
        partition.tick(at(written + 2_000));
        assert_eq!(
            (partition.log_start, partition.tap()),
            (Offset(1), Some(Offset(1)))
        );
        let _ = turn(&mut partition);
        assert_eq!(partition.tail().tap().unwrap().lost, 0);
        partition.tick(at(written + 7_000));
        assert_eq!(
            (partition.log_start, partition.tap()),
            (Offset(3), Some(Offset(3)))
        );
        assert_eq!(partition.tail().tap().unwrap().lost, 2);
    }

    /// A partition whose records nobody hears moves its tap with the batches, but not over one that may retain.
    #[test]
    fn a_quiet_tap_follows_without_rows_of_its_own() {
        let mut partition = partition(Settings::default());
        partition.set_tap(Some(Offset(0)));
        base(&mut partition, &batch(&["a"]));
        let mut sealed = Batch::new();
        let committed = partition.seal(&mut sealed, 7).unwrap();
        assert!(committed.publish(7), "the tap has to look who hears it");
        assert!(partition.tail().pass(Offset(0), Offset(1), Some(7)));
        base(&mut partition, &batch(&["a", "b"]));
        let committed = partition.seal(&mut sealed, 7).unwrap();
        assert_eq!(partition.tap, Some(Offset(3)), "stored with the batch");
        assert!(!committed.publish(7), "nobody is woken");
        assert_eq!(partition.tail().tap().unwrap().position, Offset(3));
        base(&mut partition, &batch(&["a"]));
        let committed = partition.seal(&mut sealed, 8).unwrap();
        assert_eq!(
            partition.tap,
            Some(Offset(3)),
            "by other routes it may be heard"
        );
        assert!(committed.publish(8));
    }

    fn record(value: &'static str) -> NewRecord {
        NewRecord {
            timestamp: None,
            key: None,
            value: Some(value.into()),
            headers: Bytes::from_static(b"\0"),
        }
    }

    /// The partition that a broker finds after these writes.
    fn reopened(writes: &[Write]) -> Partition {
        let mut rows = std::collections::BTreeMap::new();
        for write in writes {
            match write {
                Write::Put(Table::State, key, value) => {
                    drop(rows.insert(key.clone(), value.clone()))
                }
                Write::Delete(Table::State, key) => drop(rows.remove(key)),
                _ => {}
            }
        }
        let mut partition = partition(Settings::default());
        for (key, value) in rows {
            let number = keys::state_number(&key).unwrap_or_default();
            match key[0] {
                b'p' => partition.restore(value).unwrap(),
                b'g' => partition.restore_segment(number, value).unwrap(),
                b'd' => partition.restore_producer(number, value).unwrap(),
                other => panic!("unknown row {other}"),
            }
        }
        partition.show();
        partition
    }

    #[test]
    fn offsets_count_up_and_bytes_are_stored_as_they_came() {
        let mut partition = partition(Settings::default());
        let (one, two) = (batch(&["a", "b"]), batch(&["c"]));
        assert_eq!(base(&mut partition, &one), 0);
        assert_eq!(base(&mut partition, &two), 2);
        assert_eq!(
            partition.tail().bounds(),
            Bounds::default(),
            "nothing is readable before the commit"
        );
        let writes = turn(&mut partition);
        let key = keys::record_batch(LogId(1), 0, Offset(1), 0);
        assert!(writes.contains(&Write::Put(Table::Records, key, one)));
        assert_eq!(partition.tail().bounds().high_watermark, Offset(3));
        assert!(
            turn(&mut partition).is_empty(),
            "a turn without a change writes nothing"
        );
    }

    #[test]
    fn collected_messages_become_one_batch_in_the_order_of_arrival() {
        let mut partition = partition(Settings::default());
        partition.collect(at(5), &record("a"), true);
        partition.collect(at(6), &record("b"), true);
        assert_eq!(base(&mut partition, &batch(&["c"])), 2);
        partition.collect(at(7), &record("d"), false);
        turn(&mut partition);
        let (Source::Cached(batches), _) =
            partition
                .tail()
                .read(Offset(0), usize::MAX, Isolation::Uncommitted)
        else {
            panic!("not cached")
        };
        let found: Vec<_> = batches
            .iter()
            .map(|batch| (batch.base.0, batch.last.0, batch.flags))
            .collect();
        assert_eq!(
            found,
            [(0, 1, keys::record_flags::CAPTURED), (2, 2, 0), (3, 3, 0)]
        );
        let header = validate(&batches[0].bytes).unwrap();
        assert_eq!(
            (header.base_timestamp, header.max_timestamp),
            (5, 6),
            "the broker's clock decides"
        );
    }

    #[test]
    fn a_repeated_batch_is_acknowledged_again_and_not_stored() {
        let mut partition = partition(Settings::default());
        let first = produced(batch(&["a", "b"]), 7, 0, 0);
        let second = produced(batch(&["c"]), 7, 0, 2);
        assert_eq!(base(&mut partition, &first), 0);
        assert_eq!(base(&mut partition, &second), 2);
        let again = append(&mut partition, &first).unwrap();
        assert_eq!((again.base, again.duplicate), (Offset(0), true));
        assert_eq!(partition.next, Offset(3));
    }

    #[test]
    fn a_gap_is_out_of_order_and_so_is_what_is_older_than_five_batches() {
        let mut partition = partition(Settings::default());
        for sequence in 0..6 {
            append(&mut partition, &produced(batch(&["x"]), 7, 0, sequence)).unwrap();
        }
        for sequence in [0, 7, 100] {
            let refused = append(&mut partition, &produced(batch(&["x"]), 7, 0, sequence));
            assert_eq!(refused, Err(Refusal::OutOfOrderSequence), "{sequence}");
        }
        assert_eq!(
            append(&mut partition, &produced(batch(&["x"]), 7, 0, 1))
                .unwrap()
                .base,
            Offset(1)
        );
    }

    #[test]
    fn epochs_fence_and_begin_at_zero() {
        let mut partition = partition(Settings::default());
        append(&mut partition, &produced(batch(&["x"]), 7, 3, 0)).unwrap();
        let mut send =
            |epoch, sequence| append(&mut partition, &produced(batch(&["x"]), 7, epoch, sequence));
        assert_eq!(send(2, 1), Err(Refusal::ProducerFenced));
        assert_eq!(send(4, 1), Err(Refusal::OutOfOrderSequence));
        assert!(send(4, 0).is_ok());
        assert_eq!(send(3, 1), Err(Refusal::ProducerFenced));
    }

    #[test]
    fn an_unknown_producer_may_begin_anywhere_and_sequences_wrap() {
        let mut partition = partition(Settings::default());
        append(
            &mut partition,
            &produced(batch(&["a", "b"]), 7, 0, i32::MAX - 1),
        )
        .unwrap();
        assert!(append(&mut partition, &produced(batch(&["c"]), 7, 0, 0)).is_ok());
        append(
            &mut partition,
            &produced(batch(&["a", "b"]), 8, 0, i32::MAX),
        )
        .unwrap();
        assert!(append(&mut partition, &produced(batch(&["c"]), 8, 0, 1)).is_ok());
    }

    #[test]
    fn state_survives_a_restart() {
        let mut partition = partition(Settings::default());
        let first = produced(batch(&["a"]), 7, 1, 0);
        append(&mut partition, &first).unwrap();
        append(&mut partition, &batch(&["b", "c", "d"])).unwrap();
        partition.trim(Offset(2)).unwrap();
        partition.set_tap(Some(Offset(2)));
        let mut reopened = reopened(&turn(&mut partition));
        assert_eq!(
            reopened.tail().bounds(),
            Bounds {
                log_start: Offset(2),
                high_watermark: Offset(4),
                last_stable: Offset(4),
                aborted_to: Offset(0),
                bytes: partition.bytes(),
            }
        );
        assert_eq!(reopened.tap(), Some(Offset(2)));
        assert!(append(&mut reopened, &first).unwrap().duplicate);
        assert_eq!(base(&mut reopened, &batch(&["e"])), 4);
        assert_eq!(
            reopened.open.bytes,
            partition.open.bytes + batch(&["e"]).len() as u64
        );
    }

    #[test]
    fn producers_are_bounded_and_expire() {
        let mut partition = partition(Settings::default());
        for id in 0..PRODUCERS_MAX as i64 + 10 {
            append(&mut partition, &produced(batch(&["x"]), id, 0, 0)).unwrap();
        }
        assert_eq!(partition.producers.len(), PRODUCERS_MAX);
        let mut writes = turn(&mut partition);
        partition.tick(at(PRODUCER_EXPIRY.as_millis() as u64 + 1));
        writes.extend(turn(&mut partition));
        assert!(partition.producers.is_empty());
        assert!(reopened(&writes).producers.is_empty());
    }

    fn filled(settings: Settings) -> (Partition, Vec<Write>) {
        let mut partition = partition(settings);
        let value = "x".repeat(1 << 20);
        let mut writes = Vec::new();
        for n in 0..64 {
            let bytes = batch_at(1_000 + n, &[&value]);
            partition
                .append(at(0), &validate(&bytes).unwrap(), bytes, 0)
                .unwrap();
            writes.extend(turn(&mut partition));
        }
        (partition, writes)
    }

    #[test]
    fn retention_by_size_removes_whole_segments() {
        let settings = Settings {
            retention_bytes: Some(20 << 20),
            retention: None,
            ..Settings::default()
        };
        let (mut partition, mut writes) = filled(settings);
        assert_eq!(partition.segments.len(), 4);
        partition.tick(at(0));
        writes.extend(turn(&mut partition));
        assert_eq!(
            partition.tail().bounds().log_start,
            Offset(32),
            "what stays is at least the limit"
        );
        assert_eq!(reopened(&writes).segments.len(), 2);
    }

    #[test]
    fn retention_by_age_spares_what_the_tap_has_still_to_read() {
        let settings = Settings {
            retention: Some(Duration::from_millis(500)),
            ..Settings::default()
        };
        let (mut partition, _) = filled(settings);
        partition.set_tap(Some(Offset(20)));
        partition.tick(at(1_000_000));
        assert_eq!(partition.log_start, Offset(16));
        partition.set_tap(Some(Offset(64)));
        partition.tick(at(1_000_000));
        assert_eq!(
            partition.log_start,
            Offset(64),
            "the open segment goes as well"
        );
        turn(&mut partition);
        assert_eq!(
            partition
                .tail()
                .read(Offset(64), 1, Isolation::Uncommitted)
                .0,
            Source::End
        );
    }

    #[test]
    fn trimming_beyond_the_end_is_out_of_range() {
        let mut partition = partition(Settings::default());
        append(&mut partition, &batch(&["a"])).unwrap();
        assert_eq!(
            partition.trim(Offset(2)),
            Err(Refusal::OffsetOutOfRange(Offset(2)))
        );
        partition.trim(Offset(1)).unwrap();
        partition.trim(Offset(0)).unwrap();
        assert_eq!(partition.log_start, Offset(1));
    }
}
