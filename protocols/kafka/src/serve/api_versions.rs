//! ApiVersions: what is served.

use crate::{
    api::ApiKey,
    call::{Call, Step},
    error::ErrorCode,
    header::Header,
    messages::api_versions::*,
    wire::{Frame, Wire},
};

/// The level of `metadata.version` that is Kafka 4.3, and the oldest that Kafka 4.3 knows. User interfaces show
/// the release that it stands for.
const METADATA_VERSION: i16 = 30;
const METADATA_VERSION_MIN: i16 = 7;

pub(crate) fn start(request: ApiVersionsRequest, call: &Call<'_>) -> Step {
    let introduced =
        is_plain(&request.client_software_name) && is_plain(&request.client_software_version);
    if call.version() >= 3 && !introduced {
        return call.respond(&ApiVersionsResponse {
            error_code: ErrorCode::INVALID_REQUEST,
            ..Default::default()
        });
    }
    call.respond(&ApiVersionsResponse {
        api_keys: ApiKey::ALL.iter().map(|key| range(*key)).collect(),
        // `transaction.version` and `group.version` are absent: clients then use neither transactions of
        // the second kind nor the consumer protocol of KIP-848.
        supported_features: vec![SupportedFeatureKey {
            name: "metadata.version".into(),
            min_version: METADATA_VERSION_MIN,
            max_version: METADATA_VERSION,
        }],
        finalized_features_epoch: 0,
        finalized_features: vec![FinalizedFeatureKey {
            name: "metadata.version".into(),
            max_version_level: METADATA_VERSION,
            min_version_level: METADATA_VERSION,
        }],
        ..Default::default()
    })
}

/// KIP-511: a version to come is answered in version 0, with the versions to try instead.
pub(crate) fn unsupported_version(header: &Header) -> Frame {
    let mut frame = Header {
        version: 0,
        ..header.clone()
    }
    .response();
    let response = ApiVersionsResponse {
        error_code: ErrorCode::UNSUPPORTED_VERSION,
        api_keys: vec![range(ApiKey::ApiVersions)],
        ..Default::default()
    };
    response.write(&mut frame);
    frame
}

fn range(key: ApiKey) -> ApiVersion {
    let versions = key.versions();
    ApiVersion {
        api_key: key as i16,
        min_version: *versions.start(),
        max_version: *versions.end(),
    }
}

/// KIP-511: letters and digits, `-` and `.` between them.
fn is_plain(text: &str) -> bool {
    let ends = |text: &str| {
        text.chars()
            .next()
            .is_some_and(|it| it.is_ascii_alphanumeric())
    };
    ends(text)
        && text.ends_with(|it: char| it.is_ascii_alphanumeric())
        && text
            .chars()
            .all(|it| it.is_ascii_alphanumeric() || it == '-' || it == '.')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::Script;

    /// KIP-511, and the response header without tagged fields. Bytes by the protocol guide: error 35, one
    /// key: 18 from 0 to 4.
    #[test]
    fn a_version_to_come_is_answered_in_version_0() {
        let mut script = Script::open();
        script
            .bytes(b"\0\0\0\x0a\0\x12\0\x63\0\0\0\x07\xde\xad")
            .unwrap();
        assert_eq!(
            script.output()[..],
            *b"\0\0\0\x10\0\0\0\x07\0\x23\0\0\0\x01\0\x12\0\0\0\x04"
        );
        assert!(script.wants_input());
    }

    /// Bytes by the protocol guide: a compact array of keys directly behind error code and correlation id,
    /// then the throttle time and the features as tags 0 to 2.
    #[test]
    fn version_3_is_flexible_behind_a_plain_header() {
        let mut script = Script::open();
        script
            .bytes(b"\0\0\0\x15\0\x12\0\x03\0\0\0\x09\0\x01c\0\x04cli\x041.2\0")
            .unwrap();
        let output = script.output();
        assert_eq!(output[4..10], *b"\0\0\0\x09\0\0");
        assert_eq!(output[10] as usize, ApiKey::ALL.len() + 1);
        assert_eq!(output[11..18], *b"\0\0\0\0\0\x0d\0", "Produce from 0 to 13");
        let tail = b"\0\0\0\0\x03\0\x17\x02\x11metadata.version\0\x07\0\x1e\0\x01\x08\0\0\0\0\0\0\0\0\x02\x17\x02\x11metadata.version\0\x1e\0\x1e\0";
        assert!(output.ends_with(tail), "{output:?}");
    }

    #[test]
    fn a_client_introduces_itself_in_plain_letters() {
        for (name, code) in [
            ("librdkafka", 0),
            ("a-b.c", 0),
            ("", 42),
            ("-a", 42),
            ("a b", 42),
        ] {
            let mut script = Script::open();
            let request = ApiVersionsRequest {
                client_software_name: name.into(),
                client_software_version: "1".into(),
            };
            script.send(ApiKey::ApiVersions, 4, &request);
            let response: ApiVersionsResponse = script.response(ApiKey::ApiVersions, 4);
            assert_eq!(response.error_code, ErrorCode(code), "{name}");
        }
    }
}
