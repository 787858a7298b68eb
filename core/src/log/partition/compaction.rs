//! Compaction of a partition: when, and what it changes. Batches are read and rewritten by [`crate::compactor`].

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::Partition;
use crate::{
    id::{LogId, Offset},
    log::{settings::Compact, tail::Tail},
    store::{Table, keys},
    time::Timestamp,
};

/// What is to be compacted: everything before `to`, of which nothing from `dirty` on has been compacted before.
#[derive(Clone, Debug)]
pub(crate) struct Compaction {
    pub log: LogId,
    pub number: u32,
    pub tail: Arc<Tail>,
    pub from: Offset,
    pub dirty: Offset,
    pub to: Offset,
    pub now: Timestamp,
    pub delete_retention: Duration,
}

/// A stored batch, by its last offset, that is replaced or removed.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub last: Offset,
    pub flags: u8,
    pub old_bytes: usize,
    pub new: Option<Bytes>,
}

impl Partition {
    /// Says whether it is time to compact. Nothing else is said until [`Partition::compacted`].
    pub fn compaction(&mut self, now: Timestamp) -> Option<Compaction> {
        let compact = self.settings.compact?;
        if self.compacting {
            return None;
        }
        self.close_for_compaction(now, &compact);
        let to = self.compactable_to(now, &compact);
        if to <= self.clean_to {
            return None;
        }
        let (mut clean, mut dirty, mut is_overdue) = (0, 0, false);
        for segment in self.segments.iter().filter(|segment| segment.last < to) {
            if segment.last < self.clean_to {
                clean += segment.bytes;
            } else {
                dirty += segment.bytes;
                is_overdue |= Timestamp(segment.max_timestamp).after(compact.lag_max) < now;
            }
        }
        if !is_overdue && dirty * 1000 < (clean + dirty) * compact.dirty_permille {
            return None;
        }
        self.compacting = true;
        Some(Compaction {
            log: self.log,
            number: self.number,
            tail: self.tail.clone(),
            from: self.log_start,
            dirty: self.clean_to.max(self.log_start),
            to,
            now,
            delete_retention: compact.delete_retention,
        })
    }

    /// The open segment is never compacted, so it is closed by age.
    fn close_for_compaction(&mut self, now: Timestamp, compact: &Compact) {
        if self.open.bytes == 0 {
            return;
        }
        let opened = *self.opened.get_or_insert(now);
        if opened.after(self.settings.segment_age.min(compact.lag_max)) <= now {
            self.close_segment();
        }
    }

    /// The end of the full segments that are old enough, decided, and read by the tap.
    fn compactable_to(&self, now: Timestamp, compact: &Compact) -> Offset {
        let mut limit = self.last_stable();
        let unread = [self.tap(), self.tail.fill()];
        for unread in unread.into_iter().flatten() {
            limit = limit.min(unread);
        }
        self.segments
            .iter()
            .take_while(|segment| {
                segment.last < limit
                    && Timestamp(segment.max_timestamp).after(compact.lag_min) <= now
            })
            .last()
            .map_or(Offset(0), |segment| segment.last.next())
    }

    /// Replaces stored batches. What retention has removed meanwhile stays removed.
    pub fn compact(&mut self, changes: Vec<Change>) {
        for change in changes {
            if change.last < self.log_start {
                continue;
            }
            let key = keys::record_batch(self.log, self.number, change.last, change.flags);
            self.shrink(&change);
            match change.new {
                Some(bytes) => self.turn.rows.put(Table::Records, key, bytes),
                None => self.turn.rows.delete(Table::Records, key),
            }
        }
        self.turn.compacted = true;
    }

    fn shrink(&mut self, change: &Change) {
        let at = self
            .segments
            .partition_point(|segment| segment.last < change.last);
        let Some(segment) = self.segments.get_mut(at) else {
            return;
        };
        let new_bytes = change.new.as_ref().map_or(0, Bytes::len);
        segment.bytes = (segment.bytes + new_bytes as u64).saturating_sub(change.old_bytes as u64);
        let key = keys::segment(self.log, self.number, segment.last);
        self.turn.rows.put(Table::State, key, segment.write());
    }

    /// A compaction has come to its end. One that failed is not tried again before the next start.
    pub fn compacted(&mut self, to: Option<Offset>) {
        if let Some(to) = to {
            self.clean_to = self.clean_to.max(to);
            self.compacting = false;
            self.turn.dirty = true;
        }
    }
}
