//! Reads of logs: whole batches from the tails' memory or the store, waiting where there is nothing yet. It runs on
//! the reader's task; shards have no part in it.

mod search;

use std::{
    ops::{ControlFlow, Range},
    sync::Arc,
};

use bytes::Bytes;
pub(crate) use search::find_offset;
use tokio::sync::Notify;

use super::{
    batch::{self, Header},
    partition::AbortedRow,
    tail::{Bounds, LogBatch, Source, Tail},
};
use crate::{
    command::{Fetch, FetchPartition, Isolation},
    event::{Aborted, Fetched, FetchedBatch, Kind, Refusal},
    id::{LogId, Offset},
    properties::Text,
    store::{ScanLimit, Store, StoreError, Table, keys},
};

/// Batches that one scan returns at most.
const SCAN_BATCHES: usize = 4096;
/// Bytes that a search by time reads at a time.
const SEARCH_BYTES: usize = 1 << 20;

/// A partition that its reader found and may read.
#[derive(Clone, Copy, Debug)]
struct Readable<'a> {
    log: LogId,
    partition: u32,
    tail: &'a Tail,
}

/// Where partitions are found that their reader may read.
type Found = Option<(LogId, Arc<Tail>)>;

/// Carries out `wanted`, whose partitions lead to `found`, one for one. Answers as soon as there are `min_bytes` in
/// all or an error, and at the latest after its `wait`.
///
/// Ten thousand consumers that wait are ten thousand of these futures: what a read takes is in a box while it lasts,
/// and nothing of it is kept.
pub(crate) async fn fetch(
    store: Arc<dyn Store>,
    vhost: Text,
    found: Vec<Found>,
    wanted: Fetch,
) -> Vec<Fetched> {
    debug_assert_eq!(wanted.partitions.len(), found.len());
    let read = async || Box::pin(read(&*store, &vhost, &wanted, &found)).await;
    let min_bytes = wanted.min_bytes.min(wanted.max_bytes);
    let is_due = |fetched: &[Fetched]| wanted.wait.is_zero() || is_enough(fetched, min_bytes);
    if let Some(fetched) = Some(read().await).filter(|fetched| is_due(fetched)) {
        return fetched;
    }
    let deadline = tokio::time::sleep(wanted.wait);
    tokio::pin!(deadline);
    // Watching begins before the next read, so nothing that comes in between is missed.
    let waiting = Waiting::on(&found);
    loop {
        if let Some(fetched) = Some(read().await).filter(|it| is_enough(it, min_bytes)) {
            return fetched;
        }
        tokio::select! {
            () = waiting.notify.notified() => {}
            () = &mut deadline => return read().await,
        }
    }
}

/// Registers with every tail for as long as it lives.
struct Waiting<'a> {
    notify: Arc<Notify>,
    found: &'a [Found],
}

impl<'a> Waiting<'a> {
    fn on(found: &'a [Found]) -> Waiting<'a> {
        let notify = Arc::new(Notify::new());
        for (_, tail) in found.iter().flatten() {
            tail.watch(&notify);
        }
        Waiting { notify, found }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        for (_, tail) in self.found.iter().flatten() {
            tail.forget(&self.notify);
        }
    }
}

fn is_enough(fetched: &[Fetched], min_bytes: usize) -> bool {
    let mut bytes = 0;
    for partition in fetched {
        match &partition.result {
            Ok(batches) => bytes += size(batches),
            Err(_) => return true,
        }
    }
    bytes >= min_bytes
}

fn size(batches: &[FetchedBatch]) -> usize {
    batches.iter().map(|batch| batch.bytes.len()).sum()
}

async fn read(store: &dyn Store, vhost: &Text, fetch: &Fetch, found: &[Found]) -> Vec<Fetched> {
    let mut left = fetch.max_bytes;
    // KIP-74: the first batch found is returned whatever its size, so that readers always get on.
    let mut first = true;
    let mut all = Vec::with_capacity(found.len());
    for (wanted, found) in fetch.partitions.iter().zip(found) {
        let readable = found.as_ref().map(|(log, tail)| Readable {
            log: *log,
            partition: wanted.partition,
            tail,
        });
        let (result, bounds) = match readable {
            Some(readable) => {
                readable
                    .read(store, vhost, wanted, left, first, fetch.isolation)
                    .await
            }
            None => (Err(not_found(vhost, &wanted.log)), Bounds::default()),
        };
        let (result, aborted) = match (result, readable) {
            (Ok(batches), Some(readable)) if fetch.isolation == Isolation::Committed => {
                match readable.aborted(store, wanted.from, &batches, bounds).await {
                    Ok(aborted) => (Ok(batches), aborted),
                    Err(refusal) => (Err(refusal), Vec::new()),
                }
            }
            (result, _) => (result, Vec::new()),
        };
        let bytes = result.as_deref().map_or(0, size);
        left = left.saturating_sub(bytes);
        first &= bytes == 0;
        all.push(Fetched {
            log: wanted.log.clone(),
            partition: wanted.partition,
            result,
            high_watermark: bounds.high_watermark,
            log_start: bounds.log_start,
            last_stable: bounds.last_stable,
            aborted,
        });
    }
    all
}

impl Readable<'_> {
    /// Batches from the wanted offset on, within `bytes_max`; one more than that allows when it is the `first`.
    async fn read(
        &self,
        store: &dyn Store,
        vhost: &Text,
        wanted: &FetchPartition,
        bytes_max: usize,
        first: bool,
        isolation: Isolation,
    ) -> (Result<Vec<FetchedBatch>, Refusal>, Bounds) {
        let mut left = wanted.max_bytes.min(bytes_max);
        let mut batches: Vec<FetchedBatch> = Vec::new();
        let mut from = wanted.from;
        loop {
            let (source, bounds) = self.tail.read(from, left, isolation);
            let mut stored_to = from;
            let more = match source {
                Source::Cached(more) => Ok(more),
                Source::Store(range) => {
                    stored_to = range.end;
                    self.scan(store, range, left).await
                }
                Source::End => Ok(Vec::new()),
                Source::OutOfRange => Err(Refusal::OffsetOutOfRange(from)),
                Source::Closed => Err(not_found(vhost, &wanted.log)),
            };
            let more = match more {
                Ok(more) => more,
                // What was read before the damage is good; the next read meets the damage first.
                Err(_) if !batches.is_empty() => return (Ok(batches), bounds),
                Err(refusal) => return (Err(refusal), bounds),
            };
            let before = batches.len();
            for batch in more {
                let forced = first && batches.is_empty();
                if batch.bytes.len() > left && !forced {
                    return (Ok(batches), bounds);
                }
                left = left.saturating_sub(batch.bytes.len());
                from = batch.last.next();
                batches.push(FetchedBatch::from(&batch));
            }
            // A scan that ended for its size is not asked again for the little that is left.
            if batches.len() == before || left == 0 || from < stored_to {
                return (Ok(batches), bounds);
            }
        }
    }

    /// The aborted transactions with records among `batches`, by first offset (KIP-98). All of them: a reader that
    /// is not told of one shows what was aborted.
    async fn aborted(
        &self,
        store: &dyn Store,
        from: Offset,
        batches: &[FetchedBatch],
        bounds: Bounds,
    ) -> Result<Vec<Aborted>, Refusal> {
        let Some(last) = batches.last().filter(|_| from < bounds.aborted_to) else {
            return Ok(Vec::new());
        };
        let header = batch::parse(&last.bytes)?;
        let end = Offset(last.base.0 + u64::from(header.last_offset_delta) + 1);
        let mut aborted = Vec::new();
        // A transaction is over before its marker, so those that ended before `from` are not looked at.
        let range = keys::aborted_range(self.log, self.partition, from, bounds.aborted_to);
        each(store, Table::State, range, |_, value| {
            let row = AbortedRow::read(value)?;
            if row.first < end {
                aborted.push(Aborted {
                    producer: row.producer,
                    first: row.first,
                });
            }
            Ok(match row.last_stable >= end {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            })
        })
        .await?;
        aborted.sort_unstable_by_key(|aborted| aborted.first);
        Ok(aborted)
    }

    /// Batches from the store, each checked, from the one that holds `range.start` on without a hole.
    async fn scan(
        &self,
        store: &dyn Store,
        range: Range<Offset>,
        bytes_max: usize,
    ) -> Result<Vec<LogBatch>, Refusal> {
        let mut batches: Vec<LogBatch> = Vec::new();
        let mut expected = range.start;
        let limit = ScanLimit {
            entries: SCAN_BATCHES,
            bytes: bytes_max,
        };
        let keys = keys::record_batches(self.log, self.partition, range.start, range.end);
        for (key, value) in store.scan(Table::Records, keys, limit).await?.entries {
            match stored(&key, value) {
                Ok((batch, _)) if batch.base <= expected => {
                    expected = batch.last.next();
                    batches.push(batch);
                }
                _ if !batches.is_empty() => return Ok(batches),
                Ok(_) => return self.missing(expected),
                Err(damage) => return Err(damage),
            }
        }
        if batches.is_empty() {
            self.missing(expected)
        } else {
            Ok(batches)
        }
    }

    /// What should be at `offset` is not: removed by retention since its bounds were read, or lost.
    fn missing(&self, offset: Offset) -> Result<Vec<LogBatch>, Refusal> {
        if self.tail.bounds().log_start > offset {
            return Err(Refusal::OffsetOutOfRange(offset));
        }
        Err(Refusal::Corrupt(
            format!("the batch that holds offset {offset} is missing").into(),
        ))
    }
}

/// Visits the entries of a range, a page at a time.
async fn each(
    store: &dyn Store,
    table: Table,
    mut range: Range<Bytes>,
    mut visit: impl FnMut(Bytes, Bytes) -> Result<ControlFlow<()>, Refusal>,
) -> Result<(), Refusal> {
    let limit = ScanLimit {
        entries: SCAN_BATCHES,
        bytes: SEARCH_BYTES,
    };
    loop {
        let page = store.scan(table, range.clone(), limit).await?;
        for (key, value) in page.entries {
            if visit(key, value)?.is_break() {
                return Ok(());
            }
        }
        match page.next {
            Some(next) => range.start = next,
            None => return Ok(()),
        }
    }
}

/// Where reading can go on when the batch that holds `from` is damaged or missing; `end` where nothing follows.
pub(crate) async fn behind_damage(
    store: &dyn Store,
    partition: (LogId, u32),
    from: Offset,
    end: Offset,
) -> Result<Offset, Refusal> {
    let limit = ScanLimit {
        entries: 1,
        bytes: SEARCH_BYTES,
    };
    let keys = keys::record_batches(partition.0, partition.1, from, end);
    let page = store.scan(Table::Records, keys, limit).await?;
    let Some((key, value)) = page.entries.into_iter().next() else {
        return Ok(end);
    };
    let next = match stored(&key, value) {
        Ok((batch, _)) if batch.base > from => batch.base,
        _ => keys::record_batch_last(&key).map_or(end, |(last, _)| last.next()),
    };
    Ok(next.max(from.next()))
}

/// A batch from the store, if it is undamaged.
fn stored(key: &[u8], bytes: Bytes) -> Result<(LogBatch, Header), Refusal> {
    let damaged = |what: &str| Refusal::Corrupt(what.into());
    let (last, flags) =
        keys::record_batch_last(key).ok_or_else(|| damaged("the key of a batch is malformed"))?;
    let header =
        batch::verify(&bytes).map_err(|error| Refusal::Corrupt(error.to_string().into()))?;
    let base = last.0.checked_sub(header.last_offset_delta.into());
    let base =
        Offset(base.ok_or_else(|| damaged("a batch has more records than its place allows"))?);
    Ok((
        LogBatch {
            base,
            last,
            flags,
            bytes,
        },
        header,
    ))
}

fn not_found(vhost: &Text, log: &Text) -> Refusal {
    Refusal::NotFound {
        kind: Kind::Log,
        name: log.clone(),
        vhost: vhost.clone(),
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Refusal {
        let text = error.to_string().into();
        match error {
            StoreError::Corrupt(_) => Refusal::Corrupt(text),
            _ => Refusal::StorageFailed(text),
        }
    }
}

#[cfg(test)]
mod tests;
