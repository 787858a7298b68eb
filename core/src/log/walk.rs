//! The walk of whoever reads committed records: through the batches of a fetch, and through the records of each.

use super::{
    Visible,
    batch::{self, BatchError},
    record::{self, Record},
};
use crate::{
    event::{Aborted, FetchedBatch, Refusal},
    id::Offset,
    properties::Text,
};

/// A batch is decompressed to so many bytes at most.
const DECOMPRESSED_MAX: usize = 64 << 20;

/// A batch on the walk.
#[derive(Debug)]
pub(crate) struct Step<'a> {
    pub stored: &'a FetchedBatch,
    /// The offset behind its last record.
    pub behind: Offset,
    /// Whether its records are for applications: neither markers nor of a transaction that was aborted.
    pub shown: bool,
    /// How many records its header counts.
    count: u32,
}

/// Goes through what a committed read of a partition has brought, in order. Fails where a header is damaged.
pub(crate) fn walk<'a>(
    batches: &'a [FetchedBatch],
    aborted: &'a [Aborted],
) -> impl Iterator<Item = Result<Step<'a>, Refusal>> {
    let mut visible = Visible::new(aborted);
    batches.iter().map(move |stored| {
        let shown = visible.shows(stored);
        let header = batch::parse(&stored.bytes)
            .map_err(|error| Refusal::Corrupt(error.to_string().into()))?;
        Ok(Step {
            stored,
            behind: Offset(stored.base.0 + u64::from(header.last_offset_delta) + 1),
            shown,
            count: header.count,
        })
    })
}

impl Step<'_> {
    /// Hands over the records from an offset on, up to the first that cannot be read: a producer may send what it likes
    /// inside of a batch, and that keeps nobody from what comes behind it. How many are left out for it, which is
    /// logged with the name of their log.
    pub(crate) fn each_record(
        &self,
        log: &Text,
        partition: u32,
        from: Offset,
        mut take: impl FnMut(Offset, Record),
    ) -> u64 {
        let base = self.stored.base;
        let mut read = 0;
        let mut take_all = || -> Result<(), BatchError> {
            for record in record::records(&self.stored.bytes, DECOMPRESSED_MAX)? {
                let record = record?;
                read += 1;
                let offset = Offset(base.0 + u64::from(record.offset_delta));
                if offset >= from {
                    take(offset, record);
                }
            }
            Ok(())
        };
        let Err(error) = take_all() else { return 0 };
        tracing::warn!(%log, partition, %base, %error, "a reader leaves out records that it cannot read");
        u64::from(self.count).saturating_sub(read)
    }
}
