//! What administrators do to partitions and ask about them: CreatePartitions, DescribeLogDirs,
//! DescribeTopicPartitions, OffsetForLeaderEpoch, and the elections and moves that one broker has no use for.

use rustc_hash::{FxHashMap, FxHashSet};
use trivium_core::{Change, Command, LogInfo, PartitionInfo, Refusal, Reply, Text};

use crate::{
    call::{Answer, Call, Job, Step},
    error::ErrorCode,
    messages::{admin::*, configs::*},
    serve::{
        NOT_ASKED, NOT_HERE, TOPIC_OPERATIONS, logs, text,
        topics::{DUPLICATE, misplaced, throttled},
    },
    topics::{is_internal, is_legal},
    wire::Uuid,
};

/// Partitions that one page of DescribeTopicPartitions holds at most (`max.request.partition.size.limit`).
const PAGE_MAX: i32 = 2000;

/// Descriptions of topics.
type Logs = Result<Vec<Result<LogInfo, Refusal>>, Refusal>;

/// A request whose topics are being described.
struct Described<R> {
    request: R,
    done: fn(R, Logs, &mut Call<'_>) -> Step,
}

impl<R: Send> Job for Described<R> {
    fn on_answer(self: Box<Self>, _part: usize, answer: Answer, call: &mut Call<'_>) -> Step {
        (self.done)(self.request, logs(answer), call)
    }
}

/// A request whose partitions are being described.
struct Measured<R> {
    request: R,
    done: fn(R, Result<Partitions, Refusal>, &mut Call<'_>) -> Step,
}

type Partitions = FxHashMap<(Text, i32), PartitionInfo>;

impl<R: Send> Job for Measured<R> {
    fn on_answer(self: Box<Self>, _part: usize, answer: Answer, call: &mut Call<'_>) -> Step {
        let found = answer.reply(|reply| match reply {
            Reply::Partitions(partitions) => Some(partitions),
            _ => None,
        });
        let keyed = |it: PartitionInfo| ((it.log.clone(), it.partition as i32), it);
        let found = found.map(|found| found.into_iter().map(keyed).collect());
        (self.done)(self.request, found, call)
    }
}

fn measure<R: Send + 'static>(
    request: R,
    logs: Option<Vec<Text>>,
    call: &mut Call<'_>,
    done: fn(R, Result<Partitions, Refusal>, &mut Call<'_>) -> Step,
) -> Step {
    call.submit(0, |token| Command::DescribePartitions { token, logs });
    Step::Wait(Box::new(Measured { request, done }))
}

/// The error of a partition, if it is not there.
fn missing(
    found: &Result<Partitions, Refusal>,
    topic: &Text,
    partition: i32,
) -> Option<(ErrorCode, Text)> {
    match found {
        Err(refusal) => Some((ErrorCode::from(refusal), refusal.to_string().into())),
        Ok(found) if found.contains_key(&(topic.clone(), partition)) => None,
        Ok(_) => Some((ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, NOT_HERE.into())),
    }
}

/// The same in the words of a request that has them by topic and by partition.
fn missing_in_words(
    found: &Result<Partitions, Refusal>,
    topic: &Text,
    partition: i32,
    of_topic: impl FnOnce() -> String,
    of_partition: impl FnOnce() -> String,
) -> Option<(ErrorCode, Text)> {
    let (code, text) = missing(found, topic, partition)?;
    let text = match found {
        Ok(found) if found.contains_key(&(topic.clone(), 0)) => of_partition().into(),
        Ok(_) => of_topic().into(),
        Err(_) => text,
    };
    Some((code, text))
}

/// From this version on, a client is told that its quota of changes is exceeded (KIP-599).
const STRICT_ADD: i16 = 3;

/// Partitions being added.
struct Adding {
    response: CreatePartitionsResponse,
    left: usize,
}

pub(crate) fn create(request: CreatePartitionsRequest, call: &mut Call<'_>) -> Step {
    let names = request.topics.iter().map(|topic| topic.name.clone());
    let names = names.collect();
    call.describe(0, Some(names));
    Step::Wait(Box::new(Described { request, done: add }))
}

fn add(request: CreatePartitionsRequest, found: Logs, call: &mut Call<'_>) -> Step {
    let mut entries = FxHashMap::default();
    for topic in &request.topics {
        *entries.entry(topic.name.clone()).or_insert(0) += 1;
    }
    let found = match found {
        Ok(found) => found,
        Err(refusal) => vec![Err(refusal); request.topics.len()],
    };
    let mut job = Adding {
        response: CreatePartitionsResponse::default(),
        left: 0,
    };
    let mut answered = FxHashSet::default();
    for (topic, log) in request.topics.into_iter().zip(found) {
        if !answered.insert(topic.name.clone()) {
            continue;
        }
        let part = job.response.results.len();
        let mut result = CreatePartitionsTopicResult {
            name: topic.name.clone(),
            ..Default::default()
        };
        let wanted = match entries[&topic.name] {
            1 => wanted(&topic, log, call.session.options.node_id),
            _ => Err((ErrorCode::INVALID_REQUEST, DUPLICATE.into())),
        };
        match wanted {
            Ok((_, added))
                if !request.validate_only
                    && !call.may_change(added, call.version() >= STRICT_ADD) =>
            {
                let (code, text) = throttled();
                (result.error_code, result.error_message) = (code, Some(text.into()));
            }
            Ok((partitions, _)) => {
                job.left += 1;
                let validate_only = request.validate_only;
                call.define(
                    part,
                    Change::AddPartitions {
                        name: topic.name,
                        partitions,
                        validate_only,
                    },
                );
            }
            Err((code, text)) => {
                // Nothing is said of a topic that is not there.
                let text = (code != ErrorCode::UNKNOWN_TOPIC_OR_PARTITION).then(|| text.into());
                (result.error_code, result.error_message) = (code, text)
            }
        }
        job.response.results.push(result);
    }
    match job.left {
        0 => call.respond(&job.response),
        _ => Step::Wait(Box::new(job)),
    }
}

/// How many partitions a topic is to have and how many of these are new, or what is wrong with that.
fn wanted(
    topic: &CreatePartitionsTopic,
    log: Result<LogInfo, Refusal>,
    node: i32,
) -> Result<(u32, u32), (ErrorCode, String)> {
    let log = log.map_err(|refusal| (ErrorCode::from(&refusal), refusal.to_string()))?;
    let now = log.spec.partitions;
    let count = u32::try_from(topic.count).unwrap_or_default();
    if count <= now {
        let text = match count == now {
            true => format!("Topic already has {now} partition(s)."),
            false => format!(
                "The topic {} currently has {now} partition(s); {} would not be an increase.",
                topic.name, topic.count
            ),
        };
        return Err((ErrorCode::INVALID_PARTITIONS, text));
    }
    if let Some(assignments) = &topic.assignments {
        let fault = |text| Err((ErrorCode::INVALID_REPLICA_ASSIGNMENT, text));
        if assignments.len() != (count - now) as usize {
            return fault(format!(
                "Attempted to add {} additional partition(s), but only {} assignment(s) were specified.",
                count - now,
                assignments.len()
            ));
        }
        let mut faults = assignments.iter();
        if let Some(text) = faults.find_map(|it| misplaced(&it.broker_ids, node)) {
            return fault(text);
        }
    }
    Ok((count, count - now))
}

impl Job for Adding {
    fn on_answer(mut self: Box<Self>, part: usize, answer: Answer, call: &mut Call<'_>) -> Step {
        if let Err(refusal) = answer.reply(Some)
            && let Some(result) = self.response.results.get_mut(part)
        {
            result.error_message = text(&refusal);
            result.error_code = match refusal {
                Refusal::Invalid(_) => ErrorCode::INVALID_PARTITIONS,
                refusal => ErrorCode::from(&refusal),
            };
        }
        self.left -= 1;
        match self.left {
            0 => call.respond(&self.response),
            _ => Step::Wait(self),
        }
    }
}

pub(crate) fn epochs(request: OffsetForLeaderEpochRequest, call: &mut Call<'_>) -> Step {
    let names = request.topics.iter().map(|topic| topic.topic.clone());
    let names = names.collect();
    measure(request, Some(names), call, |request, found, call| {
        let topics = request.topics.into_iter().map(|topic| {
            let name = topic.topic.clone();
            let ends = topic.partitions.into_iter();
            OffsetForLeaderTopicResult {
                partitions: ends.map(|asked| epoch_end(&name, &asked, &found)).collect(),
                topic: topic.topic,
            }
        });
        call.respond(&OffsetForLeaderEpochResponse {
            topics: topics.collect(),
            ..Default::default()
        })
    })
}

/// There has only ever been the leader's epoch 0, which has not ended.
fn epoch_end(
    topic: &Text,
    asked: &OffsetForLeaderPartition,
    found: &Result<Partitions, Refusal>,
) -> EpochEndOffset {
    let mut end = EpochEndOffset {
        partition: asked.partition,
        ..Default::default()
    };
    if let Some((code, _)) = missing(found, topic, asked.partition) {
        end.error_code = code;
    } else if asked.current_leader_epoch > 0 {
        end.error_code = ErrorCode::UNKNOWN_LEADER_EPOCH;
    } else if asked.leader_epoch == 0
        && let Some(info) = found
            .as_ref()
            .ok()
            .and_then(|found| found.get(&(topic.clone(), asked.partition)))
    {
        (end.leader_epoch, end.end_offset) = (0, info.end.0 as i64);
    }
    end
}

pub(crate) fn log_dirs(request: DescribeLogDirsRequest, call: &mut Call<'_>) -> Step {
    let names = request
        .topics
        .as_ref()
        .map(|topics| topics.iter().map(|it| it.topic.clone()).collect());
    measure(request, names, call, |request, found, call| {
        let found = match found {
            Ok(found) => found,
            Err(refusal) => {
                return call.respond(&DescribeLogDirsResponse {
                    error_code: ErrorCode::from(&refusal),
                    ..Default::default()
                });
            }
        };
        let is_wanted = |info: &PartitionInfo| {
            request.topics.as_ref().is_none_or(|topics| {
                let mut same = topics.iter().filter(|topic| topic.topic == info.log);
                same.any(|topic| topic.partitions.contains(&(info.partition as i32)))
            })
        };
        let mut found: Vec<_> = found.into_values().filter(is_wanted).collect();
        found.sort_unstable_by(|a, b| (&a.log, a.partition).cmp(&(&b.log, b.partition)));
        let mut topics: Vec<DescribeLogDirsTopic> = Vec::new();
        for info in found {
            if topics.last().is_none_or(|topic| topic.name != info.log) {
                topics.push(DescribeLogDirsTopic {
                    name: info.log.clone(),
                    partitions: Vec::new(),
                });
            }
            if let Some(topic) = topics.last_mut() {
                topic.partitions.push(DescribeLogDirsPartition {
                    partition_index: info.partition as i32,
                    partition_size: info.bytes as i64,
                    ..Default::default()
                });
            }
        }
        call.respond(&DescribeLogDirsResponse {
            results: vec![DescribeLogDirsResult {
                log_dir: call.session.options.data_dir.clone(),
                topics,
                ..Default::default()
            }],
            ..Default::default()
        })
    })
}

/// There is one directory: what is to be there is there already.
pub(crate) fn move_dirs(request: AlterReplicaLogDirsRequest, call: &mut Call<'_>) -> Step {
    let topics = request.dirs.iter().flat_map(|dir| &dir.topics);
    let names = topics.map(|topic| topic.name.clone()).collect();
    measure(request, Some(names), call, |request, found, call| {
        let mut results: Vec<AlterReplicaLogDirTopicResult> = Vec::new();
        for dir in request.dirs {
            let is_here = dir.path == call.session.options.data_dir;
            for topic in dir.topics {
                let moved = |partition: i32| AlterReplicaLogDirPartitionResult {
                    partition_index: partition,
                    error_code: match missing(&found, &topic.name, partition) {
                        _ if !is_here => ErrorCode::LOG_DIR_NOT_FOUND,
                        Some((code, _)) => code,
                        None => ErrorCode::NONE,
                    },
                };
                results.push(AlterReplicaLogDirTopicResult {
                    partitions: topic.partitions.iter().map(|it| moved(*it)).collect(),
                    topic_name: topic.name,
                });
            }
        }
        call.respond(&AlterReplicaLogDirsResponse {
            results,
            ..Default::default()
        })
    })
}

/// The preferred replica (0), or any (1).
const ELECTIONS: std::ops::RangeInclusive<i8> = 0..=1;

pub(crate) fn elect(request: ElectLeadersRequest, call: &mut Call<'_>) -> Step {
    if !ELECTIONS.contains(&request.election_type) {
        return call.respond(&no_election(&request));
    }
    let Some(topics) = &request.topic_partitions else {
        // Of all partitions, none needs one.
        return call.respond(&ElectLeadersResponse::default());
    };
    let names = topics.iter().map(|topic| topic.topic.clone()).collect();
    measure(request, Some(names), call, |request, found, call| {
        let elected = |topic: &Text, partition| {
            let missing = missing_in_words(
                &found,
                topic,
                partition,
                || format!("No such topic as {topic}"),
                || format!("No such partition as {topic}-{partition}"),
            );
            let (error_code, text) = missing.unwrap_or((
                ErrorCode::ELECTION_NOT_NEEDED,
                "Leader election not needed for topic partition.".into(),
            ));
            PartitionElectionResult {
                partition_id: partition,
                error_code,
                error_message: Some(text),
            }
        };
        let topics = request.topic_partitions.into_iter().flatten();
        let results = topics.map(|topic| ReplicaElectionResult {
            partition_result: topic
                .partitions
                .iter()
                .map(|partition| elected(&topic.topic, *partition))
                .collect(),
            topic: topic.topic.clone(),
        });
        call.respond(&ElectLeadersResponse {
            replica_election_results: results.collect(),
            ..Default::default()
        })
    })
}

fn no_election(request: &ElectLeadersRequest) -> ElectLeadersResponse {
    let refused = |partition: &i32| PartitionElectionResult {
        partition_id: *partition,
        error_code: ErrorCode::INVALID_REQUEST,
        error_message: Some(format!("Unknown election type {}", request.election_type).into()),
    };
    let topics = request.topic_partitions.iter().flatten();
    let results = topics.map(|topic| ReplicaElectionResult {
        topic: topic.topic.clone(),
        partition_result: topic.partitions.iter().map(refused).collect(),
    });
    let results: Vec<_> = results.collect();
    ElectLeadersResponse {
        error_code: match results.is_empty() {
            true => ErrorCode::NONE,
            false => ErrorCode::INVALID_REQUEST,
        },
        replica_election_results: results,
        ..Default::default()
    }
}

pub(crate) fn reassign(request: AlterPartitionReassignmentsRequest, call: &mut Call<'_>) -> Step {
    let names = request.topics.iter().map(|topic| topic.name.clone());
    let names = names.collect();
    measure(request, Some(names), call, |request, found, call| {
        let node = call.session.options.node_id;
        // As by Kafka, whose controller is not asked for nothing.
        let error_message = request.topics.is_empty().then(Text::default);
        let responses = request.topics.into_iter().map(|topic| {
            let moved = |partition: &ReassignablePartition| {
                let (name, index) = (&topic.name, partition.partition_index);
                let missing = missing_in_words(
                    &found,
                    name,
                    index,
                    || format!("Unable to find a topic named {name}."),
                    || format!("Unable to find partition {name}:{index}."),
                );
                let fault = match missing {
                    Some((code, text)) => Some((code, Some(text))),
                    None => reassignment_fault(partition.replicas.as_deref(), node),
                };
                let (error_code, error_message) = fault.unwrap_or_default();
                ReassignablePartitionResponse {
                    partition_index: partition.partition_index,
                    error_code,
                    error_message,
                }
            };
            ReassignableTopicResponse {
                partitions: topic.partitions.iter().map(moved).collect(),
                name: topic.name.clone(),
            }
        });
        call.respond(&AlterPartitionReassignmentsResponse {
            allow_replication_factor_change: request.allow_replication_factor_change,
            error_message,
            responses: responses.collect(),
            ..Default::default()
        })
    })
}

/// A partition is where it can be: on the one broker.
fn reassignment_fault(replicas: Option<&[i32]>, node: i32) -> Option<(ErrorCode, Option<Text>)> {
    match replicas {
        None => Some((ErrorCode::NO_REASSIGNMENT_IN_PROGRESS, None)),
        Some(replicas) => misplaced(replicas, node)
            .map(|text| (ErrorCode::INVALID_REPLICA_ASSIGNMENT, Some(text.into()))),
    }
}

/// Nothing moves where there is one broker.
pub(crate) fn reassignments(_: ListPartitionReassignmentsRequest, call: &Call<'_>) -> Step {
    call.respond(&ListPartitionReassignmentsResponse::default())
}

pub(crate) fn describe(mut request: DescribeTopicPartitionsRequest, call: &mut Call<'_>) -> Step {
    let mut names = FxHashSet::default();
    request
        .topics
        .retain(|topic| names.insert(topic.name.clone()));
    if let Some(cursor) = &request.cursor {
        let is_among = names.is_empty() || names.contains(&cursor.topic_name);
        if !is_among || cursor.partition_index < 0 {
            return call.respond(&no_page(&request.topics));
        }
    }
    request.topics.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    if let Some(cursor) = &request.cursor {
        request
            .topics
            .retain(|topic| topic.name >= cursor.topic_name);
    }
    let names = request.topics.iter().map(|topic| topic.name.clone());
    let names: Vec<_> = names.collect();
    let wanted = (!names.is_empty()).then_some(names);
    call.describe(0, wanted);
    Step::Wait(Box::new(Described {
        request,
        done: page,
    }))
}

/// The answer where the cursor is at none of the topics that are asked for, or at no partition.
fn no_page(topics: &[TopicRequest]) -> DescribeTopicPartitionsResponse {
    let refused = |topic: &TopicRequest| DescribeTopicPartitionsTopic {
        error_code: ErrorCode::INVALID_REQUEST,
        name: Some(topic.name.clone()),
        topic_authorized_operations: NOT_ASKED,
        ..Default::default()
    };
    DescribeTopicPartitionsResponse {
        topics: topics.iter().map(refused).collect(),
        ..Default::default()
    }
}

fn page(request: DescribeTopicPartitionsRequest, found: Logs, call: &mut Call<'_>) -> Step {
    let asked: Vec<Text> = request.topics.into_iter().map(|topic| topic.name).collect();
    let mut found: Vec<(Text, Result<LogInfo, Refusal>)> = match found {
        Ok(found) if asked.is_empty() => found
            .into_iter()
            .flatten()
            .map(|log| (log.name.clone(), Ok(log)))
            .collect(),
        Ok(found) => asked.into_iter().zip(found).collect(),
        Err(refusal) => {
            let all = asked.into_iter();
            all.map(|name| (name, Err(refusal.clone()))).collect()
        }
    };
    found.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    let cursor = request.cursor.unwrap_or_default();
    found.retain(|(name, _)| *name >= cursor.topic_name);
    let mut room = request.response_partition_limit.clamp(1, PAGE_MAX);
    let node = call.session.options.node_id;
    let mut response = DescribeTopicPartitionsResponse::default();
    for (name, log) in found {
        if room == 0 {
            response.next_cursor = Some(Cursor {
                topic_name: name,
                partition_index: 0,
            });
            break;
        }
        let first = if name == cursor.topic_name {
            cursor.partition_index
        } else {
            0
        };
        let (topic, next) = topic_page(&name, log, first, room, node);
        room -= topic.partitions.len() as i32;
        response.topics.push(topic);
        if let Some(partition_index) = next {
            response.next_cursor = Some(Cursor {
                topic_name: name,
                partition_index,
            });
            break;
        }
    }
    call.respond(&response)
}

/// A topic with so many of its partitions, and which is next.
fn topic_page(
    name: &Text,
    log: Result<LogInfo, Refusal>,
    first: i32,
    room: i32,
    node: i32,
) -> (DescribeTopicPartitionsTopic, Option<i32>) {
    let mut topic = DescribeTopicPartitionsTopic {
        name: Some(name.clone()),
        is_internal: is_internal(name),
        topic_authorized_operations: TOPIC_OPERATIONS,
        ..Default::default()
    };
    let log = match log {
        Ok(log) => log,
        Err(refusal) => {
            topic.error_code = match is_legal(name) {
                true => ErrorCode::from(&refusal),
                false => ErrorCode::INVALID_TOPIC_EXCEPTION,
            };
            return (topic, None);
        }
    };
    topic.topic_id = Uuid(log.uuid);
    let end = (log.spec.partitions as i32).min(first.saturating_add(room));
    let partition = |partition_index| DescribeTopicPartitionsPartition {
        partition_index,
        leader_id: node,
        leader_epoch: 0,
        replica_nodes: vec![node],
        isr_nodes: vec![node],
        eligible_leader_replicas: Some(Vec::new()),
        last_known_elr: Some(Vec::new()),
        ..Default::default()
    };
    topic.partitions = (first..end).map(partition).collect();
    (topic, (end < log.spec.partitions as i32).then_some(end))
}

#[cfg(test)]
mod tests {
    use trivium_core::Offset;

    use super::*;
    use crate::{
        api::ApiKey,
        script::{Script, log, not_found},
    };

    fn info(partition: u32, bytes: u64) -> PartitionInfo {
        PartitionInfo {
            log: "ab".into(),
            partition,
            log_start: Offset(0),
            end: Offset(9),
            bytes,
        }
    }

    fn measured(script: &mut Script, found: Vec<PartitionInfo>) {
        let token = script.command(|command| match command {
            Command::DescribePartitions { token, .. } => Some(token),
            _ => None,
        });
        script.done(token, Ok(Reply::Partitions(found)));
    }

    /// One result per topic, whatever became of it.
    #[test]
    fn partitions_are_added() {
        let mut script = Script::open();
        let topic = |name: &'static str, count| CreatePartitionsTopic {
            name: name.into(),
            count,
            assignments: None,
        };
        let topics = vec![
            topic("ab", 3),
            topic("none", 3),
            topic("abc", 1),
            topic("x", 2),
        ];
        let request = CreatePartitionsRequest {
            topics,
            ..Default::default()
        };
        script.send(ApiKey::CreatePartitions, 3, &request);
        script.describe(vec![
            Ok(log("ab", 1)),
            Err(not_found("none")),
            Ok(log("abc", 1)),
            Ok(log("x", 5)),
        ]);
        let token = script.command(|command| match command {
            Command::Define {
                token,
                change: Change::AddPartitions { partitions: 3, .. },
            } => Some(token),
            _ => None,
        });
        script.done(token, Ok(Reply::Logs(vec![Ok(log("ab", 3))])));
        let response: CreatePartitionsResponse = script.response(ApiKey::CreatePartitions, 3);
        let codes: Vec<_> = response.results.iter().map(|it| it.error_code.0).collect();
        assert_eq!(codes, [0, 3, 37, 37]);
    }

    /// KIP-320: epoch 0 ends at the high watermark; newer ones are not known.
    #[test]
    fn the_first_epoch_goes_on() {
        for (current, epoch, expected) in [
            (-1, 0, (0, 0, 9)),
            (0, 0, (0, 0, 9)),
            (0, 1, (0, -1, -1)),
            (1, 0, (75, -1, -1)),
        ] {
            let mut script = Script::open();
            let request = OffsetForLeaderEpochRequest {
                topics: vec![OffsetForLeaderTopic {
                    topic: "ab".into(),
                    partitions: vec![OffsetForLeaderPartition {
                        partition: 0,
                        current_leader_epoch: current,
                        leader_epoch: epoch,
                    }],
                }],
                ..Default::default()
            };
            script.send(ApiKey::OffsetForLeaderEpoch, 4, &request);
            measured(&mut script, vec![info(0, 7)]);
            let response: OffsetForLeaderEpochResponse =
                script.response(ApiKey::OffsetForLeaderEpoch, 4);
            let end = &response.topics[0].partitions[0];
            assert_eq!(
                (end.error_code.0, end.leader_epoch, end.end_offset),
                expected
            );
        }
    }

    #[test]
    fn sizes_are_told_of_what_is_asked_for() {
        let mut script = Script::open();
        script.send(
            ApiKey::DescribeLogDirs,
            5,
            &DescribeLogDirsRequest { topics: None },
        );
        measured(&mut script, vec![info(1, 8), info(0, 7)]);
        let response: DescribeLogDirsResponse = script.response(ApiKey::DescribeLogDirs, 5);
        let sizes: Vec<_> = response.results[0].topics[0]
            .partitions
            .iter()
            .map(|it| (it.partition_index, it.partition_size))
            .collect();
        assert_eq!(sizes, [(0, 7), (1, 8)]);
    }

    /// KIP-966: pages by a limit and a cursor.
    #[test]
    fn partitions_are_described_by_page() {
        let mut cursor = None;
        let mut seen = Vec::new();
        loop {
            let mut script = Script::open();
            let request = DescribeTopicPartitionsRequest {
                topics: Vec::new(),
                response_partition_limit: 2,
                cursor,
            };
            script.send(ApiKey::DescribeTopicPartitions, 0, &request);
            script.describe(vec![Ok(log("b", 3)), Ok(log("a", 1))]);
            let response: DescribeTopicPartitionsResponse =
                script.response(ApiKey::DescribeTopicPartitions, 0);
            for topic in response.topics {
                let name = topic.name.unwrap();
                seen.extend(
                    topic
                        .partitions
                        .iter()
                        .map(|it| (name.clone(), it.partition_index)),
                );
            }
            cursor = response.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        let expected = [("a", 0), ("b", 0), ("b", 1), ("b", 2)];
        assert_eq!(
            seen,
            expected.map(|(name, number)| (Text::from(name), number))
        );
    }

    #[test]
    fn one_broker_elects_and_moves_nothing() {
        let mut script = Script::open();
        let request = ElectLeadersRequest {
            topic_partitions: Some(vec![ElectLeadersTopic {
                topic: "ab".into(),
                partitions: vec![0, 7],
            }]),
            ..Default::default()
        };
        script.send(ApiKey::ElectLeaders, 2, &request);
        measured(&mut script, vec![info(0, 0)]);
        let response: ElectLeadersResponse = script.response(ApiKey::ElectLeaders, 2);
        let results = &response.replica_election_results[0].partition_result;
        assert_eq!((results[0].error_code.0, results[1].error_code.0), (84, 3));

        let moved = |replicas| ReassignablePartition {
            partition_index: 0,
            replicas,
        };
        let request = AlterPartitionReassignmentsRequest {
            topics: vec![ReassignableTopic {
                name: "ab".into(),
                partitions: vec![moved(None), moved(Some(vec![1])), moved(Some(vec![2]))],
            }],
            ..Default::default()
        };
        script.send(ApiKey::AlterPartitionReassignments, 1, &request);
        measured(&mut script, vec![info(0, 0)]);
        let response: AlterPartitionReassignmentsResponse =
            script.response(ApiKey::AlterPartitionReassignments, 1);
        let codes = response.responses[0].partitions.iter();
        assert_eq!(
            codes.map(|it| it.error_code.0).collect::<Vec<_>>(),
            [85, 0, 39]
        );
    }
}
