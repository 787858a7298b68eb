//! ShareFetch and ShareAcknowledge (KIP-932): records are read from the log, and given out by the share group.
//!
//! ```text
//! acknowledge ─► positions ─► begin with new partitions ─► read the logs ─► acquire ─► respond
//! ```
//! The group decides who gets what; the log is read without it. What two members read at once, one of them acquires.

use std::time::Duration;

use trivium_core::{
    Command, Fetch, FetchPartition, Fetched, FetchedBatch, Isolation, Offset, Reply, Text, Visible,
    group::{
        Acknowledged, Acknowledgement, Acquired, GroupAnswer, GroupError, GroupRequest, Position,
        ShareAnswer, SharePartition, ShareRead, ShareRequest, Terms,
    },
};

use crate::{
    call::{Answer, Call, Job, Step},
    error::{ErrorCode, is_missing_log},
    messages::share::*,
    records::{Records, StoredBatch},
    serve::{
        groups::{Failure, answer_of, ask},
        share_groups::is_member_id,
        share_session::{FINAL, Member},
    },
    wire::Uuid,
};

/// Kafka's default of `share.record.lock.duration.ms`, for answers that lock nothing.
const LOCK_MS: i32 = 30_000;
/// Bytes read of a partition at once.
const PARTITION_BYTES: usize = 1 << 20;
/// Longer than any client waits for a response.
const WAIT_MAX_MS: i32 = 5 * 60 * 1000;
/// Whole batches, or not one record more than asked for (KIP-1206).
const BATCHES: i8 = 0;
const RECORD_LIMIT: i8 = 1;

/// What an answer of a share group must be.
pub(super) fn share_answer(answer: Answer) -> Result<ShareAnswer, Failure> {
    match answer_of(answer)? {
        GroupAnswer::Share(answer) => Ok(answer),
        _ => Err(Failure::unexpected()),
    }
}

/// A fetch under way.
struct Fetching {
    member: Member,
    stage: Stage,
    partitions: Vec<Partition>,
    acknowledged: Vec<(Uuid, i32)>,
    wait: Duration,
    min_bytes: usize,
    max_bytes: usize,
    records_max: u64,
    strict: bool,
    closes: bool,
    /// All partitions are told, also those of which there is nothing.
    opens: bool,
    committed_only: bool,
    lock_ms: i32,
    left: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Acknowledge,
    Positions,
    Begin,
    Read,
    Acquire,
    Release,
}

/// A partition of the fetch.
struct Partition {
    id: Uuid,
    number: i32,
    log: Result<Text, ErrorCode>,
    position: Option<Offset>,
    /// The group begins with it in this fetch.
    is_new: bool,
    batches: Vec<FetchedBatch>,
    response: ShareFetchPartitionData,
    wanted: bool,
}

impl Partition {
    fn new(id: Uuid, number: i32, wanted: bool, call: &Call<'_>) -> Partition {
        let log = call.session.topics.name(id).cloned();
        let log = log.ok_or(ErrorCode::UNKNOWN_TOPIC_ID);
        let mut response = ShareFetchPartitionData {
            partition_index: number,
            ..Default::default()
        };
        response.error_code = log.as_ref().err().copied().unwrap_or_default();
        Partition {
            id,
            number,
            log,
            position: None,
            is_new: false,
            batches: Vec::new(),
            response,
            wanted,
        }
    }

    fn key(&self) -> ([u8; 16], u32) {
        (self.id.0, u32::try_from(self.number).unwrap_or(u32::MAX))
    }

    fn is_readable(&self) -> bool {
        self.wanted && self.log.is_ok() && !self.response.error_code.is_err()
    }
}

fn refused(code: ErrorCode, call: &Call<'_>) -> Step {
    call.respond(&ShareFetchResponse {
        error_code: code,
        ..Default::default()
    })
}

pub(crate) fn fetch(request: ShareFetchRequest, call: &mut Call<'_>) -> Step {
    let (Some(group), Some(id)) = (request.group_id, request.member_id) else {
        return refused(ErrorCode::INVALID_REQUEST, call);
    };
    if !is_member_id(&id) {
        return refused(ErrorCode::INVALID_REQUEST, call);
    }
    let member = (group, id);
    let opens = request.share_session_epoch == 0;
    let has_acknowledgements = |topic: &ShareTopic| {
        topic
            .partitions
            .iter()
            .any(|it| !it.acknowledgement_batches.is_empty())
    };
    if opens && request.topics.iter().any(has_acknowledgements) {
        return refused(ErrorCode::INVALID_REQUEST, call);
    }
    if ![BATCHES, RECORD_LIMIT].contains(&request.share_acquire_mode) {
        return refused(ErrorCode::UNKNOWN_SERVER_ERROR, call);
    }
    // KIP-1222: who renews locks fetches nothing.
    let fetches = request.max_bytes != 0
        || request.max_records != 0
        || request.min_bytes != 0
        || request.max_wait_ms != 0;
    if request.is_renew_ack && fetches {
        return refused(ErrorCode::INVALID_REQUEST, call);
    }
    let closes = request.share_session_epoch == FINAL;
    if let Err(code) = call
        .session
        .shares
        .enter(&member, request.share_session_epoch)
    {
        return refused(code, call);
    }
    let named = request.topics.iter().flat_map(|topic| {
        topic
            .partitions
            .iter()
            .map(|it| (topic.topic_id, it.partition_index))
    });
    let forgotten = &request.forgotten_topics_data;
    let in_session = call.session.shares.partitions(&member, named, forgotten);
    let asks = request.max_records != 0 && request.max_bytes > 0;
    let reads = !closes && !request.is_renew_ack && asks;
    let mut partitions: Vec<Partition> = in_session
        .into_iter()
        .map(|(id, number)| Partition::new(id, number, reads, call))
        .collect();
    let Asked {
        acknowledgements,
        partitions: acknowledged,
        refused: malformed,
    } = asked(&request.topics, request.is_renew_ack);
    for (id, number) in acknowledged.iter().chain(&malformed) {
        if !partitions
            .iter()
            .any(|it| it.id == *id && it.number == *number)
        {
            partitions.push(Partition::new(*id, *number, false, call));
        }
    }
    for partition in &mut partitions {
        if malformed.contains(&(partition.id, partition.number)) {
            partition.response.acknowledge_error_code = ErrorCode::INVALID_REQUEST;
        }
    }
    let job = Fetching {
        member,
        stage: Stage::Acknowledge,
        partitions,
        acknowledged,
        wait: Duration::from_millis(request.max_wait_ms.clamp(0, WAIT_MAX_MS) as u64),
        min_bytes: request.min_bytes.max(0) as usize,
        max_bytes: request.max_bytes.max(0) as usize,
        records_max: request.max_records.max(1) as u64,
        strict: request.share_acquire_mode == RECORD_LIMIT,
        closes,
        opens: opens && asks,
        committed_only: false,
        lock_ms: LOCK_MS,
        left: 1,
    };
    if acknowledgements.is_empty() {
        return job.positions(call);
    }
    let member = job.member.1.clone();
    job.ask(
        ShareRequest::Acknowledge {
            member,
            acknowledgements,
        },
        call,
    );
    Step::Wait(Box::new(job))
}

/// What became of ranges of records, by partition.
type Acknowledgements = Vec<(SharePartition, Vec<Acknowledged>)>;

/// What a request says became of records.
struct Asked {
    acknowledgements: Acknowledgements,
    /// Of which partitions they are, in the same order.
    partitions: Vec<(Uuid, i32)>,
    /// Partitions whose acknowledgements contradict themselves: none of them is taken.
    refused: Vec<(Uuid, i32)>,
}

fn asked(topics: &[ShareTopic], renews: bool) -> Asked {
    let mut asked = Asked {
        acknowledgements: Vec::new(),
        partitions: Vec::new(),
        refused: Vec::new(),
    };
    let partitions = topics
        .iter()
        .flat_map(|topic| topic.partitions.iter().map(|it| (topic.topic_id, it)));
    for (id, partition) in partitions {
        if partition.acknowledgement_batches.is_empty() {
            continue;
        }
        let place = (id, partition.partition_index);
        match all_ranges(&partition.acknowledgement_batches, renews) {
            Some(ranges) => {
                // No log has so many partitions: what is negative is not there.
                let number = u32::try_from(partition.partition_index).unwrap_or(u32::MAX);
                match asked.partitions.iter().position(|it| *it == place) {
                    Some(known) => asked.acknowledgements[known].1 = ranges,
                    None => {
                        asked.acknowledgements.push(((id.0, number), ranges));
                        asked.partitions.push(place);
                    }
                }
            }
            None => asked.refused.push(place),
        }
    }
    asked
}

/// The batches in ascending order, none within another; nothing where they are otherwise.
fn all_ranges(batches: &[AcknowledgementBatch], renews: bool) -> Option<Vec<Acknowledged>> {
    let is_ascending = batches
        .windows(2)
        .all(|pair| pair[1].first_offset >= pair[0].last_offset);
    let mut ranges = Vec::new();
    for batch in batches {
        ranges.extend(ranges_of(batch, renews)?);
    }
    is_ascending.then_some(ranges)
}

/// One type is for the whole batch; else there is one for each record. Records before the first of a log are ignored.
fn ranges_of(batch: &AcknowledgementBatch, renews: bool) -> Option<Vec<Acknowledged>> {
    if batch.last_offset < batch.first_offset {
        return None;
    }
    let kinds = &batch.acknowledge_types;
    let offset = |offset: i64| u64::try_from(offset).ok().map(Offset);
    if let [kind] = kinds[..] {
        let kind = acknowledgement(kind, renews)?;
        let range = offset(batch.last_offset)
            .map(|last| (offset(batch.first_offset).unwrap_or(Offset(0)), last, kind));
        return Some(range.into_iter().collect());
    }
    let count = i128::from(batch.last_offset) - i128::from(batch.first_offset) + 1;
    if kinds.len() as i128 != count {
        return None;
    }
    let mut ranges = Vec::with_capacity(kinds.len());
    for (at, kind) in (batch.first_offset..).zip(kinds) {
        let kind = acknowledgement(*kind, renews)?;
        ranges.extend(offset(at).map(|at| (at, at, kind)));
    }
    Some(ranges)
}

fn acknowledgement(kind: i8, renews: bool) -> Option<Acknowledgement> {
    match kind {
        0 => Some(Acknowledgement::Gap),
        1 => Some(Acknowledgement::Accept),
        2 => Some(Acknowledgement::Release),
        3 => Some(Acknowledgement::Reject),
        4 if renews => Some(Acknowledgement::Renew),
        _ => None,
    }
}

impl Fetching {
    fn ask(&self, request: ShareRequest, call: &mut Call<'_>) {
        ask(0, self.member.0.clone(), GroupRequest::Share(request), call);
    }

    fn isolation(&self) -> Isolation {
        match self.committed_only {
            true => Isolation::Committed,
            false => Isolation::Uncommitted,
        }
    }

    /// Asks where to read; or ends where nothing is to be read.
    fn positions(mut self, call: &mut Call<'_>) -> Step {
        if self.closes {
            self.stage = Stage::Release;
            let member = self.member.1.clone();
            self.ask(ShareRequest::ReleaseAll { member }, call);
            return Step::Wait(Box::new(self));
        }
        let readable = self.partitions.iter().filter(|it| it.is_readable());
        let partitions: Vec<_> = readable.map(Partition::key).collect();
        if partitions.is_empty() {
            return self.respond(call);
        }
        self.stage = Stage::Positions;
        self.ask(ShareRequest::Positions { partitions }, call);
        Step::Wait(Box::new(self))
    }

    /// The ends of logs that the group has not begun with are looked for.
    fn begin(mut self, positions: &[Position], terms: &Terms, call: &mut Call<'_>) -> Step {
        self.committed_only = terms.committed_only;
        self.lock_ms = terms.lock.as_millis() as i32;
        let mut unknown = Vec::new();
        let readable = (0..)
            .zip(&mut self.partitions)
            .filter(|(_, it)| it.is_readable());
        for ((part, partition), position) in readable.zip(positions) {
            match position {
                Position::At(offset) => partition.position = Some(*offset),
                Position::Full => {}
                Position::Unknown => {
                    partition.is_new = true;
                    unknown.push((part, partition.log.clone(), partition.key().1));
                }
            }
        }
        self.left = unknown.len();
        if unknown.is_empty() {
            return self.read(call);
        }
        self.stage = Stage::Begin;
        for (part, log, partition) in unknown {
            let log = log.unwrap_or_default();
            let (at, isolation) = (terms.begin, self.isolation());
            call.submit(part, |token| Command::FindOffset {
                token,
                log,
                partition,
                at,
                isolation,
            });
        }
        Step::Wait(Box::new(self))
    }

    fn on_end(mut self, part: usize, answer: Answer, call: &mut Call<'_>) -> Step {
        let found = answer.reply(|reply| match reply {
            Reply::Offset { found, .. } => Some(found),
            _ => None,
        });
        if let Some(partition) = self.partitions.get_mut(part) {
            match found {
                Ok(found) => partition.position = found.map(|(offset, _)| offset),
                Err(refusal) => {
                    partition.response.error_code = match is_missing_log(&refusal) {
                        true => ErrorCode::UNKNOWN_TOPIC_ID,
                        false => ErrorCode::from(&refusal),
                    };
                }
            }
            if let (Some(start), key) = (partition.position, partition.key()) {
                let begin = ShareRequest::Initialise {
                    partition: key,
                    start,
                };
                let group = self.member.0.clone();
                ask(part, group, GroupRequest::Share(begin), call);
                self.left += 1;
            }
        }
        self.left -= 1;
        match self.left {
            0 => self.read(call),
            _ => Step::Wait(Box::new(self)),
        }
    }

    fn on_begun(mut self, part: usize, answer: ShareAnswer, call: &mut Call<'_>) -> Step {
        if let (ShareAnswer::Positions { positions, .. }, Some(partition)) =
            (answer, self.partitions.get_mut(part))
        {
            partition.position = match positions.first() {
                Some(Position::At(offset)) => Some(*offset),
                _ => None,
            };
        }
        self.left -= 1;
        match self.left {
            0 => self.read(call),
            _ => Step::Wait(Box::new(self)),
        }
    }

    fn read(mut self, call: &mut Call<'_>) -> Step {
        let wanted = |partition: &Partition| {
            Some(FetchPartition {
                log: partition.log.clone().ok()?,
                id: Some(partition.id.0),
                partition: partition.key().1,
                from: partition.position.filter(|_| partition.is_readable())?,
                max_bytes: PARTITION_BYTES,
            })
        };
        // Even without a partition: where all records are with members, the client waits as for new ones.
        let partitions: Vec<_> = self.partitions.iter().filter_map(wanted).collect();
        self.stage = Stage::Read;
        let fetch = Fetch {
            partitions,
            min_bytes: self.min_bytes.max(1),
            max_bytes: self.max_bytes.max(1),
            wait: self.wait,
            isolation: self.isolation(),
        };
        call.submit(0, |token| Command::Fetch { token, fetch });
        Step::Wait(Box::new(self))
    }

    /// What was read is to be acquired. Of the partitions that the group begins with, the first with records: Kafka
    /// answers as soon as it has initialised one, and clients take what such a fetch returns for one partition's.
    fn acquire(mut self, fetched: Vec<Fetched>, call: &mut Call<'_>) -> Step {
        let mut reads = Vec::new();
        let mut has_begun = false;
        let read = self
            .partitions
            .iter_mut()
            .filter(|it| it.is_readable() && it.position.is_some());
        for (partition, fetched) in read.zip(fetched) {
            match fetched.result {
                Ok(batches) if partition.is_new && has_begun && !batches.is_empty() => {
                    partition.position = None;
                }
                Ok(batches) => {
                    has_begun |= partition.is_new && !batches.is_empty();
                    let mut read = ShareRead {
                        partition: partition.key(),
                        log_start: fetched.log_start,
                        shown: Vec::new(),
                        skipped: Vec::new(),
                    };
                    let mut visible = Visible::new(&fetched.aborted);
                    for batch in batches {
                        let Some(range) = range(&batch) else { continue };
                        match visible.shows(&batch) {
                            true => {
                                read.shown.push(range);
                                partition.batches.push(batch);
                            }
                            false => read.skipped.push(range),
                        }
                    }
                    reads.push(read);
                }
                Err(trivium_core::Refusal::OffsetOutOfRange(_)) => reads.push(ShareRead {
                    partition: partition.key(),
                    log_start: fetched.log_start,
                    shown: Vec::new(),
                    skipped: Vec::new(),
                }),
                Err(refusal) if is_missing_log(&refusal) => {
                    partition.response.error_code = ErrorCode::UNKNOWN_TOPIC_ID;
                    call.session.topics.forget_id(partition.id);
                }
                Err(refusal) => partition.response.error_code = ErrorCode::from(&refusal),
            }
        }
        self.stage = Stage::Acquire;
        let acquire = ShareRequest::Acquire {
            member: self.member.1.clone(),
            reads,
            records_max: self.records_max,
            strict: self.strict,
        };
        self.ask(acquire, call);
        Step::Wait(Box::new(self))
    }

    fn acquired(mut self, acquired: Vec<Vec<Acquired>>, call: &mut Call<'_>) -> Step {
        let read = self
            .partitions
            .iter_mut()
            .filter(|it| it.is_readable() && it.position.is_some());
        for (partition, acquired) in read.zip(acquired) {
            let batches = std::mem::take(&mut partition.batches).into_iter();
            let is_wanted = |batch: &FetchedBatch| {
                range(batch).is_some_and(|(first, last)| {
                    acquired
                        .iter()
                        .any(|it| it.first <= last && it.last >= first)
                })
            };
            let stored = |batch: FetchedBatch| StoredBatch {
                base: batch.base.0 as i64,
                bytes: batch.bytes,
            };
            partition.response.records = Records(batches.filter(is_wanted).map(stored).collect());
            let records = |it: Acquired| AcquiredRecords {
                first_offset: it.first.0 as i64,
                last_offset: it.last.0 as i64,
                delivery_count: it.deliveries as i16,
            };
            partition.response.acquired_records = acquired.into_iter().map(records).collect();
        }
        self.respond(call)
    }

    fn respond(self, call: &Call<'_>) -> Step {
        let mut response = ShareFetchResponse {
            acquisition_lock_timeout_ms: self.lock_ms,
            ..Default::default()
        };
        let acknowledged = self.acknowledged;
        for partition in self.partitions {
            let Partition {
                id,
                number,
                response: data,
                ..
            } = partition;
            let is_told = self.opens
                || !data.acquired_records.is_empty()
                || data.error_code.is_err()
                || data.acknowledge_error_code.is_err()
                || acknowledged.contains(&(id, number));
            if !is_told {
                continue;
            }
            let topics = &mut response.responses;
            match topics.iter_mut().find(|topic| topic.topic_id == id) {
                Some(topic) => topic.partitions.push(data),
                None => topics.push(ShareFetchableTopicResponse {
                    topic_id: id,
                    partitions: vec![data],
                }),
            }
        }
        call.respond(&response)
    }

    fn fail(self, failure: &Failure, call: &Call<'_>) -> Step {
        refused(failure.code(), call)
    }
}

/// First and last record of a stored batch.
fn range(batch: &FetchedBatch) -> Option<(Offset, Offset)> {
    let last_delta = trivium_core::BatchHeader::peek(&batch.bytes)?.last_offset_delta;
    Some((batch.base, Offset(batch.base.0 + u64::from(last_delta))))
}

impl Job for Fetching {
    fn on_answer(mut self: Box<Self>, part: usize, answer: Answer, call: &mut Call<'_>) -> Step {
        if let Answer::Fetched(fetched) = answer {
            return self.acquire(fetched, call);
        }
        if self.stage == Stage::Begin
            && matches!(&answer, Answer::Done(Ok(Reply::Offset { .. }) | Err(_)))
        {
            return self.on_end(part, answer, call);
        }
        let answer = match share_answer(answer) {
            Ok(answer) => answer,
            Err(failure) => return self.fail(&failure, call),
        };
        match (self.stage, answer) {
            (Stage::Acknowledge, ShareAnswer::Acknowledged(results)) => {
                for ((id, number), result) in self.acknowledged.iter().zip(results) {
                    let found = self
                        .partitions
                        .iter_mut()
                        .find(|it| it.id == *id && it.number == *number);
                    if let Some(partition) = found {
                        let (code, text) = judged(result);
                        partition.response.acknowledge_error_code = code;
                        partition.response.acknowledge_error_message = text;
                    }
                }
                self.positions(call)
            }
            (Stage::Positions, ShareAnswer::Positions { positions, terms }) => {
                self.begin(&positions, &terms, call)
            }
            (Stage::Begin, answer) => self.on_begun(part, answer, call),
            (Stage::Acquire, ShareAnswer::Acquired(acquired)) => self.acquired(acquired, call),
            _ => self.respond(call),
        }
    }
}

/// What became of an acknowledgement, with a text where Kafka has one.
fn judged(result: Result<(), GroupError>) -> (ErrorCode, Option<Text>) {
    match result {
        Ok(()) => (ErrorCode::NONE, None),
        Err(error @ GroupError::UnknownSharePartition) => (ErrorCode::from(&error), None),
        Err(error) => (ErrorCode::from(&error), Some(error.to_string().into())),
    }
}

// ShareAcknowledge

/// An acknowledgement under way.
struct Acknowledging {
    partitions: Vec<(Uuid, i32)>,
    /// Partitions whose acknowledgements contradict themselves.
    refused: Vec<(Uuid, i32)>,
    member: Member,
    closes: bool,
    results: Vec<(ErrorCode, Option<Text>)>,
}

pub(crate) fn acknowledge(request: ShareAcknowledgeRequest, call: &mut Call<'_>) -> Step {
    let refused = |code, call: &Call<'_>| {
        call.respond(&ShareAcknowledgeResponse {
            error_code: code,
            ..Default::default()
        })
    };
    let (Some(group), Some(id)) = (request.group_id, request.member_id) else {
        return refused(ErrorCode::INVALID_REQUEST, call);
    };
    if !is_member_id(&id) {
        return refused(ErrorCode::INVALID_REQUEST, call);
    }
    let member = (group, id);
    if request.share_session_epoch == 0 {
        return refused(ErrorCode::INVALID_SHARE_SESSION_EPOCH, call);
    }
    if let Err(code) = call
        .session
        .shares
        .enter(&member, request.share_session_epoch)
    {
        return refused(code, call);
    }
    let asked = asked(&request.topics, request.is_renew_ack);
    let (acknowledgements, partitions) = (asked.acknowledgements, asked.partitions);
    let acknowledge = ShareRequest::Acknowledge {
        member: member.1.clone(),
        acknowledgements,
    };
    ask(0, member.0.clone(), GroupRequest::Share(acknowledge), call);
    Step::Wait(Box::new(Acknowledging {
        partitions,
        refused: asked.refused,
        member,
        closes: request.share_session_epoch == FINAL,
        results: Vec::new(),
    }))
}

impl Acknowledging {
    fn respond(self, call: &Call<'_>) -> Step {
        let mut response = ShareAcknowledgeResponse {
            acquisition_lock_timeout_ms: LOCK_MS,
            ..Default::default()
        };
        let malformed = self.refused.into_iter();
        let malformed = malformed.map(|place| (place, (ErrorCode::INVALID_REQUEST, None)));
        let told = self.partitions.into_iter().zip(self.results);
        for ((id, number), (mut error_code, error_message)) in told.chain(malformed) {
            if call.session.topics.lacks(id) {
                error_code = ErrorCode::UNKNOWN_TOPIC_ID;
            }
            let data = ShareAcknowledgePartitionData {
                partition_index: number,
                error_code,
                error_message,
                ..Default::default()
            };
            let topics = &mut response.responses;
            match topics.iter_mut().find(|topic| topic.topic_id == id) {
                Some(topic) => topic.partitions.push(data),
                None => topics.push(ShareAcknowledgeTopicResponse {
                    topic_id: id,
                    partitions: vec![data],
                }),
            }
        }
        call.respond(&response)
    }
}

impl Job for Acknowledging {
    fn on_answer(mut self: Box<Self>, _part: usize, answer: Answer, call: &mut Call<'_>) -> Step {
        match share_answer(answer) {
            Ok(ShareAnswer::Acknowledged(results)) => {
                self.results = results.into_iter().map(judged).collect();
            }
            // The session has ended, and with it what the member had.
            Ok(_) => return self.respond(call),
            Err(failure) => {
                return call.respond(&ShareAcknowledgeResponse {
                    error_code: failure.code(),
                    error_message: Some(failure.text()),
                    ..Default::default()
                });
            }
        }
        if !self.closes {
            return self.respond(call);
        }
        let release = ShareRequest::ReleaseAll {
            member: self.member.1.clone(),
        };
        ask(0, self.member.0.clone(), GroupRequest::Share(release), call);
        Step::Wait(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(batches: &[(i64, i64, &[i8])], renews: bool) -> Option<Vec<(u64, u64)>> {
        let batch = |(first_offset, last_offset, types): &(i64, i64, &[i8])| AcknowledgementBatch {
            first_offset: *first_offset,
            last_offset: *last_offset,
            acknowledge_types: types.to_vec(),
        };
        let batches: Vec<_> = batches.iter().map(batch).collect();
        let ranges = all_ranges(&batches, renews)?;
        Some(ranges.iter().map(|it| (it.0.0, it.1.0)).collect())
    }

    /// KIP-932, acknowledgement batches; KIP-1222 for renewing.
    #[test]
    fn acknowledgements_that_contradict_themselves_are_refused() {
        assert_eq!(said(&[(1, 3, &[1])], false), Some(vec![(1, 3)]));
        assert_eq!(said(&[(1, 2, &[1, 2])], false), Some(vec![(1, 1), (2, 2)]));
        // What is before every log is done with.
        assert_eq!(said(&[(-1, 3, &[1])], false), Some(vec![(0, 3)]));
        assert_eq!(said(&[(-2, -1, &[1])], false), Some(vec![]));
        assert_eq!(said(&[(1, 1, &[4])], true), Some(vec![(1, 1)]));
        let odd: [&[(i64, i64, &[i8])]; 7] = [
            &[(2, 1, &[1])],
            &[(1, 2, &[])],
            &[(1, 2, &[1, 1, 1])],
            &[(1, 1, &[5])],
            &[(1, 1, &[-1])],
            &[(1, 1, &[4])],
            &[(5, 6, &[1]), (3, 4, &[1])],
        ];
        for batches in odd {
            assert_eq!(said(batches, false), None, "{batches:?}");
        }
        let all = i64::MIN..=i64::MAX;
        assert_eq!(said(&[(*all.start(), *all.end(), &[1, 1])], false), None);
    }
}
