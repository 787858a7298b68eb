//! What administrators ask about transactions: DescribeTransactions, ListTransactions, DescribeProducers, and
//! WriteTxnMarkers, with which they end what nobody else will.

use trivium_core::{
    Command, Refusal, Reply, Text,
    transaction::{
        ProducerIdentity, ProducerInfo, TransactionAnswer, TransactionInfo, TransactionRequest,
    },
};

use crate::{
    call::{Answer, Call, Job, Step},
    error::{ErrorCode, is_missing_log},
    messages::transactions::*,
    serve::{text, transactions::answer_of},
    topics::{illegal, is_legal},
};

// DescribeTransactions

/// Transactional ids being described.
struct Describing {
    states: Vec<DescribedTransaction>,
    left: usize,
}

pub(crate) fn describe(request: DescribeTransactionsRequest, call: &mut Call<'_>) -> Step {
    let mut states = Vec::with_capacity(request.transactional_ids.len());
    for (part, id) in request.transactional_ids.into_iter().enumerate() {
        states.push(DescribedTransaction {
            transactional_id: id.clone(),
            ..Default::default()
        });
        call.submit(part, |token| Command::Transaction {
            token,
            id,
            request: TransactionRequest::Describe,
        });
    }
    let left = states.len();
    let job = Describing { states, left };
    match left {
        0 => job.respond(call),
        _ => Step::Wait(Box::new(job)),
    }
}

impl Describing {
    fn respond(self, call: &Call<'_>) -> Step {
        call.respond(&DescribeTransactionsResponse {
            throttle_time_ms: 0,
            transaction_states: self.states,
        })
    }
}

impl Job for Describing {
    fn on_answer(mut self: Box<Self>, part: usize, answer: Answer, call: &mut Call<'_>) -> Step {
        if let Some(state) = self.states.get_mut(part) {
            match answer_of(answer) {
                Ok(TransactionAnswer::Described(info)) => *state = described(info),
                Ok(_) => state.error_code = ErrorCode::UNKNOWN_SERVER_ERROR,
                Err(refusal) => state.error_code = ErrorCode::from(&refusal),
            }
        }
        self.left -= 1;
        match self.left {
            0 => self.respond(call),
            _ => Step::Wait(self),
        }
    }
}

fn described(info: TransactionInfo) -> DescribedTransaction {
    let mut partitions = info.partitions;
    partitions.sort_unstable();
    let topic = |partitions: &[(Text, u32)]| DescribedTransactionTopic {
        topic: partitions[0].0.clone(),
        partitions: partitions.iter().map(|(_, index)| *index as i32).collect(),
    };
    DescribedTransaction {
        error_code: ErrorCode::NONE,
        transactional_id: info.id,
        transaction_state: Text::from_static(info.state),
        transaction_timeout_ms: info.timeout.as_millis() as i32,
        transaction_start_time_ms: info.started.map_or(-1, |started| started.0 as i64),
        producer_id: info.producer.id,
        producer_epoch: info.producer.epoch,
        topics: partitions.chunk_by(|a, b| a.0 == b.0).map(topic).collect(),
    }
}

// ListTransactions

/// All states that a transactional id can be in.
const STATES: [&str; 8] = [
    "Empty",
    "Ongoing",
    "PrepareCommit",
    "PrepareAbort",
    "CompleteCommit",
    "CompleteAbort",
    "Dead",
    "PrepareEpochFence",
];

struct Listing {
    request: ListTransactionsRequest,
    pattern: Option<regex::Regex>,
}

pub(crate) fn list(request: ListTransactionsRequest, call: &mut Call<'_>) -> Step {
    let given = request
        .transactional_id_pattern
        .as_ref()
        .filter(|pattern| !pattern.is_empty());
    // As a whole, like Java's `matches`.
    let pattern = given
        .map(|pattern| regex::Regex::new(&format!("^(?:{pattern})$")))
        .transpose();
    match pattern {
        Ok(pattern) => {
            call.submit(0, |token| Command::ListTransactions { token });
            Step::Wait(Box::new(Listing { request, pattern }))
        }
        Err(_) => call.respond(&ListTransactionsResponse {
            error_code: ErrorCode::INVALID_REGULAR_EXPRESSION,
            ..Default::default()
        }),
    }
}

impl Listing {
    fn wants(&self, info: &TransactionInfo) -> bool {
        let ListTransactionsRequest {
            state_filters,
            producer_id_filters,
            duration_filter,
            ..
        } = &self.request;
        // What has not begun is as old as time, in Kafka too.
        let is_old_enough = || info.age.as_millis() as i64 > *duration_filter;
        (state_filters.is_empty() || state_filters.iter().any(|state| state == info.state))
            && (producer_id_filters.is_empty() || producer_id_filters.contains(&info.producer.id))
            && (*duration_filter < 0 || is_old_enough())
            && self
                .pattern
                .as_ref()
                .is_none_or(|pattern| pattern.is_match(&info.id))
    }
}

impl Job for Listing {
    fn on_answer(self: Box<Self>, _part: usize, answer: Answer, call: &mut Call<'_>) -> Step {
        let found = answer.reply(|reply| match reply {
            Reply::Transactions(found) => Some(found),
            _ => None,
        });
        let mut response = ListTransactionsResponse::default();
        match found {
            Ok(found) => {
                let listed = found.into_iter().filter(|info| self.wants(info));
                let state = |info: TransactionInfo| ListedTransaction {
                    transactional_id: info.id,
                    producer_id: info.producer.id,
                    transaction_state: Text::from_static(info.state),
                };
                response.transaction_states = listed.map(state).collect();
                let unknown = |state: &Text| !STATES.contains(&&**state);
                let filters = self.request.state_filters.into_iter();
                response.unknown_state_filters = filters.filter(unknown).collect();
            }
            Err(refusal) => response.error_code = ErrorCode::from(&refusal),
        }
        call.respond(&response)
    }
}

// DescribeProducers

/// Partitions being described, in the order of the request.
struct Producers {
    topics: Vec<DescribeProducersResponseTopic>,
    /// Where in the response each question belongs: topic and partition.
    parts: Vec<(usize, usize)>,
    left: usize,
}

pub(crate) fn describe_producers(request: DescribeProducersRequest, call: &mut Call<'_>) -> Step {
    let mut job = Producers {
        topics: Vec::new(),
        parts: Vec::new(),
        left: 0,
    };
    for topic in request.topics {
        let partition = |partition_index| DescribeProducersResponsePartition {
            partition_index,
            ..Default::default()
        };
        let mut partitions: Vec<_> = topic
            .partition_indexes
            .iter()
            .copied()
            .map(partition)
            .collect();
        if !is_legal(&topic.name) {
            for partition in &mut partitions {
                partition.error_code = ErrorCode::INVALID_TOPIC_EXCEPTION;
                partition.error_message = Some(illegal(&topic.name).into());
            }
            job.topics.push(DescribeProducersResponseTopic {
                name: topic.name,
                partitions,
            });
            continue;
        }
        for (at, index) in topic.partition_indexes.iter().enumerate() {
            let (log, partition) = (
                topic.name.clone(),
                u32::try_from(*index).unwrap_or(u32::MAX),
            );
            job.parts.push((job.topics.len(), at));
            call.submit(job.left, |token| Command::DescribeProducers {
                token,
                log,
                partition,
            });
            job.left += 1;
        }
        job.topics.push(DescribeProducersResponseTopic {
            name: topic.name,
            partitions,
        });
    }
    match job.left {
        0 => job.respond(call),
        _ => Step::Wait(Box::new(job)),
    }
}

impl Producers {
    fn respond(self, call: &Call<'_>) -> Step {
        call.respond(&DescribeProducersResponse {
            throttle_time_ms: 0,
            topics: self.topics,
        })
    }
}

impl Job for Producers {
    fn on_answer(mut self: Box<Self>, part: usize, answer: Answer, call: &mut Call<'_>) -> Step {
        let found = answer.reply(|reply| match reply {
            Reply::Producers(found) => Some(found),
            _ => None,
        });
        if let Some(&(topic, partition)) = self.parts.get(part) {
            let partition = &mut self.topics[topic].partitions[partition];
            match found {
                Ok(found) => {
                    partition.active_producers = found.into_iter().map(producer_state).collect();
                }
                Err(refusal) => {
                    partition.error_code = ErrorCode::from(&refusal);
                    partition.error_message =
                        is_missing_log(&refusal).then(|| text(&refusal)).flatten();
                }
            }
        }
        self.left -= 1;
        match self.left {
            0 => self.respond(call),
            _ => Step::Wait(self),
        }
    }
}

fn producer_state(producer: ProducerInfo) -> ProducerState {
    ProducerState {
        producer_id: producer.id,
        producer_epoch: producer.epoch.into(),
        last_sequence: producer.last_sequence,
        last_timestamp: producer.last_timestamp.0 as i64,
        // There has only ever been one coordinator, of epoch 0; it is known once it has ended a transaction.
        coordinator_epoch: producer.is_marked as i32 - 1,
        current_txn_start_offset: producer.open.map_or(-1, |open| open.0 as i64),
    }
}

// WriteTxnMarkers

/// Markers being written, in the order of the request.
struct Marking {
    markers: Vec<WritableTxnMarkerResult>,
    left: usize,
}

pub(crate) fn write_markers(request: WriteTxnMarkersRequest, call: &mut Call<'_>) -> Step {
    let mut job = Marking {
        markers: Vec::new(),
        left: 0,
    };
    for marker in request.markers {
        let producer = ProducerIdentity {
            id: marker.producer_id,
            epoch: marker.producer_epoch,
        };
        let commit = marker.transaction_result;
        let mut topics = Vec::with_capacity(marker.topics.len());
        for topic in marker.topics {
            for index in &topic.partition_indexes {
                let partition = u32::try_from(*index).unwrap_or(u32::MAX);
                let log = topic.name.clone();
                call.submit(job.left, |token| Command::WriteMarker {
                    token,
                    log,
                    partition,
                    producer,
                    commit,
                });
                job.left += 1;
            }
            let partition = |partition_index| WritableTxnMarkerPartitionResult {
                partition_index,
                ..Default::default()
            };
            topics.push(WritableTxnMarkerTopicResult {
                name: topic.name,
                partitions: topic.partition_indexes.into_iter().map(partition).collect(),
            });
        }
        job.markers.push(WritableTxnMarkerResult {
            producer_id: marker.producer_id,
            topics,
        });
    }
    match job.left {
        0 => job.respond(call),
        _ => Step::Wait(Box::new(job)),
    }
}

impl Marking {
    fn respond(self, call: &Call<'_>) -> Step {
        call.respond(&WriteTxnMarkersResponse {
            markers: self.markers,
        })
    }
}

impl Job for Marking {
    fn on_answer(mut self: Box<Self>, part: usize, answer: Answer, call: &mut Call<'_>) -> Step {
        let written: Result<(), Refusal> = answer.reply(|reply| match reply {
            Reply::Ok => Some(()),
            _ => None,
        });
        let topics = self
            .markers
            .iter_mut()
            .flat_map(|marker| &mut marker.topics);
        let mut partitions = topics.flat_map(|topic| &mut topic.partitions);
        if let (Some(partition), Err(refusal)) = (partitions.nth(part), written) {
            partition.error_code = ErrorCode::from(&refusal);
        }
        self.left -= 1;
        match self.left {
            0 => self.respond(call),
            _ => Step::Wait(self),
        }
    }
}
