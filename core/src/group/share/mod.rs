//! A share group (KIP-932): its members take records one by one, several from one partition, and say of each what
//! became of it. A cursor over logs: what is done with is remembered per partition, the records stay where they are.

mod members;
mod request;
mod stored;

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    ops::RangeInclusive,
    sync::Arc,
    time::Instant,
};

use bytes::Bytes;

use self::members::Member;
pub use self::request::{
    Acknowledged, Position, ShareAnswer, ShareOffset, SharePartition, ShareRead, ShareRequest,
    Terms,
};
pub(super) use self::stored::FORMATS as STORED_FORMATS;
use super::{
    GroupError,
    directory::{Directory, LogUuid, TopicPartition},
    settings::{Begin, GroupSettings},
    state::FIRST_EPOCH,
};
pub use crate::window::{Acknowledgement, Acquired};
use crate::{
    command::OffsetSpec,
    id::Offset,
    properties::Text,
    store::{Batch, StoreError, Table, keys},
    time::Now,
    window::{Fate, GivenUp, Window},
};

/// A share group.
#[derive(Debug)]
pub(super) struct ShareGroup {
    pub settings: Arc<GroupSettings>,
    /// Goes up with every change of members, subscriptions or logs.
    epoch: i32,
    /// Of the assignment.
    target_epoch: i32,
    members: BTreeMap<Text, Member>,
    windows: BTreeMap<TopicPartition, Window>,
    /// The generation of the directory that the subscriptions were looked up in.
    seen: u64,
    /// The logs that they lead to, with their partitions.
    logs: BTreeMap<LogUuid, u32>,
    /// When it was made.
    assigned_at: Option<Instant>,
    /// Whether the store has what it is to know of the members.
    is_stored: bool,
    /// Given up, and to be told of to the dead-letter topic.
    letters: Vec<ShareLetter>,
}

/// Records whose dead letters have arrived.
#[derive(Clone, Debug)]
pub(crate) struct ShareBurial {
    /// The vhost and name of the group.
    pub name: (Text, Text),
    pub partition: TopicPartition,
    pub records: RangeInclusive<u64>,
}

/// Records that a share group has given up, on their way to a dead-letter topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ShareLetter {
    pub vhost: Text,
    pub group: Text,
    /// Of which log they are, and its name.
    pub partition: TopicPartition,
    pub log: Text,
    pub first: u64,
    pub last: u64,
    pub deliveries: u16,
    /// A member rejected them; else they were delivered too often.
    pub rejected: bool,
    /// The dead-letter topic.
    pub to: Text,
    /// Key and value go with them.
    pub whole: bool,
}

impl ShareGroup {
    pub fn new(settings: Arc<GroupSettings>) -> ShareGroup {
        ShareGroup {
            settings,
            epoch: FIRST_EPOCH,
            target_epoch: FIRST_EPOCH,
            members: BTreeMap::new(),
            windows: BTreeMap::new(),
            seen: 0,
            logs: BTreeMap::new(),
            assigned_at: None,
            is_stored: true,
            letters: Vec::new(),
        }
    }

    fn fate(&self) -> Fate {
        Fate {
            deliveries_max: self.settings.deliveries_max,
            has_dead_letters: self.settings.dead_letters.is_some(),
        }
    }

    /// What has been given up since the last time; the names of the logs are still to be filled in.
    pub fn take_letters(&mut self) -> Vec<ShareLetter> {
        std::mem::take(&mut self.letters)
    }

    /// Dead letters have arrived.
    pub fn bury(&mut self, burial: ShareBurial, batch: &mut Batch) {
        if let Some(window) = self.windows.get_mut(&burial.partition) {
            window.bury(burial.records);
            self.write(&burial.name, burial.partition, batch);
        }
    }

    /// The broker has opened: what was on its way to the dead-letter topic goes there again.
    pub fn recovered(&mut self, name: &(Text, Text), batch: &mut Batch) {
        let dying = self
            .windows
            .iter()
            .map(|(partition, window)| (*partition, window.dying()));
        let dying: Vec<_> = dying.filter(|(_, dying)| !dying.is_empty()).collect();
        for (partition, given_up) in dying {
            self.report(name, partition, &given_up);
            if self.settings.dead_letters.is_none() {
                for it in given_up {
                    let burial = ShareBurial {
                        name: name.clone(),
                        partition,
                        records: it.first..=it.last,
                    };
                    self.bury(burial, batch);
                }
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub fn len(&self) -> usize {
        self.members.len()
    }

    pub fn has_windows(&self) -> bool {
        !self.windows.is_empty()
    }

    pub fn state(&self) -> &'static str {
        match self.members.is_empty() {
            true => "Empty",
            false => "Stable",
        }
    }

    /// Takes a row that was found when the broker opened.
    pub fn restore(&mut self, partition: TopicPartition, row: Bytes) -> Result<(), StoreError> {
        self.windows.insert(partition, Window::read(row)?);
        Ok(())
    }

    pub fn handle(
        &mut self,
        now: Now,
        directory: &Directory,
        name: &(Text, Text),
        request: ShareRequest,
        batch: &mut Batch,
    ) -> Result<ShareAnswer, GroupError> {
        match request {
            ShareRequest::Heartbeat(heartbeat) => {
                let heartbeat = self.heartbeat(now, directory, name, *heartbeat)?;
                Ok(ShareAnswer::Heartbeat(heartbeat))
            }
            ShareRequest::Describe => Ok(ShareAnswer::Described(self.describe(directory))),
            ShareRequest::Positions { partitions } => Ok(self.positions(now, &partitions)),
            ShareRequest::Initialise { partition, start } => {
                if let Entry::Vacant(vacant) = self.windows.entry(partition) {
                    vacant.insert(Window::new(start));
                    self.write(name, partition, batch);
                }
                Ok(self.positions(now, &[partition]))
            }
            ShareRequest::Acquire {
                member,
                reads,
                records_max,
                strict,
            } => Ok(ShareAnswer::Acquired(self.acquire(
                now,
                name,
                &member,
                reads,
                (records_max, strict),
                batch,
            ))),
            ShareRequest::Acknowledge {
                member,
                acknowledgements,
            } => {
                let decide = |(partition, ranges)| {
                    self.acknowledge(now, name, &member, partition, ranges, batch)
                };
                let results = acknowledgements.into_iter().map(decide).collect();
                Ok(ShareAnswer::Acknowledged(results))
            }
            ShareRequest::ReleaseAll { member } => {
                self.release_all(name, &member, batch);
                Ok(ShareAnswer::Ok)
            }
            ShareRequest::Offsets { partitions } => {
                Ok(ShareAnswer::Offsets(self.offsets(partitions.as_deref())))
            }
            ShareRequest::Alter { offsets } => {
                self.must_be_empty()?;
                for (partition, start) in offsets {
                    match start {
                        Some(start) => {
                            self.windows.insert(partition, Window::new(start));
                            self.write(name, partition, batch);
                        }
                        None => self.drop_windows(name, |it| *it == partition, batch),
                    }
                }
                Ok(ShareAnswer::Ok)
            }
            ShareRequest::Delete { logs } => {
                self.must_be_empty()?;
                Ok(ShareAnswer::Forgotten(self.forget_logs(name, logs, batch)))
            }
        }
    }

    fn must_be_empty(&self) -> Result<(), GroupError> {
        match self.members.is_empty() {
            true => Ok(()),
            false => Err(GroupError::NotEmpty),
        }
    }

    // Records

    fn positions(&self, now: Now, partitions: &[TopicPartition]) -> ShareAnswer {
        let position = |partition| match self.windows.get(partition) {
            None => Position::Unknown,
            Some(window) => {
                let next = window.next_available(self.settings.records_max);
                next.map_or(Position::Full, Position::At)
            }
        };
        ShareAnswer::Positions {
            positions: partitions.iter().map(position).collect(),
            terms: Terms {
                begin: match self.settings.begin {
                    Begin::Latest => OffsetSpec::Latest,
                    Begin::Earliest => OffsetSpec::Earliest,
                    Begin::Ago(time) => {
                        OffsetSpec::AtTime(now.wall.0.saturating_sub(time.as_millis() as u64))
                    }
                },
                committed_only: self.settings.committed_only,
                lock: self.settings.lock,
            },
        }
    }

    fn acquire(
        &mut self,
        now: Now,
        name: &(Text, Text),
        member: &Text,
        reads: Vec<ShareRead>,
        (records_max, strict): (u64, bool),
        batch: &mut Batch,
    ) -> Vec<Vec<Acquired>> {
        let until = Some(now.instant + self.settings.lock);
        let mut left = records_max;
        let mut all = Vec::with_capacity(reads.len());
        for read in reads {
            let Some(window) = self.windows.get_mut(&read.partition) else {
                all.push(Vec::new());
                continue;
            };
            let before = window.start();
            window.trim(read.log_start);
            for (first, last) in read.skipped {
                window.skip(first.0.max(window.start().0)..=last.0);
            }
            let mut acquired = Vec::new();
            for (first, last) in read.shown {
                let range = first.0.max(window.start().0)..=last.0;
                if left == 0 || range.is_empty() {
                    continue;
                }
                let got = window.acquire(range, left, strict, member, until);
                let count = |it: &Acquired| it.last.0 - it.first.0 + 1;
                left = left.saturating_sub(got.iter().map(count).sum());
                acquired.extend(got);
            }
            if before != window.start() || !acquired.is_empty() {
                // How often records were delivered survives, so that none is delivered for ever.
                self.write(name, read.partition, batch);
            }
            all.push(acquired);
        }
        all
    }

    fn acknowledge(
        &mut self,
        now: Now,
        name: &(Text, Text),
        member: &Text,
        partition: TopicPartition,
        ranges: Vec<Acknowledged>,
        batch: &mut Batch,
    ) -> Result<(), GroupError> {
        let (until, fate) = (Some(now.instant + self.settings.lock), self.fate());
        let window = self
            .windows
            .get_mut(&partition)
            .ok_or(GroupError::UnknownSharePartition)?;
        // What is before the first record that is not done with is done with.
        let start = window.start();
        let ranges: Vec<Acknowledged> = ranges
            .into_iter()
            .filter(|(_, last, _)| *last >= start)
            .map(|(first, last, kind)| (first.max(start), last, kind))
            .collect();
        for (first, last, _) in &ranges {
            let past = match window.end() {
                end if *first >= end => "first",
                end if *last >= end => "last",
                _ => continue,
            };
            return Err(GroupError::PastAcquired(past));
        }
        // Each record once.
        if ranges.windows(2).any(|pair| pair[1].0 <= pair[0].1) {
            return Err(GroupError::InvalidRecordState);
        }
        // All or none.
        let renewable = self.settings.renewable;
        let held = |(first, last, kind): &(Offset, Offset, _)| {
            window.holds(&(first.0..=last.0), member)
                && (renewable || *kind != Acknowledgement::Renew)
        };
        if !ranges.iter().all(held) {
            return Err(GroupError::InvalidRecordState);
        }
        let mut given_up: Vec<GivenUp> = Vec::new();
        for (first, last, acknowledgement) in ranges {
            given_up.extend(window.acknowledge(first.0..=last.0, acknowledgement, until, fate));
        }
        self.write(name, partition, batch);
        self.report(name, partition, &given_up);
        Ok(())
    }

    /// A member gives back what it has.
    pub fn release_all(&mut self, name: &(Text, Text), member: &Text, batch: &mut Batch) {
        self.release(name, |by, _| by == member, batch);
    }

    fn release(
        &mut self,
        name: &(Text, Text),
        is_over: impl Fn(&Text, Option<Instant>) -> bool,
        batch: &mut Batch,
    ) {
        let (mut changed, fate) = (Vec::new(), self.fate());
        for (partition, window) in &mut self.windows {
            let (touched, given_up) = window.release(fate, &is_over);
            if touched {
                changed.push((*partition, given_up));
            }
        }
        for (partition, given_up) in changed {
            self.write(name, partition, batch);
            self.report(name, partition, &given_up);
        }
    }

    /// Says what no member will get any more: to the dead-letter topic, if there is one, else to the log.
    fn report(
        &mut self,
        (vhost, group): &(Text, Text),
        partition: TopicPartition,
        given_up: &[GivenUp],
    ) {
        for it in given_up {
            match &self.settings.dead_letters {
                Some(to) => self.letters.push(ShareLetter {
                    vhost: vhost.clone(),
                    group: group.clone(),
                    partition,
                    log: Text::new(),
                    first: it.first,
                    last: it.last,
                    deliveries: it.deliveries,
                    rejected: it.rejected,
                    to: to.clone(),
                    whole: self.settings.dead_letters_whole,
                }),
                None => tracing::info!(
                    %group, partition = partition.1, first = it.first, last = it.last,
                    deliveries = it.deliveries, rejected = it.rejected, "share group gives records up"
                ),
            }
        }
    }

    fn write(&self, (vhost, group): &(Text, Text), partition: TopicPartition, batch: &mut Batch) {
        if let Some(window) = self.windows.get(&partition) {
            let key = keys::share_window(vhost, group, &partition.0, partition.1);
            batch.put(Table::State, key, window.write());
        }
    }

    fn drop_windows(
        &mut self,
        (vhost, group): &(Text, Text),
        goes: impl Fn(&TopicPartition) -> bool,
        batch: &mut Batch,
    ) {
        self.windows.retain(|partition, _| {
            if goes(partition) {
                let key = keys::share_window(vhost, group, &partition.0, partition.1);
                batch.delete(Table::State, key);
            }
            !goes(partition)
        });
    }

    /// The group goes.
    pub fn delete(&mut self, name: &(Text, Text), batch: &mut Batch) {
        self.drop_windows(name, |_| true, batch);
    }

    /// A log is gone.
    pub fn forget_log(&mut self, name: &(Text, Text), log: LogUuid, batch: &mut Batch) {
        self.drop_windows(name, |(of, _)| *of == log, batch);
    }

    /// Forgets logs that are still there; returns those that it knew.
    fn forget_logs(
        &mut self,
        name: &(Text, Text),
        mut logs: Vec<LogUuid>,
        batch: &mut Batch,
    ) -> Vec<LogUuid> {
        let known: BTreeSet<LogUuid> = self.known().map(|(log, _)| log).collect();
        logs.retain(|log| known.contains(log));
        for log in &logs {
            self.is_stored &= self.logs.remove(log).is_none();
            self.forget_log(name, *log, batch);
        }
        logs
    }

    /// The partitions that it has begun with, and those that its members subscribe to or last did; some twice.
    fn known(&self) -> impl Iterator<Item = TopicPartition> + '_ {
        let subscribed = self.logs.iter();
        let subscribed = subscribed.flat_map(|(log, count)| (0..*count).map(|it| (*log, it)));
        self.windows.keys().copied().chain(subscribed)
    }

    pub fn offsets(&self, wanted: Option<&[TopicPartition]>) -> Vec<ShareOffset> {
        let is_wanted = |partition: &TopicPartition| wanted.is_none_or(|it| it.contains(partition));
        let known: BTreeSet<TopicPartition> = self.known().filter(is_wanted).collect();
        let offset = |partition: TopicPartition| {
            let window = self.windows.get(&partition);
            ShareOffset {
                partition,
                start: window.map(Window::start),
                done_ahead: window.map_or(0, |it| it.looked_at() - it.unfinished()),
            }
        };
        known.into_iter().map(offset).collect()
    }

    // Time

    pub fn next_deadline(&self) -> Option<Instant> {
        let sessions = self.members.values().map(|member| member.alive_until);
        let locks = self.windows.values().filter_map(Window::next_deadline);
        sessions.chain(locks).min()
    }

    /// Drops silent members and takes back what was locked for too long.
    pub fn tick(&mut self, now: Now, name: &(Text, Text), batch: &mut Batch) {
        let members = self.members.iter();
        let silent = members.filter(|(_, member)| member.alive_until <= now.instant);
        let silent: Vec<Text> = silent.map(|(id, _)| id.clone()).collect();
        for id in &silent {
            self.remove(id);
            self.release_all(name, id, batch);
        }
        let is_over = |until: Instant| until <= now.instant;
        self.release(name, |_, until| until.is_some_and(is_over), batch);
    }
}
