//! The consumer protocol (KIP-848): the coordinator in the core assigns, members follow.

use std::time::Duration;

use trivium_core::{
    Text,
    group::{
        AssignedLog, ConsumerDescription, ConsumerHeartbeat, ConsumerMemberDescription,
        GroupAnswer, GroupError, GroupRequest, Heartbeat,
    },
};

use crate::{
    call::{Call, Step},
    error::ErrorCode,
    messages::consumer_groups::*,
    serve::{
        GROUP_OPERATIONS, NOT_ASKED,
        groups::{Failure, Many, One, ask, each},
    },
    wire::Uuid,
};

/// From this version on, members make their own ids (KIP-1082).
const OWN_ID: i16 = 1;
/// Of a member that speaks the consumer protocol, or the classic one.
const CONSUMER: i8 = 1;
const CLASSIC: i8 = 0;

pub(crate) fn heartbeat(request: ConsumerGroupHeartbeatRequest, call: &mut Call<'_>) -> Step {
    if let Some(fault) = fault(&request, call.version()) {
        return call.respond(&ConsumerGroupHeartbeatResponse {
            error_code: ErrorCode::INVALID_REQUEST,
            error_message: Some(fault.into()),
            ..Default::default()
        });
    }
    let heartbeat = ConsumerHeartbeat {
        member: request.member_id,
        epoch: request.member_epoch,
        instance: request.instance_id,
        rack: request.rack_id,
        client: call.header.client_id.clone(),
        host: call.peer_host(),
        rebalance_timeout: timeout(request.rebalance_timeout_ms),
        names: request.subscribed_topic_names,
        pattern: request.subscribed_topic_regex,
        assignor: request.server_assignor,
        owned: request
            .topic_partitions
            .map(|topics| topics.iter().flat_map(partitions).collect()),
    };
    let request_to_group = GroupRequest::ConsumerHeartbeat(Box::new(heartbeat));
    ask(0, request.group_id, request_to_group, call);
    Step::Wait(Box::new(One(answered)))
}

/// What makes no sense in a request, whatever group it is for.
fn fault(request: &ConsumerGroupHeartbeatRequest, version: i16) -> Option<&'static str> {
    let empty = |text: &Option<Text>| text.as_ref().is_some_and(|text| text.is_empty());
    if request.group_id.is_empty() {
        Some("GroupId can't be empty.")
    } else if request.member_id.is_empty() && (version >= OWN_ID || request.member_epoch != 0) {
        Some("MemberId can't be empty.")
    } else if empty(&request.instance_id) {
        Some("InstanceId can't be empty.")
    } else if request.member_epoch == -2 && request.instance_id.is_none() {
        Some("InstanceId can't be null.")
    } else if request.member_epoch < -2 {
        Some("MemberEpoch is invalid.")
    } else {
        None
    }
}

pub(super) fn timeout(millis: i32) -> Option<Duration> {
    u64::try_from(millis).ok().map(Duration::from_millis)
}

fn partitions(topic: &TopicPartitions) -> impl Iterator<Item = ([u8; 16], u32)> {
    let numbers = topic.partitions.iter();
    let numbers = numbers.filter_map(|number| u32::try_from(*number).ok());
    numbers.map(|number| (topic.topic_id.0, number))
}

fn answered(answer: Result<GroupAnswer, Failure>, call: &Call<'_>) -> Step {
    let mut response = ConsumerGroupHeartbeatResponse::default();
    match answer {
        Ok(GroupAnswer::Heartbeat(heartbeat)) => {
            let Heartbeat {
                member,
                epoch,
                interval,
                assignment,
            } = heartbeat;
            response.member_id = Some(member);
            response.member_epoch = epoch;
            response.heartbeat_interval_ms = interval.as_millis() as i32;
            response.assignment = assignment.map(|logs| Assignment {
                topic_partitions: logs.into_iter().map(topic_partitions).collect(),
            });
        }
        Ok(_) => response.error_code = ErrorCode::UNKNOWN_SERVER_ERROR,
        Err(failure) => {
            response.error_code = failure.code();
            response.error_message = Some(failure.text());
        }
    }
    call.respond(&response)
}

pub(super) fn topic_partitions(log: AssignedLog) -> TopicPartitions {
    TopicPartitions {
        topic_id: Uuid(log.uuid),
        partitions: numbers(&log),
    }
}

fn numbers(log: &AssignedLog) -> Vec<i32> {
    log.partitions.iter().map(|number| *number as i32).collect()
}

// ConsumerGroupDescribe

pub(crate) fn describe(request: ConsumerGroupDescribeRequest, call: &mut Call<'_>) -> Step {
    let authorized_operations = if request.include_authorized_operations {
        GROUP_OPERATIONS
    } else {
        NOT_ASKED
    };
    let group = |group_id: &Text| DescribedConsumerGroup {
        group_id: group_id.clone(),
        authorized_operations,
        ..Default::default()
    };
    let many = Many {
        groups: request.group_ids.iter().map(group).collect(),
        left: request.group_ids.len(),
        take: described,
        respond: |groups, call| {
            call.respond(&ConsumerGroupDescribeResponse {
                throttle_time_ms: 0,
                groups,
            })
        },
    };
    each(
        request.group_ids,
        &GroupRequest::DescribeConsumer,
        many,
        call,
    )
}

fn described(
    group: &mut DescribedConsumerGroup,
    answer: Result<GroupAnswer, Failure>,
    _call: &Call<'_>,
) {
    match answer {
        Ok(GroupAnswer::DescribedConsumer(ConsumerDescription {
            state,
            epoch,
            assignment_epoch,
            assignor,
            members,
        })) => {
            group.group_state = Text::from_static(state);
            (group.group_epoch, group.assignment_epoch) = (epoch, assignment_epoch);
            group.assignor_name = Text::from_static(assignor);
            group.members = members.into_iter().map(member).collect();
        }
        Ok(_) => group.error_code = ErrorCode::UNKNOWN_SERVER_ERROR,
        Err(failure) => {
            group.error_code = failure.code();
            group.error_message = Some(match &failure {
                Failure::Group(GroupError::NotFound) => {
                    format!("Group {} not found.", group.group_id).into()
                }
                failure => failure.text(),
            });
        }
    }
}

fn member(member: ConsumerMemberDescription) -> DescribedConsumer {
    DescribedConsumer {
        member_id: member.member,
        instance_id: member.instance,
        rack_id: member.rack,
        member_epoch: member.epoch,
        client_id: member.client,
        client_host: member.host,
        subscribed_topic_names: member.names,
        subscribed_topic_regex: member.pattern,
        assignment: named(member.assigned),
        target_assignment: named(member.target),
        member_type: if member.is_classic { CLASSIC } else { CONSUMER },
    }
}

pub(super) fn named(logs: Vec<AssignedLog>) -> NamedAssignment {
    let topic = |log: AssignedLog| NamedTopicPartitions {
        topic_id: Uuid(log.uuid),
        partitions: numbers(&log),
        topic_name: log.name,
    };
    NamedAssignment {
        topic_partitions: logs.into_iter().map(topic).collect(),
    }
}
