//! Offsets of a group, who may commit and read them, and what administrators ask.

use super::{Group, State};
use crate::{
    group::{
        CommittedOffset, GroupAnswer, GroupDescription, GroupError, GroupReply,
        directory::Directory, followers, subscription,
    },
    properties::Text,
    store::Batch,
    time::Now,
    transaction::OffsetsInTransaction,
};

/// Who wants to commit offsets.
#[derive(Clone, Copy)]
pub(super) struct Committer<'a> {
    pub member: &'a Text,
    pub instance: Option<&'a Text>,
    /// Or the epoch of a member of the consumer protocol.
    pub generation: i32,
    /// See [`GroupRequest::Commit`](crate::group::GroupRequest::Commit).
    pub knows_member_epochs: bool,
    pub in_transaction: bool,
}

impl Group {
    pub(super) fn may_commit(
        &mut self,
        now: Now,
        directory: &Directory,
        by: Committer<'_>,
        offsets: &[CommittedOffset],
    ) -> Result<(), GroupError> {
        let Committer {
            member: id,
            instance,
            generation,
            in_transaction,
            ..
        } = by;
        if generation < 0 && self.has_no_members() {
            return Ok(());
        }
        if generation < 0 && id.is_empty() && instance.is_none() {
            // Without membership only where there are no members, and in transactions: older producers do not
            // say who consumed.
            return match in_transaction {
                true => Ok(()),
                false => Err(GroupError::UnknownMember),
            };
        }
        if let Some(consumers) = &self.consumers {
            if !in_transaction && !by.knows_member_epochs && consumers.has_member_epoch(id) {
                return Err(GroupError::WithoutMemberEpoch);
            }
            let may = consumers.may_commit(directory, id, generation, offsets);
            // A transaction knows of generations alone.
            return may.map_err(|error| match error {
                GroupError::StaleMemberEpoch if in_transaction => GroupError::IllegalGeneration,
                other => other,
            });
        }
        self.check_member(id, instance)?;
        if generation != self.generation {
            return Err(GroupError::IllegalGeneration);
        }
        if self.state == State::Completing && !in_transaction {
            return Err(GroupError::RebalanceInProgress);
        }
        if let Some(member) = self.members.get_mut(id) {
            member.touch(now.instant);
        }
        Ok(())
    }

    pub(super) fn commit_in_transaction(
        &mut self,
        now: Now,
        directory: &Directory,
        commit: OffsetsInTransaction,
        batch: &mut Batch,
    ) -> GroupReply {
        let by = Committer {
            member: &commit.member,
            instance: commit.instance.as_ref(),
            generation: commit.generation,
            knows_member_epochs: false,
            in_transaction: true,
        };
        self.may_commit(now, directory, by, &commit.offsets)?;
        let (producer, offsets) = (commit.producer.id, commit.offsets);
        self.uncommitted
            .add(now.wall, &self.name, producer, offsets, batch);
        self.forget_at = None;
        Ok(GroupAnswer::Ok)
    }

    pub(super) fn read_offsets(
        &self,
        partitions: Option<Vec<(Text, u32)>>,
        require_stable: bool,
    ) -> GroupAnswer {
        let unstable = match (require_stable, &partitions) {
            (false, _) => Vec::new(),
            (true, Some(wanted)) => wanted
                .iter()
                .filter(|partition| self.uncommitted.holds(partition))
                .cloned()
                .collect(),
            (true, None) => self.uncommitted.partitions().cloned().collect(),
        };
        GroupAnswer::Offsets {
            offsets: self.offsets.find(partitions),
            unstable,
        }
    }

    pub(super) fn delete_offsets(
        &mut self,
        directory: &Directory,
        partitions: &[(Text, u32)],
        batch: &mut Batch,
    ) -> GroupReply {
        let is_known = self.has_no_members()
            || self.consumers.is_some()
            || !self.followers.is_empty()
            || self.protocol_type == subscription::CONSUMER;
        if !is_known {
            // What its members consume only they know.
            return Err(GroupError::NotEmpty);
        }
        let delete = |partition: &(Text, u32)| match self.subscribes_to(directory, &partition.0) {
            true => Err(GroupError::SubscribedToLog),
            false => {
                self.offsets.remove(&self.name, partition, batch);
                Ok(())
            }
        };
        Ok(GroupAnswer::Deleted(
            partitions.iter().map(delete).collect(),
        ))
    }

    /// Whether a member may be consuming a log, as far as its subscription says so.
    pub(super) fn subscribes_to(&self, directory: &Directory, log: &str) -> bool {
        if self.followers.reads(log) {
            return true;
        }
        if let Some(consumers) = &self.consumers {
            let known = directory.find(&self.name.0, log);
            return known.is_some_and(|known| consumers.subscribes_to(known.uuid));
        }
        if self.state == State::Empty {
            return false;
        }
        self.members.values().any(|member| {
            subscription::logs(&member.metadata(&self.protocol))
                .is_none_or(|logs| logs.iter().any(|name| name == log))
        })
    }

    pub(super) fn describe(&self) -> GroupDescription {
        if !self.followers.is_empty() {
            return GroupDescription {
                state: "Stable",
                protocol_type: Text::from_static(followers::PROTOCOL_TYPE),
                protocol: Text::from_static(followers::PROTOCOL),
                members: self.followers.describe().collect(),
            };
        }
        // Until a generation has its assignment, its protocol is not told.
        let protocol = match self.state {
            State::Stable => self.protocol.clone(),
            _ => Text::new(),
        };
        let members = self.members.values();
        GroupDescription {
            state: self.state(),
            protocol_type: self.protocol_type.clone(),
            members: members.map(|it| it.described(&protocol)).collect(),
            protocol,
        }
    }

    pub(super) fn delete(&mut self, batch: &mut Batch) -> GroupReply {
        if !self.has_no_members() {
            return Err(GroupError::NotEmpty);
        }
        self.forget(batch);
        Ok(GroupAnswer::Ok)
    }

    /// Ends the group, whoever is in it.
    pub fn forget(&mut self, batch: &mut Batch) {
        self.offsets.delete(&self.name, batch);
        self.uncommitted.delete(&self.name, batch);
        if let Some(share) = &mut self.share {
            share.delete(&self.name, batch);
        }
        self.forget_members(batch);
        self.forget_kind(batch);
        self.dead = true;
    }
}
