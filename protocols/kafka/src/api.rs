//! The APIs that are served: one table, from which both ApiVersions and the dispatch are made.

use std::ops::RangeInclusive;

use bytes::Bytes;

use crate::{
    messages::{
        admin::*, api_versions::*, configs::*, consumer_groups::*, describe::*, fetch::*,
        group_offsets::*, groups::*, metadata::*, offsets::*, produce::*, producers::*, quotas::*,
        security::*, share::*, topics::*, transactions::*,
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
            ($check:ident, $argument:expr) => {
                $($check!(ApiKey::$name, $request, $response, $argument);)*
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
    16 ListGroups: 0..=5, flexible 3, ListGroupsRequest => ListGroupsResponse;
    17 SaslHandshake: 0..=1, flexible 2, SaslHandshakeRequest => SaslHandshakeResponse;
    18 ApiVersions: 0..=4, flexible 3, ApiVersionsRequest => ApiVersionsResponse;
    19 CreateTopics: 2..=7, flexible 5, CreateTopicsRequest => CreateTopicsResponse;
    20 DeleteTopics: 1..=6, flexible 4, DeleteTopicsRequest => DeleteTopicsResponse;
    21 DeleteRecords: 0..=2, flexible 2, DeleteRecordsRequest => DeleteRecordsResponse;
    22 InitProducerId: 0..=5, flexible 2, InitProducerIdRequest => InitProducerIdResponse;
    23 OffsetForLeaderEpoch: 2..=4, flexible 4, OffsetForLeaderEpochRequest => OffsetForLeaderEpochResponse;
    24 AddPartitionsToTxn: 0..=5, flexible 3, AddPartitionsToTxnRequest => AddPartitionsToTxnResponse;
    25 AddOffsetsToTxn: 0..=4, flexible 3, AddOffsetsToTxnRequest => AddOffsetsToTxnResponse;
    26 EndTxn: 0..=5, flexible 3, EndTxnRequest => EndTxnResponse;
    27 WriteTxnMarkers: 1..=2, flexible 1, WriteTxnMarkersRequest => WriteTxnMarkersResponse;
    28 TxnOffsetCommit: 0..=5, flexible 3, TxnOffsetCommitRequest => TxnOffsetCommitResponse;
    29 DescribeAcls: 1..=3, flexible 2, DescribeAclsRequest => DescribeAclsResponse;
    30 CreateAcls: 1..=3, flexible 2, CreateAclsRequest => CreateAclsResponse;
    31 DeleteAcls: 1..=3, flexible 2, DeleteAclsRequest => DeleteAclsResponse;
    32 DescribeConfigs: 1..=4, flexible 4, DescribeConfigsRequest => DescribeConfigsResponse;
    33 AlterConfigs: 0..=2, flexible 2, AlterConfigsRequest => AlterConfigsResponse;
    34 AlterReplicaLogDirs: 1..=2, flexible 2, AlterReplicaLogDirsRequest => AlterReplicaLogDirsResponse;
    35 DescribeLogDirs: 1..=5, flexible 2, DescribeLogDirsRequest => DescribeLogDirsResponse;
    36 SaslAuthenticate: 0..=2, flexible 2, SaslAuthenticateRequest => SaslAuthenticateResponse;
    37 CreatePartitions: 0..=3, flexible 2, CreatePartitionsRequest => CreatePartitionsResponse;
    38 CreateDelegationToken: 1..=3, flexible 2, CreateDelegationTokenRequest => CreateDelegationTokenResponse;
    39 RenewDelegationToken: 1..=2, flexible 2, RenewDelegationTokenRequest => RenewDelegationTokenResponse;
    40 ExpireDelegationToken: 1..=2, flexible 2, ExpireDelegationTokenRequest => ExpireDelegationTokenResponse;
    41 DescribeDelegationToken: 1..=3, flexible 2, DescribeDelegationTokenRequest => DescribeDelegationTokenResponse;
    42 DeleteGroups: 0..=2, flexible 2, DeleteGroupsRequest => DeleteGroupsResponse;
    43 ElectLeaders: 0..=2, flexible 2, ElectLeadersRequest => ElectLeadersResponse;
    44 IncrementalAlterConfigs: 0..=1, flexible 1, IncrementalAlterConfigsRequest => IncrementalAlterConfigsResponse;
    45 AlterPartitionReassignments: 0..=1, flexible 0, AlterPartitionReassignmentsRequest => AlterPartitionReassignmentsResponse;
    46 ListPartitionReassignments: 0..=0, flexible 0, ListPartitionReassignmentsRequest => ListPartitionReassignmentsResponse;
    47 OffsetDelete: 0..=0, flexible 1, OffsetDeleteRequest => OffsetDeleteResponse;
    48 DescribeClientQuotas: 0..=1, flexible 1, DescribeClientQuotasRequest => DescribeClientQuotasResponse;
    49 AlterClientQuotas: 0..=1, flexible 1, AlterClientQuotasRequest => AlterClientQuotasResponse;
    50 DescribeUserScramCredentials: 0..=0, flexible 0, DescribeUserScramCredentialsRequest => DescribeUserScramCredentialsResponse;
    51 AlterUserScramCredentials: 0..=0, flexible 0, AlterUserScramCredentialsRequest => AlterUserScramCredentialsResponse;
    55 DescribeQuorum: 0..=2, flexible 0, DescribeQuorumRequest => DescribeQuorumResponse;
    57 UpdateFeatures: 0..=2, flexible 0, UpdateFeaturesRequest => UpdateFeaturesResponse;
    60 DescribeCluster: 0..=2, flexible 0, DescribeClusterRequest => DescribeClusterResponse;
    61 DescribeProducers: 0..=0, flexible 0, DescribeProducersRequest => DescribeProducersResponse;
    64 UnregisterBroker: 0..=0, flexible 0, UnregisterBrokerRequest => UnregisterBrokerResponse;
    65 DescribeTransactions: 0..=0, flexible 0, DescribeTransactionsRequest => DescribeTransactionsResponse;
    66 ListTransactions: 0..=2, flexible 0, ListTransactionsRequest => ListTransactionsResponse;
    68 ConsumerGroupHeartbeat: 0..=1, flexible 0, ConsumerGroupHeartbeatRequest => ConsumerGroupHeartbeatResponse;
    69 ConsumerGroupDescribe: 0..=1, flexible 0, ConsumerGroupDescribeRequest => ConsumerGroupDescribeResponse;
    74 ListConfigResources: 0..=1, flexible 0, ListConfigResourcesRequest => ListConfigResourcesResponse;
    75 DescribeTopicPartitions: 0..=0, flexible 0, DescribeTopicPartitionsRequest => DescribeTopicPartitionsResponse;
    76 ShareGroupHeartbeat: 1..=1, flexible 0, ShareGroupHeartbeatRequest => ShareGroupHeartbeatResponse;
    77 ShareGroupDescribe: 1..=1, flexible 0, ShareGroupDescribeRequest => ShareGroupDescribeResponse;
    78 ShareFetch: 1..=2, flexible 0, ShareFetchRequest => ShareFetchResponse;
    79 ShareAcknowledge: 1..=2, flexible 0, ShareAcknowledgeRequest => ShareAcknowledgeResponse;
    80 AddRaftVoter: 0..=1, flexible 0, AddRaftVoterRequest => AddRaftVoterResponse;
    81 RemoveRaftVoter: 0..=0, flexible 0, RemoveRaftVoterRequest => RemoveRaftVoterResponse;
    90 DescribeShareGroupOffsets: 0..=1, flexible 0, DescribeShareGroupOffsetsRequest => DescribeShareGroupOffsetsResponse;
    91 AlterShareGroupOffsets: 0..=0, flexible 0, AlterShareGroupOffsetsRequest => AlterShareGroupOffsetsResponse;
    92 DeleteShareGroupOffsets: 0..=0, flexible 0, DeleteShareGroupOffsetsRequest => DeleteShareGroupOffsetsResponse;
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        sample::{Sample, Source},
        wire::Frame,
    };

    fn encode(message: &impl Wire, key: ApiKey, version: i16) -> Bytes {
        let mut output = trivium_protocol::Output::new();
        let mut frame = Frame::new(version, key.is_flexible(version));
        message.write(&mut frame);
        frame.send(&mut output);
        output.take().slice(4..)
    }

    fn decode<T: Wire>(bytes: Bytes, key: ApiKey, version: i16) -> Result<(T, usize), Malformed> {
        let mut reader = Reader::new(bytes, version, key.is_flexible(version));
        Ok((T::read(&mut reader)?, reader.remaining()))
    }

    /// Every start of `whole` is refused or, where the end is cut off between batches of records, shorter.
    fn check_cuts<T: Wire>(whole: &Bytes, key: ApiKey, version: i16) {
        for end in (0..whole.len()).step_by(1 + whole.len() / 64) {
            assert!(
                decode::<T>(whole.slice(..end), key, version).is_err(),
                "{key:?} v{version} cut at {end}"
            );
        }
    }

    fn round_trip<T: Wire + Sample + PartialEq + std::fmt::Debug>(seed: u64, key: ApiKey) {
        for version in key.versions().filter(|version| key.serves(*version)) {
            let message = T::sample(&mut Source::new(seed, version));
            let bytes = encode(&message, key, version);
            assert_eq!(
                decode(bytes.clone(), key, version),
                Ok((message, 0)),
                "{key:?} v{version}"
            );
            check_cuts::<T>(&bytes, key, version);
        }
    }

    fn decode_anything<T: Wire + PartialEq + std::fmt::Debug>(bytes: &Bytes, key: ApiKey) {
        for version in key.versions().filter(|version| key.serves(*version)) {
            if let Ok((message, _)) = decode::<T>(bytes.clone(), key, version) {
                let again = encode(&message, key, version);
                assert_eq!(
                    decode::<T>(again, key, version).map(|(message, _)| message),
                    Ok(message)
                );
            }
        }
    }

    macro_rules! round_trips {
        ($key:expr, $request:ident, $response:ident, $seed:expr) => {
            round_trip::<$request>($seed, $key);
            round_trip::<$response>($seed, $key);
        };
    }

    macro_rules! decodes_anything {
        ($key:expr, $request:ident, $response:ident, $bytes:expr) => {
            decode_anything::<$request>($bytes, $key);
            decode_anything::<$response>($bytes, $key);
        };
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]

        #[test]
        fn every_version_of_every_message_round_trips(seed: u64) {
            for_each_api!(round_trips, seed);
        }

        #[test]
        fn any_bytes_are_refused_or_a_message(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let bytes = Bytes::from(bytes);
            for_each_api!(decodes_anything, &bytes);
        }
    }

    fn check_vector<T: Wire>(bytes: &Bytes, key: ApiKey, version: i16) {
        match decode::<T>(bytes.clone(), key, version) {
            Ok((message, 0)) => {
                assert_eq!(encode(&message, key, version), bytes, "{key:?} v{version}")
            }
            other => panic!("{key:?} v{version}: {:?}", other.map(|(_, left)| left)),
        }
    }

    /// A line of `vectors`: key, whether it is a response, version, body.
    fn parse_vector(line: &str) -> (i16, bool, i16, Bytes) {
        let mut words = line.split(' ');
        let mut number = || words.next().unwrap().parse::<i16>().unwrap();
        let (key, response, version) = (number(), number() == 1, number());
        let hex = words.next().unwrap_or_default();
        let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        (
            key,
            response,
            version,
            (0..hex.len()).step_by(2).map(byte).collect(),
        )
    }

    macro_rules! check_vectors {
        ($key:expr, $request:ident, $response:ident, $vectors:expr) => {
            for (_, response, version, bytes) in
                $vectors.iter().filter(|vector| vector.0 == $key as i16)
            {
                match response {
                    false => check_vector::<$request>(bytes, $key, *version),
                    true => check_vector::<$response>(bytes, $key, *version),
                }
            }
        };
    }

    /// The bytes of Apache Kafka's own encoder, in every version, are understood and written again the same.
    #[test]
    fn messages_are_as_apache_kafka_encodes_them() {
        let lines = include_str!("../vectors/kafka-4.3.1.txt")
            .lines()
            .filter(|line| !line.starts_with('#'));
        let vectors: Vec<_> = lines.map(parse_vector).collect();
        for key in ApiKey::ALL {
            let versions = key
                .versions()
                .filter(|version| key.serves(*version))
                .count();
            let there = vectors
                .iter()
                .filter(|vector| vector.0 == *key as i16)
                .count();
            assert_eq!(there, 2 * versions, "{key:?}");
        }
        for_each_api!(check_vectors, vectors);
    }

    #[test]
    fn keys_ascend_and_name_their_api() {
        assert!(ApiKey::ALL.is_sorted_by_key(|key| *key as i16));
        assert!(
            ApiKey::ALL
                .iter()
                .all(|key| ApiKey::find(*key as i16) == Some(*key))
        );
        assert!(
            ApiKey::Produce.serves(3) && !ApiKey::Produce.serves(2) && !ApiKey::Produce.serves(14)
        );
    }
}
