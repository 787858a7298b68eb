//! What a producer is told of a batch that was refused, in Kafka's codes and words (`LogValidator`).

use std::fmt::Write;

use trivium_core::{BatchError, RecordFault, Refusal, Text, transaction::TransactionError};

use crate::{
    error::ErrorCode,
    messages::produce::BatchIndexAndErrorMessage,
    serve::produce::{ABORTABLE, IMPLICIT},
};

/// So many errors of records are told in the text for the whole batch.
const TOLD_MAX: usize = 3;

/// Where a batch was to go, and what it was.
pub(super) struct Target<'a> {
    pub topic: &'a Text,
    pub partition: i32,
    pub is_compressed: bool,
}

/// The code of a refusal, as producers of this version know it.
pub(super) fn code(refusal: &Refusal, version: i16) -> ErrorCode {
    match refusal {
        Refusal::Batch(error) => batch_code(error),
        Refusal::Records(faults) => match faults.iter().all(|(_, it)| *it == RecordFault::NoKey) {
            true => ErrorCode::INVALID_RECORD,
            false => ErrorCode::INVALID_TIMESTAMP,
        },
        Refusal::Transaction(error) => transaction_code(error, version),
        // Something about its records.
        Refusal::Invalid(_) => ErrorCode::INVALID_RECORD,
        refusal => ErrorCode::from(refusal),
    }
}

/// What Kafka has no code of its own for is an unknown error.
fn batch_code(error: &BatchError) -> ErrorCode {
    match error {
        BatchError::Length | BatchError::Magic(_) | BatchError::Crc => ErrorCode::CORRUPT_MESSAGE,
        BatchError::TooLarge(_) => ErrorCode::MESSAGE_TOO_LARGE,
        BatchError::Codec(_)
        | BatchError::Compression
        | BatchError::Number
        | BatchError::Offsets => ErrorCode::UNKNOWN_SERVER_ERROR,
        BatchError::BaseOffset(_)
        | BatchError::Count { .. }
        | BatchError::Control
        | BatchError::Sequence { .. }
        | BatchError::Record => ErrorCode::INVALID_RECORD,
    }
}

/// What became of a transaction.
fn transaction_code(error: &TransactionError, version: i16) -> ErrorCode {
    match error {
        // A partition knows epochs only.
        TransactionError::Fenced | TransactionError::TimedOut => ErrorCode::INVALID_PRODUCER_EPOCH,
        TransactionError::Concurrent if version < IMPLICIT => ErrorCode::NOT_ENOUGH_REPLICAS,
        TransactionError::Invalid => ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        TransactionError::NotAdded if version >= ABORTABLE => ErrorCode::TRANSACTION_ABORTABLE,
        TransactionError::InvalidState if version >= IMPLICIT => ErrorCode::TRANSACTION_ABORTABLE,
        error => ErrorCode::from(error),
    }
}

/// Each record that was refused, and why.
pub(super) fn record_errors(
    faults: &[(u32, RecordFault)],
    target: &Target<'_>,
) -> Vec<BatchIndexAndErrorMessage> {
    let error = |(place, fault): &(u32, RecordFault)| BatchIndexAndErrorMessage {
        batch_index: *place as i32,
        batch_index_error_message: Some(record_text(fault, target).into()),
    };
    faults.iter().map(error).collect()
}

fn record_text(fault: &RecordFault, target: &Target<'_>) -> String {
    match fault {
        RecordFault::NoKey => {
            let (topic, partition) = (target.topic, target.partition);
            format!("{fault} in topic partition {topic}-{partition}")
        }
        RecordFault::Timestamp {
            offset,
            timestamp,
            oldest,
            newest,
        } => format!(
            "Timestamp {timestamp} of message with offset {offset} is out of range. \
             The timestamp should be within [{oldest}, {newest}]"
        ),
        RecordFault::TimestampType {
            offset,
            timestamp,
            key,
            value,
        } => {
            let (class, least) = match target.is_compressed {
                true => ("PartialDefaultRecord", i32::MIN),
                false => ("DefaultRecord", 0),
            };
            let (key, value) = (key.max(&least), value.max(&least));
            format!(
                "Invalid timestamp type in message {class}(offset={offset}, timestamp={timestamp}, \
                 key={key} bytes, value={value} bytes). \
                 Producer should not set timestamp type to LogAppendTime."
            )
        }
    }
}

/// What is said of the batch whose records were refused.
pub(super) fn rejected(errors: &[BatchIndexAndErrorMessage], code: ErrorCode) -> String {
    const REJECTED: &str = "One or more records have been rejected due to";
    if code == ErrorCode::INVALID_TIMESTAMP {
        return format!("{REJECTED} invalid timestamp");
    }
    let mut text = format!(
        "{REJECTED} {} record errors in total, and only showing the first three errors at most: [",
        errors.len()
    );
    for (at, error) in errors.iter().take(TOLD_MAX).enumerate() {
        let separator = if at == 0 { "" } else { ", " };
        let message = error
            .batch_index_error_message
            .as_deref()
            .unwrap_or_default();
        let _ = write!(
            text,
            "{separator}RecordError(batchIndex={}, message='{message}')",
            error.batch_index
        );
    }
    text.push(']');
    text
}
