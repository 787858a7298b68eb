//! Transactions (KIP-98, KIP-890): several partitions and the offsets of groups, all or nothing.
//!
//! ```text
//!             part added                      end
//!   Empty ────────────────► Ongoing ─────────────────────► Changing ──► Committed / Aborted
//!     ▲                        │     time is up, new init      ▲               │
//!     └── init ────────────────┴───────────────────────────────┴── part added ─┘
//! ```
//!
//! The coordinator knows who may write what to which transaction; partitions and groups keep what was written, and
//! hide it from readers of committed records until the transaction has ended. It ends in one storage batch over
//! all shards: the markers of all partitions, the offsets of all groups and the coordinator's own row. So there is
//! no prepared state to complete after a crash: a transaction has ended everywhere or nowhere. What was open when
//! the broker went down is found in the partitions and groups themselves, and stays open until its time is up.

mod coordinator;
mod driver;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub(crate) use coordinator::Coordinator;
pub(crate) use driver::{Transactions, run};

use crate::{group::CommittedOffset, id::Offset, properties::Text, time::Timestamp};

/// Which producer, and which of those that have had its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerIdentity {
    /// The id that its batches carry.
    pub id: i64,
    /// Goes up whenever an older producer of the id is fenced.
    pub epoch: i16,
}

/// Says that a batch is part of a transaction; whose is in the batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionPart {
    /// The transactional id.
    pub id: Text,
    /// Whether it adds its partition to the transaction, and begins one (KIP-890). Else both must have been done.
    pub implicit: bool,
}

/// A request to the coordinator of one transactional id.
#[derive(Clone, Debug)]
pub enum TransactionRequest {
    /// A producer begins: older ones are fenced, what they left open is aborted. Answered by
    /// [`TransactionAnswer::Producer`].
    Init {
        /// After which a transaction is aborted that was not ended.
        timeout: Duration,
        /// Set by a producer that only wants its epoch raised.
        expected: Option<ProducerIdentity>,
    },
    /// Adds partitions, all or none; begins a transaction. Answered by [`TransactionAnswer::Added`].
    AddPartitions {
        producer: ProducerIdentity,
        partitions: Vec<(Text, u32)>,
        /// Only asks whether they were added.
        verify_only: bool,
    },
    /// Adds the offsets of a group; begins a transaction.
    AddGroup {
        producer: ProducerIdentity,
        group: Text,
    },
    /// Ends the transaction; answered by [`TransactionAnswer::Producer`].
    End {
        producer: ProducerIdentity,
        commit: bool,
        /// Raises the epoch, so that nothing late gets into the next transaction (KIP-890).
        renew: bool,
    },
    /// Describes it.
    Describe,
}

/// Offsets that a transaction is to commit for a group.
#[derive(Clone, Debug)]
pub struct OffsetsInTransaction {
    /// The transactional id.
    pub id: Text,
    /// Whose transaction.
    pub producer: ProducerIdentity,
    /// Whether this adds the group to the transaction (KIP-890).
    pub implicit: bool,
    /// The member that consumed; below 0 and empty for one without membership.
    pub generation: i32,
    /// Its id.
    pub member: Text,
    /// Its static name.
    pub instance: Option<Text>,
    /// How far it consumed.
    pub offsets: Vec<CommittedOffset>,
}

/// An answer of the coordinator. `Err` says why not.
pub type TransactionReply = Result<TransactionAnswer, TransactionError>;

/// What the coordinator answers when it can.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransactionAnswer {
    /// Done.
    Ok,
    /// Who the producer is from now on.
    Producer(ProducerIdentity),
    /// Per partition that was to be added or verified.
    Added(Vec<Result<(), AddError>>),
    /// The transactional id as it is.
    Described(TransactionInfo),
}

/// Why a partition was not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddError {
    /// There is none.
    NoPartition,
    /// There is, but not all others.
    NotAttempted,
    /// It is not part of the transaction.
    NotAdded,
}

/// A transactional id, for administration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionInfo {
    /// Its name.
    pub id: Text,
    /// `Empty`, `Ongoing`, `PrepareCommit`, `PrepareAbort`, `CompleteCommit` or `CompleteAbort`.
    pub state: &'static str,
    /// Its producer.
    pub producer: ProducerIdentity,
    /// After which it is aborted.
    pub timeout: Duration,
    /// When its newest transaction began, unless the producer is newer.
    pub started: Option<Timestamp>,
    /// How long ago that is; without a transaction as long as there has been time.
    pub age: Duration,
    /// What it has written to.
    pub partitions: Vec<(Text, u32)>,
}

/// A producer as a partition knows it, for administration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerInfo {
    /// Its id.
    pub id: i64,
    /// The newest epoch seen.
    pub epoch: i16,
    /// The sequence number of its newest record, or -1.
    pub last_sequence: i32,
    /// When it last wrote.
    pub last_timestamp: Timestamp,
    /// The first record of its open transaction.
    pub open: Option<Offset>,
    /// Whether one of its transactions has ended here.
    pub is_marked: bool,
}

/// Why a coordinator would not, in the terms of the transaction protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransactionError {
    /// What was asked for makes no sense.
    #[error("invalid transactional id")]
    Invalid,
    /// Nobody has used this transactional id.
    #[error("transactional id not found")]
    NotFound,
    /// The time-out is not positive or longer than allowed.
    #[error("the transaction timeout is larger than the maximum that the broker allows")]
    InvalidTimeout,
    /// The transactional id has another producer id.
    #[error("the producer id is not that of the transactional id")]
    WrongProducer,
    /// A newer producer has the transactional id.
    #[error("there is a newer producer with the same transactional id")]
    Fenced,
    /// The transaction was aborted because its time was up.
    #[error("the transaction was aborted after its timeout")]
    TimedOut,
    /// There is no transaction, or it has ended otherwise.
    #[error("the producer attempted a transactional operation in an invalid state")]
    InvalidState,
    /// The partition or group was not added to the transaction.
    #[error("not part of the transaction")]
    NotAdded,
    /// The transaction is ending: ask again.
    #[error("the transaction is being ended")]
    Concurrent,
}
