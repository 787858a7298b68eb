//! The classic group protocol: what members say goes to the group's coordinator in the core.

use std::time::Duration;

use rustc_hash::FxHashSet;
use trivium_core::{
    Command, Refusal, Reply, Text,
    group::{
        DescribedMember, GroupAnswer, GroupDescription, GroupError, GroupReply, GroupRequest, Join,
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
/// From this version on a leader can be told to assign nothing (KIP-814).
const SKIPS_ASSIGNMENT: i16 = 9;
/// From this version of SyncGroup on a member says which protocol it goes by (KIP-559).
const NAMES_PROTOCOL: i16 = 5;

/// An answer of a coordinator, or why there is none.
pub(super) enum Failure {
    /// The coordinator would not.
    Group(GroupError),
    /// The core would not ask it.
    Core(Refusal),
}

impl Failure {
    /// Why the core would not ask the coordinator.
    pub(super) fn refusal(&self) -> Option<&Refusal> {
        match self {
            Failure::Group(_) => None,
            Failure::Core(refusal) => Some(refusal),
        }
    }

    /// The core answered something else than was asked for.
    pub(super) fn unexpected() -> Failure {
        Failure::Core(Refusal::StorageFailed("unexpected answer".into()))
    }

    /// What it says, for the versions that carry a text.
    pub(super) fn text(&self) -> Text {
        match self {
            Failure::Group(error) => error.to_string().into(),
            Failure::Core(refusal) => refusal.to_string().into(),
        }
    }

    /// What it says to administrators of a group.
    pub(super) fn of_group(&self, group: &str) -> Text {
        match self {
            Failure::Group(GroupError::NotFound) => format!("Group {group} not found.").into(),
            Failure::Group(GroupError::OtherKind(kind)) => {
                format!("Group {group} is not a {kind} group.").into()
            }
            Failure::Group(GroupError::InvalidGroup) => "The group id is invalid.".into(),
            Failure::Group(GroupError::NotEmpty) => "The group is not empty.".into(),
            failure => failure.text(),
        }
    }

    /// The same where a group is described: what is no name says nothing.
    pub(super) fn described(&self, group: &str) -> Option<Text> {
        let is_nameless = matches!(self, Failure::Group(GroupError::InvalidGroup));
        (!is_nameless).then(|| self.of_group(group))
    }

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
pub(super) struct One(pub(super) fn(Result<GroupAnswer, Failure>, &Call<'_>) -> Step);

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
    let join = Join {
        require_member_id: call.version() >= MEMBER_ID_REQUIRED
            && request.group_instance_id.is_none(),
        may_skip_assignment: call.version() >= SKIPS_ASSIGNMENT,
        member: request.member_id,
        instance: request.group_instance_id,
        client: call.header.client_id.clone(),
        host: call.peer_host(),
        session_timeout: millis(request.session_timeout_ms),
        rebalance_timeout: millis(rebalance_timeout_ms),
        protocol_type: request.protocol_type,
        protocols: request
            .protocols
            .into_iter()
            .map(|protocol| (protocol.name, protocol.metadata))
            .collect(),
    };
    let member = join.member.clone();
    ask(
        0,
        request.group_id,
        GroupRequest::Join(Box::new(join)),
        call,
    );
    Step::Wait(Box::new(Joining { member }))
}

/// A join, by whom: a refusal says that, too.
struct Joining {
    member: Text,
}

impl Job for Joining {
    fn on_answer(self: Box<Self>, _part: usize, answer: Answer, call: &mut Call<'_>) -> Step {
        call.respond(&joined(answer_of(answer), self.member))
    }
}

fn joined(answer: Result<GroupAnswer, Failure>, by: Text) -> JoinGroupResponse {
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
            response.member_id = match failure {
                Failure::Group(GroupError::MemberIdRequired(member)) => member,
                _ => by,
            };
        }
    }
    response
}

fn joined_member(member: JoinedMember) -> JoinGroupResponseMember {
    JoinGroupResponseMember {
        member_id: member.member,
        group_instance_id: member.instance,
        metadata: member.metadata,
    }
}

pub(crate) fn sync(request: SyncGroupRequest, call: &mut Call<'_>) -> Step {
    let names_protocol = request.protocol_type.is_some() && request.protocol_name.is_some();
    if call.version() >= NAMES_PROTOCOL && !names_protocol {
        return call.respond(&SyncGroupResponse {
            error_code: ErrorCode::INCONSISTENT_GROUP_PROTOCOL,
            ..Default::default()
        });
    }
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
pub(super) struct Many<T> {
    pub(super) groups: Vec<T>,
    pub(super) left: usize,
    pub(super) take: fn(&mut T, Result<GroupAnswer, Failure>, &Call<'_>),
    pub(super) respond: fn(Vec<T>, &Call<'_>) -> Step,
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
pub(super) fn each<T: Send + 'static>(
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
        Err(failure) if failure.code() == ErrorCode::GROUP_ID_NOT_FOUND && call.version() < 6 => {
            group.group_state = "Dead".into()
        }
        Err(failure) => {
            group.error_code = failure.code();
            group.group_state = "Dead".into();
            group.error_message = match &failure {
                Failure::Group(_) => Some(failure.of_group(&group.group_id)),
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

pub(crate) fn delete(mut request: DeleteGroupsRequest, call: &mut Call<'_>) -> Step {
    // Whoever is named twice is named once.
    let mut seen = FxHashSet::default();
    request.groups_names.retain(|it| seen.insert(it.clone()));
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use trivium_core::Token;

    use super::*;
    use crate::{api::ApiKey, script::Script};

    fn asked(script: &mut Script) -> (Token, Text, GroupRequest) {
        script.command(|command| match command {
            Command::Group {
                token,
                group,
                request,
            } => Some((token, group, request)),
            _ => None,
        })
    }

    fn answer(script: &mut Script, answer: GroupReply) {
        let (token, _, _) = asked(script);
        script.done(token, Ok(Reply::Group(answer)));
    }

    fn generation() -> GroupAnswer {
        let member = JoinedMember {
            member: "m".into(),
            instance: None,
            metadata: Bytes::from_static(b"meta"),
        };
        GroupAnswer::Joined {
            generation: 3,
            protocol_type: "consumer".into(),
            protocol: "range".into(),
            leader: "m".into(),
            member: "m".into(),
            members: vec![member],
            skip_assignment: false,
        }
    }

    /// Bytes by the protocol guide: v0, one protocol; the session time-out is that of the rebalance too.
    #[test]
    fn join_version_0_to_the_byte() {
        let mut script = Script::open();
        let mut bytes = b"\0\0\0\0\0\x0b\0\0\0\0\0\x08\0\x03cli\0\x01g\0\0\x27\x10\0\0\0\x08consumer\0\0\0\x01\0\x05range\0\0\0\x01x".to_vec();
        bytes[3] = (bytes.len() - 4) as u8;
        script.bytes(&bytes).unwrap();
        let (token, group, request) = asked(&mut script);
        let GroupRequest::Join(join) = request else {
            panic!("{request:?}")
        };
        assert_eq!(
            (&*group, &*join.client, &*join.host, join.require_member_id),
            ("g", "cli", "/127.0.0.1", false)
        );
        assert_eq!(
            (join.session_timeout, join.rebalance_timeout),
            (Duration::from_secs(10), Duration::from_secs(10))
        );
        assert_eq!(join.protocols, [("range".into(), Bytes::from_static(b"x"))]);
        script.done(token, Ok(Reply::Group(Ok(generation()))));
        let expected = b"\0\0\0\x29\0\0\0\x08\0\0\0\0\0\x03\0\x05range\0\x01m\0\x01m\0\0\0\x01\0\x01m\0\0\0\x04meta";
        let mut expected = expected.to_vec();
        expected[3] = (expected.len() - 4) as u8;
        assert_eq!(script.output()[..], expected);
    }

    /// KIP-394: from version 4 on a new member is sent away with an id, unless it is static.
    #[test]
    fn a_new_member_is_told_its_id() {
        for (version, instance, required) in
            [(3, None, false), (4, None, true), (9, Some("i"), false)]
        {
            let mut script = Script::open();
            let group_instance_id = instance.map(Text::from);
            script.send(
                ApiKey::JoinGroup,
                version,
                &JoinGroupRequest {
                    group_instance_id,
                    ..Default::default()
                },
            );
            let (token, _, request) = asked(&mut script);
            assert!(
                matches!(request, GroupRequest::Join(join) if join.require_member_id == required)
            );
            script.done(
                token,
                Ok(Reply::Group(Err(GroupError::MemberIdRequired(
                    "new-1".into(),
                )))),
            );
            let response: JoinGroupResponse = script.response(ApiKey::JoinGroup, version);
            assert_eq!(
                (response.error_code, &*response.member_id),
                (ErrorCode::MEMBER_ID_REQUIRED, "new-1")
            );
            assert_eq!(response.generation_id, -1);
        }
    }

    #[test]
    fn every_version_joins_and_syncs() {
        for version in 0..=9 {
            let mut script = Script::open();
            script.send(ApiKey::JoinGroup, version, &JoinGroupRequest::default());
            answer(&mut script, Ok(generation()));
            let response: JoinGroupResponse = script.response(ApiKey::JoinGroup, version);
            assert_eq!((response.generation_id, response.members.len()), (3, 1));
            assert_eq!(response.protocol_type.is_some(), version >= 7);
        }
        for version in 0..=5 {
            let mut script = Script::open();
            let member = SyncGroupRequestAssignment {
                member_id: "m".into(),
                assignment: Bytes::from_static(b"all"),
            };
            script.send(
                ApiKey::SyncGroup,
                version,
                &SyncGroupRequest {
                    assignments: vec![member],
                    protocol_type: Some("consumer".into()),
                    protocol_name: Some("range".into()),
                    ..Default::default()
                },
            );
            let assignment = Bytes::from_static(b"all");
            let synced = GroupAnswer::Synced {
                protocol_type: "consumer".into(),
                protocol: "range".into(),
                assignment,
            };
            answer(&mut script, Ok(synced));
            assert_eq!(
                &script
                    .response::<SyncGroupResponse>(ApiKey::SyncGroup, version)
                    .assignment[..],
                b"all"
            );
        }
    }

    #[test]
    fn a_heartbeat_says_what_is_to_be_done() {
        let errors = [
            (GroupError::UnknownMember, 25),
            (GroupError::IllegalGeneration, 22),
            (GroupError::RebalanceInProgress, 27),
            (GroupError::FencedInstance("m".into()), 82),
        ];
        for (error, code) in errors {
            let mut script = Script::open();
            script.send(ApiKey::Heartbeat, 4, &HeartbeatRequest::default());
            answer(&mut script, Err(error));
            assert_eq!(
                script
                    .response::<HeartbeatResponse>(ApiKey::Heartbeat, 4)
                    .error_code,
                ErrorCode(code)
            );
        }
    }

    /// One member up to version 2, its error at the top; several from version 3 (KIP-345).
    #[test]
    fn members_leave() {
        let gone = |error| GroupAnswer::Left {
            members: vec![("m".into(), None, error)],
        };
        let mut script = Script::open();
        script.send(
            ApiKey::LeaveGroup,
            1,
            &LeaveGroupRequest {
                member_id: "m".into(),
                ..Default::default()
            },
        );
        answer(&mut script, Ok(gone(Err(GroupError::UnknownMember))));
        assert_eq!(
            script
                .response::<LeaveGroupResponse>(ApiKey::LeaveGroup, 1)
                .error_code,
            ErrorCode::UNKNOWN_MEMBER_ID
        );

        let members = vec![MemberIdentity {
            member_id: "m".into(),
            ..Default::default()
        }];
        script.send(
            ApiKey::LeaveGroup,
            5,
            &LeaveGroupRequest {
                members,
                ..Default::default()
            },
        );
        answer(&mut script, Ok(gone(Err(GroupError::UnknownMember))));
        let response: LeaveGroupResponse = script.response(ApiKey::LeaveGroup, 5);
        assert_eq!(
            (response.error_code, response.members[0].error_code.0),
            (ErrorCode::NONE, 25)
        );
    }

    /// KIP-1043: a group that is not there is a dead one, and an error from version 6 on.
    #[test]
    fn groups_are_described_and_deleted() {
        for (version, code) in [(5, 0), (6, 69)] {
            let mut script = Script::open();
            let request = DescribeGroupsRequest {
                groups: vec!["g".into()],
                include_authorized_operations: true,
            };
            script.send(ApiKey::DescribeGroups, version, &request);
            answer(&mut script, Err(GroupError::NotFound));
            let response: DescribeGroupsResponse = script.response(ApiKey::DescribeGroups, version);
            assert_eq!(
                (
                    &*response.groups[0].group_state,
                    response.groups[0].error_code.0
                ),
                ("Dead", code)
            );
            assert_eq!(response.groups[0].authorized_operations, 0b1101_0100_1000);
        }
        let mut script = Script::open();
        script.send(
            ApiKey::DeleteGroups,
            2,
            &DeleteGroupsRequest {
                groups_names: vec!["g".into()],
            },
        );
        answer(&mut script, Err(GroupError::NotEmpty));
        let response: DeleteGroupsResponse = script.response(ApiKey::DeleteGroups, 2);
        assert_eq!(response.results[0].error_code, ErrorCode::NON_EMPTY_GROUP);
        script.send(ApiKey::DeleteGroups, 2, &DeleteGroupsRequest::default());
        assert_eq!(
            script
                .response::<DeleteGroupsResponse>(ApiKey::DeleteGroups, 2)
                .results,
            vec![]
        );
    }
}
