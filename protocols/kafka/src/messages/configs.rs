//! Changes of settings: AlterConfigs (key 33), CreatePartitions (37), IncrementalAlterConfigs (44),
//! ListConfigResources (74).

use trivium_core::Text;

use crate::{error::ErrorCode, message::message};

message! {
    /// Resources with all of their settings.
    AlterConfigsRequest {
        resources: Vec<AlterConfigsResource>;
        validate_only: bool;
    }

    /// A resource.
    AlterConfigsResource {
        resource_type: i8;
        resource_name: Text;
        configs: Vec<AlterableConfig>;
    }

    /// A setting.
    AlterableConfig {
        name: Text;
        value: Option<Text>;
    }

    /// What became of each resource.
    AlterConfigsResponse {
        throttle_time_ms: i32;
        responses: Vec<AlterConfigsResourceResponse>;
    }

    /// What became of a resource.
    AlterConfigsResourceResponse {
        error_code: ErrorCode;
        error_message: Option<Text>;
        resource_type: i8;
        resource_name: Text;
    }

    /// Resources with changes of their settings.
    IncrementalAlterConfigsRequest {
        resources: Vec<IncrementalAlterConfigsResource>;
        validate_only: bool;
    }

    /// A resource.
    IncrementalAlterConfigsResource {
        resource_type: i8;
        resource_name: Text;
        configs: Vec<IncrementalAlterableConfig>;
    }

    /// A setting and how it changes: set, delete, append or subtract.
    IncrementalAlterableConfig {
        name: Text;
        config_operation: i8;
        value: Option<Text>;
    }

    /// What became of each resource.
    IncrementalAlterConfigsResponse {
        throttle_time_ms: i32;
        responses: Vec<AlterConfigsResourceResponse>;
    }

    /// Topics that are to have more partitions.
    CreatePartitionsRequest {
        topics: Vec<CreatePartitionsTopic>;
        timeout_ms: i32;
        validate_only: bool;
    }

    /// A topic, and how many it is to have.
    CreatePartitionsTopic {
        name: Text;
        count: i32;
        assignments: Option<Vec<CreatePartitionsAssignment>>;
    }

    /// The brokers of a new partition.
    CreatePartitionsAssignment {
        broker_ids: Vec<i32>;
    }

    /// What became of each topic.
    CreatePartitionsResponse {
        throttle_time_ms: i32;
        results: Vec<CreatePartitionsTopicResult>;
    }

    /// What became of a topic.
    CreatePartitionsTopicResult {
        name: Text;
        error_code: ErrorCode;
        error_message: Option<Text>;
    }

    /// Kinds of resources; none means all.
    ListConfigResourcesRequest {
        resource_types: Vec<i8> => 1..;
    }

    /// What can have settings.
    ListConfigResourcesResponse {
        throttle_time_ms: i32;
        error_code: ErrorCode;
        config_resources: Vec<ConfigResource>;
    }

    /// A resource.
    ConfigResource {
        resource_name: Text;
        resource_type: i8 = 16 => 1..;
    }
}
