//! Transactions: what producers say goes to the coordinator in the core; the offsets that they commit go to the
//! coordinators of groups.

use std::time::Duration;

use trivium_core::{
    Command, Refusal, Reply, Text,
    transaction::{
        AddError, ProducerIdentity, TransactionAnswer, TransactionError, TransactionReply,
        TransactionRequest,
    },
};

use crate::{
    call::{Answer, Call, Job, Step},
    error::ErrorCode,
    messages::{producers::*, transactions::*},
};

/// From this version of EndTxn on, a producer gets a new epoch with the end of each transaction (KIP-890).
const END_RENEWS: i16 = 5;

/// What the coordinator said.
pub(super) fn answer_of(answer: Answer) -> Result<TransactionAnswer, Refusal> {
    let reply: TransactionReply = answer.reply(|reply| match reply {
        Reply::Transaction(reply) => Some(reply),
        _ => None,
    })?;
    reply.map_err(Refusal::Transaction)
}

fn ask(part: usize, id: Text, request: TransactionRequest, call: &mut Call<'_>) {
    call.submit(part, |token| Command::Transaction { token, id, request });
}

/// The code of a refusal. Clients of the first versions know only one for a producer that was replaced; a
/// coordinator that is asked by id says more than a partition does.
pub(super) fn code(refusal: &Refusal, fenced_since: i16, call: &Call<'_>) -> ErrorCode {
    match refusal {
        Refusal::Transaction(TransactionError::Fenced) if call.version() < fenced_since => {
            ErrorCode::INVALID_PRODUCER_EPOCH
        }
        Refusal::Denied(_) => ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        refusal => ErrorCode::from(refusal),
    }
}

// InitProducerId

/// From this version on, a producer that was replaced is told so in words of its own (KIP-588).
const INIT_FENCED: i16 = 4;

pub(crate) fn init_producer(request: InitProducerIdRequest, call: &mut Call<'_>) -> Step {
    let identity = (request.producer_id, request.producer_epoch);
    let expected = match identity {
        (-1, -1) => None,
        // Both or neither.
        (-1, _) | (_, -1) => return initialised(Err(ErrorCode::INVALID_REQUEST), call),
        (id, epoch) => Some(ProducerIdentity { id, epoch }),
    };
    let Some(id) = request.transactional_id else {
        call.submit(0, |token| Command::InitProducer { token });
        return Step::Wait(Box::new(InitProducer));
    };
    let init = TransactionRequest::Init {
        timeout: Duration::from_millis(request.transaction_timeout_ms.max(0) as u64),
        expected: expected.filter(|_| call.version() >= 3),
    };
    ask(0, id, init, call);
    Step::Wait(Box::new(InitProducer))
}

struct InitProducer;

impl Job for InitProducer {
    fn on_answer(self: Box<Self>, _part: usize, answer: Answer, call: &mut Call<'_>) -> Step {
        let producer = answer.reply(|reply| match reply {
            Reply::Producer { id, epoch } => Some(Ok(ProducerIdentity { id, epoch })),
            Reply::Transaction(Ok(TransactionAnswer::Producer(producer))) => Some(Ok(producer)),
            Reply::Transaction(Err(error)) => Some(Err(Refusal::Transaction(error))),
            _ => None,
        });
        let producer = producer.and_then(|producer| producer);
        initialised(
            producer.map_err(|refusal| code(&refusal, INIT_FENCED, call)),
            call,
        )
    }
}

fn initialised(producer: Result<ProducerIdentity, ErrorCode>, call: &Call<'_>) -> Step {
    let nobody = ProducerIdentity { id: -1, epoch: -1 };
    let (error_code, producer) = match producer {
        Ok(producer) => (ErrorCode::NONE, producer),
        Err(code) => (code, nobody),
    };
    call.respond(&InitProducerIdResponse {
        throttle_time_ms: 0,
        error_code,
        producer_id: producer.id,
        producer_epoch: producer.epoch,
    })
}

// AddPartitionsToTxn

/// From this version on, several transactions, as brokers ask for their clients.
const BATCHED: i16 = 4;
/// Since when AddPartitionsToTxn, AddOffsetsToTxn, EndTxn and TxnOffsetCommit tell a replaced producer so.
const FENCED: i16 = 2;

/// Partitions being added, one answer for each transaction.
struct Adding {
    transactions: Vec<AddPartitionsToTxnTransaction>,
    results: Vec<Vec<AddPartitionsToTxnTopicResult>>,
    left: usize,
}

pub(crate) fn add_partitions(request: AddPartitionsToTxnRequest, call: &mut Call<'_>) -> Step {
    let transactions = match call.version() {
        BATCHED.. => request.transactions,
        _ => vec![AddPartitionsToTxnTransaction {
            transactional_id: request.v3_and_below_transactional_id,
            producer_id: request.v3_and_below_producer_id,
            producer_epoch: request.v3_and_below_producer_epoch,
            verify_only: false,
            topics: request.v3_and_below_topics,
        }],
    };
    for (part, transaction) in transactions.iter().enumerate() {
        let partitions = transaction.topics.iter().flat_map(|topic| {
            // No log has so many partitions: what is negative is not there.
            let named = |index: &i32| {
                (
                    topic.name.clone(),
                    u32::try_from(*index).unwrap_or(u32::MAX),
                )
            };
            topic.partitions.iter().map(named)
        });
        let add = TransactionRequest::AddPartitions {
            producer: ProducerIdentity {
                id: transaction.producer_id,
                epoch: transaction.producer_epoch,
            },
            partitions: partitions.collect(),
            verify_only: transaction.verify_only,
        };
        ask(part, transaction.transactional_id.clone(), add, call);
    }
    let job = Adding {
        results: vec![Vec::new(); transactions.len()],
        left: transactions.len(),
        transactions,
    };
    match job.left {
        0 => call.respond(&AddPartitionsToTxnResponse::default()),
        _ => Step::Wait(Box::new(job)),
    }
}

impl Job for Adding {
    fn on_answer(mut self: Box<Self>, part: usize, answer: Answer, call: &mut Call<'_>) -> Step {
        let codes = match answer_of(answer) {
            Ok(TransactionAnswer::Added(results)) => Ok(results),
            Ok(_) => Err(ErrorCode::UNKNOWN_SERVER_ERROR),
            Err(refusal) => Err(code(&refusal, FENCED, call)),
        };
        if let Some(transaction) = self.transactions.get(part) {
            self.results[part] = topic_results(transaction, codes);
        }
        self.left -= 1;
        if self.left > 0 {
            return Step::Wait(self);
        }
        let mut response = AddPartitionsToTxnResponse::default();
        match call.version() {
            BATCHED.. => {
                let ids = self.transactions.into_iter().map(|it| it.transactional_id);
                let result = |(transactional_id, topic_results)| AddPartitionsToTxnResult {
                    transactional_id,
                    topic_results,
                };
                response.results_by_transaction = ids.zip(self.results).map(result).collect();
            }
            _ => {
                response.results_by_topic_v3_and_below =
                    self.results.into_iter().flatten().collect()
            }
        }
        call.respond(&response)
    }
}

fn topic_results(
    transaction: &AddPartitionsToTxnTransaction,
    codes: Result<Vec<Result<(), AddError>>, ErrorCode>,
) -> Vec<AddPartitionsToTxnTopicResult> {
    let (results, whole) = match codes {
        Ok(results) => (results, ErrorCode::UNKNOWN_SERVER_ERROR),
        Err(code) => (Vec::new(), code),
    };
    let mut codes = results.into_iter().map(|result| match result {
        Ok(()) => ErrorCode::NONE,
        Err(AddError::NoPartition) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        Err(AddError::NotAttempted) => ErrorCode::OPERATION_NOT_ATTEMPTED,
        Err(AddError::NotAdded) => ErrorCode::TRANSACTION_ABORTABLE,
    });
    let mut partition = |index: &i32| AddPartitionsToTxnPartitionResult {
        partition_index: *index,
        partition_error_code: codes.next().unwrap_or(whole),
    };
    let topic = |topic: &AddPartitionsToTxnTopic| AddPartitionsToTxnTopicResult {
        name: topic.name.clone(),
        results_by_partition: topic.partitions.iter().map(&mut partition).collect(),
    };
    transaction.topics.iter().map(topic).collect()
}

// AddOffsetsToTxn and EndTxn

pub(crate) fn add_offsets(request: AddOffsetsToTxnRequest, call: &mut Call<'_>) -> Step {
    let add = TransactionRequest::AddGroup {
        producer: ProducerIdentity {
            id: request.producer_id,
            epoch: request.producer_epoch,
        },
        group: request.group_id,
    };
    ask(0, request.transactional_id, add, call);
    Step::Wait(Box::new(One(|answer, call| {
        let added = answer.map_err(|refusal| code(&refusal, FENCED, call));
        call.respond(&AddOffsetsToTxnResponse {
            throttle_time_ms: 0,
            error_code: added.err().unwrap_or_default(),
        })
    })))
}

pub(crate) fn end(request: EndTxnRequest, call: &mut Call<'_>) -> Step {
    let end = TransactionRequest::End {
        producer: ProducerIdentity {
            id: request.producer_id,
            epoch: request.producer_epoch,
        },
        commit: request.committed,
        renew: call.version() >= END_RENEWS,
    };
    ask(0, request.transactional_id, end, call);
    Step::Wait(Box::new(One(|answer, call| {
        let mut response = EndTxnResponse {
            producer_epoch: -1,
            ..Default::default()
        };
        match answer {
            Ok(TransactionAnswer::Producer(producer)) => {
                (response.producer_id, response.producer_epoch) = (producer.id, producer.epoch);
            }
            Ok(_) => response.error_code = ErrorCode::UNKNOWN_SERVER_ERROR,
            Err(refusal) => response.error_code = code(&refusal, FENCED, call),
        }
        call.respond(&response)
    })))
}

/// A request with one answer, and how it becomes a response.
struct One(fn(Result<TransactionAnswer, Refusal>, &Call<'_>) -> Step);

impl Job for One {
    fn on_answer(self: Box<Self>, _part: usize, answer: Answer, call: &mut Call<'_>) -> Step {
        (self.0)(answer_of(answer), call)
    }
}
