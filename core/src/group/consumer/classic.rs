//! Members of the classic protocol in a group of the consumer protocol (KIP-848, online migration): they go on with
//! JoinGroup, SyncGroup and Heartbeat, and the broker assigns.
//!
//! ```text
//!   Heartbeat    REBALANCE_IN_PROGRESS while there is something to join again for
//!   JoinGroup    says what it has kept, and takes it as far towards its target as that allows
//!   SyncGroup    tells what it is to consume
//! ```
//! The generation that such a member is told is its member epoch.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{ConsumerGroup, Member, TopicPartition, grouped};
use crate::{
    group::{
        AssignedLog, GroupAnswer, GroupError, Join,
        directory::Directory,
        subscription::{self, Assignment, Subscription},
    },
    properties::Text,
    time::Now,
};

/// What is remembered of a member because it speaks the classic protocol.
#[derive(Clone, Debug)]
pub(in crate::group) struct Classic {
    /// Gone when silent for so long.
    pub session_timeout: Duration,
    /// Names and metadata, preferred first.
    pub protocols: Vec<(Text, Bytes)>,
    /// What it has to do next, and until when; else it is gone.
    pub owes: Option<(Owes, Instant)>,
}

/// What a member of the classic protocol has been told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::group) enum Owes {
    Join,
    Sync,
}

impl Classic {
    fn protocol(&self) -> Text {
        let first = self.protocols.first();
        first.map(|(name, _)| name.clone()).unwrap_or_default()
    }

    pub fn supports(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|(name, _)| name == protocol)
    }

    /// The version that it reads assignments in.
    pub fn version(&self) -> i16 {
        let first = self.protocols.first();
        first
            .and_then(|(_, metadata)| subscription::version(metadata))
            .unwrap_or_default()
    }
}

impl ConsumerGroup {
    /// A member joins, or joins again with what it has kept.
    pub fn join_classic(
        &mut self,
        now: Now,
        directory: &Directory,
        join: Join,
    ) -> Result<GroupAnswer, GroupError> {
        let by_all = |name: &Text| {
            let mut classic = self.members.values().filter_map(|it| it.classic.as_ref());
            classic.all(|it| it.supports(name))
        };
        if join.protocol_type != subscription::CONSUMER
            || !join.protocols.iter().any(|(name, _)| by_all(name))
        {
            return Err(GroupError::InconsistentProtocol);
        }
        let is_new = join.member.is_empty();
        let id = match is_new {
            true => uuid::Uuid::new_v4().to_string().into(),
            false => join.member.clone(),
        };
        if join.require_member_id && is_new {
            return Err(GroupError::MemberIdRequired(id));
        }
        let metadata = join.protocols.first().map(|(_, metadata)| metadata);
        let subscription = metadata.and_then(Subscription::read);
        let subscription = subscription.ok_or(GroupError::Invalid(
            "Malformed embedded consumer protocol in subscription deserialization.",
        ))?;
        self.admit_classic(now, &id, join.instance.as_ref(), is_new)?;
        let Some(member) = self.members.get_mut(&id) else {
            return Err(GroupError::UnknownMember);
        };
        let owned = known(&self.vhost, directory, &subscription.owned);
        (member.client, member.host) = (join.client, join.host);
        member.rack = subscription.rack;
        member.rebalance_timeout = join.rebalance_timeout;
        member.assignor = None;
        let mut changed =
            member.subscribe(Some(subscription.logs), Some(None), &self.vhost, directory);
        let classic = Classic {
            session_timeout: join.session_timeout,
            protocols: join.protocols,
            owes: Some((Owes::Sync, now.instant + join.rebalance_timeout)),
        };
        let protocol = classic.protocol();
        member.alive_until = now.instant + classic.session_timeout;
        member.classic = Some(Box::new(classic));
        changed |= self.follow(directory);
        if changed {
            self.epoch += 1;
        }
        self.assign(now.instant);
        self.reconcile(now.instant, &id, Some(&owned));
        Ok(GroupAnswer::Joined {
            generation: self.members[&id].epoch,
            protocol_type: Text::from_static(subscription::CONSUMER),
            protocol,
            leader: Text::new(),
            member: id,
            members: Vec::new(),
            skip_assignment: false,
        })
    }

    fn admit_classic(
        &mut self,
        now: Now,
        id: &Text,
        instance: Option<&Text>,
        is_new: bool,
    ) -> Result<(), GroupError> {
        let holder = instance.and_then(|name| self.instances.get(name)).cloned();
        match holder {
            Some(holder) if holder == *id => return Ok(()),
            Some(holder) if is_new => {
                self.replace(&holder, id);
                return Ok(());
            }
            Some(holder) => return Err(GroupError::FencedInstance(holder)),
            None if instance.is_some() && !is_new => return Err(GroupError::UnknownMember),
            None => {}
        }
        if self.members.contains_key(id) {
            return Ok(());
        }
        self.insert(Member::new(id.clone(), instance.cloned(), now.instant))
    }

    /// What the member is to consume.
    #[expect(clippy::too_many_arguments, reason = "one request")]
    pub fn sync_classic(
        &mut self,
        now: Now,
        directory: &Directory,
        generation: i32,
        id: &Text,
        instance: Option<&Text>,
        protocol_type: Option<&Text>,
        protocol: Option<&Text>,
    ) -> Result<GroupAnswer, GroupError> {
        let epoch = self.epoch;
        let (member, classic) = self.classic(id, instance)?;
        if generation != member.epoch {
            return Err(GroupError::IllegalGeneration);
        }
        let own = classic.protocol();
        if protocol_type.is_some_and(|it| it != subscription::CONSUMER)
            || protocol.is_some_and(|it| *it != own)
        {
            return Err(GroupError::InconsistentProtocol);
        }
        let version = classic.version();
        // Who is to let go of something does that first, and comes again by itself.
        let is_behind = epoch > member.epoch && member.revoking.is_empty();
        self.touch_classic(now, id, is_behind);
        if is_behind {
            return Err(GroupError::RebalanceInProgress);
        }
        let assigned = self.named(directory, self.members[id].assigned.keys());
        Ok(GroupAnswer::Synced {
            protocol_type: Text::from_static(subscription::CONSUMER),
            protocol: own,
            assignment: Assignment::write(version, &assigned),
        })
    }

    /// The member is alive. An error tells it to join again.
    pub fn heartbeat_classic(
        &mut self,
        now: Now,
        directory: &Directory,
        generation: i32,
        id: &Text,
        instance: Option<&Text>,
    ) -> Result<GroupAnswer, GroupError> {
        let (member, _) = self.classic(id, instance)?;
        if generation != member.epoch {
            return Err(GroupError::IllegalGeneration);
        }
        if self.follow(directory) {
            self.epoch += 1;
            self.assign(now.instant);
        }
        let member = &self.members[id];
        let rejoins = member.epoch < self.epoch
            || !member.revoking.is_empty()
            || member.waits && !self.is_held_up(id);
        if rejoins {
            self.touch_classic(now, id, true);
            return Err(GroupError::RebalanceInProgress);
        }
        if let Some(member) = self.members.get_mut(id) {
            member.touch(now.instant);
        }
        Ok(GroupAnswer::Ok)
    }

    /// Takes out a member, which may be named by its static name alone.
    pub fn leave_classic(&mut self, id: &Text, instance: Option<&Text>) -> Result<(), GroupError> {
        let by_name = instance
            .filter(|_| id.is_empty())
            .and_then(|instance| self.instances.get(instance))
            .cloned();
        let id = by_name.unwrap_or_else(|| id.clone());
        self.classic(&id, instance)?;
        self.remove(&id);
        Ok(())
    }

    fn classic(
        &self,
        id: &Text,
        instance: Option<&Text>,
    ) -> Result<(&Member, &Classic), GroupError> {
        let member = self.member(id, instance)?;
        let classic = member.classic.as_deref().ok_or(GroupError::UnknownMember)?;
        Ok((member, classic))
    }

    /// It has been heard of. From the first time on that it is told to join again, it has as long as it allows.
    fn touch_classic(&mut self, now: Now, id: &Text, is_to_join: bool) {
        let Some(member) = self.members.get_mut(id) else {
            return;
        };
        member.touch(now.instant);
        let by = now.instant + member.rebalance_timeout;
        if let Some(classic) = &mut member.classic {
            classic.owes = match (is_to_join, classic.owes) {
                (true, Some((Owes::Join, by))) => Some((Owes::Join, by)),
                (true, _) => Some((Owes::Join, by)),
                (false, _) => None,
            };
        }
    }

    /// Whether something that the member is to get is still with another.
    fn is_held_up(&self, id: &Text) -> bool {
        let Some(target) = self.target.get(id) else {
            return false;
        };
        let mut owners = target.iter().filter_map(|it| self.owners.get(it));
        owners.any(|owner| owner != id)
    }

    /// Partitions by the names of their logs.
    pub fn named<'a>(
        &self,
        directory: &Directory,
        partitions: impl IntoIterator<Item = &'a TopicPartition>,
    ) -> Vec<subscription::Partitions> {
        let named = |log: AssignedLog| Some((directory.name(log.uuid)?.clone(), log.partitions));
        grouped(partitions).into_iter().filter_map(named).collect()
    }

    /// Takes a member of a group of the classic protocol that becomes this one.
    pub fn migrate(&mut self, member: Member) -> Result<(), GroupError> {
        self.target.insert(member.id.clone(), BTreeSet::new());
        self.insert(member)
    }

    /// A member that was taken over may be consuming these partitions. What another has too stays with that one: an
    /// assignor of the members' own may have given it to several.
    pub fn has_kept(
        &mut self,
        id: &Text,
        partitions: &[subscription::Partitions],
        directory: &Directory,
    ) {
        let (Some(member), Some(target)) = (self.members.get_mut(id), self.target.get_mut(id))
        else {
            return;
        };
        for partition in known(&self.vhost, directory, partitions) {
            let owner = self.owners.entry(partition);
            if owner.or_insert_with(|| id.clone()) == id {
                member.assigned.insert(partition, member.epoch);
                target.insert(partition);
            }
        }
    }

    /// Takes all members out, to go on as a group of the classic protocol, with what each may still be consuming.
    pub fn take_classic(
        &mut self,
        directory: &Directory,
    ) -> Vec<(Member, Vec<subscription::Partitions>)> {
        let members = std::mem::take(&mut self.members).into_values();
        let with_partitions = |member: Member| {
            let named = self.named(directory, &member.held());
            (member, named)
        };
        members.map(with_partitions).collect()
    }

    /// Whether all members speak the classic protocol.
    pub fn is_all_classic(&self) -> bool {
        !self.members.is_empty() && self.members.values().all(|it| it.classic.is_some())
    }

    /// Whether a newcomer of the classic protocol with this static name takes the place of the only member of the
    /// consumer protocol.
    pub fn replaces_last(&self, instance: &Text) -> Option<Text> {
        let holder = self.instances.get(instance)?;
        let others = self.members.values().filter(|it| it.id != *holder);
        let is_last = self.members.get(holder)?.classic.is_none()
            && others.clone().next().is_some()
            && others.clone().all(|it| it.classic.is_some());
        is_last.then(|| holder.clone())
    }
}

/// Partitions of the logs that there are.
fn known(
    vhost: &str,
    directory: &Directory,
    partitions: &[subscription::Partitions],
) -> BTreeSet<TopicPartition> {
    let known = partitions.iter().filter_map(|(log, numbers)| {
        let uuid = directory.find(vhost, log)?.uuid;
        Some(numbers.iter().map(move |number| (uuid, *number)))
    });
    known.flatten().collect()
}
