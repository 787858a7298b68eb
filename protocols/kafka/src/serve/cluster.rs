//! DescribeCluster, DescribeQuorum, ListConfigResources and what changes a cluster: one broker, which is its own
//! controller.

use trivium_core::{Command, Refusal, Reply, Text};

use crate::{
    call::{Answer, Call, Job, Step},
    error::ErrorCode,
    messages::{admin::*, configs::*, describe::*},
    serve::{
        CLUSTER_OPERATIONS, NOT_ASKED, NOT_HERE,
        api_versions::FEATURES,
        configs::{CLIENT_METRICS, GROUP},
        logs,
    },
};

/// The endpoint type of brokers; the other one is that of controllers.
const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

pub(crate) fn start(request: DescribeClusterRequest, call: &Call<'_>) -> Step {
    let fault = match request.endpoint_type {
        BROKERS => None,
        CONTROLLERS => Some((
            ErrorCode::MISMATCHED_ENDPOINT_TYPE,
            "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type CONTROLLER".into(),
        )),
        other => Some((
            ErrorCode::UNSUPPORTED_ENDPOINT_TYPE,
            format!("Unsupported endpoint type {other}").into(),
        )),
    };
    if let Some((error_code, text)) = fault {
        return call.respond(&DescribeClusterResponse {
            error_code,
            error_message: Some(text),
            endpoint_type: BROKERS,
            ..Default::default()
        });
    }
    let (host, port) = call.session.advertised();
    let options = &call.session.options;
    call.respond(&DescribeClusterResponse {
        endpoint_type: BROKERS,
        cluster_id: options.cluster_id.clone(),
        controller_id: options.node_id,
        brokers: vec![DescribeClusterBroker {
            broker_id: options.node_id,
            host,
            port,
            rack: None,
            is_fenced: false,
        }],
        cluster_authorized_operations: match request.include_cluster_authorized_operations {
            true => CLUSTER_OPERATIONS,
            false => NOT_ASKED,
        },
        ..Default::default()
    })
}

/// The quorum has one voter, and is none that voters come to and leave (KIP-853).
const FIXED_QUORUM: &str = "because the kraft.version feature is 0";

pub(crate) fn add_voter(_: &AddRaftVoterRequest, call: &Call<'_>) -> Step {
    let text = format!("Cluster doesn't support adding voter {FIXED_QUORUM}");
    call.respond(&AddRaftVoterResponse {
        error_code: ErrorCode::UNSUPPORTED_VERSION,
        error_message: Some(text.into()),
        ..Default::default()
    })
}

pub(crate) fn remove_voter(_: &RemoveRaftVoterRequest, call: &Call<'_>) -> Step {
    let text = format!("Cluster doesn't support removing voter {FIXED_QUORUM}");
    call.respond(&RemoveRaftVoterResponse {
        error_code: ErrorCode::UNSUPPORTED_VERSION,
        error_message: Some(text.into()),
        ..Default::default()
    })
}

/// The topic whose quorum Kafka's tools ask for.
const METADATA_TOPIC: &str = "__cluster_metadata";

/// A quorum of one. There is no log of metadata, so its offsets are 0.
pub(crate) fn quorum(request: DescribeQuorumRequest, call: &Call<'_>) -> Step {
    let node = call.session.options.node_id;
    let known = request.topics.iter().any(|topic| {
        topic.topic_name == METADATA_TOPIC
            && topic.partitions.iter().any(|it| it.partition_index == 0)
    });
    let topics = request.topics.into_iter().map(|topic| {
        let is_metadata = topic.topic_name == METADATA_TOPIC;
        let partitions = topic.partitions.iter().map(|partition| {
            if !is_metadata || partition.partition_index != 0 {
                return DescribeQuorumPartitionResult {
                    partition_index: partition.partition_index,
                    error_code: ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                    error_message: Some(NOT_HERE.into()),
                    ..Default::default()
                };
            }
            DescribeQuorumPartitionResult {
                error_message: Some(Text::default()),
                leader_id: node,
                current_voters: vec![DescribeQuorumReplica {
                    replica_id: node,
                    ..Default::default()
                }],
                ..Default::default()
            }
        });
        DescribeQuorumTopicResult {
            partitions: partitions.collect(),
            topic_name: topic.topic_name,
        }
    });
    let (host, port) = call.session.advertised();
    let listener = DescribeQuorumListener {
        name: "CONTROLLER".into(),
        host,
        port: u16::try_from(port).unwrap_or_default(),
    };
    let nodes = known.then(|| DescribeQuorumNode {
        node_id: node,
        listeners: vec![listener],
    });
    call.respond(&DescribeQuorumResponse {
        error_message: Some(Text::default()),
        topics: topics.collect(),
        nodes: nodes.into_iter().collect(),
        ..Default::default()
    })
}

/// From this version on, what became of each feature is not told of (KIP-1022).
const AS_ONE: i16 = 2;
/// The kinds of updates: to a higher level, and to a lower one with or without loss of data.
const UPGRADE: i8 = 1;
const DOWNGRADES: std::ops::RangeInclusive<i8> = 2..=3;

/// Features have the level that this program has: setting that again succeeds, and nothing else does. The first fault
/// is that of the request.
pub(crate) fn update_features(request: UpdateFeaturesRequest, call: &Call<'_>) -> Step {
    let node = call.session.options.node_id;
    let fault = request
        .feature_updates
        .iter()
        .find_map(|update| feature_fault(update, call.version() == 0, node));
    if let Some(text) = fault {
        let text = format!(
            "The update failed for all features since the following feature had an error: {text}"
        );
        return call.respond(&UpdateFeaturesResponse {
            error_code: ErrorCode::INVALID_UPDATE_VERSION,
            error_message: Some(text.into()),
            ..Default::default()
        });
    }
    let mut response = UpdateFeaturesResponse::default();
    if call.version() < AS_ONE {
        let result = |update: FeatureUpdateKey| UpdatableFeatureResult {
            feature: update.feature,
            error_message: Some("NONE".into()),
            ..Default::default()
        };
        response.results = request.feature_updates.into_iter().map(result).collect();
    }
    call.respond(&response)
}

/// Why a feature cannot be set so, in the words of Kafka's controller. Version 0 knows no kinds of updates.
fn feature_fault(update: &FeatureUpdateKey, of_any_kind: bool, node: i32) -> Option<String> {
    let level = update.max_version_level;
    let why = match FEATURES.iter().find(|it| update.feature == it.name) {
        None => format!("Local controller {node} does not support this feature."),
        Some(_)
            if !of_any_kind
                && update.upgrade_type != UPGRADE
                && !DOWNGRADES.contains(&update.upgrade_type) =>
        {
            "The controller does not support the given upgrade type.".to_owned()
        }
        Some(feature) if level == feature.level => return None,
        Some(feature) if (feature.min..feature.level).contains(&level) && !of_any_kind && update.upgrade_type == UPGRADE => {
            "Can't downgrade the version of this feature without setting the upgrade type to either safe or unsafe downgrade.".to_owned()
        }
        Some(feature) => format!(
            "Local controller {node} only supports versions {}-{}",
            feature.min, feature.level
        ),
    };
    Some(format!(
        "Invalid update version {level} for feature {}. {why}",
        update.feature
    ))
}

pub(crate) fn unregister(request: UnregisterBrokerRequest, call: &Call<'_>) -> Step {
    let (error_code, text) = match request.broker_id == call.session.options.node_id {
        true => (
            ErrorCode::INVALID_REQUEST,
            "the only broker cannot leave".to_owned(),
        ),
        false => (
            ErrorCode::BROKER_ID_NOT_REGISTERED,
            format!(
                "Broker ID {} is not currently registered",
                request.broker_id
            ),
        ),
    };
    call.respond(&UnregisterBrokerResponse {
        error_code,
        error_message: Some(text.into()),
        ..Default::default()
    })
}

/// Kinds of resources with settings.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;

/// The topics and groups being listed.
struct Listing {
    /// None means all.
    types: Vec<i8>,
    found: Vec<(i8, Text)>,
    refusal: Option<Refusal>,
    left: usize,
}

impl Listing {
    fn wants(&self, kind: i8) -> bool {
        self.types.is_empty() || self.types.contains(&kind)
    }
}

pub(crate) fn config_resources(request: ListConfigResourcesRequest, call: &mut Call<'_>) -> Step {
    // Version 0 lists subscriptions of clients' metrics, of which there are none.
    let known = [TOPIC, BROKER, 8, CLIENT_METRICS, GROUP];
    let types = request.resource_types;
    if types.iter().any(|kind| !known.contains(kind)) {
        return call.respond(&ListConfigResourcesResponse {
            error_code: ErrorCode::UNSUPPORTED_VERSION,
            ..Default::default()
        });
    }
    if call.version() == 0 {
        return call.respond(&ListConfigResourcesResponse::default());
    }
    call.describe(0, None);
    call.submit(1, |token| Command::ListGroups { token });
    Step::Wait(Box::new(Listing {
        types,
        found: Vec::new(),
        refusal: None,
        left: 2,
    }))
}

impl Job for Listing {
    fn on_answer(mut self: Box<Self>, part: usize, answer: Answer, call: &mut Call<'_>) -> Step {
        let found = match part {
            0 => logs(answer).map(|logs| {
                let topics = logs.into_iter().flatten();
                topics.map(|log| (TOPIC, log.name)).collect::<Vec<_>>()
            }),
            _ => groups(answer),
        };
        match found {
            Ok(found) => self.found.extend(found),
            Err(refusal) => self.refusal = Some(refusal),
        }
        self.left -= 1;
        if self.left > 0 {
            return Step::Wait(self);
        }
        if let Some(refusal) = &self.refusal {
            return call.respond(&ListConfigResourcesResponse {
                error_code: ErrorCode::from(refusal),
                ..Default::default()
            });
        }
        let id = call.session.options.node_id.to_string();
        self.found.push((BROKER, id.into()));
        self.found.sort();
        let wanted = self.found.iter().filter(|(kind, _)| self.wants(*kind));
        let resource = |(resource_type, resource_name): &(i8, Text)| ConfigResource {
            resource_name: resource_name.clone(),
            resource_type: *resource_type,
        };
        call.respond(&ListConfigResourcesResponse {
            config_resources: wanted.map(resource).collect(),
            ..Default::default()
        })
    }
}

/// Groups that have settings of their own, as Kafka lists them.
fn groups(answer: Answer) -> Result<Vec<(i8, Text)>, Refusal> {
    let groups = answer.reply(|reply| match reply {
        Reply::Groups(groups) => Some(groups),
        _ => None,
    })?;
    let configured = groups.into_iter().filter(|group| group.has_settings);
    Ok(configured.map(|group| (GROUP, group.group)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{api::ApiKey, script::Script};

    #[test]
    fn the_cluster_is_this_broker() {
        for version in 0..=2 {
            let mut script = Script::open();
            let request = DescribeClusterRequest {
                include_cluster_authorized_operations: true,
                ..Default::default()
            };
            script.send(ApiKey::DescribeCluster, version, &request);
            let response: DescribeClusterResponse =
                script.response(ApiKey::DescribeCluster, version);
            assert_eq!(
                (&*response.cluster_id, response.controller_id),
                ("trivium", 1)
            );
            assert_eq!(
                (&*response.brokers[0].host, response.brokers[0].port),
                ("127.0.0.1", 9092)
            );
            assert_eq!(response.cluster_authorized_operations, CLUSTER_OPERATIONS);
        }
    }

    /// KIP-919: controllers are not to be found here.
    #[test]
    fn this_is_no_controller_endpoint() {
        let mut script = Script::open();
        script.send(
            ApiKey::DescribeCluster,
            1,
            &DescribeClusterRequest {
                endpoint_type: 2,
                ..Default::default()
            },
        );
        let response: DescribeClusterResponse = script.response(ApiKey::DescribeCluster, 1);
        assert_eq!(response.error_code, ErrorCode::MISMATCHED_ENDPOINT_TYPE);
    }
}
