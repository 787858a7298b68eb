//! ApiVersions (key 18).

use trivium_core::Text;

use crate::{error::ErrorCode, message::message};

message! {
    /// A client introduces itself and asks what is served.
    ApiVersionsRequest {
        client_software_name: Text => 3..;
        client_software_version: Text => 3..;
    }

    /// What is served.
    ApiVersionsResponse {
        error_code: ErrorCode;
        api_keys: Vec<ApiVersion>;
        throttle_time_ms: i32 => 1..;
        supported_features: Vec<SupportedFeatureKey> => 3.., tag 0;
        finalized_features_epoch: i64 = -1 => 3.., tag 1;
        finalized_features: Vec<FinalizedFeatureKey> => 3.., tag 2;
        zk_migration_ready: bool => 3.., tag 3;
    }

    /// A key and its versions.
    ApiVersion {
        api_key: i16;
        min_version: i16;
        max_version: i16;
    }

    /// A feature level range that the broker knows.
    SupportedFeatureKey {
        name: Text;
        min_version: i16;
        max_version: i16;
    }

    /// The feature level in force.
    FinalizedFeatureKey {
        name: Text;
        max_version_level: i16;
        min_version_level: i16;
    }
}
