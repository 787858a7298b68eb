//! Fetch (key 1).

use trivium_core::Text;

use crate::{
    error::ErrorCode,
    message::message,
    messages::produce::{LeaderIdAndEpoch, NodeEndpoint},
    records::Records,
    wire::Uuid,
};

message! {
    /// Partitions to read, and how long to wait for something.
    FetchRequest {
        cluster_id: Option<Text> => 12.., tag 0;
        replica_id: i32 = -1 => ..=14;
        replica_state: ReplicaState => 15.., tag 1;
        max_wait_ms: i32;
        min_bytes: i32;
        max_bytes: i32 = i32::MAX;
        isolation_level: i8;
        session_id: i32 => 7..;
        session_epoch: i32 = -1 => 7..;
        topics: Vec<FetchTopic>;
        forgotten_topics_data: Vec<ForgottenTopic> => 7..;
        rack_id: Text => 11..;
    }

    /// Set by followers only.
    ReplicaState {
        replica_id: i32 = -1;
        replica_epoch: i64 = -1;
    }

    /// What is wanted of one topic.
    FetchTopic {
        topic: Text => ..=12;
        topic_id: Uuid => 13..;
        partitions: Vec<FetchPartition>;
    }

    /// What is wanted of one partition.
    FetchPartition {
        partition: i32;
        current_leader_epoch: i32 = -1 => 9..;
        fetch_offset: i64;
        last_fetched_epoch: i32 = -1 => 12..;
        log_start_offset: i64 = -1 => 5..;
        partition_max_bytes: i32;
        replica_directory_id: Uuid => 17.., tag 0;
        high_watermark: i64 = i64::MAX => 18.., tag 1;
    }

    /// Partitions to take out of a fetch session.
    ForgottenTopic {
        topic: Text => ..=12;
        topic_id: Uuid => 13..;
        partitions: Vec<i32>;
    }

    /// What was read.
    FetchResponse {
        throttle_time_ms: i32;
        error_code: ErrorCode => 7..;
        session_id: i32 => 7..;
        responses: Vec<FetchableTopicResponse>;
        node_endpoints: Vec<NodeEndpoint> => 16.., tag 0;
    }

    /// What was read of one topic.
    FetchableTopicResponse {
        topic: Text => ..=12;
        topic_id: Uuid => 13..;
        partitions: Vec<PartitionData>;
    }

    /// What was read of one partition.
    PartitionData {
        partition_index: i32;
        error_code: ErrorCode;
        high_watermark: i64;
        last_stable_offset: i64 = -1;
        log_start_offset: i64 = -1 => 5..;
        diverging_epoch: EpochEndOffset => 12.., tag 0;
        current_leader: LeaderIdAndEpoch => 12.., tag 1;
        snapshot_id: SnapshotId => 12.., tag 2;
        aborted_transactions: Option<Vec<AbortedTransaction>>;
        preferred_read_replica: i32 = -1 => 11..;
        records: Records;
    }

    /// Where the log of the fetcher diverges.
    EpochEndOffset {
        epoch: i32 = -1;
        end_offset: i64 = -1;
    }

    /// Which snapshot a follower is to read.
    SnapshotId {
        end_offset: i64 = -1;
        epoch: i32 = -1;
    }

    /// A transaction whose records are to be skipped.
    AbortedTransaction {
        producer_id: i64;
        first_offset: i64;
    }
}
