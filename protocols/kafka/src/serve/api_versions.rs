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
