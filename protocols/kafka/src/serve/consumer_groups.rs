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
    call::{Answer, Call, Job, Step},
    error::ErrorCode,
    messages::consumer_groups::*,
    serve::{
        GROUP_OPERATIONS, NOT_ASKED,
        groups::{Failure, Many, answer_of, ask, each},
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
    let beating = Beating {
        kind: "consumer",
        group: request.group_id.clone(),
        member: heartbeat.member.clone(),
        instance: heartbeat.instance.clone(),
        epoch: heartbeat.epoch,
        assignor: heartbeat.assignor.clone(),
        pattern: heartbeat.pattern.clone(),
    };
    let request_to_group = GroupRequest::ConsumerHeartbeat(Box::new(heartbeat));
    ask(0, request.group_id, request_to_group, call);
    Step::Wait(Box::new(beating))
}

impl Job for Beating {
    fn on_answer(self: Box<Self>, _part: usize, answer: Answer, call: &mut Call<'_>) -> Step {
        call.respond(&self.answered(answer_of(answer)))
    }
}

/// What makes no sense in a request, whatever group it is for.
fn fault(request: &ConsumerGroupHeartbeatRequest, version: i16) -> Option<&'static str> {
    let joins = request.member_epoch == 0;
    let owns = request.topic_partitions.as_ref();
    if is_blank(&request.group_id) {
        Some("GroupId can't be empty.")
    } else if request.instance_id.as_ref().is_some_and(is_blank) {
        Some("InstanceId can't be empty.")
    } else if request.rack_id.as_ref().is_some_and(is_blank) {
        Some("RackId can't be empty.")
    } else if is_blank(&request.member_id) && (version >= OWN_ID || !joins) {
        Some("MemberId can't be empty.")
    } else if request.member_epoch == -2 && request.instance_id.is_none() {
        Some("InstanceId can't be null.")
    } else if request.member_epoch < -2 {
        Some("MemberEpoch is invalid.")
    } else if joins && request.rebalance_timeout_ms == -1 {
        Some("RebalanceTimeoutMs must be provided in first request.")
    } else if joins && owns.is_none_or(|owned| !owned.is_empty()) {
        Some("TopicPartitions must be empty when (re-)joining.")
    } else if joins
        && request.subscribed_topic_names.is_none()
        && request.subscribed_topic_regex.is_none()
    {
        Some(
            "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.",
        )
    } else {
        None
    }
}

pub(super) fn is_blank(text: &Text) -> bool {
    text.trim().is_empty()
}

/// What is not said is -1.
fn timeout(millis: i32) -> Option<Duration> {
    (millis != -1).then(|| Duration::from_millis(u64::try_from(millis).unwrap_or_default()))
}

fn partitions(topic: &TopicPartitions) -> impl Iterator<Item = ([u8; 16], u32)> {
    let numbers = topic.partitions.iter();
    let numbers = numbers.filter_map(|number| u32::try_from(*number).ok());
    numbers.map(|number| (topic.topic_id.0, number))
}

/// A heartbeat of a member of the consumer or the share protocol, and what a refusal says of it again.
pub(super) struct Beating {
    /// Of the group.
    pub(super) kind: &'static str,
    pub(super) group: Text,
    pub(super) member: Text,
    pub(super) instance: Option<Text>,
    pub(super) epoch: i32,
    pub(super) assignor: Option<Text>,
    pub(super) pattern: Option<Text>,
}

impl Beating {
    /// What Kafka says in the same place.
    pub(super) fn text(&self, failure: &Failure) -> Text {
        let Failure::Group(error) = failure else {
            return failure.text();
        };
        let (kind, group, member, epoch) = (self.kind, &self.group, &self.member, self.epoch);
        let instance = self.instance.as_deref().unwrap_or_default();
        let said = |text: &Option<Text>| text.clone().unwrap_or_default();
        let text = match error {
            GroupError::UnknownMember if self.instance.is_some() => {
                format!("Instance id {instance} is unknown.")
            }
            GroupError::UnknownMember => {
                format!("Member {member} is not a member of group {group}.")
            }
            GroupError::FencedInstance(holder) => format!(
                "Static member {member} with instance id {instance} was fenced by member {holder}."
            ),
            GroupError::UnreleasedInstance(holder) => format!(
                "Static member {member} with instance id {instance} cannot join the group because the instance id is owned by {holder} member."
            ),
            GroupError::FencedMemberEpoch { known, previous } => {
                let than = if epoch < *known { "smaller" } else { "greater" };
                let before = match previous {
                    Some(previous) if epoch < *known => {
                        format!(", and it does not match the previous member epoch ({previous})")
                    }
                    _ => String::new(),
                };
                format!(
                    "The {kind} group member has a {than} member epoch ({epoch}) than the one known by the group coordinator ({known}){before}. The member must abandon all its partitions and rejoin."
                )
            }
            GroupError::UnsupportedAssignor => format!(
                "ServerAssignor {} is not supported. Supported assignors: uniform, range.",
                said(&self.assignor)
            ),
            GroupError::InvalidPattern => format!(
                "SubscribedTopicRegex `{}` is not a valid regular expression.",
                said(&self.pattern)
            ),
            _ => return failure.of_group(group),
        };
        text.into()
    }

    fn answered(&self, answer: Result<GroupAnswer, Failure>) -> ConsumerGroupHeartbeatResponse {
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
                response.error_message = Some(self.text(&failure));
            }
        }
        response
    }
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
            group.error_message = failure.described(&group.group_id);
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
        subscribed_topic_regex: Some(member.pattern.unwrap_or_default()),
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
