//! Logs: partitions of record batches, offsets, and the tail that readers wait on.
//!
//! Start at [`Partition`], which a shard owns and appends to, and [`Tail`], its committed end that readers share;
//! `fetch` serves reads from the tail or the store. `batch`, `record`, `codec` and `builder` are the format,
//! `convert` the way between records and messages of other protocols.

mod batch;
mod builder;
mod check;
mod codec;
mod compaction;
mod control;
mod convert;
#[cfg(feature = "testing")]
mod exercise;
mod fetch;
mod intake;
mod partition;
mod producer;
mod record;
mod route_key;
mod scan;
mod segment;
mod settings;
mod stream;
mod tail;
mod visible;
mod walk;

pub(crate) use batch::parse;
pub use batch::{BatchError, Header, validate};
pub(crate) use compaction::{Left, Newest, Rule, hole};
pub use convert::record_place;
pub(crate) use convert::{
    NewRecord, Records, message_from_record, partition_for, record_from_message,
};
#[cfg(feature = "testing")]
pub use exercise::{exercise_batch, packed_batch, takes_batch};
pub(crate) use fetch::{behind_damage, fetch, find_offset};
pub(crate) use intake::Intake;
pub(crate) use partition::{Change, Committed, Compaction, Partition, delete_log, recover};
pub(crate) use producer::Marker;
pub(crate) use record::{Record, headers as record_headers, records, write_headers};
pub(crate) use scan::{Found, FoundRecord, Scan, Wanted};
pub(crate) use settings::Settings;
pub(crate) use stream::Position;
pub(crate) use tail::{Bounds, ConsumerGuard, Tail, TailBudget, is_compressed, may_retain};
pub use visible::Visible;
pub(crate) use walk::{Step, walk};
