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
/// From this version on, a request has several keys.
const BATCHED: i16 = 4;

pub(crate) fn start(request: FindCoordinatorRequest, call: &Call<'_>) -> Step {
    let mut response = FindCoordinatorResponse::default();
    if call.version() >= BATCHED {
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

/// Why a request is refused as a whole, in Kafka's words for its code.
const MALFORMED: &str = "This most likely occurs because of a request being malformed by the client library or the \
                         message was sent to an incompatible broker. See the broker logs for more details.";

fn coordinator(key: Text, key_type: i8, call: &Call<'_>) -> Coordinator {
    let fault = match key_type {
        GROUP | TRANSACTION => None,
        SHARE if call.version() < BATCHED => Some(MALFORMED),
        SHARE if is_share_partition(&key) => None,
        SHARE => Some(""),
        _ => Some(MALFORMED),
    };
    if let Some(text) = fault {
        return Coordinator {
            key,
            node_id: -1,
            port: -1,
            error_code: ErrorCode::INVALID_REQUEST,
            error_message: Some(text.into()),
            ..Default::default()
        };
    }
    let (host, port) = call.session.advertised();
    Coordinator {
        key,
        node_id: call.session.options.node_id,
        host,
        port,
        // As by Kafka, in which the versions with one key say it in a word.
        error_message: Some(if call.version() < BATCHED { "NONE" } else { "" }.into()),
        ..Default::default()
    }
}

/// Whether the key is a group, the id of a topic and a partition, with colons between them.
fn is_share_partition(key: &str) -> bool {
    let mut parts = key.rsplitn(3, ':');
    let (partition, id, group) = (parts.next(), parts.next(), parts.next());
    partition.is_some_and(|it| it.parse::<i32>().is_ok())
        && id.is_some_and(is_id)
        && group.is_some_and(|group| !group.is_empty())
}

/// Whether this is an id as Kafka writes it: 16 bytes in base64 for URLs, without padding.
fn is_id(text: &str) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    text.len() == 22 && text.bytes().all(is_digit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{api::ApiKey, script::Script};

    #[test]
    fn share_partitions_have_a_group_an_id_and_a_number() {
        let id = "AAAAAAAAAAAAAAAAAAAAAQ";
        for key in [
            format!("g:{id}:0"),
            format!("a:b:{id}:7"),
            format!("g:{id}:-1"),
        ] {
            assert!(is_share_partition(&key), "{key}");
        }
        for key in [
            "",
            "g",
            "g:t:0",
            &format!(":{id}:0"),
            &format!("g:{id}:x"),
            &format!("{id}:0"),
        ] {
            assert!(!is_share_partition(key), "{key}");
        }
    }

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
