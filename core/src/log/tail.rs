//! The committed end of a partition, shared between the shard that appends and the links that read.

/// The committed end of one partition.
#[derive(Debug, Default)]
pub(crate) struct Tail {}
