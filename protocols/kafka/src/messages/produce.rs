//! Produce (key 0).

use bytes::Bytes;
use trivium_core::Text;

use crate::{error::ErrorCode, message::message, wire::Uuid};

message! {
    /// Record batches to append, per partition.
    ProduceRequest {
        transactional_id: Option<Text>;
        acks: i16;
        timeout_ms: i32;
        topic_data: Vec<TopicProduceData>;
    }

    /// What is for one topic.
    TopicProduceData {
        name: Text => ..=12;
        topic_id: Uuid => 13..;
        partition_data: Vec<PartitionProduceData>;
    }

    /// What is for one partition: exactly one record batch.
    PartitionProduceData {
        index: i32;
        records: Option<Bytes>;
    }

    /// What became of each batch.
    ProduceResponse {
        responses: Vec<TopicProduceResponse>;
        throttle_time_ms: i32;
        node_endpoints: Vec<NodeEndpoint> => 10.., tag 0;
    }

    /// What became of the batches of one topic.
    TopicProduceResponse {
        name: Text => ..=12;
        topic_id: Uuid => 13..;
        partition_responses: Vec<PartitionProduceResponse>;
    }

    /// What became of one batch.
    PartitionProduceResponse {
        index: i32;
        error_code: ErrorCode;
        base_offset: i64;
        log_append_time_ms: i64 = -1;
        log_start_offset: i64 = -1 => 5..;
        record_errors: Vec<BatchIndexAndErrorMessage> => 8..;
        error_message: Option<Text> => 8..;
        current_leader: LeaderIdAndEpoch => 10.., tag 0;
    }

    /// A record that is why its batch was refused.
    BatchIndexAndErrorMessage {
        batch_index: i32;
        batch_index_error_message: Option<Text>;
    }

    /// Which broker leads a partition now.
    LeaderIdAndEpoch {
        leader_id: i32 = -1;
        leader_epoch: i32 = -1;
    }

    /// Where a leader named in this response is reached.
    NodeEndpoint {
        node_id: i32;
        host: Text;
        port: i32;
        rack: Option<Text>;
    }
}
