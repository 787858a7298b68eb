//! The handing out of a generation: the leader's assignment, and those who ask for their part of it.

use bytes::Bytes;
use rustc_hash::FxHashMap;

use super::{Group, State};
use crate::{
    group::{
        GroupAnswer, GroupError,
        coordinator::{Answers, Caller},
    },
    properties::Text,
    time::Now,
};

impl Group {
    /// The answer, or none before the leader's assignment.
    #[expect(clippy::too_many_arguments, reason = "one request")]
    pub(super) fn sync(
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
    pub(super) fn assign(
        &mut self,
        now: Now,
        assignments: Vec<(Text, Bytes)>,
        answers: &mut Answers,
    ) {
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

    pub(super) fn end_sync_if_complete(&mut self) {
        if self.members.values().all(|member| !member.owes_sync) {
            self.sync_by = None;
        }
    }

    pub(super) fn synced(&self, assignment: Bytes) -> GroupAnswer {
        GroupAnswer::Synced {
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            assignment,
        }
    }
}
