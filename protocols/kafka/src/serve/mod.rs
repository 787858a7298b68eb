//! What each API does: a request becomes commands, their answers a response.

mod alter_configs;
pub(crate) mod api_versions;
mod cluster;
mod configs;
mod consumer_groups;
mod coordinator;
mod delete_records;
mod fetch;
pub(crate) mod fetch_sessions;
mod group_admin;
mod group_offsets;
mod groups;
mod list_offsets;
mod metadata;
mod partitions;
mod produce;
mod produce_errors;
mod quotas;
mod security;
mod share_fetch;
mod share_groups;
pub(crate) mod share_session;
mod topics;
mod transaction_admin;
mod transaction_offsets;
mod transactions;

use trivium_core::{Command, Kind, LogInfo, Refusal, Reply, Text};

use crate::{
    api::Request,
    call::{Answer, Call, Job, Step},
    topics::Topics,
    wire::Uuid,
};

/// Bits of the operations that a client may be told it is allowed: all, until there are permissions.
const TOPIC_OPERATIONS: i32 = bits(&[3, 4, 5, 6, 7, 8, 10, 11]);
const CLUSTER_OPERATIONS: i32 = bits(&[5, 7, 8, 9, 10, 11, 12]);
const GROUP_OPERATIONS: i32 = bits(&[3, 6, 8, 10, 11]);
/// The operations of a client that did not ask.
const NOT_ASKED: i32 = i32::MIN;

const fn bits(operations: &[u8]) -> i32 {
    let (mut bits, mut at) = (0, 0);
    while at < operations.len() {
        bits |= 1 << operations[at];
        at += 1;
    }
    bits
}

/// Starts to answer a request.
pub(crate) fn start(request: Request, call: &mut Call<'_>) -> Step {
    let ids = ids_to_find(&request, &call.session.topics);
    if ids.is_empty() {
        return dispatch(request, call);
    }
    let wanted = ids.iter().map(|id| id.0).collect();
    call.submit(0, |token| Command::FindLogs { token, ids: wanted });
    Step::Wait(Box::new(Resolve { request, ids }))
}

/// A request that names topics by ids: it waits for what logs they are now.
struct Resolve {
    request: Request,
    ids: Vec<Uuid>,
}

impl Job for Resolve {
    fn on_answer(self: Box<Self>, _part: usize, answer: Answer, call: &mut Call<'_>) -> Step {
        let topics = &mut call.session.topics;
        for id in self.ids {
            topics.forget_id(id);
        }
        // Without the descriptions, ids stay unknown and are answered so.
        for log in logs(answer).into_iter().flatten().flatten() {
            topics.learn(&log);
        }
        dispatch(self.request, call)
    }
}

/// The ids of a request whose logs have to be found. Of those that only append and read, the ones that this
/// connection has not met: the core checks the others as it carries them out.
fn ids_to_find(request: &Request, topics: &Topics) -> Vec<Uuid> {
    fn of<T>(all: &[T], id: impl Fn(&T) -> Uuid) -> Vec<Uuid> {
        all.iter().map(id).filter(|id| !id.is_zero()).collect()
    }
    let unknown = |mut ids: Vec<Uuid>| {
        ids.retain(|id| topics.lacks(*id));
        ids
    };
    match request {
        Request::Produce(it) => unknown(of(&it.topic_data, |topic| topic.topic_id)),
        Request::Fetch(it) => unknown(of(&it.topics, |topic| topic.topic_id)),
        Request::Metadata(it) => it
            .topics
            .as_deref()
            .map_or_else(Vec::new, |all| of(all, |topic| topic.topic_id)),
        Request::OffsetCommit(it) => of(&it.topics, |topic| topic.topic_id),
        Request::OffsetFetch(it) => it
            .groups
            .iter()
            .flat_map(|group| {
                of(group.topics.as_deref().unwrap_or_default(), |it| {
                    it.topic_id
                })
            })
            .collect(),
        Request::ShareFetch(it) => of(&it.topics, |topic| topic.topic_id),
        Request::ShareAcknowledge(it) => unknown(of(&it.topics, |topic| topic.topic_id)),
        Request::DeleteTopics(it) => of(&it.topics, |topic| topic.topic_id),
        _ => Vec::new(),
    }
}

fn dispatch(request: Request, call: &mut Call<'_>) -> Step {
    match request {
        Request::Produce(request) => produce::start(request, call),
        Request::Fetch(request) => fetch::start(request, call),
        Request::ListOffsets(request) => list_offsets::start(request, call),
        Request::Metadata(request) => metadata::start(request, call),
        Request::OffsetCommit(request) => group_offsets::commit(request, call),
        Request::OffsetFetch(request) => group_offsets::fetch(request, call),
        Request::FindCoordinator(request) => coordinator::start(request, call),
        Request::JoinGroup(request) => groups::join(request, call),
        Request::Heartbeat(request) => groups::heartbeat(request, call),
        Request::LeaveGroup(request) => groups::leave(request, call),
        Request::SyncGroup(request) => groups::sync(request, call),
        Request::DescribeGroups(request) => groups::describe(request, call),
        Request::DeleteGroups(request) => groups::delete(request, call),
        Request::ConsumerGroupHeartbeat(request) => consumer_groups::heartbeat(request, call),
        Request::ConsumerGroupDescribe(request) => consumer_groups::describe(request, call),
        Request::ShareGroupHeartbeat(request) => share_groups::heartbeat(request, call),
        Request::ShareGroupDescribe(request) => share_groups::describe(request, call),
        Request::ShareFetch(request) => share_fetch::fetch(request, call),
        Request::ShareAcknowledge(request) => share_fetch::acknowledge(request, call),
        Request::DescribeShareGroupOffsets(request) => {
            share_groups::describe_offsets(request, call)
        }
        Request::AlterShareGroupOffsets(request) => share_groups::alter_offsets(request, call),
        Request::DeleteShareGroupOffsets(request) => share_groups::delete_offsets(request, call),
        Request::ListGroups(request) => group_admin::list(request, call),
        Request::OffsetDelete(request) => group_admin::delete_offsets(request, call),
        Request::ApiVersions(request) => api_versions::start(request, call),
        Request::CreateTopics(request) => topics::create(request, call),
        Request::DeleteTopics(request) => topics::delete(request, call),
        Request::InitProducerId(request) => transactions::init_producer(request, call),
        Request::AddPartitionsToTxn(request) => transactions::add_partitions(request, call),
        Request::AddOffsetsToTxn(request) => transactions::add_offsets(request, call),
        Request::EndTxn(request) => transactions::end(request, call),
        Request::TxnOffsetCommit(request) => transaction_offsets::commit(request, call),
        Request::WriteTxnMarkers(request) => transaction_admin::write_markers(request, call),
        Request::DescribeProducers(request) => transaction_admin::describe_producers(request, call),
        Request::DescribeTransactions(request) => transaction_admin::describe(request, call),
        Request::ListTransactions(request) => transaction_admin::list(request, call),
        Request::DescribeConfigs(request) => configs::start(request, call),
        Request::DescribeCluster(request) => cluster::start(request, call),
        Request::DescribeClientQuotas(request) => quotas::describe(request, call),
        Request::AlterClientQuotas(request) => quotas::alter(request, call),
        Request::DescribeQuorum(request) => cluster::quorum(request, call),
        Request::UpdateFeatures(request) => cluster::update_features(request, call),
        Request::UnregisterBroker(request) => cluster::unregister(request, call),
        Request::ListConfigResources(request) => cluster::config_resources(request, call),
        Request::AlterConfigs(request) => alter_configs::replace(request, call),
        Request::IncrementalAlterConfigs(request) => alter_configs::change(request, call),
        Request::CreatePartitions(request) => partitions::create(request, call),
        Request::DeleteRecords(request) => delete_records::start(request, call),
        Request::OffsetForLeaderEpoch(request) => partitions::epochs(request, call),
        Request::DescribeLogDirs(request) => partitions::log_dirs(request, call),
        Request::ElectLeaders(request) => partitions::elect(request, call),
        Request::AlterPartitionReassignments(request) => partitions::reassign(request, call),
        Request::ListPartitionReassignments(request) => partitions::reassignments(request, call),
        Request::AlterReplicaLogDirs(request) => partitions::move_dirs(request, call),
        Request::AddRaftVoter(request) => cluster::add_voter(&request, call),
        Request::RemoveRaftVoter(request) => cluster::remove_voter(&request, call),
        Request::SaslHandshake(_) => security::handshake(call),
        Request::SaslAuthenticate(_) => security::authenticate(call),
        Request::DescribeAcls(_) => security::describe_acls(call),
        Request::CreateAcls(request) => security::create_acls(&request, call),
        Request::DeleteAcls(request) => security::delete_acls(&request, call),
        Request::CreateDelegationToken(request) => security::create_token(request, call),
        Request::RenewDelegationToken(_) => security::renew_token(call),
        Request::ExpireDelegationToken(_) => security::expire_token(call),
        Request::DescribeDelegationToken(_) => security::describe_tokens(call),
        Request::DescribeUserScramCredentials(request) => security::credentials(request, call),
        Request::AlterUserScramCredentials(request) => security::set_credentials(request, call),
        Request::DescribeTopicPartitions(request) => partitions::describe(request, call),
    }
}

/// The descriptions in an answer.
fn logs(answer: Answer) -> Result<Vec<Result<LogInfo, Refusal>>, Refusal> {
    answer.reply(|reply| match reply {
        Reply::Logs(logs) => Some(logs),
        _ => None,
    })
}

/// What a refusal says, for the versions that carry a text.
fn text(refusal: &Refusal) -> Option<Text> {
    Some(said(refusal).into())
}

/// Of a topic or partition that is not there.
const NOT_HERE: &str = "This server does not host this topic-partition.";

/// What a refusal says, in Kafka's words where people know them.
fn said(refusal: &Refusal) -> String {
    match refusal {
        Refusal::Exists {
            kind: Kind::Log,
            name,
            ..
        } => format!("Topic '{name}' already exists."),
        Refusal::NotFound {
            kind: Kind::Log, ..
        } => NOT_HERE.into(),
        other => other.to_string(),
    }
}
