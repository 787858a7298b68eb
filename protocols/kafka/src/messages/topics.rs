//! CreateTopics (key 19) and DeleteTopics (key 20).

use trivium_core::Text;

use crate::{error::ErrorCode, message::message, wire::Uuid};

message! {
    /// Topics to create.
    CreateTopicsRequest {
        topics: Vec<CreatableTopic>;
        timeout_ms: i32 = 60_000;
        validate_only: bool;
    }

    /// One topic; -1 partitions or replicas mean the default.
    CreatableTopic {
        name: Text;
        num_partitions: i32;
        replication_factor: i16;
        assignments: Vec<CreatableReplicaAssignment>;
        configs: Vec<CreatableTopicConfig>;
    }

    /// Which brokers hold a partition.
    CreatableReplicaAssignment {
        partition_index: i32;
        broker_ids: Vec<i32>;
    }

    /// A setting of the topic.
    CreatableTopicConfig {
        name: Text;
        value: Option<Text>;
    }

    /// What became of each topic.
    CreateTopicsResponse {
        throttle_time_ms: i32;
        topics: Vec<CreatableTopicResult>;
    }

    /// What became of one topic.
    CreatableTopicResult {
        name: Text;
        topic_id: Uuid => 7..;
        error_code: ErrorCode;
        error_message: Option<Text>;
        topic_config_error_code: ErrorCode => 5.., tag 0;
        num_partitions: i32 = -1 => 5..;
        replication_factor: i16 = -1 => 5..;
        configs: Option<Vec<CreatableTopicConfigs>> => 5..;
    }

    /// A setting in force.
    CreatableTopicConfigs {
        name: Text;
        value: Option<Text>;
        read_only: bool;
        config_source: i8 = -1;
        is_sensitive: bool;
    }

    /// Topics to delete.
    DeleteTopicsRequest {
        topics: Vec<DeleteTopicState> => 6..;
        topic_names: Vec<Text> => ..=5;
        timeout_ms: i32;
    }

    /// A topic by name or by id.
    DeleteTopicState {
        name: Option<Text>;
        topic_id: Uuid;
    }

    /// What became of each topic.
    DeleteTopicsResponse {
        throttle_time_ms: i32;
        responses: Vec<DeletableTopicResult>;
    }

    /// What became of one topic.
    DeletableTopicResult {
        name: Option<Text> => 0.., null 6..;
        topic_id: Uuid => 6..;
        error_code: ErrorCode;
        error_message: Option<Text> => 5..;
    }
}
