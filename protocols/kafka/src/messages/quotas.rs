//! DescribeClientQuotas (key 48) and AlterClientQuotas (49).

use trivium_core::Text;

use crate::{error::ErrorCode, message::message, wire::Float};

message! {
    /// Which quotas are asked for.
    DescribeClientQuotasRequest {
        components: Vec<QuotaComponent>;
        strict: bool;
    }

    /// A filter: 0 by name, 1 the default entity, 2 any name.
    QuotaComponent {
        entity_type: Text;
        match_type: i8;
        r#match: Option<Text>;
    }

    /// The quotas.
    DescribeClientQuotasResponse {
        throttle_time_ms: i32;
        error_code: ErrorCode;
        error_message: Option<Text>;
        entries: Option<Vec<DescribeClientQuotasEntry>>;
    }

    /// An entity and its quotas.
    DescribeClientQuotasEntry {
        entity: Vec<QuotaEntity>;
        values: Vec<QuotaValue>;
    }

    /// A part of an entity; null is the default.
    QuotaEntity {
        entity_type: Text;
        entity_name: Option<Text>;
    }

    /// A quota.
    QuotaValue {
        key: Text;
        value: Float;
    }

    /// Quotas to change.
    AlterClientQuotasRequest {
        entries: Vec<AlterClientQuotasEntry>;
        validate_only: bool;
    }

    /// An entity and changes.
    AlterClientQuotasEntry {
        entity: Vec<QuotaEntity>;
        ops: Vec<QuotaOp>;
    }

    /// A change.
    QuotaOp {
        key: Text;
        value: Float;
        remove: bool;
    }

    /// What became of each.
    AlterClientQuotasResponse {
        throttle_time_ms: i32;
        entries: Vec<AlterClientQuotasResult>;
    }

    /// What became of one.
    AlterClientQuotasResult {
        error_code: ErrorCode;
        error_message: Option<Text>;
        entity: Vec<QuotaEntity>;
    }
}
