//! The search for offsets by time: segments first, then batches, then the records of one batch.

use std::{
    ops::{ControlFlow, Range},
    sync::Arc,
};

use super::{Readable, each, stored};
use crate::{
    command::{Isolation, OffsetSpec},
    event::Refusal,
    id::{LogId, Offset},
    log::{
        batch::Header,
        record,
        segment::Segment,
        tail::{Bounds, LogBatch, Tail},
    },
    store::{Store, Table, keys},
    time::Timestamp,
};

/// What a batch may expand to while a record is searched in it by time.
const SEARCH_EXPANDED_BYTES: usize = 64 << 20;

/// Finds an offset; `None` when no record is at or after the time.
pub(crate) async fn find_offset(
    store: Arc<dyn Store>,
    log: LogId,
    partition: u32,
    tail: Arc<Tail>,
    at: OffsetSpec,
    isolation: Isolation,
) -> Result<Found, Refusal> {
    let readable = Readable {
        log,
        partition,
        tail: &tail,
    };
    let bounds = readable.tail.bounds();
    let end = bounds.end(isolation);
    let found = match at {
        OffsetSpec::Earliest => return Ok(Some((bounds.log_start, None))),
        OffsetSpec::Latest => return Ok(Some((end, None))),
        OffsetSpec::AtTime(time) => readable.first_since(&*store, bounds, time).await?,
        OffsetSpec::MaxTimestamp => readable.greatest_timestamp(&*store, bounds).await?,
    };
    Ok(found.filter(|(offset, _)| *offset < end))
}

/// An offset and, where it belongs to a record, its timestamp.
type Found = Option<(Offset, Option<Timestamp>)>;

impl Readable<'_> {
    /// The first record at `time` or later: segments first, then batches, then the records of one batch.
    async fn first_since(
        &self,
        store: &dyn Store,
        bounds: Bounds,
        time: u64,
    ) -> Result<Found, Refusal> {
        let mut from = bounds.log_start;
        self.each_segment(store, bounds, |segment| {
            if segment.max_timestamp >= time {
                return ControlFlow::Break(());
            }
            from = from.max(segment.last.next());
            ControlFlow::Continue(())
        })
        .await?;
        let mut found = Ok(None);
        self.each_batch(store, from..bounds.high_watermark, |batch, header| {
            if header.max_timestamp < 0 || (header.max_timestamp as u64) < time {
                return ControlFlow::Continue(());
            }
            found = first_record(&batch, |offset, timestamp| {
                offset >= bounds.log_start && timestamp >= time
            });
            if matches!(found, Ok(None)) {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        })
        .await?;
        found
    }

    /// The first of the records with the greatest timestamp.
    async fn greatest_timestamp(
        &self,
        store: &dyn Store,
        bounds: Bounds,
    ) -> Result<Found, Refusal> {
        let mut best: Option<Segment> = None;
        let mut open = bounds.log_start;
        self.each_segment(store, bounds, |segment| {
            open = open.max(segment.last.next());
            if best.is_none_or(|best| segment.max_timestamp > best.max_timestamp) {
                best = Some(segment);
            }
            ControlFlow::Continue(())
        })
        .await?;
        let full = best.map(|segment| segment.first.max(bounds.log_start)..segment.last.next());
        let mut greatest: Option<(i64, LogBatch)> = None;
        for range in full.into_iter().chain([open..bounds.high_watermark]) {
            self.each_batch(store, range, |batch, header| {
                if greatest
                    .as_ref()
                    .is_none_or(|(timestamp, _)| header.max_timestamp > *timestamp)
                {
                    greatest = Some((header.max_timestamp, batch));
                }
                ControlFlow::Continue(())
            })
            .await?;
        }
        match greatest {
            Some((greatest, batch)) if greatest >= 0 => {
                first_record(&batch, |_, timestamp| timestamp >= greatest as u64)
            }
            _ => Ok(None),
        }
    }

    async fn each_segment(
        &self,
        store: &dyn Store,
        bounds: Bounds,
        mut visit: impl FnMut(Segment) -> ControlFlow<()>,
    ) -> Result<(), Refusal> {
        let range = keys::segments(
            self.log,
            self.partition,
            bounds.log_start,
            bounds.high_watermark,
        );
        each(store, Table::State, range, |_, value| {
            Ok(visit(Segment::read(value)?))
        })
        .await
    }

    async fn each_batch(
        &self,
        store: &dyn Store,
        offsets: Range<Offset>,
        mut visit: impl FnMut(LogBatch, Header) -> ControlFlow<()>,
    ) -> Result<(), Refusal> {
        // The batch that reaches over the end of the range belongs to it as well: it ends at or after `end`.
        let range = keys::record_batches(self.log, self.partition, offsets.start, offsets.end);
        each(store, Table::Records, range, |key, value| {
            let (batch, header) = stored(&key, value)?;
            Ok(visit(batch, header))
        })
        .await
    }
}

fn first_record(
    batch: &LogBatch,
    mut is_wanted: impl FnMut(Offset, u64) -> bool,
) -> Result<Found, Refusal> {
    for record in record::records(&batch.bytes, SEARCH_EXPANDED_BYTES)? {
        let record = record?;
        let offset = Offset(batch.base.0 + u64::from(record.offset_delta));
        let Ok(timestamp) = u64::try_from(record.timestamp) else {
            continue;
        };
        if is_wanted(offset, timestamp) {
            return Ok(Some((offset, Some(Timestamp(timestamp)))));
        }
    }
    Ok(None)
}
