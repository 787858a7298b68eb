//! The core of Trivium: catalog, routing, queues, logs and groups, with no wire format and no disk.
//!
//! ```text
//!  front end ── Command ──► Link ── routed, grouped by shard ──► Shard ── batch ──► Store
//!  front end ◄── Event ──── Link ◄────── events, held until durable ──┘
//! ```
//!
//! Start reading at [`Command`] and [`Event`], the vocabulary of all protocols; then [`Broker`] and
//! [`Link`], then `shard`, which owns queues, partitions and groups, and [`store`], the seam below.

mod access;
mod announce;
mod backfill;
mod broker;
mod catalog;
mod census;
mod client_quota;
mod command;
mod commit;
mod compactor;
mod conversions;
mod dead_letters;
mod deaths;
mod definitions;
mod delay;
mod deliver;
mod event;
mod few_map;
mod filter;
pub mod group;
mod history;
mod id;
mod lag;
#[cfg(any(test, feature = "testing"))]
pub mod laws;
mod link;
mod log;
mod message;
mod metrics;
mod properties;
mod queue;
mod quota;
mod rare;
mod recovery;
mod replies;
mod retained;
mod shard;
mod share_letters;
mod signals;
mod snapshot;
pub mod store;
mod sweep;
mod tags;
mod tap;
mod time;
mod topic;
mod trace;
pub mod transaction;
pub mod typed;
mod wills;
mod window;

pub use access::{
    HashAlgorithm, PasswordHash, Permission, ScramHash, ScramKeys, TopicPermission, User,
};
pub use broker::{Broker, Options, SHARDS_MAX};

#[cfg(feature = "testing")]
pub use catalog::Routing;
pub use catalog::stream_age;
pub use client_quota::{ClientMeter, Meters, QuotaEntity, QuotaKind, QuotaName, QuotaValues};
pub use command::*;
pub use conversions::{ConversionTally, Conversions};
pub use deaths::{Death, Deaths, Reason};
pub use definitions::*;
pub use event::*;
pub use id::*;
pub use lag::{Lag, LagPlace, Reader, ReaderKind};
pub use link::{Link, Stopped};
pub use log::{
    BatchError, Header as BatchHeader, Visible, record_place, validate as validate_batch,
};
#[cfg(feature = "testing")]
pub use log::{exercise_batch, packed_batch, takes_batch};
pub use message::{Dialect, Message, Native, Origin, Persistence, Plain};
pub use metrics::Sample;
pub use properties::{Properties, Text, Value};
pub use queue::{OWN_IDS as OWN_PACKET_IDS, Overflow, QueueSettings, QueueType, Will};
pub use quota::{ChannelPlace, ChannelQuota, Limits, NODE, TooManyChannels};
pub use replies::REPLY_PREFIX;
pub use tags::Tags;
pub use time::{Now, Timestamp};
pub use topic::{Grammar, Pattern, Step, Topic, tokens};
pub use trace::{Details, Operation as TracedOperation, Span, Tracer};
