//! InitProducerId (key 22).

use trivium_core::Text;

use crate::{error::ErrorCode, message::message};

message! {
    /// A producer asks for its identity.
    InitProducerIdRequest {
        transactional_id: Option<Text>;
        transaction_timeout_ms: i32;
        producer_id: i64 = -1 => 3..;
        producer_epoch: i16 = -1 => 3..;
    }

    /// The identity: an id and an epoch.
    InitProducerIdResponse {
        throttle_time_ms: i32;
        error_code: ErrorCode;
        producer_id: i64 = -1;
        producer_epoch: i16;
    }
}
