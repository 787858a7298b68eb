//! Share groups (KIP-932): members, descriptions, and where groups are.

use rustc_hash::{FxHashMap, FxHashSet};
use trivium_core::{
    Command, Isolation, Offset, OffsetSpec, Reply, Text,
    group::{
        ConsumerHeartbeat, ConsumerMemberDescription, GroupRequest, Heartbeat, ShareAnswer,
        ShareOffset, ShareRequest,
    },
};

use crate::{
    call::{Answer, Call, Job, Step},
    error::ErrorCode,
    messages::{consumer_groups::Assignment, share::*},
    serve::{
        GROUP_OPERATIONS, NOT_ASKED,
        consumer_groups::{Beating, is_blank, named, topic_partitions},
        groups::ask,
        logs,
        share_fetch::share_answer,
    },
    wire::Uuid,
};

/// Where a group stands in a partition that it is yet to begin with.
const NOT_BEGUN: i64 = -1;

/// From this version of DescribeShareGroupOffsets on, lags are told (KIP-1226).
const LAG: i16 = 1;

// ShareGroupHeartbeat

pub(crate) fn heartbeat(request: ShareGroupHeartbeatRequest, call: &mut Call<'_>) -> Step {
    if let Some(fault) = fault(&request) {
        return call.respond(&ShareGroupHeartbeatResponse {
            error_code: ErrorCode::INVALID_REQUEST,
            // Kafka says nothing of a member without an id, or with too long a one.
            error_message: Some(fault.into()).filter(|_| is_member_id(&request.member_id)),
            ..Default::default()
        });
    }
    let heartbeat = ConsumerHeartbeat {
        member: request.member_id,
        epoch: request.member_epoch,
        rack: request.rack_id,
        client: call.header.client_id.clone(),
        host: call.peer_host(),
        names: request.subscribed_topic_names,
        ..Default::default()
    };
    let beating = Beating {
        kind: "share",
        group: request.group_id.clone(),
        member: heartbeat.member.clone(),
        epoch: heartbeat.epoch,
        instance: None,
        assignor: None,
        pattern: None,
    };
    let request_to_group = GroupRequest::Share(ShareRequest::Heartbeat(Box::new(heartbeat)));
    ask(0, request.group_id, request_to_group, call);
    Step::Wait(Box::new(Sharing(beating)))
}

/// A member's id has no more letters than a UUID.
const MEMBER_ID_MAX: usize = 36;

pub(super) fn is_member_id(id: &str) -> bool {
    (1..=MEMBER_ID_MAX).contains(&id.encode_utf16().count())
}

/// What makes no sense in a request, whatever group it is for.
fn fault(request: &ShareGroupHeartbeatRequest) -> Option<&'static str> {
    let names = request.subscribed_topic_names.as_ref();
    if is_blank(&request.group_id) {
        Some("GroupId can't be empty.")
    } else if is_blank(&request.member_id) || !is_member_id(&request.member_id) {
        Some("MemberId can't be empty.")
    } else if request.member_epoch < -1 {
        Some("MemberEpoch is invalid.")
    } else if request.rack_id.as_ref().is_some_and(is_blank) {
        Some("RackId can't be empty.")
    } else if request.member_epoch == 0 && names.is_none_or(|it| it.is_empty()) {
        Some("SubscribedTopicNames must be set in first request.")
    } else {
        None
    }
}

struct Sharing(Beating);

impl Job for Sharing {
    fn on_answer(self: Box<Self>, _part: usize, answer: Answer, call: &mut Call<'_>) -> Step {
        let mut response = ShareGroupHeartbeatResponse::default();
        match share_answer(answer) {
            Ok(ShareAnswer::Heartbeat(heartbeat)) => {
                let Heartbeat {
                    member,
                    epoch,
                    interval,
                    assignment,
                } = heartbeat;
                response.member_id = Some(member);
                response.member_epoch = epoch;
                if epoch >= 0 {
                    response.heartbeat_interval_ms = interval.as_millis() as i32;
                }
                response.assignment = assignment.map(|logs| Assignment {
                    topic_partitions: logs.into_iter().map(topic_partitions).collect(),
                });
            }
            Ok(_) => response.error_code = ErrorCode::UNKNOWN_SERVER_ERROR,
            Err(failure) => {
                response.error_code = failure.code();
                response.error_message = Some(self.0.text(&failure));
            }
        }
        call.respond(&response)
    }
}

// ShareGroupDescribe

struct Describing {
    groups: Vec<DescribedShareGroup>,
    left: usize,
}

pub(crate) fn describe(request: ShareGroupDescribeRequest, call: &mut Call<'_>) -> Step {
    let authorized_operations = if request.include_authorized_operations {
        GROUP_OPERATIONS
    } else {
        NOT_ASKED
    };
    let mut groups = Vec::with_capacity(request.group_ids.len());
    for (part, group_id) in request.group_ids.into_iter().enumerate() {
        ask(
            part,
            group_id.clone(),
            GroupRequest::Share(ShareRequest::Describe),
            call,
        );
        groups.push(DescribedShareGroup {
            group_id,
            authorized_operations,
            ..Default::default()
        });
    }
    let left = groups.len();
    match left {
        0 => call.respond(&ShareGroupDescribeResponse::default()),
        _ => Step::Wait(Box::new(Describing { groups, left })),
    }
}

impl Job for Describing {
    fn on_answer(mut self: Box<Self>, part: usize, answer: Answer, call: &mut Call<'_>) -> Step {
        if let Some(group) = self.groups.get_mut(part) {
            match share_answer(answer) {
                Ok(ShareAnswer::Described(found)) => {
                    group.group_state = Text::from_static(found.state);
                    group.group_epoch = found.epoch;
                    group.assignment_epoch = found.assignment_epoch;
                    group.assignor_name = Text::from_static(found.assignor);
                    group.members = found.members.into_iter().map(member).collect();
                }
                Ok(_) => group.error_code = ErrorCode::UNKNOWN_SERVER_ERROR,
                Err(failure) => {
                    group.error_code = failure.code();
                    group.error_message = failure.described(&group.group_id);
                }
            }
        }
        self.left -= 1;
        match self.left {
            0 => call.respond(&ShareGroupDescribeResponse {
                throttle_time_ms: 0,
                groups: self.groups,
            }),
            _ => Step::Wait(self),
        }
    }
}

fn member(member: ConsumerMemberDescription) -> DescribedShareMember {
    DescribedShareMember {
        member_id: member.member,
        rack_id: member.rack,
        member_epoch: member.epoch,
        client_id: member.client,
        client_host: member.host,
        subscribed_topic_names: member.names,
        assignment: named(member.assigned),
    }
}

// Offsets

/// What is asked about offsets, once the ids of topics are known.
enum Question {
    Describe(Vec<DescribeShareGroupOffsetsRequestGroup>),
    Alter(AlterShareGroupOffsetsRequest),
    Delete(DeleteShareGroupOffsetsRequest),
}

/// Logs by name, with their numbers of partitions, and back.
#[derive(Default)]
struct Names {
    ids: FxHashMap<Text, (Uuid, u32)>,
    names: FxHashMap<Uuid, Text>,
}

struct Naming {
    question: Question,
}

pub(crate) fn describe_offsets(
    request: DescribeShareGroupOffsetsRequest,
    call: &mut Call<'_>,
) -> Step {
    name(Question::Describe(request.groups), call)
}

pub(crate) fn alter_offsets(request: AlterShareGroupOffsetsRequest, call: &mut Call<'_>) -> Step {
    name(Question::Alter(request), call)
}

pub(crate) fn delete_offsets(request: DeleteShareGroupOffsetsRequest, call: &mut Call<'_>) -> Step {
    name(Question::Delete(request), call)
}

fn name(question: Question, call: &mut Call<'_>) -> Step {
    call.describe(0, None);
    Step::Wait(Box::new(Naming { question }))
}

impl Job for Naming {
    fn on_answer(self: Box<Self>, _part: usize, answer: Answer, call: &mut Call<'_>) -> Step {
        let mut names = Names::default();
        for log in logs(answer).into_iter().flatten().flatten() {
            let id = Uuid(log.uuid);
            names
                .ids
                .insert(log.name.clone(), (id, log.spec.partitions));
            names.names.insert(id, log.name);
        }
        match self.question {
            Question::Describe(groups) => describe_each(groups, names, call),
            Question::Alter(request) => alter(request, &names, call),
            Question::Delete(request) => delete(request, &names, call),
        }
    }
}

struct DescribingOffsets {
    groups: Vec<DescribeShareGroupOffsetsRequestGroup>,
    results: Vec<DescribeShareGroupOffsetsResponseGroup>,
    names: Names,
    left: usize,
    /// The partitions whose ends are asked for.
    ends: Vec<End>,
}

/// A partition whose end is asked for: its place in the results, by group, topic and partition.
struct End {
    place: [usize; 3],
    log: Text,
    /// Records of it behind the group's start that are done with.
    done_ahead: u64,
}

fn describe_each(
    groups: Vec<DescribeShareGroupOffsetsRequestGroup>,
    names: Names,
    call: &mut Call<'_>,
) -> Step {
    let mut results = Vec::with_capacity(groups.len());
    for (part, group) in groups.iter().enumerate() {
        let offsets = ShareRequest::Offsets { partitions: None };
        ask(
            part,
            group.group_id.clone(),
            GroupRequest::Share(offsets),
            call,
        );
        results.push(DescribeShareGroupOffsetsResponseGroup {
            group_id: group.group_id.clone(),
            ..Default::default()
        });
    }
    let left = groups.len();
    match left {
        0 => call.respond(&DescribeShareGroupOffsetsResponse::default()),
        _ => Step::Wait(Box::new(DescribingOffsets {
            groups,
            results,
            names,
            left,
            ends: Vec::new(),
        })),
    }
}

impl DescribingOffsets {
    fn topics(
        &self,
        asked: Option<&[DescribeShareGroupOffsetsRequestTopic]>,
        found: &[ShareOffset],
    ) -> Vec<DescribeShareGroupOffsetsResponseTopic> {
        let partition = |offset: &ShareOffset| DescribeShareGroupOffsetsResponsePartition {
            partition_index: offset.partition.1 as i32,
            start_offset: offset.start.map_or(NOT_BEGUN, |it| it.0 as i64),
            ..Default::default()
        };
        let nothing = |index: i32| DescribeShareGroupOffsetsResponsePartition {
            partition_index: index,
            start_offset: NOT_BEGUN,
            ..Default::default()
        };
        let Some(asked) = asked else {
            let topic = |offsets: &[ShareOffset]| {
                let id = Uuid(offsets[0].partition.0);
                Some(DescribeShareGroupOffsetsResponseTopic {
                    topic_name: self.names.names.get(&id)?.clone(),
                    topic_id: id,
                    partitions: offsets.iter().map(partition).collect(),
                })
            };
            let topics = found.chunk_by(|a, b| a.partition.0 == b.partition.0);
            return topics.filter_map(topic).collect();
        };
        let topic = |topic: &DescribeShareGroupOffsetsRequestTopic| {
            let id = self.names.ids.get(&topic.topic_name).map(|(id, _)| *id);
            let offset = |index: &i32| {
                let own = found.iter().find(|offset| {
                    Some(Uuid(offset.partition.0)) == id && offset.partition.1 as i32 == *index
                });
                own.map_or_else(|| nothing(*index), partition)
            };
            DescribeShareGroupOffsetsResponseTopic {
                topic_name: topic.topic_name.clone(),
                topic_id: id.unwrap_or_default(),
                partitions: topic.partitions.iter().map(offset).collect(),
            }
        };
        asked.iter().map(topic).collect()
    }
}

impl DescribingOffsets {
    fn take(&mut self, at: usize, answer: Answer) {
        let result = &mut self.results[at];
        match share_answer(answer) {
            Ok(ShareAnswer::Offsets(offsets)) => {
                let topics = self.topics(self.groups[at].topics.as_deref(), &offsets);
                for (topic_at, topic) in topics.iter().enumerate() {
                    for (partition_at, partition) in topic.partitions.iter().enumerate() {
                        let key = (topic.topic_id.0, partition.partition_index as u32);
                        let is_it = |it: &&ShareOffset| it.partition == key && it.start.is_some();
                        let found = offsets.iter().find(is_it);
                        self.ends.extend(found.map(|offset| End {
                            place: [at, topic_at, partition_at],
                            log: topic.topic_name.clone(),
                            done_ahead: offset.done_ahead,
                        }));
                    }
                }
                self.results[at].topics = topics;
            }
            Ok(_) => result.error_code = ErrorCode::UNKNOWN_SERVER_ERROR,
            Err(failure) => {
                result.error_code = failure.code();
                result.error_message = Some(failure.of_group(&result.group_id));
            }
        }
    }

    /// The records from a partition's start to its end that are not done with.
    fn take_end(&mut self, at: usize, answer: Answer) {
        let found = answer.reply(|reply| match reply {
            Reply::Offset { found, .. } => found,
            _ => None,
        });
        let End {
            place: [group, topic, partition],
            done_ahead,
            ..
        } = self.ends[at];
        let partition = &mut self.results[group].topics[topic].partitions[partition];
        if let Ok((end, _)) = found {
            let lag = end.0 as i64 - partition.start_offset - done_ahead as i64;
            partition.lag = lag.max(0);
        }
    }

    /// Asks for the ends of all partitions.
    fn ask_ends(&mut self, call: &mut Call<'_>) {
        self.left = self.ends.len();
        let groups = self.groups.len();
        for (at, end) in self.ends.iter().enumerate() {
            let [group, topic, partition] = end.place;
            let partition = &self.results[group].topics[topic].partitions[partition];
            let (log, number) = (end.log.clone(), partition.partition_index as u32);
            call.submit(groups + at, |token| Command::FindOffset {
                token,
                log,
                partition: number,
                at: OffsetSpec::Latest,
                isolation: Isolation::Uncommitted,
            });
        }
    }
}

impl Job for DescribingOffsets {
    fn on_answer(mut self: Box<Self>, part: usize, answer: Answer, call: &mut Call<'_>) -> Step {
        let is_first = part < self.groups.len();
        match part.checked_sub(self.groups.len()) {
            None => self.take(part, answer),
            Some(at) if at < self.ends.len() => self.take_end(at, answer),
            Some(_) => {}
        }
        self.left -= 1;
        if self.left == 0 && is_first && call.version() >= LAG {
            self.ask_ends(call);
        }
        match self.left {
            0 => call.respond(&DescribeShareGroupOffsetsResponse {
                throttle_time_ms: 0,
                groups: self.results,
            }),
            _ => Step::Wait(self),
        }
    }
}

/// Kafka's text of `UNKNOWN_TOPIC_OR_PARTITION`.
const NOT_HERE: &str = "This server does not host this topic-partition.";
const NO_OFFSET: &str = "StartOffset is invalid.";

/// Where a group is to begin, by an offset of the wire; `None` where it is none.
fn starting_at(offset: i64) -> Option<Option<Offset>> {
    match offset {
        NOT_BEGUN => Some(None),
        _ => u64::try_from(offset).ok().map(|it| Some(Offset(it))),
    }
}

struct Altering {
    response: AlterShareGroupOffsetsResponse,
    group: Text,
}

fn alter(request: AlterShareGroupOffsetsRequest, names: &Names, call: &mut Call<'_>) -> Step {
    let mut offsets = Vec::new();
    let mut response = AlterShareGroupOffsetsResponse::default();
    for topic in request.topics {
        let known = names.ids.get(&topic.topic_name).copied();
        let mut result = AlterShareGroupOffsetsResponseTopic {
            topic_id: known.map(|(id, _)| id).unwrap_or_default(),
            topic_name: topic.topic_name,
            partitions: Vec::new(),
        };
        for asked in topic.partitions {
            let number = u32::try_from(asked.partition_index).ok();
            let there = known
                .zip(number)
                .filter(|((_, count), number)| number < count);
            let (error_code, error_message) = match (there, starting_at(asked.start_offset)) {
                (Some(((id, _), number)), Some(start)) => {
                    offsets.push(((id.0, number), start));
                    (ErrorCode::NONE, None)
                }
                (None, _) => (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, Some(NOT_HERE.into())),
                (_, None) => (ErrorCode::INVALID_REQUEST, Some(NO_OFFSET.into())),
            };
            result
                .partitions
                .push(AlterShareGroupOffsetsResponsePartition {
                    partition_index: asked.partition_index,
                    error_code,
                    error_message,
                });
        }
        response.responses.push(result);
    }
    let alter = GroupRequest::Share(ShareRequest::Alter { offsets });
    let group = request.group_id.clone();
    ask(0, request.group_id, alter, call);
    Step::Wait(Box::new(Altering { response, group }))
}

impl Job for Altering {
    fn on_answer(mut self: Box<Self>, _part: usize, answer: Answer, call: &mut Call<'_>) -> Step {
        if let Err(failure) = share_answer(answer) {
            self.response.error_code = failure.code();
            self.response.error_message = Some(failure.of_group(&self.group));
            self.response.responses.clear();
        }
        call.respond(&self.response)
    }
}

struct Deleting {
    response: DeleteShareGroupOffsetsResponse,
    group: Text,
}

fn delete(request: DeleteShareGroupOffsetsRequest, names: &Names, call: &mut Call<'_>) -> Step {
    let mut logs = Vec::new();
    let mut response = DeleteShareGroupOffsetsResponse::default();
    // A topic that is named twice is named once.
    let mut seen = FxHashSet::default();
    for topic in request.topics {
        if !seen.insert(topic.topic_name.clone()) {
            continue;
        }
        let known = names.ids.get(&topic.topic_name).map(|(id, _)| *id);
        logs.extend(known.map(|id| id.0));
        let mut result = DeleteShareGroupOffsetsResponseTopic {
            topic_name: topic.topic_name,
            topic_id: known.unwrap_or_default(),
            ..Default::default()
        };
        if known.is_none() {
            result.error_code = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
            result.error_message = Some(NOT_HERE.into());
        }
        response.responses.push(result);
    }
    let delete = GroupRequest::Share(ShareRequest::Delete { logs });
    let group = request.group_id.clone();
    ask(0, request.group_id, delete, call);
    Step::Wait(Box::new(Deleting { response, group }))
}

impl Deleting {
    /// Of topics that are there, only these could be forgotten.
    fn keep_forgotten(&mut self, logs: &[[u8; 16]]) {
        for topic in &mut self.response.responses {
            if topic.error_code == ErrorCode::NONE && !logs.contains(&topic.topic_id.0) {
                topic.topic_id = Uuid::default();
                topic.error_code = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
                topic.error_message = Some("There is no offset information to delete.".into());
            }
        }
    }
}

impl Job for Deleting {
    fn on_answer(mut self: Box<Self>, _part: usize, answer: Answer, call: &mut Call<'_>) -> Step {
        match share_answer(answer) {
            Ok(ShareAnswer::Forgotten(logs)) => self.keep_forgotten(&logs),
            Ok(_) => self.response.error_code = ErrorCode::UNKNOWN_SERVER_ERROR,
            Err(failure) => {
                self.response.error_code = failure.code();
                self.response.error_message = Some(failure.of_group(&self.group));
                self.response.responses.clear();
            }
        }
        call.respond(&self.response)
    }
}
