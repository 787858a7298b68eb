//! DescribeCluster: one broker, which is its own controller.

use crate::{
    call::{Call, Step},
    error::ErrorCode,
    messages::describe::*,
    serve::{CLUSTER_OPERATIONS, NOT_ASKED},
};

/// The endpoint type of brokers; the other one is that of controllers.
const BROKERS: i8 = 1;

pub(crate) fn start(request: DescribeClusterRequest, call: &Call<'_>) -> Step {
    if request.endpoint_type != BROKERS {
        return call.respond(&DescribeClusterResponse {
            error_code: ErrorCode::MISMATCHED_ENDPOINT_TYPE,
            error_message: Some("this is an endpoint of brokers".into()),
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
