//! Fetch sessions (KIP-227): what a consumer fetches is remembered, so that it sends only what changes, and is
//! told only of partitions with something new.
//!
//! A connection has one session at most, which is as many as a client opens; opening another ends it, and so does
//! the end of the connection. A client whose session is gone is told so and opens the next.

use std::sync::atomic::{AtomicI32, Ordering};

use rustc_hash::{FxHashMap, FxHashSet};
use trivium_core::Text;

use crate::{error::ErrorCode, messages::fetch::*, wire::Uuid};

/// Partitions of one session at most; a fetch of more has none.
const PARTITIONS_MAX: usize = 50_000;
/// The epoch of a fetch without a session, which ends the one that it names.
const NONE: i32 = -1;
/// The epoch of a fetch that opens one.
const OPEN: i32 = 0;

/// The session of a connection, if it has one.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    current: Option<FetchSession>,
}

#[derive(Debug)]
struct FetchSession {
    id: i32,
    /// Of the next request.
    epoch: i32,
    /// Whether topics have ids.
    by_id: bool,
    /// In the order in which they are read: those that had records last come last.
    partitions: Vec<Remembered>,
}

#[derive(Clone, Debug)]
struct Remembered {
    topic: Text,
    topic_id: Uuid,
    wanted: FetchPartition,
    /// What the client was told last; -1 before and after an error.
    high_watermark: i64,
    log_start: i64,
}

impl Remembered {
    fn is(&self, topic: &Text, topic_id: Uuid, partition: i32) -> bool {
        self.topic == *topic && self.topic_id == topic_id && self.wanted.partition == partition
    }
}

/// How a fetch uses a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// All partitions are told; the id is that of the session that begins, or 0.
    Full(i32),
    /// Only what changed is told.
    Incremental(i32),
}

/// Takes partitions that stand in a request several times for one, which is wanted as it stands there last, and
/// leaves out topics without any.
pub(crate) fn make_distinct(topics: &mut Vec<FetchTopic>) {
    let is_ascending = |topic: &FetchTopic| {
        let partitions = &topic.partitions;
        !partitions.is_empty() && partitions.is_sorted_by(|a, b| a.partition < b.partition)
    };
    let mut names = FxHashSet::default();
    let is_distinct = topics
        .iter()
        .all(|topic| is_ascending(topic) && names.insert((topic.topic.clone(), topic.topic_id)));
    if is_distinct {
        return;
    }
    let mut places = FxHashMap::default();
    let mut distinct: Vec<FetchTopic> = Vec::with_capacity(topics.len());
    for topic in std::mem::take(topics) {
        for wanted in topic.partitions {
            let key = (topic.topic.clone(), topic.topic_id, wanted.partition);
            if let Some((at, index)) = places.get(&key) {
                let known: &mut FetchTopic = &mut distinct[*at];
                known.partitions[*index] = wanted;
                continue;
            }
            let is_same = |last: &&mut FetchTopic| {
                last.topic == topic.topic && last.topic_id == topic.topic_id
            };
            if distinct.last_mut().filter(is_same).is_none() {
                distinct.push(FetchTopic {
                    topic: topic.topic.clone(),
                    topic_id: topic.topic_id,
                    partitions: Vec::new(),
                });
            }
            let at = distinct.len() - 1;
            places.insert(key, (at, distinct[at].partitions.len()));
            distinct[at].partitions.push(wanted);
        }
    }
    *topics = distinct;
}

impl Sessions {
    /// What a request means together with its session: all partitions that are to be read.
    pub(crate) fn begin(
        &mut self,
        request: &mut FetchRequest,
        by_id: bool,
        ids: &AtomicI32,
    ) -> Result<Use, ErrorCode> {
        if matches!(request.session_epoch, NONE | OPEN) {
            let named = request.session_id;
            self.current
                .take_if(|session| named == 0 || session.id == named);
            let count: usize = request.topics.iter().map(|it| it.partitions.len()).sum();
            if request.session_epoch == NONE || count > PARTITIONS_MAX {
                return Ok(Use::Full(0));
            }
            let id = ids.fetch_add(1, Ordering::Relaxed) & i32::MAX;
            let mut session = FetchSession {
                id: id.max(1),
                epoch: 1,
                by_id,
                partitions: Vec::with_capacity(count),
            };
            session.update(&request.topics);
            let id = session.id;
            self.current = Some(session);
            return Ok(Use::Full(id));
        }
        let session = self
            .current
            .as_mut()
            .filter(|it| it.id == request.session_id);
        let session = session.ok_or(ErrorCode::FETCH_SESSION_ID_NOT_FOUND)?;
        if session.epoch != request.session_epoch {
            return Err(ErrorCode::INVALID_FETCH_SESSION_EPOCH);
        }
        if session.by_id != by_id {
            return Err(ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR);
        }
        session.epoch = session.epoch.checked_add(1).unwrap_or(1);
        session.update(&request.topics);
        session.forget(&request.forgotten_topics_data);
        if session.partitions.len() > PARTITIONS_MAX {
            self.current = None;
            return Err(ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
        }
        request.topics = session.topics();
        Ok(Use::Incremental(session.id))
    }

    /// The response to a client that has to wait: nothing. What it was told before stays; a session does not begin.
    pub(crate) fn put_off(&mut self, used: Use) -> FetchResponse {
        let session_id = match used {
            Use::Incremental(id) => id,
            Use::Full(id) => {
                self.current.take_if(|session| session.id == id);
                0
            }
        };
        FetchResponse {
            session_id,
            ..Default::default()
        }
    }

    /// Takes note of what the client is told, and leaves out of an incremental response what it knows.
    pub(crate) fn end(&mut self, used: Use, response: &mut FetchResponse) {
        let (id, incremental) = match used {
            Use::Full(id) => (id, false),
            Use::Incremental(id) => (id, true),
        };
        response.session_id = id;
        let Some(session) = self.current.as_mut().filter(|it| it.id == id) else {
            return;
        };
        session.told(&mut response.responses, incremental);
    }
}

impl FetchSession {
    fn update(&mut self, topics: &[FetchTopic]) {
        if topics.is_empty() {
            return;
        }
        let places = self.partitions.iter().enumerate();
        let mut places: FxHashMap<_, _> = places
            .map(|(at, it)| ((it.topic.clone(), it.topic_id, it.wanted.partition), at))
            .collect();
        for topic in topics {
            for wanted in &topic.partitions {
                let (name, id) = (&topic.topic, topic.topic_id);
                let end = self.partitions.len();
                let at = *places
                    .entry((name.clone(), id, wanted.partition))
                    .or_insert(end);
                match self.partitions.get_mut(at) {
                    Some(known) => known.wanted = wanted.clone(),
                    None => self.partitions.push(Remembered {
                        topic: name.clone(),
                        topic_id: id,
                        wanted: wanted.clone(),
                        high_watermark: -1,
                        log_start: -1,
                    }),
                }
            }
        }
    }

    fn forget(&mut self, topics: &[ForgottenTopic]) {
        let forgotten: FxHashSet<_> = topics
            .iter()
            .flat_map(|topic| {
                let key = |partition: &i32| (topic.topic.clone(), topic.topic_id, *partition);
                topic.partitions.iter().map(key)
            })
            .collect();
        self.partitions.retain(|it| {
            !forgotten.contains(&(it.topic.clone(), it.topic_id, it.wanted.partition))
        });
    }

    /// All partitions, as a request that is not incremental has them.
    fn topics(&self) -> Vec<FetchTopic> {
        let mut topics: Vec<FetchTopic> = Vec::new();
        for known in &self.partitions {
            let same = |topic: &&mut FetchTopic| {
                topic.topic == known.topic && topic.topic_id == known.topic_id
            };
            match topics.last_mut().filter(same) {
                Some(topic) => topic.partitions.push(known.wanted.clone()),
                None => topics.push(FetchTopic {
                    topic: known.topic.clone(),
                    topic_id: known.topic_id,
                    partitions: vec![known.wanted.clone()],
                }),
            }
        }
        topics
    }

    /// The response has the partitions of the session in their order, which changes here: who had records is read
    /// last the next time, so that all get their turn.
    fn told(&mut self, responses: &mut Vec<FetchableTopicResponse>, incremental: bool) {
        let (mut quiet, mut served) = (Vec::new(), Vec::new());
        let mut known = std::mem::take(&mut self.partitions).into_iter().peekable();
        for topic in responses.iter_mut() {
            topic.partitions.retain(|told| {
                let same =
                    known.next_if(|it| it.is(&topic.topic, topic.topic_id, told.partition_index));
                let Some(mut same) = same else {
                    return true;
                };
                let is_error = told.error_code.is_err();
                let has_records = !told.records.0.is_empty();
                let is_new = has_records
                    || is_error
                    || told.high_watermark != same.high_watermark
                    || told.log_start_offset != same.log_start;
                (same.high_watermark, same.log_start) = match is_error {
                    true => (-1, -1),
                    false => (told.high_watermark, told.log_start_offset),
                };
                if has_records { &mut served } else { &mut quiet }.push(same);
                is_new || !incremental
            });
        }
        quiet.extend(known);
        quiet.append(&mut served);
        self.partitions = quiet;
        if incremental {
            responses.retain(|topic| !topic.partitions.is_empty());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        batch,
        records::{Records, StoredBatch},
    };

    fn request(id: i32, epoch: i32, partitions: &[(i32, i64)]) -> FetchRequest {
        let asked = partitions
            .iter()
            .map(|(partition, fetch_offset)| FetchPartition {
                partition: *partition,
                fetch_offset: *fetch_offset,
                ..Default::default()
            });
        let topic = FetchTopic {
            topic: "t".into(),
            topic_id: Uuid::default(),
            partitions: asked.collect(),
        };
        FetchRequest {
            session_id: id,
            session_epoch: epoch,
            topics: if partitions.is_empty() {
                vec![]
            } else {
                vec![topic]
            },
            ..Default::default()
        }
    }

    /// What is read, by partition and offset.
    fn read(request: &FetchRequest) -> Vec<(i32, i64)> {
        let partitions = request.topics.iter().flat_map(|topic| &topic.partitions);
        partitions
            .map(|it| (it.partition, it.fetch_offset))
            .collect()
    }

    fn answer(partitions: &[(i32, i64, bool)]) -> FetchResponse {
        let told = partitions
            .iter()
            .map(|(partition_index, high_watermark, records)| PartitionData {
                partition_index: *partition_index,
                high_watermark: *high_watermark,
                records: Records(if *records {
                    vec![StoredBatch {
                        base: 0,
                        bytes: batch::sample(b"v"),
                    }]
                } else {
                    vec![]
                }),
                ..Default::default()
            });
        FetchResponse {
            responses: vec![FetchableTopicResponse {
                topic: "t".into(),
                partitions: told.collect(),
                ..Default::default()
            }],
            ..Default::default()
        }
    }

    fn told(response: &FetchResponse) -> Vec<i32> {
        let partitions = response
            .responses
            .iter()
            .flat_map(|topic| &topic.partitions);
        partitions.map(|it| it.partition_index).collect()
    }

    #[test]
    fn a_session_remembers_and_tells_what_is_new() {
        let (mut sessions, ids) = (Sessions::default(), AtomicI32::new(7));
        let mut open = request(0, 0, &[(0, 0), (1, 5)]);
        let used = sessions.begin(&mut open, false, &ids).unwrap();
        assert_eq!(used, Use::Full(7));
        let mut response = answer(&[(0, 3, true), (1, 5, false)]);
        sessions.end(used, &mut response);
        assert_eq!((response.session_id, told(&response)), (7, vec![0, 1]));

        // Partition 0 had records, so partition 1 is first now.
        let mut next = request(7, 1, &[(0, 3)]);
        let used = sessions.begin(&mut next, false, &ids).unwrap();
        assert_eq!(read(&next), [(1, 5), (0, 3)]);
        let mut response = answer(&[(1, 6, false), (0, 3, false)]);
        sessions.end(used, &mut response);
        assert_eq!(told(&response), [1], "the high watermark moved");

        let mut next = request(7, 2, &[]);
        next.forgotten_topics_data = vec![ForgottenTopic {
            topic: "t".into(),
            topic_id: Uuid::default(),
            partitions: vec![1],
        }];
        let used = sessions.begin(&mut next, false, &ids).unwrap();
        assert_eq!(read(&next), [(0, 3)]);
        let mut response = answer(&[(0, 3, false)]);
        sessions.end(used, &mut response);
        assert!(response.responses.is_empty());
    }

    #[test]
    fn what_is_repeated_is_wanted_as_it_stands_last() {
        let mut again = request(0, 0, &[(0, 5), (1, 7), (0, 6)]);
        again.topics.extend(request(0, 0, &[(1, 8), (2, 9)]).topics);
        again.topics.push(FetchTopic::default());
        make_distinct(&mut again.topics);
        assert_eq!(read(&again), [(0, 6), (1, 8), (2, 9)]);
        assert_eq!(again.topics.len(), 1);
    }

    /// KIP-227: what comes and goes in one request has gone.
    #[test]
    fn partitions_come_before_others_go() {
        let (mut sessions, ids) = (Sessions::default(), AtomicI32::new(1));
        let used = sessions.begin(&mut request(0, 0, &[]), false, &ids);
        assert_eq!(used, Ok(Use::Full(1)), "a session may begin empty");
        let mut next = request(1, 1, &[(0, 0), (1, 0)]);
        next.forgotten_topics_data = vec![ForgottenTopic {
            topic: "t".into(),
            topic_id: Uuid::default(),
            partitions: vec![0],
        }];
        sessions.begin(&mut next, false, &ids).unwrap();
        assert_eq!(read(&next), [(1, 0)]);
    }

    #[test]
    fn sessions_that_are_not_there_and_epochs_that_are_not_next_are_refused() {
        let (mut sessions, ids) = (Sessions::default(), AtomicI32::new(1));
        let mut begin = |request: &mut FetchRequest, by_id| sessions.begin(request, by_id, &ids);
        let lost = Err(ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
        assert_eq!(begin(&mut request(1, 1, &[]), false), lost);
        assert_eq!(
            begin(&mut request(0, 0, &[(0, 0)]), false),
            Ok(Use::Full(1))
        );
        let wrong = Err(ErrorCode::INVALID_FETCH_SESSION_EPOCH);
        assert_eq!(begin(&mut request(1, 2, &[]), false), wrong);
        let mixed = Err(ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR);
        assert_eq!(begin(&mut request(1, 1, &[]), true), mixed);
        assert_eq!(
            begin(&mut request(1, 1, &[]), false),
            Ok(Use::Incremental(1))
        );
        // The last request of a session is a full one without.
        assert_eq!(
            begin(&mut request(1, -1, &[(0, 0)]), false),
            Ok(Use::Full(0))
        );
        assert_eq!(begin(&mut request(1, 2, &[]), false), lost);
    }
}
