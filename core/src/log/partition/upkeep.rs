//! What a partition does by the clock: retention, producers that fall silent, memory given back. And when it next has
//! any of that to do, so that nobody looks at it before.

use std::time::Duration;

use super::{super::Settings, Partition, Producer, Segment};
use crate::{
    id::Offset,
    shard::LOG_UPKEEP,
    time::{Now, Timestamp},
};

/// As Kafka's `producer.id.expiration.ms`.
pub(super) const PRODUCER_EXPIRY: Duration = Duration::from_secs(24 * 3600);
/// Of a partition to which nobody appended for so long, nothing stays in memory.
const IDLE: Duration = Duration::from_secs(30);

impl Partition {
    /// Applies retention, forgets silent producers and gives back memory that nobody needs. Call it when
    /// [`Partition::next_tick`] says, then [`Partition::seal`].
    pub fn tick(&mut self, now: Now) {
        // What the tap passed without a commit of its own.
        let tap = self.tap();
        self.turn.dirty |= tap != self.tap;
        self.tap = tap;
        if let Some(to) = self.expired(now.wall) {
            // The end of a segment is never beyond the end of the partition.
            let _ = self.trim(to);
        }
        let silent = |producer: &Producer| {
            producer.open.is_none() && producer.touched.after(PRODUCER_EXPIRY) < now.wall
        };
        let expired: Vec<i64> = self
            .producers
            .iter()
            .filter(|(_, producer)| silent(producer))
            .map(|(id, _)| *id)
            .collect();
        for id in expired {
            self.producers.remove(&id);
            self.turn.producers.insert(id);
        }
        if self
            .last_append
            .is_some_and(|last| now.instant.saturating_duration_since(last.instant) > IDLE)
        {
            self.last_append = None;
            self.tail.release();
        }
    }

    /// Where the log should start by its retention; never beyond what the tap has still to read.
    fn expired(&mut self, now: Timestamp) -> Option<Offset> {
        // The open segment of a partition to which nobody writes any more has to go as well.
        if self.open.bytes > 0 && self.is_too_old(&self.open, now) {
            self.close_segment();
        }
        let (mut bytes, tap) = (self.bytes(), self.tap());
        let mut to = None;
        for segment in &self.segments {
            let too_large = self
                .settings
                .retention_bytes
                .is_some_and(|limit| bytes - segment.bytes >= limit);
            if !(too_large || self.is_too_old(segment, now)) {
                break;
            }
            // The tap has time to catch up, but not for ever.
            let is_untapped = tap.is_some_and(|tap| tap <= segment.last);
            if is_untapped && self.tap_may_catch_up(segment, bytes, now) {
                break;
            }
            bytes -= segment.bytes;
            to = Some(segment.last.next());
        }
        to
    }

    /// Whether a segment that retention is done with stays for the tap: neither much too old nor much too large.
    fn tap_may_catch_up(&self, segment: &Segment, bytes: u64, now: Timestamp) -> bool {
        let Settings {
            retention,
            retention_bytes,
            tap_lag,
            tap_lag_bytes,
            ..
        } = &self.settings;
        let too_late = retention.zip(*tap_lag).is_some_and(|(age, lag)| {
            Timestamp(segment.max_timestamp).after(age.saturating_add(lag)) < now
        });
        let too_many = retention_bytes
            .zip(*tap_lag_bytes)
            .is_some_and(|(limit, lag)| bytes - segment.bytes >= limit.saturating_add(lag));
        !(too_late || too_many)
    }

    fn is_too_old(&self, segment: &Segment, now: Timestamp) -> bool {
        self.settings
            .retention
            .is_some_and(|age| Timestamp(segment.max_timestamp).after(age) < now)
    }

    /// Whether there is anything that time can change: records or producers.
    pub fn is_used(&self) -> bool {
        self.bytes() > 0 || !self.producers.is_empty() || self.log_start < self.next
    }

    /// Whether there is something to [`Partition::seal`].
    pub fn has_changed(&self) -> bool {
        self.collected.count() > 0
            || !self.turn.batches.is_empty()
            || self.turn.dirty
            || !self.turn.producers.is_empty()
            || !self.turn.rows.is_empty()
    }

    /// When its shard looks at it next; kept here for the shard.
    pub fn upkeep(&mut self) -> &mut Option<Timestamp> {
        &mut self.upkeep
    }

    /// When it next has something to do by the clock, if nothing else happens.
    pub fn next_tick(&self, now: Now) -> Option<Timestamp> {
        let soon = now.wall.after(LOG_UPKEEP);
        let idle = self.last_append.map(|_| now.wall.after(IDLE));
        [
            idle,
            self.next_expiry(),
            self.next_compaction(now.wall),
            self.next_silence(),
        ]
        .into_iter()
        .flatten()
        .min()
        .map(|at| at.max(soon))
    }

    /// When the oldest segment has to go. One that cannot, because the tap has still to read it, is overdue.
    fn next_expiry(&self) -> Option<Timestamp> {
        let oldest = match self.segments.front() {
            Some(oldest) => oldest,
            None if self.open.bytes > 0 => &self.open,
            None => return None,
        };
        let by_size = self
            .settings
            .retention_bytes
            .is_some_and(|limit| !self.segments.is_empty() && self.bytes() - oldest.bytes >= limit);
        if by_size {
            return Some(Timestamp(0));
        }
        let retention = self.settings.retention?;
        Some(Timestamp(oldest.max_timestamp).after(retention))
    }

    fn next_silence(&self) -> Option<Timestamp> {
        let done = self.producers.values().filter(|it| it.open.is_none());
        let oldest = done.map(|producer| producer.touched).min()?;
        Some(oldest.after(PRODUCER_EXPIRY))
    }

    /// When the open segment is to be closed for compaction; a closed one that waits for it is looked at again soon.
    fn next_compaction(&self, now: Timestamp) -> Option<Timestamp> {
        let compact = self.settings.compact?;
        let waits = self
            .segments
            .back()
            .is_some_and(|it| it.last >= self.clean_to);
        if waits && !self.compacting {
            return Some(now);
        }
        let age = self.settings.segment_age.min(compact.lag_max);
        (self.open.bytes > 0).then(|| self.opened.unwrap_or(now).after(age))
    }
}
