//! The APIs that are served: one table, from which both ApiVersions and the dispatch are made.

use std::ops::RangeInclusive;

use bytes::Bytes;

use crate::{
    messages::{
        api_versions::*, describe::*, fetch::*, group_offsets::*, groups::*, metadata::*,
        offsets::*, produce::*, producers::*, topics::*,
    },
    wire::{Malformed, Reader, Wire},
};

macro_rules! apis {
    ($($key:literal $name:ident: $versions:expr, flexible $flexible:literal, $request:ident => $response:ident;)*) => {
        /// An API that is served.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum ApiKey {
            $(#[allow(missing_docs)] $name = $key,)*
        }

        impl ApiKey {
            /// All of them, in the order of their keys.
            pub const ALL: &[ApiKey] = &[$(ApiKey::$name,)*];

            /// The API of a key, if it is served.
            pub fn find(key: i16) -> Option<ApiKey> {
                match key {
                    $($key => Some(ApiKey::$name),)*
                    _ => None,
                }
            }

            /// The versions that ApiVersions lists.
            pub fn versions(self) -> RangeInclusive<i16> {
                match self {
                    $(ApiKey::$name => $versions,)*
                }
            }

            /// Whether messages of this version are in the flexible encoding.
            pub fn is_flexible(self, version: i16) -> bool {
                version >= match self {
                    $(ApiKey::$name => $flexible,)*
                }
            }
        }

        /// A request.
        #[derive(Clone, Debug)]
        pub enum Request {
            $(#[allow(missing_docs)] $name($request),)*
        }

        impl Request {
            /// Reads the body of a request, behind its header.
            pub fn read(key: ApiKey, version: i16, body: Bytes) -> Result<Request, Malformed> {
                let mut reader = Reader::new(body, version, key.is_flexible(version));
                match key {
                    $(ApiKey::$name => $request::read(&mut reader).map(Request::$name),)*
                }
            }
        }

        /// Runs a check, a macro, on the request and the response of every API.
        #[cfg(test)]
        macro_rules! for_each_api {
            ($check:ident!($d($d argument:expr),*)) => {
                $($check!(ApiKey::$name, $request, $response, $d($d argument),*);)*
            };
        }
    };
}

// The ranges of Apache Kafka 4.3: clients tell a broker's release by them.
apis! {
    0 Produce: 0..=13, flexible 9, ProduceRequest => ProduceResponse;
    1 Fetch: 4..=18, flexible 12, FetchRequest => FetchResponse;
    2 ListOffsets: 1..=11, flexible 6, ListOffsetsRequest => ListOffsetsResponse;
    3 Metadata: 0..=13, flexible 9, MetadataRequest => MetadataResponse;
    8 OffsetCommit: 2..=10, flexible 8, OffsetCommitRequest => OffsetCommitResponse;
    9 OffsetFetch: 1..=10, flexible 6, OffsetFetchRequest => OffsetFetchResponse;
    10 FindCoordinator: 0..=6, flexible 3, FindCoordinatorRequest => FindCoordinatorResponse;
    11 JoinGroup: 0..=9, flexible 6, JoinGroupRequest => JoinGroupResponse;
    12 Heartbeat: 0..=4, flexible 4, HeartbeatRequest => HeartbeatResponse;
    13 LeaveGroup: 0..=5, flexible 4, LeaveGroupRequest => LeaveGroupResponse;
    14 SyncGroup: 0..=5, flexible 4, SyncGroupRequest => SyncGroupResponse;
    15 DescribeGroups: 0..=6, flexible 5, DescribeGroupsRequest => DescribeGroupsResponse;
    18 ApiVersions: 0..=4, flexible 3, ApiVersionsRequest => ApiVersionsResponse;
    19 CreateTopics: 2..=7, flexible 5, CreateTopicsRequest => CreateTopicsResponse;
    20 DeleteTopics: 1..=6, flexible 4, DeleteTopicsRequest => DeleteTopicsResponse;
    22 InitProducerId: 0..=5, flexible 2, InitProducerIdRequest => InitProducerIdResponse;
    32 DescribeConfigs: 1..=4, flexible 4, DescribeConfigsRequest => DescribeConfigsResponse;
    42 DeleteGroups: 0..=2, flexible 2, DeleteGroupsRequest => DeleteGroupsResponse;
    60 DescribeCluster: 0..=2, flexible 0, DescribeClusterRequest => DescribeClusterResponse;
}

impl ApiKey {
    /// Whether requests of this version are answered. Produce is advertised from version 0 because librdkafka
    /// up to 2.11.0 drops compression silently otherwise (KAFKA-18659), and served from 3, as Kafka 4 does it.
    pub fn serves(self, version: i16) -> bool {
        self.versions().contains(&version) && !(self == ApiKey::Produce && version < 3)
    }

    /// Whether the header of a response ends with tagged fields. That of ApiVersions never does, so that a
    /// client can read it whatever version the broker answered in (KIP-511).
    pub fn has_flexible_response_header(self, version: i16) -> bool {
        self.is_flexible(version) && self != ApiKey::ApiVersions
    }
}
