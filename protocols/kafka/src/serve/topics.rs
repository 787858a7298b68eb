//! CreateTopics and DeleteTopics.

use std::collections::BTreeSet;

use rustc_hash::{FxHashMap, FxHashSet};
use trivium_core::{Change, LogInfo, LogSpec, Refusal, Reply, Text};

use crate::{
    Options,
    call::{Answer, Call, Job, Step},
    config,
    error::ErrorCode,
    messages::topics::*,
    serve::{NOT_HERE, configs::in_force, said, text},
    topics::{illegal, is_internal, is_legal},
    wire::Uuid,
};

/// Partitions that one request creates at most, as a Kafka broker has it.
const PARTITIONS_MAX: usize = 10_000;

type Fault = (ErrorCode, String);

/// Of a topic that is in a request more than once. It is answered once.
pub(super) const DUPLICATE: &str = "Duplicate topic name.";

/// From these versions on, a client is told that its quota of changes is exceeded; before, it just waits (KIP-599).
const STRICT_CREATE: i16 = 6;
const STRICT_DELETE: i16 = 5;

/// The quota of changes is exceeded.
pub(super) fn throttled() -> Fault {
    (
        ErrorCode::THROTTLING_QUOTA_EXCEEDED,
        "The throttling quota has been exceeded.".into(),
    )
}

/// Topics being created, or checked.
struct Creating {
    response: CreateTopicsResponse,
    left: usize,
}

pub(crate) fn create(request: CreateTopicsRequest, call: &mut Call<'_>) -> Step {
    let mut entries = FxHashMap::default();
    for topic in &request.topics {
        *entries.entry(topic.name.clone()).or_insert(0) += 1;
    }
    let spec = |topic: &CreatableTopic| match entries[&topic.name] {
        1 => spec(topic, &call.session.options),
        _ => Err((ErrorCode::INVALID_REQUEST, DUPLICATE.into())),
    };
    let specs: Vec<_> = request.topics.iter().map(spec).collect();
    let mut answered = FxHashSet::default();
    let partitions: usize = specs
        .iter()
        .flatten()
        .map(|spec| spec.partitions as usize)
        .sum();
    let mut job = Creating {
        response: CreateTopicsResponse::default(),
        left: 0,
    };
    for (topic, spec) in request.topics.into_iter().zip(specs) {
        if !answered.insert(topic.name.clone()) {
            continue;
        }
        let part = job.response.topics.len();
        let mut result = CreatableTopicResult {
            name: topic.name.clone(),
            ..Default::default()
        };
        match spec {
            Ok(_) if partitions > PARTITIONS_MAX => {
                fail(&mut result, (ErrorCode::POLICY_VIOLATION, excessive()))
            }
            Ok(spec)
                if !request.validate_only
                    && !call.may_change(spec.partitions, call.version() >= STRICT_CREATE) =>
            {
                fail(&mut result, throttled())
            }
            Ok(spec) => {
                job.left += 1;
                call.define(
                    part,
                    Change::CreateLog {
                        name: topic.name,
                        spec,
                        validate_only: request.validate_only,
                    },
                );
            }
            Err(fault) => fail(&mut result, fault),
        }
        job.response.topics.push(result);
    }
    match job.left {
        0 => call.respond(&job.response),
        _ => Step::Wait(Box::new(job)),
    }
}

fn excessive() -> String {
    format!("more than {PARTITIONS_MAX} partitions in one request")
}

fn fail(result: &mut CreatableTopicResult, (code, text): Fault) {
    (result.error_code, result.error_message) = (code, Some(text.into()));
}

/// What is to be created, or what is wrong with it.
fn spec(topic: &CreatableTopic, options: &Options) -> Result<LogSpec, Fault> {
    if !is_legal(&topic.name) {
        return Err((ErrorCode::INVALID_TOPIC_EXCEPTION, illegal(&topic.name)));
    }
    if is_internal(&topic.name) {
        return Err((
            ErrorCode::INVALID_TOPIC_EXCEPTION,
            "names that begin with '__' are the broker's own".into(),
        ));
    }
    let partitions = partitions(topic, options)?;
    let mut settings: Vec<(Text, Text)> = Vec::with_capacity(topic.configs.len());
    for CreatableTopicConfig { name, value } in &topic.configs {
        let value = value.as_ref().ok_or_else(|| {
            let name = name.escape_debug();
            format!("Null value not supported for topic configs: {name}")
        });
        let value = value.and_then(|value| config::checked(name, value));
        let value = value.map_err(|text| (ErrorCode::INVALID_CONFIG, text))?;
        // The last of several counts.
        settings.retain(|(known, _)| known != name);
        settings.push((name.clone(), value));
    }
    config::check_together(&settings).map_err(|text| (ErrorCode::INVALID_CONFIG, text))?;
    Ok(config::spec(&topic.name, partitions, settings))
}

fn partitions(topic: &CreatableTopic, options: &Options) -> Result<u32, Fault> {
    if !topic.assignments.is_empty() {
        return assigned(topic, options);
    }
    match topic.replication_factor {
        -1 | 1 => {}
        ..=0 => {
            return Err((
                ErrorCode::INVALID_REPLICATION_FACTOR,
                "Replication factor must be larger than 0, or -1 to use the default value.".into(),
            ));
        }
        wanted => {
            let text = format!(
                "Unable to replicate the partition {wanted} time(s): The target replication factor of {wanted} cannot be reached because only 1 broker(s) are registered or some brokers have all their log directories cordoned."
            );
            return Err((ErrorCode::INVALID_REPLICATION_FACTOR, text));
        }
    }
    match topic.num_partitions {
        -1 => Ok(options.default_partitions),
        ..=0 => Err((
            ErrorCode::INVALID_PARTITIONS,
            "Number of partitions was set to an invalid non-positive value.".into(),
        )),
        wanted => Ok(wanted as u32),
    }
}

/// The number of partitions of a manual assignment: 0, 1, 2 …, each to this broker alone.
fn assigned(topic: &CreatableTopic, options: &Options) -> Result<u32, Fault> {
    let unset = match (topic.num_partitions, topic.replication_factor) {
        (-1, -1) => None,
        (_, -1) => Some("numPartitions"),
        _ => Some("replication factor"),
    };
    if let Some(unset) = unset {
        let text =
            format!("A manual partition assignment was specified, but {unset} was not set to -1.");
        return Err((ErrorCode::INVALID_REQUEST, text));
    }
    let fault = |text| (ErrorCode::INVALID_REPLICA_ASSIGNMENT, text);
    let mut indexes = BTreeSet::new();
    for assignment in &topic.assignments {
        let index = assignment.partition_index;
        if !indexes.insert(index) {
            return Err(fault(format!(
                "Found multiple manual partition assignments for partition {index}"
            )));
        }
        if let Some(text) = misplaced(&assignment.broker_ids, options.node_id) {
            return Err(fault(text));
        }
    }
    match indexes.iter().copied().eq(0..indexes.len() as i32) {
        true => Ok(indexes.len() as u32),
        false => Err(fault(
            "partitions should be a consecutive 0-based integer sequence".into(),
        )),
    }
}

/// What is wrong with a manual assignment that is not to this broker alone.
pub(super) fn misplaced(replicas: &[i32], node: i32) -> Option<String> {
    let other = replicas.iter().find(|it| **it != node);
    match (replicas, other) {
        ([], _) => Some("The manual partition assignment includes an empty replica list.".into()),
        (_, Some(other)) => Some(format!(
            "The manual partition assignment includes broker {other}, but no such broker is registered."
        )),
        ([_], None) => None,
        _ => Some(format!(
            "The manual partition assignment includes the broker {node} more than once."
        )),
    }
}

impl Job for Creating {
    fn on_answer(mut self: Box<Self>, part: usize, answer: Answer, call: &mut Call<'_>) -> Step {
        let created = answer.reply(|reply| match reply {
            Reply::Logs(logs) => logs.into_iter().next(),
            _ => None,
        });
        if let Some(result) = self.response.topics.get_mut(part) {
            match created.and_then(|log| log) {
                Ok(log) => succeed(result, &log, &call.session.options),
                Err(refusal) => fail(result, (refused(&refusal), said(&refusal))),
            }
        }
        self.left -= 1;
        match self.left {
            0 => call.respond(&self.response),
            _ => Step::Wait(self),
        }
    }
}

/// What became of a definition.
pub(super) fn refused(refusal: &Refusal) -> ErrorCode {
    match refusal {
        Refusal::Invalid(_) => ErrorCode::INVALID_CONFIG,
        refusal => ErrorCode::from(refusal),
    }
}

fn succeed(result: &mut CreatableTopicResult, log: &LogInfo, options: &Options) {
    result.topic_id = Uuid(log.uuid);
    result.num_partitions = log.spec.partitions as i32;
    result.replication_factor = 1;
    let configs = in_force(&log.spec, options).map(|it| CreatableTopicConfigs {
        name: it.name.into(),
        value: Some(it.value),
        read_only: false,
        config_source: it.source,
        is_sensitive: false,
    });
    result.configs = Some(configs.collect());
}

/// Topics being deleted.
struct Deleting {
    response: DeleteTopicsResponse,
    left: usize,
}

pub(crate) fn delete(request: DeleteTopicsRequest, call: &mut Call<'_>) -> Step {
    let by_name = request
        .topic_names
        .into_iter()
        .map(|name| DeleteTopicState {
            name: Some(name),
            ..Default::default()
        });
    let mut job = Deleting {
        response: DeleteTopicsResponse::default(),
        left: 0,
    };
    let topics: Vec<_> = by_name.chain(request.topics).collect();
    let faults = wrong(&topics, call);
    let mut answered = FxHashSet::default();
    for (topic, fault) in topics.into_iter().zip(faults) {
        if !answered.insert((topic.name.clone(), topic.topic_id)) {
            continue;
        }
        let part = job.response.responses.len();
        if let Some(fault) = fault {
            job.response.responses.push(DeletableTopicResult {
                name: topic.name,
                topic_id: topic.topic_id,
                error_code: ErrorCode::INVALID_REQUEST,
                error_message: Some(Text::from_static(fault)),
            });
            continue;
        }
        let by_id = !topic.topic_id.is_zero();
        let known = if by_id {
            call.session.topics.name(topic.topic_id).cloned()
        } else {
            topic.name
        };
        let mut result = DeletableTopicResult {
            name: known,
            topic_id: topic.topic_id,
            ..Default::default()
        };
        match result.name.clone() {
            Some(name) if is_legal(&name) && !is_internal(&name) => {
                job.left += 1;
                call.describe(part, Some(vec![name]));
            }
            _ => not_there(&mut result, by_id),
        }
        job.response.responses.push(result);
    }
    match job.left {
        0 => call.respond(&job.response),
        _ => Step::Wait(Box::new(job)),
    }
}

/// What is wrong with each topic of a request: it has neither name nor id or both of them, or stands in it twice.
fn wrong(topics: &[DeleteTopicState], call: &Call<'_>) -> Vec<Option<&'static str>> {
    let mut entries = FxHashMap::default();
    for topic in topics {
        let key = (topic.name.clone(), topic.topic_id);
        *entries.entry(key).or_insert(0) += 1;
    }
    let is_named = |id: Uuid| {
        let name = call.session.topics.name(id);
        name.is_some_and(|name| entries.contains_key(&(Some(name.clone()), Uuid::default())))
    };
    let wrong = |topic: &DeleteTopicState| match (&topic.name, topic.topic_id.is_zero()) {
        (None, true) => Some("Neither topic name nor id were specified."),
        (Some(_), false) => Some("You may not specify both topic name and topic id."),
        _ if entries[&(topic.name.clone(), topic.topic_id)] > 1 => Some(match topic.name {
            Some(_) => DUPLICATE,
            None => "Duplicate topic id.",
        }),
        (None, false) if is_named(topic.topic_id) => {
            Some("The provided topic name maps to an ID that was already supplied.")
        }
        _ => None,
    };
    topics.iter().map(wrong).collect()
}

fn not_there(result: &mut DeletableTopicResult, by_id: bool) {
    let (code, text) = match by_id {
        true => (
            ErrorCode::UNKNOWN_TOPIC_ID,
            "This server does not host this topic ID.",
        ),
        false => (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, NOT_HERE),
    };
    (result.error_code, result.error_message) = (code, Some(Text::from_static(text)));
}

impl Deleting {
    /// Deletes what was found, if the client may now. Whether that is under way.
    fn delete(&mut self, part: usize, log: &LogInfo, call: &mut Call<'_>) -> bool {
        let Some(result) = self.response.responses.get_mut(part) else {
            return false;
        };
        if !result.topic_id.is_zero() && result.topic_id != Uuid(log.uuid) {
            not_there(result, true);
            return false;
        }
        if !call.may_change(log.spec.partitions, call.version() >= STRICT_DELETE) {
            let (code, text) = throttled();
            (result.error_code, result.error_message) = (code, Some(text.into()));
            return false;
        }
        let name = log.name.clone();
        call.define(part, Change::DeleteLog { name });
        true
    }
}

impl Job for Deleting {
    fn on_answer(mut self: Box<Self>, part: usize, answer: Answer, call: &mut Call<'_>) -> Step {
        let deleted = match answer.reply(Some) {
            Ok(Reply::Logs(found)) => match found.into_iter().next() {
                Some(Ok(log)) if self.delete(part, &log, call) => return Step::Wait(self),
                Some(Ok(_)) => Ok(()),
                Some(Err(refusal)) => Err(refusal),
                None => Ok(()),
            },
            deleted => deleted.map(|_| ()),
        };
        if let Some(result) = self.response.responses.get_mut(part) {
            let by_id = !result.topic_id.is_zero();
            if let (false, Some(name)) = (by_id, &result.name) {
                result.topic_id = call.session.topics.id(name);
            }
            match deleted {
                Ok(()) => call.session.topics.forget_id(result.topic_id),
                Err(Refusal::NotFound { .. }) => not_there(result, by_id),
                Err(refusal) => {
                    result.error_code = ErrorCode::from(&refusal);
                    result.error_message = text(&refusal);
                }
            }
        }
        self.left -= 1;
        match self.left {
            0 => call.respond(&self.response),
            _ => Step::Wait(self),
        }
    }
}

#[cfg(test)]
mod tests {
    use trivium_core::{Command, Kind};

    use super::*;
    use crate::{
        api::ApiKey,
        script::{Script, exists, log, not_found},
    };

    fn topic(name: &str) -> CreatableTopic {
        CreatableTopic {
            name: name.into(),
            num_partitions: -1,
            replication_factor: -1,
            ..Default::default()
        }
    }

    fn creating(topics: Vec<CreatableTopic>) -> CreateTopicsRequest {
        CreateTopicsRequest {
            topics,
            ..Default::default()
        }
    }

    fn config(name: &str, value: &str) -> CreatableTopicConfig {
        CreatableTopicConfig {
            name: name.into(),
            value: Some(value.into()),
        }
    }

    /// The code for a topic that is not even tried.
    fn refused(topic: CreatableTopic) -> i16 {
        let mut script = Script::open();
        script.send(ApiKey::CreateTopics, 7, &creating(vec![topic]));
        let response: CreateTopicsResponse = script.response(ApiKey::CreateTopics, 7);
        assert!(response.topics[0].error_message.is_some());
        response.topics[0].error_code.0
    }

    #[test]
    fn what_cannot_be_created_is_told_by_its_code() {
        assert_eq!(refused(topic("a/b")), 17);
        assert_eq!(refused(topic("__consumer_offsets")), 17);
        assert_eq!(
            refused(CreatableTopic {
                num_partitions: 0,
                ..topic("t")
            }),
            37
        );
        assert_eq!(
            refused(CreatableTopic {
                num_partitions: 10_001,
                ..topic("t")
            }),
            44
        );
        assert_eq!(
            refused(CreatableTopic {
                num_partitions: i32::MAX,
                ..topic("t")
            }),
            44
        );
        assert_eq!(
            refused(CreatableTopic {
                replication_factor: 0,
                ..topic("t")
            }),
            38
        );
        assert_eq!(
            refused(CreatableTopic {
                replication_factor: 3,
                ..topic("t")
            }),
            38
        );
        assert_eq!(
            refused(CreatableTopic {
                configs: vec![config("retention.msx", "1")],
                ..topic("t")
            }),
            40
        );
        assert_eq!(
            refused(CreatableTopic {
                configs: vec![config("retention.ms", "x")],
                ..topic("t")
            }),
            40
        );
        let assign = |index, broker| CreatableReplicaAssignment {
            partition_index: index,
            broker_ids: vec![broker],
        };
        assert_eq!(
            refused(CreatableTopic {
                assignments: vec![assign(1, 1)],
                ..topic("t")
            }),
            39
        );
        assert_eq!(
            refused(CreatableTopic {
                assignments: vec![assign(0, 2)],
                ..topic("t")
            }),
            39
        );
        assert_eq!(
            refused(CreatableTopic {
                assignments: vec![assign(0, 1)],
                num_partitions: 1,
                ..topic("t")
            }),
            42
        );
    }

    #[test]
    fn good_and_bad_topics_in_one_request() {
        for version in 2..=7 {
            let mut script = Script::open();
            let compact = CreatableTopic {
                num_partitions: 4,
                configs: vec![config("cleanup.policy", "compact")],
                ..topic("t")
            };
            let topics = vec![topic("twice"), compact, topic("twice"), topic("taken")];
            script.send(
                ApiKey::CreateTopics,
                version,
                &CreateTopicsRequest {
                    validate_only: true,
                    ..creating(topics)
                },
            );
            let mut commands = script.commands().into_iter();
            let Some(Command::Define {
                token,
                change:
                    Change::CreateLog {
                        spec,
                        validate_only: true,
                        ..
                    },
            }) = commands.next()
            else {
                panic!("a creation")
            };
            let settings: Vec<_> = spec
                .settings
                .iter()
                .map(|(name, value)| (&**name, &**value))
                .collect();
            assert_eq!(
                settings,
                [
                    ("cleanup.policy", "compact"),
                    ("mq.bind", "amq.topic:t"),
                    ("mq.tap", "amq.topic")
                ]
            );
            script.done(
                token,
                Ok(Reply::Logs(vec![Ok(LogInfo {
                    spec,
                    ..log("t", 4)
                })])),
            );
            let Some(Command::Define { token, .. }) = commands.next() else {
                panic!("a creation")
            };
            script.done(token, Err(exists(Kind::Queue, "taken")));

            let response: CreateTopicsResponse = script.response(ApiKey::CreateTopics, version);
            let codes: Vec<_> = response
                .topics
                .iter()
                .map(|topic| topic.error_code.0)
                .collect();
            assert_eq!(codes, [42, 0, 36], "what stands twice is answered once");
            let created = &response.topics[1];
            assert_eq!(
                (created.num_partitions, created.replication_factor),
                if version >= 5 { (4, 1) } else { (-1, -1) }
            );
            let compact = created
                .configs
                .iter()
                .flatten()
                .find(|it| it.name == "cleanup.policy");
            assert_eq!(
                compact.map(|it| (it.value.as_deref(), it.config_source)),
                (version >= 5).then_some((Some("compact"), 1))
            );
        }
    }

    #[test]
    fn topics_are_deleted_by_name_and_by_id() {
        let mut script = Script::open();
        let names = ["ab", "none", "a/b", "__offsets"].map(Text::from).to_vec();
        script.send(
            ApiKey::DeleteTopics,
            5,
            &DeleteTopicsRequest {
                topic_names: names,
                ..Default::default()
            },
        );
        for (command, found) in script
            .commands()
            .into_iter()
            .zip([Ok(log("ab", 1)), Err(not_found("none"))])
        {
            let Command::DescribeLogs { token, .. } = command else {
                panic!("{command:?}")
            };
            script.done(token, Ok(Reply::Logs(vec![found])));
        }
        let deleted = |script: &mut Script| {
            let token = script.command(|command| match command {
                Command::Define {
                    token,
                    change: Change::DeleteLog { name },
                } if name == "ab" => Some(token),
                _ => None,
            });
            script.done(token, Ok(Reply::Ok));
        };
        deleted(&mut script);
        let codes = |response: DeleteTopicsResponse| {
            response
                .responses
                .iter()
                .map(|it| it.error_code.0)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            codes(script.response(ApiKey::DeleteTopics, 5)),
            [0, 3, 3, 3]
        );

        let by_id = |id| DeleteTopicState {
            name: None,
            topic_id: Uuid([id; 16]),
        };
        script.send(
            ApiKey::DeleteTopics,
            6,
            &DeleteTopicsRequest {
                topics: vec![by_id(2), by_id(9)],
                ..Default::default()
            },
        );
        script.describe(vec![Ok(log("ab", 1))]);
        script.describe(vec![Ok(log("ab", 1))]);
        deleted(&mut script);
        assert_eq!(codes(script.response(ApiKey::DeleteTopics, 6)), [0, 100]);
    }

    /// Between the question for the id and the deletion, the topic may have been created again.
    #[test]
    fn a_topic_of_another_id_is_not_deleted() {
        let mut script = Script::open();
        let topics = vec![DeleteTopicState {
            name: None,
            topic_id: Uuid([2; 16]),
        }];
        let request = DeleteTopicsRequest {
            topics,
            ..Default::default()
        };
        script.send(ApiKey::DeleteTopics, 6, &request);
        script.describe(vec![Ok(log("ab", 1))]);
        let mut other = log("ab", 1);
        other.uuid = [3; 16];
        script.describe(vec![Ok(other)]);
        let response: DeleteTopicsResponse = script.response(ApiKey::DeleteTopics, 6);
        assert_eq!(
            response.responses[0].error_code,
            ErrorCode::UNKNOWN_TOPIC_ID
        );
    }
}
