//! Consumer groups: members, generations, assignments and committed offsets (the classic protocol of Kafka,
//! whose subscriptions and assignments are opaque bytes to the broker).

mod coordinator;
mod member;
mod offsets;
mod pending;
mod state;
mod subscription;
#[cfg(test)]
mod tests;

use std::time::Duration;

use bytes::Bytes;

pub(crate) use coordinator::{Answers, Groups, stored_group};

use crate::{id::Offset, properties::Text, transaction::OffsetsInTransaction};

/// A request to the coordinator of one group.
#[derive(Clone, Debug)]
pub enum GroupRequest {
    /// Enters the group or takes part in its next generation; answered when the generation is complete.
    Join {
        /// Empty for a new member.
        member: Text,
        /// Set for a static member.
        instance: Option<Text>,
        /// For ids of new members.
        client: Text,
        /// The peer's address, for descriptions.
        host: Text,
        /// Gone when silent for so long.
        session_timeout: Duration,
        /// How long the others may take to rejoin.
        rebalance_timeout: Duration,
        /// `consumer`, `connect` …
        protocol_type: Text,
        /// Names and metadata, preferred first.
        protocols: Vec<(Text, Bytes)>,
        /// Whether a new dynamic member is first sent away with an id.
        require_member_id: bool,
    },
    /// Hands in (leader) and asks for the assignment of a generation.
    Sync {
        generation: i32,
        member: Text,
        instance: Option<Text>,
        protocol_type: Option<Text>,
        protocol: Option<Text>,
        assignments: Vec<(Text, Bytes)>,
    },
    /// Says that a member is alive.
    Heartbeat {
        generation: i32,
        member: Text,
        instance: Option<Text>,
    },
    /// Takes members out.
    Leave { members: Vec<(Text, Option<Text>)> },
    /// Stores offsets. A generation below 0 with an empty member is a consumer without membership.
    Commit {
        generation: i32,
        member: Text,
        instance: Option<Text>,
        offsets: Vec<CommittedOffset>,
    },
    /// Hands in offsets that a transaction is to commit.
    CommitInTransaction(Box<OffsetsInTransaction>),
    /// Reads offsets; `None` is all there are.
    Offsets {
        partitions: Option<Vec<(Text, u32)>>,
        /// Whether those that a transaction is about to replace are wanted too.
        require_stable: bool,
    },
    /// Forgets offsets of partitions that no member subscribes to.
    DeleteOffsets { partitions: Vec<(Text, u32)> },
    /// Describes the group.
    Describe,
    /// Removes an empty group and its offsets.
    Delete,
}

/// An offset that a group has committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The log's name.
    pub log: Text,
    /// Which of its partitions.
    pub partition: u32,
    /// The next record to read.
    pub offset: Offset,
    /// The leader epoch that the member knew, or -1.
    pub leader_epoch: i32,
    /// The member's own note.
    pub metadata: Text,
}

/// An answer of a coordinator. `Err` says why not.
pub type GroupReply = Result<GroupAnswer, GroupError>;

/// What a coordinator answers when it can.
#[derive(Clone, Debug)]
pub enum GroupAnswer {
    /// The generation is complete.
    Joined {
        generation: i32,
        protocol_type: Text,
        protocol: Text,
        leader: Text,
        member: Text,
        /// Everyone's metadata, for the leader only.
        members: Vec<JoinedMember>,
        /// The leader must not compute a new assignment.
        skip_assignment: bool,
    },
    /// A member's part.
    Synced {
        protocol_type: Text,
        protocol: Text,
        assignment: Bytes,
    },
    /// Alive, or stored.
    Ok,
    /// Per member that was to leave.
    Left {
        members: Vec<(Text, Option<Text>, Result<(), GroupError>)>,
    },
    /// Offsets found; partitions without one are left out.
    Offsets {
        offsets: Vec<CommittedOffset>,
        /// Where a transaction is about to replace it, when only stable offsets are wanted.
        unstable: Vec<(Text, u32)>,
    },
    /// Per partition whose offset was to be forgotten.
    Deleted(Vec<Result<(), GroupError>>),
    /// The group as it is.
    Described(GroupDescription),
}

/// A group in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupInfo {
    /// Its name.
    pub group: Text,
    /// `consumer`, `connect`, `share` …
    pub protocol_type: Text,
    /// As in [`GroupDescription`].
    pub state: &'static str,
    /// `Classic`, `Consumer` or `Share`.
    pub kind: &'static str,
}

/// A member, as its leader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinedMember {
    /// Its id.
    pub member: Text,
    /// Its static name.
    pub instance: Option<Text>,
    /// Its metadata for the chosen protocol.
    pub metadata: Bytes,
}

/// A group, for administration.
#[derive(Clone, Debug, Default)]
pub struct GroupDescription {
    /// `Empty`, `PreparingRebalance`, `CompletingRebalance`, `Stable` or `Dead`.
    pub state: &'static str,
    /// `consumer`, `connect` …
    pub protocol_type: Text,
    /// The chosen protocol.
    pub protocol: Text,
    /// Its members.
    pub members: Vec<DescribedMember>,
}

/// A member, for administration.
#[derive(Clone, Debug, Default)]
pub struct DescribedMember {
    /// Its id.
    pub member: Text,
    /// Its static name.
    pub instance: Option<Text>,
    /// The client's own name for itself.
    pub client: Text,
    /// Its address.
    pub host: Text,
    /// Its metadata for the chosen protocol.
    pub metadata: Bytes,
    /// Its assignment.
    pub assignment: Bytes,
}

/// Why a coordinator would not, in the terms of the group protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// No such member.
    #[error("unknown member")]
    UnknownMember,
    /// Join again with this id.
    #[error("member id required: {0}")]
    MemberIdRequired(Text),
    /// Another generation is current.
    #[error("illegal generation")]
    IllegalGeneration,
    /// Join again: the group is forming a new generation.
    #[error("rebalance in progress")]
    RebalanceInProgress,
    /// No protocol in common, or another protocol type.
    #[error("inconsistent group protocol")]
    InconsistentProtocol,
    /// Another member has taken the static name.
    #[error("fenced instance id")]
    FencedInstance,
    /// The session timeout is out of bounds.
    #[error("invalid session timeout")]
    InvalidSessionTimeout,
    /// The name cannot be a group's.
    #[error("invalid group id")]
    InvalidGroup,
    /// A member subscribes to the log.
    #[error("group is subscribed to the topic")]
    SubscribedToLog,
    /// It has members and was to go only without.
    #[error("group is not empty")]
    NotEmpty,
    /// No such group.
    #[error("group not found")]
    NotFound,
    /// The transaction that offsets are part of has ended.
    #[error("transaction has ended")]
    TransactionEnded,
    /// The store failed.
    #[error("storage failed")]
    StorageFailed,
}
