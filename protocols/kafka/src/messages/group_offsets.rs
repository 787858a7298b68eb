//! OffsetCommit (key 8) and OffsetFetch (key 9).

use trivium_core::Text;

use crate::{error::ErrorCode, message::message, wire::Uuid};

message! {
    /// Offsets that a group is to remember.
    OffsetCommitRequest {
        group_id: Text;
        generation_id_or_member_epoch: i32 = -1;
        member_id: Text;
        group_instance_id: Option<Text> => 7..;
        retention_time_ms: i64 = -1 => ..=4;
        topics: Vec<OffsetCommitRequestTopic>;
    }

    /// Those of one topic.
    OffsetCommitRequestTopic {
        name: Text => ..=9;
        topic_id: Uuid => 10..;
        partitions: Vec<OffsetCommitRequestPartition>;
    }

    /// That of one partition.
    OffsetCommitRequestPartition {
        partition_index: i32;
        committed_offset: i64;
        committed_leader_epoch: i32 = -1 => 6..;
        committed_metadata: Option<Text>;
    }

    /// Whether they were stored.
    OffsetCommitResponse {
        throttle_time_ms: i32 => 3..;
        topics: Vec<OffsetCommitResponseTopic>;
    }

    /// Those of one topic.
    OffsetCommitResponseTopic {
        name: Text => ..=9;
        topic_id: Uuid => 10..;
        partitions: Vec<OffsetCommitResponsePartition>;
    }

    /// That of one partition.
    OffsetCommitResponsePartition {
        partition_index: i32;
        error_code: ErrorCode;
    }

    /// Whose offsets are asked for: one group up to version 7, several from version 8.
    OffsetFetchRequest {
        group_id: Text => ..=7;
        topics: Option<Vec<OffsetFetchRequestTopic>> => ..=7, null 2..;
        groups: Vec<OffsetFetchRequestGroup> => 8..;
        require_stable: bool => 7..;
    }

    /// Up to version 7: the partitions asked for of one topic.
    OffsetFetchRequestTopic {
        name: Text;
        partition_indexes: Vec<i32>;
    }

    /// From version 8: one group; null topics mean all.
    OffsetFetchRequestGroup {
        group_id: Text;
        member_id: Option<Text> => 9..;
        member_epoch: i32 = -1 => 9..;
        topics: Option<Vec<OffsetFetchRequestTopics>>;
    }

    /// From version 8: the partitions asked for of one topic.
    OffsetFetchRequestTopics {
        name: Text => ..=9;
        topic_id: Uuid => 10..;
        partition_indexes: Vec<i32>;
    }

    /// The offsets that groups have committed.
    OffsetFetchResponse {
        throttle_time_ms: i32 => 3..;
        topics: Vec<OffsetFetchResponseTopic> => ..=7;
        error_code: ErrorCode => 2..=7;
        groups: Vec<OffsetFetchResponseGroup> => 8..;
    }

    /// Up to version 7: those of one topic.
    OffsetFetchResponseTopic {
        name: Text;
        partitions: Vec<OffsetFetchResponsePartition>;
    }

    /// Up to version 7: that of one partition, or -1.
    OffsetFetchResponsePartition {
        partition_index: i32;
        committed_offset: i64;
        committed_leader_epoch: i32 = -1 => 5..;
        metadata: Option<Text>;
        error_code: ErrorCode;
    }

    /// From version 8: those of one group.
    OffsetFetchResponseGroup {
        group_id: Text;
        topics: Vec<OffsetFetchResponseTopics>;
        error_code: ErrorCode;
    }

    /// From version 8: those of one topic.
    OffsetFetchResponseTopics {
        name: Text => ..=9;
        topic_id: Uuid => 10..;
        partitions: Vec<OffsetFetchResponsePartitions>;
    }

    /// From version 8: that of one partition, or -1.
    OffsetFetchResponsePartitions {
        partition_index: i32;
        committed_offset: i64;
        committed_leader_epoch: i32 = -1;
        metadata: Option<Text>;
        error_code: ErrorCode;
    }
}
