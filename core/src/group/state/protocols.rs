//! Which protocol a group speaks: share groups and the consumer protocol answer for themselves, all else is for the
//! classic one.

use super::{Group, SESSION_TIMEOUTS, State};
use crate::{
    group::{
        ConsumerHeartbeat, GroupAnswer, GroupError, GroupReply, GroupRequest, Heartbeat,
        ShareAnswer, ShareRequest, consumer::ConsumerGroup, coordinator::Answers,
        directory::Directory,
    },
    properties::Text,
    store::Batch,
    time::Now,
};

/// Of a group of the consumer protocol or a share group that has had no members: the first to join makes it 2, as in
/// Kafka.
pub(in crate::group) const FIRST_EPOCH: i32 = 1;

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
                if self.share.is_none() && matches!(request, ShareRequest::Offsets { .. }) {
                    // Of whatever kind it is, it has none.
                    return Ok(Ok(GroupAnswer::Share(ShareAnswer::Offsets(Vec::new()))));
                }
                if self.share.is_none() && !self.is_nothing() {
                    return Ok(Err(GroupError::OtherKind("share")));
                }
                let name = self.name.clone();
                let share = self.share_mut();
                Ok(share
                    .handle(now, directory, &name, request, batch)
                    .map(GroupAnswer::Share))
            }
            GroupRequest::Delete => Err(request),
            request if self.share.is_some() => Ok(not_for_shares(request)),
            request => Err(request),
        }
    }

    /// Whether it may still become a group of any kind: nobody has been in it, and nothing is kept for it.
    fn is_nothing(&self) -> bool {
        self.is_idle()
            && self.offsets.is_empty()
            && self.uncommitted.is_empty()
            && self.consumers.is_none()
            && self.protocol_type.is_empty()
    }

    /// Answers what concerns the consumer protocol; anything else comes back.
    pub(super) fn handle_protocol(
        &mut self,
        now: Now,
        directory: &Directory,
        request: GroupRequest,
        answers: &mut Answers,
    ) -> Result<GroupReply, GroupRequest> {
        if let GroupRequest::ConsumerHeartbeat(heartbeat) = request {
            return Ok(self
                .heartbeat_consumer(now, directory, *heartbeat, answers)
                .map(GroupAnswer::Heartbeat));
        }
        if let GroupRequest::Join(join) = &request {
            let instance = join.instance.as_ref();
            self.prepare_for_classic(now, directory, instance, &join.member, answers);
        }
        let Some(consumers) = &mut self.consumers else {
            return Err(request);
        };
        match request {
            GroupRequest::DescribeConsumer => Ok(Ok(GroupAnswer::DescribedConsumer(
                consumers.describe(directory),
            ))),
            GroupRequest::Describe => Ok(Err(GroupError::OtherKind("classic"))),
            GroupRequest::Join(join) => {
                if !SESSION_TIMEOUTS.contains(&join.session_timeout) {
                    return Ok(Err(GroupError::InvalidSessionTimeout));
                }
                Ok(consumers.join_classic(now, directory, *join))
            }
            GroupRequest::Sync {
                generation,
                member,
                instance,
                protocol_type,
                protocol,
                ..
            } => Ok(consumers.sync_classic(
                now,
                directory,
                generation,
                &member,
                instance.as_ref(),
                protocol_type.as_ref(),
                protocol.as_ref(),
            )),
            GroupRequest::Heartbeat {
                generation,
                member,
                instance,
            } => Ok(consumers.heartbeat_classic(
                now,
                directory,
                generation,
                &member,
                instance.as_ref(),
            )),
            GroupRequest::Leave { members } => {
                let mut left = Vec::with_capacity(members.len());
                for (id, instance) in members {
                    let result = consumers.leave_classic(&id, instance.as_ref());
                    left.push((id, instance, result));
                }
                if left.iter().any(|(_, _, result)| result.is_ok()) {
                    consumers.members_left(now.instant, directory);
                }
                self.downgrade_if_due(now, directory, answers);
                Ok(Ok(GroupAnswer::Left { members: left }))
            }
            request => Err(request),
        }
    }

    fn heartbeat_consumer(
        &mut self,
        now: Now,
        directory: &Directory,
        heartbeat: ConsumerHeartbeat,
        answers: &mut Answers,
    ) -> Result<Heartbeat, GroupError> {
        if let Some(consumers) = &mut self.consumers {
            let answer = consumers.heartbeat(now, directory, heartbeat);
            self.downgrade_if_due(now, directory, answers);
            return answer;
        }
        if heartbeat.epoch != 0 {
            return Err(GroupError::OtherKind("consumer"));
        }
        // It is new, or nobody is left in it: it begins anew. Else its epochs go on from its generations.
        let mut consumers = match self.has_no_members() {
            true => self.new_consumers(),
            false => self.upgraded(now, directory)?,
        };
        let answer = consumers.heartbeat(now, directory, heartbeat)?;
        self.become_consumers(consumers, answers);
        Ok(answer)
    }

    pub(super) fn new_consumers(&self) -> ConsumerGroup {
        let (vhost, settings) = (self.name.0.clone(), self.settings.clone());
        let epoch = match self.has_no_members() {
            true => FIRST_EPOCH,
            false => self.generation,
        };
        ConsumerGroup::new(vhost, settings, epoch)
    }

    /// Where nobody is left of the consumer protocol, or a newcomer takes the place of the last, it is a group of the
    /// classic one again.
    fn prepare_for_classic(
        &mut self,
        now: Now,
        directory: &Directory,
        instance: Option<&Text>,
        id: &Text,
        answers: &mut Answers,
    ) {
        let Some(consumers) = &mut self.consumers else {
            return;
        };
        if consumers.is_empty() {
            (self.generation, self.protocol_type) = (0, Text::new());
            self.consumers = None;
            return;
        }
        let last = instance.filter(|_| id.is_empty());
        if let Some(last) = last.and_then(|instance| consumers.replaces_last(instance)) {
            consumers.remove(&last);
            self.downgrade_if_due(now, directory, answers);
        }
    }

    /// Whether it has no members, of whatever protocol, and expects none.
    pub(super) fn is_idle(&self) -> bool {
        self.pending.is_empty() && self.has_no_members()
    }

    /// Whether it has no members, of whatever protocol. Who was sent away with an id is none yet.
    pub(super) fn has_no_members(&self) -> bool {
        let consumers = self.consumers.as_ref();
        self.state == State::Empty
            && consumers.is_none_or(|consumers| consumers.is_empty())
            && self.share.as_ref().is_none_or(|share| share.is_empty())
            && self.followers.is_empty()
    }

    /// A member of the consumer protocol reads offsets under its epoch.
    pub(super) fn may_read(&self, member: Option<(Text, i32)>) -> Result<(), GroupError> {
        match (&self.consumers, member) {
            (Some(consumers), Some((id, epoch))) => consumers.may_read(&id, epoch),
            _ => Ok(()),
        }
    }
}

/// What a share group says to requests of other protocols.
fn not_for_shares(request: GroupRequest) -> GroupReply {
    match request {
        GroupRequest::Join(_) => Err(GroupError::InconsistentProtocol),
        GroupRequest::Sync { .. } | GroupRequest::Heartbeat { .. } => {
            Err(GroupError::UnknownMember)
        }
        GroupRequest::Leave { members } => {
            let unknown = |(member, instance)| (member, instance, Err(GroupError::UnknownMember));
            Ok(GroupAnswer::Left {
                members: members.into_iter().map(unknown).collect(),
            })
        }
        GroupRequest::ConsumerHeartbeat(_) | GroupRequest::DescribeConsumer => {
            Err(GroupError::OtherKind("consumer"))
        }
        GroupRequest::Describe => Err(GroupError::OtherKind("classic")),
        _ => Err(GroupError::NotFound),
    }
}
