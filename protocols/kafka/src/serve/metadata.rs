//! Metadata: the broker and the topics, which are created on the way when the client allows it.
//!
//! ```text
//! describe ── all there ──────────────────────────────► respond
//!     └─ some missing, may create ─► create ──────────► respond
//!             (another connection was faster) └─► describe ─┘
//! ```

use rustc_hash::FxHashSet;
use trivium_core::{Change, Kind, LogInfo, Refusal, Reply, Text};

use crate::{
    call::{Answer, Call, Job, Step},
    config,
    error::ErrorCode,
    messages::metadata::*,
    serve::{CLUSTER_OPERATIONS, NOT_ASKED, TOPIC_OPERATIONS, logs},
    topics::{is_internal, is_legal},
    wire::Uuid,
};

/// A request whose topics are being described or created.
struct Describing {
    topics: Vec<MetadataResponseTopic>,
    /// Which of `topics` were asked for; all logs when there is none.
    asked: Option<Vec<usize>>,
    may_create: bool,
    topic_operations: i32,
    cluster_operations: i32,
}

/// A request some of whose topics are being created.
struct Creating {
    describing: Describing,
    left: usize,
    /// Which of the topics somebody else has created meanwhile.
    overtaken: Vec<usize>,
}

pub(crate) fn start(request: MetadataRequest, call: &mut Call<'_>) -> Step {
    let operations = |asked, operations| if asked { operations } else { NOT_ASKED };
    let mut job = Describing {
        topics: Vec::new(),
        asked: None,
        may_create: request.allow_auto_topic_creation && call.session.options.auto_create_topics,
        topic_operations: operations(
            request.include_topic_authorized_operations,
            TOPIC_OPERATIONS,
        ),
        cluster_operations: operations(
            request.include_cluster_authorized_operations,
            CLUSTER_OPERATIONS,
        ),
    };
    // In version 0 an empty list is what null is later.
    let all = |topics: &Vec<_>| call.header.version == 0 && topics.is_empty();
    let Some(topics) = request.topics.filter(|topics| !all(topics)) else {
        call.describe(0, None);
        return Step::Wait(Box::new(job));
    };
    if let Some(code) = misnamed(&topics, call.version()) {
        return call.respond(&refused(topics, code));
    }
    let mut names = FxHashSet::default();
    for MetadataRequestTopic { topic_id, name } in topics {
        let known = if topic_id.is_zero() {
            name
        } else {
            call.session.topics.name(topic_id).cloned()
        };
        if known.clone().is_none_or(|name| names.insert(name)) {
            job.ask(known, topic_id);
        }
    }
    let asked = (0..job.topics.len())
        .filter(|at| !job.topics[*at].error_code.is_err())
        .collect();
    job.describe(asked, call)
}

/// From this version on, topics may have ids instead of names.
const BY_ID: i16 = 12;

/// Why a request is refused as a whole: topics by id before there were ids, as by Kafka, or neither name nor id.
fn misnamed(topics: &[MetadataRequestTopic], version: i16) -> Option<ErrorCode> {
    let is_odd = |topic: &MetadataRequestTopic| topic.name.is_none() || !topic.topic_id.is_zero();
    match version {
        ..BY_ID => topics
            .iter()
            .any(is_odd)
            .then_some(ErrorCode::INVALID_REQUEST),
        _ => topics
            .iter()
            .any(|topic| topic.name.is_none() && topic.topic_id.is_zero())
            .then_some(ErrorCode::UNKNOWN_SERVER_ERROR),
    }
}

fn refused(topics: Vec<MetadataRequestTopic>, error_code: ErrorCode) -> MetadataResponse {
    let topic = |topic: MetadataRequestTopic| MetadataResponseTopic {
        error_code,
        name: Some(topic.name.unwrap_or_default()),
        topic_id: topic.topic_id,
        topic_authorized_operations: NOT_ASKED,
        ..Default::default()
    };
    MetadataResponse {
        error_code,
        controller_id: -1,
        topics: topics.into_iter().map(topic).collect(),
        cluster_authorized_operations: NOT_ASKED,
        ..Default::default()
    }
}

/// In which order Kafka lists topics: by ids that are not there, topics, and what is wrong with the others.
fn rank(topic: &MetadataResponseTopic) -> u8 {
    match topic.error_code {
        ErrorCode::UNKNOWN_TOPIC_ID => 0,
        ErrorCode::NONE => 1,
        _ => 2,
    }
}

impl Describing {
    /// Adds a topic that is asked for, or what is wrong with it.
    fn ask(&mut self, known: Option<Text>, topic_id: Uuid) {
        let error_code = match &known {
            None if !topic_id.is_zero() => ErrorCode::UNKNOWN_TOPIC_ID,
            Some(name) if is_legal(name) => ErrorCode::NONE,
            _ => ErrorCode::INVALID_TOPIC_EXCEPTION,
        };
        let topic_authorized_operations = self.topic_operations;
        self.topics.push(MetadataResponseTopic {
            error_code,
            name: known,
            topic_id,
            topic_authorized_operations,
            ..Default::default()
        });
    }

    fn name(&self, at: usize) -> Text {
        self.topics[at].name.clone().unwrap_or_default()
    }

    fn describe(mut self, asked: Vec<usize>, call: &mut Call<'_>) -> Step {
        if asked.is_empty() {
            return self.respond(call);
        }
        call.describe(0, Some(asked.iter().map(|at| self.name(*at)).collect()));
        self.asked = Some(asked);
        Step::Wait(Box::new(self))
    }

    /// Takes what is known about the topics asked for; those that are not there, and may be, are created.
    fn describe_done(
        mut self,
        asked: Vec<usize>,
        logs: Vec<Result<LogInfo, Refusal>>,
        call: &mut Call<'_>,
    ) -> Step {
        let mut missing = Vec::new();
        for (at, log) in asked.into_iter().zip(logs) {
            let by_id = !self.topics[at].topic_id.is_zero();
            match log {
                Ok(log) if by_id && log.uuid != self.topics[at].topic_id.0 => self.miss(at, by_id),
                Ok(log) => self.found(at, &log, call),
                Err(Refusal::NotFound { .. })
                    if self.may_create && !by_id && !is_internal(&self.name(at)) =>
                {
                    missing.push(at)
                }
                Err(Refusal::NotFound { .. }) => self.miss(at, by_id),
                Err(refusal) => self.topics[at].error_code = ErrorCode::from(&refusal),
            }
        }
        if missing.is_empty() {
            return self.respond(call);
        }
        for at in &missing {
            let name = self.name(*at);
            let spec = config::spec(&name, call.session.options.default_partitions, Vec::new());
            call.define(
                *at,
                Change::CreateLog {
                    name,
                    spec,
                    validate_only: false,
                },
            );
        }
        Step::Wait(Box::new(Creating {
            left: missing.len(),
            describing: self,
            overtaken: Vec::new(),
        }))
    }

    fn miss(&mut self, at: usize, by_id: bool) {
        self.topics[at].error_code = if by_id {
            ErrorCode::UNKNOWN_TOPIC_ID
        } else {
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
        };
    }

    fn found(&mut self, at: usize, log: &LogInfo, call: &mut Call<'_>) {
        call.session.topics.learn(log);
        let node_id = call.session.options.node_id;
        let topic = &mut self.topics[at];
        topic.topic_id = Uuid(log.uuid);
        topic.is_internal = is_internal(&log.name);
        topic.partitions = (0..log.spec.partitions as i32)
            .map(|index| partition(index, node_id))
            .collect();
    }

    fn respond(mut self, call: &Call<'_>) -> Step {
        self.topics.sort_by_key(rank);
        let (host, port) = call.session.advertised();
        let options = &call.session.options;
        call.respond(&MetadataResponse {
            brokers: vec![MetadataResponseBroker {
                node_id: options.node_id,
                host,
                port,
                rack: None,
            }],
            cluster_id: Some(options.cluster_id.clone()),
            controller_id: options.node_id,
            topics: self.topics,
            cluster_authorized_operations: self.cluster_operations,
            ..Default::default()
        })
    }
}

fn partition(partition_index: i32, node_id: i32) -> MetadataResponsePartition {
    MetadataResponsePartition {
        partition_index,
        leader_id: node_id,
        leader_epoch: 0,
        replica_nodes: vec![node_id],
        isr_nodes: vec![node_id],
        ..Default::default()
    }
}

impl Job for Describing {
    fn on_answer(mut self: Box<Self>, _part: usize, answer: Answer, call: &mut Call<'_>) -> Step {
        let logs = match logs(answer) {
            Ok(logs) => logs,
            Err(refusal) => {
                let asked = self.asked.take().into_iter().flatten();
                asked.for_each(|at| self.topics[at].error_code = ErrorCode::from(&refusal));
                return self.respond(call);
            }
        };
        if let Some(asked) = self.asked.take() {
            return self.describe_done(asked, logs, call);
        }
        for log in logs.into_iter().flatten().filter(|log| is_legal(&log.name)) {
            let (name, topic_authorized_operations) =
                (Some(log.name.clone()), self.topic_operations);
            self.topics.push(MetadataResponseTopic {
                name,
                topic_authorized_operations,
                ..Default::default()
            });
            self.found(self.topics.len() - 1, &log, call);
        }
        self.respond(call)
    }
}

impl Job for Creating {
    fn on_answer(mut self: Box<Self>, part: usize, answer: Answer, call: &mut Call<'_>) -> Step {
        let created = answer.reply(|reply| match reply {
            Reply::Logs(logs) => logs.into_iter().next(),
            _ => None,
        });
        match created.and_then(|log| log) {
            Ok(log) => self.describing.found(part, &log, call),
            Err(Refusal::Exists {
                kind: Kind::Log, ..
            }) => self.overtaken.push(part),
            // A queue has the name: clients take this code as final and say so.
            Err(Refusal::Exists { .. }) => {
                self.describing.topics[part].error_code = ErrorCode::INVALID_TOPIC_EXCEPTION
            }
            Err(refusal) => self.describing.topics[part].error_code = ErrorCode::from(&refusal),
        }
        self.left -= 1;
        if self.left > 0 {
            return Step::Wait(self);
        }
        // Not again: what was created and deleted meanwhile is missing.
        self.describing.may_create = false;
        self.describing.describe(self.overtaken, call)
    }
}

#[cfg(test)]
mod tests {
    use trivium_core::Command;

    use super::*;
    use crate::{
        api::ApiKey,
        script::{Script, exists, log, not_found},
    };

    fn asking(names: &[&str]) -> MetadataRequest {
        let topic = |name: &&str| MetadataRequestTopic {
            name: Some((*name).into()),
            ..Default::default()
        };
        MetadataRequest {
            topics: Some(names.iter().map(topic).collect()),
            ..Default::default()
        }
    }

    fn by_id(id: u8) -> MetadataRequest {
        let topic = MetadataRequestTopic {
            topic_id: Uuid([id; 16]),
            name: None,
        };
        MetadataRequest {
            topics: Some(vec![topic]),
            ..Default::default()
        }
    }

    fn codes(response: &MetadataResponse) -> Vec<i16> {
        response
            .topics
            .iter()
            .map(|topic| topic.error_code.0)
            .collect()
    }

    /// Bytes by the protocol guide: v1, one topic of one partition on broker 1, which is the controller.
    #[test]
    fn version_1_to_the_byte() {
        let mut script = Script::open();
        script
            .bytes(b"\0\0\0\x13\0\x03\0\x01\0\0\0\x05\0\x01c\0\0\0\x01\0\x02ab")
            .unwrap();
        assert_eq!(
            script.describe(vec![Ok(log("ab", 1))]),
            Some(vec!["ab".into()])
        );
        let broker = b"\0\0\0\x01\0\0\0\x01\0\x09127.0.0.1\0\0\x23\x84\xff\xff\0\0\0\x01";
        let topic = b"\0\0\0\x01\0\0\0\x02ab\0\0\0\0\x01\0\0\0\0\0\0\0\0\0\x01\0\0\0\x01\0\0\0\x01\0\0\0\x01\0\0\0\x01";
        let expected = [&b"\0\0\0\x4a\0\0\0\x05"[..], broker, topic].concat();
        assert_eq!(script.output()[..], expected);
    }

    /// Null means all from version 1 on, an empty list in version 0; from version 1 that means none.
    #[test]
    fn all_none_and_names_that_kafka_cannot_have() {
        for (version, topics) in [(0, Some(vec![])), (1, None), (12, None)] {
            let mut script = Script::open();
            script.send(
                ApiKey::Metadata,
                version,
                &MetadataRequest {
                    topics,
                    ..Default::default()
                },
            );
            assert_eq!(
                script.describe(vec![Ok(log("ab", 2)), Ok(log("not/kafka", 1))]),
                None
            );
            let response: MetadataResponse = script.response(ApiKey::Metadata, version);
            assert_eq!(response.topics.len(), 1);
            assert_eq!(response.topics[0].partitions.len(), 2);
        }
        let mut script = Script::open();
        script.send(ApiKey::Metadata, 12, &asking(&[]));
        assert_eq!(
            script
                .response::<MetadataResponse>(ApiKey::Metadata, 12)
                .topics,
            vec![]
        );
    }

    #[test]
    fn a_missing_topic_is_created_and_answered() {
        let mut script = Script::open();
        script.send(
            ApiKey::Metadata,
            12,
            &asking(&["new", "old", "a/b", "__mine", "new"]),
        );
        let asked = script.describe(vec![
            Err(not_found("new")),
            Ok(log("old", 3)),
            Err(not_found("__mine")),
        ]);
        assert_eq!(asked.unwrap(), ["new", "old", "__mine"]);
        let token = script.command(|command| match command {
            Command::Define {
                token,
                change:
                    Change::CreateLog {
                        name,
                        spec,
                        validate_only: false,
                    },
            } if name == "new" => {
                assert_eq!(spec.settings[0], ("mq.bind".into(), "amq.topic:new".into()));
                Some(token)
            }
            _ => None,
        });
        script.done(token, Ok(Reply::Logs(vec![Ok(log("new", 1))])));
        let response: MetadataResponse = script.response(ApiKey::Metadata, 12);
        assert_eq!(codes(&response), [0, 0, 17, 3]);
        assert_eq!(response.topics[0].topic_id, Uuid([3; 16]));
    }

    #[test]
    fn nothing_is_created_for_a_client_that_does_not_allow_it() {
        let mut script = Script::open();
        script.send(
            ApiKey::Metadata,
            4,
            &MetadataRequest {
                allow_auto_topic_creation: false,
                ..asking(&["new"])
            },
        );
        script.describe(vec![Err(not_found("new"))]);
        assert_eq!(codes(&script.response(ApiKey::Metadata, 4)), [3]);
    }

    #[test]
    fn creation_may_be_overtaken_or_collide_with_a_queue() {
        let mut script = Script::open();
        script.send(ApiKey::Metadata, 9, &asking(&["both", "queue"]));
        script.describe(vec![Err(not_found("both")), Err(not_found("queue"))]);
        for (command, kind) in script.commands().into_iter().zip([Kind::Log, Kind::Queue]) {
            let Command::Define { token, .. } = command else {
                panic!("{command:?}")
            };
            script.done(token, Err(exists(kind, "it")));
        }
        assert_eq!(script.describe(vec![Ok(log("both", 1))]).unwrap(), ["both"]);
        assert_eq!(codes(&script.response(ApiKey::Metadata, 9)), [0, 17]);
    }

    /// KIP-516: an id is looked up among all logs, and is unknown once its topic was created again.
    #[test]
    fn topics_are_found_by_id() {
        let mut script = Script::open();
        script.send(ApiKey::Metadata, 12, &by_id(2));
        assert_eq!(script.describe(vec![Ok(log("ab", 1))]), None);
        script.describe(vec![Ok(log("ab", 1))]);
        let response: MetadataResponse = script.response(ApiKey::Metadata, 12);
        assert_eq!(
            (codes(&response), &response.topics[0].name),
            (vec![0], &Some("ab".into()))
        );

        script.send(ApiKey::Metadata, 12, &by_id(2));
        script.describe(vec![Ok(LogInfo {
            uuid: [9; 16],
            ..log("ab", 1)
        })]);
        assert_eq!(codes(&script.response(ApiKey::Metadata, 12)), [100]);

        script.send(ApiKey::Metadata, 12, &by_id(7));
        script.describe(vec![]);
        assert_eq!(codes(&script.response(ApiKey::Metadata, 12)), [100]);
    }
}
