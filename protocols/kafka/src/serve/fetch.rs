//! Fetch: batches from where a consumer is, or a wait for them.
//!
//! What a request leaves out because the broker knows it, and a response because the client does, is up to
//! [`super::fetch_sessions`].

use std::time::Duration;

use smallvec::SmallVec;
use trivium_core::{
    Command, Fetch, FetchPartition as Wanted, Fetched, Isolation, Offset, Refusal, Text,
};

use crate::{
    call::{Answer, Call, Job, Step},
    error::{ErrorCode, is_missing_log},
    messages::fetch::*,
    records::{Records, StoredBatch},
    serve::fetch_sessions::Use,
    throttle::fetch_bytes_max,
    wire::Uuid,
};

/// From this version on, topics have ids instead of names.
const BY_ID: i16 = 13;
/// Bytes of one response at most, whatever the client asks for (`fetch.max.bytes` of a Kafka broker).
const BYTES_MAX: i32 = 55 * 1024 * 1024;
/// Longer than any client waits for a response.
const WAIT_MAX_MS: i32 = 5 * 60 * 1000;
const READ_COMMITTED: i8 = 1;

/// A fetch under way.
struct Fetching {
    response: FetchResponse,
    /// What was asked of the core, and where in the response it belongs: topic and partition.
    parts: SmallVec<[Part; 4]>,
    used: Use,
}

struct Part {
    log: Text,
    number: u32,
    topic: usize,
    partition: usize,
    from: Offset,
    /// Whether the fetcher knows of which leader its last record is.
    has_epoch: bool,
}

pub(crate) fn start(mut request: FetchRequest, call: &mut Call<'_>) -> Step {
    let by_id = call.version() >= BY_ID;
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
        _ => Isolation::Uncommitted,
    };
    let aborted_transactions = (isolation == Isolation::Committed).then(Vec::new);
    let mut job = Fetching {
        response: FetchResponse::default(),
        parts: SmallVec::new(),
        used,
    };
    let (mut partitions, mut faulty) = (Vec::new(), false);
    for topic in request.topics {
        let log =
            call.session
                .topics
                .resolve(call.version() >= BY_ID, &topic.topic, topic.topic_id);
        let mut result = FetchableTopicResponse {
            topic: topic.topic,
            topic_id: topic.topic_id,
            partitions: Vec::new(),
        };
        for asked in topic.partitions {
            let mut partition = empty(asked.partition);
            partition.aborted_transactions = aborted_transactions.clone();
            match log
                .clone()
                .and_then(|log| wanted(log, result.topic_id, &asked))
            {
                Ok(wanted) => {
                    let (topic, partition) =
                        (job.response.responses.len(), result.partitions.len());
                    job.parts.push(Part {
                        log: wanted.log.clone(),
                        number: wanted.partition,
                        topic,
                        partition,
                        from: wanted.from,
                        has_epoch: asked.last_fetched_epoch >= 0,
                    });
                    partitions.push(wanted);
                }
                Err(code) => (partition.error_code, faulty) = (code, true),
            }
            result.partitions.push(partition);
        }
        job.response.responses.push(result);
    }
    if partitions.is_empty() {
        return job.respond(call);
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

fn wanted(log: Text, id: Uuid, asked: &FetchPartition) -> Result<Wanted, ErrorCode> {
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

/// Bytes of records in a response.
fn bytes(response: &FetchResponse) -> usize {
    let partitions = response.responses.iter().flat_map(|it| &it.partitions);
    let batches = partitions.flat_map(|partition| &partition.records.0);
    batches.map(|batch| batch.bytes.len()).sum()
}

/// A partition of which nothing is known.
fn empty(partition_index: i32) -> PartitionData {
    PartitionData {
        partition_index,
        high_watermark: -1,
        ..Default::default()
    }
}

impl Fetching {
    fn respond(mut self, call: &mut Call<'_>) -> Step {
        let throttle = &call.session.throttle;
        call.cost.answer(throttle);
        // KIP-219: a client that has to wait gets nothing, and asks for the same again.
        let waits = !call.cost.wait().is_zero()
            || !call.cost.may_consume(throttle, || bytes(&self.response));
        match waits {
            true => self.response = call.session.fetches.put_off(self.used),
            false => call.session.fetches.end(self.used, &mut self.response),
        }
        call.respond(&self.response)
    }

    fn place(&mut self, at: usize, fetched: Fetched, call: &mut Call<'_>) {
        let is_it = |part: &Part| part.number == fetched.partition && part.log == fetched.log;
        // The core answers in the order of the request; what it leaves out shifts the rest.
        let (before, from) = self.parts.split_at(at.min(self.parts.len()));
        let found = from.iter().chain(before).find(|part| is_it(part));
        let Some(part) = found else { return };
        let topic = &mut self.response.responses[part.topic];
        let partition = &mut topic.partitions[part.partition];
        match fetched.result {
            Ok(batches) => {
                partition.high_watermark = fetched.high_watermark.0 as i64;
                partition.last_stable_offset = fetched.last_stable.0 as i64;
                if let Some(aborted) = &mut partition.aborted_transactions {
                    aborted.extend(fetched.aborted.iter().map(|it| AbortedTransaction {
                        producer_id: it.producer,
                        first_offset: it.first.0 as i64,
                    }));
                }
                partition.log_start_offset = fetched.log_start.0 as i64;
                let stored = |batch: trivium_core::FetchedBatch| StoredBatch {
                    base: batch.base.0 as i64,
                    bytes: batch.bytes,
                };
                partition.records = Records(batches.into_iter().map(stored).collect());
            }
            // KIP-595: a fetcher that has more of epoch 0 than there is has read another log, and is told where
            // this one ends.
            Err(Refusal::OffsetOutOfRange(_))
                if part.has_epoch && part.from > fetched.high_watermark =>
            {
                partition.high_watermark = fetched.high_watermark.0 as i64;
                partition.last_stable_offset = fetched.last_stable.0 as i64;
                partition.log_start_offset = fetched.log_start.0 as i64;
                partition.diverging_epoch = EpochEndOffset {
                    epoch: 0,
                    end_offset: fetched.high_watermark.0 as i64,
                };
            }
            Err(refusal) => {
                partition.error_code = ErrorCode::from(&refusal);
                let is_replaced = matches!(refusal, Refusal::Replaced { .. });
                if is_replaced || is_missing_log(&refusal) && call.version() >= BY_ID {
                    call.session.topics.forget_id(topic.topic_id);
                    // A session has met the topic: what it knows does not fit to the log, or the log has gone.
                    partition.error_code = match (self.used, is_replaced) {
                        (Use::Full(_), _) => ErrorCode::UNKNOWN_TOPIC_ID,
                        (Use::Incremental(_), true) => ErrorCode::INCONSISTENT_TOPIC_ID,
                        (Use::Incremental(_), false) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                    };
                }
            }
        }
    }
}

impl Job for Fetching {
    fn on_answer(mut self: Box<Self>, _part: usize, answer: Answer, call: &mut Call<'_>) -> Step {
        match answer {
            Answer::Fetched(partitions) => {
                for (at, fetched) in partitions.into_iter().enumerate() {
                    self.place(at, fetched, call);
                }
            }
            Answer::Done(result) => {
                let code = result
                    .as_ref()
                    .map_or_else(ErrorCode::from, |_| ErrorCode::UNKNOWN_SERVER_ERROR);
                let partitions = self
                    .response
                    .responses
                    .iter_mut()
                    .flat_map(|topic| &mut topic.partitions);
                partitions.for_each(|partition| partition.error_code = code);
            }
        }
        self.respond(call)
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

    /// All partitions are listed in the order of the request, whatever the order of the core.
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
                partitions: vec![out_of_range, fetched(2, stored(4))],
            })
            .unwrap();
        let partitions = partitions(script.response(ApiKey::Fetch, 11));
        let told: Vec<_> = partitions
            .iter()
            .map(|it| (it.partition_index, it.error_code.0, it.records.0.len()))
            .collect();
        assert_eq!(told, [(2, 0, 1), (-1, 3, 0), (0, 1, 0)]);
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
