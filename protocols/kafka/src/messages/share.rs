//! Share groups (KIP-932): ShareGroupHeartbeat (key 76), ShareGroupDescribe (77), ShareFetch (78),
//! ShareAcknowledge (79), and Describe-, Alter- and DeleteShareGroupOffsets (90 to 92).

use trivium_core::Text;

use crate::{
    error::ErrorCode,
    message::message,
    messages::{
        consumer_groups::{Assignment, NamedAssignment},
        produce::NodeEndpoint,
    },
    records::Records,
    wire::Uuid,
};

message! {
    /// A member is there.
    ShareGroupHeartbeatRequest {
        group_id: Text;
        member_id: Text;
        member_epoch: i32;
        rack_id: Option<Text>;
        subscribed_topic_names: Option<Vec<Text>>;
    }

    /// What it is to consume.
    ShareGroupHeartbeatResponse {
        throttle_time_ms: i32;
        error_code: ErrorCode;
        error_message: Option<Text>;
        member_id: Option<Text>;
        member_epoch: i32;
        heartbeat_interval_ms: i32;
        assignment: Option<Assignment>;
    }

    /// Groups to describe.
    ShareGroupDescribeRequest {
        group_ids: Vec<Text>;
        include_authorized_operations: bool;
    }

    /// The groups.
    ShareGroupDescribeResponse {
        throttle_time_ms: i32;
        groups: Vec<DescribedShareGroup>;
    }

    /// One group.
    DescribedShareGroup {
        error_code: ErrorCode;
        error_message: Option<Text>;
        group_id: Text;
        group_state: Text;
        group_epoch: i32;
        assignment_epoch: i32;
        assignor_name: Text;
        members: Vec<DescribedShareMember>;
        authorized_operations: i32 = i32::MIN;
    }

    /// One member of it.
    DescribedShareMember {
        member_id: Text;
        rack_id: Option<Text>;
        member_epoch: i32;
        client_id: Text;
        client_host: Text;
        subscribed_topic_names: Vec<Text>;
        assignment: NamedAssignment;
    }

    /// Partitions to take records of, and what became of those taken before.
    ShareFetchRequest {
        group_id: Option<Text>;
        member_id: Option<Text>;
        share_session_epoch: i32;
        max_wait_ms: i32;
        min_bytes: i32;
        max_bytes: i32 = i32::MAX;
        max_records: i32;
        batch_size: i32;
        share_acquire_mode: i8 => 2..;
        is_renew_ack: bool => 2..;
        topics: Vec<ShareTopic>;
        forgotten_topics_data: Vec<ForgottenShareTopic>;
    }

    /// Those of one topic.
    ShareTopic {
        topic_id: Uuid;
        partitions: Vec<SharePartitionData>;
    }

    /// One partition.
    SharePartitionData {
        partition_index: i32;
        acknowledgement_batches: Vec<AcknowledgementBatch>;
    }

    /// What became of records.
    AcknowledgementBatch {
        first_offset: i64;
        last_offset: i64;
        acknowledge_types: Vec<i8>;
    }

    /// Partitions to take out of the session.
    ForgottenShareTopic {
        topic_id: Uuid;
        partitions: Vec<i32>;
    }

    /// The records.
    ShareFetchResponse {
        throttle_time_ms: i32;
        error_code: ErrorCode;
        error_message: Option<Text>;
        acquisition_lock_timeout_ms: i32;
        responses: Vec<ShareFetchableTopicResponse>;
        node_endpoints: Vec<NodeEndpoint>;
    }

    /// Those of one topic.
    ShareFetchableTopicResponse {
        topic_id: Uuid;
        partitions: Vec<ShareFetchPartitionData>;
    }

    /// Those of one partition.
    ShareFetchPartitionData {
        partition_index: i32;
        error_code: ErrorCode;
        error_message: Option<Text>;
        acknowledge_error_code: ErrorCode;
        acknowledge_error_message: Option<Text>;
        current_leader: ShareLeader;
        records: Records;
        acquired_records: Vec<AcquiredRecords>;
    }

    /// The leader and its epoch, told where the leader is another one.
    ShareLeader {
        leader_id: i32;
        leader_epoch: i32;
    }

    /// Records that the member has now.
    AcquiredRecords {
        first_offset: i64;
        last_offset: i64;
        delivery_count: i16;
    }

    /// What became of records.
    ShareAcknowledgeRequest {
        group_id: Option<Text>;
        member_id: Option<Text>;
        share_session_epoch: i32;
        is_renew_ack: bool => 2..;
        topics: Vec<ShareTopic>;
    }

    /// Whether that was taken.
    ShareAcknowledgeResponse {
        throttle_time_ms: i32;
        error_code: ErrorCode;
        error_message: Option<Text>;
        acquisition_lock_timeout_ms: i32 => 2..;
        responses: Vec<ShareAcknowledgeTopicResponse>;
        node_endpoints: Vec<NodeEndpoint>;
    }

    /// For one topic.
    ShareAcknowledgeTopicResponse {
        topic_id: Uuid;
        partitions: Vec<ShareAcknowledgePartitionData>;
    }

    /// For one partition.
    ShareAcknowledgePartitionData {
        partition_index: i32;
        error_code: ErrorCode;
        error_message: Option<Text>;
        current_leader: ShareLeader;
    }

    /// Groups whose offsets are wanted.
    DescribeShareGroupOffsetsRequest {
        groups: Vec<DescribeShareGroupOffsetsRequestGroup>;
    }

    /// Those of one group; null topics mean all.
    DescribeShareGroupOffsetsRequestGroup {
        group_id: Text;
        topics: Option<Vec<DescribeShareGroupOffsetsRequestTopic>>;
    }

    /// Those of one topic.
    DescribeShareGroupOffsetsRequestTopic {
        topic_name: Text;
        partitions: Vec<i32>;
    }

    /// The offsets.
    DescribeShareGroupOffsetsResponse {
        throttle_time_ms: i32;
        groups: Vec<DescribeShareGroupOffsetsResponseGroup>;
    }

    /// Those of one group.
    DescribeShareGroupOffsetsResponseGroup {
        group_id: Text;
        topics: Vec<DescribeShareGroupOffsetsResponseTopic>;
        error_code: ErrorCode;
        error_message: Option<Text>;
    }

    /// Those of one topic.
    DescribeShareGroupOffsetsResponseTopic {
        topic_name: Text;
        topic_id: Uuid;
        partitions: Vec<DescribeShareGroupOffsetsResponsePartition>;
    }

    /// That of one partition.
    DescribeShareGroupOffsetsResponsePartition {
        partition_index: i32;
        start_offset: i64;
        leader_epoch: i32;
        lag: i64 = -1 => 1..;
        error_code: ErrorCode;
        error_message: Option<Text>;
    }

    /// Where a group is to go on.
    AlterShareGroupOffsetsRequest {
        group_id: Text;
        topics: Vec<AlterShareGroupOffsetsRequestTopic>;
    }

    /// In one topic.
    AlterShareGroupOffsetsRequestTopic {
        topic_name: Text;
        partitions: Vec<AlterShareGroupOffsetsRequestPartition>;
    }

    /// In one partition.
    AlterShareGroupOffsetsRequestPartition {
        partition_index: i32;
        start_offset: i64;
    }

    /// Whether it will.
    AlterShareGroupOffsetsResponse {
        throttle_time_ms: i32;
        error_code: ErrorCode;
        error_message: Option<Text>;
        responses: Vec<AlterShareGroupOffsetsResponseTopic>;
    }

    /// In one topic.
    AlterShareGroupOffsetsResponseTopic {
        topic_name: Text;
        topic_id: Uuid;
        partitions: Vec<AlterShareGroupOffsetsResponsePartition>;
    }

    /// In one partition.
    AlterShareGroupOffsetsResponsePartition {
        partition_index: i32;
        error_code: ErrorCode;
        error_message: Option<Text>;
    }

    /// Topics that a group is to forget.
    DeleteShareGroupOffsetsRequest {
        group_id: Text;
        topics: Vec<DeleteShareGroupOffsetsRequestTopic>;
    }

    /// One topic.
    DeleteShareGroupOffsetsRequestTopic {
        topic_name: Text;
    }

    /// Whether it has.
    DeleteShareGroupOffsetsResponse {
        throttle_time_ms: i32;
        error_code: ErrorCode;
        error_message: Option<Text>;
        responses: Vec<DeleteShareGroupOffsetsResponseTopic>;
    }

    /// For one topic.
    DeleteShareGroupOffsetsResponseTopic {
        topic_name: Text;
        topic_id: Uuid;
        error_code: ErrorCode;
        error_message: Option<Text>;
    }
}
