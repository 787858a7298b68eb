//! ApiVersions: what is served.

use crate::{
    api::ApiKey,
    call::{Call, Step},
    error::ErrorCode,
    header::Header,
    messages::api_versions::*,
    wire::{Frame, Wire},
};

/// A feature of the cluster: the levels that a broker of Kafka 4.3 knows, and the one in force.
pub(crate) struct Feature {
    pub(crate) name: &'static str,
    pub(crate) min: i16,
    max: i16,
    pub(crate) level: i16,
}

const fn feature(name: &'static str, min: i16, level: i16) -> Feature {
    let max = level;
    Feature {
        name,
        min,
        max,
        level,
    }
}

/// Clients choose by them: transactions of the second kind (KIP-890) from `transaction.version` 2 on. User
/// interfaces show the release that `metadata.version` stands for.
pub(crate) const FEATURES: &[Feature] = &[
    feature("metadata.version", 7, 30),
    feature("transaction.version", 0, 2),
    feature("group.version", 0, 1),
    feature("share.version", 0, 1),
];
/// Before this version a client takes a feature whose levels begin with 0 for an error (KAFKA-17011).
const LEVEL_0: i16 = 4;

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
        supported_features: FEATURES
            .iter()
            .filter(|feature| feature.min > 0 || call.version() >= LEVEL_0)
            .map(|feature| SupportedFeatureKey {
                name: feature.name.into(),
                min_version: feature.min,
                max_version: feature.max,
            })
            .collect(),
        finalized_features_epoch: 0,
        finalized_features: FEATURES
            .iter()
            .map(|feature| FinalizedFeatureKey {
                name: feature.name.into(),
                max_version_level: feature.level,
                min_version_level: feature.level,
            })
            .collect(),
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
        // KAFKA-17011: what begins at level 0 is not among the supported features before version 4.
        let supported =
            b"\0\0\0\0\x03\0\x17\x02\x11metadata.version\0\x07\0\x1e\0\x01\x08\0\0\0\0\0\0\0\0\x02";
        let at = output.len() - supported.len();
        let found = (0..=at).any(|at| output[at..].starts_with(supported));
        assert!(found, "{output:?}");
    }

    /// KIP-890: clients use transactions of the second kind where they are in force.
    #[test]
    fn features_are_told_with_their_levels() {
        let mut script = Script::open();
        let request = ApiVersionsRequest {
            client_software_name: "test".into(),
            client_software_version: "1".into(),
        };
        script.send(ApiKey::ApiVersions, 4, &request);
        let response: ApiVersionsResponse = script.response(ApiKey::ApiVersions, 4);
        let levels = response.finalized_features.iter();
        let levels: Vec<_> = levels.map(|it| (&*it.name, it.max_version_level)).collect();
        assert!(levels.contains(&("metadata.version", 30)));
        assert!(levels.contains(&("transaction.version", 2)));
        assert_eq!(response.supported_features.len(), levels.len());
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
