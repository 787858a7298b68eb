//! ListOffsets: offsets by time, or by name.

use rustc_hash::FxHashMap;
use trivium_core::{Command, Isolation, Offset, OffsetSpec, Refusal, Reply, Text, Timestamp};

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
    let isolation = match request.isolation_level {
        0 => Ok(Isolation::Uncommitted),
        1 => Ok(Isolation::Committed),
        _ => Err(ErrorCode::UNKNOWN_SERVER_ERROR),
    };
    for topic in distinct(request.topics) {
        let mut result = ListOffsetsTopicResponse {
            name: topic.name,
            partitions: Vec::new(),
        };
        for (asked, is_repeated) in topic.partitions {
            let part = (job.response.topics.len(), result.partitions.len());
            let mut partition = ListOffsetsPartitionResponse {
                partition_index: asked.partition_index,
                ..Default::default()
            };
            let isolation = match is_repeated {
                true => Err(ErrorCode::INVALID_REQUEST),
                false => isolation,
            };
            let found = isolation
                .and_then(|isolation| find(&result.name, &asked, isolation, job.parts.len(), call));
            match found {
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

/// A topic, and of each of its partitions whether it stands in the request several times.
struct Distinct {
    name: Text,
    partitions: Vec<(ListOffsetsPartition, bool)>,
}

/// Each topic and partition once; topics without partitions are left out.
fn distinct(topics: Vec<ListOffsetsTopic>) -> Vec<Distinct> {
    let mut places = FxHashMap::default();
    let mut distinct: Vec<Distinct> = Vec::with_capacity(topics.len());
    for topic in topics.into_iter().filter(|it| !it.partitions.is_empty()) {
        let end = distinct.len();
        let (at, known) = places
            .entry(topic.name.clone())
            .or_insert_with(|| (end, FxHashMap::default()));
        if *at == end {
            distinct.push(Distinct {
                name: topic.name,
                partitions: Vec::with_capacity(topic.partitions.len()),
            });
        }
        let partitions = &mut distinct[*at].partitions;
        for asked in topic.partitions {
            match known.insert(asked.partition_index, partitions.len()) {
                Some(place) => {
                    partitions[place].1 = true;
                    known.insert(asked.partition_index, place);
                }
                None => partitions.push((asked, false)),
            }
        }
    }
    distinct
}

/// Whether the core was asked.
fn find(
    log: &Text,
    asked: &ListOffsetsPartition,
    isolation: Isolation,
    part: usize,
    call: &mut Call<'_>,
) -> Result<bool, ErrorCode> {
    let log = log.clone();
    let partition =
        u32::try_from(asked.partition_index).map_err(|_| ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    match asked.current_leader_epoch {
        1.. => return Err(ErrorCode::UNKNOWN_LEADER_EPOCH),
        ..-1 => return Err(ErrorCode::FENCED_LEADER_EPOCH),
        _ => {}
    }
    let Search::For(at) = search(asked.timestamp, call.version())? else {
        return Ok(false);
    };
    call.submit(part, |token| Command::FindOffset {
        token,
        log,
        partition,
        at,
        isolation,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::ApiKey,
        script::{Script, not_found},
    };

    fn request(timestamps: &[i64]) -> ListOffsetsRequest {
        let asked = |(partition_index, timestamp): (i32, &i64)| ListOffsetsPartition {
            partition_index,
            timestamp: *timestamp,
            ..Default::default()
        };
        let topic = ListOffsetsTopic {
            name: "ab".into(),
            partitions: (0..).zip(timestamps).map(asked).collect(),
        };
        ListOffsetsRequest {
            replica_id: -1,
            topics: vec![topic],
            ..Default::default()
        }
    }

    /// As in Kafka, which cannot tell which of them is meant.
    #[test]
    fn a_partition_that_is_repeated_is_refused_once() {
        let mut repeated = request(&[-1]);
        repeated.topics.push(repeated.topics[0].clone());
        let mut script = Script::open();
        script.send(ApiKey::ListOffsets, 11, &repeated);
        let response: ListOffsetsResponse = script.response(ApiKey::ListOffsets, 11);
        assert_eq!(response.topics.len(), 1);
        let [partition] = &response.topics[0].partitions[..] else {
            panic!("{response:?}")
        };
        assert_eq!(partition.error_code, ErrorCode::INVALID_REQUEST);
    }

    #[test]
    fn offsets_are_found_by_name_and_by_time() {
        let mut script = Script::open();
        script.send(
            ApiKey::ListOffsets,
            11,
            &request(&[-1, -2, -3, -4, -5, -6, -7, 1000, 2000]),
        );
        let mut asked = vec![];
        for command in script.commands() {
            let Command::FindOffset { token, at, .. } = command else {
                panic!("{command:?}")
            };
            asked.push(at);
            let found =
                (at != OffsetSpec::AtTime(2000)).then_some((Offset(7), Some(Timestamp(1500))));
            script.done(token, Ok(Reply::Offset { spec: at, found }));
        }
        use OffsetSpec::*;
        assert_eq!(
            asked,
            [
                Latest,
                Earliest,
                MaxTimestamp,
                Earliest,
                AtTime(1000),
                AtTime(2000)
            ]
        );
        let response: ListOffsetsResponse = script.response(ApiKey::ListOffsets, 11);
        let told: Vec<_> = response.topics[0]
            .partitions
            .iter()
            .map(|it| (it.offset, it.timestamp, it.error_code.0))
            .collect();
        // One leader, of epoch 0, has written whatever is found (KIP-320).
        let epochs = response.topics[0].partitions.iter().map(|it| {
            let expected = if it.offset < 0 { -1 } else { 0 };
            (it.leader_epoch, expected)
        });
        assert!(epochs.clone().all(|(epoch, expected)| epoch == expected));
        let none = (-1, -1, 0);
        assert_eq!(
            told,
            [
                (7, -1, 0),
                (7, -1, 0),
                (7, 1500, 0),
                (7, -1, 0),
                none,
                none,
                (-1, -1, 35),
                (7, 1500, 0),
                none
            ]
        );
    }

    #[test]
    fn names_are_those_of_the_version() {
        let mut script = Script::open();
        script.send(ApiKey::ListOffsets, 1, &request(&[-3]));
        let response: ListOffsetsResponse = script.response(ApiKey::ListOffsets, 1);
        assert_eq!(
            response.topics[0].partitions[0].error_code,
            ErrorCode::UNSUPPORTED_VERSION
        );
    }

    #[test]
    fn a_missing_topic_is_told() {
        let mut script = Script::open();
        script.send(ApiKey::ListOffsets, 1, &request(&[-1]));
        let token = script.command(|command| match command {
            Command::FindOffset { token, .. } => Some(token),
            _ => None,
        });
        script.done(token, Err(not_found("ab")));
        let response: ListOffsetsResponse = script.response(ApiKey::ListOffsets, 1);
        assert_eq!(
            response.topics[0].partitions[0].error_code,
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
        );
    }
}
