//! Fetch: batches from where a consumer is, or a wait for them.
//!
//! What a request leaves out because the broker knows it, and a response because the client does, is up to
//! [`super::fetch_sessions`].

use std::time::Duration;

use trivium_core::{
    Command, Fetch, FetchPartition as Wanted, Fetched, Isolation, Offset, Refusal, Text,
};

use crate::{
    call::{Answer, Call, Job, Step},
    error::{ErrorCode, is_missing_log},
    messages::{fetch::*, produce::LeaderIdAndEpoch},
    records::{Records, StoredBatch},
    serve::fetch_sessions::{self, Use},
    throttle::fetch_bytes_max,
    wire::Uuid,
};

/// From this version on, topics have ids instead of names.
const BY_ID: i16 = 13;
/// Bytes of one response at most, whatever the client asks for (`fetch.max.bytes` of a Kafka broker).
const BYTES_MAX: i32 = 55 * 1024 * 1024;
/// Longer than any client waits for a response.
const WAIT_MAX_MS: i32 = 5 * 60 * 1000;
const READ_UNCOMMITTED: i8 = 0;
const READ_COMMITTED: i8 = 1;
/// From this version on, who is told that this is not the leader is told who is.
const WITH_LEADERS: i16 = 16;

/// A fetch under way. There may be ten thousand that wait, so it is what the response needs, and not the response.
struct Fetching {
    topics: Vec<AskedTopic>,
    isolation: Isolation,
    used: Use,
}

struct AskedTopic {
    name: Text,
    id: Uuid,
    partitions: Vec<Asked>,
}

struct Asked {
    index: i32,
    /// Why the core is not asked for it.
    fault: ErrorCode,
    /// Whether the fetcher knows of which leader its last record is.
    has_epoch: bool,
    from: Offset,
}

pub(crate) fn start(mut request: FetchRequest, call: &mut Call<'_>) -> Step {
    let by_id = call.version() >= BY_ID;
    fetch_sessions::make_distinct(&mut request.topics);
    let ids = call.session.options.fetch_sessions.clone();
    let used = match call.session.fetches.begin(&mut request, by_id, &ids) {
        Ok(used) => used,
        Err(error_code) => {
            return call.respond(&FetchResponse {
                error_code,
                ..Default::default()
            });
        }
    };
    let isolation = match request.isolation_level {
        READ_COMMITTED => Isolation::Committed,
        READ_UNCOMMITTED => Isolation::Uncommitted,
        _ => return refused(&request, ErrorCode::UNKNOWN_SERVER_ERROR, call),
    };
    let is_follower = request.replica_id.max(request.replica_state.replica_id) >= 0;
    let count = request.topics.iter().map(|it| it.partitions.len()).sum();
    let (mut partitions, mut faulty) = (Vec::with_capacity(count), false);
    let topics = request.topics.into_iter().map(|topic| {
        let log = call
            .session
            .topics
            .resolve(by_id, &topic.topic, topic.topic_id);
        let mut asked = |asked: FetchPartition| {
            let wanted = log
                .clone()
                .and_then(|log| wanted(log, topic.topic_id, &asked, is_follower));
            let fault = wanted.as_ref().err().copied();
            faulty |= fault.is_some();
            partitions.extend(wanted);
            Asked {
                index: asked.partition,
                fault: fault.unwrap_or_default(),
                has_epoch: asked.last_fetched_epoch >= 0,
                from: Offset(asked.fetch_offset as u64),
            }
        };
        AskedTopic {
            partitions: topic.partitions.into_iter().map(&mut asked).collect(),
            name: topic.topic,
            id: topic.topic_id,
        }
    });
    let job = Fetching {
        topics: topics.collect(),
        isolation,
        used,
    };
    if partitions.is_empty() {
        let response = job.response(Vec::new(), call);
        return job.respond(response, call);
    }
    // An error is told at once.
    let wait = if faulty {
        0
    } else {
        request.max_wait_ms.clamp(0, WAIT_MAX_MS)
    };
    let fetch = Fetch {
        partitions,
        min_bytes: request.min_bytes.max(0) as usize,
        max_bytes: (request.max_bytes.clamp(0, BYTES_MAX) as usize)
            .min(fetch_bytes_max(&call.session.throttle).unwrap_or(usize::MAX)),
        wait: Duration::from_millis(wait as u64),
        isolation,
    };
    call.submit(0, |token| Command::Fetch { token, fetch });
    Step::Wait(Box::new(job))
}

/// What there is to say where a request as a whole makes no sense.
fn refused(request: &FetchRequest, code: ErrorCode, call: &mut Call<'_>) -> Step {
    let topics = request.topics.iter().filter(|_| call.version() < BY_ID);
    let responses = topics.map(|topic| FetchableTopicResponse {
        topic: topic.topic.clone(),
        topic_id: topic.topic_id,
        partitions: topic
            .partitions
            .iter()
            .map(|asked| PartitionData {
                partition_index: asked.partition,
                error_code: code,
                high_watermark: -1,
                aborted_transactions: Some(Vec::new()),
                ..Default::default()
            })
            .collect(),
    });
    call.respond(&FetchResponse {
        error_code: code,
        session_id: request.session_id,
        responses: responses.collect(),
        ..Default::default()
    })
}

fn wanted(
    log: Text,
    id: Uuid,
    asked: &FetchPartition,
    is_follower: bool,
) -> Result<Wanted, ErrorCode> {
    if asked.partition < 0 {
        return Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    }
    // No broker follows this one.
    if is_follower {
        return Err(ErrorCode::NOT_LEADER_OR_FOLLOWER);
    }
    // There has only ever been one leader, of epoch 0.
    if asked.current_leader_epoch > 0 {
        return Err(ErrorCode::UNKNOWN_LEADER_EPOCH);
    }
    // Where an epoch ends that never was, cannot be told.
    if asked.last_fetched_epoch > 0 {
        return Err(ErrorCode::OFFSET_OUT_OF_RANGE);
    }
    Ok(Wanted {
        log,
        id: (!id.is_zero()).then_some(id.0),
        partition: u32::try_from(asked.partition)
            .map_err(|_| ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?,
        from: Offset(
            u64::try_from(asked.fetch_offset).map_err(|_| ErrorCode::OFFSET_OUT_OF_RANGE)?,
        ),
        max_bytes: asked.partition_max_bytes.max(0) as usize,
    })
}

fn is_unknown(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION | ErrorCode::UNKNOWN_TOPIC_ID
    )
}

/// What is not there is told of last, as by Kafka.
fn unknown_last(responses: &mut Vec<FetchableTopicResponse>) {
    let mut unknown = Vec::new();
    for topic in responses.iter_mut() {
        if topic.partitions.iter().any(|it| is_unknown(it.error_code)) {
            let (last, first) = std::mem::take(&mut topic.partitions)
                .into_iter()
                .partition(|it| is_unknown(it.error_code));
            topic.partitions = first;
            unknown.push(FetchableTopicResponse {
                topic: topic.topic.clone(),
                topic_id: topic.topic_id,
                partitions: last,
            });
        }
    }
    if unknown.is_empty() {
        return;
    }
    responses.retain(|topic| !topic.partitions.is_empty());
    for topic in unknown {
        match responses
            .last_mut()
            .filter(|last| last.topic == topic.topic && last.topic_id == topic.topic_id)
        {
            Some(last) => last.partitions.extend(topic.partitions),
            None => responses.push(topic),
        }
    }
}

/// Bytes of records in a response.
fn bytes(response: &FetchResponse) -> usize {
    let partitions = response.responses.iter().flat_map(|it| &it.partitions);
    let batches = partitions.flat_map(|partition| &partition.records.0);
    batches.map(|batch| batch.bytes.len()).sum()
}

impl Fetching {
    fn respond(&self, mut response: FetchResponse, call: &mut Call<'_>) -> Step {
        let throttle = &call.session.throttle;
        call.cost.answer(throttle);
        // KIP-219: a client that has to wait gets nothing, and asks for the same again.
        let waits =
            !call.cost.wait().is_zero() || !call.cost.may_consume(throttle, || bytes(&response));
        match waits {
            true => response = call.session.fetches.put_off(self.used),
            false => call.session.fetches.end(self.used, &mut response),
        }
        unknown_last(&mut response.responses);
        call.respond(&response)
    }

    /// The response, with what the core has found of the partitions that it was asked for, in their order.
    fn response(&self, fetched: Vec<Fetched>, call: &mut Call<'_>) -> FetchResponse {
        let mut fetched = fetched.into_iter();
        let topic = |topic: &AskedTopic| FetchableTopicResponse {
            topic: topic.name.clone(),
            topic_id: topic.id,
            partitions: topic
                .partitions
                .iter()
                .map(|asked| {
                    let mut partition = self.empty(asked, call);
                    if !asked.fault.is_err()
                        && let Some(fetched) = fetched.next()
                    {
                        debug_assert_eq!(fetched.partition as i32, asked.index);
                        self.tell(&mut partition, topic.id, asked, fetched, call);
                    }
                    partition
                })
                .collect(),
        };
        FetchResponse {
            responses: self.topics.iter().map(topic).collect(),
            ..Default::default()
        }
    }

    /// A partition of which nothing is known.
    fn empty(&self, asked: &Asked, call: &Call<'_>) -> PartitionData {
        let current_leader = match asked.fault {
            ErrorCode::NOT_LEADER_OR_FOLLOWER if call.version() >= WITH_LEADERS => {
                LeaderIdAndEpoch {
                    leader_id: call.session.options.node_id,
                    leader_epoch: 0,
                }
            }
            _ => LeaderIdAndEpoch::default(),
        };
        PartitionData {
            partition_index: asked.index,
            error_code: asked.fault,
            high_watermark: -1,
            aborted_transactions: self.aborted(asked.fault),
            current_leader,
            ..Default::default()
        }
    }

    /// The aborted transactions of a partition that was not read: null unless the request is for committed records,
    /// and after an error none or null, as in Kafka, by whether it was looked for in vain or not read.
    fn aborted(&self, code: ErrorCode) -> Option<Vec<AbortedTransaction>> {
        match is_unknown(code) {
            true => Some(Vec::new()),
            false if code.is_err() => None,
            false => (self.isolation == Isolation::Committed).then(Vec::new),
        }
    }

    fn tell(
        &self,
        partition: &mut PartitionData,
        topic_id: Uuid,
        asked: &Asked,
        fetched: Fetched,
        call: &mut Call<'_>,
    ) {
        let bounds = |partition: &mut PartitionData| {
            partition.high_watermark = fetched.high_watermark.0 as i64;
            partition.last_stable_offset = fetched.last_stable.0 as i64;
            partition.log_start_offset = fetched.log_start.0 as i64;
        };
        match fetched.result {
            Ok(batches) => {
                bounds(partition);
                if let Some(aborted) = &mut partition.aborted_transactions {
                    aborted.extend(fetched.aborted.iter().map(|it| AbortedTransaction {
                        producer_id: it.producer,
                        first_offset: it.first.0 as i64,
                    }));
                }
                let stored = |batch: trivium_core::FetchedBatch| StoredBatch {
                    base: batch.base.0 as i64,
                    bytes: batch.bytes,
                };
                partition.records = Records(batches.into_iter().map(stored).collect());
            }
            // KIP-595: a fetcher that has more of epoch 0 than there is has read another log, and is told where
            // this one ends.
            Err(Refusal::OffsetOutOfRange(_))
                if asked.has_epoch && asked.from > fetched.high_watermark =>
            {
                bounds(partition);
                partition.diverging_epoch = EpochEndOffset {
                    epoch: 0,
                    end_offset: fetched.high_watermark.0 as i64,
                };
            }
            Err(refusal) => {
                partition.error_code = ErrorCode::from(&refusal);
                let is_replaced = matches!(refusal, Refusal::Replaced { .. });
                if is_replaced || is_missing_log(&refusal) && call.version() >= BY_ID {
                    call.session.topics.forget_id(topic_id);
                    // A session has met the topic: what it knows does not fit to the log, or the log has gone.
                    partition.error_code = match (self.used, is_replaced) {
                        (Use::Full(_), _) => ErrorCode::UNKNOWN_TOPIC_ID,
                        (Use::Incremental(_), true) => ErrorCode::INCONSISTENT_TOPIC_ID,
                        (Use::Incremental(_), false) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                    };
                }
                partition.aborted_transactions = self.aborted(partition.error_code);
            }
        }
    }
}

impl Job for Fetching {
    fn on_answer(self: Box<Self>, _part: usize, answer: Answer, call: &mut Call<'_>) -> Step {
        let response = match answer {
            Answer::Fetched(partitions) => self.response(partitions, call),
            Answer::Done(result) => {
                let code = result
                    .as_ref()
                    .map_or_else(ErrorCode::from, |_| ErrorCode::UNKNOWN_SERVER_ERROR);
                let mut response = self.response(Vec::new(), call);
                let topics = response.responses.iter_mut();
                let partitions = topics.flat_map(|topic| &mut topic.partitions);
                partitions.for_each(|partition| partition.error_code = code);
                response
            }
        };
        self.respond(response, call)
    }
}

#[cfg(test)]
mod tests {
    use trivium_core::{Event, FetchedBatch, Token};

    use super::*;
    use crate::{
        api::ApiKey,
        batch,
        script::{Script, log, not_found},
    };

    fn request(partitions: &[i32]) -> FetchRequest {
        let asked = |index: &i32| FetchPartition {
            partition: *index,
            fetch_offset: 5,
            partition_max_bytes: 1000,
            ..Default::default()
        };
        let partitions = partitions.iter().map(asked).collect();
        let topics = vec![FetchTopic {
            topic: "ab".into(),
            topic_id: Uuid([2; 16]),
            partitions,
        }];
        FetchRequest {
            max_wait_ms: 500,
            min_bytes: 1,
            topics,
            ..Default::default()
        }
    }

    fn fetch(script: &mut Script) -> (Token, Fetch) {
        script.command(|command| match command {
            Command::Fetch { token, fetch } => Some((token, fetch)),
            _ => None,
        })
    }

    fn fetched(partition: u32, result: Result<Vec<FetchedBatch>, Refusal>) -> Fetched {
        Fetched {
            log: "ab".into(),
            partition,
            result,
            high_watermark: Offset(9),
            log_start: Offset(3),
            last_stable: Offset(9),
            aborted: Vec::new(),
        }
    }

    fn stored(base: u64) -> Result<Vec<FetchedBatch>, Refusal> {
        Ok(vec![FetchedBatch {
            base: Offset(base),
            flags: 0,
            bytes: batch::sample(b"value"),
        }])
    }

    fn partitions(response: FetchResponse) -> Vec<PartitionData> {
        response
            .responses
            .into_iter()
            .flat_map(|topic| topic.partitions)
            .collect()
    }

    /// Bytes by the protocol guide: v4, one partition; the batch has its offset, epoch 0, and is else as it was sent.
    #[test]
    fn version_4_to_the_byte() {
        let mut script = Script::open();
        let head = b"\0\0\0\x41\0\x01\0\x04\0\0\0\x03\xff\xff\xff\xff\xff\xff\0\0\x01\xf4\0\0\0\x01\x7f\xff\xff\xff\x01";
        let tail = b"\0\0\0\x01\0\x02ab\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\x05\0\0\x03\xe8";
        let mut bytes = [&head[..], tail].concat();
        bytes[3] = (bytes.len() - 4) as u8;
        script.bytes(&bytes).unwrap();
        let (token, fetch) = fetch(&mut script);
        assert_eq!(
            (fetch.wait, fetch.min_bytes, fetch.max_bytes),
            (Duration::from_millis(500), 1, BYTES_MAX as usize)
        );
        assert_eq!(
            (fetch.partitions[0].from, fetch.partitions[0].max_bytes),
            (Offset(5), 1000)
        );
        script
            .event(Event::Fetched {
                token,
                partitions: vec![fetched(0, stored(4))],
            })
            .unwrap();

        let mut records = batch::sample(b"value").to_vec();
        records[..8].copy_from_slice(&4u64.to_be_bytes());
        records[12..16].copy_from_slice(&[0; 4]);
        let head = b"\0\0\0\x03\0\0\0\0\0\0\0\x01\0\x02ab\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\x09\0\0\0\0\0\0\0\x09\0\0\0\0";
        let length = (records.len() as u32).to_be_bytes();
        let expected = [&head[..], &length, &records].concat();
        assert_eq!(script.output()[4..], expected);
    }

    /// Until something comes, nothing else of the connection is answered.
    #[test]
    fn a_fetch_that_waits_is_not_overtaken() {
        let mut script = Script::open();
        script.send(ApiKey::Fetch, 11, &request(&[0]));
        let (token, _) = fetch(&mut script);
        assert!(!script.wants_input());
        script
            .event(Event::Fetched {
                token,
                partitions: vec![fetched(0, Ok(vec![]))],
            })
            .unwrap();
        let partitions = partitions(script.response(ApiKey::Fetch, 11));
        assert_eq!(
            (
                partitions[0].high_watermark,
                partitions[0].last_stable_offset
            ),
            (9, 9)
        );
        assert!(partitions[0].records.0.is_empty() && script.wants_input());
    }

    /// All partitions are listed in the order of the request, and what is not there last, as by Kafka.
    #[test]
    fn errors_are_told_per_partition_and_at_once() {
        let mut script = Script::open();
        script.send(ApiKey::Fetch, 11, &request(&[2, -1, 0]));
        let (token, fetch) = fetch(&mut script);
        assert_eq!(fetch.wait, Duration::ZERO);
        let out_of_range = fetched(0, Err(Refusal::OffsetOutOfRange(Offset(5))));
        script
            .event(Event::Fetched {
                token,
                partitions: vec![fetched(2, stored(4)), out_of_range],
            })
            .unwrap();
        let partitions = partitions(script.response(ApiKey::Fetch, 11));
        let told: Vec<_> = partitions
            .iter()
            .map(|it| (it.partition_index, it.error_code.0, it.records.0.len()))
            .collect();
        assert_eq!(told, [(2, 0, 1), (0, 1, 0), (-1, 3, 0)]);
    }

    #[test]
    fn epochs_and_offsets_that_cannot_be_are_refused() {
        for (offset, epoch, code) in [(-1, -1, 1), (0, 1, 75)] {
            let mut request = request(&[0]);
            let asked = &mut request.topics[0].partitions[0];
            (asked.fetch_offset, asked.current_leader_epoch) = (offset, epoch);
            let mut script = Script::open();
            script.send(ApiKey::Fetch, 11, &request);
            assert_eq!(
                partitions(script.response(ApiKey::Fetch, 11))[0].error_code,
                ErrorCode(code)
            );
        }
    }

    /// KIP-227: opened by epoch 0; then only what changes is sent, and told.
    #[test]
    fn a_session_goes_on_where_it_was() {
        let mut script = Script::open();
        let open = FetchRequest {
            session_epoch: 0,
            ..request(&[0, 1])
        };
        script.send(ApiKey::Fetch, 12, &open);
        let (token, _) = fetch(&mut script);
        let found = vec![fetched(0, stored(5)), fetched(1, Ok(vec![]))];
        let event = Event::Fetched {
            token,
            partitions: found,
        };
        script.event(event).unwrap();
        let response: FetchResponse = script.response(ApiKey::Fetch, 12);
        let id = response.session_id;
        assert!(id > 0 && partitions(response).len() == 2);

        let next = FetchRequest {
            session_id: id,
            session_epoch: 1,
            topics: vec![],
            ..request(&[])
        };
        script.send(ApiKey::Fetch, 12, &next);
        let (token, fetch) = fetch(&mut script);
        let read: Vec<_> = fetch.partitions.iter().map(|it| it.partition).collect();
        assert_eq!(read, [1, 0], "who had records is read last");
        let found = vec![fetched(1, Ok(vec![])), fetched(0, stored(8))];
        let event = Event::Fetched {
            token,
            partitions: found,
        };
        script.event(event).unwrap();
        let response: FetchResponse = script.response(ApiKey::Fetch, 12);
        assert_eq!(response.session_id, id);
        let told: Vec<_> = partitions(response)
            .iter()
            .map(|it| it.partition_index)
            .collect();
        assert_eq!(told, [0]);

        script.send(ApiKey::Fetch, 12, &next);
        let response: FetchResponse = script.response(ApiKey::Fetch, 12);
        assert_eq!(response.error_code, ErrorCode::INVALID_FETCH_SESSION_EPOCH);
        let unknown = FetchRequest {
            session_id: id + 1,
            ..next
        };
        script.send(ApiKey::Fetch, 12, &unknown);
        let response: FetchResponse = script.response(ApiKey::Fetch, 12);
        assert_eq!(response.error_code, ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
    }

    #[test]
    fn from_version_13_topics_are_found_by_id() {
        let mut script = Script::open();
        script.send(ApiKey::Fetch, 18, &request(&[0]));
        script.describe(vec![Ok(log("ab", 1))]);
        let (token, _) = fetch(&mut script);
        script
            .event(Event::Fetched {
                token,
                partitions: vec![fetched(0, Err(not_found("ab")))],
            })
            .unwrap();
        assert_eq!(
            partitions(script.response(ApiKey::Fetch, 18))[0].error_code,
            ErrorCode::UNKNOWN_TOPIC_ID
        );
        script.send(ApiKey::Fetch, 18, &request(&[0]));
        script.describe(vec![]);
        assert_eq!(
            partitions(script.response(ApiKey::Fetch, 18))[0].error_code,
            ErrorCode::UNKNOWN_TOPIC_ID
        );
    }

    #[test]
    fn aborted_transactions_are_null_or_none() {
        for (isolation_level, expected) in [(0, None), (1, Some(vec![]))] {
            let mut script = Script::open();
            script.send(
                ApiKey::Fetch,
                4,
                &FetchRequest {
                    isolation_level,
                    ..request(&[0])
                },
            );
            let (token, _) = fetch(&mut script);
            script
                .event(Event::Fetched {
                    token,
                    partitions: vec![fetched(0, stored(5))],
                })
                .unwrap();
            assert_eq!(
                partitions(script.response(ApiKey::Fetch, 4))[0].aborted_transactions,
                expected
            );
        }
    }
}
