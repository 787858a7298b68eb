//! ListOffsets: offsets by time, or by name.

use trivium_core::{Command, Offset, OffsetSpec, Refusal, Reply, Text, Timestamp};

use crate::{
    call::{Answer, Call, Job, Step},
    error::ErrorCode,
    messages::offsets::*,
};

/// Searches under way.
struct Listing {
    response: ListOffsetsResponse,
    /// Where in the response each search belongs: topic and partition.
    parts: Vec<(usize, usize)>,
    left: usize,
}

/// What a timestamp of a request means.
enum Search {
    /// Something that the core finds.
    For(OffsetSpec),
    /// Something that there is not, as nothing is kept elsewhere.
    ForNothing,
}

pub(crate) fn start(request: ListOffsetsRequest, call: &mut Call<'_>) -> Step {
    let mut job = Listing {
        response: ListOffsetsResponse::default(),
        parts: Vec::new(),
        left: 0,
    };
    for topic in request.topics {
        let mut result = ListOffsetsTopicResponse {
            name: topic.name,
            partitions: Vec::new(),
        };
        for asked in topic.partitions {
            let part = (job.response.topics.len(), result.partitions.len());
            let mut partition = ListOffsetsPartitionResponse {
                partition_index: asked.partition_index,
                ..Default::default()
            };
            match find(&result.name, &asked, job.parts.len(), call) {
                Ok(true) => job.parts.push(part),
                Ok(false) => {}
                Err(code) => partition.error_code = code,
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

/// Whether the core was asked.
fn find(
    log: &Text,
    asked: &ListOffsetsPartition,
    part: usize,
    call: &mut Call<'_>,
) -> Result<bool, ErrorCode> {
    let log = log.clone();
    let partition =
        u32::try_from(asked.partition_index).map_err(|_| ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    if asked.current_leader_epoch > 0 {
        return Err(ErrorCode::UNKNOWN_LEADER_EPOCH);
    }
    let Search::For(at) = search(asked.timestamp, call.version())? else {
        return Ok(false);
    };
    call.submit(part, |token| Command::FindOffset {
        token,
        log,
        partition,
        at,
    });
    Ok(true)
}

fn search(timestamp: i64, version: i16) -> Result<Search, ErrorCode> {
    match timestamp {
        0.. => Ok(Search::For(OffsetSpec::AtTime(timestamp as u64))),
        -1 => Ok(Search::For(OffsetSpec::Latest)),
        -2 => Ok(Search::For(OffsetSpec::Earliest)),
        -3 if version >= 7 => Ok(Search::For(OffsetSpec::MaxTimestamp)),
        // The earliest that is kept here, not elsewhere: all of it is.
        -4 if version >= 8 => Ok(Search::For(OffsetSpec::Earliest)),
        // The latest that was moved elsewhere, the earliest that is to be.
        -5 if version >= 9 => Ok(Search::ForNothing),
        -6 if version >= 11 => Ok(Search::ForNothing),
        _ => Err(ErrorCode::UNSUPPORTED_VERSION),
    }
}

impl Listing {
    fn settle(&mut self, part: usize, found: Result<Option<(Offset, Option<Timestamp>)>, Refusal>) {
        let Some(&(topic, partition)) = self.parts.get(part) else {
            return;
        };
        let partition = &mut self.response.topics[topic].partitions[partition];
        match found {
            Ok(Some((offset, timestamp))) => {
                partition.offset = offset.0 as i64;
                partition.timestamp = timestamp.map_or(-1, |timestamp| timestamp.0 as i64);
                partition.leader_epoch = 0;
            }
            Ok(None) => {}
            Err(refusal) => partition.error_code = ErrorCode::from(&refusal),
        }
    }
}

impl Job for Listing {
    fn on_answer(mut self: Box<Self>, part: usize, answer: Answer, call: &mut Call<'_>) -> Step {
        let found = answer.reply(|reply| match reply {
            // Only a search by time has the timestamp of what it found.
            Reply::Offset {
                spec: OffsetSpec::Earliest | OffsetSpec::Latest,
                found,
            } => Some(found.map(|(offset, _)| (offset, None))),
            Reply::Offset { found, .. } => Some(found),
            _ => None,
        });
        self.settle(part, found);
        self.left -= 1;
        match self.left {
            0 => call.respond(&self.response),
            _ => Step::Wait(self),
        }
    }
}
