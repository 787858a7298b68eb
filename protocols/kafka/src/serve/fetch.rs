//! Fetch: batches from where a consumer is, or a wait for them.
//!
//! Fetch sessions (KIP-227) are declined by session id 0, so every request is a full one and every response
//! lists all of its partitions.

use std::time::Duration;

use smallvec::SmallVec;
use trivium_core::{Command, Fetch, FetchPartition as Wanted, Fetched, Offset, Text};

use crate::{
    call::{Answer, Call, Job, Step},
    error::{ErrorCode, is_missing_log},
    messages::fetch::*,
    wire::{Records, StoredBatch},
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
}

struct Part {
    log: Text,
    number: u32,
    topic: usize,
    partition: usize,
}

pub(crate) fn start(request: FetchRequest, call: &mut Call<'_>) -> Step {
    if request.session_id != 0 {
        let error_code = ErrorCode::FETCH_SESSION_ID_NOT_FOUND;
        return call.respond(&FetchResponse {
            error_code,
            ..Default::default()
        });
    }
    let aborted_transactions = (request.isolation_level == READ_COMMITTED).then(Vec::new);
    let mut job = Fetching {
        response: FetchResponse::default(),
        parts: SmallVec::new(),
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
            match log.clone().and_then(|log| wanted(log, &asked)) {
                Ok(wanted) => {
                    let (topic, partition) =
                        (job.response.responses.len(), result.partitions.len());
                    job.parts.push(Part {
                        log: wanted.log.clone(),
                        number: wanted.partition,
                        topic,
                        partition,
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
        return call.respond(&job.response);
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
        max_bytes: request.max_bytes.clamp(0, BYTES_MAX) as usize,
        wait: Duration::from_millis(wait as u64),
    };
    call.submit(0, |token| Command::Fetch { token, fetch });
    Step::Wait(Box::new(job))
}

fn wanted(log: Text, asked: &FetchPartition) -> Result<Wanted, ErrorCode> {
    // There has only ever been one leader, of epoch 0.
    if asked.current_leader_epoch > 0 {
        return Err(ErrorCode::UNKNOWN_LEADER_EPOCH);
    }
    Ok(Wanted {
        log,
        partition: u32::try_from(asked.partition)
            .map_err(|_| ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?,
        from: Offset(
            u64::try_from(asked.fetch_offset).map_err(|_| ErrorCode::OFFSET_OUT_OF_RANGE)?,
        ),
        max_bytes: asked.partition_max_bytes.max(0) as usize,
    })
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
    fn place(&mut self, at: usize, fetched: Fetched, call: &mut Call<'_>) {
        let is_it = |part: &Part| part.number == fetched.partition && part.log == fetched.log;
        // The core answers in the order of the request; what it leaves out shifts the rest.
        let found = self.parts[..]
            .get(at)
            .filter(|part| is_it(part))
            .or_else(|| self.parts.iter().find(|part| is_it(part)));
        let Some(part) = found else { return };
        let topic = &mut self.response.responses[part.topic];
        let partition = &mut topic.partitions[part.partition];
        match fetched.result {
            Ok(batches) => {
                partition.high_watermark = fetched.high_watermark.0 as i64;
                // Without transactions, all that is committed is stable.
                partition.last_stable_offset = partition.high_watermark;
                partition.log_start_offset = fetched.log_start.0 as i64;
                let stored = |batch: trivium_core::FetchedBatch| StoredBatch {
                    base: batch.base.0 as i64,
                    bytes: batch.bytes,
                };
                partition.records = Records(batches.into_iter().map(stored).collect());
            }
            Err(refusal) => {
                partition.error_code = ErrorCode::from(&refusal);
                if is_missing_log(&refusal) && call.version() >= BY_ID {
                    partition.error_code = ErrorCode::UNKNOWN_TOPIC_ID;
                    call.session.topics.forget_id(topic.topic_id);
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
        call.respond(&self.response)
    }
}
