//! What administrators ask of topics and of the broker: DeleteRecords (key 21), OffsetForLeaderEpoch (23),
//! AlterReplicaLogDirs (34), DescribeLogDirs (35), ElectLeaders (43), AlterPartitionReassignments (45),
//! ListPartitionReassignments (46), DescribeQuorum (55), UpdateFeatures (57), UnregisterBroker (64),
//! DescribeTopicPartitions (75), AddRaftVoter (80) and RemoveRaftVoter (81).

use trivium_core::Text;

use crate::{
    error::ErrorCode,
    message::{message, nullable},
    wire::Uuid,
};

message! {
    /// Partitions whose oldest records are to go.
    DeleteRecordsRequest {
        topics: Vec<DeleteRecordsTopic>;
        timeout_ms: i32;
    }

    /// A topic.
    DeleteRecordsTopic {
        name: Text;
        partitions: Vec<DeleteRecordsPartition>;
    }

    /// A partition, and the offset before which everything goes; -1 is the high watermark.
    DeleteRecordsPartition {
        partition_index: i32;
        offset: i64;
    }

    /// What became of them.
    DeleteRecordsResponse {
        throttle_time_ms: i32;
        topics: Vec<DeleteRecordsTopicResult>;
    }

    /// A topic.
    DeleteRecordsTopicResult {
        name: Text;
        partitions: Vec<DeleteRecordsPartitionResult>;
    }

    /// Where a partition begins now.
    DeleteRecordsPartitionResult {
        partition_index: i32;
        low_watermark: i64;
        error_code: ErrorCode;
    }

    /// Partitions of which the end of a leader's epoch is asked for.
    OffsetForLeaderEpochRequest {
        replica_id: i32 = -2 => 3..;
        topics: Vec<OffsetForLeaderTopic>;
    }

    /// A topic.
    OffsetForLeaderTopic {
        topic: Text;
        partitions: Vec<OffsetForLeaderPartition>;
    }

    /// A partition, the epoch that the client thinks is current, and the one that it asks for.
    OffsetForLeaderPartition {
        partition: i32;
        current_leader_epoch: i32 = -1;
        leader_epoch: i32;
    }

    /// Where epochs end.
    OffsetForLeaderEpochResponse {
        throttle_time_ms: i32;
        topics: Vec<OffsetForLeaderTopicResult>;
    }

    /// A topic.
    OffsetForLeaderTopicResult {
        topic: Text;
        partitions: Vec<EpochEndOffset>;
    }

    /// Where the newest epoch up to the one asked for ends.
    EpochEndOffset {
        error_code: ErrorCode;
        partition: i32;
        leader_epoch: i32 = -1;
        end_offset: i64 = -1;
    }

    /// Partitions whose sizes are asked for; null means all.
    DescribeLogDirsRequest {
        topics: Option<Vec<DescribableLogDirTopic>>;
    }

    /// A topic.
    DescribableLogDirTopic {
        topic: Text;
        partitions: Vec<i32>;
    }

    /// What is where.
    DescribeLogDirsResponse {
        throttle_time_ms: i32;
        error_code: ErrorCode => 3..;
        results: Vec<DescribeLogDirsResult>;
    }

    /// A directory.
    DescribeLogDirsResult {
        error_code: ErrorCode;
        log_dir: Text;
        topics: Vec<DescribeLogDirsTopic>;
        total_bytes: i64 = -1 => 4..;
        usable_bytes: i64 = -1 => 4..;
        is_cordoned: bool => 5..;
    }

    /// A topic.
    DescribeLogDirsTopic {
        name: Text;
        partitions: Vec<DescribeLogDirsPartition>;
    }

    /// A partition.
    DescribeLogDirsPartition {
        partition_index: i32;
        partition_size: i64;
        offset_lag: i64;
        is_future_key: bool;
    }

    /// Partitions that are to elect a leader; null means all.
    ElectLeadersRequest {
        election_type: i8 => 1..;
        topic_partitions: Option<Vec<ElectLeadersTopic>>;
        timeout_ms: i32 = 60_000;
    }

    /// A topic.
    ElectLeadersTopic {
        topic: Text;
        partitions: Vec<i32>;
    }

    /// What became of the elections.
    ElectLeadersResponse {
        throttle_time_ms: i32;
        error_code: ErrorCode => 1..;
        replica_election_results: Vec<ReplicaElectionResult>;
    }

    /// A topic.
    ReplicaElectionResult {
        topic: Text;
        partition_result: Vec<PartitionElectionResult>;
    }

    /// A partition.
    PartitionElectionResult {
        partition_id: i32;
        error_code: ErrorCode;
        error_message: Option<Text>;
    }

    /// Partitions that are to move.
    AlterPartitionReassignmentsRequest {
        timeout_ms: i32 = 60_000;
        allow_replication_factor_change: bool = true => 1..;
        topics: Vec<ReassignableTopic>;
    }

    /// A topic.
    ReassignableTopic {
        name: Text;
        partitions: Vec<ReassignablePartition>;
    }

    /// A partition and its new brokers; null ends a move that goes on.
    ReassignablePartition {
        partition_index: i32;
        replicas: Option<Vec<i32>>;
    }

    /// What became of the moves.
    AlterPartitionReassignmentsResponse {
        throttle_time_ms: i32;
        allow_replication_factor_change: bool = true => 1..;
        error_code: ErrorCode;
        error_message: Option<Text>;
        responses: Vec<ReassignableTopicResponse>;
    }

    /// A topic.
    ReassignableTopicResponse {
        name: Text;
        partitions: Vec<ReassignablePartitionResponse>;
    }

    /// A partition.
    ReassignablePartitionResponse {
        partition_index: i32;
        error_code: ErrorCode;
        error_message: Option<Text>;
    }

    /// Partitions whose moves are asked for; null means all.
    ListPartitionReassignmentsRequest {
        timeout_ms: i32 = 60_000;
        topics: Option<Vec<ListPartitionReassignmentsTopics>>;
    }

    /// A topic.
    ListPartitionReassignmentsTopics {
        name: Text;
        partition_indexes: Vec<i32>;
    }

    /// Moves under way.
    ListPartitionReassignmentsResponse {
        throttle_time_ms: i32;
        error_code: ErrorCode;
        error_message: Option<Text>;
        topics: Vec<OngoingTopicReassignment>;
    }

    /// A topic.
    OngoingTopicReassignment {
        name: Text;
        partitions: Vec<OngoingPartitionReassignment>;
    }

    /// A partition.
    OngoingPartitionReassignment {
        partition_index: i32;
        replicas: Vec<i32>;
        adding_replicas: Vec<i32>;
        removing_replicas: Vec<i32>;
    }

    /// Features to change.
    UpdateFeaturesRequest {
        timeout_ms: i32 = 60_000;
        feature_updates: Vec<FeatureUpdateKey>;
        validate_only: bool => 1..;
    }

    /// A feature and its new level.
    FeatureUpdateKey {
        feature: Text;
        max_version_level: i16;
        allow_downgrade: bool => ..=0;
        upgrade_type: i8 = 1 => 1..;
    }

    /// What became of the features.
    UpdateFeaturesResponse {
        throttle_time_ms: i32;
        error_code: ErrorCode;
        error_message: Option<Text>;
        results: Vec<UpdatableFeatureResult> => ..=1;
    }

    /// A feature.
    UpdatableFeatureResult {
        feature: Text;
        error_code: ErrorCode;
        error_message: Option<Text>;
    }

    /// A broker that is to leave.
    UnregisterBrokerRequest {
        broker_id: i32;
    }

    /// What became of it.
    UnregisterBrokerResponse {
        throttle_time_ms: i32;
        error_code: ErrorCode;
        error_message: Option<Text>;
    }

    /// Topics whose partitions are asked for; none means all.
    DescribeTopicPartitionsRequest {
        topics: Vec<TopicRequest>;
        response_partition_limit: i32 = 2000;
        cursor: Option<Cursor>;
    }

    /// A topic.
    TopicRequest {
        name: Text;
    }

    /// Where a page begins.
    Cursor {
        topic_name: Text;
        partition_index: i32;
    }

    /// A page of partitions.
    DescribeTopicPartitionsResponse {
        throttle_time_ms: i32;
        topics: Vec<DescribeTopicPartitionsTopic>;
        next_cursor: Option<Cursor>;
    }

    /// A topic.
    DescribeTopicPartitionsTopic {
        error_code: ErrorCode;
        name: Option<Text>;
        topic_id: Uuid;
        is_internal: bool;
        partitions: Vec<DescribeTopicPartitionsPartition>;
        topic_authorized_operations: i32 = i32::MIN;
    }

    /// A partition.
    DescribeTopicPartitionsPartition {
        error_code: ErrorCode;
        partition_index: i32;
        leader_id: i32;
        leader_epoch: i32 = -1;
        replica_nodes: Vec<i32>;
        isr_nodes: Vec<i32>;
        eligible_leader_replicas: Option<Vec<i32>>;
        last_known_elr: Option<Vec<i32>>;
        offline_replicas: Vec<i32>;
    }

    /// Partitions whose quorum is asked for.
    DescribeQuorumRequest {
        topics: Vec<DescribeQuorumTopic>;
    }

    /// A topic.
    DescribeQuorumTopic {
        topic_name: Text;
        partitions: Vec<DescribeQuorumPartition>;
    }

    /// A partition.
    DescribeQuorumPartition {
        partition_index: i32;
    }

    /// Who keeps the cluster's metadata.
    DescribeQuorumResponse {
        error_code: ErrorCode;
        error_message: Option<Text> => 2..;
        topics: Vec<DescribeQuorumTopicResult>;
        nodes: Vec<DescribeQuorumNode> => 2..;
    }

    /// A topic.
    DescribeQuorumTopicResult {
        topic_name: Text;
        partitions: Vec<DescribeQuorumPartitionResult>;
    }

    /// A partition.
    DescribeQuorumPartitionResult {
        partition_index: i32;
        error_code: ErrorCode;
        error_message: Option<Text> => 2..;
        leader_id: i32;
        leader_epoch: i32;
        high_watermark: i64;
        current_voters: Vec<DescribeQuorumReplica>;
        observers: Vec<DescribeQuorumReplica>;
    }

    /// A member of the quorum.
    DescribeQuorumReplica {
        replica_id: i32;
        replica_directory_id: Uuid => 2..;
        log_end_offset: i64;
        last_fetch_timestamp: i64 = -1 => 1..;
        last_caught_up_timestamp: i64 = -1 => 1..;
    }

    /// A node and where it is reached.
    DescribeQuorumNode {
        node_id: i32;
        listeners: Vec<DescribeQuorumListener>;
    }

    /// An address.
    DescribeQuorumListener {
        name: Text;
        host: Text;
        port: u16;
    }

    /// Partitions that are to be in other directories of the broker.
    AlterReplicaLogDirsRequest {
        dirs: Vec<AlterReplicaLogDir>;
    }

    /// A directory.
    AlterReplicaLogDir {
        path: Text;
        topics: Vec<AlterReplicaLogDirTopic>;
    }

    /// A topic.
    AlterReplicaLogDirTopic {
        name: Text;
        partitions: Vec<i32>;
    }

    /// What became of them.
    AlterReplicaLogDirsResponse {
        throttle_time_ms: i32;
        results: Vec<AlterReplicaLogDirTopicResult>;
    }

    /// A topic.
    AlterReplicaLogDirTopicResult {
        topic_name: Text;
        partitions: Vec<AlterReplicaLogDirPartitionResult>;
    }

    /// A partition.
    AlterReplicaLogDirPartitionResult {
        partition_index: i32;
        error_code: ErrorCode;
    }

    /// A controller that is to vote.
    AddRaftVoterRequest {
        cluster_id: Option<Text>;
        timeout_ms: i32;
        voter_id: i32;
        voter_directory_id: Uuid;
        listeners: Vec<RaftListener>;
        ack_when_committed: bool = true => 1..;
    }

    /// Where it is reached.
    RaftListener {
        name: Text;
        host: Text;
        port: u16;
    }

    /// What became of it.
    AddRaftVoterResponse {
        throttle_time_ms: i32;
        error_code: ErrorCode;
        error_message: Option<Text>;
    }

    /// A controller that is to vote no more.
    RemoveRaftVoterRequest {
        cluster_id: Option<Text>;
        voter_id: i32;
        voter_directory_id: Uuid;
    }

    /// What became of it.
    RemoveRaftVoterResponse {
        throttle_time_ms: i32;
        error_code: ErrorCode;
        error_message: Option<Text>;
    }
}

nullable!(Cursor);
