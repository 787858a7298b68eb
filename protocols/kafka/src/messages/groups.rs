//! The consumer groups: FindCoordinator (key 10), JoinGroup (11), Heartbeat (12), LeaveGroup (13), SyncGroup (14),
//! DescribeGroups (15) and DeleteGroups (42).

use bytes::Bytes;
use trivium_core::Text;

use crate::{error::ErrorCode, message::message};

message! {
    /// Groups, transactions or share groups whose coordinators are asked for.
    FindCoordinatorRequest {
        key: Text => ..=3;
        key_type: i8 => 1..;
        coordinator_keys: Vec<Text> => 4..;
    }

    /// The coordinators: one up to version 3, several from version 4.
    FindCoordinatorResponse {
        throttle_time_ms: i32 => 1..;
        error_code: ErrorCode => ..=3;
        error_message: Option<Text> => 1..=3;
        node_id: i32 => ..=3;
        host: Text => ..=3;
        port: i32 => ..=3;
        coordinators: Vec<Coordinator> => 4..;
    }

    /// The coordinator of one key.
    Coordinator {
        key: Text;
        node_id: i32;
        host: Text;
        port: i32;
        error_code: ErrorCode;
        error_message: Option<Text>;
    }

    /// A member enters its group or the next generation of it.
    JoinGroupRequest {
        group_id: Text;
        session_timeout_ms: i32;
        rebalance_timeout_ms: i32 = -1 => 1..;
        member_id: Text;
        group_instance_id: Option<Text> => 5..;
        protocol_type: Text;
        protocols: Vec<JoinGroupRequestProtocol>;
        reason: Option<Text> => 8..;
    }

    /// An assignor that the member supports, and its metadata for it.
    JoinGroupRequestProtocol {
        name: Text;
        metadata: Bytes;
    }

    /// The generation that the member is in.
    JoinGroupResponse {
        throttle_time_ms: i32 => 2..;
        error_code: ErrorCode;
        generation_id: i32 = -1;
        protocol_type: Option<Text> => 7..;
        protocol_name: Option<Text> => 0.., null 7..;
        leader: Text;
        skip_assignment: bool => 9..;
        member_id: Text;
        members: Vec<JoinGroupResponseMember>;
    }

    /// A member, for the leader.
    JoinGroupResponseMember {
        member_id: Text;
        group_instance_id: Option<Text> => 5..;
        metadata: Bytes;
    }

    /// A member is alive.
    HeartbeatRequest {
        group_id: Text;
        generation_id: i32;
        member_id: Text;
        group_instance_id: Option<Text> => 3..;
    }

    /// Whether it still belongs to the generation.
    HeartbeatResponse {
        throttle_time_ms: i32 => 1..;
        error_code: ErrorCode;
    }

    /// Members that go: one up to version 2, several from version 3.
    LeaveGroupRequest {
        group_id: Text;
        member_id: Text => ..=2;
        members: Vec<MemberIdentity> => 3..;
    }

    /// A member that goes, by id or by static name.
    MemberIdentity {
        member_id: Text;
        group_instance_id: Option<Text>;
        reason: Option<Text> => 5..;
    }

    /// Who went.
    LeaveGroupResponse {
        throttle_time_ms: i32 => 1..;
        error_code: ErrorCode;
        members: Vec<MemberResponse> => 3..;
    }

    /// Whether one member went.
    MemberResponse {
        member_id: Text;
        group_instance_id: Option<Text>;
        error_code: ErrorCode;
    }

    /// A member asks for its assignment; the leader brings all of them.
    SyncGroupRequest {
        group_id: Text;
        generation_id: i32;
        member_id: Text;
        group_instance_id: Option<Text> => 3..;
        protocol_type: Option<Text> => 5..;
        protocol_name: Option<Text> => 5..;
        assignments: Vec<SyncGroupRequestAssignment>;
    }

    /// The assignment of one member.
    SyncGroupRequestAssignment {
        member_id: Text;
        assignment: Bytes;
    }

    /// The assignment of the member.
    SyncGroupResponse {
        throttle_time_ms: i32 => 1..;
        error_code: ErrorCode;
        protocol_type: Option<Text> => 5..;
        protocol_name: Option<Text> => 5..;
        assignment: Bytes;
    }

    /// Groups to describe.
    DescribeGroupsRequest {
        groups: Vec<Text>;
        include_authorized_operations: bool => 3..;
    }

    /// The groups.
    DescribeGroupsResponse {
        throttle_time_ms: i32 => 1..;
        groups: Vec<DescribedGroup>;
    }

    /// One group.
    DescribedGroup {
        error_code: ErrorCode;
        error_message: Option<Text> => 6..;
        group_id: Text;
        group_state: Text;
        protocol_type: Text;
        protocol_data: Text;
        members: Vec<DescribedGroupMember>;
        authorized_operations: i32 = i32::MIN => 3..;
    }

    /// One member of it.
    DescribedGroupMember {
        member_id: Text;
        group_instance_id: Option<Text> => 4..;
        client_id: Text;
        client_host: Text;
        member_metadata: Bytes;
        member_assignment: Bytes;
    }

    /// Groups to delete.
    DeleteGroupsRequest {
        groups_names: Vec<Text>;
    }

    /// What became of each group.
    DeleteGroupsResponse {
        throttle_time_ms: i32;
        results: Vec<DeletableGroupResult>;
    }

    /// What became of one group.
    DeletableGroupResult {
        group_id: Text;
        error_code: ErrorCode;
    }
}

message! {
    /// Which groups are wanted.
    ListGroupsRequest {
        states_filter: Vec<Text> => 4..;
        types_filter: Vec<Text> => 5..;
    }

    /// The groups.
    ListGroupsResponse {
        throttle_time_ms: i32 => 1..;
        error_code: ErrorCode;
        groups: Vec<ListedGroup>;
    }

    /// One of them.
    ListedGroup {
        group_id: Text;
        protocol_type: Text;
        group_state: Text => 4..;
        group_type: Text => 5..;
    }

    /// Offsets that a group is to forget.
    OffsetDeleteRequest {
        group_id: Text;
        topics: Vec<OffsetDeleteRequestTopic>;
    }

    /// Those of one topic.
    OffsetDeleteRequestTopic {
        name: Text;
        partitions: Vec<OffsetDeleteRequestPartition>;
    }

    /// That of one partition.
    OffsetDeleteRequestPartition {
        partition_index: i32;
    }

    /// Whether they were forgotten.
    OffsetDeleteResponse {
        error_code: ErrorCode;
        throttle_time_ms: i32;
        topics: Vec<OffsetDeleteResponseTopic>;
    }

    /// Those of one topic.
    OffsetDeleteResponseTopic {
        name: Text;
        partitions: Vec<OffsetDeleteResponsePartition>;
    }

    /// That of one partition.
    OffsetDeleteResponsePartition {
        partition_index: i32;
        error_code: ErrorCode;
    }
}
