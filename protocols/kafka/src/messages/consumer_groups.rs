//! The consumer protocol (KIP-848): ConsumerGroupHeartbeat (key 68) and ConsumerGroupDescribe (69).

use trivium_core::Text;

use crate::{
    error::ErrorCode,
    message::{message, nullable},
    wire::Uuid,
};

message! {
    /// A member says that it is there, and what has changed.
    ConsumerGroupHeartbeatRequest {
        group_id: Text;
        member_id: Text;
        member_epoch: i32;
        instance_id: Option<Text>;
        rack_id: Option<Text>;
        rebalance_timeout_ms: i32 = -1;
        subscribed_topic_names: Option<Vec<Text>>;
        subscribed_topic_regex: Option<Text> => 1..;
        server_assignor: Option<Text>;
        topic_partitions: Option<Vec<TopicPartitions>>;
    }

    /// Partitions of one topic.
    TopicPartitions {
        topic_id: Uuid;
        partitions: Vec<i32>;
    }

    /// What the member is to consume.
    ConsumerGroupHeartbeatResponse {
        throttle_time_ms: i32;
        error_code: ErrorCode;
        error_message: Option<Text>;
        member_id: Option<Text>;
        member_epoch: i32;
        heartbeat_interval_ms: i32;
        assignment: Option<Assignment>;
    }

    /// All that a member is to consume.
    Assignment {
        topic_partitions: Vec<TopicPartitions>;
    }

    /// Groups to describe.
    ConsumerGroupDescribeRequest {
        group_ids: Vec<Text>;
        include_authorized_operations: bool;
    }

    /// The groups.
    ConsumerGroupDescribeResponse {
        throttle_time_ms: i32;
        groups: Vec<DescribedConsumerGroup>;
    }

    /// One group.
    DescribedConsumerGroup {
        error_code: ErrorCode;
        error_message: Option<Text>;
        group_id: Text;
        group_state: Text;
        group_epoch: i32;
        assignment_epoch: i32;
        assignor_name: Text;
        members: Vec<DescribedConsumer>;
        authorized_operations: i32 = i32::MIN;
    }

    /// One member of it.
    DescribedConsumer {
        member_id: Text;
        instance_id: Option<Text>;
        rack_id: Option<Text>;
        member_epoch: i32;
        client_id: Text;
        client_host: Text;
        subscribed_topic_names: Vec<Text>;
        subscribed_topic_regex: Option<Text>;
        assignment: NamedAssignment;
        target_assignment: NamedAssignment;
        member_type: i8 = -1 => 1..;
    }

    /// All that a member consumes.
    NamedAssignment {
        topic_partitions: Vec<NamedTopicPartitions>;
    }

    /// Partitions of one topic, with its name.
    NamedTopicPartitions {
        topic_id: Uuid;
        topic_name: Text;
        partitions: Vec<i32>;
    }
}

nullable!(Assignment);
