//! DescribeClientQuotas (key 48) and AlterClientQuotas (49).

use trivium_core::Text;

use crate::{error::ErrorCode, message::message, wire::Float};

message! {
    /// Which quotas are wanted.
    DescribeClientQuotasRequest {
        components: Vec<QuotaFilter>;
        strict: bool;
    }

    /// What entities have to have.
    QuotaFilter {
        entity_type: Text;
        match_type: i8;
        r#match: Option<Text>;
    }

    /// The quotas.
    DescribeClientQuotasResponse {
        throttle_time_ms: i32;
        error_code: ErrorCode;
        error_message: Option<Text>;
        entries: Option<Vec<QuotaEntry>>;
    }

    /// The quota of an entity.
    QuotaEntry {
        entity: Vec<EntityData>;
        values: Vec<QuotaValue>;
    }

    /// A part of an entity: a user, or a client id. Without a name it is the default.
    EntityData {
        entity_type: Text;
        entity_name: Option<Text>;
    }

    /// A limit.
    QuotaValue {
        key: Text;
        value: Float;
    }

    /// Changes of quotas.
    AlterClientQuotasRequest {
        entries: Vec<AlterQuotaEntry>;
        validate_only: bool;
    }

    /// The changes of one entity's quota.
    AlterQuotaEntry {
        entity: Vec<EntityData>;
        ops: Vec<QuotaOp>;
    }

    /// A limit is set or removed.
    QuotaOp {
        key: Text;
        value: Float;
        remove: bool;
    }

    /// What became of them.
    AlterClientQuotasResponse {
        throttle_time_ms: i32;
        entries: Vec<AlteredQuota>;
    }

    /// What became of the changes of one entity's quota.
    AlteredQuota {
        error_code: ErrorCode;
        error_message: Option<Text>;
        entity: Vec<EntityData>;
    }
}
