//! One group: the classic protocol of Kafka's coordinator.
//!
//! ```text
//!             first join                all joined, or time is up           leader's sync
//!   Empty ───────────────► Preparing ─────────────────────────► Completing ──────────────► Stable
//!     ▲                     │  ▲  ▲                                 │                         │
//!     └── nobody is left ───┘  │  └── join, leave, silence ─────────┘                         │
//!                              └── join, leave, silence ──────────────────────────────────────┘
//! ```
//!
//! Joins and syncs are parked until the group moves on; each is answered exactly once, also when its member goes
//! or asks again.

mod administration;
mod following;
mod joining;
mod members;
mod membership;
mod migration;
mod protocols;
mod rebalance;
mod standing;
mod syncing;
mod timing;

pub(super) use self::protocols::FIRST_EPOCH;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use rustc_hash::FxHashMap;

use self::{
    administration::Committer,
    members::Stored,
    rebalance::Initial,
    timing::{EMPTY_RETENTION, OFFSETS_RETENTION},
};
use super::{
    GroupAnswer, GroupError, GroupInfo, GroupRequest,
    consumer::ConsumerGroup,
    coordinator::{Answers, Caller, GroupName},
    directory::{Directory, LogUuid, TopicPartition},
    followers::{self, Followers},
    member::Member,
    offsets::Offsets,
    pending::PendingOffsets,
    settings::GroupSettings,
    share::{ShareBurial, ShareGroup, ShareLetter},
    subscription,
};
use crate::{
    lag::ReaderKind,
    properties::Text,
    store::{Batch, StoreError},
    time::Now,
};

/// As Kafka's `group.min.session.timeout.ms` and `group.max.session.timeout.ms`.
const SESSION_TIMEOUTS: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(6)..=Duration::from_secs(1800);

/// A group with its members, its generation and its offsets.
#[derive(Debug)]
pub(super) struct Group {
    name: GroupName,
    settings: Arc<GroupSettings>,
    state: State,
    generation: i32,
    protocol_type: Text,
    protocol: Text,
    leader: Text,
    /// By id.
    members: BTreeMap<Text, Member>,
    /// Ids of static members, by their names.
    instances: FxHashMap<Text, Text>,
    /// Ids given out to members that are to join again with them, and until when.
    pending: BTreeMap<Text, Instant>,
    offsets: Offsets,
    /// Offsets that transactions are to commit.
    uncommitted: PendingOffsets,
    /// Set while it is a group of the consumer protocol; then it has no other members. Those that speak the classic
    /// protocol are among them.
    consumers: Option<Box<ConsumerGroup>>,
    /// Set where it is a share group; then it is nothing else.
    share: Option<Box<ShareGroup>>,
    /// Consumers of streams; while there are any the group has no other members.
    followers: Followers,
    /// What its members are, or were last.
    kind: ReaderKind,
    initial_rebalance_delay: Duration,
    /// When those who have not rejoined are left behind.
    join_by: Option<Instant>,
    /// Of a group that was empty: how much longer its first generation may still be put off for newcomers.
    initial: Option<Initial>,
    /// When those who have not asked for their part of the generation are dropped.
    sync_by: Option<Instant>,
    /// When a group without members is forgotten.
    forget_at: Option<Instant>,
    /// Whether the store knows the members.
    stored: Stored,
    dead: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Empty,
    Preparing,
    Completing,
    Stable,
}

impl Group {
    pub fn new(
        name: GroupName,
        settings: Arc<GroupSettings>,
        initial_rebalance_delay: Duration,
    ) -> Group {
        Group {
            name,
            settings,
            state: State::Empty,
            generation: 0,
            protocol_type: Text::new(),
            protocol: Text::new(),
            leader: Text::new(),
            members: BTreeMap::new(),
            instances: FxHashMap::default(),
            pending: BTreeMap::new(),
            offsets: Offsets::default(),
            uncommitted: PendingOffsets::default(),
            consumers: None,
            share: None,
            followers: Followers::default(),
            kind: ReaderKind::Classic,
            initial_rebalance_delay,
            join_by: None,
            initial: None,
            sync_by: None,
            forget_at: None,
            stored: Stored::Nothing,
            dead: false,
        }
    }

    /// A member of the share group gives back what it has.
    pub fn release(&mut self, member: &Text, batch: &mut Batch) {
        if let Some(share) = &mut self.share {
            share.release_all(&self.name, member, batch);
        }
    }

    /// What the share group has given up since the last time.
    pub fn take_letters(&mut self) -> Vec<ShareLetter> {
        let share = self.share.as_mut();
        share.map(|share| share.take_letters()).unwrap_or_default()
    }

    /// Dead letters of the share group have arrived.
    pub fn bury(&mut self, burial: ShareBurial, batch: &mut Batch) {
        if let Some(share) = &mut self.share {
            share.bury(burial, batch);
        }
    }

    /// Goes on under other settings.
    pub fn configure(&mut self, settings: Arc<GroupSettings>) {
        if let Some(consumers) = &mut self.consumers {
            consumers.settings = settings.clone();
        }
        if let Some(share) = &mut self.share {
            share.settings = settings.clone();
        }
        self.settings = settings;
    }

    /// The group as a share group, which it becomes if it is none.
    fn share_mut(&mut self) -> &mut ShareGroup {
        let new = || Box::new(ShareGroup::new(self.settings.clone()));
        self.share.get_or_insert_with(new)
    }

    /// A log is gone, and what was committed for it.
    pub fn forget_log(&mut self, log: &str, uuid: LogUuid, batch: &mut Batch) {
        if let Some(share) = &mut self.share {
            share.forget_log(&self.name, uuid, batch);
        }
        self.offsets.forget_log(&self.name, log, batch);
        self.uncommitted.forget_log(&self.name, log, batch);
    }

    /// Takes an offset that a transaction is to commit, found when the broker opened.
    pub fn restore_pending(
        &mut self,
        producer: i64,
        log: Text,
        partition: u32,
        value: Bytes,
    ) -> Result<(), StoreError> {
        self.uncommitted.restore(producer, log, partition, value)
    }

    /// Takes what a share group knows of a partition, found when the broker opened.
    pub fn restore_share(
        &mut self,
        partition: TopicPartition,
        value: Bytes,
    ) -> Result<(), StoreError> {
        self.share_mut().restore(partition, value)
    }

    /// The producers of transactions that are to commit offsets here.
    pub fn pending_producers(&self) -> impl Iterator<Item = i64> {
        self.uncommitted.producers()
    }

    /// A producer's transaction has ended.
    pub fn end_transaction(&mut self, now: Now, producer: i64, commit: bool, batch: &mut Batch) {
        let offsets = self.uncommitted.take(&self.name, producer, batch);
        if commit {
            self.offsets.commit(now.wall, &self.name, offsets, batch);
        }
        self.forget_at = None;
        self.note_emptiness(now.instant);
    }

    pub fn info(&self) -> GroupInfo {
        let group = self.name.1.clone();
        if let Some(share) = &self.share {
            return GroupInfo {
                group,
                protocol_type: Text::from_static("share"),
                state: share.state(),
                kind: "Share",
                has_settings: false,
            };
        }
        match &self.consumers {
            Some(consumers) => GroupInfo {
                group,
                protocol_type: Text::from_static(subscription::CONSUMER),
                state: consumers.state(),
                kind: "Consumer",
                has_settings: false,
            },
            None if !self.followers.is_empty() => GroupInfo {
                group,
                protocol_type: Text::from_static(followers::PROTOCOL_TYPE),
                state: "Stable",
                kind: "Classic",
                has_settings: false,
            },
            None => GroupInfo {
                group,
                protocol_type: self.protocol_type.clone(),
                state: self.state(),
                kind: "Classic",
                has_settings: false,
            },
        }
    }

    /// Takes a row that was found when the broker opened.
    pub fn restore(&mut self, log: Text, partition: u32, value: Bytes) -> Result<(), StoreError> {
        self.offsets.restore(log, partition, value)
    }

    /// All rows were found.
    pub fn recovered(&mut self, now: Now, batch: &mut Batch) {
        self.resume_members(now);
        if let Some(share) = &mut self.share {
            share.recovered(&self.name, batch);
        }
        let age = Duration::from_millis(now.wall.0.saturating_sub(self.offsets.newest().0));
        let retention = match self.offsets.is_empty() {
            true => EMPTY_RETENTION,
            false => OFFSETS_RETENTION.saturating_sub(age),
        };
        self.forget_at = Some(now.instant + retention);
    }

    fn state(&self) -> &'static str {
        match self.state {
            State::Empty => "Empty",
            State::Preparing => "PreparingRebalance",
            State::Completing => "CompletingRebalance",
            State::Stable => "Stable",
        }
    }

    /// Whether it can be forgotten.
    pub fn is_dead(&self) -> bool {
        self.dead
    }

    pub fn handle(
        &mut self,
        now: Now,
        directory: &Directory,
        from: Caller,
        request: GroupRequest,
        answers: &mut Answers,
        batch: &mut Batch,
    ) {
        self.answer(now, directory, from, request, answers, batch);
        self.note_kind(batch);
        self.store_members(batch);
    }

    fn answer(
        &mut self,
        now: Now,
        directory: &Directory,
        from: Caller,
        request: GroupRequest,
        answers: &mut Answers,
        batch: &mut Batch,
    ) {
        if self.is_followed(&request) {
            answers.push((from, Err(GroupError::InconsistentProtocol)));
            return;
        }
        let request = match self.handle_share(now, directory, request, batch) {
            Ok(answer) => {
                answers.push((from, answer));
                self.note_emptiness(now.instant);
                return;
            }
            Err(request) => request,
        };
        let request = match self.handle_protocol(now, directory, request, answers) {
            Ok(answer) => {
                answers.push((from, answer));
                self.note_emptiness(now.instant);
                return;
            }
            Err(request) => request,
        };
        let answer = match request {
            GroupRequest::Join(join) => self.join(now, from, *join, answers).transpose(),
            GroupRequest::Sync {
                generation,
                member,
                instance,
                protocol_type,
                protocol,
                assignments,
            } => {
                let same =
                    |given: Option<Text>, own: &Text| given.is_none_or(|given| given == *own);
                let consistent =
                    same(protocol_type, &self.protocol_type) && same(protocol, &self.protocol);
                self.sync(
                    now,
                    from,
                    generation,
                    &member,
                    instance,
                    consistent,
                    assignments,
                    answers,
                )
                .transpose()
            }
            GroupRequest::Heartbeat {
                generation,
                member,
                instance,
            } => Some(self.heartbeat(now, generation, &member, instance)),
            GroupRequest::Leave { members } => Some(Ok(self.leave(now, members, answers))),
            GroupRequest::Commit {
                generation,
                member,
                instance,
                knows_member_epochs,
                offsets,
            } => {
                let by = Committer {
                    member: &member,
                    instance: instance.as_ref(),
                    generation,
                    knows_member_epochs,
                    in_transaction: false,
                };
                let may = self.may_commit(now, directory, by, &offsets);
                Some(may.map(|()| {
                    self.offsets.commit(now.wall, &self.name, offsets, batch);
                    self.forget_at = None;
                    GroupAnswer::Ok
                }))
            }
            GroupRequest::CommitInTransaction(commit) => {
                Some(self.commit_in_transaction(now, directory, *commit, batch))
            }
            GroupRequest::Offsets {
                partitions,
                require_stable,
                member,
            } => Some(
                self.may_read(member)
                    .map(|()| self.read_offsets(partitions, require_stable)),
            ),
            GroupRequest::DeleteOffsets { partitions } => {
                Some(self.delete_offsets(directory, &partitions, batch))
            }
            GroupRequest::Share(_) | GroupRequest::Configure { .. } | GroupRequest::Settings => {
                Some(Err(GroupError::NotFound))
            }
            GroupRequest::ConsumerHeartbeat(_) => Some(Err(GroupError::InconsistentProtocol)),
            GroupRequest::DescribeConsumer => Some(Err(GroupError::OtherKind("consumer"))),
            GroupRequest::Describe => Some(Ok(GroupAnswer::Described(self.describe()))),
            GroupRequest::Delete => Some(self.delete(batch)),
        };
        answers.extend(answer.map(|answer| (from, answer)));
        self.note_emptiness(now.instant);
    }
}
