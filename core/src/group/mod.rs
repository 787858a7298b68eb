//! Consumer groups: members, generations, assignments and committed offsets (the classic protocol of Kafka,
//! whose subscriptions and assignments are opaque bytes to the broker).

mod assignor;
mod bounds;
mod consumer;
mod coordinator;
mod directory;
mod followers;
mod founding;
mod member;
mod offsets;
mod pending;
mod settings;
mod share;
mod state;
mod subscription;
#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;

pub use bounds::{Bounds, GroupBounds};
pub(crate) use coordinator::{Answers, Groups, stored_group};
pub use directory::LogUuid;
pub(crate) use followers::{Beginning, Follow, FollowStep, Start};
pub use settings::Begin;
pub(crate) use settings::DEAD_LETTER_LOG;
pub use share::{
    Acknowledged, Acknowledgement, Acquired, Position, ShareAnswer, ShareOffset, SharePartition,
    ShareRead, ShareRequest, Terms,
};
pub(crate) use share::{ShareBurial, ShareLetter};

use crate::{id::Offset, properties::Text, transaction::OffsetsInTransaction};

/// A member of the classic protocol that wants in, or into the next generation (JoinGroup).
#[derive(Clone, Debug)]
pub struct Join {
    /// Empty for a new member.
    pub member: Text,
    /// Set for a static member.
    pub instance: Option<Text>,
    /// For ids of new members.
    pub client: Text,
    /// The peer's address, for descriptions.
    pub host: Text,
    /// Gone when silent for so long.
    pub session_timeout: Duration,
    /// How long the others may take to rejoin.
    pub rebalance_timeout: Duration,
    /// `consumer`, `connect` …
    pub protocol_type: Text,
    /// Names and metadata, preferred first.
    pub protocols: Vec<(Text, Bytes)>,
    /// Whether a new dynamic member is first sent away with an id.
    pub require_member_id: bool,
    /// Whether it can be told that it leads and is to assign nothing (KIP-814).
    pub may_skip_assignment: bool,
}

/// A request to the coordinator of one group.
#[derive(Clone, Debug)]
pub enum GroupRequest {
    /// Enters the group or takes part in its next generation; answered when the generation is complete.
    Join(Box<Join>),
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
        /// Whether whoever asks can have a member epoch where others have a generation: its words are those of the
        /// consumer protocol.
        knows_member_epochs: bool,
        offsets: Vec<CommittedOffset>,
    },
    /// Hands in offsets that a transaction is to commit.
    CommitInTransaction(Box<OffsetsInTransaction>),
    /// Reads offsets; `None` is all there are.
    Offsets {
        partitions: Option<Vec<(Text, u32)>>,
        /// Whether those that a transaction is about to replace are to be told apart.
        require_stable: bool,
        /// Who asks, and its epoch, where it says so; it is to be a member then, if there are such of the consumer
        /// protocol.
        member: Option<(Text, i32)>,
    },
    /// Forgets offsets of partitions that no member subscribes to.
    DeleteOffsets { partitions: Vec<(Text, u32)> },
    /// A member of the consumer protocol (KIP-848) says that it is there, and what has changed.
    ConsumerHeartbeat(Box<ConsumerHeartbeat>),
    /// Describes a group of the consumer protocol.
    DescribeConsumer,
    /// A request to a share group (KIP-932).
    Share(ShareRequest),
    /// Sets or, without a value, resets settings of the group, which need not be there; answered as `Settings`.
    Configure {
        settings: Vec<(Text, Option<Text>)>,
        /// What is not mentioned is reset.
        replaces: bool,
        validate_only: bool,
    },
    /// Reads the settings that were set.
    Settings,
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
    /// The next record to read; whatever was committed, a negative number in two's complement.
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
    /// What the member is to consume.
    Heartbeat(Heartbeat),
    /// From a share group.
    Share(ShareAnswer),
    /// Settings that were set, by name.
    Settings(Vec<(Text, Text)>),
    /// The group of the consumer protocol as it is.
    DescribedConsumer(ConsumerDescription),
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
    /// `Classic`, `Consumer` or `Share`; empty where there is no group, but settings for it.
    pub kind: &'static str,
    /// Whether it has settings of its own.
    pub has_settings: bool,
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

/// What a member of the consumer protocol says. What it leaves out has not changed.
#[derive(Clone, Debug, Default)]
pub struct ConsumerHeartbeat {
    /// The id that it has chosen.
    pub member: Text,
    /// 0 to join, -1 to leave, -2 to leave for a while as a static member.
    pub epoch: i32,
    /// Its static name.
    pub instance: Option<Text>,
    /// Where it runs.
    pub rack: Option<Text>,
    /// The client's own name for itself.
    pub client: Text,
    /// Its address.
    pub host: Text,
    /// How long it may take to let go of partitions.
    pub rebalance_timeout: Option<Duration>,
    /// The logs that it subscribes to.
    pub names: Option<Vec<Text>>,
    /// A pattern of logs that it subscribes to; empty for none.
    pub pattern: Option<Text>,
    /// How partitions are to be assigned.
    pub assignor: Option<Text>,
    /// What it has.
    pub owned: Option<BTreeSet<(LogUuid, u32)>>,
}

/// What a member of the consumer or share protocol is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// Its id.
    pub member: Text,
    /// Its epoch from now on.
    pub epoch: i32,
    /// When to say something again.
    pub interval: Duration,
    /// What it is to consume, if that is to be said.
    pub assignment: Option<Vec<AssignedLog>>,
}

/// Partitions of one log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AssignedLog {
    /// The log.
    pub uuid: LogUuid,
    /// Its name; only for administration.
    pub name: Text,
    /// Its partitions, ascending.
    pub partitions: Vec<u32>,
}

/// A group of the consumer or share protocol, for administration.
#[derive(Clone, Debug, Default)]
pub struct ConsumerDescription {
    /// `Empty`, `Assigning`, `Reconciling` or `Stable`.
    pub state: &'static str,
    /// Goes up with every change.
    pub epoch: i32,
    /// Of the assignment.
    pub assignment_epoch: i32,
    /// How partitions are assigned.
    pub assignor: &'static str,
    /// Its members.
    pub members: Vec<ConsumerMemberDescription>,
}

/// A member of the consumer or share protocol, for administration.
#[derive(Clone, Debug, Default)]
pub struct ConsumerMemberDescription {
    /// Its id.
    pub member: Text,
    /// Its static name.
    pub instance: Option<Text>,
    /// Where it runs.
    pub rack: Option<Text>,
    /// Its epoch.
    pub epoch: i32,
    /// The client's own name for itself.
    pub client: Text,
    /// Its address.
    pub host: Text,
    /// The logs that it subscribes to.
    pub names: Vec<Text>,
    /// A pattern of logs that it subscribes to.
    pub pattern: Option<Text>,
    /// What it consumes.
    pub assigned: Vec<AssignedLog>,
    /// What it is to consume.
    pub target: Vec<AssignedLog>,
    /// Whether it speaks the classic protocol.
    pub is_classic: bool,
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
    #[error("the static name is that of member {0}")]
    FencedInstance(Text),
    /// The session timeout is out of bounds.
    #[error("invalid session timeout")]
    InvalidSessionTimeout,
    /// The name cannot be a group's.
    #[error("invalid group id")]
    InvalidGroup,
    /// A member subscribes to the log.
    #[error("group is subscribed to the topic")]
    SubscribedToLog,
    /// What was asked for makes no sense.
    #[error("{0}")]
    Invalid(&'static str),
    /// Records were acknowledged that nobody has had yet; whether the first of them or the last.
    #[error("Batch record not found. The {0} offset in request is past acquired records.")]
    PastAcquired(&'static str),
    /// A setting is not known, or has no such value.
    #[error("{0}")]
    InvalidSettings(Text),
    /// A group of the classic protocol that cannot become one of the consumer protocol, and why.
    #[error("Cannot upgrade classic group {0} to consumer group because {1}.")]
    CannotUpgrade(Text, &'static str),
    /// No such assignor.
    #[error("the assignor is not known: there are uniform and range")]
    UnsupportedAssignor,
    /// The pattern cannot be read.
    #[error("the regular expression is not valid")]
    InvalidPattern,
    /// The static name belongs to a member that has not left.
    #[error("the static name is owned by member {0}, which has not left the group")]
    UnreleasedInstance(Text),
    /// The member is behind or ahead of what the group knows of it: it begins again.
    #[error("the member epoch is fenced: it is {known}")]
    FencedMemberEpoch {
        /// Its epoch.
        known: i32,
        /// The one before, of a member of a share group.
        previous: Option<i32>,
    },
    /// The member's epoch is not the current one.
    #[error("the member epoch is stale")]
    StaleMemberEpoch,
    /// A member of the consumer protocol has asked in words that have no member epoch.
    #[error(
        "OffsetCommit version 9 or above must be used by members using the consumer group protocol"
    )]
    WithoutMemberEpoch,
    /// The records are not with the member.
    #[error("The offset cannot be acknowledged. The offset is not acquired.")]
    InvalidRecordState,
    /// The share group has never read the partition, or it is gone.
    #[error("the share group does not know the partition")]
    UnknownSharePartition,
    /// It has as many members as there may be.
    #[error("the group is full")]
    Full,
    /// It has members and was to go only without.
    #[error("group is not empty")]
    NotEmpty,
    /// No such group.
    #[error("group not found")]
    NotFound,
    /// A group of another kind than this, which was asked for: `classic`, `consumer` or `share`.
    #[error("the group is not a {0} group")]
    OtherKind(&'static str),
    /// The transaction that offsets are part of has ended.
    #[error("transaction has ended")]
    TransactionEnded,
    /// The store failed.
    #[error("storage failed")]
    StorageFailed,
}
