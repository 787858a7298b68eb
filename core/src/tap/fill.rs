//! A log that becomes the retained store of its keys has what it holds already retained: page by page from its start up to
//! where the tap is, each in one batch with how far that has come.
//!
//! The newest value of a key wins because the log is read in order, and whatever was retained before is retained again
//! after a crash. How far it is stays stored until the tap is at the end of the partition: what was appended while the
//! setting changed may have been passed by the old one.

use std::sync::Arc;

use super::{Audience, Damaged, Stop, Stretch, Tap, unreadable};
use crate::{
    catalog::LogEntry,
    id::{LogId, Offset},
    log::walk,
    shard::Op,
};

impl Tap {
    /// Retains a page of what the tap has passed: from `filled` on, and nothing from `position` on.
    pub(super) async fn fill(
        &mut self,
        entry: &Arc<LogEntry>,
        partition: (LogId, u32),
        filled: Offset,
        position: Offset,
    ) -> Result<(), Stop> {
        let tail = &entry.tails[partition.1 as usize];
        let from = filled.max(tail.bounds().log_start);
        let mut next = from;
        match self.fetch(entry, partition.1, from).await? {
            Some(Ok(Stretch { batches, aborted })) => {
                for step in walk(&batches, &aborted) {
                    let step = step.map_err(unreadable)?;
                    if step.stored.base >= position {
                        break;
                    }
                    next = step.behind;
                    if step.shown {
                        self.offer_batch(entry, partition.1, from, &step, &Audience::Nobody);
                    }
                }
            }
            Some(Err(Damaged { next: behind })) => next = behind,
            // Retention was faster; if the log was deleted, its routes are gone by the next look.
            None => next = tail.bounds().log_start.max(from),
        }
        self.note_filled(entry, partition, filled, Some(next));
        self.flush().await
    }

    /// Queues, with what else is queued, that all before an offset is retained; all of it with none.
    pub(super) fn note_filled(
        &mut self,
        entry: &LogEntry,
        (log, partition): (LogId, u32),
        filled: Offset,
        to: Option<Offset>,
    ) {
        if !entry.tails[partition as usize].move_fill(filled, to) {
            return;
        }
        let shard = self.inner.shard_of_partition(log, partition);
        self.outgoing.push(shard, Op::Filled { log, partition, to });
        if self.outgoing.spanned != 0 {
            self.outgoing.spanned |= 1 << shard;
        }
    }
}
