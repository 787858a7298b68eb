//! ListOffsets (key 2).

use trivium_core::Text;

use crate::{error::ErrorCode, message::message};

message! {
    /// Offsets to find, by time or by name.
    ListOffsetsRequest {
        replica_id: i32;
        isolation_level: i8 => 2..;
        topics: Vec<ListOffsetsTopic>;
        timeout_ms: i32 => 10..;
    }

    /// What is asked about one topic.
    ListOffsetsTopic {
        name: Text;
        partitions: Vec<ListOffsetsPartition>;
    }

    /// What is asked about one partition.
    ListOffsetsPartition {
        partition_index: i32;
        current_leader_epoch: i32 = -1 => 4..;
        timestamp: i64;
    }

    /// The offsets found.
    ListOffsetsResponse {
        throttle_time_ms: i32 => 2..;
        topics: Vec<ListOffsetsTopicResponse>;
    }

    /// The offsets found in one topic.
    ListOffsetsTopicResponse {
        name: Text;
        partitions: Vec<ListOffsetsPartitionResponse>;
    }

    /// The offset found in one partition, or -1.
    ListOffsetsPartitionResponse {
        partition_index: i32;
        error_code: ErrorCode;
        timestamp: i64 = -1;
        offset: i64 = -1;
        leader_epoch: i32 = -1 => 4..;
    }
}
