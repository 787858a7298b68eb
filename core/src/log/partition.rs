//! A partition as its shard sees it: assigns offsets, keeps producers in order, collects what bindings route
//! here, and says at the end of a turn what to store and what readers may see once it is.
//!
//! It runs ahead of the store by the commits in flight; readers see only the [`Tail`], which moves when a
//! commit has resolved.

mod compaction;
mod stored;
mod transactions;
mod upkeep;

use std::{
    collections::{BTreeSet, VecDeque},
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
    store::{Batch, Table, keys},
    time::{Now, Timestamp},
};

pub(crate) use compaction::{Change, Compaction};
pub(crate) use stored::{delete_log, recover};
pub(super) use transactions::AbortedRow;

/// Producers remembered at most; the one that was silent for longest is forgotten for a new one.
const PRODUCERS_MAX: usize = 4096;
/// Collected messages are cut into batches of about this size, so that readers get them in pieces.
const COLLECTED_BYTES_MAX: usize = 256 << 10;

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

    /// The first record that is kept.
    pub fn log_start(&self) -> Offset {
        self.log_start
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
            // An open transaction may have lost its first records.
            last_stable: self.last_stable().max(self.log_start),
            aborted_to: self.aborted_to,
            bytes: self.bytes(),
        }
    }

    /// Bytes of all batches, those that a trim has cut into included.
    fn bytes(&self) -> u64 {
        self.open.bytes + self.full_bytes
    }
}

#[cfg(test)]
mod tests;
