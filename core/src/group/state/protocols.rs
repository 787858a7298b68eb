//! Which protocol a group speaks: share groups and the consumer protocol answer for themselves, all else is for the
//! classic one.

use super::{Group, State};
use crate::{
    group::{
        GroupAnswer, GroupError, GroupReply, GroupRequest, consumer::ConsumerGroup,
        directory::Directory,
    },
    properties::Text,
    store::Batch,
    time::Now,
};

impl Group {
    /// Answers what concerns share groups; anything else comes back.
    pub(super) fn handle_share(
        &mut self,
        now: Now,
        directory: &Directory,
        request: GroupRequest,
        batch: &mut Batch,
    ) -> Result<GroupReply, GroupRequest> {
        match request {
            GroupRequest::Share(request) => {
                let is_new =
                    self.is_idle() && self.offsets.is_empty() && self.uncommitted.is_empty();
                if self.share.is_none() && !is_new {
                    return Ok(Err(GroupError::NotFound));
                }
                let share = self.share.get_or_insert_default();
                Ok(share
                    .handle(now, directory, &self.name, request, batch)
                    .map(GroupAnswer::Share))
            }
            GroupRequest::Delete => Err(request),
            GroupRequest::Join { .. } | GroupRequest::ConsumerHeartbeat(_)
                if self.share.is_some() =>
            {
                Ok(Err(GroupError::InconsistentProtocol))
            }
            request if self.share.is_some() => {
                drop(request);
                Ok(Err(GroupError::NotFound))
            }
            request => Err(request),
        }
    }

    /// Answers what concerns the consumer protocol; anything else comes back.
    pub(super) fn handle_protocol(
        &mut self,
        now: Now,
        directory: &Directory,
        request: GroupRequest,
    ) -> Result<GroupReply, GroupRequest> {
        let is_idle = self.is_idle();
        match (request, &mut self.consumers) {
            (GroupRequest::ConsumerHeartbeat(heartbeat), Some(consumers)) => Ok(consumers
                .heartbeat(now, directory, *heartbeat)
                .map(GroupAnswer::Heartbeat)),
            (GroupRequest::ConsumerHeartbeat(heartbeat), None) if is_idle => {
                // It was a group of the classic protocol, or is new. Its epochs go on from its generations.
                let mut consumers = ConsumerGroup::new(self.name.0.clone(), self.generation);
                let answer = consumers.heartbeat(now, directory, *heartbeat);
                if answer.is_ok() {
                    self.consumers = Some(Box::new(consumers));
                }
                Ok(answer.map(GroupAnswer::Heartbeat))
            }
            (GroupRequest::DescribeConsumer, Some(consumers)) => Ok(Ok(
                GroupAnswer::DescribedConsumer(consumers.describe(directory)),
            )),
            (GroupRequest::Describe, Some(_)) => Ok(Err(GroupError::NotFound)),
            (request @ GroupRequest::Join { .. }, Some(consumers)) => {
                if !consumers.is_empty() {
                    return Ok(Err(GroupError::InconsistentProtocol));
                }
                // Nobody is left of the consumer protocol: it is a group of the classic one again.
                self.generation = consumers.epoch();
                self.consumers = None;
                Err(request)
            }
            (GroupRequest::Sync { .. } | GroupRequest::Heartbeat { .. }, Some(_)) => {
                Ok(Err(GroupError::UnknownMember))
            }
            (request, _) => Err(request),
        }
    }

    /// Whether it has no members, of whatever protocol.
    pub(super) fn is_idle(&self) -> bool {
        let consumers = self.consumers.as_ref();
        self.state == State::Empty
            && self.pending.is_empty()
            && consumers.is_none_or(|consumers| consumers.is_empty())
            && self.share.as_ref().is_none_or(|share| share.is_empty())
    }

    /// A member of the consumer protocol reads offsets under its epoch.
    pub(super) fn may_read(&self, member: Option<(Text, i32)>) -> Result<(), GroupError> {
        match (&self.consumers, member) {
            (Some(consumers), Some((id, epoch))) => consumers.may_commit(&id, None, epoch),
            _ => Ok(()),
        }
    }
}
