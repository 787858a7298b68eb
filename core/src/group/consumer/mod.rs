//! A group of the consumer protocol (KIP-848): the broker assigns, and members find their way to the new
//! assignment one by one, each at its own pace.
//!
//! ```text
//!   group epoch       goes up with every change of members, subscriptions or logs
//!   target epoch      of the assignment that was computed for a group epoch
//!   member epoch      of the target assignment that a member has arrived at
//! ```
//! A partition is given to a member only after its owner has confirmed that it has let it go.

mod classic;
mod member;
mod stored;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use regex::Regex;
use rustc_hash::FxHashMap;

pub(super) use self::{
    classic::Classic,
    member::{Held, Member},
    stored::FORMAT as STORED_FORMAT,
};
use super::{
    AssignedLog, CommittedOffset, ConsumerDescription, ConsumerHeartbeat,
    ConsumerMemberDescription, GroupError, Heartbeat,
    assignor::{Assignment, Assignor, Input},
    directory::{Directory, LogUuid, TopicPartition},
    settings::GroupSettings,
};
use crate::{properties::Text, time::Now};

/// As Kafka's `group.consumer.max.size`, which is unlimited there; here, what a group's memory is bounded by.
const MEMBERS_MAX: usize = 1 << 20;
/// Joins.
const JOIN: i32 = 0;
/// Leaves.
const LEAVE: i32 = -1;
/// A static member leaves for a while.
const LEAVE_STATIC: i32 = -2;

/// The members of a group and what they consume.
#[derive(Debug)]
pub(super) struct ConsumerGroup {
    vhost: Text,
    pub settings: Arc<GroupSettings>,
    epoch: i32,
    target_epoch: i32,
    target: Assignment,
    assignor: Assignor,
    /// When the target was computed.
    assigned_at: Option<Instant>,
    members: BTreeMap<Text, Member>,
    /// Ids of static members, by their names.
    instances: FxHashMap<Text, Text>,
    /// Who has each partition, until it has confirmed that it has not any more.
    owners: FxHashMap<TopicPartition, Text>,
    /// The generation of the directory that the subscriptions were looked up in.
    seen: u64,
    /// Whether the store has what it is to know of the members.
    is_stored: bool,
}

/// What a member subscribes to.
#[derive(Clone, Debug, Default)]
pub(super) struct Subscription {
    names: BTreeSet<Text>,
    pattern: Option<(Text, Regex)>,
    /// The pattern came beside names, and counts from the next heartbeat on: what is named is assigned first,
    /// as by Kafka, which looks patterns up aside.
    is_pattern_new: bool,
    /// The logs that it leads to.
    logs: BTreeMap<LogUuid, u32>,
}

impl Subscription {
    /// Puts a pattern in place of the one that there is; whether it is another.
    fn set_pattern(&mut self, pattern: Option<(Text, Regex)>) -> bool {
        let text = |pattern: &Option<(Text, Regex)>| pattern.as_ref().map(|(text, _)| text.clone());
        let is_other = text(&pattern) != text(&self.pattern);
        self.is_pattern_new = is_other && pattern.is_some() && !self.names.is_empty();
        self.pattern = pattern;
        is_other
    }

    fn resolve(&mut self, vhost: &str, directory: &Directory) -> bool {
        let pattern = self.pattern.as_ref().filter(|_| !self.is_pattern_new);
        let pattern = pattern.map(|(_, pattern)| pattern);
        let matched = directory.names(vhost).filter(|name| {
            self.names.contains(*name) || pattern.is_some_and(|pattern| pattern.is_match(name))
        });
        let known = matched.filter_map(|name| directory.find(vhost, name));
        let logs = known.map(|log| (log.uuid, log.partitions)).collect();
        let changed = self.logs != logs;
        self.logs = logs;
        changed
    }
}

impl ConsumerGroup {
    pub fn new(vhost: Text, settings: Arc<GroupSettings>, epoch: i32) -> ConsumerGroup {
        ConsumerGroup {
            vhost,
            settings,
            epoch,
            target_epoch: epoch,
            target: Assignment::new(),
            assignor: Assignor::default(),
            assigned_at: None,
            members: BTreeMap::new(),
            instances: FxHashMap::default(),
            owners: FxHashMap::default(),
            seen: 0,
            is_stored: false,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub fn len(&self) -> usize {
        self.members.len()
    }

    pub fn epoch(&self) -> i32 {
        self.epoch
    }

    /// `Empty`, `Assigning`, `Reconciling` or `Stable`.
    pub fn state(&self) -> &'static str {
        if self.members.is_empty() {
            "Empty"
        } else if self.epoch > self.target_epoch {
            "Assigning"
        } else if self
            .members
            .values()
            .any(|member| !member.has_arrived(self.target_epoch))
        {
            "Reconciling"
        } else {
            "Stable"
        }
    }

    // Heartbeats

    /// A member says that it is there, and what has changed; it is told what to consume.
    pub fn heartbeat(
        &mut self,
        now: Now,
        directory: &Directory,
        mut request: ConsumerHeartbeat,
    ) -> Result<Heartbeat, GroupError> {
        if request.member.is_empty() && request.epoch == JOIN {
            // Members of the first version of the protocol are given their ids.
            request.member = uuid::Uuid::new_v4().to_string().into();
        }
        match request.epoch {
            LEAVE | LEAVE_STATIC => self.leave(now, directory, request),
            JOIN.. => self.stay(now, directory, request),
            _ => Err(GroupError::Invalid("MemberEpoch is invalid.")),
        }
    }

    fn stay(
        &mut self,
        now: Now,
        directory: &Directory,
        request: ConsumerHeartbeat,
    ) -> Result<Heartbeat, GroupError> {
        let assignor = request
            .assignor
            .as_deref()
            .map(|name| Assignor::find(name).ok_or(GroupError::UnsupportedAssignor));
        let assignor = assignor.transpose()?;
        let id = request.member.clone();
        let joins = request.epoch == JOIN;
        if !joins {
            self.check(&request)?;
        }
        let pattern = compile(request.pattern.as_ref())?;
        if joins {
            self.admit(now, &request)?;
        }
        let full = request.names.is_some() && request.owned.is_some();
        let Some(member) = self.members.get_mut(&id) else {
            return Err(GroupError::UnknownMember);
        };
        member.alive_until = now.instant + self.settings.consumer_session;
        self.is_stored &= member.classic.take().is_none() && !joins;
        if joins {
            (member.client, member.host) = (request.client, request.host);
        }
        member.rack = request.rack.or(member.rack.take());
        member.rebalance_timeout = request
            .rebalance_timeout
            .unwrap_or(member.rebalance_timeout);
        let mut changed = member.subscribe(request.names, pattern, &self.vhost, directory);
        // It counts from the next assignment on.
        member.assignor = assignor.or(member.assignor);
        let before = (member.epoch, member.assigned.clone());
        changed |= self.follow(directory);
        if changed {
            self.epoch += 1;
        }
        self.assign(now.instant);
        self.reconcile(now.instant, &id, request.owned.as_ref());
        let member = &self.members[&id];
        let tell = joins || full || before.1 != member.assigned;
        Ok(Heartbeat {
            member: id,
            epoch: member.epoch,
            interval: self.settings.consumer_interval,
            assignment: tell.then(|| grouped(member.assigned.keys())),
        })
    }

    /// A member joins, is back, or takes the place of its static name. What a new one subscribes to changes the group, not
    /// that it is there.
    fn admit(&mut self, now: Now, request: &ConsumerHeartbeat) -> Result<(), GroupError> {
        let (id, instance) = (&request.member, &request.instance);
        if request.rebalance_timeout.is_none() {
            return Err(GroupError::Invalid(
                "RebalanceTimeoutMs must be provided in first request.",
            ));
        }
        if request.names.is_none() && request.pattern.is_none() {
            return Err(GroupError::Invalid(
                "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.",
            ));
        }
        if request
            .owned
            .as_ref()
            .is_some_and(|owned| !owned.is_empty())
        {
            return Err(GroupError::Invalid(
                "TopicPartitions must be empty when (re-)joining.",
            ));
        }
        let holder = instance
            .as_ref()
            .and_then(|name| self.instances.get(name))
            .cloned();
        match holder {
            Some(holder) if holder != *id => {
                let may_go = |it: &Member| it.epoch == LEAVE_STATIC || it.classic.is_some();
                if !self.members.get(&holder).is_some_and(may_go) {
                    return Err(GroupError::UnreleasedInstance(holder));
                }
                self.replace(&holder, id);
                Ok(())
            }
            _ => {
                if let Some(known) = self.members.get_mut(id) {
                    // It has lost its state, or the answer: it begins again with nothing.
                    known.rejoin();
                    return Ok(());
                }
                let until = now.instant + self.settings.consumer_session;
                self.insert(Member::new(id.clone(), instance.clone(), until))
            }
        }
    }

    fn insert(&mut self, member: Member) -> Result<(), GroupError> {
        if self.members.len() >= MEMBERS_MAX {
            return Err(GroupError::Full);
        }
        self.is_stored = false;
        let (id, instance) = (member.id.clone(), member.instance.clone());
        self.instances
            .extend(instance.map(|name| (name, id.clone())));
        self.members.insert(id, member);
        Ok(())
    }

    /// A static member is back under a new id: it gets what it had.
    fn replace(&mut self, old: &Text, id: &Text) {
        let Some(mut member) = self.members.remove(old) else {
            return;
        };
        self.is_stored = false;
        member.id = id.clone();
        member.rejoin();
        self.instances
            .extend(member.instance.clone().map(|name| (name, id.clone())));
        for owner in self.owners.values_mut().filter(|owner| *owner == old) {
            *owner = id.clone();
        }
        if let Some(target) = self.target.remove(old) {
            self.target.insert(id.clone(), target);
        }
        self.members.insert(id.clone(), member);
    }

    fn check(&self, request: &ConsumerHeartbeat) -> Result<(), GroupError> {
        let member = self.member(&request.member, request.instance.as_ref())?;
        let is_retry = request.epoch == member.previous_epoch
            && request
                .owned
                .as_ref()
                .is_some_and(|owned| owned.iter().all(|it| member.assigned.contains_key(it)));
        if request.epoch > member.epoch || request.epoch < member.epoch && !is_retry {
            return Err(GroupError::FencedMemberEpoch {
                known: member.epoch,
                previous: None,
            });
        }
        Ok(())
    }

    fn member(&self, id: &Text, instance: Option<&Text>) -> Result<&Member, GroupError> {
        let member = self.members.get(id);
        if let Some(instance) = instance {
            match self.instances.get(instance) {
                None => return Err(GroupError::UnknownMember),
                Some(holder) if holder != id => {
                    return Err(GroupError::FencedInstance(holder.clone()));
                }
                Some(_) => {}
            }
        }
        member.ok_or(GroupError::UnknownMember)
    }

    fn leave(
        &mut self,
        now: Now,
        directory: &Directory,
        request: ConsumerHeartbeat,
    ) -> Result<Heartbeat, GroupError> {
        self.member(&request.member, request.instance.as_ref())?;
        if request.epoch == LEAVE_STATIC && request.instance.is_none() {
            return Err(GroupError::UnknownMember);
        }
        if request.epoch == LEAVE_STATIC {
            self.is_stored = false;
            if let Some(member) = self.members.get_mut(&request.member) {
                // It keeps its place until its session ends.
                member.rest(LEAVE_STATIC);
                member.alive_until = now.instant + self.settings.consumer_session;
            }
        } else {
            self.remove(&request.member);
            self.members_left(now.instant, directory);
        }
        Ok(Heartbeat {
            member: request.member,
            epoch: request.epoch,
            interval: Duration::ZERO,
            assignment: None,
        })
    }

    /// Takes a member out; what it had is free.
    pub fn remove(&mut self, id: &Text) -> bool {
        let Some(member) = self.members.remove(id) else {
            return false;
        };
        self.is_stored = false;
        self.owners.retain(|_, owner| owner != id);
        self.target.remove(id);
        if let Some(instance) = &member.instance
            && self.instances.get(instance) == Some(id)
        {
            self.instances.remove(instance);
        }
        true
    }

    /// Whether any member subscribes to a log.
    pub fn subscribes_to(&self, log: LogUuid) -> bool {
        self.members
            .values()
            .any(|member| member.subscription.logs.contains_key(&log))
    }

    /// Members have gone. Those who are left are assigned anew, with the next heartbeat of one; those who speak the
    /// classic protocol hear of an assignment by being sent to join again, so it is made at once. Where all speak that,
    /// they are about to do it themselves.
    pub fn members_left(&mut self, now: Instant, directory: &Directory) {
        if self.is_all_classic() {
            return;
        }
        self.follow(directory);
        self.epoch += 1;
        self.is_stored = false;
        if self.speaks_classic() {
            self.assign(now);
        }
        if self.members.is_empty() {
            // There is nothing that could stand.
            self.assigned_at = None;
        }
    }

    fn speaks_classic(&self) -> bool {
        self.members.values().any(|it| it.classic.is_some())
    }

    /// Looks subscriptions up again where logs have changed; whether any member's has.
    fn follow(&mut self, directory: &Directory) -> bool {
        if self.seen == directory.generation() {
            return false;
        }
        self.seen = directory.generation();
        let mut changed = false;
        for member in self.members.values_mut() {
            changed |= member.subscription.resolve(&self.vhost, directory);
        }
        changed
    }

    /// Computes the target assignment of the current epoch, if it is not too soon after the one before: then that is
    /// for a later heartbeat to do.
    fn assign(&mut self, now: Instant) {
        if self.epoch == self.target_epoch || self.is_too_soon(now) {
            return;
        }
        // Without members there is nothing that could stand.
        self.assigned_at = (!self.members.is_empty()).then_some(now);
        self.is_stored = false;
        self.assignor = self.preferred_assignor();
        let members = self.members.iter();
        let partitions = members
            .clone()
            .flat_map(|(_, member)| &member.subscription.logs);
        let input = Input {
            subscriptions: members
                .map(|(id, member)| {
                    let logs = member.subscription.logs.keys().copied().collect();
                    (id.clone(), logs)
                })
                .collect(),
            partitions: partitions.map(|(log, count)| (*log, *count)).collect(),
            before: &self.target,
        };
        self.target = self.assignor.assign(&input);
        self.target_epoch = self.epoch;
    }

    /// Whether the assignment has yet to stand for a while. Members of the classic protocol would be sent to join again
    /// and again until then.
    fn is_too_soon(&self, now: Instant) -> bool {
        let until = self
            .assigned_at
            .map(|at| at + self.settings.consumer_assignment);
        until.is_some_and(|until| now < until) && !self.members.is_empty() && !self.speaks_classic()
    }

    /// The one that most members ask for.
    fn preferred_assignor(&self) -> Assignor {
        let asked = |wanted| {
            let members = self.members.values();
            members
                .filter(|member| member.assignor == Some(wanted))
                .count()
        };
        match asked(Assignor::Range) > asked(Assignor::Uniform) {
            true => Assignor::Range,
            false => Assignor::Uniform,
        }
    }

    // Reconciliation

    /// Takes a member as far towards its target as its own and the others' revocations allow.
    fn reconcile(&mut self, now: Instant, id: &Text, owned: Option<&BTreeSet<TopicPartition>>) {
        let Some(member) = self.members.get_mut(id) else {
            return;
        };
        if !member.revoking.is_empty() {
            let confirmed = owned.is_some_and(|owned| has_none(owned, &member.revoking));
            if !confirmed {
                return;
            }
            for partition in std::mem::take(&mut member.revoking).keys() {
                self.owners.remove(partition);
            }
            member.revoke_by = None;
        } else if member.has_arrived(self.target_epoch) {
            return;
        }
        let nothing = BTreeSet::new();
        let target = self.target.get(id).unwrap_or(&nothing);
        let held = std::mem::take(&mut member.assigned).into_iter();
        let (kept, revoking): (Held, Held) = held.partition(|(held, _)| target.contains(held));
        member.assigned = kept;
        if !revoking.is_empty() {
            if member.epoch == JOIN || owned.is_some_and(|owned| has_none(owned, &revoking)) {
                // It has none of them any more.
                for partition in revoking.keys() {
                    self.owners.remove(partition);
                }
            } else {
                member.revoke_by = Some(now + member.rebalance_timeout);
                member.revoking = revoking;
                return;
            }
        }
        let mut complete = true;
        for partition in target {
            if member.assigned.contains_key(partition) {
                continue;
            }
            match self.owners.get(partition) {
                Some(owner) if owner != id => complete = false,
                _ => {
                    self.owners.insert(*partition, id.clone());
                    member.assigned.insert(*partition, self.target_epoch);
                }
            }
        }
        member.arrive(self.target_epoch, complete);
    }

    // Offsets

    /// Whether a member may read offsets under this epoch.
    pub fn may_read(&self, id: &Text, epoch: i32) -> Result<(), GroupError> {
        let member = self.member(id, None)?;
        match epoch == member.epoch {
            true => Ok(()),
            false => Err(member.stale()),
        }
    }

    /// Whether there is such a member, and it speaks the consumer protocol.
    pub fn has_member_epoch(&self, id: &Text) -> bool {
        let member = self.members.get(id);
        member.is_some_and(|member| member.classic.is_none())
    }

    /// Whether a member may commit offsets of these partitions under this epoch: its own, or an earlier one under
    /// which it had each of them already (KIP-1251), because it has not been told of its new one yet.
    pub fn may_commit(
        &self,
        directory: &Directory,
        id: &Text,
        epoch: i32,
        offsets: &[CommittedOffset],
    ) -> Result<(), GroupError> {
        let member = self.member(id, None)?;
        let had = |offset: &CommittedOffset| {
            let log = directory.find(&self.vhost, &offset.log)?;
            member.held_since((log.uuid, offset.partition))
        };
        let may = |offset| had(offset).is_some_and(|since| since <= epoch);
        match epoch == member.epoch || epoch < member.epoch && offsets.iter().all(may) {
            true => Ok(()),
            false => Err(member.stale()),
        }
    }

    // Time

    pub fn next_deadline(&self) -> Option<Instant> {
        let deadline = |member: &Member| member.deadline();
        self.members.values().map(deadline).min()
    }

    /// Drops members that are silent or do not let go of what they are to revoke.
    pub fn tick(&mut self, now: Now, directory: &Directory) {
        let late = self
            .members
            .values()
            .filter(|member| member.deadline() <= now.instant);
        let late: Vec<Text> = late.map(|member| member.id.clone()).collect();
        if late.is_empty() {
            return;
        }
        for id in &late {
            self.remove(id);
        }
        self.members_left(now.instant, directory);
    }

    // Administration

    pub fn describe(&self, directory: &Directory) -> ConsumerDescription {
        let named = |mut logs: Vec<AssignedLog>| {
            for log in &mut logs {
                log.name = directory.name(log.uuid).cloned().unwrap_or_default();
            }
            logs
        };
        let member = |member: &Member| ConsumerMemberDescription {
            member: member.id.clone(),
            instance: member.instance.clone(),
            rack: member.rack.clone(),
            epoch: member.epoch,
            client: member.client.clone(),
            host: member.host.clone(),
            names: member.subscription.names.iter().cloned().collect(),
            pattern: member
                .subscription
                .pattern
                .as_ref()
                .map(|(text, _)| text.clone()),
            assigned: named(grouped(&member.held())),
            target: self
                .target
                .get(&member.id)
                .map(|target| named(grouped(target)))
                .unwrap_or_default(),
            is_classic: member.classic.is_some(),
        };
        ConsumerDescription {
            state: self.state(),
            epoch: self.epoch,
            assignment_epoch: self.target_epoch,
            assignor: self.preferred_assignor().name(),
            members: self.members.values().map(member).collect(),
        }
    }
}

/// A subscription's pattern, which matches names as a whole (RE2's syntax, as Kafka has it).
fn compile(pattern: Option<&Text>) -> Result<Option<Option<(Text, Regex)>>, GroupError> {
    let Some(text) = pattern else {
        return Ok(None);
    };
    if text.is_empty() {
        return Ok(Some(None));
    }
    let compiled = Regex::new(&format!("^(?:{text})$"));
    let compiled = compiled.map_err(|_| GroupError::InvalidPattern)?;
    Ok(Some(Some((text.clone(), compiled))))
}

/// Whether a member that says what it owns has let all of these go.
fn has_none(owned: &BTreeSet<TopicPartition>, revoking: &Held) -> bool {
    revoking.keys().all(|partition| !owned.contains(partition))
}

/// Ascending partitions by log.
pub(super) fn grouped<'a>(
    partitions: impl IntoIterator<Item = &'a TopicPartition>,
) -> Vec<AssignedLog> {
    let all: Vec<_> = partitions.into_iter().copied().collect();
    let log = |partitions: &[TopicPartition]| AssignedLog {
        uuid: partitions[0].0,
        name: Text::new(),
        partitions: partitions.iter().map(|(_, number)| *number).collect(),
    };
    all.chunk_by(|a, b| a.0 == b.0).map(log).collect()
}
