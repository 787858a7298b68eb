//! DescribeConfigs (key 32) and DescribeCluster (key 60).

use trivium_core::Text;

use crate::{error::ErrorCode, message::message};

message! {
    /// Resources whose settings are asked for.
    DescribeConfigsRequest {
        resources: Vec<DescribeConfigsResource>;
        include_synonyms: bool;
        include_documentation: bool => 3..;
    }

    /// A resource, and which of its settings; null means all.
    DescribeConfigsResource {
        resource_type: i8;
        resource_name: Text;
        configuration_keys: Option<Vec<Text>>;
    }

    /// The settings.
    DescribeConfigsResponse {
        throttle_time_ms: i32;
        results: Vec<DescribeConfigsResult>;
    }

    /// The settings of one resource.
    DescribeConfigsResult {
        error_code: ErrorCode;
        error_message: Option<Text>;
        resource_type: i8;
        resource_name: Text;
        configs: Vec<DescribeConfigsResourceResult>;
    }

    /// One setting.
    DescribeConfigsResourceResult {
        name: Text;
        value: Option<Text>;
        read_only: bool;
        config_source: i8 = -1;
        is_sensitive: bool;
        synonyms: Vec<DescribeConfigsSynonym>;
        config_type: i8 => 3..;
        documentation: Option<Text> => 3..;
    }

    /// Where a value of the setting comes from.
    DescribeConfigsSynonym {
        name: Text;
        value: Option<Text>;
        source: i8;
    }

    /// Asks who is in the cluster.
    DescribeClusterRequest {
        include_cluster_authorized_operations: bool;
        endpoint_type: i8 = 1 => 1..;
        include_fenced_brokers: bool => 2..;
    }

    /// Who is in the cluster.
    DescribeClusterResponse {
        throttle_time_ms: i32;
        error_code: ErrorCode;
        error_message: Option<Text>;
        endpoint_type: i8 = 1 => 1..;
        cluster_id: Text;
        controller_id: i32 = -1;
        brokers: Vec<DescribeClusterBroker>;
        cluster_authorized_operations: i32 = i32::MIN;
    }

    /// A broker and where it is reached.
    DescribeClusterBroker {
        broker_id: i32;
        host: Text;
        port: i32;
        rack: Option<Text>;
        is_fenced: bool => 2..;
    }
}
