//! FindCoordinator: this broker coordinates everything.

use trivium_core::Text;

use crate::{
    call::{Call, Step},
    error::ErrorCode,
    messages::groups::*,
};

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
const SHARE: i8 = 2;

pub(crate) fn start(request: FindCoordinatorRequest, call: &Call<'_>) -> Step {
    let mut response = FindCoordinatorResponse::default();
    if call.version() >= 4 {
        let keys = request.coordinator_keys.into_iter();
        response.coordinators = keys
            .map(|key| coordinator(key, request.key_type, call))
            .collect();
    } else {
        let found = coordinator(request.key, request.key_type, call);
        (response.node_id, response.host, response.port) = (found.node_id, found.host, found.port);
        (response.error_code, response.error_message) = (found.error_code, found.error_message);
    }
    call.respond(&response)
}

fn coordinator(key: Text, key_type: i8, call: &Call<'_>) -> Coordinator {
    if ![GROUP, TRANSACTION, SHARE].contains(&key_type) {
        return Coordinator {
            key,
            node_id: -1,
            port: -1,
            error_code: ErrorCode::INVALID_REQUEST,
            error_message: Some("there are coordinators of groups, of transactions and of share groups' partitions only".into()),
            ..Default::default()
        };
    }
    let (host, port) = call.session.advertised();
    Coordinator {
        key,
        node_id: call.session.options.node_id,
        host,
        port,
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{api::ApiKey, script::Script};

    #[test]
    fn this_broker_coordinates_groups_and_transactions() {
        for version in 0..=6 {
            let mut script = Script::open();
            let request = FindCoordinatorRequest {
                key: "g".into(),
                key_type: TRANSACTION,
                coordinator_keys: vec!["g".into()],
            };
            script.send(ApiKey::FindCoordinator, version, &request);
            let response: FindCoordinatorResponse =
                script.response(ApiKey::FindCoordinator, version);
            let found = response
                .coordinators
                .first()
                .map(|it| (it.node_id, &*it.host, it.port));
            let expected = (1, "127.0.0.1", 9092);
            assert_eq!(
                found.unwrap_or((response.node_id, &*response.host, response.port)),
                expected
            );
        }
        let mut script = Script::open();
        let unknown = FindCoordinatorRequest {
            key_type: 3,
            coordinator_keys: vec!["g".into()],
            ..Default::default()
        };
        script.send(ApiKey::FindCoordinator, 6, &unknown);
        let response: FindCoordinatorResponse = script.response(ApiKey::FindCoordinator, 6);
        assert_eq!(
            response.coordinators[0].error_code,
            ErrorCode::INVALID_REQUEST
        );
    }
}
