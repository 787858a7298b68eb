//! Metadata (key 3).

use trivium_core::Text;

use crate::{error::ErrorCode, message::message, wire::Uuid};

message! {
    /// Topics to describe; null (in version 0 an empty list) means all.
    MetadataRequest {
        topics: Option<Vec<MetadataRequestTopic>> => 0.., null 1..;
        allow_auto_topic_creation: bool = true => 4..;
        include_cluster_authorized_operations: bool => 8..=10;
        include_topic_authorized_operations: bool => 8..;
    }

    /// A topic by name or by id.
    MetadataRequestTopic {
        topic_id: Uuid => 10..;
        name: Option<Text> => 0.., null 10..;
    }

    /// The brokers and the topics.
    MetadataResponse {
        throttle_time_ms: i32 => 3..;
        brokers: Vec<MetadataResponseBroker>;
        cluster_id: Option<Text> => 2..;
        controller_id: i32 = -1 => 1..;
        topics: Vec<MetadataResponseTopic>;
        cluster_authorized_operations: i32 = i32::MIN => 8..=10;
        error_code: ErrorCode => 13..;
    }

    /// A broker and where it is reached.
    MetadataResponseBroker {
        node_id: i32;
        host: Text;
        port: i32;
        rack: Option<Text> => 1..;
    }

    /// One topic, or why not.
    MetadataResponseTopic {
        error_code: ErrorCode;
        name: Option<Text> => 0.., null 12..;
        topic_id: Uuid => 10..;
        is_internal: bool => 1..;
        partitions: Vec<MetadataResponsePartition>;
        topic_authorized_operations: i32 = i32::MIN => 8..;
    }

    /// One partition and who leads it.
    MetadataResponsePartition {
        error_code: ErrorCode;
        partition_index: i32;
        leader_id: i32;
        leader_epoch: i32 = -1 => 7..;
        replica_nodes: Vec<i32>;
        isr_nodes: Vec<i32>;
        offline_replicas: Vec<i32> => 5..;
    }
}
