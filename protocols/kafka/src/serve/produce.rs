//! Produce: each batch is checked and appended as it came.

use bytes::Bytes;
use smallvec::SmallVec;
use trivium_core::{Command, Offset, Refusal, Reply, Text, Timestamp};

use crate::{
    batch,
    call::{Answer, Call, Job, Step},
    error::{ErrorCode, is_missing_log},
    messages::produce::*,
    serve::text,
};

/// From this version on, topics have ids instead of names.
const BY_ID: i16 = 13;

/// Appends under way.
struct Producing {
    acks: i16,
    response: ProduceResponse,
    /// Where in the response each append belongs: topic and partition.
    parts: SmallVec<[(u32, u32); 4]>,
    left: usize,
}

pub(crate) fn start(request: ProduceRequest, call: &mut Call<'_>) -> Step {
    let fault = refused_whole(&request);
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
        let mut result = TopicProduceResponse {
            name: topic.name,
            topic_id: topic.topic_id,
            ..TopicProduceResponse::default()
        };
        for PartitionProduceData { index, records } in topic.partition_data {
            let part = (
                job.response.responses.len() as u32,
                result.partition_responses.len() as u32,
            );
            let mut partition = PartitionProduceResponse {
                index,
                base_offset: -1,
                ..Default::default()
            };
            match fault.map_or_else(|| append(&name, index, records, job.parts.len(), call), Err) {
                Ok(()) => job.parts.push(part),
                Err(fault) => {
                    (partition.error_code, partition.error_message) =
                        (fault.0, Some(fault.1.into()))
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

/// Why nothing of the request is taken.
fn refused_whole(request: &ProduceRequest) -> Option<batch::Fault> {
    if !(-1..=1).contains(&request.acks) {
        return Some((ErrorCode::INVALID_REQUIRED_ACKS, "acks must be -1, 0 or 1"));
    }
    let transactional = request.transactional_id.is_some();
    transactional.then_some((
        ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        "transactions are not supported",
    ))
}

fn append(
    log: &Result<Text, ErrorCode>,
    index: i32,
    records: Option<Bytes>,
    part: usize,
    call: &mut Call<'_>,
) -> Result<(), batch::Fault> {
    let log = log
        .clone()
        .map_err(|code| (code, "no topic with this id"))?;
    let missing = |_| {
        (
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            "no partition with a negative number",
        )
    };
    let partition = u32::try_from(index).map_err(missing)?;
    let batch = records.unwrap_or_default();
    batch::validate(
        &batch,
        call.version(),
        call.session.options.max_message_bytes,
    )?;
    call.submit(part, |token| Command::Append {
        token,
        log,
        partition,
        batch,
    });
    Ok(())
}

impl Producing {
    fn settle(
        &mut self,
        part: usize,
        appended: Result<(Offset, Option<Timestamp>, Offset), Refusal>,
        call: &mut Call<'_>,
    ) {
        let Some(&(topic, partition)) = self.parts.get(part) else {
            return;
        };
        let topic = &mut self.response.responses[topic as usize];
        let partition = &mut topic.partition_responses[partition as usize];
        match appended {
            Ok((base, timestamp, log_start)) => {
                partition.base_offset = base.0 as i64;
                partition.log_append_time_ms = timestamp.map_or(-1, |timestamp| timestamp.0 as i64);
                partition.log_start_offset = log_start.0 as i64;
            }
            Err(refusal) => {
                partition.error_code = ErrorCode::from(&refusal);
                partition.error_message = text(&refusal);
                if is_missing_log(&refusal) && call.version() >= BY_ID {
                    partition.error_code = ErrorCode::UNKNOWN_TOPIC_ID;
                    call.session.topics.forget_id(topic.topic_id);
                }
            }
        }
    }

    /// Acks 0 has no response: all that a client can be told is that the connection closes.
    fn finish(self, call: &Call<'_>) -> Step {
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
        let appended = answer.reply(|reply| match reply {
            Reply::Appended {
                base,
                timestamp,
                log_start,
            } => Some((base, timestamp, log_start)),
            _ => None,
        });
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
