//! A queue that is a view over a log: its messages are the log's records, which stay where they are.
//!
//! What is known of each partition is a [`Window`], the state of a share group, written with the turn's batch. Records
//! are read ahead of the consumers into the queue's one lane, as messages that are never stored, and each has a place.
//! One that is taken from there to be delivered is acquired, and it is done with when it is settled for good.
//!
//! A record that lies behind a window's end and has been read is in the lane, so records that are for nobody are noted as
//! done with when the one behind them is taken: a filter does not make a window long.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::{Budget, Held, Queue, QueueSettings, READ_AHEAD, size};
use crate::{
    catalog::{LogEntry, QueueEntry},
    command::{Isolation, StreamStart},
    dead_letters::Reason,
    event::{CancelReason, Refusal},
    id::{Offset, QueueId, Sequence},
    lag::{LogName, Standpoint},
    log::{Found, Position, Scan, Wanted},
    properties::Text,
    shard::Turn,
    store::{StoreError, Table, keys},
    window::{Acknowledgement, Fate, Window},
};

/// Messages in memory ahead of the consumers below which more are read.
const READY_LOW: usize = 256;

/// Runs of a window beyond which its partition delivers nothing more until some of what is out is settled.
const RUNS_MAX: usize = 4096;

/// What is acquired for consumers of the queue is held by nobody else, whatever members call themselves.
const HOLDER: Text = Text::from_static("");

/// What comes back is available again: how often is the queue's to say.
const BACK: Fate = Fate {
    deliveries_max: u16::MAX,
    has_dead_letters: false,
};

/// A read of the log that a cursor wants.
#[derive(Debug)]
pub(crate) struct CursorRead {
    pub(crate) queue: QueueId,
    epoch: u64,
    pub(crate) scan: Scan,
    pub(crate) from: Vec<(u32, Position)>,
    pub(crate) bytes: usize,
    pub(crate) wait: bool,
}

impl CursorRead {
    /// What it found.
    pub(crate) fn done(&self, found: Result<Vec<Found>, Refusal>) -> CursorLoaded {
        let epoch = self.epoch;
        CursorLoaded { epoch, found }
    }
}

/// What a [`CursorRead`] found.
#[derive(Debug)]
pub(crate) struct CursorLoaded {
    epoch: u64,
    found: Result<Vec<Found>, Refusal>,
}

/// Where a message in memory is in the log.
#[derive(Clone, Copy, Debug)]
struct Place {
    partition: u32,
    offset: Offset,
    /// In the lane, and not taken since it was read.
    fresh: bool,
}

#[derive(Debug)]
struct Partition {
    window: Window,
    /// Where the window begins is still to be found out.
    begin: Option<Position>,
    /// What is to be delivered before this has been read.
    read_to: Offset,
    /// Records in the lane that were not taken since they were read.
    fresh: u32,
    dirty: bool,
}

impl Partition {
    fn new(window: Window) -> Partition {
        Partition {
            read_to: window.start(),
            window,
            begin: None,
            fresh: 0,
            dirty: true,
        }
    }

    fn starting(from: StreamStart, log: &LogEntry, partition: u32) -> Partition {
        let tail = &log.tails[partition as usize];
        match Position::start(from, tail) {
            Position::At(offset) => Partition::new(Window::new(offset)),
            position => Partition {
                begin: Some(position),
                ..Partition::new(Window::new(tail.bounds().log_start))
            },
        }
    }
}

/// What a queue that is a cursor knows besides.
#[derive(Debug)]
pub(crate) struct Cursor {
    scan: Scan,
    partitions: Vec<Partition>,
    places: FxHashMap<Sequence, Place>,
    /// Partitions to be written.
    dirty: Vec<u32>,
    /// Which partition is read first: each in turn.
    turn: usize,
    reading: bool,
    /// What was begun to be read before the cursor was moved is of no use.
    epoch: u64,
    failure: Option<Box<Refusal>>,
    /// Rows were found in the store, so what has none began when the log got it.
    recovered: bool,
}

impl Cursor {
    /// A cursor that begins where it was declared to.
    pub(super) fn new(entry: &QueueEntry) -> Option<Box<Cursor>> {
        let log = entry.source.clone()?;
        let filter = QueueSettings::filter(&entry.spec).map(Arc::new);
        let start = QueueSettings::start(&entry.spec);
        let count = log.tails.len() as u32;
        let partitions = (0..count).map(|number| Partition::starting(start, &log, number));
        Some(Box::new(Cursor {
            partitions: partitions.collect(),
            scan: Scan::new(log, filter.map_or(Wanted::All, Wanted::Messages)),
            places: FxHashMap::default(),
            dirty: (0..count).collect(),
            turn: 0,
            reading: false,
            epoch: 0,
            failure: None,
            recovered: false,
        }))
    }

    /// Takes a row that was found in the store.
    fn restore(&mut self, partition: u32, window: Window) {
        if !std::mem::replace(&mut self.recovered, true) {
            // Those without a row came after the others.
            for partition in self.partitions.iter_mut().filter(|it| it.begin.is_none()) {
                *partition = Partition::new(Window::new(Offset(0)));
            }
        }
        if let Some(found) = self.partitions.get_mut(partition as usize) {
            *found = Partition::new(window);
            found.dirty = false;
            self.dirty.retain(|dirty| *dirty != partition);
        }
    }

    /// The log has changed: it may have more partitions, which are for the cursor from their beginning.
    pub(super) fn change(&mut self, log: &Arc<LogEntry>) {
        for number in self.partitions.len()..log.tails.len() {
            self.partitions.push(Partition::new(Window::new(Offset(0))));
            self.dirty.push(number as u32);
            self.epoch += 1;
            self.reading = false;
        }
        self.scan.log = log.clone();
    }

    fn touch(&mut self, partition: u32) {
        if let Some(found) = self.partitions.get_mut(partition as usize)
            && !std::mem::replace(&mut found.dirty, true)
        {
            self.dirty.push(partition);
        }
    }

    /// Where it is in each partition.
    fn standpoints(&self) -> impl Iterator<Item = Standpoint> {
        let log = &self.scan.log.info.name;
        let partitions = self.partitions.iter().zip(self.scan.log.tails.iter());
        partitions.zip(0..).map(move |((partition, tail), number)| {
            let window = &partition.window;
            Standpoint::Log {
                log: LogName::Name(log.clone()),
                partition: number,
                offset: window.start().max(tail.bounds().log_start),
                ahead: window.looked_at() - window.unfinished(),
            }
        })
    }

    /// Records that could be delivered, those that turn out to be for nobody included.
    pub(super) fn ready(&self) -> u64 {
        let partitions = self.partitions.iter().zip(self.scan.log.tails.iter());
        let ready = partitions.map(|(partition, tail)| {
            let bounds = tail.bounds();
            let from = partition.window.end().max(bounds.log_start);
            let behind = bounds.end(Isolation::Committed).0.saturating_sub(from.0);
            partition.window.available() + behind
        });
        ready.sum()
    }

    /// Whether there is something in the log that was not read.
    pub(super) fn has_unread(&self) -> bool {
        let mut partitions = self.partitions.iter().zip(self.scan.log.tails.iter());
        partitions.any(|(partition, tail)| {
            let end = tail.bounds().end(Isolation::Committed);
            partition.begin.is_some() || partition.read_to < end
        })
    }

    /// Whether so much is scattered in the partition of a message that no more of it is delivered for now.
    pub(super) fn is_scattered(&self, sequence: Sequence) -> bool {
        let place = self.places.get(&sequence);
        let partition = place.and_then(|place| self.partitions.get(place.partition as usize));
        partition.is_some_and(|partition| partition.window.runs() > RUNS_MAX)
    }

    /// A message leaves the lane, or those that came back, for a consumer or because it dies.
    pub(super) fn take(&mut self, sequence: Sequence) {
        let Some(place) = self.places.get_mut(&sequence) else {
            return;
        };
        let was_fresh = std::mem::take(&mut place.fresh);
        let (number, offset) = (place.partition, place.offset);
        let Some(partition) = self.partitions.get_mut(number as usize) else {
            return;
        };
        let window = &mut partition.window;
        if offset > window.end() {
            window.skip(window.end().0..=offset.0 - 1);
        }
        window.acquire(offset.0..=offset.0, 1, true, &HOLDER, None);
        partition.fresh -= u32::from(was_fresh);
        partition.skip_unwanted();
        self.touch(number);
    }

    /// A message is settled for good.
    pub(super) fn finish(&mut self, sequence: Sequence) {
        self.decide(sequence, Acknowledgement::Accept);
        self.places.remove(&sequence);
    }

    /// A message comes back.
    pub(super) fn release(&mut self, sequence: Sequence) {
        self.decide(sequence, Acknowledgement::Release);
    }

    fn decide(&mut self, sequence: Sequence, acknowledgement: Acknowledgement) {
        let Some(place) = self.places.get(&sequence).copied() else {
            return;
        };
        let range = place.offset.0..=place.offset.0;
        if let Some(partition) = self.partitions.get_mut(place.partition as usize)
            && partition.window.holds(&range, &HOLDER)
        {
            partition
                .window
                .acknowledge(range, acknowledgement, None, BACK);
            self.touch(place.partition);
        }
    }

    /// Asks for more of the log; `wanted` says that somebody takes messages.
    fn read(&mut self, queue: QueueId, wanted: bool, turn: &mut Turn) {
        let unresolved = self.partitions.iter().any(|it| it.begin.is_some());
        if self.reading || self.failure.is_some() || !(wanted || unresolved) {
            return;
        }
        let count = self.partitions.len();
        self.turn = (self.turn + 1) % count.max(1);
        let position = |number: usize| {
            let partition = &self.partitions[number];
            let at = partition.begin.unwrap_or(Position::At(partition.read_to));
            (number as u32, at)
        };
        let from = (0..count).map(|at| position((at + self.turn) % count));
        self.reading = true;
        turn.cursor_reads.push(CursorRead {
            queue,
            epoch: self.epoch,
            scan: self.scan.clone(),
            from: from.collect(),
            bytes: if wanted { READ_AHEAD } else { 0 },
            wait: !unresolved,
        });
    }

    /// Takes what was found in a partition; how many records nobody has got before they went.
    fn arrange(&mut self, found: &Found) -> u64 {
        let Some(partition) = self.partitions.get_mut(found.partition as usize) else {
            return 0;
        };
        let number = found.partition;
        let mut changed = false;
        if partition.begin.take().is_some() {
            let fresh = Partition::new(Window::new(found.from));
            *partition = Partition {
                dirty: partition.dirty,
                ..fresh
            };
            changed = true;
        }
        let mut lost = 0;
        if found.log_start > partition.window.start() {
            lost = partition.trim(number, found.log_start, &self.places);
            changed = true;
        }
        // What is not there between records that were looked at before.
        let mut expected = found.from.max(partition.window.start());
        let end = partition.window.end();
        let offsets = found.records.iter().map(|it| it.offset);
        for offset in offsets.chain([found.next]) {
            let gap = expected.0..offset.min(end).0;
            if !gap.is_empty() {
                partition.window.skip(gap.start..=gap.end - 1);
                changed = true;
            }
            expected = expected.max(Offset(offset.0 + 1));
        }
        partition.read_to = partition.read_to.max(found.next);
        if changed {
            self.touch(number);
        }
        lost
    }

    /// What is read of a partition and not for the cursor is done with, once all before it has been taken.
    fn arranged(&mut self, number: u32) {
        if let Some(partition) = self.partitions.get_mut(number as usize)
            && partition.skip_unwanted()
        {
            self.touch(number);
        }
    }

    /// How often a record was delivered that the cursor can deliver.
    fn deliveries(&self, partition: u32, offset: Offset) -> Option<u16> {
        let window = &self.partitions.get(partition as usize)?.window;
        match offset >= window.end() {
            true => Some(0),
            false => window.is_available(offset),
        }
    }

    /// Everything that could be delivered is done with; how many records that were.
    fn purge(&mut self) -> u64 {
        let mut count = 0;
        for (number, tail) in self.scan.log.tails.clone().iter().enumerate() {
            let end = tail.bounds().end(Isolation::Committed);
            let partition = &mut self.partitions[number];
            count += partition.window.finish(end);
            partition.begin = None;
            partition.read_to = partition.read_to.max(end);
            partition.fresh = 0;
            self.touch(number as u32);
        }
        self.moved();
        count
    }

    /// Begins anew at these offsets. What is with consumers is not the cursor's any more.
    fn reset(&mut self, offsets: &[(u32, Offset)]) {
        for (number, offset) in offsets {
            if let Some(partition) = self.partitions.get_mut(*number as usize) {
                let dirty = partition.dirty;
                *partition = Partition::new(Window::new(*offset));
                partition.dirty = dirty;
                self.places.retain(|_, place| place.partition != *number);
                self.touch(*number);
            }
        }
        self.moved();
    }

    /// Tries again what has failed; a log that has gone does not come back.
    pub(super) fn read_again(&mut self) {
        let gone = |failure: &mut Box<Refusal>| matches!(**failure, Refusal::NotFound { .. });
        self.failure.take_if(|failure| !gone(failure));
    }

    fn moved(&mut self) {
        self.epoch += 1;
        self.reading = false;
        self.failure = None;
    }

    fn seal(&mut self, queue: QueueId, turn: &mut Turn) {
        for number in std::mem::take(&mut self.dirty) {
            let Some(partition) = self.partitions.get_mut(number as usize) else {
                continue;
            };
            partition.dirty = false;
            if partition.begin.is_none() {
                let (key, row) = (keys::cursor(queue, number), partition.window.write());
                turn.batch.put(Table::State, key, row);
            }
        }
    }
}

impl Partition {
    fn skip_unwanted(&mut self) -> bool {
        let end = self.window.end();
        let behind = self.fresh == 0 && self.read_to > end && self.begin.is_none();
        if behind {
            self.window.skip(end.0..=self.read_to.0 - 1);
        }
        behind
    }

    /// The log begins later now. What is in memory is delivered all the same.
    fn trim(&mut self, number: u32, to: Offset, places: &FxHashMap<Sequence, Place>) -> u64 {
        let end = self.window.end();
        let waits = |place: &&Place| {
            let offset = place.offset;
            let open = offset >= end || self.window.is_available(offset).is_some();
            place.partition == number && offset < to && open
        };
        let in_memory = places.values().filter(waits).count() as u64;
        self.read_to = self.read_to.max(to);
        self.window.trim(to).saturating_sub(in_memory)
    }
}

impl Queue {
    /// Where it is in each partition, if it is a cursor.
    pub(crate) fn cursor_standpoints(&self) -> impl Iterator<Item = Standpoint> {
        self.cursor.iter().flat_map(|cursor| cursor.standpoints())
    }

    /// What the store has of a cursor's partition.
    pub(crate) fn restore_cursor(
        &mut self,
        partition: u32,
        row: bytes::Bytes,
    ) -> Result<bool, StoreError> {
        let Some(cursor) = &mut self.cursor else {
            return Ok(false);
        };
        cursor.restore(partition, Window::read(row)?);
        Ok(true)
    }

    /// Asks for more of the log where that is wanted.
    pub(super) fn read_log(&mut self, wanted: bool, budget: &Budget, turn: &mut Turn) {
        let in_memory = self.lanes.first().map_or(0, |lane| lane.ready.len());
        let has_room =
            in_memory == 0 || (in_memory < READY_LOW && budget.used + READ_AHEAD <= budget.limit);
        if let Some(cursor) = &mut self.cursor {
            cursor.read(self.entry.id, wanted && has_room, turn);
        }
    }

    /// Takes what a read of the log found.
    pub(crate) fn log_loaded(
        &mut self,
        loaded: CursorLoaded,
        budget: &mut Budget,
        turn: &mut Turn,
    ) {
        let Some(cursor) = &mut self.cursor else {
            return;
        };
        if cursor.epoch != loaded.epoch {
            return;
        }
        cursor.reading = false;
        match loaded.found {
            Ok(found) => {
                for found in found {
                    self.take_records(found, budget, turn);
                }
            }
            // The log has been deleted, and the queue goes with it.
            Err(refusal @ Refusal::NotFound { .. }) => cursor.failure = Some(Box::new(refusal)),
            Err(refusal) => {
                tracing::error!(queue = %self.entry.name, %refusal, "a cursor cannot read its log");
                cursor.failure = Some(Box::new(refusal));
            }
        }
    }

    fn take_records(&mut self, found: Found, budget: &mut Budget, turn: &mut Turn) {
        let Some(cursor) = &mut self.cursor else {
            return;
        };
        let lost = cursor.arrange(&found);
        if lost > 0 {
            turn.count.lost += lost;
            let (queue, partition) = (&self.entry.name, found.partition);
            tracing::warn!(%queue, partition, lost, "retention has overtaken a cursor");
        }
        turn.count.lost += found.damaged;
        let number = found.partition;
        for record in found.records {
            let Some(cursor) = &mut self.cursor else {
                return;
            };
            let Some(returns) = cursor.deliveries(number, record.offset) else {
                continue;
            };
            let lane = &mut self.lanes[0];
            let sequence = lane.next_sequence(false);
            let place = Place {
                partition: number,
                offset: record.offset,
                fresh: true,
            };
            cursor.places.insert(sequence, place);
            cursor.partitions[number as usize].fresh += 1;
            let held = Held {
                sequence,
                accepted: record.time,
                tags: Default::default(),
                body: None,
                returns,
                failures: returns,
                redelivered: returns > 0,
                durable: false,
                stored: false,
                fleeting: false,
                size: size(&record.message),
                message: record.message,
            };
            self.timed |= held.message.expiry_ms.is_some();
            self.hold(held.size, budget);
            let limit = self.entry.settings.delivery_limit;
            if limit.is_some_and(|limit| u32::from(returns) > limit) {
                self.take_from_log(sequence);
                self.bury(held, Reason::DeliveryLimit, budget, turn);
                continue;
            }
            self.ready.add(&held.message);
            self.lanes[0].append(held, true);
        }
        if let Some(cursor) = &mut self.cursor {
            cursor.arranged(number);
        }
    }

    /// Whether a message is of before the cursor was moved: what becomes of it does not matter any more.
    pub(super) fn is_moved(&self, held: &Held) -> bool {
        let cursor = self.cursor.as_ref();
        cursor.is_some_and(|cursor| !cursor.places.contains_key(&held.sequence))
    }

    pub(super) fn take_from_log(&mut self, sequence: Sequence) {
        if let Some(cursor) = &mut self.cursor {
            cursor.take(sequence);
        }
    }

    /// Tells those who wait for a log that cannot be read. It is read again for whoever comes next.
    pub(super) fn give_up_log(&mut self, turn: &mut Turn) {
        let failure = self.cursor.as_mut().filter(|_| self.ready.messages == 0);
        let failure = failure.and_then(|cursor| cursor.failure.take());
        let Some(failure) = failure else { return };
        self.refuse_gets(&failure, turn);
        if matches!(*failure, Refusal::NotFound { .. }) {
            // Consumers hear of it when the queue goes.
            self.cursor.as_mut().expect("it has failed").failure = Some(failure);
            return;
        }
        self.cancel_all(CancelReason::Unreadable, turn);
        self.idle_since = Some(turn.now.wall);
    }

    /// Drops what could be delivered; how many records.
    pub(super) fn purge_log(&mut self, budget: &mut Budget) -> u64 {
        let count = self.cursor.as_mut().map_or(0, |cursor| cursor.purge());
        self.drop_ready(budget);
        count
    }

    /// Has a cursor begin anew at these offsets of its partitions.
    pub(crate) fn reset(&mut self, offsets: &[(u32, Offset)], budget: &mut Budget) {
        if let Some(cursor) = &mut self.cursor {
            cursor.reset(offsets);
            self.drop_ready(budget);
        }
    }

    /// Forgets what is in memory and with nobody.
    fn drop_ready(&mut self, budget: &mut Budget) {
        while let Some(front) = self.front() {
            let held = match front {
                super::Front::Returned => self.returned.pop_first().map(|(_, held)| held),
                super::Front::Lane(at) => self.lanes[at].ready.pop_front(),
            };
            let Some(held) = held else { break };
            self.ready.remove(&held.message);
            self.release(held.size, budget);
            if let Some(cursor) = &mut self.cursor {
                cursor.places.remove(&held.sequence);
            }
        }
    }

    pub(super) fn seal_cursor(&mut self, turn: &mut Turn) {
        if let Some(cursor) = &mut self.cursor {
            cursor.seal(self.entry.id, turn);
        }
    }

    pub(super) fn remove_cursor(&mut self, turn: &mut Turn) {
        if let Some(cursor) = self.cursor.take() {
            for number in 0..cursor.partitions.len() as u32 {
                let key = keys::cursor(self.entry.id, number);
                turn.batch.delete(Table::State, key);
            }
        }
    }
}
