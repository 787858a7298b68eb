//! A lane of a queue: messages of one priority in order, as many in memory as there is room for, the rest in the store.
//!
//! A lane's sequences share their first byte, and that of a higher priority is smaller: so the order of sequences
//! is the order of delivery over all lanes, also in the store. A queue without priorities has one lane.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Range,
};

use smallvec::SmallVec;

use super::{
    Held, Loaded, LoadedChunk, Read, Session, Tally,
    chunks::{Chunk, Chunks},
    size,
};
use crate::{
    event::Refusal,
    id::{QueueId, Sequence},
    shard::Turn,
    store::{
        Table, keys,
        messages::{self, Comeback, Counters, Progress, Stored},
    },
    time::Timestamp,
};

/// Where the byte of a sequence is that says which lane it belongs to.
const LANE_SHIFT: u32 = 56;

/// Messages in memory ahead of the consumers below which more are read.
const READY_LOW: usize = 256;

/// The first sequence of the lane of a priority.
pub(super) fn lane_start(priority: u8) -> Sequence {
    Sequence(u64::from(u8::MAX - priority) << LANE_SHIFT)
}

/// The first sequence of the lane that a message is in.
pub(super) fn lane_of(sequence: Sequence) -> Sequence {
    Sequence(sequence.0 >> LANE_SHIFT << LANE_SHIFT)
}

/// A stretch of messages that are in the store only.
#[derive(Debug)]
pub(super) struct Backlog {
    pub(super) range: Range<Sequence>,
    /// What is believed to be in it.
    pub(super) tally: Tally,
    pub(super) reading: bool,
    /// Why its beginning could not be read.
    pub(super) failure: Option<Box<Refusal>>,
}

impl Backlog {
    fn new(range: Range<Sequence>, tally: Tally) -> Box<Backlog> {
        Box::new(Backlog {
            range,
            tally,
            reading: false,
            failure: None,
        })
    }
}

/// What came into memory from the store.
#[derive(Debug, Default)]
pub(super) struct Gain {
    /// Bytes of memory.
    pub(super) size: usize,
    /// What is ready in memory that was not before.
    pub(super) found: Tally,
    /// What it was believed to be.
    pub(super) expected: Tally,
    /// What came into memory and has still to wait, by when it is due.
    pub(super) delayed: Vec<(Timestamp, Held)>,
    /// What had to wait when the broker stopped, over or not.
    pub(super) was_delayed: Tally,
}

/// Messages of one priority.
pub(super) struct Lane {
    queue: QueueId,
    /// The first sequence of all.
    pub(super) start: Sequence,
    pub(super) next: Sequence,
    /// Messages from here on came in this turn.
    pub(super) fresh_from: Sequence,
    pub(super) ready: VecDeque<Held>,
    pub(super) backlog: Option<Box<Backlog>>,
    /// To be written at the end of the turn, unless settled by then; with whether it stays in memory.
    pending: Vec<(Held, bool)>,
    /// Those of them that have to wait for their next delivery, with when it is due.
    pending_delays: BTreeMap<Sequence, Timestamp>,
    chunks: Chunks,
    /// Durable messages that are not settled.
    pub(super) durable: Tally,
    /// Messages that are in the store only for want of memory and below this sequence died with an earlier process.
    recovered_to: Sequence,
    purged: Vec<Range<u64>>,
}

impl Lane {
    /// An empty lane.
    pub(super) fn new(queue: QueueId, start: Sequence) -> Lane {
        let (next, low) = (start, start);
        Lane::recovered(
            queue,
            Counters {
                next,
                low,
                ..Counters::default()
            },
        )
    }

    /// A lane as the store has it.
    pub(super) fn recovered(queue: QueueId, counters: Counters) -> Lane {
        let durable = Tally {
            messages: counters.messages,
            bytes: counters.bytes,
        };
        let stored = counters.low..counters.next;
        Lane {
            queue,
            start: lane_of(counters.low),
            next: counters.next,
            fresh_from: counters.next,
            ready: VecDeque::new(),
            backlog: (durable.messages > 0).then(|| Backlog::new(stored, durable)),
            pending: Vec::new(),
            pending_delays: BTreeMap::new(),
            chunks: Chunks::recovered(counters.low),
            durable,
            recovered_to: counters.next,
            purged: counters.purged,
        }
    }

    /// The sequence of a message that comes now. What is never settled needs no place of its own, and sequences of
    /// sessions become packet identifiers.
    pub(super) fn next_sequence(&mut self, fleeting: bool) -> Sequence {
        let sequence = self.next;
        if !fleeting {
            self.next = sequence.next();
        }
        sequence
    }

    /// Goes on at `next` at the earliest.
    pub(super) fn skip_to(&mut self, next: Sequence) {
        self.next = self.next.max(next);
        self.fresh_from = self.next;
    }

    /// Takes a message at the end.
    pub(super) fn append(&mut self, mut held: Held, in_memory: bool) {
        if held.durable {
            self.durable.add(&held.message);
        }
        held.stored = held.durable || !in_memory;
        if held.stored {
            self.pending.push((held.clone(), in_memory));
        }
        if in_memory {
            self.ready.push_back(held);
            return;
        }
        let sequence = held.sequence;
        let backlog = self
            .backlog
            .get_or_insert_with(|| Backlog::new(sequence..sequence, Tally::default()));
        backlog.range.end = sequence.next();
        backlog.tally.add(&held.message);
    }

    /// The message at the front of the lane, or where its backlog begins if that has to be read first.
    pub(super) fn front(&self) -> Option<Result<&Held, Sequence>> {
        match (self.ready.front(), &self.backlog) {
            (Some(held), _) => Some(Ok(held)),
            (None, Some(backlog)) => Some(Err(backlog.range.start)),
            (None, None) => None,
        }
    }

    /// Asks for more of the backlog when the window runs low.
    pub(super) fn read_ahead(&mut self, bytes: usize, turn: &mut Turn) {
        if let Some(backlog) = &mut self.backlog
            && !backlog.reading
            && backlog.failure.is_none()
            && self.ready.len() < READY_LOW
        {
            backlog.reading = true;
            turn.reads.push(Read {
                queue: self.queue,
                range: backlog.range.clone(),
                bytes,
            });
        }
    }

    /// Takes what a [`Read`] found.
    pub(super) fn loaded(
        &mut self,
        loaded: Loaded,
        session: Option<&Session>,
        now: Timestamp,
    ) -> Gain {
        let mut gain = Gain::default();
        // Another backlog may have begun since the one that was read was purged.
        let Some(backlog) = self
            .backlog
            .as_mut()
            .filter(|backlog| backlog.reading && backlog.range.start == loaded.from)
        else {
            return gain;
        };
        backlog.reading = false;
        let (chunks, read_to) = match loaded.found {
            Ok(found) => found,
            Err(refusal) => {
                backlog.failure = Some(Box::new(refusal));
                return gain;
            }
        };
        backlog.range.start = read_to;
        for chunk in chunks {
            if !self
                .purged
                .iter()
                .any(|range| range.contains(&chunk.first.0))
            {
                self.load(chunk, session, now, &mut gain);
            }
        }
        if let Some(backlog) = &mut self.backlog {
            let mut seen = gain.found;
            gain.delayed
                .iter()
                .for_each(|(_, held)| seen.add(&held.message));
            gain.expected = if backlog.range.is_empty() {
                // Whatever the counters said: nothing else is there.
                backlog.tally
            } else {
                backlog.tally.min(seen)
            };
            backlog.tally.subtract(gain.expected);
        }
        self.backlog.take_if(|backlog| backlog.range.is_empty());
        gain
    }

    fn load(
        &mut self,
        loaded: LoadedChunk,
        session: Option<&Session>,
        now: Timestamp,
        gain: &mut Gain,
    ) {
        let Some(last) = loaded.messages.last().map(|stored| stored.sequence) else {
            return;
        };
        let has_row = loaded.progress != Progress::default();
        let Progress { settled, returns } = loaded.progress;
        let mut chunk = Chunk {
            first: loaded.first,
            last,
            remaining: loaded.messages.len() as u32,
            bodies: bodies_of(loaded.messages.iter().filter_map(|stored| stored.body)),
            bytes: loaded.bytes,
            has_row,
            settled,
            returns,
            dirty: false,
        };
        let mut lost = Vec::new();
        let mut due = Vec::new();
        for stored in loaded.messages {
            let sequence = stored.sequence;
            if chunk.settled.iter().any(|run| run.contains(&sequence.0)) {
                chunk.remaining -= 1;
                continue;
            }
            if !stored.durable && sequence < self.recovered_to {
                lost.push(sequence);
                continue;
            }
            let comeback = chunk.returns_of(sequence);
            let held = Held {
                sequence,
                size: size(&stored.message),
                message: stored.message,
                accepted: stored.accepted,
                tags: stored.tags,
                body: None,
                returns: comeback.count,
                failures: comeback.failures,
                redelivered: match session {
                    Some(session) => session.was_sent(sequence),
                    None => sequence < self.recovered_to,
                },
                durable: stored.durable,
                stored: true,
                fleeting: false,
            };
            gain.size += held.size;
            if comeback.due != Timestamp::default() {
                gain.was_delayed.add(&held.message);
                if comeback.due > now {
                    gain.delayed.push((comeback.due, held));
                    continue;
                }
                due.push(held.clone());
            }
            gain.found.add(&held.message);
            self.ready.push_back(held);
        }
        self.chunks.add(chunk);
        for sequence in lost {
            self.chunks.settle(sequence);
        }
        for held in due {
            self.note_return(&held, None);
        }
    }

    /// A message is settled for good. True if the store has to hear of it.
    pub(super) fn forget(&mut self, held: &Held) -> bool {
        if held.durable {
            self.durable.remove(&held.message);
        }
        if !held.stored {
            return false;
        }
        match self
            .pending
            .binary_search_by_key(&held.sequence, |(pending, _)| pending.sequence)
        {
            Ok(at) => self.pending[at].0.stored = false,
            Err(_) => self.chunks.settle(held.sequence),
        }
        true
    }

    /// A message came back, and that counts; or it need not wait any more. `due` is until when it has to.
    pub(super) fn note_return(&mut self, held: &Held, due: Option<Timestamp>) {
        if !held.durable {
            return;
        }
        match self
            .pending
            .binary_search_by_key(&held.sequence, |(pending, _)| pending.sequence)
        {
            Ok(at) => {
                let pending = &mut self.pending[at].0;
                (pending.returns, pending.failures) = (held.returns, held.failures);
                match due {
                    Some(due) => self.pending_delays.insert(held.sequence, due),
                    None => self.pending_delays.remove(&held.sequence),
                };
            }
            Err(_) => self
                .chunks
                .returned(held.sequence, comeback(held, due.unwrap_or_default())),
        }
    }

    /// Drops the backlog; what is durable elsewhere in the lane is `left`. True if there was one.
    pub(super) fn purge_backlog(&mut self, left: Tally, turn: &mut Turn) -> bool {
        let Some(backlog) = self.backlog.take() else {
            return false;
        };
        self.pending.retain(|(_, in_memory)| *in_memory);
        self.durable = left;
        self.purged.push(backlog.range.start.0..backlog.range.end.0);
        self.chunks.abandon(backlog.range.clone());
        turn.abandoned.push((self.queue, backlog.range));
        true
    }

    /// Drops everything, because the queue goes.
    pub(super) fn remove(&mut self, turn: &mut Turn) {
        if let Some(backlog) = self.backlog.take() {
            self.chunks.abandon(backlog.range.clone());
            turn.abandoned.push((self.queue, backlog.range));
        }
        self.chunks.clear(self.queue, self.start..self.next, turn);
    }

    /// Writes what the turn left behind. True if something new was written.
    pub(super) fn seal(&mut self, turn: &mut Turn) -> bool {
        self.fresh_from = self.next;
        let wrote = !self.pending.is_empty();
        if wrote {
            let mut pending = std::mem::take(&mut self.pending);
            let split = pending.partition_point(|(_, in_memory)| *in_memory);
            self.write_chunk(&pending[..split], true, turn);
            self.write_chunk(&pending[split..], false, turn);
            pending.clear();
            self.pending = pending;
            self.pending_delays.clear();
        }
        self.chunks.seal(self.queue, self.end_of_memory(), turn);
        wrote
    }

    /// What the lane must know when the store is opened again.
    pub(super) fn counters(&mut self) -> Counters {
        let low = self.chunks.low().unwrap_or(self.end_of_memory());
        self.purged.retain(|range| range.end > low.0);
        Counters {
            next: self.next,
            low,
            messages: self.durable.messages,
            bytes: self.durable.bytes,
            purged: self.purged.clone(),
        }
    }

    fn end_of_memory(&self) -> Sequence {
        self.backlog
            .as_ref()
            .map_or(self.next, |backlog| backlog.range.start)
    }

    fn write_chunk(&mut self, pending: &[(Held, bool)], in_memory: bool, turn: &mut Turn) {
        let messages: Vec<Stored> = pending
            .iter()
            .filter(|(held, _)| held.stored)
            .map(|(held, _)| held.to_stored())
            .collect();
        let (Some(first), Some(last)) = (messages.first(), messages.last()) else {
            return;
        };
        let (first, last, id) = (first.sequence, last.sequence, self.queue);
        let size = messages
            .iter()
            .map(|stored| stored.message.size() + 48)
            .sum();
        let value = messages::encode_chunk(messages.iter(), size);
        let bodies = bodies_of(messages.iter().filter_map(|stored| stored.body));
        for &number in &bodies {
            turn.batch.put(
                Table::State,
                keys::body_reference(number, id, first),
                &b""[..],
            );
        }
        for (chunk, _) in pending
            .iter()
            .filter(|(held, _)| held.stored)
            .filter_map(|(held, _)| held.body.as_ref())
        {
            chunk.write(&mut turn.batch);
        }
        if in_memory {
            let (remaining, bytes) = (messages.len() as u32, value.len());
            let settled = Vec::new();
            let returns = BTreeMap::new();
            self.chunks.add(Chunk {
                first,
                last,
                remaining,
                settled,
                returns,
                bodies,
                bytes,
                has_row: false,
                dirty: false,
            });
            for (held, _) in pending
                .iter()
                .filter(|(held, _)| held.stored && held.returns > 0)
            {
                let due = self.pending_delays.get(&held.sequence);
                self.chunks.returned(
                    held.sequence,
                    comeback(held, due.copied().unwrap_or_default()),
                );
            }
        }
        turn.batch
            .put(Table::Messages, keys::chunk(id, first), value);
    }
}

fn comeback(held: &Held, due: Timestamp) -> Comeback {
    Comeback {
        count: held.returns,
        failures: held.failures,
        due,
    }
}

fn bodies_of(references: impl Iterator<Item = messages::BodyReference>) -> SmallVec<[u64; 1]> {
    let mut numbers: SmallVec<[u64; 1]> = references.map(|reference| reference.number).collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}
