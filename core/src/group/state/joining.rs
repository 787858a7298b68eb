//! Joining a group of the classic protocol: newcomers, static members that are back, and members that go on into the
//! next generation.

use std::time::Duration;

use bytes::Bytes;

use super::{Group, SESSION_TIMEOUTS, State};
use crate::{
    group::{
        GroupAnswer, GroupError, Join,
        coordinator::{Answers, Caller},
        member::Member,
    },
    properties::Text,
    time::Now,
};

/// A new member has not seen its id, so it sends no heartbeats; after this its client has come back as another.
const NEW_MEMBER_TIMEOUT: Duration = Duration::from_secs(300);

impl Group {
    /// The answer, or none yet.
    pub(super) fn join(
        &mut self,
        now: Now,
        from: Caller,
        joining: Join,
        answers: &mut Answers,
    ) -> Result<Option<GroupAnswer>, GroupError> {
        if !SESSION_TIMEOUTS.contains(&joining.session_timeout) {
            return Err(GroupError::InvalidSessionTimeout);
        }
        if !self.is_consistent(&joining.protocol_type, &joining.protocols) {
            return Err(GroupError::InconsistentProtocol);
        }
        if joining.member.is_empty() {
            return self.join_newcomer(now, from, joining, answers);
        }
        let id = joining.member.clone();
        if joining.instance.is_none() && self.pending.remove(&id).is_some() {
            self.admit(now, from, id, joining, answers);
            return Ok(None);
        }
        self.check_member(&id, joining.instance.as_ref())?;
        let is_leader = self.leader == id;
        let unchanged = self
            .members
            .get(&id)
            .is_some_and(|member| member.protocols == joining.protocols);
        match self.state {
            State::Empty => Err(GroupError::UnknownMember),
            // The answer to its earlier join was lost: the generation is the same.
            State::Completing if unchanged => Ok(Some(self.rejoined(now, &id, answers))),
            State::Stable if unchanged && !is_leader => Ok(Some(self.rejoined(now, &id, answers))),
            _ => {
                self.park_join(now, from, &id, joining, answers);
                self.rebalance_or_complete(now, answers);
                Ok(None)
            }
        }
    }

    pub(super) fn join_newcomer(
        &mut self,
        now: Now,
        from: Caller,
        joining: Join,
        answers: &mut Answers,
    ) -> Result<Option<GroupAnswer>, GroupError> {
        let base = joining.instance.as_ref().unwrap_or(&joining.client);
        let id: Text = format!("{base}-{}", uuid::Uuid::new_v4()).into();
        if let Some(instance) = &joining.instance {
            if let Some(old) = self.instances.get(instance).cloned() {
                return Ok(self.replace(now, from, &old, id, joining, answers));
            }
        } else if joining.require_member_id {
            self.pending
                .insert(id.clone(), now.instant + joining.session_timeout);
            return Err(GroupError::MemberIdRequired(id));
        }
        self.admit(now, from, id, joining, answers);
        Ok(None)
    }

    /// Whether the protocol type is the group's and there is a protocol that all support.
    pub(super) fn is_consistent(&self, protocol_type: &Text, protocols: &[(Text, Bytes)]) -> bool {
        if self.members.is_empty() {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        let by_all = |name: &Text| self.members.values().all(|member| member.supports(name));
        *protocol_type == self.protocol_type && protocols.iter().any(|(name, _)| by_all(name))
    }

    pub(super) fn admit(
        &mut self,
        now: Now,
        from: Caller,
        id: Text,
        joining: Join,
        answers: &mut Answers,
    ) {
        if self.members.is_empty() {
            self.protocol_type = joining.protocol_type;
            self.leader = id.clone();
        }
        if let Some(initial) = &mut self.initial {
            initial.newcomers = true;
        }
        if let Some(instance) = &joining.instance {
            self.instances.insert(instance.clone(), id.clone());
        }
        let member = Member {
            id: id.clone(),
            instance: joining.instance,
            client: joining.client,
            host: joining.host,
            session_timeout: joining.session_timeout,
            rebalance_timeout: joining.rebalance_timeout,
            protocols: joining.protocols,
            assignment: Bytes::new(),
            joining: Some(from),
            syncing: None,
            is_new: true,
            owes_sync: false,
            alive_until: now.instant + NEW_MEMBER_TIMEOUT,
        };
        self.members.insert(id, member);
        self.rebalance_or_complete(now, answers);
    }

    /// A static member came back without its id: it takes its own place, and where nothing else changed in a
    /// stable group it gets its assignment again without a rebalance (KIP-345).
    pub(super) fn replace(
        &mut self,
        now: Now,
        from: Caller,
        old: &Text,
        id: Text,
        joining: Join,
        answers: &mut Answers,
    ) -> Option<GroupAnswer> {
        let mut member = self.members.remove(old)?;
        let parked = member
            .joining
            .take()
            .into_iter()
            .chain(member.syncing.take());
        let fenced = || Err(GroupError::FencedInstance(id.clone()));
        answers.extend(parked.map(|caller| (caller, fenced())));
        self.instances.extend(
            member
                .instance
                .clone()
                .map(|instance| (instance, id.clone())),
        );
        let leader = self.leader.clone();
        if leader == *old {
            self.leader = id.clone();
        }
        member.id = id.clone();
        self.members.insert(id.clone(), member);
        let skips = joining.may_skip_assignment;
        self.park_join(now, from, &id, joining, answers);
        if self.state != State::Stable || self.select_protocol() != self.protocol {
            // A generation that has no assignment yet cannot give one: there must be a new one.
            self.rebalance_or_complete(now, answers);
            return None;
        }
        self.members_changed();
        let member = self.members.get_mut(&id)?;
        member.joining = None;
        member.is_new = false;
        member.touch(now.instant);
        if skips {
            let is_leader = self.leader == id;
            let mut answer = self.joined(&id, self.leader.clone(), is_leader);
            if let GroupAnswer::Joined {
                skip_assignment, ..
            } = &mut answer
            {
                *skip_assignment = is_leader;
            }
            return Some(answer);
        }
        // A restarted leader is told its former id, so it takes itself for a follower and assigns nothing.
        Some(self.joined(&id, leader, false))
    }

    /// Updates a member and parks its join; an earlier one that is still parked is sent away.
    pub(super) fn park_join(
        &mut self,
        now: Now,
        from: Caller,
        id: &Text,
        joining: Join,
        answers: &mut Answers,
    ) {
        let Some(member) = self.members.get_mut(id) else {
            return;
        };
        if let Some(earlier) = member.joining.replace(from) {
            answers.push((earlier, Err(GroupError::RebalanceInProgress)));
        }
        member.protocols = joining.protocols;
        (member.session_timeout, member.rebalance_timeout) =
            (joining.session_timeout, joining.rebalance_timeout);
        if !member.is_new {
            member.touch(now.instant);
        }
    }

    /// The answer to a join that changes nothing.
    pub(super) fn rejoined(&mut self, now: Now, id: &Text, answers: &mut Answers) -> GroupAnswer {
        if let Some(member) = self.members.get_mut(id) {
            member.touch(now.instant);
            // Who joins again has given up on its sync.
            answers.extend(
                member
                    .syncing
                    .take()
                    .map(|caller| (caller, Err(GroupError::RebalanceInProgress))),
            );
            member.owes_sync |= self.state == State::Completing;
        }
        self.joined(id, self.leader.clone(), self.leader == *id)
    }

    pub(super) fn joined(&self, id: &Text, leader: Text, with_members: bool) -> GroupAnswer {
        let members = self.members.values().filter(|_| with_members);
        GroupAnswer::Joined {
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader,
            member: id.clone(),
            members: members
                .map(|member| member.joined(&self.protocol))
                .collect(),
            skip_assignment: false,
        }
    }
}
