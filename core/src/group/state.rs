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
mod joining;
mod members;
mod migration;
mod protocols;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use rustc_hash::FxHashMap;

use self::members::Stored;
use super::{
    GroupAnswer, GroupError, GroupInfo, GroupReply, GroupRequest,
    consumer::ConsumerGroup,
    coordinator::{Answers, Caller, GroupName},
    directory::{Directory, LogUuid, TopicPartition},
    member::Member,
    offsets::Offsets,
    pending::PendingOffsets,
    settings::GroupSettings,
    share::{ShareBurial, ShareGroup, ShareLetter},
    subscription,
};
use crate::{
    properties::Text,
    store::{Batch, StoreError},
    time::Now,
};

/// As Kafka's `group.min.session.timeout.ms` and `group.max.session.timeout.ms`.
const SESSION_TIMEOUTS: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(6)..=Duration::from_secs(1800);
/// A new member has not seen its id, so it sends no heartbeats; after this its client has come back as another.
const NEW_MEMBER_TIMEOUT: Duration = Duration::from_secs(300);
/// As Kafka's `offsets.retention.minutes`: offsets of a group without members.
const OFFSETS_RETENTION: Duration = Duration::from_secs(7 * 24 * 3600);
/// A group without members and offsets; as Kafka's `offsets.retention.check.interval.ms`.
const EMPTY_RETENTION: Duration = Duration::from_secs(600);

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

/// The first rebalance of an empty group waits for more members, again for each that came meanwhile.
#[derive(Clone, Copy, Debug)]
struct Initial {
    delay: Duration,
    remaining: Duration,
    newcomers: bool,
}

/// A member that wants in, as its join says.
struct Joining {
    instance: Option<Text>,
    client: Text,
    host: Text,
    session_timeout: Duration,
    rebalance_timeout: Duration,
    protocols: Vec<(Text, Bytes)>,
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
        self.forget_at = Some(now.instant + OFFSETS_RETENTION.saturating_sub(age));
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
            GroupRequest::Join {
                member,
                instance,
                client,
                host,
                session_timeout,
                rebalance_timeout,
                protocol_type,
                protocols,
                require_member_id,
            } => {
                let joining = Joining {
                    instance,
                    client,
                    host,
                    session_timeout,
                    rebalance_timeout,
                    protocols,
                };
                let joined = self.join(
                    now,
                    from,
                    member,
                    joining,
                    protocol_type,
                    require_member_id,
                    answers,
                );
                joined.transpose()
            }
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
                offsets,
            } => Some(
                self.may_commit(now, generation, &member, instance, false)
                    .map(|()| {
                        self.offsets.commit(now.wall, &self.name, offsets, batch);
                        self.forget_at = None;
                        GroupAnswer::Ok
                    }),
            ),
            GroupRequest::CommitInTransaction(commit) => {
                Some(self.commit_in_transaction(now, *commit, batch))
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
                Some(Ok(self.delete_offsets(directory, &partitions, batch)))
            }
            GroupRequest::Share(_) | GroupRequest::Configure { .. } | GroupRequest::Settings => {
                Some(Err(GroupError::NotFound))
            }
            GroupRequest::ConsumerHeartbeat(_) => Some(Err(GroupError::InconsistentProtocol)),
            GroupRequest::DescribeConsumer => Some(Err(GroupError::NotFound)),
            GroupRequest::Describe => Some(Ok(GroupAnswer::Described(self.describe()))),
            GroupRequest::Delete => Some(self.delete(batch)),
        };
        answers.extend(answer.map(|answer| (from, answer)));
        self.note_emptiness(now.instant);
    }

    // Rebalancing

    fn rebalance_or_complete(&mut self, now: Now, answers: &mut Answers) {
        match self.state {
            State::Preparing => self.complete_if_all_joined(now, answers),
            _ => self.prepare(now, answers),
        }
    }

    /// Begins a rebalance: all members are to join again.
    fn prepare(&mut self, now: Now, answers: &mut Answers) {
        for member in self.members.values_mut() {
            member.owes_sync = false;
            if let Some(caller) = member.syncing.take() {
                member.touch(now.instant);
                answers.push((caller, Err(GroupError::RebalanceInProgress)));
            }
        }
        self.sync_by = None;
        let was_empty = self.state == State::Empty;
        self.state = State::Preparing;
        if was_empty {
            let delay = self.initial_rebalance_delay;
            let remaining = self.rebalance_timeout().saturating_sub(delay);
            self.initial = Some(Initial {
                delay,
                remaining,
                newcomers: false,
            });
            self.join_by = Some(now.instant + delay);
            if delay.is_zero() {
                self.complete(now, answers);
            }
            return;
        }
        self.join_by = Some(now.instant + self.rebalance_timeout());
        self.complete_if_all_joined(now, answers);
    }

    fn complete_if_all_joined(&mut self, now: Now, answers: &mut Answers) {
        let all_joined =
            self.members.values().all(|member| member.joining.is_some()) && self.pending.is_empty();
        if self.state == State::Preparing && self.initial.is_none() && all_joined {
            self.complete(now, answers);
        }
    }

    /// The longest that any member allows.
    fn rebalance_timeout(&self) -> Duration {
        self.members
            .values()
            .map(|member| member.rebalance_timeout)
            .max()
            .unwrap_or_default()
    }

    fn join_time_is_up(&mut self, now: Now, answers: &mut Answers) {
        if let Some(Initial {
            delay,
            remaining,
            newcomers: true,
        }) = self.initial.filter(|it| !it.remaining.is_zero())
        {
            let next = self.initial_rebalance_delay.min(remaining);
            let remaining = remaining.saturating_sub(delay);
            self.initial = Some(Initial {
                delay: next,
                remaining,
                newcomers: false,
            });
            self.join_by = Some(now.instant + next);
            return;
        }
        self.complete(now, answers);
    }

    /// Ends the joining: whoever is there makes up the next generation.
    fn complete(&mut self, now: Now, answers: &mut Answers) {
        self.initial = None;
        self.join_by = None;
        // Static members may be away for as long as their session lasts.
        let absent = |member: &Member| member.joining.is_none() && member.instance.is_none();
        self.members.retain(|_, member| !absent(member));
        if !self.members.is_empty() && !self.elect_leader() {
            self.join_by = Some(now.instant + self.rebalance_timeout());
            return;
        }
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        if self.members.is_empty() {
            self.become_empty();
            return;
        }
        self.protocol = self.select_protocol();
        self.state = State::Completing;
        self.sync_by = Some(now.instant + self.rebalance_timeout());
        let ids: Vec<Text> = self.members.keys().cloned().collect();
        for id in ids {
            let answer = self.joined(&id, self.leader.clone(), self.leader == id);
            let Some(member) = self.members.get_mut(&id) else {
                continue;
            };
            answers.extend(member.joining.take().map(|caller| (caller, Ok(answer))));
            (member.is_new, member.owes_sync) = (false, true);
            member.touch(now.instant);
        }
    }

    fn become_empty(&mut self) {
        self.state = State::Empty;
        (self.protocol, self.leader) = (Text::new(), Text::new());
        (self.join_by, self.initial, self.sync_by) = (None, None, None);
    }

    /// The leader stays if it is there, else one of those that are takes over. False if nobody is.
    fn elect_leader(&mut self) -> bool {
        let is_here = |member: &&Member| member.joining.is_some();
        if self.members.get(&self.leader).filter(is_here).is_some() {
            return true;
        }
        let next = self
            .members
            .values()
            .find(is_here)
            .map(|member| member.id.clone());
        let found = next.is_some();
        self.leader = next.unwrap_or_else(|| self.leader.clone());
        found
    }

    /// Each member votes for the protocol it prefers among those that all support; the most votes win.
    fn select_protocol(&self) -> Text {
        let by_all = |name: &Text| self.members.values().all(|member| member.supports(name));
        let mut votes: BTreeMap<&Text, usize> = BTreeMap::new();
        for member in self.members.values() {
            let vote = member
                .protocols
                .iter()
                .map(|(name, _)| name)
                .find(|name| by_all(name));
            if let Some(vote) = vote {
                *votes.entry(vote).or_default() += 1;
            }
        }
        votes
            .into_iter()
            .max_by_key(|(_, count)| *count)
            .map(|(name, _)| name.clone())
            .unwrap_or_default()
    }

    // Membership

    /// Whether `id` is a member and, where it says so, the one behind its static name.
    fn check_member(&self, id: &Text, instance: Option<&Text>) -> Result<(), GroupError> {
        if let Some(instance) = instance {
            match self.instances.get(instance) {
                None => return Err(GroupError::UnknownMember),
                Some(current) if current != id => return Err(GroupError::FencedInstance),
                Some(_) => {}
            }
        }
        if self.members.contains_key(id) {
            Ok(())
        } else {
            Err(GroupError::UnknownMember)
        }
    }

    /// The answer, or none before the leader's assignment.
    #[expect(clippy::too_many_arguments, reason = "one request")]
    fn sync(
        &mut self,
        now: Now,
        from: Caller,
        generation: i32,
        id: &Text,
        instance: Option<Text>,
        consistent: bool,
        assignments: Vec<(Text, Bytes)>,
        answers: &mut Answers,
    ) -> Result<Option<GroupAnswer>, GroupError> {
        self.check_member(id, instance.as_ref())?;
        if generation != self.generation {
            return Err(GroupError::IllegalGeneration);
        }
        if self.state != State::Preparing && !consistent {
            return Err(GroupError::InconsistentProtocol);
        }
        match self.state {
            State::Empty => Err(GroupError::UnknownMember),
            State::Preparing => Err(GroupError::RebalanceInProgress),
            State::Completing => {
                if let Some(member) = self.members.get_mut(id) {
                    member.owes_sync = false;
                    let earlier = member.syncing.replace(from);
                    answers.extend(
                        earlier.map(|caller| (caller, Err(GroupError::RebalanceInProgress))),
                    );
                }
                if self.leader == *id {
                    self.assign(now, assignments, answers);
                }
                self.end_sync_if_complete();
                Ok(None)
            }
            State::Stable => {
                let assignment = self.members.get_mut(id).map(|member| {
                    member.owes_sync = false;
                    member.touch(now.instant);
                    member.assignment.clone()
                });
                self.end_sync_if_complete();
                Ok(Some(self.synced(assignment.unwrap_or_default())))
            }
        }
    }

    /// Takes the leader's assignment and hands out the parts that are waited for. Who is not in it gets nothing.
    fn assign(&mut self, now: Now, assignments: Vec<(Text, Bytes)>, answers: &mut Answers) {
        let mut assignments: FxHashMap<Text, Bytes> = assignments.into_iter().collect();
        self.state = State::Stable;
        let mut members = std::mem::take(&mut self.members);
        for member in members.values_mut() {
            member.assignment = assignments.remove(&member.id).unwrap_or_default();
            if let Some(caller) = member.syncing.take() {
                member.touch(now.instant);
                answers.push((caller, Ok(self.synced(member.assignment.clone()))));
            }
        }
        self.members = members;
        self.members_changed();
    }

    fn end_sync_if_complete(&mut self) {
        if self.members.values().all(|member| !member.owes_sync) {
            self.sync_by = None;
        }
    }

    fn synced(&self, assignment: Bytes) -> GroupAnswer {
        GroupAnswer::Synced {
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            assignment,
        }
    }

    fn heartbeat(
        &mut self,
        now: Now,
        generation: i32,
        id: &Text,
        instance: Option<Text>,
    ) -> GroupReply {
        self.check_member(id, instance.as_ref())?;
        if generation != self.generation {
            return Err(GroupError::IllegalGeneration);
        }
        if let Some(member) = self.members.get_mut(id) {
            member.touch(now.instant);
        }
        match self.state {
            State::Empty => Err(GroupError::UnknownMember),
            State::Preparing => Err(GroupError::RebalanceInProgress),
            State::Completing | State::Stable => Ok(GroupAnswer::Ok),
        }
    }

    fn leave(
        &mut self,
        now: Now,
        leaving: Vec<(Text, Option<Text>)>,
        answers: &mut Answers,
    ) -> GroupAnswer {
        let mut left = Vec::with_capacity(leaving.len());
        for (id, instance) in leaving {
            let result = self.leave_one(&id, instance.as_ref(), answers);
            left.push((id, instance, result));
        }
        if left.iter().any(|(_, _, result)| result.is_ok()) {
            self.members_left(now, answers);
        }
        GroupAnswer::Left { members: left }
    }

    fn leave_one(
        &mut self,
        id: &Text,
        instance: Option<&Text>,
        answers: &mut Answers,
    ) -> Result<(), GroupError> {
        if instance.is_none() && self.pending.remove(id).is_some() {
            return Ok(());
        }
        // An administrator names a static member without knowing its id.
        let by_name = instance
            .filter(|_| id.is_empty())
            .and_then(|instance| self.instances.get(instance))
            .cloned();
        let id = by_name.unwrap_or_else(|| id.clone());
        self.check_member(&id, instance)?;
        self.remove(&id, answers);
        Ok(())
    }

    /// Takes a member out and answers what it still waits for.
    fn remove(&mut self, id: &Text, answers: &mut Answers) {
        let Some(mut member) = self.members.remove(id) else {
            return;
        };
        let parked = member
            .joining
            .take()
            .into_iter()
            .chain(member.syncing.take());
        answers.extend(parked.map(|caller| (caller, Err(GroupError::UnknownMember))));
        if let Some(instance) = &member.instance {
            self.instances.remove(instance);
        }
        if self.leader == *id {
            self.leader = self.members.keys().next().cloned().unwrap_or_default();
        }
    }

    fn members_left(&mut self, now: Now, answers: &mut Answers) {
        match self.state {
            State::Empty => {}
            State::Preparing => self.complete_if_all_joined(now, answers),
            State::Completing | State::Stable => self.prepare(now, answers),
        }
    }

    // Time

    /// When [`Group::tick`] has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        let members = self.members.values().filter_map(Member::deadline);
        let pending = self.pending.values().copied();
        members
            .chain(pending)
            .chain(self.join_by)
            .chain(self.sync_by)
            .chain(self.forget_at)
            .chain(self.consumers.as_ref().and_then(|it| it.next_deadline()))
            .chain(self.share.as_ref().and_then(|it| it.next_deadline()))
            .min()
    }

    /// Does what is due.
    pub fn tick(
        &mut self,
        now: Now,
        directory: &Directory,
        answers: &mut Answers,
        batch: &mut Batch,
    ) {
        let is_due =
            |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= now.instant);
        if let Some(consumers) = &mut self.consumers {
            consumers.tick(now, directory);
            self.downgrade_if_due(now, directory, answers);
        }
        if let Some(share) = &mut self.share {
            share.tick(now, directory, &self.name, batch);
        }
        if self.drop_silent(now, answers) {
            self.members_left(now, answers);
        }
        if is_due(self.join_by) {
            self.join_time_is_up(now, answers);
        }
        if is_due(self.sync_by) {
            self.sync_time_is_up(now, answers);
        }
        self.store_members(batch);
        self.note_emptiness(now.instant);
        if is_due(self.forget_at) && self.uncommitted.is_empty() {
            self.offsets.delete(&self.name, batch);
            self.dead = true;
        }
    }

    /// Whether anybody was dropped.
    fn drop_silent(&mut self, now: Now, answers: &mut Answers) -> bool {
        let pending_before = self.pending.len();
        self.pending.retain(|_, until| *until > now.instant);
        let is_silent = |member: &&Member| {
            member
                .deadline()
                .is_some_and(|deadline| deadline <= now.instant)
        };
        let silent: Vec<Text> = self
            .members
            .values()
            .filter(is_silent)
            .map(|member| member.id.clone())
            .collect();
        for id in &silent {
            self.remove(id, answers);
        }
        if !silent.is_empty() {
            return true;
        }
        if self.pending.len() < pending_before {
            self.complete_if_all_joined(now, answers);
        }
        false
    }

    /// Members that joined and never asked for their part hold up nobody any longer.
    fn sync_time_is_up(&mut self, now: Now, answers: &mut Answers) {
        self.sync_by = None;
        let owing: Vec<Text> = self
            .members
            .values()
            .filter(|member| member.owes_sync)
            .map(|member| member.id.clone())
            .collect();
        for id in &owing {
            self.remove(id, answers);
        }
        if !owing.is_empty() {
            self.members_left(now, answers);
        }
    }

    /// A group is forgotten when it has been without members for long.
    fn note_emptiness(&mut self, now: Instant) {
        let is_share = self.share.as_ref().is_some_and(|share| share.has_windows());
        if !self.is_idle() || !self.uncommitted.is_empty() || is_share {
            self.forget_at = None;
        } else if self.forget_at.is_none() {
            let retention = if self.offsets.is_empty() {
                EMPTY_RETENTION
            } else {
                OFFSETS_RETENTION
            };
            self.forget_at = Some(now + retention);
        }
    }
}
