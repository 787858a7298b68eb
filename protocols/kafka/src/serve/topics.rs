//! CreateTopics and DeleteTopics.

use trivium_core::{Change, LogInfo, LogSpec, Refusal, Reply, Text};

use crate::{
    Options,
    call::{Answer, Call, Job, Step},
    config,
    error::ErrorCode,
    messages::topics::*,
    serve::{configs::in_force, text},
    topics::{is_internal, is_legal},
    wire::Uuid,
};

/// Partitions that one request creates at most, as a Kafka broker has it.
const PARTITIONS_MAX: usize = 10_000;

type Fault = (ErrorCode, String);

/// Topics being created, or checked.
struct Creating {
    response: CreateTopicsResponse,
    left: usize,
}

pub(crate) fn create(request: CreateTopicsRequest, call: &mut Call<'_>) -> Step {
    let specs: Vec<_> = request
        .topics
        .iter()
        .map(|topic| spec(topic, &request.topics, &call.session.options))
        .collect();
    let partitions: usize = specs
        .iter()
        .flatten()
        .map(|spec| spec.partitions as usize)
        .sum();
    let mut job = Creating {
        response: CreateTopicsResponse::default(),
        left: 0,
    };
    for (part, (topic, spec)) in request.topics.into_iter().zip(specs).enumerate() {
        let mut result = CreatableTopicResult {
            name: topic.name.clone(),
            ..Default::default()
        };
        match spec {
            Ok(_) if partitions > PARTITIONS_MAX => {
                fail(&mut result, (ErrorCode::POLICY_VIOLATION, excessive()))
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
fn spec(
    topic: &CreatableTopic,
    all: &[CreatableTopic],
    options: &Options,
) -> Result<LogSpec, Fault> {
    if !is_legal(&topic.name) {
        let text = "a topic name has 1 to 249 of letters, digits, '.', '_' and '-', and is neither '.' nor '..'";
        return Err((ErrorCode::INVALID_TOPIC_EXCEPTION, text.into()));
    }
    if is_internal(&topic.name) {
        return Err((
            ErrorCode::INVALID_TOPIC_EXCEPTION,
            "names that begin with '__' are the broker's own".into(),
        ));
    }
    if all.iter().filter(|other| other.name == topic.name).count() > 1 {
        return Err((
            ErrorCode::INVALID_REQUEST,
            "the request has several entries for this topic".into(),
        ));
    }
    let partitions = partitions(topic, options)?;
    let mut settings: Vec<(Text, Text)> = Vec::with_capacity(topic.configs.len());
    for CreatableTopicConfig { name, value } in &topic.configs {
        config::check(name, value.as_deref()).map_err(|text| (ErrorCode::INVALID_CONFIG, text))?;
        settings.push((name.clone(), value.clone().unwrap_or_default()));
    }
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
                "replication factor must be larger than 0".into(),
            ));
        }
        wanted => {
            let text =
                format!("replication factor {wanted} cannot be reached because there is 1 broker");
            return Err((ErrorCode::INVALID_REPLICATION_FACTOR, text));
        }
    }
    match topic.num_partitions {
        -1 => Ok(options.default_partitions),
        ..=0 => Err((
            ErrorCode::INVALID_PARTITIONS,
            "number of partitions must be larger than 0".into(),
        )),
        wanted => Ok(wanted as u32),
    }
}

/// The number of partitions of a manual assignment: 0, 1, 2 …, each to this broker alone.
fn assigned(topic: &CreatableTopic, options: &Options) -> Result<u32, Fault> {
    if topic.num_partitions != -1 || topic.replication_factor != -1 {
        let text = "with an assignment, partitions and replication factor must be -1";
        return Err((ErrorCode::INVALID_REQUEST, text.into()));
    }
    let mut indexes: Vec<_> = topic
        .assignments
        .iter()
        .map(|assignment| assignment.partition_index)
        .collect();
    indexes.sort_unstable();
    let consecutive = indexes.iter().copied().eq(0..indexes.len() as i32);
    let here = topic
        .assignments
        .iter()
        .all(|assignment| assignment.broker_ids == [options.node_id]);
    match consecutive && here {
        true => Ok(indexes.len() as u32),
        false => {
            let text = format!(
                "partitions must be numbered from 0 and assigned to broker {}",
                options.node_id
            );
            Err((ErrorCode::INVALID_REPLICA_ASSIGNMENT, text))
        }
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
                Ok(log) => succeed(result, &log),
                Err(refusal) => fail(result, (refused(&refusal), refusal.to_string())),
            }
        }
        self.left -= 1;
        match self.left {
            0 => call.respond(&self.response),
            _ => Step::Wait(self),
        }
    }
}

fn refused(refusal: &Refusal) -> ErrorCode {
    match refusal {
        Refusal::Invalid(_) => ErrorCode::INVALID_CONFIG,
        refusal => ErrorCode::from(refusal),
    }
}

fn succeed(result: &mut CreatableTopicResult, log: &LogInfo) {
    result.topic_id = Uuid(log.uuid);
    result.num_partitions = log.spec.partitions as i32;
    result.replication_factor = 1;
    let configs = in_force(&log.spec).map(|it| CreatableTopicConfigs {
        name: it.name.into(),
        value: Some(it.value.into()),
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
    for (part, topic) in by_name.chain(request.topics).enumerate() {
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
                call.define(part, Change::DeleteLog { name });
            }
            _ => result.error_code = missing(by_id),
        }
        job.response.responses.push(result);
    }
    match job.left {
        0 => call.respond(&job.response),
        _ => Step::Wait(Box::new(job)),
    }
}

fn missing(by_id: bool) -> ErrorCode {
    if by_id {
        ErrorCode::UNKNOWN_TOPIC_ID
    } else {
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
    }
}

impl Job for Deleting {
    fn on_answer(mut self: Box<Self>, part: usize, answer: Answer, call: &mut Call<'_>) -> Step {
        let deleted = answer.reply(Some);
        if let Some(result) = self.response.responses.get_mut(part) {
            let by_id = !result.topic_id.is_zero();
            if let (false, Some(name)) = (by_id, &result.name) {
                result.topic_id = call.session.topics.id(name);
            }
            match deleted {
                Ok(_) => call.session.topics.forget_id(result.topic_id),
                Err(Refusal::NotFound { .. }) => result.error_code = missing(by_id),
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
