//! TxnOffsetCommit: how far a group has come, as part of a transaction.

use trivium_core::{
    Text,
    group::GroupRequest,
    transaction::{OffsetsInTransaction, ProducerIdentity},
};

use crate::{
    call::{Answer, Call, Job, Step},
    error::ErrorCode,
    messages::{group_offsets::OffsetCommitRequestPartition, transactions::*},
    serve::{
        group_offsets::{committed, partitions},
        groups::{answer_of, ask},
        logs,
        transactions::code,
    },
};

/// From this version on, the group becomes part of the transaction with its offsets (KIP-890).
const IMPLICIT: i16 = 5;

/// A commit: first the logs are looked up, then the offsets of those that are there are handed in.
struct Committing {
    request: TxnOffsetCommitRequest,
}

/// A commit that the coordinator has. What is not refused yet is as it answers.
struct Committed {
    response: TxnOffsetCommitResponse,
}

pub(crate) fn commit(request: TxnOffsetCommitRequest, call: &mut Call<'_>) -> Step {
    if request.group_id.is_empty() {
        return call.respond(&no_group(request));
    }
    let names: Vec<Text> = request
        .topics
        .iter()
        .map(|topic| topic.name.clone())
        .collect();
    call.describe(0, Some(names));
    Step::Wait(Box::new(Committing { request }))
}

/// The answer where no group is named.
fn no_group(request: TxnOffsetCommitRequest) -> TxnOffsetCommitResponse {
    let partition = |it: TxnOffsetCommitRequestPartition| TxnOffsetCommitResponsePartition {
        partition_index: it.partition_index,
        error_code: ErrorCode::INVALID_GROUP_ID,
    };
    let topic = |it: TxnOffsetCommitRequestTopic| TxnOffsetCommitResponseTopic {
        name: it.name,
        partitions: it.partitions.into_iter().map(partition).collect(),
    };
    TxnOffsetCommitResponse {
        topics: request.topics.into_iter().map(topic).collect(),
        ..Default::default()
    }
}

impl Job for Committing {
    fn on_answer(self: Box<Self>, _part: usize, answer: Answer, call: &mut Call<'_>) -> Step {
        let request = self.request;
        let found = logs(answer);
        let refusal = found.as_ref().err().map(ErrorCode::from);
        let mut found = found.into_iter().flatten();
        let mut offsets = Vec::new();
        let mut response = TxnOffsetCommitResponse::default();
        for topic in request.topics {
            let log = match refusal {
                Some(code) => Err(code),
                None => partitions(found.next(), call),
            };
            let mut result = TxnOffsetCommitResponseTopic {
                name: topic.name,
                partitions: Vec::new(),
            };
            for asked in topic.partitions {
                let partition_index = asked.partition_index;
                let offset = log
                    .clone()
                    .and_then(|log| committed(log, without_transaction(asked)));
                let error_code = offset.as_ref().err().copied().unwrap_or_default();
                offsets.extend(offset);
                result.partitions.push(TxnOffsetCommitResponsePartition {
                    partition_index,
                    error_code,
                });
            }
            response.topics.push(result);
        }
        let commit = OffsetsInTransaction {
            id: request.transactional_id,
            producer: ProducerIdentity {
                id: request.producer_id,
                epoch: request.producer_epoch,
            },
            implicit: call.version() >= IMPLICIT,
            generation: request.generation_id,
            member: request.member_id,
            instance: request.group_instance_id,
            offsets,
        };
        let request_to_group = GroupRequest::CommitInTransaction(Box::new(commit));
        ask(0, request.group_id, request_to_group, call);
        Step::Wait(Box::new(Committed { response }))
    }
}

fn without_transaction(asked: TxnOffsetCommitRequestPartition) -> OffsetCommitRequestPartition {
    OffsetCommitRequestPartition {
        partition_index: asked.partition_index,
        committed_offset: asked.committed_offset,
        committed_leader_epoch: asked.committed_leader_epoch,
        committed_metadata: asked.committed_metadata,
    }
}

impl Job for Committed {
    fn on_answer(mut self: Box<Self>, _part: usize, answer: Answer, call: &mut Call<'_>) -> Step {
        if let Err(failure) = answer_of(answer) {
            let error_code = match failure.refusal() {
                // A group knows epochs only, in every version.
                Some(refusal) => code(refusal, i16::MAX, call),
                None => failure.code(),
            };
            let topics = self.response.topics.iter_mut();
            for partition in topics.flat_map(|topic| &mut topic.partitions) {
                partition.error_code = error_code;
            }
        }
        call.respond(&self.response)
    }
}
