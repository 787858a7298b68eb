//! When partitions have something to do by the clock. Of a hundred thousand that nobody uses, none has.

use std::{collections::BTreeSet, time::Duration};

use crate::{id::LogId, time::Timestamp};

/// How soon after a change a partition is looked at, and how fine the times are.
pub(crate) const LOG_UPKEEP: Duration = Duration::from_secs(5);

/// The partitions of a shard that are to be looked at, by time. Each is there once; its time is kept with it.
#[derive(Debug, Default)]
pub(super) struct Upkeep(BTreeSet<(Timestamp, (LogId, u32))>);

impl Upkeep {
    /// The next time that something is due.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.0.first().map(|(at, _)| *at)
    }

    /// Takes out what is due. Some may have gone meanwhile.
    pub(super) fn due(&mut self, now: Timestamp) -> Vec<(LogId, u32)> {
        let mut due = Vec::new();
        while let Some(&(at, id)) = self.0.first()
            && at <= now
        {
            self.0.pop_first();
            due.push(id);
        }
        due
    }

    /// Puts a partition that was due back for the time at which it wants to be looked at again, if any.
    pub(super) fn put(
        &mut self,
        id: (LogId, u32),
        own: &mut Option<Timestamp>,
        at: Option<Timestamp>,
    ) {
        *own = at.map(rounded);
        self.0.extend(own.map(|at| (at, id)));
    }

    /// Sees to it that a partition is looked at shortly after `now`. Costs nothing when it is going to be anyway.
    pub(super) fn soon(&mut self, id: (LogId, u32), own: &mut Option<Timestamp>, now: Timestamp) {
        let wanted = rounded(now.after(LOG_UPKEEP));
        if own.is_some_and(|at| at <= wanted) {
            return;
        }
        if let Some(at) = own.take() {
            self.0.remove(&(at, id));
        }
        self.put(id, own, Some(wanted));
    }
}

/// Up to the next full interval, so that partitions share their times.
fn rounded(at: Timestamp) -> Timestamp {
    let step = LOG_UPKEEP.as_millis() as u64;
    Timestamp(at.0.div_ceil(step).saturating_mul(step))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_that_is_written_to_is_due_once_an_interval() {
        let (mut upkeep, mut own, id) = (Upkeep::default(), None, (LogId(1), 0));
        for now in [0, 1, 4_999, 5_000] {
            upkeep.soon(id, &mut own, Timestamp(now));
        }
        assert_eq!(upkeep.next(), Some(Timestamp(5_000)));
        assert_eq!(upkeep.due(Timestamp(4_999)), []);
        assert_eq!(upkeep.due(Timestamp(5_000)), [id]);
        upkeep.put(id, &mut own, None);
        assert_eq!((upkeep.next(), own), (None, None));
    }

    #[test]
    fn a_change_brings_a_time_far_away_nearer() {
        let (mut upkeep, mut own, id) = (Upkeep::default(), None, (LogId(1), 0));
        upkeep.put(id, &mut own, Some(Timestamp(1_000_000)));
        upkeep.soon(id, &mut own, Timestamp(7_000));
        assert_eq!(upkeep.due(Timestamp(2_000_000)), [id], "once");
        assert_eq!(upkeep.next(), None);
    }
}
