//! DeleteRecords: partitions begin later.

use std::collections::BTreeMap;

use trivium_core::{Command, Offset, Refusal, Reply, Text};

use crate::{
    call::{Answer, Call, Job, Step},
    error::ErrorCode,
    messages::admin::*,
    topics::is_internal,
};

/// Records being deleted.
struct Trimming {
    response: DeleteRecordsResponse,
    /// Where in the response each partition belongs.
    parts: Vec<(usize, usize)>,
    left: usize,
}

/// An offset that stands for the high watermark.
const TO_END: i64 = -1;

pub(crate) fn start(request: DeleteRecordsRequest, call: &mut Call<'_>) -> Step {
    let mut job = Trimming {
        response: DeleteRecordsResponse::default(),
        parts: Vec::new(),
        left: 0,
    };
    for topic in last_of_each(request.topics) {
        let mut result = DeleteRecordsTopicResult {
            name: topic.name.clone(),
            partitions: Vec::new(),
        };
        for asked in topic.partitions {
            let mut partition = DeleteRecordsPartitionResult {
                partition_index: asked.partition_index,
                low_watermark: -1,
                error_code: ErrorCode::NONE,
            };
            match (u32::try_from(asked.partition_index), asked.offset) {
                _ if is_internal(&topic.name) => {
                    partition.error_code = ErrorCode::INVALID_TOPIC_EXCEPTION
                }
                (Err(_), _) => partition.error_code = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                (_, ..TO_END) => partition.error_code = ErrorCode::OFFSET_OUT_OF_RANGE,
                (Ok(number), offset) => {
                    let to = u64::try_from(offset).ok().map(Offset);
                    let log = topic.name.clone();
                    call.submit(job.parts.len(), |token| Command::Trim {
                        token,
                        log,
                        partition: number,
                        to,
                    });
                    job.parts
                        .push((job.response.topics.len(), result.partitions.len()));
                }
            }
            result.partitions.push(partition);
        }
        job.response.topics.push(result);
    }
    job.left = job.parts.len();
    match job.left {
        0 => call.respond(&job.response),
        _ => Step::Wait(Box::new(job)),
    }
}

/// Each topic and partition once, with the offset that stands in the request last; topics without partitions are
/// left out.
fn last_of_each(topics: Vec<DeleteRecordsTopic>) -> Vec<DeleteRecordsTopic> {
    let mut offsets: BTreeMap<Text, BTreeMap<i32, i64>> = BTreeMap::new();
    for topic in topics.into_iter().filter(|it| !it.partitions.is_empty()) {
        let asked = topic.partitions.into_iter();
        offsets
            .entry(topic.name)
            .or_default()
            .extend(asked.map(|it| (it.partition_index, it.offset)));
    }
    let partition = |(partition_index, offset)| DeleteRecordsPartition {
        partition_index,
        offset,
    };
    let topic = |(name, partitions): (Text, BTreeMap<i32, i64>)| DeleteRecordsTopic {
        name,
        partitions: partitions.into_iter().map(partition).collect(),
    };
    offsets.into_iter().map(topic).collect()
}

impl Job for Trimming {
    fn on_answer(mut self: Box<Self>, part: usize, answer: Answer, call: &mut Call<'_>) -> Step {
        let trimmed = answer.reply(|reply| match reply {
            Reply::Trimmed { log_start } => Some(log_start),
            _ => None,
        });
        if let Some(&(topic, partition)) = self.parts.get(part) {
            let partition = &mut self.response.topics[topic].partitions[partition];
            match trimmed {
                Ok(start) => partition.low_watermark = start.0 as i64,
                // The settings of the topic do not allow it.
                Err(Refusal::NotAllowed(_)) => partition.error_code = ErrorCode::POLICY_VIOLATION,
                Err(refusal) => partition.error_code = ErrorCode::from(&refusal),
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
    use trivium_core::Token;

    use super::*;
    use crate::{api::ApiKey, script::Script};

    #[test]
    fn records_are_deleted_up_to_an_offset_or_the_end() {
        let mut script = Script::open();
        let partition = |partition_index, offset| DeleteRecordsPartition {
            partition_index,
            offset,
        };
        let request = DeleteRecordsRequest {
            topics: vec![DeleteRecordsTopic {
                name: "ab".into(),
                partitions: vec![
                    partition(0, 5),
                    partition(1, -1),
                    partition(2, -2),
                    partition(3, 7),
                ],
            }],
            ..Default::default()
        };
        script.send(ApiKey::DeleteRecords, 2, &request);
        let asked: Vec<(Token, Option<Offset>)> = script
            .commands()
            .into_iter()
            .map(|command| match command {
                Command::Trim { token, to, .. } => (token, to),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!((asked[0].1, asked[1].1), (Some(Offset(5)), None));
        for (at, (token, _)) in asked.into_iter().enumerate() {
            let log_start = Offset(5 + at as u64);
            script.done(
                token,
                match at {
                    2 => Err(Refusal::OffsetOutOfRange(Offset(7))),
                    _ => Ok(Reply::Trimmed { log_start }),
                },
            );
        }
        let response: DeleteRecordsResponse = script.response(ApiKey::DeleteRecords, 2);
        let told: Vec<_> = response.topics[0]
            .partitions
            .iter()
            .map(|it| (it.low_watermark, it.error_code.0))
            .collect();
        assert_eq!(told, [(5, 0), (6, 0), (-1, 1), (-1, 1)]);
    }

    /// As in Kafka, which keeps what is to be deleted by topic and partition.
    #[test]
    fn a_partition_that_is_repeated_is_answered_once() {
        let mut script = Script::open();
        let topic = |offset| DeleteRecordsTopic {
            name: "ab".into(),
            partitions: vec![DeleteRecordsPartition {
                partition_index: 0,
                offset,
            }],
        };
        let request = DeleteRecordsRequest {
            topics: vec![topic(5), topic(4), DeleteRecordsTopic::default()],
            ..Default::default()
        };
        script.send(ApiKey::DeleteRecords, 2, &request);
        let token = script.command(|command| match command {
            Command::Trim { token, to, .. } => (to == Some(Offset(4))).then_some(token),
            _ => None,
        });
        script.done(
            token,
            Ok(Reply::Trimmed {
                log_start: Offset(4),
            }),
        );
        let response: DeleteRecordsResponse = script.response(ApiKey::DeleteRecords, 2);
        assert_eq!(response.topics.len(), 1);
        assert_eq!(response.topics[0].partitions.len(), 1);
    }
}
