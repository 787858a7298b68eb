//! The members of a share group: who is in it, and from which partitions each is to fetch.
//!
//! ```text
//!   group epoch       goes up with every change of members, subscriptions or logs
//!   target epoch      of the assignment that was made for a group epoch
//!   member epoch      of the assignment that a member has been told
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use rustc_hash::FxHashMap;

use super::ShareGroup;
use crate::{
    group::{
        AssignedLog, ConsumerDescription, ConsumerHeartbeat, ConsumerMemberDescription, GroupError,
        Heartbeat,
        consumer::grouped,
        directory::{Directory, TopicPartition},
    },
    properties::Text,
    time::Now,
};

/// As Kafka's `group.share.max.size`.
const MEMBERS_MAX: usize = 200;
/// Joins.
const JOIN: i32 = 0;
/// Leaves.
const LEAVE: i32 = -1;

#[derive(Debug)]
pub(super) struct Member {
    pub epoch: i32,
    /// The one before: what a member has whose last answer was lost. None where it is not known, after a restart of
    /// the broker: then any earlier one may be.
    pub previous_epoch: Option<i32>,
    pub rack: Option<Text>,
    pub client: Text,
    pub host: Text,
    pub names: BTreeSet<Text>,
    pub assigned: BTreeSet<TopicPartition>,
    /// It has been told.
    pub told: bool,
    pub alive_until: Instant,
}

impl ShareGroup {
    pub(super) fn heartbeat(
        &mut self,
        now: Now,
        directory: &Directory,
        (vhost, _): &(Text, Text),
        request: ConsumerHeartbeat,
    ) -> Result<Heartbeat, GroupError> {
        if request.epoch == LEAVE {
            // What it has stays with its share session: the last acknowledgements may come after this.
            return match self.remove(&request.member) {
                true => Ok(told(request.member, LEAVE, Duration::ZERO, None)),
                false => Err(GroupError::UnknownMember),
            };
        }
        let changed = self.admit(now, &request)?;
        if self.follow(changed, vhost, directory) || changed {
            self.changed();
        }
        self.assign(now.instant, vhost, directory);
        let Some(member) = self.members.get_mut(&request.member) else {
            return Err(GroupError::UnknownMember);
        };
        if member.epoch != self.target_epoch {
            member.previous_epoch = Some(member.epoch);
            member.epoch = self.target_epoch;
        }
        let joins = request.epoch == JOIN;
        let was_told = std::mem::replace(&mut member.told, true);
        let tell = joins || request.names.is_some() || !was_told;
        let assignment = tell.then(|| grouped(&member.assigned));
        let epoch = member.epoch;
        Ok(told(
            request.member,
            epoch,
            self.settings.share_interval,
            assignment,
        ))
    }

    /// Takes a member out; whether there was one. Those who are left are assigned anew with the next heartbeat of one.
    pub(super) fn remove(&mut self, id: &Text) -> bool {
        if self.members.remove(id).is_none() {
            return false;
        }
        self.changed();
        if self.members.is_empty() {
            self.assigned_at = None;
        }
        true
    }

    fn changed(&mut self) {
        self.epoch += 1;
        self.is_stored = false;
    }

    /// Notes what a member says; whether members or subscriptions are others now.
    fn admit(&mut self, now: Now, request: &ConsumerHeartbeat) -> Result<bool, GroupError> {
        let alive_until = now.instant + self.settings.share_session;
        let is_full = self.members.len() >= MEMBERS_MAX;
        match self.members.get_mut(&request.member) {
            Some(member) => {
                member.check(request.epoch)?;
                member.alive_until = alive_until;
                let Some(names) = &request.names else {
                    return Ok(false);
                };
                let names: BTreeSet<Text> = names.iter().cloned().collect();
                let changed = member.names != names;
                member.names = names;
                Ok(changed)
            }
            None if request.epoch != JOIN => Err(GroupError::UnknownMember),
            None if is_full => Err(GroupError::Full),
            None => {
                let Some(names) = &request.names else {
                    return Err(GroupError::Invalid(
                        "SubscribedTopicNames must be set in first request.",
                    ));
                };
                let member = Member {
                    epoch: JOIN,
                    previous_epoch: Some(JOIN),
                    rack: request.rack.clone(),
                    client: request.client.clone(),
                    host: request.host.clone(),
                    names: names.iter().cloned().collect(),
                    assigned: BTreeSet::new(),
                    told: false,
                    alive_until,
                };
                self.members.insert(request.member.clone(), member);
                Ok(true)
            }
        }
    }

    /// Looks subscriptions up where they or the logs have changed; whether they lead to other partitions.
    fn follow(&mut self, is_changed: bool, vhost: &str, directory: &Directory) -> bool {
        if !is_changed && self.seen == directory.generation() {
            return false;
        }
        self.seen = directory.generation();
        let names: BTreeSet<&Text> = self.members.values().flat_map(|it| &it.names).collect();
        let known = names
            .into_iter()
            .filter_map(|name| directory.find(vhost, name));
        let logs: BTreeMap<_, _> = known.map(|log| (log.uuid, log.partitions)).collect();
        let before = std::mem::replace(&mut self.logs, logs);
        self.logs != before
    }

    /// Every partition has at least one member, and every member at least one partition, as evenly as that goes. Does
    /// nothing where that is so, or too soon after the last time: then it is for a later heartbeat to do.
    fn assign(&mut self, now: Instant, vhost: &str, directory: &Directory) {
        let until = self
            .assigned_at
            .map(|at| at + self.settings.share_assignment);
        if self.epoch == self.target_epoch || until.is_some_and(|until| now < until) {
            return;
        }
        self.assigned_at = Some(now);
        self.target_epoch = self.epoch;
        self.is_stored = false;
        let names = self.members.values().flat_map(|it| it.names.clone());
        let names: BTreeSet<Text> = names.collect();
        let mut assigned: FxHashMap<Text, BTreeSet<TopicPartition>> = FxHashMap::default();
        for log in &names {
            let known = directory.find(vhost, log);
            let Some(known) = known.filter(|known| known.partitions > 0) else {
                continue;
            };
            let members = self.members.iter().filter(|(_, it)| it.names.contains(log));
            let members: Vec<&Text> = members.map(|(id, _)| id).collect();
            let count = (known.partitions as usize).max(members.len());
            for at in 0..count {
                let partition = (known.uuid, at as u32 % known.partitions);
                let own = assigned.entry(members[at % members.len()].clone());
                own.or_default().insert(partition);
            }
        }
        for (id, member) in &mut self.members {
            let own = assigned.remove(id).unwrap_or_default();
            member.told &= own == member.assigned;
            member.assigned = own;
        }
    }

    /// All rows were found: the sessions of members begin.
    pub fn resume(&mut self, now: Instant) {
        let alive_until = now + self.settings.share_session;
        for member in self.members.values_mut() {
            member.alive_until = alive_until;
        }
    }

    pub fn describe(&self, directory: &Directory) -> ConsumerDescription {
        let member = |(id, member): (&Text, &Member)| {
            let mut assigned = grouped(&member.assigned);
            for log in &mut assigned {
                log.name = directory.name(log.uuid).cloned().unwrap_or_default();
            }
            ConsumerMemberDescription {
                member: id.clone(),
                rack: member.rack.clone(),
                epoch: member.epoch,
                client: member.client.clone(),
                host: member.host.clone(),
                names: member.names.iter().cloned().collect(),
                assigned,
                ..Default::default()
            }
        };
        ConsumerDescription {
            state: self.state(),
            epoch: self.epoch,
            assignment_epoch: self.target_epoch,
            assignor: "simple",
            members: self.members.iter().map(member).collect(),
        }
    }
}

impl Member {
    /// Whether it may speak under this epoch: to join again, under its own, or under the one before.
    fn check(&self, epoch: i32) -> Result<(), GroupError> {
        let is_before = epoch < self.epoch && self.previous_epoch.is_none_or(|it| it == epoch);
        match epoch == JOIN || epoch == self.epoch || is_before {
            true => Ok(()),
            false => Err(GroupError::FencedMemberEpoch {
                known: self.epoch,
                previous: Some(self.previous_epoch.unwrap_or_default()),
            }),
        }
    }
}

fn told(
    member: Text,
    epoch: i32,
    interval: Duration,
    assignment: Option<Vec<AssignedLog>>,
) -> Heartbeat {
    Heartbeat {
        member,
        epoch,
        interval,
        assignment,
    }
}
