//! What share groups are asked, and what they answer.

use std::time::Duration;

use super::{Acknowledgement, Acquired, LogUuid};
use crate::{
    command::OffsetSpec,
    group::{ConsumerDescription, ConsumerHeartbeat, GroupError, Heartbeat},
    id::Offset,
    properties::Text,
};

/// A partition of a log.
pub type SharePartition = (LogUuid, u32);

/// First and last record, and what became of them.
pub type Acknowledged = (Offset, Offset, Acknowledgement);

/// A request to a share group.
#[derive(Clone, Debug)]
pub enum ShareRequest {
    /// A member is there.
    Heartbeat(Box<ConsumerHeartbeat>),
    /// Describes the group.
    Describe,
    /// Where to read next for a member; answered by [`ShareAnswer::Positions`].
    Positions { partitions: Vec<SharePartition> },
    /// The group begins with a partition here, unless it has begun; answered by [`ShareAnswer::Positions`].
    Initialise {
        partition: SharePartition,
        start: Offset,
    },
    /// Takes records that were read; answered by [`ShareAnswer::Acquired`].
    Acquire {
        member: Text,
        reads: Vec<ShareRead>,
        records_max: u64,
        /// Not one more than that; else whole batches.
        strict: bool,
    },
    /// Decides the fate of acquired records; answered by [`ShareAnswer::Acknowledged`].
    Acknowledge {
        member: Text,
        acknowledgements: Vec<(SharePartition, Vec<Acknowledged>)>,
    },
    /// The member gives back all that it has.
    ReleaseAll { member: Text },
    /// Where the group is; `None` is everywhere. Answered by [`ShareAnswer::Offsets`].
    Offsets {
        partitions: Option<Vec<SharePartition>>,
    },
    /// Moves a group without members; `None` has it begin where its settings say.
    Alter {
        offsets: Vec<(SharePartition, Option<Offset>)>,
    },
    /// Has a group without members forget logs; answered by [`ShareAnswer::Forgotten`].
    Delete { logs: Vec<LogUuid> },
}

/// What was read of a partition.
#[derive(Clone, Debug)]
pub struct ShareRead {
    /// Of which.
    pub partition: SharePartition,
    /// The oldest record kept.
    pub log_start: Offset,
    /// First and last records of batches for applications.
    pub shown: Vec<(Offset, Offset)>,
    /// Of batches that are not for applications.
    pub skipped: Vec<(Offset, Offset)>,
}

/// Where to read next for a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// The group has not begun with the partition.
    Unknown,
    /// From there.
    At(Offset),
    /// Nowhere: as many records are with members as there may be.
    Full,
}

/// How a group's settings have its members read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Where it begins with a partition that it has not begun with.
    pub begin: OffsetSpec,
    /// Records of transactions are read once those have committed.
    pub committed_only: bool,
    /// How long a record is a member's alone.
    pub lock: Duration,
}

/// Where a group is in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShareOffset {
    /// Which.
    pub partition: SharePartition,
    /// All before it is done with; `None` where it is yet to begin.
    pub start: Option<Offset>,
    /// Records behind it that are done with too.
    pub done_ahead: u64,
}

/// What a share group answers.
#[derive(Clone, Debug)]
pub enum ShareAnswer {
    /// Done.
    Ok,
    /// What the member is to consume.
    Heartbeat(Heartbeat),
    /// The group as it is.
    Described(ConsumerDescription),
    /// One position for each partition.
    Positions {
        positions: Vec<Position>,
        /// What holds for reading.
        terms: Terms,
    },
    /// One for each read.
    Acquired(Vec<Vec<Acquired>>),
    /// One for each partition.
    Acknowledged(Vec<Result<(), GroupError>>),
    /// Those that there are.
    Offsets(Vec<ShareOffset>),
    /// Those that it knew.
    Forgotten(Vec<LogUuid>),
}
