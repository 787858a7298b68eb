//! Reading a log record by record for a consumer: from where it was told to begin, past what it filters out.

use std::{sync::Arc, time::Duration};

use super::{
    Visible, batch, convert::message_from_record, fetch, find_offset, record, record::Record,
    tail::Tail,
};
use crate::{
    command::{Fetch, FetchPartition, Isolation, OffsetSpec, StreamFilter, StreamStart},
    event::{Fetched, FetchedBatch, Refusal},
    id::{LogId, Offset},
    message::{Message, Origin},
    properties::Text,
    store::Store,
};

/// Bytes of batches that are read at once.
const READ_BYTES: usize = 1 << 20;
/// A batch is decompressed to so many bytes at most.
const DECOMPRESSED_MAX: usize = 64 << 20;
/// How long a read waits for something new before it is asked for again.
const WAIT: Duration = Duration::from_secs(30);
/// The header that filters look at.
const FILTER_HEADER: &str = "x-stream-filter-value";

/// Where a reader is in one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Position {
    /// At this record.
    At(Offset),
    /// At the beginning of the batch that holds this record.
    BatchOf(Offset),
    /// At the first record of this time (ms) or later, or else at this offset.
    Since(u64, Offset),
}

impl Position {
    /// Where a reader begins in a partition that is as it is now.
    pub(crate) fn start(from: StreamStart, tail: &Tail) -> Position {
        let bounds = tail.bounds();
        let (first, next) = (bounds.log_start, bounds.high_watermark);
        let end = bounds.end(Isolation::Committed);
        match from {
            StreamStart::First => Position::At(first),
            StreamStart::Last if end <= first => Position::At(first),
            StreamStart::Last => Position::BatchOf(Offset(end.0 - 1)),
            StreamStart::Next => Position::At(next),
            StreamStart::Offset(wanted) => Position::At(wanted.clamp(first, next)),
            StreamStart::AtTime(time) => Position::Since(time, next),
        }
    }
}

/// A log, and what its reader wants of it.
#[derive(Clone)]
pub(crate) struct Reader {
    pub store: Arc<dyn Store>,
    pub vhost: Text,
    pub name: Text,
    pub log: LogId,
    pub tails: Arc<[Arc<Tail>]>,
    pub filter: Option<StreamFilter>,
    /// Of the messages that records become.
    pub origin: Arc<Origin>,
}

/// What a read brought.
#[derive(Debug, Default)]
pub(crate) struct Stretch {
    pub messages: Vec<Arc<Message>>,
    /// Where the next read goes on, by partition.
    pub next: Vec<Position>,
}

impl Reader {
    /// Waits for a while until there is something from `positions` on. Bounded by what one read fetches.
    pub(crate) async fn read(self, positions: Vec<Position>) -> Result<Stretch, Refusal> {
        let mut from = Vec::with_capacity(positions.len());
        for (partition, position) in positions.iter().enumerate() {
            from.push(self.resolve(partition, *position).await?);
        }
        let partitions = from
            .iter()
            .enumerate()
            .map(|(partition, from)| FetchPartition {
                log: self.name.clone(),
                id: None,
                partition: partition as u32,
                from: *from,
                max_bytes: READ_BYTES,
            });
        let wanted = Fetch {
            partitions: partitions.collect(),
            min_bytes: 1,
            max_bytes: READ_BYTES,
            wait: WAIT,
            isolation: Isolation::Committed,
        };
        let tails = self.tails.iter().map(|tail| Some((self.log, tail.clone())));
        let (store, vhost) = (self.store.clone(), self.vhost.clone());
        let fetched = fetch(store, vhost, tails.collect(), wanted).await;
        let mut stretch = Stretch::default();
        for (at, fetched) in fetched.into_iter().enumerate() {
            let position = match positions[at] {
                Position::Since(..) => Position::At(from[at]),
                position => position,
            };
            let next = self.take(fetched, position, &mut stretch.messages)?;
            stretch.next.push(next);
        }
        Ok(stretch)
    }

    async fn resolve(&self, partition: usize, position: Position) -> Result<Offset, Refusal> {
        let (time, end) = match position {
            Position::At(offset) | Position::BatchOf(offset) => return Ok(offset),
            Position::Since(time, end) => (time, end),
        };
        let tail = self.tails[partition].clone();
        let at = OffsetSpec::AtTime(time);
        let (store, partition) = (self.store.clone(), partition as u32);
        let isolation = Isolation::Committed;
        let found = find_offset(store, self.log, partition, tail, at, isolation).await?;
        Ok(found.map_or(end, |(offset, _)| offset))
    }

    /// Takes the messages from a position on; where the next read goes on.
    fn take(
        &self,
        fetched: Fetched,
        position: Position,
        messages: &mut Vec<Arc<Message>>,
    ) -> Result<Position, Refusal> {
        let batches = match fetched.result {
            Ok(batches) => batches,
            // Retention was faster than the reader.
            Err(Refusal::OffsetOutOfRange(offset)) => {
                let tail = &self.tails[fetched.partition as usize];
                let bounds = tail.bounds();
                let nearest = offset.clamp(bounds.log_start, bounds.high_watermark);
                return Ok(Position::At(nearest));
            }
            Err(refusal) => return Err(refusal),
        };
        let from = match position {
            Position::At(offset) => offset,
            // The whole batch.
            Position::BatchOf(_) | Position::Since(..) => Offset(0),
        };
        let mut visible = Visible::new(&fetched.aborted);
        let mut next = position;
        for stored in &batches {
            let corrupt = |error: batch::BatchError| Refusal::Corrupt(error.to_string().into());
            let header = batch::parse(&stored.bytes).map_err(corrupt)?;
            let behind = Offset(stored.base.0 + u64::from(header.last_offset_delta) + 1);
            next = Position::At(behind);
            if !visible.shows(stored) {
                continue;
            }
            for record in self.readable(fetched.partition, stored) {
                let offset = Offset(stored.base.0 + u64::from(record.offset_delta));
                if offset >= from && self.wants(&record) {
                    messages.push(Arc::new(self.message(fetched.partition, offset, record)));
                }
            }
        }
        Ok(next)
    }

    /// The records of a batch up to the first that cannot be read: what a producer sends inside of one keeps nobody from
    /// what comes behind it.
    fn readable(&self, partition: u32, stored: &FetchedBatch) -> Vec<Record> {
        let mut readable = Vec::new();
        let records = record::records(&stored.bytes, DECOMPRESSED_MAX);
        let outcome = records.and_then(|mut records| {
            records.try_for_each(|record| record.map(|record| readable.push(record)))
        });
        if let Err(error) = outcome {
            let (log, base) = (&self.name, stored.base);
            tracing::warn!(%log, partition, %base, %error, "a reader leaves out records that it cannot read");
        }
        readable
    }

    fn message(&self, partition: u32, offset: Offset, record: Record) -> Message {
        let exchange = Text::new();
        message_from_record(
            &self.name,
            partition,
            offset,
            record,
            &exchange,
            &self.origin,
        )
    }

    fn wants(&self, record: &Record) -> bool {
        let Some(filter) = &self.filter else {
            return true;
        };
        let value = record::headers(record.headers.clone()).find(|(name, _)| name == FILTER_HEADER);
        match value {
            Some((_, Some(value))) => filter
                .values
                .iter()
                .any(|wanted| wanted.as_bytes() == &*value),
            _ => filter.match_unfiltered,
        }
    }
}
