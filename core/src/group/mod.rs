//! Consumer groups: members, generations, assignments and committed offsets (the classic protocol of Kafka,
//! whose subscriptions and assignments are opaque bytes to the broker).

mod coordinator;
mod member;
mod offsets;
mod state;
#[cfg(test)]
mod tests;

use std::time::Duration;

use bytes::Bytes;

pub(crate) use coordinator::{Answers, Groups, stored_group};

use crate::{id::Offset, properties::Text};

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
    /// Reads offsets; `None` is all there are.
    Offsets {
        partitions: Option<Vec<(Text, u32)>>,
    },
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
    Offsets(Vec<CommittedOffset>),
    /// The group as it is.
    Described(GroupDescription),
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
    /// It has members and was to go only without.
    #[error("group is not empty")]
    NotEmpty,
    /// No such group.
    #[error("group not found")]
    NotFound,
    /// The store failed.
    #[error("storage failed")]
    StorageFailed,
}
