//! The classic group protocol: what members say goes to the group's coordinator in the core.

use std::time::Duration;

use trivium_core::{
    Command, Refusal, Reply, Text,
    group::{
        DescribedMember, GroupAnswer, GroupDescription, GroupError, GroupReply, GroupRequest,
        JoinedMember,
    },
};

use crate::{
    call::{Answer, Call, Job, Step},
    error::ErrorCode,
    messages::groups::*,
    serve::{GROUP_OPERATIONS, NOT_ASKED, text},
};

/// From this version on a new dynamic member is sent away with an id first (KIP-394).
const MEMBER_ID_REQUIRED: i16 = 4;

/// An answer of a coordinator, or why there is none.
pub(super) enum Failure {
    /// The coordinator would not.
    Group(GroupError),
    /// The core would not ask it.
    Core(Refusal),
}

impl Failure {
    pub(super) fn code(&self) -> ErrorCode {
        match self {
            Failure::Group(error) => ErrorCode::from(error),
            Failure::Core(Refusal::Denied(_)) => ErrorCode::GROUP_AUTHORIZATION_FAILED,
            Failure::Core(refusal) => ErrorCode::from(refusal),
        }
    }
}

/// What the coordinator said.
pub(super) fn answer_of(answer: Answer) -> Result<GroupAnswer, Failure> {
    let reply: GroupReply = answer
        .reply(|reply| match reply {
            Reply::Group(reply) => Some(reply),
            _ => None,
        })
        .map_err(Failure::Core)?;
    reply.map_err(Failure::Group)
}

/// Asks the coordinator of `group`.
pub(super) fn ask(part: usize, group: Text, request: GroupRequest, call: &mut Call<'_>) {
    call.submit(part, |token| Command::Group {
        token,
        group,
        request,
    });
}

fn millis(millis: i32) -> Duration {
    Duration::from_millis(millis.max(0) as u64)
}

/// A request with one answer, and how it becomes a response.
struct One(fn(Result<GroupAnswer, Failure>, &Call<'_>) -> Step);

impl Job for One {
    fn on_answer(self: Box<Self>, _part: usize, answer: Answer, call: &mut Call<'_>) -> Step {
        (self.0)(answer_of(answer), call)
    }
}

pub(crate) fn join(request: JoinGroupRequest, call: &mut Call<'_>) -> Step {
    // Version 0 has one time-out for both.
    let rebalance_timeout_ms = if call.version() == 0 {
        request.session_timeout_ms
    } else {
        request.rebalance_timeout_ms
    };
    let join = GroupRequest::Join {
        require_member_id: call.version() >= MEMBER_ID_REQUIRED
            && request.group_instance_id.is_none(),
        member: request.member_id,
        instance: request.group_instance_id,
        client: call.header.client_id.clone(),
        host: format!("/{}", call.session.peer.address.ip().to_canonical()).into(),
        session_timeout: millis(request.session_timeout_ms),
        rebalance_timeout: millis(rebalance_timeout_ms),
        protocol_type: request.protocol_type,
        protocols: request
            .protocols
            .into_iter()
            .map(|protocol| (protocol.name, protocol.metadata))
            .collect(),
    };
    ask(0, request.group_id, join, call);
    Step::Wait(Box::new(One(joined)))
}

fn joined(answer: Result<GroupAnswer, Failure>, call: &Call<'_>) -> Step {
    let mut response = JoinGroupResponse::default();
    match answer {
        Ok(GroupAnswer::Joined {
            generation,
            protocol_type,
            protocol,
            leader,
            member,
            members,
            skip_assignment,
        }) => {
            response.generation_id = generation;
            (response.protocol_type, response.protocol_name) =
                (Some(protocol_type), Some(protocol));
            (response.leader, response.member_id) = (leader, member);
            response.members = members.into_iter().map(joined_member).collect();
            response.skip_assignment = skip_assignment;
        }
        Ok(_) => response.error_code = ErrorCode::UNKNOWN_SERVER_ERROR,
        Err(failure) => {
            response.error_code = failure.code();
            if let Failure::Group(GroupError::MemberIdRequired(member)) = failure {
                response.member_id = member;
            }
        }
    }
    call.respond(&response)
}

fn joined_member(member: JoinedMember) -> JoinGroupResponseMember {
    JoinGroupResponseMember {
        member_id: member.member,
        group_instance_id: member.instance,
        metadata: member.metadata,
    }
}

pub(crate) fn sync(request: SyncGroupRequest, call: &mut Call<'_>) -> Step {
    let assignments = request
        .assignments
        .into_iter()
        .map(|member| (member.member_id, member.assignment))
        .collect();
    let sync = GroupRequest::Sync {
        generation: request.generation_id,
        member: request.member_id,
        instance: request.group_instance_id,
        protocol_type: request.protocol_type,
        protocol: request.protocol_name,
        assignments,
    };
    ask(0, request.group_id, sync, call);
    Step::Wait(Box::new(One(synced)))
}

fn synced(answer: Result<GroupAnswer, Failure>, call: &Call<'_>) -> Step {
    let mut response = SyncGroupResponse::default();
    match answer {
        Ok(GroupAnswer::Synced {
            protocol_type,
            protocol,
            assignment,
        }) => {
            (response.protocol_type, response.protocol_name) =
                (Some(protocol_type), Some(protocol));
            response.assignment = assignment;
        }
        Ok(_) => response.error_code = ErrorCode::UNKNOWN_SERVER_ERROR,
        Err(failure) => response.error_code = failure.code(),
    }
    call.respond(&response)
}

pub(crate) fn heartbeat(request: HeartbeatRequest, call: &mut Call<'_>) -> Step {
    let heartbeat = GroupRequest::Heartbeat {
        generation: request.generation_id,
        member: request.member_id,
        instance: request.group_instance_id,
    };
    ask(0, request.group_id, heartbeat, call);
    Step::Wait(Box::new(One(|answer, call| {
        let error_code = answer.map_or_else(|failure| failure.code(), |_| ErrorCode::NONE);
        call.respond(&HeartbeatResponse {
            throttle_time_ms: 0,
            error_code,
        })
    })))
}

pub(crate) fn leave(request: LeaveGroupRequest, call: &mut Call<'_>) -> Step {
    let members = match call.version() {
        ..3 => vec![(request.member_id, None)],
        _ => request
            .members
            .into_iter()
            .map(|member| (member.member_id, member.group_instance_id))
            .collect(),
    };
    ask(0, request.group_id, GroupRequest::Leave { members }, call);
    Step::Wait(Box::new(One(left)))
}

fn left(answer: Result<GroupAnswer, Failure>, call: &Call<'_>) -> Step {
    let mut response = LeaveGroupResponse::default();
    match answer {
        Ok(GroupAnswer::Left { members }) => {
            response.members = members.into_iter().map(left_member).collect()
        }
        Ok(_) => response.error_code = ErrorCode::UNKNOWN_SERVER_ERROR,
        Err(failure) => response.error_code = failure.code(),
    }
    if call.version() < 3
        && let Some(member) = response.members.first()
    {
        response.error_code = member.error_code;
    }
    call.respond(&response)
}

fn left_member(
    (member_id, group_instance_id, result): (Text, Option<Text>, Result<(), GroupError>),
) -> MemberResponse {
    let error_code = result.map_or_else(|error| ErrorCode::from(&error), |()| ErrorCode::NONE);
    MemberResponse {
        member_id,
        group_instance_id,
        error_code,
    }
}

/// Groups being described or deleted, one answer each.
struct Many<T> {
    groups: Vec<T>,
    left: usize,
    take: fn(&mut T, Result<GroupAnswer, Failure>, &Call<'_>),
    respond: fn(Vec<T>, &Call<'_>) -> Step,
}

impl<T: Send + 'static> Job for Many<T> {
    fn on_answer(mut self: Box<Self>, part: usize, answer: Answer, call: &mut Call<'_>) -> Step {
        if let Some(group) = self.groups.get_mut(part) {
            (self.take)(group, answer_of(answer), call);
        }
        self.left -= 1;
        match self.left {
            0 => (self.respond)(self.groups, call),
            _ => Step::Wait(self),
        }
    }
}

/// Asks about each group, and answers at once when there is none.
fn each<T: Send + 'static>(
    groups: Vec<Text>,
    request: &GroupRequest,
    many: Many<T>,
    call: &mut Call<'_>,
) -> Step {
    for (part, group) in groups.into_iter().enumerate() {
        ask(part, group, request.clone(), call);
    }
    match many.left {
        0 => (many.respond)(many.groups, call),
        _ => Step::Wait(Box::new(many)),
    }
}

pub(crate) fn describe(request: DescribeGroupsRequest, call: &mut Call<'_>) -> Step {
    let authorized_operations = if request.include_authorized_operations {
        GROUP_OPERATIONS
    } else {
        NOT_ASKED
    };
    let group = |group_id: &Text| DescribedGroup {
        group_id: group_id.clone(),
        authorized_operations,
        ..Default::default()
    };
    let many = Many {
        groups: request.groups.iter().map(group).collect(),
        left: request.groups.len(),
        take: described,
        respond: |groups, call| {
            call.respond(&DescribeGroupsResponse {
                throttle_time_ms: 0,
                groups,
            })
        },
    };
    each(request.groups, &GroupRequest::Describe, many, call)
}

fn described(group: &mut DescribedGroup, answer: Result<GroupAnswer, Failure>, call: &Call<'_>) {
    match answer {
        Ok(GroupAnswer::Described(GroupDescription {
            state,
            protocol_type,
            protocol,
            members,
        })) => {
            group.group_state = Text::from_static(state);
            (group.protocol_type, group.protocol_data) = (protocol_type, protocol);
            group.members = members.into_iter().map(described_member).collect();
        }
        Ok(_) => group.error_code = ErrorCode::UNKNOWN_SERVER_ERROR,
        // KIP-1043: before version 6 a group that is not there is a dead one.
        Err(Failure::Group(GroupError::NotFound)) if call.version() < 6 => {
            group.group_state = "Dead".into()
        }
        Err(failure) => {
            group.error_code = failure.code();
            group.group_state = "Dead".into();
            group.error_message = match &failure {
                Failure::Group(error) => Some(error.to_string().into()),
                Failure::Core(refusal) => text(refusal),
            };
        }
    }
}

fn described_member(member: DescribedMember) -> DescribedGroupMember {
    DescribedGroupMember {
        member_id: member.member,
        group_instance_id: member.instance,
        client_id: member.client,
        client_host: member.host,
        member_metadata: member.metadata,
        member_assignment: member.assignment,
    }
}

pub(crate) fn delete(request: DeleteGroupsRequest, call: &mut Call<'_>) -> Step {
    let group = |group_id: &Text| DeletableGroupResult {
        group_id: group_id.clone(),
        ..Default::default()
    };
    let many = Many {
        groups: request.groups_names.iter().map(group).collect(),
        left: request.groups_names.len(),
        take: |group: &mut DeletableGroupResult, answer, _| {
            group.error_code = answer.map_or_else(|failure| failure.code(), |_| ErrorCode::NONE);
        },
        respond: |results, call| {
            call.respond(&DeleteGroupsResponse {
                throttle_time_ms: 0,
                results,
            })
        },
    };
    each(request.groups_names, &GroupRequest::Delete, many, call)
}
