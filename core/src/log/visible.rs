//! What a reader of committed records shows to others: neither markers nor what was aborted.
//!
//! A client of Kafka does this itself, with the list that comes with its fetch. Readers of other protocols do it here.

use rustc_hash::FxHashSet;

use super::{batch, control};
use crate::{
    event::{Aborted, FetchedBatch},
    id::Offset,
};

/// Goes through the batches of one committed read of a partition, in order.
#[derive(Debug)]
pub struct Visible<'a> {
    /// By first offset; those before have begun.
    aborted: std::iter::Peekable<std::slice::Iter<'a, Aborted>>,
    /// Producers whose records are being skipped.
    skipped: FxHashSet<i64>,
}

impl<'a> Visible<'a> {
    /// `aborted` is as the fetch returned it.
    pub fn new(aborted: &'a [Aborted]) -> Visible<'a> {
        Visible {
            aborted: aborted.iter().peekable(),
            skipped: FxHashSet::default(),
        }
    }

    /// Whether the records of the next batch are for applications. What is damaged is shown, for whoever reads
    /// it to notice.
    pub fn shows(&mut self, batch: &FetchedBatch) -> bool {
        let Ok(header) = batch::parse(&batch.bytes) else {
            return true;
        };
        let last = Offset(batch.base.0 + u64::from(header.last_offset_delta));
        while let Some(begun) = self.aborted.next_if(|aborted| aborted.first <= last) {
            self.skipped.insert(begun.producer);
        }
        if header.attributes.is_control() {
            if control::is_commit(&batch.bytes) == Some(false) {
                self.skipped.remove(&header.producer_id);
            }
            return false;
        }
        !(header.attributes.is_transactional() && self.skipped.contains(&header.producer_id))
    }
}
