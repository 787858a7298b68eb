//! What a queue has in the store: chunks of messages, and which of them are settled.
//!
//! Messages that a turn leaves behind are written as one chunk, under the sequence of the first.
//! Settling writes, per chunk and turn, which runs of it are settled; a chunk that is settled
//! altogether goes. The same row says how often which of the others came back to a queue that counts that. So the cost is per turn and chunk, not per message.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Range,
};

use smallvec::SmallVec;

use crate::{
    id::{QueueId, Sequence},
    shard::Turn,
    store::{
        Table, keys,
        messages::{self, Comeback},
    },
};

/// Bytes of settled chunks at the head of a queue after which the store is told to forget them.
const FORGET_BYTES: usize = 4 << 20;

/// A chunk in the store of which something is unsettled and in memory.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) first: Sequence,
    pub(crate) last: Sequence,
    /// Messages not settled.
    pub(crate) remaining: u32,
    /// Settled runs, ascending, not touching.
    pub(crate) settled: Vec<Range<u64>>,
    /// What is known of messages that came back and are not settled, by sequence.
    pub(crate) returns: BTreeMap<u64, Comeback>,
    /// Body chunks that it refers to.
    pub(crate) bodies: SmallVec<[u64; 1]>,
    /// Size of the stored value.
    pub(crate) bytes: usize,
    /// The store has a row of what is settled and what came back.
    pub(crate) has_row: bool,
    /// That row is out of date.
    pub(crate) dirty: bool,
}

impl Chunk {
    /// What is known of an unsettled message that may have come back.
    pub(crate) fn returns_of(&self, sequence: Sequence) -> Comeback {
        self.returns.get(&sequence.0).copied().unwrap_or_default()
    }

    fn settle(&mut self, sequence: u64) {
        let at = self.settled.partition_point(|run| run.end < sequence);
        match self.settled.get_mut(at) {
            Some(run) if run.contains(&sequence) => return,
            Some(run) if run.end == sequence => {
                run.end += 1;
                if self
                    .settled
                    .get(at + 1)
                    .is_some_and(|next| next.start == sequence + 1)
                {
                    self.settled[at].end = self.settled.remove(at + 1).end;
                }
            }
            Some(run) if run.start == sequence + 1 => run.start = sequence,
            _ => self.settled.insert(at, sequence..sequence + 1),
        }
        self.remaining -= 1;
        self.returns.remove(&sequence);
    }
}

/// The chunks of a queue whose messages are in memory, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Chunks {
    live: VecDeque<Chunk>,
    /// Chunks with a change in this turn.
    touched: Vec<Sequence>,
    forgotten_to: Sequence,
    forgettable: usize,
    /// Stretches above `forgotten_to`, ascending, that are cleaned up by themselves.
    abandoned: VecDeque<Range<Sequence>>,
}

impl Chunks {
    /// Nothing below `low` is to be forgotten again.
    pub(crate) fn recovered(low: Sequence) -> Chunks {
        Chunks {
            forgotten_to: low,
            ..Chunks::default()
        }
    }

    /// A chunk was written, or read back; newer than those before.
    pub(crate) fn add(&mut self, chunk: Chunk) {
        debug_assert!(self.live.back().is_none_or(|back| back.last < chunk.first));
        self.live.push_back(chunk);
    }

    /// A stored message is settled.
    pub(crate) fn settle(&mut self, sequence: Sequence) {
        self.touch(sequence).settle(sequence.0);
    }

    /// A stored message came back, or need not wait any more.
    pub(crate) fn returned(&mut self, sequence: Sequence, comeback: Comeback) {
        self.touch(sequence).returns.insert(sequence.0, comeback);
    }

    /// The chunk of a message, whose row is to be written.
    fn touch(&mut self, sequence: Sequence) -> &mut Chunk {
        let at = self.live.partition_point(|chunk| chunk.last < sequence);
        let chunk = self
            .live
            .get_mut(at)
            .expect("a stored message in memory has its chunk");
        debug_assert!(chunk.first <= sequence && chunk.remaining > 0);
        if !chunk.dirty {
            chunk.dirty = true;
            self.touched.push(chunk.first);
        }
        chunk
    }

    /// The first chunk that is not settled altogether.
    pub(crate) fn low(&self) -> Option<Sequence> {
        self.live.front().map(|chunk| chunk.first)
    }

    /// Writes what was settled in this turn. `end` is where the queue's stored messages end or the
    /// backlog begins: the low-water mark when no chunk is live.
    pub(crate) fn seal(&mut self, queue: QueueId, end: Sequence, turn: &mut Turn) {
        for first in std::mem::take(&mut self.touched) {
            let at = self.live.partition_point(|chunk| chunk.first < first);
            let chunk = &mut self.live[at];
            chunk.dirty = false;
            if chunk.remaining > 0 {
                chunk.has_row = true;
                let row = messages::encode_progress(first, &chunk.settled, &chunk.returns);
                turn.batch
                    .put(Table::State, keys::settled(queue, first), row);
            } else {
                drop_chunk(queue, chunk, turn);
                self.forgettable += chunk.bytes;
            }
        }
        while self.live.front().is_some_and(|chunk| chunk.remaining == 0) {
            self.live.pop_front();
        }
        let low = self.low().unwrap_or(end);
        if self.forgettable >= FORGET_BYTES || (self.forgettable > 0 && self.live.is_empty()) {
            self.forget(queue, low, turn);
        }
    }

    /// A backlog will never be read. What it refers to is found in its chunks, so they are not to be
    /// forgotten before that has been done.
    pub(crate) fn abandon(&mut self, range: Range<Sequence>) {
        self.abandoned.push_back(range);
    }

    fn forget(&mut self, queue: QueueId, to: Sequence, turn: &mut Turn) {
        let mut from = self.forgotten_to;
        while let Some(range) = self
            .abandoned
            .front()
            .filter(|range| range.start < to)
            .cloned()
        {
            self.abandoned.pop_front();
            turn.batch
                .forget(Table::Messages, keys::chunk_range(queue, from, range.start));
            from = range.end;
        }
        turn.batch
            .forget(Table::Messages, keys::chunk_range(queue, from, to));
        self.forgotten_to = from.max(to);
        self.forgettable = 0;
    }

    /// Drops every chunk of a range, because the queue goes.
    pub(crate) fn clear(&mut self, queue: QueueId, range: Range<Sequence>, turn: &mut Turn) {
        for chunk in std::mem::take(&mut self.live) {
            if chunk.remaining > 0 {
                drop_chunk(queue, &chunk, turn);
            }
        }
        self.touched.clear();
        self.forget(queue, range.end, turn);
        turn.batch.forget(
            Table::State,
            keys::settled_range(queue, range.start, range.end),
        );
    }
}

fn drop_chunk(queue: QueueId, chunk: &Chunk, turn: &mut Turn) {
    turn.batch
        .delete(Table::Messages, keys::chunk(queue, chunk.first));
    if chunk.has_row {
        turn.batch
            .delete(Table::State, keys::settled(queue, chunk.first));
    }
    for &number in &chunk.bodies {
        turn.batch.delete(
            Table::State,
            keys::body_reference(number, queue, chunk.first),
        );
        turn.bodies.push(number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_merge() {
        let mut chunk = Chunk {
            first: Sequence(1),
            last: Sequence(9),
            remaining: 9,
            settled: Vec::new(),
            returns: BTreeMap::new(),
            bodies: SmallVec::new(),
            bytes: 0,
            has_row: false,
            dirty: false,
        };
        for sequence in [3, 5, 4, 1, 9, 2, 5] {
            chunk.settle(sequence);
        }
        assert_eq!(chunk.settled, [1..6, 9..10]);
        assert_eq!(chunk.remaining, 3);
    }
}
