//! OffsetCommit and OffsetFetch: where groups are.

use rustc_hash::FxHashMap;
use trivium_core::{
    LogInfo, Offset, Refusal, Text,
    group::{CommittedOffset, GroupAnswer, GroupError, GroupRequest},
};

use crate::{
    call::{Answer, Call, Job, Step},
    error::ErrorCode,
    messages::group_offsets::*,
    serve::{
        groups::{Failure, answer_of, ask},
        logs,
    },
    wire::Uuid,
};

/// From this version on, of both, topics have ids instead of names.
const BY_ID: i16 = 10;
/// From this version of OffsetCommit on, members of the consumer protocol have a word for their epoch.
const WITH_MEMBER_EPOCHS: i16 = 9;
/// Bytes of a member's note at most (`offset.metadata.max.bytes` of a Kafka broker).
const METADATA_MAX: usize = 4096;

/// A commit: first the logs are looked up, then the offsets of those that are there are stored.
struct Committing {
    request: OffsetCommitRequest,
    /// The name of each topic of the request.
    names: Vec<Result<Text, ErrorCode>>,
}

/// A commit that the coordinator has. What is not refused yet is as it answers.
struct Committed {
    response: OffsetCommitResponse,
}

pub(crate) fn commit(request: OffsetCommitRequest, call: &mut Call<'_>) -> Step {
    let by_id = call.version() >= BY_ID;
    let name = |topic: &OffsetCommitRequestTopic| {
        call.session
            .topics
            .resolve(by_id, &topic.name, topic.topic_id)
    };
    let names: Vec<_> = request.topics.iter().map(name).collect();
    call.describe(0, Some(names.iter().flatten().cloned().collect()));
    Step::Wait(Box::new(Committing { request, names }))
}

impl Job for Committing {
    fn on_answer(self: Box<Self>, _part: usize, answer: Answer, call: &mut Call<'_>) -> Step {
        let Committing { request, names } = *self;
        let found = logs(answer);
        let refusal = found.as_ref().err().map(ErrorCode::from);
        let mut found = found.into_iter().flatten();
        let mut offsets = Vec::new();
        let mut response = OffsetCommitResponse::default();
        for (topic, name) in request.topics.into_iter().zip(names) {
            let log = match (refusal, name) {
                (Some(code), _) | (None, Err(code)) => Err(code),
                (None, Ok(_)) => partitions(found.next(), call),
            };
            let mut result = OffsetCommitResponseTopic {
                name: topic.name,
                topic_id: topic.topic_id,
                partitions: Vec::new(),
            };
            for asked in topic.partitions {
                let partition_index = asked.partition_index;
                let committed = log.clone().and_then(|log| committed(log, asked));
                let error_code = committed
                    .as_ref()
                    .map_or_else(|code| *code, |_| ErrorCode::NONE);
                offsets.extend(committed);
                result.partitions.push(OffsetCommitResponsePartition {
                    partition_index,
                    error_code,
                });
            }
            if !result.partitions.is_empty() {
                response.topics.push(result);
            }
        }
        let generation = request.generation_id_or_member_epoch;
        let commit = GroupRequest::Commit {
            generation,
            member: request.member_id,
            instance: request.group_instance_id,
            knows_member_epochs: call.version() >= WITH_MEMBER_EPOCHS,
            offsets,
        };
        // Even without an offset: the coordinator says whether the member may commit.
        ask(0, request.group_id, commit, call);
        Step::Wait(Box::new(Committed { response }))
    }
}

/// The name of a log and how many partitions it has.
pub(super) fn partitions(
    log: Option<Result<LogInfo, Refusal>>,
    call: &Call<'_>,
) -> Result<(Text, u32), ErrorCode> {
    match log {
        Some(Ok(log)) => Ok((log.name, log.spec.partitions)),
        Some(Err(Refusal::NotFound { .. })) if call.version() >= BY_ID => {
            Err(ErrorCode::UNKNOWN_TOPIC_ID)
        }
        Some(Err(refusal)) => Err(ErrorCode::from(&refusal)),
        None => Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
    }
}

pub(super) fn committed(
    (log, partitions): (Text, u32),
    asked: OffsetCommitRequestPartition,
) -> Result<CommittedOffset, ErrorCode> {
    let partition = u32::try_from(asked.partition_index)
        .ok()
        .filter(|partition| *partition < partitions);
    let metadata = asked.committed_metadata.unwrap_or_default();
    if metadata.len() > METADATA_MAX {
        return Err(ErrorCode::OFFSET_METADATA_TOO_LARGE);
    }
    Ok(CommittedOffset {
        log,
        partition: partition.ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?,
        // Kafka keeps what it is given: kafkajs commits the specials -1 and -2, and looks them up when it reads them.
        offset: Offset(asked.committed_offset.cast_unsigned()),
        leader_epoch: asked.committed_leader_epoch,
        metadata,
    })
}

impl Job for Committed {
    fn on_answer(mut self: Box<Self>, _part: usize, answer: Answer, call: &mut Call<'_>) -> Step {
        if let Err(failure) = answer_of(answer) {
            let partitions = self
                .response
                .topics
                .iter_mut()
                .flat_map(|topic| &mut topic.partitions);
            let others = partitions.filter(|partition| !partition.error_code.is_err());
            others.for_each(|partition| partition.error_code = failure.code());
        }
        call.respond(&self.response)
    }
}

/// Offsets being read, one answer for each group.
struct Fetching {
    groups: Vec<Asked>,
    left: usize,
}

/// What is asked of one group, and what came.
struct Asked {
    group_id: Text,
    /// A member of the consumer protocol, and its epoch.
    member: Option<(Text, i32)>,
    /// `None` is all that there is.
    topics: Option<Vec<AskedTopic>>,
    found: Result<Vec<CommittedOffset>, ErrorCode>,
    /// Partitions whose offsets a transaction is about to replace.
    unstable: Vec<(Text, u32)>,
}

/// A topic by name or id, its name as far as there is one, and the partitions asked for.
struct AskedTopic {
    topic_id: Uuid,
    name: Result<Text, ErrorCode>,
    partitions: Vec<i32>,
}

pub(crate) fn fetch(request: OffsetFetchRequest, call: &mut Call<'_>) -> Step {
    let require_stable = request.require_stable;
    let groups: Vec<_> = match call.version() {
        ..8 => vec![one_group(request)],
        _ => request
            .groups
            .into_iter()
            .map(|group| asked(group, call))
            .collect(),
    };
    for (part, group) in groups.iter().enumerate() {
        ask(
            part,
            group.group_id.clone(),
            GroupRequest::Offsets {
                partitions: group.partitions(),
                require_stable,
                member: group.member.clone(),
            },
            call,
        );
    }
    let job = Fetching {
        left: groups.len(),
        groups,
    };
    match job.left {
        0 => call.respond(&OffsetFetchResponse::default()),
        _ => Step::Wait(Box::new(job)),
    }
}

fn one_group(request: OffsetFetchRequest) -> Asked {
    let topic = |topic: OffsetFetchRequestTopic| AskedTopic {
        topic_id: Uuid::default(),
        name: Ok(topic.name),
        partitions: topic.partition_indexes,
    };
    let topics = request
        .topics
        .map(|topics| topics.into_iter().map(topic).collect());
    Asked {
        group_id: request.group_id,
        member: None,
        topics,
        found: Ok(Vec::new()),
        unstable: Vec::new(),
    }
}

fn asked(group: OffsetFetchRequestGroup, call: &Call<'_>) -> Asked {
    let topic = |topic: OffsetFetchRequestTopics| AskedTopic {
        topic_id: topic.topic_id,
        name: call
            .session
            .topics
            .resolve(call.version() >= BY_ID, &topic.name, topic.topic_id),
        partitions: topic.partition_indexes,
    };
    let topics = group
        .topics
        .map(|topics| topics.into_iter().map(topic).collect());
    Asked {
        group_id: group.group_id,
        member: (group.member_id.is_some() || group.member_epoch >= 0)
            .then(|| (group.member_id.unwrap_or_default(), group.member_epoch)),
        topics,
        found: Ok(Vec::new()),
        unstable: Vec::new(),
    }
}

impl Asked {
    /// What the coordinator is asked for.
    fn partitions(&self) -> Option<Vec<(Text, u32)>> {
        let known = |topic: &AskedTopic| {
            let name = topic.name.clone().ok()?;
            Some(
                topic
                    .partitions
                    .iter()
                    .filter_map(|index| u32::try_from(*index).ok())
                    .map(move |index| (name.clone(), index))
                    .collect::<Vec<_>>(),
            )
        };
        self.topics
            .as_ref()
            .map(|topics| topics.iter().filter_map(known).flatten().collect())
    }

    /// Per topic, what was committed for what was asked, or for all there is.
    fn topics(&self, call: &Call<'_>) -> Vec<OffsetFetchResponseTopics> {
        let found = self.found.as_deref().unwrap_or_default();
        let Some(asked) = &self.topics else {
            let mut topics = all_topics(found, call);
            self.mark_unstable(&mut topics);
            return topics;
        };
        let found = found
            .iter()
            .map(|offset| ((&*offset.log, offset.partition as i32), offset))
            .collect();
        let topic = |topic: &AskedTopic| OffsetFetchResponseTopics {
            name: topic.name.clone().unwrap_or_default(),
            topic_id: topic.topic_id,
            partitions: topic
                .partitions
                .iter()
                .map(|index| topic.partition(*index, &found))
                .collect(),
        };
        let mut topics: Vec<_> = asked.iter().map(topic).collect();
        self.mark_unstable(&mut topics);
        topics
    }

    /// KIP-447: an offset that a transaction is about to replace is asked for again.
    fn mark_unstable(&self, topics: &mut [OffsetFetchResponseTopics]) {
        for (log, partition) in &self.unstable {
            let named = topics.iter_mut().filter(|topic| topic.name == *log);
            for found in named
                .flat_map(|topic| &mut topic.partitions)
                .filter(|found| found.partition_index == *partition as i32)
            {
                *found = OffsetFetchResponsePartitions {
                    error_code: ErrorCode::UNSTABLE_OFFSET_COMMIT,
                    ..nothing(found.partition_index)
                };
            }
        }
    }

    fn error_code(&self) -> ErrorCode {
        self.found
            .as_ref()
            .map_or_else(|code| *code, |_| ErrorCode::NONE)
    }
}

/// Offsets by log and partition.
type Found<'a> = FxHashMap<(&'a str, i32), &'a CommittedOffset>;

impl AskedTopic {
    fn partition(&self, index: i32, found: &Found<'_>) -> OffsetFetchResponsePartitions {
        match &self.name {
            Err(code) => OffsetFetchResponsePartitions {
                error_code: *code,
                ..nothing(index)
            },
            Ok(name) => found
                .get(&(&**name, index))
                .map_or_else(|| nothing(index), |offset| response_partition(offset)),
        }
    }
}

/// No offset, which is no error.
fn nothing(partition_index: i32) -> OffsetFetchResponsePartitions {
    let metadata = Some(Text::new());
    OffsetFetchResponsePartitions {
        partition_index,
        committed_offset: -1,
        metadata,
        ..Default::default()
    }
}

fn response_partition(offset: &CommittedOffset) -> OffsetFetchResponsePartitions {
    OffsetFetchResponsePartitions {
        partition_index: offset.partition as i32,
        committed_offset: offset.offset.0.cast_signed(),
        committed_leader_epoch: offset.leader_epoch,
        metadata: Some(offset.metadata.clone()),
        error_code: ErrorCode::NONE,
    }
}

fn all_topics(found: &[CommittedOffset], call: &Call<'_>) -> Vec<OffsetFetchResponseTopics> {
    let mut offsets: Vec<_> = found.iter().collect();
    offsets.sort_by(|a, b| (&*a.log, a.partition).cmp(&(&*b.log, b.partition)));
    let topic = |offsets: &[&CommittedOffset]| OffsetFetchResponseTopics {
        name: offsets[0].log.clone(),
        topic_id: call.session.topics.id(&offsets[0].log),
        partitions: offsets
            .iter()
            .map(|offset| response_partition(offset))
            .collect(),
    };
    let topics = offsets.chunk_by(|a, b| a.log == b.log).map(topic);
    // A log that was deleted has no id to be named by.
    topics
        .filter(|topic| call.version() < BY_ID || !topic.topic_id.is_zero())
        .collect()
}

impl Job for Fetching {
    fn on_answer(mut self: Box<Self>, part: usize, answer: Answer, call: &mut Call<'_>) -> Step {
        if let Some(group) = self.groups.get_mut(part) {
            group.found = match answer_of(answer) {
                Ok(GroupAnswer::Offsets { offsets, unstable }) => {
                    group.unstable = unstable;
                    Ok(offsets)
                }
                Ok(_) => Err(ErrorCode::UNKNOWN_SERVER_ERROR),
                // A group that has never committed is one without offsets.
                Err(Failure::Group(GroupError::NotFound)) => Ok(Vec::new()),
                Err(failure) => Err(failure.code()),
            };
        }
        self.left -= 1;
        if self.left > 0 {
            return Step::Wait(self);
        }
        // Ids of what was not asked for by id are learned now.
        if call.version() >= BY_ID && self.groups.iter().any(|group| group.topics.is_none()) {
            call.describe(0, None);
            return Step::Wait(Box::new(Naming {
                groups: self.groups,
            }));
        }
        respond(&self.groups, call)
    }
}

/// Offsets that are there, but for the ids of their topics.
struct Naming {
    groups: Vec<Asked>,
}

impl Job for Naming {
    fn on_answer(self: Box<Self>, _part: usize, answer: Answer, call: &mut Call<'_>) -> Step {
        for log in logs(answer).into_iter().flatten().flatten() {
            call.session.topics.learn(&log);
        }
        respond(&self.groups, call)
    }
}

fn respond(groups: &[Asked], call: &Call<'_>) -> Step {
    let mut response = OffsetFetchResponse::default();
    if call.version() >= 8 {
        response.groups = groups
            .iter()
            .map(|group| response_group(group, call))
            .collect();
    } else if let Some(group) = groups.first() {
        response.error_code = group.error_code();
        response.topics = group
            .topics(call)
            .into_iter()
            .map(|topic| earlier(topic, group.error_code()))
            .collect();
    }
    call.respond(&response)
}

fn response_group(group: &Asked, call: &Call<'_>) -> OffsetFetchResponseGroup {
    let error_code = group.error_code();
    // KIP-709: a group that failed has no topics.
    let topics = if error_code.is_err() {
        Vec::new()
    } else {
        group.topics(call)
    };
    OffsetFetchResponseGroup {
        group_id: group.group_id.clone(),
        topics,
        error_code,
    }
}

/// A topic as versions before 8 have it; version 1 has no other place for the error of the group.
fn earlier(topic: OffsetFetchResponseTopics, error: ErrorCode) -> OffsetFetchResponseTopic {
    let partition = |partition: OffsetFetchResponsePartitions| OffsetFetchResponsePartition {
        partition_index: partition.partition_index,
        committed_offset: partition.committed_offset,
        committed_leader_epoch: partition.committed_leader_epoch,
        metadata: partition.metadata,
        error_code: if error.is_err() {
            error
        } else {
            partition.error_code
        },
    };
    OffsetFetchResponseTopic {
        name: topic.name,
        partitions: topic.partitions.into_iter().map(partition).collect(),
    }
}

#[cfg(test)]
mod tests {
    use trivium_core::{Command, Reply, Token, group::GroupReply};

    use super::*;
    use crate::{
        api::ApiKey,
        script::{Script, log, not_found},
    };

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

    fn reply(script: &mut Script, token: Token, answer: GroupReply) {
        script.done(token, Ok(Reply::Group(answer)));
    }

    fn offset(log: &str, partition: u32, offset: u64) -> CommittedOffset {
        CommittedOffset {
            log: log.into(),
            partition,
            offset: Offset(offset),
            leader_epoch: 0,
            metadata: "note".into(),
        }
    }

    fn commit_request(topics: &[(&str, u8)]) -> OffsetCommitRequest {
        let partition = |partition_index| OffsetCommitRequestPartition {
            partition_index,
            committed_offset: 7,
            committed_metadata: Some("note".into()),
            ..Default::default()
        };
        let topic = |(name, id): &(&str, u8)| OffsetCommitRequestTopic {
            name: (*name).into(),
            topic_id: Uuid([*id; 16]),
            partitions: vec![partition(0), partition(1)],
        };
        OffsetCommitRequest {
            group_id: "g".into(),
            topics: topics.iter().map(topic).collect(),
            ..Default::default()
        }
    }

    fn codes(response: &OffsetCommitResponse) -> Vec<i16> {
        response
            .topics
            .iter()
            .flat_map(|topic| &topic.partitions)
            .map(|partition| partition.error_code.0)
            .collect()
    }

    #[test]
    fn offsets_of_partitions_that_are_there_are_committed() {
        for version in 2..=9 {
            let mut script = Script::open();
            script.send(
                ApiKey::OffsetCommit,
                version,
                &commit_request(&[("ab", 0), ("none", 0)]),
            );
            script.describe(vec![Ok(log("ab", 1)), Err(not_found("none"))]);
            let (token, _, request) = asked(&mut script);
            let GroupRequest::Commit {
                generation: -1,
                offsets,
                ..
            } = request
            else {
                panic!("{request:?}")
            };
            let leader_epoch = -1;
            assert_eq!(
                offsets,
                [CommittedOffset {
                    leader_epoch,
                    ..offset("ab", 0, 7)
                }]
            );
            reply(&mut script, token, Ok(GroupAnswer::Ok));
            assert_eq!(
                codes(&script.response(ApiKey::OffsetCommit, version)),
                [0, 3, 3, 3]
            );
        }
    }

    fn found(offsets: Vec<CommittedOffset>) -> GroupAnswer {
        GroupAnswer::Offsets {
            offsets,
            unstable: Vec::new(),
        }
    }

    #[test]
    fn a_commit_by_id_and_one_that_is_refused() {
        let mut script = Script::open();
        script.send(
            ApiKey::OffsetCommit,
            10,
            &commit_request(&[("", 2), ("", 9)]),
        );
        script.describe(vec![Ok(log("ab", 2))]);
        assert_eq!(script.describe(vec![Ok(log("ab", 2))]).unwrap(), ["ab"]);
        let (token, _, _) = asked(&mut script);
        reply(&mut script, token, Ok(GroupAnswer::Ok));
        assert_eq!(
            codes(&script.response(ApiKey::OffsetCommit, 10)),
            [0, 0, 100, 100]
        );

        script.send(ApiKey::OffsetCommit, 9, &commit_request(&[("ab", 0)]));
        script.describe(vec![Ok(log("ab", 2))]);
        let (token, _, _) = asked(&mut script);
        reply(&mut script, token, Err(GroupError::IllegalGeneration));
        assert_eq!(codes(&script.response(ApiKey::OffsetCommit, 9)), [22, 22]);
    }

    /// kafkajs resets a group by committing -2 or -1, and reads that back.
    #[test]
    fn a_negative_offset_is_kept() {
        let mut script = Script::open();
        let mut request = commit_request(&[("ab", 0)]);
        request.topics[0].partitions[0].committed_offset = -2;
        script.send(ApiKey::OffsetCommit, 5, &request);
        script.describe(vec![Ok(log("ab", 2))]);
        let (token, _, request) = asked(&mut script);
        let GroupRequest::Commit { offsets, .. } = request else {
            panic!("{request:?}")
        };
        reply(&mut script, token, Ok(GroupAnswer::Ok));
        assert_eq!(codes(&script.response(ApiKey::OffsetCommit, 5)), [0, 0]);
        script.send(ApiKey::OffsetFetch, 5, &OffsetFetchRequest::default());
        let (token, _, _) = asked(&mut script);
        reply(&mut script, token, Ok(found(offsets)));
        let response: OffsetFetchResponse = script.response(ApiKey::OffsetFetch, 5);
        let told = &response.topics[0].partitions;
        assert_eq!(
            (told[0].committed_offset, told[1].committed_offset),
            (-2, 7)
        );
    }

    /// A group that never committed has offset -1 everywhere, and no error.
    #[test]
    fn what_was_not_committed_is_minus_one() {
        for version in 1..=7 {
            let mut script = Script::open();
            let topics = Some(vec![OffsetFetchRequestTopic {
                name: "ab".into(),
                partition_indexes: vec![0, 1],
            }]);
            script.send(
                ApiKey::OffsetFetch,
                version,
                &OffsetFetchRequest {
                    topics,
                    ..Default::default()
                },
            );
            let (token, _, request) = asked(&mut script);
            let GroupRequest::Offsets {
                partitions: Some(partitions),
                ..
            } = request
            else {
                panic!("{request:?}")
            };
            assert_eq!(partitions, [("ab".into(), 0), ("ab".into(), 1)]);
            let answer = if version == 1 {
                Err(GroupError::NotFound)
            } else {
                Ok(found(vec![offset("ab", 1, 5)]))
            };
            reply(&mut script, token, answer);
            let response: OffsetFetchResponse = script.response(ApiKey::OffsetFetch, version);
            let told: Vec<_> = response.topics[0]
                .partitions
                .iter()
                .map(|it| (it.committed_offset, it.error_code.0))
                .collect();
            assert_eq!(told, [(-1, 0), (if version == 1 { -1 } else { 5 }, 0)]);
        }
    }

    /// KIP-709: several groups in one request, null topics for all, each with its own error.
    #[test]
    fn several_groups_at_once() {
        let mut script = Script::open();
        let group = |id: &str| OffsetFetchRequestGroup {
            group_id: id.into(),
            topics: None,
            ..Default::default()
        };
        let groups = vec![group("a"), group("b")];
        script.send(
            ApiKey::OffsetFetch,
            8,
            &OffsetFetchRequest {
                groups,
                ..Default::default()
            },
        );
        let answers = [
            Ok(found(vec![
                offset("y", 1, 5),
                offset("x", 0, 2),
                offset("y", 0, 4),
            ])),
            Err(GroupError::InvalidGroup),
        ];
        for (command, answer) in script.commands().into_iter().zip(answers) {
            let Command::Group {
                token,
                request:
                    GroupRequest::Offsets {
                        partitions: None, ..
                    },
                ..
            } = command
            else {
                panic!("{command:?}")
            };
            reply(&mut script, token, answer);
        }
        let response: OffsetFetchResponse = script.response(ApiKey::OffsetFetch, 8);
        let topics: Vec<_> = response.groups[0]
            .topics
            .iter()
            .map(|it| (&*it.name, it.partitions.len()))
            .collect();
        assert_eq!(topics, [("x", 1), ("y", 2)]);
        assert_eq!(
            (
                response.groups[1].error_code.0,
                response.groups[1].topics.len()
            ),
            (24, 0)
        );
    }

    #[test]
    fn from_version_10_topics_have_ids() {
        let mut script = Script::open();
        let groups = vec![OffsetFetchRequestGroup {
            group_id: "a".into(),
            topics: None,
            ..Default::default()
        }];
        script.send(
            ApiKey::OffsetFetch,
            10,
            &OffsetFetchRequest {
                groups,
                ..Default::default()
            },
        );
        let (token, _, _) = asked(&mut script);
        reply(
            &mut script,
            token,
            Ok(found(vec![offset("ab", 0, 5), offset("gone", 0, 1)])),
        );
        script.describe(vec![Ok(log("ab", 1))]);
        let response: OffsetFetchResponse = script.response(ApiKey::OffsetFetch, 10);
        let ids: Vec<_> = response.groups[0]
            .topics
            .iter()
            .map(|topic| topic.topic_id)
            .collect();
        assert_eq!(ids, [Uuid([2; 16])]);
    }
}
