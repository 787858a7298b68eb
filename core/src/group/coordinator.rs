//! All groups of a shard, and what they wait for: an idle group costs nothing but its memory.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use bytes::Bytes;
use rustc_hash::FxHashMap;

use super::{
    GroupAnswer, GroupError, GroupInfo, GroupReply, GroupRequest, ShareAnswer, ShareRequest,
    bounds::GroupBounds,
    directory::Directory,
    followers::{Follow, FollowStep},
    founding::Founding,
    share::{ShareBurial, ShareLetter},
    state::Group,
};
use crate::{
    catalog::LogEntry,
    id::{ConnectionId, Token},
    lag::Standing,
    log::Marker,
    properties::Text,
    store::{Batch, StoreError, keys},
    time::Now,
};

/// Who is to be answered.
pub(crate) type Caller = (ConnectionId, Token);

/// Answers, each to be given once. Those to commits and deletions wait until the batch is durable.
pub(crate) type Answers = Vec<(Caller, GroupReply)>;

/// A vhost and the name of a group in it.
pub(super) type GroupName = (Text, Text);

/// The groups of a shard.
#[derive(Debug)]
pub(crate) struct Groups {
    groups: FxHashMap<GroupName, Entry>,
    founding: Founding,
    /// The logs that there are.
    directory: Directory,
    /// What is due when; holds each group that waits for something once.
    deadlines: BTreeSet<(Instant, GroupName)>,
    /// The members of share groups that a connection has fetched for last: what they have is free when it ends.
    fetching: FxHashMap<ConnectionId, Vec<(GroupName, Text)>>,
    /// The groups that consumers of streams of a connection go by.
    following: FxHashMap<ConnectionId, BTreeSet<GroupName>>,
    /// What share groups have given up since the last time.
    letters: Vec<ShareLetter>,
    /// Groups whose offsets were found when the broker opened and whose clock has not begun.
    recovered: Vec<GroupName>,
    /// The newest transaction of each producer that has ended, by the coordinator's number: what was on its way
    /// then comes too late.
    ended: FxHashMap<i64, u64>,
}

/// Producers remembered in [`Groups::ended`]; offsets that are on their way longer than it takes so many others
/// to end a transaction do not exist.
const ENDED_MAX: usize = 1 << 16;

#[derive(Debug)]
struct Entry {
    group: Group,
    deadline: Option<Instant>,
}

impl Groups {
    /// No groups. A new group waits `initial_rebalance_delay` for more members before its first generation; what it
    /// does not set itself it has from `bounds`.
    pub fn new(initial_rebalance_delay: Duration, bounds: GroupBounds) -> Groups {
        Groups {
            groups: FxHashMap::default(),
            founding: Founding::new(initial_rebalance_delay, bounds),
            directory: Directory::default(),
            deadlines: BTreeSet::new(),
            fetching: FxHashMap::default(),
            following: FxHashMap::default(),
            letters: Vec::new(),
            recovered: Vec::new(),
            ended: FxHashMap::default(),
        }
    }

    /// Takes the settings of a group that were found when the broker opened, before anything else of it.
    pub fn recover_settings(&mut self, name: GroupName, row: Bytes) -> Result<(), StoreError> {
        self.founding.recover(name, row)
    }

    /// Takes the members of a group that were found when the broker opened.
    pub fn recover_members(
        &mut self,
        now: Now,
        name: GroupName,
        row: Bytes,
    ) -> Result<(), StoreError> {
        self.recovered.push(name.clone());
        self.entry(name).group.restore_members(row, now.instant)
    }

    /// Takes the kind of a group that was found when the broker opened.
    pub fn recover_kind(&mut self, name: GroupName, row: Bytes) -> Result<(), StoreError> {
        if !self.groups.contains_key(&name) {
            self.recovered.push(name.clone());
        }
        self.entry(name).group.restore_kind(row)
    }

    /// Takes a committed offset that was found when the broker opened.
    pub fn recover(&mut self, key: &Bytes, value: Bytes) -> Result<(), StoreError> {
        let (vhost, name, log, partition) = stored(key)?;
        let name = (vhost, name);
        if !self.groups.contains_key(&name) {
            self.recovered.push(name.clone());
        }
        self.entry(name).group.restore(log, partition, value)
    }

    /// Takes an offset that a transaction is to commit, found when the broker opened.
    pub fn recover_pending(&mut self, key: &Bytes, value: Bytes) -> Result<(), StoreError> {
        let parts = keys::pending_offset_parts(key.clone());
        let (vhost, name, producer, log, partition) = parts.ok_or_else(|| {
            StoreError::Corrupt("the key of an offset to be committed is malformed".into())
        })?;
        let name = (vhost, name);
        if !self.groups.contains_key(&name) {
            self.recovered.push(name.clone());
        }
        self.entry(name)
            .group
            .restore_pending(producer, log, partition, value)
    }

    /// Takes what a share group knows of a partition, found when the broker opened.
    pub fn recover_share(&mut self, key: &Bytes, value: Bytes) -> Result<(), StoreError> {
        let parts = keys::share_window_parts(key.clone());
        let (vhost, name, log, partition) = parts.ok_or_else(|| {
            StoreError::Corrupt("the key of a share group's partition is malformed".into())
        })?;
        let name = (vhost, name);
        if !self.groups.contains_key(&name) {
            self.recovered.push(name.clone());
        }
        self.entry(name)
            .group
            .restore_share((log, partition), value)
    }

    /// Producers and groups with offsets that a transaction is to commit.
    pub fn pending_offsets(&self) -> impl Iterator<Item = (i64, Text)> {
        self.groups.iter().flat_map(|(name, entry)| {
            let producers = entry.group.pending_producers();
            producers.map(|producer| (producer, name.1.clone()))
        })
    }

    /// A transaction has ended: the group gets its offsets, or they are dropped.
    pub fn end_transaction(
        &mut self,
        now: Now,
        name: GroupName,
        marker: &Marker,
        batch: &mut Batch,
    ) {
        if self.ended.len() >= ENDED_MAX {
            self.ended.clear();
        }
        self.ended.insert(marker.producer, marker.transaction);
        if let Some(entry) = self.groups.get_mut(&name) {
            entry
                .group
                .end_transaction(now, marker.producer, marker.commit, batch);
            self.settle(name);
        }
    }

    /// How far all groups are.
    pub fn standings(&self) -> Vec<Standing> {
        let groups = self.groups.values();
        groups.flat_map(|entry| entry.group.standings()).collect()
    }

    /// All groups of a vhost.
    pub fn list(&self, vhost: &str) -> Vec<GroupInfo> {
        let own = self.groups.iter().filter(|(name, _)| name.0 == vhost);
        let there = own.map(|(name, entry)| GroupInfo {
            has_settings: self.founding.has_own(name),
            ..entry.group.info()
        });
        let settings = self.founding.names().filter(|name| name.0 == vhost);
        let not_there = settings.filter(|name| !self.groups.contains_key(*name));
        there
            .chain(not_there.map(|name| GroupInfo {
                group: name.1.clone(),
                protocol_type: Text::new(),
                state: "",
                kind: "",
                has_settings: true,
            }))
            .collect()
    }

    /// Sets and resets settings of a group, or reads them.
    fn configure(
        &mut self,
        name: &GroupName,
        request: &GroupRequest,
        batch: &mut Batch,
    ) -> Option<GroupReply> {
        let (answer, settings) = self.founding.configure(name, request, batch)?;
        if let (Some(settings), Some(entry)) = (settings, self.groups.get_mut(name)) {
            entry.group.configure(settings);
        }
        Some(answer)
    }

    /// Forgets the groups of a vhost that goes, and the settings of those that there could be.
    pub fn forget_vhost(&mut self, vhost: &Text, batch: &mut Batch) {
        let groups = self.groups.keys().filter(|name| name.0 == *vhost);
        for name in groups.cloned().collect::<Vec<_>>() {
            if let Some(entry) = self.groups.get_mut(&name) {
                entry.group.forget(batch);
            }
            self.settle(name);
        }
        self.founding.forget_vhost(vhost, batch);
    }

    pub fn len(&self) -> usize {
        self.groups.len()
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "who asks whom for what, and where the answers go"
    )]
    /// Carries out a request; `answers` gets its answer now or in a later call, and those of others that it decides.
    pub fn handle(
        &mut self,
        now: Now,
        from: Caller,
        vhost: Text,
        group: Text,
        request: GroupRequest,
        transaction: u64,
        answers: &mut Answers,
        batch: &mut Batch,
    ) {
        let name = (vhost, group);
        if let GroupRequest::CommitInTransaction(commit) = &request
            && self.ended.get(&commit.producer.id) >= Some(&transaction)
        {
            answers.push((from, Err(GroupError::TransactionEnded)));
            return;
        }
        if !name.1.is_empty()
            && let Some(answer) = self.configure(&name, &request, batch)
        {
            answers.push((from, answer));
            return;
        }
        if let Some(answer) = self.unknown(&name, &request) {
            answers.push((from, answer));
            return;
        }
        if let GroupRequest::Share(ShareRequest::Acquire { member, .. }) = &request {
            self.note_fetch(from.0, &name, member);
        }
        let entry = entry(&mut self.groups, &self.founding, name.clone());
        entry
            .group
            .handle(now, &self.directory, from, request, answers, batch);
        self.settle(name);
    }

    /// What a consumer of a stream says to its group, which comes into being with the first.
    pub fn follow(&mut self, now: Now, by: ConnectionId, follow: Follow, batch: &mut Batch) {
        let Follow {
            vhost,
            group,
            consumer,
            step,
        } = follow;
        let name = (vhost, group);
        if matches!(step, FollowStep::Begin(_)) {
            let groups = self.following.entry(by).or_default();
            groups.insert(name.clone());
        } else if !self.groups.contains_key(&name) {
            return;
        }
        let entry = entry(&mut self.groups, &self.founding, name.clone());
        let by = (by, consumer);
        entry.group.follow(now, &self.directory, by, step, batch);
        self.settle(name);
    }

    fn note_fetch(&mut self, by: ConnectionId, name: &GroupName, member: &Text) {
        let is_it = |(group, other): &(GroupName, Text)| other == member && group == name;
        let known = self.fetching.get(&by);
        if known.is_some_and(|known| known.iter().any(is_it)) {
            return;
        }
        // It was behind another connection before.
        self.fetching.retain(|_, members| {
            members.retain(|it| !is_it(it));
            !members.is_empty()
        });
        let members = self.fetching.entry(by).or_default();
        members.push((name.clone(), member.clone()));
    }

    /// A connection has ended, and with it the share sessions behind it: what their members have is for others.
    pub fn disconnected(&mut self, now: Now, connection: ConnectionId, batch: &mut Batch) {
        for name in self.following.remove(&connection).unwrap_or_default() {
            if let Some(entry) = self.groups.get_mut(&name) {
                entry.group.unfollow(now, connection, batch);
                self.settle(name);
            }
        }
        for (name, member) in self.fetching.remove(&connection).unwrap_or_default() {
            if let Some(entry) = self.groups.get_mut(&name) {
                entry.group.release(&member, batch);
                self.settle(name);
            }
        }
    }

    /// The answer where there is no such group and none comes into being.
    fn unknown(&self, name: &GroupName, request: &GroupRequest) -> Option<GroupReply> {
        let is_offsets = matches!(
            request,
            GroupRequest::Commit { .. }
                | GroupRequest::CommitInTransaction(_)
                | GroupRequest::Offsets { .. }
                | GroupRequest::Share(ShareRequest::Offsets { .. })
        );
        if name.1.is_empty() && !is_offsets {
            return Some(Err(match request {
                // Kafka has no such name among its groups, and says no more of it.
                GroupRequest::Delete | GroupRequest::Describe => GroupError::NotFound,
                _ => GroupError::InvalidGroup,
            }));
        }
        if self.groups.contains_key(name) {
            return None;
        }
        match request {
            GroupRequest::Join(join) if join.member.is_empty() => None,
            GroupRequest::ConsumerHeartbeat(heartbeat) if heartbeat.epoch == 0 => None,
            GroupRequest::Share(request) => self.unknown_share(request),
            // Its group went with an earlier process: the member begins again.
            GroupRequest::ConsumerHeartbeat(_) => Some(Err(GroupError::UnknownMember)),
            GroupRequest::Commit { generation, .. } if *generation < 0 => None,
            GroupRequest::Commit {
                knows_member_epochs: true,
                ..
            } => Some(Err(GroupError::NotFound)),
            GroupRequest::Commit { .. } => Some(Err(GroupError::IllegalGeneration)),
            GroupRequest::CommitInTransaction(commit) if commit.generation < 0 => None,
            GroupRequest::CommitInTransaction(_) => Some(Err(GroupError::IllegalGeneration)),
            GroupRequest::Offsets { .. } => Some(Ok(GroupAnswer::Offsets {
                offsets: Vec::new(),
                unstable: Vec::new(),
            })),
            GroupRequest::Describe
            | GroupRequest::DescribeConsumer
            | GroupRequest::Delete
            | GroupRequest::DeleteOffsets { .. }
            | GroupRequest::Configure { .. }
            | GroupRequest::Settings => Some(Err(GroupError::NotFound)),
            GroupRequest::Leave { members } => {
                let unknown = |(member, instance): &(Text, Option<Text>)| {
                    (
                        member.clone(),
                        instance.clone(),
                        Err(GroupError::UnknownMember),
                    )
                };
                Some(Ok(GroupAnswer::Left {
                    members: members.iter().map(unknown).collect(),
                }))
            }
            GroupRequest::Join(_) | GroupRequest::Sync { .. } | GroupRequest::Heartbeat { .. } => {
                Some(Err(GroupError::UnknownMember))
            }
        }
    }

    /// The answer of a share group that is not there. One comes into being with its first member, or where it is
    /// to begin somewhere.
    fn unknown_share(&self, request: &ShareRequest) -> Option<GroupReply> {
        match request {
            ShareRequest::Heartbeat(heartbeat) if heartbeat.epoch == 0 => None,
            ShareRequest::Heartbeat(_) => Some(Err(GroupError::UnknownMember)),
            ShareRequest::Alter { offsets } if offsets.is_empty() => {
                Some(Ok(GroupAnswer::Share(ShareAnswer::Ok)))
            }
            ShareRequest::Initialise { .. }
            | ShareRequest::Positions { .. }
            | ShareRequest::Alter { .. } => None,
            ShareRequest::Offsets { .. } => {
                Some(Ok(GroupAnswer::Share(ShareAnswer::Offsets(Vec::new()))))
            }
            _ => Some(Err(GroupError::NotFound)),
        }
    }

    /// Does what is due: ends rebalances, drops silent members, forgets what nobody used for long.
    /// Returns when it wants to be called next.
    pub fn tick(&mut self, now: Now, answers: &mut Answers, batch: &mut Batch) -> Option<Instant> {
        for name in std::mem::take(&mut self.recovered) {
            self.entry(name.clone()).group.recovered(now, batch);
            self.settle(name);
        }
        while let Some((deadline, name)) = self
            .deadlines
            .first()
            .filter(|(deadline, _)| *deadline <= now.instant)
        {
            let (deadline, name) = (*deadline, name.clone());
            self.deadlines.remove(&(deadline, name.clone()));
            let Some(entry) = self.groups.get_mut(&name) else {
                continue;
            };
            entry.deadline = None;
            entry.group.tick(now, &self.directory, answers, batch);
            self.settle(name);
        }
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// What share groups have given up since the last time.
    pub fn take_letters(&mut self) -> Vec<ShareLetter> {
        std::mem::take(&mut self.letters)
    }

    /// Dead letters of a share group have arrived.
    pub fn bury(&mut self, burial: ShareBurial, batch: &mut Batch) {
        if let Some(entry) = self.groups.get_mut(&burial.name) {
            entry.group.bury(burial, batch);
        }
    }

    /// There is a log, or it has more partitions.
    pub fn know_log(&mut self, log: &LogEntry) {
        self.directory.insert(log);
    }

    /// A log is gone, and with it what groups have committed for it: another of its name begins anew.
    pub fn forget_log(&mut self, log: &LogEntry, batch: &mut Batch) {
        self.directory.remove(log);
        let (vhost, uuid, log) = (&log.vhost, log.info.uuid, &log.info.name);
        for (_, entry) in self.groups.iter_mut().filter(|(name, _)| name.0 == *vhost) {
            entry.group.forget_log(log, uuid, batch);
        }
    }

    fn entry(&mut self, name: GroupName) -> &mut Entry {
        entry(&mut self.groups, &self.founding, name)
    }

    /// Notes when the group wants to be called again, or that it is gone.
    fn settle(&mut self, name: GroupName) {
        let Some(entry) = self.groups.get_mut(&name) else {
            return;
        };
        for letter in entry.group.take_letters() {
            let log = self.directory.name(letter.partition.0).cloned();
            self.letters.push(ShareLetter {
                log: log.unwrap_or_default(),
                ..letter
            });
        }
        let is_dead = entry.group.is_dead();
        let next = entry.group.next_deadline().filter(|_| !is_dead);
        let before = std::mem::replace(&mut entry.deadline, next);
        if is_dead {
            self.groups.remove(&name);
        }
        if before == next {
            return;
        }
        if let Some(before) = before {
            self.deadlines.remove(&(before, name.clone()));
        }
        if let Some(next) = next {
            self.deadlines.insert((next, name));
        }
    }
}

/// The group of this name, which comes into being if there is none.
fn entry<'a>(
    groups: &'a mut FxHashMap<GroupName, Entry>,
    founding: &Founding,
    name: GroupName,
) -> &'a mut Entry {
    groups.entry(name).or_insert_with_key(|name| Entry {
        group: founding.found(name),
        deadline: None,
    })
}

/// The group in the key of a committed offset.
pub(crate) fn stored_group(key: &Bytes) -> Result<Text, StoreError> {
    Ok(stored(key)?.1)
}

fn stored(key: &Bytes) -> Result<(Text, Text, Text, u32), StoreError> {
    let parts = keys::group_offset_parts(key.clone());
    parts.ok_or_else(|| StoreError::Corrupt("the key of a committed offset is malformed".into()))
}
