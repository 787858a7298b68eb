//! Where readers of logs begin, and which records consumers of streams want.

use super::{
    record::{self, Record},
    tail::Tail,
};
use crate::{
    command::{Isolation, StreamFilter, StreamStart},
    id::Offset,
};

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

/// Whether a filter lets a record through.
pub(super) fn wants(filter: &StreamFilter, record: &Record) -> bool {
    let value = record::headers(record.headers.clone()).find(|(name, _)| name == FILTER_HEADER);
    match value {
        Some((_, Some(value))) => filter
            .values
            .iter()
            .any(|wanted| wanted.as_bytes() == &*value),
        _ => filter.match_unfiltered,
    }
}
