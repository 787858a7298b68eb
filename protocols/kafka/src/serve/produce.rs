//! Produce: each batch is checked and appended as it came.

use bytes::Bytes;
use smallvec::SmallVec;
use trivium_core::{
    Command, Offset, Refusal, Reply, Text, Timestamp, transaction::TransactionPart,
};

use crate::{
    batch,
    call::{Answer, Call, Job, Step},
    error::{ErrorCode, is_missing_log},
    messages::produce::*,
    serve::{
        produce_errors::{Target, code, record_errors, rejected},
        text,
    },
};

/// From this version on, topics have ids instead of names.
const BY_ID: i16 = 13;

/// From this version on, a batch adds its partition to its transaction (KIP-890).
pub(super) const IMPLICIT: i16 = 12;
/// From this version on, producers know a code that tells them to abort.
pub(super) const ABORTABLE: i16 = 11;

/// Appends under way.
struct Producing {
    acks: i16,
    response: ProduceResponse,
    /// Where in the response each append belongs.
    parts: SmallVec<[Part; 4]>,
    left: usize,
}

struct Part {
    topic: u32,
    partition: u32,
    log: Text,
    is_compressed: bool,
    /// What is wrong with its records already. That there is no such topic counts first.
    fault: Option<batch::Fault>,
}

pub(crate) fn start(request: ProduceRequest, call: &mut Call<'_>) -> Step {
    let refused = refused_whole(&request, call).err();
    let transaction = request.transactional_id.clone().map(|id| TransactionPart {
        id,
        implicit: call.version() >= IMPLICIT,
    });
    let mut job = Producing {
        acks: request.acks,
        response: ProduceResponse::default(),
        parts: SmallVec::new(),
        left: 0,
    };
    for topic in request.topic_data {
        let name =
            call.session
                .topics
                .resolve(call.version() >= BY_ID, &topic.name, topic.topic_id);
        let topic_id = topic.topic_id;
        if topic.partition_data.is_empty() {
            continue;
        }
        let mut result = TopicProduceResponse {
            name: topic.name,
            topic_id: topic.topic_id,
            ..TopicProduceResponse::default()
        };
        for PartitionProduceData { index, records } in topic.partition_data {
            let mut partition = PartitionProduceResponse {
                index,
                base_offset: -1,
                ..Default::default()
            };
            let log = match &refused {
                None => place(&name, index),
                Some(fault) => Err(fault.clone()),
            };
            match log {
                Ok((log, number)) => {
                    let only = batch::only(&records.unwrap_or_default(), call.version());
                    // The core takes no empty batch, wherever it is to go.
                    let (batch, fault) = match only {
                        Ok(batch) => (batch, None),
                        Err(fault) => (Bytes::new(), Some(fault)),
                    };
                    let is_compressed = batch::is_compressed(&batch);
                    call.submit(job.parts.len(), |token| Command::Append {
                        token,
                        log: log.clone(),
                        partition: number,
                        batch,
                        transaction: transaction.clone(),
                        id: (!topic_id.is_zero()).then_some(topic_id.0),
                    });
                    job.parts.push(Part {
                        topic: job.response.responses.len() as u32,
                        partition: result.partition_responses.len() as u32,
                        log,
                        is_compressed,
                        fault,
                    });
                }
                Err((code, text)) => {
                    partition.error_code = code;
                    partition.error_message = Some(text.into());
                }
            }
            result.partition_responses.push(partition);
        }
        job.response.responses.push(result);
    }
    job.left = job.parts.len();
    match job.left {
        0 => job.finish(call),
        _ => Step::Wait(Box::new(job)),
    }
}

/// The log and the number of a partition.
fn place(log: &Result<Text, ErrorCode>, index: i32) -> Result<(Text, u32), batch::Fault> {
    let log = log
        .clone()
        .map_err(|code| (code, "no topic with this id".into()))?;
    let number = u32::try_from(index).map_err(|_| {
        let text = "no partition with a negative number".into();
        (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, text)
    })?;
    Ok((log, number))
}

/// Why nothing of the request is taken. While the broker is short of disk or memory a producer is told so, and tries
/// again for as long as it was told to.
fn refused_whole(request: &ProduceRequest, call: &Call<'_>) -> Result<(), batch::Fault> {
    let topics = request.topic_data.iter();
    let records = topics.flat_map(|topic| &topic.partition_data);
    let mut is_transactional = false;
    for records in records.filter_map(|partition| partition.records.as_ref()) {
        is_transactional |= batch::is_transactional(records, call.version())?;
    }
    let refused = |code, text: &str| Err((code, text.into()));
    if is_transactional && request.transactional_id.is_none() {
        let code = ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED;
        return refused(code, "a transaction has a transactional id");
    }
    if request
        .transactional_id
        .as_ref()
        .is_some_and(|id| id.is_empty())
    {
        return refused(ErrorCode::INVALID_REQUEST, "the transactional id is empty");
    }
    if !(-1..=1).contains(&request.acks) {
        let code = ErrorCode::INVALID_REQUIRED_ACKS;
        return refused(code, "acks must be -1, 0 or 1");
    }
    if call.session.is_blocked {
        let code = ErrorCode::KAFKA_STORAGE_ERROR;
        return refused(code, "the broker is low on disk or memory");
    }
    Ok(())
}

/// A batch that was appended: its first offset, its time where that is the broker's, and where the log begins.
type Appended = (Offset, Option<Timestamp>, Offset);

/// Why one was not, and where the log begins if that is known.
type NotAppended = (Refusal, Option<Offset>);

impl Producing {
    fn settle(
        &mut self,
        part: usize,
        appended: Result<Appended, NotAppended>,
        call: &mut Call<'_>,
    ) {
        let Some(part) = self.parts.get_mut(part) else {
            return;
        };
        let topic = &mut self.response.responses[part.topic as usize];
        let partition = &mut topic.partition_responses[part.partition as usize];
        match appended {
            Ok((base, timestamp, log_start)) => {
                partition.base_offset = base.0 as i64;
                partition.log_append_time_ms = timestamp.map_or(-1, |timestamp| timestamp.0 as i64);
                partition.log_start_offset = log_start.0 as i64;
            }
            // The log is there, and was given nothing to take.
            Err((Refusal::Batch(_), _)) if let Some((code, text)) = part.fault.take() => {
                partition.error_code = code;
                partition.error_message = Some(text.into());
            }
            Err((refusal, log_start)) => {
                let code = code(&refusal, call.version());
                let names_start = !matches!(
                    code,
                    ErrorCode::CORRUPT_MESSAGE | ErrorCode::MESSAGE_TOO_LARGE
                );
                if let Some(log_start) = log_start.filter(|_| names_start) {
                    partition.log_start_offset = log_start.0 as i64;
                }
                partition.error_code = code;
                if let Refusal::Records(faults) = &refusal {
                    let target = Target {
                        topic: &part.log,
                        partition: partition.index,
                        is_compressed: part.is_compressed,
                    };
                    let errors = record_errors(faults, &target);
                    partition.error_message = Some(rejected(&errors, code).into());
                    partition.record_errors = errors;
                } else {
                    partition.error_message = text(&refusal);
                }
                let is_gone =
                    is_missing_log(&refusal) || matches!(refusal, Refusal::Replaced { .. });
                if is_gone && call.version() >= BY_ID {
                    partition.error_code = ErrorCode::UNKNOWN_TOPIC_ID;
                    call.session.topics.forget_id(topic.topic_id);
                }
            }
        }
    }

    /// Acks 0 has no response: all that a client can be told is that the connection closes.
    fn finish(self, call: &Call<'_>) -> Step {
        call.cost.produce(&call.session.throttle);
        if self.acks != 0 {
            return call.respond(&self.response);
        }
        let mut partitions = self
            .response
            .responses
            .into_iter()
            .flat_map(|topic| topic.partition_responses);
        match partitions.find(|partition| partition.error_code.is_err()) {
            Some(failed) => Step::Close(failed.error_message.unwrap_or_default().to_string()),
            None => Step::Silence,
        }
    }
}

impl Job for Producing {
    fn on_answer(mut self: Box<Self>, part: usize, answer: Answer, call: &mut Call<'_>) -> Step {
        let answered = answer.reply(|reply| match reply {
            Reply::Appended {
                base,
                timestamp,
                log_start,
            } => Some(Ok((base, timestamp, log_start))),
            Reply::NotAppended { refusal, log_start } => Some(Err((*refusal, Some(log_start)))),
            _ => None,
        });
        let appended = answered.unwrap_or_else(|refusal| Err((refusal, None)));
        self.settle(part, appended, call);
        self.left -= 1;
        match self.left {
            0 => self.finish(call),
            _ => Step::Wait(self),
        }
    }

    fn may_overlap(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use trivium_core::{BatchError, Event, RecordFault, Token};

    use super::*;
    use crate::{
        api::ApiKey,
        script::{Script, log, not_found},
        wire::Uuid,
    };

    fn request(acks: i16, records: &Bytes) -> ProduceRequest {
        let partition_data = vec![PartitionProduceData {
            index: 2,
            records: Some(records.clone()),
        }];
        let topic = TopicProduceData {
            name: "ab".into(),
            topic_id: Uuid([2; 16]),
            partition_data,
        };
        ProduceRequest {
            acks,
            timeout_ms: 1000,
            topic_data: vec![topic],
            ..Default::default()
        }
    }

    fn appends(script: &mut Script) -> Vec<(Token, Bytes)> {
        let append = |command| match command {
            Command::Append {
                token,
                log,
                partition: 2,
                batch,
                ..
            } if log == "ab" => (token, batch),
            other => panic!("{other:?}"),
        };
        script.commands().into_iter().map(append).collect()
    }

    fn appended(base: u64) -> Result<Reply, Refusal> {
        Ok(Reply::Appended {
            base: Offset(base),
            timestamp: None,
            log_start: Offset(1),
        })
    }

    fn partition(response: ProduceResponse) -> PartitionProduceResponse {
        response
            .responses
            .into_iter()
            .next()
            .unwrap()
            .partition_responses
            .into_iter()
            .next()
            .unwrap()
    }

    /// Bytes by the protocol guide: v3, no transactional id, acks -1, one topic, one partition.
    #[test]
    fn version_3_to_the_byte() {
        let batch = batch::sample(b"v");
        let mut bytes = b"\0\0\0\x27\0\0\0\x03\0\0\0\x01\xff\xff\xff\xff\xff\xff\0\0\x03\xe8\0\0\0\x01\0\x02ab\0\0\0\x01\0\0\0\x02".to_vec();
        bytes.extend((batch.len() as i32).to_be_bytes());
        bytes.extend(&batch);
        bytes[3] = (bytes.len() - 4) as u8;
        let mut script = Script::open();
        script.bytes(&bytes).unwrap();
        let commands = appends(&mut script);
        assert_eq!(commands[0].1, batch);
        script.done(commands[0].0, appended(7));
        let expected = b"\0\0\0\x2a\0\0\0\x01\0\0\0\x01\0\x02ab\0\0\0\x01\0\0\0\x02\0\0\0\0\0\0\0\0\0\x07\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0";
        assert_eq!(script.output()[..], *expected);
    }

    /// Requests overlap; responses keep the order of the requests.
    #[test]
    fn produce_requests_overlap_and_are_answered_in_order() {
        let mut script = Script::open();
        script.send(ApiKey::Produce, 9, &request(-1, &batch::sample(b"first")));
        assert!(script.wants_input());
        script.send(ApiKey::Produce, 9, &request(1, &batch::sample(b"second")));
        let commands = appends(&mut script);
        assert_eq!(
            (&commands[0].1, &commands[1].1),
            (&batch::sample(b"first"), &batch::sample(b"second"))
        );
        script.done(commands[1].0, appended(1));
        assert!(
            script.output().is_empty(),
            "the second one waits for its turn"
        );
        script.done(commands[0].0, appended(0));
        let responses = script.responses::<ProduceResponse>(ApiKey::Produce, 9);
        let order: Vec<_> = responses
            .into_iter()
            .map(|(id, it)| (id, partition(it).base_offset))
            .collect();
        assert_eq!(order, [(1, 0), (2, 1)]);
    }

    #[test]
    fn other_requests_wait_for_the_appends() {
        let mut script = Script::open();
        script.send(ApiKey::Produce, 9, &request(-1, &batch::sample(b"first")));
        script.send(
            ApiKey::FindCoordinator,
            0,
            &crate::messages::groups::FindCoordinatorRequest::default(),
        );
        assert!(!script.wants_input());
        let commands = appends(&mut script);
        script.done(commands[0].0, appended(0));
        assert!(script.wants_input());
        let output = script.output();
        assert_eq!(
            (output[7], output[output.len() - 22..].len()),
            (1, 22),
            "both are answered"
        );
    }

    /// acks 0: silence when all is well, and the connection's end when not.
    #[test]
    fn acks_0_has_no_response() {
        let mut script = Script::open();
        script.send(ApiKey::Produce, 9, &request(0, &batch::sample(b"v")));
        let commands = appends(&mut script);
        script.done(commands[0].0, appended(0));
        assert!(script.output().is_empty());

        script.send(ApiKey::Produce, 9, &request(0, &batch::sample(b"v")));
        let token = appends(&mut script)[0].0;
        assert!(
            script
                .event(Event::Done {
                    token,
                    result: Err(not_found("ab"))
                })
                .is_err()
        );
        assert!(script.output().is_empty());
    }

    /// What is no batch goes no further, but that its log is not there counts first.
    #[test]
    fn what_is_wrong_is_told_per_partition() {
        let whole = batch::sample(b"v");
        let two = [&whole[..], &whole[..]].concat().into();
        let told = |request, result: Option<Result<Reply, Refusal>>| {
            let mut script = Script::open();
            script.send(ApiKey::Produce, 9, &request);
            if let Some(result) = result {
                let (token, batch) = appends(&mut script).remove(0);
                assert!(batch.is_empty());
                script.done(token, result);
            }
            partition(script.response(ApiKey::Produce, 9))
        };
        let not_appended = Reply::NotAppended {
            refusal: Box::new(Refusal::Batch(BatchError::Length)),
            log_start: Offset(3),
        };
        let told = [
            told(request(-1, &two), Some(Ok(not_appended))),
            told(request(-1, &two), Some(Err(not_found("ab")))),
            told(request(5, &whole), None),
        ];
        let codes = told.each_ref().map(|it| it.error_code.0);
        assert_eq!(codes, [87, 3, 21]);
        for partition in told {
            assert_eq!(
                (partition.base_offset, partition.log_start_offset),
                (-1, -1)
            );
            assert!(partition.error_message.is_some());
        }
    }

    /// `KafkaApis.handleProduceRequest`: without a transactional id, nothing of the request is taken.
    #[test]
    fn a_transaction_without_an_id_refuses_the_request() {
        let mut bytes = batch::sample(b"v").to_vec();
        bytes[22] = 0x10;
        let mut script = Script::open();
        script.send(ApiKey::Produce, 9, &request(-1, &bytes.into()));
        let refused = partition(script.response(ApiKey::Produce, 9));
        assert_eq!(refused.error_code, ErrorCode(53));
    }

    /// A refusal by the partition says where the log begins, unless the batch was damaged or too large.
    #[test]
    fn a_refusal_names_the_start_of_the_log() {
        let refusals = [
            (Refusal::Batch(BatchError::Record), 87, 3),
            (Refusal::Batch(BatchError::Compression), -1, 3),
            (Refusal::Batch(BatchError::Crc), 2, -1),
            (Refusal::Records(vec![(4, RecordFault::NoKey)]), 87, 3),
        ];
        for (refusal, code, start) in refusals {
            let mut script = Script::open();
            script.send(ApiKey::Produce, 9, &request(-1, &batch::sample(b"v")));
            let token = appends(&mut script)[0].0;
            let log_start = Offset(3);
            let refusal = Box::new(refusal);
            script.done(token, Ok(Reply::NotAppended { refusal, log_start }));
            let partition = partition(script.response(ApiKey::Produce, 9));
            assert_eq!(
                (partition.error_code.0, partition.log_start_offset),
                (code, start)
            );
        }
    }

    /// DESIGN section 3.5: while the broker is short of disk or memory, nothing is taken and producers are told.
    #[test]
    fn a_shortage_is_told() {
        let mut script = Script::open();
        let reason = "low on disk".into();
        script.event(Event::Blocked { reason }).unwrap();
        script.send(ApiKey::Produce, 9, &request(-1, &batch::sample(b"v")));
        assert!(appends(&mut script).is_empty());
        let refused = partition(script.response(ApiKey::Produce, 9));
        assert_eq!(refused.error_code, ErrorCode::KAFKA_STORAGE_ERROR);
        script.event(Event::Unblocked).unwrap();
        script.send(ApiKey::Produce, 9, &request(-1, &batch::sample(b"v")));
        assert_eq!(appends(&mut script).len(), 1);
    }

    #[test]
    fn what_the_core_refuses_has_its_code() {
        let refusals = [
            (not_found("ab"), 3),
            (Refusal::Denied("no".into()), 29),
            (
                Refusal::TooLarge {
                    name: "ab".into(),
                    size: 2,
                    limit: 1,
                },
                10,
            ),
            (Refusal::Invalid("no key".into()), 87),
            (Refusal::OutOfOrderSequence, 45),
            (Refusal::ProducerFenced, 47),
            (Refusal::StorageFailed("disk".into()), 56),
        ];
        for (refusal, code) in refusals {
            let mut script = Script::open();
            script.send(ApiKey::Produce, 9, &request(-1, &batch::sample(b"v")));
            let token = appends(&mut script)[0].0;
            script.done(token, Err(refusal));
            let partition = partition(script.response(ApiKey::Produce, 9));
            assert_eq!(partition.error_code, ErrorCode(code));
        }
    }

    /// KIP-516: v13 names topics by id. The ids are learned once; a log that has gone is forgotten.
    #[test]
    fn version_13_is_by_id() {
        let mut script = Script::open();
        script.send(ApiKey::Produce, 13, &request(-1, &batch::sample(b"v")));
        assert!(
            !script.wants_input(),
            "appends of later requests must not overtake"
        );
        assert_eq!(script.describe(vec![Ok(log("ab", 3))]), None);
        let token = appends(&mut script)[0].0;
        script.done(token, appended(4));
        assert_eq!(
            partition(script.response(ApiKey::Produce, 13)).base_offset,
            4
        );

        script.send(ApiKey::Produce, 13, &request(-1, &batch::sample(b"v")));
        let token = appends(&mut script)[0].0;
        script.done(token, Err(not_found("ab")));
        assert_eq!(
            partition(script.response(ApiKey::Produce, 13)).error_code,
            ErrorCode::UNKNOWN_TOPIC_ID
        );

        script.send(ApiKey::Produce, 13, &request(-1, &batch::sample(b"v")));
        script.describe(vec![]);
        assert_eq!(
            partition(script.response(ApiKey::Produce, 13)).error_code,
            ErrorCode::UNKNOWN_TOPIC_ID
        );
    }
}
