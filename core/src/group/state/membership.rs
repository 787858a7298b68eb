//! Who is in a group of the classic protocol: signs of life, and leaving.

use super::{Group, State};
use crate::{
    group::{GroupAnswer, GroupError, GroupReply, coordinator::Answers},
    properties::Text,
    time::Now,
};

impl Group {
    /// Whether `id` is a member and, where it says so, the one behind its static name.
    pub(super) fn check_member(
        &self,
        id: &Text,
        instance: Option<&Text>,
    ) -> Result<(), GroupError> {
        if let Some(instance) = instance {
            match self.instances.get(instance) {
                None => return Err(GroupError::UnknownMember),
                Some(current) if current != id => {
                    return Err(GroupError::FencedInstance(current.clone()));
                }
                Some(_) => {}
            }
        }
        if self.members.contains_key(id) {
            Ok(())
        } else {
            Err(GroupError::UnknownMember)
        }
    }

    pub(super) fn heartbeat(
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

    pub(super) fn leave(
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

    pub(super) fn leave_one(
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
    pub(super) fn remove(&mut self, id: &Text, answers: &mut Answers) {
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

    pub(super) fn members_left(&mut self, now: Now, answers: &mut Answers) {
        match self.state {
            State::Empty => {}
            State::Preparing => self.complete_if_all_joined(now, answers),
            State::Completing | State::Stable => self.prepare(now, answers),
        }
    }
}
