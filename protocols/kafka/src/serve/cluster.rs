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
