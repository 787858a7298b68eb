//! Logs: partitions of record batches, offsets, and the tail that readers wait on.

mod tail;

pub(crate) use tail::Tail;
